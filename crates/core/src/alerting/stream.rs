//! Is the stream itself well? A silent monitor is the worst failure.
//!
//! Two causes, each with a state of its own. **Quiet**: everything there is has been read,
//! and no record has come for so long that chance does not explain it. **Lag**: a record
//! has been waiting for long, and goes on waiting; reading old records at full speed is
//! normal for a while.
//!
//! Chance explains a gap unless it has a probability of less than one in so many gaps as
//! a month has room for. The probability of no tweet where `m` are expected is that of a
//! negative binomial, `(1 + d m)^(-1 / d)`: Poisson counts whose rate varies from day to
//! day by a gamma law with variation `sqrt(d)` (Greenwood and Yule, "An inquiry into the
//! nature of frequency distributions", Journal of the Royal Statistical Society 83, 1920).
//! With the default of 30 minutes, some 21 tweets must have been missed: a busy stream
//! alarms after half an hour, a small brand's night does not.
//!
//! **Invariant.** A verdict depends on the look and the state alone. Deliberately absent:
//! asking Kafka or the store; the wall clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{HOURS_PER_WEEK, LagEvidence, Minute, QuietEvidence};

/// How much a quiet hour's rate varies from one day to another: by half.
const DISPERSION: f64 = 0.25;
const MINUTES_PER_MONTH: f64 = 43_200.0;
/// A gap that alarms where the past tells nothing, in minutes: no brand's night is as long.
const UNKNOWN_MINUTES_MAX: u32 = 1440;
/// How long a gap must look that way: a daemon that starts has not been given its partitions
/// yet, and knows the stream as the last one left it.
const QUIET_FOR_MINUTES: u32 = 3;
const MINUTES_PER_HOUR: i64 = 60;
const HOURS_PER_DAY: i64 = 24;
const SECONDS_PER_HOUR: f64 = 3600.0;

/// What counts as a stream that is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPolicy {
    /// Shortest gap that may alarm, in minutes.
    pub quiet_minutes_max: u32,
    /// Age of an unread record from which reading lags, in minutes.
    pub lag_minutes_max: u32,
    /// How long reading must lag for it to alarm, and not lag for it to be resolved, in
    /// minutes.
    pub lag_for_minutes: u32,
}

impl Default for StreamPolicy {
    fn default() -> Self {
        Self { quiet_minutes_max: 30, lag_minutes_max: 15, lag_for_minutes: 10 }
    }
}

/// The stream at a moment of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamSnapshot {
    /// The moment.
    pub now: DateTime<Utc>,
    /// When the newest record read came into Kafka, if there is one.
    pub last_record_at: Option<DateTime<Utc>>,
    /// Whether every partition has been read to its end.
    pub at_end: bool,
    /// When the oldest unread record came into Kafka: at the earliest when the last record
    /// read of its partition did, or, where none was read, when reading began.
    pub oldest_unread_at: Option<DateTime<Utc>>,
    /// Tweets to be expected since `last_record_at` by [`expected_tweets`].
    pub expected: Option<f64>,
}

/// What is remembered of one cause from look to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Whether its incident is open.
    open: bool,
    /// Since when it has looked the other way: ill while closed, well while open.
    turned: Option<DateTime<Utc>>,
    /// The first look, from which a stream is measured that never had a record.
    watched: Option<DateTime<Utc>>,
}

/// Why the stream is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamReason {
    /// Records come.
    Flowing,
    /// None came for a while, which chance explains.
    Chance,
    /// None came for a while, and the past does not tell whether that is unusual.
    PastUnknown,
    /// Not everything there is has been read, so nobody knows.
    Unread,
    /// Everything there is has been read.
    AtEnd,
    /// Some records wait, but not for long.
    WithinLimit,
    /// Reading lags, but has not for long.
    NotForLong,
}

/// What to do about one cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StreamVerdict<E> {
    /// Nothing.
    Well(StreamReason),
    /// It begins.
    Open(E),
    /// It goes on.
    Firing(E),
    /// It is over.
    Resolve(E),
}

impl StreamPolicy {
    /// Has the stream gone quiet?
    pub fn evaluate_quiet(
        &self,
        look: &StreamSnapshot,
        state: StreamState,
    ) -> (StreamState, StreamVerdict<QuietEvidence>) {
        let watched = Some(state.watched.unwrap_or(look.now));
        let state = StreamState { watched, ..state };
        let minutes = minutes_since(look.last_record_at.or(watched), look.now);
        let limit_minutes = match look.expected {
            Some(_) => self.quiet_minutes_max,
            None => UNKNOWN_MINUTES_MAX.max(self.quiet_minutes_max),
        };
        let evidence = QuietEvidence {
            last: look.last_record_at,
            minutes,
            expected_tweets: look.expected.unwrap_or(0.0),
            limit_minutes,
        };
        let chance_min = f64::from(self.quiet_minutes_max) / MINUTES_PER_MONTH;
        let condition = if minutes < self.quiet_minutes_max {
            Condition::Well(StreamReason::Flowing)
        } else if state.open {
            // Only records make it well again, not a night in which few are expected.
            Condition::Ill
        } else if !look.at_end {
            Condition::Well(StreamReason::Unread)
        } else {
            match look.expected {
                None if minutes < limit_minutes => Condition::Well(StreamReason::PastUnknown),
                Some(expected) if chance_of_none(expected) >= chance_min => {
                    Condition::Well(StreamReason::Chance)
                }
                _ => Condition::Ill,
            }
        };
        // To be well for that long takes more than a lone record.
        state.step(condition, look.now, QUIET_FOR_MINUTES, self.quiet_minutes_max, evidence)
    }

    /// Does reading lag behind the stream?
    pub fn evaluate_lag(
        &self,
        look: &StreamSnapshot,
        state: StreamState,
    ) -> (StreamState, StreamVerdict<LagEvidence>) {
        let oldest = look.oldest_unread_at.filter(|_| !look.at_end);
        let behind_minutes = minutes_since(oldest, look.now);
        let evidence = LagEvidence { behind_minutes, limit_minutes: self.lag_minutes_max };
        // Half the lag that alarms: hysteresis.
        let limit =
            if state.open { self.lag_minutes_max.div_ceil(2) } else { self.lag_minutes_max };
        let condition = if look.at_end {
            Condition::Well(StreamReason::AtEnd)
        } else if behind_minutes < limit {
            Condition::Well(StreamReason::WithinLimit)
        } else {
            Condition::Ill
        };
        state.step(condition, look.now, self.lag_for_minutes, self.lag_for_minutes, evidence)
    }
}

impl StreamState {
    /// Whether its incident is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens once it has been ill for `open_minutes`, resolves once it has been well for
    /// `resolve_minutes`.
    fn step<E>(
        self,
        condition: Condition,
        now: DateTime<Utc>,
        open_minutes: u32,
        resolve_minutes: u32,
        evidence: E,
    ) -> (Self, StreamVerdict<E>) {
        let turned = self.turned.unwrap_or(now);
        let lasted = |minutes: u32| now - turned >= TimeDelta::minutes(i64::from(minutes));
        let with = |open, turned| Self { open, turned, ..self };
        match (self.open, condition) {
            (false, Condition::Well(reason)) => (with(false, None), StreamVerdict::Well(reason)),
            (false, Condition::Ill) if lasted(open_minutes) => {
                (with(true, None), StreamVerdict::Open(evidence))
            }
            (false, Condition::Ill) => {
                (with(false, Some(turned)), StreamVerdict::Well(StreamReason::NotForLong))
            }
            (true, Condition::Ill) => (with(true, None), StreamVerdict::Firing(evidence)),
            (true, Condition::Well(_)) if lasted(resolve_minutes) => {
                (with(false, None), StreamVerdict::Resolve(evidence))
            }
            (true, Condition::Well(_)) => {
                (with(true, Some(turned)), StreamVerdict::Firing(evidence))
            }
        }
    }
}

enum Condition {
    Well(StreamReason),
    Ill,
}

/// Whole minutes from `from` to `now`; none where `from` is missing or lies ahead.
fn minutes_since(from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u32 {
    let minutes = from.map_or(0, |from| (now - from).num_minutes().max(0));
    u32::try_from(minutes).unwrap_or(u32::MAX)
}

/// The probability of not a single tweet where so many are expected.
fn chance_of_none(expected: f64) -> f64 {
    (1.0 + DISPERSION * expected).powf(-DISPERSION.recip())
}

/// Tweets to be expected in `from..to` of the wall clock, by the hours before `from`.
///
/// `hourly` has the first minute and the tweets of each hour, ascending; hours missing
/// after the first one had none. Four weeks are plenty. An hour is expected to be like the
/// median of the same hour of the days before, or of the same hour of the weeks before
/// where that is less: a Sunday is no fault. At most a week is looked at. `None` where
/// less than a day is known.
pub fn expected_tweets(
    hourly: &[(Minute, u64)],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Option<f64> {
    let first = hourly.first()?.0.hour();
    // The hour of `from` is not whole, so it is no past.
    let known = Minute::of(from).hour();
    if known - first < HOURS_PER_DAY {
        return None;
    }
    let tweets = |hour| {
        let found = hourly.binary_search_by_key(&hour, |(minute, _)| minute.hour());
        found.map_or(0, |index| hourly[index].1)
    };
    // The lower median of the hours that lie so many before, twice as many, and so on.
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
