//! Events of Bluesky's Jetstream, v1 (`/subscribe`) and v2 (`subscribeEvents`).
//!
//! A post's id is its `at://` URI. Its author is a DID; the stream has neither handle nor followers.
//! `createdAt` is what the author's program says, so the time at which the network saw the post bounds it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use monitor_core::domain::{Reach, TweetId};

use super::draft::{Draft, Found};
use super::fields::{self, name, words};
use super::json::Json;
use super::notice::{Notice, Subject};
use super::{FIRST_TWEET_S, Rejected};

const POST: &str = "app.bsky.feed.post";
const REPOST: &str = "app.bsky.feed.repost";

/// Whether it is an event of Jetstream.
pub(super) fn is_event(json: &Json<'_>) -> bool {
    if json.is_row() {
        return false;
    }
    (json.has("did") && (json.has("kind") || json.has("commit")))
        || (matches!(json.get("$type").as_str(), Some("message" | "error"))
            && (json.has("payload") || json.has("error") || json.has("message")))
        || json.get("$type").as_str().is_some_and(is_v2_type)
}

fn is_v2_type(name: &str) -> bool {
    name.starts_with("network.bsky.jetstream.")
}

pub(super) fn read<'j>(json: &'j Json<'_>) -> Result<Found<'j>, Rejected> {
    if json.get("$type").as_str() == Some("error") {
        let said = ["message", "error"].iter().find_map(|key| json.get(key).as_str());
        return Err(Rejected::StreamError(words(said.unwrap_or("unnamed"))));
    }
    // v2 has all in one object, in an envelope or not; v1 has the change under `commit`.
    let event = if json.get("payload").is_object() { json.get("payload") } else { json };
    let kind = event.get("$type").as_str().and_then(|name| name.split_once('#'));
    let (commit, place) = match kind {
        Some((_, "commit")) => (event, ""),
        Some(_) => return Ok(Found::Notice(Notice::NoPost)),
        None if event.get("commit").is_object() => (event.get("commit"), "commit."),
        None if event.get("kind").as_str() == Some("commit") => {
            return Err(Rejected::missing("commit"));
        }
        None => return Ok(Found::Notice(Notice::NoPost)),
    };
    let field = |name: &str| format!("{place}{name}");
    let seen = [("time_us", event.get("time_us")), ("time", event.get("time"))]
        .into_iter()
        .find_map(|(field, json)| fields::time(json, field).ok().flatten());
    let did = fields::text(event.get("did"), "did")?;
    let collection = fields::text(commit.get("collection"), &field("collection"))?;
    if collection != POST && collection != REPOST {
        return Ok(Found::Notice(Notice::NoPost));
    }
    let rkey = fields::text(commit.get("rkey"), &field("rkey"))?;
    let uri = Json::Text(Cow::Owned(format!("at://{}/{collection}/{}", did.trim(), rkey.trim())));
    let id = fields::id(&uri, "", &field("rkey"))?;
    let operation = fields::text(commit.get("operation"), &field("operation"))?;
    match (operation, collection) {
        ("create" | "update", POST) => {
            let is_edit = operation == "update";
            post(commit.get("record"), id, did, seen, is_edit).map(Found::Post)
        }
        ("create" | "update", _) => Ok(Found::Notice(Notice::NoText)),
        ("delete", POST) => {
            let (tweet, user) = (Some(id), Some(did.to_owned()));
            Ok(Found::Notice(Notice::Deleted(Subject { tweet, user, at: seen })))
        }
        ("delete", _) => Ok(Found::Notice(Notice::NoPost)),
        (other, _) => Err(Rejected::Field {
            field: field("operation"),
            problem: format!("is {:?}, not create, update or delete", words(other)),
        }),
    }
}

fn post<'j>(
    record: &'j Json<'_>,
    id: TweetId,
    did: &str,
    seen: Option<DateTime<Utc>>,
    is_edit: bool,
) -> Result<Draft<'j>, Rejected> {
    if !record.is_object() {
        return Err(match record {
            Json::Null => Rejected::missing("record"),
            other => Rejected::wrong("record", other.kind(), "an object"),
        });
    }
    let declared = fields::time(record.get("createdAt"), "record.createdAt");
    let created_at = match (declared, seen) {
        (Ok(Some(declared)), Some(seen)) if declared.timestamp() >= FIRST_TWEET_S => {
            Some(declared.min(seen))
        }
        (_, Some(seen)) => Some(seen),
        (declared, None) => declared?,
    };
    Ok(Draft {
        text: fields::text(record.get("text"), "record.text")?.into(),
        text_field: "record.text",
        may_be_empty: true,
        created_at,
        time_field: "record.createdAt",
        rule_tags: Vec::new(),
        reach: Reach {
            author: name(&Json::Text(did.into())),
            followers: None,
            retweets: None,
            retweet_of: None,
        },
        language: record.get("langs").list().first().and_then(fields::language),
        edit_of: is_edit.then(|| id.clone()).into_iter().collect(),
        is_cut: false,
        id,
    })
}
