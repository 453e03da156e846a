//! Removes what is older than the settings allow.
//!
//! **Invariant.** Tweets go by whole weeks, together with their ids; counts by hour and day stay. Each step is short and
//! a transaction of its own, and a run that is interrupted is continued by the next one: a week that was taken out
//! of `scores` is dropped first of all. What is open or pending is never removed.
//! Deliberately absent: a schedule; the caller has one.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;

use super::migrations::Tell;
use super::{PostgresStore, count, partitions};
use crate::StoreError;
use monitor_config as config;

/// How long counts by minute stay at least: the detectors learn from them, and may have to catch up.
const MINUTES_DAYS_MIN: u32 = 60;
/// How long after its expiry it is known that a link was used.
const LINKS_DAYS: u32 = 30;
/// Rows deleted in one transaction.
const ROWS: i64 = 10_000;
/// Pages of a week whose ids are forgotten in one transaction: some 30,000 tweets.
const PAGES: i64 = 1000;

/// How many days things are kept; 0 is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Tweets with their scores and what was found in them by day (drift), by event time; and counts by minute: those
    /// at least 60 days.
    pub tweets_days: u32,
    /// Resolved incidents with their history, and notifications sent or given up.
    pub history_days: u32,
    /// Dead letters.
    pub dead_letters_days: u32,
}

impl From<&config::Store> for Keep {
    fn from(settings: &config::Store) -> Self {
        Self {
            tweets_days: settings.keep_days,
            history_days: settings.keep_history_days,
            dead_letters_days: settings.keep_dead_letters_days,
        }
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// The weeks of tweets, each with about how many it has.
    pub parts: Vec<(String, u64)>,
    /// Tweets of the part from before there were weeks.
    pub tweets: u64,
    /// Counts of a minute.
    pub minutes: u64,
    /// Comparisons of a day with those before.
    pub drift_days: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Notifications.
    pub notifications: u64,
    /// Incidents.
    pub incidents: u64,
}

pub(super) async fn prune(
    store: &PostgresStore,
    keep: &Keep,
    now: DateTime<Utc>,
    dry_run: bool,
    tell: Tell<'_>,
) -> Result<Pruned, StoreError> {
    if !dry_run {
        partitions::make_ahead(store, now).await?;
        drop_detached(store).await?;
        forget_voices(store).await?;
        blank_notifications(store).await?;
        sqlx::query("DELETE FROM used_links WHERE expires_at < $1")
            .bind(before(now, LINKS_DAYS))
            .execute(&store.pool)
            .await?;
    }
    let mut pruned = Pruned::default();
    if let Some(cutoff) = before(now, keep.tweets_days) {
        let week = partitions::week(cutoff);
        parts(store, week, dry_run, tell, &mut pruned).await?;
        let minutes = before(now, keep.tweets_days.max(MINUTES_DAYS_MIN)).unwrap_or(week);
        pruned.minutes = minutes_before(store, minutes.min(week), dry_run).await?;
        pruned.drift_days = rows_before(store, DRIFT_DAYS, week, dry_run).await?;
    }
    if let Some(cutoff) = before(now, keep.dead_letters_days) {
        pruned.dead_letters = rows_before(store, DEAD_LETTERS, cutoff, dry_run).await?;
    }
    if let Some(cutoff) = before(now, keep.history_days) {
        pruned.notifications = rows_before(store, NOTIFICATIONS, cutoff, dry_run).await?;
        pruned.incidents = rows_before(store, INCIDENTS, cutoff, dry_run).await?;
        rows_before(store, LETTER_COUNTS, cutoff, dry_run).await?;
    }
    Ok(pruned)
}

/// Removes the voices of hours that no new tweet is in, as far as the stream does not run behind by hours.
async fn forget_voices(store: &PostgresStore) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM voices WHERE heard_at < now() - interval '3 hours'")
        .execute(&store.pool)
        .await?;
    Ok(())
}

/// Takes removed tweets out of notifications.
async fn blank_notifications(store: &PostgresStore) -> Result<(), StoreError> {
    sqlx::query(
        r#"WITH gone AS (
               SELECT o.id, array_agg(s.tweet_id) AS tweets
               FROM outbox AS o CROSS JOIN LATERAL tweets_shown(o.notification) AS shown
               JOIN tweet_ids AS i ON i.tweet_id = shown COLLATE "C"
               JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = i.tweet_id
               WHERE s.removed IS NOT NULL GROUP BY o.id
           )
           UPDATE outbox AS o SET notification = without(notification, gone.tweets, '{}')
           FROM gone WHERE o.id = gone.id"#,
    )
    .execute(&store.pool)
    .await?;
    Ok(())
}

/// `days` before `now`; `None` if things are kept for ever.
fn before(now: DateTime<Utc>, days: u32) -> Option<DateTime<Utc>> {
    (days > 0).then(|| now - TimeDelta::days(i64::from(days)))
}

/// Removes the weeks that end by `until`, and what is older in the part from before there were weeks.
async fn parts(
    store: &PostgresStore,
    until: DateTime<Utc>,
    dry_run: bool,
    tell: Tell<'_>,
    pruned: &mut Pruned,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT p.name, p.to_at <= $1 AS whole, greatest(c.reltuples, 0)::bigint AS tweets
         FROM score_partitions AS p JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(p.name))
         WHERE p.detached_at IS NULL AND (p.to_at <= $1 OR p.from_at = '-infinity')
         ORDER BY p.from_at",
    )
    .bind(until)
    .fetch_all(&store.pool)
    .await?;
    for row in rows {
        let name: String = row.try_get("name")?;
        if !row.try_get::<bool, _>("whole")? {
            pruned.tweets += oldest_tweets(store, &name, until, dry_run).await?;
            continue;
        }
        if !dry_run {
            tell(&format!("removing {name}"));
            sqlx::query("SELECT detach_score_partition($1)")
                .bind(&name)
                .execute(&store.pool)
                .await?;
            store.partitions.forget();
            drop_detached(store).await?;
        }
        pruned.parts.push((name, count(&row, "tweets")?));
    }
    Ok(())
}

/// Forgets the ids of the parts that were taken out of `scores`, and drops their tables.
async fn drop_detached(store: &PostgresStore) -> Result<(), StoreError> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM score_partitions WHERE detached_at IS NOT NULL")
            .fetch_all(&store.pool)
            .await?;
    for name in names {
        let mut page = 0;
        while sqlx::query_scalar::<_, bool>("SELECT forget_tweet_ids($1, $2, $3)")
            .bind(&name)
            .bind(page)
            .bind(PAGES)
            .fetch_one(&store.pool)
            .await?
        {
            page += PAGES;
        }
        sqlx::query("SELECT drop_score_partition($1)").bind(&name).execute(&store.pool).await?;
    }
    Ok(())
}

/// Deletes the tweets of a part before `until`, with their ids.
async fn oldest_tweets(
    store: &PostgresStore,
    part: &str,
    until: DateTime<Utc>,
    dry_run: bool,
) -> Result<u64, StoreError> {
    if dry_run {
        let tweets: i64 = sqlx::query_scalar("SELECT count(*) FROM scores WHERE created_at < $1")
            .bind(until)
            .fetch_one(&store.pool)
            .await?;
        return Ok(tweets.unsigned_abs());
    }
    let mut tweets = 0;
    loop {
        let deleted: i64 = sqlx::query_scalar("SELECT delete_scores($1, $2, $3)")
            .bind(part)
            .bind(until)
            .bind(ROWS)
            .fetch_one(&store.pool)
            .await?;
        tweets += deleted.unsigned_abs();
        if deleted < ROWS {
            return Ok(tweets);
        }
    }
}

/// Deletes counts by minute, a day in one transaction.
async fn minutes_before(
    store: &PostgresStore,
    until: DateTime<Utc>,
    dry_run: bool,
) -> Result<u64, StoreError> {
    if dry_run {
        let minutes: i64 =
            sqlx::query_scalar("SELECT count(*) FROM minute_counts WHERE minute < $1")
                .bind(until)
                .fetch_one(&store.pool)
                .await?;
        return Ok(minutes.unsigned_abs());
    }
    let mut minutes = 0;
    loop {
        let oldest: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT min(minute) FROM minute_counts")
                .fetch_one(&store.pool)
                .await?;
        let Some(oldest) = oldest.filter(|oldest| *oldest < until) else { break };
        let deleted = sqlx::query("DELETE FROM minute_counts WHERE minute < $1")
            .bind(until.min(oldest + TimeDelta::days(1)))
            .execute(&store.pool)
            .await?;
        minutes += deleted.rows_affected();
    }
    for sql in [
        "DELETE FROM rescored_counts WHERE minute < $1",
        "DELETE FROM not_judged_counts WHERE minute < $1",
    ] {
        sqlx::query(sql).bind(until).execute(&store.pool).await?;
    }
    Ok(minutes)
}

/// What to count and what to delete, `$2` rows in one transaction, before the time `$1`.
struct Rows {
    count: &'static str,
    delete: &'static str,
}

const DRIFT_DAYS: Rows = Rows {
    count: "SELECT count(*) FROM drift_days WHERE day < $1",
    delete: "DELETE FROM drift_days WHERE day IN (
                 SELECT day FROM drift_days WHERE day < $1 ORDER BY day LIMIT $2)",
};

const DEAD_LETTERS: Rows = Rows {
    count: "SELECT count(*) FROM dead_letters WHERE seen_at < $1",
    delete: "DELETE FROM dead_letters WHERE ctid IN (
                 SELECT ctid FROM dead_letters WHERE seen_at < $1 ORDER BY seen_at LIMIT $2)",
};

const LETTER_COUNTS: Rows = Rows {
    count: "SELECT count(*) FROM dead_letter_counts WHERE minute < $1",
    delete: "DELETE FROM dead_letter_counts WHERE (minute, reason) IN (
                 SELECT minute, reason FROM dead_letter_counts WHERE minute < $1 LIMIT $2)",
};

/// An incident that lasts, or ended later, keeps its notifications: later ones join their thread.
const NOTIFICATIONS: Rows = Rows {
    count: "SELECT count(*) FROM outbox AS o
            WHERE state <> 'pending' AND ended_at < $1 AND NOT EXISTS (
                SELECT FROM incidents AS i WHERE i.id::text = o.notification ->> 'incident_id'
                  AND (i.resolved_at IS NULL OR i.resolved_at >= $1))",
    delete: "DELETE FROM outbox WHERE id IN (
                 SELECT id FROM outbox AS o
                 WHERE state <> 'pending' AND ended_at < $1 AND NOT EXISTS (
                     SELECT FROM incidents AS i WHERE i.id::text = o.notification ->> 'incident_id'
                       AND (i.resolved_at IS NULL OR i.resolved_at >= $1))
                 LIMIT $2)",
};

const INCIDENTS: Rows = Rows {
    count: "SELECT count(*) FROM incidents WHERE resolved_at < $1",
    // One statement: the foreign keys are checked at its end.
    delete: "WITH old AS MATERIALIZED (
                 SELECT id FROM incidents WHERE resolved_at < $1 ORDER BY id LIMIT $2
             ), events AS (
                 DELETE FROM incident_events WHERE incident_id IN (SELECT id FROM old)
             ), receivers AS (
                 DELETE FROM incident_receivers WHERE incident_id IN (SELECT id FROM old)
             )
             DELETE FROM incidents WHERE id IN (SELECT id FROM old)",
};

async fn rows_before(
    store: &PostgresStore,
    rows: Rows,
    until: DateTime<Utc>,
    dry_run: bool,
) -> Result<u64, StoreError> {
    if dry_run {
        let found: i64 = sqlx::query_scalar(rows.count).bind(until).fetch_one(&store.pool).await?;
        return Ok(found.unsigned_abs());
    }
    let mut deleted = 0;
    loop {
        let done = sqlx::query(rows.delete).bind(until).bind(ROWS).execute(&store.pool).await?;
        deleted += done.rows_affected();
        if done.rows_affected() < ROWS.unsigned_abs() {
            return Ok(deleted);
        }
    }
}
