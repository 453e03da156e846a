//! A whole file of labelled tweets: sentiment140's six columns, a CSV with a header, or
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
    /// Its weight in training; 1 unless its source has another weight.
    pub weight: f32,
    /// The text as written.
    pub text: String,
    /// The values of [`Dataset::columns`]; empty unless they were asked for.
    pub columns: Vec<String>,
}

impl Row {
    /// A row of weight 1 without author and time, of a file with two classes.
    pub fn new(label: Label, text: impl Into<String>) -> Self {
        let (user, created_at, text) = (String::new(), None, text.into());
        let (classes, columns) = (Classes::Two, Vec::new());
        Self { label, classes, source: 0, user, created_at, weight: 1.0, text, columns }
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
mod tests {
    use super::*;
    use crate::data::Layout;
    use std::io::Write;

    fn line(target: &str, user: &str, text: &str) -> String {
        format!("\"{target}\",\"1\",\"today\",\"NO_QUERY\",\"{user}\",\"{text}\"\n")
    }

    fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn texts(dataset: &Dataset) -> Vec<(bool, &str)> {
        dataset.rows.iter().map(|row| (row.is_negative(), row.text.as_str())).collect()
    }

    #[test]
    fn reads_rows_and_counts_those_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = Vec::new();
        for part in [
            line("0", "ann", "it broke, \"\"again\"\""),
            line("4", "bob", "lovely"),
            line("4", "cid", "lovely "),
            line("0", "dan", "so so"),
            line("4", "eve", "so so"),
            line("2", "eve", "a table"),
            line("4", "", "Hand labelled &lt;3  at last"),
        ] {
            content.extend(part.into_bytes());
        }
        content.extend(b"\"4\",\"1\",\"d\",\"q\",\"u\",\"caf\xe9\"\n");
        content.extend(line("4", "u", "caf\u{e9} \u{266b}").bytes());
        let test = line("2", "x", "hand LABELLED &amp;lt;3 at last ");
        let test = file(folder.path(), "test.csv", test.as_bytes());
        let plain = file(folder.path(), "a.csv", &content);
        let found = read_excluding(&plain, std::slice::from_ref(&test)).unwrap();
        let expected = [
            (true, "it broke, \"again\""),
            (false, "lovely"),
            (false, "a table"),
            (false, "café"),
            (false, "café ♫"),
        ];
        assert_eq!(texts(&found), expected);
        let expected = ReadReport {
            read: 9,
            duplicate: 1,
            conflicting: 2,
            excluded: 1,
            ..ReadReport::default()
        };
        assert_eq!(found.report, expected);
        assert_eq!(found.file, "a.csv");
        assert_eq!(
            found.report.to_string(),
            "9 rows of sentiment140 read; left out 0 neutral, 1 duplicate, 2 conflicting, 1 of the \
             test file"
        );
        let all: Vec<Label> = read_all(&plain).unwrap().iter().map(|row| row.label).collect();
        use Label::*;
        let expected = [
            Negative, Positive, Positive, Negative, Positive, Neutral, Positive, Positive, Positive,
        ];
        assert_eq!(all, expected);

        let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packed.write_all(&content).unwrap();
        let packed = file(folder.path(), "a.csv.xz", &packed.finish().unwrap());
        let unpacked = read_excluding(&packed, std::slice::from_ref(&test)).unwrap();
        assert_eq!(unpacked.rows, found.rows);
        assert_ne!(unpacked.sha256, found.sha256, "of the file as it lies there");
    }

    #[test]
    fn reads_each_layout() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &str, layout: Layout, expected: &[Row]| {
            let path = file(folder.path(), "data", content.as_bytes());
            let parsed = parse(&path, false).unwrap_or_else(|e| panic!("{name}: {e}"));
            let Parsed { rows, report, .. } = parsed;
            assert_eq!((report.layout, report.malformed), (layout, 0), "{name}");
            assert_eq!(rows, expected, "{name}");
        };
        use Label::*;
        let row = |label: Label, user: &str, at: &str, text: &str| {
            let created_at = at.parse().ok();
            Row { user: user.to_owned(), created_at, ..Row::new(label, text) }
        };
        check(
            "sentiment140",
            "\"0\",\"1\",\"Mon Apr 06 22:19:45 PDT 2009\",\"NO_QUERY\",\"ann\",\"so, \"\"sad\"\"\"\r\n\
             \"2\",\"2\",\"\",\"NO_QUERY\",\"\",\"a table\"",
            Layout::Sentiment140,
            &[
                row(Negative, "ann", "2009-04-07T05:19:45Z", "so, \"sad\""),
                row(Neutral, "", "", "a table"),
            ],
        );
        check(
            "two columns, numbers",
            "label,text\n0,so sad\n\n1,\"glad,\nat last\"\n",
            Layout::Csv,
            &[row(Negative, "", "", "so sad"), row(Positive, "", "", "glad,\nat last")],
        );
        check(
            "the last row decides what 0 means",
            "Tweet,Polarity\nso so,0\nglad,1\nsad,-1\n",
            Layout::Csv,
            &[
                row(Neutral, "", "", "so so"),
                row(Positive, "", "", "glad"),
                row(Negative, "", "", "sad"),
            ],
        );
        check(
            "as the airlines' file",
            "\u{FEFF}tweet_id,airline_sentiment,name,text,tweet_created\n\
             5,neutral,cid,café?,2015-02-24 11:35:52 -0800\n6,Positive,dan,6'2\" of joy,\n",
            Layout::Csv,
            &[
                row(Neutral, "cid", "2015-02-24T19:35:52Z", "café?"),
                row(Positive, "dan", "", "6'2\" of joy"),
            ],
        );
        check(
            "SemEval",
            "1\tneutral\tPlus\\u002c a \"very\" busy day\n\
             2\tnegative\t\"he said \\\"\"no\\\"\"\"\t\n\
             3\tpositive\tNot Available\n\
             4\tpositive\thi\tWed Jul 29 12:01:22 +0000 2015\n",
            Layout::SemEval,
            &[
                row(Neutral, "", "", "Plus, a \"very\" busy day"),
                row(Negative, "", "", "he said \"no\""),
                row(Positive, "", "2015-07-29T12:01:22Z", "hi"),
            ],
        );
    }

    #[test]
    fn a_few_malformed_rows_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &str, sound: usize, expected: &str| {
            let path = file(folder.path(), "few.csv", content.as_bytes());
            let parsed = parse(&path, false).unwrap_or_else(|e| panic!("{name}: {e}"));
            let Parsed { rows, report, .. } = parsed;
            assert_eq!((rows.len(), report.faults().as_str()), (sound, expected), "{name}");
        };
        let good: String = (0..500).map(|n| line("0", "u", &format!("text {n}"))).collect();
        let bad = [
            "\"0\",\"short row\"\n".to_owned(),
            line("7", "u", "no such target"),
            line("0", "u", " "),
            line("0", "u", &"far too long ".repeat(200)),
        ];
        check(
            "of each kind",
            &(good.clone() + &bad.concat()),
            500,
            "1 wrong number of columns (line 501), 1 unknown label (line 502), 1 no text (line \
             503), 1 text too long (line 504)",
        );
        let swallowed = good.replace("text 10\"", "text 10").replace("\"text 20\"", "text 20\"");
        check(
            "a missing quote costs its own row",
            &swallowed,
            498,
            "2 a quote missing or too many (lines 11, 21)",
        );
        let quoted = "1,\"fine\"\n".repeat(300);
        check(
            "so it does where texts may have line feeds",
            &format!("label,text\n1,\"never closed\n{quoted}0,\"a\nb\",c\n"),
            300,
            "1 wrong number of columns (line 303), 1 a quote missing or too many (line 2), 1 \
             unknown label (line 304)",
        );
        let gone = "1\tpositive\tNot Available\n".repeat(7);
        check(
            "tweets that are gone are no fault of the file",
            &(gone + "2\tnegative\tstill here\n"),
            1,
            "7 tweet not available (lines 1, 2, 3, 4, 5, ...)",
        );
    }

    #[test]
    fn invalid_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &[u8], expected: &str| {
            let path = file(folder.path(), "bad.csv", content);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("bad.csv"), "{name}: {error}");
        };
        check("empty", b"", "is empty");
        check("only empty lines", b"\n\n", "is empty");
        check("only a header", b"label,text\n", "is empty");
        let other = b"text;label\nhello;1\n";
        check("other layout", other, "its first line has 1 columns (\"text;label\")");
        check("five columns", b"\"0\",\"1\",\"d\",\"q\",\"u\"\n", "has 5 columns");
        let some = line("0", "u", "fine") + "\"0\",\"1\",\"hello\"\n";
        check(
            "too many malformed",
            some.as_bytes(),
            "1 of 2 rows are not rows of sentiment140: 1 wrong number of columns (line 2)",
        );
        let numbers = b"label,text\n0,a\n1,b\n2,c\n";
        check("numbers that say too little", numbers, "labels [0, 1, 2] could mean");
        check("Latin-1", b"label,text\n0,caf\xe9\n", "1 not UTF-8 (line 2)");
        check("binary", &[0, 1, 2, 255, 254, 10, 0, 0], "laid out in no way known here");
        check("cut short", b"\xFD7zXZ\0\0", "cut short");
        let error = read(&folder.path().join("none.csv")).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("none.csv"), "{error}");
    }

    #[test]
    fn adding_a_source_keeps_its_weight_and_adds_no_text_twice() {
        let folder = tempfile::tempdir().unwrap();
        let one = "label,text\n0,sad\n1,glad\n1,so so\n";
        let mut one = read(&file(folder.path(), "one.csv", one.as_bytes())).unwrap();
        let two = "label,text\n0,late\n1,glad \n0,so so\n0,kept out\n";
        let test = file(folder.path(), "test.csv", b"label,text\n1,Kept  out\n");
        let two = file(folder.path(), "two.csv", two.as_bytes());
        let two = read_excluding(&two, &[test]).unwrap();
        assert_eq!(two.report.excluded, 1);
        assert_eq!(one.add(two, 2.5), 1);
        assert_eq!(texts(&one), [(true, "sad"), (false, "glad"), (true, "late")]);
        let weights: Vec<f32> = one.rows.iter().map(|row| row.weight).collect();
        assert_eq!(weights, [1.0, 1.0, 2.5]);
        assert_eq!((one.report.duplicate, one.report.conflicting), (1, 2));
    }
}
