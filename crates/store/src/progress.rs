//! How far the partitions are read.

use chrono::{DateTime, TimeDelta, Utc};

use monitor_core::alerting::{Progress, watermark};
use monitor_core::domain::{Offset, Resume, StartAt, TopicPartition, resume_position};

/// A partition just assigned to this daemon, with the offsets that the broker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: TopicPartition,
    /// The checkpoint before the broker was asked for `low` and `high`.
    pub seen: Option<Offset>,
    /// Oldest offset the broker has.
    pub low: Offset,
    /// Offset the next record will get.
    pub high: Offset,
}

impl Claim {
    /// Where to resume, given the checkpoint now. A checkpoint that has moved since the
    /// broker was asked is newer than the bounds, so it is not beyond the end.
    pub(crate) fn resume(&self, stored: Option<Offset>, start_at: StartAt) -> Resume {
        let high = match stored {
            Some(stored) if self.seen != Some(stored) => self.high.max(stored),
            _ => self.high,
        };
        resume_position(stored, self.low, high, start_at)
    }
}

/// The progress of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// The checkpoint.
    pub position: Offset,
    /// Newest event time, if any tweet was seen.
    pub event_time_max: Option<DateTime<Utc>>,
    /// When the newest record read was written to Kafka.
    pub record_time_max: Option<DateTime<Utc>>,
    /// Whether its reader has been at the end for a while, so that it does not hold the
    /// watermark back.
    pub at_end: bool,
}

/// What [`watermark`] needs to know of the partitions.
pub fn progress_of(partitions: &[PartitionProgress]) -> Vec<Progress> {
    let progress = partitions.iter().map(|p| Progress {
        event_time_max: p.event_time_max,
        at_end: p.at_end,
        record_time_max: p.record_time_max,
    });
    progress.collect()
}

/// How far event time has advanced over all partitions; see [`watermark`].
pub fn event_time(
    partitions: &[PartitionProgress],
    lateness: TimeDelta,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    watermark(&progress_of(partitions), lateness, now)
}
