//! What a training is asked to do.

use std::path::PathBuf;

use monitor_core::text::Analyzer;
use tch::Device;

use super::Family;
use crate::data::SplitBy;

/// What to train, from what, and where to.
pub struct TrainingRequest<'a> {
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
