//! Writes tables as Parquet files.
//!
//! **Invariant.** Memory is bounded: rows are written in groups of at most [`ROWS_MAX`] rows or about
//! [`BYTES_MAX`] bytes. Each column may have nulls. Times are microseconds in UTC. Deliberately absent: Arrow,
//! which would be two dozen crates for a writer; reading.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use monitor_core::table::{Cell, Column, Kind, Table};

/// Rows of a group, at most.
const ROWS_MAX: usize = 100_000;
/// Bytes of texts of a group, about.
const BYTES_MAX: usize = 32 << 20;

/// Writes one table to `W`.
pub struct ParquetWriter<W: Write + Send> {
    state: State<W>,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
}

enum State<W: Write + Send> {
    /// The columns are not known yet.
    New(Option<W>),
    Open(SerializedFileWriter<W>),
}

impl<W: Write + Send> ParquetWriter<W> {
    /// A writer of one table.
    pub fn new(out: W) -> Self {
        Self { state: State::New(Some(out)), columns: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Writes the rest, and gives back what was written to.
    ///
    /// # Errors
    /// It cannot be written, or [`Table::begin`] was never called.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_group()?;
        match self.state {
            State::New(_) => Err(io::Error::other("a table needs columns")),
            State::Open(writer) => {
                let mut out = writer.into_inner().map_err(wrong)?;
                out.flush()?;
                Ok(out)
            }
        }
    }

    fn write_group(&mut self) -> io::Result<()> {
        let State::Open(writer) = &mut self.state else { return Ok(()) };
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = writer.next_row_group().map_err(wrong)?;
        for values in &mut self.columns {
            let column = group.next_column().map_err(wrong)?;
            values.write(column.expect("a column for each")).map_err(wrong)?;
        }
        group.close().map_err(wrong)?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<W: Write + Send> Table for ParquetWriter<W> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        let State::New(out) = &mut self.state else {
            return Err(io::Error::other("a table has its columns once"));
        };
        let out = out.take().expect("taken once");
        let types = columns.iter().map(of_column).collect::<Result<_, _>>().map_err(wrong)?;
        let schema = Type::group_type_builder("rows").with_fields(types).build().map_err(wrong)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("monitor ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties));
        self.state = State::Open(writer.map_err(wrong)?);
        self.columns = columns.iter().map(|column| Values::new(column.kind)).collect();
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        if cells.len() != self.columns.len() {
            return Err(io::Error::other("a row has a cell for each column"));
        }
        for (values, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += values.push(cell)?;
        }
        self.rows += 1;
        if self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX { self.write_group() } else { Ok(()) }
    }
}

fn wrong(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

/// The type of a column. A list is of three levels, as the format's rules for lists have it.
fn of_column(column: &Column) -> Result<TypePtr, ParquetError> {
    let primitive = |name, physical, logical, repetition| {
        let built = Type::primitive_type_builder(name, physical);
        built.with_logical_type(logical).with_repetition(repetition).build().map(Arc::new)
    };
    let text = Some(LogicalType::String);
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, text),
        Kind::Integer => (Physical::INT64, None),
        Kind::Single => (Physical::FLOAT, None),
        Kind::Double => (Physical::DOUBLE, None),
        Kind::Boolean => (Physical::BOOLEAN, None),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Texts => {
            let element = primitive("element", Physical::BYTE_ARRAY, text, Repetition::REQUIRED)?;
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![element])
                .build()?;
            let built = Type::group_type_builder(&column.name)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list)]);
            return built.build().map(Arc::new);
        }
    };
    primitive(&column.name, physical, logical, Repetition::OPTIONAL)
}

/// The cells of a column in one group of rows.
struct Values {
    cells: Cells,
    /// For each cell how much of it is there: 0 is null, 1 a value or an empty list, 2 a text of a list.
    defined: Vec<i16>,
    /// For each text of a list whether it follows another one of its cell.
    repeated: Vec<i16>,
}

enum Cells {
    Text(Vec<ByteArray>),
    Texts(Vec<ByteArray>),
    Integer(Vec<i64>),
    Single(Vec<f32>),
    Double(Vec<f64>),
    Boolean(Vec<bool>),
    Time(Vec<i64>),
}

impl Values {
    fn new(kind: Kind) -> Self {
        let cells = match kind {
            Kind::Text => Cells::Text(Vec::new()),
            Kind::Texts => Cells::Texts(Vec::new()),
            Kind::Integer => Cells::Integer(Vec::new()),
            Kind::Single => Cells::Single(Vec::new()),
            Kind::Double => Cells::Double(Vec::new()),
            Kind::Boolean => Cells::Boolean(Vec::new()),
            Kind::Time => Cells::Time(Vec::new()),
        };
        Self { cells, defined: Vec::new(), repeated: Vec::new() }
    }

    /// Adds a cell; returns its bytes, about.
    fn push(&mut self, cell: Cell) -> io::Result<usize> {
        let mut bytes = 8;
        let mut defined = 1;
        match (&mut self.cells, cell) {
            (_, Cell::Null) => defined = 0,
            (Cells::Text(values), Cell::Text(text)) => {
                bytes += text.len();
                values.push(text.into_bytes().into());
            }
            (Cells::Texts(values), Cell::Texts(texts)) if !texts.is_empty() => {
                for (at, text) in texts.into_iter().enumerate() {
                    bytes += 8 + text.len();
                    values.push(text.into_bytes().into());
                    self.defined.push(2);
                    self.repeated.push(i16::from(at > 0));
                }
                return Ok(bytes);
            }
            (Cells::Texts(_), Cell::Texts(_)) => {}
            (Cells::Integer(values), Cell::Integer(value)) => values.push(value),
            (Cells::Single(values), Cell::Single(value)) => values.push(value),
            (Cells::Double(values), Cell::Double(value)) => values.push(value),
            (Cells::Boolean(values), Cell::Boolean(value)) => values.push(value),
            (Cells::Time(values), Cell::Time(time)) => values.push(time.timestamp_micros()),
            (_, other) => {
                return Err(io::Error::other(format!("{other:?} is not of its column's kind")));
            }
        }
        self.defined.push(defined);
        self.repeated.push(0);
        Ok(bytes)
    }

    /// Writes the cells and forgets them.
    fn write(&mut self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let Self { cells, defined, repeated } = self;
        match cells {
            Cells::Text(values) => write::<ByteArrayType>(&mut column, values, defined, None),
            Cells::Texts(values) => {
                write::<ByteArrayType>(&mut column, values, defined, Some(repeated))
            }
            Cells::Integer(values) | Cells::Time(values) => {
                write::<Int64Type>(&mut column, values, defined, None)
            }
            Cells::Single(values) => write::<FloatType>(&mut column, values, defined, None),
            Cells::Double(values) => write::<DoubleType>(&mut column, values, defined, None),
            Cells::Boolean(values) => write::<BoolType>(&mut column, values, defined, None),
        }?;
        self.defined.clear();
        self.repeated.clear();
        column.close()
    }
}

fn write<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    defined: &[i16],
    repeated: Option<&Vec<i16>>,
) -> Result<(), ParquetError> {
    column.typed::<T>().write_batch(values, Some(defined), repeated.map(Vec::as_slice))?;
    values.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use chrono::DateTime;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::reader::RowIter;

    use super::*;

    /// The file of a table.
    fn file(
        columns: &[(&str, Kind)],
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> SerializedFileReader<Bytes> {
        let column = |&(name, kind): &(&str, Kind)| Column { name: name.to_owned(), kind };
        let mut writer = ParquetWriter::new(Vec::new());
        writer.begin(&columns.iter().map(column).collect::<Vec<_>>()).unwrap();
        for row in rows {
            writer.row(row).unwrap();
        }
        SerializedFileReader::new(Bytes::from(writer.finish().unwrap())).unwrap()
    }

    /// The rows of a file, as its library shows them.
    fn rows(file: SerializedFileReader<Bytes>) -> impl Iterator<Item = String> {
        RowIter::from_file_into(Box::new(file)).map(|row| row.unwrap().to_string())
    }

    #[test]
    fn every_kind_is_read_back_with_its_nulls() {
        let columns = [
            ("text", Kind::Text),
            ("a list", Kind::Texts),
            ("integer", Kind::Integer),
            ("single", Kind::Single),
            ("double", Kind::Double),
            ("boolean", Kind::Boolean),
            ("time", Kind::Time),
        ];
        let at = DateTime::from_timestamp_micros(1_424_563_200_123_456).unwrap();
        let texts = |texts: &[&str]| Cell::Texts(texts.iter().map(|&it| it.into()).collect());
        let first = vec![
            Cell::Text("naïve 🛫".into()),
            texts(&["one", "two", ""]),
            Cell::Integer(i64::MIN),
            Cell::Single(0.1),
            Cell::Double(0.1),
            Cell::Boolean(true),
            Cell::Time(at),
        ];
        let last = vec![
            Cell::Text(String::new()),
            texts(&[]),
            Cell::Integer(7),
            Cell::Null,
            Cell::Double(1.5),
            Cell::Boolean(false),
            Cell::Time(DateTime::UNIX_EPOCH),
        ];
        let file = file(&columns, [first, vec![Cell::Null; 7], last]);
        let read: Vec<String> = rows(file).collect();
        assert_eq!(
            read,
            [
                r#"{text: "naïve 🛫", a list: ["one", "two", ""], integer: -9223372036854775808, single: 0.1, double: 0.1, boolean: true, time: 2015-02-22 00:00:00.123456 +00:00}"#,
                r#"{text: null, a list: null, integer: null, single: null, double: null, boolean: null, time: null}"#,
                r#"{text: "", a list: [], integer: 7, single: null, double: 1.5, boolean: false, time: 1970-01-01 00:00:00.000000 +00:00}"#,
            ]
        );
    }

    #[test]
    fn many_rows_and_long_ones_are_written_in_groups() {
        let count = 2 * ROWS_MAX + 1;
        let numbers = (0..count).map(|n| vec![Cell::Integer(n as i64)]);
        let many = file(&[("n", Kind::Integer)], numbers);
        assert_eq!(many.metadata().num_row_groups(), 3);
        assert!(rows(many).eq((0..count).map(|n| format!("{{n: {n}}}"))));
        let long = (0..3).map(|_| vec![Cell::Text("a".repeat(BYTES_MAX))]);
        assert_eq!(file(&[("text", Kind::Text)], long).metadata().num_row_groups(), 3);
        let none = file(&[("n", Kind::Integer)], []);
        assert_eq!(none.metadata().file_metadata().num_rows(), 0);
    }

    #[test]
    fn what_does_not_fit_its_column_is_an_error() {
        let mut writer = ParquetWriter::new(Vec::new());
        let columns = [Column { name: "n".into(), kind: Kind::Integer }];
        writer.begin(&columns).unwrap();
        assert!(writer.begin(&columns).is_err());
        assert!(writer.row(vec![Cell::Text("one".into())]).is_err());
        assert!(writer.row(vec![]).is_err());
        assert!(ParquetWriter::new(Vec::new()).finish().is_err());
    }
}
