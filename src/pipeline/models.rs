//! The models that score the stream, by language, and their newly promoted versions.
//!
//! **Invariant.** The pipeline always has its models: the next version is loaded and verified
//! before it takes over, and a version that cannot be loaded changes nothing. At most two
//! versions of a model are in memory: the next one is not loaded while batches still wait for
//! the one before the current. Deliberately absent: a change of the model's name, which is a setting
//! and needs a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use monitor_config as config;
use monitor_core::domain::Language;
use monitor_core::text::language::name;
use monitor_model::{self as classifier, ArtifactError, Encoder, Model, ModelHandle, ModelId};
use monitor_telemetry as telemetry;

use super::PipelineError;
use crate::settings::open_options;

/// A version that could not be loaded is tried again after this time, or after
/// [`RETRY_CHECKS_MAX`] checks if that is sooner: the copy of its files may be incomplete.
const RETRY_WAIT: Duration = Duration::from_secs(60);
const RETRY_CHECKS_MAX: u128 = 12;

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

/// Opens the models of the settings, each with the languages whose tweets it scores; `None` as
/// the language stands for the tweets that no other model scores.
///
/// # Errors
/// [`ModelsError`].
pub fn open_models(
    settings: &config::Model,
) -> Result<Vec<(Model, Vec<Option<Language>>)>, ModelsError> {
    let open =
        |(name, languages): (&str, Vec<_>)| Ok((open(settings, name, &languages)?, languages));
    names(settings).into_iter().map(open).collect()
}

/// One of the models of a [`ScoringModels`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelSlot(usize);

/// The models that score the stream, on their threads.
#[derive(Clone)]
pub struct ScoringModels {
    models: Vec<ModelHandle>,
    /// The model of each language of the settings; `None`: of all other tweets.
    slots: BTreeMap<Option<Language>, ModelSlot>,
}

impl ScoringModels {
    /// Moves each model to its own thread.
    pub fn spawn(models: Vec<(Model, Vec<Option<Language>>)>) -> Self {
        let mut spawned = Self { models: Vec::new(), slots: BTreeMap::new() };
        for (model, languages) in models {
            let slot = ModelSlot(spawned.models.len());
            spawned.models.push(ModelHandle::spawn(model));
            spawned.slots.extend(languages.into_iter().map(|language| (language, slot)));
        }
        spawned
    }

    /// One model for all tweets whose language it knows or nobody knows.
    pub fn one(model: Model) -> Self {
        Self::spawn(vec![(model, vec![None])])
    }

    /// The model that scores tweets of this language; `None` if no model knows it.
    pub fn slot_of(&self, language: Option<Language>) -> Option<ModelSlot> {
        let own = language.and_then(|_| self.slots.get(&language));
        own.or_else(|| {
            let slot = self.slots.get(&None)?;
            self.get(*slot).knows(language).then_some(slot)
        })
        .copied()
    }

    /// The id of each model.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.models.iter().map(|model| model.id().to_string())
    }

    /// The model with this id, if it scores now.
    pub fn find(&self, id: &str) -> Option<&ModelHandle> {
        self.models.iter().find(|model| model.id().to_string() == id)
    }

    /// A model.
    pub fn get(&self, slot: ModelSlot) -> &ModelHandle {
        &self.models[slot.0]
    }
}

/// Opens the models of the settings outside the async threads, and starts their threads.
pub(super) async fn load(
    settings: &config::Model,
) -> Result<Result<ScoringModels, ModelsError>, PipelineError> {
    let settings = settings.clone();
    let opened = spawn_blocking(move || open_models(&settings)).await;
    let opened = opened.map_err(|error| PipelineError::Stage(error.to_string()))?;
    Ok(opened.map(|models| {
        for (model, languages) in &models {
            let languages: Vec<&str> = languages.iter().flatten().map(name).collect();
            tracing::info!(model = %model.id, languages = languages.join(", "), "model loaded");
        }
        ScoringModels::spawn(models)
    }))
}

/// Checks at this interval which versions the names of the settings open, and gives the pipeline
/// a new version as soon as it is loaded, until the pipeline ends. A version named by its number
/// never changes, and nothing changes if `every` is zero.
pub async fn follow(
    settings: config::Model,
    every: Duration,
    models: watch::Sender<ScoringModels>,
) {
    for model in &models.borrow().models {
        gauge!(telemetry::MODEL, "model" => model.id().to_string()).set(1.0);
    }
    let retry_checks = match every.as_nanos() {
        0 => return,
        every => (RETRY_WAIT.as_nanos() / every).clamp(1, RETRY_CHECKS_MAX),
    };
    let follower = |(place, (name, languages)): (usize, (&str, Vec<_>))| Follower {
        settings: settings.clone(),
        name: name.to_owned(),
        languages,
        slot: ModelSlot(place),
        retry_checks,
        before: None,
        failed: None,
        reported: String::new(),
    };
    let mut followers: Vec<_> = (names(&settings).into_iter().enumerate().map(follower))
        .filter(|follower| follower.name.parse::<ModelId>().is_err())
        .collect();
    while !followers.is_empty() {
        tokio::select! {
            () = models.closed() => return,
            () = tokio::time::sleep(every) => {}
        }
        for follower in &mut followers {
            if let Err(error) = follower.check(&models).await {
                follower.report(error.to_string(), &models);
            }
        }
    }
}

/// Follows one name of the settings.
struct Follower {
    settings: config::Model,
    name: String,
    /// As in [`names`].
    languages: Vec<Option<Language>>,
    /// Its place among the models: [`names`] always has the same order.
    slot: ModelSlot,
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
    async fn check(&mut self, models: &watch::Sender<ScoringModels>) -> Result<(), PipelineError> {
        let (directory, name) = (self.settings.directory.clone(), self.name.clone());
        let found = spawn_blocking(move || classifier::resolve(&directory, &name)).await;
        let id = match found.map_err(|error| PipelineError::Stage(error.to_string()))? {
            Ok(id) => id,
            Err(error) => {
                self.report(error.to_string(), models);
                return Ok(());
            }
        };
        if id == *models.borrow().get(self.slot).id() {
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
        let (settings, languages) = (self.settings.clone(), self.languages.clone());
        let name = id.to_string();
        let opened = spawn_blocking(move || open(&settings, &name, &languages)).await;
        match opened.map_err(|error| PipelineError::Stage(error.to_string()))? {
            Ok(model) => self.switch_to(model, models),
            Err(error) => {
                self.report(format!("{id}: {error}"), models);
                if self.failed.as_ref().is_none_or(|(failed, _)| *failed != id) {
                    self.failed = Some((id, 0));
                }
            }
        }
        Ok(())
    }

    /// Gives the pipeline the model, from the next batch on.
    fn switch_to(&mut self, model: Model, models: &watch::Sender<ScoringModels>) {
        let new = model.id.clone();
        let old = models.borrow().get(self.slot).clone();
        models.send_modify(|models| models.models[self.slot.0] = ModelHandle::spawn(model));
        tracing::info!(old = %old.id(), %new, "a new model scores from the next batch on");
        gauge!(telemetry::MODEL, "model" => old.id().to_string()).set(0.0);
        gauge!(telemetry::MODEL, "model" => new.to_string()).set(1.0);
        counter!(telemetry::MODEL_RELOADS, "outcome" => "loaded").increment(1);
        self.before = Some(Arc::downgrade(&old.encoder()));
        (self.failed, self.reported) = (None, String::new());
    }

    fn report(&mut self, error: String, models: &watch::Sender<ScoringModels>) {
        if self.reported != error {
            let model = models.borrow().get(self.slot).id().to_string();
            tracing::error!(error, "cannot load the promoted model; {model} stays in use");
            counter!(telemetry::MODEL_RELOADS, "outcome" => "failed").increment(1);
            self.reported = error;
        }
    }
}
