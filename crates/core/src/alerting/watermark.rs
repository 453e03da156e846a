//! The watermark: how far event time has advanced.
//!
//! Source: Akidau et al., "The Dataflow Model", VLDB 2015; per-partition watermarks and
//! idle sources as in Apache Flink.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Minute;

/// How far one partition has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Newest event time read from the partition, if any.
    pub event_time_max: Option<DateTime<Utc>>,
    /// Whether the partition has been read to its end, so that no older record is unread.
    pub at_end: bool,
    /// When the newest record read was written to the broker, if known.
    pub record_time_max: Option<DateTime<Utc>>,
}

/// The time before which no more tweets are expected: `lateness` behind the slowest partition
/// with unread records, or behind the newest tweet if all records are read. `None` while no
/// tweet has been read from a partition with unread records.
///
/// It is never less than `lateness` behind the clock `now`: a tweet with a date ahead, or a producer
/// with a fast clock, must not close minutes whose tweets are still to come.
///
/// If a live stream goes silent, the clock closes the minute of its newest tweet, twice the
/// `lateness` later, and none after it: what does not come is no sign of calm. A stream is live if
/// its newest record was written at most `lateness` after the newest tweet. The clock closes nothing of a stream
/// that arrives later than that, or of a replay of old tweets: it would lose their tweets.
pub fn watermark(
    partitions: &[Progress],
    lateness: TimeDelta,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let unread = partitions.iter().filter(|p| !p.at_end);
    if unread.clone().next().is_some() {
        let slowest = unread.map(|p| p.event_time_max).min().flatten();
        return slowest.map(|at| at.min(now) - lateness);
    }
    let newest = partitions.iter().filter_map(|p| p.event_time_max).max()?;
    let passed = newest.min(now) - lateness;
    let written = partitions.iter().filter_map(|p| p.record_time_max).max();
    let is_live = newest <= now && written.is_some_and(|written| written - newest <= lateness);
    let by_clock = Minute::of(newest).plus(1).start().min(now - lateness * 2);
    Some(if is_live { passed.max(by_clock) } else { passed })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn follows_the_slowest_partition_with_unread_records() {
        let at = |s: i64| DateTime::from_timestamp(s, 0).expect("a valid time");
        let now = Cell::new(1000);
        let check = |name: &str, partitions: &[(Option<i64>, bool)], expected: Option<i64>| {
            let partitions: Vec<_> = partitions
                .iter()
                .map(|&(s, at_end)| Progress {
                    event_time_max: s.map(at),
                    at_end,
                    record_time_max: None,
                })
                .collect();
            let found = watermark(&partitions, TimeDelta::seconds(60), at(now.get()));
            assert_eq!(found, expected.map(at), "{name}");
        };
        check("no partitions", &[], None);
        check("one", &[(Some(1000), false)], Some(940));
        check("the slower of two", &[(Some(1000), false), (Some(500), false)], Some(440));
        check(
            "one at its end does not hold it back",
            &[(Some(1000), false), (Some(500), true)],
            Some(940),
        );
        check("one not yet read holds it back", &[(Some(1000), false), (None, false)], None);
        check("an empty one at its end does not", &[(Some(1000), false), (None, true)], Some(940));
        check("all at their end", &[(Some(1000), true), (Some(500), true)], Some(940));
        check("all empty", &[(None, true)], None);
        check("a date ahead", &[(Some(1500), false)], Some(940));
        check(
            "a date ahead, all at their end",
            &[(Some(1500), true), (Some(900), true)],
            Some(940),
        );
        now.set(9000);
        check("tweets that arrive late, all read", &[(Some(1000), true)], Some(940));
    }

    /// Whatever the dates of tweets are, and in whatever order partitions are read: a minute stays open until the
    /// clock is past it by the lateness, so one tweet dated ahead closes none whose tweets are still to come.
    #[test]
    fn event_time_is_bounded_by_the_clock_less_the_lateness() {
        let hours = |h: i64| TimeDelta::hours(h).num_seconds();
        let (mut bounded, mut live, mut none) = (0, 0, 0);
        for seed in 0..3000 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut clock = random.random_range(hours(400_000)..hours(500_000));
            let lateness = TimeDelta::seconds([0, 1, 60, 300, 86_400][random.random_range(0..5)]);
            let empty = Progress { event_time_max: None, at_end: false, record_time_max: None };
            let mut partitions = vec![empty; random.random_range(1..5)];
            for _ in 0..40 {
                // The clock of a leader may also step back.
                clock += random.random_range(-120..600);
                let now = DateTime::from_timestamp(clock, 0).expect("a time");
                let place = random.random_range(0..partitions.len());
                let off = match random.random_range(0..4) {
                    0 => random.random_range(-hours(90_000)..hours(90_000)),
                    1 => random.random_range(0..hours(2)),
                    _ => random.random_range(-600..60),
                };
                let read = &mut partitions[place];
                let tweet = now + TimeDelta::seconds(off);
                read.event_time_max = read.event_time_max.max(Some(tweet));
                if random.random_bool(0.8) {
                    let written = now - TimeDelta::seconds(random.random_range(-300..hours(3)));
                    read.record_time_max = read.record_time_max.max(Some(written));
                }
                read.at_end = random.random_bool(0.7);
                let Some(found) = watermark(&partitions, lateness, now) else {
                    none += 1;
                    continue;
                };
                assert!(found <= now - lateness, "seed {seed}: {found} at {now}, {partitions:?}");
                let unread = partitions.iter().filter(|p| !p.at_end);
                for read in unread.filter_map(|p| p.event_time_max) {
                    assert!(found <= read - lateness, "seed {seed}: {found}, {partitions:?}");
                }
                let newest = partitions.iter().filter_map(|p| p.event_time_max).max();
                let newest = newest.expect("something has been read");
                let end = Minute::of(newest).plus(1).start();
                assert!(found <= end, "seed {seed}: {found} is after the newest tweet");
                bounded += usize::from(newest > now);
                live += usize::from(found > newest.min(now) - lateness);
            }
        }
        assert!(bounded > 1000 && live > 100 && none > 100, "{bounded}, {live}, {none}: all cases");
    }

    #[test]
    fn the_clock_closes_the_last_minute_of_a_live_stream_and_no_more() {
        let at = |s: i64| DateTime::from_timestamp(s, 0).expect("a valid time");
        let check = |name: &str, newest: i64, written: i64, now: i64, expected: i64| {
            let one = Progress {
                event_time_max: Some(at(newest)),
                at_end: true,
                record_time_max: Some(at(written)),
            };
            let behind = Progress { event_time_max: Some(at(100)), record_time_max: None, ..one };
            let found = watermark(&[one, behind], TimeDelta::seconds(60), at(now));
            assert_eq!(found, Some(at(expected)), "{name}");
        };
        check("at once", 1190, 1200, 1200, 1130);
        check("after a while", 1190, 1200, 1300, 1180);
        check("after twice the lateness", 1190, 1200, 1320, 1200);
        check("hours later", 1190, 1200, 99_999, 1200);
        check("the first second of a minute", 1200, 1200, 99_999, 1260);
        check("a tweet that comes late", 1190, 1251, 99_999, 1130);
        check("a replay of old tweets", 1190, 99_000, 99_999, 1130);
        check("a date ahead", 2000, 1200, 1320, 1260);
    }
}
