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
    /// The id is a rounded number, such as `5.70306E+17`: a spreadsheet has lost its digits, and
    /// many tweets have this id now.
    IdRounded,
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
            Self::IdRounded => write!(
                f,
                "the id is a rounded number, as spreadsheets write long ones; its digits are lost, so \
                 export ids as text"
            ),
            Self::TextEmpty => write!(f, "the text is empty"),
        }
    }
}

impl std::error::Error for InvalidTweet {}

impl TweetId {
    /// Checks and wraps an id, without white space around it.
    ///
    /// # Errors
    /// [`InvalidTweet`]: it is empty, too long, has a control character, or was rounded.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidTweet> {
        let mut id = id.into();
        if id.trim().len() < id.len() {
            id = id.trim().to_owned();
        }
        if id.is_empty() {
            return Err(InvalidTweet::IdEmpty);
        }
        if is_rounded(&id) {
            return Err(InvalidTweet::IdRounded);
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

/// Whether an id looks like `5.70306E+17` or `570306133677760512.0`, with a comma or a full stop.
/// Without a fraction, an exponent needs its sign: `12e5` may be an id in base 16 or 36.
fn is_rounded(id: &str) -> bool {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let (digits, exponent) = match id.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, Some(exponent)),
        None => (id, None),
    };
    let has_fraction = digits
        .split_once(['.', ','])
        .is_some_and(|(whole, fraction)| number(whole) && number(fraction));
    match exponent {
        None => has_fraction,
        Some(exponent) => {
            let signed = exponent.strip_prefix('+');
            number(signed.unwrap_or(exponent))
                && (has_fraction || (signed.is_some() && number(digits)))
        }
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
    /// Ids of the versions before, first to last, if this is a later one. On X each version has an id of its own;
    /// where an edited post keeps its id (Bluesky, Mastodon), this is the same as `id`.
    pub edit_of: Vec<TweetId>,
    /// Whether the platform cut the text and did not send the rest.
    pub is_cut: bool,
}

impl Tweet {
    /// A tweet with a non-empty text, of unknown reach and language, not edited and not cut; see
    /// [`Tweet::with_reach`] and the others. NUL characters, which Postgres cannot store in text,
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
        let (reach, language, edit_of, is_cut) = (Reach::default(), None, Vec::new(), false);
        Ok(Self { id, text, created_at, rule_tags, reach, language, edit_of, is_cut })
    }

    /// The same tweet with this reach.
    pub fn with_reach(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The same tweet with the language that the stream names.
    pub fn with_language(self, language: Option<Language>) -> Self {
        Self { language, ..self }
    }

    /// The same tweet as a later version of these.
    pub fn with_edit_of(self, edit_of: Vec<TweetId>) -> Self {
        Self { edit_of, ..self }
    }

    /// The same tweet, whose text is cut or whole.
    pub fn with_cut(self, is_cut: bool) -> Self {
        Self { is_cut, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_held_to_a_form() {
        let check = |id: &str, expected: Result<&str, InvalidTweet>| {
            let found = TweetId::new(id);
            assert_eq!(found.as_ref().map(TweetId::as_str), expected.as_ref().copied(), "{id:?}");
        };
        use InvalidTweet::*;
        check("570306133677760513", Ok("570306133677760513"));
        check(" 147 ", Ok("147"));
        check("at://did:plc:x/app.bsky.feed.post/3k", Ok("at://did:plc:x/app.bsky.feed.post/3k"));
        check("12e5", Ok("12e5"));
        check("1e5f", Ok("1e5f"));
        check("1.2.3", Ok("1.2.3"));
        check("line 5", Ok("line 5"));
        check("e+5", Ok("e+5"));
        check("", Err(IdEmpty));
        check(" \t", Err(IdEmpty));
        check("5.70306E+17", Err(IdRounded));
        check("5,70306E+17", Err(IdRounded));
        check("5.703061336777605e17", Err(IdRounded));
        check("6E+17", Err(IdRounded));
        check("570306133677760512.0", Err(IdRounded));
        check("a\nb", Err(IdMalformed));
        check(&"1".repeat(129), Err(IdMalformed));
        check(&"1".repeat(128), Ok(&"1".repeat(128)));
    }
}
