//! What a model says about itself: `manifest.json`.
//!
//! **Invariant.** Every figure was measured on the files of the version it stands in.
//! Deliberately absent: paths of the machine that trained it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Calibration, CascadeShape, DenseShape, LogisticShape, LstmShape, Member, ModelId, TfidfShape,
    TransformerShape,
};

/// Ends of the names of files that no model reads.
const FOR_PEOPLE: [&str; 3] = [".md", ".csv", ".svg"];

/// A kind of model, with what must be known to read its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// BERT or DistilBERT.
    Transformer(TransformerShape),
    /// Two other models: the cheap one answers where it is sure.
    Cascade(CascadeShape),
}

impl Architecture {
    /// The family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Self::LogisticHash(_) => "logistic-hash",
            Self::LogisticTfidf(_) => "logistic-tfidf",
            Self::Dense(_) => "dense",
            Self::Lstm(_) => "lstm",
            Self::Transformer(_) => "transformer",
            Self::Cascade(_) => "cascade",
        }
    }

    /// The cheap and the costly model, where it is a cascade.
    pub fn members(&self) -> Vec<&Member> {
        match self {
            Self::Cascade(shape) => vec![&shape.cheap, &shape.costly],
            _ => Vec::new(),
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
    /// A model whose scores it learned from beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Source>,
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
