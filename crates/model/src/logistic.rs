//! Logistic regression over hashed words and pairs of words.
//!
//! **Invariant.** The logit of a text is the bias plus the sum of its features' weights
//! over the square root of their number, so it depends on that text alone.
//! Deliberately absent: libtorch; a dot product of about thirty numbers is faster than a
//! call into it.

use monitor_core::domain::{Classes, Probabilities};
use monitor_core::text::{Analyzer, Buckets, SourceText};

use super::decisions::Decisions;
use super::weights::WeightsError;
use super::{Classifier, ClassifyError, Encoder, Encoding, Linear, Trace, Weights, check_ids};

/// The shape of the weights, and how texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogisticShape {
    /// Features are hashed to 2 to the power of this many buckets.
    pub buckets_log2: u32,
    /// Largest number of words that are read of a text.
    pub words_max: usize,
}

/// Encodes a text as the ids of the buckets of its words and word pairs.
#[derive(Debug)]
pub struct HashedWords {
    analyzer: Analyzer,
    buckets: Buckets,
    words_max: usize,
}

impl HashedWords {
    /// `None` if the number of buckets is out of range.
    pub fn new(analyzer: Analyzer, shape: LogisticShape) -> Option<Self> {
        let buckets = Buckets::new(shape.buckets_log2)?;
        Some(Self { analyzer, buckets, words_max: shape.words_max })
    }
}

impl Encoder for HashedWords {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        let words_max = self.words_max;
        let mut words = self.analyzer.words_of(text, words_max.saturating_add(1));
        let truncated = words.len() > words_max;
        words.truncate(words_max);
        Encoding { ids: self.buckets.ids(&words), truncated, text: None }
    }

    fn trace(&self, text: &str) -> Option<Trace> {
        let placed = self.analyzer.placed_words(text, self.words_max)?;
        Some(Trace::new(placed, |words, visit| self.buckets.for_each(words, visit)))
    }
}

/// The weights in memory.
#[derive(Debug)]
pub struct Logistic(Decisions);

impl Logistic {
    /// Takes `weight` [buckets] and `bias` [1] out of the file; with three classes, those of
    /// `positive.` too.
    ///
    /// # Errors
    /// An array is missing or has another shape.
    pub fn load(
        shape: LogisticShape,
        classes: Classes,
        weights: &mut Weights,
    ) -> Result<Self, WeightsError> {
        Decisions::load(1 << shape.buckets_log2, classes, weights).map(Self)
    }
}

impl Classifier for Logistic {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        check_ids(batch, self.0.features())?;
        let score = |row: &&Encoding| {
            let length = (row.ids.len() as f32).sqrt();
            self.0.classify(|weight| {
                row.ids.iter().map(|id| weight[*id as usize]).sum::<f32>() / length
            })
        };
        batch.iter().map(score).collect()
    }

    fn linear(&self, row: &Encoding) -> Option<Linear> {
        let length = (row.ids.len() as f64).sqrt();
        Some(self.0.linear(row.ids.iter().map(|id| (*id, 1.0 / length))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::Decision;

    #[test]
    fn computes_the_documented_formula() {
        let negative = Decision { weight: vec![0.0, 1.0, 3.0, -2.0], bias: 0.5 };
        let mut model = Logistic(Decisions { negative, positive: None });
        let mut check = |name: &str, ids: &[u32], expected: f32| {
            let row = Encoding::new(ids.to_vec());
            let found = model.classify(&[&row]).unwrap()[0].negative().get();
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        };
        check("nothing: the bias", &[0], 0.622_459_3); // 1 / (1 + e^-0.5)
        check("one", &[1], 0.817_574_5); // 1 / (1 + e^-1.5)
        check("four: divided by 2", &[1, 2, 3, 0], 0.817_574_5);
    }

    #[test]
    fn rejects_ids_without_a_weight() {
        let negative = Decision { weight: vec![0.0; 4], bias: 0.0 };
        let mut model = Logistic(Decisions { negative, positive: None });
        let (good, bad, empty) =
            (Encoding::new(vec![1]), Encoding::new(vec![4]), Encoding::new(vec![]));
        assert!(model.classify(&[&good, &bad]).is_err());
        assert!(model.classify(&[&empty]).is_err());
        assert!(model.classify(&[]).unwrap().is_empty());
    }
}
