//! From a broker to [`Event`]s, and from a record's bytes to a tweet.
//!
//! **Delivery contract.** A source reads each partition from the position that
//! [`Positions::claim`] answered, in order, without leaving a record out, until it says
//! [`Event::Revoked`]. `Assigned`, `Revoked` and records of a partition arrive in the
//! order in which they happened, so whoever reads the events needs no other signal.
//! What is in flight when a partition changes hands may be read again by its next owner;
//! the store refuses the second of the two.
//!
//! **Invariant.** A full queue pauses the partitions while polling goes on, so that the
//! group keeps its member; memory is bounded in rows and in bytes.
//! Deliberately absent: committing offsets as the truth. Postgres has them; what goes to
//! Kafka is for lag tools only.

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
pub use timestamp::{parse_file_timestamp, parse_timestamp};
pub use wire::{Limits, Rejected, decode};

use monitor_core::domain::{Offset, TopicPartition};

/// Bytes of a payload kept when it is too long to be decoded.
pub const PAYLOAD_BYTES_KEPT: usize = 4096;

/// A record as the broker gave it.
#[derive(Debug)]
pub struct Record {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// The broker's or producer's timestamp, if it has one.
    pub timestamp: Option<DateTime<Utc>>,
    /// Its payload; only the beginning, where `payload_bytes` is more.
    pub payload: Vec<u8>,
    /// Length of the whole payload, in bytes.
    pub payload_bytes: usize,
    /// Its weight in the queue, given back when it is dropped.
    pub weight: Weight,
}

/// What a source tells, in order.
#[derive(Debug)]
pub enum Event {
    /// This reader now owns the partitions, and reads on from these positions.
    Assigned(Vec<(TopicPartition, Offset)>),
    /// It no longer does. `done` is answered when nothing of them is in flight.
    Revoked {
        /// The partitions.
        partitions: Vec<TopicPartition>,
        /// Answer here.
        done: oneshot::Sender<()>,
    },
    /// The next record of an owned partition.
    Record(Record),
    /// The reader has stood at the partition's end for a while.
    AtEnd(TopicPartition),
}

/// The way back from whoever reads the events to the source. All calls return at once.
pub trait Control: Send + Sync {
    /// The partition's checkpoint was moved by another reader: claim it again, and read on
    /// from there. [`Event::Assigned`] tells when.
    fn reclaim(&self, partition: &TopicPartition);
    /// Everything before these positions is stored; for lag tools.
    fn stored(&self, positions: &[(TopicPartition, Offset)]);
}

/// A running source: its events and the way back. Dropping `events` stops it.
pub struct Source {
    /// What happens, in order.
    pub events: mpsc::Receiver<Event>,
    /// The way back.
    pub control: Arc<dyn Control>,
    /// The thread that reads; it ends soon after `events` is dropped, or by itself: with
    /// the topic, or with the reason why it cannot go on.
    pub thread: std::thread::JoinHandle<Result<(), String>>,
}

/// What the broker has of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Oldest offset left.
    pub low: Offset,
    /// Offset the next record will get.
    pub high: Offset,
}

/// Where partitions are read on; asked on the source's own thread, and may block.
pub trait Positions: Send + Sync + 'static {
    /// A position for each partition, in order; `None` where that cannot be told now.
    /// `bounds` asks the broker, and is called after the checkpoints were read: bounds that
    /// are older than a checkpoint may seem to lie before it.
    fn claim(
        &self,
        partitions: &[TopicPartition],
        bounds: &dyn Fn(&TopicPartition) -> Option<Bounds>,
    ) -> Option<Vec<Offset>>;
}

/// Bytes on their way from the broker to the store.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// Adds bytes until the weight is dropped.
    pub fn add(&self, bytes: usize) -> Weight {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Weight { load: self.clone(), bytes }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A share of a [`Load`].
#[derive(Debug)]
pub struct Weight {
    load: Load,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.load.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
