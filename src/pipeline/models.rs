//! Loads a newly promoted version of the model while the daemon runs.
//!
//! **Invariant.** The pipeline always has a model: the next version is loaded and verified
//! before it takes over, and a version that cannot be loaded changes nothing. At most two
//! models are in memory: the next one is not loaded while batches still wait for the one
//! before the current. Deliberately absent: a change of the model's name, which is a setting
//! and needs a restart.

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use monitor_config as config;
use monitor_model::{self as classifier, ArtifactError, Encoder, Model, ModelHandle, ModelId};
use monitor_telemetry as telemetry;

use super::PipelineError;
use crate::settings::open_options;

/// A version that could not be loaded is tried again after this time, or after
/// [`RETRY_CHECKS_MAX`] checks if that is sooner: the copy of its files may be incomplete.
const RETRY_WAIT: Duration = Duration::from_secs(60);
const RETRY_CHECKS_MAX: u128 = 12;

/// Opens the model `name` outside the async threads.
pub(super) async fn load(
    settings: &config::Model,
    name: &str,
) -> Result<Result<Model, ArtifactError>, PipelineError> {
    let (options, name) = (open_options(settings), name.to_owned());
    let opened = spawn_blocking(move || classifier::open(&options, &name)).await;
    opened.map_err(|error| PipelineError::Stage(error.to_string()))
}

/// Checks at this interval which version `settings.name` opens, and gives the pipeline a new
/// version as soon as it is loaded, until the pipeline ends. Returns at once if the version
/// cannot change: `every` is zero, or the name includes a version.
pub async fn follow(settings: config::Model, every: Duration, models: watch::Sender<ModelHandle>) {
    gauge!(telemetry::MODEL, "model" => models.borrow().id().to_string()).set(1.0);
    if every.is_zero() || settings.name.parse::<ModelId>().is_ok() {
        return;
    }
    let retry_checks = (RETRY_WAIT.as_nanos() / every.as_nanos()).clamp(1, RETRY_CHECKS_MAX);
    let mut follower = Follower {
        settings,
        models,
        retry_checks,
        before: None,
        failed: None,
        reported: String::new(),
    };
    loop {
        tokio::select! {
            () = follower.models.closed() => return,
            () = tokio::time::sleep(every) => {}
        }
        if let Err(error) = follower.check().await {
            follower.report(error.to_string());
        }
    }
}

struct Follower {
    settings: config::Model,
    models: watch::Sender<ModelHandle>,
    /// Checks between two attempts to load a version.
    retry_checks: u128,
    /// The encoder of the model before the current one; alive while a batch waits for it.
    before: Option<Weak<dyn Encoder>>,
    /// A version that could not be loaded, and the number of checks since.
    failed: Option<(ModelId, u128)>,
    /// The last reported failure; the same failure is not logged again.
    reported: String,
}

impl Follower {
    async fn check(&mut self) -> Result<(), PipelineError> {
        let (directory, name) = (self.settings.directory.clone(), self.settings.name.clone());
        let found = spawn_blocking(move || classifier::resolve(&directory, &name)).await;
        let id = match found.map_err(|error| PipelineError::Stage(error.to_string()))? {
            Ok(id) => id,
            Err(error) => {
                self.report(error.to_string());
                return Ok(());
            }
        };
        if id == *self.models.borrow().id() {
            (self.failed, self.reported) = (None, String::new());
            return Ok(());
        }
        if let Some((failed, checks)) = &mut self.failed
            && *failed == id
        {
            *checks += 1;
            if *checks % self.retry_checks != 0 {
                return Ok(());
            }
        }
        if self.before.as_ref().is_some_and(|encoder| encoder.strong_count() > 0) {
            return Ok(());
        }
        match load(&self.settings, &id.to_string()).await? {
            Ok(model) => self.switch_to(model),
            Err(error) => {
                self.report(format!("{id}: {error}"));
                if self.failed.as_ref().is_none_or(|(failed, _)| *failed != id) {
                    self.failed = Some((id, 0));
                }
            }
        }
        Ok(())
    }

    /// Gives the pipeline the model, from the next batch on.
    fn switch_to(&mut self, model: Model) {
        let new = model.id.clone();
        let old = self.models.send_replace(ModelHandle::spawn(model));
        tracing::info!(old = %old.id(), %new, "a new model scores from the next batch on");
        gauge!(telemetry::MODEL, "model" => old.id().to_string()).set(0.0);
        gauge!(telemetry::MODEL, "model" => new.to_string()).set(1.0);
        counter!(telemetry::MODEL_RELOADS, "outcome" => "loaded").increment(1);
        self.before = Some(Arc::downgrade(&old.encoder()));
        (self.failed, self.reported) = (None, String::new());
    }

    fn report(&mut self, error: String) {
        if self.reported != error {
            let model = self.models.borrow().id().to_string();
            tracing::error!(error, "cannot load the promoted model; {model} stays in use");
            counter!(telemetry::MODEL_RELOADS, "outcome" => "failed").increment(1);
            self.reported = error;
        }
    }
}
