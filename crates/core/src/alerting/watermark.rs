//! The watermark: how far event time has advanced.
//!
//! Source: Akidau et al., "The Dataflow Model", VLDB 2015; per-partition watermarks and
//! idle sources as in Apache Flink.

use chrono::{DateTime, TimeDelta, Utc};

/// How far one partition has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Newest event time read from the partition, if any.
    pub event_time_max: Option<DateTime<Utc>>,
    /// Whether the partition has been read to its end, so that no older record is unread.
    pub at_end: bool,
}

/// The time before which no more tweets are expected: `lateness` behind the slowest partition
/// with unread records, or behind the newest tweet if all records are read. `None` while no
/// tweet has been read from a partition with unread records.
///
/// It is never less than `lateness` behind the clock `now`: a tweet with a date ahead, or a producer
/// with a fast clock, must not close minutes whose tweets are still to come. The clock never closes a
/// minute: a stream that arrives minutes late, or a replay of old tweets, would lose its tweets.
pub fn watermark(
    partitions: &[Progress],
    lateness: TimeDelta,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let unread = partitions.iter().filter(|p| !p.at_end);
    let slowest = if unread.clone().next().is_some() {
        unread.map(|p| p.event_time_max).min().flatten()
    } else {
        partitions.iter().filter_map(|p| p.event_time_max).max()
    };
    slowest.map(|at| at.min(now) - lateness)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn follows_the_slowest_partition_with_unread_records() {
        let at = |s: i64| DateTime::from_timestamp(s, 0).expect("a valid time");
        let now = Cell::new(1000);
        let check = |name: &str, partitions: &[(Option<i64>, bool)], expected: Option<i64>| {
            let partitions: Vec<_> = partitions
                .iter()
                .map(|&(s, at_end)| Progress { event_time_max: s.map(at), at_end })
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
}
