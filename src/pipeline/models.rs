//! Opens the models of the settings, and loads those that switches of the stream name.
//!
//! **Invariant.** Which model scores is what Postgres says (`model_switches`), never what a file
//! says: a version that is promoted in the folder changes nothing by itself. A version that cannot
//! be loaded lets the tweets of its minutes wait, and nothing else. At most two models are in
//! memory: the next one is not loaded while batches still wait for one that was dropped.
//! Deliberately absent: making a switch (see `monitor models promote`), and switches of the models of
//! single languages, which are those of the settings until the daemon starts again.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::TimeDelta;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Language, Minute, ModelSwitch};
use monitor_core::text::language::name;
use monitor_model::{self as classifier, ArtifactError, Encoder, Model, ModelHandle, ModelId};
use monitor_store::{Store, StoreError, event_time};
use monitor_telemetry::{self as telemetry, Readiness};

use super::PipelineError;
use super::lineup::Lineup;
use crate::promotion::fill_gap;
use crate::settings::open_options;

/// A version that could not be loaded is tried again after this time, or after
/// [`RETRY_CHECKS_MAX`] checks if that is sooner: the copy of its files may be incomplete.
const RETRY_WAIT: Duration = Duration::from_secs(60);
const RETRY_CHECKS_MAX: u128 = 12;
/// Wait after a change, so that changes in a row cost one check.
const CHANGE_WAIT: Duration = Duration::from_millis(50);
/// How long to wait for a change if `model.reload_s` is 0.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// Why the models of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A model cannot be opened.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A model does not know the language whose tweets it should score.
    #[error(
        "model.by_language.{language}: {model} does not know {}; name a model that was trained \
         with `monitor retrain --language {language}`",
        name(.language)
    )]
    UnknownLanguage {
        /// The language of the setting.
        language: Language,
        /// The model.
        model: ModelId,
    },
}

/// The models of the settings: each name once, with the languages whose tweets it scores.
/// `None` stands for the tweets of all other languages that the model knows, and for those whose
/// language is unknown.
fn names(settings: &config::Model) -> BTreeMap<&str, Vec<Option<Language>>> {
    let mut names: BTreeMap<&str, Vec<Option<Language>>> = BTreeMap::new();
    names.entry(&settings.name).or_default().push(None);
    for (language, name) in &settings.by_language {
        names.entry(name).or_default().push(Some(*language));
    }
    names
}

/// Opens a model and checks that it knows `languages`.
fn open(
    settings: &config::Model,
    name: &str,
    languages: &[Option<Language>],
) -> Result<Model, ModelsError> {
    let model = classifier::open(&open_options(settings), name)?;
    match languages.iter().flatten().find(|language| !model.knows(Some(**language))) {
        Some(&language) => Err(ModelsError::UnknownLanguage { language, model: model.id }),
        None => Ok(model),
    }
}

/// A model, and the languages whose tweets it scores.
pub type OpenedModel = (Model, Vec<Option<Language>>);

/// Opens the models of the settings, each with the languages whose tweets it scores; `None` as
/// the language stands for the tweets that no other model scores.
///
/// # Errors
/// [`ModelsError`].
pub fn open_models(settings: &config::Model) -> Result<Vec<OpenedModel>, ModelsError> {
    let open =
        |(name, languages): (&str, Vec<_>)| Ok((open(settings, name, &languages)?, languages));
    names(settings).into_iter().map(open).collect()
}

/// Opens the models of the settings outside the async threads, and starts their threads.
pub(super) async fn load_all(
    settings: &config::Model,
) -> Result<Result<Lineup, ModelsError>, PipelineError> {
    let settings = settings.clone();
    let opened = spawn_blocking(move || open_models(&settings)).await;
    let opened = opened.map_err(|error| PipelineError::Stage(error.to_string()))?;
    Ok(opened.map(|models| {
        for (model, languages) in &models {
            let languages: Vec<&str> = languages.iter().flatten().map(name).collect();
            tracing::info!(model = %model.id, languages = languages.join(", "), "model loaded");
        }
        Lineup::spawn(models)
    }))
}

/// Opens the main model `id` outside the async threads.
async fn load(
    settings: &config::Model,
    id: &str,
) -> Result<Result<Model, ModelsError>, PipelineError> {
    let (settings, id) = (settings.clone(), id.to_owned());
    // The languages whose tweets the settings leave to the main model by its name.
    let languages = names(&settings).remove(settings.name.as_str()).unwrap_or_default();
    let opened = spawn_blocking(move || open(&settings, &id, &languages)).await;
    opened.map_err(|error| PipelineError::Stage(error.to_string()))
}

/// What [`follow`] needs to know of the settings.
#[derive(Debug, Clone)]
pub struct FollowSettings {
    /// The folder of models, and the name that the settings ask for.
    pub model: config::Model,
    /// Time between two checks; zero: only when a commit was refused.
    pub every: Duration,
    /// The topic whose event time counts.
    pub topic: String,
    /// How long tweets of a minute are waited for.
    pub lateness: TimeDelta,
    /// Most tweets scored again in a second, to fill the gap before a switch; 0 is no limit.
    pub rows_per_s_max: u32,
}

/// Checks which models the stream needs, loads them and drops the others; never ends. If this daemon is the leader, also has the minutes before a switch scored again that
/// the preparation of the switch could not know yet.
pub async fn follow(
    settings: FollowSettings,
    store: Arc<dyn Store>,
    lineup: watch::Sender<Lineup>,
    readiness: Arc<Readiness>,
) {
    let every = if settings.every.is_zero() { NEVER } else { settings.every };
    let retry_checks = (RETRY_WAIT.as_nanos() / every.as_nanos()).clamp(1, RETRY_CHECKS_MAX);
    for model in lineup.borrow().language_models() {
        gauge!(telemetry::MODEL, "model" => model.id().to_string()).set(1.0);
    }
    let mut changes = lineup.subscribe();
    let mut follower = Follower {
        settings,
        store,
        lineup,
        readiness,
        retry_checks,
        dropped: Vec::new(),
        failed: None,
        reported: String::new(),
        gap: None,
    };
    loop {
        changes.mark_unchanged();
        if let Err(error) = follower.check().await {
            follower.report(error.to_string());
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // A commit was refused, or this task has changed something itself.
            _ = changes.changed() => tokio::time::sleep(CHANGE_WAIT.min(every)).await,
        }
    }
}

struct Follower {
    settings: FollowSettings,
    store: Arc<dyn Store>,
    lineup: watch::Sender<Lineup>,
    readiness: Arc<Readiness>,
    /// Checks between two attempts to load a version.
    retry_checks: u128,
    /// The encoders of models that were dropped; alive while a batch waits for them.
    dropped: Vec<Weak<dyn Encoder>>,
    /// A version that could not be loaded, and the number of checks since.
    failed: Option<(String, u128)>,
    /// The last reported problem; the same one is not logged again.
    reported: String,
    /// The task that fills the gap before a switch, and that switch's minute.
    gap: Option<(Minute, AbortOnDropHandle<()>)>,
}

impl Follower {
    async fn check(&mut self) -> Result<(), PipelineError> {
        if let Err(error) = self.read().await {
            tracing::debug!(%error, "cannot read which model scores");
        }
        let needed = self.lineup.borrow().needed();
        self.dropped.retain(|encoder| encoder.strong_count() > 0);
        for switch in &needed {
            if self.lineup.borrow().loaded(&switch.model).is_none() {
                if self.dropped.is_empty() {
                    self.load(switch).await?;
                }
                return Ok(());
            }
        }
        (self.failed, self.reported) = (None, String::new());
        self.readiness.set("model", Ok(()));
        if let Some(newest) = needed.last() {
            self.fill_gap_before(newest);
            self.compare(&newest.model).await;
        }
        Ok(())
    }

    /// Reads the switches and how far event time has come.
    async fn read(&mut self) -> Result<(), StoreError> {
        let switches = self.store.switches().await?;
        let partitions = self.store.progress(&self.settings.topic).await?;
        let time = event_time(&partitions, self.settings.lateness, SystemClock::new().now());
        let minute = time.map_or(Minute(i64::MIN), Minute::of);
        let mut dropped = Vec::new();
        self.lineup.send_if_modified(|lineup| {
            let switched = *lineup.switches() != switches;
            lineup.set_switches(switches);
            let advanced = lineup.advance_to(minute);
            dropped = lineup.drop_unneeded();
            switched || advanced || !dropped.is_empty()
        });
        if let Some(current) = self.lineup.borrow().needed().first() {
            gauge!(telemetry::MODEL, "model" => current.model.clone()).set(1.0);
        }
        for model in dropped {
            tracing::info!(model = %model.id(), "a model scores no more");
            gauge!(telemetry::MODEL, "model" => model.id().to_string()).set(0.0);
            self.dropped.push(Arc::downgrade(&model.encoder()));
        }
        Ok(())
    }

    async fn load(&mut self, switch: &ModelSwitch) -> Result<(), PipelineError> {
        let id = &switch.model;
        if let Some((failed, checks)) = &mut self.failed
            && failed == id
        {
            *checks += 1;
            if *checks % self.retry_checks != 0 {
                return Ok(());
            }
        }
        match load(&self.settings.model, id).await? {
            Ok(model) => {
                tracing::info!(model = %id, from = %switch.from.start(), "loaded the model of a switch");
                counter!(telemetry::MODEL_RELOADS, "outcome" => "loaded").increment(1);
                self.lineup.send_modify(|lineup| lineup.add(ModelHandle::spawn(model)));
                (self.failed, self.reported) = (None, String::new());
            }
            Err(error) => {
                self.report(format!(
                    "{id} scores the stream from {} on: {error}; its tweets wait until it can be \
                     loaded, or `monitor models rollback` switches back",
                    switch.from.start()
                ));
                counter!(telemetry::MODEL_RELOADS, "outcome" => "failed").increment(1);
                if self.failed.as_ref().is_none_or(|(failed, _)| failed != id) {
                    self.failed = Some((id.clone(), 0));
                }
            }
        }
        Ok(())
    }

    /// Starts to fill the gap before a switch, once for each.
    fn fill_gap_before(&mut self, switch: &ModelSwitch) {
        if switch.gap_from >= switch.from
            || self.gap.as_ref().is_some_and(|(known, _)| *known == switch.from)
        {
            return;
        }
        let Some(model) = self.lineup.borrow().loaded(&switch.model).cloned() else { return };
        let FollowSettings { topic, lateness, rows_per_s_max, .. } = self.settings.clone();
        let task =
            fill_gap(self.store.clone(), model, switch.clone(), topic, lateness, rows_per_s_max);
        self.gap = Some((switch.from, AbortOnDropHandle::new(tokio::spawn(task))));
    }

    /// Says once if `model.name` opens another version than the one that scores.
    async fn compare(&mut self, scores: &str) {
        let (directory, name) =
            (self.settings.model.directory.clone(), self.settings.model.name.clone());
        let found = spawn_blocking(move || classifier::resolve(&directory, &name)).await;
        let Ok(Ok(id)) = found else { return };
        if id.to_string() != scores {
            let note = format!("{id} is opened by model.name, but {scores} scores the stream");
            if self.reported != note {
                tracing::warn!("{note}; to switch without a jump: monitor models promote {id}");
                self.reported = note;
            }
        }
    }

    fn report(&mut self, error: String) {
        if self.reported != error {
            tracing::error!("{error}");
            self.readiness.set("model", Err(error.clone()));
            self.reported = error;
        }
    }
}
