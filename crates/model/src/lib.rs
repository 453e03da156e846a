//! From text to the probabilities of its classes: negative, positive, and neutral if the model
//! knows it.
//!
//! A model has two parts: an [`Encoder`] turns text into ids on any CPU thread; a
//! [`Classifier`] turns a batch of ids into probabilities on the one thread that owns it
//! (see [`ModelHandle`]). [`open`] reads both from a folder of models; a [`Manifest`]
//! describes a model.
//!
//! A classifier computes each batch in one pass. The rows of a pass are chosen once, by the
//! caller: in the daemon by the model's thread (`worker`), elsewhere by [`Model::classify`].
//!
//! **Invariant.** One result per input, in order. A row's probability does not depend on
//! the other rows of its pass (within 1e-5 in single precision). Deliberately absent: Kafka,
//! Postgres, brands.

mod artifact;
mod batched_network;
mod calibration;
mod cascade;
mod decisions;
mod dense;
mod device;
mod explain;
mod learned;
mod logistic;
mod lstm;
mod manifest;
mod network;
mod null;
mod registry;
mod tfidf;
mod transformer;
mod weights;
mod words;
mod worker;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use monitor_core::batching::{PassLimits, plan_passes};
use monitor_core::domain::{Classes, LabelThresholds, Language, Probabilities, Score};
use monitor_core::drift::KnownWords;
use monitor_core::text::SourceText;

pub use artifact::{ArtifactError, CARD, NewArtifact, TransformerFiles};
pub use calibration::{BinaryCalibration, Calibration};
pub use cascade::{Cascade, CascadeShape, Member, certainty};
pub use dense::{Dense, DenseShape};
pub use device::{Compute, DeviceError, auto_precision, device, is_half_fast};
pub use explain::{Explanation, Linear, Method, SPANS_MAX, Span, Trace};
pub use learned::{Filters, Known, LearnedRows, add_filters_of_base, known, learned_filter};
pub use logistic::{HashedWords, Logistic, LogisticShape};
pub use lstm::{Lstm, LstmShape, Pooling};
pub use manifest::{Architecture, Data, HELD_OUT, Manifest, NearDuplicates, Source};
pub use network::{GENERATOR, Network, Padded, Purpose};
pub use registry::{
    BEFORE_CALIBRATION, ChanceFigure, Comparison, Entry, FileState, OpenOptions, Promotion,
    RegistryError, comparable, folder, history, judge, member, open, promote, promote_checked,
    promoted, read_manifest, ready, register, registered, remove, resolve, rollback, verify,
};
pub use tfidf::{KnownNgrams, Tfidf, TfidfShape, features};
pub use transformer::{
    Pretrained, Transformer, TransformerConfig, TransformerKind, TransformerShape, WordPieces,
    without_names,
};
pub use weights::{StoredPrecision, Weights, WeightsError};
pub use words::{Sequence, WordIds};
pub use worker::{Answered, ModelHandle, WorkerGone};

/// A model's longest name; file systems and Prometheus allow longer ones.
const NAME_BYTES_MAX: usize = 100;

/// Token or feature ids of one text. Never empty: an empty text gets the id that the model
/// reserves for "unknown".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Ids below the model's vocabulary size.
    pub ids: Vec<u32>,
    /// Whether the text is longer than the model reads.
    pub truncated: bool,
    /// The text itself, if it may have to be encoded again: a cascade encodes it for its
    /// costly model.
    pub text: Option<Box<str>>,
}

impl Encoding {
    /// The ids of a text that is not truncated.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids, truncated: false, text: None }
    }
}

/// Turns text into ids; pure and shared between threads.
pub trait Encoder: Send + Sync {
    /// Encodes one text, truncated to the model's longest input. The brand matcher may use the
    /// canonical form of the same `text`.
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding;

    /// [`Encoder::encode_text`], for a text that only the encoder reads.
    fn encode(&self, text: &str) -> Encoding {
        self.encode_text(&SourceText::new(text))
    }

    /// The words that each id of a text stands for, if ids are n-grams of words with a known
    /// place in the text.
    fn trace(&self, _text: &str) -> Option<Trace> {
        None
    }

    /// The words of a text, and those that the model's vocabulary does not have; `None` if the model
    /// has no list of words, because it hashes them.
    fn known_words(&self, _text: &str) -> Option<KnownWords> {
        None
    }
}

/// Turns ids into probabilities; owned by one thread.
pub trait Classifier: Send {
    /// Probabilities of each row of `batch`, in order, computed in one pass.
    /// The caller keeps the batch within [`Classifier::tokens_max`].
    ///
    /// # Errors
    /// [`ClassifyError`] if the batch could not be computed; there are no partial results.
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError>;

    /// Largest number of tokens of one pass, including padding; smaller after memory ran
    /// out. `None` if the classifier does not pad.
    fn tokens_max(&self) -> Option<usize> {
        None
    }

    /// The log-odds of negative of a row as a sum over its ids, if the classifier computes them
    /// so.
    fn linear(&self, _row: &Encoding) -> Option<Linear> {
        None
    }

    /// Of several models, the one that answers for `text`, and what is added to its log-odds of
    /// negative. `None` if there is only one model.
    ///
    /// # Errors
    /// [`ClassifyError`] if it could not be found out.
    fn member(&mut self, _text: &str) -> Result<Option<(&mut Model, f64)>, ClassifyError> {
        Ok(None)
    }
}

/// A batch that could not be scored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the model failed on a batch of {rows} rows: {reason}")]
pub struct ClassifyError {
    /// Rows in the batch.
    pub rows: usize,
    /// The model's message.
    pub reason: String,
    /// What is at fault.
    pub fault: Fault,
}

/// What is at fault when a batch fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Perhaps a row: the other rows may succeed without it.
    Row,
    /// Memory ran out. The classifier has lowered [`Classifier::tokens_max`]; the same rows
    /// succeed in smaller passes.
    Memory,
    /// The device that computes: fewer rows would fail too.
    Device,
}

impl ClassifyError {
    /// An error of a batch in which a row may be at fault.
    pub fn new(rows: usize, reason: impl Into<String>) -> Self {
        Self { rows, reason: reason.into(), fault: Fault::Row }
    }
}

/// One version of one model; written `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId {
    /// The model's name, also the name of its folder.
    pub name: String,
    /// The version, counted from 1.
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

/// Whether `text` is a valid model name: at most 100 lower-case letters, digits, `-` and `_`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(plain)
}

/// The text is not a model id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a model id: give name@version, such as lstm@1")]
pub struct InvalidModelId(pub String);

/// A model in memory, ready to score.
pub struct Model {
    /// Which one it is; stored with each score.
    pub id: ModelId,
    /// The classes that it tells apart.
    pub classes: Classes,
    /// The languages that it knows; none: any language.
    pub languages: Vec<Language>,
    /// From probabilities to labels.
    pub thresholds: LabelThresholds,
    /// The part that runs on any thread.
    pub encoder: Arc<dyn Encoder>,
    /// The part that one thread owns.
    pub classifier: Box<dyn Classifier>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a model of these languages scores texts of `language`; see [`Model::knows`].
fn knows(languages: &[Language], language: Option<Language>) -> bool {
    languages.is_empty() || language.is_none_or(|language| languages.contains(&language))
}

impl Model {
    /// Whether the model scores texts of this language: it was trained on it, or the language is
    /// unknown.
    pub fn knows(&self, language: Option<Language>) -> bool {
        knows(&self.languages, language)
    }

    /// The score of one text, on this thread.
    ///
    /// # Errors
    /// [`ClassifyError`] if it could not be computed.
    pub fn label(&mut self, text: &str) -> Result<Score, ClassifyError> {
        Ok(Score::new(self.score(&[text])?[0], self.thresholds))
    }

    /// Encodes and scores any number of texts, on this thread.
    ///
    /// # Errors
    /// [`ClassifyError`] if a pass could not be computed.
    pub fn score(&mut self, texts: &[&str]) -> Result<Vec<Probabilities>, ClassifyError> {
        let encodings: Vec<Encoding> = texts.iter().map(|t| self.encoder.encode(t)).collect();
        self.classify(&encodings.iter().collect::<Vec<_>>())
    }

    /// Scores any number of rows, on this thread, in as many passes as its memory needs.
    ///
    /// # Errors
    /// [`ClassifyError`] if a pass could not be computed.
    pub fn classify(&mut self, rows: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        classify_all(self.classifier.as_mut(), rows)
    }
}

/// Scores any number of rows: plans the passes, and plans the remaining rows again when memory
/// runs out.
fn classify_all(
    classifier: &mut dyn Classifier,
    rows: &[&Encoding],
) -> Result<Vec<Probabilities>, ClassifyError> {
    let mut scores = vec![None; rows.len()];
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while !left.is_empty() {
        let tokens_max = classifier.tokens_max().unwrap_or(usize::MAX);
        let tokens: Vec<usize> = left.iter().map(|row| rows[*row].ids.len()).collect();
        let limits = PassLimits { tokens_max, rows_max: usize::MAX };
        for pass in plan_passes(&tokens, limits) {
            let pass: Vec<usize> = pass.into_iter().map(|place| left[place]).collect();
            let batch: Vec<&Encoding> = pass.iter().map(|row| rows[*row]).collect();
            match classifier.classify(&batch) {
                Ok(found) if found.len() == batch.len() => {
                    pass.into_iter().zip(found).for_each(|(row, it)| scores[row] = Some(it));
                }
                Ok(found) => {
                    let reason = format!("{} scores for {} rows", found.len(), batch.len());
                    return Err(ClassifyError::new(rows.len(), reason));
                }
                Err(error) if error.fault == Fault::Memory && has_less(classifier, tokens_max) => {
                    break;
                }
                Err(error) => return Err(ClassifyError { rows: rows.len(), ..error }),
            }
        }
        left.retain(|row| scores[*row].is_none());
    }
    Ok(scores.into_iter().map(|score| score.expect("no row is left")).collect())
}

/// Whether the budget is below `tokens_max`, so that another plan has smaller passes.
fn has_less(classifier: &dyn Classifier, tokens_max: usize) -> bool {
    classifier.tokens_max().is_some_and(|now| now < tokens_max)
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

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_ids() {
        let check = |text: &str, valid: bool| {
            let parsed = text.parse::<ModelId>();
            assert_eq!(parsed.is_ok(), valid, "{text}");
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
