//! What one transaction of the pipeline writes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use monitor_core::alerting::Heard;
use monitor_core::domain::{Language, Offset, Removed, Score, TopicPartition, Tweet, TweetId};

/// A tweet to store, with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTweet {
    /// The tweet.
    pub tweet: Tweet,
    /// The brands it is about, sorted, without repeats; may be empty.
    pub brands: Vec<String>,
    /// The score; `None` if no model knows the tweet's language.
    pub score: Option<ModelScore>,
    /// Whether the detector hears it; without a score it does not.
    pub heard: Heard,
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

/// A stored tweet whose text and author are to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The tweet.
    pub tweet_id: TweetId,
    /// Why.
    pub why: Removed,
    /// Whether it still counts.
    pub keeps_count: bool,
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
    /// Tweets; a tweet id may repeat. A later version of a tweet replaces those before it
    /// ([`Tweet::edit_of`]): they count no more, and a later version with the same id stays in the minute in
    /// which the tweet was written.
    pub scores: Vec<ScoredTweet>,
    /// Tweets to remove. Those that are not stored are ignored.
    pub removals: Vec<Removal>,
    /// Records that are not tweets.
    pub dead_letters: Vec<DeadLetter>,
    /// One entry for each partition.
    pub advances: Vec<Advance>,
}

/// What one transaction wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// Scores of new tweets.
    pub new: u64,
    /// New tweets without a score.
    pub not_judged: u64,
    /// Tweets stored before; they change nothing.
    pub duplicate: u64,
    /// Of the new ones, those that repeat what their hour has heard or whose authors are left out: they are stored,
    /// and not counted by the detector.
    pub echoes: u64,
    /// Stored tweets that were removed or replaced by a later version.
    pub removed: u64,
    /// The new tweets about brands, in order; one about two brands counts for each.
    pub by_brand: Vec<NewTweets>,
}

/// New tweets about a brand that have model and language in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewTweets {
    /// The brand.
    pub brand: String,
    /// `name@version` of the model; `None` if they have no score.
    pub model: Option<String>,
    /// Their language, if known.
    pub language: Option<Language>,
    /// How many.
    pub tweets: u64,
}

/// What a batch does to the stored tweets.
pub(crate) struct Changes<'b> {
    /// The tweets to store, by id, and whether one replaces what is stored under its id.
    pub tweets: BTreeMap<&'b TweetId, (&'b ScoredTweet, bool)>,
    /// The tweets to remove.
    pub removals: BTreeMap<&'b TweetId, Change>,
}

/// How a tweet is removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub why: Removed,
    pub keeps_count: bool,
    /// Of an edited tweet, when its later version was written: if the tweet is not stored, it will never be.
    pub edited_at: Option<DateTime<Utc>>,
}

impl Batch {
    pub(crate) fn changes(&self) -> Changes<'_> {
        let mut tweets: BTreeMap<&TweetId, (&ScoredTweet, bool)> = BTreeMap::new();
        let mut removals = BTreeMap::new();
        for row in &self.scores {
            let id = &row.tweet.id;
            let replaces = row.tweet.edit_of.contains(id);
            if replaces || !tweets.contains_key(id) {
                tweets.insert(id, (row, replaces));
            }
            let edited_at = Some(row.tweet.created_at);
            let change = Change { why: Removed::Edited, keeps_count: false, edited_at };
            let before = row.tweet.edit_of.iter().filter(|before| *before != id);
            removals.extend(before.map(|before| (before, change)));
        }
        // A version that its own batch replaces is not stored at all.
        tweets.retain(|id, _| !removals.contains_key(id));
        for Removal { tweet_id, why, keeps_count } in &self.removals {
            let change = Change { why: *why, keeps_count: *keeps_count, edited_at: None };
            removals.entry(tweet_id).or_insert(change);
        }
        Changes { tweets, removals }
    }
}
