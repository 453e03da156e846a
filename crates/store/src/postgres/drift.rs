//! Comparisons of a day's tweets with those before.

use sqlx::types::Json;

use monitor_core::drift::Report;

use super::PostgresStore;
use crate::{DriftDay, StoreError};

pub(super) async fn record_drift(
    store: &PostgresStore,
    drift: &DriftDay,
) -> Result<(), StoreError> {
    let drifted: Vec<&str> = drift.report.drifted().map(|it| it.measure.as_str()).collect();
    sqlx::query(
        "INSERT INTO drift_days (day, model, drifted, report) VALUES ($1, $2, $3, $4)
         ON CONFLICT (day) DO UPDATE SET model = $2, drifted = $3, report = $4",
    )
    .bind(drift.day)
    .bind(&drift.model)
    .bind(drifted)
    .bind(Json(&drift.report))
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn latest_drift(store: &PostgresStore) -> Result<Option<DriftDay>, StoreError> {
    let found: Option<(_, _, Json<Report>)> =
        sqlx::query_as("SELECT day, model, report FROM drift_days ORDER BY day DESC LIMIT 1")
            .fetch_optional(&store.pool)
            .await?;
    Ok(found.map(|(day, model, Json(report))| DriftDay { day, model, report }))
}
