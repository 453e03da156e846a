//! Counts by minute and hour, and the tweets of a window.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{PostgresStore, count};
use crate::{DrawnTweet, StoreError, StoredTweet};
use monitor_core::domain::{Counts, Language, Minute};

pub(super) async fn minute_counts(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let rows = sqlx::query(
        "SELECT minute, sum(total)::bigint AS total, sum(negative)::bigint AS negative
         FROM minute_counts
         WHERE brand = $1 AND minute BETWEEN $2 AND $3 GROUP BY minute ORDER BY minute",
    )
    .bind(brand)
    .bind(from.start())
    .bind(to.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(counts).collect()
}

pub(super) async fn hour_counts(
    store: &PostgresStore,
    brand: Option<&str>,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let rows = sqlx::query(
        "SELECT date_trunc('hour', minute, 'UTC') AS minute,
                sum(total)::bigint AS total, sum(negative)::bigint AS negative
         FROM minute_counts
         WHERE ($1::text IS NULL OR brand = $1)
           AND minute >= date_trunc('hour', $2, 'UTC')
           AND minute < date_trunc('hour', $3, 'UTC') + interval '1 hour'
         GROUP BY 1 ORDER BY 1",
    )
    .bind(brand)
    .bind(from.start())
    .bind(to.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(counts).collect()
}

pub(super) fn counts(row: &PgRow) -> Result<(Minute, Counts), StoreError> {
    let counts = Counts { total: count(row, "total")?, negative: count(row, "negative")? };
    Ok((Minute::of(row.try_get("minute")?), counts))
}

pub(super) async fn not_judged(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Language, u64)>, StoreError> {
    let rows = sqlx::query(
        r#"SELECT language, sum(tweets)::bigint AS tweets FROM not_judged_counts
           WHERE brand = $1 AND minute BETWEEN $2 AND $3
           GROUP BY 1 ORDER BY 2 DESC, language COLLATE "C""#,
    )
    .bind(brand)
    .bind(from.start())
    .bind(to.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            let language = row.try_get::<String, _>("language")?.parse::<Language>();
            let language = language.map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((language, count(row, "tweets")?))
        })
        .collect()
}

pub(super) async fn first_minute(
    store: &PostgresStore,
    brand: &str,
) -> Result<Option<Minute>, StoreError> {
    let first: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT min(minute) FROM minute_counts WHERE brand = $1")
            .bind(brand)
            .fetch_one(&store.pool)
            .await?;
    Ok(first.map(Minute::of))
}

pub(super) async fn last_minute(
    store: &PostgresStore,
    brand: &str,
) -> Result<Option<Minute>, StoreError> {
    let last: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT max(minute) FROM minute_counts WHERE brand = $1")
            .bind(brand)
            .fetch_one(&store.pool)
            .await?;
    Ok(last.map(Minute::of))
}

/// The sample is the tweets with the smallest hashes of their ids: the same at every call, on
/// every server, and in the in-memory store.
pub(super) async fn window_tweets(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
    limit: u32,
) -> Result<Vec<StoredTweet>, StoreError> {
    let rows = sqlx::query(
        r#"SELECT * FROM (
               SELECT tweet_id, created_at, text, negative, label = 'NEGATIVE' AS is_negative,
                      truncated, author, followers, retweets, retweet_of, model
               FROM scores
               WHERE created_at >= $2 AND created_at < $3 AND brands @> ARRAY[$1]
                 AND label IS NOT NULL
               ORDER BY sha256(convert_to(tweet_id, 'UTF8')) LIMIT $4
           ) AS sample
           ORDER BY created_at, tweet_id COLLATE "C""#,
    )
    .bind(brand)
    .bind(from.start())
    .bind(to.plus(1).start())
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(stored).collect()
}

pub(super) async fn random_tweets(
    store: &PostgresStore,
    brand: Option<&str>,
    minutes: &[Minute],
    limit: u32,
) -> Result<Vec<DrawnTweet>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.text, t.language, t.negative, t.model
         FROM unnest($2::timestamptz[]) AS m (minute)
         CROSS JOIN LATERAL (
             SELECT tweet_id, text, language, negative, model FROM scores
             WHERE created_at >= m.minute AND created_at < m.minute + interval '1 minute'
               AND CASE WHEN $1::text IS NULL THEN cardinality(brands) > 0
                        ELSE brands @> ARRAY[$1] END
         ) AS t
         ORDER BY sha256(convert_to(t.tweet_id, 'UTF8')) LIMIT $3",
    )
    .bind(brand)
    .bind(minutes.iter().map(|minute| minute.start()).collect::<Vec<_>>())
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            let language = row.try_get::<Option<String>, _>("language")?;
            let language = language.map(|code| code.parse::<Language>()).transpose();
            Ok(DrawnTweet {
                text: row.try_get("text")?,
                language: language.map_err(|error| sqlx::Error::Decode(error.into()))?,
                negative: row.try_get("negative")?,
                model: row.try_get("model")?,
            })
        })
        .collect()
}

pub(super) async fn tweet(
    store: &PostgresStore,
    id: &str,
) -> Result<Option<StoredTweet>, StoreError> {
    let row = sqlx::query(
        "SELECT tweet_id, created_at, text, negative, label = 'NEGATIVE' AS is_negative, \
                truncated, author, followers, retweets, retweet_of, model \
         FROM scores WHERE tweet_id = $1 AND label IS NOT NULL",
    )
    .bind(id)
    .fetch_optional(&store.pool)
    .await?;
    row.as_ref().map(stored).transpose()
}

pub(super) fn stored(row: &PgRow) -> Result<StoredTweet, StoreError> {
    Ok(StoredTweet {
        tweet_id: row.try_get("tweet_id")?,
        created_at: row.try_get("created_at")?,
        text: row.try_get("text")?,
        negative: row.try_get("negative")?,
        is_negative: row.try_get("is_negative")?,
        truncated: row.try_get("truncated")?,
        author: row.try_get("author")?,
        followers: row.try_get::<Option<i64>, _>("followers")?.map(i64::unsigned_abs),
        retweets: row.try_get::<Option<i64>, _>("retweets")?.map(i64::unsigned_abs),
        retweet_of: row.try_get("retweet_of")?,
        model: row.try_get("model")?,
    })
}
