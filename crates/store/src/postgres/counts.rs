//! Counts by minute and hour, and the tweets of a window.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{PostgresStore, authors, count};
use crate::sampling::minutes_to_read;
use crate::{DrawnTweet, StoreError, StoredTweet};
use monitor_core::domain::{Counts, Language, Minute};

pub(super) async fn minute_counts(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let rows = sqlx::query(
        "SELECT minute, sum(total - echoes)::bigint AS total,
                sum(negative - negative_echoes)::bigint AS negative
         FROM minute_counts WHERE brand = $1 AND minute BETWEEN $2 AND $3
         GROUP BY minute HAVING sum(total - echoes) > 0 ORDER BY minute",
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
        "SELECT hour AS minute, sum(tweets - echoes)::bigint AS total,
                sum(negative - negative_echoes)::bigint AS negative
         FROM hour_counts
         WHERE ($1::text IS NULL OR brand = $1) AND hour BETWEEN $2 AND $3 AND model <> ''
         GROUP BY 1 HAVING sum(tweets - echoes) > 0 ORDER BY 1",
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

pub(super) async fn echoes(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT coalesce(sum(echoes), 0)::bigint AS echoes FROM minute_counts
         WHERE brand = $1 AND minute BETWEEN $2 AND $3",
    )
    .bind(brand)
    .bind(from.start())
    .bind(to.start())
    .fetch_one(&store.pool)
    .await?;
    count(&row, "echoes")
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
           GROUP BY 1 HAVING sum(tweets) > 0 ORDER BY 2 DESC, language COLLATE "C""#,
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

pub(super) async fn newest(
    store: &PostgresStore,
    brands: &[String],
) -> Result<Vec<(String, Minute)>, StoreError> {
    let rows: Vec<(String, Option<DateTime<Utc>>)> = sqlx::query_as(
        "SELECT brand, greatest((SELECT max(minute) FROM minute_counts AS c WHERE c.brand = of.brand),
                    (SELECT max(minute) FROM not_judged_counts AS c WHERE c.brand = of.brand))
         FROM unnest($1::text[]) AS of (brand)",
    )
    .bind(brands)
    .fetch_all(&store.pool)
    .await?;
    let newest = rows.into_iter().filter_map(|(brand, at)| Some((brand, Minute::of(at?))));
    Ok(newest.collect())
}

/// Columns of a [`StoredTweet`] and a [`DrawnTweet`].
pub(super) const COLUMNS: &str = "tweet_id, created_at, text, negative, label, label = 'NEGATIVE' AS is_negative, \
    truncated, author, followers, retweets, retweet_of, model, language";

/// The tweets about the brand `$1`: those whose first brand it is, and those of the few about several. Each part has
/// an index by time.
pub(super) const ABOUT: [&str; 2] =
    ["brands[1] = $1", "cardinality(brands) > 1 AND brands[1] <> $1 AND brands @> ARRAY[$1]"];

/// The tweets of `first..last` about the brand `$1`.
fn of_brand(first: &str, last: &str) -> String {
    let part = |about| {
        format!(
            "SELECT {COLUMNS} FROM scores
             WHERE {about} AND created_at >= {first} AND created_at < {last}"
        )
    };
    ABOUT.map(part).join(" UNION ALL ")
}

/// The times `$2` to `$3`.
const TIMES: &str = "unnest($2::timestamptz[], $3::timestamptz[]) AS times (first, last)";
/// By the hashes of the ids: the same at every call, on every server, and in the in-memory store.
const RANDOM_ORDER: &str = "sha256(convert_to(tweet_id, 'UTF8'))";

fn bounds(minutes: &[Minute]) -> (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    minutes.iter().map(|minute| (minute.start(), minute.plus(1).start())).unzip()
}

pub(super) async fn window_tweets(
    store: &PostgresStore,
    brand: &str,
    from: Minute,
    to: Minute,
    limit: u32,
) -> Result<Vec<StoredTweet>, StoreError> {
    let hours = hour_counts(store, Some(brand), from, to).await?;
    let tweets = hours.iter().map(|(_, counts)| counts.total).sum();
    let minutes = minutes_to_read(from, to, tweets, limit);
    let tweets = match minutes {
        // Constants, so that other weeks are not even planned.
        None => format!("({})", of_brand("$2", "$3")),
        Some(_) => format!("{TIMES}, LATERAL ({})", of_brand("first", "last")),
    };
    let is_heard = authors::is_heard("$5");
    let sql = sqlx::AssertSqlSafe(format!(
        r#"SELECT * FROM (
               SELECT t.* FROM {tweets} AS t WHERE label IS NOT NULL AND {is_heard}
               ORDER BY {RANDOM_ORDER} LIMIT $4
           ) AS sample
           ORDER BY created_at, tweet_id COLLATE "C""#
    ));
    let query = sqlx::query(sql).bind(brand);
    let query = match minutes {
        None => query.bind(from.start()).bind(to.plus(1).start()),
        Some(minutes) => {
            let (first, last) = bounds(&minutes);
            query.bind(first).bind(last)
        }
    };
    let left_out = authors::left_out(store).await?;
    let rows = query.bind(i64::from(limit)).bind(left_out).fetch_all(&store.pool).await?;
    rows.iter().map(stored).collect()
}

pub(super) async fn random_tweets(
    store: &PostgresStore,
    brand: Option<&str>,
    minutes: &[Minute],
    limit: u32,
) -> Result<Vec<DrawnTweet>, StoreError> {
    let tweets = match brand {
        Some(_) => of_brand("first", "last"),
        // OFFSET 0 has Postgres read minute by minute, rather than all weeks at once.
        None => format!(
            "SELECT {COLUMNS} FROM scores
             WHERE $1::text IS NULL AND cardinality(brands) > 0
               AND created_at >= first AND created_at < last OFFSET 0"
        ),
    };
    let sql = format!(
        "SELECT t.* FROM {TIMES}, LATERAL ({tweets}) AS t ORDER BY {RANDOM_ORDER} LIMIT $4"
    );
    let (first, last) = bounds(minutes);
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(brand).bind(first).bind(last);
    let rows = query.bind(i64::from(limit)).fetch_all(&store.pool).await?;
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
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM scores
         WHERE tweet_id = $1 AND label IS NOT NULL
           AND created_at = (SELECT created_at FROM tweet_ids WHERE tweet_id = $1)"
    )))
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
