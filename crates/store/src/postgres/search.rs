//! Searches that people make.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::types::Json;

use super::PostgresStore;
use super::counts::stored;
use super::labels::label;
use crate::{Drivers, FoundTweet, NotificationState, StoreError, TweetQuery};
use monitor_core::domain::IncidentId;

pub(super) async fn search_tweets(
    store: &PostgresStore,
    query: &TweetQuery,
) -> Result<Vec<FoundTweet>, StoreError> {
    let (after_time, after_id) = query.after.clone().unzip();
    // Postgres has no NUL in text, so nothing contains one.
    if query.text.as_ref().is_some_and(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        r#"SELECT s.tweet_id, s.created_at, s.text, s.negative, s.label = 'NEGATIVE' AS is_negative,
                  s.truncated, s.author, s.followers, s.retweets, s.retweet_of, s.model, s.label,
                  c.label AS corrected, c.corrected_by, c.corrected_at
           FROM scores AS s LEFT JOIN corrections AS c USING (tweet_id)
           WHERE s.created_at >= $2 AND s.created_at < $3 AND s.brands @> ARRAY[$1]
             AND s.label IS NOT NULL AND ($4::text IS NULL OR s.label = $4)
             AND ($5::text IS NULL OR position(lower($5) IN lower(s.text)) > 0)
             AND ($6::timestamptz IS NULL OR s.created_at < $6
                  OR (s.created_at = $6 AND s.tweet_id COLLATE "C" < $7))
           ORDER BY s.created_at DESC, s.tweet_id COLLATE "C" DESC LIMIT $8"#,
    )
    .bind(&query.brand)
    .bind(query.from.start())
    .bind(query.to.plus(1).start())
    .bind(query.label.map(monitor_core::domain::Label::as_str))
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

/// The keys of an incident's notifications begin with its number.
pub(super) async fn notifications_of(
    store: &PostgresStore,
    id: IncidentId,
) -> Result<Vec<NotificationState>, StoreError> {
    let rows = sqlx::query(
        "SELECT receiver, coalesce(transition, '') AS transition, state, attempts, last_error,
                ended_at, notification -> 'drivers' AS drivers
         FROM outbox WHERE key LIKE 'incident-' || $1 || '-%' ORDER BY id",
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
