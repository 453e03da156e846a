//! A whole file of labelled tweets: sentiment140's six columns, a CSV or TSV with a header, or
//! SemEval's lines; plain, `.xz`, `.gz` or `.zip`.
//!
//! **Invariant.** Each text occurs in a [`Dataset`] once, with one label, and every row left
//! out is counted.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use sha2::{Digest, Sha256};

use monitor_core::domain::{Classes, Label};
use monitor_core::hash::hex;
use monitor_core::text::{identity_key, unit_interval};

use super::{DatasetError, LabelledReader, ReadReport, file_name};

pub use monitor_model::HELD_OUT;

/// One labelled tweet.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What a person says of it, or its emoticons.
    pub label: Label,
    /// The classes that its file tells apart. With two, nobody said that it is not neutral.
    pub classes: Classes,
    /// Which of the training files it comes from, from 0.
    pub source: usize,
    /// Its author; empty if unknown.
    pub user: String,
    /// When it was written, if known.
    pub created_at: Option<DateTime<Utc>>,
    /// The set that its file puts it in, if it says so.
    pub set: Option<RowSet>,
    /// Its weight in training; 1 unless its source has another weight.
    pub weight: f32,
    /// The text as written.
    pub text: String,
    /// The values of [`Dataset::columns`]; empty unless they were asked for.
    pub columns: Vec<String>,
}

/// The set that a file puts a row in, in its column `split`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowSet {
    /// `train`.
    Training,
    /// `val` or `dev`.
    Validation,
    /// `test`.
    HeldOut,
}

impl RowSet {
    /// The set of a word; `None` for other words.
    pub fn of_word(word: &str) -> Option<Self> {
        match word.trim().to_lowercase().as_str() {
            "train" | "training" => Some(Self::Training),
            "val" | "valid" | "validation" | "dev" => Some(Self::Validation),
            "test" => Some(Self::HeldOut),
            _ => None,
        }
    }
}

impl Row {
    /// A row of weight 1 without author and time, of a file with two classes.
    pub fn new(label: Label, text: impl Into<String>) -> Self {
        let (user, created_at, text) = (String::new(), None, text.into());
        let (classes, columns, set) = (Classes::Two, Vec::new(), None);
        Self { label, classes, source: 0, user, created_at, set, weight: 1.0, text, columns }
    }

    /// Whether its label is negative.
    pub fn is_negative(&self) -> bool {
        self.label == Label::Negative
    }
}

/// The rows of one file, or of several after [`Dataset::add`].
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The file's name, without folders; of the first file.
    pub file: String,
    /// SHA-256 of the file as stored (packed); of the first file.
    pub sha256: String,
    /// Three if the file has neutral rows.
    pub classes: Classes,
    /// Number of files in it, also of those without a row that was added.
    pub sources: usize,
    /// In the order of the file.
    pub rows: Vec<Row>,
    /// What was read and left out.
    pub report: ReadReport,
    /// Names of the columns beside label and text; empty unless they were asked for.
    pub columns: Vec<String>,
}

impl Dataset {
    /// Keeps a random sample of `rows` rows; sentiment140 is sorted by label.
    pub fn draw(&mut self, rows: usize, seed: u64) {
        let place = |row: &Row| (unit_interval(seed, &row.text) * 1e15) as u64;
        let mut places: Vec<u64> = self.rows.iter().map(place).collect();
        places.sort_unstable();
        if let Some(end) = places.get(rows) {
            self.rows.retain(|row| place(row) < *end);
        }
    }

    /// Leaves out the neutral rows, for a model of two classes, and counts them.
    pub fn leave_out_neutral(&mut self) {
        let before = self.rows.len();
        self.rows.retain(|row| row.label != Label::Neutral);
        self.rows.iter_mut().for_each(|row| row.classes = Classes::Two);
        self.report.neutral += before - self.rows.len();
        self.classes = Classes::Two;
    }

    /// Adds the rows of another source with their weights multiplied by `weight`, and returns
    /// how many were added. Texts that are already present are left out; if the two sources
    /// label a text differently, both rows are removed. The report counts both cases. Read
    /// `other` with the same `exclude` file.
    pub fn add(&mut self, other: Self, weight: f32) -> usize {
        let own: HashMap<u64, Label> =
            self.rows.iter().map(|row| (text_hash(&row.text), row.label)).collect();
        let source = self.sources;
        self.sources += 1;
        self.classes = self.classes.max(other.classes);
        let mut conflicting = HashSet::new();
        let mut added = Vec::new();
        for row in other.rows {
            let hash = text_hash(&row.text);
            match own.get(&hash) {
                None => added.push(Row { weight: row.weight * weight, source, ..row }),
                Some(label) if *label == row.label => self.report.duplicate += 1,
                Some(_) => {
                    conflicting.insert(hash);
                }
            }
        }
        self.report.conflicting += 2 * conflicting.len();
        self.rows.retain(|row| !conflicting.contains(&text_hash(&row.text)));
        let count = added.len();
        self.rows.extend(added);
        count
    }
}

/// Reads the rows of `path`.
///
/// # Errors
/// [`DatasetError`]: unreadable, empty, of unknown layout, or more than 1 % of the rows
/// malformed.
pub fn read(path: &Path) -> Result<Dataset, DatasetError> {
    read_excluding(path, &[])
}

/// Reads the rows of `path`, without the tweets of the files `exclude`, however they are written
/// there ([`identity_key`]).
///
/// # Errors
/// As [`read`].
pub fn read_excluding(path: &Path, exclude: &[PathBuf]) -> Result<Dataset, DatasetError> {
    read_as(path, exclude, false)
}

/// Reads the rows of `path` with all their columns.
///
/// # Errors
/// As [`read`].
pub fn read_with_columns(path: &Path) -> Result<Dataset, DatasetError> {
    read_as(path, &[], true)
}

fn read_as(path: &Path, exclude: &[PathBuf], columns: bool) -> Result<Dataset, DatasetError> {
    let mut unwanted = HashSet::new();
    for exclude in exclude {
        unwanted.extend(read_all(exclude)?.iter().map(|row| identity_key(&row.text)));
    }
    let Parsed { rows, mut report, sha256, columns } = parse(path, columns)?;
    let has_neutral = rows.iter().any(|row| row.label == Label::Neutral);
    let classes = if has_neutral { Classes::Three } else { Classes::Two };

    let mut labels: HashMap<u64, Option<Label>> = HashMap::new();
    for row in &rows {
        let label = labels.entry(text_hash(&row.text)).or_insert(Some(row.label));
        *label = label.filter(|label| *label == row.label);
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let hash = text_hash(&row.text);
        if !unwanted.is_empty() && unwanted.contains(&identity_key(&row.text)) {
            report.excluded += 1;
        } else if labels[&hash].is_none() {
            report.conflicting += 1;
        } else if !seen.insert(hash) {
            report.duplicate += 1;
        } else {
            kept.push(Row { classes, ..row });
        }
    }
    let (file, rows) = (file_name(path), kept);
    Ok(Dataset { file, sha256, classes, sources: 1, rows, report, columns })
}

/// Reads all valid rows of `path`, duplicates included, in the order of the file.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: &Path) -> Result<Vec<Row>, DatasetError> {
    parse(path, false).map(|parsed| parsed.rows)
}

struct Parsed {
    rows: Vec<Row>,
    report: ReadReport,
    sha256: String,
    columns: Vec<String>,
}

fn parse(path: &Path, columns: bool) -> Result<Parsed, DatasetError> {
    let mut reader = LabelledReader::open(path)?;
    let columns = if columns { reader.keep_columns()? } else { Vec::new() };
    let mut rows = Vec::new();
    while let Some(row) = reader.next()? {
        rows.push(row);
    }
    let (report, sha256) = reader.finish()?;
    Ok(Parsed { rows, report, sha256, columns })
}

/// SHA-256 over labels and texts, in their order.
pub fn rows_sha256(rows: &[&Row]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        // The first form of this hash knew negative and positive alone, as 1 and 0.
        let label: u8 = match row.label {
            Label::Positive => 0,
            Label::Negative => 1,
            Label::Neutral => 2,
        };
        hash.update([label]);
        hash.update((row.text.len() as u64).to_le_bytes());
        hash.update(&row.text);
    }
    hex(&hash.finalize())
}

/// Whether there are rows of each class.
pub(crate) fn has_labels(rows: &[&Row], classes: Classes) -> bool {
    let has = |label: &Label| rows.iter().any(|row| row.label == *label);
    classes.labels().iter().all(has)
}

/// Hash of a text without leading and trailing white space. A collision among two million texts
/// happens once in ten million files.
pub(super) fn text_hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.trim().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
