//! Leases, results and requeues of the outbox.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::PostgresStore;
use crate::{DeadNotification, Example, OutboxRow, OutboxState, StoreError};
use monitor_core::domain::IncidentId;

/// The caller's time `$1` by Postgres' clock, where `$2` is the time by this host's clock. Hosts' clocks
/// differ: one that is a minute ahead would take rows that another is sending. A second of difference
/// is the way to Postgres and back.
const NOW: &str = "(CASE WHEN clock_timestamp() - $2 BETWEEN '-1 s' AND '1 s' THEN $1
                    ELSE $1 + (clock_timestamp() - $2) END)";

pub(super) async fn time(
    store: &PostgresStore,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, StoreError> {
    let time = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {NOW}")));
    Ok(time.bind(now).bind(store.clock.now()).fetch_one(&store.pool).await?)
}

/// If a receiver got `resolved` before `opened`, it would show the incident as open. So a
/// `resolved` waits until all earlier rows of its thread are sent or dead. So does a `reopened`, which
/// would otherwise overtake a `resolved`. An update does not
/// wait: it may say that an incident whose opening is held until the morning is now critical.
pub(super) async fn outbox_lease(
    store: &PostgresStore,
    now: DateTime<Utc>,
    lease: Duration,
    limit: u32,
    resting: &[String],
    sending: &[i64],
) -> Result<Vec<OutboxRow>, StoreError> {
    let mut connection = store.pool.acquire().await?;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "UPDATE outbox SET attempts = attempts + 1, due_at = {NOW} + $5
         WHERE id IN (
             SELECT id FROM outbox AS late
             WHERE state = 'pending' AND due_at <= {NOW} AND receiver <> ALL ($4) AND id <> ALL ($6)
               AND (coalesce(transition, '') NOT IN ('resolved', 'reopened') OR NOT EXISTS (
                   SELECT 1 FROM outbox AS early
                   WHERE early.state = 'pending' AND early.thread = late.thread
                     AND early.id < late.id))
             ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
         )
         RETURNING id, key, receiver, notification, attempts"
    )))
    .bind(now)
    .bind(store.clock.now())
    .bind(i64::from(limit))
    .bind(resting)
    .bind(lease)
    .bind(sending)
    .fetch_all(&mut *connection)
    .await?;
    let mut leased: Vec<_> = rows
        .iter()
        .filter_map(|row| match outbox_row(row) {
            Ok(row) => Some(row),
            // An unreadable row must not block the others.
            Err(error) => {
                tracing::error!(%error, "a row of the outbox cannot be read; it stays pending");
                None
            }
        })
        .collect();
    leased.sort_by_key(|row| row.id);
    Ok(leased)
}

fn outbox_row(row: &PgRow) -> Result<OutboxRow, sqlx::Error> {
    Ok(OutboxRow {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        receiver: row.try_get("receiver")?,
        notification: row.try_get::<Json<_>, _>("notification")?.0,
        attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
    })
}

/// Each step has the key of the first one as its thread, and keys are indexed.
pub(super) async fn examples(
    store: &PostgresStore,
    id: IncidentId,
) -> Result<Vec<Example>, StoreError> {
    let row = sqlx::query(
        "SELECT first.notification -> 'examples' AS examples
         FROM incident_receivers AS r JOIN outbox AS first ON first.key = r.thread_key
         WHERE r.incident_id = $1 AND (first.notification ->> 'incident_id')::bigint = $1
         ORDER BY first.id LIMIT 1",
    )
    .bind(id.0)
    .fetch_optional(&store.pool)
    .await?;
    let Some(row) = row else { return Ok(Vec::new()) };
    Ok(row.try_get::<Json<_>, _>("examples")?.0)
}

pub(super) async fn outbox_record(
    store: &PostgresStore,
    row: i64,
    attempt: u32,
    now: DateTime<Utc>,
    state: &OutboxState,
) -> Result<(), StoreError> {
    let (word, wait, error) = match state {
        OutboxState::Sent => ("sent", None, None),
        OutboxState::Retry { at, error } => {
            // An interval of Postgres has whole microseconds.
            let wait_us = (*at - now).num_microseconds().unwrap_or(i64::MAX);
            ("pending", Some(TimeDelta::microseconds(wait_us)), Some(error))
        }
        OutboxState::Dead { error } => ("dead", None, Some(error)),
    };
    // Postgres has no NUL in text.
    let error = error.map(|error| error.replace('\0', "\u{FFFD}"));
    let mut connection = store.pool.acquire().await?;
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE outbox SET state = $3, due_at = coalesce({NOW} + $4, due_at),
                last_error = coalesce($5, last_error),
                ended_at = CASE WHEN $3 = 'pending' THEN NULL ELSE {NOW} END
         WHERE id = $6 AND state = 'pending' AND attempts = $7"
    )))
    .bind(now)
    .bind(store.clock.now())
    .bind(word)
    .bind(wait)
    .bind(error)
    .bind(row)
    .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

pub(super) async fn dead_notifications(
    store: &PostgresStore,
    limit: u32,
) -> Result<Vec<DeadNotification>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, key, receiver, attempts, coalesce(last_error, '') AS error,
                coalesce(ended_at, created_at) AS ended_at
         FROM outbox WHERE state = 'dead'
         ORDER BY coalesce(ended_at, created_at), id LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(DeadNotification {
                id: row.try_get("id")?,
                key: row.try_get("key")?,
                receiver: row.try_get("receiver")?,
                attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
                error: row.try_get("error")?,
                ended_at: row.try_get("ended_at")?,
            })
        })
        .collect()
}

/// The last error stays: it shows that the receiver may know the key. A `resolved` that was
/// sent already is sent again after the requeued rows of its thread; otherwise the receiver
/// would show the incident as open.
pub(super) async fn requeue(
    store: &PostgresStore,
    row: Option<i64>,
    receiver: Option<&str>,
) -> Result<u64, StoreError> {
    let requeued: i64 = sqlx::query_scalar(
        "WITH requeued AS (
             UPDATE outbox
             SET state = 'pending', attempts = 0, due_at = '-infinity', ended_at = NULL
             WHERE state = 'dead'
               AND ($1::bigint IS NULL OR id = $1) AND ($2::text IS NULL OR receiver = $2)
             RETURNING id, thread, receiver
         ), sent_again AS (
             UPDATE outbox AS late
             SET state = 'pending', attempts = 0, due_at = '-infinity', ended_at = NULL
             FROM requeued
             WHERE late.state = 'sent' AND late.transition = 'resolved'
               AND late.thread = requeued.thread AND late.receiver = requeued.receiver
               AND late.id > requeued.id
         )
         SELECT count(*) FROM requeued",
    )
    .bind(row)
    .bind(receiver)
    .fetch_one(&store.pool)
    .await?;
    Ok(requeued.unsigned_abs())
}
