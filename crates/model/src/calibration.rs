//! What was fitted on human-labelled rows after training: a temperature and a threshold.
//!
//! **Invariant.** A temperature changes no order of scores. Deliberately absent: the
//! fitting; `training` does it.

use serde::{Deserialize, Serialize};

use super::{Classifier, ClassifyError, Encoding, Model};
use monitor_core::domain::Probability;

/// From what the network says to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Logits are divided by it (Guo et al. 2017); above 1 the model was too sure of itself.
    pub temperature: f32,
    /// Negative from this probability upwards.
    pub threshold: f32,
}

impl Calibration {
    /// Leaves scores as they are, with one half for a threshold.
    pub const NONE: Self = Self { temperature: 1.0, threshold: 0.5 };

    /// The probability at this temperature. One that is 0 or 1 in single precision is taken
    /// for the nearest that is not.
    pub fn apply(self, score: Probability) -> Probability {
        if self.temperature == 1.0 {
            return score;
        }
        let p = f64::from(score.get()).clamp(1e-8, 1.0 - 6e-8);
        let logit = (p / (1.0 - p)).ln() / f64::from(self.temperature);
        Probability::new((1.0 / (1.0 + (-logit).exp())) as f32)
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
    /// The model with another calibration on top of what it has.
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
        check("one half stays", 3.0, 0.5, 0.5);
        check("cooler", 2.0, 0.9, 0.75); // odds 9, square root 3
        check("hotter", 0.5, 0.75, 0.9);
        check("certain", 2.0, 1.0, 0.999_755_1); // odds 1.67e7, square root 4082
        check("never", 2.0, 0.0, 1e-4);
    }
}
