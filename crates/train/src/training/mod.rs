//! From labelled tweets to a registered model.
//!
//! Read the rows ([`read`]), part them ([`split`]), let one loop train any neural family
//! (`trainer.rs`), choose a threshold on validation rows or calibrate on human-labelled
//! ones (`calibrate.rs`), measure the files that will ship, register them with a card
//! ([`train`]). [`cascade`] puts two models together. `families.rs` has what differs between families; a new one starts there.
//!
//! **Invariant.** The same file, seed, machine and number of threads give the same
//! figures. By user, no author stands on two sides of the split, and no text of the test
//! file is learned from. Deliberately absent: a search for hyperparameters; those in
//! `families.rs` were chosen on validation rows, never on held-out or test rows.

mod adam;
mod calibrate;
mod cards;
mod cascade;
mod checkpoint;
mod dataset;
mod embeddings;
pub mod evaluation;
mod families;
pub mod linear;
mod logistic;
mod measure;
pub mod packed;
mod profile;
mod progress;
mod split;
mod teacher;
mod trainer;
mod vectors;
mod word_lists;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tch::Device;

use checkpoint::Checkpoint;
use measure::{CALIBRATION_ROWS_MIN, Human, choose_threshold, record};
use progress::threads;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::text::Analyzer;
use monitor_model::{
    self as classifier, ArtifactError, BEFORE_CALIBRATION, Calibration, ClassifyError, Data,
    GENERATOR, Manifest, ModelId, NewArtifact, Promotion, Source,
};

pub use cascade::{CascadeRequest, cascade};
pub use checkpoint::{CheckpointError, is_unfinished};
pub use dataset::{
    Dataset, DatasetError, Fault, Faulty, Layout, Report, Row, Target, read, read_targets,
};
pub use dataset::{Ends, Fields, ROW_BYTES_MAX, Records};
pub use embeddings::{EmbeddingError, EmbeddingFault};
pub use evaluation::{ClassificationReport, Metrics};
pub use families::Family;
#[doc(hidden)]
pub use families::LSTM_RECIPE;
pub use measure::{HELD_OUT, measure, rows_sha256, scores};
pub use profile::{Place, Profile, Quantiles, picture, profile};
pub use progress::training_time;
use split::split_beside;
pub use split::{Split, SplitBy, split};
pub use word_lists::{WordListError, find as find_word_lists};

/// What computes; kept in step with `vendor/tch` by a test.
const TCH: &str = "0.24.0";
const LIBTORCH: &str = "2.11.0";

/// What to train, from what, and where to.
pub struct Request<'a> {
    /// The family.
    pub family: Family,
    /// The model's name.
    pub name: String,
    /// From texts to words; the study's preset brings the study's form of the network.
    pub analyzer: Analyzer,
    /// Files of word embeddings to begin with.
    pub embeddings: Vec<PathBuf>,
    /// Whether word vectors stay as they are; `None` leaves it to the form.
    pub frozen: Option<bool>,
    /// Directions of an LSTM; `None` leaves it to the form.
    pub directions: Option<usize>,
    /// Numbers of the hidden layer; `None` leaves it to the family.
    pub hidden: Option<usize>,
    /// How rows are parted.
    pub split: SplitBy,
    /// Folder of models.
    pub output: PathBuf,
    /// Passes over the rows at most; `None` leaves it to the family.
    pub epochs_max: Option<usize>,
    /// Rows of a step; `None` leaves it to the family.
    pub batch_rows: Option<usize>,
    /// Longest step of Adam; `None` leaves it to the family.
    pub learning_rate: Option<f64>,
    /// Folder of the pretrained transformer to begin with.
    pub base: Option<PathBuf>,
    /// Whether a transformer computes in bfloat16 while it learns or teaches.
    pub half: bool,
    /// Name or `name@version` of a model whose scores are learned from beside the labels.
    pub teacher: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads for libtorch.
    pub threads: usize,
    /// Where the network is trained.
    pub device: Device,
    /// The same, in the words of the settings.
    pub device_name: String,
    /// Whether the model's name opens the new version from now on.
    pub promote: bool,
    /// Take up what a stopped training of this name has left.
    pub resume: bool,
    /// Whether somebody asked to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Commit of the program, for the manifest.
    pub commit: Option<String>,
    /// What to type to do it again, for the manifest; without folders.
    pub command: String,
}

/// The rows of a training.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// To learn from, validate and hold out.
    pub data: &'a Dataset,
    /// Further files among them, for the manifest.
    pub also: &'a [Source],
    /// How many of the last rows came from those: they are learned from and never held out.
    pub also_rows: usize,
    /// To measure on at the end.
    pub test: Option<&'a Dataset>,
    /// Human-labelled, to calibrate with.
    pub calibrate: Option<&'a Dataset>,
}

impl Request<'_> {
    /// Where this training, on these very data, keeps its checkpoint.
    fn checkpoint(&self, sides: &Split<'_>, embeddings: &[Source], taught: &str) -> Checkpoint {
        let Self { command, threads, device, .. } = self;
        let (train, validation) = (rows_sha256(&sides.train), rows_sha256(&sides.validation));
        let lists = self.analyzer.lexicon().map(|lexicon| sha256(lexicon.to_text().as_bytes()));
        let about = format!(
            "{command} {threads} {device:?} {train} {validation} {taught} {embeddings:?} {lists:?} {} \
             {LIBTORCH}",
            env!("CARGO_PKG_VERSION")
        );
        Checkpoint::new(&self.output, &self.name, sha256(about.as_bytes()), command.clone())
    }
}

/// A new version in the folder of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// What it says about itself.
    pub manifest: Manifest,
    /// What became of its promotion; `None` where none was asked for.
    pub promotion: Option<Promotion>,
}

/// Why there is no new model.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A data file will not do.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Too few rows on one side of the split.
    #[error(
        "{train} rows to learn from, {validation} to validate and {held_out} held out: each side \
         needs negative and positive ones; give more rows (--split time holds out only rows that \
         have a date)"
    )]
    TooFew {
        /// Rows to learn from.
        train: usize,
        /// Rows to validate.
        validation: usize,
        /// Rows held out.
        held_out: usize,
    },
    /// Too few human-labelled rows.
    #[error(
        "{file}: of {rows} rows {left} are not learned from too; that is too few to calibrate with: \
         {CALIBRATION_ROWS_MIN} negative and {CALIBRATION_ROWS_MIN} positive ones are needed in each \
         half (texts of --test are left out of it)"
    )]
    TooFewToCalibrate {
        /// Which file.
        file: String,
        /// Rows in it.
        rows: usize,
        /// Of these, rows that the model does not learn from.
        left: usize,
    },
    /// A model learned from the rows at hand.
    #[error(transparent)]
    Selection(#[from] evaluation::SelectionError),
    /// Too few rows that neither model of a cascade learned from.
    #[error(
        "{file}: {fit} rows are left to fit a cascade on, and {held_out} to measure it on, that \
         neither of its models learned from: each part needs negative and positive ones. Give the \
         file that both were trained on, with equal --seed and --split, or one that neither knows"
    )]
    TooFewForCascade {
        /// Which file.
        file: String,
        /// Rows that neither learned from, and that decided when to stop.
        fit: usize,
        /// Rows that neither has ever seen.
        held_out: usize,
    },
    /// Word embeddings will not do.
    #[error(transparent)]
    Embeddings(#[from] EmbeddingError),
    /// The teacher learned from rows that the pupil is measured on, or may have.
    #[error(
        "{teacher} cannot teach here: it held out other rows or learned from other files, so that the \
         new model would be measured on rows that its teacher learned from; give the --data, --test, --rows, --also, --seed and \
         --split that {teacher} was trained with (monitor models show {teacher})"
    )]
    OtherTeacher {
        /// Which model.
        teacher: String,
    },
    /// A transformer is not trained from nothing.
    #[error(
        "a transformer begins with pretrained weights: give their folder (--base), or fetch them \
         first (monitor models fetch distilbert-base-uncased)"
    )]
    NoBase,
    /// A checkpoint could not be written or taken up.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Somebody asked to stop.
    #[error("stopped; everything so far is kept. To go on, give the same command with --resume")]
    Stopped,
    /// Somebody asked to stop what cannot be resumed, nor need be.
    #[error("stopped; nothing is kept, since this family takes a minute: run the same again")]
    Abandoned,
    /// The loss is no number any more.
    #[error("training diverged in epoch {epoch}: the loss is {loss}")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// The model could not be written or opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The new model failed on a row.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}

/// Trains one family on `rows.data`, chooses its threshold, measures it on the held-out
/// rows (and on those of the test), registers the next version and, where asked to,
/// promotes it, unless it is worse than the one promoted now.
///
/// # Errors
/// [`TrainingError`]; the registry is unchanged then.
pub fn train(request: &Request<'_>, rows: Rows<'_>) -> Result<Registered, TrainingError> {
    classifier::ready(&request.output, &request.name)?;
    let data = rows.data;
    let (own, also) = data.rows.split_at(data.rows.len().saturating_sub(rows.also_rows));
    let sides = split_beside(own, also, request.split, request.seed);
    let counts = (sides.train.len(), sides.validation.len(), sides.held_out.len());
    if ![&sides.train, &sides.validation, &sides.held_out].into_iter().all(|s| has_both(s)) {
        let (train, validation, held_out) = counts;
        return Err(TrainingError::TooFew { train, validation, held_out });
    }
    let human = rows.calibrate.map(|human| Human::new(human, data)).transpose()?;
    let clock = SystemClock::new();
    // A model that is opened takes its turn at the generator too.
    let lessons = teacher::lessons(request, &sides, rows.also)?;
    let alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(i32::try_from(request.threads).unwrap_or(i32::MAX).max(1));
    tch::manual_seed(request.seed as i64);
    let trained = families::fit(request, &sides, &lessons.targets)?;
    // Nothing is drawn from here on; whoever opens a transformer waits for this.
    drop(alone);
    eprintln!("{}: trained; measuring", request.name);
    let before: f64 = trained.history.iter().map(|epoch| epoch.seconds).sum();
    let seconds = before.max(clock.elapsed().as_secs_f64());

    let (parameters, trainable) = trained.parameters;
    let manifest = Manifest {
        name: request.name.clone(),
        version: 0,
        architecture: trained.architecture,
        preset: request.analyzer.preset().as_str().to_owned(),
        calibration: Calibration::NONE,
        parameters,
        trainable,
        seed: request.seed,
        command: request.command.clone(),
        data: Data {
            file: data.file.clone(),
            sha256: data.sha256.clone(),
            rows_train: counts.0,
            rows_validation: counts.1,
            rows_held_out: counts.2,
            split: request.split.as_str().to_owned(),
            also: rows.also.to_vec(),
            calibrate: rows.calibrate.zip(human.as_ref()).map(|(data, human)| Source {
                file: data.file.clone(),
                sha256: data.sha256.clone(),
                about: format!("{} rows fitted on", human.fit.len()),
            }),
            embeddings: trained.embeddings,
            teacher: lessons.teacher,
        },
        commit: request.commit.clone(),
        libraries: BTreeMap::from([
            ("monitor".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("tch".to_owned(), TCH.to_owned()),
            ("libtorch".to_owned(), LIBTORCH.to_owned()),
        ]),
        machine: machine(request),
        trained_at: clock.now(),
        minutes: (seconds / 60.0 * 1e3).round() / 1e3,
        metrics: BTreeMap::new(),
        rows_sha256: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let artifact = NewArtifact {
        manifest,
        weights: trained.weights,
        vocabulary: trained.vocabulary,
        analyzer: request.analyzer.clone(),
        ngrams: trained.ngrams,
        transformer: trained.transformer,
        extra: course(&trained.history),
    };
    let registered =
        classifier::register(&request.output, artifact, request.device, |mut model, manifest| {
            let validated =
                choose_threshold(&mut model, manifest, &sides.validation, human.as_ref())?;
            let test: Vec<&Row> = rows.test.iter().flat_map(|test| &test.rows).collect();
            let name = rows.test.map_or("", |test| test.file.as_str());
            for (name, rows) in [(HELD_OUT, &sides.held_out), (name, &test)] {
                if rows.is_empty() {
                    continue;
                }
                let pairs = scores(&mut model, rows)?;
                record(manifest, name, &pairs, manifest.calibration, rows_sha256(rows));
                if manifest.calibration != validated {
                    let name = format!("{name}{BEFORE_CALIBRATION}");
                    record(manifest, &name, &pairs, validated, rows_sha256(rows));
                }
            }
            Ok::<String, TrainingError>(cards::card(manifest, &data.report))
        })?;
    if let Some(checkpoint) = trained.checkpoint {
        checkpoint.remove();
    }
    let id = registered.id();
    let promotion = request.promote.then(|| promote(&request.output, &id, clock.now()));
    Ok(Registered { manifest: registered, promotion: promotion.transpose()? })
}

/// Promotes a new version, unless its own figures say that it is worse.
fn promote(directory: &Path, id: &ModelId, now: DateTime<Utc>) -> Result<Promotion, TrainingError> {
    let compare = |old: &Manifest, new: &Manifest| Ok(classifier::comparable(old, new));
    classifier::promote_checked(directory, id, now, compare)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The course of the training as CSV, a line an epoch.
fn course(history: &[trainer::Epoch]) -> BTreeMap<String, Vec<u8>> {
    if history.is_empty() {
        return BTreeMap::new();
    }
    let mut csv = csv::Writer::from_writer(Vec::new());
    for epoch in history {
        csv.serialize(epoch).expect("numbers go into memory");
    }
    let bytes = csv.into_inner().expect("memory needs no flushing");
    BTreeMap::from([("training.csv".to_owned(), bytes)])
}

/// What computes, in words.
fn machine(request: &Request<'_>) -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    let device = match request.device {
        Device::Cpu => String::new(),
        other => format!(", {other:?}"),
    };
    format!("{processor}, {}{device}", threads(request.threads))
}

fn has_both(rows: &[&Row]) -> bool {
    rows.iter().any(|row| row.negative) && rows.iter().any(|row| !row.negative)
}

/// The last part of a path, as it stands in manifests.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn library_versions_are_those_of_the_build() {
        let shim = include_str!("../../../../vendor/tch/Cargo.toml");
        assert!(shim.contains(&format!("package = \"tch\", version = \"{}\"", super::TCH)));
    }
}
