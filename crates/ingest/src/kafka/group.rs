//! Handles partition assignments and revocations in librdkafka's callbacks, which run on the
//! poll thread.
//!
//! **Invariant.** [`Event::Revoked`] is sent before the partitions are released,
//! [`Event::Assigned`] after they are acquired; both keep their place among the other events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as RespErr;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{mpsc, oneshot};

use super::BROKER_TIMEOUT;
use crate::{Bounds, Event, Positions};
use monitor_core::domain::{Offset, TopicPartition};
use monitor_telemetry::Readiness;

/// How long a revocation waits at most for records in flight, once the queue has room.
const REVOKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Wait before a failed claim is retried.
const CLAIM_RETRY_WAIT: Duration = Duration::from_millis(500);

/// What librdkafka's callbacks need; they run inside `poll`, on the poll thread.
pub(super) struct Context {
    pub topic: Arc<str>,
    pub events: mpsc::Sender<Event>,
    pub positions: Arc<dyn Positions>,
    pub readiness: Arc<Readiness>,
    pub state: Mutex<GroupState>,
}

#[derive(Default)]
/// What the poll thread knows about its membership in the group.
pub(super) struct GroupState {
    pub assigned: BTreeSet<i32>,
    pub joined: bool,
    /// Since when the reader is at the end of a partition; `None` once that was reported.
    pub at_end_since: BTreeMap<i32, Option<Duration>>,
    pub paused: bool,
    /// The last failure logged as a warning. Repetitions are logged at debug level until a
    /// record arrives.
    pub reported: Option<RDKafkaErrorCode>,
    /// Events for which the queue had no room.
    pub waiting: VecDeque<Event>,
}

impl Context {
    pub fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub fn name(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), partition)
    }

    /// Sends an event after those that wait; keeps it if the queue is full.
    pub fn offer(&self, event: Event) {
        let mut state = self.state();
        state.waiting.push_back(event);
        self.drain(&mut state);
    }

    pub fn drain(&self, state: &mut GroupState) {
        while let Some(event) = state.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    state.waiting.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => state.waiting.clear(),
            }
        }
    }

    /// Sends an event; blocks until the queue has room.
    pub fn send(&self, event: Event) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for event in waiting.into_iter().chain([event]) {
            if self.events.blocking_send(event).is_err() {
                return;
            }
        }
    }

    /// Reports that this reader no longer owns the partitions, and waits until none of their
    /// records is in flight, for at most [`REVOKE_WAIT_MAX`]: the group waits meanwhile.
    pub fn revoke(&self, partitions: &[i32]) {
        if partitions.is_empty() {
            return;
        }
        let (done, mut drained) = oneshot::channel();
        let partitions = partitions.iter().map(|&p| self.name(p)).collect();
        self.send(Event::Revoked { partitions, done });
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while waited < REVOKE_WAIT_MAX {
            match drained.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => thread::sleep(step),
                Ok(()) | Err(oneshot::error::TryRecvError::Closed) => return,
            }
            waited += step;
        }
        tracing::warn!(
            "the records in flight of the revoked partitions were not stored in time; the next owner reads them again"
        );
    }

    /// Asks the store and the broker where to resume; `None` if one of them is not available.
    pub fn claim(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Option<Vec<Offset>> {
        let names: Vec<_> = partitions.iter().map(|&partition| self.name(partition)).collect();
        self.positions.claim(&names, &|name| {
            consumer
                .fetch_watermarks(&self.topic, name.partition, BROKER_TIMEOUT)
                .map(|(low, high)| Bounds { low: Offset(low), high: Offset(high) })
                .inspect_err(|error| {
                    tracing::warn!(%error, %name, "cannot read the partition's bounds from the broker; trying again");
                })
                .ok()
        })
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
        let mut list = TopicPartitionList::new();
        let mut named = Vec::new();
        if !numbers.is_empty() {
            let offsets = loop {
                match self.claim(consumer, &numbers) {
                    Some(offsets) => break offsets,
                    // The source is stopping; librdkafka needs an answer nevertheless.
                    None if self.events.is_closed() => break Vec::new(),
                    None => thread::sleep(CLAIM_RETRY_WAIT),
                }
            };
            for (&number, offset) in numbers.iter().zip(offsets) {
                list.add_partition_offset(&self.topic, number, rdkafka::Offset::Offset(offset.0))
                    .expect("a checkpoint is never negative");
                named.push((self.name(number), offset));
            }
        }
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
            _ => consumer.assign(&list),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "cannot accept the assigned partitions");
            return;
        }
        tracing::info!(partitions = ?numbers, "partitions assigned");
        {
            let mut state = self.state();
            state.assigned.extend(&numbers);
            state.joined = true;
            // Old partitions may still be paused, new ones are not: resume all. They are
            // paused again if the queue is still full.
            state.paused = false;
        }
        if let Err(error) = consumer.assignment().and_then(|all| consumer.resume(&all)) {
            tracing::error!(%error, "cannot resume the partitions");
        }
        if !named.is_empty() {
            self.send(Event::Assigned(named));
        }
    }

    fn unassign(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
        {
            let mut state = self.state();
            for number in &numbers {
                state.assigned.remove(number);
                state.at_end_since.remove(number);
            }
        }
        self.revoke(&numbers);
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
            _ => consumer.unassign(),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "cannot release the partitions");
        }
        tracing::info!(partitions = ?numbers, "partitions revoked");
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // `poll` also returns the end of a partition, and handles it.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let code = error.rdkafka_error_code();
        if std::mem::replace(&mut self.state().reported, code) == code {
            tracing::debug!(%error, reason, "Kafka");
        } else {
            tracing::warn!(%error, reason, "Kafka");
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.readiness.set("kafka", Err(format!("no broker can be reached: {reason}")));
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RespErr,
        partitions: &mut TopicPartitionList,
    ) {
        match error {
            RespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, partitions),
            _ => self.unassign(consumer, partitions),
        }
    }
}
