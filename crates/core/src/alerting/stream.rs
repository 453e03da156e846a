//! Detects faults of the stream itself: without tweets, no other detector can raise an alarm.
//!
//! There are two causes, each with its own state. **Quiet**: all records have been read, and
//! none has arrived for so long that chance cannot explain it. **Lag**: a record has been
//! unread for too long, and this lasts. Reading old records at full speed is normal for a
//! while.
//!
//! Chance can explain a gap unless its probability is less than one divided by the number of gaps
//! of `quiet_minutes_max` in a month. The probability of no tweet where `m` are expected is that
//! of a negative binomial, `(1 + d m)^(-1 / d)`: Poisson counts whose rate varies from day to day
//! by a gamma distribution with coefficient of variation `sqrt(d)` (Greenwood and Yule, "An
//! inquiry into the nature of frequency distributions", Journal of the Royal Statistical Society
//! 83, 1920). With the default of 30 minutes, about 21 tweets must be missing: a busy stream
//! alarms after half an hour, a small brand's night does not alarm.
//!
//! **Invariant.** A verdict depends only on the snapshot and the state. Deliberately absent:
//! queries to Kafka or the store; reading the wall clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{HOURS_PER_WEEK, LagEvidence, Minute, QuietEvidence};

/// Dispersion of an hour's rate from day to day; its standard deviation is half of its mean.
const DISPERSION: f64 = 0.25;
const MINUTES_PER_MONTH: f64 = 43_200.0;
/// Length of a gap that alarms without any history, in minutes: longer than a night.
const UNKNOWN_MINUTES_MAX: u32 = 1440;
/// How long a gap must look unusual, in minutes: a daemon that has just started has no
/// partitions yet, and its information about the stream is old.
const QUIET_FOR_MINUTES: u32 = 3;
const MINUTES_PER_HOUR: i64 = 60;
const HOURS_PER_DAY: i64 = 24;
const SECONDS_PER_HOUR: f64 = 3600.0;

/// When a quiet or lagging stream raises an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPolicy {
    /// Shortest gap that can raise an alarm, in minutes.
    pub quiet_minutes_max: u32,
    /// Reading lags if the oldest unread record has this age, in minutes.
    pub lag_minutes_max: u32,
    /// How long reading must lag before an alarm, and not lag before it resolves, in minutes.
    pub lag_for_minutes: u32,
}

impl Default for StreamPolicy {
    fn default() -> Self {
        Self { quiet_minutes_max: 30, lag_minutes_max: 15, lag_for_minutes: 10 }
    }
}

/// The stream at a time of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamSnapshot {
    /// The time.
    pub now: DateTime<Utc>,
    /// When the newest read record arrived in Kafka, if any.
    pub last_record_at: Option<DateTime<Utc>>,
    /// Whether every partition has been read to its end.
    pub at_end: bool,
    /// The earliest time at which the oldest unread record can have arrived in Kafka: when the
    /// last read record of its partition arrived, or, without one, when reading began.
    pub oldest_unread_at: Option<DateTime<Utc>>,
    /// Tweets expected since `last_record_at`, from [`expected_tweets`].
    pub expected: Option<f64>,
}

/// The detector state of one cause between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Whether an incident is open.
    open: bool,
    /// Since when the condition differs from `open`: faulty without an open incident, or healthy
    /// with one.
    turned: Option<DateTime<Utc>>,
    /// Time of the first snapshot; the gap starts here if no record has ever arrived.
    watched: Option<DateTime<Utc>>,
}

/// Why the stream is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamReason {
    /// Records arrive.
    Flowing,
    /// No record has arrived for a while, but chance can explain it.
    Chance,
    /// No record has arrived for a while, and there is no history to compare this with.
    PastUnknown,
    /// There are unread records, so it is unknown whether there is a gap.
    Unread,
    /// All records have been read.
    AtEnd,
    /// There are unread records, but they are not old.
    WithinLimit,
    /// There is a fault, but it has not lasted long enough.
    NotForLong,
}

/// What to do about one cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StreamVerdict<E> {
    /// Nothing: the stream is healthy.
    Healthy(StreamReason),
    /// An incident opens.
    Open(E),
    /// The open incident continues.
    Firing(E),
    /// The open incident resolves.
    Resolve(E),
}

impl StreamPolicy {
    /// Evaluates whether the stream is quiet.
    pub fn evaluate_quiet(
        &self,
        snapshot: &StreamSnapshot,
        state: StreamState,
    ) -> (StreamState, StreamVerdict<QuietEvidence>) {
        let watched = Some(state.watched.unwrap_or(snapshot.now));
        let state = StreamState { watched, ..state };
        let minutes = minutes_since(snapshot.last_record_at.or(watched), snapshot.now);
        let limit_minutes = match snapshot.expected {
            Some(_) => self.quiet_minutes_max,
            None => UNKNOWN_MINUTES_MAX.max(self.quiet_minutes_max),
        };
        let evidence = QuietEvidence {
            last: snapshot.last_record_at,
            minutes,
            expected_tweets: snapshot.expected.unwrap_or(0.0),
            limit_minutes,
        };
        let chance_min = f64::from(self.quiet_minutes_max) / MINUTES_PER_MONTH;
        let condition = if minutes < self.quiet_minutes_max {
            Condition::Healthy(StreamReason::Flowing)
        } else if state.open {
            // Only records resolve the incident, not a night in which few are expected.
            Condition::Faulty
        } else if !snapshot.at_end {
            Condition::Healthy(StreamReason::Unread)
        } else {
            match snapshot.expected {
                None if minutes < limit_minutes => Condition::Healthy(StreamReason::PastUnknown),
                Some(expected) if chance_of_none(expected) >= chance_min => {
                    Condition::Healthy(StreamReason::Chance)
                }
                _ => Condition::Faulty,
            }
        };
        // A single record is not enough to stay healthy for that long.
        state.step(condition, snapshot.now, QUIET_FOR_MINUTES, self.quiet_minutes_max, evidence)
    }

    /// Evaluates whether reading lags behind the stream.
    pub fn evaluate_lag(
        &self,
        snapshot: &StreamSnapshot,
        state: StreamState,
    ) -> (StreamState, StreamVerdict<LagEvidence>) {
        let oldest = snapshot.oldest_unread_at.filter(|_| !snapshot.at_end);
        let behind_minutes = minutes_since(oldest, snapshot.now);
        let evidence = LagEvidence { behind_minutes, limit_minutes: self.lag_minutes_max };
        // Hysteresis: an open incident needs less than half of the lag to resolve.
        let limit =
            if state.open { self.lag_minutes_max.div_ceil(2) } else { self.lag_minutes_max };
        let condition = if snapshot.at_end {
            Condition::Healthy(StreamReason::AtEnd)
        } else if behind_minutes < limit {
            Condition::Healthy(StreamReason::WithinLimit)
        } else {
            Condition::Faulty
        };
        state.step(condition, snapshot.now, self.lag_for_minutes, self.lag_for_minutes, evidence)
    }
}

impl StreamState {
    /// Whether an incident is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether no incident is open, and nothing is on the way to one.
    pub fn is_idle(&self) -> bool {
        !self.open && self.turned.is_none()
    }

    /// Opens an incident after `open_minutes` of a fault, and resolves it after
    /// `resolve_minutes` without one.
    fn step<E>(
        self,
        condition: Condition,
        now: DateTime<Utc>,
        open_minutes: u32,
        resolve_minutes: u32,
        evidence: E,
    ) -> (Self, StreamVerdict<E>) {
        let turned = self.turned.unwrap_or(now);
        let has_lasted = |minutes: u32| now - turned >= TimeDelta::minutes(i64::from(minutes));
        let with = |open, turned| Self { open, turned, ..self };
        match (self.open, condition) {
            (false, Condition::Healthy(reason)) => {
                (with(false, None), StreamVerdict::Healthy(reason))
            }
            (false, Condition::Faulty) if has_lasted(open_minutes) => {
                (with(true, None), StreamVerdict::Open(evidence))
            }
            (false, Condition::Faulty) => {
                (with(false, Some(turned)), StreamVerdict::Healthy(StreamReason::NotForLong))
            }
            (true, Condition::Faulty) => (with(true, None), StreamVerdict::Firing(evidence)),
            (true, Condition::Healthy(_)) if has_lasted(resolve_minutes) => {
                (with(false, None), StreamVerdict::Resolve(evidence))
            }
            (true, Condition::Healthy(_)) => {
                (with(true, Some(turned)), StreamVerdict::Firing(evidence))
            }
        }
    }
}

enum Condition {
    Healthy(StreamReason),
    Faulty,
}

/// Whole minutes from `from` to `now`; zero if `from` is missing or later than `now`.
fn minutes_since(from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u32 {
    let minutes = from.map_or(0, |from| (now - from).num_minutes().max(0));
    u32::try_from(minutes).unwrap_or(u32::MAX)
}

/// The probability of no tweet where `expected` tweets are expected.
fn chance_of_none(expected: f64) -> f64 {
    (1.0 + DISPERSION * expected).powf(-DISPERSION.recip())
}

/// The tweets expected in `from..to` of the wall clock, from the hours before `from`.
///
/// `hourly` has the first minute and the tweets of each hour, in ascending order; missing hours
/// after the first one had no tweets. Four weeks are enough. The expected tweets of an hour are
/// the median of the same hour of the previous days, or of the same hour of the previous weeks
/// if that is less, so that a quiet Sunday is no fault. Only the first week of `from..to`
/// counts. `None` with less than a day of history.
pub fn expected_tweets(
    hourly: &[(Minute, u64)],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Option<f64> {
    let first = hourly.first()?.0.hour();
    // The hour of `from` is incomplete, so it is not part of the history.
    let known = Minute::of(from).hour();
    if known - first < HOURS_PER_DAY {
        return None;
    }
    let tweets = |hour| {
        let found = hourly.binary_search_by_key(&hour, |(minute, _)| minute.hour());
        found.map_or(0, |index| hourly[index].1)
    };
    // The lower median of the hours that are `apart`, twice `apart`, and so on, before `hour`.
    let median = |hour: i64, apart: i64| {
        let past = (1..).map(|times| hour - times * apart).take_while(|past| *past >= first);
        let mut past: Vec<u64> = past.filter(|past| *past < known).map(tweets).collect();
        past.sort_unstable();
        past.get(past.len().saturating_sub(1) / 2).copied()
    };
    let last = Minute::of(to).hour().min(known + HOURS_PER_WEEK as i64 - 1);
    let expected = (known..=last).map(|hour| {
        let day = median(hour, HOURS_PER_DAY).unwrap_or(0);
        let tweets = median(hour, HOURS_PER_WEEK as i64).unwrap_or(day).min(day);
        let start = Minute(hour * MINUTES_PER_HOUR).start();
        let end = start + TimeDelta::minutes(MINUTES_PER_HOUR);
        let seconds = (to.min(end) - from.max(start)).num_seconds().max(0);
        tweets as f64 * seconds as f64 / SECONDS_PER_HOUR
    });
    Some(expected.sum())
}

#[cfg(test)]
mod tests;
