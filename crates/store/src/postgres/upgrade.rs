//! The long steps between migrations 11 and 12: what `scores` needs to become a part of the table of the same name.
//!
//! **Invariant.** Migration 11 stops the writers, so each step sees all tweets. A step that is interrupted, by a kill
//! or a Postgres that restarts, goes on where it was: how far it came is written with what it did. Readers never
//! wait. Deliberately absent: deleting anything.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool, Row};

use super::migrations::Tell;
use crate::StoreError;

/// Tweet ids copied in one transaction.
const IDS: i64 = 200_000;
/// Time between two lines about an index that is being built.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The indexes of the part that the stored tweets become; migration 12 makes those that are missing.
const INDEXES: [(&str, &str); 2] = [
    (
        "scores_before_time",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS scores_before_time \
         ON scores (created_at, (brands[1]))",
    ),
    (
        "scores_before_brands",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS scores_before_brands \
         ON scores (created_at) WHERE cardinality(brands) > 1",
    ),
];

/// Does what is left to do before migration 12.
pub(super) async fn prepare(
    pool: &PgPool,
    connection: &mut PgConnection,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let newest: Option<DateTime<Utc>> = sqlx::query_scalar("SELECT max(created_at) FROM scores")
        .fetch_one(&mut *connection)
        .await?;
    let Some(newest) = newest else { return Ok(()) };
    tell(
        "the stored tweets become the first part of `scores`; until then no daemon writes tweets, nothing is lost",
    );
    for (name, sql) in INDEXES {
        index(pool, connection, name, sql, tell).await?;
    }
    ids(connection, tell).await?;
    hours(connection, newest, tell).await?;
    checks(connection, tell).await
}

/// Builds an index without locking anybody out. One that an interrupted build left behind is invalid and dropped.
async fn index(
    pool: &PgPool,
    connection: &mut PgConnection,
    name: &str,
    sql: &'static str,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let valid: Option<bool> =
        sqlx::query_scalar("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await?;
    match valid {
        Some(true) => return Ok(()),
        Some(false) => {
            let drop = sqlx::AssertSqlSafe(format!("DROP INDEX {name}"));
            sqlx::raw_sql(drop).execute(&mut *connection).await?;
        }
        None => {}
    }
    tell(&format!("building the index {name}"));
    let build = sqlx::raw_sql(sql).execute(connection);
    tokio::pin!(build);
    loop {
        tokio::select! {
            built = &mut build => {
                built?;
                return Ok(());
            }
            () = tokio::time::sleep(TELL_EVERY) => {}
        }
        // Only for people: an error here is none of the build.
        let progress = sqlx::query_scalar::<_, Option<f64>>(
            "SELECT 100.0 * (blocks_done + tuples_done) / nullif(blocks_total + tuples_total, 0)::float8
             FROM pg_stat_progress_create_index WHERE datname = current_database()",
        );
        if let Ok(Some(Some(percent))) = progress.fetch_optional(pool).await {
            tell(&format!("building the index {name}: {percent:.0} % of this phase"));
        }
    }
}

/// Writes the ids of all tweets to `tweet_ids`, in their order.
async fn ids(connection: &mut PgConnection, tell: Tell<'_>) -> Result<(), StoreError> {
    let (mut last, mut done) = up_to(connection, "ids").await?;
    let mut copied: i64 = 0;
    while !done {
        let chunk = sqlx::query(
            "WITH chunk AS MATERIALIZED (
                 SELECT tweet_id, created_at FROM scores WHERE tweet_id > $1 ORDER BY tweet_id LIMIT $2
             ), copied AS (
                 INSERT INTO tweet_ids SELECT tweet_id, created_at FROM chunk ON CONFLICT DO NOTHING
             ), noted AS (
                 INSERT INTO upgrade_steps (step, up_to, done)
                 SELECT 'ids', coalesce(max(tweet_id), $1), count(*) < $2 FROM chunk
                 ON CONFLICT (step) DO UPDATE SET up_to = excluded.up_to, done = excluded.done
             )
             SELECT coalesce(max(tweet_id), $1) AS up_to, count(*) AS tweets FROM chunk",
        )
        .bind(&last)
        .bind(IDS)
        .fetch_one(&mut *connection)
        .await?;
        let tweets: i64 = chunk.try_get("tweets")?;
        last = chunk.try_get("up_to")?;
        copied += tweets;
        done = tweets < IDS;
        tell(&format!("{copied} tweet ids copied"));
    }
    Ok(())
}

/// Counts the tweets by hour, a week in one transaction.
async fn hours(
    connection: &mut PgConnection,
    newest: DateTime<Utc>,
    tell: Tell<'_>,
) -> Result<(), StoreError> {
    let (last, done) = up_to(connection, "hours").await?;
    if done {
        return Ok(());
    }
    let oldest: DateTime<Utc> = sqlx::query_scalar(
        "SELECT coalesce($1::timestamptz, date_trunc('week', min(created_at), 'UTC')) FROM scores",
    )
    .bind(last.parse::<DateTime<Utc>>().ok())
    .fetch_one(&mut *connection)
    .await?;
    let mut week = oldest;
    while week <= newest {
        let next = week + TimeDelta::weeks(1);
        sqlx::query(
            "WITH counted AS (
                 INSERT INTO hour_counts (brand, hour, model, language, tweets, negative, neutral)
                 SELECT brand, date_trunc('hour', created_at, 'UTC'), coalesce(model, ''),
                        coalesce(language, ''), count(*), count(*) FILTER (WHERE label = 'NEGATIVE'),
                        count(*) FILTER (WHERE label = 'NEUTRAL')
                 FROM scores, unnest(brands) AS brand
                 WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2, 3, 4
             )
             INSERT INTO upgrade_steps (step, up_to, done) VALUES ('hours', $3, $4)
             ON CONFLICT (step) DO UPDATE SET up_to = excluded.up_to, done = excluded.done",
        )
        .bind(week)
        .bind(next)
        .bind(next.to_rfc3339())
        .bind(next > newest)
        .execute(&mut *connection)
        .await?;
        tell(&format!("tweets counted by hour up to {}", next.date_naive()));
        week = next;
    }
    Ok(())
}

/// Reads the rows against the constraints that all parts share, and against the end of this part.
async fn checks(connection: &mut PgConnection, tell: Tell<'_>) -> Result<(), StoreError> {
    tell("checking the stored tweets");
    sqlx::raw_sql(
        "DO $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'scores_before_until') THEN
                 EXECUTE format('ALTER TABLE scores ADD CONSTRAINT scores_before_until
                                 CHECK (created_at < %L) NOT VALID',
                     (SELECT date_trunc('week', max(created_at), 'UTC') + interval '168 hours' FROM scores));
             END IF;
         END $$",
    )
    .execute(&mut *connection)
    .await?;
    for name in ["label_check", "neutral_check", "whole_check", "before_until"] {
        let sql = format!("ALTER TABLE scores VALIDATE CONSTRAINT scores_{name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Where a step goes on, and whether it is done.
async fn up_to(connection: &mut PgConnection, step: &str) -> Result<(String, bool), StoreError> {
    let row = sqlx::query("SELECT up_to, done FROM upgrade_steps WHERE step = $1")
        .bind(step)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok((String::new(), false)) };
    Ok((row.try_get::<Option<_>, _>("up_to")?.unwrap_or_default(), row.try_get("done")?))
}
