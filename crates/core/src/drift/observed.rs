//! What is compared of one tweet.

use std::sync::LazyLock;

use crate::domain::Language;
use crate::text::{Analyzer, Buckets, identity_key};

use super::domain::FOLDS;

/// Words that are read of a text.
const WORDS_READ_MAX: usize = 256;

static BUCKETS: LazyLock<Buckets> =
    LazyLock::new(|| Buckets::new(18).expect("18 bits are in range"));

/// The words of a text, as a model's vocabulary has them or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownWords {
    /// All words that the model reads.
    pub words: usize,
    /// Those that its vocabulary does not have.
    pub unknown: Vec<String>,
}

/// One tweet.
#[derive(Debug, Clone)]
pub struct Observed {
    text: String,
    /// Ids of its words, each once, ascending.
    pub(super) features: Vec<u32>,
    /// The part of the cross-validation to which it belongs. Copies of a tweet are in the same one.
    pub(super) fold: usize,
    pub(super) words: usize,
    pub(super) language: Option<Language>,
    pub(super) known: Option<KnownWords>,
    pub(super) score: Option<f32>,
}

impl Observed {
    /// A tweet in a language; `None` if that is unknown.
    pub fn new(text: String, language: Option<Language>) -> Self {
        let words = words(&text);
        let mut features = Vec::with_capacity(words.len());
        BUCKETS.for_each(&words, |id, _, length| features.extend((length == 1).then_some(id)));
        features.sort_unstable();
        features.dedup();
        let fold = identity_key(&text) as usize % FOLDS;
        Self { fold, words: words.len(), text, features, language, known: None, score: None }
    }

    /// With the words that a model knows.
    pub fn with_known_words(self, known: Option<KnownWords>) -> Self {
        Self { known, ..self }
    }

    /// With the probability of negative, in 0..=1, that the model in force gave it.
    pub fn with_score(self, score: Option<f32>) -> Self {
        Self { score, ..self }
    }

    /// Its words and their ids, each once.
    pub(super) fn words_and_ids(&self) -> Vec<(String, u32)> {
        let words = words(&self.text);
        let mut found = Vec::with_capacity(words.len());
        BUCKETS.for_each(&words, |id, place, length| {
            if length == 1 {
                found.push((words[place].clone(), id));
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn words(text: &str) -> Vec<String> {
    Analyzer::tweet().words(text, WORDS_READ_MAX)
}
