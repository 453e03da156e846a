//! Reads a file of tweets, whatever its layout: CSV with a header or JSON lines, packed or
//! not.
//!
//! **Invariant.** One row is in memory at a time. A row that is no tweet is counted, the first
//! few with line and reason, and the rest is read on. What makes a tweet is decided by
//! [`decode`], as for the stream.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use monitor_core::domain::Tweet;
use monitor_ingest::{WireLimits, decode, parse_file_timestamp};
use monitor_train::training::packed::{self, Packed};
use monitor_train::training::{Ends, Fields, ROW_BYTES_MAX, Records, Target};

/// What columns are called; where several stand there, the first of these counts.
const TIME_NAMES: [&str; 6] =
    ["created_at", "tweet_created", "timestamp", "datetime", "date", "time"];
const TEXT_NAMES: [&str; 4] = ["text", "tweet", "full_text", "content"];
const ID_NAMES: [&str; 4] = ["id", "tweet_id", "id_str", "ids"];
/// The mark that some programs put in front of UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Faults that are named.
const FAULTS_NAMED_MAX: usize = 5;
/// So much of a header is shown in an error, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// A file of tweets that is being read.
pub struct Tweets {
    path: PathBuf,
    records: Records<Packed>,
    layout: Layout,
    fields: Fields,
    limits: WireLimits,
    now: DateTime<Utc>,
    /// What was read so far.
    pub read: Read,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Rows, sound or not.
    pub rows: u64,
    /// Those that are no tweets.
    pub bad: u64,
    /// Line and reason of the first of these.
    pub faults: Vec<(u64, String)>,
}

/// A row that is a tweet.
pub struct Row {
    pub tweet: Tweet,
    /// Whether the file has ids; else the tweet's is made up, and tells no duplicate.
    pub has_id: bool,
    /// What the label says, where labels were asked for.
    pub negative: Option<bool>,
}

enum Layout {
    Csv { columns: usize, time: usize, text: usize, id: Option<usize>, label: Option<usize> },
    JsonLines,
}

impl Tweets {
    /// Opens a file and finds its layout. `labels` is the column of a CSV that says which
    /// tweets are negative. A tweet may be dated `future_max` ahead of `now`.
    pub fn open(
        path: &Path,
        labels: Option<&str>,
        future_max: TimeDelta,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let file = path.display();
        let packed = packed::open(path).with_context(|| format!("cannot read {file}"))?;
        let mut records = Records::new(packed);
        let first = loop {
            let lines = records.peek(1).with_context(|| format!("cannot read {file}"))?;
            let Some(line) = lines.first() else {
                bail!("{file} is empty; it should hold tweets, as CSV with a header or JSON lines")
            };
            let line = line.strip_prefix(BOM).unwrap_or(line).to_vec();
            if !line.trim_ascii().is_empty() {
                break line;
            }
            records.next(Ends::Line)?;
        };
        let mut fields = Fields::default();
        let layout = match first.trim_ascii().first() {
            Some(b'{') => {
                ensure!(
                    labels.is_none(),
                    "{file}: --labels reads a column of a CSV, and this is JSON"
                );
                Layout::JsonLines
            }
            Some(b'[') => bail!(
                "{file} is one JSON array; one object a line is needed, as `jq -c .[]` writes them"
            ),
            _ => {
                records.next(Ends::Line)?;
                csv_layout(&mut fields, &first, labels).with_context(|| file.to_string())?
            }
        };
        let limits = WireLimits { record_bytes_max: usize::MAX, future_max };
        let (path, read) = (path.to_owned(), Read::default());
        Ok(Self { path, records, layout, fields, limits, now, read })
    }

    /// How much of the file was read, in 0..1, roughly.
    pub fn place(&mut self) -> f64 {
        let (place, total) = self.records.get_mut().place();
        place as f64 / total.max(1) as f64
    }

    /// The next tweet; `None` at the end.
    pub fn next(&mut self) -> anyhow::Result<Option<Row>> {
        loop {
            let ends = match self.layout {
                Layout::Csv { .. } => Ends::ClosedQuotes,
                Layout::JsonLines => Ends::Line,
            };
            let record = self.records.next(ends);
            let record =
                record.with_context(|| format!("cannot read on in {}", self.path.display()))?;
            let Some(record) = record else { return Ok(None) };
            if record.bytes.trim_ascii().is_empty() {
                continue;
            }
            self.read.rows += 1;
            let (line, lines) = (record.line, record.lines);
            let row = if !record.closed {
                Err("a quote is not closed".to_owned())
            } else if record.bytes.len() > ROW_BYTES_MAX {
                Err(format!("longer than {} KiB", ROW_BYTES_MAX >> 10))
            } else {
                match &self.layout {
                    Layout::JsonLines => from_json(record.bytes),
                    layout => from_csv(&mut self.fields, layout, record.bytes, line),
                }
            };
            let row = row.and_then(|(payload, at, has_id, negative)| {
                let tweet = decode(&payload, payload.len(), at, &self.limits, self.now);
                Ok(Row { tweet: tweet.map_err(|error| error.to_string())?, has_id, negative })
            });
            match row {
                Ok(row) => return Ok(Some(row)),
                Err(reason) => {
                    self.read.bad += 1;
                    if self.read.faults.len() < FAULTS_NAMED_MAX {
                        self.read.faults.push((line, reason));
                    }
                    // A quote too many runs rows together: look at each line of them.
                    if lines > 1 {
                        self.records.go_back();
                    }
                }
            }
        }
    }
}

fn csv_layout(fields: &mut Fields, header: &[u8], labels: Option<&str>) -> anyhow::Result<Layout> {
    let columns = fields.split(header);
    let names: Vec<String> = (0..columns)
        .map(|column| String::from_utf8_lossy(fields.get(column)).trim().to_lowercase())
        .collect();
    let shown: String =
        String::from_utf8_lossy(header).trim_end().chars().take(SHOWN_CHARS_MAX).collect();
    let find = |wanted: &[&str]| {
        wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted))
    };
    let need = |wanted: &[&str]| {
        find(wanted).with_context(|| {
            format!(
                "neither JSON lines nor CSV with a column {} in its header; the first line is \
                 {shown:?}",
                wanted.join(" (or ") + &")".repeat(wanted.len() - 1)
            )
        })
    };
    let label = labels
        .map(|name| {
            find(&[&name.to_lowercase()])
                .with_context(|| format!("there is no column {name:?} (--labels) in {shown:?}"))
        })
        .transpose()?;
    Ok(Layout::Csv {
        columns,
        time: need(&TIME_NAMES)?,
        text: need(&TEXT_NAMES)?,
        id: find(&ID_NAMES),
        label,
    })
}

/// What [`decode`] reads, the tweet's time, whether it has an id, what its label says.
type Found = (Vec<u8>, Option<DateTime<Utc>>, bool, Option<bool>);

fn from_csv(
    fields: &mut Fields,
    layout: &Layout,
    record: &[u8],
    line: u64,
) -> Result<Found, String> {
    let Layout::Csv { columns, time, text, id, label } = layout else {
        unreachable!("the caller has told them apart")
    };
    let found = fields.split(record);
    if found != *columns {
        return Err(format!("{found} columns where the header has {columns}"));
    }
    let field = |column: usize| String::from_utf8_lossy(fields.get(column));
    let at = time_of(&field(*time))?;
    let id = id.map(|column| field(column).trim().to_owned());
    let negative = label.map(|column| negative(&field(column))).transpose()?;
    let made_up = || format!("line {line}");
    let payload = json!({ "id": id.clone().unwrap_or_else(made_up), "text": field(*text) });
    Ok((payload.to_string().into_bytes(), Some(at), id.is_some(), negative))
}

/// The time is taken out, since the stream's own reader is stricter about it.
fn from_json(record: &[u8]) -> Result<Found, String> {
    let record = record.strip_prefix(BOM).unwrap_or(record);
    let mut value: Value =
        serde_json::from_slice(record).map_err(|error| format!("not JSON: {error}"))?;
    let nested = value.get("data").is_some();
    let tweet = if nested { &mut value["data"] } else { &mut value };
    let time = tweet.as_object_mut().and_then(|tweet| {
        TIME_NAMES.iter().find_map(|name| tweet.remove(*name)).filter(|time| !time.is_null())
    });
    let at = match time {
        None => return Err("created_at is missing".into()),
        Some(Value::String(text)) => time_of(&text)?,
        Some(other) => time_of(&other.to_string())?,
    };
    Ok((value.to_string().into_bytes(), Some(at), true, None))
}

fn time_of(text: &str) -> Result<DateTime<Utc>, String> {
    parse_file_timestamp(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{shown:?} is no date and time such as 2015-02-24T19:35:52Z")
    })
}

/// Whether a label says negative: by its word, or by the numbers 0 (negative) and 1, 2 or 4.
fn negative(label: &str) -> Result<bool, String> {
    match (Target::of_word(label.trim()), label.trim()) {
        (Some(target), _) => Ok(target == Target::Negative),
        (None, "0") => Ok(true),
        (None, "1" | "2" | "4") => Ok(false),
        (None, other) => Err(format!(
            "the label {:?} is not known; negative, neutral or positive are, or 0 for negative \
             and 1, 2 or 4 for what is not",
            other.chars().take(40).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(content: &[u8], labels: Option<&str>) -> anyhow::Result<(Vec<Row>, Read)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut tweets = Tweets::open(file.path(), labels, TimeDelta::minutes(10), now)?;
        let mut rows = Vec::new();
        while let Some(row) = tweets.next()? {
            rows.push(row);
        }
        Ok((rows, tweets.read))
    }

    #[test]
    fn reads_each_layout() {
        let check = |name: &str, content: &str, expected: &[(&str, &str, &str)]| {
            let (rows, read) =
                read(content.as_bytes(), None).unwrap_or_else(|e| panic!("{name}: {e:#}"));
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
    fn bad_rows_are_named_and_read_past() {
        let check = |name: &str, content: &[u8], labels, sound: usize, expected: &[(u64, &str)]| {
            let (rows, read) = read(content, labels).unwrap_or_else(|e| panic!("{name}: {e:#}"));
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
                (3, "\"then\" is no date"),
                (4, "text is empty"),
                (5, "2 columns where the header has 3"),
            ],
        );
        let quote = format!("id,created_at,text\n1,{at},\"a\n2,{at},b\n3,{at},c\n");
        check("a quote never closed", quote.as_bytes(), None, 2, &[(2, "quote")]);
        let json = format!(
            "{{\"id\":1,\"text\":\"a\",\"created_at\":\"{at}\"}}\nnonsense\n{{}}\n{{\"created_at\":\"{at}\",\"id\":2}}\n"
        );
        check(
            "JSON",
            json.as_bytes(),
            None,
            1,
            &[(2, "not JSON"), (3, "created_at is missing"), (4, "\"text\" is missing")],
        );
        let old = "text,time\nhi,2001-01-01 00:00\nhi,2099-01-01 00:00\n";
        check("too old, and to come", old.as_bytes(), None, 0, &[(2, "before"), (3, "future")]);
        let labels = format!("text,time,label\na,{at},negative\nb,{at},0\nc,{at},-1\n");
        check("labels", labels.as_bytes(), Some("Label"), 2, &[(4, "\"-1\" is not known")]);
    }

    #[test]
    fn what_is_no_file_of_tweets_is_an_error() {
        let check = |name: &str, content: &[u8], labels, part: &str| {
            let error = format!("{:#}", read(content, labels).map(|_| ()).expect_err(name));
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
