//! A table with typed columns, on its way to a file.
//!
//! **Invariant.** Each row has a cell for each column, of the column's kind or null.

use std::io;

use chrono::{DateTime, Utc};

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Lists of texts.
    Texts,
    /// Whole numbers of 64 bits.
    Integer,
    /// Numbers in single precision.
    Single,
    /// Numbers in double precision.
    Double,
    /// Yes or no.
    Boolean,
    /// Times, to the microsecond.
    Time,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its cells are.
    pub kind: Kind,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Texts`].
    Texts(Vec<String>),
    /// See [`Kind::Integer`].
    Integer(i64),
    /// See [`Kind::Single`].
    Single(f32),
    /// See [`Kind::Double`].
    Double(f64),
    /// See [`Kind::Boolean`].
    Boolean(bool),
    /// See [`Kind::Time`].
    Time(DateTime<Utc>),
}

/// Takes a table: its columns once, then its rows.
pub trait Table {
    /// The columns, before any row.
    ///
    /// # Errors
    /// The table cannot be written.
    fn begin(&mut self, columns: &[Column]) -> io::Result<()>;

    /// A row.
    ///
    /// # Errors
    /// The table cannot be written.
    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()>;
}
