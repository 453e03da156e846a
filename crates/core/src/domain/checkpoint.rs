use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::keywords;

/// A Kafka offset: the position of one record in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one. The next record may have a higher offset, because
    /// transactions and compaction leave gaps.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Where reading starts in a partition without a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StartAt {
    /// At the oldest record that the broker still has.
    Earliest,
    /// After the newest record.
    Latest,
}

keywords!(StartAt: "earliest" => Earliest, "latest" => Latest);

/// Where to resume reading, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The offset to fetch next.
    pub position: Offset,
    /// Why reading resumes there.
    pub reason: ResumeReason,
}

/// Why a partition resumes where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeReason {
    /// No checkpoint yet.
    FirstSeen,
    /// The broker has the record at the checkpoint, or will write it next.
    Checkpoint,
    /// The broker deleted records before they were read.
    RetentionGap {
        /// Number of offsets between the checkpoint and the oldest remaining record.
        lost: i64,
    },
    /// The checkpoint is beyond the partition's end: the topic was recreated or truncated.
    /// Reading restarts at the oldest record; stored tweets are not counted twice.
    BeyondEnd {
        /// The offset of the checkpoint.
        checkpoint: Offset,
    },
}

/// Decides where to resume reading, from the checkpoint and the broker's `low` and `high`
/// watermarks (the oldest offset that it has, and the offset of the next record).
pub fn resume_position(
    checkpoint: Option<Offset>,
    low: Offset,
    high: Offset,
    start_at: StartAt,
) -> Resume {
    match checkpoint {
        None => Resume {
            position: match start_at {
                StartAt::Earliest => low,
                StartAt::Latest => high,
            },
            reason: ResumeReason::FirstSeen,
        },
        Some(at) if at < low => {
            Resume { position: low, reason: ResumeReason::RetentionGap { lost: low.0 - at.0 } }
        }
        Some(at) if at > high => {
            Resume { position: low, reason: ResumeReason::BeyondEnd { checkpoint: at } }
        }
        Some(at) => Resume { position: at, reason: ResumeReason::Checkpoint },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumes_at_the_checkpoint_or_the_oldest_record() {
        let check = |name, checkpoint: Option<i64>, low, high, start, position, reason| {
            let found = resume_position(checkpoint.map(Offset), Offset(low), Offset(high), start);
            assert_eq!(found, Resume { position: Offset(position), reason }, "{name}");
        };
        use ResumeReason::*;
        use StartAt::*;
        check("new, from the start", None, 5, 9, Earliest, 5, FirstSeen);
        check("new, from the end", None, 5, 9, Latest, 9, FirstSeen);
        check("in range", Some(7), 5, 9, Earliest, 7, Checkpoint);
        check("at the end", Some(9), 5, 9, Latest, 9, Checkpoint);
        check("deleted by retention", Some(2), 5, 9, Latest, 5, RetentionGap { lost: 3 });
        check("recreated topic", Some(12), 0, 9, Latest, 0, BeyondEnd { checkpoint: Offset(12) });
    }
}
