//! Detects that a brand gets many more tweets than its past explains.
//!
//! Counts of five minutes are compared with a forecast: the brand's rate at this hour of the
//! week, times the level of the last hours. The rate of an hour of the week is shrunk towards the
//! rate of its hour of the day, and that towards the overall rate, until there is enough data
//! (the mean of a gamma-Poisson posterior). The counts that it learns from have an upper limit,
//! so that a burst does not raise the forecast (Gelper, Fried and Croux, "Robust forecasting with
//! exponential and Holt-Winters smoothing", Journal of Forecasting 29, 2010). While a surge is
//! open, the forecast learns nothing.
//!
//! The test is the CUSUM of the log-likelihood ratio of two negative binomials, one with
//! the forecast as its mean, one with `times_min` times the forecast (Höhle and Paul,
//! "Count data regression charts for the monitoring of surveillance time series",
//! Computational Statistics & Data Analysis 52, 2008). Their dispersion is measured from the
//! errors of the forecast. If the counts follow the first distribution, the sum reaches
//! `ln(A)` at most once in `A` buckets on average (Lorden, "Procedures for reacting to a change in
//! distribution", Annals of Mathematical Statistics 42, 1971), so the budget of false
//! alarms gives the threshold, without tuning. One bucket adds at most half of the threshold,
//! so an alarm needs at least two buckets. This can only lower the sum.
//!
//! **Invariant.** A verdict depends only on the counts, the state and the minute; the state
//! has a fixed size. Deliberately absent: learning from late tweets; they are few, and the
//! forecast is a mean over weeks.

mod forecast;

use serde::{Deserialize, Serialize};

use crate::domain::{Minute, SurgeEvidence};

use super::Series;
use forecast::{Forecast, Past};

/// Length of a bucket, in minutes.
const BUCKET_MINUTES: i64 = 5;
/// Buckets in a month of 30 days.
const BUCKETS_PER_MONTH: f64 = 8640.0;
/// A surge that lasts this long becomes the new normal, in minutes.
const NEW_NORMAL_MINUTES: i64 = 1440;

/// What counts as a surge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VolumePolicy {
    /// How many surges a brand may open by chance in 30 days, on average.
    pub false_alarms_per_month: f64,
    /// Smallest multiple of the expected tweets that is a surge; greater than one.
    pub times_min: f64,
    /// Minimum number of tweets in a surge.
    pub tweets_min: u64,
    /// How long the volume must be calm before a surge resolves, in minutes; a multiple of 5.
    pub resolve_minutes: u32,
}

impl Default for VolumePolicy {
    fn default() -> Self {
        Self { false_alarms_per_month: 1.0, times_min: 3.0, tweets_min: 30, resolve_minutes: 30 }
    }
}

/// The detector state of a brand's volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeState {
    /// What the forecast has learned.
    past: Past,
    /// The buckets that the statistic sums over.
    rise: Option<Rise>,
    /// The minute in which the open surge opened, if any.
    opened: Option<i64>,
}

/// Why a bucket does not open a surge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeReason {
    /// The forecast has learned from less than two days.
    HistoryTooShort,
    /// Chance can explain the volume.
    Chance,
    /// There is a rise, but it is smaller than `times_min`.
    RiseTooSmall,
    /// There is a rise, but there are fewer tweets than `tweets_min`.
    TooFewTweets,
}

/// Why a surge resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeEnd {
    /// The volume is normal again.
    Calm,
    /// The volume stayed high for so long that it is the new normal.
    NewNormal,
}

/// What to do about a brand's volume in a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VolumeVerdict {
    /// The minute does not end a bucket, so there was nothing to evaluate.
    Wait,
    /// Nothing.
    Quiet(VolumeReason),
    /// A surge opens.
    Open(SurgeEvidence),
    /// The open surge continues.
    Firing(SurgeEvidence),
    /// The open surge resolves.
    Resolve(SurgeEvidence, VolumeEnd),
}

impl VolumePolicy {
    /// How many minutes before an evaluated minute the [`Series`] must start.
    pub fn history_minutes(&self) -> i64 {
        i64::from(self.resolve_minutes).max(BUCKET_MINUTES)
    }

    /// The value of the statistic at which a surge opens.
    pub fn threshold(&self) -> f64 {
        (BUCKETS_PER_MONTH / self.false_alarms_per_month).ln()
    }

    /// Evaluates `minute` at its end. The caller passes each minute of a brand once, in order,
    /// from its first minute on. Only the last minute of each bucket is evaluated.
    pub fn evaluate(
        &self,
        series: &Series,
        mut state: VolumeState,
        minute: Minute,
    ) -> (VolumeState, VolumeVerdict) {
        if minute.plus(1).0.rem_euclid(BUCKET_MINUTES) != 0 {
            return (state, VolumeVerdict::Wait);
        }
        let first = minute.plus(1 - BUCKET_MINUTES);
        let tweets = series.sum(first, minute).total;
        let forecast = state.past.forecast(minute);
        if !state.past.is_long_enough() {
            state.past.learn(tweets, minute, &forecast);
            return (state, VolumeVerdict::Quiet(VolumeReason::HistoryTooShort));
        }
        let threshold = self.threshold();
        let gain = log_likelihood_ratio(tweets, &forecast, self.times_min).min(threshold / 2.0);
        let start = Rise { since: first.0, statistic: 0.0, observed: 0, expected: 0.0 };
        let before = state.rise.unwrap_or(start);
        let rise = Rise {
            since: before.since,
            statistic: (before.statistic + gain).max(0.0),
            observed: before.observed + tweets,
            expected: before.expected + forecast.tweets(),
        };
        let evidence = SurgeEvidence {
            since: Minute(rise.since),
            observed: rise.observed,
            expected: rise.expected,
            statistic: rise.statistic,
            threshold,
        };
        state.rise = Some(rise);
        if let Some(opened) = state.opened {
            let end = if minute.0 - opened >= NEW_NORMAL_MINUTES {
                state.past.rebase(rise.observed, rise.expected);
                Some(VolumeEnd::NewNormal)
            } else {
                self.is_calm(series, &state, opened, minute).then_some(VolumeEnd::Calm)
            };
            let Some(end) = end else { return (state, VolumeVerdict::Firing(evidence)) };
            (state.rise, state.opened) = (None, None);
            return (state, VolumeVerdict::Resolve(evidence, end));
        }
        let reason = if rise.statistic < threshold {
            if rise.statistic == 0.0 {
                state.rise = None;
            }
            VolumeReason::Chance
        } else if (rise.observed as f64) < self.times_min * rise.expected {
            // Certain, but too small. The sum restarts, so that a later surge is measured
            // without these buckets.
            state.rise = None;
            VolumeReason::RiseTooSmall
        } else if rise.observed < self.tweets_min {
            VolumeReason::TooFewTweets
        } else {
            state.opened = Some(minute.0);
            return (state, VolumeVerdict::Open(evidence));
        };
        state.past.learn(tweets, minute, &forecast);
        (state, VolumeVerdict::Quiet(reason))
    }

    /// Whether the last `resolve_minutes`, all of them after the surge opened, have at most half
    /// of the rise that opens a surge. This is hysteresis: a volume near the limit does not
    /// open and resolve a surge every few buckets.
    fn is_calm(&self, series: &Series, state: &VolumeState, opened: i64, minute: Minute) -> bool {
        let buckets = (i64::from(self.resolve_minutes) / BUCKET_MINUTES).max(1);
        if minute.0 - opened < buckets * BUCKET_MINUTES {
            return false;
        }
        let observed = series.sum(minute.plus(1 - buckets * BUCKET_MINUTES), minute).total;
        let expected: f64 = (0..buckets)
            .map(|back| state.past.forecast(minute.plus(-back * BUCKET_MINUTES)).tweets())
            .sum();
        observed as f64 <= expected * f64::midpoint(1.0, self.times_min)
    }
}

impl VolumeState {
    /// The minute in which the open surge opened, if any.
    pub fn opened(&self) -> Option<Minute> {
        self.opened.map(Minute)
    }
}

/// Consecutive buckets in which the statistic stays above zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Rise {
    since: i64,
    statistic: f64,
    observed: u64,
    expected: f64,
}

/// `ln(P(tweets | times * mean) / P(tweets | mean))` for negative binomials with mean `m`
/// and variance `m + dispersion * m * m`.
fn log_likelihood_ratio(tweets: u64, forecast: &Forecast, times: f64) -> f64 {
    let spread = forecast.dispersion * forecast.tweets();
    let tweets = tweets as f64;
    tweets * times.ln()
        - (tweets + forecast.dispersion.recip()) * ((1.0 + times * spread) / (1.0 + spread)).ln()
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::domain::Counts;

    const DAY: i64 = 1440;

    /// A Poisson count whose rate varies by a gamma law, with dispersion 1/8 (Knuth, "The
    /// Art of Computer Programming", volume 2, section 3.4.1).
    fn count(mean: f64, random: &mut ChaCha8Rng) -> u64 {
        let exponential = |random: &mut ChaCha8Rng| -(1.0 - random.random::<f64>()).ln();
        let rate = mean * (0..8).map(|_| exponential(random)).sum::<f64>() / 8.0;
        let (mut waited, mut count) = (exponential(random), 0);
        while waited < rate {
            waited += exponential(random);
            count += 1;
        }
        count
    }

    /// The volume at a time of day, relative to its mean: a third at night, more by day.
    fn day_factor(minute: i64) -> f64 {
        1.0 - (minute as f64 / DAY as f64 * std::f64::consts::TAU).cos() / 1.5
    }

    /// A brand with `a_bucket` tweets per bucket on average, multiplied by `times`.
    fn brand(days: i64, a_bucket: f64, times: impl Fn(i64) -> f64, seed: u64) -> Series {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let counts: Vec<_> = (0..days * DAY)
            .step_by(5)
            .map(|m| {
                let total = count(a_bucket * day_factor(m) * times(m), &mut random);
                (Minute(m), Counts { total, negative: 0 })
            })
            .collect();
        Series::new(Minute(0), Minute(days * DAY - 1), &counts, &[])
    }

    /// Evaluates every minute, as the daemon does; returns when surges open and resolve.
    fn run(series: &Series, days: i64) -> Vec<(i64, VolumeVerdict)> {
        let policy = VolumePolicy::default();
        let mut state = VolumeState::default();
        let mut steps = Vec::new();
        for minute in (0..days * DAY).map(Minute) {
            let verdict;
            (state, verdict) = policy.evaluate(series, state, minute);
            if matches!(verdict, VolumeVerdict::Open(_) | VolumeVerdict::Resolve(..)) {
                steps.push((minute.0, verdict));
            }
        }
        steps
    }

    fn opened(steps: &[(i64, VolumeVerdict)]) -> Vec<i64> {
        let open = |(minute, verdict): &(i64, _)| {
            matches!(verdict, VolumeVerdict::Open(_)).then_some(*minute)
        };
        steps.iter().filter_map(open).collect()
    }

    #[test]
    fn stays_quiet_without_a_surge() {
        let check = |name: &str, a_bucket: f64, times: &dyn Fn(i64) -> f64| {
            for seed in 0..3 {
                let found = run(&brand(30, a_bucket, times, seed), 30);
                assert_eq!(found, [], "{name}, seed {seed}");
            }
        };
        check("two a bucket, day and night", 2.0, &|_| 1.0);
        check("ten", 10.0, &|_| 1.0);
        check("a hundred", 100.0, &|_| 1.0);
        check("twice as many from a day on", 20.0, &|m| if m < 14 * DAY { 1.0 } else { 2.0 });
        check("quiet weekends", 20.0, &|m| if m / DAY % 7 < 2 { 0.4 } else { 1.0 });
        check("ten times, in one bucket alone", 20.0, &|m| if m == 20_000 { 10.0 } else { 1.0 });
        check("eleven tweets at night", 0.1, &|m| if m / 10 == 2000 { 100.0 } else { 1.0 });
    }

    #[test]
    fn a_surge_opens_within_minutes_and_resolves_afterwards() {
        let check = |name: &str, a_bucket: f64, times: f64, minutes_max: i64| {
            for seed in 0..5 {
                let start = 20 * DAY + 720;
                let surge = |m| if (start..start + 180).contains(&m) { times } else { 1.0 };
                let steps = run(&brand(22, a_bucket, surge, seed), 22);
                let [(from, VolumeVerdict::Open(open)), (to, VolumeVerdict::Resolve(end, why))] =
                    steps[..]
                else {
                    panic!("{name}, seed {seed}: {steps:?}")
                };
                let delay = from + 1 - start;
                assert!((0..=minutes_max).contains(&delay), "{name}, seed {seed}: {delay} min");
                assert!(open.observed as f64 >= 3.0 * open.expected, "{name}: {open:?}");
                assert!(open.statistic >= open.threshold && open.observed >= 30, "{open:?}");
                let over = to + 1 - start - 180;
                assert!((0..=40).contains(&over), "{name}, seed {seed}: over after {over} min");
                assert_eq!((why, end.since), (VolumeEnd::Calm, open.since), "{name}");
            }
        };
        check("two a bucket", 2.0, 8.0, 15);
        check("ten", 10.0, 6.0, 15);
        check("a hundred", 100.0, 5.0, 10);
    }

    #[test]
    fn a_surge_does_not_raise_the_forecast() {
        let surge = |m: i64| if m >= 10 * DAY && m % DAY / 60 == 12 { 8.0 } else { 1.0 };
        let found = opened(&run(&brand(15, 20.0, surge, 1), 15));
        assert_eq!(found.len(), 5, "one surge a day: {found:?}");
    }

    #[test]
    fn a_lasting_surge_becomes_the_new_normal() {
        let steps = run(&brand(20, 20.0, |m| if m < 10 * DAY { 1.0 } else { 6.0 }, 1), 20);
        let [(from, VolumeVerdict::Open(_)), (to, VolumeVerdict::Resolve(_, why))] = steps[..]
        else {
            panic!("{steps:?}")
        };
        assert_eq!((to - from, why), (DAY, VolumeEnd::NewNormal));
    }

    #[test]
    fn a_stored_state_gives_the_same_verdicts() {
        let policy = VolumePolicy::default();
        let series = brand(4, 10.0, |m| if m < 3 * DAY { 1.0 } else { 8.0 }, 1);
        let (mut one, mut other) = (VolumeState::default(), VolumeState::default());
        let mut fired = 0;
        for minute in (0..4 * DAY).map(Minute) {
            // serde_json may lose the last bit of a value, so values are not compared.
            let stored = serde_json::to_string(&other).expect("the state can be serialized");
            other = serde_json::from_str(&stored).expect("the state can be deserialized");
            let (found, expected);
            (one, expected) = policy.evaluate(&series, one, minute);
            (other, found) = policy.evaluate(&series, other, minute);
            assert_eq!(discriminant(&found), discriminant(&expected), "{minute:?}");
            assert_eq!((one.rise.is_some(), one.opened), (other.rise.is_some(), other.opened));
            fired += i32::from(matches!(found, VolumeVerdict::Firing(_)));
        }
        assert!(fired > 0, "the surge opens");
    }

    #[test]
    fn says_why_it_is_quiet() {
        let reason = |buckets: i64, since: (u64, f64, f64), tweets: u64| {
            let mut past = Past::default();
            for bucket in (1..=buckets).rev() {
                let minute = Minute(-bucket * BUCKET_MINUTES);
                past.learn(10, minute, &past.forecast(minute));
            }
            let (observed, expected, statistic) = since;
            let rise = Some(Rise { since: -60, statistic, observed, expected });
            let state = VolumeState { past, rise, opened: None };
            let counts = [(Minute(0), Counts { total: tweets, negative: 0 })];
            let series = Series::new(Minute(0), Minute(4), &counts, &[]);
            let policy = VolumePolicy { tweets_min: 100, ..VolumePolicy::default() };
            let (wait, verdict) = policy.evaluate(&series, state, Minute(3));
            assert_eq!(verdict, VolumeVerdict::Wait);
            match policy.evaluate(&series, wait, Minute(4)).1 {
                VolumeVerdict::Quiet(reason) => Some(reason),
                _ => None,
            }
        };
        let old = 2 * 288;
        assert_eq!(reason(old - 1, (90, 10.0, 99.0), 50), Some(VolumeReason::HistoryTooShort));
        assert_eq!(reason(old, (0, 0.0, 0.0), 10), Some(VolumeReason::Chance));
        assert_eq!(reason(old, (90, 50.0, 9.0), 50), Some(VolumeReason::RiseTooSmall));
        assert_eq!(reason(old, (30, 5.0, 9.0), 50), Some(VolumeReason::TooFewTweets));
        assert_eq!(reason(old, (90, 10.0, 9.0), 50), None, "a surge opens");
    }

    #[test]
    fn the_statistic_is_the_ratio_of_two_negative_binomials() {
        let check = |name: &str, tweets: u64, mean: f64, dispersion: f64, expected: f64| {
            let forecast = Forecast { season: mean, level: 1.0, dispersion };
            let found = log_likelihood_ratio(tweets, &forecast, 3.0);
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        };
        // With dispersion 1 the distribution is geometric: P(k) = m^k / (1 + m)^(k + 1).
        check(
            "geometric",
            3,
            2.0,
            1.0,
            3.0 * (6.0 / 7.0 / (2.0 / 3.0_f64)).ln() + (3.0 / 7.0_f64).ln(),
        );
        check("no tweets", 0, 2.0, 1.0, (3.0 / 7.0_f64).ln());
        // Without dispersion it is Poisson: k ln 3 - 2 m.
        check("Poisson", 9, 2.0, 1e-9, 9.0 * 3.0_f64.ln() - 4.0);
        check("nothing expected", 2, 0.0, 0.1, 2.0 * 3.0_f64.ln());
        let threshold = VolumePolicy::default().threshold();
        assert!((threshold.exp() - 8640.0).abs() < 1e-6, "one in a month of buckets");
    }
}
