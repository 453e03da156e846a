//! What share of negatives to expect of a brand, and how far its counts scatter around it.

use serde::{Deserialize, Serialize};

use crate::alerting::Series;
use crate::domain::{Counts, Interval, Minute};

use super::e_detector::Normal;
use super::season::{logit, offsets};
use super::{SharePolicy, Z};

/// Minutes that a baseline stays behind, so that a rise does not slip into it before it is
/// found.
const LAG_MINUTES: i64 = 720;
/// Minutes whose mean is the level.
const LEVEL_MINUTES: i64 = 2 * 1440;
/// Minutes in which the scatter is measured.
const SCATTER_MINUTES: i64 = 7 * 1440;
/// Minutes of hourly counts from which the season is learned.
const SEASON_MINUTES: i64 = 8 * 7 * 1440;
/// Minutes that the series of [`Baseline::learn`] reaches back.
pub(super) const LEARN_MINUTES: i64 = LAG_MINUTES + SCATTER_MINUTES;
/// Minutes before an hour that the hourly counts of [`Baseline::learn`] reach back.
pub(super) const SEASON_REACH_MINUTES: i64 = LAG_MINUTES + SEASON_MINUTES;
/// How many of its standard errors the level is raised by, to pay for its being an estimate.
const LEVEL_ERRORS: f64 = 1.0;
/// How many standard errors the wander must be away from none to be believed: more would let
/// the wander of small brands cry wolf, fewer slow steady ones down.
const WANDER_ERRORS: f64 = 1.0;
/// How long a wandering share is taken to keep to one side.
const WANDER_MINUTES: i64 = 120;
/// Tweets of one minute that hang together more than this are taken to hang together thus.
const CORRELATION_MAX: f64 = 0.5;

/// A brand's own normal, as learned up to a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Tweets and negatives that the level was learned from.
    total: u64,
    negative: u64,
    /// Logit of the expected share, but for the season.
    level: f64,
    /// What each hour of the week adds to it; empty where that is not known.
    season: Vec<f64>,
    /// Standard error of the expected share.
    error: f64,
    scatter: Scatter,
}

/// How counts scatter around what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Scatter {
    /// Correlation between two tweets of one minute, the `rho` of a beta-binomial law.
    correlation: f64,
    /// Standard deviation of the share from hour to hour, beyond what chance explains.
    wander: f64,
    /// How many times the variance of independent tweets a minute's counts have.
    dispersion: f64,
}

impl Baseline {
    /// Learns the normal of the time before `minute`; `None` where there are fewer than
    /// `policy.baseline_tweets_min` tweets.
    ///
    /// `hours` are hourly counts with the minute each hour starts in, up to eight weeks of
    /// them; hours that touch a stretch of `left_out` (see [`SharePolicy::left_out`]) are not
    /// used. `series` knows of `left_out` itself, and reaches back
    /// [`SharePolicy::history_minutes`].
    pub fn learn(
        policy: &SharePolicy,
        hours: &[(Minute, Counts)],
        left_out: &[(Minute, Minute)],
        series: &Series,
        minute: Minute,
    ) -> Option<Self> {
        let last = minute.plus(-LAG_MINUTES);
        // A small brand's level is that of a week.
        let (first, counts) = [LEVEL_MINUTES, SCATTER_MINUTES]
            .map(|minutes| last.plus(1 - minutes))
            .map(|first| (first, series.calm_sum(first, last)))
            .into_iter()
            .find(|(_, counts)| counts.total >= policy.baseline_tweets_min)?;
        let calm: Vec<_> = hours
            .iter()
            .filter(|(start, _)| {
                let end = start.plus(59);
                end <= last
                    && start.0 > last.0 - SEASON_MINUTES
                    && !left_out.iter().any(|(from, to)| *from <= end && *start <= *to)
            })
            .copied()
            .collect();
        let mut baseline = Self {
            total: counts.total,
            negative: counts.negative,
            level: 0.0,
            season: offsets(&calm),
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

    /// Where the share of `minute` lies on 95 of 100 normal days.
    pub fn interval(&self, minute: Minute) -> Interval {
        let expected = self.expected(minute);
        let half = Z * self.error.hypot(self.scatter.wander);
        Interval { low: (expected - half).max(0.0), high: (expected + half).min(1.0) }
    }

    /// The tweets the level was learned from.
    pub fn counts(&self) -> Counts {
        Counts { total: self.total, negative: self.negative }
    }

    /// How many times the variance of independent tweets a minute's counts have.
    pub fn dispersion(&self) -> f64 {
        self.scatter.dispersion
    }

    /// What `minute` looks like while nothing happens.
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
        self.season.get(minute.hour_of_week()).copied().unwrap_or(0.0)
    }

    /// The level at which the season leads us to expect just the negatives that came.
    fn level_of(&self, series: &Series, first: Minute, last: Minute, counts: Counts) -> f64 {
        let negatives =
            (counts.negative as f64 + 0.5) / (counts.total as f64 + 1.0) * counts.total as f64;
        let hours: Vec<_> = (first.0..=last.0)
            .step_by(60)
            .map(Minute)
            .map(|start| (series.calm_sum(start, start.plus(59).min(last)), self.offset(start)))
            .collect();
        let mut level = logit(negatives / counts.total as f64);
        // Newton's method; the function is monotone and nearly straight over a season.
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

    /// Moment estimates: two tweets of a minute go together by the correlation and the
    /// wander, two of an hour but not of a minute by the wander alone. The correlation is
    /// taken a standard error higher than found; a wander is believed from
    /// [`WANDER_ERRORS`] on.
    fn scatter_of(&self, series: &Series, last: Minute) -> Scatter {
        let (mut minutes, mut hours) = (Pairs::default(), Pairs::default());
        let (mut variance, mut tweets) = (0.0, 0.0);
        for start in (last.0 + 1 - SCATTER_MINUTES..=last.0).step_by(60).map(Minute) {
            let mut hour = Pairs::default();
            let (mut hour_excess, mut hour_tweets) = (0.0, 0.0);
            for minute in (start.0..start.0 + 60).map(Minute) {
                let counts = series.calm_sum(minute, minute);
                if counts.total == 0 {
                    continue;
                }
                let (n, k) = (counts.total as f64, counts.negative as f64);
                let p = self.expected(minute);
                let excess = k - n * p;
                let own = k * (1.0 - p).powi(2) + (n - k) * p * p;
                minutes.add(excess * excess - own, n * (n - 1.0));
                hour.add(-excess * excess, -n * n);
                hour_excess += excess;
                hour_tweets += n;
                variance += own;
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
        let together = minutes.mean();
        let per_minute = 1.0 + minutes.pairs / tweets * (together / variance).clamp(0.0, 1.0);
        let wander = hours.mean();
        let wander = if wander > WANDER_ERRORS * error(&hours) * per_minute { wander } else { 0.0 };
        let correlation =
            ((together - wander + error(&minutes)) / variance).clamp(0.0, CORRELATION_MAX);
        Scatter {
            correlation,
            wander: wander.sqrt(),
            dispersion: 1.0 + minutes.pairs / tweets * correlation,
        }
    }
}

/// Products of the deviations of two tweets, and how many (ordered) pairs of tweets.
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

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
