//! Searches that people make.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::types::Json;

use super::PostgresStore;
use super::counts::{ABOUT, COLUMNS, stored};
use super::labels::label;
use crate::{Drivers, FoundTweet, NotificationState, StoreError, TweetQuery};
use monitor_core::domain::{IncidentId, Label};

pub(super) async fn search_tweets(
    store: &PostgresStore,
    query: &TweetQuery,
) -> Result<Vec<FoundTweet>, StoreError> {
    let (after_time, after_id) = query.after.clone().unzip();
    // Postgres has no NUL in text, so nothing contains one.
    if query.text.as_ref().is_some_and(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let end = query.to.plus(1).start();
    // Those at the time of `after` too: the id decides.
    let end = after_time
        .and_then(|after| after.checked_add_signed(TimeDelta::microseconds(1)))
        .map_or(end, |after| end.min(after));
    // The newest of each part, by its index, then the newest of both.
    let newest = |about| {
        format!(
            r#"(SELECT {COLUMNS} FROM scores
                WHERE {about} AND created_at >= $2 AND created_at < $3
                  AND label IS NOT NULL AND ($4::text IS NULL OR label = $4)
                  AND ($5::text IS NULL OR position(lower($5) IN lower(text)) > 0)
                  AND ($6::timestamptz IS NULL OR (created_at, tweet_id COLLATE "C") < ($6, $7))
                ORDER BY created_at DESC, tweet_id COLLATE "C" DESC LIMIT $8)"#
        )
    };
    let sql = format!(
        r#"SELECT f.*, c.label AS corrected, c.corrected_by, c.corrected_at
           FROM (
               SELECT * FROM ({}) AS newest
               ORDER BY created_at DESC, tweet_id COLLATE "C" DESC LIMIT $8
           ) AS f LEFT JOIN corrections AS c USING (tweet_id)
           ORDER BY f.created_at DESC, f.tweet_id COLLATE "C" DESC"#,
        ABOUT.map(newest).join(" UNION ALL ")
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&query.brand)
        .bind(query.from.start())
        .bind(end)
        .bind(query.label.map(Label::as_str))
        .bind(&query.text)
        .bind(after_time)
        .bind(after_id)
        .bind(i64::from(query.limit))
        .fetch_all(&store.pool)
        .await?;
    rows.iter()
        .map(|row| {
            let corrected = match row.try_get::<Option<String>, _>("corrected")? {
                Some(word) => Some((
                    label(&word)?,
                    row.try_get::<String, _>("corrected_by")?,
                    row.try_get::<DateTime<Utc>, _>("corrected_at")?,
                )),
                None => None,
            };
            Ok(FoundTweet { tweet: stored(row)?, label: label(row.try_get("label")?)?, corrected })
        })
        .collect()
}

pub(super) async fn notifications_of(
    store: &PostgresStore,
    id: IncidentId,
) -> Result<Vec<NotificationState>, StoreError> {
    let rows = sqlx::query(
        "SELECT receiver, coalesce(transition, '') AS transition, state, attempts, last_error,
                ended_at, notification -> 'drivers' AS drivers
         FROM outbox WHERE notification ->> 'incident_id' = $1 ORDER BY id",
    )
    .bind(id.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(NotificationState {
                receiver: row.try_get("receiver")?,
                transition: row.try_get("transition")?,
                state: row.try_get("state")?,
                attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
                error: row.try_get("last_error")?,
                ended_at: row.try_get("ended_at")?,
                // What a later version may write must not hide the rest.
                drivers: row
                    .try_get::<Json<Drivers>, _>("drivers")
                    .map(|it| it.0)
                    .unwrap_or_default(),
            })
        })
        .collect()
}
