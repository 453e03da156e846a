//! Mastodon: events of its streaming API, and statuses alone.
//!
//! The API's `payload` is JSON in a text; `unwrap` has opened it. An id is the instance's own, so it
//! gets the prefix `mastodon:`; read one instance into a topic.

use std::borrow::Cow;

use monitor_core::domain::Reach;

use super::Rejected;
use super::draft::{Draft, Found};
use super::fields::{self, name};
use super::html::html_to_text;
use super::json::Json;
use super::notice::{Notice, Subject};

const PREFIX: &str = "mastodon:";

/// Whether it is an event or a status.
pub(super) fn is_event(json: &Json<'_>) -> bool {
    let event = json.get("event").as_str();
    (event.is_some() && !json.is_row() && (json.has("payload") || json.has("stream")))
        || (json.has("content")
            && (json.get("account").is_object() || json.has("spoiler_text") || json.has("reblog")))
}

pub(super) fn read<'j>(json: &'j Json<'_>, is_edit: bool) -> Result<Found<'j>, Rejected> {
    let status = match json.get("event").as_str() {
        None => json,
        Some("update" | "status.update") => match json.get("payload") {
            status @ Json::Object(_) => status,
            Json::Null => return Err(Rejected::missing("payload")),
            other => return Err(Rejected::wrong("payload", other.kind(), "a status")),
        },
        Some("delete") => {
            let tweet = Some(fields::id(json.get("payload"), PREFIX, "payload")?);
            return Ok(Found::Notice(Notice::Deleted(Subject { tweet, user: None, at: None })));
        }
        Some(_) => return Ok(Found::Notice(Notice::NoPost)),
    };
    let is_edit = is_edit || json.get("event").as_str() == Some("status.update");
    let id = fields::id(status.get("id"), PREFIX, "id")?;
    let reblog = status.get("reblog");
    // A reblog has no text of its own.
    let origin = if reblog.is_object() { reblog } else { status };
    let content = fields::text(origin.get("content"), "content")?;
    let account = status.get("account");
    Ok(Found::Post(Draft {
        text: with_warning(origin.get("spoiler_text").as_str(), html_to_text(content)),
        text_field: "content",
        may_be_empty: true,
        created_at: fields::time(status.get("created_at"), "created_at")?,
        time_field: "created_at",
        rule_tags: Vec::new(),
        reach: Reach {
            author: name(account.get("acct")).or_else(|| name(account.get("username"))),
            followers: fields::count(account.get("followers_count")),
            retweets: fields::count(origin.get("reblogs_count")),
            retweet_of: fields::optional_id(reblog.get("id"), PREFIX),
        },
        language: fields::language(origin.get("language")),
        edit_of: is_edit.then(|| id.clone()).into_iter().collect(),
        is_cut: false,
        id,
    }))
}

/// The warning that stands before a text is part of it.
fn with_warning<'j>(warning: Option<&'j str>, text: Cow<'j, str>) -> Cow<'j, str> {
    match warning.map(str::trim).filter(|warning| !warning.is_empty()) {
        None => text,
        Some(warning) if text.is_empty() => warning.into(),
        Some(warning) => format!("{warning}\n\n{text}").into(),
    }
}
