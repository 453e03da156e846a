//! Logistic regression over TF-IDF of word and character n-grams.
//!
//! The features are those of scikit-learn's `TfidfVectorizer(sublinear_tf=True)`: an n-gram
//! that occurs t times in a text has the value (1 + ln t) times its scale, which is its idf
//! (the training crate computes it); the row is then scaled to length 1. Unknown n-grams are
//! left out.
//!
//! **Invariant.** A text's score depends on that text alone, and training and scoring use
//! the same [`features`]. Deliberately absent: libtorch; a dot product of about two hundred
//! numbers is faster than a call into it.

use monitor_core::domain::{Classes, Probabilities};
use monitor_core::drift::KnownWords;
use monitor_core::text::{Analyzer, NgramKind, NgramLengths, Ngrams, SourceText};

use super::decisions::Decisions;
use super::weights::WeightsError;
use super::{Classifier, ClassifyError, Encoder, Encoding, Linear, Trace, Weights, check_ids};

/// The shape of the weights, and how texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TfidfShape {
    /// Number of ids, [`Ngrams::NOTHING`] included.
    pub ngrams: usize,
    /// Which n-grams of words and characters are read.
    pub lengths: NgramLengths,
    /// Largest number of words that are read of a text.
    pub words_max: usize,
}

/// Encodes a text as the ascending ids of its n-grams that the model knows; an id occurs as
/// often as its n-gram.
#[derive(Debug)]
pub struct KnownNgrams {
    analyzer: Analyzer,
    ngrams: Ngrams,
    shape: TfidfShape,
}

impl KnownNgrams {
    /// `shape.ngrams` is the number of ids of `ngrams`.
    pub fn new(analyzer: Analyzer, ngrams: Ngrams, shape: TfidfShape) -> Self {
        debug_assert_eq!(ngrams.ids(), shape.ngrams);
        Self { analyzer, ngrams, shape }
    }
}

impl Encoder for KnownNgrams {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        let words_max = self.shape.words_max;
        let mut words = self.analyzer.words_of(text, words_max.saturating_add(1));
        let truncated = words.len() > words_max;
        words.truncate(words_max);
        let mut ids = Vec::new();
        self.shape.lengths.for_each(&words, |ngram| ids.extend(self.ngrams.id(ngram.hash)));
        if ids.is_empty() {
            ids.push(Ngrams::NOTHING);
        }
        ids.sort_unstable();
        Encoding { ids, truncated, text: None }
    }

    fn known_words(&self, text: &str) -> Option<KnownWords> {
        let words = self.analyzer.words(text, self.shape.words_max);
        let mut unknown = Vec::new();
        self.shape.lengths.for_each(&words, |ngram| {
            let is_word = ngram.kind == NgramKind::Words && ngram.words == 1;
            if is_word && self.ngrams.id(ngram.hash).is_none() {
                unknown.push(words[ngram.first].clone());
            }
        });
        Some(KnownWords { words: words.len(), unknown })
    }

    fn trace(&self, text: &str) -> Option<Trace> {
        let placed = self.analyzer.placed_words(text, self.shape.words_max)?;
        Some(Trace::new(placed, |words, visit| {
            self.shape.lengths.for_each(words, |ngram| {
                if let Some(id) = self.ngrams.id(ngram.hash) {
                    visit(id, ngram.first, ngram.words);
                }
            });
        }))
    }
}

/// TF-IDF of each id in a row of ascending ids. The row has length 1, or 0 if all scales
/// are 0.
pub fn features(ids: &[u32], scale: &[f32]) -> Vec<(u32, f32)> {
    let value = |run: &[u32]| (run[0], scale[run[0] as usize] * (1.0 + (run.len() as f32).ln()));
    let mut row: Vec<(u32, f32)> = ids.chunk_by(|a, b| a == b).map(value).collect();
    let length = row.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|(_, value)| *value /= length);
    }
    row
}

/// The weights in memory.
#[derive(Debug)]
pub struct Tfidf {
    /// Value of one occurrence of each n-gram, before its row is scaled.
    scale: Vec<f32>,
    decisions: Decisions,
}

impl Tfidf {
    /// Takes `scale` and `weight` [n-grams] and `bias` [1] out of the file; with three classes,
    /// those of `positive.` too.
    ///
    /// # Errors
    /// An array is missing or has another shape.
    pub fn load(
        shape: TfidfShape,
        classes: Classes,
        weights: &mut Weights,
    ) -> Result<Self, WeightsError> {
        let scale = weights.take("scale", &[shape.ngrams])?;
        Ok(Self { scale, decisions: Decisions::load(shape.ngrams, classes, weights)? })
    }
}

impl Classifier for Tfidf {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        check_ids(batch, self.decisions.features())?;
        let score = |row: &&Encoding| {
            let row = features(&row.ids, &self.scale);
            self.decisions
                .classify(|weight| row.iter().map(|(id, value)| weight[*id as usize] * value).sum())
        };
        batch.iter().map(score).collect()
    }

    fn linear(&self, row: &Encoding) -> Option<Linear> {
        let row = features(&row.ids, &self.scale);
        Some(self.decisions.linear(row.into_iter().map(|(id, value)| (id, f64::from(value)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::Decision;
    use monitor_core::logit::sigmoid_f32;

    const SHAPE: TfidfShape = TfidfShape {
        ngrams: 4,
        lengths: NgramLengths { words_max: 2, characters_min: 1, characters_max: 0 },
        words_max: 64,
    };

    fn encoder() -> KnownNgrams {
        let listed = ["good", "not", "not good"].map(|text| (NgramKind::Words, text));
        KnownNgrams::new(Analyzer::tweet(), Ngrams::new(listed).unwrap(), SHAPE)
    }

    #[test]
    fn repeated_ngrams_repeat_their_id_and_unknown_ones_are_left_out() {
        let check = |text: &str, expected: &[u32]| {
            assert_eq!(encoder().encode(text).ids, expected, "{text}");
        };
        check("not good, good", &[1, 1, 2, 3]);
        check("GOOD :)", &[1]);
        check("unheard of", &[Ngrams::NOTHING]);
        check("", &[Ngrams::NOTHING]);
        let found = encoder().known_words("not good, unheard of").unwrap();
        assert_eq!((found.words, found.unknown), (4, vec!["unheard".to_owned(), "of".to_owned()]));
    }

    #[test]
    fn computes_the_documented_formula() {
        let negative = Decision { weight: vec![9.0, 1.0, 2.0, -1.0], bias: 0.5 };
        let positive = Some(Decision { weight: vec![0.0, -1.0, 0.0, 2.0], bias: 1.0 });
        let scale = vec![0.0, 3.0, 4.0, 1.0];
        let mut model = Tfidf { scale, decisions: Decisions { negative, positive } };
        let mut check = |name: &str, ids: &[u32], logit: f32| {
            let row = Encoding::new(ids.to_vec());
            let found = model.classify(&[&row]).unwrap()[0].negative().get();
            assert!((found - sigmoid_f32(logit)).abs() < 1e-6, "{name}: {found}");
        };
        check("nothing: the bias", &[0], 0.5);
        check("one", &[1], 0.5 + 1.0);
        check("two: 3 and 4 over 5", &[1, 2], 0.5 + 0.6 + 2.0 * 0.8);
        // Twice counts 1 + ln 2: 1.6931 and 1 over their length 1.9664.
        check("twice", &[3, 3], 0.5 - 1.0);
        let (twice, once) = (3.0 * 1.693_147_2_f32, 4.0_f32);
        let length = (twice * twice + once * once).sqrt();
        check("twice and once", &[1, 1, 2], 0.5 + (twice + 2.0 * once) / length);
        let three = model.classify(&[&Encoding::new(vec![3])]).unwrap()[0];
        let (negative, positive) = (sigmoid_f32(-0.5), sigmoid_f32(3.0));
        assert!((three.neutral().get() - (1.0 - negative) * (1.0 - positive)).abs() < 1e-6);
    }

    #[test]
    fn rejects_ids_without_a_weight() {
        let negative = Decision { weight: vec![0.0; 4], bias: 0.0 };
        let decisions = Decisions { negative, positive: None };
        let mut model = Tfidf { scale: vec![1.0; 4], decisions };
        let (good, bad, empty) =
            (Encoding::new(vec![1]), Encoding::new(vec![4]), Encoding::new(vec![]));
        assert!(model.classify(&[&good, &bad]).is_err());
        assert!(model.classify(&[&empty]).is_err());
        assert!(model.classify(&[]).unwrap().is_empty());
    }
}
