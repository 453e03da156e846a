//! Why a model could not be fitted.

use monitor_model::{ArtifactError, ClassifyError};

use super::CheckpointError;
use crate::data::EmbeddingError;

/// Why a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The word embeddings are invalid.
    #[error(transparent)]
    Embeddings(#[from] EmbeddingError),
    /// The teacher may have been trained on rows that the student is measured on.
    #[error(
        "{teacher} cannot teach here: it held out other rows or was trained on other files, so the \
         new model would be measured on rows that its teacher has seen; give the --data, --test, \
         --rows, --also, --seed and --split that {teacher} was trained with (monitor models show \
         {teacher})"
    )]
    OtherTeacher {
        /// Which model.
        teacher: String,
    },
    /// A transformer needs pretrained weights.
    #[error(
        "a transformer needs pretrained weights: give their folder (--base), or fetch them \
         first (monitor models fetch distilbert-base-uncased)"
    )]
    NoBase,
    /// A checkpoint cannot be written or resumed from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Stopped by request; the checkpoint is kept.
    #[error("stopped; the progress is kept. To continue, give the same command with --resume")]
    Stopped,
    /// Stopped by request; this family has no checkpoint.
    #[error(
        "stopped; nothing is kept, because this family trains within a minute: run the command again"
    )]
    Abandoned,
    /// The loss is not finite.
    #[error("training diverged in epoch {epoch}: the loss is {loss}")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// A model cannot be opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The teacher failed on a row.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}
