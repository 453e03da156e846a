//! The options of a training.

use std::path::PathBuf;

use monitor_core::domain::{Classes, Language};
use monitor_core::text::Analyzer;
use tch::Device;

use super::{Family, Hyperparameters};
use crate::data::SplitBy;

/// Options of a training.
#[derive(Clone)]
pub struct TrainingRequest<'a> {
    /// The family.
    pub family: Family,
    /// The classes that the model tells apart.
    pub classes: Classes,
    /// The languages of the rows.
    pub languages: Vec<Language>,
    /// The model's name.
    pub name: String,
    /// Splits texts into words; the `study` preset also selects the study's network shape.
    pub analyzer: Analyzer,
    /// Files of word embeddings that initialise the word vectors.
    pub embeddings: Vec<PathBuf>,
    /// Whether word vectors are frozen; `None`: the preset's default.
    pub frozen: Option<bool>,
    /// Directions of an LSTM; `None`: the preset's default.
    pub directions: Option<usize>,
    /// Hyperparameters.
    pub hyper: Hyperparameters,
    /// How rows are split.
    pub split: SplitBy,
    /// Folder of models.
    pub output: PathBuf,
    /// Folder of the pretrained transformer to fine-tune.
    pub base: Option<PathBuf>,
    /// Folders of versions of the same shape; training begins with the mean of all weights.
    pub mean_with: Vec<PathBuf>,
    /// Whether a transformer computes in bfloat16, as student and as teacher.
    pub half: bool,
    /// Names or `name@version` of the teacher models, if any: targets mix their mean scores and
    /// labels.
    pub teachers: Vec<String>,
    /// Share of the training rows to learn from, above 0 up to 1.
    pub train_share: f64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Threads for libtorch.
    pub threads: usize,
    /// Device that trains the network.
    pub device: Device,
    /// The device as the settings name it.
    pub device_name: String,
    /// Whether to promote the new version.
    pub promote: bool,
    /// Whether to resume from the checkpoint of a stopped training of this name.
    pub resume: bool,
    /// Returns whether the training should stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Commit of the program, for the manifest.
    pub commit: Option<String>,
    /// Command that reproduces it, for the manifest; without folders.
    pub command: String,
}
