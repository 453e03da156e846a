//! Labelled tweets in the layout of sentiment140 (Go, Bhayani and Huang 2009).
//!
//! Six quoted columns without a header, in Latin-1: target (0 negative, 2 neutral,
//! 4 positive), id, date, query, user, text; plain, `.xz`, `.gz`
//! or `.zip`.
//!
//! **Invariant.** Each text stands in a [`Dataset`] once and has one label, and every row
//! that was left out is counted. Deliberately absent: cleaning of texts; that is `text`'s
//! work, in training and in service alike.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::{file_name, packed};
use crate::text::unit_interval;

/// More malformed rows than this share, and the file is not what it should be.
const MALFORMED_SHARE_MAX: f64 = 0.01;
/// Lines of malformed rows that are named.
const LINES_NAMED_MAX: usize = 5;
/// A longer text is rows run together by a missing quote; in characters.
const TEXT_CHARS_MAX: usize = 2_000;

/// One labelled tweet.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its label: negative, else positive.
    pub negative: bool,
    /// Its author; empty where unknown.
    pub user: String,
    /// The text as written.
    pub text: String,
    /// When it was written, where known.
    pub created_at: Option<DateTime<Utc>>,
    /// How much it counts while learning; 1 for a row like any other.
    pub weight: f32,
}

/// The rows of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file's name, without folders.
    pub file: String,
    /// The file's SHA-256, as it lies on disk.
    pub sha256: String,
    /// In the order of the file.
    pub rows: Vec<Row>,
    /// What was read and left out.
    pub report: Report,
}

impl Dataset {
    /// Keeps `rows` rows, drawn by the seed; sentiment140 itself is sorted by label.
    pub fn draw(&mut self, rows: usize, seed: u64) {
        self.rows.sort_by_cached_key(|row| (unit_interval(seed, &row.text) * 1e15) as u64);
        self.rows.truncate(rows);
    }
}

/// What was read and left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Rows in the file.
    pub read: usize,
    /// Rows that are none.
    pub malformed: usize,
    /// The first of their lines, counted from 1.
    pub malformed_lines: Vec<u64>,
    /// Rows that are neither negative nor positive.
    pub neutral: usize,
    /// Rows whose text stood there before.
    pub duplicate: usize,
    /// Rows whose text has both labels.
    pub conflicting: usize,
    /// Rows whose text stands in the file to keep out.
    pub excluded: usize,
}

/// A data file that will not do.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// It could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no row in it.
    #[error(
        "{} is empty: it should hold rows such as \"0\",\"id\",\"date\",\"query\",\"user\",\"text\"",
        .0.display()
    )]
    Empty(PathBuf),
    /// It is another kind of file.
    #[error(
        "{}: {malformed} of {read} rows are no rows of sentiment140 (first lines: {lines:?}); \
         it should hold \"0\",\"id\",\"date\",\"query\",\"user\",\"text\" with 0, 2 or 4 in front",
        .path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// How many rows it has.
        read: usize,
        /// How many of them are malformed.
        malformed: usize,
        /// Lines of the first of them, counted from 1.
        lines: Vec<u64>,
    },
}

/// Reads `path`, leaving out the texts of `exclude` (compared without white space at
/// their ends).
///
/// # Errors
/// [`DatasetError`]: unreadable, empty, or more than 1 % of the rows malformed.
pub fn read(path: &Path, exclude: Option<&Path>) -> Result<Dataset, DatasetError> {
    let mut unwanted = HashSet::new();
    if let Some(exclude) = exclude {
        let texts = parse(exclude)?;
        unwanted.extend(texts.rows.into_iter().map(|(_, row)| row.text.trim().to_owned()));
    }
    let Parsed { rows, mut report, sha256 } = parse(path)?;

    let mut labels: HashMap<&str, (bool, bool)> = HashMap::new();
    for (target, row) in &rows {
        let seen = labels.entry(row.text.trim()).or_default();
        seen.0 |= *target == Target::Negative;
        seen.1 |= *target == Target::Positive;
    }
    let conflicting: HashSet<String> = labels
        .into_iter()
        .filter(|(_, seen)| *seen == (true, true))
        .map(|(text, _)| text.to_owned())
        .collect();
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(rows.len());
    for (target, row) in rows {
        let text = row.text.trim();
        if unwanted.contains(text) {
            report.excluded += 1;
        } else if target == Target::Neutral {
            report.neutral += 1;
        } else if conflicting.contains(text) {
            report.conflicting += 1;
        } else if !seen.insert(text.to_owned()) {
            report.duplicate += 1;
        } else {
            kept.push(row);
        }
    }
    Ok(Dataset { file: file_name(path), sha256, rows: kept, report })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Negative,
    Neutral,
    Positive,
}

struct Parsed {
    rows: Vec<(Target, Row)>,
    report: Report,
    sha256: String,
}

/// Reads all rows that are sound.
fn parse(path: &Path) -> Result<Parsed, DatasetError> {
    let failed = |source| DatasetError::Io { path: path.to_owned(), source };
    let input = packed::open(path).map_err(failed)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let (mut rows, mut report) = (Vec::new(), Report::default());
    let mut record = csv::ByteRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => return Err(failed(io::Error::other(error))),
        }
        report.read += 1;
        match row(&record) {
            Some(sound) => rows.push(sound),
            None => {
                // A missing quote runs rows together: each line of them counts.
                let lines = (reader.position().line() - line).max(1) as usize;
                report.read += lines - 1;
                report.malformed += lines;
                if report.malformed_lines.len() < LINES_NAMED_MAX {
                    report.malformed_lines.push(line);
                }
            }
        }
    }
    if report.read == 0 {
        return Err(DatasetError::Empty(path.to_owned()));
    }
    if report.malformed as f64 > MALFORMED_SHARE_MAX * report.read as f64 {
        return Err(DatasetError::Malformed {
            path: path.to_owned(),
            read: report.read,
            malformed: report.malformed,
            lines: report.malformed_lines,
        });
    }
    let sha256 = reader.into_inner().finish().map_err(failed)?;
    Ok(Parsed { rows, report, sha256 })
}

/// Six columns, a known target, a text of a tweet's size; else `None`.
fn row(record: &csv::ByteRecord) -> Option<(Target, Row)> {
    if record.len() != 6 {
        return None;
    }
    let target = match record[0].trim_ascii() {
        b"0" => Target::Negative,
        b"2" => Target::Neutral,
        b"4" => Target::Positive,
        _ => return None,
    };
    let text = latin1(&record[5]);
    if text.trim().is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        return None;
    }
    let row = Row {
        negative: target == Target::Negative,
        user: latin1(record[4].trim_ascii()),
        text,
        created_at: None,
        weight: 1.0,
    };
    Some((target, row))
}

/// In Latin-1 a byte is its character's number.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(target: &str, user: &str, text: &str) -> String {
        format!("\"{target}\",\"1\",\"today\",\"NO_QUERY\",\"{user}\",\"{text}\"\n")
    }

    fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn reads_counts_and_leaves_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = Vec::new();
        for part in [
            line("0", "ann", "it broke, \"\"again\"\""),
            line("4", "bob", "lovely"),
            line("4", "cid", "lovely "),
            line("0", "dan", "so so"),
            line("4", "eve", "so so"),
            line("2", "eve", "a table"),
            line("4", "", "hand labelled"),
        ] {
            content.extend(part.into_bytes());
        }
        content.extend(b"\"4\",\"1\",\"d\",\"q\",\"u\",\"caf\xe9\"\n");
        let test = file(folder.path(), "test.csv", line("2", "x", "hand labelled").as_bytes());
        let plain = file(folder.path(), "a.csv", &content);
        let found = read(&plain, Some(&test)).unwrap();
        let texts: Vec<_> =
            found.rows.iter().map(|row| (row.negative, row.text.as_str())).collect();
        assert_eq!(texts, [(true, "it broke, \"again\""), (false, "lovely"), (false, "café")]);
        let expected = Report {
            read: 8,
            neutral: 1,
            duplicate: 1,
            conflicting: 2,
            excluded: 1,
            ..Report::default()
        };
        assert_eq!(found.report, expected);
        assert_eq!(found.file, "a.csv");

        let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packed.write_all(&content).unwrap();
        let packed = file(folder.path(), "a.csv.xz", &packed.finish().unwrap());
        let unpacked = read(&packed, Some(&test)).unwrap();
        assert_eq!(unpacked.rows, found.rows);
        assert_ne!(unpacked.sha256, found.sha256, "of the file as it lies there");
    }

    #[test]
    fn a_few_malformed_rows_are_named_many_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut content: String = (0..300).map(|n| line("0", "u", &format!("text {n}"))).collect();
        content.push_str("\"0\",\"short row\"\n");
        content.push_str(&line("7", "u", "no such target"));
        let path = file(folder.path(), "few.csv", content.as_bytes());
        let report = read(&path, None).unwrap().report;
        assert_eq!((report.malformed, report.malformed_lines), (2, vec![301, 302]));

        let check = |name: &str, content: &str, expected: &str| {
            let path = file(folder.path(), "bad.csv", content.as_bytes());
            let error = read(&path, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        };
        check("empty", "", "is empty");
        check("other layout", "text,label\nhello,1\n", "2 of 2 rows");
        let swallowed = content.replacen("text 10\"", "text 10", 1);
        check("a missing quote", &swallowed, "no rows of sentiment140");
        let error = read(&folder.path().join("none.csv"), None).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("none.csv"), "{error}");
    }
}
