//! Fits a temperature and a threshold on rows that the model has not learned from.
//!
//! **Invariant.** What is reported was measured on other rows than those that were fitted
//! on. Deliberately absent: Platt's shift; the threshold does its work.

use monitor_core::domain::Probability;
use monitor_model::Calibration;

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
pub(crate) fn temperature(pairs: &[Pair]) -> f32 {
    let loss = |log: f64| {
        let calibration = Calibration { temperature: log.exp() as f32, threshold: 0.5 };
        let row = |(score, negative): &Pair| {
            let p = f64::from(calibration.apply(*score).get());
            -(if *negative { p } else { 1.0 - p }).max(1e-12).ln()
        };
        pairs.iter().map(row).sum::<f64>()
    };
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-LOG_TEMPERATURE_MAX, LOG_TEMPERATURE_MAX);
    for _ in 0..SEARCH_STEPS {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    ((low + high) / 2.0).exp() as f32
}

/// The same pairs, calibrated.
pub(crate) fn apply(pairs: &[Pair], calibration: Calibration) -> Vec<Pair> {
    pairs.iter().map(|(score, negative)| (calibration.apply(*score), *negative)).collect()
}

#[cfg(test)]
mod tests {
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
    fn finds_the_temperature_that_spoiled_the_scores() {
        for expected in [0.4f32, 1.0, 3.0] {
            let mut rows = Vec::new();
            for percent in 1..100u16 {
                // `percent` of a hundred rows are negative; their score is too sure by `expected`.
                let true_score = Probability::new(f32::from(percent) / 100.0).unwrap();
                let spoil = Calibration { temperature: 1.0 / expected, threshold: 0.5 };
                let score = spoil.apply(true_score);
                rows.extend((0..100).map(|n| (score, n < percent)));
            }
            let found = temperature(&rows);
            assert!((found / expected - 1.0).abs() < 0.01, "{expected}: {found}");
        }
    }
}
