//! How fast is the training of the LSTM, compared with the same network in PyTorch?
//!
//! Two forms: one of the study's size (50-dimensional GloVe vectors, unchanged, one direction
//! of 50 units) and our own. Several rounds alternate between the training of `monitor
//! retrain` and `benches/training.py`, with the same rows, ids, kind of batches (128 rows of
//! similar length), recipe and number of threads, one epoch. Prints tweets a second (median
//! of the rounds), the ratio, and loss and accuracy on the same validation rows after the
//! same number of steps: they should agree, except for random initial weights and dropout.
//!
//! `scripts/bench training [--rounds 3] [--rows 20000] [--threads 2] [--json FILE]`

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report, spread};
use monitor_core::domain::{Classes, Language};
use monitor_core::text::{Analyzer, Vocabulary};
use monitor_model::{Architecture, Encoder, Manifest, Pooling, Weights, WordIds};
use monitor_train::data::{self, Dataset, Row, SplitBy};
use monitor_train::fit::{Family, Hyperparameters, LSTM_RECIPE};
use monitor_train::{TrainingRequest, TrainingRows};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Device;

/// Times the training of the LSTM, next to PyTorch
///
/// Prints tweets a second, the ratio to PyTorch, and loss and accuracy on the same validation
/// rows.
#[derive(Parser)]
struct Args {
    /// Labelled tweets
    #[arg(
        long,
        default_value = "../shared/data/sentiment140/training.249010.processed.noemoticon.csv.xz"
    )]
    data: PathBuf,
    /// Word vectors of the first form
    #[arg(long, default_value = "../shared/data/embeddings/glove.6B.50d.top.txt.xz")]
    embeddings: PathBuf,
    /// Rounds; the table has their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tweets, drawn from the data; most are training rows
    #[arg(long, default_value_t = 20_000)]
    rows: usize,
    /// Threads of libtorch, on both sides
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A Python with torch
    #[arg(long, env = "BENCH_PYTHON", default_value = "python3")]
    python: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A form of the network; both use [`LSTM_RECIPE`].
struct Form {
    name: &'static str,
    analyzer: Analyzer,
    embeddings: Vec<PathBuf>,
    frozen: Option<bool>,
    directions: Option<usize>,
    hidden: Option<usize>,
}

/// The settings of benches/training.py.
#[derive(Serialize)]
struct Settings {
    vocabulary: usize,
    embedding: usize,
    hidden: usize,
    directions: usize,
    pooling: Pooling,
    frozen: bool,
    dropout: f64,
    word_dropout: f64,
    batch_rows: usize,
    epochs: usize,
    learning_rate: f64,
    gradient_norm_max: f64,
    threads: usize,
    seed: u64,
}

/// One side of one round; a line of training.csv has these and other columns.
#[derive(Debug, Deserialize)]
struct Outcome {
    rows_per_s: f64,
    loss: f64,
    validation_loss: f64,
    validation_accuracy: f64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut data = data::read(&args.data)?;
    data.draw(args.rows, 140);
    let own = Form {
        name: "own",
        analyzer: Analyzer::tweet(),
        embeddings: vec![],
        frozen: None,
        directions: None,
        hidden: None,
    };
    let glove = Form {
        name: "glove",
        analyzer: Analyzer::tweet(),
        embeddings: vec![args.embeddings.clone()],
        frozen: Some(true),
        directions: Some(1),
        hidden: Some(50),
    };
    let forms = [glove, own];
    println!(
        "{} rows, batches of {}, {} threads, {} cores\n",
        data.rows.len(),
        LSTM_RECIPE.batch_rows,
        args.threads,
        std::thread::available_parallelism()?
    );
    println!(
        "| form | side | tweets/s, median of {} | x PyTorch | loss | validation loss | accuracy |",
        args.rounds
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut report = Report::new(
        "training",
        json!({
            "rows": data.rows.len(),
            "batch_rows": LSTM_RECIPE.batch_rows,
            "threads": args.threads,
            "rounds": args.rounds,
        }),
    );
    for form in forms {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=args.rounds {
            let folder = tempfile::tempdir()?;
            let manifest = train(&args, &form, &data, round as u64, folder.path())?;
            ours.push(outcome(folder.path(), &manifest)?);
            hand_over(&args, &form, &data, &manifest, folder.path())?;
            theirs.push(pytorch(&args.python, folder.path())?);
            let (our, their) = (&ours[round - 1], &theirs[round - 1]);
            eprintln!(
                "{}, round {round} of {}: {:.0} and {:.0} tweets/s, validation loss {:.4} and {:.4}",
                form.name,
                args.rounds,
                our.rows_per_s,
                their.rows_per_s,
                our.validation_loss,
                their.validation_loss
            );
        }
        let pytorch_rate = median(&theirs, |outcome| outcome.rows_per_s);
        for (side, outcomes) in [("monitor", &ours), ("PyTorch", &theirs)] {
            let rate = median(outcomes, |outcome| outcome.rows_per_s);
            println!(
                "| {} | {side} | {rate:.0} | {:.2} | {:.3} | {:.3} | {:.3} |",
                form.name,
                rate / pytorch_rate,
                median(outcomes, |outcome| outcome.loss),
                median(outcomes, |outcome| outcome.validation_loss),
                median(outcomes, |outcome| outcome.validation_accuracy),
            );
            let all = |figure: fn(&Outcome) -> f64| {
                spread(&outcomes.iter().map(figure).collect::<Vec<_>>())
            };
            report.row(
                "sides",
                json!({
                    "form": form.name,
                    "side": side,
                    "tweets_per_second": all(|outcome| outcome.rows_per_s),
                    "ratio_to_pytorch": rate / pytorch_rate,
                    "loss": all(|outcome| outcome.loss),
                    "validation_loss": all(|outcome| outcome.validation_loss),
                    "validation_accuracy": all(|outcome| outcome.validation_accuracy),
                }),
            );
        }
    }
    report.write(&args.output)
}

/// Trains like `monitor retrain`, one epoch.
fn train(
    args: &Args,
    form: &Form,
    data: &Dataset,
    seed: u64,
    output: &Path,
) -> anyhow::Result<Manifest> {
    let request = TrainingRequest {
        classes: Classes::Two,
        languages: vec![Language::ENGLISH],
        commit: None,
        family: Family::Lstm,
        name: form.name.to_owned(),
        analyzer: form.analyzer.clone(),
        embeddings: form.embeddings.clone(),
        frozen: form.frozen,
        directions: form.directions,
        hyper: Hyperparameters {
            hidden: form.hidden,
            epochs_max: Some(1),
            ..Hyperparameters::default()
        },
        split: SplitBy::User,
        output: output.to_owned(),
        base: None,
        mean_with: Vec::new(),
        half: false,
        teachers: Vec::new(),
        device_name: "cpu".into(),
        seed,
        threads: args.threads,
        device: Device::Cpu,
        promote: false,
        train_share: 1.0,
        resume: false,
        stop: &|| false,
        command: String::new(),
    };
    let rows =
        TrainingRows { data, more: &[], also: &[], also_rows: 0, tests: &[], calibrate: None };
    Ok(monitor_train::train(&request, rows)?.manifest)
}

fn version(models: &Path, manifest: &Manifest) -> PathBuf {
    models.join(&manifest.name).join(manifest.version.to_string())
}

/// The only epoch of a training, from its log.
fn outcome(models: &Path, manifest: &Manifest) -> anyhow::Result<Outcome> {
    let mut log = csv::Reader::from_path(version(models, manifest).join("training.csv"))?;
    log.deserialize().next().context("a training of one epoch has one line")?.map_err(Into::into)
}

/// Writes the files that PyTorch needs for the same training.
fn hand_over(
    args: &Args,
    form: &Form,
    data: &Dataset,
    manifest: &Manifest,
    folder: &Path,
) -> anyhow::Result<()> {
    let Architecture::Lstm(shape) = &manifest.architecture else {
        anyhow::bail!("the model is not an LSTM")
    };
    let version = version(folder, manifest);
    let vocabulary = Vocabulary::parse(&fs::read_to_string(version.join("vocabulary.txt"))?)?;
    let frozen = manifest.trainable < manifest.parameters;
    let settings = Settings {
        vocabulary: vocabulary.len(),
        embedding: shape.embedding,
        hidden: shape.hidden,
        directions: shape.directions,
        pooling: shape.pooling,
        frozen,
        dropout: LSTM_RECIPE.dropout,
        word_dropout: LSTM_RECIPE.word_dropout,
        batch_rows: LSTM_RECIPE.batch_rows,
        epochs: 1,
        learning_rate: LSTM_RECIPE.learning_rate,
        gradient_norm_max: LSTM_RECIPE.gradient_norm_max,
        threads: args.threads,
        seed: manifest.seed,
    };
    fs::write(folder.join("settings.json"), serde_json::to_vec(&settings)?)?;

    let encoder = WordIds::new(form.analyzer.clone(), vocabulary, shape.sequence);
    let sides = data::split(&data.rows, SplitBy::User, manifest.seed);
    let mut lines = std::io::BufWriter::new(fs::File::create(folder.join("rows.jsonl"))?);
    let mut write = |side: &str, rows: &[&Row]| -> anyhow::Result<()> {
        for row in rows {
            let ids = encoder.encode(&row.text).ids;
            let line =
                serde_json::json!({ "side": side, "ids": ids, "negative": row.is_negative() });
            writeln!(lines, "{line}")?;
        }
        Ok(())
    };
    write("train", &sides.train)?;
    write("validation", &sides.validation)?;
    lines.flush()?;

    if frozen {
        let mut weights = Weights::parse(&fs::read(version.join("weights.safetensors"))?)?;
        let table = weights.take("embedding.weight", &[shape.vocabulary, shape.embedding])?;
        let bytes: Vec<u8> = table.iter().flat_map(|number| number.to_le_bytes()).collect();
        fs::write(folder.join("vectors.f32"), bytes)?;
    }
    Ok(())
}

/// Trains in PyTorch, with PyTorch's own thread settings.
fn pytorch(python: &Path, folder: &Path) -> anyhow::Result<Outcome> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/training.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder)
        .env_remove("OMP_WAIT_POLICY")
        .env_remove("GOMP_SPINCOUNT")
        .env_remove("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
        .env_remove("LRU_CACHE_CAPACITY")
        .output()
        .with_context(|| format!("starting {}", python.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {errors}", python.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn median(outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
