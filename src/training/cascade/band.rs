//! Where a cheap model may be trusted: the band of its probabilities outside which it answers.
//!
//! **Invariant.** On the rows fitted on, the loss of accuracy plus one standard error of it
//! is at most the one allowed: one standard error for chance, as in Breiman et al. 1984; two
//! bounds that were chosen to look well need it. Deliberately absent: bounds on the wrong side
//! of the cheap model's threshold.

/// Standard errors that are kept in hand.
const STANDARD_ERRORS: f64 = 1.0;
/// Places of a bound that are tried; with fewer rows, all of them.
const PLACES_MAX: usize = 512;

/// A row with its label, as far as a band depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judged {
    /// The cheap model's probability.
    pub(super) cheap: f32,
    /// Right answers lost (1), gained (-1) or neither (0) against the costly model alone where
    /// the cheap one answers.
    pub(super) answered: i8,
    /// The same where the row is escalated.
    pub(super) escalated: i8,
}

/// Rows from `low` to `high`, both included, are escalated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    pub(super) low: f32,
    pub(super) high: f32,
    /// Rows in it.
    pub(super) rows: usize,
}

/// Sums over the first rows of an order.
#[derive(Clone, Copy, Default)]
struct Sums {
    losses: i64,
    squares: i64,
}

impl Sums {
    fn add(self, loss: i8) -> Self {
        let loss = i64::from(loss);
        Self { losses: self.losses + loss, squares: self.squares + loss * loss }
    }

    fn before(losses: impl Iterator<Item = i8>) -> Vec<Self> {
        let mut sums = vec![Self::default()];
        for loss in losses {
            sums.push(sums[sums.len() - 1].add(loss));
        }
        sums
    }

    /// Sums of all rows where those from place `low` up to `high` are escalated.
    fn of(answered: &[Self], escalated: &[Self], low: usize, high: usize) -> Self {
        let all = answered[answered.len() - 1];
        let outside = |of: fn(&Self) -> i64| of(&answered[low]) + of(&all) - of(&answered[high]);
        let inside = |of: fn(&Self) -> i64| of(&escalated[high]) - of(&escalated[low]);
        let sum = |of: fn(&Self) -> i64| outside(of) + inside(of);
        Self { losses: sum(|it| it.losses), squares: sum(|it| it.squares) }
    }

    /// The mean loss, and what chance may add to it.
    fn loss_with_margin(self, rows: usize) -> f64 {
        let rows = rows as f64;
        let mean = self.losses as f64 / rows;
        let variance = (self.squares as f64 / rows - mean * mean).max(0.0);
        mean + STANDARD_ERRORS * (variance / rows).sqrt()
    }
}

/// The band with the fewest rows that loses at most `loss_max`, a share of all rows. Its low
/// bound lies at or below `threshold`, its high one at or above. `None` where not even
/// escalating all rows will do.
pub(super) fn fit(rows: &[Judged], threshold: f32, loss_max: f64) -> Option<Band> {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.cheap.total_cmp(&b.cheap));
    let answered = Sums::before(rows.iter().map(|row| row.answered));
    let escalated = Sums::before(rows.iter().map(|row| row.escalated));
    let middle = rows.partition_point(|row| row.cheap < threshold);
    // Equal probabilities stay on one side.
    let parts = |place: &usize| {
        *place == middle
            || *place == 0
            || *place == rows.len()
            || rows[place - 1].cheap < rows[*place].cheap
    };
    let lows = thinned((0..=middle).rev().filter(parts).collect());
    let highs = thinned((middle..=rows.len()).filter(parts).collect());
    let mut best: Option<(usize, usize)> = None;
    for low in &lows {
        // From narrow to wide: the first that will do is this low bound's best.
        let will_do = |high: &&usize| {
            let sums = Sums::of(&answered, &escalated, *low, **high);
            sums.loss_with_margin(rows.len()) <= loss_max
        };
        let narrower = |high: &&usize| best.is_none_or(|(low_, high_)| *high - low < high_ - low_);
        if let Some(high) = highs.iter().take_while(narrower).find(will_do) {
            best = Some((*low, *high));
        }
    }
    let (low, high) = best?;
    Some(Band {
        low: match low {
            0 => 0.0,
            _ if low == middle => threshold,
            _ => rows[low].cheap,
        },
        high: match high {
            _ if high == rows.len() => 1.0,
            _ if high == middle => threshold.next_down(),
            _ => rows[high - 1].cheap,
        },
        rows: high - low,
    })
}

/// Some of many places, the first and the last among them.
fn thinned(places: Vec<usize>) -> Vec<usize> {
    let step = places.len().div_ceil(PLACES_MAX).max(1);
    let last = places.last().copied();
    let mut kept: Vec<usize> = places.into_iter().step_by(step).collect();
    if kept.last().copied() != last {
        kept.extend(last);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(rows: &[(f32, i8)]) -> Vec<Judged> {
        rows.iter()
            .map(|(cheap, answered)| Judged { cheap: *cheap, answered: *answered, escalated: 0 })
            .collect()
    }

    #[test]
    fn bands() {
        let check = |name: &str, rows: &[(f32, i8)], loss_max: f64, expected: (f32, f32, usize)| {
            let band = fit(&judged(rows), 0.5, loss_max).unwrap();
            assert_eq!((band.low, band.high, band.rows), expected, "{name}");
        };
        let none = (0.5, 0.5_f32.next_down(), 0);
        check("as good", &[(0.1, 0), (0.9, 0)], 0.0, none);
        check("better", &[(0.1, -1), (0.4, -1), (0.6, -1), (0.9, -1)], 0.0, none);
        let lost = [(0.1, 0), (0.4, 1), (0.45, 1), (0.6, 1), (0.7, 0), (0.9, 0)];
        check("worse in the middle", &lost, 0.0, (0.4, 0.6, 3));
        check("worse, and nobody minds", &lost, 1.0, none);
        check("worse at the ends", &[(0.1, 1), (0.4, 0), (0.9, 1)], 0.0, (0.0, 1.0, 3));
        check(
            "equal probabilities stay together",
            &[(0.4, 0), (0.4, 1), (0.9, 0)],
            0.0,
            (0.0, 0.5_f32.next_down(), 2),
        );
        let pooled_badly = [Judged { cheap: 0.4, answered: 1, escalated: 1 }];
        assert_eq!(fit(&pooled_badly, 0.5, 0.0), None);
    }

    #[test]
    fn chance_has_its_margin() {
        let mut rows = vec![(0.9, 0); 995];
        rows.extend([(0.6, 1); 5]);
        // Half a point is lost; one standard error is 0.22 points.
        assert_eq!(fit(&judged(&rows), 0.5, 0.0071).unwrap().rows, 5);
        assert_eq!(fit(&judged(&rows), 0.5, 0.0073).unwrap().rows, 0);
    }

    /// The fewest rows, looking at every pair of bounds.
    fn by_force(rows: &[Judged], threshold: f32, loss_max: f64) -> Option<usize> {
        let values: Vec<f32> = rows.iter().map(|row| row.cheap).collect();
        let lows = values.iter().copied().filter(|v| *v < threshold).chain([threshold]);
        let highs =
            values.iter().copied().filter(|v| *v >= threshold).chain([threshold.next_down()]);
        let highs: Vec<f32> = highs.collect();
        let mut best = None;
        for low in lows {
            for high in &highs {
                let inside = |row: &&Judged| (low..=*high).contains(&row.cheap);
                let loss = |row: &Judged| {
                    f64::from(if inside(&row) { row.escalated } else { row.answered })
                };
                let count = rows.len() as f64;
                let mean = rows.iter().map(loss).sum::<f64>() / count;
                let spread = rows.iter().map(|row| (loss(row) - mean).powi(2)).sum::<f64>() / count;
                if mean + (spread / count).sqrt() <= loss_max + 1e-12 {
                    let inside = rows.iter().filter(inside).count();
                    best = Some(best.unwrap_or(usize::MAX).min(inside));
                }
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_band_is_narrower(
            rows in prop::collection::vec((0..20u8, -1..=1i8, -1..=1i8), 1..60),
            threshold in 1..20u8,
            loss_max in 0..40u8,
        ) {
            let of = |n: u8| f32::from(n) / 20.0;
            let rows: Vec<Judged> = rows
                .into_iter()
                .map(|(cheap, answered, escalated)| Judged { cheap: of(cheap), answered, escalated })
                .collect();
            // Off the grid, so that rounding decides nothing.
            let loss_max = (f64::from(loss_max) + 0.123) / 97.0;
            let found = fit(&rows, of(threshold), loss_max);
            prop_assert_eq!(found.map(|band| band.rows), by_force(&rows, of(threshold), loss_max));
            if let Some(Band { low, high, rows: count }) = found {
                let inside = rows.iter().filter(|row| (low..=high).contains(&row.cheap)).count();
                prop_assert_eq!(inside, count);
            }
        }
    }
}
