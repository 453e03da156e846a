//! Cuts one row of a CSV, or of a TSV, into its columns.

/// Columns of a CSV at most.
const COLUMNS_MAX: usize = 256;

/// Splits a row at its commas, except quoted ones; or at its tabs.
pub struct Fields {
    csv: csv_core::Reader,
    tabs: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            csv: csv_core::Reader::new(),
            tabs: false,
            bytes: Vec::new(),
            ends: vec![0; COLUMNS_MAX],
        }
    }
}

impl Fields {
    /// Splits at tabs. A quote is a character of the text, because most TSV files do not quote,
    /// except around a whole column with the quotes inside doubled.
    pub fn of_tabs() -> Self {
        Self { tabs: true, ..Self::default() }
    }

    /// Returns the number of columns of `record`; 0 if it is not a single row or has more than
    /// [`COLUMNS_MAX`].
    pub fn split(&mut self, record: &[u8]) -> usize {
        use csv_core::ReadRecordResult::{InputEmpty, Record};
        if self.tabs {
            return self.split_at_tabs(record);
        }
        self.csv.reset();
        self.bytes.resize(record.len() + 1, 0);
        let (outcome, read, written, columns) =
            self.csv.read_record(record, &mut self.bytes, &mut self.ends);
        match outcome {
            Record if record[read..].trim_ascii().is_empty() => columns,
            // A last line without a line feed.
            InputEmpty => {
                let (outcome, _, _, more) = self.csv.read_record(
                    &[],
                    &mut self.bytes[written..],
                    &mut self.ends[columns..],
                );
                if matches!(outcome, Record) { columns + more } else { 0 }
            }
            _ => 0,
        }
    }

    fn split_at_tabs(&mut self, record: &[u8]) -> usize {
        let line = record.strip_suffix(b"\n").unwrap_or(record);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.bytes.clear();
        let mut columns = 0;
        for column in line.split(|byte| *byte == b'\t') {
            let Some(end) = self.ends.get_mut(columns) else { return 0 };
            match unquoted(column) {
                Some(inner) => {
                    let mut quotes = 0;
                    self.bytes.extend(inner.iter().filter(|byte| {
                        quotes += usize::from(**byte == b'"');
                        **byte != b'"' || quotes % 2 == 1
                    }));
                }
                None => self.bytes.extend(column),
            }
            *end = self.bytes.len();
            columns += 1;
        }
        columns
    }

    /// A column of the most recently split row.
    pub fn get(&self, column: usize) -> &[u8] {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.bytes[start..self.ends[column]]
    }
}

/// What is between the quotes around a column, if those inside are doubled.
fn unquoted(column: &[u8]) -> Option<&[u8]> {
    let inner = column.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut runs = inner.split(|byte| *byte != b'"');
    runs.all(|run| run.len().is_multiple_of(2)).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_between_tabs() {
        let check = |record: &str, expected: &[&str]| {
            let mut fields = Fields::of_tabs();
            let count = fields.split(record.as_bytes());
            let found: Vec<&str> =
                (0..count).map(|at| std::str::from_utf8(fields.get(at)).unwrap()).collect();
            assert_eq!(found, expected, "{record:?}");
        };
        check("train\t0\tso, so\r\n", &["train", "0", "so, so"]);
        check("a\t\t", &["a", "", ""]);
        check("0\t\"only in front", &["0", "\"only in front"]);
        check("0\t\"all of it, \"\"twice\"\"\"", &["0", "all of it, \"twice\""]);
        check("0\t\"one\" and \"two\"\n", &["0", "\"one\" and \"two\""]);
        check("\"\t\"\"", &["\"", ""]);
        assert_eq!(Fields::of_tabs().split("\t".repeat(COLUMNS_MAX).as_bytes()), 0, "too many");
    }
}
