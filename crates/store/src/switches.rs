//! What is stored when another model takes over.

use chrono::{DateTime, Utc};

use monitor_core::domain::{Language, Minute, Switches};

use crate::{Batch, StoreError};

impl Batch {
    /// Refuses tweets that a model of before has scored.
    pub(crate) fn check_models(&self, switches: &Switches) -> Result<(), StoreError> {
        for row in &self.scores {
            let minute = Minute::of(row.tweet.created_at);
            let Some(score) = row.score.as_ref().filter(|score| !score.of_language) else {
                continue;
            };
            if !switches.allow(&score.model, minute) {
                let (model, switches) = (score.model.clone(), switches.clone());
                return Err(StoreError::Switched { model, minute, switches });
            }
        }
        Ok(())
    }
}

/// A stored tweet that another model scores again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredText {
    /// Its id.
    pub tweet_id: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// The brands it is about; at least one.
    pub brands: Vec<String>,
    /// Its text.
    pub text: String,
    /// Its language, if it is stored.
    pub language: Option<Language>,
    /// Whether it is stored as negative.
    pub is_negative: bool,
    /// `name@version` of the model that said so.
    pub model: String,
}

/// What a model says of a minute's tweets about one brand that another model had scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescored {
    /// The brand.
    pub brand: String,
    /// The minute.
    pub minute: Minute,
    /// The model whose scores are stored.
    pub instead_of: String,
    /// What was counted.
    pub pairs: Pairs,
}

/// Counts of tweets that two models have scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pairs {
    /// The tweets that both have scored.
    pub total: u64,
    /// Negative by the new model.
    pub negative: u64,
    /// Negative by the new model, not by the old one.
    pub gained: u64,
    /// Negative by the old model, not by the new one.
    pub lost: u64,
    /// Further tweets, in a language that the new model does not know; in none of the others.
    pub not_judged: u64,
}

impl Pairs {
    /// Adds one tweet.
    pub fn add(&mut self, was_negative: bool, is_negative: bool) {
        self.total += 1;
        self.negative += u64::from(is_negative);
        self.gained += u64::from(is_negative && !was_negative);
        self.lost += u64::from(was_negative && !is_negative);
    }
}
