//! Counts of the rows read and left out, and the errors of a labelled file.
//!
//! **Invariant.** Every count has a reason; a message names the file, the lines and what to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fmt, io};

use super::{Fault, Layout};

/// Line numbers kept per fault.
const LINES_NAMED_MAX: usize = 5;

/// Rows left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faulty {
    /// Number of rows.
    pub rows: usize,
    /// Their first line numbers, from 1.
    pub lines: Vec<u64>,
}

/// What was read and left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadReport {
    /// The layout of the file.
    pub layout: Layout,
    /// Rows in the file.
    pub read: usize,
    /// Malformed rows.
    pub malformed: usize,
    /// Rows per fault, with the first line numbers.
    pub faults: BTreeMap<Fault, Faulty>,
    /// Rows that are neither negative nor positive.
    pub neutral: usize,
    /// Rows whose text occurred before.
    pub duplicate: usize,
    /// Rows whose text has both labels.
    pub conflicting: usize,
    /// Rows whose text is in the excluded file.
    pub excluded: usize,
}

impl ReadReport {
    pub(super) fn add_fault(&mut self, fault: Fault, line: u64) {
        self.malformed += usize::from(fault != Fault::Unavailable);
        let faulty = self.faults.entry(fault).or_default();
        faulty.rows += 1;
        if faulty.lines.len() < LINES_NAMED_MAX {
            faulty.lines.push(line);
        }
    }

    /// Such as `2 unknown label (lines 7, 9), 1 no text (line 12)`; empty if all rows were valid.
    pub fn faults(&self) -> String {
        let one = |(fault, faulty): (&Fault, &Faulty)| {
            let lines: Vec<String> = faulty.lines.iter().map(u64::to_string).collect();
            let word = if faulty.rows == 1 { "line" } else { "lines" };
            let more = if faulty.rows > lines.len() { ", ..." } else { "" };
            format!("{} {fault} ({word} {}{more})", faulty.rows, lines.join(", "))
        };
        self.faults.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {} read; left out ", self.read, self.layout)?;
        if !self.faults.is_empty() {
            write!(f, "{}, ", self.faults())?;
        }
        write!(
            f,
            "{} neutral, {} duplicate, {} conflicting, {} of the test file",
            self.neutral, self.duplicate, self.conflicting, self.excluded
        )
    }
}

/// A data file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// It could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It has no rows.
    #[error(
        "{} is empty: it should hold rows such as \"0\",\"id\",\"date\",\"query\",\"user\",\"text\"",
        .0.display()
    )]
    Empty(PathBuf),
    /// Its layout is unknown.
    #[error(
        "{} is laid out in no way known here: its first line has {columns} columns ({line:?}). \
         It should hold {}; or rows {}; or {}",
        .path.display(), Layout::Sentiment140.rows(), Layout::Csv.rows(), Layout::SemEval.rows()
    )]
    Layout {
        /// Which file.
        path: PathBuf,
        /// Columns of its first line, separated by commas.
        columns: usize,
        /// The beginning of that line.
        line: String,
    },
    /// Its numeric labels are ambiguous.
    #[error(
        "{}: the labels {found:?} could mean more than one thing; write negative, neutral and \
         positive",
        .path.display()
    )]
    Labels {
        /// Which file.
        path: PathBuf,
        /// The numbers in its label column.
        found: Vec<i8>,
    },
    /// Too many of its rows are malformed.
    #[error(
        "{}: {} of {} rows are not rows of {}: {}; they should be {}",
        .path.display(), .report.malformed, .report.read, .report.layout, .report.faults(),
        .report.layout.rows()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Counts of the rows.
        report: Box<ReadReport>,
    },
}
