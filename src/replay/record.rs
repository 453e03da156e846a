//! Converts a row of a file to a Kafka record.

use chrono::{DateTime, SecondsFormat, Utc};
use monitor_ingest::{parse_file_timestamp, parse_timestamp};
use monitor_train::data::{TweetColumns, TweetRow};
use serde_json::{Value, json};

/// One record to send.
pub(super) struct Record {
    pub key: String,
    pub payload: Vec<u8>,
    /// When the tweet was written, if the row says so.
    pub at: Option<DateTime<Utc>>,
}

impl Record {
    /// Converts a row; the error says why the row is invalid.
    pub fn from_row(row: TweetRow) -> Result<Self, String> {
        match row {
            TweetRow::Columns(columns) => Self::from_columns(columns),
            TweetRow::Json(line) => Ok(Self::from_line(line)),
        }
    }

    fn from_columns(row: TweetColumns) -> Result<Self, String> {
        let TweetColumns { id, created_at, text, further, .. } = row;
        let id = id.unwrap_or_default();
        let at = parse_file_timestamp(&created_at).ok_or_else(|| {
            format!("created_at {created_at:?} is not a time such as 2015-02-24T19:35:52Z")
        })?;
        let mut payload = json!({ "id": id, "text": text, "created_at": at });
        for (name, value) in further {
            payload[name] = value.into();
        }
        Ok(Self { key: id, payload: payload.to_string().into_bytes(), at: Some(at) })
    }

    /// A line of JSON is sent unchanged, even if it is not a tweet: the daemon's dead letters
    /// give the reason.
    fn from_line(line: Vec<u8>) -> Self {
        let value: Value = serde_json::from_slice(&line).unwrap_or_default();
        let tweet = value.get("data").unwrap_or(&value);
        let key = match &tweet["id"] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let at = tweet["created_at"].as_str().and_then(parse_timestamp);
        Self { key, payload: line, at }
    }

    /// Replaces the time of the tweet.
    pub fn set_time(&mut self, now: DateTime<Utc>) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&self.payload) else { return };
        let nested = value.get("data").is_some();
        let tweet = if nested { &mut value["data"] } else { &mut value };
        if let Some(tweet) = tweet.as_object_mut() {
            let now = now.to_rfc3339_opts(SecondsFormat::Millis, true);
            tweet.insert("created_at".into(), now.into());
            self.payload = value.to_string().into_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use monitor_train::data::TweetFile;

    use super::*;

    #[test]
    fn sends_author_and_reach_if_the_file_has_them() {
        let check = |name: &str, csv: &'static str, expected: Value| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(csv.as_bytes()).unwrap();
            let mut file = TweetFile::open(file.path(), None).expect("the columns are there");
            let row = file.next_with(Record::from_row).unwrap();
            let row = row.unwrap_or_else(|| panic!("{name}: {:?}", file.counts()));
            let mut found: Value = serde_json::from_slice(&row.payload).expect("JSON");
            let found = found.as_object_mut().expect("an object");
            found.retain(|field, _| !["id", "text", "created_at"].contains(&&**field));
            assert_eq!(Value::Object(found.clone()), expected, "{name}");
        };
        check("none", "id,created_at,text\n1,2015-02-24T19:35:52Z,hi\n", json!({}));
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
