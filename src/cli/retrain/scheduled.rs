//! `monitor retrain --scheduled`: trains as `[retrain]` of the settings says, and promotes a better
//! version.
//!
//! **Invariant.** What became of it is in the table `retrainings`, whatever it is. One retraining runs at
//! a time in a folder of models. Labels that measure are never learned from: whether a label does depends on
//! its text alone, so the version before did not learn from it either.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::files::WeightedFile;
use super::{Args, Stopped};
use crate::cli::labels::{LabelledText, LabelledTexts, labelled_texts, write_labelled};
use crate::cli::models::promote;
use crate::cli::output::{one_line, print};
use crate::cli::signals::stop_on_signals;
use crate::cli::{Cli, Command, with_store};
use crate::pipeline::{RETRAINING_BUSY, RETRAINING_FOLDER};
use crate::settings::open_options;
use monitor_config::{Model, Retrain, Settings};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Classes;
use monitor_core::text::{identity, unit_interval};
use monitor_model::{self as classifier, ArtifactError, Known, ModelId};
use monitor_store::{RetrainOutcome, RetrainReason, Retraining, Store as _};
use monitor_train::data::{self, Dataset, DatasetError, SelectionError};
use monitor_train::fit::{self, Family, Prediction};
use monitor_train::report::PairedRecall;

/// Share of the labels of random samples that are measured on and not learned from.
const MEASURED_SHARE: f64 = 0.2;
/// Decides which labels these are; never changes, or a model would be measured on what it learned.
const SEED: u64 = 140;
/// The latest retrainings among which one that was begun is searched.
const KNOWN_MAX: u32 = 100;

/// Checks what would otherwise fail only when a retraining is due: the files, and `retrain.arguments`.
pub(in crate::cli) fn check(retrain: &Retrain) -> anyhow::Result<()> {
    let (args, _) = arguments(retrain)?;
    for file in args.training.data.iter().map(|it| &it.file).chain(&args.training.test) {
        let name = file.display();
        ensure!(
            file.is_file(),
            "[retrain] trains on {name}, and there is no such file; give its path from where the \
             daemon starts"
        );
    }
    Ok(())
}

/// The arguments of `monitor retrain` that the settings describe, without people's labels.
fn arguments(retrain: &Retrain) -> anyhow::Result<(Box<Args>, Family)> {
    let Retrain { family, data, arguments, .. } = retrain;
    ensure!(
        !data.is_empty(),
        "retrain.data names no file to train on; config/monitor.example.toml explains [retrain]"
    );
    let mut words = ["monitor", "retrain", family, "--no-promote"].map(str::to_owned).to_vec();
    data.iter().for_each(|entry| words.extend(["--data".into(), entry.clone()]));
    words.extend(arguments.iter().cloned());
    let invalid = "retrain.family, retrain.data or retrain.arguments";
    let Command::Retrain(args) = Cli::try_parse_from(&words).context(invalid)?.command else {
        bail!("{invalid}: they do not belong to `monitor retrain`");
    };
    ensure!(
        !args.fractions.are_given() && args.training.output.is_none() && !args.resume,
        "retrain.arguments: leave out --fractions, --output and --resume"
    );
    let family = Family::from(args.family.context("retrain.family")?);
    args.training.refuse_idle_flags(family).context("retrain.arguments")?;
    Ok((args, family))
}

/// Runs the retraining that the daemon has begun as `number`, or one that a person asks for.
pub(super) fn run(
    number: Option<i64>,
    settings: &Settings,
    commit: Option<&str>,
) -> anyhow::Result<()> {
    check(&settings.retrain)?;
    let folder = settings.model.directory.join(RETRAINING_FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("error: another retraining runs in {}", settings.model.directory.display());
            std::process::exit(RETRAINING_BUSY);
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    let mut retraining = begin(number, settings)?;
    let folder = folder.join(retraining.id.to_string());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (outcome, note) = match attempt(&mut retraining, &folder, settings, commit) {
        Err(error) if error.is::<Stopped>() => return Err(error),
        Err(error) => (RetrainOutcome::Failed, one_line(&error)),
        Ok(ended) => ended,
    };
    retraining.ended = Some((outcome, SystemClock::new().now()));
    retraining.note.clone_from(&note);
    with_store(settings, async |store| store.put_retraining(&retraining).await)?;
    if outcome == RetrainOutcome::Failed {
        bail!(note);
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    // A promotion has said so already.
    if outcome == RetrainOutcome::Kept { print(&format!("{note}\n")) } else { Ok(()) }
}

/// The retraining that is to be run.
fn begin(number: Option<i64>, settings: &Settings) -> anyhow::Result<Retraining> {
    let now = SystemClock::new().now();
    let known = with_store(settings, async |store| store.retrainings(KNOWN_MAX).await)?;
    let mut open = known.into_iter().filter(|it| it.ended.is_none());
    if let Some(number) = number {
        let found = open.find(|it| it.id == number);
        return found.with_context(|| format!("there is no open retraining {number}"));
    }
    // One that was stopped is continued.
    if let Some(found) = open.find(|it| it.reason == RetrainReason::Request) {
        return Ok(found);
    }
    let begun = with_store(settings, async |store| {
        store.begin_retraining(RetrainReason::Request, now, now).await
    })?;
    begun.context("another retraining began at the same moment; run this again")
}

/// Trains, unless that was done by an earlier attempt, and promotes the version if it is better.
fn attempt(
    retraining: &mut Retraining,
    folder: &Path,
    settings: &Settings,
    commit: Option<&str>,
) -> anyhow::Result<(RetrainOutcome, String)> {
    let (mut args, family) = arguments(&settings.retrain)?;
    let labels = Labels::of(folder, settings)?;
    let weight = Some(settings.retrain.labels_weight);
    args.training.also.extend(labels.learned.map(|file| WeightedFile { file, weight }));
    args.training.test.extend(labels.measured.clone());
    args.resume = labels.are_of_before
        && !family.is_logistic()
        && fit::is_unfinished(&settings.model.directory, &args.training.name_of(family));
    let id = match &retraining.model {
        Some(model) => model.parse()?,
        None => {
            let model = Model { threads: settings.retrain.threads, ..settings.model.clone() };
            let settings = Settings { model, ..settings.clone() };
            let versions = super::train(&args, &settings, commit)?;
            let id = versions.into_iter().next_back().context("nothing was trained")?;
            retraining.model = Some(id.to_string());
            with_store(&settings, async |store| store.put_retraining(retraining).await)?;
            id
        }
    };
    let _signals = end_on_signals()?;
    let Better { words, figures } = match judge(&id, &args, labels.measured.as_deref(), settings)? {
        Ok(better) => better,
        Err(reason) => return Ok((RetrainOutcome::Kept, reason)),
    };
    Ok(match promote::switch(&id, &words, false, settings)? {
        Ok(()) => (RetrainOutcome::Promoted, words),
        Err(refused) => (RetrainOutcome::Kept, format!("{refused}. It is better: {figures}")),
    })
}

/// From here on a signal ends the process, while the result lives: what was done is stored already.
fn end_on_signals() -> anyhow::Result<Runtime> {
    let runtime = Runtime::new()?;
    let stopped = CancellationToken::new();
    stopped.cancel();
    runtime.block_on(async { stop_on_signals(stopped) })?;
    Ok(runtime)
}

/// Files with people's labels: one to learn from, one to measure on. Absent if there are none.
struct Labels {
    learned: Option<PathBuf>,
    measured: Option<PathBuf>,
    /// Whether an attempt before wrote them.
    are_of_before: bool,
}

impl Labels {
    /// Writes the files, or finds those of an attempt before: a training goes on only with the same ones.
    fn of(folder: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let files = ["labels.csv", "labels-to-measure.csv"].map(|name| folder.join(name));
        let done = folder.join("labels-written");
        let are_of_before = done.exists();
        if !are_of_before {
            if settings.retrain.labels_weight > 0.0 {
                let LabelledTexts { sampled, corrections } = labelled_texts(None, settings)?;
                let is_measured = |(_, text, _): &LabelledText| {
                    unit_interval(SEED, &identity(text)) < MEASURED_SHARE
                };
                let (measured, mut learned): (Vec<_>, Vec<_>) =
                    sampled.into_iter().partition(is_measured);
                // They do not measure: the model in force has most of them wrong.
                learned.extend(corrections);
                for (path, rows) in files.iter().zip([&learned, &measured]) {
                    if !rows.is_empty() {
                        write_labelled(path, rows)?;
                    }
                }
            }
            File::create(&done).with_context(|| format!("cannot write {}", done.display()))?;
        }
        let [learned, measured] = files.map(|path| Some(path).filter(|path| path.exists()));
        Ok(Self { learned, measured, are_of_before })
    }
}

/// A version that may be promoted.
struct Better {
    /// That it is promoted, and why.
    words: String,
    /// By how much it is better.
    figures: String,
}

/// Compares the new version with the promoted one on rows that neither learned from. Says by how much it
/// is better, or why it is not promoted.
fn judge(
    id: &ModelId,
    args: &Args,
    labels: Option<&Path>,
    settings: &Settings,
) -> anyhow::Result<Result<Better, String>> {
    let first =
        |words: String| Better { words, figures: "there is none to compare it with".into() };
    let directory = &settings.model.directory;
    let Some(current) = classifier::promoted(directory)?.remove(&id.name) else {
        let verdict = classifier::judge(directory, id, |_, _| Ok::<_, ArtifactError>(Vec::new()))?;
        let words = verdict.words(id, directory);
        return Ok(if verdict.is_promoted() { Ok(first(words)) } else { Err(words) });
    };
    if current == *id {
        return Ok(Ok(first(format!("{id} was already promoted"))));
    }
    let known = |id: &ModelId| classifier::known(directory, &id.to_string());
    let known: Vec<Known> = [known(&current)?, known(id)?].concat();
    let sets = sets(args, labels)?;
    let mut rows = Vec::new();
    for set in &sets {
        match data::select(set, &known, None) {
            Ok(selection) => {
                eprintln!("{}: {} rows; {}", set.file, selection.rows.len(), selection.note);
                rows.extend(selection.rows);
            }
            Err(SelectionError::NoRows { reason, .. }) => eprintln!("{}: {reason}", set.file),
            Err(error) => return Err(error.into()),
        }
    }
    let score = |id: &ModelId| -> anyhow::Result<(Vec<Prediction>, _)> {
        let mut model = classifier::open(&open_options(&settings.model), &id.to_string())?;
        Ok((fit::scores(&mut model, &rows)?, model.thresholds))
    };
    let (old, old_thresholds) = score(&current)?;
    let (new, new_thresholds) = score(id)?;
    let found = PairedRecall::of(&rows, (&old, old_thresholds), (&new, new_thresholds));
    Ok(match found {
        None => Err(format!(
            "{id} is registered, but not promoted: there are no rows of two labels that neither it nor \
             {current} learned from"
        )),
        Some(found) if found.is_better() => {
            let words = format!("{id} is promoted in place of {current}: {found}");
            Ok(Better { words, figures: found.to_string() })
        }
        Some(found) => Err(format!(
            "{id} is registered, but not promoted: it is not better than {current} beyond chance: {found}"
        )),
    })
}

/// The files whose rows measure: those that have neutral rows, if any does, because labels of emoticons
/// are not what people say; and people's labels of random samples.
fn sets(args: &Args, labels: Option<&Path>) -> Result<Vec<Dataset>, DatasetError> {
    let training = &args.training;
    let read = |given: &WeightedFile| data::read_excluding(&given.file, &training.test);
    let mut sets = training.data.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if sets.iter().any(|set| set.classes == Classes::Three) {
        sets.retain(|set| set.classes == Classes::Three);
    }
    sets.extend(labels.map(data::read).transpose()?);
    Ok(sets)
}
