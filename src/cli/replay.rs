use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use monitor_config::{self as config, Settings};
use monitor_core::clock::{Clock, SystemClock};
use monitor_ingest::parse_timestamp;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for the broker to take the last records.
const FLUSH_MAX: Duration = Duration::from_secs(60);
/// The same, once told to stop.
const FLUSH_STOPPED_MAX: Duration = Duration::from_secs(2);
/// How often a wait looks whether to stop.
const WAKE: Duration = Duration::from_millis(200);

/// Send a file of tweets to Kafka, at the pace they were written or faster
///
/// FILE is CSV with a header (columns id, created_at and text, and where there are any,
/// author, followers, retweets and retweet_of, in any order; others are left out) or JSON lines (X API v2 objects or flat JSON, sent as they are), plain or
/// .xz, in order of time. Each record's key is the tweet's id.
///
///   monitor replay tests/fixtures/airline-week.csv.xz --speed 8000
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// CSV or JSON lines, plain or .xz
    pub file: PathBuf,

    /// How many times faster than they were written; 0 is as fast as the broker takes them
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,

    /// Event times: as in the file, or the moment each record is sent
    #[arg(long, value_enum, default_value_t = Times::Keep)]
    pub times: Times,

    /// Stop after so many tweets
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// What becomes of the event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Times {
    /// Keep them.
    Keep,
    /// Replace each by the moment its record is sent.
    Now,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Runtime::new()?;
    let _entered = runtime.enter();
    super::run::stop_on_signals(stop.clone())?;
    let sent = replay(&args, &settings.kafka, &stop, &mut |progress| {
        eprint!("\r{progress}\x1b[K");
    })?;
    eprintln!("\r{sent}\x1b[K");
    anyhow::ensure!(sent.failed == 0, "{} records were not taken by the broker", sent.failed);
    Ok(())
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Records handed to the broker.
    pub sent: u64,
    /// Rows of the file that are no record.
    pub skipped: u64,
    /// Records that the broker did not take.
    pub failed: u64,
    /// Event time of the latest.
    pub at: Option<DateTime<Utc>>,
    /// Time since the start.
    pub took: Duration,
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64().max(1e-3);
        write!(
            f,
            "{} tweets sent in {seconds:.1} s, {:.0} a second",
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

/// Sends a file; `progress` is called a few times a second. Blocks until the broker has
/// taken every record, or a little longer than until `stop`.
///
/// # Errors
/// The file cannot be read or has no column named id, created_at or text; the broker's
/// settings are refused, or it does not take the last records in time. Single bad rows are named on standard error and left out.
pub fn replay(
    args: &Args,
    kafka: &config::Kafka,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(&Sent),
) -> anyhow::Result<Sent> {
    anyhow::ensure!(
        args.speed >= 0.0 && args.speed.is_finite(),
        "--speed {} is no speed; give a factor such as 1000, or 0 for as fast as can be",
        args.speed
    );
    let producer = producer(kafka)?;
    let clock = SystemClock::new();
    let mut first = None;
    let mut sent = Sent::default();
    let mut told = Duration::ZERO;
    for row in rows(&args.file)? {
        if stop.is_cancelled() || args.limit.is_some_and(|limit| sent.sent >= limit) {
            break;
        }
        let mut row = match row {
            Ok(row) => row,
            Err(error) if error.chain().any(is_io) => {
                let file = args.file.display();
                return Err(error.context(format!("{file}: cannot be read past row {}", sent.sent)));
            }
            Err(error) => {
                sent.skipped += 1;
                eprintln!("{}: {}; left out", args.file.display(), super::one_line(&error));
                continue;
            }
        };
        if let Some(at) = row.at {
            let first = *first.get_or_insert(at);
            if args.speed > 0.0 {
                let after = (at - first).as_seconds_f64().max(0.0) / args.speed;
                // What no duration can hold is as good as never.
                let at = Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX);
                pace(&clock, at, stop);
                if stop.is_cancelled() {
                    break;
                }
            }
            sent.at = Some(at);
        }
        if args.times == Times::Now {
            row.set_time(clock.now());
        }
        row.send(&producer, &kafka.topic, stop)?;
        sent.sent += 1;
        sent.took = clock.elapsed();
        if sent.took - told >= PROGRESS_EVERY {
            told = sent.took;
            progress(&sent);
        }
    }
    flush(&producer, stop).context("the broker did not take the last records in time")?;
    sent.failed = producer.context().failed.load(Ordering::Relaxed);
    if let Some(error) = &*producer.context().error.lock().expect("no holder of this lock panics") {
        eprintln!("the broker did not take a record: {error}");
    }
    sent.took = clock.elapsed();
    Ok(sent)
}

/// Sleeps until `at` on the clock, waking to see whether to stop.
fn pace(clock: &dyn Clock, at: Duration, stop: &CancellationToken) {
    while let Some(left) = at.checked_sub(clock.elapsed())
        && left > Duration::from_micros(200)
        && !stop.is_cancelled()
    {
        thread::sleep(left.min(WAKE));
    }
}

/// Waits until the broker has taken every record: not long, once told to stop.
fn flush(
    producer: &ThreadedProducer<Deliveries>,
    stop: &CancellationToken,
) -> Result<(), KafkaError> {
    let mut left = FLUSH_MAX;
    loop {
        if stop.is_cancelled() {
            left = left.min(FLUSH_STOPPED_MAX);
        }
        let wait = left.min(WAKE);
        match producer.flush(wait) {
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) if left > wait => {
                left -= wait;
            }
            outcome => return outcome,
        }
    }
}

fn producer(kafka: &config::Kafka) -> anyhow::Result<ThreadedProducer<Deliveries>> {
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
    client
        .create_with_context(Deliveries::default())
        .context("Kafka producer; check [kafka] and kafka.properties")
}

/// Counts what the broker did not take.
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

/// Whether the file itself fails, such as one that was cut off, rather than a row in it.
fn is_io(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<std::io::Error>()
        || cause.downcast_ref::<csv::Error>().is_some_and(|error| error.is_io_error())
}

/// One record to send.
struct Row {
    key: String,
    payload: Vec<u8>,
    at: Option<DateTime<Utc>>,
}

impl Row {
    /// `reach` has the names and texts of what is told beside the tweet.
    fn from_tweet<'a>(
        id: &str,
        text: &str,
        created_at: &str,
        reach: impl Iterator<Item = (&'static str, &'a str)>,
    ) -> anyhow::Result<Self> {
        let at = parse_timestamp(created_at).with_context(|| {
            format!("created_at {created_at:?} is no time such as 2015-02-24T19:35:52Z")
        })?;
        let mut payload = json!({ "id": id, "text": text, "created_at": at });
        for (name, value) in reach.filter(|(_, value)| !value.is_empty()) {
            payload[name] = value.into();
        }
        Ok(Self { key: id.to_owned(), payload: payload.to_string().into_bytes(), at: Some(at) })
    }

    /// A line of JSON goes out as it is, even if it is no tweet: the daemon's dead letters
    /// say what is wrong with it.
    fn from_line(line: Vec<u8>) -> Self {
        let value: Value = serde_json::from_slice(&line).unwrap_or_default();
        let tweet = value.get("data").unwrap_or(&value);
        let key = match &tweet["id"] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let at = tweet["created_at"].as_str().and_then(parse_timestamp);
        Self { key, payload: line, at }
    }

    fn set_time(&mut self, now: DateTime<Utc>) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&self.payload) else { return };
        let nested = value.get("data").is_some();
        let tweet = if nested { &mut value["data"] } else { &mut value };
        if let Some(tweet) = tweet.as_object_mut() {
            let now = now.to_rfc3339_opts(SecondsFormat::Millis, true);
            tweet.insert("created_at".into(), now.into());
            self.payload = value.to_string().into_bytes();
        }
    }

    fn send(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        topic: &str,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(topic).key(&self.key).payload(&self.payload);
        while let Err((error, refused)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull)
                || stop.is_cancelled()
            {
                bail!("cannot send tweet {}: {error}", self.key);
            }
            record = refused;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// What the daemon reads of a tweet's reach, and what its columns are usually called.
const REACH_COLUMNS: [(&str, &[&str]); 4] = [
    ("author", &["author", "username", "screen_name"]),
    ("followers", &["followers", "followers_count", "author_followers"]),
    ("retweets", &["retweets", "retweet_count"]),
    ("retweet_of", &["retweet_of", "retweeted_status_id"]),
];

type Rows = Box<dyn Iterator<Item = anyhow::Result<Row>>>;

fn rows(path: &Path) -> anyhow::Result<Rows> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (reader, name): (Box<dyn Read>, &str) = match name.strip_suffix(".xz") {
        Some(name) => (Box::new(liblzma::read::XzDecoder::new(file)), name),
        None => (Box::new(file), &name),
    };
    if name.ends_with(".csv") {
        csv_rows(reader).with_context(|| path.display().to_string())
    } else if name.ends_with(".jsonl") || name.ends_with(".ndjson") || name.ends_with(".json") {
        let lines = BufReader::new(reader).split(b'\n');
        Ok(Box::new(
            lines
                .filter(|line| !matches!(line, Ok(line) if line.trim_ascii().is_empty()))
                .map(|line| Ok(Row::from_line(line?))),
        ))
    } else {
        bail!(
            "{}: cannot tell the format by the name; call it .csv, .jsonl, or either with .xz",
            path.display()
        )
    }
}

fn csv_rows(reader: Box<dyn Read>) -> anyhow::Result<Rows> {
    let mut reader = csv::Reader::from_reader(reader);
    let header = reader.headers()?.clone();
    let column = |name: &str| {
        header.iter().position(|column| column == name).with_context(|| {
            format!(
                "there is no column {name:?} in the header {:?}",
                header.iter().collect::<Vec<_>>()
            )
        })
    };
    let (id, text, created_at) = (column("id")?, column("text")?, column("created_at")?);
    let reach: Vec<(&'static str, usize)> = REACH_COLUMNS
        .iter()
        .filter_map(|(name, columns)| {
            Some((*name, header.iter().position(|column| columns.contains(&column))?))
        })
        .collect();
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let reach = reach.iter().map(|(name, column)| (*name, &record[*column]));
        Row::from_tweet(&record[id], &record[text], &record[created_at], reach)
            .with_context(|| format!("line {line}"))
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_reach_on_where_the_file_has_it() {
        let check = |name: &str, csv: &'static str, expected: Value| {
            let mut rows = csv_rows(Box::new(csv.as_bytes())).expect("the columns are there");
            let row = rows.next().expect("a row").unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut found: Value = serde_json::from_slice(&row.payload).expect("JSON");
            let found = found.as_object_mut().expect("an object");
            found.retain(|field, _| !["id", "text", "created_at"].contains(&&**field));
            assert_eq!(Value::Object(found.clone()), expected, "{name}");
        };
        check("none", "id,created_at,text\n1,2015-02-24T19:35:52Z,hi\n", json!({}));
        check(
            "all, by our names",
            "author,id,created_at,text,retweets,followers,retweet_of\nann,1,2015-02-24T19:35:52Z,hi,3,12,7\n",
            json!({"author": "ann", "followers": "12", "retweets": "3", "retweet_of": "7"}),
        );
        check(
            "by other names, and empty",
            "id,created_at,text,retweet_count,followers_count,screen_name\n1,2015-02-24T19:35:52Z,hi,3,,ann\n",
            json!({"author": "ann", "retweets": "3"}),
        );
    }
}
