//! Incidents that were over when they were found, and the digest that tells of them.

use sqlx::types::Json;

use super::PostgresStore;
use super::incidents::read_incident;
use crate::{Addressed, StoreError};
use monitor_core::domain::{Incident, IncidentId};

pub(super) async fn missed(store: &PostgresStore, limit: u32) -> Result<Vec<Incident>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM incidents WHERE missed AND resolved_at IS NOT NULL
         ORDER BY opened_at, id LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter().filter_map(|row| read_incident(row).transpose()).collect()
}

pub(super) async fn tell_missed(
    store: &PostgresStore,
    incidents: &[IncidentId],
    notifications: &[Addressed],
) -> Result<bool, StoreError> {
    let mut tx = store.pool.begin().await?;
    let ids: Vec<i64> = incidents.iter().map(|id| id.0).collect();
    let told = sqlx::query(
        "UPDATE incidents SET missed = false
         WHERE id = ANY ($1) AND missed AND resolved_at IS NOT NULL",
    )
    .bind(&ids)
    .execute(&mut *tx)
    .await?;
    if told.rows_affected() != ids.len() as u64 {
        return Ok(false);
    }
    for addressed in notifications {
        sqlx::query(
            "INSERT INTO outbox (key, receiver, notification, due_at)
             VALUES ($1, $2, $3, coalesce($4, '-infinity')) ON CONFLICT (key) DO NOTHING",
        )
        .bind(&addressed.notification.thread)
        .bind(&addressed.receiver)
        .bind(Json(&addressed.notification))
        .bind(addressed.not_before)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}
