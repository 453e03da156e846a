//! Where the source reads on, as the store says.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::domain::{Offset, ResumeReason, StartAt};
use crate::ingest::{Bounds, Positions};
use crate::store::{Claim, Store};
use crate::telemetry;

/// [`Positions`] from the store's checkpoints.
pub struct StoredPositions {
    store: Arc<dyn Store>,
    start_at: StartAt,
    retry_wait_max: Duration,
    runtime: Handle,
    shutdown: CancellationToken,
}

impl StoredPositions {
    /// Asks `store`, on the runtime that this is called on, until it answers or `shutdown`.
    pub fn new(
        store: Arc<dyn Store>,
        start_at: StartAt,
        retry_wait_max: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        Self { store, start_at, retry_wait_max, runtime: Handle::current(), shutdown }
    }
}

impl Positions for StoredPositions {
    fn claim(&self, bounds: &[Bounds]) -> Option<Vec<Offset>> {
        let claims: Vec<_> = bounds
            .iter()
            .map(|b| Claim { partition: b.partition.clone(), low: b.low, high: b.high })
            .collect();
        let resumes = self.runtime.block_on(async {
            let mut wait = Duration::from_millis(50);
            while !self.shutdown.is_cancelled() {
                match self.store.claim(&claims, self.start_at).await {
                    Ok(resumes) => return Some(resumes),
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the checkpoints; trying again");
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(self.retry_wait_max);
                    }
                }
            }
            None
        })?;
        for (claim, resume) in claims.iter().zip(&resumes) {
            let (partition, position) = (&claim.partition, resume.position);
            match resume.reason {
                ResumeReason::FirstSeen => {
                    tracing::info!(%partition, %position, "first read of this partition")
                }
                ResumeReason::Checkpoint => tracing::info!(%partition, %position, "reading on"),
                ResumeReason::RetentionGap { lost } => {
                    counter!(telemetry::OFFSETS_LOST).increment(lost.unsigned_abs());
                    tracing::error!(%partition, %position, lost, "the broker deleted records before they were read: raise the topic's retention");
                }
                ResumeReason::BeyondEnd { checkpoint } => {
                    tracing::error!(%partition, %position, %checkpoint, "the checkpoint lies beyond the partition's end: was the topic made anew? Reading from its start; known tweets are not counted twice");
                }
            }
        }
        Some(resumes.into_iter().map(|resume| resume.position).collect())
    }
}
