//! Calibration of scores: of the tweets scored 0.7, are seven in ten negative?
//!
//! **Invariant.** Computed from the probability of "negative", independent of any
//! threshold. Deliberately absent: improving the calibration; a manifest's temperature does that.

use monitor_core::domain::Probability;

/// Bins of equal width from 0 to 1, as in Guo et al. 2017.
const BINS: usize = 15;
/// Scores are kept at least this far from 0 and 1 before taking logarithms: the precision of
/// `f32`, as in scikit-learn's `log_loss`.
const NEAREST: f64 = f32::EPSILON as f64;

/// Measures of calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reliability {
    /// Expected calibration error: over the bins, the mean of |mean score − share of
    /// negatives|, weighted by rows. Guo et al. 2017 bin the score of the predicted class
    /// (0.5 to 1). Here the score of "negative" is binned (0 to 1), as in Naeini et al. 2015, so
    /// errors of the two classes do not cancel.
    pub error: f64,
    /// Mean squared distance (Brier 1950).
    pub brier: f64,
    /// Mean cross-entropy, in nats.
    pub log_loss: f64,
}

impl Reliability {
    /// The measures of pairs of score and label (`true` is negative); `None` without rows.
    pub fn of(pairs: &[(Probability, bool)]) -> Option<Self> {
        let rows = pairs.len() as f64;
        let mean = |of_row: fn(f64, f64) -> f64| {
            let each = pairs.iter().map(|(score, negative)| {
                of_row(f64::from(score.get()), f64::from(u8::from(*negative)))
            });
            each.sum::<f64>() / rows
        };
        (!pairs.is_empty()).then(|| Self {
            error: bins(pairs)
                .iter()
                .map(|bin| bin.rows as f64 / rows * (bin.score_mean - bin.negative_share).abs())
                .sum(),
            brier: mean(|score, truth| (score - truth).powi(2)),
            log_loss: mean(|score, truth| {
                let score = score.clamp(NEAREST, 1.0 - NEAREST);
                -(truth * score.ln() + (1.0 - truth) * (1.0 - score).ln())
            }),
        })
    }
}

/// Rows whose scores fall into one bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bin {
    /// Number of rows; never 0.
    pub(super) rows: usize,
    /// Number of negative rows.
    pub(super) negatives: usize,
    /// Mean of the scores.
    pub(super) score_mean: f64,
    /// Share of rows that are negative.
    pub(super) negative_share: f64,
}

/// The non-empty bins, ascending by score.
pub(super) fn bins(pairs: &[(Probability, bool)]) -> Vec<Bin> {
    let mut sums = [(0_usize, 0_usize, 0.0); BINS];
    for (score, negative) in pairs {
        let score = f64::from(score.get());
        let (rows, negatives, scores) = &mut sums[((score * BINS as f64) as usize).min(BINS - 1)];
        *rows += 1;
        *negatives += usize::from(*negative);
        *scores += score;
    }
    (sums.into_iter().filter(|(rows, ..)| *rows > 0))
        .map(|(rows, negatives, scores)| Bin {
            rows,
            negatives,
            score_mean: scores / rows as f64,
            negative_share: negatives as f64 / rows as f64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{expected, pairs, scored};
    use super::*;

    #[test]
    fn agrees_with_scikit_learn() {
        let (found, expected) = (Reliability::of(&scored()).unwrap(), expected());
        let check = |name: &str, found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-6, "{name}: {found}, and not {expected}");
        };
        check("calibration error", found.error, expected.calibration_error);
        check("brier", found.brier, expected.brier);
        check("log loss", found.log_loss, expected.log_loss);
        assert_eq!(Reliability::of(&[]), None);
    }

    #[test]
    fn calibration_error_matches_hand_computed_value() {
        let check = |name: &str, rows: &[(f32, bool)], expected: f64| {
            let found = Reliability::of(&pairs(rows)).unwrap().error;
            assert!((found - expected).abs() < 1e-7, "{name}: {found}");
        };
        check("sure and right", &[(0.0, false), (1.0, true)], 0.0);
        check("sure and wrong", &[(0.0, true), (1.0, false)], 1.0);
        check("one half, half negative", &[(0.5, true), (0.5, false)], 0.0);
        // Bin of 0.2: |0.2 - 1/3| of three rows; bin of 0.9: |0.9 - 1| of one.
        check(
            "two bins",
            &[(0.2, true), (0.2, false), (0.2, false), (0.9, true)],
            0.75 * (1.0 / 3.0 - 0.2) + 0.25 * 0.1,
        );
    }
}
