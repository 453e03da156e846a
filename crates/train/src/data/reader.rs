//! Reads a file row by row: what is sound is given, what is not is counted.
//!
//! **Invariant.** One row is in memory at a time. A malformed row is left out and named by
//! its line; only the end tells whether they were too many.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::labels::{self, Numbers};
use super::layouts::{Columns, Format};
use super::packed::{self, Packed};
use super::{DatasetError, Fault, Fields, ReadReport, Records, Row, RowEnd, Target};

/// More malformed rows than this share, and the file is not what it should be.
const MALFORMED_SHARE_MAX: f64 = 0.01;
/// The layout shows in the first lines.
const PEEK_LINES: usize = 100;
/// So much of a first line is shown in an error, in characters.
const SHOWN_CHARS_MAX: usize = 80;

pub(super) struct LabelledReader {
    path: PathBuf,
    records: Records<Packed>,
    format: Format,
    fields: Fields,
    report: ReadReport,
}

impl LabelledReader {
    /// Opens a file and finds its layout. What numbers in a CSV's label column mean depends
    /// on all of them, so a CSV is read once more for that.
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let (mut records, mut format) = begin(path)?;
        if let Format::Csv(columns, numbers) = &mut format {
            *numbers = numbers_of(path, records, *columns)?;
            (records, _) = begin(path)?;
            skip_header(&mut records).map_err(|source| failed(path, source))?;
        }
        let report = ReadReport { layout: format.layout(), ..ReadReport::default() };
        Ok(Self { path: path.to_owned(), records, format, fields: Fields::default(), report })
    }

    /// Which bytes of the file have been read, out of how many.
    pub(super) fn place(&mut self) -> (u64, u64) {
        self.records.get_mut().place()
    }

    /// The next sound row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Target, Row)>, DatasetError> {
        loop {
            let record = self.records.next(self.format.ends());
            let record = record.map_err(|source| failed(&self.path, source))?;
            let Some(record) = record else { return Ok(None) };
            if record.bytes.trim_ascii().is_empty() {
                continue;
            }
            let line = record.line;
            let outcome = if record.closed {
                self.format.row(&mut self.fields, record.bytes)
            } else {
                Err(Fault::Quote)
            };
            self.report.read += 1;
            match outcome {
                Ok(sound) => return Ok(Some(sound)),
                Err(fault) => {
                    self.report.add_fault(fault, line);
                    // A quote too many runs rows together: look at each line of them.
                    if matches!(fault, Fault::Columns | Fault::Long) {
                        self.records.go_back();
                    }
                }
            }
        }
    }

    /// What was read and left out so far, and the file's SHA-256.
    ///
    /// # Errors
    /// There was no row, or too many were malformed.
    pub(super) fn finish(self) -> Result<(ReadReport, String), DatasetError> {
        let Self { path, records, report, .. } = self;
        if report.read == 0 {
            return Err(DatasetError::Empty(path));
        }
        if report.malformed as f64 > MALFORMED_SHARE_MAX * report.read as f64 {
            return Err(DatasetError::Malformed { path, report: Box::new(report) });
        }
        let sha256 = records.into_inner().finish().map_err(|source| failed(&path, source))?;
        Ok((report, sha256))
    }
}

fn failed(path: &Path, source: io::Error) -> DatasetError {
    DatasetError::Io { path: path.to_owned(), source }
}

/// Opens a file and looks at its first lines.
fn begin(path: &Path) -> Result<(Records<Packed>, Format), DatasetError> {
    let mut records = Records::new(packed::open(path).map_err(|source| failed(path, source))?);
    let lines = records.peek(PEEK_LINES).map_err(|source| failed(path, source))?;
    let lines: Vec<&[u8]> =
        lines.into_iter().filter(|line| !line.trim_ascii().is_empty()).collect();
    let Some(first) = lines.first() else { return Err(DatasetError::Empty(path.to_owned())) };
    match Format::find(&lines) {
        Some(format) => Ok((records, format)),
        None => {
            let columns = Fields::default().split(first);
            let line = String::from_utf8_lossy(first).trim_end().to_owned();
            let line = line.chars().take(SHOWN_CHARS_MAX).collect();
            Err(DatasetError::Layout { path: path.to_owned(), columns, line })
        }
    }
}

fn skip_header(records: &mut Records<Packed>) -> io::Result<()> {
    while let Some(record) = records.next(RowEnd::Line)?
        && record.bytes.trim_ascii().is_empty()
    {}
    Ok(())
}

/// Reads a CSV's label column to its end.
fn numbers_of(
    path: &Path,
    mut records: Records<Packed>,
    columns: Columns,
) -> Result<Numbers, DatasetError> {
    let (mut fields, mut found) = (Fields::default(), BTreeSet::new());
    while let Some(record) =
        records.next(RowEnd::ClosedQuotes).map_err(|source| failed(path, source))?
    {
        if fields.split(record.bytes) > columns.label {
            let label = String::from_utf8_lossy(fields.get(columns.label));
            found.extend(labels::number(label.trim()));
        }
    }
    Numbers::of_column(&found).ok_or_else(|| DatasetError::Labels {
        path: path.to_owned(),
        found: found.into_iter().collect(),
    })
}
