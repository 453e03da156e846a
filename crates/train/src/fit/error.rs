//! Why a model could not be fitted.

use monitor_model::{ArtifactError, ClassifyError};

use super::CheckpointError;
use crate::data::EmbeddingError;

/// Why a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
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
