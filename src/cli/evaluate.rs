use std::path::{Path, PathBuf};

use anyhow::Context;

use monitor_config::Settings;
use monitor_core::domain::{LabelThresholds, Probability};
use monitor_model::{self as classifier, Architecture, Member, Model};
use monitor_train::data::{self, Dataset, Part};
use monitor_train::report::{self, Cascaded, Evaluation, Faithfulness, Found, Measured};

use super::evaluate_provider::{self, ProviderArgs};
use super::output::{print, print_json, write_whole};
use crate::settings::open_options;

/// Measure a model on labelled tweets
///
/// Prints precision, recall, F1 and support of each class (laid out as scikit-learn does),
/// the confusion matrix, accuracy and ROC AUC with their 95 % intervals, calibration error,
/// Brier score, log loss, tweets per second, and accuracy by kind of tweet: length, with and
/// without link, mention, negation, hashtag, emoji. Duplicate and conflicting rows are left out
/// and counted.
///
/// If the file has neutral rows, there are three classes, with macro recall, the F1 of negative
/// and positive, and what share of the neutral rows is called negative. A model of two classes
/// finds no neutral row; --without-neutral leaves those rows out.
///
/// A cascade is measured together with both of its models: the share of rows that it escalates,
/// and its speed relative to the costly model alone.
///
/// On the file that the model was trained on, only held-out rows are measured, unless --split
/// all is given.
///
/// With --faithfulness N the words that `monitor explain` names are tested instead, on N rows
/// that the model calls negative: by how much the probability of negative drops without them,
/// compared with words at random.
///
/// With --provider a paid service is measured instead, on tweets drawn from the file. The
/// command prints the cost and asks before it spends money.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Labelled tweets: sentiment140's six columns, a CSV with a header (label,text) or
    /// SemEval's lines; plain, .xz, .gz or .zip
    #[arg(long, value_name = "FILE", required_unless_present = "answers")]
    data: Option<PathBuf>,

    /// A name, such as lstm, or name@version [default: model.name of the settings]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Which rows to measure on [default: held-out of the model's training file, all of another]
    #[arg(long, value_name = "PART")]
    split: Option<Split>,

    /// Negative from this probability upwards [default: the model's own]
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<Probability>,

    /// Leave out neutral rows, as if the file had two classes
    #[arg(long)]
    pub(super) without_neutral: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw ROC curve, reliability diagram and scores by class
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,

    /// Test explanations on up to N rows that the model calls negative
    #[arg(long, value_name = "N", conflicts_with_all = ["picture", "threshold", "provider"],
          value_parser = clap::value_parser!(u32).range(1..))]
    faithfulness: Option<u32>,

    #[command(flatten)]
    provider: ProviderArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Split {
    /// Rows held out from training
    HeldOut,
    /// All rows, including the training set
    All,
}

impl From<Split> for Part {
    fn from(split: Split) -> Self {
        match split {
            Split::HeldOut => Self::HeldOut,
            Split::All => Self::All,
        }
    }
}

/// The JSON of --faithfulness.
#[derive(serde::Serialize)]
struct Faithful {
    data: Measured,
    #[serde(flatten)]
    faithfulness: Faithfulness,
}

fn probability(text: &str) -> Result<Probability, String> {
    let value = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    Probability::new(value).map_err(|error| error.to_string())
}

/// Reads a labelled file, without its neutral rows if asked for.
pub(super) fn read(path: &Path, without_neutral: bool) -> anyhow::Result<Dataset> {
    let mut data = data::read(path)?;
    if without_neutral {
        data.leave_out_neutral();
    }
    Ok(data)
}

/// Scores the rows and prints the figures.
pub fn run(args: &Args, settings: Settings) -> anyhow::Result<()> {
    if args.provider.provider.is_some() {
        return evaluate_provider::run(&args.provider, args.data.as_deref(), args.json);
    }
    let data = args.data.as_deref().context("no tweets: give --data FILE")?;
    let name = args.model.as_deref().unwrap_or(&settings.model.name);
    let (directory, threads) = (&settings.model.directory, settings.model.threads);
    let manifest = classifier::read_manifest(directory, name)?;
    let data = read(data, args.without_neutral)?;
    let mut models = vec![classifier::open(&open_options(&settings.model), name)?];
    let mut manifests = vec![manifest];
    // A cascade is measured together with both of its models.
    for Member { model, .. } in manifests[0].architecture.clone().members() {
        let name = model.to_string();
        manifests.push(classifier::read_manifest(directory, &name)?);
        models.push(classifier::open(&open_options(&settings.model), &name)?);
    }
    let all: Vec<_> = manifests.iter().collect();
    let selection = data::select(&data, &all, args.split.map(Part::from))?;

    if let Some(rows_max) = args.faithfulness {
        let (rows, rows_max) = (&selection.rows, rows_max as usize);
        let found = report::faithfulness(&mut models[0], rows, rows_max)?;
        let found = found.with_context(|| format!("{} calls no row negative", models[0].id))?;
        let measured = Measured::of(&data, &selection);
        return if args.json {
            eprintln!("{}", selection.note);
            print_json(&Faithful { data: measured, faithfulness: found })
        } else {
            print(&format!("{measured}\n{found}"))
        };
    }
    let own = models[0].thresholds;
    let thresholds = LabelThresholds { negative: args.threshold.unwrap_or(own.negative), ..own };
    let score = |model: &mut Model| report::score(model, &selection.rows);
    let scored = models.iter_mut().map(score).collect::<Result<Vec<_>, _>>()?;
    let speeds = report::speeds(&mut models, &selection.rows, threads)?;
    let measured = Measured::of(&data, &selection);
    let manifest = &manifests[0];
    let mut evaluation = Evaluation::of(manifest, measured, &scored[0], thresholds, speeds[0]);
    if let Architecture::Cascade(shape) = &manifest.architecture {
        let found = |at: usize| Found {
            scored: &scored[at],
            thresholds: models[at].thresholds,
            speed: speeds[at],
        };
        let alone = [found(1), found(2)];
        evaluation.cascade = Some(Cascaded::of(evaluation.model.clone(), shape, found(0), alone));
    }
    let scored = &scored[0];
    if let Some(path) = &args.picture {
        write_whole(path, &report::evaluation_svg(&evaluation, scored, thresholds.negative))?;
    }
    if args.json {
        eprintln!("{}", selection.note);
        print_json(&evaluation)
    } else {
        print(&evaluation.to_string())
    }
}
