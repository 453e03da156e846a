//! The items that the stages send to each other.
//!
//! **Invariant.** Partition changes travel in the same channel as the batches, so each stage
//! sees both in the order of the source. Deliberately absent: what a stage does with them.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tracing::Span;

use monitor_core::domain::{Offset, TopicPartition};
use monitor_ingest::{PAYLOAD_BYTES_KEPT, Weight};
use monitor_store::{DeadLetter, Removal, ScoredTweet};

/// A batch, or a change of the partitions that this process reads.
pub(super) enum Item<Batch> {
    /// A batch, and the span of its way from being closed to being stored.
    Batch(Batch, Span),
    Assigned(Vec<(TopicPartition, Offset)>),
    Revoked {
        partitions: Vec<TopicPartition>,
        done: oneshot::Sender<()>,
    },
    AtEnd(TopicPartition),
}

impl<Batch> Item<Batch> {
    /// `Ok` with a partition change to forward unchanged, or `Err` with the batch to work on.
    pub fn forward_or_batch<Next>(self) -> Result<Item<Next>, (Batch, Span)> {
        match self {
            Self::Batch(batch, span) => Err((batch, span)),
            Self::Assigned(partitions) => Ok(Item::Assigned(partitions)),
            Self::Revoked { partitions, done } => Ok(Item::Revoked { partitions, done }),
            Self::AtEnd(partition) => Ok(Item::AtEnd(partition)),
        }
    }
}

/// A record on its way to the store.
pub(super) struct Row {
    pub origin: Origin,
    pub outcome: Outcome<ScoredTweet>,
}

/// What a record became. `T` is a tweet, as far as it has come.
pub(super) enum Outcome<T> {
    Tweet(T),
    DeadLetter(Letter),
    /// A tweet that is to be removed.
    Removal(Removal),
    /// Another notice: only its offset is stored.
    Notice,
}

impl<T> Outcome<T> {
    /// Works on the tweet, if it is one; an error makes it a dead letter.
    pub fn and_then<U>(self, work: impl FnOnce(T) -> Result<U, Letter>) -> Outcome<U> {
        match self {
            Self::Tweet(tweet) => match work(tweet) {
                Ok(done) => Outcome::Tweet(done),
                Err(letter) => Outcome::DeadLetter(letter),
            },
            Self::DeadLetter(letter) => Outcome::DeadLetter(letter),
            Self::Removal(removal) => Outcome::Removal(removal),
            Self::Notice => Outcome::Notice,
        }
    }
}

/// A dead letter, with a word for what is wrong with it.
pub(super) struct Letter {
    pub kind: &'static str,
    pub letter: DeadLetter,
}

/// The model fails on the text.
pub(super) const MODEL_FAILS: &str = "model";
/// Postgres refuses the row.
pub(super) const STORE_REFUSES: &str = "store";

/// The record that a row came from. It counts in the queue's byte limit until it is stored.
pub(super) struct Origin {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// Kafka's timestamp, but not later than the time of reading.
    pub record_time: Option<DateTime<Utc>>,
    /// The first bytes of the record.
    pub payload: Vec<u8>,
    /// The record's full size.
    pub payload_bytes: usize,
    pub _weight: Weight,
}

impl Origin {
    /// The record as a dead letter, with the given kind of fault and reason.
    pub fn dead_letter(&self, kind: &'static str, reason: &str) -> Letter {
        let (partition, offset) = (&self.partition, self.offset);
        tracing::warn!(%partition, %offset, reason, "dead letter");
        let letter = DeadLetter {
            partition: partition.clone(),
            offset,
            record_time: self.record_time,
            // Postgres cannot store NUL in text.
            reason: reason.replace('\0', "\u{FFFD}"),
            payload: self.payload.iter().copied().take(PAYLOAD_BYTES_KEPT).collect(),
            payload_bytes: self.payload_bytes as u64,
        };
        Letter { kind, letter }
    }
}
