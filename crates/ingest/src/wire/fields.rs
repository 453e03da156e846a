//! Reads single fields, for all formats.
//!
//! **Invariant.** A function that returns a `Result` reads what a tweet needs, and its error names the
//! field. One that returns an `Option` reads what a tweet can do without, and never costs one.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use monitor_core::domain::{Language, TweetId};
use monitor_core::text::decode_entities;

use super::Rejected;
use super::json::Json;
use crate::timestamp::{parse_timestamp, timestamp_of_number};

/// Longest name of an author, and longest rule tag, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Characters of a value that an error shows.
const SHOWN_CHARS_MAX: usize = 100;

/// The id of a post: `prefix` and the field's text or whole number.
pub(super) fn id(json: &Json<'_>, prefix: &str, field: &str) -> Result<TweetId, Rejected> {
    let text: Cow<'_, str> = match json {
        Json::Text(text) => text.trim().into(),
        Json::Whole(number) => number.to_string().into(),
        Json::Null => return Err(Rejected::missing(field)),
        Json::Number(number) => {
            let kind = format!("the number {number:e}");
            return Err(Rejected::wrong(
                field,
                &kind,
                "a text or a whole number with all its digits",
            ));
        }
        other => return Err(Rejected::wrong(field, other.kind(), "a text or a whole number")),
    };
    let invalid = |problem| Rejected::Invalid { field: field.to_owned(), problem };
    if prefix.is_empty() {
        return TweetId::new(text).map_err(invalid);
    }
    // The part behind the prefix must be an id of its own.
    let own = TweetId::new(text).map_err(invalid)?;
    TweetId::new(format!("{prefix}{own}")).map_err(invalid)
}

/// The id of another post, if it can be read.
pub(super) fn optional_id(json: &Json<'_>, prefix: &str) -> Option<TweetId> {
    id(json, prefix, "").ok()
}

/// A text that a tweet needs.
pub(super) fn text<'j>(json: &'j Json<'_>, field: &str) -> Result<&'j str, Rejected> {
    match json {
        Json::Text(text) => Ok(text),
        Json::Null => Err(Rejected::missing(field)),
        other => Err(Rejected::wrong(field, other.kind(), "a text")),
    }
}

/// A time: a text in one of the forms of [`parse_timestamp`], or seconds, milli-, micro- or nanoseconds
/// since 1970. `None` if the field is missing.
pub(super) fn time(json: &Json<'_>, field: &str) -> Result<Option<DateTime<Utc>>, Rejected> {
    let (read, shown) = match json {
        Json::Null => return Ok(None),
        Json::Text(text) if text.trim().is_empty() => return Ok(None),
        Json::Text(text) => (parse_timestamp(text), words(text)),
        Json::Whole(number) => (timestamp_of_number(*number as f64), number.to_string()),
        Json::Number(number) => (timestamp_of_number(*number), format!("{number:e}")),
        other => return Err(Rejected::wrong(field, other.kind(), "a time")),
    };
    read.map(Some).ok_or_else(|| Rejected::Time { field: field.to_owned(), value: shown })
}

/// A language, given as a code; `None` for X's codes that stand for no language, such as "und".
pub(super) fn language(json: &Json<'_>) -> Option<Language> {
    json.as_str()?.parse().ok()
}

/// A name or an id, given as a text or as a whole number.
pub(super) fn name(json: &Json<'_>) -> Option<String> {
    let name = match json {
        Json::Text(name) => name.trim().to_owned(),
        Json::Whole(number) => number.to_string(),
        _ => return None,
    };
    let valid =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    valid.then_some(name)
}

/// A number of people or tweets, given as a number or as a text; `None` if it does not fit
/// into a Postgres `bigint`.
pub(super) fn count(json: &Json<'_>) -> Option<u64> {
    let count = match json {
        Json::Whole(number) => *number,
        // A table with gaps has numbers with decimals: 12.0.
        Json::Number(number) if number.fract() == 0.0 && (0.0..9e15).contains(number) => {
            *number as u64
        }
        other => other.as_str()?.trim().parse().ok()?,
    };
    i64::try_from(count).is_ok().then_some(count)
}

/// The tags of X's rules that matched.
pub(super) fn rule_tags(rules: &Json<'_>) -> Vec<String> {
    rules.list().iter().filter_map(|rule| name(rule.get("tag"))).collect()
}

/// A text as people read it: HTML entities decoded once, as X, Mastodon and Reddit escape `&`, `<` and
/// `>`; NUL, which Postgres cannot store, as U+FFFD.
pub(super) fn clean(text: Cow<'_, str>) -> String {
    let text = if text.contains('&') { decode_entities(&text).into_owned() } else { text.into() };
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

/// The beginning of a value, for an error.
pub(super) fn words(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
