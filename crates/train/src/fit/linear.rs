//! The logistic families: which features they see, and how they are fitted.
//!
//! `logistic-hash` sees words and pairs of words in buckets; each row has length 1.
//! `logistic-tfidf` sees the n-grams that are frequent enough, scaled by their idf:
//! ln((1 + rows) / (1 + rows with it)) + 1, as scikit-learn smooths it. Character n-grams
//! are many and correlated, so they are scaled by [`CHARACTERS_SCALE`], which gives a lower
//! validation loss than scaling words and characters to length 1 separately.
//!
//! **Invariant.** The encoder used in training is the one used when scoring, and nothing
//! depends on the number of threads. Deliberately absent: a search; the constants below were chosen
//! by the loss on validation rows, and `tune` searches for others.

use rustc_hash::FxHashMap;

use monitor_core::domain::{Classes, Label};
use monitor_core::text::{Analyzer, NgramKind, NgramLengths, Ngrams};
use monitor_model::{
    Encoder, HashedWords, KnownNgrams, LogisticShape, TfidfShape, Weights, features,
};

use super::logistic::{self, Linear, Problem, Solver, SparseRows, parallel};
use super::{Family, Hyperparameters, Target};
use crate::data::Row;

const HASH: LogisticShape = LogisticShape { buckets_log2: 20, words_max: 64 };
const HASH_C: f64 = 4.0;

/// Single words and pairs, and three to five characters.
pub const TFIDF_LENGTHS: NgramLengths =
    NgramLengths { words_max: 2, characters_min: 3, characters_max: 5 };
const TFIDF_WORDS_MAX: usize = 64;
const TFIDF_C: f64 = 2.0;
/// Rows in which a run of words must occur to be kept ...
const WORDS_ROWS_MIN: u32 = 2;
/// ... and a run of characters.
const CHARACTERS_ROWS_MIN: u32 = 5;
/// The most frequent so many are kept: 15 bytes each in the artifact. On 189,270 rows
/// 275,755 n-grams qualify (4.1 MB, validation loss 0.4265). Keeping only the 150,000 of
/// largest weight and fitting again gave 0.4271 (2.3 MB), 75,000 gave 0.4280 (1.1 MB): not
/// worth a second fit.
const NGRAMS_MAX: usize = 450_000;
/// Scale of a character n-gram relative to a word n-gram.
const CHARACTERS_SCALE: f64 = 0.3;
/// A smaller part of a row teaches nothing.
const PART_MIN: f32 = 1e-3;
/// Rows encoded by one thread at a time.
const CHUNK_ROWS: usize = 4_096;

/// Settings of both families.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// From texts to words.
    pub analyzer: &'a Analyzer,
    /// The classes to tell apart.
    pub classes: Classes,
    /// Strength of the penalty and scale of the characters' n-grams.
    pub hyper: Hyperparameters,
    /// Seed of the order of the rows.
    pub seed: u64,
    /// Threads to use.
    pub threads: usize,
    /// Returns whether to stop.
    pub stop: &'a dyn Fn() -> bool,
}

/// The hyperparameters of a logistic family that sets none.
pub(super) fn defaults(family: Family) -> Hyperparameters {
    let none = Hyperparameters::default();
    match family {
        Family::LogisticTfidf => Hyperparameters {
            l2: Some(1.0 / TFIDF_C),
            word_ngrams: Some(TFIDF_LENGTHS.words_max),
            character_ngrams: Some(TFIDF_LENGTHS.characters_max),
            character_scale: Some(CHARACTERS_SCALE),
            ..none
        },
        _ => Hyperparameters { l2: Some(1.0 / HASH_C), ..none },
    }
}

/// The lengths of the n-grams of `logistic-tfidf`.
pub(super) fn lengths(hyper: Hyperparameters) -> NgramLengths {
    NgramLengths {
        words_max: hyper.word_ngrams.unwrap_or(TFIDF_LENGTHS.words_max),
        characters_max: hyper.character_ngrams.unwrap_or(TFIDF_LENGTHS.characters_max),
        ..TFIDF_LENGTHS
    }
}

/// A hashed model.
#[derive(Debug)]
pub struct HashModel {
    /// What must be known to read the weights.
    pub shape: LogisticShape,
    /// `weight` and `bias`.
    pub weights: Weights,
}

/// A TF-IDF model.
#[derive(Debug)]
pub struct TfidfModel {
    /// What must be known to read the weights.
    pub shape: TfidfShape,
    /// `scale`, `weight` and `bias`.
    pub weights: Weights,
    /// What its ids stand for.
    pub ngrams: Ngrams,
}

/// Fits `logistic-hash` on `targets`, one per row; `None` if stopped.
pub fn fit_hash(rows: &[&Row], targets: &[Target], settings: Settings<'_>) -> Option<HashModel> {
    let encoder = HashedWords::new(settings.analyzer.clone(), HASH).expect("20 bits are in range");
    let encoded = encode(&encoder, rows, settings.threads, |ids| {
        let value = 1.0 / (ids.len() as f32).sqrt();
        ids.iter().map(|id| (*id, value)).collect()
    });
    let features = 1 << HASH.buckets_log2;
    let weights = fit("logistic-hash", (rows, targets), &encoded, features, HASH_C, settings)?;
    Some(HashModel { shape: HASH, weights })
}

/// Fits `logistic-tfidf` on n-grams of these lengths and on `targets`, one per row; `None` if stopped.
pub fn fit_tfidf(
    rows: &[&Row],
    targets: &[Target],
    lengths: NgramLengths,
    settings: Settings<'_>,
) -> Option<TfidfModel> {
    let (ngrams, scale) = choose(rows, lengths, settings);
    let shape = TfidfShape { ngrams: ngrams.ids(), lengths, words_max: TFIDF_WORDS_MAX };
    let encoder = KnownNgrams::new(settings.analyzer.clone(), ngrams.clone(), shape);
    let encoded = encode(&encoder, rows, settings.threads, |ids| features(ids, &scale));
    let rows = (rows, targets);
    let mut weights = fit("logistic-tfidf", rows, &encoded, shape.ngrams, TFIDF_C, settings)?;
    weights.insert("scale", &[scale.len()], scale);
    Some(TfidfModel { shape, weights, ngrams })
}

/// Fits the decisions of a model: negative or not; with three classes also positive or neutral, on the
/// rows that may be one of the two. A row that is partly the one and partly the other, as a teacher
/// has it, counts as two rows with the parts as weights.
fn fit(
    name: &str,
    (rows, targets): (&[&Row], &[Target]),
    encoded: &SparseRows,
    features: usize,
    c: f64,
    settings: Settings<'_>,
) -> Option<Weights> {
    let Settings { classes, hyper, seed, threads, stop, .. } = settings;
    let c = hyper.l2.map_or(c, |l2| 1.0 / l2);
    let decide = |name: &str, parts: &dyn Fn(&Target) -> (f32, f32)| {
        let (mut sides, mut is_it, mut row_weights) =
            (SparseRows::default(), Vec::new(), Vec::new());
        for (at, (row, target)) in rows.iter().zip(targets).enumerate() {
            let (yes, no) = parts(target);
            for (side, part) in [(true, yes), (false, no)] {
                if part >= PART_MIN {
                    sides.push(encoded.features(at));
                    is_it.push(side);
                    row_weights.push(row.weight * part);
                }
            }
        }
        let problem =
            Problem { rows: &sides, negative: &is_it, row_weights: &row_weights, features };
        logistic::fit(name, problem, Solver { c, seed, threads, stop })
    };
    let part = |target: &Target, label: Label| target.classes[label as usize];
    let negative = |target: &Target| {
        let others = part(target, Label::Neutral) + part(target, Label::Positive);
        (part(target, Label::Negative), others)
    };
    let positive = |target: &Target| match target.masked {
        true => (0.0, 0.0),
        false => (part(target, Label::Positive), part(target, Label::Neutral)),
    };
    let mut weights = Weights::default();
    insert(&mut weights, "", &decide(name, &negative)?);
    if classes == Classes::Three {
        let name = format!("{name}, positive or neutral");
        insert(&mut weights, "positive.", &decide(&name, &positive)?);
    }
    Some(weights)
}

fn insert(weights: &mut Weights, prefix: &str, linear: &Linear) {
    let weight: Vec<f32> = linear.weight.iter().map(|weight| *weight as f32).collect();
    weights.insert(&format!("{prefix}weight"), &[weight.len()], weight);
    weights.insert(&format!("{prefix}bias"), &[1], vec![linear.bias as f32]);
}

/// Rows as the model will see them.
fn encode(
    encoder: &dyn Encoder,
    rows: &[&Row],
    threads: usize,
    features: impl Fn(&[u32]) -> Vec<(u32, f32)> + Sync,
) -> SparseRows {
    let chunks: Vec<&[&Row]> = rows.chunks(CHUNK_ROWS).collect();
    let encode = |chunk: usize| {
        let mut encoded = SparseRows::default();
        for row in chunks[chunk] {
            encoded.push(features(&encoder.encode(&row.text).ids));
        }
        encoded
    };
    let mut encoded = SparseRows::default();
    for part in parallel(chunks.len(), threads, &encode) {
        encoded.append(&part);
    }
    encoded
}

/// How often an n-gram occurs.
struct Count {
    kind: NgramKind,
    text: Box<str>,
    /// In how many rows.
    rows: u32,
    /// The last of them.
    last: usize,
}

/// The n-grams worth keeping, most frequent first, and the scale of each id.
fn choose(rows: &[&Row], lengths: NgramLengths, settings: Settings<'_>) -> (Ngrams, Vec<f32>) {
    let Settings { analyzer, hyper, threads, .. } = settings;
    let characters = hyper.character_scale.unwrap_or(CHARACTERS_SCALE);
    let share = rows.len().div_ceil(threads.max(1)).max(1);
    let shares: Vec<&[&Row]> = rows.chunks(share).collect();
    let parts = parallel(shares.len(), threads, &|at| count(shares[at], lengths, analyzer));
    let counts = parts.into_iter().reduce(|mut sum, part| {
        for (hash, count) in part {
            sum.entry(hash).and_modify(|sum| sum.rows += count.rows).or_insert(count);
        }
        sum
    });
    let rows_min = |kind| match kind {
        NgramKind::Words => WORDS_ROWS_MIN,
        NgramKind::Characters => CHARACTERS_ROWS_MIN,
    };
    let mut kept: Vec<Count> = (counts.unwrap_or_default().into_values())
        .filter(|count| count.rows >= rows_min(count.kind))
        .collect();
    kept.sort_unstable_by(|a, b| {
        b.rows.cmp(&a.rows).then_with(|| (a.kind, &a.text).cmp(&(b.kind, &b.text)))
    });
    kept.truncate(NGRAMS_MAX);
    let ngrams = Ngrams::new(kept.iter().map(|count| (count.kind, &*count.text)))
        .expect("words have no line breaks, and each n-gram was counted under its own hash");
    let scale = |count: &Count| {
        let idf = ((1.0 + rows.len() as f64) / (1.0 + f64::from(count.rows))).ln() + 1.0;
        let kind = match count.kind {
            NgramKind::Words => 1.0,
            NgramKind::Characters => characters,
        };
        (kind * idf) as f32
    };
    let nothing = std::iter::once(0.0);
    (ngrams, nothing.chain(kept.iter().map(scale)).collect())
}

fn count(rows: &[&Row], lengths: NgramLengths, analyzer: &Analyzer) -> FxHashMap<u64, Count> {
    let mut counts: FxHashMap<u64, Count> = FxHashMap::default();
    for (at, row) in rows.iter().enumerate() {
        lengths.for_each(&analyzer.words(&row.text, TFIDF_WORDS_MAX), |ngram| {
            let count = counts.entry(ngram.hash).or_insert_with(|| Count {
                kind: ngram.kind,
                text: ngram.text.into(),
                rows: 0,
                last: usize::MAX,
            });
            if count.last != at {
                count.last = at;
                count.rows += 1;
            }
        });
    }
    counts
}
