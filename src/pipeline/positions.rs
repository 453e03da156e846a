//! Decides where the source resumes, from the store's checkpoints.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::runtime::Handle;

use monitor_core::domain::{Offset, ResumeReason, StartAt, TopicPartition};
use monitor_ingest::{Bounds, Positions};
use monitor_store::{Claim, Store, StoreError};
use monitor_telemetry as telemetry;

/// Longest wait for the store in one claim: meanwhile the source does not poll.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// [`Positions`] from the store's checkpoints.
pub struct StoredPositions {
    store: Arc<dyn Store>,
    start_at: StartAt,
    runtime: Handle,
}

impl StoredPositions {
    /// Reads `store` on the current runtime. Must be called within a runtime.
    pub fn new(store: Arc<dyn Store>, start_at: StartAt) -> Self {
        Self { store, start_at, runtime: Handle::current() }
    }

    /// [`Positions::claim`], for a source that is a task.
    pub async fn claim_async(
        &self,
        partitions: &[TopicPartition],
        bounds: impl Fn(&TopicPartition) -> Option<Bounds>,
    ) -> Option<Vec<Offset>> {
        let topic = &partitions.first()?.topic;
        let progress = answer(self.store.progress(topic)).await?;
        let claims: Vec<_> = partitions
            .iter()
            .map(|partition| {
                let stored = progress.iter().find(|p| p.partition == *partition);
                let Bounds { low, high } = bounds(partition)?;
                let seen = stored.map(|p| p.position);
                Some(Claim { partition: partition.clone(), seen, low, high })
            })
            .collect::<Option<_>>()?;
        let resumes = answer(self.store.claim(&claims, self.start_at)).await?;
        for (claim, resume) in claims.iter().zip(&resumes) {
            let (partition, position) = (&claim.partition, resume.position);
            match resume.reason {
                ResumeReason::FirstSeen => {
                    tracing::info!(%partition, %position, "first read of this partition")
                }
                ResumeReason::Checkpoint => {
                    tracing::info!(%partition, %position, "resuming at the checkpoint")
                }
                ResumeReason::RetentionGap { lost } => {
                    counter!(telemetry::OFFSETS_LOST).increment(lost.unsigned_abs());
                    tracing::error!(%partition, %position, lost, "the broker deleted records before they were read: raise the topic's retention");
                }
                ResumeReason::BeyondEnd { checkpoint } => {
                    tracing::error!(%partition, %position, %checkpoint, "the checkpoint is beyond the partition's end: was the topic recreated? Reading from its start; known tweets are not counted twice");
                }
            }
        }
        Some(resumes.into_iter().map(|resume| resume.position).collect())
    }
}

impl Positions for StoredPositions {
    fn claim(
        &self,
        partitions: &[TopicPartition],
        bounds: &dyn Fn(&TopicPartition) -> Option<Bounds>,
    ) -> Option<Vec<Offset>> {
        self.runtime.block_on(self.claim_async(partitions, bounds))
    }
}

/// The store's answer; `None`, and a warning, if it does not come in time.
async fn answer<T>(call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    match tokio::time::timeout(STORE_WAIT_MAX, call).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => tracing::warn!(%error, "cannot read the checkpoints; trying again"),
        Err(_) => {
            let waited_s = STORE_WAIT_MAX.as_secs();
            tracing::warn!(
                waited_s,
                "Postgres does not answer; trying again to read the checkpoints"
            );
        }
    }
    None
}
