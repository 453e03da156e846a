//! Converts a row of a file to a Kafka record.

use chrono::{DateTime, SecondsFormat, Utc};
use monitor_ingest::Content;
use serde_json::Value;

use crate::tweets::{Row, problem};

/// The fields that hold the time of a post, in any format.
const TIME_KEYS: [&str; 7] =
    ["created_at", "createdAt", "created_utc", "time", "time_us", "timestamp_ms", "ts_ms"];

/// One record to send.
pub(super) struct Record {
    pub key: String,
    pub payload: Vec<u8>,
    /// When the tweet was written, if the row says so.
    pub at: Option<DateTime<Utc>>,
}

impl Record {
    /// Converts a row; the error says why the row is invalid. A line of JSON is sent unchanged, even
    /// if it is not a tweet: the daemon's dead letters give the reason.
    pub fn from_row(row: Row) -> Result<Self, String> {
        if !row.is_json
            && let Some(problem) = problem(&row.decoded)
        {
            return Err(problem);
        }
        let key = match row.decoded.content {
            Ok(Content::Tweet(tweet)) => tweet.id.as_str().to_owned(),
            _ => String::new(),
        };
        Ok(Self { key, payload: row.payload, at: row.at })
    }

    /// Replaces the times of the tweet.
    pub fn set_time(&mut self, now: DateTime<Utc>) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&self.payload) else { return };
        let has_time = set_times(&mut value, now);
        if let (false, Some(tweet)) = (has_time, value.as_object_mut()) {
            tweet.insert("created_at".into(), text(now));
        }
        self.payload = value.to_string().into_bytes();
    }
}

fn text(now: DateTime<Utc>) -> Value {
    now.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}

/// Sets each time to `now`, in its own unit; returns whether there was one. Depth is bounded by
/// serde_json, also for JSON in a text.
fn set_times(value: &mut Value, now: DateTime<Utc>) -> bool {
    match value {
        Value::Object(fields) => {
            let mut found = false;
            for (key, value) in fields {
                found |= if TIME_KEYS.contains(&key.as_str()) && !value.is_object() {
                    *value = match key.as_str() {
                        "created_utc" => now.timestamp().into(),
                        "time_us" => now.timestamp_micros().into(),
                        "timestamp_ms" => now.timestamp_millis().to_string().into(),
                        "ts_ms" => now.timestamp_millis().into(),
                        _ => text(now),
                    };
                    true
                } else {
                    set_times(value, now)
                };
            }
            found
        }
        Value::Array(values) => {
            values.iter_mut().fold(false, |found, value| set_times(value, now) | found)
        }
        Value::String(inner) if inner.trim_start().starts_with('{') => {
            let Ok(mut value) = serde_json::from_str::<Value>(inner) else { return false };
            let found = set_times(&mut value, now);
            *inner = value.to_string();
            found
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::TimeDelta;
    use monitor_core::domain::StreamFormat;
    use monitor_ingest::WireLimits;

    use super::*;
    use crate::tweets::Tweets;

    fn rows(path: &Path) -> Vec<Row> {
        let limits = WireLimits {
            record_bytes_max: 100_000,
            future_max: TimeDelta::minutes(10),
            format: StreamFormat::Auto,
        };
        let now = "2027-01-01T00:00:00Z".parse().unwrap();
        let mut tweets = Tweets::open(path, None, limits, now).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = tweets.next_with(Ok).unwrap() {
            rows.push(row);
        }
        rows
    }

    #[test]
    fn times_of_each_format_are_replaced() {
        let now: DateTime<Utc> = "2026-12-24T18:00:00Z".parse().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
        let mut replaced = 0;
        for name in ["x-v2", "x-v1", "bluesky-v1", "bluesky-v2", "mastodon", "reddit", "flat"] {
            let mut lines = String::new();
            for row in rows(&folder.join(format!("{name}.jsonl"))) {
                if matches!(row.decoded.content, Ok(Content::Tweet(_))) {
                    let mut record = Record::from_row(row).unwrap();
                    assert!(!record.key.is_empty(), "{name}");
                    record.set_time(now);
                    lines += &format!("{}\n", String::from_utf8(record.payload).unwrap());
                }
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), lines).unwrap();
            for row in rows(file.path()) {
                let at = Record::from_row(row).unwrap().at;
                // A line that is not strict JSON is sent as it is.
                replaced += usize::from(at == Some(now));
                assert!(at == Some(now) || name == "flat", "{name}: {at:?}");
            }
        }
        assert_eq!(replaced, 26, "all but one");
    }
}
