//! What people look up: tweets, and what became of notifications.

use chrono::{DateTime, Utc};
use monitor_core::domain::{Label, Minute};

use crate::{Drivers, StoredTweet};

/// Which tweets to find. All conditions hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TweetQuery {
    /// About this brand.
    pub brand: String,
    /// Of this minute and later ones.
    pub from: Minute,
    /// Up to and including this minute.
    pub to: Minute,
    /// With this label of the model.
    pub label: Option<Label>,
    /// With these words in a row, in any case.
    pub text: Option<String>,
    /// Behind this tweet in the order of the answer: its time and id.
    pub after: Option<(DateTime<Utc>, String)>,
    /// At most this many.
    pub limit: u32,
}

/// A tweet that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundTweet {
    /// The tweet.
    pub tweet: StoredTweet,
    /// The model's label.
    pub label: Label,
    /// What a person says of it, who and when.
    pub corrected: Option<(Label, String, DateTime<Utc>)>,
}

/// What became of one notification.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationState {
    /// The receiver.
    pub receiver: String,
    /// `opened`, `updated` or `resolved`.
    pub transition: String,
    /// `pending`, `sent` or `dead`.
    pub state: String,
    /// Attempts made.
    pub attempts: u32,
    /// The last error, if an attempt failed.
    pub error: Option<String>,
    /// When it was sent or given up, where that is known.
    pub ended_at: Option<DateTime<Utc>>,
    /// What it names as the drivers of the incident.
    pub drivers: Drivers,
}
