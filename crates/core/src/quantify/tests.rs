use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

mod coverage;
mod quapy;

fn counts(total: u64, negative: u64) -> Counts {
    Counts { total, negative }
}

fn rates(true_positive: f64, false_positive: f64, negatives: u64, others: u64) -> Rates {
    let called = |total: u64, rate: f64| counts(total, (total as f64 * rate).round() as u64);
    Rates::measured(called(negatives, true_positive), called(others, false_positive)).unwrap()
}

#[test]
fn adjusted_count_takes_out_the_bias() {
    let check = |name: &str, raw: Counts, rates: &Rates, expected: Option<f64>| {
        let found = adjusted_count(raw, rates, 1.0).map(|estimate| estimate.share);
        match (found, expected) {
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() < 1e-9, "{name}: {found}");
            }
            _ => assert_eq!(found, expected, "{name}"),
        }
    };
    let usual = rates(0.76, 0.18, 1000, 3000);
    check("the example of the docs", counts(1000, 296), &usual, Some(0.2));
    check("a perfect model", counts(100, 30), &rates(1.0, 0.0, 500, 500), Some(0.3));
    check("a little less than F", counts(1000, 175), &usual, Some(0.0));
    check("far less than F", counts(100_000, 10_000), &usual, None);
    check("far more than T", counts(100_000, 90_000), &usual, None);
    check("no tweets", counts(0, 0), &usual, None);
    check("T is F", counts(100, 50), &rates(0.5, 0.5, 1000, 1000), None);
    check("T - F is too small", counts(1000, 500), &rates(0.54, 0.45, 9000, 9000), None);
    check("T - F is just enough", counts(1000, 500), &rates(0.56, 0.44, 9000, 9000), Some(0.5));
    check("T < F", counts(100, 50), &rates(0.2, 0.7, 1000, 1000), None);
    check("too few labelled rows", counts(1000, 300), &rates(0.75, 0.25, 8, 8), None);
}

#[test]
fn with_many_rows_the_interval_is_that_of_the_delta_method() {
    let (n, n_pos, n_neg) = (200_000, 40_000, 90_000);
    let (t, f, q) = (0.76, 0.18, 0.296);
    let found = adjusted_count(counts(n, 59_200), &rates(t, f, n_pos, n_neg), 3.0).unwrap();
    let p: f64 = (q - f) / (t - f);
    let variance = (q * (1.0 - q) / (n as f64 / 3.0)
        + p.powi(2) * t * (1.0 - t) / n_pos as f64
        + (1.0 - p).powi(2) * f * (1.0 - f) / n_neg as f64)
        / (t - f).powi(2);
    let half = 1.959_964 * variance.sqrt();
    assert!((found.interval.low - (p - half)).abs() < 1e-4, "{found:?} {half}");
    assert!((found.interval.high - (p + half)).abs() < 1e-4, "{found:?} {half}");
}

#[test]
fn a_design_effect_widens_the_interval_as_fewer_tweets_do() {
    let rates = rates(0.76, 0.18, 1_000_000, 1_000_000);
    let width = |total: u64, design_effect: f64| {
        let raw = counts(total, total * 3 / 10);
        let Interval { low, high } = adjusted_count(raw, &rates, design_effect).unwrap().interval;
        high - low
    };
    assert!((width(4000, 4.0) - width(1000, 1.0)).abs() < 1e-12);
    assert_eq!(width(4000, 0.1), width(4000, 1.0), "less than 1 is 1");
    assert_eq!(width(4000, f64::NAN), width(4000, 1.0), "NaN is 1");
}

#[test]
fn shares_of_classes_are_refused_without_data_or_separation() {
    let labelled = [[80, 10, 10], [10, 80, 10], [10, 10, 80]];
    assert!(adjusted_shares(&[10, 20, 30], &labelled, 1.0).is_some());
    assert!(adjusted_shares(&[0, 0, 0], &labelled, 1.0).is_none(), "no tweets");
    let missing = [[80, 10, 10], [0, 0, 0], [10, 10, 80]];
    assert!(adjusted_shares(&[10, 20, 30], &missing, 1.0).is_none(), "no rows of a class");
    let same = [[80, 10, 10], [80, 10, 10], [10, 10, 80]];
    assert!(adjusted_shares(&[10, 20, 30], &same, 1.0).is_none(), "two classes look the same");
    let impossible = [[800, 100, 100], [100, 800, 100], [100, 100, 800]];
    assert!(adjusted_shares(&[0, 5000, 5000], &impossible, 1.0).is_none(), "fewer than M allows");
    assert!(adjusted_probabilities(&[[0.5, 0.5]], &[(2, [0.5, 0.5])]).is_none(), "class 2 of 2");
}

/// A stream of tweets as a model and people call them, with a score from 0 to 1 of which people
/// agree less than it says.
fn scored(tweets: usize, random: &mut ChaCha8Rng) -> Vec<(f64, bool, bool)> {
    let mut one = || {
        let score: f64 = random.random();
        (score, score >= 0.7, random.random_bool(0.05 + 0.5 * score * score))
    };
    (0..tweets).map(|_| one()).collect()
}

/// The true share of [`scored`]: the mean of 0.05 + 0.5 s² over s in 0..=1.
const SCORED: f64 = 0.05 + 0.5 / 3.0;

fn count_of(stream: &[(f64, bool, bool)]) -> Counts {
    counts(stream.len() as u64, stream.iter().filter(|(_, called, _)| *called).count() as u64)
}

/// The first tweets of each stratum, which are as random as any others.
fn sample(
    stream: &[(f64, bool, bool)],
    stratum: impl Fn(f64) -> u32,
    each: &[usize],
) -> Vec<Labelled> {
    let mut labelled = Vec::new();
    for (number, drawn) in (0_u32..).zip(each) {
        let all: Vec<_> = stream.iter().filter(|(score, ..)| stratum(*score) == number).collect();
        labelled.extend(all.iter().take(*drawn).map(|(_, called_negative, negative)| Labelled {
            called_negative: *called_negative,
            negative: *negative,
            inclusion: (*drawn as f64 / all.len() as f64).min(1.0),
            stratum: number,
        }));
    }
    labelled
}

#[test]
fn tuning_narrows_the_interval_and_a_census_is_exact() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let stream = scored(5000, &mut random);
    let labelled = sample(&stream, |_| 0, &[500]);
    let width = |tuning| {
        let estimate = prediction_powered(count_of(&stream), &labelled, tuning, 1.0).unwrap();
        estimate.interval.high - estimate.interval.low
    };
    let classical = 2.0 * 1.96 * (SCORED * (1.0 - SCORED) / 500.0).sqrt();
    assert!(width(Tuning::Power) < width(Tuning::Plain));
    assert!(width(Tuning::Power) < classical, "better than the labels alone");

    let all = sample(&stream, |_| 0, &[5000]);
    let negative = all.iter().filter(|row| row.negative).count() as f64 / 5000.0;
    let census = prediction_powered(count_of(&stream), &all, Tuning::Power, 1.0).unwrap();
    assert!((census.share - negative).abs() < 1e-12);
}

#[test]
fn prediction_powered_equals_the_published_formula_for_a_large_stream() {
    // 100 labelled rows: 30 found, 5 missed, 10 called negative in vain, 55 others.
    let cells = [(30, true, true), (5, false, true), (10, true, false), (55, false, false)];
    let rows = cells.iter().flat_map(|(n, called, negative)| {
        let row =
            Labelled { called_negative: *called, negative: *negative, inclusion: 1e-4, stratum: 0 };
        std::iter::repeat_n(row, *n)
    });
    let rows: Vec<_> = rows.collect();
    let stream = counts(1_000_000, 420_000);
    let (f_variance, covariance) = (0.4 * 0.6, 0.30 - 0.4 * 0.35);
    let lambda = covariance / f_variance;
    let share = lambda * 0.42 + 0.35 - lambda * 0.4;
    let residual = 0.35 * 0.65 - covariance * covariance / f_variance;
    let variance: f64 = lambda * lambda * 0.42 * 0.58 / 1e6 + residual / 100.0;
    let found = prediction_powered(stream, &rows, Tuning::Power, 1.0).unwrap();
    assert!((found.share - share).abs() < 1e-12, "{found:?}");
    let half = (found.interval.high - found.interval.low) / 2.0;
    // Ours divides by 99 and adds two errors.
    let ours = 1.959_964 * (variance * 100.0 / 99.0 + 2e-4).sqrt();
    assert!((half / ours - 1.0).abs() < 1e-3, "{half} {ours}");
    let plain = prediction_powered(stream, &rows, Tuning::Plain, 1.0).unwrap();
    assert!((plain.share - (0.42 + 0.35 - 0.4)).abs() < 1e-12, "{plain:?}");
}

#[test]
fn the_best_method_with_data_is_chosen() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let stream = scored(5000, &mut random);
    let count = count_of(&stream);
    let rates = rates(0.6, 0.2, 1000, 3000);
    let few = sample(&stream, |_| 0, &[LABELS_MIN - 1]);
    let enough = sample(&stream, |_| 0, &[LABELS_MIN]);
    let of_another: Vec<_> =
        enough.iter().map(|r| Labelled { called_negative: true, ..*r }).collect();
    let check = |name: &str, rates: Option<&Rates>, labelled: &[Labelled], expected| {
        let found = corrected(count, rates, labelled, 1.0).map(|estimate| estimate.method);
        assert_eq!(found, expected, "{name}");
    };
    check("rates only", Some(&rates), &[], Some(Method::AdjustedCount));
    check("few labels", Some(&rates), &few, Some(Method::AdjustedCount));
    check("few labels, no rates", None, &few, None);
    check("enough labels", Some(&rates), &enough, Some(Method::PredictionPowered));
    check("enough labels, no rates", None, &enough, Some(Method::PredictionPowered));
    check("a sample of another stream", Some(&rates), &of_another, Some(Method::AdjustedCount));
    check("nothing", None, &[], None);
}

#[test]
fn samples_that_cannot_be_are_refused() {
    let row = Labelled { called_negative: true, negative: true, inclusion: 0.5, stratum: 0 };
    let check = |name: &str, stream: Counts, labelled: &[Labelled]| {
        assert_eq!(prediction_powered(stream, labelled, Tuning::Power, 1.0), None, "{name}");
    };
    check("no tweets", counts(0, 0), &[row; 2]);
    check("one label", counts(9, 9), &[row]);
    check("more labels than tweets", counts(2, 2), &[row; 3]);
    check("inclusion 0", counts(9, 9), &[Labelled { inclusion: 0.0, ..row }; 2]);
    check("inclusion 2", counts(9, 9), &[Labelled { inclusion: 2.0, ..row }; 2]);
    check("inclusion NaN", counts(9, 9), &[Labelled { inclusion: f64::NAN, ..row }; 2]);
}

#[test]
fn an_estimate_and_rates_have_one_json() {
    let rates = rates(0.75, 0.125, 400, 1600);
    let json = r#"{"true_positive":0.75,"false_positive":0.125,"negatives":400,"others":1600}"#;
    assert_eq!(serde_json::to_string(&rates).unwrap(), json);
    assert_eq!(serde_json::from_str::<Rates>(json).unwrap(), rates);
    for (wrong, reason) in [
        (json.replace("0.75", "1.5"), "between 0 and 1"),
        (json.replace("1600", "0"), "at least one"),
    ] {
        let error = serde_json::from_str::<Rates>(&wrong).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(Rates::measured(counts(0, 0), counts(5, 1)), Err(InvalidRates::NoRows));
    assert_eq!(Rates::measured(counts(5, 9), counts(5, 1)), Err(InvalidRates::OutOfRange));

    let estimate = Estimate::new(0.25, 0.125, 0.5, Method::PredictionPowered).unwrap();
    let json =
        r#"{"share":0.25,"interval":{"low":0.125,"high":0.5},"method":"prediction-powered"}"#;
    assert_eq!(serde_json::to_string(&estimate).unwrap(), json);
    assert_eq!(serde_json::from_str::<Estimate>(json).unwrap(), estimate);
}

#[test]
fn maximum_likelihood_finds_the_shares_of_calibrated_probabilities() {
    // Scores of a training set with equal classes; the stream has 12 % of the first class.
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let rows: Vec<[f64; 2]> = (0..20_000)
        .map(|_| {
            let negative = random.random_bool(0.12);
            loop {
                // The score s has density 2 s among negatives, 2 (1 - s) among others.
                let s: f64 = random.random();
                if random.random_bool(if negative { s } else { 1.0 - s }) {
                    return [s, 1.0 - s];
                }
            }
        })
        .collect();
    let found = maximum_likelihood(&rows, &[0.5, 0.5]).unwrap();
    assert!((found[0] - 0.12).abs() < 0.01, "{found:?}");
    assert_eq!(maximum_likelihood::<2>(&[], &[0.5, 0.5]), None);
    let missing = maximum_likelihood(&rows, &[1.0, 0.0]).unwrap();
    assert!(missing.iter().all(|share| share.is_finite()), "a class without prior: {missing:?}");
}

proptest! {
    #[test]
    fn adjusting_inverts_the_errors(
        p in 0.0..=1.0_f64, t in 0.5..=1.0_f64, f in 0.0..=0.4_f64, n in 1_u64..100_000,
    ) {
        let rates = rates(t, f, 5000, 5000);
        let (t, f) = (rates.true_positive(), rates.false_positive());
        let negative = (n as f64 * (p * t + (1.0 - p) * f)).round() as u64;
        if let Some(estimate) = adjusted_count(counts(n, negative), &rates, 1.0) {
            let rounding = 0.5 / n as f64 / (t - f);
            prop_assert!((estimate.share - p).abs() <= rounding + 1e-9, "{:?}", estimate);
        } else {
            prop_assert!(t - f < 0.1);
        }
    }

    #[test]
    fn an_estimate_lies_in_its_interval(
        total in 0_u64..5000, part in 0.0..=1.0_f64, t in 0.0..=1.0_f64, f in 0.0..=1.0_f64,
        negatives in 1_u64..500, others in 1_u64..500, design_effect in 0.5..50.0_f64,
    ) {
        let raw = counts(total, (total as f64 * part) as u64);
        let rates = rates(t, f, negatives, others);
        if let Some(estimate) = adjusted_count(raw, &rates, design_effect) {
            let Interval { low, high } = estimate.interval;
            prop_assert!(0.0 <= low && low <= estimate.share);
            prop_assert!(estimate.share <= high && high <= 1.0);
        }
    }

    #[test]
    fn shares_of_classes_sum_to_one(
        called in prop::array::uniform3(0_u64..1000),
        labelled in prop::array::uniform3(prop::array::uniform3(0_u64..100)),
        rows in prop::collection::vec(prop::array::uniform3(0.01..1.0_f64), 1..50),
    ) {
        if let Some(estimates) = adjusted_shares(&called, &labelled, 1.0) {
            let sum: f64 = estimates.iter().map(|estimate| estimate.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }
        let rows: Vec<_> = rows.iter().map(|r| r.map(|p| p / r.iter().sum::<f64>())).collect();
        let shares = maximum_likelihood(&rows, &[0.2, 0.5, 0.3]).unwrap();
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
    }

    #[test]
    fn errors_are_zero_only_without_error(a in 0.0..=1.0_f64, b in 0.0..=1.0_f64, n in 1_u64..999) {
        let (a, b) = ([a, 1.0 - a], [b, 1.0 - b]);
        let (absolute, kld) = (absolute_error(&a, &b), kullback_leibler(&a, &b, n));
        prop_assert!(kld.is_finite());
        prop_assert_eq!(absolute_error(&a, &a), 0.0);
        prop_assert_eq!(kullback_leibler(&a, &a, n), 0.0);
        prop_assert!(absolute < 0.01 || kld > 0.0);
    }
}
