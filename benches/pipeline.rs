//! How fast is the pipeline from broker to database, compared with its two ends alone?
//!
//! In one run, on the same tweets, broker and server: only reading the topic, only writing
//! finished rows, and the whole pipeline without a model (also with each tweet counted) and with each
//! named model. Prints rows a second (median of the rounds), ratios to the two ends, and the memory of this
//! process after a quarter of the rows and after all rows (of the last round). Broker: nisshi
//! if installed, else librdkafka's in-process cluster, which shares this process's cores.
//!
//! `scripts/bench pipeline [--rounds 3] [--rows 60000] [--model NAME]... [--json FILE]`
//!
//! A soak test, an hour of 50 tweets a second at full speed:
//! `scripts/bench pipeline --rounds 1 --rows 180000 --model transformer`

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::TimeDelta;
use clap::{Parser, ValueEnum};
use common::{Output, Report, spread};
use monitor::pipeline::{Lineup, Pipeline, Settings, StoredPositions};
use monitor::settings::open_options;
use monitor_config as config;
use monitor_core::alerting::{Counting, Heard, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Label, Offset, Probabilities, Probability, Score, StartAt, StreamFormat, TopicPartition, Tweet,
};
use monitor_core::text::{BrandMatcher, BrandRule};
use monitor_embedded::{Kafka, MockBroker, Nisshi, Postgres, Storage};
use monitor_ingest::{Content, Headers, KafkaSource, Raw, WireLimits, decode};
use monitor_model::{self as classifier, Model, ModelHandle};
use monitor_store::{Advance, Batch, Claim, ModelScore, PostgresStore, ScoredTweet, Store};
use monitor_telemetry::Readiness;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};
use serde_json::json;
use tokio::sync::watch;

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 6;
/// The side that keeps no voices.
const EACH_TWEET: &str = "no model, count = \"tweets\"";
const LIMITS: WireLimits = WireLimits {
    record_bytes_max: 1 << 20,
    future_max: TimeDelta::days(1),
    format: StreamFormat::Auto,
};

/// Times the pipeline from the broker to the database
///
/// Compares it, without a model and with each named model, with only reading the topic and
/// only writing finished rows. Prints rows a second, the ratios, and the memory of this
/// process.
#[derive(Parser)]
struct Args {
    /// Rounds; the table has their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tweets a round: the airline week, repeated with new ids
    #[arg(long, default_value_t = 60_000)]
    rows: usize,
    /// Broker: Apache Kafka (`scripts/setup --peers`), nisshi, or librdkafka's own [default: the first
    /// that is there of nisshi and mock]
    #[arg(long, value_enum, default_value_t = Broker::found())]
    broker: Broker,
    /// Folder of the models
    #[arg(long, default_value = "models")]
    models: String,
    /// Models to measure, by name; may be repeated
    #[arg(long = "model", default_values = ["logistic-tfidf", "lstm", "transformer"])]
    names: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Broker {
    Kafka,
    Nisshi,
    Mock,
}

impl Broker {
    fn found() -> Self {
        if Nisshi::find().is_some() { Self::Nisshi } else { Self::Mock }
    }
}

/// The result of one round.
struct Run {
    /// Rows a second.
    rate: f64,
    /// This process's memory after a quarter of the rows, and after all.
    memory_mb: Option<(u64, u64)>,
}

impl From<f64> for Run {
    fn from(rate: f64) -> Self {
        Self { rate, memory_mb: None }
    }
}

struct Bench {
    brokers: String,
    postgres: Postgres,
    payloads: Vec<Vec<u8>>,
    /// Distinct tweets among the payloads: the week contains some twice.
    distinct: u64,
    clock: Arc<SystemClock>,
    databases: std::cell::Cell<u32>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(None)).await??;
    let (kafka, nisshi, mock);
    let (brokers, kind) = match args.broker {
        Broker::Kafka => {
            kafka = tokio::task::spawn_blocking(Kafka::start).await??;
            (kafka.brokers(), "Apache Kafka, on disk")
        }
        Broker::Nisshi => {
            nisshi = tokio::task::spawn_blocking(|| Nisshi::start(Storage::Memory)).await??;
            (nisshi.brokers(), "nisshi, in memory")
        }
        Broker::Mock => {
            mock = MockBroker::start(TOPIC, PARTITIONS.cast_unsigned())?;
            (mock.brokers().to_owned(), "librdkafka's in-process cluster")
        }
    };
    // librdkafka's cluster makes no topics for others.
    if !matches!(args.broker, Broker::Mock) {
        create_topic(&brokers).await?;
    }
    let (payloads, ids) = payloads(args.rows)?;
    let bench = Bench {
        brokers,
        postgres,
        payloads,
        distinct: ids.len() as u64,
        clock: Arc::new(SystemClock::new()),
        databases: std::cell::Cell::new(0),
    };
    bench.produce()?;
    let bytes: usize = bench.payloads.iter().map(Vec::len).sum();
    println!(
        "{} tweets of {} bytes on average, {PARTITIONS} partitions, broker: {kind}, \
         Postgres with fsync, {} cores, batches of {} rows\n",
        args.rows,
        bytes / args.rows,
        std::thread::available_parallelism()?,
        config::Batching::default().rows_max,
    );

    let ends = ["bare consume", "bare insert", EACH_TWEET, "no model"].map(str::to_owned);
    let names = [ends.as_slice(), args.names.as_slice()].concat();
    let models =
        config::Model { directory: args.models.clone().into(), ..config::Model::default() };
    let mut sides: Vec<Vec<Run>> = names.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds {
        for (name, runs) in names.iter().zip(&mut sides) {
            let run = match name.as_str() {
                "bare consume" => bench.bare_consume()?.into(),
                "bare insert" => bench.bare_insert().await?.into(),
                EACH_TWEET => bench.pipeline(Model::null(), Voice::Tweet).await?,
                "no model" => bench.pipeline(Model::null(), Voice::default()).await?,
                name => {
                    let model = classifier::open(&open_options(&models), name)?;
                    bench.pipeline(model, Voice::default()).await?
                }
            };
            eprintln!("round {round} of {}: {name}: {:.0} rows/s", args.rounds, run.rate);
            runs.push(run);
        }
    }
    let medians: Vec<f64> = sides.iter().map(|runs| median(runs)).collect();
    let mut report = Report::new(
        "pipeline",
        json!({
            "tweets": args.rows,
            "bytes_on_average": bytes / args.rows,
            "partitions": PARTITIONS,
            "broker": kind,
            "postgres": "with fsync",
            "batch_rows_max": config::Batching::default().rows_max,
            "rounds": args.rounds,
        }),
    );
    println!(
        "| | rows/s, median of {} | x bare consume | x bare insert | MB after a quarter, all |",
        args.rounds
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for ((name, rate), runs) in names.iter().zip(&medians).zip(&sides) {
        let label =
            if name.starts_with("bare") { name.clone() } else { format!("pipeline, {name}") };
        let memory = runs.last().and_then(|run| run.memory_mb);
        let memory = memory.map_or("-".into(), |(quarter, all)| format!("{quarter}, {all}"));
        println!(
            "| {label} | {rate:.0} | {:.3} | {:.3} | {memory} |",
            rate / medians[0],
            rate / medians[1]
        );
        let rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
        let memory = runs.last().and_then(|run| run.memory_mb);
        report.row(
            "sides",
            json!({
                "side": label,
                "rows_per_second": spread(&rates),
                "ratio_to_bare_consume": rate / medians[0],
                "ratio_to_bare_insert": rate / medians[1],
                "memory_mb_after_a_quarter": memory.map(|(quarter, _)| quarter),
                "memory_mb_after_all": memory.map(|(_, all)| all),
            }),
        );
    }
    report.write(&args.output)
}

/// The resident memory of this process.
fn memory_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 =
        line.and_then(|kib| kib.trim().strip_suffix(" kB")).context("no VmRSS")?.parse()?;
    Ok(kib / 1024)
}

fn median(runs: &[Run]) -> f64 {
    let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The airline week, repeated with new ids; and those ids.
fn payloads(rows: usize) -> anyhow::Result<(Vec<Vec<u8>>, HashSet<String>)> {
    let path = "tests/fixtures/airline-week.csv.xz";
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?;
    let mut reader = csv::Reader::from_reader(liblzma::read::XzDecoder::new(file));
    let week: Vec<(String, String, String)> = reader
        .records()
        .map(|row| row.map(|row| (row[0].to_owned(), row[1].to_owned(), row[2].to_owned())))
        .collect::<Result<_, _>>()?;
    let mut ids = HashSet::new();
    let payloads = (0..rows)
        .map(|n| {
            let (id, at, text) = &week[n % week.len()];
            let id = format!("{id}-{}", n / week.len());
            ids.insert(id.clone());
            serde_json::json!({ "id": id, "text": text, "created_at": at }).to_string().into_bytes()
        })
        .collect();
    Ok((payloads, ids))
}

async fn create_topic(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await?;
    ensure!(made.iter().all(Result::is_ok), "cannot create the topic: {made:?}");
    Ok(())
}

impl Bench {
    fn produce(&self) -> anyhow::Result<()> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        for (n, payload) in self.payloads.iter().enumerate() {
            let partition = i32::try_from(n)? % PARTITIONS;
            let record = BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(payload);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(Duration::from_secs(60))?)
    }

    fn rate(&self, rows: usize, since: Duration) -> f64 {
        rows as f64 / (self.clock.elapsed() - since).as_secs_f64()
    }

    /// Only reads the topic with librdkafka.
    fn bare_consume(&self) -> anyhow::Result<f64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        let (mut rows, mut bytes, mut since) = (0, 0, Duration::ZERO);
        while rows < self.payloads.len() {
            let record = consumer
                .poll(Duration::from_secs(10))
                .context("the broker sends no more records")??;
            if rows == 0 {
                since = self.clock.elapsed();
            }
            rows += 1;
            bytes += record.payload_len();
        }
        ensure!(bytes == self.payloads.iter().map(Vec::len).sum::<usize>(), "records differ");
        Ok(self.rate(rows, since))
    }

    async fn store(&self) -> anyhow::Result<Arc<PostgresStore>> {
        let number = self.databases.get();
        self.databases.set(number + 1);
        let url = self.postgres.create_database(&format!("bench_{number}")).await?;
        let store = PostgresStore::connect(&config::Store { url, ..config::Store::default() })?;
        store.migrate().await?;
        Ok(Arc::new(store))
    }

    /// Only writes finished rows, in transactions like the pipeline's.
    async fn bare_insert(&self) -> anyhow::Result<f64> {
        let store = self.store().await?;
        let partition = TopicPartition::new(TOPIC, 0);
        let claim = Claim {
            partition: partition.clone(),
            seen: None,
            low: Offset(0),
            high: Offset(i64::try_from(self.payloads.len())?),
        };
        store.claim(&[claim], StartAt::Earliest).await?;
        let brands = brands()?;
        let half = Probability::new(0.5)?;
        let now = self.clock.now();
        let scored: Vec<ScoredTweet> = self
            .payloads
            .iter()
            .map(|payload| {
                let headers = Headers::default();
                let raw = Raw {
                    payload,
                    payload_bytes: payload.len(),
                    headers: &headers,
                    timestamp: None,
                };
                let tweet: Tweet = match decode(&raw, &LIMITS, now).content? {
                    Content::Tweet(tweet) => tweet,
                    Content::Notice(notice) => bail!("a notice: {notice:?}"),
                };
                Ok(ScoredTweet {
                    brands: brands.matches(&tweet.text, &[]),
                    tweet,
                    score: Some(ModelScore::new(
                        Score { probabilities: Probabilities::two(half), label: Label::Negative },
                        "null@1",
                    )),
                    heard: Heard::Always,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let mut position = Offset(0);
        let since = self.clock.elapsed();
        for scores in scored.chunks(config::Batching::default().rows_max) {
            let to = Offset(position.0 + i64::try_from(scores.len())?);
            let advance = Advance {
                partition: partition.clone(),
                from: position,
                to,
                event_time_max: scores.iter().map(|s| s.tweet.created_at).max(),
                record_time_max: None,
            };
            let batch =
                Batch { scores: scores.to_vec(), advances: vec![advance], ..Batch::default() };
            store.commit(&batch).await?;
            position = to;
        }
        Ok(self.rate(self.payloads.len(), since))
    }

    /// The daemon's pipeline from the broker to the database.
    async fn pipeline(&self, model: Model, voice: Voice) -> anyhow::Result<Run> {
        let store = self.store().await?;
        let kafka = config::Kafka {
            brokers: self.brokers.clone(),
            topic: TOPIC.into(),
            group: format!("bench-{}", self.databases.get()),
            ..config::Kafka::default()
        };
        let batching = config::Batching::default();
        let settings = Settings {
            batching: BatchPolicy {
                rows_max: batching.rows_max,
                wait_max: Duration::from_millis(batching.wait_ms_max),
            },
            counting: Counting::new(voice, &[]),
            count_deleted: true,
            limits: LIMITS,
            retry_wait_max: Duration::from_secs(1),
            drain_max: Duration::from_secs(10),
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
        let source = KafkaSource::start(
            &kafka,
            positions,
            Arc::new(Readiness::default()),
            self.clock.clone(),
        )?;
        let pipeline = Pipeline::new(
            settings,
            store.clone(),
            watch::Sender::new(Lineup::of(ModelHandle::spawn(model))),
            brands()?,
            self.clock.clone(),
        );
        let running = tokio::spawn(pipeline.run(source, stop.clone().cancelled_owned()));
        // Joining the group takes seconds, so the time starts with the first stored rows.
        let (mut since, mut before, mut quarter_mb) = (Duration::ZERO, 0, None);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let read: i64 = store.progress(TOPIC).await?.iter().map(|p| p.position.0).sum();
            let read = usize::try_from(read)?;
            if before == 0 && read > 0 {
                (since, before) = (self.clock.elapsed(), read);
            }
            if quarter_mb.is_none() && read >= self.payloads.len() / 4 {
                quarter_mb = Some(memory_mb()?);
            }
            if read == self.payloads.len() {
                break;
            }
            ensure!(!running.is_finished(), "the pipeline ended early");
        }
        let rate = self.rate(self.payloads.len() - before, since);
        let memory_mb = quarter_mb.zip(Some(memory_mb()?));
        stop.cancel();
        running.await??;
        let totals = store.totals().await?;
        let stored = totals.scores + totals.not_judged;
        ensure!(stored == self.distinct, "{stored} of {} tweets are stored", self.distinct);
        Ok(Run { rate, memory_mb })
    }
}

fn brands() -> anyhow::Result<BrandMatcher> {
    let handles =
        ["AmericanAir", "JetBlue", "SouthwestAir", "USAirways", "united", "VirginAmerica"];
    Ok(BrandMatcher::new(handles.map(|handle| BrandRule {
        name: handle.into(),
        handles: vec![handle.into()],
        ..BrandRule::default()
    }))?)
}
