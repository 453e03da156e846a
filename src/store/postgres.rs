//! The ground state: [`Store`] on Postgres.
//!
//! **Invariant.** Every method is one transaction. Rows are written in key order, so two
//! daemons that write the same tweets wait for one another instead of deadlocking.
//! Deliberately absent: retries. [`StoreError::Unavailable`] tells the caller that the
//! same call may succeed later.

mod errors;
mod rows;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, Row};

use super::{
    Batch, BrandState, Claim, Committed, Decision, Example, OutboxRow, OutboxState,
    PartitionProgress, Store, StoreError, Totals,
};
use crate::config;
use crate::domain::{
    Counts, Incident, IncidentId, Minute, Offset, Resume, StartAt, TopicPartition, Transition,
};

use rows::{
    checkpoint_for_update, count, incident, insert_dead_letters, insert_scores, open_incident,
    outbox_row,
};

pub(super) use errors::{is_about_the_rows, is_transient};

/// How long a call waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// [`Store`] on Postgres 14 or newer.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    place: String,
}

impl PostgresStore {
    /// Prepares a pool; connects when first used.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the URL cannot be parsed.
    pub fn connect(settings: &config::Store) -> Result<Self, StoreError> {
        let options: PgConnectOptions =
            settings.url.parse::<PgConnectOptions>().map_err(StoreError::Refused)?;
        let timeout = settings.statement_timeout_ms.to_string();
        let options = options
            .application_name("monitor")
            .options([("statement_timeout", timeout.as_str()), ("timezone", "UTC")]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A connection whose query was given up may never answer again; without this the
            // pool would wait for it, one place short.
            .after_release(|connection, _| {
                Box::pin(async move {
                    match tokio::time::timeout(ACQUIRE_TIMEOUT, connection.ping()).await {
                        Ok(pinged) => pinged.map(|()| true),
                        Err(_) => Err(sqlx::Error::PoolTimedOut),
                    }
                })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, place: Self::place(settings) })
    }

    /// Host, port and database that the settings name, without user or password.
    pub fn place(settings: &config::Store) -> String {
        settings.url.parse::<PgConnectOptions>().map_or_else(
            |_| "(no valid URL)".into(),
            |options| {
                let database = options.get_database().unwrap_or("(default)");
                format!("{}:{}/{database}", options.get_host(), options.get_port())
            },
        )
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Connect`] if Postgres cannot be reached, [`StoreError::Migrate`] if a
    /// migration fails.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // The pool would only say that it waited too long; a connection says why.
        let connection = PgConnection::connect_with(&self.pool.connect_options()).await;
        connection
            .map_err(|source| StoreError::Connect { place: self.place.clone(), source })?
            .close()
            .await?;
        Ok(sqlx::migrate!("./migrations").run(&self.pool).await?)
    }

    /// The pool itself, for queries of tests and tools.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, claims: &[Claim], start_at: StartAt) -> Result<Vec<Resume>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by(|&a, &b| claims[a].partition.cmp(&claims[b].partition));
        let mut resumes = vec![None; claims.len()];
        for index in order {
            let partition = &claims[index].partition;
            let stored = checkpoint_for_update(&mut tx, partition).await?;
            let resume = claims[index].resume(stored, start_at);
            sqlx::query(
                r#"INSERT INTO checkpoints (topic, "partition", position) VALUES ($1, $2, $3)
                   ON CONFLICT (topic, "partition") DO UPDATE
                   SET position = excluded.position, at_end = false, updated_at = now()"#,
            )
            .bind(&*partition.topic)
            .bind(partition.partition)
            .bind(resume.position.0)
            .execute(&mut *tx)
            .await?;
            resumes[index] = Some(resume);
        }
        tx.commit().await?;
        Ok(resumes.into_iter().flatten().collect())
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut advances: Vec<_> = batch.advances.iter().collect();
        advances.sort_by(|a, b| a.partition.cmp(&b.partition));
        for advance in &advances {
            let stored = checkpoint_for_update(&mut tx, &advance.partition).await?;
            if stored != Some(advance.from) {
                return Err(StoreError::Fenced {
                    partition: advance.partition.clone(),
                    held: advance.from,
                    stored,
                });
            }
        }
        let new = insert_scores(&mut tx, batch).await?;
        let letters = insert_dead_letters(&mut tx, batch).await?;
        sqlx::query(
            r#"UPDATE checkpoints AS c
               SET position = n.position,
                   event_time_max = greatest(c.event_time_max, n.event_time_max),
                   at_end = false,
                   updated_at = now()
               FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[])
                    AS n (topic, "partition", position, event_time_max)
               WHERE c.topic = n.topic AND c."partition" = n."partition""#,
        )
        .bind(advances.iter().map(|a| &*a.partition.topic).collect::<Vec<_>>())
        .bind(advances.iter().map(|a| a.partition.partition).collect::<Vec<_>>())
        .bind(advances.iter().map(|a| a.to.0).collect::<Vec<_>>())
        .bind(advances.iter().map(|a| a.event_time_max).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
        if let Some(first) = advances.first() {
            // Which partition they are counted at does not matter; their sum is told.
            sqlx::query(
                r#"UPDATE checkpoints SET scores = scores + $3, dead_letters = dead_letters + $4
                   WHERE topic = $1 AND "partition" = $2"#,
            )
            .bind(&*first.partition.topic)
            .bind(first.partition.partition)
            .bind(new.cast_signed())
            .bind(letters.cast_signed())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(Committed { new, duplicate: batch.scores.len() as u64 - new })
    }

    async fn mark_at_end(
        &self,
        partition: &TopicPartition,
        position: Offset,
        at_end: bool,
    ) -> Result<(), StoreError> {
        sqlx::query(
            r#"UPDATE checkpoints SET at_end = $4, updated_at = now()
               WHERE topic = $1 AND "partition" = $2 AND position = $3"#,
        )
        .bind(&*partition.topic)
        .bind(partition.partition)
        .bind(position.0)
        .bind(at_end)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn progress(&self, topic: &str) -> Result<Vec<PartitionProgress>, StoreError> {
        let rows = sqlx::query(
            r#"SELECT "partition", position, event_time_max, at_end
               FROM checkpoints WHERE topic = $1 ORDER BY "partition""#,
        )
        .bind(topic)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PartitionProgress {
                    partition: TopicPartition::new(topic, row.try_get("partition")?),
                    position: Offset(row.try_get("position")?),
                    event_time_max: row.try_get("event_time_max")?,
                    at_end: row.try_get("at_end")?,
                })
            })
            .collect()
    }

    async fn minute_counts(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        let rows = sqlx::query(
            "SELECT minute, total, negative FROM minute_counts
             WHERE brand = $1 AND minute BETWEEN $2 AND $3 ORDER BY minute",
        )
        .bind(brand)
        .bind(from.start())
        .bind(to.start())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let counts =
                    Counts { total: count(row, "total")?, negative: count(row, "negative")? };
                Ok((Minute::of(row.try_get("minute")?), counts))
            })
            .collect()
    }

    async fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        let first: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT min(minute) FROM minute_counts WHERE brand = $1")
                .bind(brand)
                .fetch_one(&self.pool)
                .await?;
        Ok(first.map(Minute::of))
    }

    async fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        let last: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT max(minute) FROM minute_counts WHERE brand = $1")
                .bind(brand)
                .fetch_one(&self.pool)
                .await?;
        Ok(last.map(Minute::of))
    }

    async fn brand_state(&self, brand: &str) -> Result<Option<BrandState>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(row) = sqlx::query("SELECT judged, calm_since FROM brand_states WHERE brand = $1")
            .bind(brand)
            .fetch_optional(&mut *tx)
            .await?
        else {
            return Ok(None);
        };
        let open = sqlx::query("SELECT * FROM incidents WHERE brand = $1 AND resolved_at IS NULL")
            .bind(brand)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Some(BrandState {
            judged: Minute::of(row.try_get("judged")?),
            open: open.as_ref().map(incident).transpose()?,
            calm_since: row.try_get::<Option<DateTime<Utc>>, _>("calm_since")?.map(Minute::of),
        }))
    }

    async fn incidents_since(
        &self,
        brand: &str,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM incidents
             WHERE brand = $1 AND (resolved_at IS NULL OR resolved_at >= $2)
             ORDER BY opened_at",
        )
        .bind(brand)
        .bind(from.start())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(incident).collect()
    }

    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let rows = sqlx::query("SELECT * FROM incidents ORDER BY opened_at DESC, id DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(incident).collect()
    }

    async fn examples(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<Example>, StoreError> {
        let rows = sqlx::query(
            "SELECT tweet_id, text, created_at, negative FROM (
                 SELECT DISTINCT ON (text) tweet_id, text, created_at, negative
                 FROM scores
                 WHERE created_at >= $2 AND created_at < $3
                   AND brands @> ARRAY[$1] AND label = 'NEGATIVE'
                 ORDER BY text, negative DESC, tweet_id
             ) AS one_a_text
             ORDER BY negative DESC, tweet_id LIMIT $4",
        )
        .bind(brand)
        .bind(from.start())
        .bind(to.plus(1).start())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Example {
                    tweet_id: row.try_get("tweet_id")?,
                    text: row.try_get("text")?,
                    created_at: row.try_get("created_at")?,
                    negative: row.try_get("negative")?,
                })
            })
            .collect()
    }

    async fn decide(&self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let calm_since = decision.calm_since.map(Minute::start);
        let moved = match decision.judged_before {
            None => {
                sqlx::query(
                    "INSERT INTO brand_states (brand, judged, calm_since) VALUES ($1, $2, $3)
                     ON CONFLICT DO NOTHING",
                )
                .bind(&decision.brand)
                .bind(decision.judged.start())
                .bind(calm_since)
                .execute(&mut *tx)
                .await?
            }
            Some(before) => {
                sqlx::query(
                    "UPDATE brand_states SET judged = $2, calm_since = $3
                     WHERE brand = $1 AND judged = $4",
                )
                .bind(&decision.brand)
                .bind(decision.judged.start())
                .bind(calm_since)
                .bind(before.start())
                .execute(&mut *tx)
                .await?
            }
        };
        if moved.rows_affected() != 1 {
            return Err(StoreError::Overtaken { brand: decision.brand.clone() });
        }
        let Some(step) = &decision.step else {
            tx.commit().await?;
            return Ok(None);
        };
        let id = match step.transition {
            Transition::Opened => {
                open_incident(&mut tx, &decision.brand, step.minute, &step.evidence).await?
            }
            Transition::Resolved => {
                sqlx::query_scalar(
                    "UPDATE incidents SET resolved_at = $2
                     WHERE brand = $1 AND resolved_at IS NULL RETURNING id",
                )
                .bind(&decision.brand)
                .bind(step.minute.start())
                .fetch_one(&mut *tx)
                .await?
            }
        };
        let mut notification = step.notification.clone();
        notification.incident_id = id;
        for receiver in &decision.receivers {
            sqlx::query("INSERT INTO outbox (key, receiver, notification) VALUES ($1, $2, $3)")
                .bind(super::outbox::key(IncidentId(id), step.transition, receiver))
                .bind(receiver)
                .bind(Json(&notification))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Some(IncidentId(id)))
    }

    async fn outbox_lease(
        &self,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = sqlx::query(
            "UPDATE outbox SET attempts = attempts + 1, due_at = $1 + $2
             WHERE id IN (
                 SELECT id FROM outbox WHERE state = 'pending' AND due_at <= $1
                 ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
             )
             RETURNING id, key, receiver, notification, attempts",
        )
        .bind(now)
        .bind(lease)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let mut leased: Vec<_> = rows
            .iter()
            .filter_map(|row| match outbox_row(row) {
                Ok(row) => Some(row),
                // One that cannot be read must not hold up the others.
                Err(error) => {
                    tracing::error!(%error, "a row of the outbox cannot be read; it waits");
                    None
                }
            })
            .collect();
        leased.sort_by_key(|row| row.id);
        Ok(leased)
    }

    async fn outbox_record(
        &self,
        row: i64,
        now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError> {
        let (word, due_at, error) = match state {
            OutboxState::Sent => ("sent", None, None),
            OutboxState::Retry { at, error } => ("pending", Some(*at), Some(error)),
            OutboxState::Dead { error } => ("dead", None, Some(error)),
        };
        // Postgres has no NUL in text.
        let error = error.map(|error| error.replace('\0', "\u{FFFD}"));
        sqlx::query(
            "UPDATE outbox SET state = $2, due_at = coalesce($3, due_at),
                    last_error = coalesce($4, last_error),
                    ended_at = CASE WHEN $2 = 'pending' THEN NULL ELSE $5 END
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(row)
        .bind(word)
        .bind(due_at)
        .bind(error)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT coalesce(sum(scores), 0)::bigint FROM checkpoints) AS scores,
                    (SELECT coalesce(sum(dead_letters), 0)::bigint FROM checkpoints)
                        AS dead_letters,
                    count(*) FILTER (WHERE state = 'pending') AS pending,
                    count(*) FILTER (WHERE state = 'dead') AS dead
             FROM outbox",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Totals {
            scores: count(&row, "scores")?,
            dead_letters: count(&row, "dead_letters")?,
            outbox_pending: count(&row, "pending")?,
            outbox_dead: count(&row, "dead")?,
        })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM checkpoints LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }
}
