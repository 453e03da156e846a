//! How long does a caller of the API wait, compared with the model's own time?
//!
//! In one run, with the same model and texts, in this process: the model alone (encode and compute one
//! text, with nothing beside it), then `POST /predict` over a socket, one text a request: one request at a
//! time; at half of the rate at which the model alone scores one text after the other; as many as the server answers (a closed
//! loop, for the capacity, as texts that wait are scored together); and at half of that capacity. At half a rate a late answer delays
//! no request (an open loop): they come at random times (Poisson), and at half of the model's own rate also at equal intervals, as tools
//! for load tests send them. Then the same beside a stream that always has tweets waiting, at half the capacity that is left. Prints
//! the median and the 99th percentile in ms, and their ratio to the model's own.
//!
//! `scripts/bench serve [--model lstm]... [--requests 2000] [--json FILE]`

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report};
use futures_util::future::join_all;
use monitor::pipeline::{Lineup, LineupScorer, inference_limits};
use monitor::settings::open_options;
use monitor_config as config;
use monitor_core::batching::ATTENTIVE;
use monitor_core::clock::{Clock, SystemClock};
use monitor_model::{self as classifier, Encoding, ModelHandle};
use monitor_serve::{Access, Inference, serve_inference};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Callers of the closed loop.
const CALLERS: usize = 8;
/// Tweets of a batch of the stream, as in the daemon.
const STREAM_ROWS: usize = 512;
/// How long the stream runs alone.
const STREAM_FOR: Duration = Duration::from_secs(4);

/// Times /predict next to the model's own time
#[derive(Parser)]
struct Args {
    /// Models, by name; may be repeated
    #[arg(long = "model", default_values = ["lstm", "transformer"])]
    names: Vec<String>,
    /// Folder of the models
    #[arg(long, default_value = "models")]
    models: PathBuf,
    /// Requests of each measurement
    #[arg(long, default_value_t = 2_000)]
    requests: usize,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.requests >= 100, "--requests {}: give at least 100", args.requests);
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was already installed"))?;
    let texts = texts()?;
    let conditions = json!({ "requests": args.requests, "texts_a_request": 1 });
    let mut report = Report::new("serve", conditions);
    println!("{} requests each, one tweet a request; times in ms\n", args.requests);
    println!(
        "| model | measured | per second | p50 | p99 | x the model's p50 | x the model's p99 |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for name in &args.names {
        let bench = Bench::start(&args, name, texts.clone()).await?;
        bench.run(&args, name, &mut report).await?;
    }
    report.write(&args.output)
}

/// The tweets of the airline week.
fn texts() -> anyhow::Result<Arc<Vec<String>>> {
    let path = "tests/fixtures/airline-week.csv.xz";
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?;
    let mut reader = csv::Reader::from_reader(liblzma::read::XzDecoder::new(file));
    let texts = reader.records().map(|row| row.map(|row| row[2].to_owned()));
    Ok(Arc::new(texts.collect::<Result<_, _>>()?))
}

/// When requests come.
#[derive(Clone, Copy)]
enum Arrivals {
    /// At equal intervals.
    Even,
    /// At the times of a Poisson process.
    Random,
}

impl Arrivals {
    fn words(self) -> &'static str {
        match self {
            Self::Even => "at equal intervals",
            Self::Random => "at random times",
        }
    }
}

struct Bench {
    handle: ModelHandle,
    texts: Arc<Vec<String>>,
    client: reqwest::Client,
    url: String,
    clock: SystemClock,
    stop: CancellationToken,
    _lineup: watch::Sender<Lineup>,
}

/// The times of one measurement, sorted, and the requests in a second.
struct Times {
    times: Vec<Duration>,
    per_second: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        let per_second = times.len() as f64 / took.as_secs_f64();
        Self { times, per_second }
    }

    /// A quantile, in ms.
    fn ms(&self, quantile: f64) -> f64 {
        let at = ((self.times.len() - 1) as f64 * quantile).round() as usize;
        self.times[at].as_secs_f64() * 1e3
    }
}

impl Bench {
    async fn start(args: &Args, name: &str, texts: Arc<Vec<String>>) -> anyhow::Result<Self> {
        let settings = config::Model { directory: args.models.clone(), ..config::Model::default() };
        let model = classifier::open(&open_options(&settings), name)?;
        let handle = ModelHandle::spawn(model);
        let lineup = watch::Sender::new(Lineup::of(handle.clone()));
        let scorer = Arc::new(LineupScorer::new(&settings));
        scorer.open(lineup.subscribe());
        let limits = inference_limits(&config::Serve::default());
        let clock = SystemClock::new();
        let inference = Inference::new(scorer, limits, Arc::new(clock), None);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/predict", listener.local_addr()?);
        let stop = CancellationToken::new();
        let metrics = monitor_telemetry::init_metrics();
        let access = Arc::new(Access::new(Vec::new(), None, Arc::new(clock)));
        let stopped = stop.clone();
        tokio::spawn(async move {
            serve_inference(listener, inference, &access, metrics, stopped).await
        });
        let client = reqwest::Client::new();
        Ok(Self { handle, texts, client, url, clock, stop, _lineup: lineup })
    }

    async fn run(&self, args: &Args, name: &str, report: &mut Report) -> anyhow::Result<()> {
        // The first passes allocate.
        self.alone(200).await?;
        let own = self.alone(args.requests).await?;
        let mut show = |what: &str, times: &Times| {
            let (p50, p99) = (times.ms(0.5), times.ms(0.99));
            let ratios = (p50 / own.ms(0.5), p99 / own.ms(0.99));
            println!(
                "| {name} | {what} | {:.0} | {p50:.2} | {p99:.2} | {:.2} | {:.2} |",
                times.per_second, ratios.0, ratios.1
            );
            report.row(
                "measured",
                json!({
                    "model": name, "what": what, "per_second": times.per_second, "p50_ms": p50,
                    "p99_ms": p99, "ratio_to_the_models_p50": ratios.0,
                    "ratio_to_the_models_p99": ratios.1,
                }),
            );
        };
        show("the model alone", &own);
        show("one request at a time", &self.closed(1, args.requests).await?);
        for arrivals in [Arrivals::Even, Arrivals::Random] {
            let own_half = self.open(own.per_second / 2.0, arrivals, args.requests).await?;
            show(&format!("half of the model's own rate, {}", arrivals.words()), &own_half);
        }
        let full = self.closed(CALLERS, args.requests).await?;
        show(&format!("{CALLERS} callers at once"), &full);
        let half = self.open(full.per_second / 2.0, Arrivals::Random, args.requests).await?;
        show("half of that", &half);
        // Nobody has asked for a while, so passes have their usual size again.
        tokio::time::sleep(ATTENTIVE + STREAM_FOR / 2).await;
        let busy = Arc::new(AtomicBool::new(true));
        let stream = self.stream(busy.clone());
        tokio::time::sleep(STREAM_FOR).await;
        busy.store(false, Ordering::SeqCst);
        let alone = rate(stream.await?);
        let busy = Arc::new(AtomicBool::new(true));
        let stream = self.stream(busy.clone());
        let full = self.closed(CALLERS, args.requests / 2).await?;
        show(&format!("beside a full stream, {CALLERS} callers at once"), &full);
        let half = self.open(full.per_second / 2.0, Arrivals::Random, args.requests / 2).await?;
        show("beside a full stream, half load", &half);
        busy.store(false, Ordering::SeqCst);
        let meanwhile = rate(stream.await?);
        println!("| {name} | the stream alone, tweets | {alone:.0} | | | | |");
        println!("| {name} | the stream meanwhile, tweets | {meanwhile:.0} | | | | |");
        report.row(
            "stream",
            json!({
                "model": name, "alone_per_second": alone, "meanwhile_per_second": meanwhile,
                "ratio": meanwhile / alone,
            }),
        );
        self.stop.cancel();
        Ok(())
    }

    fn text(&self, n: usize) -> &str {
        &self.texts[n % self.texts.len()]
    }

    /// The model's own time: encode and compute one text, with nothing beside it.
    async fn alone(&self, requests: usize) -> anyhow::Result<Times> {
        let (began, mut times) = (self.clock.elapsed(), Vec::new());
        for n in 0..requests {
            let start = self.clock.elapsed();
            let encoding = self.handle.encoder().encode(self.text(n));
            let answered = self.handle.answer(vec![encoding]).await?;
            ensure!(answered.scores[0].is_ok(), "the model failed");
            times.push(self.clock.elapsed() - start);
        }
        Ok(Times::of(times, self.clock.elapsed() - began))
    }

    /// Sends a request; returns how long it took.
    async fn ask(&self, n: usize) -> anyhow::Result<Duration> {
        let start = self.clock.elapsed();
        ask(&self.client, &self.url, self.text(n)).await?;
        Ok(self.clock.elapsed() - start)
    }

    /// Callers who each send a request when the last one is answered.
    async fn closed(&self, callers: usize, requests: usize) -> anyhow::Result<Times> {
        let (next, began) = (AtomicUsize::new(0), self.clock.elapsed());
        let caller = async || {
            let mut times = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= requests {
                    return anyhow::Ok(times);
                }
                times.push(self.ask(n).await?);
            }
        };
        let found = join_all((0..callers).map(|_| caller())).await;
        let took = self.clock.elapsed() - began;
        let times = found.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
        Ok(Times::of(times, took))
    }

    /// Requests that come whether or not others are answered, `rate` in a second on average.
    async fn open(&self, rate: f64, arrivals: Arrivals, requests: usize) -> anyhow::Result<Times> {
        let (tick, mut ticks) = mpsc::unbounded_channel();
        let (began, clock) = (self.clock.elapsed(), self.clock);
        // Timers of tokio are as coarse as a millisecond; those of a thread are not.
        std::thread::spawn(move || {
            let (mut random, mut at) = (ChaCha8Rng::seed_from_u64(1), began);
            for n in 0..requests {
                let intervals = match arrivals {
                    Arrivals::Even => 1.0,
                    Arrivals::Random => -(1.0 - random.random::<f64>()).ln(),
                };
                at += Duration::from_secs_f64(intervals / rate);
                std::thread::sleep(at.saturating_sub(clock.elapsed()));
                if tick.send(n).is_err() {
                    return;
                }
            }
        });
        let mut sent = JoinSet::new();
        while let Some(n) = ticks.recv().await {
            let (client, url, clock) = (self.client.clone(), self.url.clone(), self.clock);
            let text = self.text(n).to_owned();
            sent.spawn(async move {
                let start = clock.elapsed();
                ask(&client, &url, &text).await?;
                anyhow::Ok(clock.elapsed() - start)
            });
        }
        let times = sent.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Times::of(times, self.clock.elapsed() - began))
    }

    /// A stream that always has four batches waiting, as the daemon's has when it is behind. Returns the
    /// tweets scored, and the time.
    fn stream(&self, busy: Arc<AtomicBool>) -> tokio::task::JoinHandle<(usize, Duration)> {
        let (handle, texts, clock) = (self.handle.clone(), self.texts.clone(), self.clock);
        tokio::spawn(async move {
            let encoder = handle.encoder();
            let rows: Vec<Encoding> =
                texts.iter().take(4 * STREAM_ROWS).map(|text| encoder.encode(text)).collect();
            let (began, scored) = (clock.elapsed(), AtomicUsize::new(0));
            let (handle, busy, scored) = (&handle, &busy, &scored);
            let batches = rows.chunks(STREAM_ROWS).map(|batch| async move {
                while busy.load(Ordering::SeqCst) && handle.classify(batch.to_vec()).await.is_ok() {
                    scored.fetch_add(batch.len(), Ordering::SeqCst);
                }
            });
            join_all(batches).await;
            (scored.load(Ordering::SeqCst), clock.elapsed() - began)
        })
    }
}

/// Tweets in a second.
fn rate((rows, took): (usize, Duration)) -> f64 {
    rows as f64 / took.as_secs_f64()
}

async fn ask(client: &reqwest::Client, url: &str, text: &str) -> anyhow::Result<()> {
    let answer = client.post(url).json(&json!({ "inputs": text })).send().await?;
    ensure!(answer.status() == 200, "{}: {}", answer.status(), answer.text().await?);
    answer.bytes().await?;
    Ok(())
}
