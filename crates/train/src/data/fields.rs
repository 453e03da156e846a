//! Cuts one row of a CSV into its columns.

/// Columns of a CSV at most.
const COLUMNS_MAX: usize = 256;

/// Splits a row at its commas, except quoted ones.
pub struct Fields {
    csv: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { csv: csv_core::Reader::new(), bytes: Vec::new(), ends: vec![0; COLUMNS_MAX] }
    }
}

impl Fields {
    /// Returns the number of columns of `record`; 0 if it is not a single row or has more than
    /// [`COLUMNS_MAX`].
    pub fn split(&mut self, record: &[u8]) -> usize {
        use csv_core::ReadRecordResult::{InputEmpty, Record};
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

    /// A column of the most recently split row.
    pub fn get(&self, column: usize) -> &[u8] {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.bytes[start..self.ends[column]]
    }
}
