//! Which format a record has.

use monitor_core::domain::StreamFormat;

use super::json::Json;
use super::{Rejected, bluesky, mastodon, reddit, x};

/// The format of an object, by its fields.
pub(super) fn shape(json: &Json<'_>) -> StreamFormat {
    if bluesky::is_event(json) {
        StreamFormat::Bluesky
    } else if mastodon::is_event(json) {
        StreamFormat::Mastodon
    } else if reddit::is_thing(json) {
        StreamFormat::Reddit
    } else if x::is_envelope(json)
        || x::is_v1(json)
        || x::is_bare_v2(json)
        || (!json.has("id") && !json.has("text") && x::is_notice(json))
    {
        StreamFormat::X
    } else {
        StreamFormat::Flat
    }
}

/// The format to decode an object with: what the settings say, or the object's own.
pub(super) fn chosen(set: StreamFormat, json: &Json<'_>) -> Result<StreamFormat, Rejected> {
    let found = shape(json);
    match (set, found) {
        (StreamFormat::Auto, found) => Ok(found),
        // Every object can be read as a row, and a v2 object alone looks like one.
        (StreamFormat::Flat, _) | (StreamFormat::X, StreamFormat::Flat) => Ok(set),
        (set, found) if set == found => Ok(set),
        (set, found) => Err(Rejected::OtherFormat { set, found }),
    }
}
