//! The daemon's own pipeline, from a topic in memory to a store in memory.
//!
//! **Invariant.** Every stage is the daemon's: decode, language, brands, tokenise, score, commit.
//! Deliberately absent: Kafka and Postgres (`pipeline.rs`).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use monitor::pipeline::{Lineup, Pipeline, Settings, StoredPositions};
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::SystemClock;
use monitor_core::domain::{Offset, Precision, StartAt, StreamFormat};
use monitor_core::text::{BrandMatcher, BrandRule};
use monitor_ingest::{MemorySource, WireLimits};
use monitor_model::{Model, ModelHandle};
use monitor_store::{MemoryStore, Store};
use monitor_telemetry::{self as telemetry, Metrics};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::{Bench, median, rounds};

const PARTITIONS: usize = 6;
/// The records of a partition.
type Records = Vec<(Offset, Vec<u8>)>;
/// From this share of the time on, the model's thread is what limits.
const BUSY: f64 = 0.8;
/// From this share of the rate without a model on, the other stages are what limits.
const NEAR: f64 = 0.8;

/// What one model made of it.
struct Run {
    /// Rows a second.
    rate: f64,
    /// The share of the time in which the model's thread computed.
    busy: f64,
}

/// Measures the pipeline with and without the model, with batches of several sizes.
pub fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let metrics = telemetry::init_metrics();
    let runtime = Runtime::new()?;
    let records = records(bench)?;
    let default = config::Batching::default().rows_max;
    let batches = if bench.is_gpu() { vec![default, 8 * default] } else { vec![default] };
    for rows_max in batches {
        let run = |model| measure_model(&runtime, &records, model, rows_max, metrics);
        let without = run(Model::null())?;
        let with = run(bench.open_shipped(&bench.args.device, Precision::Auto, None)?)?;
        let limit = if with.busy >= BUSY {
            "computing limits"
        } else if with.rate >= NEAR * without.rate {
            "the other stages limit (decoding, brands, storing)"
        } else {
            "tokenising limits: the model waits for rows"
        };
        println!(
            "batches of {rows_max}: {:.0} tweets/s, {:.0} without a model; the model's thread computed for \
             {:.0} % of the time: {limit}",
            with.rate,
            without.rate,
            100.0 * with.busy,
        );
        bench.report.row(
            "daemon",
            json!({
                "batch_rows_max": rows_max,
                "tweets": bench.sizes.rows,
                "tweets_per_second": with.rate,
                "tweets_per_second_without_a_model": without.rate,
                "share_of_time_computing": with.busy,
                "limit": limit,
            }),
        );
    }
    Ok(())
}

/// The partitions' records: the tweets, repeated with new ids.
fn records(bench: &Bench) -> anyhow::Result<Vec<Records>> {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for n in 0..bench.sizes.rows {
        let text = &bench.tweets[n % bench.tweets.len()];
        let at = "2015-02-20T10:00:00Z".parse::<chrono::DateTime<chrono::Utc>>()?;
        // A week, as the counts of one minute would be those of few keys.
        let at = at + TimeDelta::seconds(n as i64 * 7 * 86_400 / bench.sizes.rows as i64);
        let tweet = json!({ "id": n.to_string(), "text": text, "created_at": at });
        partitions[n % PARTITIONS]
            .push((Offset((n / PARTITIONS) as i64), tweet.to_string().into()));
    }
    Ok(partitions)
}

fn measure_model(
    runtime: &Runtime,
    records: &[Records],
    model: Model,
    rows_max: usize,
    metrics: &Metrics,
) -> anyhow::Result<Run> {
    let model = ModelHandle::spawn(model);
    let source = MemorySource::new("bench", records.to_vec());
    let rows: usize = records.iter().map(Vec::len).sum();
    let mut computing = Vec::new();
    let seconds = rounds(|| {
        let before = computed(metrics)?;
        runtime.block_on(once(&source, &model, rows_max, rows))?;
        computing.push(computed(metrics)? - before);
        Ok(())
    })?;
    // The first round is not timed.
    let busy: Vec<f64> =
        computing[1..].iter().zip(&seconds).map(|(computed, all)| computed / all).collect();
    Ok(Run { rate: rows as f64 / median(&seconds), busy: median(&busy) })
}

/// All records through the pipeline.
async fn once(
    source: &MemorySource,
    model: &ModelHandle,
    rows_max: usize,
    rows: usize,
) -> anyhow::Result<()> {
    let wait_max = Duration::from_millis(config::Batching::default().wait_ms_max);
    let settings = Settings {
        batching: BatchPolicy { rows_max, wait_max },
        counting: Counting::new(Voice::default(), &[]),
        count_deleted: true,
        limits: WireLimits {
            record_bytes_max: 1 << 20,
            future_max: TimeDelta::days(1),
            format: StreamFormat::Auto,
        },
        retry_wait_max: Duration::from_secs(1),
        drain_max: Duration::from_secs(60),
    };
    let store = Arc::new(MemoryStore::new());
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let lineup = watch::Sender::new(Lineup::of(model.clone()));
    let airline =
        BrandRule { name: "united".into(), handles: vec!["united".into()], ..BrandRule::default() };
    let brands = BrandMatcher::new([airline])?;
    let clock = Arc::new(SystemClock::new());
    let pipeline = Pipeline::new(settings, store.clone(), lineup, brands, clock);
    let source = source.start(positions, config::Kafka::default().queue_rows_max);
    pipeline.run(source, std::future::pending()).await?;
    let totals = store.totals().await?;
    let stored = (totals.scores + totals.not_judged) as usize;
    ensure!(stored == rows, "{stored} of {rows} tweets are stored");
    Ok(())
}

/// Seconds that models have computed in this process.
fn computed(metrics: &Metrics) -> anyhow::Result<f64> {
    let all = metrics.render();
    let name = format!("{}_sum ", telemetry::CLASSIFY_SECONDS);
    let sum = all.lines().find_map(|line| line.strip_prefix(&name));
    sum.map_or(Ok(0.0), |seconds| seconds.parse().context("the sum of a histogram"))
}
