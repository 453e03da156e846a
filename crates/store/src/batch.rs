//! What one transaction of the pipeline writes.

use chrono::{DateTime, Utc};

use monitor_core::domain::{Offset, Score, TopicPartition, Tweet};

/// A tweet to store, with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTweet {
    /// The tweet.
    pub tweet: Tweet,
    /// The brands it is about, sorted, without repeats; may be empty.
    pub brands: Vec<String>,
    /// The score; `None` if no model knows the tweet's language.
    pub score: Option<ModelScore>,
}

/// The score that a model gave.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelScore {
    /// Probabilities and label.
    pub score: Score,
    /// Whether the text was longer than the model reads.
    pub truncated: bool,
    /// `name@version` of the model.
    pub model: String,
    /// Whether the settings name the model for the tweet's language; no switch concerns it then.
    pub of_language: bool,
}

impl ModelScore {
    /// A score by the main model of a text that was not truncated.
    pub fn new(score: Score, model: impl Into<String>) -> Self {
        Self { score, truncated: false, model: model.into(), of_language: false }
    }
}

/// A record that is not a tweet, with the reason.
///
/// It is kept once, however often it is read. Offsets of a recreated topic start again, so another record at the
/// same offset is one with another time, or other bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// When it was written to Kafka, if known.
    pub record_time: Option<DateTime<Utc>>,
    /// What is wrong with it, as text for people.
    pub reason: String,
    /// The beginning of its payload.
    pub payload: Vec<u8>,
    /// Length of the whole payload, in bytes.
    pub payload_bytes: u64,
}

/// How far a batch advances one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: TopicPartition,
    /// The position held before the batch; must equal the stored checkpoint.
    pub from: Offset,
    /// The position after it.
    pub to: Offset,
    /// Newest event time in the batch, if it has a tweet.
    pub event_time_max: Option<DateTime<Utc>>,
    /// When the newest record of the batch was written to Kafka, if known.
    pub record_time_max: Option<DateTime<Utc>>,
}

/// What one transaction writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Tweets, in any order; a tweet id may repeat.
    pub scores: Vec<ScoredTweet>,
    /// Records that are not tweets.
    pub dead_letters: Vec<DeadLetter>,
    /// One entry for each partition.
    pub advances: Vec<Advance>,
}

/// What one transaction wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Scores of new tweets.
    pub new: u64,
    /// New tweets without a score.
    pub not_judged: u64,
    /// Tweets stored before; they change nothing.
    pub duplicate: u64,
}
