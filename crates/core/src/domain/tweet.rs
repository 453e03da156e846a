use std::fmt;

use chrono::{DateTime, Utc};

/// Longest tweet id accepted, in characters; X's own ids have 19 digits.
pub const TWEET_ID_CHARS_MAX: usize = 128;

/// What makes a tweet the same tweet wherever and however often it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TweetId(String);

/// Why a value is no tweet.
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

    /// The id as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TweetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a tweet goes, as far as the stream tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Who wrote it: the user's name, or the id where the stream gives no name.
    pub author: Option<String>,
    /// How many follow its author.
    pub followers: Option<u64>,
    /// How often it was retweeted when it was sent; a retweet has its original's number.
    pub retweets: Option<u64>,
    /// The tweet it is a retweet of.
    pub retweet_of: Option<TweetId>,
}

/// A tweet, whatever wire format it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tweet {
    /// Identity; a second tweet under the same id is a duplicate.
    pub id: TweetId,
    /// The text as written, never empty.
    pub text: String,
    /// Event time: when the tweet was written.
    pub created_at: DateTime<Utc>,
    /// Tags of the stream rules that matched it, if the stream sends them.
    pub rule_tags: Vec<String>,
    /// How far it goes.
    pub reach: Reach,
}

impl Tweet {
    /// A tweet with a text that has something in it. NUL characters, which Postgres
    /// cannot store in text, become U+FFFD. Nothing is known of its reach; see
    /// [`Tweet::with_reach`].
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
        Ok(Self { id, text, created_at, rule_tags, reach: Reach::default() })
    }

    /// The same tweet with what is known of its reach.
    pub fn with_reach(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }
}
