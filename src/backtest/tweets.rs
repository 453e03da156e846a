//! Tweets of a file, with the checks of the stream, and their labels.

use std::path::Path;

use chrono::{DateTime, Utc};
use monitor_core::domain::{Label, Tweet};
use monitor_ingest::{Content, WireLimits};
use monitor_train::data::{RowCounts, TweetFileError};

use crate::tweets::{self, problem};

/// A file of tweets that is being read.
pub(crate) struct Tweets {
    rows: tweets::Tweets,
}

/// A row that is a tweet.
pub(crate) struct Row {
    pub tweet: Tweet,
    /// Whether the file has ids. If not, the id is invented and finds no duplicates.
    pub has_id: bool,
    /// Whether the label is "negative", if labels were requested.
    pub negative: Option<bool>,
}

impl Tweets {
    /// Opens a file. `labels` is the column of a CSV that says which tweets are negative.
    pub fn open(
        path: &Path,
        labels: Option<&str>,
        limits: WireLimits,
        now: DateTime<Utc>,
    ) -> Result<Self, TweetFileError> {
        Ok(Self { rows: tweets::Tweets::open(path, labels, limits, now)? })
    }

    /// How much of the file was read, in 0..=1, approximately.
    pub fn share_read(&mut self) -> f64 {
        self.rows.share_read()
    }

    /// What was read and rejected so far.
    pub fn counts(&self) -> &RowCounts {
        self.rows.counts()
    }

    /// The next tweet; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Row>, TweetFileError> {
        self.rows.next_with(|row| {
            let negative = row.label.as_deref().map(negative).transpose()?;
            match (problem(&row.decoded), row.decoded.content) {
                (None, Ok(Content::Tweet(tweet))) => {
                    Ok(Row { tweet, has_id: row.has_id, negative })
                }
                (problem, _) => Err(problem.unwrap_or_default()),
            }
        })
    }
}

/// Whether a label means negative: a word, or the numbers 0 (negative), 1, 2 or 4.
fn negative(label: &str) -> Result<bool, String> {
    match (Label::of_word(label.trim()), label.trim()) {
        (Some(label), _) => Ok(label == Label::Negative),
        (None, "0") => Ok(true),
        (None, "1" | "2" | "4") => Ok(false),
        (None, other) => Err(format!(
            "the label {:?} is not known; use negative, neutral or positive, or 0 for negative and 1, \
             2 or 4 for the others",
            other.chars().take(40).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use chrono::TimeDelta;
    use monitor_core::domain::StreamFormat;

    use super::*;

    fn read(content: &[u8], labels: Option<&str>) -> Result<(Vec<Row>, RowCounts), TweetFileError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let limits = WireLimits {
            record_bytes_max: 10_000,
            future_max: TimeDelta::minutes(10),
            format: StreamFormat::Auto,
        };
        let mut tweets = Tweets::open(file.path(), labels, limits, now)?;
        let mut rows = Vec::new();
        while let Some(row) = tweets.next()? {
            rows.push(row);
        }
        Ok((rows, tweets.counts().clone()))
    }

    #[test]
    fn reads_each_layout() {
        let check = |name: &str, content: &str, expected: &[(&str, &str, &str)]| {
            let (rows, read) =
                read(content.as_bytes(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found: Vec<_> = rows
                .iter()
                .map(|row| {
                    let id = if row.has_id { row.tweet.id.as_str() } else { "" };
                    let at = row.tweet.created_at.format("%F %T").to_string();
                    (id.to_owned(), at, row.tweet.text.clone())
                })
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(id, at, text)| (id.to_string(), at.to_string(), text.to_string()))
                .collect();
            assert_eq!((found, read.bad), (expected, 0), "{name}: {:?}", read.faults);
        };
        let at = "2015-02-24 19:35:52";
        check(
            "CSV",
            "id,created_at,text\n7,2015-02-24T19:35:52Z,\"hi, you\"\n",
            &[("7", at, "hi, you")],
        );
        check(
            "CSV in other words, quoted over two lines, without an id",
            "\u{FEFF}\nTweet , Date\r\n\"two\nlines\",2015-02-24 11:35:52 -0800\r\n",
            &[("", at, "two\nlines")],
        );
        check("no last line feed", "text,time\nhi,1424806552", &[("", at, "hi")]);
        check("header alone", "text,time\n", &[]);
        check(
            "JSON lines, flat",
            "{\"id\":7,\"text\":\"hi\",\"created_at\":1424806552000}\n\n",
            &[("7", at, "hi")],
        );
        check(
            "JSON lines, X API v2",
            "{\"data\":{\"id\":\"7\",\"text\":\"hi\",\"created_at\":\"2015-02-24T19:35:52.000Z\"}}",
            &[("7", at, "hi")],
        );
    }

    #[test]
    fn rejected_rows_are_counted_and_skipped() {
        let check = |name: &str, content: &[u8], labels, sound: usize, expected: &[(u64, &str)]| {
            let (rows, read) = read(content, labels).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((rows.len(), read.bad), (sound, expected.len() as u64), "{name}: {read:?}");
            for ((line, reason), (expected_line, part)) in read.faults.iter().zip(expected) {
                assert_eq!(line, expected_line, "{name}");
                assert!(reason.contains(part), "{name}: {reason}");
            }
        };
        let at = "2015-02-24T19:35:52Z";
        let csv = format!("id,created_at,text\n1,{at},a\n2,then,b\n3,{at},\n4,{at}\n5,{at},c\n");
        check(
            "CSV",
            csv.as_bytes(),
            None,
            2,
            &[
                (3, "\"created_at\" is \"then\", not a time"),
                (4, "text is empty"),
                (5, "2 columns where the header has 3"),
            ],
        );
        let quote = format!("id,created_at,text\n1,{at},\"a\n2,{at},b\n3,{at},c\n");
        check("a quote never closed", quote.as_bytes(), None, 2, &[(2, "quote")]);
        let json = format!(
            "{{\"id\":1,\"text\":\"a\",\"created_at\":\"{at}\"}}\nnonsense\n{{\"id\":3,\"text\":\"a\"}}\n{{\"created_at\":\"{at}\",\"id\":2}}\n"
        );
        check(
            "JSON",
            json.as_bytes(),
            None,
            1,
            &[(2, "not JSON"), (3, "\"created_at\" is missing"), (4, "\"text\" is missing")],
        );
        let old = "text,time\nhi,2001-01-01 00:00\nhi,2099-01-01 00:00\n";
        check("too old, and to come", old.as_bytes(), None, 0, &[(2, "before"), (3, "future")]);
        let labels = format!("text,time,label\na,{at},negative\nb,{at},0\nc,{at},-1\n");
        check("labels", labels.as_bytes(), Some("Label"), 2, &[(4, "\"-1\" is not known")]);
    }

    #[test]
    fn rejects_other_files() {
        let check = |name: &str, content: &[u8], labels, part: &str| {
            let error = format!("{}", read(content, labels).map(|_| ()).expect_err(name));
            assert!(error.contains(part), "{name}: {error}");
        };
        check("empty", b"", None, "is empty");
        check("blank", b"\n \n", None, "is empty");
        check("an array", b"[{\"id\":1}]", None, "jq -c");
        check("no text", b"id,created_at\n", None, "a column text (or tweet");
        check("no time", b"id,text\n", None, "a column created_at (or");
        check("no such labels", b"text,time\n", Some("mood"), "no column \"mood\"");
        check("labels of JSON", b"{}", Some("mood"), "--labels reads a column of a CSV");
        check("half an xz", b"\xFD7zXZ\0\0\0", None, "damaged");
    }
}
