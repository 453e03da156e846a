//! Reads a labelled file row by row: returns valid rows and counts malformed ones.
//!
//! **Invariant.** One row is in memory at a time. Whether too many rows were malformed is
//! checked at the end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::columns::OtherColumns;
use super::encoding;
use super::labels::{self, Numbers};
use super::layouts::{Columns, Format};
use super::packed::{self, Packed};
use super::{DatasetError, Fault, Fields, ReadReport, Records, Row, RowEnd};

/// A file with a larger share of malformed rows is rejected.
const MALFORMED_SHARE_MAX: f64 = 0.01;
/// Lines used to detect the layout.
const PEEK_LINES: usize = 100;
/// Characters of the first line that an error shows.
const SHOWN_CHARS_MAX: usize = 80;

pub(super) struct LabelledReader {
    path: PathBuf,
    records: Records<Packed>,
    format: Format,
    fields: Fields,
    report: ReadReport,
    others: Option<OtherColumns>,
}

impl LabelledReader {
    /// Opens a file and finds its layout. A CSV is read twice, because the meaning of numeric
    /// labels depends on the whole column.
    pub(super) fn open(path: &Path) -> Result<Self, DatasetError> {
        let (mut records, mut format) = begin(path)?;
        let ends = format.ends();
        if let Format::Csv(columns, numbers) = &mut format {
            *numbers = numbers_of(path, records, *columns, ends)?;
            (records, _) = begin(path)?;
            skip_header(&mut records).map_err(|source| failed(path, source))?;
        }
        let report = ReadReport { layout: format.layout(), ..ReadReport::default() };
        let (path, fields) = (path.to_owned(), format.fields());
        Ok(Self { path, records, format, fields, report, others: None })
    }

    /// Keeps the other columns in the rows read from now on, and returns their names.
    pub(super) fn keep_columns(&mut self) -> Result<Vec<String>, DatasetError> {
        let (mut records, _) = begin(&self.path)?;
        let lines = records.peek(PEEK_LINES).map_err(|source| failed(&self.path, source))?;
        let header = lines.into_iter().find(|line| !line.trim_ascii().is_empty());
        let header = encoding::row(&self.path, header.unwrap_or_default());
        let others = OtherColumns::of(self.format, &header);
        let names = others.names.clone();
        self.others = Some(others);
        Ok(names)
    }

    /// Bytes of the file read so far (approximately), and its size.
    pub(super) fn place(&mut self) -> (u64, u64) {
        self.records.get_mut().place()
    }

    /// The next valid row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>, DatasetError> {
        loop {
            let record = self.records.next(self.format.ends());
            let record = record.map_err(|source| failed(&self.path, source))?;
            let Some(record) = record else { return Ok(None) };
            if record.bytes.trim_ascii().is_empty() {
                continue;
            }
            let line = record.line;
            // sentiment140's layout has an encoding of its own.
            let bytes = match self.format {
                Format::Sentiment140 => record.bytes.into(),
                _ => encoding::row(&self.path, record.bytes),
            };
            let outcome = if record.closed {
                self.format.row(&mut self.fields, &bytes)
            } else {
                Err(Fault::Quote)
            };
            self.report.read += 1;
            match outcome {
                Ok(mut sound) => {
                    if let Some(others) = &self.others {
                        sound.columns = others.values(self.format, &self.fields, &bytes);
                    }
                    return Ok(Some(sound));
                }
                Err(fault) => {
                    self.report.add_fault(fault, line);
                    // An extra quote joins rows: read each of their lines separately.
                    if matches!(fault, Fault::Columns | Fault::Long) {
                        self.records.go_back();
                    }
                }
            }
        }
    }

    /// The counts, and the file's SHA-256.
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

/// Opens a file and detects its layout.
fn begin(path: &Path) -> Result<(Records<Packed>, Format), DatasetError> {
    let mut records = Records::new(packed::open_text(path).map_err(|source| failed(path, source))?);
    let lines = records.peek(PEEK_LINES).map_err(|source| failed(path, source))?;
    let lines: Vec<Cow<'_, [u8]>> = (lines.into_iter())
        .filter(|line| !line.trim_ascii().is_empty())
        .map(monitor_core::text::utf8)
        .collect();
    let lines: Vec<&[u8]> = lines.iter().map(AsRef::as_ref).collect();
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

/// Reads a CSV's whole label column.
fn numbers_of(
    path: &Path,
    mut records: Records<Packed>,
    columns: Columns,
    ends: RowEnd,
) -> Result<Numbers, DatasetError> {
    let (mut fields, mut found) = (columns.fields(), BTreeSet::new());
    while let Some(record) = records.next(ends).map_err(|source| failed(path, source))? {
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
