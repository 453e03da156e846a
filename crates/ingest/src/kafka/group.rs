//! Handles partition assignments and revocations in librdkafka's callbacks, which run on the
//! poll thread.
//!
//! **Invariant.** [`Event::Revoked`] is offered before the partitions are released; it keeps its place
//! among the other events. No callback waits longer than [`REVOKE_WAIT_MAX`], whatever Postgres does:
//! the group expels a member that does not poll.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use metrics::gauge;
use rdkafka::bindings::rd_kafka_resp_err_t as RespErr;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{mpsc, oneshot};

use super::BROKER_TIMEOUT;
use crate::{Bounds, Event, Positions};
use monitor_core::domain::{Offset, TopicPartition};
use monitor_telemetry::{self as telemetry, Readiness};

/// How long a revocation waits at most for records in flight.
const REVOKE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often a fenced member joins again within [`REJOINS_WITHIN`]: two daemons with one name would fence each other
/// for ever.
const REJOINS_MAX: usize = 3;
const REJOINS_WITHIN: Duration = Duration::from_secs(300);

/// How this daemon becomes a member of the group.
pub(super) struct Membership {
    client: ClientConfig,
    /// When it joined again.
    rejoined: Vec<Duration>,
}

impl Membership {
    pub fn new(client: ClientConfig) -> Self {
        Self { client, rejoined: Vec::new() }
    }

    /// A consumer that joins the group when it is polled.
    pub fn join(&self, context: Context) -> KafkaResult<BaseConsumer<Context>> {
        let topic = context.topic.clone();
        let consumer: BaseConsumer<Context> = self.client.create_with_context(context)?;
        consumer.subscribe(&[&topic])?;
        Ok(consumer)
    }

    /// Whether a fenced member may join again at this time since any fixed moment; then it counts.
    pub fn may_rejoin(&mut self, now: Duration) -> bool {
        self.rejoined.retain(|at| now.saturating_sub(*at) < REJOINS_WITHIN);
        let may = self.rejoined.len() < REJOINS_MAX;
        if may {
            self.rejoined.push(now);
        }
        may
    }
}

/// What librdkafka's callbacks need; they run inside `poll`, on the poll thread.
pub(super) struct Context {
    pub topic: Arc<str>,
    pub events: mpsc::Sender<Event>,
    pub positions: Arc<dyn Positions>,
    pub readiness: Arc<Readiness>,
    pub state: Mutex<GroupState>,
}

/// What the poll thread knows about its place in the group.
#[derive(Default)]
pub(super) struct GroupState {
    pub assigned: BTreeSet<i32>,
    /// Assigned partitions that are paused until it is known where to resume.
    pub unclaimed: BTreeSet<i32>,
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

    /// Reports that this member owns nothing any more; returns the context of the next one.
    pub fn leave(&self) -> Self {
        let assigned: Vec<i32> = std::mem::take(&mut self.state().assigned).into_iter().collect();
        self.revoke(&assigned);
        gauge!(telemetry::PAUSED).set(0.0);
        let waiting = std::mem::take(&mut self.state().waiting);
        Self {
            topic: self.topic.clone(),
            events: self.events.clone(),
            positions: self.positions.clone(),
            readiness: self.readiness.clone(),
            state: Mutex::new(GroupState { waiting, ..GroupState::default() }),
        }
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

    /// Reports that this reader no longer owns the partitions, and waits until none of their
    /// records is in flight, for at most [`REVOKE_WAIT_MAX`]: the group waits meanwhile. The store
    /// refuses what is still in flight then.
    pub fn revoke(&self, partitions: &[i32]) {
        if partitions.is_empty() {
            return;
        }
        let (done, mut drained) = oneshot::channel();
        let partitions = partitions.iter().map(|&p| self.name(p)).collect();
        self.offer(Event::Revoked { partitions, done });
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while waited < REVOKE_WAIT_MAX {
            match drained.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => thread::sleep(step),
                Ok(()) | Err(oneshot::error::TryRecvError::Closed) => return,
            }
            waited += step;
            self.drain(&mut self.state());
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

    /// Accepts the partitions without reading them: where to resume is asked by the poll loop, as
    /// the group must not wait for Postgres.
    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
        let mut list = TopicPartitionList::new();
        for &number in &numbers {
            list.add_partition_offset(&self.topic, number, rdkafka::Offset::Beginning)
                .expect("the beginning is an offset");
        }
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
            _ => consumer.assign(&list),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "cannot accept the assigned partitions");
            return;
        }
        if let Err(error) = consumer.pause(&list) {
            // What is read before the claim is skipped in any case.
            tracing::warn!(%error, "cannot pause the assigned partitions");
        }
        tracing::info!(partitions = ?numbers, "partitions assigned");
        let mut state = self.state();
        state.assigned.extend(&numbers);
        state.unclaimed.extend(&numbers);
        state.joined = true;
    }

    fn unassign(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|e| e.partition()).collect();
        {
            let mut state = self.state();
            for number in &numbers {
                state.assigned.remove(number);
                state.unclaimed.remove(number);
                // Another daemon has its lag now.
                gauge!(telemetry::LAG, "partition" => number.to_string()).set(0.0);
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
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        let assigned = self.state().assigned.clone();
        for partition in assigned {
            // Unknown until the first records are fetched.
            let lag = topic.partitions.get(&partition).map_or(-1, |it| it.consumer_lag);
            if lag >= 0 {
                gauge!(telemetry::LAG, "partition" => partition.to_string()).set(lag as f64);
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_fenced_again_and_again_gives_up() {
        let mut membership = Membership::new(ClientConfig::new());
        let mut may = |second| membership.may_rejoin(Duration::from_secs(second));
        assert_eq!([may(10), may(11), may(200)], [true; 3]);
        assert!(!may(201), "the fourth time in five minutes");
        assert!(may(310), "the first was five minutes ago");
        assert!(!may(310));
    }
}
