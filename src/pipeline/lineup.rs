//! The models in memory, and which of them scores which minute.
//!
//! **Invariant.** A tweet is scored by the model in force in its minute (see
//! [`Switches`]). If that model is not loaded yet, the tweet waits. Deliberately absent: loading
//! (see `models.rs`).

use monitor_core::domain::{Minute, ModelSwitch, Switches};
use monitor_model::ModelHandle;

/// The models in memory, and the switches of the stream.
#[derive(Clone)]
pub struct Lineup {
    switches: Switches,
    /// Tweets of earlier minutes are late, and are scored as those of this minute.
    since: Minute,
    loaded: Vec<ModelHandle>,
}

impl Lineup {
    /// One model that scores everything until switches are known.
    pub fn of(model: ModelHandle) -> Self {
        Self { switches: Switches::default(), since: Minute(i64::MIN), loaded: vec![model] }
    }

    /// The model for a tweet of `minute`; `None` while that model is not loaded.
    pub fn model_for(&self, minute: Minute) -> Option<&ModelHandle> {
        match self.switches.at(minute.max(self.since)) {
            Some(switch) => self.loaded(&switch.model),
            None => self.loaded.last(),
        }
    }

    /// The model with this id, if it is loaded.
    pub fn loaded(&self, id: &str) -> Option<&ModelHandle> {
        self.loaded.iter().find(|model| model.id().to_string() == id)
    }

    /// The switches, as far as they are known here.
    pub fn switches(&self) -> &Switches {
        &self.switches
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
