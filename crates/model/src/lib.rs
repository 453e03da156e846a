//! From text to the probability that it is negative.
//!
//! Two halves, so that each runs where it belongs: an [`Encoder`] turns text into ids on
//! any CPU thread; a [`Classifier`] turns a batch of ids into probabilities on the one
//! thread that owns it (see [`ModelHandle`]). [`open`] reads both from a folder of
//! models; a [`Manifest`] says what is in one.
//!
//! **Invariant.** One probability per input, in order, and the same for a row whatever
//! rows travel beside it (within 1e-5 in single precision). Deliberately absent: Kafka, Postgres, brands.

mod artifact;
mod calibration;
mod cascade;
mod dense;
mod device;
mod logistic;
mod lstm;
mod manifest;
mod network;
mod null;
mod registry;
mod served;
mod tfidf;
mod transformer;
mod weights;
mod words;
mod worker;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use monitor_core::domain::Probability;

pub use artifact::{ArtifactError, CARD, NewArtifact, TransformerFiles};
pub use calibration::Calibration;
pub use cascade::{Cascade, CascadeShape, Member, moved};
pub use dense::{Dense, DenseShape};
pub use device::{Compute, DeviceError, device};
pub use logistic::{HashedWords, Logistic, LogisticShape};
pub use lstm::{Lstm, LstmShape, Pooling};
pub use manifest::{Architecture, Data, Manifest, Source};
pub use network::{GENERATOR, Network, Padded, Purpose};
pub use registry::{
    BEFORE_CALIBRATION, Comparison, Entry, FileState, OpenOptions, Promotion, RegistryError,
    comparable, folder, history, member, open, promote, promote_checked, promoted, read_manifest,
    ready, register, registered, remove, resolve, rollback, verify,
};
pub use tfidf::{KnownNgrams, Tfidf, TfidfShape, features};
pub use transformer::{
    Pretrained, Transformer, TransformerConfig, TransformerKind, TransformerShape, WordPieces,
    without_names,
};
pub use weights::{StoredPrecision, Weights, WeightsError};
pub use words::{Sequence, WordIds};
pub use worker::{ModelHandle, WorkerGone};

/// A model's longest name; file systems and Prometheus take more.
const NAME_BYTES_MAX: usize = 100;

/// Token or feature ids of one text. Never empty: a text with nothing in it gets the
/// id that the model keeps for "unknown".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Ids below the model's vocabulary size.
    pub ids: Vec<u32>,
    /// Whether the text had more than the model reads.
    pub truncated: bool,
    /// The text itself, where the model may yet have to encode it otherwise: a cascade hands
    /// it to its costly model.
    pub text: Option<Box<str>>,
}

impl Encoding {
    /// Of a whole text.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids, truncated: false, text: None }
    }
}

/// Turns text into ids; pure and shared between threads.
pub trait Encoder: Send + Sync {
    /// Encodes one text, truncated to the model's longest input.
    fn encode(&self, text: &str) -> Encoding;
}

/// Turns ids into probabilities; owned by one thread.
pub trait Classifier: Send {
    /// Probability of "negative" for each of `batch`, in order.
    ///
    /// # Errors
    /// [`ClassifyError`] when the batch could not be computed; nothing is partial.
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError>;

    /// Tokens that it computes in one pass at most, padding counted; less once memory ran
    /// out. `None` for one that pads nothing.
    fn tokens_max(&self) -> Option<usize> {
        None
    }
}

/// A batch that could not be scored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the model failed on a batch of {rows} rows: {reason}")]
pub struct ClassifyError {
    /// Rows in the batch.
    pub rows: usize,
    /// What the model said.
    pub reason: String,
    /// Whether what computes is at fault and no row is: fewer rows would fail too.
    pub device: bool,
}

impl ClassifyError {
    /// Of so many rows, one of which may be at fault.
    pub fn new(rows: usize, reason: impl Into<String>) -> Self {
        Self { rows, reason: reason.into(), device: false }
    }
}

/// One version of one model; written `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId {
    /// The model's name, which is a folder's name.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl std::str::FromStr for ModelId {
    type Err = InvalidModelId;
    fn from_str(text: &str) -> Result<Self, InvalidModelId> {
        let parsed = text.split_once('@').and_then(|(name, version)| {
            let version = version.parse().ok().filter(|version| *version > 0)?;
            is_name(name).then(|| Self { name: name.to_owned(), version })
        });
        parsed.ok_or_else(|| InvalidModelId(text.to_owned()))
    }
}

impl TryFrom<String> for ModelId {
    type Error = InvalidModelId;
    fn try_from(text: String) -> Result<Self, InvalidModelId> {
        text.parse()
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.to_string()
    }
}

/// Whether a model may be called so: at most 100 lower-case letters, digits, `-` and `_`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(plain)
}

/// The text is no model id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no model id: give name@version, such as lstm@1")]
pub struct InvalidModelId(pub String);

/// A model in memory, ready to score.
pub struct Model {
    /// Which one it is; stored with each score.
    pub id: ModelId,
    /// Negative from this probability upwards.
    pub threshold: Probability,
    /// The half that runs anywhere.
    pub encoder: Arc<dyn Encoder>,
    /// The half that one thread owns.
    pub classifier: Box<dyn Classifier>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Model {
    /// Scores a few texts at once, on this thread.
    ///
    /// # Errors
    /// [`ClassifyError`] when the batch could not be computed.
    pub fn score(&mut self, texts: &[&str]) -> Result<Vec<Probability>, ClassifyError> {
        let encodings: Vec<Encoding> = texts.iter().map(|t| self.encoder.encode(t)).collect();
        self.classifier.classify(&encodings.iter().collect::<Vec<_>>())
    }
}

/// Checks a row's ids before a model indexes its weights with them.
fn check_ids(batch: &[&Encoding], count: usize) -> Result<(), ClassifyError> {
    let failed = |reason: String| ClassifyError::new(batch.len(), reason);
    for encoding in batch {
        if encoding.ids.is_empty() {
            return Err(failed("a row has no ids".into()));
        }
        if let Some(id) = encoding.ids.iter().find(|id| **id as usize >= count) {
            return Err(failed(format!("id {id} is beyond the model's {count} ids")));
        }
    }
    Ok(())
}

/// Wraps what a model computed, refusing what is no probability.
fn probabilities(values: Vec<f32>) -> Result<Vec<Probability>, ClassifyError> {
    let rows = values.len();
    values
        .into_iter()
        .map(|value| {
            Probability::new(value).map_err(|error| ClassifyError::new(rows, error.to_string()))
        })
        .collect()
}

/// What a panic said.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// SHA-256 in lower-case hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The logistic function.
fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_ids() {
        let check = |text: &str, sound: bool| {
            let parsed = text.parse::<ModelId>();
            assert_eq!(parsed.is_ok(), sound, "{text}");
            if let Ok(id) = parsed {
                assert_eq!(id.to_string(), text);
            }
        };
        check("lstm@1", true);
        check("my-model_2@12", true);
        check("Lstm@1", false);
        check("lstm", false);
        check("lstm@", false);
        check("lstm@0", false);
        check("lstm@x", false);
        check("@1", false);
        check("../lstm@1", false);
        check("a@1@2", false);
    }
}
