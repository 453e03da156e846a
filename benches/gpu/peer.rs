//! The same shapes in PyTorch: `gpu.py`, in a process of its own.
//!
//! **Invariant.** It sees the same lengths and the same budgets of a pass as our network, and ends
//! in time; what it had measured until then counts. Deliberately absent: parity, as its weights are random.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use monitor_core::clock::Clock;
use monitor_model::TransformerShape;
use serde::Deserialize;
use serde_json::json;

use super::{Bench, ROUNDS, ROUNDS_SECONDS, SCRIPT, median};

const SECONDS_MAX: u64 = 220;

/// A line of its output about a measurement.
#[derive(Deserialize)]
pub struct Line {
    pub shape: String,
    pub compiled: bool,
    pub tokens_max: usize,
    /// Of each round.
    #[serde(default)]
    seconds: Vec<f64>,
    error: Option<String>,
}

impl Line {
    /// Seconds of the median round, if it was measured.
    pub fn median(&self) -> Option<f64> {
        (!self.seconds.is_empty()).then(|| median(&self.seconds))
    }
}

/// Measures the shapes with these names, on tweets of these lengths.
pub fn measure(
    bench: &mut Bench,
    shapes: &[(&str, TransformerShape)],
    lengths: &[usize],
) -> anyhow::Result<()> {
    let shape = |(name, it): &(&str, TransformerShape)| {
        json!({
            "name": name, "layers": it.layers, "width": it.width, "heads": it.heads,
            "vocabulary": it.vocabulary,
        })
    };
    let task = json!({
        "device": if bench.is_gpu() { "cuda:0" } else { "cpu" },
        "half": bench.is_half(),
        "threads": bench.args.threads,
        "seconds": ROUNDS_SECONDS,
        "rounds": ROUNDS,
        "shapes": shapes.iter().map(shape).collect::<Vec<_>>(),
        "lengths": lengths,
        "budgets": bench.sizes.budgets,
    });
    let folder = tempfile::tempdir()?;
    let (task_file, lines_file) = (folder.path().join("task.json"), folder.path().join("lines"));
    fs::write(&task_file, task.to_string())?;
    let mut python = Command::new(&bench.args.python);
    python.arg(SCRIPT).arg(&task_file).stdout(File::create(&lines_file)?);
    let began = bench.clock.elapsed();
    let mut child = python.spawn().with_context(|| format!("cannot start {python:?}"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if bench.clock.elapsed() - began > Duration::from_secs(SECONDS_MAX) {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut errors = Vec::new();
    for line in fs::read_to_string(&lines_file)?.lines() {
        // The last line may be cut.
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let Ok(line) = serde_json::from_value::<Line>(value.clone()) else {
            println!("Python: {line}");
            bench.report.value("python", value);
            continue;
        };
        match (&line.error, line.median()) {
            // It needs a C compiler, which not every machine has.
            (Some(error), _) if line.compiled => {
                println!("{}, compiled: not measured: {error}", line.shape);
            }
            (Some(error), _) => errors.push(format!("{}: {error}", line.shape)),
            (None, seconds) => {
                let rate = lengths.len() as f64 / seconds.unwrap_or(f64::NAN);
                println!(
                    "{}, {} tokens a pass, {}: {rate:.0} tweets/s",
                    line.shape,
                    line.tokens_max,
                    if line.compiled { "compiled" } else { "eager" },
                );
            }
        }
        bench.report.row("pytorch", value);
        bench.peers.push(line);
    }
    let status = status.with_context(|| format!("not finished after {SECONDS_MAX} s"))?;
    ensure!(status.success(), "{} ended with {status}", bench.args.python.display());
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(())
}
