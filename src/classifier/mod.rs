//! From text to the probability that it is negative.
//!
//! Two halves, so that each runs where it belongs: an [`Encoder`] turns text into ids on
//! any CPU thread; a [`Classifier`] turns a batch of ids into probabilities on the one
//! thread that owns it (see [`worker`]).
//!
//! **Invariant.** One probability per input, in order, and the same for a row whatever
//! rows travel beside it (within 1e-5). Deliberately absent: Kafka, Postgres, brands.

use crate::domain::Probability;

/// Token or feature ids of one text. Never empty: a text with nothing in it gets the
/// id that the model keeps for "unknown".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Ids below the model's vocabulary size.
    pub ids: Vec<u32>,
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
}

/// A batch that could not be scored.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the model failed on a batch of {rows} rows: {reason}")]
pub struct ClassifyError {
    /// Rows in the batch.
    pub rows: usize,
    /// What the model said.
    pub reason: String,
}
