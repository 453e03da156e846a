mod rows;

use std::path::{Path, PathBuf};

use anyhow::Context;

use monitor_config::Settings;
use monitor_core::domain::{LabelThresholds, Probability};
use monitor_model::{self as classifier, Architecture, Known, Model};
use monitor_train::data::{self, Dataset, Part};
use monitor_train::report::{self, ByColumn, Cascaded, Evaluation, Faithfulness, Found, Measured};

use rows::ScoredRows;

use super::evaluate_provider::{self, ProviderArgs};
use super::output::{is_parquet, print, print_json, svg_file, write_whole};
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
/// Rows that the model learned from are recognised in any file and left out, unless --split all
/// is given; on the file that it was trained on, exactly the rows held out are measured.
///
/// --errors and --predictions write the rows with the model's probabilities; --by COLUMN prints
/// the figures for each value of a column, such as an airline or a topic, and how far the share of
/// negative rows is from the labels there, as called and corrected.
///
/// With --faithfulness N the words that `monitor explain` names are tested instead, on N rows
/// that the model calls negative: by how much the probability of negative drops without them,
/// compared with words at random.
///
/// With --provider a paid service is measured instead, on tweets drawn from the file. The
/// command prints the cost and asks before it spends money.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Labelled tweets: sentiment140's six columns, a CSV or TSV with a header (label,text) or
    /// SemEval's lines; plain, .xz, .gz or .zip
    #[arg(long, value_name = "FILE", required_unless_present = "answers")]
    data: Option<PathBuf>,

    /// A name, such as lstm, or name@version [default: model.name of the settings]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Which rows to measure on [default: those that the model did not learn from]
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

    /// Draw ROC curve, precision-recall curve, reliability diagram and scores by class
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    picture: Option<PathBuf>,

    /// Write the rows that are called wrong, the most confident ones first: text, label, called,
    /// probabilities, other columns of the file. As Parquet if the name ends so, else as CSV
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,

    /// Write all measured rows, with the columns of --errors
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,

    /// Figures for each value of this column of the file; values with fewer than 50 rows are put
    /// together. May be repeated. SemEval's lines have the columns id, topic and date
    #[arg(long, value_name = "COLUMN")]
    by: Vec<String>,

    /// Test explanations on up to N rows that the model calls negative
    #[arg(long, value_name = "N", conflicts_with_all = ["picture", "threshold", "provider"],
          value_parser = clap::value_parser!(u32).range(1..))]
    faithfulness: Option<u32>,

    #[command(flatten)]
    provider: ProviderArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Split {
    /// Rows that no model learned from; an error if none of the file's rows was used
    HeldOut,
    /// All rows, including those learned from
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
    Ok(fit(data::read(path)?, without_neutral))
}

fn fit(mut data: Dataset, without_neutral: bool) -> Dataset {
    if without_neutral {
        data.leave_out_neutral();
    }
    data
}

/// The position of a column of the file, by its name in any case.
fn column(data: &Dataset, name: &str) -> anyhow::Result<usize> {
    let position = data.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
    position.with_context(|| {
        format!(
            "--by: {} has no column {name:?}; beside label and text it has {}",
            data.file,
            if data.columns.is_empty() { "none".into() } else { data.columns.join(", ") }
        )
    })
}

/// Scores the rows and prints the figures.
pub fn run(args: &Args, settings: Settings) -> anyhow::Result<()> {
    if args.provider.provider.is_some() {
        return evaluate_provider::run(&args.provider, args.data.as_deref(), args.json);
    }
    let data = args.data.as_deref().context("no tweets: give --data FILE")?;
    let name = args.model.as_deref().unwrap_or(&settings.model.name);
    let (directory, threads) = (&settings.model.directory, settings.model.threads);
    // A cascade is measured together with both of its models.
    let known = classifier::known(directory, name)?;
    let data = fit(data::read_with_columns(data)?, args.without_neutral);
    let by = args.by.iter().map(|name| column(&data, name)).collect::<Result<Vec<_>, _>>()?;
    let open = |known: &Known| {
        classifier::open(&open_options(&settings.model), &known.manifest.id().to_string())
    };
    let mut models = known.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let selection = data::select(&data, &known, args.split.map(Part::from))?;

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
    let manifest = &known[0].manifest;
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
    for at in by {
        let rows = scored.iter().zip(&selection.rows);
        let rows: Vec<_> =
            rows.map(|(scored, row)| (scored.prediction, row.columns[at].as_str())).collect();
        evaluation.by.push(ByColumn::of(&data.columns[at], manifest, &rows, thresholds));
    }
    let rows = ScoredRows {
        data: &data,
        rows: &selection.rows,
        scored,
        thresholds,
        classes: report::classes_of(&report::predictions(scored)),
    };
    if let Some(path) = &args.predictions {
        write_whole(path, &rows.predictions(is_parquet(path))?)?;
    }
    if let Some(path) = &args.errors {
        write_whole(path, &rows.errors(is_parquet(path))?)?;
    }
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
