use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use monitor_core::domain::{Classes, LabelThresholds, Probabilities, Probability};
use monitor_core::text::{Analyzer, NgramKind, NgramLengths, Ngrams, SourceText};

use super::*;
use crate::{
    Calibration, Cascade, CascadeShape, HashedWords, KnownNgrams, Logistic, LogisticShape, Member,
    Tfidf, TfidfShape, Weights,
};

const TEXTS: [&str; 8] = [
    "",
    "-",
    "late",
    "not good, not good at all!!!",
    "@united soooo late :( #FlyAway &lt;3 never again",
    "unheard of words",
    "good good good good",
    "Don’t fly 😡 http://t.co/x 3 hours...",
];

fn p(value: f32) -> Probability {
    Probability::new(value).expect("a probability")
}

fn model(
    name: &str,
    encoder: impl Encoder + 'static,
    classifier: impl Classifier + 'static,
) -> Model {
    Model {
        id: format!("{name}@1").parse().expect("an id"),
        classes: Classes::Two,
        languages: Vec::new(),
        thresholds: Probability::HALF.into(),
        encoder: Arc::new(encoder),
        classifier: Box::new(classifier),
    }
}

/// Weights that look random and are the same in every run.
fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 % 1013) as f32 / 506.5) - 1.0).collect()
}

fn hashed(weight: Vec<f32>, bias: f32) -> Model {
    let shape = LogisticShape { buckets_log2: weight.len().ilog2(), words_max: 6 };
    let mut file = Weights::default();
    file.insert("weight", &[weight.len()], weight);
    file.insert("bias", &[1], vec![bias]);
    let encoder = HashedWords::new(Analyzer::tweet(), shape).expect("its size is valid");
    model("hash", encoder, Logistic::load(shape, Classes::Two, &mut file).expect("weights"))
}

fn tfidf() -> Model {
    let words = ["good", "not", "not good", "late", "never again", "fly", "sad", "!!"];
    let characters = ["goo", "ood", " la", "late", "fly"];
    let listed = words.map(|text| (NgramKind::Words, text)).into_iter();
    let listed = listed.chain(characters.map(|text| (NgramKind::Characters, text)));
    let ngrams = Ngrams::new(listed).expect("n-grams");
    let lengths = NgramLengths { words_max: 2, characters_min: 3, characters_max: 4 };
    let shape = TfidfShape { ngrams: ngrams.ids(), lengths, words_max: 9 };
    let mut file = Weights::default();
    let scale: Vec<f32> = (0..shape.ngrams).map(|at| 0.5 + at as f32 / 8.0).collect();
    file.insert("scale", &[shape.ngrams], scale);
    file.insert("weight", &[shape.ngrams], weights(shape.ngrams));
    file.insert("bias", &[1], vec![-0.4]);
    let classifier = Tfidf::load(shape, Classes::Two, &mut file).expect("weights");
    model("tfidf", KnownNgrams::new(Analyzer::tweet(), ngrams, shape), classifier)
}

fn weights_of<'a>(text: &'a str, found: &Explanation) -> Vec<(&'a str, f64)> {
    found.spans.iter().map(|span| (&text[span.bytes.clone()], span.weight)).collect()
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-4
}

/// The parts of the words and the bias are the log-odds that the model gives.
#[test]
fn exact_parts_add_up() {
    let warm = Calibration { temperature: 1.7, ..Calibration::NONE };
    let thresholds: LabelThresholds = p(0.4).into();
    for mut model in [
        hashed(weights(64), 0.25),
        tfidf(),
        hashed(weights(64), -0.6).calibrated(warm, thresholds),
        tfidf().calibrated(warm, thresholds),
    ] {
        for text in TEXTS.into_iter().map(str::to_owned).chain(["so late ".repeat(100)]) {
            let found = model.explain(&text).expect("explained");
            let name = format!("{}: {text}", model.id);
            assert_eq!(found.method, Method::Exact, "{name}");
            let sum: f64 = found.spans.iter().map(|span| span.weight).sum();
            let bias = found.bias.expect("a linear model has one");
            assert!(near(sum + bias, found.log_odds), "{name}: {found:?}");
            let score = model.score(&[&text]).expect("scored")[0];
            assert!(near(found.log_odds, logit_f32(score.negative().get())), "{name}: {found:?}");
        }
    }
    assert_eq!(hashed(weights(64), 0.25).explain("").expect("explained").spans, []);
}

#[test]
fn a_pair_is_shared_by_its_words() {
    // Weight 1 for every n-gram: "not", "not good", "good": each divided by the root of 3.
    let mut model = hashed(vec![1.0; 1 << 16], 0.5);
    let text = "not, good";
    let found = model.explain(text).expect("explained");
    let part = 1.5 / 3f64.sqrt();
    for ((word, weight), expected) in weights_of(text, &found).into_iter().zip(["not", "good"]) {
        assert_eq!(word, expected);
        assert!(near(weight, part), "{word} {weight}");
    }
    assert_eq!(found.bias, Some(0.5));
    // An n-gram that occurs twice is shared by all of its words.
    let text = "good good";
    let found = model.explain(text).expect("explained");
    let each = (1.0 / 2f64.sqrt()) * (0.5 + 0.5);
    assert!(weights_of(text, &found).iter().all(|(_, weight)| near(*weight, each)), "{found:?}");
    // Words after the ones that are read have no part.
    let found = model.explain("a b c d e f g").expect("explained");
    assert_eq!(found.spans.last().expect("a word").weight, 0.0);
}

/// Log-odds: 2 for each "bad", -1 for "ok", and -0.5; counts the rows.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Encoder for Counting {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        let id = |word: &str| match word {
            "bad" => Some(1),
            "ok" => Some(2),
            _ => None,
        };
        let words = text.raw().split_whitespace().take(100);
        Encoding::new([0].into_iter().chain(words.filter_map(id)).collect())
    }
}

impl Classifier for Counting {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        self.0.fetch_add(batch.len(), Ordering::Relaxed);
        let part = |id: &u32| [-0.5, 2.0, -1.0][*id as usize];
        let score = |row: &&Encoding| {
            let logit: f64 = row.ids.iter().map(part).sum();
            Probabilities::two(p(monitor_core::logit::sigmoid(logit) as f32))
        };
        Ok(batch.iter().map(score).collect())
    }
}

#[test]
fn occlusion_leaves_out_one_word_at_a_time() {
    let counting = Counting::default();
    let mut model = model("net", counting.clone(), counting.clone());
    let text = "a bad ok flight";
    let found = model.explain(text).expect("explained");
    assert_eq!((found.method, found.bias, found.words_per_span), (Method::Occlusion, None, 1));
    assert!(near(found.log_odds, 0.5), "{found:?}");
    for ((word, weight), expected) in
        weights_of(text, &found).into_iter().zip([0.0, 2.0, -1.0, 0.0])
    {
        assert!(near(weight, expected), "{word}: {weight}");
    }
    assert_eq!(counting.0.load(Ordering::Relaxed), 3, "words that are not read cost no row");
}

#[test]
fn a_long_text_is_explained_in_groups_of_words() {
    let counting = Counting::default();
    let mut model = model("net", counting.clone(), counting.clone());
    let text = "bad ".repeat(1000);
    let found = model.explain(&text).expect("explained");
    assert_eq!(found.words_per_span, 16);
    assert_eq!(found.spans.len(), 1000usize.div_ceil(16));
    assert_eq!(found.spans[1].bytes, 64..127);
    assert!(counting.0.load(Ordering::Relaxed) <= SPANS_MAX + 1);
    let mut exact = hashed(weights(64), 0.0);
    let found = exact.explain(&text).expect("explained");
    assert_eq!(found.spans.len(), 1000usize.div_ceil(16));
}

#[test]
fn a_cascade_is_explained_by_the_model_that_answered() {
    let shape = |low: f32, high: f32| {
        let named = |id: &str| Member { model: id.parse().expect("an id"), sha256: String::new() };
        CascadeShape { cheap: named("hash@1"), costly: named("net@1"), low, high, certainty: None }
    };
    let check = |name: &str, low: f32, high: f32, expected: &str, method: Method| {
        let cheap = Model { thresholds: p(0.3).into(), ..hashed(weights(64), 0.2) };
        let counting = Counting::default();
        let costly = model("net", counting.clone(), counting);
        let id = "cascade@1".parse().expect("an id");
        let mut cascade = Cascade::model(id, shape(low, high), cheap, costly);
        let text = "a bad flight";
        let found = cascade.explain(text).expect("explained");
        assert_eq!((found.model.to_string(), found.method), (expected.into(), method), "{name}");
        let score = cascade.score(&[text]).expect("scored")[0];
        assert!(near(found.log_odds, logit_f32(score.negative().get())), "{name}: {found:?}");
        if let Some(bias) = found.bias {
            let sum: f64 = found.spans.iter().map(|span| span.weight).sum();
            assert!(near(sum + bias, found.log_odds), "{name}: {found:?}");
        }
    };
    check("escalated", 0.0, 1.0, "net@1", Method::Occlusion);
    check("the cheap model is certain", 0.9, 0.1, "hash@1", Method::Exact);
}
