//! How fast does a GPU score tweets, what limits it, and are its scores those of the CPU?
//!
//! In one run, on the airline tweets: the device's matrix products; the same shapes in PyTorch
//! (`gpu.py`: SDPA, eager and compiled); parity; the tokenizer alone; the transformer that ships and a network
//! of DistilBERT's shape, computing alone and from text; the daemon's pipeline from memory to
//! memory; and a pass that is too large for the memory. A step that fails says so, and the others go on.
//! Without a GPU the same steps run on the CPU, on a few tweets, and measure nothing that is worth keeping.
//!
//! `scripts/bench gpu [--device auto] [--json FILE]`
//!
//! With `--bundle FOLDER` it measures nothing, and makes a folder for a machine with a GPU, Python and torch:
//! `bash run` there.

#[path = "gpu/bundle.rs"]
mod bundle;
mod common;
#[path = "gpu/daemon.rs"]
mod daemon;
#[path = "gpu/peer.rs"]
mod peer;
#[path = "gpu/speed.rs"]
mod speed;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Parser;
use common::{Output, Report};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Precision;
use monitor_model::{
    self as classifier, Architecture, ArtifactError, Encoding, Model, OpenOptions,
};
use monitor_telemetry::{Format, init_logging};
use monitor_train::data;
use serde_json::json;
use tch::{Device, Kind};

const TWEETS: &str = "tests/fixtures/airline-week.csv.xz";
const SCRIPT: &str = "benches/gpu.py";
/// A model whose scores are compared too.
const LSTM: &str = "lstm";
/// The name of the network with random weights.
const DISTILBERT: &str = "DistilBERT's shape";
/// A measurement has this many rounds, or fewer after so many seconds.
const ROUNDS: usize = 3;
const ROUNDS_SECONDS: f64 = 6.0;
/// No step begins later. `gpu/run` ends all after 560 s.
const BEGIN_MAX: Duration = Duration::from_secs(450);

/// Measures the scoring on a GPU, and compares it with PyTorch and with the CPU
///
/// Without a GPU it tries the same steps on the CPU, with few tweets. Exits with 1 if a step failed.
#[derive(Parser)]
struct Args {
    /// Makes this folder for a machine with a GPU, Python and torch instead of measuring here
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// The device: auto, cpu, or cuda:0
    #[arg(long, default_value = "auto")]
    device: String,
    /// Folder of models
    #[arg(long, default_value = "models")]
    models: PathBuf,
    /// The transformer, by name or id
    #[arg(long, default_value = "transformer")]
    model: String,
    /// Threads of a computation on the CPU [default: its cores]
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// A Python with torch
    #[arg(long, env = "BENCH_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// The commit that a bundle was made of
    #[arg(long, hide = true)]
    commit: Option<String>,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
struct Sizes {
    /// Rows and columns of the matrix product.
    matrix: i64,
    parity_rows: usize,
    /// Tweets of a measurement, repeated ones among them.
    rows: usize,
    /// Most tokens of a pass.
    budgets: &'static [usize],
}

const ON_GPU: Sizes = Sizes {
    matrix: 8192,
    parity_rows: 2_000,
    rows: 100_000,
    budgets: &[64 * 1024, 256 * 1024, 1024 * 1024],
};
const ON_CPU: Sizes =
    Sizes { matrix: 2048, parity_rows: 100, rows: 256, budgets: &[2 * 1024, 8 * 1024] };

struct Bench {
    args: Args,
    device: Device,
    sizes: Sizes,
    /// Distinct texts.
    tweets: Vec<String>,
    clock: SystemClock,
    report: Report,
    /// FLOP/s of a matrix product in the precision that `auto` chooses.
    peak: f64,
    /// What PyTorch has measured.
    peers: Vec<peer::Line>,
    failed: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(folder) = &args.bundle {
        bundle::write(folder, &args.models, &[&args.model, LSTM])?;
        return Ok(ExitCode::SUCCESS);
    }
    // Says when memory runs out.
    init_logging("warn", Format::Text)?;
    let mut bench = Bench::new(args)?;
    let (models, model) = (bench.args.models.clone(), bench.args.model.clone());
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let distilbert = speed::random_distilbert(&models, &model, folder)?;
    let (shipped, random) = (shape(&models, &model)?, shape(folder, &distilbert)?);

    bench.step("device", Bench::about);
    bench.step("PyTorch", |bench| {
        let encodings = bench.encodings(&bench.open_shipped("cpu", Precision::Single, None)?);
        let lengths = encodings.iter().map(|row| row.ids.len()).cycle().take(bench.sizes.rows);
        let shapes = [(DISTILBERT, random), (model.as_str(), shipped)];
        peer::measure(bench, &shapes, &lengths.collect::<Vec<_>>())
    });
    bench.step("parity", speed::parity);
    bench.step("tokenising", speed::tokenising);
    bench.step(&format!("{model}, {} x {}", shipped.layers, shipped.width), |bench| {
        speed::network(bench, &models, &model, &model, shipped)
    });
    bench.step(&format!("{DISTILBERT}, {} x {}", random.layers, random.width), |bench| {
        speed::network(bench, folder, &distilbert, DISTILBERT, random)
    });
    bench.step("the daemon, from memory to memory", daemon::measure);
    bench.step("out of memory", |bench| speed::out_of_memory(bench, folder, &distilbert));

    println!("\n{:.0} s, {} steps failed", bench.clock.elapsed().as_secs_f64(), bench.failed);
    if !bench.is_gpu() {
        println!("Nothing was measured on a GPU.");
    }
    bench.report.write(&bench.args.output)?;
    Ok(if bench.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shape(folder: &Path, name: &str) -> anyhow::Result<classifier::TransformerShape> {
    match classifier::read_manifest(folder, name)?.architecture {
        Architecture::Transformer(shape) => Ok(shape),
        _ => bail!("{name} is not a transformer"),
    }
}

impl Bench {
    fn new(args: Args) -> anyhow::Result<Self> {
        let device = classifier::device(&args.device)?;
        let sizes = if device.is_cuda() { ON_GPU } else { ON_CPU };
        let mut seen = HashSet::new();
        let rows = data::read(Path::new(TWEETS))?.rows.into_iter();
        let texts = rows.map(|row| row.text).filter(|text| seen.insert(text.clone()));
        let tweets: Vec<String> = texts.collect();
        ensure!(!tweets.is_empty(), "{TWEETS} has no tweets");
        let conditions = json!({
            "gpu": device.is_cuda(),
            "device": args.device,
            "model": classifier::read_manifest(&args.models, &args.model)?.id().to_string(),
            "bundle_of": args.commit,
            "threads": args.threads,
            "distinct_tweets": tweets.len(),
            "rounds": ROUNDS,
        });
        let report = Report::new("gpu", conditions);
        let (clock, peers) = (SystemClock::new(), Vec::new());
        Ok(Self { args, device, sizes, tweets, clock, report, peak: f64::NAN, peers, failed: 0 })
    }

    fn is_gpu(&self) -> bool {
        self.device.is_cuda()
    }

    /// Whether `auto` computes in bfloat16.
    fn is_half(&self) -> bool {
        classifier::is_half_fast(self.device)
    }

    /// Runs a step. The report is written after each, so that it is there whatever the next does.
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        println!("\n## {name}\n");
        let began = self.clock.elapsed();
        let outcome = if began > BEGIN_MAX {
            Err(anyhow::anyhow!("not begun: {} s are over", BEGIN_MAX.as_secs()))
        } else {
            // tch reports some failures as a panic only, and the hook has printed its message.
            catch_unwind(AssertUnwindSafe(|| work(self)))
                .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked: see above")))
        };
        let error = outcome.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            println!("FAILED: {error}");
            self.failed += 1;
        }
        let seconds = (self.clock.elapsed() - began).as_secs_f64();
        self.report.row("steps", json!({ "step": name, "seconds": seconds, "error": error }));
        if let Err(error) = self.report.write(&self.args.output) {
            println!("FAILED: {error:#}");
        }
    }

    /// The device, the versions, and the matrix products.
    fn about(&mut self) -> anyhow::Result<()> {
        let said = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok();
            let output = output.filter(|output| output.status.success());
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
        let card = said(Path::new("nvidia-smi"), &query);
        let version = ["-c", "import torch; print(torch.__version__)"];
        let torch = said(&self.args.python, &version);
        println!(
            "{:?} ({}), torch {}, {}, {} threads",
            self.device,
            card.as_deref().unwrap_or("no card"),
            torch.as_deref().unwrap_or("unknown"),
            classifier::auto_precision(self.device),
            self.args.threads,
        );
        self.report.value("card", card.into());
        self.report.value("torch", torch.into());
        tch::set_num_threads(i32::try_from(self.args.threads)?);
        for (name, kind) in [("half", Kind::BFloat16), ("single", Kind::Float)] {
            let rate = speed::matrix_product(self.device, kind, self.sizes.matrix);
            println!("matrix products in {name} precision: {:.2} TFLOP/s", rate / 1e12);
            self.report.value(&format!("tflops_of_a_matrix_product_{name}"), (rate / 1e12).into());
            if self.is_half() == (name == "half") {
                self.peak = rate;
            }
        }
        Ok(())
    }

    fn open(
        &self,
        folder: &Path,
        name: &str,
        device: &str,
        precision: Precision,
        tokens_max: Option<usize>,
    ) -> Result<Model, ArtifactError> {
        let options = OpenOptions {
            directory: folder.to_owned(),
            threads: self.args.threads,
            device: device.to_owned(),
            precision,
            tokens_max,
        };
        classifier::open(&options, name)
    }

    /// The model of the arguments.
    fn open_shipped(
        &self,
        device: &str,
        precision: Precision,
        tokens_max: Option<usize>,
    ) -> Result<Model, ArtifactError> {
        self.open(&self.args.models, &self.args.model, device, precision, tokens_max)
    }

    /// The tweets of a measurement.
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.tweets.iter().cycle().take(self.sizes.rows).map(String::as_str)
    }

    /// The tokens of each distinct tweet of a measurement.
    fn encodings(&self, model: &Model) -> Vec<Encoding> {
        let texts = self.tweets.iter().take(self.sizes.rows);
        texts.map(|text| model.encoder.encode(text)).collect()
    }
}

/// The seconds of each round, after one that is not timed: in it libtorch meets each shape for the first time.
fn rounds(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    work()?;
    let (clock, mut rounds) = (SystemClock::new(), Vec::new());
    while rounds.is_empty()
        || (rounds.len() < ROUNDS && clock.elapsed().as_secs_f64() < ROUNDS_SECONDS)
    {
        let began = clock.elapsed();
        work()?;
        rounds.push((clock.elapsed() - began).as_secs_f64());
    }
    Ok(rounds)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
