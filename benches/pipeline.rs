//! How fast is the pipeline from broker to database, compared with its two ends alone?
//!
//! In one run, on the same tweets, broker and server: only reading the topic, only writing
//! finished rows, `COPY` of them without an index, and the whole pipeline without a model (also with each tweet counted) and with each
//! named model. Prints rows a second (median of the rounds), ratios to the two ends, and the memory of this
//! process after a quarter of the rows and after all rows (of the last round). Broker: nisshi
//! if installed, else librdkafka's in-process cluster, which shares this process's cores.
//!
//! `scripts/bench pipeline [--rounds 3] [--rows 60000] [--model NAME]... [--against REV] [--delay-s 10] [--json FILE]`
//!
//! With `--against REV`, each round is followed by one of the benchmark of that revision, with its models; it is built
//! once. With `--delay-s`, the delay from record to commit is measured at half the rate of each pipeline.
//!
//! A soak test, an hour of 50 tweets a second at full speed:
//! `scripts/bench pipeline --rounds 1 --rows 180000 --model transformer`

#[path = "pipeline/against.rs"]
mod against;
mod common;
#[path = "common/copy.rs"]
mod copy;
#[path = "pipeline/delay.rs"]
mod delay;
#[path = "pipeline/ends.rs"]
mod ends;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use clap::{Parser, ValueEnum};
use common::{Output, Report, spread};
use monitor::pipeline::{Lineup, Pipeline, PipelineError, Settings, StoredPositions};
use monitor::settings::open_options;
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{StartAt, StreamFormat};
use monitor_core::text::{BrandMatcher, BrandRule};
use monitor_embedded::{Kafka, MockBroker, Nisshi, Postgres, Storage};
use monitor_ingest::{KafkaSource, WireLimits};
use monitor_model::{self as classifier, Model, ModelHandle};
use monitor_store::{PostgresStore, Store};
use monitor_telemetry::Readiness;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
    /// Revision to compare with, such as cf9f992; its benchmark is built first, in 15 minutes or more
    #[arg(long, value_name = "REV")]
    against: Option<PathBuf>,
    /// Seconds at half the rate, to measure the delay of a record; 0 is not at all
    #[arg(long, default_value_t = 0)]
    delay_s: u64,
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

/// A pipeline that runs.
struct Running {
    store: Arc<PostgresStore>,
    stop: CancellationToken,
    pipeline: JoinHandle<Result<(), PipelineError>>,
}

impl Running {
    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.pipeline.await??)
    }
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
        create_topic(&brokers, TOPIC).await?;
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

    let ends = ["bare consume", "bare insert", "bare COPY", EACH_TWEET, "no model"];
    let ends = ends.map(str::to_owned);
    let names = [ends.as_slice(), args.names.as_slice()].concat();
    let models =
        config::Model { directory: args.models.clone().into(), ..config::Model::default() };
    let open = |name: &str| match name {
        EACH_TWEET | "no model" => Ok(Model::null()),
        name => classifier::open(&open_options(&models), name),
    };
    let mut sides: Vec<Vec<Run>> = names.iter().map(|_| Vec::new()).collect();
    let mut others: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for (name, runs) in names.iter().zip(&mut sides) {
            let run = match name.as_str() {
                "bare consume" => bench.bare_consume()?.into(),
                "bare insert" => bench.bare_insert().await?.into(),
                "bare COPY" => bench.bare_copy().await?.into(),
                EACH_TWEET => bench.pipeline(open(name)?, Voice::Tweet).await?,
                name => bench.pipeline(open(name)?, Voice::default()).await?,
            };
            eprintln!("round {round} of {}: {name}: {:.0} rows/s", args.rounds, run.rate);
            runs.push(run);
        }
        if let Some(folder) = &args.against {
            for (label, rate) in against::round(folder, &args)? {
                eprintln!("round {round} of {}: before: {label}: {rate:.0} rows/s", args.rounds);
                others.entry(label).or_default().push(rate);
            }
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
            "against": args.against.as_deref().and_then(against::revision),
        }),
    );
    println!(
        "| | rows/s, median of {} | x bare consume | x bare insert | MB after a quarter, all | x before |",
        args.rounds
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for ((name, rate), runs) in names.iter().zip(&medians).zip(&sides) {
        let label =
            if name.starts_with("bare") { name.clone() } else { format!("pipeline, {name}") };
        let memory = runs.last().and_then(|run| run.memory_mb);
        let memory = memory.map_or("-".into(), |(quarter, all)| format!("{quarter}, {all}"));
        let before = others.get(&label);
        let times = before.map(|rates| rate / middle(rates));
        println!(
            "| {label} | {rate:.0} | {:.3} | {:.3} | {memory} | {} |",
            rate / medians[0],
            rate / medians[1],
            times.map_or("-".into(), |times| format!("{times:.2}"))
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
                "rows_per_second_before": before.map(|rates| spread(rates)),
                "ratio_to_before": times,
            }),
        );
    }
    if args.delay_s > 0 {
        println!("\n| at half the rate | records/s | delay in ms: p50 | p99 |");
        println!("| --- | ---: | ---: | ---: |");
        for (name, rate) in names.iter().zip(&medians).skip(ends.len() - 1) {
            let delays = bench.delays(open(name)?, rate / 2.0, args.delay_s).await?;
            let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize];
            println!("| {name} | {:.0} | {:.0} | {:.0} |", rate / 2.0, at(0.5), at(0.99));
            report.row(
                "delays",
                json!({
                    "side": name,
                    "records": delays.len(),
                    "records_per_second": rate / 2.0,
                    "delay_ms": {"p50": at(0.5), "p99": at(0.99), "maximum": at(1.0)},
                }),
            );
        }
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
    middle(&runs.iter().map(|run| run.rate).collect::<Vec<_>>())
}

fn middle(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
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

async fn create_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
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

    async fn store(&self) -> anyhow::Result<Arc<PostgresStore>> {
        let number = self.databases.get();
        self.databases.set(number + 1);
        let url = self.postgres.create_database(&format!("bench_{number}")).await?;
        let store = PostgresStore::connect(&config::Store { url, ..config::Store::default() })?;
        store.migrate().await?;
        Ok(Arc::new(store))
    }

    /// Starts the daemon's pipeline from the topic to a new database.
    async fn start(&self, topic: &str, model: Model, voice: Voice) -> anyhow::Result<Running> {
        let store = self.store().await?;
        let kafka = config::Kafka {
            brokers: self.brokers.clone(),
            topic: topic.into(),
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
        let stop = CancellationToken::new();
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
        let pipeline = tokio::spawn(pipeline.run(source, stop.clone().cancelled_owned()));
        Ok(Running { store, stop, pipeline })
    }

    /// The whole topic through the pipeline.
    async fn pipeline(&self, model: Model, voice: Voice) -> anyhow::Result<Run> {
        let running = self.start(TOPIC, model, voice).await?;
        let store = running.store.clone();
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
            ensure!(!running.pipeline.is_finished(), "the pipeline ended early");
        }
        let rate = self.rate(self.payloads.len() - before, since);
        let memory_mb = quarter_mb.zip(Some(memory_mb()?));
        running.stop().await?;
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
