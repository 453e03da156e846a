//! Where a cheap model may be trusted: the band of its probabilities outside which it answers.
//!
//! **Invariant.** On the rows fitted on, with one more that is lost counted in, the loss of
//! accuracy is at most the one allowed (after conformal risk control, Angelopoulos et al. 2024,
//! whose guarantee wants losses that only fall, and one bound). Deliberately absent: a promise
//! for other rows; the manifest has what was lost on rows that neither model has seen.

/// A row with its label, as far as a band depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CascadeRow {
    /// The cheap model's probability.
    pub(crate) cheap: f32,
    /// Right answers lost (1), gained (-1) or neither (0) against the costly model where the
    /// cheap one answers.
    pub(crate) lost: i8,
}

/// Rows from `low` to `high`, both included, are escalated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Band {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

/// The band with the fewest rows that loses at most `loss_max`, a share of all rows. Its low
/// bound lies at or below `threshold`, its high one at or above. Time O(n log n).
pub(crate) fn fit(rows: &[CascadeRow], threshold: f32, loss_max: f64) -> Band {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.cheap.total_cmp(&b.cheap));
    let allowed = (loss_max * (rows.len() + 1) as f64).floor() as i64 - 1;
    let middle = rows.partition_point(|row| row.cheap < threshold);
    let lost = |rows: &[CascadeRow]| rows.iter().map(|row| i64::from(row.lost)).sum::<i64>();
    // Equal probabilities stay on one side.
    let parts = |place: usize| {
        place == middle
            || place == 0
            || place == rows.len()
            || rows[place - 1].cheap < rows[place].cheap
    };
    // Ends of the band, upwards, and what is lost beyond each; only those that lose less than
    // all before them, so that losses fall.
    let mut ends: Vec<(usize, i64)> = Vec::new();
    let mut above = lost(&rows[middle..]);
    for end in middle..=rows.len() {
        if parts(end) && ends.last().is_none_or(|(_, least)| above < *least) {
            ends.push((end, above));
        }
        above -= rows.get(end).map_or(0, |row| i64::from(row.lost));
    }
    let mut best = (0, rows.len());
    let mut below = 0;
    for begin in 0..=middle {
        let enough = ends.partition_point(|(_, above)| below + above > allowed);
        if parts(begin)
            && let Some((end, _)) = ends.get(enough)
            && end - begin < best.1 - best.0
        {
            best = (begin, *end);
        }
        below += rows.get(begin).map_or(0, |row| i64::from(row.lost));
    }
    let (begin, end) = best;
    Band {
        low: match begin {
            _ if begin == middle => threshold,
            0 => 0.0,
            _ => rows[begin].cheap,
        },
        high: match end {
            _ if end == middle => threshold.next_down(),
            _ if end == rows.len() => 1.0,
            _ => rows[end - 1].cheap,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(rows: &[(f32, i8)]) -> Vec<CascadeRow> {
        rows.iter().map(|(cheap, lost)| CascadeRow { cheap: *cheap, lost: *lost }).collect()
    }

    #[test]
    fn bands() {
        let check = |name: &str, rows: &[(f32, i8)], loss_max: f64, expected: (f32, f32)| {
            let band = fit(&judged(rows), 0.5, loss_max);
            assert_eq!((band.low, band.high), expected, "{name}");
        };
        let (none, all) = ((0.5, 0.5_f32.next_down()), (0.0, 1.0));
        check("as good, but for the row in hand", &[(0.1, 0), (0.9, 0)], 0.0, all);
        check("as good", &[(0.1, 0), (0.9, 0)], 0.34, none);
        check("better", &[(0.1, -1), (0.4, -1), (0.6, -1), (0.9, -1)], 0.0, none);
        let lost = [(0.1, 0), (0.4, 1), (0.45, 1), (0.6, 1), (0.7, 0), (0.9, 0)];
        check("worse in the middle", &lost, 0.15, (0.4, 0.6));
        check("worse in the middle, one allowed", &lost, 0.30, (0.4, 0.5_f32.next_down()));
        check("worse, and nobody minds", &lost, 1.0, none);
        check("worse at the ends", &[(0.1, 1), (0.4, 0), (0.9, 1)], 0.25, all);
        check(
            "equals stay together",
            &[(0.3, 0), (0.4, 0), (0.4, 1), (0.9, 0)],
            0.2,
            (0.4, none.1),
        );
    }

    /// The fewest rows that must be escalated, looking at every pair of bounds.
    fn by_force(rows: &[CascadeRow], threshold: f32, loss_max: f64) -> usize {
        let values = || rows.iter().map(|row| row.cheap);
        let highs: Vec<f32> =
            values().filter(|value| *value >= threshold).chain([threshold.next_down()]).collect();
        let mut best = rows.len();
        for low in values().filter(|value| *value < threshold).chain([threshold]) {
            for high in &highs {
                let (inside, outside): (Vec<&CascadeRow>, Vec<&CascadeRow>) =
                    rows.iter().partition(|row| (low..=*high).contains(&row.cheap));
                let lost: i32 = outside.iter().map(|row| i32::from(row.lost)).sum();
                if f64::from(lost + 1) / (rows.len() + 1) as f64 <= loss_max {
                    best = best.min(inside.len());
                }
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_band_is_narrower(
            rows in prop::collection::vec((0..20u8, -1..=1i8), 1..60),
            threshold in 1..20u8,
            loss_max in 0..40u8,
        ) {
            let of = |n: u8| f32::from(n) / 20.0;
            let rows: Vec<(f32, i8)> = rows.iter().map(|(cheap, lost)| (of(*cheap), *lost)).collect();
            let rows = judged(&rows);
            // Between the shares that there can be, so that rounding decides nothing.
            let loss_max = (f64::from(loss_max) + 0.123) / 97.0;
            let Band { low, high } = fit(&rows, of(threshold), loss_max);
            let found = rows.iter().filter(|row| (low..=high).contains(&row.cheap)).count();
            prop_assert_eq!(found, by_force(&rows, of(threshold), loss_max));
        }
    }
}
