//! What a decision rests on, and what is written when it has been taken.

use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::PostgresStore;
use super::incidents::{read_incident, severity};
use crate::outbox::{ALSO_MAX, addressed};
use crate::{Also, Decision, Delivery, DetectorState, Notification, Step, StoreError};
use monitor_core::domain::{Cause, IncidentId, Minute, Notified, Severity, Transition};

pub(super) async fn detector_state(
    store: &PostgresStore,
    brand: &str,
    cause: Cause,
) -> Result<Option<DetectorState>, StoreError> {
    let mut tx = store.pool.begin().await?;
    // Read first: whoever moves on between this and what follows moves `judged`, and has the
    // decision refused.
    let Some(row) =
        sqlx::query("SELECT judged, state FROM watches WHERE brand = $1 AND cause = $2")
            .bind(brand)
            .bind(cause.as_str())
            .fetch_optional(&mut *tx)
            .await?
    else {
        return Ok(None);
    };
    let open = sqlx::query(
        "SELECT * FROM incidents WHERE brand = $1 AND cause = $2 AND resolved_at IS NULL",
    )
    .bind(brand)
    .bind(cause.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let open = open.as_ref().map(read_incident).transpose()?.flatten();
    let told = sqlx::query(
        r#"SELECT receiver, told_at, severity FROM incident_receivers
           WHERE incident_id = $1 ORDER BY receiver COLLATE "C""#,
    )
    .bind(open.as_ref().map(|incident| incident.id.0))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(DetectorState {
        evaluated: Minute::of(row.try_get("judged")?),
        state: row.try_get("state")?,
        open,
        notified: told
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
        Some(step) => Some(take(&mut tx, decision, step).await?),
        None => None,
    };
    tx.commit().await?;
    Ok(id)
}

/// Moves the watch on, if nobody else has.
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
        .bind(decision.cause.as_str())
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

/// Writes a step: the incident, what its receivers are told, and its event.
async fn take(
    connection: &mut PgConnection,
    decision: &Decision,
    step: &Step,
) -> Result<IncidentId, StoreError> {
    let evidence = Json(step.evidence);
    let incident = match step.transition {
        Transition::Opened => sqlx::query_scalar(
            "INSERT INTO incidents (brand, cause, severity, opened_at, evidence)
             VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(&decision.brand)
        .bind(decision.cause.as_str())
        .bind(step.severity.as_str())
        .bind(step.minute.start())
        .bind(evidence),
        Transition::Updated => sqlx::query_scalar(
            "UPDATE incidents SET severity = CASE
                 WHEN array_position($4, severity) < array_position($4, $3) THEN $3
                 ELSE severity END
             WHERE brand = $1 AND cause = $2 AND resolved_at IS NULL RETURNING id",
        )
        .bind(&decision.brand)
        .bind(decision.cause.as_str())
        .bind(step.severity.as_str())
        .bind(Severity::ALL.map(Severity::as_str)),
        Transition::Resolved => sqlx::query_scalar(
            "UPDATE incidents SET resolved_at = $3
             WHERE brand = $1 AND cause = $2 AND resolved_at IS NULL RETURNING id",
        )
        .bind(&decision.brand)
        .bind(decision.cause.as_str())
        .bind(step.minute.start()),
    };
    let incident = IncidentId(incident.fetch_one(&mut *connection).await?);
    for delivery in &step.deliveries {
        tell(connection, incident, step, delivery).await?;
    }
    sqlx::query(
        "INSERT INTO incident_events (incident_id, kind, at, severity, note, evidence, told)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(incident.0)
    .bind(step.transition.as_str())
    .bind(step.minute.start())
    .bind(step.severity.as_str())
    .bind(&step.notification.reason)
    .bind(evidence)
    .bind(step.deliveries.iter().map(|d| d.receiver.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(incident)
}

/// Writes what one receiver is told, and that it has been.
async fn tell(
    connection: &mut PgConnection,
    incident: IncidentId,
    step: &Step,
    delivery: &Delivery,
) -> Result<(), StoreError> {
    let thread: Option<String> = sqlx::query_scalar(
        "SELECT thread_key FROM incident_receivers WHERE incident_id = $1 AND receiver = $2",
    )
    .bind(incident.0)
    .bind(&delivery.receiver)
    .fetch_optional(&mut *connection)
    .await?;
    let (key, notification) = addressed(step, incident, &delivery.receiver, thread.as_deref());
    let joined = match delivery.group && notification.transition == Transition::Opened.as_str() {
        true => join(connection, delivery, &notification).await?,
        false => None,
    };
    let thread = match joined {
        Some(thread) => thread,
        None => {
            sqlx::query(
                "INSERT INTO outbox (key, receiver, notification, due_at)
                 VALUES ($1, $2, $3, coalesce($4, '-infinity'))
                 ON CONFLICT (key) DO NOTHING",
            )
            .bind(&key)
            .bind(&delivery.receiver)
            .bind(Json(&notification))
            .bind(delivery.not_before)
            .execute(&mut *connection)
            .await?;
            if delivery.not_before.is_none() {
                hold_no_longer(connection, delivery, &notification.thread).await?;
            }
            notification.thread
        }
    };
    sqlx::query(
        "INSERT INTO incident_receivers (incident_id, receiver, thread_key, told_at, severity)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (incident_id, receiver)
         DO UPDATE SET told_at = excluded.told_at, severity = excluded.severity",
    )
    .bind(incident.0)
    .bind(&delivery.receiver)
    .bind(thread)
    .bind(step.minute.start())
    .bind(step.severity.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes what is held back of a thread due at once: its receiver is being told of the incident
/// now, so there is no rest left to keep, and the end need not wait for the morning behind it.
async fn hold_no_longer(
    connection: &mut PgConnection,
    delivery: &Delivery,
    thread: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET due_at = '-infinity'
         WHERE state = 'pending' AND attempts = 0 AND thread = $1 AND receiver = $2",
    )
    .bind(thread)
    .bind(&delivery.receiver)
    .execute(connection)
    .await?;
    Ok(())
}

/// Has an opened incident join one that waits for the same receiver, if there is one;
/// answers with the key of its row.
///
/// A row that a sender holds is locked, or counts an attempt. One with an error was tried
/// before it was revived: the receiver may know its key, and would drop what joins it. One
/// that is due later than the newcomer would hold it up.
async fn join(
    connection: &mut PgConnection,
    delivery: &Delivery,
    notification: &Notification,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "UPDATE outbox
         SET notification = jsonb_set(notification, '{also}', (notification -> 'also') || $3)
         WHERE id = (
             SELECT id FROM outbox
             WHERE receiver = $1 AND state = 'pending' AND attempts = 0 AND last_error IS NULL
               AND due_at <= coalesce($2, '-infinity'::timestamptz)
               AND transition = 'opened'
               AND notification ->> 'test' = 'false'
               AND notification ->> 'incident_id' <> $4
               AND jsonb_typeof(notification -> 'also') = 'array'
               AND notification -> 'also' -> $5 IS NULL
             ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
         )
         RETURNING key",
    )
    .bind(&delivery.receiver)
    .bind(delivery.not_before)
    .bind(Json(Also::of(notification)))
    .bind(notification.incident_id.to_string())
    .bind(ALSO_MAX as i32 - 1)
    .fetch_optional(connection)
    .await?)
}
