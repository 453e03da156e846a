//! Whether the daemon catches up with records of long ago, and which minutes are past then; pure.
//!
//! **Invariant.** A minute is past only in a stream that is live, one whose records are written when its tweets are: a replay
//! of old tweets is told step by step. Nothing is held back for good: reading that does not gain on the clock
//! within [`PATIENCE`] lags, which is another alarm, and is told step by step too.
//! Deliberately absent: who is told of what is over (the evaluator), and what a digest says (`monitor-notify`).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::watermark::Progress;
use crate::domain::Minute;

/// Longest time, by the clock, without a gain of [`GAIN`] on it.
const PATIENCE: Duration = Duration::from_secs(600);
/// What catching up gains on the clock within [`PATIENCE`], at least: twice the speed of the stream.
const GAIN: TimeDelta = TimeDelta::minutes(10);

/// How far reading has caught up, from one look to the next.
#[derive(Debug, Clone)]
pub struct CatchUp {
    limit: TimeDelta,
    /// How far reading was behind when it last gained on the clock, and the time of that look.
    behind: Option<(TimeDelta, Duration)>,
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The steps of incidents in the minutes before it are not told one by one; `None`: all are.
    pub past_before: Option<Minute>,
    /// Whether what is over can be told, because hardly any record of then is unread.
    pub is_read: bool,
}

impl Backlog {
    /// Whether a step of this minute is not told by itself.
    pub fn holds(&self, minute: Minute) -> bool {
        self.past_before.is_some_and(|before| minute < before)
    }
}

impl CatchUp {
    /// Minutes older than `limit_minutes` are past; 0 is none.
    pub fn new(limit_minutes: u32) -> Self {
        Self { limit: TimeDelta::minutes(limit_minutes.into()), behind: None }
    }

    /// Looks at the partitions at the clock time `now`; `elapsed` is the time since any fixed moment.
    pub fn look(
        &mut self,
        partitions: &[Progress],
        now: DateTime<Utc>,
        elapsed: Duration,
    ) -> Backlog {
        let written = partitions.iter().filter_map(|p| p.record_time_max).max();
        let newest = partitions.iter().filter_map(|p| p.event_time_max).max();
        let is_live = written.zip(newest).is_some_and(|(w, n)| w - n <= self.limit);
        if self.limit.is_zero() || !is_live {
            self.behind = None;
            return Backlog { past_before: None, is_read: true };
        }
        let past_before = Some(Minute::of(now - self.limit));
        let unread = partitions.iter().filter(|p| !p.at_end);
        let oldest = unread.filter_map(|p| p.record_time_max).min();
        let behind = oldest.map_or(TimeDelta::zero(), |oldest| now - oldest);
        if behind <= self.limit {
            self.behind = None;
            return Backlog { past_before, is_read: true };
        }
        let gained = self.behind.is_none_or(|(before, _)| before - behind >= GAIN);
        let (_, since) = if gained { (behind, elapsed) } else { self.behind.unwrap_or_default() };
        if gained {
            self.behind = Some((behind, elapsed));
        }
        let catches_up = elapsed.saturating_sub(since) < PATIENCE;
        Backlog { past_before: past_before.filter(|_| catches_up), is_read: !catches_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        Minute(minute).start()
    }

    /// A partition read up to records written at `written`, with tweets as old as they are.
    fn read_to(written: i64, at_end: bool) -> Progress {
        Progress { event_time_max: Some(at(written)), record_time_max: Some(at(written)), at_end }
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn what_is_past_depends_on_the_clock_and_on_what_is_unread() {
        let check = |name: &str, partitions: &[Progress], past: Option<i64>, is_read: bool| {
            let found = CatchUp::new(60).look(partitions, at(10_000), minutes(5));
            let expected = Backlog { past_before: past.map(Minute), is_read };
            assert_eq!(found, expected, "{name}");
        };
        check("nothing read", &[], None, true);
        check("up to date", &[read_to(9_999, false)], Some(9_940), true);
        check("at the end of a stream that went quiet", &[read_to(500, true)], Some(9_940), true);
        check("a week behind", &[read_to(500, false)], Some(9_940), false);
        check("one of two", &[read_to(9_999, true), read_to(500, false)], Some(9_940), false);
        let replay = Progress { event_time_max: Some(at(500)), ..read_to(9_000, false) };
        check("a replay of old tweets", &[replay], None, true);
        let unknown = Progress { record_time_max: None, ..read_to(500, false) };
        check("records without a time", &[unknown], None, true);
        let found = CatchUp::new(0).look(&[read_to(500, false)], at(10_000), minutes(5));
        assert_eq!(found, Backlog { past_before: None, is_read: true }, "switched off");
    }

    #[test]
    fn reading_that_does_not_gain_on_the_clock_is_told_step_by_step() {
        let mut catch_up = CatchUp::new(60);
        let mut look = |clock: i64, read: i64| {
            let elapsed = minutes(clock.unsigned_abs() - 10_000);
            let found = catch_up.look(&[read_to(read, false)], at(clock), elapsed);
            assert_eq!(found.past_before.is_none(), found.is_read, "one or the other");
            !found.is_read
        };
        assert!(look(10_000, 5_000), "far behind");
        assert!(look(10_009, 5_010), "it may still gain");
        assert!(!look(10_010, 5_015), "five minutes in ten: it lags");
        assert!(!look(10_300, 5_305), "for hours");
        assert!(look(10_301, 5_500), "it gains");
        assert!(look(10_310, 5_505), "as before");
        assert!(!look(10_312, 5_510), "and lags again");
        assert!(look(10_313, 9_000), "nearly there");
    }
}
