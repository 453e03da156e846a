//! Whether one model is better than another on the same rows.

use serde::Serialize;

use monitor_core::domain::{Interval, Label, LabelThresholds};
use monitor_core::stats::paired_difference;

use crate::data::Row;
use crate::fit::Prediction;

/// Macro recall (the mean of the recalls of the labels that occur) of two models on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedRecall {
    /// Number of rows.
    pub rows: usize,
    /// Of the model in force.
    pub current: f64,
    /// Of the other one.
    pub new: f64,
    /// 95 % interval of `new - current`.
    pub interval: Interval,
}

impl PairedRecall {
    /// Compares two models; each has its thresholds and its prediction of each row. `None` unless there
    /// are rows of two labels.
    ///
    /// The rows of a label are matched pairs: only those count that one model alone has right. The
    /// interval adds half a row to each kind of pair (Agresti and Min 2005) for each label, and the
    /// variances of the labels.
    pub fn of(
        rows: &[&Row],
        (current, current_thresholds): (&[Prediction], LabelThresholds),
        (new, new_thresholds): (&[Prediction], LabelThresholds),
    ) -> Option<Self> {
        let (mut labels, mut recalls) = (0.0, [0.0; 2]);
        let (mut middle, mut variance) = (0.0, 0.0);
        for label in Label::ALL {
            let (mut count, mut right, mut gained, mut lost) = (0, [0; 2], 0, 0);
            for ((row, old), new) in rows.iter().zip(current).zip(new) {
                if row.label != label {
                    continue;
                }
                let is_right = [
                    old.predicted(current_thresholds, row.classes) == label,
                    new.predicted(new_thresholds, row.classes) == label,
                ];
                count += 1;
                right.iter_mut().zip(is_right).for_each(|(sum, it)| *sum += u64::from(it));
                gained += u64::from(is_right == [false, true]);
                lost += u64::from(is_right == [true, false]);
            }
            if count == 0 {
                continue;
            }
            labels += 1.0;
            recalls.iter_mut().zip(right).for_each(|(sum, it)| *sum += it as f64 / count as f64);
            let (_, Interval { low, high }) = paired_difference(count, gained, lost);
            middle += f64::midpoint(low, high);
            variance += ((high - low) / 2.0).powi(2);
        }
        let half = variance.sqrt() / labels;
        let middle = middle / labels;
        let interval = Interval { low: middle - half, high: middle + half };
        let [current, new] = recalls.map(|sum| sum / labels);
        (labels > 1.0).then_some(Self { rows: rows.len(), current, new, interval })
    }

    /// Whether the new model is better beyond chance.
    pub fn is_better(&self) -> bool {
        self.interval.low > 0.0
    }
}

impl std::fmt::Display for PairedRecall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, current, new, interval } = self;
        write!(
            f,
            "macro recall {new:.4}, was {current:.4}: {:+.2} points, 95 % {:+.2} to {:+.2}, on {rows} \
             rows that neither learned from",
            100.0 * (new - current),
            100.0 * interval.low,
            100.0 * interval.high
        )
    }
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Classes, Probabilities, Probability};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn half() -> LabelThresholds {
        Probability::HALF.into()
    }

    fn prediction(label: Label, said: Label) -> Prediction {
        let (negative, neutral) = match said {
            Label::Negative => (0.8, 0.1),
            Label::Neutral => (0.1, 0.8),
            Label::Positive => (0.1, 0.1),
        };
        Prediction { probabilities: Probabilities::new(negative, neutral).unwrap(), label }
    }

    fn row(label: Label) -> Row {
        Row { classes: Classes::Three, ..Row::new(label, "text") }
    }

    #[test]
    fn only_rows_on_which_the_models_differ_count() {
        use Label::{Negative, Neutral, Positive};
        // Label, what the old model says, what the new one says, number of rows.
        let kinds = [
            (Negative, Negative, Negative, 60),
            (Negative, Positive, Negative, 30),
            (Negative, Negative, Neutral, 10),
            (Positive, Positive, Positive, 150),
            (Positive, Neutral, Positive, 50),
        ];
        let (mut rows, mut old, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (label, by_old, by_new, count) in kinds {
            for _ in 0..count {
                rows.push(row(label));
                old.push(prediction(label, by_old));
                new.push(prediction(label, by_new));
            }
        }
        let rows: Vec<&Row> = rows.iter().collect();
        let found = PairedRecall::of(&rows, (&old, half()), (&new, half())).unwrap();
        assert_eq!(found.rows, 300);
        assert!((found.current - (0.7 + 0.75) / 2.0).abs() < 1e-9, "{found:?}");
        assert!((found.new - (0.9 + 1.0) / 2.0).abs() < 1e-9, "{found:?}");
        assert!(found.is_better() && found.interval.high < 0.31, "{found:?}");
        assert!(found.to_string().starts_with("macro recall 0.9500, was 0.7250: +22.50 points"));
        let same = PairedRecall::of(&rows, (&old, half()), (&old, half())).unwrap();
        assert!(!same.is_better() && same.interval.low < 0.0, "{same:?}");
        assert_eq!(
            PairedRecall::of(&rows[..90], (&old, half()), (&new, half())),
            None,
            "one label"
        );
    }

    #[test]
    fn the_interval_covers_the_true_difference() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let (mut covered, mut better) = (0, 0);
        const ROUNDS: usize = 1000;
        for _ in 0..ROUNDS {
            let (mut rows, mut old, mut new) = (Vec::new(), Vec::new(), Vec::new());
            for n in 0..240 {
                let label = Label::ALL[n % 5 % 3];
                // Both models are right in 70 % of the cases, in half of them by the same reasons.
                let mut is_right = || random.random::<f64>() < 0.7;
                let (shared, of_old, of_new) = (is_right(), is_right(), is_right());
                let wrong = if label == Label::Neutral { Label::Negative } else { Label::Neutral };
                let by = |own: bool| if own { label } else { wrong };
                let is_shared = n % 2 == 0;
                rows.push(row(label));
                old.push(prediction(label, by(if is_shared { shared } else { of_old })));
                new.push(prediction(label, by(if is_shared { shared } else { of_new })));
            }
            let rows: Vec<&Row> = rows.iter().collect();
            let found = PairedRecall::of(&rows, (&old, half()), (&new, half())).unwrap();
            covered += usize::from(found.interval.low <= 0.0 && found.interval.high >= 0.0);
            better += usize::from(found.is_better());
        }
        assert!((930..=975).contains(&covered), "{covered} of {ROUNDS}");
        assert!((8..=40).contains(&better), "equal models are called better by chance: {better}");
    }
}
