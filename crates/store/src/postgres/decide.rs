//! Reads the detector state that a decision starts from, and writes the decision.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::PostgresStore;
use super::incidents::{read_incident, severity};
use crate::{Decision, DetectorState, Step, StoreError};
use monitor_core::alerting::{OutboxWrite, PendingRow, plan_outbox};
use monitor_core::domain::{IncidentId, Minute, Notified, Severity, Transition, Watch};

pub(super) async fn detector_state(
    store: &PostgresStore,
    brand: &str,
    watch: Watch,
) -> Result<Option<DetectorState>, StoreError> {
    let mut tx = store.pool.begin().await?;
    // Read first: if another daemon decides between this query and the next ones, it changes
    // `judged`, and the decision based on this state is refused.
    let Some(row) =
        sqlx::query("SELECT judged, state FROM watches WHERE brand = $1 AND cause = $2")
            .bind(brand)
            .bind(watch.as_str())
            .fetch_optional(&mut *tx)
            .await?
    else {
        return Ok(None);
    };
    let latest = sqlx::query(
        "SELECT * FROM incidents WHERE brand = $1 AND watch = $2
         ORDER BY (resolved_at IS NULL) DESC, opened_at DESC, id DESC LIMIT 1",
    )
    .bind(brand)
    .bind(watch.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let latest = latest.as_ref().map(read_incident).transpose()?.flatten();
    let notified = sqlx::query(
        r#"SELECT receiver, told_at, severity FROM incident_receivers
           WHERE incident_id = $1 ORDER BY receiver COLLATE "C""#,
    )
    .bind(latest.as_ref().map(|incident| incident.id.0))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let (open, last) = match latest {
        Some(incident) if incident.resolved.is_none() => (Some(incident), None),
        other => (None, other),
    };
    Ok(Some(DetectorState {
        evaluated: Minute::of(row.try_get("judged")?),
        state: row.try_get("state")?,
        open,
        last,
        notified: notified
            .iter()
            .map(|row| {
                Ok(Notified {
                    receiver: row.try_get("receiver")?,
                    at: Minute::of(row.try_get("told_at")?),
                    severity: severity(row)?,
                })
            })
            .collect::<Result<_, StoreError>>()?,
    }))
}

pub(super) async fn decide(
    store: &PostgresStore,
    decision: &Decision,
) -> Result<Option<IncidentId>, StoreError> {
    let mut tx = store.pool.begin().await?;
    advance(&mut tx, decision).await?;
    let id = match &decision.step {
        Some(step) => Some(write_step(&mut tx, decision, step).await?),
        None => None,
    };
    tx.commit().await?;
    Ok(id)
}

/// Advances the detector state, unless another daemon has done so.
async fn advance(connection: &mut PgConnection, decision: &Decision) -> Result<(), StoreError> {
    let moved = match decision.evaluated_before {
        None => sqlx::query(
            "INSERT INTO watches (brand, cause, judged, state) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        ),
        Some(_) => sqlx::query(
            "UPDATE watches SET judged = $3, state = $4
             WHERE brand = $1 AND cause = $2 AND judged = $5",
        ),
    };
    let moved = moved
        .bind(&decision.brand)
        .bind(decision.watch.as_str())
        .bind(decision.evaluated.start())
        .bind(&decision.state);
    let moved = match decision.evaluated_before {
        None => moved,
        Some(before) => moved.bind(before.start()),
    };
    if moved.execute(connection).await?.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Overtaken { brand: decision.brand.clone() })
    }
}

/// Writes a step: the incident, its notifications and its event.
async fn write_step(
    connection: &mut PgConnection,
    decision: &Decision,
    step: &Step,
) -> Result<IncidentId, StoreError> {
    let (evidence, phases) = (Json(step.evidence), Json(&step.phases));
    let (brand, watch) = (decision.brand.as_str(), decision.watch.as_str());
    let is_untold = step.deliveries.is_empty();
    let severities = Severity::ALL.map(Severity::as_str);
    let incident = match step.transition {
        Transition::Opened => sqlx::query_scalar(
            "INSERT INTO incidents (brand, cause, severity, opened_at, evidence, phases, missed)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(brand)
        .bind(step.evidence.cause().as_str())
        .bind(step.severity.as_str())
        .bind(step.minute.start())
        .bind(evidence)
        .bind(phases)
        .bind(step.missed),
        Transition::Updated => sqlx::query_scalar(
            "UPDATE incidents SET phases = $5, missed = missed AND $6, severity = CASE
                 WHEN array_position($4, severity) < array_position($4, $3) THEN $3
                 ELSE severity END
             WHERE brand = $1 AND watch = $2 AND resolved_at IS NULL RETURNING id",
        )
        .bind(brand)
        .bind(watch)
        .bind(step.severity.as_str())
        .bind(severities)
        .bind(phases)
        .bind(is_untold),
        Transition::Resolved => sqlx::query_scalar(
            "UPDATE incidents SET resolved_at = $3, phases = $4, missed = missed AND $5
             WHERE brand = $1 AND watch = $2 AND resolved_at IS NULL RETURNING id",
        )
        .bind(brand)
        .bind(watch)
        .bind(step.minute.start())
        .bind(phases)
        .bind(is_untold),
        // The unique index refuses it while another incident is open.
        Transition::Reopened => sqlx::query_scalar(
            "UPDATE incidents SET resolved_at = NULL, severity = $3, phases = $4,
                 missed = $5 OR missed AND $6,
                 acknowledged_at = NULL, acknowledged_by = NULL, acknowledged_note = NULL
             WHERE resolved_at IS NOT NULL AND id = (
                 SELECT id FROM incidents WHERE brand = $1 AND watch = $2
                 ORDER BY (resolved_at IS NULL) DESC, opened_at DESC, id DESC LIMIT 1)
             RETURNING id",
        )
        .bind(brand)
        .bind(watch)
        .bind(step.severity.as_str())
        .bind(phases)
        .bind(step.missed)
        .bind(is_untold),
    };
    let incident = IncidentId(incident.fetch_one(&mut *connection).await?);
    notify(connection, incident, step).await?;
    sqlx::query(
        "INSERT INTO incident_events
             (incident_id, kind, at, severity, note, evidence, told, suppressed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(incident.0)
    .bind(step.transition.as_str())
    .bind(step.minute.start())
    .bind(step.severity.as_str())
    .bind(&step.notification.reason)
    .bind(evidence)
    .bind(step.deliveries.iter().map(|d| d.receiver.as_str()).collect::<Vec<_>>())
    .bind(Json(&step.suppressed))
    .execute(connection)
    .await?;
    Ok(incident)
}

/// Writes the planned notifications of a step to the outbox, and records who was notified.
///
/// The pending rows stay locked until the transaction ends.
async fn notify(
    connection: &mut PgConnection,
    incident: IncidentId,
    step: &Step,
) -> Result<(), StoreError> {
    if step.deliveries.is_empty() {
        return Ok(());
    }
    let threads: BTreeMap<String, String> =
        sqlx::query("SELECT receiver, thread_key FROM incident_receivers WHERE incident_id = $1")
            .bind(incident.0)
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(|row| Ok((row.try_get("receiver")?, row.try_get("thread_key")?)))
            .collect::<Result<_, sqlx::Error>>()?;
    let pending = pending_rows(connection, step, &threads).await?;
    let plan = plan_outbox(step, incident, &threads, &pending);
    for write in &plan.writes {
        let write = match write {
            OutboxWrite::Insert { key, receiver, notification, due_at } => sqlx::query(
                "INSERT INTO outbox (key, receiver, notification, due_at)
                 VALUES ($1, $2, $3, coalesce($4, '-infinity'))
                 ON CONFLICT (key) DO NOTHING",
            )
            .bind(key)
            .bind(receiver)
            .bind(Json(notification))
            .bind(due_at),
            OutboxWrite::Join { row, also } => sqlx::query(
                "UPDATE outbox
                 SET notification = jsonb_set(notification, '{also}', (notification -> 'also') || $2)
                 WHERE id = $1",
            )
            .bind(row)
            .bind(Json(also)),
            OutboxWrite::MakeDue { row } => {
                sqlx::query("UPDATE outbox SET due_at = '-infinity' WHERE id = $1").bind(row)
            }
        };
        write.execute(&mut *connection).await?;
    }
    for (receiver, thread) in &plan.threads {
        sqlx::query(
            "INSERT INTO incident_receivers (incident_id, receiver, thread_key, told_at, severity)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (incident_id, receiver)
             DO UPDATE SET told_at = excluded.told_at, severity = excluded.severity",
        )
        .bind(incident.0)
        .bind(receiver)
        .bind(thread)
        .bind(step.minute.start())
        .bind(step.severity.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Locks the pending rows that the plan may change.
///
/// Held rows of the incident's threads are waited for: if the sender that locks one does not send
/// it, it must become due. Rows that a delivery could join are skipped while they are locked: a
/// row that is being sent must not change.
async fn pending_rows(
    connection: &mut PgConnection,
    step: &Step,
    threads: &BTreeMap<String, String>,
) -> Result<Vec<PendingRow>, StoreError> {
    let mut held = (Vec::new(), Vec::new());
    let mut joining = (Vec::new(), Vec::new());
    for delivery in &step.deliveries {
        let receiver = delivery.receiver.as_str();
        match threads.get(receiver) {
            Some(thread) if delivery.not_before.is_none() => {
                held.0.push(thread.as_str());
                held.1.push(receiver);
            }
            None if delivery.group => {
                joining.0.push(receiver);
                joining.1.push(delivery.not_before);
            }
            _ => {}
        }
    }
    let rows = sqlx::query(
        "WITH held AS MATERIALIZED (
             SELECT * FROM outbox
             WHERE state = 'pending' AND attempts = 0 AND due_at > '-infinity'
               AND (thread, receiver) IN (SELECT * FROM unnest($1::text[], $2::text[]))
             ORDER BY id FOR UPDATE
         ), joinable AS MATERIALIZED (
             SELECT candidate.*
             FROM unnest($3::text[], $4::timestamptz[]) AS delivery (receiver, not_before),
                  LATERAL (
                      SELECT * FROM outbox
                      WHERE receiver = delivery.receiver AND state = 'pending' AND attempts = 0
                        AND last_error IS NULL AND transition = 'opened'
                        AND due_at <= coalesce(delivery.not_before, '-infinity')
                      ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED
                  ) AS candidate
         )
         SELECT id, key, receiver, coalesce(thread, '') AS thread,
                nullif(due_at, '-infinity') AS due_at, attempts,
                last_error IS NOT NULL AS failed, coalesce(transition, '') AS transition,
                notification ->> 'test' IS DISTINCT FROM 'false' AS test,
                CASE WHEN notification ->> 'incident_id' ~ '^[0-9]{1,18}$'
                     THEN (notification ->> 'incident_id')::bigint ELSE 0 END AS incident_id,
                CASE WHEN jsonb_typeof(notification -> 'also') = 'array'
                     THEN jsonb_array_length(notification -> 'also') END AS also
         FROM (SELECT * FROM held UNION ALL SELECT * FROM joinable) AS rows
         ORDER BY id",
    )
    .bind(held.0)
    .bind(held.1)
    .bind(joining.0)
    .bind(joining.1)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PendingRow {
                id: row.try_get("id")?,
                key: row.try_get("key")?,
                receiver: row.try_get("receiver")?,
                thread: row.try_get("thread")?,
                due_at: row.try_get("due_at")?,
                attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
                failed: row.try_get("failed")?,
                transition: row.try_get("transition")?,
                test: row.try_get("test")?,
                incident: IncidentId(row.try_get("incident_id")?),
                also: row
                    .try_get::<Option<i32>, _>("also")?
                    .map(|also| also.unsigned_abs() as usize),
            })
        })
        .collect()
}
