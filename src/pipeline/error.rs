//! Why the pipeline stopped.

use std::time::Duration;

use monitor_store::StoreError;

/// Why the pipeline stopped. In each case nothing is lost: the next run reads the tweets
/// that are not stored again.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Postgres rejects a batch, and no single row is the cause.
    #[error(
        "cannot store a row: {0}; is the schema up to date (`monitor migrate`), may this user write to it?"
    )]
    Refused(#[source] StoreError),
    /// Postgres did not accept the batches in flight in time.
    #[error(
        "the batches in flight could not be stored within {0:?}; the next run reads them again"
    )]
    DrainTooLong(Duration),
    /// A part ended that must run until the daemon stops.
    #[error("a part of the daemon ended: {0}; the next run continues from what is stored")]
    Stage(String),
}
