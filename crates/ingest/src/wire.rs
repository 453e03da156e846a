//! Decodes a record's bytes to a [`Tweet`]: takes off the wrappers, finds the format, reads the fields, applies
//! the checks that all formats share. `docs/formats.md` lists what is read.
//!
//! **Invariant.** Pure: the same bytes, headers, record time and clock give the same result, and nothing
//! panics. A record is parsed once. A field that a tweet can do without never rejects it. What is rejected is
//! [`Rejected`] with a reason that names the field; a record that is no post and no fault is a [`Notice`].

mod bluesky;
mod draft;
mod fields;
mod flat;
mod headers;
mod html;
mod json;
mod mastodon;
mod notice;
mod reddit;
mod rejected;
mod shape;
mod unwrap;
mod x;
mod x_notice;

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::domain::{InvalidTweet, StreamFormat, Tweet};

pub use headers::Headers;
pub use notice::{Notice, Subject};
pub use rejected::Rejected;

use draft::{Draft, Found};
use json::Json;
use unwrap::{Stop, Wrapping, unwrap};

/// How records are read, and limits for one to be accepted as a tweet.
#[derive(Debug, Clone, Copy)]
pub struct WireLimits {
    /// Longest payload, in bytes.
    pub record_bytes_max: usize,
    /// How far ahead of the clock a tweet's date may be.
    pub future_max: TimeDelta,
    /// The format of the records.
    pub format: StreamFormat,
}

impl WireLimits {
    /// The limits that the settings of the stream say.
    pub fn of(settings: &monitor_config::Kafka) -> Self {
        let future_s = i64::try_from(settings.future_s_max).unwrap_or(i64::MAX);
        Self {
            record_bytes_max: settings.record_bytes_max,
            future_max: TimeDelta::try_seconds(future_s).unwrap_or(TimeDelta::MAX),
            format: settings.format,
        }
    }
}

/// A record's bytes, and what its broker says beside.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// The payload, or its beginning if it is longer than accepted.
    pub payload: &'a [u8],
    /// Length of the whole payload, in bytes.
    pub payload_bytes: usize,
    /// What its headers say.
    pub headers: &'a Headers,
    /// The time that the broker or the producer gave it.
    pub timestamp: Option<DateTime<Utc>>,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A post.
    Tweet(Tweet),
    /// Not a post, and not a fault.
    Notice(Notice),
}

/// A record that was read, with the format it was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Its format; `None` if it was not recognised. Never [`StreamFormat::Auto`].
    pub format: Option<StreamFormat>,
    /// How many wrappers were around it.
    pub layers: usize,
    /// What it holds, or why it is a dead letter.
    pub content: Result<Content, Rejected>,
}

/// 21 March 2006, in seconds since 1970.
const FIRST_TWEET_S: i64 = 1_142_899_200;

/// Decodes one record. A tweet without a time gets that of its CloudEvent, else that of the record.
pub fn decode(raw: &Raw<'_>, limits: &WireLimits, now: DateTime<Utc>) -> Decoded {
    let mut decoded = Decoded { format: None, layers: 0, content: Err(Rejected::Empty) };
    if raw.payload_bytes > limits.record_bytes_max {
        let (bytes, max) = (raw.payload_bytes, limits.record_bytes_max);
        decoded.content = Err(Rejected::TooLarge { bytes, max });
        return decoded;
    }
    let read = unwrap(raw.payload, raw.headers, |json, wrapping| {
        decoded.layers = wrapping.layers;
        let format = format_of(json, limits.format)?;
        decoded.format = Some(format);
        match platform(format, json, wrapping)? {
            Found::Notice(notice) => Ok(Content::Notice(notice)),
            Found::Post(draft) => Ok(checked(draft, wrapping.time.or(raw.timestamp), limits, now)?),
        }
    });
    decoded.content = match read {
        Ok(content) => Ok(content),
        Err(Stop::Notice(notice)) => Ok(Content::Notice(notice)),
        Err(Stop::Rejected(rejected)) => Err(rejected),
    };
    decoded
}

/// The format of what is inside all wrappers.
fn format_of(json: &Json<'_>, set: StreamFormat) -> Result<StreamFormat, Rejected> {
    match json {
        Json::Object(_) => shape::chosen(set, json),
        Json::List(list) => Err(Rejected::Several(list.len())),
        other => Err(Rejected::NotATweet(format!("the record is {}, not an object", other.kind()))),
    }
}

fn platform<'j>(
    format: StreamFormat,
    json: &'j Json<'_>,
    wrapping: &Wrapping,
) -> Result<Found<'j>, Rejected> {
    match format {
        StreamFormat::X => x::read(json),
        StreamFormat::Bluesky => bluesky::read(json),
        StreamFormat::Mastodon => mastodon::read(json, wrapping.is_edit),
        StreamFormat::Reddit => reddit::read(json),
        StreamFormat::Flat | StreamFormat::Auto => flat::read(json),
    }
}

/// The checks that all formats share.
fn checked(
    draft: Draft<'_>,
    record_time: Option<DateTime<Utc>>,
    limits: &WireLimits,
    now: DateTime<Utc>,
) -> Result<Content, Rejected> {
    let text = fields::clean(draft.text);
    if draft.may_be_empty && text.trim().is_empty() {
        return Ok(Content::Notice(Notice::NoText));
    }
    let field = || draft.time_field.to_owned();
    let Some(at) = draft.created_at.or(record_time) else {
        return Err(Rejected::NoTime { field: field() });
    };
    if at.timestamp() < FIRST_TWEET_S {
        return Err(Rejected::TooOld { field: field(), at });
    }
    if at - now > limits.future_max {
        let max_s = limits.future_max.num_seconds();
        return Err(Rejected::Future { field: field(), at, max_s });
    }
    let invalid =
        |problem: InvalidTweet| Rejected::Invalid { field: draft.text_field.to_owned(), problem };
    let tweet = Tweet::new(draft.id, text, at, draft.rule_tags).map_err(invalid)?;
    let tweet = tweet.with_reach(draft.reach).with_language(draft.language);
    Ok(Content::Tweet(tweet.with_edit_of(draft.edit_of).with_cut(draft.is_cut)))
}
