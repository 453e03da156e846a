use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::evaluate::{Split, print, print_json, write_whole};
use crate::classifier::{self, Manifest};
use crate::config::Settings;
use crate::training;
use crate::training::evaluation::{self, Compared, Comparison, Measured, Metrics, Part};

/// Measure models side by side on the same labelled tweets
///
/// Prints the study's closing table: accuracy with its 95 % interval, ROC AUC, training
/// time, tweets per second, size, and what training and scoring cost at a price per hour;
/// below it, the figures that the study published, which come of other rows.
///
/// Rows that any of the models learned from are left out, unless --split all asks for them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or name@version [default: the promoted version of each name]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,

    /// Labelled tweets: sentiment140's six columns, a CSV with a header (label,text) or
    /// SemEval's lines; plain, .xz, .gz or .zip
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// Every version of every model
    #[arg(long, conflicts_with = "models")]
    all: bool,

    /// Which rows to measure on [default: those held out from each model that was trained on
    /// this file, else all]
    #[arg(long, value_name = "PART")]
    split: Option<Split>,

    /// What this machine costs, in EUR; 0.20 is about what two cores in a cloud cost
    #[arg(long, value_name = "EUR", default_value_t = 0.20, value_parser = price)]
    price_per_hour: f64,

    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,

    /// Draw accuracy against speed, training time and size
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        _ => Err(format!("{text:?} is no price, such as 0.20")),
    }
}

/// Lets every model score the rows, then takes their time in turn, and prints the table.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let (directory, threads) = (&settings.model.directory, settings.model.threads);
    let names = names(&args, directory)?;
    let manifests: Vec<Manifest> = names
        .iter()
        .map(|name| classifier::read_manifest(directory, name))
        .collect::<Result<_, _>>()?;
    let data = training::read(&args.data, None)?;
    let selection = evaluation::select(
        &data,
        &manifests.iter().collect::<Vec<_>>(),
        args.split.map(Part::from),
    )?;
    eprintln!("{}", selection.note);

    let (mut models, mut figures) = (Vec::new(), Vec::new());
    for name in &names {
        let mut model = classifier::open(directory, name, threads)?;
        eprintln!("{} scores {} rows", model.id, selection.rows.len());
        let scored = evaluation::score(&mut model, &selection.rows)
            .with_context(|| format!("measuring {}", model.id))?;
        figures.push(Metrics::of(&evaluation::pairs(&scored), model.threshold).figures());
        models.push(model);
    }
    let speeds = evaluation::speeds(&mut models, &selection.rows, threads)?;
    let mut compared = Vec::with_capacity(names.len());
    for ((manifest, figures), speed) in manifests.iter().zip(figures).zip(speeds) {
        let bytes = size(directory, manifest)?;
        compared.push(Compared::of(manifest, figures, speed, bytes, args.price_per_hour));
    }
    let measured = Measured::of(&data, &selection);
    let comparison = Comparison::of(measured, args.price_per_hour, compared);
    if let Some(path) = &args.picture {
        write_whole(path, &evaluation::comparison_svg(&comparison))?;
    }
    match (args.json, args.markdown) {
        (true, _) => print_json(&comparison),
        (_, true) => print(&comparison.markdown()),
        _ => print(&comparison.to_string()),
    }
}

/// What to compare, each as `name@version` once.
fn names(args: &Args, directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = if !args.models.is_empty() {
        let id = |name: &String| Ok(classifier::read_manifest(directory, name)?.id().to_string());
        args.models.iter().map(id).collect::<anyhow::Result<_>>()?
    } else if args.all {
        versions(directory)?
    } else {
        classifier::promoted(directory)?.values().map(ToString::to_string).collect()
    };
    names.sort();
    names.dedup();
    ensure!(
        !names.is_empty(),
        "there is no model to compare in {}: train one (monitor retrain)",
        directory.display()
    );
    Ok(names)
}

/// Every version of every model.
fn versions(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let folders = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
    };
    for name in folders(directory)? {
        for version in folders(&name)? {
            if !training::file_name(&version).starts_with('.') {
                found.push(format!(
                    "{}@{}",
                    training::file_name(&name),
                    training::file_name(&version)
                ));
            }
        }
    }
    Ok(found)
}

/// Ends of the names of files that no model reads.
const FOR_PEOPLE: [&str; 3] = [".md", ".csv", ".svg"];

/// Bytes of the files that a model reads.
fn size(directory: &Path, manifest: &Manifest) -> anyhow::Result<u64> {
    let folder = directory.join(&manifest.name).join(manifest.version.to_string());
    let is_read = |name: &&String| !FOR_PEOPLE.iter().any(|ending| name.ends_with(ending));
    let mut bytes = 0;
    for name in manifest.files.keys().filter(is_read) {
        let path = folder.join(name);
        bytes += fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    }
    Ok(bytes)
}
