//! Sends a file of tweets to Kafka, at the pace at which they were written or faster, or [`check`]s it.
//!
//! **Invariant.** Records are sent in the order of the file, with the tweet's id as key.
//! Deliberately absent: sorting by time.

mod check;
mod record;
mod resend;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_ingest::WireLimits;
use monitor_train::data::TweetFileError;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio_util::sync::CancellationToken;

use record::Record;

use crate::tweets::Tweets;

pub use check::{Checked, check};
pub use resend::resend;

/// Time between two calls of `progress`.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the broker to accept the last records.
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// The same after `stop`.
const FLUSH_STOPPED_MAX: Duration = Duration::from_secs(2);
/// How often a wait checks `stop`.
const STOP_CHECK_EVERY: Duration = Duration::from_millis(200);
/// Shorter waits before a record are skipped.
const PACE_WAIT_MIN: Duration = Duration::from_micros(200);
/// Wait before sending again when the producer's queue is full.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);

/// What to send, and how fast.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// CSV or JSON lines, plain or packed.
    pub file: PathBuf,
    /// How many times faster than the tweets were written; 0 is as fast as possible.
    pub speed: f64,
    /// Event times of the records.
    pub times: Times,
    /// Stop after this many tweets.
    pub limit: Option<u64>,
}

/// Event times of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// As in the file.
    Keep,
    /// The moment at which each record is sent.
    Now,
}

/// A replay stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The speed is negative or not finite.
    #[error("--speed {0} is not a speed; give a factor such as 1000, or 0 for as fast as possible")]
    Speed(f64),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] TweetFileError),
    /// The file has no ids, which are the records' keys.
    #[error("{}: there is no column \"id\" (or tweet_id, id_str, ids) in its header", .0.display())]
    NoIds(PathBuf),
    /// The broker's settings are invalid.
    #[error("Kafka producer; check [kafka] and kafka.properties: {0}")]
    Producer(#[source] KafkaError),
    /// A record cannot be sent.
    #[error("cannot send tweet {id}: {source}")]
    Send {
        /// The tweet.
        id: String,
        /// The cause.
        source: KafkaError,
    },
    /// The file has no row that can be sent.
    #[error("{}: nothing was sent; {skipped} rows are not valid tweets (monitor replay --check says why)", .file.display())]
    Nothing {
        /// The file.
        file: PathBuf,
        /// Rows left out.
        skipped: u64,
    },
    /// The last records were not accepted in time.
    #[error("the broker did not accept the last records in time: {0}")]
    Flush(#[source] KafkaError),
}

/// Progress of a replay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Records passed to the producer.
    pub sent: u64,
    /// Rows of the file that are not valid.
    pub skipped: u64,
    /// Records that the broker did not accept.
    pub failed: u64,
    /// Event time of the latest record.
    pub at: Option<DateTime<Utc>>,
    /// Time since the start.
    pub took: Duration,
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64().max(1e-3);
        write!(
            f,
            "{} tweets sent in {seconds:.1} s, {:.0} per second",
            self.sent,
            self.sent as f64 / seconds
        )?;
        if let Some(at) = self.at {
            write!(f, "; written up to {}", at.format("%a %d %b %Y %H:%M UTC"))?;
        }
        if self.skipped > 0 {
            write!(f, "; {} rows left out", self.skipped)?;
        }
        Ok(())
    }
}

/// Sends a file; calls `progress` a few times per second. Blocks until the broker has accepted
/// every record, or until shortly after `stop`. Invalid rows are counted and skipped; the
/// first few are named on standard error.
///
/// # Errors
/// [`ReplayError`]; also if there was nothing to send.
pub fn replay(
    request: &ReplayRequest,
    kafka: &config::Kafka,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Sent),
) -> Result<Sent, ReplayError> {
    let ReplayRequest { file: path, speed, times, limit } = request;
    if !(speed.is_finite() && *speed >= 0.0) {
        return Err(ReplayError::Speed(*speed));
    }
    let producer = producer(kafka)?;
    let clock = SystemClock::new();
    let mut file =
        Tweets::open(path, None, WireLimits::of(kafka), clock.now())?.with_record_times();
    if !file.has_ids() {
        return Err(ReplayError::NoIds(path.clone()));
    }
    let mut first = None;
    let mut sent = Sent::default();
    let mut faults_shown = 0;
    let mut last_progress = Duration::ZERO;
    while !stop.is_cancelled() && limit.is_none_or(|limit| sent.sent < limit) {
        let next = file.next_with(Record::from_row)?;
        for (line, reason) in &file.counts().faults[faults_shown..] {
            eprintln!("{}, line {line}: {reason}; left out", path.display());
        }
        faults_shown = file.counts().faults.len();
        sent.skipped = file.counts().bad;
        let Some(mut record) = next else { break };
        if let Some(at) = record.at {
            let first = *first.get_or_insert(at);
            if *speed > 0.0 {
                let after = (at - first).as_seconds_f64().max(0.0) / speed;
                // A wait beyond the range of Duration never ends in practice.
                let at = Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX);
                pace(&clock, at, stop);
                if stop.is_cancelled() {
                    break;
                }
            }
            sent.at = Some(at);
        }
        if *times == Times::Now {
            record.set_time(clock.now());
        }
        send(&record, &producer, &kafka.topic, stop)?;
        sent.sent += 1;
        sent.took = clock.elapsed();
        if sent.took - last_progress >= PROGRESS_EVERY {
            last_progress = sent.took;
            progress(&sent);
        }
    }
    if sent.sent == 0 && !stop.is_cancelled() && *limit != Some(0) {
        return Err(ReplayError::Nothing { file: path.clone(), skipped: sent.skipped });
    }
    flush(&producer, stop).map_err(ReplayError::Flush)?;
    sent.failed = producer.context().failed.load(Ordering::Relaxed);
    if let Some(error) = &*producer.context().error.lock().expect("no holder of this lock panics") {
        eprintln!("the broker did not accept a record: {error}");
    }
    sent.took = clock.elapsed();
    Ok(sent)
}

fn send(
    record: &Record,
    producer: &ThreadedProducer<Deliveries>,
    topic: &str,
    stop: &CancellationToken,
) -> Result<(), ReplayError> {
    let mut next = BaseRecord::to(topic).key(&record.key).payload(&record.payload);
    while let Err((source, refused)) = producer.send(next) {
        if source.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) || stop.is_cancelled() {
            return Err(ReplayError::Send { id: record.key.clone(), source });
        }
        next = refused;
        thread::sleep(QUEUE_FULL_WAIT);
    }
    Ok(())
}

/// Sleeps until `at` on the clock, or until `stop`.
fn pace(clock: &dyn Clock, at: Duration, stop: &CancellationToken) {
    while let Some(left) = at.checked_sub(clock.elapsed())
        && left > PACE_WAIT_MIN
        && !stop.is_cancelled()
    {
        thread::sleep(left.min(STOP_CHECK_EVERY));
    }
}

/// Waits until the broker has accepted every record; after `stop`, only briefly.
fn flush(
    producer: &ThreadedProducer<Deliveries>,
    stop: &CancellationToken,
) -> Result<(), KafkaError> {
    let mut left = FLUSH_MAX;
    loop {
        if stop.is_cancelled() {
            left = left.min(FLUSH_STOPPED_MAX);
        }
        let wait = left.min(STOP_CHECK_EVERY);
        match producer.flush(wait) {
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) if left > wait => {
                left -= wait;
            }
            outcome => return outcome,
        }
    }
}

fn producer(kafka: &config::Kafka) -> Result<ThreadedProducer<Deliveries>, ReplayError> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "monitor-replay")
        .set("enable.idempotence", "true")
        .set("compression.codec", "zstd")
        .set("linger.ms", "5");
    for (key, value) in &kafka.properties {
        client.set(key, value);
    }
    client.create_with_context(Deliveries::default()).map_err(ReplayError::Producer)
}

/// Counts the records that the broker did not accept.
#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
    error: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.error.lock().expect("no holder of this lock panics").get_or_insert(error.clone());
        }
    }
}
