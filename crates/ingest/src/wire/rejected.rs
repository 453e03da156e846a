//! Why a record is not a tweet.

use chrono::{DateTime, Utc};
use monitor_core::domain::{InvalidTweet, StreamFormat};

/// Why a record is a dead letter, in words for the person who reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The record has no payload (a tombstone).
    #[error("the record is empty")]
    Empty,
    /// The payload is longer than accepted.
    #[error("the record has {bytes} bytes, more than kafka.record_bytes_max = {max}")]
    TooLarge {
        /// The payload's length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The payload is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A wrapper around the post cannot be opened.
    #[error("cannot unwrap the record: {0}")]
    Wrapped(String),
    /// The record holds a list.
    #[error("the record is a list of {0}; send one record for each post")]
    Several(usize),
    /// JSON, but not a post of any format.
    #[error("not a tweet: {0}")]
    NotATweet(String),
    /// The record has the format of another platform than the settings say.
    #[error("kafka.format is \"{}\", but the record has the format \"{}\"", .set.as_str(), .found.as_str())]
    OtherFormat {
        /// `kafka.format`.
        set: StreamFormat,
        /// The record's format.
        found: StreamFormat,
    },
    /// The platform sent an error instead of a post.
    #[error("the stream reports an error: {0}")]
    StreamError(String),
    /// A field that a tweet needs is missing or of another kind.
    #[error("not a tweet: \"{field}\" {problem}")]
    Field {
        /// The field, with the fields around it, such as `data.text`.
        field: String,
        /// What is wrong, such as "is missing".
        problem: String,
    },
    /// The id or the text is not that of a tweet.
    #[error("\"{field}\": {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong.
        problem: InvalidTweet,
    },
    /// The time cannot be read.
    #[error("\"{field}\" is {value:?}, not a time such as 2015-02-24T19:35:52Z")]
    Time {
        /// The field.
        field: String,
        /// Its beginning.
        value: String,
    },
    /// Neither the tweet nor the record has a time.
    #[error("\"{field}\" is missing, and the record has no time of its own")]
    NoTime {
        /// The field.
        field: String,
    },
    /// The tweet's date is before the first tweet ever.
    #[error("\"{field}\": {at} is before the first tweet ever, of 21 March 2006")]
    TooOld {
        /// The field.
        field: String,
        /// The tweet's date.
        at: DateTime<Utc>,
    },
    /// The tweet's date is too far in the future.
    #[error("\"{field}\": {at} is in the future, more than kafka.future_s_max = {max_s} s ahead")]
    Future {
        /// The field.
        field: String,
        /// The tweet's date.
        at: DateTime<Utc>,
        /// The limit, in seconds.
        max_s: i64,
    },
}

impl Rejected {
    /// All that [`Rejected::kind`] answers.
    pub const KINDS: [&'static str; 15] = [
        "empty",
        "too-large",
        "not-json",
        "wrapped",
        "list",
        "not-a-tweet",
        "other-format",
        "stream-error",
        "field",
        "no-text",
        "id",
        "time",
        "no-time",
        "too-old",
        "future",
    ];

    /// A word for the kind of fault, under which `monitor replay --check` and the metrics count.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge { .. } => "too-large",
            Self::NotJson(_) => "not-json",
            Self::Wrapped(_) => "wrapped",
            Self::Several(_) => "list",
            Self::NotATweet(_) => "not-a-tweet",
            Self::OtherFormat { .. } => "other-format",
            Self::StreamError(_) => "stream-error",
            Self::Field { .. } => "field",
            Self::Invalid { problem: InvalidTweet::TextEmpty, .. } => "no-text",
            Self::Invalid { .. } => "id",
            Self::Time { .. } => "time",
            Self::NoTime { .. } => "no-time",
            Self::TooOld { .. } => "too-old",
            Self::Future { .. } => "future",
        }
    }

    /// A needed field is missing.
    pub(super) fn missing(field: &str) -> Self {
        Self::Field { field: field.to_owned(), problem: "is missing".to_owned() }
    }

    /// A needed field holds `kind` where it should hold `needed`.
    pub(super) fn wrong(field: &str, kind: &str, needed: &str) -> Self {
        Self::Field { field: field.to_owned(), problem: format!("is {kind}, not {needed}") }
    }
}
