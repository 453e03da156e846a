//! Metrics of scores against labels.
//!
//! **Invariant.** Pure functions; an undefined figure (precision if nothing is predicted, AUC if
//! one class is missing) is absent, not zero. The positive class in the statistical sense is
//! "negative sentiment". Deliberately absent: how they are printed; see `classification.rs`.

use std::collections::BTreeMap;

use super::intervals;
use super::precision_recall::PrecisionRecall;
use super::reliability::Reliability;
use monitor_core::domain::{Interval, Probability};

/// Number of rows by label and predicted class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Negative, predicted as negative.
    pub negative_found: usize,
    /// Negative, predicted as positive.
    pub negative_missed: usize,
    /// Positive, predicted as positive.
    pub positive_found: usize,
    /// Positive, predicted as negative.
    pub positive_missed: usize,
}

/// Precision, recall and their harmonic mean, of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClassFigures {
    /// Share of the rows predicted as this class that are of it.
    pub precision: Option<f64>,
    /// Share of the rows of this class that are predicted as it.
    pub recall: Option<f64>,
    /// 2PR / (P + R)
    pub f1: Option<f64>,
}

/// All figures of one data set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// The counts from which other figures are computed.
    pub confusion: Confusion,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// 95 % confidence interval of the area (DeLong).
    pub auc_interval: Option<Interval>,
    /// Average precision of "negative".
    pub average_precision: Option<f64>,
    /// How well the scores are calibrated.
    pub reliability: Option<Reliability>,
}

impl Metrics {
    /// Compares pairs of score and label (`true` is negative).
    pub fn of(pairs: &[(Probability, bool)], threshold: Probability) -> Self {
        let mut confusion = Confusion::default();
        for (score, negative) in pairs {
            let count = match (*negative, *score >= threshold) {
                (true, true) => &mut confusion.negative_found,
                (true, false) => &mut confusion.negative_missed,
                (false, false) => &mut confusion.positive_found,
                (false, true) => &mut confusion.positive_missed,
            };
            *count += 1;
        }
        let (auc, auc_interval) = intervals::auc(pairs).unzip();
        Self {
            confusion,
            auc,
            auc_interval: auc_interval.flatten(),
            average_precision: PrecisionRecall::of(pairs).map(|it| it.average_precision),
            reliability: Reliability::of(pairs),
        }
    }

    /// Share of rows with the right predicted class.
    pub fn accuracy(&self) -> Option<f64> {
        let c = self.confusion;
        share(c.negative_found + c.positive_found, self.rows())
    }

    /// 95 % confidence interval of the accuracy (Wilson).
    pub fn accuracy_interval(&self) -> Option<Interval> {
        let c = self.confusion;
        intervals::of_share(c.negative_found + c.positive_found, self.rows())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        let c = self.confusion;
        c.negative_found + c.negative_missed + c.positive_found + c.positive_missed
    }

    /// Figures of the negative class.
    pub fn negative(&self) -> ClassFigures {
        let c = self.confusion;
        class(c.negative_found, c.negative_missed, c.positive_missed)
    }

    /// Figures of the positive class.
    pub fn positive(&self) -> ClassFigures {
        let c = self.confusion;
        class(c.positive_found, c.positive_missed, c.negative_missed)
    }

    /// All defined figures by name, rounded to four decimals.
    pub fn figures(&self) -> BTreeMap<String, f64> {
        let (n, p, c) = (self.negative(), self.positive(), self.confusion);
        let count = |n: usize| Some(n as f64);
        let (accuracy, auc) = (self.accuracy_interval(), self.auc_interval);
        [
            ("rows", count(self.rows())),
            ("accuracy", self.accuracy()),
            ("accuracy_low", accuracy.map(|interval| interval.low)),
            ("accuracy_high", accuracy.map(|interval| interval.high)),
            ("roc_auc", self.auc),
            ("roc_auc_low", auc.map(|interval| interval.low)),
            ("roc_auc_high", auc.map(|interval| interval.high)),
            ("average_precision", self.average_precision),
            ("calibration_error", self.reliability.map(|c| c.error)),
            ("brier", self.reliability.map(|c| c.brier)),
            ("log_loss", self.reliability.map(|c| c.log_loss)),
            ("negative_precision", n.precision),
            ("negative_recall", n.recall),
            ("negative_f1", n.f1),
            ("positive_precision", p.precision),
            ("positive_recall", p.recall),
            ("positive_f1", p.f1),
            ("negative_found", count(c.negative_found)),
            ("negative_missed", count(c.negative_missed)),
            ("positive_found", count(c.positive_found)),
            ("positive_missed", count(c.positive_missed)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), (value? * 1e4).round() / 1e4)))
        .collect()
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn class(found: usize, missed: usize, wrong: usize) -> ClassFigures {
    ClassFigures {
        precision: share(found, found + wrong),
        recall: share(found, found + missed),
        f1: share(2 * found, 2 * found + wrong + missed),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::pairs;
    use super::*;

    #[test]
    fn matches_hand_computed_values() {
        // Sorted by score: 0.1 P, 0.4 N, 0.5 P, 0.8 N, 0.8 P, 0.9 N.
        let rows =
            [(0.9, true), (0.8, true), (0.4, true), (0.1, false), (0.5, false), (0.8, false)];
        let found = Metrics::of(&pairs(&rows), Probability::new(0.5).unwrap());
        let expected = Confusion {
            negative_found: 2,
            negative_missed: 1,
            positive_found: 1,
            positive_missed: 2,
        };
        assert_eq!(found.confusion, expected);
        let check = |name, found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{name}: {found:?}");
        };
        check("accuracy", found.accuracy(), 3.0 / 6.0);
        check("precision", found.negative().precision, 2.0 / 4.0);
        check("recall", found.negative().recall, 2.0 / 3.0);
        check("f1", found.negative().f1, 4.0 / 7.0);
        check("positive precision", found.positive().precision, 1.0 / 2.0);
        check("positive recall", found.positive().recall, 1.0 / 3.0);
        // Nine pairs: 0.9 wins 3; 0.8 wins 2 and ties 1; 0.4 wins 1.
        check("auc", found.auc, 6.5 / 9.0);
        let figures = found.figures();
        assert_eq!(figures["roc_auc"], 0.7222);
        assert_eq!((figures["accuracy_low"], figures["accuracy_high"]), (0.1876, 0.8124));
        // (0.1 + 0.2 + 0.6)^2 etc.: 0.01 + 0.04 + 0.36 + 0.01 + 0.25 + 0.64, over 6.
        assert_eq!(figures["brier"], 0.2183);
    }

    #[test]
    fn undefined_figures_are_absent() {
        let half = Probability::new(0.5).unwrap();
        let none = Metrics::of(&[], half);
        assert_eq!((none.accuracy(), none.auc), (None, None));
        assert!(!none.figures().contains_key("accuracy"));
        let one = Metrics::of(&pairs(&[(0.2, false), (0.3, false)]), half);
        assert_eq!((one.accuracy(), one.auc, one.negative().recall), (Some(1.0), None, None));
        let perfect = Metrics::of(&pairs(&[(0.2, false), (0.9, true)]), half);
        assert_eq!((perfect.accuracy(), perfect.auc), (Some(1.0), Some(1.0)));
    }
}
