//! Rows in and out: the statements that several methods share, and what a row becomes.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Acquire, PgConnection, Row};

use crate::domain::{Counts, Evidence, Incident, IncidentId, Minute, Offset, TopicPartition};
use crate::store::{Batch, OutboxRow, StoreError};

/// Separates brand names while they travel to Postgres as one string: `unnest` takes no
/// arrays of arrays.
const UNIT_SEPARATOR: &str = "\u{1f}";

pub(super) fn count(row: &PgRow, column: &str) -> Result<u64, StoreError> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

/// Reads and locks a checkpoint until the transaction ends.
pub(super) async fn checkpoint_for_update(
    connection: &mut PgConnection,
    partition: &TopicPartition,
) -> Result<Option<Offset>, StoreError> {
    let position = sqlx::query_scalar(
        r#"SELECT position FROM checkpoints
           WHERE topic = $1 AND "partition" = $2 FOR UPDATE"#,
    )
    .bind(&*partition.topic)
    .bind(partition.partition)
    .fetch_optional(connection)
    .await?;
    Ok(position.map(Offset))
}

/// Inserts the scores whose tweet is new and adds them to their minutes' counts; answers
/// how many were new.
pub(super) async fn insert_scores(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<u64, StoreError> {
    if batch.scores.is_empty() {
        return Ok(0);
    }
    let mut scores: Vec<_> = batch.scores.iter().collect();
    scores.sort_by(|a, b| a.tweet.id.cmp(&b.tweet.id));
    let new: i64 = sqlx::query_scalar(
        "WITH fresh AS (
             INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model)
             SELECT tweet_id, created_at, string_to_array(brands, $8), text, negative, label, model
             FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::real[],
                         $6::text[], $7::text[])
                  AS r (tweet_id, created_at, brands, text, negative, label, model)
             ON CONFLICT (tweet_id) DO NOTHING
             RETURNING created_at, brands, label
         ), counted AS (
             INSERT INTO minute_counts AS m (brand, minute, total, negative)
             SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute,
                    count(*), count(*) FILTER (WHERE label = 'NEGATIVE')
             FROM fresh, unnest(brands) AS brand
             GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (brand, minute) DO UPDATE
             SET total = m.total + excluded.total, negative = m.negative + excluded.negative
         )
         SELECT count(*) FROM fresh",
    )
    .bind(scores.iter().map(|s| s.tweet.id.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.tweet.created_at).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.brands.join(UNIT_SEPARATOR)).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.tweet.text.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.score.negative.get()).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.score.label.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.model.as_str()).collect::<Vec<_>>())
    .bind(UNIT_SEPARATOR)
    .fetch_one(connection.acquire().await?)
    .await?;
    Ok(new.unsigned_abs())
}

/// Inserts the dead letters; answers how many were new.
pub(super) async fn insert_dead_letters(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<u64, StoreError> {
    if batch.dead_letters.is_empty() {
        return Ok(0);
    }
    let letters = &batch.dead_letters;
    let inserted = sqlx::query(
        r#"INSERT INTO dead_letters (topic, "partition", "offset", reason, payload, payload_bytes)
           SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bytea[],
                                $6::bigint[])
           ON CONFLICT DO NOTHING"#,
    )
    .bind(letters.iter().map(|d| &*d.partition.topic).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.partition.partition).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.offset.0).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.reason.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload.as_slice()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload_bytes.cast_signed()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

pub(super) async fn open_incident(
    connection: &mut PgConnection,
    brand: &str,
    minute: Minute,
    evidence: &Evidence,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO incidents (brand, opened_at, window_minutes, observed_total,
             observed_negative, baseline_total, baseline_negative, expected_share, z, z_min)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
    )
    .bind(brand)
    .bind(minute.start())
    .bind(evidence.window_minutes.cast_signed())
    .bind(evidence.observed.total.cast_signed())
    .bind(evidence.observed.negative.cast_signed())
    .bind(evidence.baseline.total.cast_signed())
    .bind(evidence.baseline.negative.cast_signed())
    .bind(evidence.expected_share)
    .bind(evidence.z)
    .bind(evidence.z_min)
    .fetch_one(connection)
    .await?)
}

pub(super) fn outbox_row(row: &PgRow) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        receiver: row.try_get("receiver")?,
        notification: row.try_get::<Json<_>, _>("notification")?.0,
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
    })
}

pub(super) fn incident(row: &PgRow) -> Result<Incident, StoreError> {
    Ok(Incident {
        id: IncidentId(row.try_get("id")?),
        brand: row.try_get("brand")?,
        opened: Minute::of(row.try_get("opened_at")?),
        resolved: row.try_get::<Option<DateTime<Utc>>, _>("resolved_at")?.map(Minute::of),
        evidence: Evidence {
            window_minutes: row.try_get::<i32, _>("window_minutes")?.unsigned_abs(),
            observed: Counts {
                total: count(row, "observed_total")?,
                negative: count(row, "observed_negative")?,
            },
            baseline: Counts {
                total: count(row, "baseline_total")?,
                negative: count(row, "baseline_negative")?,
            },
            expected_share: row.try_get("expected_share")?,
            z: row.try_get("z")?,
            z_min: row.try_get("z_min")?,
        },
    })
}
