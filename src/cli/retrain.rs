mod files;
mod fractions;
mod scheduled;
mod training;

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use fractions::{Fractions, Trained};
use training::{BASE, Preset};

use super::signals::stop_on_signals;
use monitor_config::Settings;
use monitor_model::ModelId;
use monitor_train::fit::{self, Family, FitError};
use monitor_train::hub;
use monitor_train::{Registered, TrainingError, TrainingRequest};

pub(super) use scheduled::check as check_scheduled;
pub(super) use training::{Names, Training, model_name};

/// Exit code that shells use for a process ended by Ctrl-C.
pub(super) const STOPPED: i32 = 130;

/// Train models from sentiment140 and register them
///
/// Reads labelled tweets, leaves out duplicates and texts with conflicting labels, holds
/// out one author in five, trains, chooses the threshold, measures the result on the
/// held-out rows, and writes it as the next version of its name: manifest, weights,
/// vocabulary, and a model card with the figures. Progress goes to standard error.
///
/// Promotes the new version unless it is worse than the one promoted now, or is the first and no
/// better than chance (see `monitor models promote --help`); `monitor models promote` switches a
/// stream to it.
///
/// Ctrl-C keeps the progress; the same command with --resume continues from there and ends with
/// the same weights as an uninterrupted training.
///
/// The same file, seed, machine and model.threads give the same figures.
///
/// With --scheduled it does at once what [retrain] of the settings describes and the daemon does when it
/// is due.
#[derive(Debug, clap::Args)]
#[command(mut_args(beside_scheduled))]
pub struct Args {
    /// Which family to train [default: all; the transformer only if its --base is available]
    family: Option<Name>,

    #[command(flatten)]
    training: Training,

    /// Train as [retrain] of the settings says, with the labels that people gave to stored tweets, and
    /// promote the new version only if it is better, beyond chance, than the promoted one on rows that
    /// neither learned from
    #[arg(long)]
    scheduled: bool,

    /// Number of the retraining that the daemon has begun
    #[arg(long, hide = true, requires = "scheduled")]
    retraining: Option<i64>,

    /// Continue a training that Ctrl-C or a crash stopped
    #[arg(long)]
    resume: bool,

    /// Register the new version without promoting it
    #[arg(long)]
    no_promote: bool,

    #[command(flatten)]
    fractions: Fractions,
}

/// With `--scheduled`, the settings say everything.
fn beside_scheduled(arg: clap::Arg) -> clap::Arg {
    match arg.get_id().as_str() {
        "scheduled" | "retraining" => arg,
        "data" => {
            arg.required(false).required_unless_present("scheduled").conflicts_with("scheduled")
        }
        _ => arg.conflicts_with("scheduled"),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Name {
    /// Logistic regression over hashed words and word pairs; seconds to train
    LogisticHash,
    /// Logistic regression over TF-IDF of word and character n-grams; seconds to train
    LogisticTfidf,
    /// The mean of word vectors and a dense layer; half a minute to train
    Dense,
    /// LSTM over word vectors; minutes to train
    Lstm,
    /// BERT or DistilBERT, fine-tuned; hours to train on a CPU
    Transformer,
}

impl From<Name> for Family {
    fn from(name: Name) -> Self {
        match name {
            Name::LogisticHash => Self::LogisticHash,
            Name::LogisticTfidf => Self::LogisticTfidf,
            Name::Dense => Self::Dense,
            Name::Lstm => Self::Lstm,
            Name::Transformer => Self::Transformer,
        }
    }
}

/// The training was stopped on request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(String);

/// Trains and registers models, and prints the figures of each.
pub fn run(args: Args, settings: Settings, commit: Option<&str>) -> anyhow::Result<()> {
    let done = match args.scheduled {
        true => scheduled::run(args.retraining, &settings, commit),
        false => train(&args, &settings, commit).map(drop),
    };
    done.inspect_err(|error| {
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            eprintln!("{stopped}");
            std::process::exit(STOPPED);
        }
    })
}

/// Trains and registers models, and returns the new versions.
fn train(args: &Args, settings: &Settings, commit: Option<&str>) -> anyhow::Result<Vec<ModelId>> {
    let training = &args.training;
    let families = match args.family {
        Some(name) => vec![name.into()],
        None => {
            // The preset `study` does not apply to transformers.
            let may = training.preset == Preset::Tweet;
            let has_base = training.base.is_some() || hub::cached(BASE, hub::MAIN).is_some();
            if may && !has_base {
                eprintln!("leaving out the transformer: {}", FitError::NoBase);
            }
            let can = |family: &Family| *family != Family::Transformer || (may && has_base);
            Family::ALL.into_iter().filter(can).collect()
        }
    };
    anyhow::ensure!(
        training.name.is_none() || families.len() == 1,
        "--name names one model: say which family to train"
    );
    anyhow::ensure!(
        training.hyper.epochs_max != Some(0) || families.len() == 1,
        "--epochs 0 keeps the weights that a transformer begins with: name that family (monitor retrain transformer)"
    );
    if let [family] = families[..] {
        training.refuse_idle_flags(family)?;
        anyhow::ensure!(
            !(args.resume && family.is_logistic()),
            "--resume means nothing to {}: leave it out",
            family.as_str()
        );
    }
    args.fractions.check(args, &families)?;
    let found = training.find(&families, &settings.model)?;
    // Families are trained in order, so those before the stopped one are finished.
    let output = &found.output;
    let families = match families.as_slice() {
        all @ [_, _, ..] if args.resume => {
            let stopped = |family: &Family| fit::is_unfinished(output, &training.name_of(*family));
            let first = all.iter().position(stopped).with_context(|| {
                format!("no training was stopped in {}: leave --resume out", output.display())
            })?;
            all[first..].to_vec()
        }
        _ => families,
    };
    let read = training.read()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stopped = CancellationToken::new();
    runtime.block_on(async { stop_on_signals(stopped.clone()) })?;
    let stop = || stopped.is_cancelled();
    let mut versions = Vec::new();
    for family in families {
        let name = training.name_of(family);
        let request = TrainingRequest {
            promote: !args.no_promote,
            resume: args.resume && (args.family.is_some() || fit::is_unfinished(output, &name)),
            ..training.request(family, &found, read.classes, commit, &stop)
        };
        let trained = match args.fractions.are_given() {
            true => args.fractions.measure(&request, read.rows()),
            false => monitor_train::train(&request, read.rows())
                .map(|it| Trained::Registered(Box::new(it))),
        };
        match trained {
            Ok(Trained::Registered(registered)) => {
                print(&registered, &request.output)?;
                versions.push(registered.manifest.id());
            }
            Ok(Trained::Curve(curve)) => args.fractions.print(&curve)?,
            Err(error @ TrainingError::Fit(FitError::Stopped | FitError::Abandoned)) => {
                return Err(Stopped(format!("{name}: {error}")).into());
            }
            Err(error) => return Err(error).with_context(|| format!("training {name}")),
        }
    }
    Ok(versions)
}

/// Prints a line for each data set, and the result of the promotion.
pub(super) fn print(
    Registered { manifest, promotion }: &Registered,
    directory: &Path,
) -> anyhow::Result<()> {
    let mut out = String::new();
    for (name, figures) in &manifest.metrics {
        let figure = |key: &str| figures.get(key).map_or("-".into(), |v| format!("{v:.4}"));
        out.push_str(&format!(
            "{}: accuracy {},{} ROC AUC {}, {} of the negatives found on {name}\n",
            manifest.id(),
            figure("accuracy"),
            figures
                .get("macro_recall")
                .map_or(String::new(), |it| format!(" macro recall {it:.4},")),
            figure("roc_auc"),
            figure("negative_recall")
        ));
    }
    if let Some(promotion) = promotion {
        out.push_str(&format!("{}\n", promotion.words(&manifest.id(), directory)));
    }
    super::output::print(&out)
}
