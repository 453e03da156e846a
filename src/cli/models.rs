mod fetch;
pub(super) mod promote;
mod versions;

use crate::settings::open_options;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::SubsecRound;
use serde::Serialize;

use super::output::{print, print_json};
use super::retrain::{self, model_name};
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::format::percent_tenths;
use monitor_core::text::language;
use monitor_model::{self as classifier, Entry, FileState, Manifest, ModelId, NearDuplicates};
use monitor_train::data::{self, HELD_OUT};
use monitor_train::{CascadeRequest, training_time};

/// List, show, promote and remove models; fetch pretrained ones
///
/// Models are stored in model.directory of the settings as <name>/<version>/. A name (lstm)
/// means its promoted version; name@version (lstm@2) means that version. Which version scores the
/// stream is recorded in the database; promote and rollback switch it for all daemons at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all models with their figures on the held-out rows, or all versions of one side by side
    ///
    /// With a name: a column for each version, a line for each figure and each set of rows that a
    /// version was measured on. Figures in one line are those of exactly the same rows, which the
    /// first digits of their SHA-256 name.
    List(List),
    /// Show a model's manifest and figures, and whether its files are intact
    Show(Show),
    /// Promote this version of a model, unless it is worse
    ///
    /// Compares it with the version promoted now by ROC AUC (which does not depend on a
    /// threshold) on each data set that both were measured on: same name, same rows by SHA-256.
    /// Refuses, with both figures, if the new version loses more than 0.0005 on any of them, or
    /// if they share no data set. A small shared data set may refuse by chance: a few hundred
    /// rows cannot resolve 0.0005. Read both figures, and if chance decided, promote with
    /// --force. The first version of a name needs no comparison, but must be better than chance on
    /// its held-out rows: the 95 % interval of ROC AUC lies above 0.5 (with three classes: of macro
    /// recall, above 1/3). A version with damaged files is
    /// never promoted.
    ///
    /// If model.name of the settings names it and the database can be reached, the stream is
    /// switched too: the new version scores the stored tweets again that the baselines are learned
    /// from ([promotion] in the settings limits how many, and how fast), prints by how much each
    /// brand's share will jump, and is refused if that is more than promotion.jump_max. Then all
    /// daemons switch at the same minute of event time. It may be stopped at any point; run it
    /// again to continue.
    Promote(promote::Promote),
    /// Promote the previously promoted version again
    ///
    /// Repeat it to go further back. Removed versions are skipped. If the withdrawn version scores
    /// the stream, all daemons switch back at the same minute, within seconds.
    Rollback(promote::Rollback),
    /// Combine a cheap and a costly model: the cheap one scores the tweets it is sure of
    ///
    /// Fits a band of the cheap model's probabilities on rows outside both training sets: rows
    /// in the band are escalated to the costly model. It is the narrowest band that loses no
    /// more accuracy there than allowed. Registers the cascade as a separate model, measured on
    /// rows that neither model has seen; `monitor evaluate` measures its speed. The cascade
    /// works as long as both models exist.
    Cascade(Cascade),
    /// Remove a version from the disk
    ///
    /// Refuses the promoted version and the one that model.name of the settings names. Does not
    /// ask for confirmation. A daemon that has loaded the version continues to use it.
    Rm(Rm),
    Fetch(fetch::Args),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The versions of this name side by side
    #[arg(value_parser = model_name)]
    name: Option<String>,

    /// Print JSON: a list of objects with model, promoted, bytes, and manifest or problem
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// A model's name (its promoted version) or name@version
    name: String,

    /// Print JSON: model, folder, bytes, files, promotions and manifest
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Cascade {
    /// A name, such as logistic-tfidf, or name@version: scores every tweet
    #[arg(long, value_name = "NAME")]
    cheap: String,

    /// A name or name@version: scores the tweets that the cheap model is not sure of
    #[arg(long, value_name = "NAME", default_value = "transformer")]
    costly: String,

    /// Labelled tweets: the file that both were trained on, or one that neither has seen
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// Accuracy that may be lost against the costly model alone, in percentage points
    #[arg(long, value_name = "POINTS", default_value_t = 0.3, value_parser = points)]
    accuracy_loss_max: f64,

    /// Name of the model
    #[arg(long, value_name = "NAME", default_value = "cascade", value_parser = model_name)]
    name: String,

    /// Register the cascade without promoting it
    #[arg(long)]
    no_promote: bool,
}

fn points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
        _ => Err(format!("{text:?} is not a number of points from 0 to 100, such as 0.3")),
    }
}

#[derive(Debug, clap::Args)]
struct Rm {
    /// Which version, as name@version
    #[arg(value_name = "ID")]
    id: ModelId,

    /// Remove it even if it is promoted (the name then has no promoted version) or named by
    /// model.name
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, settings: Settings, commit: Option<&str>) -> anyhow::Result<()> {
    let directory = &settings.model.directory;
    let now = SystemClock::new().now();
    match args.command {
        Command::List(args) => list(directory, args.name.as_deref(), args.json),
        Command::Show(args) => show(directory, &args.name, args.json),
        Command::Promote(args) => promote::promote(&args, &settings),
        Command::Rollback(args) => promote::rollback(&args, &settings),
        Command::Cascade(args) => cascade(args, &settings, commit),
        Command::Rm(Rm { id, force }) => {
            if settings.model.name == id.to_string() && !force {
                bail!(
                    "model.name of the settings is {id}: name another model there first, or remove \
                     it with --force; a daemon with these settings then does not start"
                );
            }
            classifier::remove(directory, &id, force, now)?;
            print(&format!("{id} is removed\n"))
        }
        Command::Fetch(args) => fetch::run(&args),
    }
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Listed {
    model: String,
    promoted: bool,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

fn list(directory: &Path, name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let promoted = classifier::promoted(directory)?;
    let mut models = Vec::new();
    let mut ids = classifier::registered(directory)?;
    if let Some(name) = name {
        ids.retain(|id| id.name == name);
        let directory = directory.display();
        ensure!(!ids.is_empty(), "there is no model {name:?} in {directory} (monitor models list)");
    }
    for id in ids {
        let model = id.to_string();
        let (manifest, problem) = match classifier::read_manifest(directory, &model) {
            Ok(manifest) => (Some(manifest), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let promoted = promoted.get(&id.name) == Some(&id);
        let bytes = size(&classifier::folder(directory, &id))?;
        models.push(Listed { model, promoted, bytes, manifest, problem });
    }
    if json {
        print_json(&models)
    } else if models.is_empty() {
        let directory = directory.display();
        print(&format!("there are no models in {directory}; train one: monitor retrain\n"))
    } else if name.is_some() {
        print(&versions::side_by_side(&models))
    } else {
        print(&table(&models))
    }
}

fn cascade(args: Cascade, settings: &Settings, commit: Option<&str>) -> anyhow::Result<()> {
    let Cascade { cheap, costly, data: file, accuracy_loss_max, name, no_promote } = args;
    let data = data::read(&file)?;
    eprintln!("{}: {}; {} left", data.file, data.report, data.rows.len());
    let id = |name: &str| classifier::resolve(&settings.model.directory, name);
    let (cheap, costly) = (id(&cheap)?.to_string(), id(&costly)?.to_string());
    let command = format!(
        "monitor models cascade --cheap {cheap} --costly {costly} --data {} --accuracy-loss-max \
         {accuracy_loss_max} --name {name}",
        data.file
    );
    let models = &open_options(&settings.model);
    let commit = commit.map(str::to_owned);
    let promote = !no_promote;
    let request =
        CascadeRequest { name, cheap, costly, accuracy_loss_max, models, promote, commit, command };
    let registered =
        monitor_train::cascade(&request, &data).context("putting a cascade together")?;
    if let Some(figures) = registered.manifest.metrics.get(HELD_OUT) {
        let figure = |key: &str| figures.get(key).copied().unwrap_or_default();
        eprintln!(
            "{}: {} of the held-out rows are escalated; accuracy {:.4}, of {} alone {:.4}, of \
             {} alone {:.4}",
            registered.manifest.id(),
            percent_tenths(figure("escalated_share")),
            figure("accuracy"),
            request.cheap,
            figure("cheap_accuracy"),
            request.costly,
            figure("costly_accuracy")
        );
    }
    retrain::print(&registered, &models.directory)
}

/// Bytes of all files of a version.
fn size(folder: &Path) -> anyhow::Result<u64> {
    let bytes =
        || fs::read_dir(folder)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()));
    bytes().map_err(|error: std::io::Error| anyhow::anyhow!("{}: {error}", folder.display()))
}

fn table(models: &[Listed]) -> String {
    let mut rows = vec![
        ["model", "", "family", "accuracy", "ROC AUC", "rows", "size", "trained", "took", "on"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for Listed { model, promoted, bytes, manifest, problem } in models {
        let mark = if *promoted { "promoted" } else { "" };
        let mut row = vec![model.clone(), mark.to_owned()];
        if let Some(manifest) = manifest {
            let held_out = manifest.metrics.get(HELD_OUT);
            let figure = |key: &str, places: usize| {
                let value = held_out.and_then(|figures| figures.get(key));
                value.map_or("-".to_owned(), |value| format!("{value:.places$}"))
            };
            row.extend([
                manifest.architecture.family().to_owned(),
                figure("accuracy", 4),
                figure("roc_auc", 4),
                figure("rows", 0),
                megabytes(*bytes),
                manifest.trained_at.date_naive().to_string(),
                training_time(manifest.minutes),
                manifest.data.file.clone(),
            ]);
        }
        row.extend(problem.clone());
        rows.push(row);
    }
    aligned(&rows)
}

/// Aligns columns; the last cell of a row does not widen its column.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().take(row.len() - 1).enumerate() {
            if widths.len() == column {
                widths.push(0);
            }
            widths[column] = widths[column].max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths.iter().chain([&0])) {
            write!(line, "{cell:width$}  ").expect("writing to a string cannot fail");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// What `show` prints.
#[derive(Debug, Serialize)]
struct Shown {
    model: String,
    promoted: bool,
    folder: PathBuf,
    bytes: u64,
    files: BTreeMap<String, FileState>,
    promotions: Vec<Entry>,
    manifest: Manifest,
}

fn show(directory: &Path, name: &str, json: bool) -> anyhow::Result<()> {
    let id = classifier::resolve(directory, name)?;
    let manifest = classifier::read_manifest(directory, &id.to_string())?;
    let folder = classifier::folder(directory, &id);
    let promotions = classifier::history(directory, &id.name)?;
    let shown = Shown {
        model: id.to_string(),
        promoted: classifier::promoted(directory)?.get(&id.name) == Some(&id),
        bytes: size(&folder)?,
        files: classifier::verify(&folder, &manifest)?,
        promotions: promotions.into_iter().filter(|e| e.version == id.version).collect(),
        folder,
        manifest,
    };
    if json { print_json(&shown) } else { print(&text(&shown)?) }
}

fn text(shown: &Shown) -> anyhow::Result<String> {
    let manifest = &shown.manifest;
    let data = &manifest.data;
    let architecture = serde_json::to_value(&manifest.architecture)?;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<12}{text}").expect("writing to a string cannot fail");
    };
    line("model", shown.model.clone());
    line("family", manifest.architecture.family().into());
    line("in use", if shown.promoted { "yes: its name opens it" } else { "no" }.into());
    for entry in &shown.promotions {
        let since = entry.at.map_or("before there were dates".to_owned(), |at| at.to_string());
        let until = entry.withdrawn.map_or(String::new(), |at| format!(", withdrawn {at}"));
        line("promoted", since + &until);
    }
    line("shape", shape(&architecture["architecture"]));
    line("parameters", format!("{}, of which {} learned", manifest.parameters, manifest.trainable));
    line("text", format!("preset {}", manifest.preset));
    let calibration = manifest.calibration;
    line(
        "calibration",
        format!(
            "temperature {}, negative from {} upwards{}",
            calibration.temperature,
            calibration.threshold,
            calibration.positive.map_or(String::new(), |it| format!(
                "; of the others, temperature {}, positive from {} upwards",
                it.temperature, it.threshold
            ))
        ),
    );
    line(
        "classes",
        manifest.classes.labels().iter().map(|it| it.word()).collect::<Vec<_>>().join(", "),
    );
    line("languages", manifest.languages.iter().map(language::name).collect::<Vec<_>>().join(", "));
    line("data", format!("{} (SHA-256 {})", data.file, data.sha256));
    data.more.iter().for_each(|more| line("split likewise", more.to_string()));
    data.also.iter().for_each(|also| line("also", also.to_string()));
    data.calibrate.iter().for_each(|source| line("fitted on", source.to_string()));
    data.embeddings.iter().for_each(|source| line("begun with", source.to_string()));
    data.teachers.iter().for_each(|teacher| line("taught by", teacher.to_string()));
    line(
        "rows",
        format!(
            "{} to learn from, {} to validate, {} held out, split by {} with seed {}",
            data.rows_train, data.rows_validation, data.rows_held_out, data.split, manifest.seed
        ),
    );
    if data.near_duplicates != NearDuplicates::default() {
        line("left out", data.near_duplicates.to_string());
    }
    line(
        "trained",
        format!("{}, {}", manifest.trained_at.trunc_subsecs(0), training_time(manifest.minutes)),
    );
    line("machine", manifest.machine.clone());
    line("command", manifest.command.clone());
    let libraries = manifest.libraries.iter().map(|(name, version)| format!("{name} {version}"));
    let commit = manifest.commit.iter().map(|commit| format!("commit {commit}"));
    line("program", libraries.chain(commit).collect::<Vec<_>>().join(", "));
    for (data, figures) in &manifest.metrics {
        let figures: Vec<_> = figures
            .iter()
            .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
            .collect();
        line("measured", format!("on {data}: {}", figures.join(", ")));
    }
    line("folder", format!("{} ({})", shown.folder.display(), megabytes(shown.bytes)));
    line("card", shown.folder.join(classifier::CARD).display().to_string());
    for (name, state) in &shown.files {
        line(state.as_str(), name.clone());
    }
    Ok(out)
}

/// The shape of a family's network, as in the manifest.
fn shape(architecture: &serde_json::Value) -> String {
    let fields = architecture.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}
