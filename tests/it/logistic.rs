//! The logistic families: the features of scikit-learn, and metrics on real rows.

use std::collections::BTreeMap;

use monitor_core::domain::{Classes, Label};
use monitor_core::text::{Analyzer, NgramLengths};
use monitor_model::{Classifier, Encoder, KnownNgrams, Tfidf, features};
use monitor_train::data::Row;
use monitor_train::fit::linear::{self, Settings, TFIDF_LENGTHS, TfidfModel};
use monitor_train::fit::{Hyperparameters, Target};

const TEXTS: [&str; 8] = [
    "i love love love my cat",
    "i love rain and my cat",
    "not good not good at all",
    "my train is late again",
    "the rain again and again",
    "cat rain train",
    "late again and not good",
    "lovely cats love trains",
];

fn settings(analyzer: &Analyzer, threads: usize) -> Settings<'_> {
    let hyper = Hyperparameters::default();
    Settings { analyzer, classes: Classes::Two, hyper, seed: 1, threads, stop: &|| false }
}

fn row((at, text): (usize, &&str)) -> Row {
    let label = if at % 2 == 0 { Label::Negative } else { Label::Positive };
    Row::new(label, *text)
}

fn targets(rows: &[&Row]) -> Vec<Target> {
    rows.iter().map(|row| Target::of(row, Classes::Two)).collect()
}

fn fit(lengths: NgramLengths, threads: usize) -> TfidfModel {
    let rows: Vec<Row> = TEXTS.iter().enumerate().map(row).collect();
    let rows: Vec<&Row> = rows.iter().collect();
    linear::fit_tfidf(&rows, &targets(&rows), lengths, settings(&Analyzer::tweet(), threads))
        .unwrap()
}

/// Each known n-gram of `text` with its feature, in thousandths.
fn thousandths(model: &TfidfModel, text: &str) -> BTreeMap<String, i32> {
    let scale = model.weights.clone().take("scale", &[model.shape.ngrams]).unwrap();
    let encoder = KnownNgrams::new(Analyzer::tweet(), model.ngrams.clone(), model.shape);
    let lines: Vec<&str> = model.ngrams.text().lines().collect();
    let ids = encoder.encode(text).ids;
    let row = features(&ids, &scale).into_iter().filter(|(_, value)| *value > 0.0);
    row.map(|(id, value)| (lines[id as usize - 1].to_owned(), (value * 1e3).round() as i32))
        .collect()
}

/// Expected: scikit-learn 1.9.1, `TfidfVectorizer(sublinear_tf=True, norm=None)` on
/// [`TEXTS`], `ngram_range=(1, 2), min_df=2` for words and `analyzer="char_wb",
/// ngram_range=(3, 5), min_df=5` for characters; the latter times 0.3, rows scaled to length 1.
#[test]
fn features_are_those_of_scikit_learn() {
    const CHARACTERS: f64 = 0.3;
    let words = NgramLengths { characters_max: 0, ..TFIDF_LENGTHS };
    let check = |name: &str, lengths, text: &str, expected: &[(&str, f64)]| {
        let scaled = expected.iter().map(|(ngram, value)| {
            (*ngram, if ngram.starts_with('c') { CHARACTERS * value } else { *value })
        });
        let length = scaled.clone().map(|(_, value)| value * value).sum::<f64>().sqrt();
        let expected: BTreeMap<String, i32> = scaled
            .map(|(ngram, value)| (ngram.to_owned(), (value / length * 1e3).round() as i32))
            .collect();
        assert_eq!(thousandths(&fit(lengths, 1), text), expected, "{name}");
    };
    let of_words = [
        ("w cat", 1.810_930),
        ("w love", 3.066_171),
        ("w my", 1.810_930),
        ("w my cat", 2.098_612),
        ("w rain", 1.810_930),
    ];
    let of_characters = [
        ("c ain", 1.251_314),
        ("c ain ", 1.405_465),
        ("c in ", 2.379_659),
        ("c rai", 1.405_465),
        ("c rain", 1.405_465),
    ];
    let text = "love love my cat in the rain";
    check("words", words, text, &of_words);
    check("words and characters", TFIDF_LENGTHS, text, &[of_words, of_characters].concat());
    check("two words", words, "not late", &[("w late", 2.098_612), ("w not", 2.098_612)]);
    check("nothing known", TFIDF_LENGTHS, "zzz", &[]);
}

#[test]
fn the_ngrams_are_those_of_scikit_learn() {
    let model = fit(TFIDF_LENGTHS, 1);
    let mut listed: Vec<&str> = model.ngrams.text().lines().collect();
    listed.sort_unstable();
    let words = "again/again and/and/cat/good/i/i love/late/late again/love/my/my cat/not/not good/rain/train";
    let characters = "ain/ain /in /rai/rain";
    let mark = |kind: &str, list: &str| -> Vec<String> {
        list.split('/').map(|ngram| format!("{kind} {ngram}")).collect()
    };
    assert_eq!(listed, [mark("c", characters), mark("w", words)].concat());
    assert_eq!(model.shape.ngrams, 1 + listed.len());
}

#[test]
fn ngrams_do_not_depend_on_threads_or_seeds() {
    let (one, three) = (fit(TFIDF_LENGTHS, 1), fit(TFIDF_LENGTHS, 3));
    assert_eq!(one.ngrams, three.ngrams);
    assert_eq!(one.weights, three.weights);
}

#[test]
fn stops_on_request() {
    let rows = [row((0, &"no"))];
    let rows: Vec<&Row> = rows.iter().collect();
    let analyzer = Analyzer::tweet();
    let settings = Settings { stop: &|| true, ..settings(&analyzer, 1) };
    assert!(linear::fit_hash(&rows, &targets(&rows), settings).is_none());
    assert!(linear::fit_tfidf(&rows, &targets(&rows), TFIDF_LENGTHS, settings).is_none());
}

#[test]
fn a_teacher_who_hesitates_is_learned_from() {
    let rows: Vec<Row> = (0..400).map(|n| row((n, &["bad bag", "good crew"][n % 2]))).collect();
    let rows: Vec<&Row> = rows.iter().collect();
    let analyzer = Analyzer::tweet();
    let score = |targets: &[Target]| {
        let settings = settings(&analyzer, 1);
        let mut model = linear::fit_tfidf(&rows, targets, TFIDF_LENGTHS, settings).unwrap();
        let encoder = KnownNgrams::new(Analyzer::tweet(), model.ngrams, model.shape);
        let mut model = Tfidf::load(model.shape, Classes::Two, &mut model.weights).unwrap();
        let scores = model.classify(&[&encoder.encode("bad bag")]).unwrap();
        scores[0].negative().get()
    };
    let labels = targets(&rows);
    let hesitant: Vec<Target> = labels
        .iter()
        .map(|label| Target { classes: label.classes.map(|part| 0.2 + 0.4 * part), ..*label })
        .map(|target| Target { classes: [target.classes[0], 0.0, target.classes[2]], ..target })
        .collect();
    let (sure, taught) = (score(&labels), score(&hesitant));
    assert!(sure > 0.95, "{sure}");
    assert!((taught - 0.75).abs() < 0.03, "{taught}: three of four");
}
