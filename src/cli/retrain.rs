use std::path::PathBuf;

use anyhow::Context;

use crate::config::Settings;
use crate::training::{self, Family, Request};

/// Train a model from sentiment140 and register it
///
/// Reads labelled tweets, leaves out duplicates and texts with conflicting labels, holds
/// out one author in five, trains, measures the result on the held-out authors, and
/// writes it as the next version of its family: manifest, weights, vocabulary and a
/// model card with the figures. Progress goes to standard error.
///
/// The same file, seed, machine and model.threads give the same figures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which family to train; all of them where none is named
    family: Option<Name>,

    /// Labelled tweets: sentiment140's six columns, a CSV with a header
    /// (label,text) or SemEval's lines; plain, .xz, .gz or .zip
    #[arg(long, value_name = "FILE")]
    data: PathBuf,

    /// Hand-labelled tweets: kept out of training, measured on at the end
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,

    /// Folder of models [default: model.directory of the settings]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Use only so many rows, drawn by the seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rows: Option<u32>,

    /// Pass over the rows so many times at most [default: the family's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,

    /// Seed of the split, the first weights and the order of batches
    #[arg(long, value_name = "N", default_value_t = 140)]
    seed: u64,

    /// Register the new version, but let the family's name open the old one
    #[arg(long)]
    no_promote: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    /// Hashed words and word pairs; seconds to train, fastest to serve
    Logistic,
    /// Reads words in order, both ways; minutes to train
    Lstm,
}

/// Trains, registers, and prints a line for each new model.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let mut data = training::read(&args.data, args.test.as_deref())?;
    let test = args.test.as_deref().map(|path| training::read(path, None)).transpose()?;
    eprintln!("{}: {}; {} left", data.file, data.report, data.rows.len());
    if let Some(rows) = args.rows {
        data.draw(rows as usize, args.seed);
    }
    let families = match args.family {
        Some(Name::Logistic) => vec![Family::Logistic],
        Some(Name::Lstm) => vec![Family::Lstm],
        None => Family::ALL.to_vec(),
    };
    let output = args.output.clone().unwrap_or_else(|| settings.model.directory.clone());
    for family in families {
        let request = Request {
            family,
            output: output.clone(),
            epochs_max: args.epochs.map(|epochs| epochs as usize),
            seed: args.seed,
            threads: settings.model.threads,
            promote: !args.no_promote,
            command: args.command(family, settings.model.threads),
        };
        let manifest = training::train(&request, &data, test.as_ref())
            .with_context(|| format!("training {}", family.as_str()))?;
        for (name, figures) in &manifest.metrics {
            let figure = |key: &str| figures.get(key).map_or("-".into(), |v| format!("{v:.4}"));
            println!(
                "{}: accuracy {}, ROC AUC {} on {name}",
                manifest.id(),
                figure("accuracy"),
                figure("roc_auc")
            );
        }
    }
    Ok(())
}

impl Args {
    /// What to type to train this family again, with file names for paths.
    fn command(&self, family: Family, threads: usize) -> String {
        let mut words = format!(
            "monitor retrain {} --data {} --seed {} --set model.threads={threads}",
            family.as_str(),
            training::file_name(&self.data),
            self.seed
        );
        if let Some(test) = &self.test {
            words.push_str(&format!(" --test {}", training::file_name(test)));
        }
        for (flag, value) in [("rows", self.rows), ("epochs", self.epochs)] {
            if let Some(value) = value {
                words.push_str(&format!(" --{flag} {value}"));
            }
        }
        words
    }
}
