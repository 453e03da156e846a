//! How fast does a transformer score tweets, compared with Python's transformers and ONNX
//! Runtime?
//!
//! Several rounds alternate between the sides, on the same held-out tweets, weights and
//! threads: our model in calls of `batching.rows_max` tweets (on a GPU all in one call), whose
//! passes have rows of similar length; the peers in batches of 32, in the given order and sorted by
//! length, in single precision, bfloat16 (transformers) and int8 (ONNX Runtime); and the
//! cheap models and the cascade, if the folder of models has them. All sides compute from text
//! to probability, encoding and computing one after the other; the daemon encodes while the
//! model computes. Prints tweets and tokens a second (median of the rounds), ratios, accuracy,
//! the largest difference of a probability from ours, and the share of the speed of one large
//! matrix product.
//!
//! `scripts/bench classifier [--rounds 3] [--rows 5000] [--threads 2] [--gpu] [--json FILE]`

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report, spread};
use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Precision;
use monitor_core::text::decode_entities;
use monitor_model::OpenOptions;
use monitor_model::{
    self as classifier, Architecture, ArtifactError, Manifest, Model, TransformerShape,
};
use monitor_train::data::{self, Row, SplitBy};
use serde::Deserialize;
use serde_json::json;

/// Times the scoring of a transformer, next to Python's transformers and ONNX Runtime
///
/// Prints tweets and tokens a second, ratios, accuracy, and the largest difference of a
/// probability from ours.
#[derive(Parser)]
struct Args {
    /// Labelled tweets that the models were trained on; the held-out ones are scored
    #[arg(
        long,
        default_value = "../shared/data/sentiment140/training.249010.processed.noemoticon.csv.xz"
    )]
    data: PathBuf,
    /// Folder of models
    #[arg(long, default_value = "models")]
    models: PathBuf,
    /// The transformer, by name or id
    #[arg(long, default_value = "transformer")]
    model: String,
    /// Rounds; the table has their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tweets, the first of the held-out ones
    #[arg(long, default_value_t = 5_000)]
    rows: usize,
    /// Threads, on all sides
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Compare on the first GPU, in bfloat16
    #[arg(long)]
    gpu: bool,
    /// A Python with the peers
    #[arg(long, env = "BENCH_PYTHON", default_value = "python3")]
    python: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// One side and its rounds.
struct Side {
    name: String,
    kind: Kind,
    runs: Vec<Run>,
}

enum Kind {
    Ours(Box<Model>),
    Peer { side: &'static str, order: &'static str, precision: &'static str },
}

/// One round of one side.
#[derive(Deserialize)]
struct Run {
    seconds: f64,
    /// The score of each tweet; the same in each round.
    scores: Vec<f32>,
    /// FLOP/s of a large matrix product; peers measure it.
    #[serde(default)]
    flops: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let manifest = classifier::read_manifest(&args.models, &args.model)?;
    let Architecture::Transformer(shape) = manifest.architecture else {
        anyhow::bail!("{} is not a transformer", manifest.id())
    };
    let data = data::read(&args.data)?;
    let mut rows = data::split(&data.rows, SplitBy::User, manifest.seed).held_out;
    rows.truncate(args.rows);
    let mut sides = sides(&args)?;
    let tokens = tokens(&sides[0], &rows);
    let folder = tempfile::tempdir()?;
    let tweets = hand_over(&rows, folder.path())?;
    println!(
        "{} held-out tweets, {:.1} tokens each, {}, {} threads, {} cores{}\n",
        rows.len(),
        tokens as f64 / rows.len() as f64,
        manifest.id(),
        args.threads,
        std::thread::available_parallelism()?,
        if args.gpu { ", on the GPU" } else { "" },
    );
    for round in 1..=args.rounds {
        for side in &mut sides {
            let run = match &mut side.kind {
                Kind::Ours(model) => ours(model, &rows, args.gpu)?,
                Kind::Peer { side, order, precision } => {
                    peer(&args, [side, order, precision], &manifest, &tweets)?
                }
            };
            let rate = rows.len() as f64 / run.seconds;
            eprintln!("round {round} of {}: {}: {rate:.0} tweets/s", args.rounds, side.name);
            side.runs.push(run);
        }
    }
    let conditions = json!({
        "tweets": rows.len(),
        "tokens": tokens,
        "model": manifest.id().to_string(),
        "threads": args.threads,
        "gpu": args.gpu,
        "rounds": args.rounds,
    });
    let mut report = Report::new("classifier", conditions);
    print(&sides, &manifest, shape, &rows, tokens, &mut report);
    report.write(&args.output)
}

/// Our transformer first, then the peers, then the cheaper models.
fn sides(args: &Args) -> anyhow::Result<Vec<Side>> {
    let open = |name: &str, precision| {
        let options = OpenOptions {
            directory: args.models.clone(),
            threads: args.threads,
            device: if args.gpu { "cuda:0" } else { "cpu" }.into(),
            precision,
            tokens_max: None,
        };
        classifier::open(&options, name)
    };
    let ours = |name: String, model| Side { name, kind: Kind::Ours(Box::new(model)), runs: vec![] };
    let peer = |name: &str, side, order, precision| Side {
        name: name.into(),
        kind: Kind::Peer { side, order, precision },
        runs: vec![],
    };
    let bf16 = ours("monitor, half".into(), open(&args.model, Precision::Bf16)?);
    let mut sides = if args.gpu {
        vec![bf16, peer("transformers, half", "transformers", "given", "half")]
    } else {
        vec![
            ours("monitor".into(), open(&args.model, Precision::Single)?),
            peer("transformers", "transformers", "given", "single"),
            peer("transformers, sorted", "transformers", "sorted", "single"),
            peer("ONNX Runtime", "onnx", "given", "single"),
            peer("ONNX Runtime, sorted", "onnx", "sorted", "single"),
            bf16,
            peer("transformers, half", "transformers", "given", "half"),
            peer("transformers, half, sorted", "transformers", "sorted", "half"),
            peer("ONNX Runtime, int8", "onnx", "given", "int8"),
            peer("ONNX Runtime, int8, sorted", "onnx", "sorted", "int8"),
        ]
    };
    for name in ["lstm", "logistic-tfidf", "cascade"] {
        match open(name, Precision::Auto) {
            Ok(model) => sides.push(ours(format!("monitor, {name}"), model)),
            Err(ArtifactError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sides)
}

/// Tokens of all tweets, the two at the ends of each included.
fn tokens(side: &Side, rows: &[&Row]) -> usize {
    let Kind::Ours(model) = &side.kind else { unreachable!("ours comes first") };
    rows.iter().map(|row| model.encoder.encode(&row.text).ids.len()).sum()
}

/// Writes the tweets in the form that our encoder reads, so that the peers need no time for
/// that step.
fn hand_over(rows: &[&Row], folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("tweets.jsonl");
    let mut lines = std::io::BufWriter::new(fs::File::create(&path)?);
    for row in rows {
        let text = decode_entities(&row.text);
        writeln!(lines, "{}", serde_json::to_string(&classifier::without_names(&text))?)?;
    }
    lines.flush()?;
    Ok(path)
}

/// Scores all rows; on a CPU, in calls of the size of the daemon's batches.
fn ours(model: &mut Model, rows: &[&Row], gpu: bool) -> anyhow::Result<Run> {
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    model.score(&texts[..texts.len().min(32)])?;
    let clock = SystemClock::new();
    let mut scores = Vec::with_capacity(texts.len());
    let at_once = if gpu { texts.len().max(1) } else { config::Batching::default().rows_max };
    for batch in texts.chunks(at_once) {
        scores
            .extend(model.score(batch)?.into_iter().map(|score| score.negative_among_two().get()));
    }
    Ok(Run { seconds: clock.elapsed().as_secs_f64(), scores, flops: 0.0 })
}

/// Runs Python, with its libraries' own thread settings.
fn peer(
    args: &Args,
    [side, order, precision]: [&str; 3],
    manifest: &Manifest,
    tweets: &Path,
) -> anyhow::Result<Run> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/classifier.py");
    let output = Command::new(&args.python)
        .arg(script)
        .args([side, order])
        .arg(classifier::folder(&args.models, &manifest.id()))
        .arg(tweets)
        .arg(args.threads.to_string())
        .args([if args.gpu { "cuda:0" } else { "cpu" }, precision])
        .env_remove("OMP_WAIT_POLICY")
        .env_remove("GOMP_SPINCOUNT")
        .env_remove("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
        .env_remove("LRU_CACHE_CAPACITY")
        .output()
        .with_context(|| format!("starting {}", args.python.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {errors}", args.python.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print(
    sides: &[Side],
    manifest: &Manifest,
    shape: TransformerShape,
    rows: &[&Row],
    tokens: usize,
    report: &mut Report,
) {
    let seconds = |side: &Side| median(side.runs.iter().map(|run| run.seconds).collect());
    let of = |name: &str| sides.iter().find(|side| side.name == name).map(seconds);
    let threshold = manifest.calibration.threshold;
    let (transformers, onnx) =
        (of("transformers").or(of("transformers, half")), of("ONNX Runtime"));
    let first = &sides[0].runs[0].scores;
    println!(
        "| side | tweets/s | tokens/s | x transformers | x ONNX Runtime | accuracy | largest \
         difference |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for side in sides {
        let took = seconds(side);
        let ratio = |other: Option<f64>| other.map_or("-".into(), |it| format!("{:.2}", it / took));
        let scores = &side.runs[0].scores;
        let threshold = match &side.kind {
            Kind::Ours(model) => model.thresholds.negative.get(),
            Kind::Peer { .. } => threshold,
        };
        let right = scores
            .iter()
            .zip(rows)
            .filter(|(score, row)| (**score >= threshold) == row.is_negative());
        let accuracy = right.count() as f64 / rows.len() as f64;
        let differences = scores.iter().zip(first).map(|(a, b)| (a - b).abs());
        let difference = differences.fold(0.0, f32::max);
        println!(
            "| {} | {:.0} | {:.0} | {} | {} | {:.4} | {:.1e} |",
            side.name,
            rows.len() as f64 / took,
            tokens as f64 / took,
            ratio(transformers),
            ratio(onnx),
            accuracy,
            difference,
        );
        let rate = |run: &Run| rows.len() as f64 / run.seconds;
        report.row(
            "sides",
            json!({
                "side": side.name,
                "tweets_per_second": spread(&side.runs.iter().map(rate).collect::<Vec<_>>()),
                "tokens_per_second": tokens as f64 / took,
                "ratio_to_transformers": transformers.map(|it| it / took),
                "ratio_to_onnx_runtime": onnx.map(|it| it / took),
                "accuracy": accuracy,
                "largest_difference": difference,
            }),
        );
    }
    // Operations for one token: two for each weight of the layers; in the last layer only those
    // of queries, keys and values, because the rest is computed for the first token alone.
    // Attention between tokens is small at these lengths, and left out.
    let weights = (12 * (shape.layers - 1) + 3) * shape.width * shape.width;
    let flops = 2.0 * weights as f64 * tokens as f64 / seconds(&sides[0]);
    let peak = sides[1].runs.iter().map(|run| run.flops).fold(0.0, f64::max);
    println!(
        "\n{}: {:.2} TFLOP/s in its layers, {:.0} % of the {:.2} TFLOP/s of one large matrix product",
        sides[0].name,
        flops / 1e12,
        100.0 * flops / peak,
        peak / 1e12
    );
    report.value("tflops_in_the_layers", (flops / 1e12).into());
    report.value("tflops_of_a_matrix_product", (peak / 1e12).into());
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
