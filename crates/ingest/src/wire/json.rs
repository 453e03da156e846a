//! JSON as a tree of the fields that the decoders read.
//!
//! **Invariant.** A record is parsed once. A key that is not in [`KEYS`] is skipped with its value,
//! whatever it is, so it can never cost a tweet. Depth is bounded by serde_json (128), memory by the
//! record. A record that is not strict JSON is parsed a second time after [`repair`], if that
//! changed it. Deliberately absent: errors in serde's words.

use std::borrow::Cow;
use std::fmt;

use monitor_core::text::utf8;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Characters of a record that an error shows.
const SHOWN_CHARS_MAX: usize = 24;

/// The keys that some decoder reads, sorted.
#[rustfmt::skip]
const KEYS: [&str; 113] = [
    "$type", "__deleted", "account", "acct", "after", "author", "author_followers", "author_id",
    "before", "body", "children", "code", "collection", "commit", "content", "createdAt",
    "created_at", "created_utc", "data", "data_base64", "datacontenttype", "date", "datetime",
    "delete", "detail", "did", "disconnect", "disconnect_type", "drop", "edit_history_post_ids",
    "edit_history_tweet_ids", "error", "errors", "event", "event_at", "extended_tweet",
    "followers", "followers_count", "full_text", "id", "id_str", "ids", "includes", "kind", "lang",
    "langs", "language", "limit", "matching_rules", "message", "name", "note_post", "note_tweet",
    "op", "operation", "payload", "post", "posts", "public_metrics", "reason", "reblog",
    "reblogs_count", "record", "referenced_posts", "referenced_tweets", "retweet_count",
    "retweet_of", "retweeted_status", "retweeted_status_id", "retweets", "rkey", "rule_tags",
    "schema", "screen_name", "scrub_geo", "selftext", "specversion", "spoiler_text", "status",
    "status_withheld", "stream", "tag", "text", "time", "time_us", "timestamp", "timestamp_ms",
    "title", "track", "truncated", "ts_ms", "tweet", "tweet_created", "tweet_edit", "tweet_id",
    "tweets", "type", "undrop", "user", "user_delete", "user_id", "user_id_str",
    "user_profile_modification", "user_protect", "user_suspend", "user_undelete", "user_unprotect",
    "user_unsuspend", "user_withheld", "username", "users", "warning", "withheld",
];

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// The fields in their order; those that no decoder reads are left out.
    Object(Vec<(&'static str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// The value of a field; `Null` without it. The last one counts if a field occurs twice.
    pub fn get(&self, name: &str) -> &Json<'a> {
        debug_assert!(KEYS.binary_search(&name).is_ok(), "{name} is not in KEYS");
        match self {
            Json::Object(fields) => {
                fields.iter().rfind(|(key, _)| *key == name).map_or(&Json::Null, |(_, value)| value)
            }
            _ => &Json::Null,
        }
    }

    /// Whether it is an object with this field, be it null.
    pub fn has(&self, name: &str) -> bool {
        debug_assert!(KEYS.binary_search(&name).is_ok(), "{name} is not in KEYS");
        matches!(self, Json::Object(fields) if fields.iter().any(|(key, _)| *key == name))
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; nothing for anything else.
    pub fn list(&self) -> &[Json<'a>] {
        match self {
            Json::List(list) => list,
            _ => &[],
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    /// Whether it has id and text itself, so that no other field of it is a wrapper of a post.
    pub fn is_row(&self) -> bool {
        self.has("id") && self.has("text")
    }

    /// What it is, for a sentence such as `"text" is a number, not a text`.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "true or false",
            Json::Whole(_) | Json::Number(_) => "a number",
            Json::Text(_) => "a text",
            Json::List(_) => "a list",
            Json::Object(_) => "an object",
        }
    }
}

/// A key of an object, if a decoder reads it.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Found;
        impl Visitor<'_> for Found {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(KEYS.binary_search(&key).ok().map(|at| KEYS[at])))
            }
        }
        deserializer.deserialize_str(Found)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(u64::try_from(value).map_or(Json::Number(value as f64), Json::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            match key {
                Some(key) => fields.push((key, map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Json::Object(fields))
    }
}

/// Parses a whole record.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence that begins with "not JSON".
pub(super) fn parse(bytes: &[u8]) -> Result<Json<'_>, String> {
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let parsed = Json::deserialize(&mut input);
    let (error, is_rest) = match parsed {
        Ok(json) => match input.end() {
            Ok(()) => return Ok(json),
            Err(error) => (error, true),
        },
        Err(error) => (error, false),
    };
    let at = place(bytes, &error);
    let shown = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 4 * SHOWN_CHARS_MAX)]);
    let shown: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
    Err(if is_rest && matches!(bytes[at..].first(), Some(b'{' | b'[')) {
        "more than one JSON value; send one record for each post".to_owned()
    } else if error.is_eof() {
        format!("it ends in the middle, after {} bytes", bytes.len())
    } else if error.to_string().starts_with("recursion limit") {
        "nested deeper than 128 levels".to_owned()
    } else if error.to_string().starts_with("number out of range") {
        format!("the number before byte {} is out of range", at + 1)
    } else if bytes.trim_ascii_start().starts_with(b"{'") {
        "single quotes, as Python prints a dict; use json.dumps".to_owned()
    } else if bytes.starts_with(b"b'") {
        "Python's form of bytes; send the bytes themselves".to_owned()
    } else {
        format!("byte {} begins {shown:?}", at + 1)
    })
}

/// Where an error is, as an index into `bytes`.
fn place(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let start: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    (start + error.column().saturating_sub(1)).min(bytes.len())
}

/// The record as strict JSON, if it is not and can be made so: bytes of Windows-1252 and invalid
/// UTF-8, halves of a surrogate pair (`"\ud83d"`, from texts that were cut within an emoji) become
/// U+FFFD, `NaN` and `Infinity` (which Python writes) become null, and control characters in texts
/// are escaped. `None` if nothing of that occurs.
pub(super) fn repair(bytes: &[u8]) -> Option<Vec<u8>> {
    let read = utf8(bytes);
    let decoded = String::from_utf8_lossy(&read);
    let text = decoded.as_bytes();
    let mut changed = matches!((&read, &decoded), (Cow::Owned(_), _) | (_, Cow::Owned(_)));
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut at, mut in_text) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        // What is read here, and what is written for it if that differs.
        let (length, instead): (usize, Option<&[u8]>) = match rest[0] {
            b'"' => {
                in_text = !in_text;
                (1, None)
            }
            b'\\' if in_text => match (surrogate(rest), surrogate(rest.get(6..).unwrap_or(&[]))) {
                (Some(Half::High), Some(Half::Low)) => (12, None),
                (Some(_), _) => (6, Some(b"\\ufffd")),
                (None, _) => (2.min(rest.len()), None),
            },
            b'\t' if in_text => (1, Some(b"\\t")),
            b'\n' if in_text => (1, Some(b"\\n")),
            b'\r' if in_text => (1, Some(b"\\r")),
            0..0x20 if in_text => (1, Some(b"\\ufffd")),
            _ if in_text => (1, None),
            b'N' if rest.starts_with(b"NaN") => (3, Some(b"null")),
            b'I' if rest.starts_with(b"Infinity") => (8, Some(b"null")),
            b'-' if rest.starts_with(b"-Infinity") => (9, Some(b"null")),
            _ => (1, None),
        };
        out.extend_from_slice(instead.unwrap_or(&rest[..length]));
        changed |= instead.is_some();
        at += length;
    }
    changed.then_some(out)
}

enum Half {
    High,
    Low,
}

/// The half of a surrogate pair that is escaped at the beginning.
fn surrogate(text: &[u8]) -> Option<Half> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    match (digits[0] | 0x20, digits[1] | 0x20) {
        (b'd', b'8' | b'9' | b'a' | b'b') => Some(Half::High),
        (b'd', b'c'..=b'f') => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_sorted() {
        assert!(KEYS.is_sorted_by(|a, b| a < b), "binary search needs it");
    }

    #[test]
    fn the_keys_are_those_that_decoders_read() {
        let sources = [
            include_str!("bluesky.rs"),
            include_str!("fields.rs"),
            include_str!("flat.rs"),
            include_str!("mastodon.rs"),
            include_str!("reddit.rs"),
            include_str!("shape.rs"),
            include_str!("unwrap.rs"),
            include_str!("x.rs"),
            include_str!("x_notice.rs"),
        ];
        let mut read = 0;
        for source in sources {
            for call in ["get(\"", "has(\""] {
                for (at, _) in source.match_indices(call) {
                    let name = source[at + call.len()..].split('"').next().unwrap_or_default();
                    assert!(KEYS.contains(&name), "{name} is missing in KEYS");
                    read += 1;
                }
            }
        }
        assert!(read > 50, "the calls are found: {read}");
    }

    #[test]
    fn keeps_what_decoders_read() {
        let json = parse(br#" {"id":1,"other":{"id":[1e999,"\ud83d"]},"text":"a\u00e9","id":-2,"tag":[null,true,1.5]} "#);
        let json = json.expect("valid JSON");
        assert_eq!(json.get("id"), &Json::Number(-2.0), "the last one counts");
        assert_eq!(json.get("text").as_str(), Some("aé"));
        assert_eq!(json.get("tag").list(), [Json::Null, Json::Bool(true), Json::Number(1.5)]);
        assert!(json.get("user").is_null() && !json.has("user"));
        assert!(matches!(&json, Json::Object(fields) if fields.len() == 4));
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |bytes: &[u8], expected: &str| {
            let found = parse(bytes).expect_err(expected);
            assert!(found.contains(expected), "{found:?} should contain {expected:?}");
            assert!(!found.contains("expected"), "serde's words: {found}");
        };
        check(b"hello", "byte 1 begins \"hello\"");
        check(b"{\"id\":1,}", "byte 9 begins \"}\"");
        check(b"{\"id\":\n1 2}", "byte 10 begins \"2}\"");
        check(b"{\"id\":1", "ends in the middle, after 7 bytes");
        check(b"{\"id\":1}{\"id\":2}", "more than one JSON value");
        check(b"{\"id\":1}\n{\"id\":2}", "more than one JSON value");
        check(b"{\"id\":1} and so on", "byte 10 begins \"and so on\"");
        check(b"{'id': 1}", "json.dumps");
        check(b"b'{\"id\": 1}'", "Python's form of bytes");
        check("[".repeat(200).as_bytes(), "nested deeper than 128 levels");
        check(&[b"{\"id\":", &b"9".repeat(400)[..], b"}"].concat(), "out of range");
    }

    #[test]
    fn repairs_what_is_almost_json() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            let found = repair(bytes).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
            assert_eq!(found.as_deref(), expected, "{:?}", String::from_utf8_lossy(bytes));
        };
        check(br#"{"text":"\ud83d\ude00 \\ud83d NaN"}"#, None);
        check(b"hello", None);
        check(br#"{"text":"a\ud83d"}"#, Some(r#"{"text":"a\ufffd"}"#));
        check(br#"{"text":"\ud83d\ud83d\ude00"}"#, Some(r#"{"text":"\ufffd\ud83d\ude00"}"#));
        check(br#"{"text":"\ude00\uD83d"}"#, Some(r#"{"text":"\ufffd\ufffd"}"#));
        check(br#"{"a":NaN,"b":[-Infinity,Infinity]}"#, Some(r#"{"a":null,"b":[null,null]}"#));
        check(b"\"a\nb\tc\x01\"", Some(r#""a\nb\tc\ufffd""#));
        check(b"\"caf\xe9\"", Some("\"café\""));
        check(b"\"caf\xc3\xa9 \xc3\"", Some("\"café \u{FFFD}\""));
        check(b"\"\\", None);
    }
}
