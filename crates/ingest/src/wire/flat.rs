//! One object with named fields: our own format, a row of a table, a line of a file.

use monitor_core::domain::Reach;
use monitor_core::field_names;

use super::Rejected;
use super::draft::{Draft, Found};
use super::fields::{self, name};
use super::json::Json;
use super::notice::{Notice, Subject};

pub(super) fn read<'j>(json: &'j Json<'_>) -> Result<Found<'j>, Rejected> {
    let id = first(json, &field_names::ID);
    if is_deleted(json.get("__deleted")) {
        let tweet = fields::optional_id(id.1, "");
        return Ok(Found::Notice(Notice::Deleted(Subject { tweet, user: None, at: None })));
    }
    let id = fields::id(id.1, "", id.0)?;
    // A long tweet's whole text, where someone sends the inner object of X API v2 with names of their own.
    let note = json.get("note_tweet").get("text");
    let text = first(json, &field_names::TEXT);
    let text_field = text.0;
    let text = match note.as_str().filter(|note| !note.trim().is_empty()) {
        Some(note) => note,
        None => fields::text(text.1, text.0)?,
    };
    let time = first(json, &field_names::TIME);
    let tags = json.get("rule_tags");
    Ok(Found::Post(Draft {
        id,
        text: text.into(),
        text_field,
        may_be_empty: false,
        created_at: fields::time(time.1, time.0)?,
        time_field: time.0,
        rule_tags: tags.list().iter().filter_map(name).collect(),
        reach: Reach {
            author: name(first(json, &field_names::AUTHOR).1),
            followers: fields::count(first(json, &field_names::FOLLOWERS).1),
            retweets: fields::count(first(json, &field_names::RETWEETS).1),
            retweet_of: fields::optional_id(first(json, &field_names::RETWEET_OF).1, ""),
        },
        language: fields::language(json.get("lang"))
            .or_else(|| fields::language(json.get("language"))),
        edit_of: Vec::new(),
        is_cut: false,
    }))
}

/// The first of these fields that is there; the first name and null if none is.
fn first<'j, 'a>(json: &'j Json<'a>, names: &[&'static str]) -> (&'static str, &'j Json<'a>) {
    let found =
        names.iter().map(|name| (*name, json.get(name))).find(|(_, value)| !value.is_null());
    found.unwrap_or((names[0], &Json::Null))
}

/// Debezium's `ExtractNewRecordState` marks rows that were deleted.
fn is_deleted(mark: &Json<'_>) -> bool {
    matches!(mark, Json::Bool(true)) || mark.as_str() == Some("true")
}
