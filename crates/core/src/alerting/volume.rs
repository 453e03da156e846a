//! Detects that a brand gets many more tweets, or many more negative ones, than its past explains.
//!
//! Counts of five minutes are compared with a [`Forecast`]: the brand's rate at this hour of the
//! week, times the level of the last two days. Three sizes of rise (2, 4 and 8 times) gather
//! evidence together, as an e-detector: the likelihood ratio of a bucket is that of two negative
//! binomials whose dispersion is measured from the errors of the forecast ([`Surprise`]). If
//! buckets were independent and so distributed, chance would open an incident at most once in
//! `A` buckets at the threshold `A`, whatever the volume.
//!
//! Real volumes are neither: they come in bursts, of a size that no dispersion explains. So the
//! threshold also rises to what the brand's own bursts reach ([`Tail`]): the largest statistic
//! of each day is extrapolated to the budget of false alarms, by peaks over a threshold. A brand
//! that has a burst every week is not alarmed by the next one of the same size.
//!
//! A surge wants a smallest multiple of the forecast and a smallest number of tweets; one of negative
//! tweets also wants that their share has not fallen: a joke that makes everybody laugh
//! brings a few angry answers too.
//!
//! **Invariant.** A verdict depends only on the counts, the state and the minute; the state
//! has a fixed size. While a surge is open, the forecast learns nothing. Deliberately absent:
//! learning from late tweets; they are few, and the forecast is a mean over weeks.

mod forecast;
mod surprise;
mod tail;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::domain::{Cause, Counts, Evidence, Minute, ResolveReason, VolumeEvidence, Zone};

use super::Series;
use forecast::{Forecast, Past};
use surprise::{RISE_MIN, Surprise, log_likelihood_ratio};
use tail::Tail;

/// Length of a bucket, in minutes.
const BUCKET_MINUTES: i64 = 5;
/// Buckets in a month of 30 days.
const BUCKETS_PER_MONTH: f64 = 8640.0;
/// A surge is over after this many calm minutes at least: volumes swing within the hour.
const CALM_MINUTES_MIN: u32 = 60;
/// Two such periods, one after the other, are compared to say whether the level is stable, in minutes.
const STABLE_MINUTES: i64 = 1440;
/// A level is stable if the two periods differ by less than this part.
const STABLE_CHANGE_MAX: f64 = 0.25;
/// A forecast's mean is raised by this part of the standard deviation of the hourly wander.
const WANDER_DEVIATIONS: f64 = 0.5;
/// A rise of negative tweets wants at least this part of their usual share.
const SHARE_KEPT_MIN: f64 = 0.75;

/// Which tweets of a brand are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// All tweets.
    All,
    /// The negative ones.
    Negative,
}

/// What counts as a surge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VolumePolicy {
    /// Which tweets are counted.
    pub counted: Volume,
    /// How many surges a brand may open by chance in 30 days, on average.
    pub false_alarms_per_month: f64,
    /// Smallest multiple of the expected tweets that is a surge; greater than one.
    pub times_min: f64,
    /// Minimum number of counted tweets in a surge.
    pub tweets_min: u64,
    /// How long the volume must be calm before a surge resolves, in minutes; one hour at least.
    pub resolve_minutes: u32,
    /// The time zone of the brand's season.
    pub zone: Zone,
}

impl Volume {
    /// The number of these tweets.
    pub fn of(self, counts: Counts) -> u64 {
        match self {
            Self::All => counts.total,
            Self::Negative => counts.negative,
        }
    }

    /// What they are called.
    pub fn noun(self) -> &'static str {
        match self {
            Self::All => "tweets",
            Self::Negative => "negative tweets",
        }
    }

    /// The cause of an incident about these tweets.
    pub fn cause(self) -> Cause {
        match self {
            Self::All => Cause::Surge,
            Self::Negative => Cause::NegativeVolume,
        }
    }

    /// The evidence of an incident about these tweets.
    pub fn evidence(self, evidence: VolumeEvidence) -> Evidence {
        match self {
            Self::All => Evidence::Surge(evidence),
            Self::Negative => Evidence::NegativeVolume(evidence),
        }
    }
}

impl VolumePolicy {
    /// The default policy for counting these tweets.
    pub fn of(counted: Volume) -> Self {
        Self {
            counted,
            false_alarms_per_month: 1.0,
            times_min: 2.0,
            tweets_min: 30,
            resolve_minutes: 30,
            zone: Zone::UTC,
        }
    }
}

/// The detector state of a brand's volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeState {
    /// What the forecast has learned.
    past: Past,
    /// The evidence for a rise.
    surprise: Surprise,
    /// What the statistic reached on past days.
    tail: Tail,
    /// The buckets since the rise began.
    rise: Option<Rise>,
    /// The minute in which the open surge opened, if any.
    opened: Option<i64>,
}

/// Why a bucket does not open a surge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeReason {
    /// The forecast has learned from less than two days.
    HistoryTooShort,
    /// Chance, or bursts as the brand has had before, can explain the volume.
    Chance,
    /// There is a rise, but it is smaller than `times_min`.
    RiseTooSmall,
    /// There is a rise, but in one bucket alone, or it is over already.
    Passing,
    /// There is a rise, but there are fewer tweets than `tweets_min`.
    TooFewTweets,
    /// There are more negative tweets, but their share has fallen.
    ShareFell,
}

/// What to do about a brand's volume in a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VolumeVerdict {
    /// The minute does not end a bucket, so there was nothing to evaluate.
    Wait,
    /// Nothing.
    Quiet(VolumeReason),
    /// A surge opens.
    Open(VolumeEvidence),
    /// The open surge continues.
    Firing(VolumeEvidence),
    /// The open surge resolves.
    Resolve(VolumeEvidence, ResolveReason),
}

impl VolumePolicy {
    /// How many minutes before an evaluated minute the [`Series`] must start.
    pub fn history_minutes(&self) -> i64 {
        self.calm_minutes().max(2 * STABLE_MINUTES)
    }

    /// The value of the statistic at which a surge of a brand without bursts opens.
    pub fn threshold(&self) -> f64 {
        (BUCKETS_PER_MONTH / self.false_alarms_per_month).ln()
    }

    fn calm_minutes(&self) -> i64 {
        i64::from(self.resolve_minutes.max(CALM_MINUTES_MIN))
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
        let counts = series.sum(first, minute);
        let counted = self.counted.of(counts);
        if state.past.is_empty() {
            state.past = Past::in_zone(self.zone);
        }
        let forecast = state.past.forecast(minute);
        if !state.past.is_long_enough() {
            state.past.learn(counted, counts, minute, &forecast);
            return (state, VolumeVerdict::Quiet(VolumeReason::HistoryTooShort));
        }
        let threshold = state.tail.threshold(self.threshold(), self.false_alarms_per_month);
        let statistic = state.surprise.step(counted, forecast.raised(WANDER_DEVIATIONS));
        state.tail.see(minute, statistic, threshold);
        let rise = Rise::next(state.rise, counts, counted, &forecast, first);
        state.rise = Some(rise);
        let evidence = VolumeEvidence {
            since: Minute(rise.since),
            observed: rise.observed,
            expected: rise.expected,
            tweets: rise.tweets,
            usual_share: state.past.share(),
            statistic,
            threshold,
        };
        if let Some(opened) = state.opened {
            let end = if self.is_new_normal(series, &state, opened, minute) {
                state.past.rebase(rise.observed, rise.expected);
                Some(ResolveReason::NewNormal)
            } else {
                self.is_calm(series, &state, opened, minute).then_some(ResolveReason::Calm)
            };
            let Some(end) = end else { return (state, VolumeVerdict::Firing(evidence)) };
            (state.rise, state.opened) = (None, None);
            state.surprise = Surprise::default();
            return (state, VolumeVerdict::Resolve(evidence, end));
        }
        let reason = if statistic < threshold {
            VolumeReason::Chance
        } else if (rise.observed as f64) < self.times_min * rise.expected {
            VolumeReason::RiseTooSmall
        } else if rise.observed < self.tweets_min {
            VolumeReason::TooFewTweets
        } else if rise.since == first.0 || (counted as f64) < self.high(forecast.tweets()) {
            VolumeReason::Passing
        } else if self.counted == Volume::Negative
            && rise.tweets.share().unwrap_or(0.0) < SHARE_KEPT_MIN * evidence.usual_share
        {
            VolumeReason::ShareFell
        } else {
            state.opened = Some(minute.0);
            return (state, VolumeVerdict::Open(evidence));
        };
        state.past.learn(counted, counts, minute, &forecast);
        (state, VolumeVerdict::Quiet(reason))
    }

    /// The state with which the detector goes on from `next` when another model scores the stream from
    /// there on: as if that model had always scored it. `counts` are that model's counts of the
    /// time before, `state` is the state by the counts of the model before. A surge that is open stays open;
    /// one that only the new model sees, and that began before, does not open.
    pub fn change_model(
        &self,
        state: &VolumeState,
        counts: &[(Minute, Counts)],
        next: Minute,
    ) -> VolumeState {
        let mut changed = self.replay(counts, next.plus(-1));
        if changed.opened != state.opened {
            changed.opened = state.opened;
            changed.rise = None;
            changed.surprise = Surprise::default();
        }
        changed
    }

    /// What a detector has learned from these counts up to and including `to`, without an open surge: for
    /// the first evaluation, which must not notify of old surges.
    pub fn learn(&self, counts: &[(Minute, Counts)], to: Minute) -> VolumeState {
        self.replay(counts, to).closed()
    }

    /// The state after these counts up to and including `to`.
    fn replay(&self, counts: &[(Minute, Counts)], to: Minute) -> VolumeState {
        let mut state = VolumeState::default();
        let Some((first, _)) = counts.first() else { return state };
        let series = Series::new(first.plus(-self.history_minutes()), to, counts, &[]);
        for minute in (first.0..=to.0).map(Minute) {
            (state, _) = self.evaluate(&series, state, minute);
        }
        state
    }

    /// Whether the last minutes, all of them after the surge opened, have at most half
    /// of the rise that opens a surge. This is hysteresis: a volume near the limit does not
    /// open and resolve a surge every few buckets.
    fn is_calm(&self, series: &Series, state: &VolumeState, opened: i64, minute: Minute) -> bool {
        let buckets = self.calm_minutes() / BUCKET_MINUTES;
        if minute.0 - opened < buckets * BUCKET_MINUTES {
            return false;
        }
        let observed =
            self.counted.of(series.sum(minute.plus(1 - buckets * BUCKET_MINUTES), minute)) as f64;
        observed <= self.high(state.past.expected(minute, buckets))
    }

    /// What is high where `expected` tweets are usual: half of the rise that opens a surge.
    fn high(&self, expected: f64) -> f64 {
        expected * f64::midpoint(1.0, self.times_min)
    }

    /// Whether the last two days were high all the time since the surge opened, and the second one was
    /// like the first.
    fn is_new_normal(
        &self,
        series: &Series,
        state: &VolumeState,
        opened: i64,
        minute: Minute,
    ) -> bool {
        // A forecast of two days takes its time; once an hour is enough.
        if minute.0 - opened < 2 * STABLE_MINUTES || minute.plus(1).0.rem_euclid(60) != 0 {
            return false;
        }
        let level = |end: Minute| {
            let observed = self.counted.of(series.sum(end.plus(1 - STABLE_MINUTES), end)) as f64;
            observed / state.past.expected(end, STABLE_MINUTES / BUCKET_MINUTES)
        };
        let (before, now) = (level(minute.plus(-STABLE_MINUTES)), level(minute));
        (now / before - 1.0).abs() < STABLE_CHANGE_MAX
    }
}

impl VolumeState {
    /// The minute in which the open surge opened, if any.
    pub fn opened(&self) -> Option<Minute> {
        self.opened.map(Minute)
    }

    /// Whether it has learned, and a policy of this zone can go on with it. A surge that is open keeps the zone in
    /// which it opened.
    pub(super) fn fits(&self, zone: Zone) -> bool {
        self.opened.is_some() || self.past.is_empty() || self.past.zone() == zone
    }

    /// The state as if no surge were open.
    pub fn closed(self) -> Self {
        match self.opened {
            Some(_) => Self { opened: None, rise: None, surprise: Surprise::default(), ..self },
            None => self,
        }
    }
}

/// Consecutive buckets since the rise most likely began: since the sum of the log-likelihood ratios left
/// zero (Page, "Continuous inspection schemes", Biometrika 41, 1954).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Rise {
    since: i64,
    cusum: f64,
    observed: u64,
    expected: f64,
    /// All and negative tweets.
    #[serde(default)]
    tweets: Counts,
}

impl Rise {
    fn next(
        before: Option<Self>,
        counts: Counts,
        counted: u64,
        forecast: &Forecast,
        first: Minute,
    ) -> Self {
        let start = Self {
            since: first.0,
            cusum: 0.0,
            observed: 0,
            expected: 0.0,
            tweets: Counts::default(),
        };
        let before = before.filter(|rise| rise.cusum > 0.0).unwrap_or(start);
        let gain = log_likelihood_ratio(counted, forecast.raised(0.0), RISE_MIN);
        Self {
            since: before.since,
            cusum: (before.cusum + gain).max(0.0),
            observed: before.observed + counted,
            expected: before.expected + forecast.tweets(),
            tweets: before.tweets + counts,
        }
    }
}
