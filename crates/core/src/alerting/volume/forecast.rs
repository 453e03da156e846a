//! Forecasts the tweets of a bucket from a brand's past.
//!
//! **Invariant.** The state has a fixed size. It consists of exponentially weighted sums only,
//! so it can be stored and loaded at any time. Deliberately absent: trends longer than a few
//! hours; they become part of the season within weeks.

use serde::{Deserialize, Serialize};

use super::BUCKET_MINUTES;
use super::surprise::Normal;
use crate::domain::{Counts, HOURS_PER_WEEK, Minute, Zone};

const BUCKETS_PER_DAY: u32 = 288;
const HOURS_PER_DAY: usize = 24;

/// Buckets to learn from before the first alarm: one day to see every hour of the day, and one
/// day to measure the errors of the forecast.
const LEARNED_MIN: u32 = 2 * BUCKETS_PER_DAY;
/// Weight of the prior of an hour's rate, in buckets: after one hour of data, the rate and its
/// prior weigh the same.
const SEASON_PRIOR_BUCKETS: f64 = 12.0;
/// Half-life of the rate of an hour of the week, in buckets of that hour: four weeks.
const SEASON_HALF_LIFE: f64 = 48.0;
/// Weight of the prior of the level, in expected tweets.
const LEVEL_PRIOR_TWEETS: f64 = 10.0;
/// Half-life of the level and of the share of negative tweets, in buckets: two days, as a baseline of
/// shares.
const LEVEL_HALF_LIFE: f64 = 576.0;
/// Half-life of the dispersion, in buckets: four weeks.
const DISPERSION_HALF_LIFE: f64 = 8064.0;
/// Half-life of the wander, in hours: four weeks.
const WANDER_HALF_LIFE: f64 = 672.0;
/// Fewest tweets of a bucket in a test: in an empty night, the second tweet is no rise.
const MEAN_MIN: f64 = 0.2;
/// Smallest dispersion: a forecast's relative error is at least one seventh.
const DISPERSION_MIN: f64 = 0.02;
/// A count that is learned is limited to this many standard deviations above the forecast.
const LEARNED_DEVIATIONS_MAX: f64 = 3.0;

/// The expected tweets of a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forecast {
    /// Tweets by the season alone.
    pub(super) season: f64,
    /// Tweets of the last days, divided by their forecast by the season.
    pub(super) level: f64,
    /// Variance in excess of Poisson's, divided by the squared mean.
    pub(super) dispersion: f64,
    /// Standard deviation of an hour's tweets beyond what the dispersion explains, divided by the mean.
    pub(super) wander: f64,
}

impl Forecast {
    pub(super) fn tweets(&self) -> f64 {
        self.season * self.level
    }

    /// The distribution of the bucket if the rate has wandered up by this many standard deviations.
    pub(super) fn raised(&self, deviations: f64) -> Normal {
        let mean = self.tweets() * (deviations * self.wander).exp();
        Normal { mean: mean.max(MEAN_MIN), dispersion: self.dispersion }
    }
}

/// What the forecast has learned about a brand.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Past {
    /// Tweets per bucket for each hour of the week, from Thursday 0:00 on.
    hours: Vec<Ratio>,
    /// Where these hours are counted.
    zone: Zone,
    /// Tweets of the last days, divided by their forecast by the season.
    level: Ratio,
    /// Negative tweets of the last days, divided by all.
    share: Ratio,
    /// Squared errors in excess of Poisson's, divided by the squared forecast.
    dispersion: Ratio,
    /// Squared errors of hours in excess of those of their buckets, divided by the squared forecast.
    wander: Ratio,
    /// The hour that goes on.
    hour: Hour,
    /// Number of buckets learned.
    learned: u32,
}

/// The sums of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Hour {
    /// The hour, counted from 1970.
    at: i64,
    learned: f64,
    forecast: f64,
    /// Variance of the sum by the dispersion of its buckets.
    variance: f64,
}

impl Past {
    /// Nothing is known yet.
    pub(super) fn in_zone(zone: Zone) -> Self {
        Self { zone, ..Self::default() }
    }

    /// Where the hours of the week are counted.
    pub(super) fn zone(&self) -> Zone {
        self.zone
    }

    /// Whether nothing has been learned.
    pub(super) fn is_empty(&self) -> bool {
        self.learned == 0
    }

    /// Whether the forecasts are reliable.
    pub(super) fn is_long_enough(&self) -> bool {
        self.learned >= LEARNED_MIN
    }

    /// The forecast of the bucket that ends with `minute`.
    pub(super) fn forecast(&self, minute: Minute) -> Forecast {
        let hour = self.zone.hour_of_week(minute);
        let all = sum(&self.hours).rate();
        let day = sum(self.hours.iter().skip(hour % HOURS_PER_DAY).step_by(HOURS_PER_DAY))
            .shrunk(all, SEASON_PRIOR_BUCKETS);
        let week = self.hours.get(hour).copied().unwrap_or_default();
        Forecast {
            season: week.shrunk(day, SEASON_PRIOR_BUCKETS),
            level: self.level.shrunk(1.0, LEVEL_PRIOR_TWEETS),
            dispersion: self.dispersion.rate().max(DISPERSION_MIN),
            wander: self.wander.rate().max(0.0).sqrt(),
        }
    }

    /// The forecast of the `buckets` buckets that end with `minute`, together.
    pub(super) fn expected(&self, minute: Minute, buckets: i64) -> f64 {
        (0..buckets).map(|back| self.forecast(minute.plus(-back * BUCKET_MINUTES)).tweets()).sum()
    }

    /// The usual share of negative tweets, in 0..=1; 0 without data.
    pub(super) fn share(&self) -> f64 {
        self.share.rate()
    }

    /// Learns the tweets of a bucket, `tweets` of the counted ones. The counts of the first day have
    /// no limit, because there is no forecast yet to compare them with.
    pub(super) fn learn(&mut self, tweets: u64, all: Counts, minute: Minute, forecast: &Forecast) {
        let mean = forecast.tweets();
        let mut tweets = tweets as f64;
        self.share.add(all.negative as f64, all.total as f64, LEVEL_HALF_LIFE);
        if self.learned >= BUCKETS_PER_DAY {
            let deviation = (mean + forecast.dispersion * mean * mean).sqrt();
            tweets = tweets.min(mean + LEARNED_DEVIATIONS_MAX * deviation + 1.0);
            let excess = (tweets - mean).powi(2) - mean;
            self.dispersion.add(excess, mean * mean, DISPERSION_HALF_LIFE);
            self.level.add(tweets, forecast.season, LEVEL_HALF_LIFE);
            self.learn_wander(minute, tweets, mean, forecast.dispersion);
        }
        self.hours.resize(HOURS_PER_WEEK, Ratio::default());
        self.hours[self.zone.hour_of_week(minute)].add(tweets, 1.0, SEASON_HALF_LIFE);
        self.learned = self.learned.saturating_add(1);
    }

    fn learn_wander(&mut self, minute: Minute, tweets: f64, mean: f64, dispersion: f64) {
        let at = minute.0.div_euclid(60);
        if self.hour.at != at {
            let Hour { learned, forecast, variance, .. } = self.hour;
            let excess = (learned - forecast).powi(2) - variance;
            self.wander.add(excess, forecast * forecast, WANDER_HALF_LIFE);
            self.hour = Hour { at, ..Hour::default() };
        }
        self.hour.learned += tweets;
        self.hour.forecast += mean;
        self.hour.variance += mean + dispersion * mean * mean;
    }

    /// Sets the level so that `observed` tweets would have been forecast where `expected` were.
    pub(super) fn rebase(&mut self, observed: u64, expected: f64) {
        let level = self.level.shrunk(1.0, LEVEL_PRIOR_TWEETS);
        self.level = Ratio { above: observed as f64, below: expected / level };
    }
}

/// The ratio of two exponentially weighted sums.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Ratio {
    above: f64,
    below: f64,
}

impl Ratio {
    fn add(&mut self, above: f64, below: f64, half_life: f64) {
        let kept = (-1.0 / half_life).exp2();
        self.above = self.above * kept + above;
        self.below = self.below * kept + below;
    }

    /// The ratio; zero without data.
    fn rate(self) -> f64 {
        if self.below > 0.0 { self.above / self.below } else { 0.0 }
    }

    /// The ratio, shrunk towards `prior`, which counts as data of this `weight`.
    fn shrunk(self, prior: f64, weight: f64) -> f64 {
        (self.above + weight * prior) / (self.below + weight)
    }
}

fn sum<'a>(ratios: impl IntoIterator<Item = &'a Ratio>) -> Ratio {
    ratios.into_iter().fold(Ratio::default(), |sum, ratio| Ratio {
        above: sum.above + ratio.above,
        below: sum.below + ratio.below,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quarter of them negative.
    fn counts(total: u64) -> Counts {
        Counts { total, negative: total / 4 }
    }

    /// Learns hours of twelve buckets, one count each, from Thursday 0:00 on.
    fn past(hours: impl IntoIterator<Item = u64>) -> Past {
        let mut past = Past::default();
        for (hour, tweets) in (0..).zip(hours) {
            for bucket in 1..=12 {
                let minute = Minute(hour * 60 + bucket * 5 - 1);
                past.learn(tweets, counts(tweets), minute, &past.forecast(minute));
            }
        }
        past
    }

    #[test]
    fn forecasts_the_rate_of_the_hour() {
        let check = |name: &str, past: &Past, hour: i64, low: f64, high: f64| {
            let found = past.forecast(Minute(hour * 60 + 4)).tweets();
            assert!((low..=high).contains(&found), "{name}: {found}");
        };
        let (night_then_day, quiet_sunday) = (
            |hour: u64| if hour % 24 < 12 { 10 } else { 50 },
            |hour: u64| {
                if hour / 24 % 7 == 3 { 10 } else { 40 }
            },
        );
        let even = past((0..48).map(|_| 20));
        check("an even brand", &even, 48, 19.99, 20.01);
        let day = past((0..24).map(night_then_day));
        check("an hour seen once: halfway to the overall mean", &day, 24, 19.0, 21.0);
        check("and an hour of the day", &day, 36, 39.0, 41.0);
        let month = past((0..24 * 28).map(night_then_day));
        check("after a month: the night", &month, 24 * 28, 10.0, 13.0);
        check("and the day, from a night's level", &month, 24 * 28 + 12, 45.0, 52.0);
        let month = past((0..24 * 31).map(quiet_sunday));
        check("a Sunday, by the hour of the week", &month, 24 * 31, 10.0, 25.0);
        check("another day, after a Saturday", &month, 24 * 32, 35.0, 42.0);
        check("no data", &Past::default(), 0, 0.0, 0.0);
    }

    #[test]
    fn a_burst_does_not_raise_the_forecast() {
        let calm = past((0..24 * 14).map(|_| 20));
        let mut burst = calm.clone();
        let minute = Minute(24 * 14 * 60 + 4);
        burst.learn(100_000, counts(100_000), minute, &burst.forecast(minute));
        let next = minute.plus(5);
        let (before, after) = (calm.forecast(next).tweets(), burst.forecast(next).tweets());
        assert!(after < 1.05 * before, "{before} before, {after} after");
    }

    #[test]
    fn measures_the_dispersion_of_its_errors() {
        // 10 and 30 in turn: mean 20, variance 100, so (100 - 20) / 20^2 = 0.2 in excess of
        // Poisson.
        let mut past = Past::default();
        for bucket in 1..=288 * 14 {
            let minute = Minute(bucket * 5 - 1);
            let tweets = if bucket % 2 == 0 { 10 } else { 30 };
            past.learn(tweets, counts(tweets), minute, &past.forecast(minute));
        }
        let found = past.forecast(Minute(4)).dispersion;
        assert!((found - 0.2).abs() < 0.02, "{found}");
    }

    #[test]
    fn measures_the_wander_from_hour_to_hour() {
        let steady = past((0..24 * 28).map(|_| 20));
        assert_eq!(steady.forecast(Minute(4)).wander, 0.0);
        assert_eq!(steady.share(), 0.25);
        // 12 and 28 in turn, by hours that no season explains: 40 % above and below the mean.
        let wanders = past((0..24 * 28).map(|hour: u64| if hour * 7 % 13 < 6 { 12 } else { 28 }));
        let found = wanders.forecast(Minute(4)).wander;
        assert!((0.2..0.45).contains(&found), "{found}");
    }

    #[test]
    fn rebase_changes_the_forecast_at_once() {
        let mut past = past((0..24 * 14).map(|_| 20));
        past.rebase(6 * 20 * 288, 20.0 * 288.0);
        let found = past.forecast(Minute(24 * 14 * 60 + 4)).tweets();
        assert!((found - 120.0).abs() < 2.0, "{found}");
    }
}
