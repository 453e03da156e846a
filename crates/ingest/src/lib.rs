//! Reads records from a broker as [`Event`]s, and decodes a record's bytes to a tweet.
//!
//! **Delivery contract.** A source reads each partition in order and without gaps, from the
//! position that [`Positions::claim`] returned until it sends [`Event::Revoked`]. `Assigned`,
//! `Revoked` and the records of a partition arrive in the order in which they happened, so
//! the consumer of the events needs no other signal. The next owner of a partition may read
//! again what was in flight when the partition moved; the store rejects the second copy.
//!
//! **Invariant.** When the queue is full, the source pauses the partitions but keeps polling,
//! so that it stays a member of the group. Memory is bounded in rows and in bytes.
//! Deliberately absent: offsets committed to Kafka as the source of truth. Postgres stores the
//! positions; the offsets in Kafka only serve lag tools.

mod kafka;
mod memory;
mod timestamp;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

pub use kafka::{KafkaSource, SourceError};
pub use memory::MemorySource;
pub use timestamp::parse_timestamp;
pub use wire::{Content, Decoded, Headers, Notice, Raw, Rejected, Subject, WireLimits, decode};

use monitor_core::domain::{Offset, TopicPartition};

/// Bytes kept of a payload that is too long to be decoded.
pub const PAYLOAD_BYTES_KEPT: usize = 4096;

/// A record as the broker delivered it.
#[derive(Debug)]
pub struct Record {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset in the partition.
    pub offset: Offset,
    /// The timestamp that the broker or the producer set, if any.
    pub timestamp: Option<DateTime<Utc>>,
    /// What its headers say about the payload.
    pub headers: Headers,
    /// The payload; only its beginning if `payload_bytes` is larger.
    pub payload: Vec<u8>,
    /// Length of the whole payload, in bytes.
    pub payload_bytes: usize,
    /// The record's bytes in the [`Load`]; dropping the weight subtracts them.
    pub weight: Weight,
}

impl Record {
    /// Gives up the payload, once it is decoded, except for what a dead letter keeps.
    pub fn keep_beginning(&mut self) {
        let gone = self.payload.len().saturating_sub(PAYLOAD_BYTES_KEPT);
        self.payload.truncate(PAYLOAD_BYTES_KEPT);
        self.payload.shrink_to_fit();
        self.weight.subtract(gone);
    }

    /// What [`decode`] reads of it.
    pub fn raw(&self) -> Raw<'_> {
        Raw {
            payload: &self.payload,
            payload_bytes: self.payload_bytes,
            headers: &self.headers,
            timestamp: self.timestamp,
        }
    }
}

/// What a source reports, in order.
#[derive(Debug)]
pub enum Event {
    /// This reader now owns the partitions and resumes at these positions.
    Assigned(Vec<(TopicPartition, Offset)>),
    /// This reader no longer owns the partitions. The receiver of the event sends on `done`
    /// when none of their records is in flight.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// Send here.
        done: oneshot::Sender<()>,
    },
    /// The next record of an owned partition.
    Record(Record),
    /// The reader has been at the end of the partition for a while.
    AtEnd(TopicPartition),
}

/// Commands from the consumer of the events to the source. No call blocks.
pub trait Control: Send + Sync {
    /// Another reader moved the partition's checkpoint: claim the partition again and resume
    /// at the new position. [`Event::Assigned`] follows.
    fn reclaim(&self, partition: &TopicPartition);
    /// Reports that everything before these positions is stored; for lag tools.
    fn stored(&self, positions: &[(TopicPartition, Offset)]);
}

/// A running source. Dropping `events` stops it.
pub struct Source {
    /// The events, in order.
    pub events: mpsc::Receiver<Event>,
    /// The commands.
    pub control: Arc<dyn Control>,
    /// The thread that reads. It ends soon after `events` is dropped, at the end of a finite
    /// topic, or with an error that stops it.
    pub thread: std::thread::JoinHandle<Result<(), String>>,
}

/// The range of offsets that the broker has of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that still exists.
    pub low: Offset,
    /// The offset that the next record will get.
    pub high: Offset,
}

/// Decides where a partition is resumed. The source calls it on its own thread; it may block.
pub trait Positions: Send + Sync + 'static {
    /// Returns a position for each partition, in order, or `None` if the store or the broker
    /// is not available now. `bounds` queries the broker. Call it after reading the
    /// checkpoints: a checkpoint can lie beyond bounds that were read before it.
    fn claim(
        &self,
        partitions: &[TopicPartition],
        bounds: &dyn Fn(&TopicPartition) -> Option<Bounds>,
    ) -> Option<Vec<Offset>>;
}

/// Bytes in flight between the broker and the store.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// Adds bytes; dropping the returned weight subtracts them.
    pub fn add(&self, bytes: usize) -> Weight {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Weight { load: self.clone(), bytes }
    }

    /// The bytes in flight now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of a [`Load`].
#[derive(Debug)]
pub struct Weight {
    load: Load,
    bytes: usize,
}

impl Weight {
    /// Takes `bytes` of it away, at most all.
    fn subtract(&mut self, bytes: usize) {
        let gone = bytes.min(self.bytes);
        self.bytes -= gone;
        self.load.0.fetch_sub(gone, Ordering::Relaxed);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.load.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_record_keeps_and_weighs_what_a_dead_letter_needs() {
        let load = Load::default();
        let record = |bytes: usize| Record {
            partition: TopicPartition::new("tweets", 0),
            offset: Offset(0),
            timestamp: None,
            payload: vec![b'x'; bytes],
            payload_bytes: bytes,
            headers: Headers::default(),
            weight: load.add(bytes),
        };
        let (mut long, mut short) = (record(1_000_000), record(300));
        long.keep_beginning();
        short.keep_beginning();
        assert_eq!((long.payload.capacity(), long.payload_bytes), (PAYLOAD_BYTES_KEPT, 1_000_000));
        assert_eq!((short.payload.len(), load.bytes()), (300, PAYLOAD_BYTES_KEPT + 300));
        drop(long);
        assert_eq!(load.bytes(), 300);
    }
}
