//! How far the statistic goes without an incident worth telling: the brand's own bursts.
//!
//! The largest statistic of each day is kept, for eight weeks. What exceeds their median is taken as
//! exponential, so the value that is exceeded `budget` times in 30 days is
//! `median + mean excess * ln(15 / budget)`: half of the days exceed the median (peaks over a
//! threshold: Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3,
//! 1975; as a detector on streams: Siffer et al., "Anomaly detection in streams with extreme value
//! theory", KDD 2017). A day counts with at most [`DAY_MAX`] times the threshold, so that one crisis
//! does not hide the next.

use serde::{Deserialize, Serialize};

use crate::domain::Minute;

const MINUTES_PER_DAY: i64 = 1440;
/// Days that are kept.
const DAYS: usize = 56;
/// Days before the threshold is learned.
const DAYS_MIN: usize = 3;
/// A day counts with at most this multiple of the threshold.
const DAY_MAX: f64 = 1.5;
/// Days of 30 that exceed the median.
const DAYS_ABOVE_MEDIAN: f64 = 15.0;

/// The largest statistics of past days.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tail {
    /// Of each day, oldest first.
    days: Vec<f64>,
    /// The day that goes on, in days since 1970, and its largest statistic so far.
    today: Option<(i64, f64)>,
}

impl Tail {
    /// The threshold for a budget of false alarms a month; at least `least`.
    pub(super) fn threshold(&self, least: f64, budget: f64) -> f64 {
        if self.days.len() < DAYS_MIN {
            return least;
        }
        let mut days = self.days.clone();
        days.sort_by(f64::total_cmp);
        let middle = days.len() / 2;
        let median = if days.len() % 2 == 1 {
            days[middle]
        } else {
            f64::midpoint(days[middle - 1], days[middle])
        };
        let excesses: Vec<f64> =
            days.iter().map(|day| day - median).filter(|excess| *excess > 0.0).collect();
        let mean = excesses.iter().sum::<f64>() / excesses.len().max(1) as f64;
        least.max(median + mean * (DAYS_ABOVE_MEDIAN / budget).ln())
    }

    /// Takes note of the statistic of `minute`.
    pub(super) fn see(&mut self, minute: Minute, statistic: f64, threshold: f64) {
        let day = minute.0.div_euclid(MINUTES_PER_DAY);
        let value = statistic.min(DAY_MAX * threshold);
        match &mut self.today {
            Some((today, largest)) if *today == day => *largest = largest.max(value),
            today => {
                if let Some((_, largest)) = today.replace((day, value)) {
                    self.days.push(largest);
                    let surplus = self.days.len().saturating_sub(DAYS);
                    self.days.drain(..surplus);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn chance_exceeds_the_threshold_as_often_as_the_budget_says() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut day = |_| 5.0 - 3.0 * (1.0 - random.random::<f64>()).ln();
        for budget in [0.5, 1.0, 5.0] {
            let (mut above, months) = (0, 400);
            for _ in 0..months {
                let tail = Tail { days: (0..28).map(&mut day).collect(), today: None };
                let threshold = tail.threshold(0.0, budget);
                above += (0..30).map(&mut day).filter(|day| *day > threshold).count();
            }
            let a_month = above as f64 / f64::from(months);
            assert!((0.7 * budget..1.6 * budget).contains(&a_month), "{budget}: {a_month}");
        }
    }

    #[test]
    fn a_crisis_does_not_hide_the_next_one() {
        let mut tail = Tail::default();
        let mut see = |day: i64, statistic| {
            let threshold = tail.threshold(9.0, 1.0);
            tail.see(Minute(day * MINUTES_PER_DAY), statistic, threshold);
            tail.threshold(9.0, 1.0)
        };
        for day in 0..28 {
            see(day, 2.0 + (day % 3) as f64);
        }
        see(28, 400.0);
        let after = see(29, 2.0);
        assert!((9.0..14.0).contains(&after), "{after}");
        for day in 30..200 {
            see(day, 2.0);
        }
        assert_eq!(tail.days.len(), DAYS);
        assert_eq!(tail.threshold(9.0, 1.0), 9.0, "the crisis is forgotten after eight weeks");
    }
}
