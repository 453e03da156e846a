//! The flags that say what is trained, and on what: those of `retrain` and of `tune`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;

use super::files::{WeightedFile, weighted_file};
use monitor_core::domain::{Classes, Language};
use monitor_core::text::Analyzer;
use monitor_model::{self as classifier, ArtifactError, Compute, Pretrained};
use monitor_train::TrainingRequest;
use monitor_train::data::{self, SplitBy};
use monitor_train::fit::{Family, FitError, Hyperparameters};
use monitor_train::hub;

/// Default pretrained model of a transformer; the study used it.
pub(super) const BASE: &str = "distilbert-base-uncased";

/// What is trained, and on what.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Training {
    /// Labelled tweets, each row with this weight [default: 1]: sentiment140's six columns, a CSV
    /// or TSV with a header (label,text) or SemEval's lines; plain, .xz, .gz or .zip. May be repeated;
    /// each file is split into training, validation and held-out rows. The calibration of a model
    /// of three classes is fitted on validation rows of the first file with neutral rows
    #[arg(long, required = true, value_name = "FILE[=WEIGHT]", value_parser = weighted_file)]
    pub(in crate::cli) data: Vec<WeightedFile>,

    /// Hand-labelled tweets: excluded from training, measured on at the end. May be repeated
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) test: Vec<PathBuf>,

    /// Classes to tell apart: 2 (negative, positive; neutral rows are left out) or 3 [default: 3
    /// if a file of --data has neutral rows]. Rows of a file without neutral ones, such as
    /// sentiment140, teach a model of 3 classes negative against positive alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(in crate::cli) classes: Option<u8>,

    /// A language of the rows, by its code of ISO 639-1. May be repeated. The daemon gives the
    /// model no tweet of another language
    #[arg(long, value_name = "CODE", default_value = "en")]
    pub(in crate::cli) language: Vec<Language>,

    /// Further labelled tweets for training, such as user feedback, each row with this weight
    /// [default: 1]; none of them is held out. May be repeated
    #[arg(long, value_name = "FILE[=WEIGHT]", value_parser = weighted_file)]
    pub(in crate::cli) also: Vec<WeightedFile>,

    /// Human-labelled tweets to fit a temperature and a threshold on: models trained on labels
    /// from emoticons are biased towards "positive" on other tweets. One half is fitted on, the
    /// other half measures the effect
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) calibrate: Option<PathBuf>,

    /// Initial word vectors: GloVe text, word2vec text or binary, fastText .vec; plain or
    /// packed. The vectors of several files are concatenated
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) embeddings: Vec<PathBuf>,

    /// How texts become words, and the matching network shape: `tweet` is ours, `study` is the
    /// study's (English words only, no stop words, one direction, frozen vectors)
    #[arg(long, value_enum, default_value = "tweet")]
    pub(in crate::cli) preset: Preset,

    /// Folder with the word lists of the preset `study`, searched before the standard places:
    /// NLTK's stop words and dictionary, WordNet's nouns
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) word_lists: Option<PathBuf>,

    /// Name of the model [default: the family; for the preset study with the suffix -study]
    #[arg(long, value_name = "NAME", value_parser = model_name)]
    pub(in crate::cli) name: Option<String>,

    /// Folder of models [default: model.directory of the settings]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// How rows are split into training, validation and held-out set
    #[arg(long, value_enum, default_value = "user")]
    pub(in crate::cli) split: SplitBy,

    /// Use only a random sample of this many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) rows: Option<u32>,

    /// The pretrained BERT or DistilBERT to fine-tune: a folder in Hugging Face's layout
    /// (config.json, model.safetensors, tokenizer.json or vocab.txt), a registered version
    /// (name@version), or the name of a model that `monitor models fetch` has downloaded [default: distilbert-base-uncased]
    #[arg(long, value_name = "DIR|NAME")]
    pub(in crate::cli) base: Option<String>,

    /// Begin with the mean of the weights of --base and of this registered version, which began with the same
    /// weights and has the same layers and word pieces; with --epochs 0 that is the model. May be repeated
    #[arg(long, value_name = "NAME@VERSION", requires = "base")]
    pub(in crate::cli) mean_with: Vec<String>,

    /// Teacher: a model of the folder whose scores the new model learns from in addition to the
    /// labels, such as transformer. Small models learn more from a large one than from labels
    /// alone. Both must have the same held-out rows. May be repeated: the mean of several models
    /// teaches more than any of them
    #[arg(long, value_name = "MODEL")]
    pub(in crate::cli) teacher: Vec<String>,

    /// Precision in which a transformer computes as student or teacher: single, half (bfloat16;
    /// weights are updated in single precision), or auto: half on a GPU and on a processor that
    /// multiplies bfloat16, else single
    #[arg(long, value_enum, default_value = "auto")]
    pub(in crate::cli) precision: Precision,

    /// Freeze word vectors (true) or train them (false) [default: false; with the preset study
    /// and --embeddings: true]
    #[arg(long, value_name = "BOOL")]
    pub(in crate::cli) frozen: Option<bool>,

    /// Directions of the LSTM, 1 or 2 [default: 2; with the preset study: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(in crate::cli) directions: Option<u8>,

    #[command(flatten)]
    pub(in crate::cli) hyper: Hyperparameters,

    /// Seed of the split, the initial weights and the order of batches
    #[arg(long, value_name = "N", default_value_t = 140)]
    pub(in crate::cli) seed: u64,

    /// Where to train: auto (a GPU if available), cpu, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(in crate::cli) device: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Precision {
    Auto,
    Single,
    Half,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Preset {
    Tweet,
    Study,
}

pub(in crate::cli) fn model_name(text: &str) -> Result<String, String> {
    let name = text.to_owned();
    if classifier::is_name(text) { Ok(name) } else { Err(ArtifactError::Name(name).to_string()) }
}

/// How a command names its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Names {
    /// Without folders, for a manifest.
    Short,
    /// As they were given, quoted for a shell, with all flags.
    Whole,
}

/// What the flags name, found.
pub(in crate::cli) struct Found {
    pub(in crate::cli) output: PathBuf,
    /// Folder of the pretrained transformer, if one is trained.
    pub(in crate::cli) base: Option<PathBuf>,
    /// Folders of the versions whose weights are averaged with it.
    mean_with: Vec<PathBuf>,
    /// `name@version` of the teachers.
    pub(in crate::cli) teachers: Vec<String>,
    pub(in crate::cli) analyzer: Analyzer,
    /// The device and number format.
    compute: Compute,
    threads: usize,
}

impl Training {
    /// Finds the models, the device and the word lists that the flags name.
    pub(in crate::cli) fn find(
        &self,
        families: &[Family],
        model: &monitor_config::Model,
    ) -> anyhow::Result<Found> {
        let output = self.output.clone().unwrap_or_else(|| model.directory.clone());
        let base = match families.contains(&Family::Transformer) {
            true => Some(self.base(&output)?),
            false => None,
        };
        let teacher = |name: &String| classifier::resolve(&output, name).map(|id| id.to_string());
        let teachers: Vec<String> =
            self.teacher.iter().map(teacher).collect::<Result<_, _>>().context("--teacher")?;
        let version = |name: &String| {
            classifier::resolve(&output, name).map(|id| classifier::folder(&output, &id))
        };
        let mean_with: Vec<PathBuf> =
            self.mean_with.iter().map(version).collect::<Result<_, _>>().context("--mean-with")?;
        let device = classifier::device(&self.device).context("--device")?;
        let bf16 = match self.precision {
            Precision::Auto => classifier::is_half_fast(device),
            precision => precision == Precision::Half,
        };
        if self.precision == Precision::Auto && (base.is_some() || !teachers.is_empty()) {
            eprintln!("{}", classifier::auto_precision(device));
        }
        let analyzer = match self.preset {
            Preset::Tweet => Analyzer::tweet(),
            Preset::Study => {
                Analyzer::study(Arc::new(data::find_word_lists(self.word_lists.as_deref())?))
            }
        };
        let compute = Compute { bf16, ..Compute::single(device) };
        Ok(Found { output, base, mean_with, teachers, analyzer, compute, threads: model.threads })
    }

    /// The training of one family; it is promoted and does not resume.
    pub(in crate::cli) fn request<'a>(
        &self,
        family: Family,
        found: &Found,
        classes: Classes,
        commit: Option<&str>,
        stop: &'a dyn Fn() -> bool,
    ) -> TrainingRequest<'a> {
        TrainingRequest {
            family,
            classes,
            languages: self.language.clone(),
            commit: commit.map(str::to_owned),
            command: self.command(family, found, Names::Short),
            name: self.name_of(family),
            analyzer: found.analyzer.clone(),
            embeddings: self.embeddings.clone(),
            frozen: self.frozen,
            directions: self.directions.map(usize::from),
            hyper: self.hyper,
            split: self.split,
            output: found.output.clone(),
            base: found.base.clone(),
            mean_with: found.mean_with.clone(),
            half: found.compute.bf16,
            teachers: found.teachers.clone(),
            seed: self.seed,
            threads: found.threads,
            device: found.compute.device,
            device_name: self.device.clone(),
            promote: true,
            train_share: 1.0,
            resume: false,
            stop,
        }
    }

    pub(in crate::cli) fn name_of(&self, family: Family) -> String {
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

    /// Rejects flags without effect on this family, which show a misunderstanding.
    pub(in crate::cli) fn refuse_idle_flags(&self, family: Family) -> anyhow::Result<()> {
        let logistic = family.is_logistic();
        let transformer = family == Family::Transformer;
        let keeps_weights = self.hyper.epochs_max == Some(0);
        let idle = [
            ("embeddings", !self.embeddings.is_empty(), logistic || transformer),
            ("frozen", self.frozen.is_some(), logistic || transformer),
            ("base", self.base.is_some(), !transformer),
            ("mean-with", !self.mean_with.is_empty(), !transformer),
            ("epochs 0", keeps_weights, !transformer),
            ("teacher", !self.teacher.is_empty(), keeps_weights),
            (
                "precision",
                self.precision != Precision::Auto,
                !transformer && self.teacher.is_empty(),
            ),
            ("preset", self.preset == Preset::Study, transformer),
            ("directions", self.directions.is_some(), family != Family::Lstm),
        ];
        let idle =
            idle.into_iter().filter_map(|(flag, given, idle)| (given && idle).then_some(flag));
        let hyper = self.hyper.given().into_iter().map(|(flag, _)| flag);
        let hyper = hyper.filter(|flag| !Hyperparameters::applies(flag, family));
        if let Some(flag) = hyper.chain(idle).next() {
            anyhow::bail!("--{flag} means nothing to {}: leave it out", family.as_str());
        }
        Ok(())
    }

    /// Command that trains this family again.
    pub(in crate::cli) fn command(&self, family: Family, found: &Found, names: Names) -> String {
        let whole = names == Names::Whole;
        let mut words = format!("monitor retrain {}", family.as_str());
        let mut add = |flag: &str, value: String| {
            let value = if whole { quoted(&value) } else { value };
            words.push_str(&format!(" --{flag} {value}"));
        };
        let file = |path: &Path| match names {
            Names::Short => data::file_name(path),
            Names::Whole => path.display().to_string(),
        };
        self.data.iter().for_each(|data| add("data", data.words(&file)));
        self.test.iter().for_each(|path| add("test", file(path)));
        self.calibrate.iter().for_each(|path| add("calibrate", file(path)));
        self.classes.iter().for_each(|classes| add("classes", classes.to_string()));
        if self.language != [Language::ENGLISH] {
            self.language.iter().for_each(|language| add("language", language.to_string()));
        }
        self.also.iter().for_each(|also| add("also", also.words(&file)));
        self.embeddings.iter().for_each(|path| add("embeddings", file(path)));
        if self.preset == Preset::Study {
            add("preset", "study".into());
        }
        self.name.iter().for_each(|name| add("name", name.clone()));
        add("split", self.split.as_str().into());
        self.rows.iter().for_each(|rows| add("rows", rows.to_string()));
        let applies = |flag: &str| Hyperparameters::applies(flag, family);
        let hyper = self.hyper.given();
        hyper.into_iter().filter(|(flag, _)| applies(flag)).for_each(|(flag, it)| add(flag, it));
        if family == Family::Transformer {
            match &self.base {
                Some(base) if whole => add("base", base.clone()),
                _ => found.base.iter().for_each(|base| add("base", Pretrained::name(base))),
            }
            found.mean_with.iter().for_each(|other| add("mean-with", Pretrained::name(other)));
        }
        found.teachers.iter().for_each(|teacher| add("teacher", teacher.clone()));
        if family == Family::Transformer || !found.teachers.is_empty() {
            let precision = self.precision.to_possible_value().expect("none is skipped");
            add("precision", precision.get_name().to_owned());
        }
        self.frozen.iter().for_each(|frozen| add("frozen", frozen.to_string()));
        self.directions.iter().for_each(|directions| add("directions", directions.to_string()));
        add("seed", self.seed.to_string());
        if whole {
            self.word_lists.iter().for_each(|path| add("word-lists", file(path)));
            add("output", file(&found.output));
            add("device", self.device.clone());
        }
        add("set", format!("model.threads={}", found.threads));
        words
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=@:+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        let check = |word: &str, expected: &str| assert_eq!(quoted(word), expected);
        check("data/a-b.csv.xz=0.03", "data/a-b.csv.xz=0.03");
        check("my data.csv", "'my data.csv'");
        check("it's $HOME", r"'it'\''s $HOME'");
        check("", "''");
    }
}
