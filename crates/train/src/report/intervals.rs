//! 95 % confidence intervals of measured figures.
//!
//! **Invariant.** Closed formulas, no resampling; tests compare them with scipy and with a
//! bootstrap. They cover only the chance in drawing the rows, not rows of another time or other
//! authors. Deliberately absent: other confidence levels.

use monitor_core::domain::{Interval, Probability};
use monitor_core::stats::{Z_95, wilson};

/// Interval of a share of `part` in `whole` rows (Wilson); `None` without rows.
pub(super) fn of_share(part: usize, whole: usize) -> Option<Interval> {
    (whole > 0).then(|| wilson(part as f64 / whole as f64, whole as f64))
}

fn around(value: f64, standard_error: f64) -> Interval {
    let half = Z_95 * standard_error;
    Interval { low: (value - half).max(0.0), high: (value + half).min(1.0) }
}

/// Interval of the mean of the recalls of classes, each given with its rows; the recalls are
/// independent shares. `None` if a class has no row.
pub(super) fn of_macro_recall(recalls: &[(f64, usize)]) -> Option<Interval> {
    let count = recalls.len() as f64;
    let mut variance = 0.0;
    for (recall, rows) in recalls {
        if *rows == 0 {
            return None;
        }
        variance += recall * (1.0 - recall) / *rows as f64;
    }
    let mean = recalls.iter().map(|(recall, _)| recall).sum::<f64>() / count;
    Some(around(mean, variance.sqrt() / count))
}

/// The mean of values of independent rows, and its interval by the normal approximation. No
/// interval with fewer than two rows.
pub(super) fn of_mean(values: impl Iterator<Item = f64>) -> (f64, Option<Interval>) {
    let mut spread = Spread::default();
    values.for_each(|value| spread.add(value, 1));
    let mean = spread.mean();
    let interval = spread.variance_of_mean().map(|variance| {
        let half = Z_95 * variance.sqrt();
        Interval { low: mean - half, high: mean + half }
    });
    (mean, interval)
}

/// Area under the ROC curve: the probability that a negative row scores above a positive
/// one, ties counted half (Mann and Whitney 1947). `None` if one class is missing.
///
/// Its interval is that of DeLong, DeLong and Clarke-Pearson 1988, computed from ranks
/// (Sun and Xu 2014): for each row, the share of the other class's rows that it is
/// ranked correctly against; the variance of these shares gives the variance of the area. The
/// interval is absent if the shares do not vary: a perfect area of a few rows is not certain.
pub(super) fn auc(pairs: &[(Probability, bool)]) -> Option<(f64, Option<Interval>)> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.get().total_cmp(&b.0.get()));
    let negatives = sorted.iter().filter(|(_, negative)| *negative).count();
    let positives = sorted.len() - negatives;
    if negatives == 0 || positives == 0 {
        return None;
    }
    let (mut of_negatives, mut of_positives) = (Spread::default(), Spread::default());
    let (mut negatives_below, mut positives_below) = (0, 0);
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let negatives_tied = tie.iter().filter(|(_, negative)| *negative).count();
        let positives_tied = tie.len() - negatives_tied;
        let above_positives = positives_below as f64 + positives_tied as f64 / 2.0;
        let above_negatives = negatives_below as f64 + negatives_tied as f64 / 2.0;
        of_negatives.add(above_positives / positives as f64, negatives_tied);
        of_positives.add(1.0 - above_negatives / negatives as f64, positives_tied);
        negatives_below += negatives_tied;
        positives_below += positives_tied;
    }
    let area = of_negatives.mean();
    let interval = of_negatives
        .variance_of_mean()
        .zip(of_positives.variance_of_mean())
        .map(|(a, b)| a + b)
        .filter(|variance| *variance > 0.0)
        .map(|variance| around(area, variance.sqrt()));
    Some((area, interval))
}

/// Mean and variance of values that come in groups (Welford 1962).
#[derive(Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64, count: usize) {
        if count == 0 {
            return;
        }
        let count = count as f64;
        let step = value - self.mean;
        self.squares += step * step * count * self.count / (self.count + count);
        self.count += count;
        self.mean += step * count / self.count;
    }

    fn mean(&self) -> f64 {
        self.mean
    }

    fn variance_of_mean(&self) -> Option<f64> {
        (self.count > 1.0).then(|| self.squares / (self.count - 1.0) / self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{expected, pairs, scored};
    use super::*;

    fn close(name: &str, found: Option<Interval>, (low, high): (f64, f64), tolerance: f64) {
        let found = found.unwrap_or_else(|| panic!("{name}: no interval"));
        let off = (found.low - low).abs().max((found.high - high).abs());
        assert!(off < tolerance, "{name}: {found:?}, and not {low} to {high}");
    }

    #[test]
    fn wilson_agrees_with_scipy() {
        let check = |name: &str, part, whole, ends| {
            close(name, of_share(part, whole), ends, 1e-9);
        };
        // binomtest(part, whole).proportion_ci(0.95, "wilson")
        let of_fixture = expected().accuracy_wilson;
        check("the fixture's", expected().right, 400, of_fixture);
        check("none of ten", 0, 10, (0.0, 0.277_532_799_862_889_26));
        check("all of ten", 10, 10, (0.722_467_200_137_110_9, 1.0));
        check("one of one", 1, 1, (0.206_549_314_377_237_45, 1.0));
        assert_eq!(of_share(0, 0), None);
    }

    #[test]
    fn auc_interval_agrees_with_delong_and_a_bootstrap() {
        let (area, interval) = auc(&scored()).unwrap();
        let expected = expected();
        assert!((area - expected.roc_auc).abs() < 1e-12, "{area}");
        close("by the definition", interval, expected.roc_auc_delong, 1e-9);
        close("20,000 bootstrap samples", interval, expected.roc_auc_bootstrap, 0.003);
    }

    #[test]
    fn mean_agrees_with_scipy() {
        // scipy.stats.norm.interval(0.95, np.mean(x), scipy.stats.sem(x))
        let (mean, interval) = of_mean([0.1, -0.3, 0.5, 0.9].into_iter());
        assert!((mean - 0.3).abs() < 1e-12);
        close("four", interval, (-0.206_060_524_9, 0.806_060_524_9), 1e-6);
        assert_eq!(of_mean([2.0].into_iter()), (2.0, None));
    }

    #[test]
    fn no_interval_where_nothing_varies() {
        let check = |name: &str, rows: &[(f32, bool)], expected: Option<(f64, bool)>| {
            let found = auc(&pairs(rows)).map(|(area, interval)| (area, interval.is_some()));
            assert_eq!(found, expected, "{name}");
        };
        check("nothing", &[], None);
        check("one class", &[(0.1, true), (0.2, true)], None);
        check("one of each", &[(0.1, false), (0.2, true)], Some((1.0, false)));
        check(
            "perfect",
            &[(0.1, false), (0.2, false), (0.8, true), (0.9, true)],
            Some((1.0, false)),
        );
        check(
            "one pair the wrong way",
            &[(0.1, false), (0.8, false), (0.7, true), (0.9, true)],
            Some((0.75, true)),
        );
    }
}
