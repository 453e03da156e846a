mod files;
mod flags;
mod fractions;
mod scheduled;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use files::{Read, WeightedFile, weighted_file};
use fractions::{Fractions, Trained};

use super::signals::stop_on_signals;
use monitor_config::Settings;
use monitor_core::domain::Language;
use monitor_core::text::Analyzer;
use monitor_model::{self as classifier, ArtifactError, ModelId};
use monitor_train::data::{self, SplitBy};
use monitor_train::fit::{self, Family, FitError};
use monitor_train::hub;
use monitor_train::{Registered, TrainingError, TrainingRequest, TrainingRows};

/// Exit code that shells use for a process ended by Ctrl-C.
const STOPPED: i32 = 130;
/// Default pretrained model of a transformer; the study used it.
const BASE: &str = "distilbert-base-uncased";

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
pub struct Args {
    /// Which family to train [default: all; the transformer only if its --base is available]
    family: Option<Name>,

    /// Labelled tweets, each row with this weight [default: 1]: sentiment140's six columns, a CSV
    /// with a header (label,text) or SemEval's lines; plain, .xz, .gz or .zip. May be repeated;
    /// each file is split into training, validation and held-out rows. The calibration of a model
    /// of three classes is fitted on validation rows of the first file with neutral rows
    #[arg(long, required_unless_present = "scheduled", value_name = "FILE[=WEIGHT]", value_parser = weighted_file)]
    data: Vec<WeightedFile>,

    /// Train as [retrain] of the settings says, with the labels that people gave to stored tweets, and
    /// promote the new version only if it is better, beyond chance, than the promoted one on rows that
    /// neither learned from
    #[arg(long, conflicts_with_all = ["family", "data", "test", "also", "name", "output", "resume", "no_promote"])]
    scheduled: bool,

    /// Number of the retraining that the daemon has begun
    #[arg(long, hide = true, requires = "scheduled")]
    retraining: Option<i64>,

    /// Hand-labelled tweets: excluded from training, measured on at the end. May be repeated
    #[arg(long, value_name = "FILE")]
    test: Vec<PathBuf>,

    /// Classes to tell apart: 2 (negative, positive; neutral rows are left out) or 3 [default: 3
    /// if a file of --data has neutral rows]. Rows of a file without neutral ones, such as
    /// sentiment140, teach a model of 3 classes negative against positive alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=3))]
    classes: Option<u8>,

    /// A language of the rows, by its code of ISO 639-1. May be repeated. The daemon gives the
    /// model no tweet of another language
    #[arg(long, value_name = "CODE", default_value = "en")]
    language: Vec<Language>,

    /// Further labelled tweets for training, such as user feedback, each row with this weight
    /// [default: 1]; none of them is held out. May be repeated
    #[arg(long, value_name = "FILE[=WEIGHT]", value_parser = weighted_file)]
    also: Vec<WeightedFile>,

    /// Human-labelled tweets to fit a temperature and a threshold on: models trained on labels
    /// from emoticons are biased towards "positive" on other tweets. One half is fitted on, the
    /// other half measures the effect
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,

    /// Initial word vectors: GloVe text, word2vec text or binary, fastText .vec; plain or
    /// packed. The vectors of several files are concatenated
    #[arg(long, value_name = "FILE")]
    embeddings: Vec<PathBuf>,

    /// How texts become words, and the matching network shape: `tweet` is ours, `study` is the
    /// study's (English words only, no stop words, one direction, frozen vectors)
    #[arg(long, value_enum, default_value = "tweet")]
    preset: Preset,

    /// Folder with the word lists of the preset `study`, searched before the standard places:
    /// NLTK's stop words and dictionary, WordNet's nouns
    #[arg(long, value_name = "DIR")]
    word_lists: Option<PathBuf>,

    /// Name of the model [default: the family; for the preset study with the suffix -study]
    #[arg(long, value_name = "NAME", value_parser = model_name)]
    name: Option<String>,

    /// Folder of models [default: model.directory of the settings]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// How rows are split into training, validation and held-out set
    #[arg(long, value_enum, default_value = "user")]
    split: SplitBy,

    /// Use only a random sample of this many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rows: Option<u32>,

    /// Epochs at most [default: depends on the family]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,

    /// Rows per step [default: depends on the family]; a batch too large for one pass takes
    /// several, whose gradients are summed
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,

    /// Adam's learning rate, such as 2e-5 [default: depends on the family]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    learning_rate: Option<f64>,

    /// The pretrained BERT or DistilBERT to fine-tune: a folder in Hugging Face's layout
    /// (config.json, model.safetensors, tokenizer.json or vocab.txt), a registered version
    /// (name@version), or the name of a model that `monitor models fetch` has downloaded [default: distilbert-base-uncased]
    #[arg(long, value_name = "DIR|NAME")]
    base: Option<String>,

    /// Teacher: a model of the folder whose scores a network learns from in addition to the
    /// labels, such as transformer. Small networks learn more from a large one than from labels
    /// alone. Both must have the same held-out rows
    #[arg(long, value_name = "MODEL")]
    teacher: Option<String>,

    /// Precision in which a transformer computes as student or teacher: single, half (bfloat16;
    /// weights are updated in single precision), or auto: half on a GPU and on a processor that
    /// multiplies bfloat16, else single
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,

    /// Freeze word vectors (true) or train them (false) [default: false; with the preset study
    /// and --embeddings: true]
    #[arg(long, value_name = "BOOL")]
    frozen: Option<bool>,

    /// Directions of the LSTM, 1 or 2 [default: 2; with the preset study: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    directions: Option<u8>,

    /// Width of the hidden layer [default: depends on the family]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    hidden: Option<u16>,

    /// Seed of the split, the initial weights and the order of batches
    #[arg(long, value_name = "N", default_value_t = 140)]
    seed: u64,

    /// Where to train: auto (a GPU if available), cpu, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,

    /// Continue a training that Ctrl-C or a crash stopped
    #[arg(long)]
    resume: bool,

    /// Register the new version without promoting it
    #[arg(long)]
    no_promote: bool,

    #[command(flatten)]
    fractions: Fractions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
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

impl Name {
    fn family(self) -> Family {
        match self {
            Self::LogisticHash => Family::LogisticHash,
            Self::LogisticTfidf => Family::LogisticTfidf,
            Self::Dense => Family::Dense,
            Self::Lstm => Family::Lstm,
            Self::Transformer => Family::Transformer,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    Auto,
    Single,
    Half,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    Tweet,
    Study,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(rate),
        _ => Err(format!("{text:?} is not a rate above 0, up to 1, such as 2e-5")),
    }
}

pub(super) fn model_name(text: &str) -> Result<String, String> {
    let name = text.to_owned();
    if classifier::is_name(text) { Ok(name) } else { Err(ArtifactError::Name(name).to_string()) }
}

/// The training was stopped on request.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(String);

/// Trains and registers models, and prints the figures of each.
pub fn run(args: Args, settings: Settings, commit: Option<&str>) -> anyhow::Result<()> {
    let done = match args.scheduled {
        true => scheduled::run(args.retraining, &settings, commit),
        false => train(args, &settings, commit).map(drop),
    };
    done.inspect_err(|error| {
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            eprintln!("{stopped}");
            std::process::exit(STOPPED);
        }
    })
}

/// Trains and registers models, and returns the new versions.
fn train(args: Args, settings: &Settings, commit: Option<&str>) -> anyhow::Result<Vec<ModelId>> {
    let families = match args.family {
        Some(name) => vec![name.family()],
        None => {
            // The preset `study` does not apply to transformers.
            let may = args.preset == Preset::Tweet;
            let has_base = args.base.is_some() || hub::cached(BASE, hub::MAIN).is_some();
            if may && !has_base {
                eprintln!("leaving out the transformer: {}", FitError::NoBase);
            }
            let can = |family: &Family| *family != Family::Transformer || (may && has_base);
            Family::ALL.into_iter().filter(can).collect()
        }
    };
    anyhow::ensure!(
        args.name.is_none() || families.len() == 1,
        "--name names one model: say which family to train"
    );
    if let [family] = families[..] {
        args.refuse_idle_flags(family)?;
    }
    args.fractions.check(&args, &families)?;
    let output = args.output.clone().unwrap_or_else(|| settings.model.directory.clone());
    let base = match families.contains(&Family::Transformer) {
        true => Some(args.base(&output)?),
        false => None,
    };
    let teacher = |name| classifier::resolve(&output, name).map(|id| id.to_string());
    let teacher = args.teacher.as_deref().map(teacher).transpose().context("--teacher")?;
    // Families are trained in order, so those before the stopped one are finished.
    let families = match families.as_slice() {
        all @ [_, _, ..] if args.resume => {
            let stopped = |family: &Family| fit::is_unfinished(&output, &args.name_of(*family));
            let first = all.iter().position(stopped).with_context(|| {
                format!("no training was stopped in {}: leave --resume out", output.display())
            })?;
            all[first..].to_vec()
        }
        _ => families,
    };
    let device = classifier::device(&args.device).context("--device")?;
    let half = match args.precision {
        Precision::Auto => classifier::is_half_fast(device),
        precision => precision == Precision::Half,
    };
    if args.precision == Precision::Auto && (base.is_some() || teacher.is_some()) {
        eprintln!("{}", classifier::auto_precision(device));
    }
    let analyzer = match args.preset {
        Preset::Tweet => Analyzer::tweet(),
        Preset::Study => {
            Analyzer::study(Arc::new(data::find_word_lists(args.word_lists.as_deref())?))
        }
    };
    let Read { data, more, also, also_rows, tests, calibrate, classes } = args.read()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stopped = CancellationToken::new();
    runtime.block_on(async { stop_on_signals(stopped.clone()) })?;
    let stop = || stopped.is_cancelled();
    let rows = TrainingRows {
        data: &data,
        more: &more,
        also: &also,
        also_rows,
        tests: &tests,
        calibrate: calibrate.as_ref(),
    };
    let mut versions = Vec::new();
    for family in families {
        let name = args.name_of(family);
        let request = TrainingRequest {
            family,
            classes,
            languages: args.language.clone(),
            commit: commit.map(str::to_owned),
            command: args.command(
                family,
                base.as_deref(),
                teacher.as_deref(),
                settings.model.threads,
            ),
            name: name.clone(),
            analyzer: analyzer.clone(),
            embeddings: args.embeddings.clone(),
            frozen: args.frozen,
            directions: args.directions.map(usize::from),
            hidden: args.hidden.map(usize::from),
            split: args.split,
            output: output.clone(),
            epochs_max: args.epochs.map(|epochs| epochs as usize),
            batch_rows: args.batch.map(|rows| rows as usize),
            learning_rate: args.learning_rate,
            base: base.clone(),
            half,
            teacher: teacher.clone().filter(|_| !is_logistic(family)),
            seed: args.seed,
            threads: settings.model.threads,
            device,
            device_name: args.device.clone(),
            promote: !args.no_promote,
            train_share: 1.0,
            resume: args.resume && (args.family.is_some() || fit::is_unfinished(&output, &name)),
            stop: &stop,
        };
        let trained = match args.fractions.are_given() {
            true => args.fractions.measure(&request, rows),
            false => {
                monitor_train::train(&request, rows).map(|it| Trained::Registered(Box::new(it)))
            }
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

/// Whether the family is a logistic regression.
fn is_logistic(family: Family) -> bool {
    matches!(family, Family::LogisticHash | Family::LogisticTfidf)
}

impl Args {
    fn name_of(&self, family: Family) -> String {
        let study = if self.preset == Preset::Study { "-study" } else { "" };
        self.name.clone().unwrap_or_else(|| format!("{}{study}", family.as_str()))
    }

    /// Folder of the pretrained transformer. Downloads nothing.
    fn base(&self, output: &Path) -> anyhow::Result<PathBuf> {
        let base = self.base.as_deref().unwrap_or(BASE);
        let folder = Path::new(base);
        if self.base.is_some() && folder.is_dir() {
            return Ok(folder.to_owned());
        }
        if let Some(Ok(id)) = base.contains('@').then(|| classifier::resolve(output, base)) {
            return Ok(classifier::folder(output, &id));
        }
        hub::cached(base, hub::MAIN).with_context(|| match self.base {
            None => FitError::NoBase.to_string(),
            Some(_) => format!(
                "--base: there is no folder {base}, nor was a model of this name fetched: correct \
                 it, or fetch the model first (monitor models fetch {base})"
            ),
        })
    }
}
