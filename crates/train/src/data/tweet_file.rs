//! Reads a file of tweets row by row: CSV with a header or JSON lines, packed or not.
//!
//! The layout is found by the content, not by the file's name.
//!
//! **Invariant.** One row is in memory at a time. A row that the caller rejects, and one that
//! cannot be read, is counted; the first few are kept with line and reason, and reading goes
//! on. Deliberately absent: what makes a valid tweet; the caller decides that.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::encoding;
use super::packed::{self, Packed};
use super::{Fields, Records, RowEnd};
use monitor_core::field_names;

/// Fields about a tweet's author and reach, with the accepted names of their columns.
const FURTHER_NAMES: [(&str, &[&str]); 4] = [
    ("author", &field_names::AUTHOR),
    ("followers", &field_names::FOLLOWERS),
    ("retweets", &field_names::RETWEETS),
    ("retweet_of", &field_names::RETWEET_OF),
];
/// Longest row, in bytes: as long as the longest record that the daemon accepts by default, because
/// a line of JSON carries a post with all that its platform sends along.
const ROW_BYTES_MAX: usize = 1 << 20;
/// Rejected rows that are kept with line and reason.
const FAULTS_KEPT_MAX: usize = 5;
/// Characters of a header that an error shows.
const SHOWN_CHARS_MAX: usize = 80;

/// The file cannot be read as a file of tweets.
#[derive(Debug, thiserror::Error)]
pub enum TweetFileError {
    /// It cannot be opened or unpacked.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ends in the middle, such as an archive that was cut off.
    #[error("cannot read {} beyond row {rows}: {source}", .file.display())]
    ReadOn {
        /// The file.
        file: PathBuf,
        /// Rows read before.
        rows: u64,
        /// The cause.
        source: io::Error,
    },
    /// It has no row.
    #[error("{} is empty; it should hold tweets, as CSV with a header or JSON lines", .0.display())]
    Empty(PathBuf),
    /// It is one JSON array.
    #[error(
        "{} is one JSON array; JSON lines are needed, one object per line, as `jq -c .[]` writes \
         them", .0.display()
    )]
    JsonArray(PathBuf),
    /// Labels are read from CSV only.
    #[error("{}: --labels reads a column of a CSV, and this is JSON", .0.display())]
    LabelsOfJson(PathBuf),
    /// The header lacks a required column.
    #[error(
        "{}: neither JSON lines nor CSV with a column {names} in its header; the first line is \
         {header:?}", .file.display()
    )]
    Column {
        /// The file.
        file: PathBuf,
        /// Accepted names.
        names: String,
        /// Beginning of the first line.
        header: String,
    },
    /// The header lacks the column of labels.
    #[error("{}: there is no column {name:?} (--labels) in {header:?}", .file.display())]
    LabelColumn {
        /// The file.
        file: PathBuf,
        /// Name given.
        name: String,
        /// Beginning of the first line.
        header: String,
    },
}

/// One row, before it is checked. Absent columns are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TweetRow {
    /// A row of a CSV.
    Columns(TweetColumns),
    /// A line of JSON, not parsed.
    Json {
        /// Line of the file, from 1.
        line: u64,
        /// The line without its end.
        bytes: Vec<u8>,
    },
}

/// The columns of one row of a CSV, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TweetColumns {
    /// Line of the file, from 1.
    pub line: u64,
    /// The tweet's id, trimmed.
    pub id: Option<String>,
    /// When it was written.
    pub created_at: String,
    /// Its text.
    pub text: String,
    /// The column of labels that the caller named.
    pub label: Option<String>,
    /// `author`, `followers`, `retweets` and `retweet_of`, as far as the file has them and
    /// they are not empty.
    pub further: BTreeMap<&'static str, String>,
}

/// How many rows were read and rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows read, valid or not.
    pub rows: u64,
    /// Rows rejected.
    pub bad: u64,
    /// Line and reason of the first rejected rows.
    pub faults: Vec<(u64, String)>,
}

#[derive(Debug)]
struct Columns {
    count: usize,
    time: usize,
    text: usize,
    id: Option<usize>,
    label: Option<usize>,
    further: Vec<(&'static str, usize)>,
}

enum Layout {
    Csv(Columns),
    JsonLines,
}

/// A file of tweets that is being read.
pub struct TweetFile {
    path: PathBuf,
    records: Records<Packed>,
    layout: Layout,
    fields: Fields,
    counts: RowCounts,
}

impl TweetFile {
    /// Opens a file and finds its layout. `labels` names a column of a CSV to read labels
    /// from.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or lacks a column for text, time or labels.
    pub fn open(path: &Path, labels: Option<&str>) -> Result<Self, TweetFileError> {
        let failed = |source| TweetFileError::Read { file: path.to_owned(), source };
        let mut records =
            Records::with_limit(packed::open_text(path).map_err(failed)?, ROW_BYTES_MAX);
        let first = loop {
            let lines = records.peek(1).map_err(failed)?;
            let Some(line) = lines.first() else {
                return Err(TweetFileError::Empty(path.to_owned()));
            };
            let line = encoding::row(path, line).into_owned();
            if !line.trim_ascii().is_empty() {
                break line;
            }
            records.next(RowEnd::Line).map_err(failed)?;
        };
        let mut fields = Fields::default();
        let layout = match first.trim_ascii().first() {
            Some(b'{') if labels.is_some() => {
                return Err(TweetFileError::LabelsOfJson(path.to_owned()));
            }
            Some(b'{') => Layout::JsonLines,
            Some(b'[') => return Err(TweetFileError::JsonArray(path.to_owned())),
            _ => {
                records.next(RowEnd::Line).map_err(failed)?;
                Layout::Csv(Columns::find(path, &mut fields, &first, labels)?)
            }
        };
        Ok(Self { path: path.to_owned(), records, layout, fields, counts: RowCounts::default() })
    }

    /// Whether its rows may have an id: JSON lines, or a CSV with such a column.
    pub fn has_ids(&self) -> bool {
        match &self.layout {
            Layout::Csv(columns) => columns.id.is_some(),
            Layout::JsonLines => true,
        }
    }

    /// Whether it is JSON lines.
    pub fn is_json(&self) -> bool {
        matches!(self.layout, Layout::JsonLines)
    }

    /// What was read and rejected so far.
    pub fn counts(&self) -> &RowCounts {
        &self.counts
    }

    /// How much of the file was read, in 0..=1, approximately.
    pub fn share_read(&mut self) -> f64 {
        let (place, total) = self.records.get_mut().place();
        place as f64 / total.max(1) as f64
    }

    /// The next row that `accept` does not reject; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read further. A rejected row is not an error.
    pub fn next_with<T>(
        &mut self,
        mut accept: impl FnMut(TweetRow) -> Result<T, String>,
    ) -> Result<Option<T>, TweetFileError> {
        loop {
            let end = match self.layout {
                Layout::Csv(_) => RowEnd::ClosedQuotes,
                Layout::JsonLines => RowEnd::Line,
            };
            let record = self.records.next(end).map_err(|source| TweetFileError::ReadOn {
                file: self.path.clone(),
                rows: self.counts.rows,
                source,
            })?;
            let Some(record) = record else { return Ok(None) };
            if record.bytes.trim_ascii().is_empty() {
                continue;
            }
            self.counts.rows += 1;
            let (line, lines) = (record.line, record.lines);
            let row = if !record.closed {
                Err("a quote is not closed".to_owned())
            } else if record.bytes.len() > ROW_BYTES_MAX {
                Err(format!("longer than {} KiB", ROW_BYTES_MAX >> 10))
            } else {
                match &self.layout {
                    Layout::JsonLines => {
                        Ok(TweetRow::Json { line, bytes: record.bytes.trim_ascii_end().to_owned() })
                    }
                    Layout::Csv(columns) => {
                        let bytes = encoding::row(&self.path, record.bytes);
                        columns.row(&mut self.fields, &bytes, line)
                    }
                }
            };
            match row.and_then(&mut accept) {
                Ok(row) => return Ok(Some(row)),
                Err(reason) => {
                    self.counts.bad += 1;
                    if self.counts.faults.len() < FAULTS_KEPT_MAX {
                        self.counts.faults.push((line, reason));
                    }
                    // An extra quote joins rows: read each of their lines separately.
                    if lines > 1 {
                        self.records.go_back();
                    }
                }
            }
        }
    }
}

impl Columns {
    fn find(
        path: &Path,
        fields: &mut Fields,
        header: &[u8],
        labels: Option<&str>,
    ) -> Result<Self, TweetFileError> {
        let count = fields.split(header);
        let names: Vec<String> = (0..count)
            .map(|column| String::from_utf8_lossy(fields.get(column)).trim().to_lowercase())
            .collect();
        let shown = || -> String {
            String::from_utf8_lossy(header).trim_end().chars().take(SHOWN_CHARS_MAX).collect()
        };
        let find = |wanted: &[&str]| {
            wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted))
        };
        let need = |wanted: &[&str]| {
            find(wanted).ok_or_else(|| TweetFileError::Column {
                file: path.to_owned(),
                names: wanted.join(" (or ") + &")".repeat(wanted.len() - 1),
                header: shown(),
            })
        };
        let label = labels
            .map(|name| {
                find(&[&name.to_lowercase()]).ok_or_else(|| TweetFileError::LabelColumn {
                    file: path.to_owned(),
                    name: name.to_owned(),
                    header: shown(),
                })
            })
            .transpose()?;
        let further =
            FURTHER_NAMES.iter().filter_map(|(name, wanted)| Some((*name, find(wanted)?)));
        Ok(Self {
            count,
            time: need(&field_names::TIME)?,
            text: need(&field_names::TEXT)?,
            id: find(&field_names::ID),
            label,
            further: further.collect(),
        })
    }

    fn row(&self, fields: &mut Fields, record: &[u8], line: u64) -> Result<TweetRow, String> {
        let found = fields.split(record);
        if found != self.count {
            return Err(format!("{found} columns where the header has {}", self.count));
        }
        let field = |column: usize| String::from_utf8_lossy(fields.get(column)).into_owned();
        let further = self.further.iter().map(|(name, column)| (*name, field(*column)));
        Ok(TweetRow::Columns(TweetColumns {
            line,
            id: self.id.map(|column| field(column).trim().to_owned()),
            created_at: field(self.time),
            text: field(self.text),
            label: self.label.map(field),
            further: further.filter(|(_, value)| !value.is_empty()).collect(),
        }))
    }
}
