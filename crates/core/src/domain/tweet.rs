use std::fmt;

use chrono::{DateTime, Utc};

use super::Language;

/// Longest tweet id accepted, in characters; X's own ids have 19 digits.
pub const TWEET_ID_CHARS_MAX: usize = 128;

/// The identity of a tweet: a tweet has the same id wherever and however often it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TweetId(String);

/// Why a value is not a valid tweet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidTweet {
    /// The id is empty.
    IdEmpty,
    /// The id has more than [`TWEET_ID_CHARS_MAX`] characters, or a control character.
    IdMalformed,
    /// The text is empty or white space.
    TextEmpty,
}

impl fmt::Display for InvalidTweet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdEmpty => write!(f, "the id is empty"),
            Self::IdMalformed => write!(
                f,
                "the id is longer than {TWEET_ID_CHARS_MAX} characters or holds a control character"
            ),
            Self::TextEmpty => write!(f, "the text is empty"),
        }
    }
}

impl std::error::Error for InvalidTweet {}

impl TweetId {
    /// Checks and wraps an id.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidTweet> {
        let id = id.into();
        if id.is_empty() {
            return Err(InvalidTweet::IdEmpty);
        }
        if id.chars().count() > TWEET_ID_CHARS_MAX || id.chars().any(char::is_control) {
            return Err(InvalidTweet::IdMalformed);
        }
        Ok(Self(id))
    }

    /// The id as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TweetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The author of a tweet and how many people it may reach, as far as the stream provides it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The author: the user name, or the user's id if the stream has no name.
    pub author: Option<String>,
    /// Number of the author's followers.
    pub followers: Option<u64>,
    /// Number of retweets when the stream sent it; a retweet has the number of its original.
    pub retweets: Option<u64>,
    /// Id of the tweet that it retweets, if any.
    pub retweet_of: Option<TweetId>,
}

/// A tweet, independent of its wire format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tweet {
    /// Identity; a second tweet with the same id is a duplicate.
    pub id: TweetId,
    /// The text as written, never empty.
    pub text: String,
    /// Event time: when the tweet was written.
    pub created_at: DateTime<Utc>,
    /// Tags of the stream rules that matched it, if the stream sends them.
    pub rule_tags: Vec<String>,
    /// Its author and reach.
    pub reach: Reach,
    /// Its language, if the stream names it.
    pub language: Option<Language>,
}

impl Tweet {
    /// A tweet with a non-empty text, of unknown reach and language; see [`Tweet::with_reach`]
    /// and [`Tweet::with_language`]. NUL characters, which Postgres cannot store in text,
    /// become U+FFFD.
    pub fn new(
        id: TweetId,
        text: impl Into<String>,
        created_at: DateTime<Utc>,
        rule_tags: Vec<String>,
    ) -> Result<Self, InvalidTweet> {
        let mut text = text.into();
        if text.trim().is_empty() {
            return Err(InvalidTweet::TextEmpty);
        }
        if text.contains('\0') {
            text = text.replace('\0', "\u{FFFD}");
        }
        Ok(Self { id, text, created_at, rule_tags, reach: Reach::default(), language: None })
    }

    /// The same tweet with this reach.
    pub fn with_reach(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The same tweet with the language that the stream names.
    pub fn with_language(self, language: Option<Language>) -> Self {
        Self { language, ..self }
    }
}
