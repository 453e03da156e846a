//! Counts by minute. The sum over any period takes constant time.

use crate::domain::{Counts, Minute};

/// A brand's counts of consecutive minutes, with and without its incidents.
#[derive(Debug, Clone)]
pub struct Series {
    first: Minute,
    all: Vec<Counts>,
    calm: Vec<Counts>,
}

impl Series {
    /// Covers `first..=last`. `counts` is in ascending order; missing minutes have no tweets, and
    /// minutes outside `first..=last` are ignored. The calm sums do not include the periods in
    /// `excluded` (first and last minute): an incident must not change the baselines of later
    /// incidents.
    pub fn new(
        first: Minute,
        last: Minute,
        counts: &[(Minute, Counts)],
        excluded: &[(Minute, Minute)],
    ) -> Self {
        let length = usize::try_from(last.0 - first.0 + 1).unwrap_or(0);
        let mut minutes = vec![Counts::default(); length];
        for (minute, counts) in counts {
            if let Some(slot) = slot(first, *minute).and_then(|slot| minutes.get_mut(slot)) {
                *slot = *counts;
            }
        }
        let all = prefix_sums(&minutes);
        for (from, to) in excluded {
            let from = slot(first, *from).unwrap_or(0).min(length);
            let to = slot(first, to.plus(1)).unwrap_or(0).clamp(from, length);
            minutes[from..to].fill(Counts::default());
        }
        Self { first, all, calm: prefix_sums(&minutes) }
    }

    /// All tweets of `from..=to`; minutes outside the series have no tweets.
    pub fn sum(&self, from: Minute, to: Minute) -> Counts {
        self.between(&self.all, from, to)
    }

    /// The tweets of `from..=to` outside incidents.
    pub fn calm_sum(&self, from: Minute, to: Minute) -> Counts {
        self.between(&self.calm, from, to)
    }

    fn between(&self, sums: &[Counts], from: Minute, to: Minute) -> Counts {
        let end = sums.len() - 1;
        let from = slot(self.first, from).unwrap_or(0).min(end);
        let to = slot(self.first, to.plus(1)).unwrap_or(0).clamp(from, end);
        sums[to] - sums[from]
    }
}

fn slot(first: Minute, minute: Minute) -> Option<usize> {
    usize::try_from(minute.0.saturating_sub(first.0)).ok()
}

/// `sums[n]` is the sum of the first `n` minutes.
fn prefix_sums(minutes: &[Counts]) -> Vec<Counts> {
    let mut sums = Vec::with_capacity(minutes.len() + 1);
    sums.push(Counts::default());
    let mut sum = Counts::default();
    for minute in minutes {
        sum += *minute;
        sums.push(sum);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calm_sums_exclude_incidents() {
        let one = Counts { total: 2, negative: 1 };
        let counts: Vec<_> = (10..20).map(|m| (Minute(m), one)).collect();
        let series = Series::new(
            Minute(12),
            Minute(17),
            &counts,
            &[(Minute(0), Minute(12)), (Minute(15), Minute(99))],
        );
        let total = |from, to| series.sum(Minute(from), Minute(to)).total;
        let calm = |from, to| series.calm_sum(Minute(from), Minute(to)).total;
        assert_eq!(total(12, 17), 12);
        assert_eq!(total(0, 99), 12, "no tweets outside the series");
        assert_eq!(total(14, 14), 2);
        assert_eq!(total(15, 14), 0, "an empty period");
        assert_eq!(calm(0, 99), 4, "13 and 14 remain");
    }

    proptest! {
        #[test]
        fn sums_equal_those_of_a_loop(
            counts in prop::collection::btree_map(0_i64..100, (0_u64..9, 0_u64..9), 0..50),
            from in -5_i64..110, length in 0_i64..50,
        ) {
            let counts: Vec<_> = counts.into_iter()
                .map(|(m, (positive, negative))| (Minute(m), Counts { total: positive + negative, negative }))
                .collect();
            let series = Series::new(Minute(0), Minute(99), &counts, &[]);
            let mut expected = Counts::default();
            for (minute, counts) in &counts {
                if (from..=from + length).contains(&minute.0) { expected += *counts; }
            }
            prop_assert_eq!(series.sum(Minute(from), Minute(from + length)), expected);
        }
    }
}
