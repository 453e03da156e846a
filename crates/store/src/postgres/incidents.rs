//! Incidents, their histories, and silences.
//!
//! Unreadable evidence (Monitor never writes any) must not hide an incident, or a second one
//! would be opened: it is replaced by empty evidence, and logged. An incident of a cause that
//! this version does not know is left out.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row};

use super::PostgresStore;
use crate::{Event, Silence, StoreError, Suppressed};
use monitor_core::domain::{
    Acknowledgement, Cause, Counts, Evidence, Incident, IncidentId, Interval, LagEvidence, Minute,
    Phase, QuietEvidence, Severity, ShareEvidence, VolumeEvidence, Watch,
};

pub(super) async fn incidents_since(
    store: &PostgresStore,
    brand: &str,
    watch: Watch,
    from: Minute,
) -> Result<Vec<Incident>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM incidents
         WHERE brand = $1 AND watch = $2 AND (resolved_at IS NULL OR resolved_at >= $3)
         ORDER BY opened_at, id",
    )
    .bind(brand)
    .bind(watch.as_str())
    .bind(from.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().filter_map(|row| read_incident(row).transpose()).collect()
}

pub(super) async fn incidents(
    store: &PostgresStore,
    limit: u32,
) -> Result<Vec<Incident>, StoreError> {
    let rows = sqlx::query(
        "WITH latest AS (SELECT * FROM incidents ORDER BY opened_at DESC, id DESC LIMIT $1)
         SELECT * FROM latest
         UNION ALL
         SELECT * FROM incidents
         WHERE resolved_at IS NULL AND id NOT IN (SELECT id FROM latest)
         ORDER BY opened_at DESC, id DESC",
    )
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter().filter_map(|row| read_incident(row).transpose()).collect()
}

pub(super) async fn incident(
    store: &PostgresStore,
    id: IncidentId,
) -> Result<Option<Incident>, StoreError> {
    let row = sqlx::query("SELECT * FROM incidents WHERE id = $1")
        .bind(id.0)
        .fetch_optional(&store.pool)
        .await?;
    Ok(row.as_ref().map(read_incident).transpose()?.flatten())
}

pub(super) async fn events(
    store: &PostgresStore,
    id: IncidentId,
) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query("SELECT * FROM incident_events WHERE incident_id = $1 ORDER BY id")
        .bind(id.0)
        .fetch_all(&store.pool)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Event {
                kind: row.try_get("kind")?,
                at: row.try_get("at")?,
                severity: severity(row)?,
                who: row.try_get("who")?,
                note: row.try_get("note")?,
                notified: row.try_get("told")?,
                suppressed: suppressed(row)?,
            })
        })
        .collect()
}

/// Reasons that this version does not know are left out.
fn suppressed(row: &PgRow) -> Result<Vec<Suppressed>, StoreError> {
    let stored: Option<Json<Vec<serde_json::Value>>> = row.try_get("suppressed")?;
    let stored = stored.map(|Json(stored)| stored).unwrap_or_default();
    Ok(stored.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

pub(super) async fn acknowledge(
    store: &PostgresStore,
    id: IncidentId,
    acknowledgement: &Acknowledgement,
) -> Result<bool, StoreError> {
    acknowledge_by(&store.pool, id, acknowledgement).await
}

/// As [`acknowledge`], over a connection that may be in a transaction.
pub(super) async fn acknowledge_by(
    executor: impl PgExecutor<'_>,
    id: IncidentId,
    acknowledgement: &Acknowledgement,
) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "WITH acknowledged AS (
             UPDATE incidents
             SET acknowledged_at = $2, acknowledged_by = $3, acknowledged_note = $4
             WHERE id = $1 RETURNING id, severity
         )
         INSERT INTO incident_events (incident_id, kind, at, severity, who, note)
         SELECT id, 'acknowledged', $2, severity, $3, $4 FROM acknowledged",
    )
    .bind(id.0)
    .bind(acknowledgement.at)
    .bind(&acknowledgement.by)
    .bind(&acknowledgement.note)
    .execute(executor)
    .await?;
    Ok(written.rows_affected() == 1)
}

pub(super) async fn silences(
    store: &PostgresStore,
    now: DateTime<Utc>,
) -> Result<Vec<Silence>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, brand, starts_at, ends_at, reason, who FROM silences
         WHERE ends_at > $1 AND ends_at > starts_at ORDER BY id",
    )
    .bind(now)
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Silence {
                id: row.try_get("id")?,
                brand: row.try_get("brand")?,
                starts_at: row.try_get("starts_at")?,
                ends_at: row.try_get("ends_at")?,
                reason: row.try_get("reason")?,
                who: row.try_get("who")?,
            })
        })
        .collect()
}

pub(super) async fn silence(store: &PostgresStore, silence: &Silence) -> Result<i64, StoreError> {
    silence_by(&store.pool, silence).await
}

/// As [`silence`], over a connection that may be in a transaction.
pub(super) async fn silence_by(
    executor: impl PgExecutor<'_>,
    silence: &Silence,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO silences (brand, starts_at, ends_at, reason, who)
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(&silence.brand)
    .bind(silence.starts_at)
    .bind(silence.ends_at)
    .bind(&silence.reason)
    .bind(&silence.who)
    .fetch_one(executor)
    .await?)
}

pub(super) async fn end_silence(
    store: &PostgresStore,
    id: i64,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(
        "UPDATE silences SET ends_at = greatest(starts_at, $2)
         WHERE id = $1 AND ends_at > $2 AND ends_at > starts_at",
    )
    .bind(id)
    .bind(now)
    .execute(&store.pool)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// `None` if this version does not know the cause.
pub(super) fn read_incident(row: &PgRow) -> Result<Option<Incident>, StoreError> {
    let id: i64 = row.try_get("id")?;
    let word: String = row.try_get("cause")?;
    let Some(cause) = Cause::parse(&word) else {
        tracing::warn!(id, cause = word, "an incident of an unknown cause is left out");
        return Ok(None);
    };
    let opened = Minute::of(row.try_get("opened_at")?);
    let evidence = match row.try_get::<Json<Evidence>, _>("evidence") {
        Ok(Json(evidence)) if evidence.cause() == cause => evidence,
        unreadable => {
            let error = unreadable.err().map(|error| error.to_string());
            tracing::warn!(id, error, "an incident's evidence cannot be read");
            no_evidence(cause, opened)
        }
    };
    let acknowledged = match row.try_get("acknowledged_at")? {
        Some(at) => Some(Acknowledgement {
            at,
            by: row.try_get::<Option<_>, _>("acknowledged_by")?.unwrap_or_default(),
            note: row.try_get::<Option<_>, _>("acknowledged_note")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Some(Incident {
        id: IncidentId(id),
        brand: row.try_get("brand")?,
        severity: severity(row)?,
        opened,
        resolved: row.try_get::<Option<DateTime<Utc>>, _>("resolved_at")?.map(Minute::of),
        acknowledged,
        evidence,
        phases: phases(row)?,
        missed: row.try_get("missed")?,
    }))
}

/// Phases that this version cannot read are left out.
fn phases(row: &PgRow) -> Result<Vec<Phase>, StoreError> {
    let Json(stored): Json<Vec<serde_json::Value>> = row.try_get("phases")?;
    Ok(stored.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

/// Replaces unreadable evidence.
fn no_evidence(cause: Cause, opened: Minute) -> Evidence {
    match cause {
        Cause::Share => Evidence::Share(ShareEvidence {
            rule: "unreadable",
            since: opened,
            window_minutes: 1,
            observed: Counts::default(),
            observed_interval: Interval::default(),
            recent_minutes: 0,
            recent: Counts::default(),
            baseline: Counts::default(),
            expected_share: 0.0,
            expected_interval: Interval::default(),
            statistic: 0.0,
            threshold: 0.0,
            dispersion: 1.0,
        }),
        Cause::NegativeVolume => Evidence::NegativeVolume(no_volume(opened)),
        Cause::Surge => Evidence::Surge(no_volume(opened)),
        Cause::Quiet => Evidence::Quiet(no_quiet()),
        Cause::BrandQuiet => Evidence::BrandQuiet(no_quiet()),
        Cause::Lag => Evidence::Lag(LagEvidence { behind_minutes: 0, limit_minutes: 0 }),
    }
}

fn no_quiet() -> QuietEvidence {
    QuietEvidence { last: None, minutes: 0, expected_tweets: 0.0, limit_minutes: 0 }
}

fn no_volume(opened: Minute) -> VolumeEvidence {
    VolumeEvidence {
        since: opened,
        observed: 0,
        expected: 0.0,
        tweets: Counts::default(),
        usual_share: 0.0,
        statistic: 0.0,
        threshold: 0.0,
    }
}

/// A severity that this version does not know counts as the worst.
pub(super) fn severity(row: &PgRow) -> Result<Severity, StoreError> {
    let word: String = row.try_get("severity")?;
    Ok(Severity::parse(&word).unwrap_or(Severity::Critical))
}
