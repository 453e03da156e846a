//! Posts of X: API v2 in both of its namings, and v1.1 with archives made from it.
//!
//! OpenAPI 2.167 of the v2 API names `referenced_posts`, `note_post`, `edit_history_post_ids` and
//! `includes.posts` what its guides name `referenced_tweets`, `note_tweet`, `edit_history_tweet_ids` and
//! `includes.tweets`.

use std::borrow::Cow;

use monitor_core::domain::Reach;

use super::Rejected;
use super::draft::{Draft, Found};
use super::fields::{self, name};
use super::json::Json;
use super::x_notice;

/// Reads a record of X: v2 under `data` or bare, v1.1, compliance events, errors.
pub(super) fn read<'j>(json: &'j Json<'_>) -> Result<Found<'j>, Rejected> {
    let data = if is_envelope(json) { json.get("data") } else { &Json::Null };
    match data {
        Json::Object(_) => {
            if let Some(notice) = x_notice::read(data)? {
                return Ok(Found::Notice(notice));
            }
            v2(data, json, "data.")
        }
        Json::List(list) => Err(Rejected::Several(list.len())),
        Json::Null => match x_notice::read(json)? {
            Some(notice) => Ok(Found::Notice(notice)),
            None if is_v1(json) => v1(json),
            None => v2(json, json, ""),
        },
        other => Err(Rejected::wrong("data", other.kind(), "an object")),
    }
}

/// Whether the tweet, or what X reports, is inside. A row of a table may have a column `data`, too.
pub(super) fn is_envelope(json: &Json<'_>) -> bool {
    !json.is_row() && (json.has("data") || json.has("errors"))
}

/// Whether it is a notice or an error.
pub(super) fn is_notice(json: &Json<'_>) -> bool {
    !matches!(x_notice::read(json), Ok(None))
}

/// Whether it has the marks of a v1.1 tweet.
pub(super) fn is_v1(json: &Json<'_>) -> bool {
    json.get("user").is_object()
        || json.get("extended_tweet").is_object()
        || json.get("retweeted_status").is_object()
        || (json.has("id_str") && json.has("truncated"))
}

/// Whether it has the marks of the inner object of v2.
pub(super) fn is_bare_v2(json: &Json<'_>) -> bool {
    ["author_id", "public_metrics", "note_tweet", "note_post"].iter().any(|key| json.has(key))
        || [EDITS, REFERENCES].as_flattened().iter().any(|key| json.has(key))
}

const EDITS: [&str; 2] = ["edit_history_tweet_ids", "edit_history_post_ids"];
const REFERENCES: [&str; 2] = ["referenced_tweets", "referenced_posts"];

/// The whole text of a v2 tweet: that of its note, if it is a long one.
fn v2_text<'j>(tweet: &'j Json<'_>) -> Option<&'j str> {
    let note = ["note_tweet", "note_post"].map(|key| tweet.get(key).get("text").as_str());
    let note = note.into_iter().flatten().find(|note| !note.trim().is_empty());
    note.or_else(|| tweet.get("text").as_str())
}

fn v2<'j>(
    tweet: &'j Json<'_>,
    envelope: &'j Json<'_>,
    place: &'static str,
) -> Result<Found<'j>, Rejected> {
    let nested = !place.is_empty();
    let field = |bare: &'static str, full: &'static str| if nested { full } else { bare };
    let (id_field, text_field) = (field("id", "data.id"), field("text", "data.text"));
    let time_field = field("created_at", "data.created_at");
    let id = fields::id(tweet.get("id"), "", id_field)?;
    let own = match v2_text(tweet) {
        Some(text) => text,
        None => fields::text(tweet.get("text"), text_field)?,
    };
    let includes = envelope.get("includes");
    let references = REFERENCES.iter().flat_map(|key| tweet.get(key).list());
    let retweet_of = references
        .filter(|reference| reference.get("type").as_str() == Some("retweeted"))
        .find_map(|reference| fields::optional_id(reference.get("id"), ""));
    let original = retweet_of.as_ref().and_then(|of| {
        let sent = ["tweets", "posts"].map(|key| includes.get(key).list());
        let mut sent = sent.into_iter().flatten();
        sent.find(|tweet| fields::optional_id(tweet.get("id"), "").as_ref() == Some(of))
    });
    let whole = original.and_then(v2_text);
    let author_id = name(tweet.get("author_id"));
    let users = includes.get("users").list();
    let user = users
        .iter()
        .find(|user| author_id.is_some() && name(user.get("id")) == author_id)
        .unwrap_or(&Json::Null);
    let versions = EDITS.iter().flat_map(|key| tweet.get(key).list());
    let versions = versions.filter_map(|version| fields::optional_id(version, ""));
    // The history of an early version names later ones too, if it was read later.
    let edit_of = versions.take_while(|version| *version != id).collect();
    let mut rule_tags = fields::rule_tags(envelope.get("matching_rules"));
    rule_tags.extend(tweet.get("rule_tags").list().iter().filter_map(name));
    Ok(Found::Post(Draft {
        id,
        text: retweet_text(own, whole),
        text_field,
        may_be_empty: false,
        created_at: fields::time(tweet.get("created_at"), time_field)?,
        time_field,
        rule_tags,
        reach: Reach {
            author: name(user.get("username")).or(author_id).or_else(|| name(tweet.get("author"))),
            followers: fields::count(user.get("public_metrics").get("followers_count"))
                .or_else(|| fields::count(tweet.get("followers"))),
            retweets: fields::count(tweet.get("public_metrics").get("retweet_count"))
                .or_else(|| fields::count(tweet.get("retweets"))),
            retweet_of: retweet_of.or_else(|| fields::optional_id(tweet.get("retweet_of"), "")),
        },
        language: fields::language(tweet.get("lang"))
            .or_else(|| fields::language(original?.get("lang"))),
        edit_of,
        is_cut: whole.is_none() && is_cut_retweet(own),
    }))
}

/// The whole text of a v1.1 tweet, and whether the rest of a cut one is missing.
fn v1_text<'j>(tweet: &'j Json<'_>) -> (Option<&'j str>, bool) {
    let whole = [tweet.get("extended_tweet").get("full_text"), tweet.get("full_text")]
        .into_iter()
        .find_map(Json::as_str);
    let is_cut = whole.is_none() && matches!(tweet.get("truncated"), Json::Bool(true));
    (whole.or_else(|| tweet.get("text").as_str()), is_cut)
}

fn v1<'j>(tweet: &'j Json<'_>) -> Result<Found<'j>, Rejected> {
    // A number of more than 53 bits may have lost digits on the way; the text has not.
    let (id, id_field) = match tweet.get("id_str") {
        Json::Text(_) => (tweet.get("id_str"), "id_str"),
        _ => (tweet.get("id"), "id"),
    };
    let id = fields::id(id, "", id_field)?;
    let (own, own_is_cut) = v1_text(tweet);
    let own = match own {
        Some(text) => text,
        None => fields::text(tweet.get("text"), "text")?,
    };
    let original = tweet.get("retweeted_status");
    let (whole, is_cut) = match original {
        Json::Object(_) => v1_text(original),
        _ => (None, own_is_cut || is_cut_retweet(own)),
    };
    let created_at = match fields::time(tweet.get("created_at"), "created_at")? {
        Some(at) => Some(at),
        None => fields::time(tweet.get("timestamp_ms"), "timestamp_ms").ok().flatten(),
    };
    let user = tweet.get("user");
    let mut rule_tags = fields::rule_tags(tweet.get("matching_rules"));
    rule_tags.extend(tweet.get("rule_tags").list().iter().filter_map(name));
    Ok(Found::Post(Draft {
        id,
        text: retweet_text(own, whole),
        text_field: "text",
        may_be_empty: false,
        created_at,
        time_field: "created_at",
        rule_tags,
        reach: Reach {
            author: name(user.get("screen_name")).or_else(|| name(user.get("id_str"))),
            followers: fields::count(user.get("followers_count")),
            retweets: fields::count(tweet.get("retweet_count"))
                .filter(|count| *count > 0)
                .or_else(|| fields::count(original.get("retweet_count")))
                .or_else(|| fields::count(tweet.get("retweet_count"))),
            retweet_of: fields::optional_id(original.get("id_str"), "")
                .or_else(|| fields::optional_id(original.get("id"), "")),
        },
        language: fields::language(tweet.get("lang"))
            .or_else(|| fields::language(original.get("lang"))),
        edit_of: Vec::new(),
        is_cut,
    }))
}

/// A retweet's text: "RT @name: " as X writes it, which names whom it repeats, and the whole text of
/// the original.
fn retweet_text<'j>(own: &'j str, whole: Option<&'j str>) -> Cow<'j, str> {
    match whole {
        None => own.into(),
        Some(whole) => format!("{}{whole}", retweet_prefix(own)).into(),
    }
}

fn retweet_prefix(text: &str) -> &str {
    let end = text.strip_prefix("RT @").and_then(|rest| rest.find(": "));
    end.map_or("", |end| &text[.."RT @".len() + end + ": ".len()])
}

/// Whether X has cut the text of a retweet to its length of a tweet.
fn is_cut_retweet(text: &str) -> bool {
    text.ends_with('…') && !retweet_prefix(text).is_empty()
}
