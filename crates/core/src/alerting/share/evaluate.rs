//! Evaluates one minute: nothing happens, or an incident opens, continues or resolves.

use serde::{Deserialize, Serialize};

use crate::alerting::Series;
use crate::domain::{Counts, Interval, Minute, ResolveReason, ShareEvidence, window_minutes};

use super::e_detector::EDetector;
use super::{Baseline, MONTH_MINUTES, SINCE_MINUTES_MAX, SharePolicy, ShareRule, share_interval};

/// Minutes after a new normal in which nothing opens at its share.
const SETTLED_MINUTES: i64 = 2 * 1440;

/// The detector state of a brand between two minutes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareState {
    pub(super) detector: EDetector,
    /// Since when all conditions to open an incident hold.
    pub(super) held_since: Option<i64>,
    pub(super) open: Option<OpenRise>,
    /// First and last minute of the periods that baselines leave out, because of past incidents.
    pub(super) excluded: Vec<(i64, i64)>,
    /// A level that became the new normal.
    pub(super) settled: Option<Settled>,
}

/// A share that has become the new normal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    share: f64,
    /// Until this minute nothing opens at that share: the baseline has only begun to know it.
    until: i64,
}

impl ShareState {
    /// The open incident, if any.
    pub fn open(&self) -> Option<&OpenRise> {
        self.open.as_ref()
    }

    /// The periods that baselines leave out.
    pub fn excluded(&self) -> Vec<(Minute, Minute)> {
        self.excluded.iter().map(|(from, to)| (Minute(*from), Minute(*to))).collect()
    }

    /// The state as if no incident were open.
    pub fn closed(self) -> Self {
        match self.open {
            Some(_) => Self { excluded: self.excluded, settled: self.settled, ..Self::default() },
            None => self,
        }
    }
}

/// An open incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRise {
    opened: i64,
    pub(super) since: i64,
    pub(super) calm_since: Option<i64>,
    statistic: f64,
    threshold: f64,
    pub(super) expectation: Expectation,
}

impl OpenRise {
    /// The minute at whose end the incident opened.
    pub fn opened(&self) -> Minute {
        Minute(self.opened)
    }

    /// The first minute of the rise.
    pub fn since(&self) -> Minute {
        Minute(self.since)
    }
}

/// Why a minute does not open an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuietReason {
    /// The past has too few tweets to learn the expected share.
    NoBaseline,
    /// Chance can explain the counts.
    Chance,
    /// The share, or its multiple, is below the rule's threshold.
    BelowThreshold,
    /// Too few tweets since the rise began.
    TooFewTweets,
    /// The rise is too small to matter.
    RiseTooSmall,
    /// The last minutes no longer show the rise.
    AlreadyOver,
    /// The rise has not lasted long enough.
    TooShort,
}

impl QuietReason {
    /// The reason's text in logs, JSON and tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoBaseline => "no baseline",
            Self::Chance => "chance",
            Self::BelowThreshold => "below the threshold",
            Self::TooFewTweets => "too few tweets",
            Self::RiseTooSmall => "rise too small",
            Self::AlreadyOver => "already over",
            Self::TooShort => "too short",
        }
    }
}

/// The share of an open incident in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RiseStatus {
    /// The share is still high.
    High,
    /// The share has been close to the expected share since this minute.
    CalmSince(Minute),
}

/// What to do about a brand in a minute. The evidence of an open incident contains the
/// statistic with which it opened.
#[derive(Debug, Clone, PartialEq)]
pub enum ShareVerdict {
    /// Nothing.
    Quiet(QuietReason),
    /// Open an incident.
    Open(ShareEvidence),
    /// The open incident continues.
    Firing(ShareEvidence, RiseStatus),
    /// Resolve the open incident.
    Resolve(ShareEvidence, ResolveReason),
}

/// What the share is compared with; frozen while an incident is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Expectation {
    /// The brand's baseline.
    Baseline(Baseline),
    /// The share of the rule `share-above`.
    Share(f64),
    /// The preceding window of the rule `times-previous`.
    Previous { total: u64, negative: u64 },
}

impl Expectation {
    fn rule(&self) -> &'static str {
        match self {
            Self::Baseline(_) => "e-detector",
            Self::Share(_) => "share-above",
            Self::Previous { .. } => "times-previous",
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Baseline(baseline) => baseline.counts(),
            Self::Share(_) => Counts::default(),
            Self::Previous { total, negative } => Counts { total: *total, negative: *negative },
        }
    }

    fn share(&self, minute: Minute) -> f64 {
        match self {
            Self::Baseline(baseline) => baseline.expected(minute),
            Self::Share(share) => *share,
            Self::Previous { .. } => self.counts().share().unwrap_or(0.0),
        }
    }

    /// The expected share of `first..=last`, weighted by the tweets of each minute.
    fn share_over(&self, series: &Series, first: Minute, last: Minute) -> f64 {
        let (mut tweets, mut negatives) = (0.0, 0.0);
        for minute in (first.0..=last.0).map(Minute) {
            let total = series.sum(minute, minute).total as f64;
            tweets += total;
            negatives += total * self.share(minute);
        }
        if tweets > 0.0 { negatives / tweets } else { self.share(last) }
    }

    fn interval(&self, minute: Minute) -> Interval {
        match self {
            Self::Baseline(baseline) => baseline.interval(minute),
            Self::Share(share) => Interval { low: 0.0, high: *share },
            Self::Previous { .. } => share_interval(self.counts(), 1.0),
        }
    }

    fn dispersion(&self) -> f64 {
        match self {
            Self::Baseline(baseline) => baseline.dispersion(),
            Self::Share(_) | Self::Previous { .. } => 1.0,
        }
    }
}

/// A rise that can open an incident.
struct Found {
    since: Minute,
    statistic: f64,
    threshold: f64,
    expectation: Expectation,
}

impl SharePolicy {
    /// Evaluates `minute` at its end. Returns the new state and what to do. The caller passes
    /// each minute once, in order; `series` starts [`SharePolicy::evaluation_minutes`] before
    /// `minute`. The rules `share-above` and `times-previous` need no `baseline`.
    pub fn evaluate(
        &self,
        series: &Series,
        baseline: Option<&Baseline>,
        state: &ShareState,
        minute: Minute,
    ) -> (ShareState, ShareVerdict) {
        let mut next = state.clone();
        let verdict = match &mut next.open {
            Some(open) => self.evaluate_open(series, open, minute),
            None => self.evaluate_closed(series, baseline, &mut next, minute),
        };
        if let (ShareVerdict::Resolve(evidence, why), Some(open)) = (&verdict, &next.open) {
            let period = match why {
                ResolveReason::Calm => (open.since, minute.0),
                // The old normal would raise the same alarm again at once.
                ResolveReason::NewNormal => (i64::MIN, open.since - 1),
            };
            if *why == ResolveReason::NewNormal {
                next.settled = Some(Settled {
                    share: evidence.observed_share().max(evidence.recent_share()),
                    until: minute.0 + SETTLED_MINUTES,
                });
            }
            next.excluded.push(period);
            let reach = minute.0 - self.season_minutes();
            next.excluded.retain(|(_, to)| *to >= reach);
            next = next.closed();
        }
        (next, verdict)
    }

    fn evaluate_closed(
        &self,
        series: &Series,
        baseline: Option<&Baseline>,
        state: &mut ShareState,
        minute: Minute,
    ) -> ShareVerdict {
        let found = match self.rule {
            ShareRule::EDetector { false_alarms_per_month } => self.e_detector(
                series,
                baseline,
                state,
                minute,
                MONTH_MINUTES / false_alarms_per_month,
            ),
            ShareRule::ShareAbove { share, .. } => self.share_above(series, minute, share),
            ShareRule::TimesPrevious { times, .. } => self.times_previous(series, minute, times),
        };
        let found = match found {
            Ok(found) => found,
            Err(reason) => {
                state.held_since = None;
                return ShareVerdict::Quiet(reason);
            }
        };
        let held_since = *state.held_since.get_or_insert(minute.0);
        if minute.0 - held_since < i64::from(self.for_minutes) {
            return ShareVerdict::Quiet(QuietReason::TooShort);
        }
        let open = state.open.insert(OpenRise {
            opened: minute.0,
            since: found.since.0,
            calm_since: None,
            statistic: found.statistic,
            threshold: found.threshold,
            expectation: found.expectation,
        });
        ShareVerdict::Open(self.evidence(series, open, minute))
    }

    /// The e-detector. Once its statistic has reached `threshold`, the statistic stays there
    /// while the other conditions hold: `for_minutes` requires a lasting rise, not ever more
    /// evidence.
    fn e_detector(
        &self,
        series: &Series,
        baseline: Option<&Baseline>,
        state: &mut ShareState,
        minute: Minute,
        threshold: f64,
    ) -> Result<Found, QuietReason> {
        let baseline = baseline.ok_or(QuietReason::NoBaseline)?;
        if state.held_since.is_none() {
            let normal = baseline.normal(series, minute, self.rise_min);
            let counts = series.sum(minute, minute);
            if !state.detector.step(normal, counts, minute, threshold) {
                return Err(QuietReason::Chance);
            }
        }
        let found = Found {
            since: state.detector.since().max(minute.plus(1 - SINCE_MINUTES_MAX)),
            statistic: state.detector.statistic() / MONTH_MINUTES,
            threshold: threshold / MONTH_MINUTES,
            expectation: Expectation::Baseline(baseline.clone()),
        };
        let observed = series.sum(found.since, minute);
        let settled = state.settled.filter(|settled| minute.0 <= settled.until);
        let expected = found
            .expectation
            .share_over(series, found.since, minute)
            .max(settled.map_or(0.0, |settled| settled.share));
        if observed.total < self.tweets_min {
            Err(QuietReason::TooFewTweets)
        } else if observed.share().unwrap_or(0.0) - expected < self.rise_min {
            Err(QuietReason::RiseTooSmall)
        } else if self.is_calm(series, &found.expectation, minute) {
            Err(QuietReason::AlreadyOver)
        } else {
            Ok(found)
        }
    }

    /// The rule `share-above`.
    fn share_above(
        &self,
        series: &Series,
        minute: Minute,
        limit: f64,
    ) -> Result<Found, QuietReason> {
        let since = self.recent_first(series, minute);
        let observed = series.sum(since, minute);
        let share = observed.share().unwrap_or(0.0);
        if observed.total < self.tweets_min {
            Err(QuietReason::TooFewTweets)
        } else if share < limit {
            Err(QuietReason::BelowThreshold)
        } else {
            let expectation = Expectation::Share(limit);
            Ok(Found { since, statistic: share, threshold: limit, expectation })
        }
    }

    /// The rule `times-previous`. A preceding window without negatives counts as half a
    /// negative.
    fn times_previous(
        &self,
        series: &Series,
        minute: Minute,
        times: f64,
    ) -> Result<Found, QuietReason> {
        let since = self.recent_first(series, minute);
        let observed = series.sum(since, minute);
        let previous = series.sum(self.recent_first(series, since.plus(-1)), since.plus(-1));
        if previous.total < self.baseline_tweets_min.min(self.tweets_min) {
            return Err(QuietReason::NoBaseline);
        }
        let before = (previous.negative as f64).max(0.5) / previous.total as f64;
        let share = observed.share().unwrap_or(0.0);
        if observed.total < self.tweets_min {
            Err(QuietReason::TooFewTweets)
        } else if share < times * before {
            Err(QuietReason::BelowThreshold)
        } else if share - before < self.rise_min {
            Err(QuietReason::RiseTooSmall)
        } else {
            let Counts { total, negative } = previous;
            let expectation = Expectation::Previous { total, negative };
            Ok(Found { since, statistic: share / before, threshold: times, expectation })
        }
    }

    fn evaluate_open(&self, series: &Series, open: &mut OpenRise, minute: Minute) -> ShareVerdict {
        let evidence = self.evidence(series, open, minute);
        if self.is_stable(series, open, minute) {
            return ShareVerdict::Resolve(evidence, ResolveReason::NewNormal);
        }
        if !self.is_calm(series, &open.expectation, minute) {
            open.calm_since = None;
            return ShareVerdict::Firing(evidence, RiseStatus::High);
        }
        let since = *open.calm_since.get_or_insert(minute.0);
        if minute.0 - since >= i64::from(self.resolve_minutes) {
            ShareVerdict::Resolve(evidence, ResolveReason::Calm)
        } else {
            ShareVerdict::Firing(evidence, RiseStatus::CalmSince(Minute(since)))
        }
    }

    /// Whether the share has been as high for `new_normal_minutes`: since the incident opened, the second
    /// half of this time was like the first.
    fn is_stable(&self, series: &Series, open: &OpenRise, minute: Minute) -> bool {
        let half = i64::from(self.new_normal_minutes) / 2;
        if minute.0 - open.opened < 2 * half {
            return false;
        }
        let level = |end: Minute| series.sum(end.plus(1 - half), end).share();
        match (level(minute.plus(-half)), level(minute)) {
            (Some(before), Some(now)) => (now - before).abs() < self.rise_min,
            // Without tweets nothing can be said.
            _ => false,
        }
    }

    /// Whether the short window shows less than half of `rise_min`. This is hysteresis: a
    /// share near the limit does not open and resolve an incident every minute. A window
    /// without tweets is calm.
    fn is_calm(&self, series: &Series, expectation: &Expectation, minute: Minute) -> bool {
        let margin = match expectation {
            // This rule expects the share at which it alarms.
            Expectation::Share(_) => -self.rise_min / 2.0,
            Expectation::Baseline(_) | Expectation::Previous { .. } => self.rise_min / 2.0,
        };
        series
            .sum(self.recent_first(series, minute), minute)
            .share()
            .is_none_or(|share| share < expectation.share(minute) + margin)
    }

    /// Length of the short window that ends with `minute`, in minutes. The e-detector's window
    /// becomes up to four times as long while it has fewer than `tweets_min` tweets.
    fn recent_minutes(&self, series: &Series, minute: Minute) -> u32 {
        match self.rule {
            ShareRule::EDetector { .. } => [1, 2, 4]
                .map(|times| times * self.short_minutes)
                .into_iter()
                .find(|minutes| {
                    series.sum(first_of(minute, *minutes), minute).total >= self.tweets_min
                })
                .unwrap_or(4 * self.short_minutes),
            ShareRule::ShareAbove { window_minutes, .. }
            | ShareRule::TimesPrevious { window_minutes, .. } => window_minutes,
        }
    }

    /// The first minute of the short window that ends with `minute`.
    pub(super) fn recent_first(&self, series: &Series, minute: Minute) -> Minute {
        first_of(minute, self.recent_minutes(series, minute))
    }

    fn evidence(&self, series: &Series, open: &OpenRise, minute: Minute) -> ShareEvidence {
        let since = open.since().max(minute.plus(1 - SINCE_MINUTES_MAX));
        let observed = series.sum(since, minute);
        let expectation = &open.expectation;
        ShareEvidence {
            rule: expectation.rule(),
            since,
            window_minutes: window_minutes(since, minute),
            observed,
            observed_interval: share_interval(observed, expectation.dispersion()),
            recent_minutes: self.recent_minutes(series, minute),
            recent: series.sum(self.recent_first(series, minute), minute),
            baseline: expectation.counts(),
            expected_share: expectation.share_over(series, since, minute),
            expected_interval: expectation.interval(minute),
            statistic: open.statistic,
            threshold: open.threshold,
            dispersion: expectation.dispersion(),
        }
    }
}

/// The first of the `minutes` minutes that end with `last`.
fn first_of(last: Minute, minutes: u32) -> Minute {
    last.plus(1 - i64::from(minutes))
}
