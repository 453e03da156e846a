//! A temperature and a threshold, fitted on human-labelled rows after training.
//!
//! **Invariant.** A temperature keeps the order of scores. Deliberately absent: the fitting;
//! the training crate does it.

use serde::{Deserialize, Serialize};

use monitor_core::domain::Probability;
use monitor_core::logit::{logit_f32, sigmoid};

use super::{Classifier, ClassifyError, Encoding, Model};

/// From the network's probability to the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Logits are divided by it (Guo et al. 2017); above 1 if the model was overconfident.
    pub temperature: f32,
    /// A tweet is negative from this probability upwards.
    pub threshold: f32,
}

impl Calibration {
    /// Keeps scores unchanged, with the threshold 0.5.
    pub const NONE: Self = Self { temperature: 1.0, threshold: 0.5 };

    /// The probability at this temperature. 0 and 1 are replaced by the nearest probabilities in
    /// single precision.
    pub fn apply(self, score: Probability) -> Probability {
        if self.temperature == 1.0 {
            return score;
        }
        let logit = logit_f32(score.get()) / f64::from(self.temperature);
        Probability::new(sigmoid(logit) as f32)
            .expect("the logistic function stays between 0 and 1")
    }
}

/// A classifier whose scores are calibrated.
struct Calibrated {
    inner: Box<dyn Classifier>,
    calibration: Calibration,
}

impl Classifier for Calibrated {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
        let scores = self.inner.classify(batch)?;
        Ok(scores.into_iter().map(|score| self.calibration.apply(score)).collect())
    }

    fn tokens_max(&self) -> Option<usize> {
        self.inner.tokens_max()
    }
}

impl Model {
    /// The model with one more calibration applied after the existing ones.
    pub(super) fn calibrated(self, calibration: Calibration, threshold: Probability) -> Self {
        let classifier = Box::new(Calibrated { inner: self.classifier, calibration });
        Self { threshold, classifier, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures() {
        let check = |name: &str, temperature: f32, score: f32, expected: f32| {
            let calibration = Calibration { temperature, threshold: 0.5 };
            let found = calibration.apply(Probability::new(score).unwrap()).get();
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        };
        check("none", 1.0, 0.3, 0.3);
        check("one half is unchanged", 3.0, 0.5, 0.5);
        check("cooler", 2.0, 0.9, 0.75); // odds 9, square root 3
        check("hotter", 0.5, 0.75, 0.9);
        check("certain", 2.0, 1.0, 0.999_755_1); // odds 1.67e7, square root 4082
        check("never", 2.0, 0.0, 1e-4);
    }
}
