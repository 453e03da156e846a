//! Fits a temperature and a threshold on rows that the model has not learned from.
//!
//! **Invariant.** What is reported was measured on other rows than those that were fitted
//! on. Deliberately absent: Platt's shift; the threshold does its work.

use monitor_core::domain::{Classes, Label, LabelThresholds, Probability};
use monitor_model::{BinaryCalibration, Calibration};

use super::Prediction;

/// Score and label (`true` is negative).
pub(crate) type Pair = (Probability, bool);

/// Temperatures that are tried, as powers of e.
const LOG_TEMPERATURE_MAX: f64 = 2.5;
/// Golden-section search ends after this many steps; each takes off 38 %.
const SEARCH_STEPS: usize = 40;

/// What a threshold is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// As many right as possible: for rows whose classes stand in their true proportion.
    Accuracy,
    /// The mean of both classes' recall (Youden 1950), whatever their proportion.
    BalancedAccuracy,
}

/// Temperature, then threshold, of one binary decision.
pub(crate) fn binary(pairs: &[Pair], goal: Goal) -> BinaryCalibration {
    let calibration = BinaryCalibration { temperature: temperature(pairs), threshold: 0.5 };
    let pairs: Vec<Pair> =
        pairs.iter().map(|(score, label)| (calibration.apply(*score), *label)).collect();
    BinaryCalibration { threshold: threshold(&pairs, goal), ..calibration }
}

/// The calibration of a model of three classes on rows of three classes. The temperatures have
/// the least cross-entropy. The threshold of negative, in hundredths, calls as many rows negative
/// as are negative, because the share of negative tweets is what the detector and people look
/// at; that of positive has the greatest macro recall, the mean of the recalls of the classes.
pub(crate) fn three_classes(rows: &[Prediction]) -> Calibration {
    let negative: Vec<Pair> = rows.iter().map(|row| row.negative_or_not(Classes::Three)).collect();
    let others = rows.iter().filter(|row| row.label != Label::Negative);
    let positive: Vec<Pair> = others
        .map(|row| (row.probabilities.positive_among_others(), row.label == Label::Positive))
        .collect();
    let scaled = |pairs: &[Pair]| BinaryCalibration {
        temperature: temperature(pairs),
        ..BinaryCalibration::NONE
    };
    let (negative, mut positive) = (scaled(&negative), scaled(&positive));
    let temperatures =
        Calibration { temperature: negative.temperature, threshold: 0.5, positive: Some(positive) };
    let rows: Vec<Prediction> = (rows.iter())
        .map(|row| Prediction { probabilities: temperatures.apply(row.probabilities), ..*row })
        .collect();
    let hundredths = || (1..100u16).map(|hundredth| f32::from(hundredth) / 100.0);
    let is_negative = rows.iter().filter(|row| row.label == Label::Negative).count();
    let called = |threshold: f32| {
        rows.iter().filter(|row| row.probabilities.negative().get() >= threshold).count()
    };
    let first_least = |value: &dyn Fn(f32) -> f64| {
        hundredths().min_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap_or(0.5)
    };
    let threshold = first_least(&|threshold| called(threshold).abs_diff(is_negative) as f64);
    positive.threshold = first_least(&|positive| -macro_recall(&rows, threshold, positive));
    Calibration { threshold, positive: Some(positive), ..temperatures }
}

/// The mean of the recalls of the classes that occur.
fn macro_recall(rows: &[Prediction], negative: f32, positive: f32) -> f64 {
    let probability = |it| Probability::new(it).expect("hundredths below one");
    let thresholds =
        LabelThresholds { negative: probability(negative), positive: probability(positive) };
    let (mut right, mut all) = ([0.0f64; 3], [0.0f64; 3]);
    for row in rows {
        all[row.label as usize] += 1.0;
        right[row.label as usize] +=
            f64::from(u8::from(thresholds.label(row.probabilities) == row.label));
    }
    let classes: Vec<f64> = right
        .iter()
        .zip(all)
        .filter(|(_, all)| *all > 0.0)
        .map(|(right, all)| right / all)
        .collect();
    classes.iter().sum::<f64>() / classes.len().max(1) as f64
}

/// The hundredth at which `goal` is met best; of equals the one nearest to one half.
pub(crate) fn threshold(pairs: &[Pair], goal: Goal) -> f32 {
    let negatives = pairs.iter().filter(|(_, negative)| *negative).count().max(1) as f64;
    let positives = (pairs.len() as f64 - negatives).max(1.0);
    let value = |hundredth: usize| {
        let threshold = hundredth as f32 / 100.0;
        let right = |class: bool| {
            let right = |(score, negative): &&Pair| {
                *negative == class && (score.get() >= threshold) == class
            };
            pairs.iter().filter(right).count() as f64
        };
        match goal {
            Goal::Accuracy => right(true) + right(false),
            Goal::BalancedAccuracy => right(true) / negatives + right(false) / positives,
        }
    };
    let mut best = (50, value(50));
    for away in 1..=49 {
        for hundredth in [50 - away, 50 + away] {
            let value = value(hundredth);
            if value > best.1 {
                best = (hundredth, value);
            }
        }
    }
    best.0 as f32 / 100.0
}

/// The temperature with the least cross-entropy (Guo et al. 2017).
fn temperature(pairs: &[Pair]) -> f32 {
    let loss = |log: f64| {
        let calibration = BinaryCalibration { temperature: log.exp() as f32, threshold: 0.5 };
        let row = |(score, negative): &Pair| {
            let p = f64::from(calibration.apply(*score).get());
            -(if *negative { p } else { 1.0 - p }).max(1e-12).ln()
        };
        pairs.iter().map(row).sum::<f64>()
    };
    best_log_temperature(loss).exp() as f32
}

/// The logarithm of the temperature at which `loss`, a function of that logarithm, is least.
pub(crate) fn best_log_temperature(loss: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-LOG_TEMPERATURE_MAX, LOG_TEMPERATURE_MAX);
    for _ in 0..SEARCH_STEPS {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Probabilities;

    use super::*;

    fn pairs(rows: &[(f32, bool)]) -> Vec<Pair> {
        rows.iter().map(|(score, label)| (Probability::new(*score).unwrap(), *label)).collect()
    }

    #[test]
    fn thresholds() {
        let check = |name: &str, goal, rows: &[(f32, bool)], expected: f32| {
            assert_eq!(threshold(&pairs(rows), goal), expected, "{name}");
        };
        check("one half will do", Goal::Accuracy, &[(0.2, false), (0.7, true)], 0.5);
        check("lower", Goal::Accuracy, &[(0.205, false), (0.305, true), (0.4, true)], 0.30);
        check("higher", Goal::Accuracy, &[(0.605, false), (0.705, true)], 0.61);
        check("nothing", Goal::Accuracy, &[], 0.5);
        // Five positives, one of them above the only negative.
        let leaning =
            [(0.1, false), (0.1, false), (0.1, false), (0.1, false), (0.45, false), (0.405, true)];
        check("accuracy lets the rare class go", Goal::Accuracy, &leaning, 0.5);
        check("balance does not", Goal::BalancedAccuracy, &leaning, 0.40);
    }

    #[test]
    fn thresholds_of_three_classes() {
        let row = |negative, neutral, label| Prediction {
            probabilities: Probabilities::new(negative, neutral).unwrap(),
            label,
        };
        use Label::*;
        // All negative rows lie above 0.2, all positive ones above a third of the rest.
        let mut rows = Vec::new();
        for n in 0..50u8 {
            let small = f32::from(n) / 1e3;
            rows.push(row(0.25 + small, 0.4, Negative));
            rows.push(row(0.1 + small, 0.5 - small, Positive));
            rows.push(row(0.1 + small, 0.8 - small, Neutral));
        }
        let found = three_classes(&rows);
        let thresholds = found.thresholds().unwrap();
        for row in &rows {
            let label = thresholds.label(found.apply(row.probabilities));
            assert_eq!(label, row.label, "{row:?} {found:?}");
        }
    }

    #[test]
    fn finds_the_temperature_that_spoiled_the_scores() {
        for expected in [0.4f32, 1.0, 3.0] {
            let mut rows = Vec::new();
            for percent in 1..100u16 {
                // `percent` of a hundred rows are negative; their score is too sure by `expected`.
                let true_score = Probability::new(f32::from(percent) / 100.0).unwrap();
                let spoil = BinaryCalibration { temperature: 1.0 / expected, threshold: 0.5 };
                let score = spoil.apply(true_score);
                rows.extend((0..100).map(|n| (score, n < percent)));
            }
            let found = temperature(&rows);
            assert!((found / expected - 1.0).abs() < 0.01, "{expected}: {found}");
        }
    }
}
