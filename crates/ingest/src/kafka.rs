//! The Kafka source: one thread polls, and everything that librdkafka calls back runs on it.
//!
//! **Invariant.** Only the poll thread touches the consumer and sends events, so events
//! keep the order in which things happened. It polls even while the queue is full.
//! Deliberately absent: auto-commit, auto-reset. A position that the broker no longer has
//! goes through [`Positions::claim`] again, which says what was lost.

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use chrono::DateTime;
use metrics::{counter, gauge};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;

use group::Context;

use super::{Control, Event, Load, PAYLOAD_BYTES_KEPT, Positions, Record, Source};
use monitor_config as config;
use monitor_core::clock::Clock;
use monitor_core::domain::{Offset, TopicPartition};
use monitor_telemetry::{self as telemetry, Readiness};

/// Longest a poll waits for a record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Shortest poll while commands or a full queue wait.
const POLL_WAIT_BUSY: Duration = Duration::from_millis(10);
/// Longest one question to the broker takes.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the broker is asked whether it is there, and stored offsets are committed.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(2);
/// Longest a full queue holds the polls before the partitions are paused.
const HOLD_MAX: Duration = Duration::from_secs(1);
const HOLD_STEP: Duration = Duration::from_millis(2);
/// Room in the queue below which the partitions are paused.
const ROOM_MIN: usize = 64;

/// Why the source could not start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// librdkafka refused the settings.
    #[error("Kafka consumer: {0}; check [kafka] and kafka.properties")]
    Settings(#[from] KafkaError),
    /// The poll thread could not be started.
    #[error("cannot start the Kafka thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts [`Source`]s that read from Kafka.
pub struct KafkaSource;

impl KafkaSource {
    /// Joins the group and starts polling. Returns at once; a broker that is away is
    /// waited for, and `readiness` tells.
    ///
    /// # Errors
    /// [`SourceError`] if the settings are refused.
    pub fn start(
        settings: &config::Kafka,
        positions: Arc<dyn Positions>,
        readiness: Arc<Readiness>,
        clock: Arc<dyn Clock>,
    ) -> Result<Source, SourceError> {
        readiness.set("kafka", Err("has not joined its group yet".into()));
        let (events, receiver) = mpsc::channel(settings.queue_rows_max.max(2 * ROOM_MIN));
        let (commands, orders) = std_mpsc::channel();
        let context = Context {
            topic: settings.topic.as_str().into(),
            events,
            positions,
            readiness,
            state: Mutex::default(),
        };
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &settings.brokers)
            .set("group.id", &settings.group)
            .set("client.id", "monitor")
            .set("partition.assignment.strategy", settings.assignment.as_str())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("session.timeout.ms", "10000")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384");
        for (key, value) in &settings.properties {
            client.set(key, value);
        }
        let consumer: BaseConsumer<Context> = client.create_with_context(context)?;
        consumer.subscribe(&[&settings.topic])?;
        let poller = Poller {
            consumer,
            orders,
            load: Load::default(),
            load_max: settings.queue_bytes_max,
            record_bytes_max: settings.record_bytes_max,
            idle_after: Duration::from_millis(settings.idle_after_ms),
            reclaims: BTreeSet::new(),
            stored: BTreeMap::new(),
            housekeeping_at: Duration::ZERO,
            full_since: None,
            clock,
        };
        let thread = thread::Builder::new().name("kafka".into()).spawn(move || poller.run())?;
        Ok(Source { events: receiver, control: Arc::new(Commands(Mutex::new(commands))), thread })
    }
}

enum Command {
    Reclaim(TopicPartition),
    Stored(Vec<(TopicPartition, Offset)>),
}

struct Commands(Mutex<std_mpsc::Sender<Command>>);

impl Commands {
    fn send(&self, command: Command) {
        // A source that has stopped needs no orders.
        let _ = self.0.lock().expect("no holder of this lock panics").send(command);
    }
}

impl Control for Commands {
    fn reclaim(&self, partition: &TopicPartition) {
        self.send(Command::Reclaim(partition.clone()));
    }

    fn stored(&self, positions: &[(TopicPartition, Offset)]) {
        self.send(Command::Stored(positions.to_vec()));
    }
}

struct Poller {
    consumer: BaseConsumer<Context>,
    orders: std_mpsc::Receiver<Command>,
    load: Load,
    load_max: usize,
    record_bytes_max: usize,
    idle_after: Duration,
    /// Partitions to claim again.
    reclaims: BTreeSet<i32>,
    /// Stored positions not yet told to Kafka.
    stored: BTreeMap<i32, Offset>,
    housekeeping_at: Duration,
    /// Since when the queue has been full without a pause.
    full_since: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// What the queue allows.
enum Flow {
    /// Polling for records.
    Free,
    /// Nothing, for a moment.
    Hold,
    /// Polling, but for the group's sake alone.
    Paused,
}

impl Poller {
    fn context(&self) -> &Context {
        rdkafka::consumer::Consumer::context(&self.consumer)
    }

    /// Polls until nobody listens any more.
    fn run(mut self) -> Result<(), String> {
        while !self.context().events.is_closed() {
            self.obey();
            self.reclaim();
            let wait = match self.apply_pressure() {
                Flow::Hold => {
                    thread::sleep(HOLD_STEP);
                    continue;
                }
                Flow::Paused => POLL_WAIT_BUSY,
                Flow::Free if !self.reclaims.is_empty() => POLL_WAIT_BUSY,
                Flow::Free => POLL_WAIT,
            };
            match self.consumer.poll(wait) {
                None => {}
                Some(Ok(message)) => {
                    let record = self.record(&message);
                    {
                        let mut state = self.context().state();
                        state.at_end_since.remove(&record.partition.partition);
                        state.told = None;
                    }
                    counter!(telemetry::RECORDS).increment(1);
                    self.context().offer(Event::Record(record));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let now = self.clock.elapsed();
                    self.context().state().at_end_since.insert(partition, Some(now));
                }
                Some(Err(KafkaError::MessageConsumptionFatal(error))) => {
                    self.context().readiness.set("kafka", Err(error.to_string()));
                    return Err(format!(
                        "Kafka: {error}; does another daemon use the same group.instance.id?"
                    ));
                }
                Some(Err(error)) => self.failed(error),
            }
            self.tell_ends();
            self.keep_house();
        }
        self.obey();
        self.tell_kafka();
        Ok(())
    }

    fn obey(&mut self) {
        while let Ok(command) = self.orders.try_recv() {
            match command {
                Command::Reclaim(partition) => {
                    self.reclaims.insert(partition.partition);
                }
                Command::Stored(positions) => {
                    self.stored.extend(positions.into_iter().map(|(tp, at)| (tp.partition, at)));
                }
            }
        }
    }

    /// Holds the polls while the queue is full for a moment, as pausing makes librdkafka
    /// drop what it has fetched and fetch it again. Pauses the partitions if that lasts,
    /// since the group expels a member that does not poll, and resumes them when the queue
    /// is half empty.
    fn apply_pressure(&mut self) -> Flow {
        let now = self.clock.elapsed();
        let context: &Context = rdkafka::consumer::Consumer::context(&self.consumer);
        let mut state = context.state();
        context.drain(&mut state);
        let room = context.events.capacity();
        let bytes = self.load.bytes();
        gauge!(telemetry::QUEUE_ROWS).set((context.events.max_capacity() - room) as f64);
        let full = !state.waiting.is_empty() || room < ROOM_MIN || bytes > self.load_max;
        let relaxed = state.waiting.is_empty()
            && room >= context.events.max_capacity() / 2
            && bytes <= self.load_max / 2;
        if !full {
            self.full_since = None;
        } else if !state.paused && now < *self.full_since.get_or_insert(now) + HOLD_MAX {
            return Flow::Hold;
        }
        if full == state.paused || (state.paused && !relaxed) || state.assigned.is_empty() {
            return if state.paused { Flow::Paused } else { Flow::Free };
        }
        let mut list = TopicPartitionList::new();
        for &partition in &state.assigned {
            list.add_partition(&context.topic, partition);
        }
        let outcome = if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match outcome {
            Ok(()) => {
                state.paused = full;
                gauge!(telemetry::PAUSED).set(if full { 1.0 } else { 0.0 });
                tracing::debug!(paused = full, room, bytes, "back pressure");
            }
            Err(error) => tracing::warn!(%error, "cannot pause or resume the partitions"),
        }
        if state.paused { Flow::Paused } else { Flow::Free }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        let payload = message.payload().unwrap_or_default();
        let kept = if payload.len() > self.record_bytes_max {
            payload.len().min(PAYLOAD_BYTES_KEPT)
        } else {
            payload.len()
        };
        Record {
            partition: self.context().name(message.partition()),
            offset: Offset(message.offset()),
            timestamp: message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis),
            payload: payload[..kept].to_vec(),
            payload_bytes: payload.len(),
            weight: self.load.add(kept),
        }
    }

    fn failed(&mut self, error: KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            // Which partition it was is not said; claiming all of them again is safe.
            let assigned: Vec<i32> = self.context().state().assigned.iter().copied().collect();
            tracing::warn!(?assigned, "the broker no longer has the position; claiming it again");
            self.context().revoke(&assigned);
            self.reclaims.extend(assigned);
        } else {
            // The client's own error callback has told it.
            tracing::debug!(%error, "Kafka poll");
        }
    }

    fn reclaim(&mut self) {
        let owned: Vec<i32> = {
            let state = self.context().state();
            self.reclaims.iter().copied().filter(|p| state.assigned.contains(p)).collect()
        };
        if owned.is_empty() {
            self.reclaims.clear();
            return;
        }
        // What waits for room was read from the position that is given up.
        self.context().state().waiting.retain(|event| match event {
            Event::Record(record) => !owned.contains(&record.partition.partition),
            _ => true,
        });
        let Some(offsets) = self.context().claim(&self.consumer, &owned) else { return };
        let mut named = Vec::new();
        for (&number, offset) in owned.iter().zip(offsets) {
            let to = rdkafka::Offset::Offset(offset.0);
            let topic = self.context().topic.clone();
            match self.consumer.seek(&topic, number, to, BROKER_TIMEOUT) {
                Ok(()) => {
                    self.reclaims.remove(&number);
                    self.context().state().at_end_since.remove(&number);
                    named.push((self.context().name(number), offset));
                }
                Err(error) => tracing::warn!(%error, number, "cannot seek; trying again"),
            }
        }
        self.context().send(Event::Assigned(named));
    }

    /// Says which partitions have stood at their end for long enough.
    fn tell_ends(&self) {
        let now = self.clock.elapsed();
        let context = self.context();
        let ended: Vec<i32> = {
            let mut state = context.state();
            let idle_after = self.idle_after;
            state
                .at_end_since
                .iter_mut()
                .filter(|(_, since)| since.is_some_and(|since| now >= since + idle_after))
                .map(|(&partition, since)| {
                    *since = None;
                    partition
                })
                .collect()
        };
        for partition in ended {
            context.offer(Event::AtEnd(context.name(partition)));
        }
    }

    /// Commits stored offsets for lag tools, and asks whether the broker is there.
    fn keep_house(&mut self) {
        let now = self.clock.elapsed();
        if now < self.housekeeping_at {
            return;
        }
        self.housekeeping_at = now + HOUSEKEEPING_EVERY;
        self.tell_kafka();
        let context = self.context();
        let found = self
            .consumer
            .fetch_metadata(Some(&context.topic), BROKER_TIMEOUT)
            .map_err(|error| format!("no broker can be reached: {error}"))
            .and_then(|metadata| match metadata.topics().first() {
                Some(topic) if !topic.partitions().is_empty() => Ok(()),
                _ => Err(format!("topic {:?} does not exist; create it", context.topic)),
            });
        let joined = context.state().joined;
        context.readiness.set(
            "kafka",
            found.and_then(|()| {
                if joined { Ok(()) } else { Err("has not joined its group yet".into()) }
            }),
        );
    }

    fn tell_kafka(&mut self) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in std::mem::take(&mut self.stored) {
            if self.context().state().assigned.contains(&partition) {
                list.add_partition_offset(
                    &self.context().topic,
                    partition,
                    rdkafka::Offset::Offset(offset.0),
                )
                .expect("a stored position is never negative");
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "cannot tell Kafka the stored offsets; only lag tools need them");
        }
    }
}
