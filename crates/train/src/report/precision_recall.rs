//! Precision and recall of "negative" at every threshold.
//!
//! **Invariant.** Average precision is that of scikit-learn: the sum over thresholds of the
//! precision times the recall gained, without interpolation (Manning, Raghavan and Schütze,
//! "Introduction to Information Retrieval", section 8.4). Rows of one score count together.
//! Deliberately absent: other classes.

use serde::Serialize;

use monitor_core::domain::Probability;

/// Most points of a curve that are kept; more would not be visible.
const POINTS_MAX: usize = 200;

/// The curve and its average.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrecisionRecall {
    /// Average precision, from the share of negative rows (chance) to 1.
    pub average_precision: f64,
    /// Points by falling threshold, evenly thinned out to 200.
    pub points: Vec<PrecisionRecallPoint>,
}

/// What calling rows negative from a threshold upwards finds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PrecisionRecallPoint {
    /// The threshold.
    pub threshold: f64,
    /// Share of the rows called negative that are.
    pub precision: f64,
    /// Share of the negative rows that are called so.
    pub recall: f64,
}

impl PrecisionRecall {
    /// Of pairs of score and label (`true` is negative); `None` without a negative row.
    pub fn of(pairs: &[(Probability, bool)]) -> Option<Self> {
        let all = points(pairs)?;
        let mut before = 0.0;
        let mut average_precision = 0.0;
        for point in &all {
            average_precision += (point.recall - before) * point.precision;
            before = point.recall;
        }
        let step = all.len().div_ceil(POINTS_MAX).max(1);
        let last = all.len() - 1;
        let kept = all.into_iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last);
        Some(Self { average_precision, points: kept.map(|(_, point)| point).collect() })
    }
}

fn points(pairs: &[(Probability, bool)]) -> Option<Vec<PrecisionRecallPoint>> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.get().total_cmp(&a.0.get()));
    let negatives = sorted.iter().filter(|(_, negative)| *negative).count();
    let (mut called, mut found) = (0, 0);
    let point = |tie: &[(Probability, bool)]| {
        called += tie.len();
        found += tie.iter().filter(|(_, negative)| *negative).count();
        PrecisionRecallPoint {
            threshold: f64::from(tie[0].0.get()),
            precision: found as f64 / called as f64,
            recall: found as f64 / negatives as f64,
        }
    };
    (negatives > 0).then(|| sorted.chunk_by(|a, b| a.0 == b.0).map(point).collect())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{pairs, scored};
    use super::*;

    #[test]
    fn matches_hand_computed_values() {
        // By score: 0.9 N, 0.8 N and P, 0.5 P, 0.4 N, 0.1 P.
        let rows =
            [(0.9, true), (0.8, true), (0.4, true), (0.1, false), (0.5, false), (0.8, false)];
        let found = PrecisionRecall::of(&pairs(&rows)).unwrap();
        let curve: Vec<_> = found.points.iter().map(|it| (it.precision, it.recall)).collect();
        let (third, two_thirds) = (1.0 / 3.0, 2.0 / 3.0);
        let expected =
            [(1.0, third), (two_thirds, two_thirds), (0.5, two_thirds), (0.6, 1.0), (0.5, 1.0)];
        assert_eq!(curve, expected);
        // 1/3 at 1, 1/3 at 2/3, 1/3 at 3/5.
        let average = (1.0 + 2.0 / 3.0 + 0.6) / 3.0;
        assert!((found.average_precision - average).abs() < 1e-12, "{found:?}");
        assert_eq!(PrecisionRecall::of(&pairs(&[(0.9, false)])), None);
    }

    #[test]
    fn agrees_with_python_and_keeps_few_points() {
        // What average_precision_score's formula gives in Python for the fixture's 400 rows.
        let found = PrecisionRecall::of(&scored()).unwrap();
        assert!((found.average_precision - 0.833_611_05).abs() < 1e-6, "{found:?}");
        let many: Vec<(f32, bool)> =
            (0..10_000).map(|n| (n as f32 / 10_000.0, n % 3 == 0)).collect();
        let found = PrecisionRecall::of(&pairs(&many)).unwrap();
        assert!((100..=201).contains(&found.points.len()), "{}", found.points.len());
        assert_eq!(found.points.last().unwrap().recall, 1.0);
    }
}
