//! Our numbers are those of QuaPy, the library for quantification in Python, to 1e-9.

use serde::Deserialize;

use super::*;

/// tests/fixtures/quapy.json, made by scripts/make-quapy-fixture.
#[derive(Deserialize)]
struct Case {
    name: String,
    prior: Vec<f64>,
    truth: Vec<f64>,
    validation: Vec<Vec<f64>>,
    validation_labels: Vec<usize>,
    stream: Vec<Vec<f64>>,
    cc: Vec<f64>,
    acc: Vec<f64>,
    pacc: Vec<f64>,
    emq: Vec<f64>,
    absolute_error: f64,
    kld: f64,
}

fn array<const K: usize>(values: &[f64]) -> [f64; K] {
    values.try_into().unwrap()
}

fn largest(probabilities: &[f64]) -> usize {
    let largest = probabilities.iter().copied().fold(f64::MIN, f64::max);
    probabilities.iter().position(|p| *p == largest).unwrap()
}

fn agrees_with_quapy<const K: usize>(case: &Case) {
    let near = |what: &str, found: &[f64], expected: &[f64]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{}, {what}: {found} {expected}", case.name);
        }
    };
    let mut labelled = [[0; K]; K];
    for (class, row) in case.validation_labels.iter().zip(&case.validation) {
        labelled[*class][largest(row)] += 1;
    }
    let mut called = [0; K];
    for row in &case.stream {
        called[largest(row)] += 1;
    }
    let n = case.stream.len() as u64;
    let cc = called.map(|count| count as f64 / n as f64);
    near("cc", &cc, &case.cc);
    let acc = adjusted_shares(&called, &labelled, 1.0).unwrap();
    near("acc", &acc.map(|estimate| estimate.share), &case.acc);
    if K == 2 {
        let row = |class: usize| counts(labelled[class].iter().sum(), labelled[class][0]);
        let rates = Rates::measured(row(0), row(1)).unwrap();
        let binary = adjusted_count(counts(n, called[0]), &rates, 1.0).unwrap();
        near("acc of two classes", &[binary.share], &case.acc[..1]);
    }
    let stream: Vec<[f64; K]> = case.stream.iter().map(|row| array(row)).collect();
    let validation = case.validation_labels.iter().copied();
    let validation: Vec<_> = validation.zip(case.validation.iter().map(|row| array(row))).collect();
    near("pacc", &adjusted_probabilities(&stream, &validation).unwrap(), &case.pacc);
    near("emq", &maximum_likelihood(&stream, &array(&case.prior)).unwrap(), &case.emq);
    let truth = array::<K>(&case.truth);
    near("absolute error", &[absolute_error(&truth, &cc)], &[case.absolute_error]);
    near("kld", &[kullback_leibler(&truth, &cc, n)], &[case.kld]);
}

#[test]
fn the_numbers_are_those_of_quapy() {
    let text = include_str!("../../../../../tests/fixtures/quapy.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    for case in &cases {
        match case.prior.len() {
            2 => agrees_with_quapy::<2>(case),
            3 => agrees_with_quapy::<3>(case),
            other => panic!("{}: {other} classes", case.name),
        }
    }
    assert!(cases.iter().any(|case| case.acc.contains(&0.0)), "a case is clipped");
    assert_eq!(cases.len(), 5);
}
