//! Reads a file of tweets as the daemon reads a topic: for replay, for its check, and for backtests.
//!
//! **Invariant.** A row of a CSV becomes the record that replay sends, a line of JSON is one as it is, and
//! [`decode`] decides what a record becomes. So the three agree with the daemon. Deliberately absent: what to do
//! with a row that is not a tweet.

use std::path::Path;

use chrono::{DateTime, Utc};
use monitor_ingest::{Content, Decoded, Headers, Raw, WireLimits, decode, parse_timestamp};
use monitor_train::data::{RowCounts, TweetColumns, TweetFile, TweetFileError, TweetRow};
use serde_json::json;

/// A file of tweets that is being read.
pub struct Tweets {
    file: TweetFile,
    limits: WireLimits,
    now: DateTime<Utc>,
    /// The time of a JSON record that has none, as the broker would give it.
    record_time: Option<DateTime<Utc>>,
}

/// One row of the file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Line of the file, from 1.
    pub line: u64,
    /// The record that replay sends.
    pub payload: Vec<u8>,
    /// Whether the row is JSON, which replay sends unchanged.
    pub is_json: bool,
    /// Whether the file has ids. If not, the id is invented and finds no duplicates.
    pub has_id: bool,
    /// The column of labels that the caller named.
    pub label: Option<String>,
    /// What the daemon would make of the record.
    pub decoded: Decoded,
    /// When the tweet was written, if it is one and says so.
    pub at: Option<DateTime<Utc>>,
}

impl Tweets {
    /// Opens a file. `labels` names a column of a CSV to read labels from.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or lacks a column for text, time or labels.
    pub fn open(
        path: &Path,
        labels: Option<&str>,
        limits: WireLimits,
        now: DateTime<Utc>,
    ) -> Result<Self, TweetFileError> {
        Ok(Self { file: TweetFile::open(path, labels)?, limits, now, record_time: None })
    }

    /// Reads JSON without a time as the daemon does, which takes that of the record: now.
    pub fn with_record_times(mut self) -> Self {
        self.record_time = Some(self.now);
        self
    }

    /// Whether its rows may have an id.
    pub fn has_ids(&self) -> bool {
        self.file.has_ids()
    }

    /// How much of the file was read, in 0..=1, approximately.
    pub fn share_read(&mut self) -> f64 {
        self.file.share_read()
    }

    /// What was read and rejected so far.
    pub fn counts(&self) -> &RowCounts {
        self.file.counts()
    }

    /// The next row that `accept` does not reject; `None` at the end. A rejected row is counted.
    ///
    /// # Errors
    /// The file cannot be read further.
    pub fn next_with<T>(
        &mut self,
        mut accept: impl FnMut(Row) -> Result<T, String>,
    ) -> Result<Option<T>, TweetFileError> {
        let Self { file, limits, now, record_time } = self;
        file.next_with(|row| {
            let (line, payload, is_json, has_id, label) = match row {
                TweetRow::Columns(row) => {
                    let (line, has_id, label) = (row.line, row.id.is_some(), row.label.clone());
                    (line, record(row), false, has_id, label)
                }
                TweetRow::Json { line, bytes } => (line, bytes, true, true, None),
            };
            let headers = Headers::default();
            let raw = Raw {
                payload: &payload,
                payload_bytes: payload.len(),
                headers: &headers,
                timestamp: record_time.filter(|_| is_json),
            };
            let decoded = decode(&raw, limits, *now);
            let at = match &decoded.content {
                Ok(Content::Tweet(tweet)) => Some(tweet.created_at),
                _ => None,
            };
            let at = at.filter(|_| at != raw.timestamp);
            accept(Row { line, payload, is_json, has_id, label, decoded, at })
        })
    }
}

/// A row of a CSV as a flat record.
fn record(row: TweetColumns) -> Vec<u8> {
    let id = row.id.unwrap_or_else(|| format!("line {}", row.line));
    let mut record = json!({ "id": id, "text": row.text });
    // A time that cannot be read stays, so that the error shows it.
    record["created_at"] = match parse_timestamp(&row.created_at) {
        Some(at) => json!(at),
        None => row.created_at.into(),
    };
    for (name, value) in row.further {
        record[name] = value.into();
    }
    record.to_string().into_bytes()
}

/// Why a row is not a tweet; `None` if it is one.
pub fn problem(decoded: &Decoded) -> Option<String> {
    match &decoded.content {
        Ok(Content::Tweet(_)) => None,
        Ok(Content::Notice(notice)) => Some(format!("no tweet, but a notice: {}", notice.reason())),
        Err(rejected) => Some(rejected.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use chrono::TimeDelta;
    use monitor_core::domain::StreamFormat;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_row_becomes_a_record() {
        let check = |name: &str, csv: &'static str, expected: Value| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(csv.as_bytes()).unwrap();
            let limits = WireLimits {
                record_bytes_max: 10_000,
                future_max: TimeDelta::minutes(10),
                format: StreamFormat::Auto,
            };
            let now = "2026-01-01T00:00:00Z".parse().unwrap();
            let mut tweets = Tweets::open(file.path(), None, limits, now).unwrap();
            let row = tweets.next_with(Ok).unwrap().expect("a row");
            assert_eq!(problem(&row.decoded), None, "{name}");
            let mut found: Value = serde_json::from_slice(&row.payload).expect("JSON");
            let found = found.as_object_mut().expect("an object");
            assert_eq!(found.remove("created_at").unwrap(), "2015-02-24T19:35:52Z", "{name}");
            found.retain(|field, _| !["id", "text"].contains(&&**field));
            assert_eq!(Value::Object(found.clone()), expected, "{name}");
        };
        check("none", "id,created_at,text\n1,2015-02-24T19:35:52Z,hi\n", json!({}));
        check("a time without a zone", "id,date,text\n1,2015-02-24 19:35:52,hi\n", json!({}));
        check(
            "all, by our names",
            "author,id,created_at,text,retweets,followers,retweet_of\nann,1,2015-02-24T19:35:52Z,hi,3,12,7\n",
            json!({"author": "ann", "followers": "12", "retweets": "3", "retweet_of": "7"}),
        );
        check(
            "by other names, and empty",
            "id,created_at,text,retweet_count,followers_count,screen_name\n1,2015-02-24T19:35:52Z,hi,3,,ann\n",
            json!({"author": "ann", "retweets": "3"}),
        );
    }
}
