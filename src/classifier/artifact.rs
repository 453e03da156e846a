//! One version of one model on disk.
//!
//! `models/<name>/<version>/` holds `manifest.json`, `weights.safetensors`,
//! `README.md` (the model card) and, where the family has one, `vocabulary.txt`; where the
//! preset is the study's, `lexicon.txt` too.
//!
//! **Invariant.** A version is written whole or not at all (a temporary folder, then a
//! rename), and never changed: every file's SHA-256 stands in the manifest, and that of
//! each file a model reads is compared on loading. Deliberately absent: paths of the machine
//! that trained it, and formats that can carry code.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::network::Served;
use super::weights::{Precision, WeightsError};
use super::{
    Calibration, Classifier, Dense, DenseShape, Encoder, HashedWords, KnownNgrams, Logistic,
    LogisticShape, Lstm, LstmShape, Model, ModelId, Network, Purpose, Sequence, Tfidf, TfidfShape,
    Weights, WordIds,
};
use tch::Device;

use crate::domain::Probability;
use crate::text::{
    Analyzer, Lexicon, LexiconError, Ngrams, NgramsError, Preset, Vocabulary, VocabularyError,
};

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "weights.safetensors";
const VOCABULARY: &str = "vocabulary.txt";
const LEXICON: &str = "lexicon.txt";
const NGRAMS: &str = "ngrams.txt";
/// Name of the model card.
pub const CARD: &str = "README.md";
/// Ends of the names of files that no model reads.
const FOR_PEOPLE: [&str; 3] = [".md", ".csv", ".svg"];

/// A kind of model, with what must be known to read its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "family", content = "architecture", rename_all = "kebab-case")]
pub enum Architecture {
    /// Logistic regression over hashed words.
    LogisticHash(LogisticShape),
    /// Logistic regression over TF-IDF of n-grams.
    LogisticTfidf(TfidfShape),
    /// The mean of word vectors and a dense layer.
    Dense(DenseShape),
    /// LSTM over word vectors.
    Lstm(LstmShape),
}

impl Architecture {
    /// The family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Self::LogisticHash(_) => "logistic-hash",
            Self::LogisticTfidf(_) => "logistic-tfidf",
            Self::Dense(_) => "dense",
            Self::Lstm(_) => "lstm",
        }
    }
}

/// What a model is, what it learned from, and how well it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// Family, and the shape of its weights.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Name of the [`Preset`] that turns text into words.
    pub preset: String,
    /// From what the model says to what is stored.
    pub calibration: Calibration,
    /// How many numbers it has.
    pub parameters: usize,
    /// How many of them were learned; the others came with the word vectors.
    pub trainable: usize,
    /// Seed of the split, the first weights and the order of batches.
    pub seed: u64,
    /// What to type to train it again; file names without folders.
    pub command: String,
    /// What it learned from.
    pub data: Data,
    /// Commit of the program that trained it; absent where it was not built from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Versions of what computed it.
    pub libraries: BTreeMap<String, String>,
    /// What computed it: processor or GPU, threads.
    pub machine: String,
    /// When training ended.
    pub trained_at: DateTime<Utc>,
    /// How long training took.
    pub minutes: f64,
    /// Measured on the files of this version: data set to figure to value.
    pub metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// SHA-256 over the rows of each of those data sets: figures on equal rows compare.
    pub rows_sha256: BTreeMap<String, String>,
    /// SHA-256 of each other file of the version, by its name.
    pub files: BTreeMap<String, String>,
}

/// Where the rows came from and where they went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The file's name.
    pub file: String,
    /// The file's SHA-256.
    pub sha256: String,
    /// Rows learned from.
    pub rows_train: usize,
    /// Rows that decided when to stop.
    pub rows_validation: usize,
    /// Rows held out.
    pub rows_held_out: usize,
    /// How rows were parted: `user`, `random` or `time`.
    pub split: String,
    /// Further files learned from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Source>,
    /// Human-labelled rows that the calibration was fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Source>,
    /// Where the word vectors came from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Source>,
}

/// A file that went into a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// What was taken from it.
    pub about: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.file, self.about)
    }
}

impl Manifest {
    /// `name@version`
    pub fn id(&self) -> ModelId {
        ModelId { name: self.name.clone(), version: self.version }
    }

    /// The files that a model reads, with their SHA-256; the others are for people.
    pub fn files_read(&self) -> impl Iterator<Item = (&String, &String)> {
        let is_read = |name: &str| !FOR_PEOPLE.iter().any(|ending| name.ends_with(ending));
        self.files.iter().filter(move |(name, _)| is_read(name))
    }
}

/// The content of a version before it is written.
#[derive(Debug)]
pub struct NewArtifact {
    /// All but `version` and `files`, which writing fills in.
    pub manifest: Manifest,
    /// The numbers.
    pub weights: Weights,
    /// The words, where the family has them.
    pub vocabulary: Option<Vocabulary>,
    /// From texts to words; its word lists are kept beside the vocabulary.
    pub analyzer: Analyzer,
    /// The n-grams, where the family has them.
    pub ngrams: Option<Ngrams>,
    /// Further files to keep beside it, such as the course of the training.
    pub extra: BTreeMap<String, Vec<u8>>,
}

/// Why a model could not be read or written, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No model of that name.
    #[error("there is no model {name:?} in {}; {}", .directory.display(), one_of(.known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// What is there.
        known: Vec<String>,
    },
    /// A name that no model may have.
    #[error(
        "{0:?} is no name for a model: use lower-case letters, digits, '-' and '_', {max} at most",
        max = super::NAME_BYTES_MAX
    )]
    Name(String),
    /// A file the manifest names is missing.
    #[error("{} is missing: restore it, or train the model again (monitor retrain)", .0.display())]
    Missing(PathBuf),
    /// A file is not the one that was written.
    #[error(
        "{} was changed or cut off: its SHA-256 is {found}, and the manifest says {expected}; \
         restore the file, or train the model again (monitor retrain)", .path.display()
    )]
    Checksum {
        /// Which file.
        path: PathBuf,
        /// SHA-256 in the manifest.
        expected: String,
        /// SHA-256 of what is there.
        found: String,
    },
    /// A JSON file is none, or lacks a field.
    #[error("{}: {source}", .path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The manifest says something this program cannot follow.
    #[error("{}: {reason}", .path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The weights do not fit the manifest.
    #[error("{}: {source}", .path.display())]
    Weights {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// The vocabulary is none.
    #[error("{}: {source}", .path.display())]
    Vocabulary {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: VocabularyError,
    },
    /// The word lists of the study's preset are none.
    #[error("{}: {source}", .path.display())]
    Lexicon {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: LexiconError,
    },
    /// The list of n-grams is none.
    #[error("{}: {source}", .path.display())]
    Ngrams {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: NgramsError,
    },
}

fn one_of(known: &[String]) -> String {
    if known.is_empty() {
        "there are none: train one (monitor retrain), or point model.directory elsewhere".into()
    } else {
        format!("there are {}", known.join(", "))
    }
}

/// Attaches a path to what the system said.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { path, source }
}

/// SHA-256 in lower-case hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `manifest.json` of the version in `folder`.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, ArtifactError> {
    let path = folder.join(MANIFEST);
    let text = read_file(&path)?;
    serde_json::from_slice(&text).map_err(|source| ArtifactError::Json { path, source })
}

/// SHA-256 of a file that must be there.
pub(super) fn checksum(path: &Path) -> Result<String, ArtifactError> {
    Ok(sha256(&read_file(path)?))
}

/// Reads a file that must be there.
fn read_file(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ArtifactError::Missing(path.to_owned()),
        _ => at(path)(source),
    })
}

/// Reads and verifies the version in `folder`.
pub(super) fn load(folder: &Path) -> Result<Model, ArtifactError> {
    let manifest = read_manifest(folder)?;
    // A typo mended in the card stops no daemon.
    let mut files = BTreeMap::new();
    for (name, expected) in manifest.files_read() {
        let path = folder.join(name);
        let bytes = read_file(&path)?;
        let found = sha256(&bytes);
        if found != *expected {
            return Err(ArtifactError::Checksum { path, expected: expected.clone(), found });
        }
        files.insert(name.as_str(), bytes);
    }
    let refuse = |reason: String| ArtifactError::Manifest { path: folder.join(MANIFEST), reason };
    let preset: Preset = manifest.preset.parse().map_err(|error| refuse(format!("{error}")))?;
    // Parsed is what was verified, not what may stand there by then.
    let mut verified = |name: &str| {
        files.remove(name).ok_or_else(|| refuse(format!("{name:?} is not among its files")))
    };
    let numbers = verified(WEIGHTS)?;
    let list = match list(&manifest) {
        Some(name) => text(&folder.join(name), verified(name)?)?,
        None => String::new(),
    };
    let analyzer = match preset {
        Preset::Tweet => Analyzer::tweet(),
        Preset::Study => {
            let path = folder.join(LEXICON);
            let lexicon = Lexicon::parse(&text(&path, verified(LEXICON)?)?)
                .map_err(|source| ArtifactError::Lexicon { path, source })?;
            Analyzer::study(Arc::new(lexicon))
        }
    };
    let Calibration { temperature, threshold } = manifest.calibration;
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(refuse(format!("temperature {temperature} is not above zero")));
    }
    let threshold =
        Probability::new(threshold).map_err(|error| refuse(format!("threshold {error}")))?;

    let unfit = |source| ArtifactError::Weights { path: folder.join(WEIGHTS), source };
    let mut weights = Weights::parse(&numbers).map_err(unfit)?;
    drop(numbers);
    let words = |size: usize, sequence: Sequence| {
        let vocabulary = Vocabulary::parse(&list).map_err(|source| ArtifactError::Vocabulary {
            path: folder.join(VOCABULARY),
            source,
        })?;
        if vocabulary.len() != size {
            return Err(refuse(format!(
                "it asks for {size} words, and {VOCABULARY} has {}",
                vocabulary.len()
            )));
        }
        Ok(Arc::new(WordIds::new(analyzer.clone(), vocabulary, sequence)))
    };
    let (encoder, classifier): (Arc<dyn Encoder>, Box<dyn Classifier>) = match manifest.architecture
    {
        Architecture::LogisticHash(shape) => {
            let encoder = HashedWords::new(analyzer, shape).ok_or_else(|| {
                refuse(format!("2^{} buckets are out of range", shape.buckets_log2))
            })?;
            (Arc::new(encoder), Box::new(Logistic::load(shape, &mut weights).map_err(unfit)?))
        }
        Architecture::LogisticTfidf(shape) => {
            let ngrams = Ngrams::parse(list)
                .map_err(|source| ArtifactError::Ngrams { path: folder.join(NGRAMS), source })?;
            if ngrams.ids() != shape.ngrams {
                return Err(refuse(format!(
                    "it asks for {} ids (a line each, and one for nothing), and {NGRAMS} gives {}",
                    shape.ngrams,
                    ngrams.ids()
                )));
            }
            let encoder = KnownNgrams::new(analyzer, ngrams, shape);
            (Arc::new(encoder), Box::new(Tfidf::load(shape, &mut weights).map_err(unfit)?))
        }
        Architecture::Dense(shape) => {
            let encoder = words(shape.vocabulary, shape.sequence)?;
            let network = Dense::new(shape, Purpose::Service, Device::Cpu);
            network.load(&mut weights).map_err(unfit)?;
            (encoder, Box::new(Served(network)))
        }
        Architecture::Lstm(shape) => {
            let encoder = words(shape.vocabulary, shape.sequence)?;
            let network = Lstm::new(shape, Purpose::Service, Device::Cpu);
            network.load(&mut weights).map_err(unfit)?;
            (encoder, Box::new(Served(network)))
        }
    };
    let model = Model { id: manifest.id(), threshold, encoder, classifier };
    Ok(model.calibrated(manifest.calibration, threshold))
}

/// The file that says what ids stand for, where the family has one.
fn list(manifest: &Manifest) -> Option<&'static str> {
    match manifest.architecture {
        Architecture::LogisticHash(_) => None,
        Architecture::LogisticTfidf(_) => Some(NGRAMS),
        Architecture::Dense(_) | Architecture::Lstm(_) => Some(VOCABULARY),
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, ArtifactError> {
    String::from_utf8(bytes)
        .map_err(|error| at(path)(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))
}

/// Writes numbers and words of a version into `folder`; [`seal`] finishes it.
pub(super) fn write_content(folder: &Path, artifact: &NewArtifact) -> Result<(), ArtifactError> {
    let mut files = vec![(WEIGHTS, artifact.weights.to_bytes(Precision::Half))];
    if let Some(vocabulary) = &artifact.vocabulary {
        files.push((VOCABULARY, vocabulary.to_text().into_bytes()));
    }
    if let Some(lexicon) = artifact.analyzer.lexicon() {
        files.push((LEXICON, lexicon.to_text().into_bytes()));
    }
    if let Some(ngrams) = &artifact.ngrams {
        files.push((NGRAMS, ngrams.text().as_bytes().to_vec()));
    }
    files.extend(artifact.extra.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    files.into_iter().try_for_each(|(name, bytes)| write_file(&folder.join(name), &bytes))
}

/// Writes the card, and the manifest with the checksums of all that is in `folder`.
pub(super) fn seal(
    folder: &Path,
    manifest: &mut Manifest,
    card: &str,
) -> Result<(), ArtifactError> {
    write_file(&folder.join(CARD), card.as_bytes())?;
    manifest.files.clear();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != MANIFEST {
            manifest.files.insert(name, checksum(&path)?);
        }
    }
    let mut json =
        serde_json::to_vec_pretty(&manifest).expect("a manifest has text keys and finite numbers");
    json.push(b'\n');
    write_file(&folder.join(MANIFEST), &json)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    fs::write(path, bytes).map_err(at(path))
}
