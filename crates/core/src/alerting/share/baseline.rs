//! The expected share of negative tweets of a brand, and how far its counts scatter around it.

use serde::{Deserialize, Serialize};

use crate::alerting::Series;
use crate::domain::{Counts, HOURS_PER_WEEK, Interval, Minute, Zone};
use crate::logit::sigmoid;

use super::e_detector::Normal;
use super::season::{logit, offsets};
use super::{SharePolicy, Z};

/// A baseline ignores this many of the last minutes, so that it does not learn from a rise
/// that is not yet detected.
const LAG_MINUTES: i64 = 720;
/// Minutes that the level is the mean of.
const LEVEL_MINUTES: i64 = 2 * 1440;
/// Minutes in which the scatter is measured.
const SCATTER_MINUTES: i64 = 7 * 1440;
/// Minutes of hourly counts from which the season is learned.
const SEASON_MINUTES: i64 = 8 * 7 * 1440;
/// How many minutes before a minute the series of [`Baseline::learn`] starts.
pub(super) const LEARN_MINUTES: i64 = LAG_MINUTES + SCATTER_MINUTES;
/// How many minutes before an hour the hourly counts of [`Baseline::learn`] start.
pub(super) const SEASON_REACH_MINUTES: i64 = LAG_MINUTES + SEASON_MINUTES;
/// The e-detector adds this many standard errors to the expected share, because that share is
/// only an estimate.
const LEVEL_ERRORS: f64 = 1.0;
/// A wander below this many standard errors counts as zero. A higher limit would let the
/// wander of small brands cause false alarms; a lower limit would delay alarms of steady
/// brands.
const WANDER_ERRORS: f64 = 1.0;
/// How long a wandering share is assumed to stay on one side of the expected share.
const WANDER_MINUTES: i64 = 120;
/// Largest correlation between two tweets of one minute; a larger estimate is reduced to it.
const CORRELATION_MAX: f64 = 0.5;

/// The week in which the days with a rise at an hour of the day are counted.
const HABIT_MINUTES: i64 = 7 * 1440;
/// A rise at the same hour of this many of its days is what that hour usually brings.
const HABIT_DAYS: usize = 4;

/// A brand's normal share, learned from the time before a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Tweets that the level was learned from, and how many of them are negative.
    total: u64,
    negative: u64,
    /// Logit of the expected share, without the season.
    level: f64,
    /// What each hour of the week adds to the level; empty if unknown.
    season: Vec<f64>,
    /// Where these hours are counted.
    #[serde(default)]
    zone: Zone,
    /// Standard error of the expected share.
    error: f64,
    scatter: Scatter,
}

/// How counts scatter around the expected share.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Scatter {
    /// Correlation between two tweets of one minute: `rho` of a beta-binomial distribution.
    correlation: f64,
    /// Standard deviation of the share from hour to hour, without the part that chance explains.
    wander: f64,
    /// Variance of a minute's counts, divided by the variance of independent tweets.
    dispersion: f64,
}

impl Baseline {
    /// Learns the baseline from the time before `minute`; `None` with fewer than
    /// `policy.baseline_tweets_min` tweets.
    ///
    /// `hours` are hourly counts with the first minute of each hour, up to eight weeks. Hours
    /// that overlap a period of `excluded` (see [`SharePolicy::excluded`]) are not used, unless
    /// they are of the last week and most of its days brought a rise at their hour of the day.
    /// `series` was made with the same `excluded` and starts [`SharePolicy::history_minutes`]
    /// before `minute`.
    pub fn learn(
        policy: &SharePolicy,
        hours: &[(Minute, Counts)],
        excluded: &[(Minute, Minute)],
        series: &Series,
        minute: Minute,
    ) -> Option<Self> {
        let last = minute.plus(-LAG_MINUTES);
        // A brand with too few tweets for the usual period learns its level from a week.
        let (first, counts) = [LEVEL_MINUTES, SCATTER_MINUTES]
            .map(|minutes| last.plus(1 - minutes))
            .map(|first| (first, series.calm_sum(first, last)))
            .into_iter()
            .find(|(_, counts)| counts.total >= policy.baseline_tweets_min)?;
        let habits = Habits::of(excluded, policy.zone, minute);
        let calm: Vec<_> = hours
            .iter()
            .filter(|(start, _)| {
                start.plus(59) <= last
                    && start.0 > last.0 - SEASON_MINUTES
                    && !excluded.iter().any(|period| habits.leave_out(*start, period))
            })
            .copied()
            .collect();
        let mut baseline = Self {
            total: counts.total,
            negative: counts.negative,
            level: 0.0,
            season: offsets(&calm, policy.zone),
            zone: policy.zone,
            error: 0.0,
            scatter: Scatter::default(),
        };
        baseline.level = baseline.level_of(series, first, last, counts);
        baseline.scatter = baseline.scatter_of(series, last);
        let share = (counts.negative as f64 + 0.5) / (counts.total as f64 + 1.0);
        let tweets = counts.total as f64 / baseline.scatter.dispersion;
        baseline.error = (share * (1.0 - share) / tweets).sqrt();
        Some(baseline)
    }

    /// The share of negatives to expect in `minute`, in 0..1.
    pub fn expected(&self, minute: Minute) -> f64 {
        sigmoid(self.level + self.offset(minute))
    }

    /// Interval that contains the share of `minute` on 95 of 100 normal days.
    pub fn interval(&self, minute: Minute) -> Interval {
        let expected = self.expected(minute);
        let half = Z * self.error.hypot(self.scatter.wander);
        Interval { low: (expected - half).max(0.0), high: (expected + half).min(1.0) }
    }

    /// The tweets the level was learned from.
    pub fn counts(&self) -> Counts {
        Counts { total: self.total, negative: self.negative }
    }

    /// Variance of a minute's counts, divided by the variance of independent tweets.
    pub fn dispersion(&self) -> f64 {
        self.scatter.dispersion
    }

    /// The expected distribution of `minute` without a rise.
    pub(super) fn normal(&self, series: &Series, minute: Minute, rise_min: f64) -> Normal {
        Normal {
            share: self.expected(minute) + LEVEL_ERRORS * self.error,
            correlation: self.scatter.correlation,
            wander: self.scatter.wander,
            wander_tweets: series.sum(minute.plus(-WANDER_MINUTES), minute.plus(-1)).total,
            rise_min,
        }
    }

    fn offset(&self, minute: Minute) -> f64 {
        match self.season.is_empty() {
            true => 0.0,
            false => self.season.get(self.zone.hour_of_week(minute)).copied().unwrap_or(0.0),
        }
    }

    /// The level at which the expected number of negatives, with the season, equals the
    /// observed one.
    fn level_of(&self, series: &Series, first: Minute, last: Minute, counts: Counts) -> f64 {
        let negatives =
            (counts.negative as f64 + 0.5) / (counts.total as f64 + 1.0) * counts.total as f64;
        let hours: Vec<_> = (first.0..=last.0)
            .step_by(60)
            .map(Minute)
            .map(|start| (series.calm_sum(start, start.plus(59).min(last)), self.offset(start)))
            .collect();
        let mut level = logit(negatives / counts.total as f64);
        // Newton's method; the function is monotone and almost linear over a season.
        for _ in 0..8 {
            let (mut expected, mut slope) = (0.0, 0.0);
            for (hour, offset) in &hours {
                let share = sigmoid(level + offset);
                expected += hour.total as f64 * share;
                slope += hour.total as f64 * share * (1.0 - share);
            }
            level += ((negatives - expected) / slope.max(1e-9)).clamp(-1.0, 1.0);
        }
        level
    }

    /// Estimates by the method of moments. The covariance of two tweets of the same minute
    /// comes from the correlation and the wander; that of two tweets of the same hour but of
    /// different minutes comes from the wander alone. The correlation is estimated one standard
    /// error too high, to be safe; a wander below [`WANDER_ERRORS`] counts as zero.
    fn scatter_of(&self, series: &Series, last: Minute) -> Scatter {
        let (mut minutes, mut hours) = (Pairs::default(), Pairs::default());
        let (mut variance, mut tweets) = (0.0, 0.0);
        // The expected share of an hour of UTC, which holds for all its minutes.
        let mut expected = (i64::MIN, 0.0);
        for start in (last.0 + 1 - SCATTER_MINUTES..=last.0).step_by(60).map(Minute) {
            let mut hour = Pairs::default();
            let (mut hour_excess, mut hour_tweets) = (0.0, 0.0);
            for minute in (start.0..start.0 + 60).map(Minute) {
                let counts = series.calm_sum(minute, minute);
                if counts.total == 0 {
                    continue;
                }
                let (n, k) = (counts.total as f64, counts.negative as f64);
                if expected.0 != minute.hour() {
                    expected = (minute.hour(), self.expected(minute));
                }
                let p = expected.1;
                let excess = k - n * p;
                let squares = k * (1.0 - p).powi(2) + (n - k) * p * p;
                minutes.add(excess * excess - squares, n * (n - 1.0));
                hour.add(-excess * excess, -n * n);
                hour_excess += excess;
                hour_tweets += n;
                variance += squares;
            }
            hour.add(hour_excess * hour_excess, hour_tweets * hour_tweets);
            hours.add(hour.product, hour.pairs);
            tweets += hour_tweets;
        }
        if variance == 0.0 {
            return Scatter { dispersion: 1.0, ..Scatter::default() };
        }
        let variance = variance / tweets;
        // Under independence the products of n pairs have a variance of 2 n variance^2.
        let error = |pairs: &Pairs| variance * (2.0 / pairs.pairs).sqrt();
        let covariance = minutes.mean();
        let per_minute = 1.0 + minutes.pairs / tweets * (covariance / variance).clamp(0.0, 1.0);
        let wander = hours.mean();
        let wander = if wander > WANDER_ERRORS * error(&hours) * per_minute { wander } else { 0.0 };
        let correlation =
            ((covariance - wander + error(&minutes)) / variance).clamp(0.0, CORRELATION_MAX);
        Scatter {
            correlation,
            wander: wander.sqrt(),
            dispersion: 1.0 + minutes.pairs / tweets * correlation,
        }
    }
}

/// The hours of the day at which a brand's share rises on most days. Without them, a brand whose evenings are always
/// angrier would raise an alarm each evening and never learn its evenings, because past incidents are left out.
struct Habits {
    zone: Zone,
    from: Minute,
    /// For each hour of the day.
    is_usual: [bool; 24],
}

impl Habits {
    fn of(excluded: &[(Minute, Minute)], zone: Zone, minute: Minute) -> Self {
        let from = minute.plus(-HABIT_MINUTES);
        // Each hour of a week once, however many rises it had.
        let mut rose = [false; HOURS_PER_WEEK];
        for (since, to) in excluded.iter().filter(Self::is_short) {
            let hours = (since.hour_start().0..=to.0).step_by(60).map(Minute);
            for start in hours.filter(|start| *start >= from) {
                rose[zone.hour_of_week(start)] = true;
            }
        }
        let days = |hour| rose.iter().skip(hour).step_by(24).filter(|rose| **rose).count();
        Self { zone, from, is_usual: std::array::from_fn(|hour| days(hour) >= HABIT_DAYS) }
    }

    /// A rise of a day or more is no habit of an hour.
    fn is_short(period: &&(Minute, Minute)) -> bool {
        period.1.0.saturating_sub(period.0.0) < 1440 - 60
    }

    /// Whether the season does not learn from an hour because of a past incident.
    fn leave_out(&self, start: Minute, period: &(Minute, Minute)) -> bool {
        let (from, to) = *period;
        let overlaps = from <= start.plus(59) && start <= to;
        let is_usual = || {
            start >= self.from
                && Self::is_short(&period)
                && self.is_usual[self.zone.hour_of_week(start) % 24]
        };
        overlaps && !is_usual()
    }
}

/// Sum of the products of the deviations of two tweets, and the number of ordered pairs.
#[derive(Default)]
struct Pairs {
    product: f64,
    pairs: f64,
}

impl Pairs {
    fn add(&mut self, product: f64, pairs: f64) {
        self.product += product;
        self.pairs += pairs;
    }

    fn mean(&self) -> f64 {
        if self.pairs > 0.0 { self.product / self.pairs } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_usual_if_most_days_of_a_week_rise_in_it() {
        let now = Minute(100 * 1440 + 720);
        // So many minutes of the evening, on these days before today.
        let rises = |days: &[i64], minutes: i64| -> Vec<(Minute, Minute)> {
            let since = |day: &i64| Minute((100 - day) * 1440 + 20 * 60);
            days.iter().map(|day| (since(day), since(day).plus(minutes))).collect()
        };
        let check = |name: &str, excluded: &[(Minute, Minute)], expected: bool| {
            let habits = Habits::of(excluded, Zone::UTC, now);
            let evening = Minute(99 * 1440 + 20 * 60);
            let period = (evening, evening.plus(50));
            assert!(habits.leave_out(evening, &period) != expected, "{name}");
            assert!(habits.leave_out(evening.plus(-60), &(evening.plus(-60), evening)), "{name}");
            let long_ago = evening.plus(-8 * 1440);
            assert!(
                habits.leave_out(long_ago, &(long_ago, long_ago)),
                "{name}: not the whole past"
            );
        };
        check("no rise", &[], false);
        check("three days", &rises(&[1, 2, 3], 50), false);
        check("four days", &rises(&[1, 2, 4, 6], 50), true);
        let twice = [rises(&[1, 2], 10), rises(&[1, 2], 50)].concat();
        check("twice on two days", &twice, false);
        check("four days, some of them long ago", &rises(&[1, 2, 8, 9], 50), false);
        check("one long rise", &rises(&[6], 5 * 1440), false);
    }
}
