//! Comments and posts of Reddit, alone or in the `kind` and `data` of its listings.

use std::borrow::Cow;

use monitor_core::domain::Reach;

use super::Rejected;
use super::draft::{Draft, Found};
use super::fields::{self, name};
use super::json::Json;
use super::notice::Notice;

const PREFIX: &str = "reddit:";

/// Whether it is a comment, a post, or something else that Reddit wraps with its kind.
pub(super) fn is_thing(json: &Json<'_>) -> bool {
    let kind = json.get("kind").as_str();
    let wrapped = kind.is_some_and(|kind| kind == "Listing" || is_kind(kind));
    (wrapped && json.has("data") && !json.is_row())
        || (json.has("created_utc") && !json.has("text") && (json.has("body") || json.has("title")))
}

/// `t1` (comment) to `t6` (award).
fn is_kind(kind: &str) -> bool {
    matches!(kind.as_bytes(), [b't', b'1'..=b'6'])
}

pub(super) fn read<'j>(json: &'j Json<'_>) -> Result<Found<'j>, Rejected> {
    let (kind, thing) = match json.get("kind").as_str() {
        Some("Listing") => {
            return Err(Rejected::Several(json.get("data").get("children").list().len()));
        }
        Some(kind) if is_kind(kind) => (Some(kind), json.get("data")),
        _ => (None, json),
    };
    let is_comment = kind.map_or(thing.has("body"), |kind| kind == "t1");
    if kind.is_some_and(|kind| kind != "t1" && kind != "t3") {
        return Ok(Found::Notice(Notice::NoPost));
    }
    let id = match thing.get("name") {
        full @ Json::Text(_) => fields::id(full, PREFIX, "name")?,
        _ => {
            let prefix = if is_comment { "reddit:t1_" } else { "reddit:t3_" };
            fields::id(thing.get("id"), prefix, "id")?
        }
    };
    let (text, text_field) = if is_comment {
        (Cow::Borrowed(kept(fields::text(thing.get("body"), "body")?)), "body")
    } else {
        let title = fields::text(thing.get("title"), "title")?;
        match kept(thing.get("selftext").as_str().unwrap_or_default()) {
            "" => (title.into(), "title"),
            below => (format!("{title}\n\n{below}").into(), "title"),
        }
    };
    let author = name(thing.get("author")).filter(|author| !kept(author).is_empty());
    Ok(Found::Post(Draft {
        id,
        text,
        text_field,
        may_be_empty: true,
        created_at: fields::time(thing.get("created_utc"), "created_utc")?,
        time_field: "created_utc",
        rule_tags: Vec::new(),
        reach: Reach { author, followers: None, retweets: None, retweet_of: None },
        language: None,
        edit_of: Vec::new(),
        is_cut: false,
    }))
}

/// Nothing for what Reddit puts in place of a text that its author or a moderator removed.
fn kept(text: &str) -> &str {
    match text.trim() {
        "[deleted]" | "[removed]" => "",
        _ => text,
    }
}
