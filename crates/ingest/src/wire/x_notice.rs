//! What X sends between posts: compliance events, notices and errors.
//!
//! X's policy asks stores to honour deletions. A [`Notice`] carries what that needs; nothing here does it.

use super::Rejected;
use super::fields::{self, name, words};
use super::json::Json;
use super::notice::{Notice, Subject};

/// Compliance events about one post, and about an account.
const EVENTS: [&str; 16] = [
    "delete",
    "withheld",
    "status_withheld",
    "drop",
    "undrop",
    "tweet_edit",
    "scrub_geo",
    "user_delete",
    "user_undelete",
    "user_protect",
    "user_unprotect",
    "user_withheld",
    "user_suspend",
    "user_unsuspend",
    "user_profile_modification",
    "limit",
];

/// The notice, if the object is one; an error if X reports one.
pub(super) fn read(json: &Json<'_>) -> Result<Option<Notice>, Rejected> {
    if json.has("id") || json.has("text") {
        return Ok(None);
    }
    if let Some(event) = EVENTS.into_iter().find(|event| json.get(event).is_object()) {
        return Ok(Some(notice(event, json.get(event))));
    }
    for key in ["disconnect", "warning"] {
        let object = json.get(key);
        if object.is_object() {
            let said = ["reason", "message", "code"].map(|key| name(object.get(key)));
            return Err(stream_error(key, said.into_iter().flatten().next()));
        }
    }
    if let Json::List(errors) = json.get("errors") {
        let error = errors.first().unwrap_or(&Json::Null);
        let title = error.get("title").as_str().unwrap_or("errors");
        let detail = ["detail", "message", "disconnect_type"];
        let detail = detail.iter().find_map(|key| error.get(key).as_str());
        return Err(stream_error(title, detail.map(words)));
    }
    Ok(None)
}

fn stream_error(title: &str, detail: Option<String>) -> Rejected {
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    Rejected::StreamError(words(title) + &detail)
}

fn notice(event: &'static str, body: &Json<'_>) -> Notice {
    if event == "limit" {
        return Notice::Limit(fields::count(body.get("track")));
    }
    // v2 names `tweet` (or `post`) and `user`, v1.1 `status`, or nothing around the ids.
    let post = ["tweet", "post", "status"].map(|key| body.get(key));
    let post = post.into_iter().find(|post| post.is_object());
    let user = body.get("user");
    let ids = post.unwrap_or(body);
    let is_user = event.starts_with("user_");
    let id = |json: &Json<'_>| {
        fields::optional_id(json.get("id_str"), "")
            .or_else(|| fields::optional_id(json.get("id"), ""))
    };
    let user = [
        name(user.get("id")),
        name(ids.get("author_id")),
        name(ids.get("user_id_str")),
        name(ids.get("user_id")),
        if is_user { name(body.get("id")) } else { None },
    ];
    let subject = Subject {
        tweet: if is_user { None } else { id(ids) },
        user: user.into_iter().flatten().next(),
        at: ["event_at", "timestamp_ms"]
            .iter()
            .find_map(|key| fields::time(body.get(key), key).ok().flatten()),
    };
    if event == "delete" { Notice::Deleted(subject) } else { Notice::Compliance { event, subject } }
}
