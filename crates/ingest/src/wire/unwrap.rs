//! Takes off what pipelines put around a post: bytes and headers to JSON.
//!
//! | wrapper | recognised by |
//! | --- | --- |
//! | byte order mark, UTF-16 | its first bytes |
//! | Confluent framing | 0x00 and 4 bytes, or 0x01 and 16 bytes, before JSON |
//! | Kafka Connect's JsonConverter | `schema` and `payload` |
//! | Debezium | `op` and `before` or `after` |
//! | CloudEvents, structured | `specversion`, with `data` or `data_base64` |
//! | Mastodon's streaming API | `event`, and a `payload` that is a text |
//! | JSON in a JSON text | a text that begins with `{` |
//!
//! CloudEvents in binary mode have the post as it is; only the time is in a header.
//!
//! **Invariant.** Pure, and bounded: at most [`LAYERS_MAX`] wrappers are taken off, each is smaller than the
//! one around it, and nothing is copied but texts with escapes. Deliberately absent: a schema registry, so Avro and
//! Protobuf are named and refused.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use encoding_rs::{Encoding, UTF_8};

use super::fields::{self, words};
use super::json::{Json, parse, repair};
use super::notice::{Notice, Subject};
use super::{Headers, Rejected};
use crate::timestamp::parse_timestamp;

/// Most wrappers around one post.
pub(super) const LAYERS_MAX: usize = 3;

/// Formats that are not JSON, by their first bytes, and what to do.
const OTHER_FORMATS: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "gzip; let the producer compress (compression.type=gzip)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard; let the producer compress (compression.type=zstd)"),
    (b"\x04\x22\x4d\x18", "LZ4; let the producer compress (compression.type=lz4)"),
    (b"\xfd7zXZ\0", "xz; let the producer compress (compression.type=zstd)"),
    (b"PK\x03\x04", "a zip archive; send one record for each post"),
    (b"Obj\x01", "an Avro file; send JSON"),
    (b"\xac\xed\x00\x05", "a serialised Java object; use a JSON serializer"),
    (b"\x80\x04\x95", "a Python pickle; use json.dumps"),
    (b"<", "XML or HTML; send JSON"),
];

/// What the wrappers say about the post.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wrapping {
    /// When a CloudEvent happened.
    pub time: Option<DateTime<Utc>>,
    /// Whether Mastodon sent the post as an edited one.
    pub is_edit: bool,
    /// Wrappers taken off.
    pub layers: usize,
}

/// What a record holds instead of a post.
pub(super) enum Stop {
    Notice(Notice),
    Rejected(Rejected),
}

impl From<Rejected> for Stop {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// What is inside a wrapper.
enum Inside<'j, 'a> {
    Value(&'j Json<'a>),
    Bytes(Cow<'j, [u8]>),
}

/// Calls `read` with what is inside all wrappers.
pub(super) fn unwrap<T>(
    payload: &[u8],
    headers: &Headers,
    read: impl FnOnce(&Json<'_>, &Wrapping) -> Result<T, Stop>,
) -> Result<T, Stop> {
    if payload.trim_ascii().is_empty() {
        let nothing = if payload.is_empty() {
            Stop::Rejected(Rejected::Empty)
        } else {
            Stop::Notice(Notice::KeepAlive)
        };
        return Err(nothing);
    }
    let mut wrapping =
        Wrapping { time: headers.time.as_deref().and_then(parse_timestamp), ..Wrapping::default() };
    let decoded = decoded(payload);
    let bytes = unframed(&decoded, &mut wrapping)?;
    let described = |rejected: Rejected| match (rejected, &headers.content_type) {
        (Rejected::NotJson(problem), Some(kind)) if !kind.contains("json") => {
            Rejected::NotJson(format!("{problem} (its content-type is {kind:?})"))
        }
        (Rejected::NotJson(problem), _) if headers.has_schema => Rejected::NotJson(format!(
            "{problem} (its header __value_schema_id names a schema: Avro or Protobuf? send JSON)"
        )),
        (rejected, _) => rejected,
    };
    open(bytes, wrapping, read).map_err(|stop| match stop {
        Stop::Rejected(rejected) => Stop::Rejected(described(rejected)),
        notice => notice,
    })
}

/// Without a byte order mark; UTF-16 with one as UTF-8.
fn decoded(payload: &[u8]) -> Cow<'_, [u8]> {
    match Encoding::for_bom(payload) {
        Some((encoding, mark)) if encoding == UTF_8 => Cow::Borrowed(&payload[mark..]),
        Some((encoding, mark)) => {
            let (text, _) = encoding.decode_without_bom_handling(&payload[mark..]);
            Cow::Owned(text.into_owned().into_bytes())
        }
        None => Cow::Borrowed(payload),
    }
}

/// Without Confluent's framing: 0x00 and the schema's number, or 0x01 and its GUID.
fn unframed<'b>(bytes: &'b [u8], wrapping: &mut Wrapping) -> Result<&'b [u8], Rejected> {
    let (header, schema) = match bytes {
        [0, a, b, c, d, ..] => (5, u32::from_be_bytes([*a, *b, *c, *d]).to_string()),
        [1, guid @ ..] if guid.len() >= 16 => {
            (17, guid[..16].iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => return Ok(bytes),
    };
    let rest = &bytes[header..];
    if matches!(rest.trim_ascii_start().first(), Some(b'{' | b'[' | b'"' | 0xef)) {
        wrapping.layers += 1;
        return Ok(rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest));
    }
    Err(Rejected::Wrapped(format!(
        "Confluent's framing names schema {schema}, and no JSON follows (Avro or Protobuf?); produce \
         with a JSON Schema serializer, or plain JSON"
    )))
}

/// Parses, and takes off the wrappers that are JSON.
fn open<T, F: FnOnce(&Json<'_>, &Wrapping) -> Result<T, Stop>>(
    bytes: &[u8],
    wrapping: Wrapping,
    read: F,
) -> Result<T, Stop> {
    match parse(bytes) {
        Ok(json) => peel(&json, wrapping, read),
        Err(problem) => {
            let repaired = repair(bytes);
            match repaired.as_deref().map(parse) {
                Some(Ok(json)) => peel(&json, wrapping, read),
                _ => Err(Rejected::NotJson(other_format(bytes).unwrap_or(problem)).into()),
            }
        }
    }
}

fn other_format(bytes: &[u8]) -> Option<String> {
    let start = bytes.trim_ascii_start();
    let (_, name) = OTHER_FORMATS.iter().find(|(magic, _)| start.starts_with(magic))?;
    Some(format!("it looks like {name}"))
}

/// Takes off wrappers until there is none.
fn peel<T, F: FnOnce(&Json<'_>, &Wrapping) -> Result<T, Stop>>(
    json: &Json<'_>,
    mut wrapping: Wrapping,
    read: F,
) -> Result<T, Stop> {
    let mut json = json;
    while let Some(inside) = inside(json, &mut wrapping)? {
        wrapping.layers += 1;
        if wrapping.layers > LAYERS_MAX {
            let problem = format!("there are more than {LAYERS_MAX} wrappers");
            return Err(Rejected::Wrapped(problem).into());
        }
        match inside {
            Inside::Value(value) => json = value,
            Inside::Bytes(bytes) => return open(&bytes, wrapping, read),
        }
    }
    read(json, &wrapping)
}

/// What is inside, if this is a wrapper.
fn inside<'j, 'a>(
    json: &'j Json<'a>,
    wrapping: &mut Wrapping,
) -> Result<Option<Inside<'j, 'a>>, Stop> {
    if let Some(text) = json.as_str() {
        let is_json = text.trim_start().starts_with(['{', '[']);
        return Ok(is_json.then(|| Inside::Bytes(text.as_bytes().into())));
    }
    if !json.is_object() || json.is_row() {
        return Ok(None);
    }
    if json.has("schema") && json.has("payload") {
        let payload = json.get("payload");
        return if payload.is_null() {
            Err(Rejected::Empty.into())
        } else {
            Ok(Some(Inside::Value(payload)))
        };
    }
    if let Some(op) = json.get("op").as_str()
        && (json.has("before") || json.has("after"))
    {
        return debezium(op, json).map(Some);
    }
    if json.has("specversion") && (json.has("data") || json.has("data_base64")) {
        return cloud_event(json, wrapping).map(Some);
    }
    if let (Some(event), Some(payload)) = (json.get("event").as_str(), json.get("payload").as_str())
        && matches!(event, "update" | "status.update")
    {
        wrapping.is_edit = event == "status.update";
        return Ok(Some(Inside::Bytes(payload.as_bytes().into())));
    }
    Ok(None)
}

/// A change of a table's row: the row as it is now.
fn debezium<'j, 'a>(op: &str, json: &'j Json<'a>) -> Result<Inside<'j, 'a>, Stop> {
    match op {
        "c" | "r" | "u" if json.get("after").is_null() => Err(Rejected::missing("after").into()),
        "c" | "r" | "u" => Ok(Inside::Value(json.get("after"))),
        "d" => {
            let tweet = fields::optional_id(json.get("before").get("id"), "");
            let at = fields::time(json.get("ts_ms"), "ts_ms").ok().flatten();
            Err(Stop::Notice(Notice::Deleted(Subject { tweet, user: None, at })))
        }
        "t" | "m" => Err(Stop::Notice(Notice::NoPost)),
        other => {
            let problem = format!("\"op\" is {:?}, which Debezium does not send", words(other));
            Err(Rejected::Wrapped(problem).into())
        }
    }
}

fn cloud_event<'j, 'a>(
    json: &'j Json<'a>,
    wrapping: &mut Wrapping,
) -> Result<Inside<'j, 'a>, Stop> {
    wrapping.time = json.get("time").as_str().and_then(parse_timestamp).or(wrapping.time);
    let data = json.get("data");
    if let Some(coded) = json.get("data_base64").as_str()
        && data.is_null()
    {
        let bytes = STANDARD.decode(coded.trim()).map_err(|_| {
            Rejected::Wrapped("\"data_base64\" of the CloudEvent is not base64".to_owned())
        })?;
        return Ok(Inside::Bytes(bytes.into()));
    }
    match data {
        Json::Object(_) => Ok(Inside::Value(data)),
        Json::Text(text) if text.trim_start().starts_with('{') => Ok(Inside::Value(data)),
        other => {
            let kind = json.get("datacontenttype").as_str().map(words);
            let kind = kind.map(|kind| format!(" of type {kind:?}")).unwrap_or_default();
            let problem = format!("\"data\" of the CloudEvent is {}{kind}, not JSON", other.kind());
            Err(Rejected::Wrapped(problem).into())
        }
    }
}
