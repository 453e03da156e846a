//! Temperatures and thresholds, fitted on human-labelled rows after training.
//!
//! **Invariant.** A temperature keeps the order of scores. Deliberately absent: the fitting;
//! the training crate does it.

use serde::{Deserialize, Serialize};

use monitor_core::domain::{InvalidProbability, LabelThresholds, Probabilities, Probability};
use monitor_core::logit::{logit_f32, sigmoid};

use super::{Classifier, ClassifyError, Encoding, Linear, Model};

/// From the network's probabilities to the stored ones, and to a label.
///
/// A decision between three classes is two binary ones: negative or not; if not, positive or
/// neutral (nested dichotomies: Fox 1997, Frank and Kramer 2004). Each has a temperature and a
/// threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Log-odds of "negative" are divided by it (Guo et al. 2017); above 1 if the model was
    /// overconfident.
    pub temperature: f32,
    /// A tweet is negative from this probability upwards.
    pub threshold: f32,
    /// Positive against neutral; absent with two classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<BinaryCalibration>,
}

/// Temperature and threshold of one binary decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinaryCalibration {
    /// Log-odds are divided by it.
    pub temperature: f32,
    /// The first class from this probability upwards.
    pub threshold: f32,
}

impl BinaryCalibration {
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

impl Calibration {
    /// Keeps scores unchanged, with the threshold 0.5.
    pub const NONE: Self = Self { temperature: 1.0, threshold: 0.5, positive: None };

    /// Negative against the rest.
    pub fn negative(self) -> BinaryCalibration {
        BinaryCalibration { temperature: self.temperature, threshold: self.threshold }
    }

    /// The probabilities at these temperatures.
    pub fn apply(self, scores: Probabilities) -> Probabilities {
        let positive = self.positive.unwrap_or(BinaryCalibration::NONE);
        if self.temperature == 1.0 && positive.temperature == 1.0 {
            return scores;
        }
        let negative = self.negative().apply(scores.negative());
        if scores.neutral() == Probability::ZERO {
            return Probabilities::two(negative);
        }
        Probabilities::three(negative, positive.apply(scores.positive_among_others()))
    }

    /// From probabilities to labels.
    ///
    /// # Errors
    /// A threshold is no probability.
    pub fn thresholds(self) -> Result<LabelThresholds, InvalidProbability> {
        let positive = self.positive.unwrap_or(BinaryCalibration::NONE).threshold;
        let negative = Probability::new(self.threshold)?;
        Ok(LabelThresholds { negative, positive: Probability::new(positive)? })
    }

    /// Whether all temperatures are above zero.
    pub(super) fn has_valid_temperatures(self) -> bool {
        let positive = self.positive.unwrap_or(BinaryCalibration::NONE);
        [self.temperature, positive.temperature].iter().all(|it| it.is_finite() && *it > 0.0)
    }
}

/// A classifier whose scores are calibrated.
struct Calibrated {
    inner: Box<dyn Classifier>,
    calibration: Calibration,
}

impl Classifier for Calibrated {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        let scores = self.inner.classify(batch)?;
        Ok(scores.into_iter().map(|score| self.calibration.apply(score)).collect())
    }

    fn tokens_max(&self) -> Option<usize> {
        self.inner.tokens_max()
    }

    fn linear(&self, row: &Encoding) -> Option<Linear> {
        let temperature = f64::from(self.calibration.temperature);
        self.inner.linear(row).map(|linear| linear.divided_by(temperature))
    }
}

impl Model {
    /// The model with one more calibration applied after the existing ones.
    pub(super) fn calibrated(self, calibration: Calibration, thresholds: LabelThresholds) -> Self {
        let classifier = Box::new(Calibrated { inner: self.classifier, calibration });
        Self { thresholds, classifier, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures() {
        let check = |name: &str, temperature: f32, score: f32, expected: f32| {
            let calibration = BinaryCalibration { temperature, threshold: 0.5 };
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

    #[test]
    fn each_decision_has_its_temperature() {
        let positive = Some(BinaryCalibration { temperature: 0.5, threshold: 0.4 });
        let calibration = Calibration { temperature: 2.0, threshold: 0.3, positive };
        // Negative has odds 9; positive has odds 3 against neutral.
        let found = calibration.apply(Probabilities::new(0.9, 0.025).unwrap());
        assert!((found.negative().get() - 0.75).abs() < 1e-6, "{found:?}");
        assert!((found.positive_among_others().get() - 0.9).abs() < 1e-5, "{found:?}");
        let two = calibration.apply(Probabilities::two(Probability::new(0.9).unwrap()));
        assert_eq!(two.neutral(), Probability::ZERO);
        let thresholds = calibration.thresholds().unwrap();
        assert_eq!((thresholds.negative.get(), thresholds.positive.get()), (0.3, 0.4));
    }
}
