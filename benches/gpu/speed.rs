//! Our own networks alone: their speed, parity between devices, and what they do where memory is
//! missing.
//!
//! **Invariant.** Lengths are those of real tweets. Deliberately absent: quality; the network of
//! DistilBERT's shape has random weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::thread;

use anyhow::{Context, bail, ensure};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Label, Precision, Probabilities};
use monitor_core::text::Analyzer;
use monitor_model::{
    self as classifier, Architecture, ArtifactError, Calibration, Encoding, GENERATOR, Network,
    NewArtifact, Transformer, TransformerConfig, TransformerFiles, TransformerShape,
};
use serde_json::json;
use tch::{Cuda, Device, Kind, Tensor};

use super::{Bench, LSTM, median, rounds};

/// Batches that the daemon tokenises at a time.
const ENCODERS: usize = 4;
/// Largest differences of a probability that are rounding.
const SINGLE_MAX: f32 = 1e-4;
const HALF_MAX: f32 = 0.05;
/// What is left of the memory before a pass that is too large.
const LEFT_BYTES: i64 = 512 << 20;
/// What is left beside it may be as much.
const PIECE_BYTES_MIN: i64 = 4 << 20;
const TOO_MANY_TOKENS: usize = 1 << 20;

/// FLOP/s of a large matrix product.
pub fn matrix_product(device: Device, kind: Kind, size: i64) -> f64 {
    let wait = || {
        if let Device::Cuda(number) = device {
            Cuda::synchronize(number as i64);
        }
    };
    let matrix = Tensor::randn([size, size], (Kind::Float, device)).to_kind(kind);
    let products = if device.is_cuda() { 16 } else { 1 };
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        wait();
        let clock = SystemClock::new();
        for _ in 0..products {
            let _ = matrix.matmul(&matrix);
        }
        wait();
        best = best.min(clock.elapsed().as_secs_f64());
    }
    products as f64 * 2.0 * (size as f64).powi(3) / best
}

/// Writes a model of DistilBERT's shape with random weights, which reads texts as the model `name` does.
pub fn random_distilbert(models: &Path, name: &str, folder: &Path) -> anyhow::Result<String> {
    let mut manifest = classifier::read_manifest(models, name)?;
    let from = classifier::folder(models, &manifest.id());
    let Architecture::Transformer(shipped) = manifest.architecture else {
        bail!("{} is not a transformer", manifest.id())
    };
    let labels = json!({"0": "negative", "1": "neutral", "2": "positive"});
    let config = json!({"model_type": "distilbert", "id2label": labels}).to_string().into_bytes();
    let parsed = TransformerConfig::parse(&config).map_err(anyhow::Error::msg)?;
    let network = {
        let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        Transformer::new(&parsed, shipped.tokens_max, Device::Cpu)
    };
    manifest.name = "distilbert-shape".into();
    manifest.architecture = Architecture::Transformer(parsed.shape(shipped.tokens_max));
    manifest.calibration = Calibration::NONE;
    manifest.classes = parsed.classes();
    let read = |file| fs::read(from.join(file)).with_context(|| format!("cannot read {file}"));
    let files = TransformerFiles {
        config,
        tokenizer: read("tokenizer.json")?,
        tokenizer_config: read("tokenizer_config.json")?,
    };
    let artifact = NewArtifact {
        manifest,
        weights: network.weights(),
        vocabulary: None,
        analyzer: Analyzer::tweet(),
        ngrams: None,
        transformer: Some(files),
        extra: BTreeMap::new(),
    };
    let written = classifier::register(folder, artifact, Device::Cpu, |_, _| {
        Ok::<_, ArtifactError>(String::new())
    })?;
    Ok(written.id().to_string())
}

/// Compares the scores of the CPU in single precision with those of the device.
pub fn parity(bench: &mut Bench) -> anyhow::Result<()> {
    let rows = bench.sizes.parity_rows.min(bench.tweets.len());
    let texts: Vec<&str> = bench.tweets[..rows].iter().map(String::as_str).collect();
    let cases = [("single", Precision::Single, SINGLE_MAX), ("half", Precision::Bf16, HALF_MAX)];
    let (mut lines, mut too_far) = (Vec::new(), Vec::new());
    println!("{:?} beside the CPU in single precision, {rows} tweets:\n", bench.device);
    println!(
        "| model | precision | largest difference | labels that change |\n| --- | --- | ---: | ---: |"
    );
    for model in [bench.args.model.as_str(), LSTM] {
        let open = |device: &str, precision| {
            bench.open(&bench.args.models, model, device, precision, None)
        };
        let mut cpu = open("cpu", Precision::Single)?;
        let (expected, thresholds) = (cpu.score(&texts)?, cpu.thresholds);
        for (precision, opened, limit) in cases {
            let found = open(&bench.args.device, opened)?.score(&texts)?;
            let pairs = || expected.iter().zip(&found);
            let difference = pairs().map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
            let labels = pairs().filter(|(a, b)| thresholds.label(**a) != thresholds.label(**b));
            let changed = labels.count() as f64 / rows as f64;
            println!("| {model} | {precision} | {difference:.1e} | {:.2} % |", 100.0 * changed);
            lines.push(json!({
                "model": model, "precision": precision, "tweets": rows,
                "largest_difference": difference, "share_of_labels_changed": changed,
            }));
            if difference > limit {
                too_far
                    .push(format!("{model} in {precision} precision differs by more than {limit}"));
            }
        }
    }
    lines.into_iter().for_each(|line| bench.report.row("parity", line));
    ensure!(too_far.is_empty(), "{}", too_far.join("; "));
    Ok(())
}

/// The largest difference of a class.
fn apart(a: &Probabilities, b: &Probabilities) -> f32 {
    Label::ALL
        .iter()
        .map(|label| (a.of(*label).get() - b.of(*label).get()).abs())
        .fold(0.0, f32::max)
}

/// Tweets a second through the tokenizer alone.
pub fn tokenising(bench: &mut Bench) -> anyhow::Result<()> {
    let encoder = bench.open_shipped("cpu", Precision::Single, None)?.encoder;
    let texts = &bench.tweets;
    for threads in [1, ENCODERS] {
        let part = texts.len().div_ceil(threads);
        let seconds = rounds(|| {
            thread::scope(|scope| {
                for part in texts.chunks(part) {
                    let encoder = &encoder;
                    scope.spawn(move || part.iter().for_each(|text| drop(encoder.encode(text))));
                }
            });
            Ok(())
        })?;
        let rate = texts.len() as f64 / median(&seconds);
        println!("{threads} at a time: {rate:.0} tweets/s");
        bench.report.row("tokenising", json!({"threads": threads, "tweets_per_second": rate}));
    }
    Ok(())
}

/// Tweets a second of a network, beside those of PyTorch: `label` is its name there.
pub fn network(
    bench: &mut Bench,
    folder: &Path,
    model: &str,
    label: &str,
    shape: TransformerShape,
) -> anyhow::Result<()> {
    let open = |bench: &Bench, budget| {
        bench.open(folder, model, &bench.args.device, Precision::Auto, budget)
    };
    let texts: Vec<&str> = bench.texts().collect();
    let encodings = bench.encodings(&open(bench, None)?);
    let rows: Vec<&Encoding> = encodings.iter().cycle().take(texts.len()).collect();
    let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
    // As in classifier.rs: two operations for each weight of the layers; in ours only those of
    // queries, keys and values in the last layer, because the rest is computed for the first token alone.
    let weights = |parts: usize| (parts * shape.width * shape.width) as f64;
    let (ours, theirs) = (weights(12 * (shape.layers - 1) + 3), weights(12 * shape.layers));
    let share = |weights: f64, seconds: f64| 2.0 * weights * tokens as f64 / seconds / bench.peak;
    let mut lines = Vec::new();
    println!(
        "| tokens of a pass | tweets/s | share of a matrix product | PyTorch, eager | its share | x \
         | compiled | its share | x |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for budget in bench.sizes.budgets {
        let mut model = open(bench, Some(*budget))?;
        let seconds = median(&rounds(|| model.classify(&rows).map(drop).map_err(Into::into))?);
        let rate = |seconds: f64| rows.len() as f64 / seconds;
        let mut line = json!({
            "network": label, "tokens_max": budget, "tweets": rows.len(), "tokens": tokens,
            "tweets_per_second": rate(seconds),
            "share_of_a_matrix_product": share(ours, seconds),
        });
        let mut cells =
            format!("| {budget} | {:.0} | {:.1} % |", rate(seconds), 100.0 * share(ours, seconds));
        for (name, compiled) in [("eager", false), ("compiled", true)] {
            let is_it = |peer: &&super::peer::Line| {
                (peer.shape.as_str(), peer.compiled, peer.tokens_max) == (label, compiled, *budget)
            };
            let Some(peer) = bench.peers.iter().find(is_it).and_then(super::peer::Line::median)
            else {
                cells += " - | - | - |";
                continue;
            };
            cells += &format!(
                " {:.0} | {:.1} % | {:.2} |",
                rate(peer),
                100.0 * share(theirs, peer),
                peer / seconds
            );
            line[format!("ratio_to_pytorch_{name}")] = (peer / seconds).into();
            line[format!("pytorch_{name}_share_of_a_matrix_product")] = share(theirs, peer).into();
        }
        println!("{cells}");
        lines.push(line);
    }
    let mut model = open(bench, None)?;
    let seconds = median(&rounds(|| model.score(&texts).map(drop).map_err(Into::into))?);
    let from_text = texts.len() as f64 / seconds;
    println!(
        "\nfrom text, tokenising first and computing then, one thread each: {from_text:.0} tweets/s"
    );
    lines.push(json!({"network": label, "from_text": true, "tweets_per_second": from_text}));
    lines.into_iter().for_each(|line| bench.report.row("networks", line));
    Ok(())
}

/// Whether a pass that is too large for the memory is halved, and every row gets its score.
pub fn out_of_memory(bench: &mut Bench, folder: &Path, model: &str) -> anyhow::Result<()> {
    let Device::Cuda(_) = bench.device else {
        println!("skipped: no GPU");
        bench.report.value("out_of_memory", "skipped: no GPU".into());
        return Ok(());
    };
    let open = |budget| bench.open(folder, model, &bench.args.device, Precision::Auto, budget);
    let mut usual = open(None)?;
    let encodings = bench.encodings(&usual);
    let rows: Vec<&Encoding> = encodings.iter().cycle().take(TOO_MANY_TOKENS / 32).collect();
    let expected = usual.classify(&rows)?;
    let mut greedy = open(Some(TOO_MANY_TOKENS))?;
    let held = fill(bench.device)?;
    let found = greedy.classify(&rows)?;
    drop(held);
    let budget = greedy.classifier.tokens_max().unwrap_or(TOO_MANY_TOKENS);
    let difference = expected.iter().zip(&found).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
    println!(
        "passes of {TOO_MANY_TOKENS} tokens became passes of {budget}; {} of {} rows have a score; largest \
         difference from those with enough memory {difference:.1e}",
        found.len(),
        rows.len()
    );
    bench.report.value(
        "out_of_memory",
        json!({
            "tokens_max_before": TOO_MANY_TOKENS, "tokens_max_after": budget, "rows": rows.len(),
            "scores": found.len(), "largest_difference": difference,
        }),
    );
    ensure!(budget < TOO_MANY_TOKENS, "memory did not run out");
    ensure!(found.len() == rows.len() && difference <= HALF_MAX, "scores are missing or differ");
    Ok(())
}

/// Takes all memory of the device but [`LEFT_BYTES`].
fn fill(device: Device) -> anyhow::Result<Vec<Tensor>> {
    let take = |bytes| Tensor::f_empty([bytes], (Kind::Uint8, device));
    let left = take(LEFT_BYTES)?;
    let (mut held, mut bytes) = (Vec::new(), 64 << 30);
    while bytes >= PIECE_BYTES_MIN {
        match take(bytes) {
            Ok(tensor) => held.push(tensor),
            Err(_) => bytes /= 2,
        }
    }
    drop(left);
    Ok(held)
}
