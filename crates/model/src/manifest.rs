//! The description of a model: `manifest.json`.
//!
//! **Invariant.** Every metric was measured on the files of the same version.
//! Deliberately absent: paths of the machine that trained it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use monitor_core::domain::{Classes, Language};

use super::learned::FILTER;
use super::{
    Calibration, CascadeShape, DenseShape, LogisticShape, LstmShape, Member, ModelId, TfidfShape,
    TransformerShape,
};

/// File name endings of files that no model reads to score: those for people, and the filters of
/// the rows it learned from.
const NOT_TO_SCORE: [&str; 4] = [".md", ".csv", ".svg", FILTER];

/// Name of the held-out rows in [`Manifest::metrics`].
pub const HELD_OUT: &str = "held out";

/// A kind of model, with the shape of its weights.
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
    /// Two other models: the costly one scores the rows that the cheap one is unsure of.
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

    /// The cheap and the costly model of a cascade; empty for other kinds.
    pub fn members(&self) -> Vec<&Member> {
        match self {
            Self::Cascade(shape) => vec![&shape.cheap, &shape.costly],
            _ => Vec::new(),
        }
    }
}

/// A model's kind, its training data and its metrics.
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
    /// The classes that it tells apart: 2 or 3.
    #[serde(default = "two_classes")]
    pub classes: Classes,
    /// The languages that it was trained on. The daemon gives it no tweet of another one.
    #[serde(default = "english")]
    pub languages: Vec<Language>,
    /// From the network's probabilities to the stored ones.
    pub calibration: Calibration,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of trained parameters; the others came with the word vectors.
    pub trainable: usize,
    /// Seed of the split, the initial weights and the order of batches.
    pub seed: u64,
    /// The command that trains it again; file names without folders.
    pub command: String,
    /// The training data.
    pub data: Data,
    /// Commit of the program that trained it; absent if it was not built from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Versions of the libraries that computed it.
    pub libraries: BTreeMap<String, String>,
    /// The machine that computed it: processor or GPU, threads.
    pub machine: String,
    /// When training ended.
    pub trained_at: DateTime<Utc>,
    /// How long training took.
    pub minutes: f64,
    /// Measured on the files of this version: value by data set and metric.
    pub metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// SHA-256 of the rows of each of those data sets: metrics on equal rows are comparable.
    pub rows_sha256: BTreeMap<String, String>,
    /// SHA-256 of each other file of the version, by its name.
    pub files: BTreeMap<String, String>,
}

/// Manifests of before there were three classes do not name them.
fn two_classes() -> Classes {
    Classes::Two
}

/// Manifests of before there were languages do not name theirs.
fn english() -> Vec<Language> {
    vec![Language::ENGLISH]
}

/// The source of the rows, and how they were split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The file's name.
    pub file: String,
    /// The file's SHA-256.
    pub sha256: String,
    /// Rows of the training set.
    pub rows_train: usize,
    /// Rows of the validation set, which decides when to stop.
    pub rows_validation: usize,
    /// Rows of the held-out test set.
    pub rows_held_out: usize,
    /// Rows left out of the training and validation sets as near-duplicates.
    #[serde(default, skip_serializing_if = "NearDuplicates::is_none")]
    pub near_duplicates: NearDuplicates,
    /// How the rows were split: `user`, `random` or `time`.
    pub split: String,
    /// Further files that were split like this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Source>,
    /// Further training files, of which nothing was held out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Source>,
    /// Human-labelled rows that the calibration was fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Source>,
    /// Sources of the word vectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Source>,
    /// Teacher models, whose mean scores it learned from in addition to the labels. Manifests of
    /// before there could be several have one `teacher`.
    #[serde(
        default,
        alias = "teacher",
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub teachers: Vec<Source>,
}

/// Reads a source or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Source>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Source),
        Many(Vec<Source>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(source) => vec![source],
        OneOrMany::Many(sources) => sources,
    })
}

/// Numbers of rows that were left out of training because they are nearly the same as rows that
/// measure the model; each row counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NearDuplicates {
    /// Near to rows of the test files.
    pub of_tests: usize,
    /// Near to rows held out.
    pub of_held_out: usize,
    /// Near to rows of the validation set.
    pub of_validation: usize,
}

impl NearDuplicates {
    /// Whether no row was left out.
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for NearDuplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of_tests, of_held_out, of_validation } = self;
        write!(
            f,
            "{of_tests} rows nearly the same as rows of the test files, {of_held_out} as rows held out, \
             {of_validation} as validation rows"
        )
    }
}

/// A file that was used to train a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// What the file was used for.
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

    /// The files that a model reads to score, with their SHA-256.
    pub fn files_read(&self) -> impl Iterator<Item = (&String, &String)> {
        let is_read = |name: &str| !NOT_TO_SCORE.iter().any(|ending| name.ends_with(ending));
        self.files.iter().filter(move |(name, _)| is_read(name))
    }
}
