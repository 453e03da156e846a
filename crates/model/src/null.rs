//! A model without a network, for benchmarks of everything around a model.
//!
//! **Invariant.** Texts are encoded as usual; only the time of a network is missing.
//! Deliberately absent: a place in the registry.

use std::sync::Arc;

use monitor_core::domain::{Classes, Probabilities, Probability};
use monitor_core::text::Analyzer;

use super::{Classifier, ClassifyError, Encoding, HashedWords, LogisticShape, Model, ModelId};

struct NullClassifier;

impl Classifier for NullClassifier {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        Ok(vec![Probabilities::two(Probability::HALF); batch.len()])
    }
}

impl Model {
    /// Encodes texts like the logistic model, and scores each as 0.5.
    pub fn null() -> Self {
        let shape = LogisticShape { buckets_log2: 18, words_max: 64 };
        Self {
            id: ModelId { name: "null".into(), version: 1 },
            classes: Classes::Two,
            languages: Vec::new(),
            thresholds: Probability::HALF.into(),
            encoder: Arc::new(
                HashedWords::new(Analyzer::tweet(), shape).expect("18 bits are in range"),
            ),
            classifier: Box::new(NullClassifier),
        }
    }
}
