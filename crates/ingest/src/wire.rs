//! Decodes a record's bytes to a [`Tweet`]: X API v2 stream objects and flat JSON.
//!
//! **Invariant.** Pure: the same bytes, record time and clock give the same result. A record
//! that is not a tweet is [`Rejected`] with a reason; nothing panics. The reach is optional
//! information and never rejects a tweet: a field of it that cannot be read counts as absent.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::timestamp::parse_timestamp;
use monitor_core::domain::{InvalidTweet, Language, Reach, Tweet, TweetId};

/// WireLimits for a record to be accepted as a tweet.
#[derive(Debug, Clone, Copy)]
pub struct WireLimits {
    /// Longest payload, in bytes.
    pub record_bytes_max: usize,
    /// How far ahead of the clock a tweet's date may be.
    pub future_max: TimeDelta,
}

/// 21 March 2006, in seconds since 1970.
const FIRST_TWEET_S: i64 = 1_142_899_200;

/// Longest name of an author, and longest id of a retweeted tweet, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Why a record is not a tweet.
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
    /// The payload is not JSON, or not an object of either form.
    #[error("not a tweet: {0}")]
    NotATweet(String),
    /// A field is present but invalid.
    #[error("{0}")]
    Invalid(#[from] InvalidTweet),
    /// `created_at` cannot be parsed.
    #[error("created_at {0:?} is not a time such as 2015-02-24T19:35:52Z")]
    Time(String),
    /// Neither the tweet nor the record has a time.
    #[error("created_at is missing, and the Kafka record has no timestamp")]
    NoTime,
    /// The tweet's date is before the first tweet ever.
    #[error("created_at {0} is before the first tweet ever, of 21 March 2006")]
    TooOld(DateTime<Utc>),
    /// The tweet's date is too far in the future.
    #[error("created_at {at} is in the future, more than kafka.future_s_max = {max_s} s ahead")]
    Future {
        /// The tweet's date.
        at: DateTime<Utc>,
        /// The limit, in seconds.
        max_s: i64,
    },
}

/// The two forms: X API v2 has the tweet under `data`, flat JSON has it at the top level.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Nested {
        data: Fields,
        #[serde(default)]
        matching_rules: Vec<Rule>,
        #[serde(default)]
        includes: Value,
    },
    Flat(Fields),
}

#[derive(Deserialize)]
struct Fields {
    id: Id,
    text: String,
    created_at: Option<String>,
    /// A text of more than 280 characters is complete only here.
    note_tweet: Option<Note>,
    #[serde(default)]
    rule_tags: Vec<String>,
    /// The language that X found, under this name in X API v1.1, v2 and flat JSON.
    #[serde(default)]
    lang: Value,
    // Reach, in X API v2 ...
    #[serde(default)]
    author_id: Value,
    #[serde(default)]
    public_metrics: Value,
    #[serde(default)]
    referenced_tweets: Value,
    // ... and in flat JSON.
    #[serde(default)]
    author: Value,
    #[serde(default)]
    followers: Value,
    #[serde(default)]
    retweets: Value,
    #[serde(default)]
    retweet_of: Value,
}

impl Fields {
    /// Reads the reach from the tweet and from the objects sent along with it.
    fn reach(&self, includes: &Value) -> Reach {
        let author_id = name(&self.author_id);
        let user = list(&includes["users"])
            .find(|user| author_id.is_some() && name(&user["id"]) == author_id)
            .unwrap_or(&Value::Null);
        let retweeted = list(&self.referenced_tweets)
            .find(|tweet| tweet["type"] == "retweeted")
            .unwrap_or(&Value::Null);
        Reach {
            author: name(&user["username"]).or(author_id).or_else(|| name(&self.author)),
            followers: count(&user["public_metrics"]["followers_count"])
                .or_else(|| count(&self.followers)),
            retweets: count(&self.public_metrics["retweet_count"])
                .or_else(|| count(&self.retweets)),
            retweet_of: name(&retweeted["id"])
                .or_else(|| name(&self.retweet_of))
                .and_then(|id| TweetId::new(id).ok()),
        }
    }
}

/// A language, given as a code; `None` for X's codes that stand for no language, such as "und".
fn language(value: &Value) -> Option<Language> {
    value.as_str()?.parse().ok()
}

/// The elements of an array; nothing if the value is not an array.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A name or an id, given as a string or as a number.
fn name(value: &Value) -> Option<String> {
    let name = match value {
        Value::String(name) => name.trim().to_owned(),
        Value::Number(number) => number.as_u64()?.to_string(),
        _ => return None,
    };
    let valid =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    valid.then_some(name)
}

/// A number of people or tweets, given as a number or as a string; `None` if it does not fit
/// into a Postgres `bigint`.
fn count(value: &Value) -> Option<u64> {
    let count = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    i64::try_from(count).is_ok().then_some(count)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

#[derive(Deserialize)]
struct Note {
    text: String,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    tag: Option<String>,
}

/// Decodes one record. A tweet without `created_at` gets the record's timestamp.
///
/// # Errors
/// [`Rejected`], with a message for the person who reads the dead letters.
pub fn decode(
    payload: &[u8],
    payload_bytes: usize,
    timestamp: Option<DateTime<Utc>>,
    limits: &WireLimits,
    now: DateTime<Utc>,
) -> Result<Tweet, Rejected> {
    if payload_bytes == 0 {
        return Err(Rejected::Empty);
    }
    if payload_bytes > limits.record_bytes_max {
        return Err(Rejected::TooLarge { bytes: payload_bytes, max: limits.record_bytes_max });
    }
    let wire = serde_json::from_slice(payload).map_err(|error| rejection(payload, &error))?;
    let (fields, mut rule_tags, includes) = match wire {
        Wire::Nested { data, matching_rules, includes } => {
            (data, matching_rules.into_iter().filter_map(|rule| rule.tag).collect(), includes)
        }
        Wire::Flat(fields) => (fields, Vec::new(), Value::Null),
    };
    let reach = fields.reach(&includes);
    let language = language(&fields.lang);
    rule_tags.extend(fields.rule_tags);
    let id = match fields.id {
        Id::Text(id) => TweetId::new(id)?,
        Id::Number(id) => TweetId::new(id.to_string())?,
    };
    let created_at = match fields.created_at {
        Some(text) => parse_timestamp(&text).ok_or_else(|| Rejected::Time(shorten(&text)))?,
        None => timestamp.ok_or(Rejected::NoTime)?,
    };
    if created_at.timestamp() < FIRST_TWEET_S {
        return Err(Rejected::TooOld(created_at));
    }
    if created_at - now > limits.future_max {
        return Err(Rejected::Future { at: created_at, max_s: limits.future_max.num_seconds() });
    }
    let text = fields.note_tweet.map_or(fields.text, |note| note.text);
    let tweet = Tweet::new(id, text, created_at, rule_tags)?;
    Ok(tweet.with_reach(reach).with_language(language))
}

/// Finds out what is wrong with the payload: the error of an untagged enum only says that no
/// form matched.
fn rejection(payload: &[u8], error: &serde_json::Error) -> Rejected {
    let reason = match serde_json::from_slice::<serde_json::Value>(payload) {
        Err(syntax) => format!("the record is not JSON: {syntax}"),
        Ok(serde_json::Value::Object(object)) => {
            let (fields, place) = match object.get("data") {
                Some(data) => (data.as_object(), "data."),
                None => (Some(&object), ""),
            };
            match fields {
                None => "\"data\" is not an object".to_owned(),
                Some(fields) => ["id", "text"]
                    .into_iter()
                    .find_map(|name| match fields.get(name) {
                        None => Some(format!("\"{place}{name}\" is missing")),
                        Some(serde_json::Value::String(_)) => None,
                        Some(serde_json::Value::Number(n)) if name == "id" && n.is_u64() => None,
                        Some(_) => Some(format!("\"{place}{name}\" has the wrong type")),
                    })
                    .unwrap_or_else(|| format!("a field has the wrong type: {error}")),
            }
        }
        Ok(_) => "the record is JSON, but not an object".to_owned(),
    };
    Rejected::NotATweet(reason.replace('\0', "\u{FFFD}"))
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        parse_timestamp(text).expect("a valid time")
    }

    fn read(payload: &str) -> Result<Tweet, Rejected> {
        let limits = WireLimits { record_bytes_max: 1000, future_max: TimeDelta::seconds(600) };
        decode(
            payload.as_bytes(),
            payload.len(),
            Some(at("2015-02-20T00:00:00Z")),
            &limits,
            at("2015-03-01T00:00:00Z"),
        )
    }

    #[test]
    fn decodes_both_forms() {
        let check = |name: &str, payload: &str, id: &str, text: &str, time: &str, tags: &[&str]| {
            let tweet = read(payload).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(tweet.id.as_str(), id, "{name}");
            assert_eq!(tweet.text, text, "{name}");
            assert_eq!(tweet.created_at, at(time), "{name}");
            assert_eq!(tweet.rule_tags, tags, "{name}");
        };
        let time = "2015-02-24T19:35:52Z";
        check(
            "flat",
            r#"{"id":"7","text":"hi","created_at":"2015-02-24T19:35:52Z","lang":"en"}"#,
            "7",
            "hi",
            time,
            &[],
        );
        check(
            "flat, number as id",
            r#"{"id":570306133677760513,"text":"hi","created_at":"2015-02-24T19:35:52Z"}"#,
            "570306133677760513",
            "hi",
            time,
            &[],
        );
        check(
            "X API v2",
            r#"{"data":{"id":"7","text":"hi","created_at":"2015-02-24T19:35:52.000Z","edit_history_tweet_ids":["7"]},"matching_rules":[{"id":"1","tag":"air"},{"id":"2"}]}"#,
            "7",
            "hi",
            time,
            &["air"],
        );
        check(
            "X API v2, long",
            r#"{"data":{"id":"7","text":"h…","note_tweet":{"text":"high"},"created_at":"2015-02-24T19:35:52Z"}}"#,
            "7",
            "high",
            time,
            &[],
        );
        check(
            "no created_at: the record's time",
            r#"{"id":"7","text":"hi"}"#,
            "7",
            "hi",
            "2015-02-20T00:00:00Z",
            &[],
        );
        check(
            "NUL in the text",
            r#"{"id":"7","text":"a\u0000b"}"#,
            "7",
            "a\u{FFFD}b",
            "2015-02-20T00:00:00Z",
            &[],
        );
    }

    #[test]
    fn reads_the_reach_if_present() {
        type Expected<'a> = (Option<&'a str>, Option<u64>, Option<u64>, Option<&'a str>);
        let check = |name: &str, payload: &str, expected: Expected<'_>| {
            let reach = read(payload).unwrap_or_else(|e| panic!("{name}: {e}")).reach;
            let retweet_of = reach.retweet_of.as_ref().map(TweetId::as_str);
            let found = (reach.author.as_deref(), reach.followers, reach.retweets, retweet_of);
            assert_eq!(found, expected, "{name}");
        };
        let flat = |fields: &str| format!(r#"{{"id":"7","text":"hi",{fields}}}"#);
        let nested = |fields: &str, rest: &str| {
            format!(r#"{{"data":{{"id":"7","text":"hi",{fields}}},{rest}}}"#)
        };
        check("absent", r#"{"id":"7","text":"hi"}"#, (None, None, None, None));
        check(
            "flat",
            &flat(r#""author":"ann","followers":12,"retweets":3,"retweet_of":"5""#),
            (Some("ann"), Some(12), Some(3), Some("5")),
        );
        check(
            "flat, strings for numbers and numbers for strings",
            &flat(r#""author":99,"followers":"12","retweets":" 3","retweet_of":5"#),
            (Some("99"), Some(12), Some(3), Some("5")),
        );
        check(
            "flat, nothing readable",
            &flat(r#""author":{},"followers":-1,"retweets":"many","retweet_of":[]"#),
            (None, None, None, None),
        );
        check(
            "flat, some fields unreadable",
            &flat(r#""author":"a\u0000b","followers":1.5,"retweets":0,"retweet_of":null"#),
            (None, None, Some(0), None),
        );
        check(
            "flat, out of bounds",
            &flat(&format!(
                r#""author":"{}","followers":18446744073709551615,"retweet_of":" ""#,
                "x".repeat(129)
            )),
            (None, None, None, None),
        );
        check(
            "X API v2",
            &nested(
                r#""author_id":"9","public_metrics":{"retweet_count":4,"like_count":1},
                   "referenced_tweets":[{"type":"quoted","id":"1"},{"type":"retweeted","id":"2"}]"#,
                r#""includes":{"users":[{"id":"8","username":"bob","public_metrics":{"followers_count":5}},
                   {"id":"9","username":"ann","public_metrics":{"followers_count":12}}]}"#,
            ),
            (Some("ann"), Some(12), Some(4), Some("2")),
        );
        check(
            "X API v2 without the author's object",
            &nested(
                r#""author_id":"9","referenced_tweets":[{"type":"quoted","id":"1"}]"#,
                r#""includes":{"users":[{"username":"bob","public_metrics":{"followers_count":5}}]}"#,
            ),
            (Some("9"), None, None, None),
        );
        check(
            "X API v2, nothing readable",
            &nested(
                r#""author_id":[],"public_metrics":3,"referenced_tweets":{"type":"retweeted"}"#,
                r#""includes":"none""#,
            ),
            (None, None, None, None),
        );
    }

    #[test]
    fn reads_the_language_if_present() {
        let check = |name: &str, payload: &str, expected: Option<&str>| {
            let tweet = read(payload).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(tweet.language.as_ref().map(Language::as_str), expected, "{name}");
        };
        let flat = |lang: &str| format!(r#"{{"id":"7","text":"hi","lang":{lang}}}"#);
        check("absent", r#"{"id":"7","text":"hi"}"#, None);
        check("flat", &flat(r#""fr""#), Some("fr"));
        check("X API v2", r#"{"data":{"id":"7","text":"hi","lang":"fr"}}"#, Some("fr"));
        check(
            "X API v1.1",
            r#"{"id":7,"id_str":"7","text":"hi","truncated":false,"user":{"lang":"de"},
               "created_at":"Tue Feb 24 19:35:52 +0000 2015","lang":"fr"}"#,
            Some("fr"),
        );
        check("beside the tweet", r#"{"data":{"id":"7","text":"hi"},"lang":"fr"}"#, None);
        check("Hebrew's old code", &flat(r#""iw""#), Some("he"));
        check("a region", &flat(r#""zh-tw""#), Some("zh"));
        for unknown in ["und", "qme", "qht", "qam", "qst", "qct", "zxx", "art", "", "English"] {
            check(unknown, &flat(&format!("{unknown:?}")), None);
        }
        for unreadable in ["null", "7", "[\"fr\"]", "{}", "true"] {
            check(unreadable, &flat(unreadable), None);
        }
    }

    #[test]
    fn rejects_with_a_reason() {
        let check = |name: &str, payload: &str, reason: &str| {
            let found = read(payload).expect_err(name).to_string();
            assert!(found.contains(reason), "{name}: {found:?} should contain {reason:?}");
        };
        check("empty", "", "the record is empty");
        check("no JSON", "hello", "not JSON: expected value at line 1 column 1");
        check("cut off", r#"{"id":"7","te"#, "not JSON: EOF");
        check("an array", "[1]", "not an object");
        check("no id", r#"{"text":"hi"}"#, r#""id" is missing"#);
        check("no text", r#"{"id":"7"}"#, r#""text" is missing"#);
        check("no text, nested", r#"{"data":{"id":"7"}}"#, r#""data.text" is missing"#);
        check("text is a number", r#"{"id":"7","text":7}"#, r#""text" has the wrong type"#);
        check("data is a string", r#"{"data":"x"}"#, r#""data" is not an object"#);
        check("blank text", r#"{"id":"7","text":" \n"}"#, "the text is empty");
        check("empty id", r#"{"id":"","text":"hi"}"#, "the id is empty");
        check(
            "bad time",
            r#"{"id":"7","text":"hi","created_at":"yesterday"}"#,
            r#""yesterday" is not a time"#,
        );
        check(
            "from the future",
            r#"{"id":"7","text":"hi","created_at":"2015-03-01T00:10:01Z"}"#,
            "is in the future",
        );
        check(
            "too large",
            &format!(r#"{{"id":"7","text":"{}"}}"#, "x".repeat(1000)),
            "more than kafka.record_bytes_max = 1000",
        );
    }

    #[test]
    fn a_tweet_needs_a_time() {
        let limits = WireLimits { record_bytes_max: 1000, future_max: TimeDelta::seconds(1) };
        let payload = br#"{"id":"7","text":"hi"}"#;
        let found = decode(payload, payload.len(), None, &limits, at("2015-03-01T00:00:00Z"));
        assert_eq!(found, Err(Rejected::NoTime));
    }
}
