//! Counts by minute and hour, and the tweets of a window.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{PostgresStore, count};
use crate::sampling::minutes_to_read;
use crate::{StoreError, StoredTweet};
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
        "SELECT hour AS minute, sum(tweets)::bigint AS total, sum(negative)::bigint AS negative
         FROM hour_counts
         WHERE ($1::text IS NULL OR brand = $1) AND hour BETWEEN $2 AND $3 AND model <> ''
         GROUP BY 1 ORDER BY 1",
    )
    .bind(brand)
    .bind(from.hour_start().start())
    .bind(to.hour_start().start())
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

/// The tweets about one brand are those whose first brand it is, and those of the few about several; each has an
/// index. `$4` rows with the smallest hashes of their ids: the same at every call, on every server, and in the
/// in-memory store.
const SAMPLE: &str = r#"
    SELECT * FROM (
        SELECT t.* FROM TIMES, LATERAL (
            SELECT tweet_id, created_at, text, negative, label = 'NEGATIVE' AS is_negative,
                   truncated, author, followers, retweets, retweet_of, model
            FROM scores
            WHERE brands[1] = $1 AND created_at >= first AND created_at < last AND label IS NOT NULL
            UNION ALL
            SELECT tweet_id, created_at, text, negative, label = 'NEGATIVE',
                   truncated, author, followers, retweets, retweet_of, model
            FROM scores
            WHERE cardinality(brands) > 1 AND brands[1] <> $1 AND brands @> ARRAY[$1]
              AND created_at >= first AND created_at < last AND label IS NOT NULL
        ) AS t
        ORDER BY sha256(convert_to(tweet_id, 'UTF8')) LIMIT $4
    ) AS sample
    ORDER BY created_at, tweet_id COLLATE "C""#;

pub(super) async fn window_tweets(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
    limit: u32,
) -> Result<Vec<StoredTweet>, StoreError> {
    let hours = hour_counts(store, Some(brand), from, to).await?;
    let tweets = hours.iter().map(|(_, counts)| counts.total).sum();
    let sql = |times: &str| sqlx::AssertSqlSafe(SAMPLE.replace("TIMES", times));
    let rows = match minutes_to_read(from, to, tweets, limit) {
        None => {
            // Constants, so that other weeks are not even planned.
            let sql = SAMPLE.replace("FROM TIMES, LATERAL", "FROM");
            let sql = sql.replace(">= first", ">= $2").replace("< last", "< $3");
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(brand).bind(from.start());
            let query = query.bind(to.plus(1).start()).bind(i64::from(limit));
            query.fetch_all(&store.pool).await?
        }
        Some(minutes) => {
            let times = "unnest($2::timestamptz[], $3::timestamptz[]) AS minutes (first, last)";
            let first: Vec<_> = minutes.iter().map(|minute| minute.start()).collect();
            let last: Vec<_> = minutes.iter().map(|minute| minute.plus(1).start()).collect();
            let query = sqlx::query(sql(times)).bind(brand).bind(first).bind(last);
            query.bind(i64::from(limit)).fetch_all(&store.pool).await?
        }
    };
    rows.iter().map(stored).collect()
}

pub(super) async fn tweet(
    store: &PostgresStore,
    id: &str,
) -> Result<Option<StoredTweet>, StoreError> {
    let row = sqlx::query(
        "SELECT tweet_id, created_at, text, negative, label = 'NEGATIVE' AS is_negative, \
                truncated, author, followers, retweets, retweet_of, model \
         FROM scores
         WHERE tweet_id = $1 AND label IS NOT NULL
           AND created_at = (SELECT created_at FROM tweet_ids WHERE tweet_id = $1)",
    )
    .bind(id)
    .fetch_optional(&store.pool)
    .await?;
    row.as_ref().map(stored).transpose()
}

fn stored(row: &PgRow) -> Result<StoredTweet, StoreError> {
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
