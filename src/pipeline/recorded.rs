//! Records in the store which models score, so that SQL and the corrected share know them.
//!
//! **Invariant.** Scoring does not wait for it: a model is recorded as soon as Postgres allows.
//! Deliberately absent: removing models; their scores stay.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::lineup::Lineup;
use monitor_config as config;
use monitor_core::domain::InvalidProbability;
use monitor_model::{self as classifier, Manifest};
use monitor_store::{Store, StoredModel};
use monitor_train::report;

/// Wait after a failed attempt.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// What the store keeps of a model.
///
/// # Errors
/// A threshold of the manifest is no probability.
pub fn stored_model(manifest: &Manifest) -> Result<StoredModel, InvalidProbability> {
    Ok(StoredModel {
        model: manifest.id().to_string(),
        classes: manifest.classes,
        thresholds: manifest.calibration.thresholds()?,
        languages: manifest.languages.clone(),
        rates: report::rates(manifest),
    })
}

/// Records each model of `models` once, until the pipeline ends.
pub(super) async fn record(
    store: Arc<dyn Store>,
    settings: config::Model,
    mut models: watch::Receiver<Lineup>,
) {
    let mut known = BTreeSet::new();
    loop {
        let ids: BTreeSet<String> = models.borrow_and_update().ids().collect();
        for id in ids.difference(&known.clone()) {
            while let Err(error) = record_one(&*store, &settings, id).await {
                tracing::warn!(error, model = %id, "cannot record the model in Postgres; trying again");
                tokio::time::sleep(RETRY_WAIT).await;
            }
            known.insert(id.clone());
        }
        if models.changed().await.is_err() {
            return;
        }
    }
}

async fn record_one(store: &dyn Store, settings: &config::Model, id: &str) -> Result<(), String> {
    let (directory, name) = (settings.directory.clone(), id.to_owned());
    let read = spawn_blocking(move || classifier::read_manifest(&directory, &name));
    let manifest = read.await.map_err(|error| error.to_string())?;
    let manifest = manifest.map_err(|error| error.to_string())?;
    let model = stored_model(&manifest).map_err(|error| error.to_string())?;
    store.record_model(&model).await.map_err(|error| error.to_string())
}
