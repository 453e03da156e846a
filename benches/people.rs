//! Is the share of negative tweets that of the tweets that people would call negative?
//!
//! Every shipped model on tweets that people labelled and that it never learned from: airline
//! tweets, and tweets about 100 topics with the share of each topic. Beside them, the emoticons of
//! sentiment140 of unseen authors. Rows that a model learned from are recognised and left out.
//!
//! `scripts/bench people [--data ../shared/data] [--models models] [--json FILE]`

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report};
use monitor::settings::open_options;
use monitor_config as config;
use monitor_model as classifier;
use monitor_train::data::{self, Dataset};
use monitor_train::report::{self, ByColumn};
use serde_json::json;

/// The files: a name for people, the path below `--data`, and the column whose values are compared.
const SETS: [(&str, &str, Option<&str>); 3] = [
    ("airlines", "airline/Tweets.csv.xz", Some("airline")),
    ("topics", "topics/semeval-2016-topics.tsv.xz", Some("topic")),
    ("emoticons", "sentiment140/training.249010.processed.noemoticon.csv.xz", None),
];

/// Measures the shipped models on tweets that people labelled
#[derive(Parser)]
struct Args {
    /// Folder with airline/, topics/ and sentiment140/
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"))]
    data: PathBuf,
    /// Folder of models
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models"))]
    models: PathBuf,
    /// Only this model; may be repeated
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut names: Vec<String> = classifier::promoted(&args.models)?.into_keys().collect();
    names.retain(|name| args.model.is_empty() || args.model.contains(name));
    ensure!(!names.is_empty(), "no model in {}", args.models.display());
    let mut report = Report::new("people", json!({"models": names}));
    for (set, path, by) in SETS {
        let path = args.data.join(path);
        let data = data::read_with_columns(&path)
            .with_context(|| format!("--data names the folder of {}", path.display()))?;
        println!("\n{set}: {} rows", data.rows.len());
        println!(
            "{:<16} {:>6} {:>24} {:>24} {:>10} {:>9} {:>18} {:>9} {:>6}",
            "model",
            "rows",
            "macro recall",
            "ROC AUC",
            "neutral",
            "negative",
            "share: labels/calls",
            "MAE",
            "corr."
        );
        for name in &names {
            let row = measure(&args.models, name, &data, by)?;
            println!("{}", line(name, &row));
            let errors = row.by.as_ref().and_then(|by| by.share_errors);
            report.row(set, json!({"model": name, "figures": row.figures, "share": errors}));
        }
    }
    println!(
        "\nmacro recall: mean recall of the classes (emoticons: accuracy on two classes); ROC AUC: \
         negative against the rest; neutral, negative: share of them called negative; MAE, corr.: of \
         the share of each airline or topic with 50 tweets or more, as called and corrected. In \
         brackets: 95 % intervals."
    );
    report.write(&args.output)
}

struct Row {
    figures: BTreeMap<String, f64>,
    by: Option<ByColumn>,
}

/// Measures a model on the rows of a file that it did not learn from.
fn measure(models: &Path, name: &str, data: &Dataset, by: Option<&str>) -> anyhow::Result<Row> {
    let settings =
        config::Model { name: name.to_owned(), directory: models.to_owned(), ..Default::default() };
    let known = classifier::known(models, name)?;
    let selection = data::select(data, &known, None)?;
    let mut model = classifier::open(&open_options(&settings), name)?;
    let scored = report::score(&mut model, &selection.rows)?;
    let rows = report::predictions(&scored);
    let at = by.and_then(|by| data.columns.iter().position(|column| column == by));
    let by = at.map(|at| {
        let values = selection.rows.iter().map(|row| row.columns[at].as_str());
        let rows: Vec<_> = rows.iter().copied().zip(values).collect();
        ByColumn::of(&data.columns[at], &known[0].manifest, &rows, model.thresholds)
    });
    Ok(Row { figures: report::figures(&rows, model.thresholds), by })
}

fn line(name: &str, Row { figures, by }: &Row) -> String {
    let figure = |name: &str| figures.get(name).copied();
    let show = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let with_interval = |name: &str| {
        let [value, low, high] = ["", "_low", "_high"].map(|end| figure(&format!("{name}{end}")));
        match (low, high) {
            (Some(low), Some(high)) => format!("{} ({low:.3} to {high:.3})", show(value)),
            _ => show(value),
        }
    };
    let recall = if figure("macro_recall").is_some() { "macro_recall" } else { "accuracy" };
    let errors = by.as_ref().and_then(|by| by.share_errors);
    let mae = errors.map_or("-".into(), |it| match it.corrected {
        Some(corrected) => format!("{:.3}/{:.3}", it.called, corrected.corrected),
        None => format!("{:.3}/-", it.called),
    });
    let share = [figure("negative_share"), figure("negative_share_called")].map(show).join("/");
    format!(
        "{name:<16} {:>6} {:>24} {:>24} {:>10} {:>9} {share:>18} {mae:>9} {:>6}",
        figure("rows").unwrap_or(0.0),
        with_interval(recall),
        with_interval("roc_auc"),
        show(figure("neutral_called_negative")),
        show(figure("negative_recall")),
        show(errors.and_then(|it| it.correlation)),
    )
}
