//! Labels that people give, and what the database knows of the models that have scored.

use chrono::{DateTime, Utc};
use monitor_core::domain::{Classes, Label, LabelThresholds, Language};
use monitor_core::quantify::Rates;

/// A model that has scored tweets.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredModel {
    /// `name@version`.
    pub model: String,
    /// The classes that it tells apart.
    pub classes: Classes,
    /// From probabilities to labels.
    pub thresholds: LabelThresholds,
    /// The languages that it knows; none: any language.
    pub languages: Vec<Language>,
    /// How often it errs, on labelled rows that it did not learn from; `None` if it has no such
    /// rows of three classes.
    pub rates: Option<Rates>,
}

/// A random sample to draw: each scored tweet of a brand and time is as likely as any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRequest {
    /// The brand.
    pub brand: String,
    /// Start, in event time.
    pub from: DateTime<Utc>,
    /// End, exclusive.
    pub to: DateTime<Utc>,
    /// Tweets to draw; all of them if there are fewer.
    pub tweets: u32,
    /// Decides which; another seed draws others.
    pub seed: String,
    /// Who draws it, and when.
    pub by: String,
    /// When it is drawn, in clock time.
    pub at: DateTime<Utc>,
}

/// A random sample, without its tweets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its number.
    pub id: i64,
    /// The brand.
    pub brand: String,
    /// Start, in event time.
    pub from: DateTime<Utc>,
    /// End, exclusive.
    pub to: DateTime<Utc>,
    /// Number of tweets that it was drawn from.
    pub population: u64,
    /// Number of tweets drawn.
    pub tweets: u64,
    /// Number of them that have a label.
    pub labelled: u64,
    /// Who drew it.
    pub by: String,
    /// When it was drawn, in clock time.
    pub at: DateTime<Utc>,
}

/// A tweet of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledTweet {
    /// Its place in the sample, from 1.
    pub place: u32,
    /// Its id.
    pub tweet_id: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Its text.
    pub text: String,
    /// The label that a person gave it, if one did.
    pub label: Option<Label>,
    /// The label that the model gave it.
    pub called: Label,
    /// `name@version` of that model.
    pub model: String,
}

/// A tweet that a person labelled unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The tweet.
    pub tweet_id: String,
    /// What the person says.
    pub label: Label,
    /// Who.
    pub by: String,
    /// When, in clock time.
    pub at: DateTime<Utc>,
    /// The tweet's text; empty when it is stored.
    pub text: String,
}
