//! The Kafka source: one thread polls, and librdkafka runs its callbacks on that thread.
//!
//! **Invariant.** Only the poll thread uses the consumer and sends events, so events keep the
//! order in which things happened. The thread keeps polling while the queue is full.
//! Deliberately absent: auto-commit and auto-reset. If the broker no longer has a position,
//! the source calls [`Positions::claim`] again, which reports what was lost.

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
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;

use group::{Context, Membership};

use super::{Control, Event, Headers, Load, PAYLOAD_BYTES_KEPT, Positions, Record, Source};
use monitor_config as config;
use monitor_core::clock::Clock;
use monitor_core::domain::{Offset, TopicPartition};
use monitor_telemetry::{self as telemetry, Readiness};

/// How long a poll waits for a record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// The same while partitions are paused or to be claimed again.
const POLL_WAIT_BUSY: Duration = Duration::from_millis(10);
/// Wait before a failed claim is retried.
const CLAIM_RETRY_WAIT: Duration = Duration::from_millis(500);
/// Timeout of one request to the broker.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the source checks the broker and commits the stored offsets.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(2);
/// How often librdkafka reports the lag of the partitions, in milliseconds.
const STATISTICS_EVERY_MS: &str = "5000";
/// How long a full queue delays the polls before the partitions are paused.
const DELAY_MAX: Duration = Duration::from_secs(1);
const DELAY_STEP: Duration = Duration::from_millis(2);
/// The queue counts as full when it has room for fewer rows than this.
const ROOM_MIN: usize = 64;

/// Why the source could not start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// librdkafka rejected the settings.
    #[error("Kafka consumer: {0}; check [kafka] and kafka.properties")]
    Settings(#[from] KafkaError),
    /// The poll thread could not be started.
    #[error("cannot start the Kafka thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts [`Source`]s that read from Kafka.
pub struct KafkaSource;

impl KafkaSource {
    /// Joins the group and starts polling. Returns at once; the thread waits for a broker that
    /// is not available, and `readiness` shows that.
    ///
    /// # Errors
    /// [`SourceError`] if librdkafka rejects the settings or the thread cannot be started.
    pub fn start(
        settings: &config::Kafka,
        positions: Arc<dyn Positions>,
        readiness: Arc<Readiness>,
        clock: Arc<dyn Clock>,
    ) -> Result<Source, SourceError> {
        readiness.set("kafka", Err("has not joined its group yet".into()));
        let (events, receiver) = mpsc::channel(settings.queue_rows_max.max(2 * ROOM_MIN));
        let (sender, commands) = std_mpsc::channel();
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
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", STATISTICS_EVERY_MS)
            // After its own queue was full, librdkafka would not fetch for a second, and the pipeline would wait.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384");
        // With the newer group protocol (KIP-848), the broker decides about both.
        if settings.properties.get("group.protocol").is_none_or(|it| it != "consumer") {
            client
                .set("partition.assignment.strategy", settings.assignment.as_str())
                .set("session.timeout.ms", "10000");
        }
        for (key, value) in &settings.properties {
            client.set(key, value);
        }
        let membership = Membership::new(client);
        let poller = Poller {
            consumer: membership.join(context)?,
            membership,
            commands,
            load: Load::default(),
            load_max: settings.queue_bytes_max,
            record_bytes_max: settings.record_bytes_max,
            idle_after: Duration::from_millis(settings.idle_after_ms),
            reclaims: BTreeSet::new(),
            claim_at: Duration::ZERO,
            stored: BTreeMap::new(),
            housekeeping_at: Duration::ZERO,
            full_since: None,
            clock,
        };
        let thread = thread::Builder::new().name("kafka".into()).spawn(move || poller.run())?;
        Ok(Source {
            events: receiver,
            control: Arc::new(CommandSender(Mutex::new(sender))),
            thread,
        })
    }
}

enum Command {
    Reclaim(TopicPartition),
    Stored(Vec<(TopicPartition, Offset)>),
}

struct CommandSender(Mutex<std_mpsc::Sender<Command>>);

impl CommandSender {
    fn send(&self, command: Command) {
        // An error means that the source has stopped and needs no command.
        let _ = self.0.lock().expect("no holder of this lock panics").send(command);
    }
}

impl Control for CommandSender {
    fn reclaim(&self, partition: &TopicPartition) {
        self.send(Command::Reclaim(partition.clone()));
    }

    fn stored(&self, positions: &[(TopicPartition, Offset)]) {
        self.send(Command::Stored(positions.to_vec()));
    }
}

struct Poller {
    consumer: BaseConsumer<Context>,
    membership: Membership,
    commands: std_mpsc::Receiver<Command>,
    load: Load,
    load_max: usize,
    record_bytes_max: usize,
    idle_after: Duration,
    /// Partitions to claim again.
    reclaims: BTreeSet<i32>,
    /// When they may be claimed: after a failure, a little later.
    claim_at: Duration,
    /// Stored positions not yet committed to Kafka.
    stored: BTreeMap<i32, Offset>,
    housekeeping_at: Duration,
    /// Since when the queue is full while the partitions are not yet paused.
    full_since: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// What the fill level of the queue allows.
enum Flow {
    /// Poll for records.
    Free,
    /// Do not poll for a moment.
    Delay,
    /// Poll only to stay in the group: the partitions are paused.
    Paused,
}

impl Poller {
    fn context(&self) -> &Context {
        rdkafka::consumer::Consumer::context(&self.consumer)
    }

    /// Polls until the receiver of the events is dropped.
    fn run(mut self) -> Result<(), String> {
        while !self.context().events.is_closed() {
            self.handle_commands();
            self.claim();
            let wait = match self.apply_backpressure() {
                Flow::Delay => {
                    thread::sleep(DELAY_STEP);
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
                    if self.is_unclaimed(record.partition.partition) {
                        continue; // not from where it resumes
                    }
                    {
                        let mut state = self.context().state();
                        state.at_end_since.remove(&record.partition.partition);
                        state.reported = None;
                    }
                    counter!(telemetry::RECORDS).increment(1);
                    self.context().offer(Event::Record(record));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let now = self.clock.elapsed();
                    self.context().state().at_end_since.insert(partition, Some(now));
                }
                Some(Err(KafkaError::MessageConsumptionFatal(error))) => {
                    self.rejoin(error)?;
                }
                Some(Err(error)) => self.handle_error(error),
            }
            self.report_ends();
            self.housekeeping();
        }
        self.handle_commands();
        self.commit_offsets();
        Ok(())
    }

    /// Joins the group again if the broker has fenced this static member: where a bad network cut off the answer to
    /// its own join, the broker takes the next one for another daemon with its name.
    fn rejoin(&mut self, error: RDKafkaErrorCode) -> Result<(), String> {
        self.context().readiness.set("kafka", Err(error.to_string()));
        let is_fenced = error == RDKafkaErrorCode::FencedInstanceId;
        if !is_fenced || !self.membership.may_rejoin(self.clock.elapsed()) {
            return Err(format!(
                "Kafka: {error}; does another daemon use the same group.instance.id?"
            ));
        }
        tracing::warn!(%error, "joining the group again");
        let context = self.context().leave();
        self.consumer = self.membership.join(context).map_err(|error| error.to_string())?;
        self.reclaims.clear();
        self.stored.clear();
        self.full_since = None;
        Ok(())
    }

    fn handle_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
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

    /// Delays the polls while the queue is full. If that lasts for [`DELAY_MAX`], pauses the
    /// partitions, as the group expels a member that does not poll; resumes them when the
    /// queue is half empty. Does not pause at once, because pausing makes librdkafka drop its
    /// fetched records and fetch them again.
    fn apply_backpressure(&mut self) -> Flow {
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
        } else if !state.paused && now < *self.full_since.get_or_insert(now) + DELAY_MAX {
            return Flow::Delay;
        }
        if full == state.paused || (state.paused && !relaxed) || state.assigned.is_empty() {
            return if state.paused { Flow::Paused } else { Flow::Free };
        }
        let mut list = TopicPartitionList::new();
        let claimed = |partition: &&i32| {
            !self.reclaims.contains(partition) && !state.unclaimed.contains(partition)
        };
        for &partition in state.assigned.iter().filter(claimed) {
            list.add_partition(&context.topic, partition);
        }
        let outcome = if full { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match outcome {
            Ok(()) => {
                state.paused = full;
                gauge!(telemetry::PAUSED).set(if full { 1.0 } else { 0.0 });
                tracing::debug!(paused = full, room, bytes, "backpressure");
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
        let mut headers = Headers::default();
        for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            headers.add(header.key, header.value);
        }
        Record {
            headers,
            partition: self.context().name(message.partition()),
            offset: Offset(message.offset()),
            timestamp: message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis),
            payload: payload[..kept].to_vec(),
            payload_bytes: payload.len(),
            weight: self.load.add(kept),
        }
    }

    fn handle_error(&mut self, error: KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            // The error does not name the partition; claiming all of them again is safe.
            let assigned: Vec<i32> = self.context().state().assigned.iter().copied().collect();
            tracing::warn!(?assigned, "the broker no longer has the position; claiming it again");
            self.context().revoke(&assigned);
            self.reclaims.extend(assigned);
        } else {
            // The error callback has logged it.
            tracing::debug!(%error, "Kafka poll");
        }
    }

    fn is_unclaimed(&self, partition: i32) -> bool {
        self.reclaims.contains(&partition) || self.context().state().unclaimed.contains(&partition)
    }

    /// Asks where the partitions resume that were assigned or are to be claimed again, and reads on
    /// from there. Tries again later if the store or the broker does not answer.
    fn claim(&mut self) {
        let context: &Context = rdkafka::consumer::Consumer::context(&self.consumer);
        {
            let mut state = context.state();
            self.reclaims.append(&mut state.unclaimed);
            self.reclaims.retain(|partition| state.assigned.contains(partition));
            // The waiting records were read from the old position.
            state.waiting.retain(|event| match event {
                Event::Record(record) => !self.reclaims.contains(&record.partition.partition),
                _ => true,
            });
        }
        let now = self.clock.elapsed();
        if self.reclaims.is_empty() || now < self.claim_at {
            return;
        }
        let numbers: Vec<i32> = self.reclaims.iter().copied().collect();
        let Some(offsets) = context.claim(&self.consumer, &numbers) else {
            self.claim_at = self.clock.elapsed() + CLAIM_RETRY_WAIT;
            return;
        };
        let mut named = Vec::new();
        let mut found = TopicPartitionList::new();
        for (&number, offset) in numbers.iter().zip(offsets) {
            let to = rdkafka::Offset::Offset(offset.0);
            match self.consumer.seek(&context.topic, number, to, BROKER_TIMEOUT) {
                Ok(()) => {
                    self.reclaims.remove(&number);
                    context.state().at_end_since.remove(&number);
                    found.add_partition(&context.topic, number);
                    named.push((context.name(number), offset));
                }
                Err(error) => {
                    tracing::warn!(%error, number, "cannot seek; trying again");
                    self.claim_at = self.clock.elapsed() + CLAIM_RETRY_WAIT;
                }
            }
        }
        context.offer(Event::Assigned(named));
        let paused = context.state().paused;
        if !paused && let Err(error) = self.consumer.resume(&found) {
            tracing::error!(%error, "cannot resume the partitions");
        }
    }

    /// Reports the partitions at whose end the reader has been for `idle_after`.
    fn report_ends(&self) {
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

    /// Commits stored offsets for lag tools, and checks that the broker and the topic exist.
    fn housekeeping(&mut self) {
        let now = self.clock.elapsed();
        if now < self.housekeeping_at {
            return;
        }
        self.housekeeping_at = now + HOUSEKEEPING_EVERY;
        self.commit_offsets();
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

    fn commit_offsets(&mut self) {
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
            tracing::debug!(%error, "cannot commit the stored offsets to Kafka; only lag tools need them");
        }
    }
}
