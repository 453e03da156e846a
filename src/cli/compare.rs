use crate::settings::open_options;
use monitor_model::OpenOptions;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::evaluate::{Split, read};
use super::output::{print, print_json, svg_file, write_whole};
use monitor_config::Settings;
use monitor_model::{self as classifier, Architecture, Known, Manifest, Model, ModelId};
use monitor_train::data::{self, Part};
use monitor_train::report::{self, Cascaded, Compared, Comparison, Found, Measured};

/// Measure models side by side on the same labelled tweets
///
/// Prints the study's closing table: accuracy with its 95 % interval, ROC AUC, training
/// time, tweets per second, size, and the cost of training and scoring at a price per hour;
/// below it, the figures that the study published, measured on other rows.
///
/// Rows that any of the models learned from are recognised in any file and left out, unless
/// --split all is given. Promoted versions that are damaged or missing are left out, too. For a cascade, both of its models are measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or name@version [default: the promoted version of each name]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,

    /// Labelled tweets: sentiment140's six columns, a CSV or TSV with a header (label,text) or
    /// SemEval's lines; plain, .xz, .gz or .zip
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// Every version of every model
    #[arg(long, conflicts_with = "models")]
    all: bool,

    /// Which rows to measure on [default: those that none of the models learned from]
    #[arg(long, value_name = "PART")]
    split: Option<Split>,

    /// Leave out neutral rows, as if the file had two classes
    #[arg(long)]
    without_neutral: bool,

    /// Price of this machine per hour, in EUR; two cores in a cloud cost about 0.20
    #[arg(long, value_name = "EUR", default_value_t = 0.20, value_parser = price)]
    price_per_hour: f64,

    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,

    /// Draw accuracy against speed, training time and size
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    picture: Option<PathBuf>,
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err(format!("{text:?} is not a price, such as 0.20")),
    }
}

/// Scores the rows with every model, measures their speed in turn, and prints the table.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let threads = settings.model.threads;
    let (known, mut models) = open(&args, &open_options(&settings.model))?;
    let data = read(&args.data, args.without_neutral)?;
    let selection = data::select(&data, &known, args.split.map(Part::from))?;
    eprintln!("{}", selection.note);

    let mut scored = Vec::with_capacity(models.len());
    for model in &mut models {
        eprintln!("{} scores {} rows", model.id, selection.rows.len());
        let scores = report::score(model, &selection.rows);
        scored.push(scores.with_context(|| format!("measuring {}", model.id))?);
    }
    let speeds = report::speeds(&mut models, &selection.rows, threads)?;
    let found: BTreeMap<&ModelId, Found<'_>> = (models.iter().zip(&scored).zip(speeds))
        .map(|((model, scored), speed)| {
            (&model.id, Found { scored, thresholds: model.thresholds, speed })
        })
        .collect();
    let (mut compared, mut cascades) = (Vec::with_capacity(models.len()), Vec::new());
    for Known { manifest, .. } in &known {
        let id = manifest.id();
        let Found { scored, thresholds, speed } = found[&id];
        let figures = report::figures(&report::predictions(scored), thresholds);
        let bytes = size(&settings.model.directory, manifest)?;
        compared.push(Compared::of(manifest, figures, speed, bytes, args.price_per_hour));
        if let Architecture::Cascade(shape) = &manifest.architecture {
            let alone = [found[&shape.cheap.model], found[&shape.costly.model]];
            cascades.push(Cascaded::of(id.to_string(), shape, found[&id], alone));
        }
    }
    let measured = Measured::of(&data, &selection);
    let comparison = Comparison::of(measured, args.price_per_hour, compared, cascades);
    if let Some(path) = &args.picture {
        write_whole(path, &report::comparison_svg(&comparison))?;
    }
    match (args.json, args.markdown) {
        (true, _) => print_json(&comparison),
        (_, true) => print(&comparison.markdown()),
        _ => print(&comparison.to_string()),
    }
}

/// The models to compare, without duplicates.
fn ids(args: &Args, directory: &Path) -> anyhow::Result<Vec<ModelId>> {
    let mut ids: Vec<ModelId> = if !args.models.is_empty() {
        let resolve = |name: &String| classifier::resolve(directory, name);
        args.models.iter().map(resolve).collect::<Result<_, _>>()?
    } else if args.all {
        classifier::registered(directory)?
    } else {
        classifier::promoted(directory)?.into_values().collect()
    };
    // A cascade is measured together with both of its models.
    let mut at = 0;
    while let Some(id) = ids.get(at) {
        if let Ok(manifest) = classifier::read_manifest(directory, &id.to_string()) {
            let members = manifest.architecture.members();
            ids.extend(members.into_iter().map(|member| member.model.clone()));
        }
        at += 1;
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Opens all models. Damaged ones that were not named are left out, with a message.
fn open(args: &Args, options: &OpenOptions) -> anyhow::Result<(Vec<Known>, Vec<Model>)> {
    let directory = &options.directory;
    let (mut all, mut models) = (Vec::new(), Vec::new());
    for id in ids(args, directory)? {
        let name = id.to_string();
        // The models of a cascade are among the ids.
        let known = classifier::known(directory, &name);
        match known.and_then(|it| Ok((it, classifier::open(options, &name)?))) {
            Ok((known, model)) => {
                all.extend(known.into_iter().take(1));
                models.push(model);
            }
            Err(error) if args.models.is_empty() => eprintln!("{id} is left out: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(
        !models.is_empty(),
        "there is no model to compare in {}: train one (monitor retrain)",
        directory.display()
    );
    Ok((all, models))
}

/// Bytes of the files that a model reads, including those of a cascade's models.
fn size(directory: &Path, manifest: &Manifest) -> anyhow::Result<u64> {
    let folder = classifier::folder(directory, &manifest.id());
    let mut bytes = 0;
    for (name, _) in manifest.files_read() {
        let path = folder.join(name);
        bytes += fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    }
    for member in manifest.architecture.members() {
        let manifest = classifier::read_manifest(directory, &member.model.to_string())?;
        bytes += size(directory, &manifest)?;
    }
    Ok(bytes)
}
