//! What happens when partitions come and go: librdkafka's callbacks, on the poll thread.
//!
//! **Invariant.** A revocation is told before the partitions are given back, an assignment
//! after they are taken, each behind every event before it.

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

/// Longest a revoked partition waits for what is in flight, once the queue has room.
const REVOKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Wait before a claim is tried again.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// What librdkafka's callbacks need; they run inside `poll`, on the poll thread.
pub(super) struct Context {
    pub topic: Arc<str>,
    pub events: mpsc::Sender<Event>,
    pub positions: Arc<dyn Positions>,
    pub readiness: Arc<Readiness>,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub assigned: BTreeSet<i32>,
    pub joined: bool,
    /// Since when a partition has stood at its end; `None` once that was told.
    pub at_end_since: BTreeMap<i32, Option<Duration>>,
    pub paused: bool,
    /// The last failure told; it is told once until a record comes.
    pub told: Option<RDKafkaErrorCode>,
    /// Events for which the queue had no room.
    pub waiting: VecDeque<Event>,
}

impl Context {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub fn name(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), partition)
    }

    /// Hands an event over, after those that wait; keeps it if there is no room.
    pub fn offer(&self, event: Event) {
        let mut state = self.state();
        state.waiting.push_back(event);
        self.drain(&mut state);
    }

    pub fn drain(&self, state: &mut State) {
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

    /// Hands an event over, waiting for room.
    pub fn send(&self, event: Event) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for event in waiting.into_iter().chain([event]) {
            if self.events.blocking_send(event).is_err() {
                return;
            }
        }
    }

    /// Says that partitions are no longer ours, and waits until nothing of them is in
    /// flight, or for as long as it is polite to keep the group waiting.
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
            "what is in flight of the revoked partitions has not been stored in time; its next owner reads it again"
        );
    }

    /// Asks the store and the broker where to read on; `None` if either cannot tell now.
    pub fn claim(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Option<Vec<Offset>> {
        let names: Vec<_> = partitions.iter().map(|&partition| self.name(partition)).collect();
        self.positions.claim(&names, &|name| {
            consumer
                .fetch_watermarks(&self.topic, name.partition, BROKER_TIMEOUT)
                .map(|(low, high)| Bounds { low: Offset(low), high: Offset(high) })
                .inspect_err(|error| {
                    tracing::warn!(%error, %name, "the broker does not tell the partition's bounds; asking again");
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
                    // Stopping; librdkafka wants an answer to its assignment all the same.
                    None if self.events.is_closed() => break Vec::new(),
                    None => thread::sleep(CLAIM_AGAIN),
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
            tracing::error!(%error, "cannot take the partitions assigned");
            return;
        }
        tracing::info!(partitions = ?numbers, "partitions assigned");
        {
            let mut state = self.state();
            state.assigned.extend(&numbers);
            state.joined = true;
            // A pause of ours outlives a rebalance, and is not there for what came new: all
            // go on, and are paused again if the queue is still full.
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
            tracing::error!(%error, "cannot give the partitions back");
        }
        tracing::info!(partitions = ?numbers, "partitions revoked");
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes this way too, and from `poll`.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let code = error.rdkafka_error_code();
        if std::mem::replace(&mut self.state().told, code) == code {
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
