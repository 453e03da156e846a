//! Rows for `COPY ... FROM STDIN (FORMAT binary)`, which writes them faster than `INSERT` does.
//!
//! The format: PostgreSQL's documentation of COPY, "Binary Format". Each value is encoded as sqlx sends it.

use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::PgArgumentBuffer;
use sqlx::{PgConnection, Postgres};

/// The signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const NULL: i32 = -1;

/// Rows of one table.
pub(super) struct Rows {
    buffer: PgArgumentBuffer,
    /// Where the number of values of the current row stands, and that number.
    row_at: usize,
    values: i16,
}

impl Rows {
    pub fn new() -> Self {
        let mut buffer = PgArgumentBuffer::default();
        buffer.extend_from_slice(HEADER);
        Self { buffer, row_at: HEADER.len(), values: 0 }
    }

    /// Begins a row.
    pub fn row(&mut self) {
        (self.row_at, self.values) = (self.buffer.len(), 0);
        self.buffer.extend_from_slice(&self.values.to_be_bytes());
    }

    /// The next value of the row.
    pub fn value<'q>(&mut self, value: impl Encode<'q, Postgres>) -> Result<(), sqlx::Error> {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&NULL.to_be_bytes());
        if let IsNull::No = value.encode(&mut self.buffer).map_err(sqlx::Error::Encode)? {
            let length = i32::try_from(self.buffer.len() - at - size_of_val(&NULL))
                .map_err(|error| sqlx::Error::Encode(error.into()))?;
            self.buffer[at..][..size_of_val(&NULL)].copy_from_slice(&length.to_be_bytes());
        }
        self.values += 1;
        self.buffer[self.row_at..][..size_of_val(&self.values)]
            .copy_from_slice(&self.values.to_be_bytes());
        Ok(())
    }

    /// Writes them all; `into` names the table and its columns.
    pub async fn copy(
        mut self,
        connection: &mut PgConnection,
        into: &str,
    ) -> Result<(), sqlx::Error> {
        self.buffer.extend_from_slice(&END.to_be_bytes());
        let mut copy =
            connection.copy_in_raw(&format!("COPY {into} FROM STDIN (FORMAT binary)")).await?;
        copy.send(self.buffer.as_slice()).await?;
        copy.finish().await?;
        Ok(())
    }
}
