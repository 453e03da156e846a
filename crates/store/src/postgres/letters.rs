//! Dead letters, for the people who look after them.
//!
//! **Invariant.** Nothing but [`PostgresStore::delete_dead_letters`] and [`PostgresStore::prune`] removes a dead letter. The
//! numbers in `checkpoints` and `dead_letter_counts` are of all that there ever were, also of those of which only a
//! sample is kept. Deliberately absent: writing them, which is part of a commit.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::{PostgresStore, count};
use crate::StoreError;
use monitor_core::domain::{Offset, TopicPartition};

/// Which dead letters are meant; all of its conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Part of the reason, in any case.
    pub reason: Option<String>,
    /// Stored at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Stored before this time.
    pub before: Option<DateTime<Utc>>,
    /// The one of this record.
    pub place: Option<(TopicPartition, Offset)>,
}

/// A stored dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    /// The record's partition.
    pub partition: TopicPartition,
    /// The record's offset.
    pub offset: Offset,
    /// Why it is not a tweet.
    pub reason: String,
    /// The beginning of its payload.
    pub payload: Vec<u8>,
    /// Length of the whole payload, in bytes.
    pub payload_bytes: u64,
    /// When it was stored.
    pub seen_at: DateTime<Utc>,
}

/// A statement on the dead letters of a filter, whose values are `$1` to `$6`.
macro_rules! on_letters {
    ($begin:literal, $end:literal) => {
        concat!(
            $begin,
            r#" WHERE ($1::text IS NULL OR strpos(lower(reason), lower($1)) > 0)
                  AND ($2::timestamptz IS NULL OR seen_at >= $2)
                  AND ($3::timestamptz IS NULL OR seen_at < $3)
                  AND ($4::text IS NULL OR (topic = $4 AND "partition" = $5 AND "offset" = $6)) "#,
            $end
        )
    };
}

fn bound<'q>(
    sql: &'static str,
    filter: &'q LetterFilter,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let place = filter.place.as_ref();
    sqlx::query(sql)
        .bind(filter.reason.as_deref())
        .bind(filter.since)
        .bind(filter.before)
        .bind(place.map(|(partition, _)| &*partition.topic))
        .bind(place.map(|(partition, _)| partition.partition))
        .bind(place.map(|(_, offset)| offset.0))
}

impl PostgresStore {
    /// The dead letters of a filter, newest first, at most `limit`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn dead_letters(
        &self,
        filter: &LetterFilter,
        limit: u32,
    ) -> Result<Vec<StoredLetter>, StoreError> {
        let sql = on_letters!(
            r#"SELECT topic, "partition", "offset", reason, payload, payload_bytes, seen_at FROM dead_letters"#,
            r#"ORDER BY seen_at DESC, topic, "partition", "offset" DESC LIMIT $7"#
        );
        let rows = bound(sql, filter).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(letter).collect()
    }

    /// How many dead letters of a filter have each reason, most frequent first, at most `limit` reasons.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn dead_letter_reasons(
        &self,
        filter: &LetterFilter,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = on_letters!(
            "SELECT reason, count(*) AS letters FROM dead_letters",
            "GROUP BY reason ORDER BY letters DESC, reason LIMIT $7"
        );
        let rows = bound(sql, filter).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get("reason")?, count(row, "letters")?))).collect()
    }

    /// Deletes the dead letters of a filter; returns how many there were.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn delete_dead_letters(&self, filter: &LetterFilter) -> Result<u64, StoreError> {
        let sql = on_letters!("DELETE FROM dead_letters", "");
        Ok(bound(sql, filter).execute(&self.pool).await?.rows_affected())
    }
}

fn letter(row: &PgRow) -> Result<StoredLetter, StoreError> {
    let topic: String = row.try_get("topic")?;
    Ok(StoredLetter {
        partition: TopicPartition::new(topic, row.try_get("partition")?),
        offset: Offset(row.try_get("offset")?),
        reason: row.try_get("reason")?,
        payload: row.try_get("payload")?,
        payload_bytes: count(row, "payload_bytes")?,
        seen_at: row.try_get("seen_at")?,
    })
}
