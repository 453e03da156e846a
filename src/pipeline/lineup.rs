//! The models in memory, and which of them scores which tweet.
//!
//! **Invariant.** A tweet is scored by the model that the settings name for its language; other
//! tweets by the main model that is in force in their minute (see [`Switches`]), if it knows
//! their language. If the main model is not loaded yet, the tweet waits. Deliberately absent:
//! loading (see `models.rs`).

use std::collections::BTreeMap;

use monitor_core::domain::{Language, Minute, ModelSwitch, Switches};
use monitor_model::ModelHandle;

use super::models::OpenedModel;

/// The models in memory, and the switches of the stream.
#[derive(Clone)]
pub struct Lineup {
    switches: Switches,
    /// Tweets of earlier minutes are late, and are scored as those of this minute.
    since: Minute,
    loaded: Vec<ModelHandle>,
    /// The models of single languages; fixed until a restart.
    languages: BTreeMap<Language, ModelHandle>,
}

/// Which model scores a tweet.
pub enum Choice<'a> {
    /// This one.
    Model {
        /// The model.
        model: &'a ModelHandle,
        /// Whether the settings name it for the tweet's language.
        of_language: bool,
    },
    /// None: no model knows its language.
    NotJudged,
    /// One that is not loaded yet.
    Waits,
}

impl Lineup {
    /// One model for all tweets whose language it knows or nobody knows.
    pub fn of(main: ModelHandle) -> Self {
        let (since, loaded) = (Minute(i64::MIN), vec![main]);
        Self { switches: Switches::default(), since, loaded, languages: BTreeMap::new() }
    }

    /// Moves each model of [`open_models`](super::open_models) to its own thread.
    pub fn spawn(models: Vec<OpenedModel>) -> Self {
        let (mut loaded, mut of_languages) = (Vec::new(), BTreeMap::new());
        for (model, languages) in models {
            let handle = ModelHandle::spawn(model);
            if languages.contains(&None) {
                loaded.push(handle);
            } else {
                let languages = languages.into_iter().flatten();
                of_languages.extend(languages.map(|language| (language, handle.clone())));
            }
        }
        let (switches, since) = (Switches::default(), Minute(i64::MIN));
        Self { switches, since, loaded, languages: of_languages }
    }

    /// The id of the main model that was opened first; empty if there is none.
    pub(super) fn main_id(&self) -> String {
        self.loaded.first().map_or_else(String::new, |model| model.id().to_string())
    }

    /// The model for a tweet of `minute` in this language; `None` is an unknown one.
    pub fn choose(&self, minute: Minute, language: Option<Language>) -> Choice<'_> {
        if let Some(own) = language.and_then(|language| self.languages.get(&language)) {
            return Choice::Model { model: own, of_language: true };
        }
        match self.main_for(minute) {
            Some(main) if main.knows(language) => Choice::Model { model: main, of_language: false },
            Some(_) => Choice::NotJudged,
            None => Choice::Waits,
        }
    }

    /// The main model for a tweet of `minute`; `None` while that model is not loaded.
    pub fn main_for(&self, minute: Minute) -> Option<&ModelHandle> {
        match self.switches.at(minute.max(self.since)) {
            Some(switch) => self.loaded(&switch.model),
            None => self.loaded.last(),
        }
    }

    /// The main model with this id, if it is loaded.
    pub fn loaded(&self, id: &str) -> Option<&ModelHandle> {
        self.loaded.iter().find(|model| model.id().to_string() == id)
    }

    /// The model with this id, of all tweets or of a language, if it is in memory.
    pub(super) fn find(&self, id: &str) -> Option<&ModelHandle> {
        self.models().find(|model| model.id().to_string() == id)
    }

    /// The models of all tweets, then those of single languages.
    pub(super) fn models(&self) -> impl Iterator<Item = &ModelHandle> {
        self.loaded.iter().chain(self.languages.values())
    }

    /// The id of each model.
    pub(super) fn ids(&self) -> impl Iterator<Item = String> {
        self.models().map(|model| model.id().to_string())
    }

    /// The switches, as far as they are known here.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The models of single languages.
    pub(super) fn language_models(&self) -> impl Iterator<Item = &ModelHandle> {
        self.languages.values()
    }

    /// The switches whose models score tweets now or later, the one in force first.
    pub fn needed(&self) -> Vec<ModelSwitch> {
        let current = self.switches.at(self.since);
        let since = current.map_or(self.since, |switch| switch.from);
        let later = self.switches.as_slice().iter().filter(|switch| switch.from > since);
        current.into_iter().chain(later).cloned().collect()
    }

    /// Takes over newer switches.
    pub(super) fn set_switches(&mut self, switches: Switches) {
        self.switches = switches;
    }

    /// Records that event time has come to `minute`. Returns whether that puts another switch
    /// in force.
    pub(super) fn advance_to(&mut self, minute: Minute) -> bool {
        let since = self.switches.at(minute).map_or(Minute(i64::MIN), |switch| switch.from);
        std::mem::replace(&mut self.since, since) != since
    }

    /// Removes and returns the models that score no more. Without switches all score.
    pub(super) fn drop_unneeded(&mut self) -> Vec<ModelHandle> {
        let needed = self.needed();
        if needed.is_empty() {
            return Vec::new();
        }
        let is_needed =
            |model: &ModelHandle| needed.iter().any(|s| s.model == model.id().to_string());
        let (kept, dropped) = self.loaded.drain(..).partition(is_needed);
        self.loaded = kept;
        dropped
    }

    /// Adds a model that was loaded.
    pub(super) fn add(&mut self, model: ModelHandle) {
        self.loaded.push(model);
    }
}
