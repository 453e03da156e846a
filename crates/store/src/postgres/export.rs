//! Writes stored rows as CSV, or passes them on with their types.
//!
//! **Invariant.** Postgres makes the CSV (`COPY`). In the order of time, rows are passed on as they come: memory is
//! bounded however many there are. Deliberately absent: files; the caller opens them.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::types::JsonValue;
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Executor, Row, SqlSafeStr, Statement, TypeInfo,
};

use monitor_core::table::{Cell, Column, Kind, Table};

use super::PostgresStore;
use crate::StoreError;

/// Which rows to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// `tweets`, or a view by time: see [`Rows::KINDS`].
    pub kind: &'static str,
    /// Start, in event time.
    pub from: DateTime<Utc>,
    /// End, exclusive.
    pub to: DateTime<Utc>,
    /// One brand; `None` is all tweets, also those about no brand.
    pub brand: Option<String>,
}

impl Rows {
    /// What can be exported, each with its column of time.
    pub const KINDS: [(&'static str, &'static str); 5] = [
        ("tweets", "created_at"),
        ("share_per_minute", "minute"),
        ("share_per_hour", "hour"),
        ("share_per_day", "day"),
        ("incidents", "opened_at"),
    ];

    /// The query, with its values in it: `COPY` takes no parameters.
    fn query(&self) -> String {
        let time = Self::KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |it| it.1);
        let literal = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let table = match (self.kind, &self.brand) {
            ("tweets", None) => "scores",
            ("tweets", Some(_)) => "brand_tweets",
            (view, _) => view,
        };
        let brand = self.brand.as_ref().map_or(String::new(), |brand| {
            format!(" AND brand = E'{}'", brand.replace('\\', r"\\").replace('\'', r"\'"))
        });
        format!(
            "SELECT * FROM {table} WHERE {time} >= '{}' AND {time} < '{}'{brand} ORDER BY {time}",
            literal(self.from),
            literal(self.to)
        )
    }
}

pub(super) async fn csv(
    store: &PostgresStore,
    rows: &Rows,
    out: &mut (dyn Write + Send),
) -> Result<u64, StoreError> {
    let mut connection = store.patient().await?;
    let copy = format!("COPY ({}) TO STDOUT (FORMAT csv, HEADER)", rows.query());
    let mut bytes = 0;
    let mut chunks = connection.copy_out_raw(&copy).await?;
    while let Some(chunk) = chunks.try_next().await? {
        match out.write_all(&chunk) {
            // Who reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(bytes),
            outcome => outcome.map_err(StoreError::Write)?,
        }
        bytes += chunk.len() as u64;
    }
    drop(chunks);
    out.flush().map_err(StoreError::Write)?;
    connection.close().await?;
    Ok(bytes)
}

pub(super) async fn typed(
    store: &PostgresStore,
    rows: &Rows,
    out: &mut (dyn Table + Send),
) -> Result<u64, StoreError> {
    let mut connection = store.patient().await?;
    let query = AssertSqlSafe(rows.query()).into_sql_str();
    let statement = (&mut connection).prepare(query).await?;
    let column = |column: &<sqlx::Postgres as sqlx::Database>::Column| {
        let (name, kind) = (column.name().to_owned(), kind(column.type_info().name()));
        let problem = || io::Error::other(format!("no kind of column is known for {name}"));
        Ok(Column { kind: kind.ok_or_else(problem)?, name })
    };
    let columns = statement.columns().iter().map(column).collect::<io::Result<Vec<_>>>();
    let columns = columns.map_err(StoreError::Write)?;
    out.begin(&columns).map_err(StoreError::Write)?;
    let mut count = 0;
    let mut found = statement.query().fetch(&mut connection);
    while let Some(row) = found.try_next().await? {
        let cells = columns.iter().enumerate().map(|(at, column)| cell(&row, at, column.kind));
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        out.row(cells).map_err(StoreError::Write)?;
        count += 1;
    }
    drop(found);
    connection.close().await?;
    Ok(count)
}

/// What a type of Postgres is in a file; `None` for types that no exported row has.
fn kind(postgres: &str) -> Option<Kind> {
    Some(match postgres {
        "TEXT" | "JSONB" => Kind::Text,
        "TEXT[]" => Kind::Texts,
        "INT8" => Kind::Integer,
        "FLOAT4" => Kind::Single,
        "FLOAT8" => Kind::Double,
        "BOOL" => Kind::Boolean,
        "TIMESTAMPTZ" => Kind::Time,
        _ => return None,
    })
}

fn cell(row: &PgRow, at: usize, kind: Kind) -> Result<Cell, sqlx::Error> {
    let is_json = row.column(at).type_info().name() == "JSONB";
    let found = match kind {
        Kind::Text if is_json => {
            let value: Option<JsonValue> = row.try_get(at)?;
            value.map(|value| Cell::Text(value.to_string()))
        }
        Kind::Text => row.try_get::<Option<_>, _>(at)?.map(Cell::Text),
        Kind::Texts => row.try_get::<Option<_>, _>(at)?.map(Cell::Texts),
        Kind::Integer => row.try_get::<Option<_>, _>(at)?.map(Cell::Integer),
        Kind::Single => row.try_get::<Option<_>, _>(at)?.map(Cell::Single),
        Kind::Double => row.try_get::<Option<_>, _>(at)?.map(Cell::Double),
        Kind::Boolean => row.try_get::<Option<_>, _>(at)?.map(Cell::Boolean),
        Kind::Time => row.try_get::<Option<_>, _>(at)?.map(Cell::Time),
    };
    Ok(found.unwrap_or(Cell::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let (from, to) = (at("2026-11-01T00:00:00Z"), at("2026-11-02T00:00:00Z"));
        let rows =
            |kind, brand: Option<&str>| Rows { kind, from, to, brand: brand.map(str::to_owned) };
        assert_eq!(
            rows("share_per_day", Some(r"O'Neill \")).query(),
            r"SELECT * FROM share_per_day WHERE day >= '2026-11-01T00:00:00.000000Z' AND day < '2026-11-02T00:00:00.000000Z' AND brand = E'O\'Neill \\' ORDER BY day"
        );
        assert!(rows("tweets", None).query().starts_with("SELECT * FROM scores WHERE created_at"));
        assert!(rows("tweets", Some("a")).query().contains(" FROM brand_tweets "));
    }
}
