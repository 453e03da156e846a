//! Seconds and accuracy of the logistic families, compared with scikit-learn's on the same
//! rows, the same split and the same threads.
//!
//! `scripts/bench logistic [--data FILE] [--threads 2] [--json FILE]`: scikit-learn runs in a
//! separate Python (`MONITOR_SKLEARN`, which scripts/bench sets up), reads the rows that this
//! program wrote, and prints its results; without it only ours are printed. Seconds are those
//! from texts to weights: n-grams, TF-IDF, fit. Ours and theirs run one after the other.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::Parser;
use common::{Output, Report};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Classes, Probability};
use monitor_core::text::{Analyzer, NgramLengths};
use monitor_model::{Classifier, Encoder, HashedWords, KnownNgrams, Logistic, Tfidf};
use monitor_train::data::{self, Row, SplitBy};
use monitor_train::fit::linear::{self, Settings, TFIDF_LENGTHS};
use monitor_train::fit::{Hyperparameters, Target};
use monitor_train::report::Metrics;
use serde_json::json;

const DATA: &str = "../shared/data/sentiment140/training.249010.processed.noemoticon.csv.xz";
const SEED: u64 = 140;

/// Times the training of the logistic families, next to scikit-learn
///
/// Prints seconds from texts to weights, and accuracy and ROC AUC on the validation and the
/// held-out rows.
#[derive(Parser)]
struct Args {
    /// Labelled tweets in sentiment140's layout
    #[arg(long, default_value = DATA)]
    data: PathBuf,
    /// Threads, ours and scikit-learn's
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Use only this many rows
    #[arg(long)]
    rows: Option<usize>,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// One line of the table.
struct Line {
    name: String,
    features: usize,
    seconds: f64,
    /// On validation and on held-out rows: accuracy, ROC AUC.
    figures: [(f64, f64); 2],
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(
        args.data.exists(),
        "{} does not exist: give a file in sentiment140's layout with --data",
        args.data.display()
    );
    let mut data = data::read(&args.data)?;
    if let Some(rows) = args.rows {
        data.draw(rows, SEED);
    }
    let sides = data::split(&data.rows, SplitBy::User, SEED);
    println!(
        "{} training rows, {} validation rows, {} held-out rows of other authors; {} threads\n",
        sides.train.len(),
        sides.validation.len(),
        sides.held_out.len(),
        args.threads
    );
    let analyzer = Analyzer::tweet();
    let settings = Settings {
        analyzer: &analyzer,
        classes: Classes::Two,
        hyper: Hyperparameters::default(),
        seed: SEED,
        threads: args.threads,
        stop: &|| false,
    };
    let measured = [&sides.validation, &sides.held_out];
    let mut lines = Vec::new();

    let targets: Vec<Target> =
        sides.train.iter().map(|row| Target::of(row, Classes::Two)).collect();
    let clock = SystemClock::new();
    let mut model =
        linear::fit_hash(&sides.train, &targets, settings).expect("it is never stopped");
    let seconds = clock.elapsed().as_secs_f64();
    let encoder = HashedWords::new(analyzer.clone(), model.shape).context("buckets")?;
    let mut classifier = Logistic::load(model.shape, Classes::Two, &mut model.weights)?;
    let features = 1 << model.shape.buckets_log2;
    let figures = measured.map(|rows| measure(&encoder, &mut classifier, rows));
    lines.push(Line { name: "ours, hashed words 1-2".into(), features, seconds, figures });

    let words = NgramLengths { characters_max: 0, ..TFIDF_LENGTHS };
    for (name, lengths) in [("words 1-2", words), ("words 1-2, characters 3-5", TFIDF_LENGTHS)] {
        let clock = SystemClock::new();
        let fitted = linear::fit_tfidf(&sides.train, &targets, lengths, settings);
        let mut model = fitted.expect("it is never stopped");
        let seconds = clock.elapsed().as_secs_f64();
        let encoder = KnownNgrams::new(analyzer.clone(), model.ngrams, model.shape);
        let mut classifier = Tfidf::load(model.shape, Classes::Two, &mut model.weights)?;
        let clock = SystemClock::new();
        let figures = measured.map(|rows| measure(&encoder, &mut classifier, rows));
        let rows: usize = measured.iter().map(|rows| rows.len()).sum();
        let rate = rows as f64 / clock.elapsed().as_secs_f64();
        eprintln!("{name}: {rate:.0} tweets/s scored on one thread");
        let name = format!("ours, TF-IDF {name}");
        lines.push(Line { name, features: model.shape.ngrams, seconds, figures });
    }
    match std::env::var_os("MONITOR_SKLEARN") {
        Some(python) => lines.extend(scikit_learn(Path::new(&python), &args, &sides)?),
        None => eprintln!("MONITOR_SKLEARN is not set to a Python with scikit-learn: only ours"),
    }
    print(&lines);
    let mut report = Report::new(
        "logistic",
        json!({
            "rows_train": sides.train.len(),
            "rows_validation": sides.validation.len(),
            "rows_held_out": sides.held_out.len(),
            "threads": args.threads,
        }),
    );
    for Line { name, features, seconds, figures: [validation, held_out] } in &lines {
        report.row(
            "models",
            json!({
                "model": name,
                "features": features,
                "seconds": seconds,
                "validation": {"accuracy": validation.0, "roc_auc": validation.1},
                "held_out": {"accuracy": held_out.0, "roc_auc": held_out.1},
            }),
        );
    }
    report.write(&args.output)
}

fn measure(encoder: &dyn Encoder, classifier: &mut dyn Classifier, rows: &[&Row]) -> (f64, f64) {
    let mut pairs = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(2_048) {
        let encoded: Vec<_> = chunk.iter().map(|row| encoder.encode(&row.text)).collect();
        let scores = classifier.classify(&encoded.iter().collect::<Vec<_>>());
        let scores = scores.expect("the rows come from its encoder");
        let scores = scores.into_iter().map(|score| score.negative());
        pairs.extend(scores.zip(chunk.iter().map(|row| row.is_negative())));
    }
    let metrics = Metrics::of(&pairs, Probability::HALF);
    (metrics.accuracy().unwrap_or(f64::NAN), metrics.auc.unwrap_or(f64::NAN))
}

/// Writes the rows for scikit-learn, and reads its results.
fn scikit_learn(python: &Path, args: &Args, sides: &data::Split<'_>) -> anyhow::Result<Vec<Line>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rows.json");
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    for (side, rows) in
        [("train", &sides.train), ("validation", &sides.validation), ("held out", &sides.held_out)]
    {
        for row in rows {
            serde_json::to_writer(&mut file, &(side, row.is_negative(), &row.text))?;
            file.write_all(b"\n")?;
        }
    }
    file.flush()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scikit_learn.py");
    let threads = args.threads.to_string();
    let output = Command::new(python)
        .arg(script)
        .arg(&path)
        .env("OMP_NUM_THREADS", &threads)
        .env("OPENBLAS_NUM_THREADS", &threads)
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    anyhow::ensure!(output.status.success(), "scikit-learn: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let line = |line: &str| -> anyhow::Result<Line> {
        let (name, features, seconds, figures) = serde_json::from_str(line)?;
        Ok(Line { name, features, seconds, figures })
    };
    text.lines().map(line).collect()
}

/// Prints a table; ratios are to the first line of scikit-learn's.
fn print(lines: &[Line]) {
    let reference = lines.iter().find(|line| !line.name.starts_with("ours"));
    println!(
        "| model | features | seconds | times as fast | validation accuracy | ROC AUC | held-out accuracy | ROC AUC |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for line in lines {
        let ratio =
            reference.map_or("-".to_owned(), |r| format!("{:.1}", r.seconds / line.seconds));
        let [validation, held_out] = line.figures;
        println!(
            "| {} | {} | {:.1} | {ratio} | {:.4} | {:.4} | {:.4} | {:.4} |",
            line.name,
            line.features,
            line.seconds,
            validation.0,
            validation.1,
            held_out.0,
            held_out.1
        );
    }
}
