//! Takes another version of the model while the daemon runs.
//!
//! **Invariant.** The pipeline always has a model: the next one is loaded and verified
//! before it takes over, and one that cannot be loaded changes nothing. Two models at most
//! are in memory: the next is not loaded while batches still wait for the one before the
//! current. Deliberately absent: another model's name; that is a setting, and needs a
//! restart.

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::PipelineError;
use crate::settings::open_options;
use monitor_config as config;
use monitor_model::{self as classifier, ArtifactError, Encoder, Model, ModelHandle, ModelId};
use monitor_telemetry as telemetry;

/// A version that could not be loaded is tried again after so long, or so many looks where
/// those are over sooner: its files may still be on their way here.
const RETRY_WAIT: Duration = Duration::from_secs(60);
const RETRY_LOOKS_MAX: u128 = 12;

/// Opens `name` off the async threads.
pub(super) async fn load(
    settings: &config::Model,
    name: &str,
) -> Result<Result<Model, ArtifactError>, PipelineError> {
    let (options, name) = (open_options(settings), name.to_owned());
    let opened = spawn_blocking(move || classifier::open(&options, &name)).await;
    opened.map_err(|error| PipelineError::Stage(error.to_string()))
}

/// Looks each `every` at which version `settings.name` opens, and hands the pipeline
/// another one as soon as it is loaded, until the pipeline is gone. Returns at once where
/// nothing can change: `every` is zero, or the name has a version in it.
pub async fn follow(settings: config::Model, every: Duration, models: watch::Sender<ModelHandle>) {
    gauge!(telemetry::MODEL, "model" => models.borrow().id().to_string()).set(1.0);
    if every.is_zero() || settings.name.parse::<ModelId>().is_ok() {
        return;
    }
    let retry_looks = (RETRY_WAIT.as_nanos() / every.as_nanos()).clamp(1, RETRY_LOOKS_MAX);
    let mut follower =
        Follower { settings, models, retry_looks, before: None, failed: None, told: String::new() };
    loop {
        tokio::select! {
            () = follower.models.closed() => return,
            () = tokio::time::sleep(every) => {}
        }
        if let Err(error) = follower.look().await {
            follower.tell(error.to_string());
        }
    }
}

struct Follower {
    settings: config::Model,
    models: watch::Sender<ModelHandle>,
    /// Looks from one try to load a version to the next.
    retry_looks: u128,
    /// Of the model before the current one: alive while a batch waits for that model.
    before: Option<Weak<dyn Encoder>>,
    /// A version that could not be loaded, and the looks since.
    failed: Option<(ModelId, u128)>,
    /// The last failure told, so that each is told once.
    told: String,
}

impl Follower {
    async fn look(&mut self) -> Result<(), PipelineError> {
        let (directory, name) = (self.settings.directory.clone(), self.settings.name.clone());
        let found = spawn_blocking(move || classifier::resolve(&directory, &name)).await;
        let id = match found.map_err(|error| PipelineError::Stage(error.to_string()))? {
            Ok(id) => id,
            Err(error) => {
                self.tell(error.to_string());
                return Ok(());
            }
        };
        if id == *self.models.borrow().id() {
            (self.failed, self.told) = (None, String::new());
            return Ok(());
        }
        if let Some((failed, looks)) = &mut self.failed
            && *failed == id
        {
            *looks += 1;
            if *looks % self.retry_looks != 0 {
                return Ok(());
            }
        }
        if self.before.as_ref().is_some_and(|encoder| encoder.strong_count() > 0) {
            return Ok(());
        }
        match load(&self.settings, &id.to_string()).await? {
            Ok(model) => self.take(model),
            Err(error) => {
                self.tell(format!("{id}: {error}"));
                if self.failed.as_ref().is_none_or(|(failed, _)| *failed != id) {
                    self.failed = Some((id, 0));
                }
            }
        }
        Ok(())
    }

    /// From the next batch on.
    fn take(&mut self, model: Model) {
        let new = model.id.clone();
        let old = self.models.send_replace(ModelHandle::spawn(model));
        tracing::info!(old = %old.id(), %new, "another model scores from the next batch on");
        gauge!(telemetry::MODEL, "model" => old.id().to_string()).set(0.0);
        gauge!(telemetry::MODEL, "model" => new.to_string()).set(1.0);
        counter!(telemetry::MODEL_RELOADS, "outcome" => "loaded").increment(1);
        self.before = Some(Arc::downgrade(&old.encoder()));
        (self.failed, self.told) = (None, String::new());
    }

    fn tell(&mut self, error: String) {
        if self.told != error {
            let model = self.models.borrow().id().to_string();
            tracing::error!(error, "cannot take the promoted model; {model} goes on");
            counter!(telemetry::MODEL_RELOADS, "outcome" => "failed").increment(1);
            self.told = error;
        }
    }
}
