//! The machine-readable report of a benchmark: `--json FILE`.
//!
//! **Invariant.** The file has the numbers that the benchmark prints, and what is needed to
//! judge them: the command line, the date, the processor, the versions. Deliberately absent:
//! the host's name, paths outside the command line, and comparisons with earlier reports.

#![allow(dead_code, reason = "a benchmark without rounds uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use monitor_core::clock::{Clock, SystemClock};
use serde_json::{Map, Value, json};

/// Processor features that matter for the speed of a model.
const FEATURES: [&str; 5] = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8"];

/// The argument that all benchmarks share.
#[derive(clap::Args)]
pub struct Output {
    /// Also writes the printed numbers to this file as JSON, with the command line, the date
    /// (UTC), the processor and the versions
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a benchmark measured.
pub struct Report {
    benchmark: &'static str,
    /// Conditions of the measurement, such as the number of rows.
    pub conditions: Value,
    results: Map<String, Value>,
}

impl Report {
    /// An empty report of that benchmark.
    pub fn new(benchmark: &'static str, conditions: Value) -> Self {
        Self { benchmark, conditions, results: Map::new() }
    }

    /// Adds a row to the table of that name.
    pub fn row(&mut self, table: &str, row: Value) {
        let rows = self.results.entry(table).or_insert_with(|| json!([]));
        rows.as_array_mut().expect("a table is an array").push(row);
    }

    /// Adds a single value.
    pub fn value(&mut self, name: &str, value: Value) {
        self.results.insert(name.to_owned(), value);
    }

    /// Writes the report, if `--json` is given.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, output: &Output) -> anyhow::Result<()> {
        let Some(path) = &output.json else { return Ok(()) };
        let report = json!({
            "benchmark": self.benchmark,
            "command": command_line(),
            "date": SystemClock::new().now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "machine": machine(),
            "versions": versions(),
            "conditions": self.conditions,
            "results": self.results,
        });
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Minimum, median and maximum of the rounds, and the rounds in their order.
///
/// # Panics
/// If `rounds` is empty.
pub fn spread(rounds: &[f64]) -> Value {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    json!({
        "minimum": sorted[0],
        "median": sorted[sorted.len() / 2],
        "maximum": sorted[sorted.len() - 1],
        "rounds": rounds,
    })
}

/// The arguments after the name of the benchmark, without the one that cargo adds and without
/// `--json FILE`. Of a path stays its last part: a report contains no path of a machine.
fn command_line() -> String {
    let program = std::env::args().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().unwrap_or_default().to_string_lossy();
    // Cargo appends a hash to the name.
    let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name).to_owned();
    let mut arguments = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        if argument == "--json" {
            given.next();
        } else if argument != "--bench" && !argument.starts_with("--json=") {
            let last = argument.rsplit_once('/').map_or(&*argument, |(_, last)| last);
            arguments.push(last.to_owned());
        }
    }
    let command = ["scripts/bench".to_owned(), name].into_iter().chain(arguments);
    command.collect::<Vec<_>>().join(" ")
}

/// Processor, its features, and the number of cores that this process may use.
fn machine() -> Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flags: Vec<&str> = field("flags").split_whitespace().collect();
    let features: BTreeMap<&str, bool> =
        FEATURES.iter().map(|feature| (*feature, flags.contains(feature))).collect();
    json!({
        "processor": field("model name"),
        "features": features,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Versions of the program, the compiler and the kernel.
fn versions() -> Value {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let output = output.filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    json!({
        "monitor": env!("CARGO_PKG_VERSION"),
        "commit": output("git", &["rev-parse", "HEAD"]),
        "uncommitted_changes": output("git", &["status", "--porcelain"]).map(|it| !it.is_empty()),
        "rustc": output("rustc", &["--version"]),
        "kernel": output("uname", &["-sr"]),
    })
}
