//! Is the share of negative tweets that of the tweets that people would call negative?
//!
//! Every shipped model on tweets that people labelled and that it never learned from: airline
//! tweets, and tweets about 100 topics with the share of each topic. The topics' tweets have two
//! labels: of SemEval-2016's subtask C (five points, here three classes) and of its subtask A, whose
//! rule the SemEval tweets follow that the models learn from. Beside them, the emoticons of
//! sentiment140 of unseen authors. Rows that a model learned from are recognised and left out.
//!
//! `scripts/bench people [--data ../shared/data] [--models models] [--json FILE]`

mod common;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report};
use monitor::settings::open_options;
use monitor_config as config;
use monitor_core::domain::{Label, LabelThresholds, Probabilities, Probability};
use monitor_model::{self as classifier, Manifest};
use monitor_train::data::{self, Dataset};
use monitor_train::fit::Prediction;
use monitor_train::report::{self, ByColumn};
use serde_json::json;

const TOPICS: &str = "topics/semeval-2016-topics.tsv.xz";
/// Has the labels of subtask A for the ids of [`TOPICS`].
const SEMEVAL: &str = "semeval/semeval-2013-2016-taskA.tsv.xz";
/// The files: a name for people, the path below `--data`, the file whose labels replace those of the
/// same ids, and the column whose values are compared.
const SETS: [(&str, &str, Option<&str>, Option<&str>); 4] = [
    ("airlines", "airline/Tweets.csv.xz", None, Some("airline")),
    ("topics", TOPICS, None, Some("topic")),
    ("topics, subtask A", TOPICS, Some(SEMEVAL), Some("topic")),
    ("emoticons", "sentiment140/training.249010.processed.noemoticon.csv.xz", None, None),
];

/// Measures the shipped models on tweets that people labelled
#[derive(Parser)]
struct Args {
    /// Folder with airline/, topics/, semeval/ and sentiment140/
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
    for (set, path, labels, by) in SETS {
        let mut data = read(&args.data, path)?;
        let others = match labels {
            Some(labels) => Some(relabel(&mut data, &read(&args.data, labels)?)?),
            None => None,
        };
        println!("\n{set}: {} rows", data.rows.len());
        println!(
            "{:<16} {:>6} {:>24} {:>24} {:>10} {:>9} {:>18} {:>11} {:>6}",
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
        let mut print = |name: &str, row: &Row| {
            println!("{}", line(name, row));
            let errors = row.by.as_ref().and_then(|by| by.share_errors);
            report.row(set, json!({"model": name, "figures": row.figures, "share": errors}));
        };
        for name in &names {
            print(name, &measure(&args.models, name, &data, by)?);
        }
        if let Some(others) = others {
            let known = classifier::known(&args.models, &names[0])?;
            print("other people", &people(&known[0].manifest, &data, &others, by));
        }
    }
    println!(
        "\nmacro recall: mean recall of the classes (emoticons: accuracy on two classes); ROC AUC: \
         negative against the rest; neutral, negative: share of them called negative; MAE, corr.: of \
         the share of each airline or topic with 50 tweets or more, as called and corrected; other \
         people: the labels of `topics` measured by those of subtask A. In brackets: 95 % intervals."
    );
    report.write(&args.output)
}

fn read(folder: &Path, path: &str) -> anyhow::Result<Dataset> {
    let path = folder.join(path);
    data::read_with_columns(&path)
        .with_context(|| format!("--data names the folder of {}", path.display()))
}

/// Gives each row the label that `labels` has for its id, leaves out the rows without one, and returns
/// the labels of before.
fn relabel(data: &mut Dataset, labels: &Dataset) -> anyhow::Result<Vec<Label>> {
    let [at, from] = [&*data, labels].map(|it| it.columns.iter().position(|name| name == "id"));
    let (at, from) = at.zip(from).context("a file has no column `id`")?;
    let labels: HashMap<&str, Label> =
        labels.rows.iter().map(|row| (&*row.columns[from], row.label)).collect();
    let mut before = Vec::new();
    data.rows.retain_mut(|row| {
        let Some(label) = labels.get(&*row.columns[at]) else { return false };
        before.push(mem::replace(&mut row.label, *label));
        true
    });
    Ok(before)
}

/// How near the labels of `data` come to those that other people gave the same rows.
fn people(manifest: &Manifest, data: &Dataset, others: &[Label], by: Option<&str>) -> Row {
    let sure = |label: Label| {
        let is = |it: Label| f32::from(u8::from(label == it));
        Probabilities::new(is(Label::Negative), is(Label::Neutral)).expect("0 and 1")
    };
    let rows: Vec<Prediction> = (data.rows.iter().zip(others))
        .map(|(row, other)| Prediction { probabilities: sure(*other), label: row.label })
        .collect();
    let all: Vec<&data::Row> = data.rows.iter().collect();
    let mut row = Row::of(&rows, &all, &data.columns, by, manifest, Probability::HALF.into());
    if let Some(errors) = row.by.as_mut().and_then(|by| by.share_errors.as_mut()) {
        errors.corrected = None;
    }
    row
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
    let thresholds = model.thresholds;
    Ok(Row::of(&rows, &selection.rows, &data.columns, by, &known[0].manifest, thresholds))
}

impl Row {
    fn of(
        predictions: &[Prediction],
        rows: &[&data::Row],
        columns: &[String],
        by: Option<&str>,
        manifest: &Manifest,
        thresholds: LabelThresholds,
    ) -> Self {
        let at = by.and_then(|by| columns.iter().position(|column| column == by));
        let by = at.map(|at| {
            let values = rows.iter().map(|row| row.columns[at].as_str());
            let rows: Vec<_> = predictions.iter().copied().zip(values).collect();
            ByColumn::of(&columns[at], manifest, &rows, thresholds)
        });
        Self { figures: report::figures(predictions, thresholds), by }
    }
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
        "{name:<16} {:>6} {:>24} {:>24} {:>10} {:>9} {share:>18} {mae:>11} {:>6}",
        figure("rows").unwrap_or(0.0),
        with_interval(recall),
        with_interval("roc_auc"),
        show(figure("neutral_called_negative")),
        show(figure("negative_recall")),
        show(errors.and_then(|it| it.correlation)),
    )
}
