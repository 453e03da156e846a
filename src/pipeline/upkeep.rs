//! Keeps the database in order: makes the tables of the coming weeks, and removes what is too old.
//!
//! **Invariant.** Only the leader does it. An error delays it to the next time; reading, scoring and alerting go on.
//! Deliberately absent: what is too old (`monitor_store`).

use std::sync::Arc;
use std::time::Duration;

use monitor_core::clock::Clock;
use monitor_store::{Keep, PostgresStore, Pruned, Store, StoreError};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(3600);
/// The same after an error, and for those that do not lead: the leader may have gone.
const RETRY: Duration = Duration::from_secs(60);

/// Looks every hour, until it is dropped.
pub(super) async fn tidy(store: PostgresStore, keep: Keep, clock: Arc<dyn Clock>) {
    loop {
        let wait = match once(&store, &keep, &*clock).await {
            Ok(true) => EVERY,
            Ok(false) => RETRY,
            Err(error) => {
                tracing::warn!(%error, "cannot remove what is too old; trying again in a minute");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Returns whether this daemon leads.
async fn once(store: &PostgresStore, keep: &Keep, clock: &dyn Clock) -> Result<bool, StoreError> {
    if !store.lead().await? {
        return Ok(false);
    }
    let pruned = store.prune(keep, clock.now(), false, &|line| tracing::info!("{line}")).await?;
    if pruned != Pruned::default() {
        let weeks = pruned.parts.len();
        let Pruned { tweets, minutes, drift_days, dead_letters, notifications, incidents, .. } =
            pruned;
        tracing::info!(
            weeks,
            tweets,
            minutes,
            drift_days,
            dead_letters,
            notifications,
            incidents,
            "removed what was too old"
        );
    }
    Ok(true)
}
