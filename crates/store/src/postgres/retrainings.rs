//! Trainings that the settings ask for.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use crate::{RetrainOutcome, RetrainReason, Retraining, StoreError};

pub(super) async fn retrainings(
    store: &PostgresStore,
    limit: u32,
) -> Result<Vec<Retraining>, StoreError> {
    let rows = sqlx::query("SELECT * FROM retrainings ORDER BY id DESC LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn begin_retraining(
    store: &PostgresStore,
    reason: RetrainReason,
    due_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Retraining>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO retrainings (reason, due_at, started_at) VALUES ($1, $2, $3)
         ON CONFLICT (reason, due_at) DO NOTHING RETURNING *",
    )
    .bind(reason.as_str())
    .bind(due_at)
    .bind(now)
    .fetch_optional(&store.pool)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn put_retraining(
    store: &PostgresStore,
    retraining: &Retraining,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE retrainings SET attempts = $2, model = $3, outcome = $4, ended_at = $5, note = $6
         WHERE id = $1",
    )
    .bind(retraining.id)
    .bind(retraining.attempts.cast_signed())
    .bind(&retraining.model)
    .bind(retraining.ended.map(|(outcome, _)| outcome.as_str()))
    .bind(retraining.ended.map(|(_, at)| at))
    .bind(&retraining.note)
    .execute(&store.pool)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<Retraining, StoreError> {
    let unknown = |word: String| sqlx::Error::Decode(format!("{word:?} is not known").into());
    let reason: String = row.try_get("reason")?;
    let reason = (RetrainReason::ALL.into_iter().find(|it| it.as_str() == reason))
        .ok_or_else(|| unknown(reason))?;
    let outcome: Option<String> = row.try_get("outcome")?;
    let outcome = outcome.map(|word| {
        let found = RetrainOutcome::ALL.into_iter().find(|it| it.as_str() == word);
        found.ok_or_else(|| unknown(word))
    });
    let attempts: i32 = row.try_get("attempts")?;
    Ok(Retraining {
        id: row.try_get("id")?,
        reason,
        due_at: row.try_get("due_at")?,
        started_at: row.try_get("started_at")?,
        attempts: attempts.unsigned_abs(),
        model: row.try_get("model")?,
        ended: outcome.transpose()?.zip(row.try_get("ended_at")?),
        note: row.try_get("note")?,
    })
}
