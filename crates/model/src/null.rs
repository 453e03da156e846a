//! A model that knows nothing, for benchmarks of everything around a model.
//!
//! **Invariant.** Text work is the real one; only the model's own time is missing.
//! Deliberately absent: a place in the registry.

use std::sync::Arc;

use super::{Classifier, ClassifyError, Encoding, HashedWords, LogisticShape, Model, ModelId};
use monitor_core::domain::Probability;
use monitor_core::text::Analyzer;

struct NullClassifier(Probability);

impl Classifier for NullClassifier {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
        Ok(vec![self.0; batch.len()])
    }
}

impl Model {
    /// Reads texts as the logistic model does, and answers 0.5 to each.
    pub fn null() -> Self {
        let half = Probability::new(0.5).expect("0.5 is a probability");
        let shape = LogisticShape { buckets_log2: 18, words_max: 64 };
        Self {
            id: ModelId { name: "null".into(), version: 1 },
            threshold: half,
            encoder: Arc::new(HashedWords::new(Analyzer::tweet(), shape).expect("18 bits will do")),
            classifier: Box::new(NullClassifier(half)),
        }
    }
}
