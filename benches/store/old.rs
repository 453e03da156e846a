//! How the version before wrote a batch: the statements of its commit, on its schema.

use std::path::Path;

use anyhow::Context;
use monitor_store::Batch;
use sqlx::migrate::Migrator;
use sqlx::{PgConnection, PgPool};

/// The last migration of the version before.
const LAST: i64 = 10;

/// Brings an empty database to the schema of the version before.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    let migrator = Migrator::new(Path::new("migrations")).await?;
    migrator.run_to(LAST, connection).await.context("cannot make the old schema")
}

/// Tweets as fill.sql makes them, on the old schema: the settings are the same.
pub const FILL: &str = "
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, neutral, label, model, language, author)
    SELECT (1e18::bigint + n * 4194304)::text, until - (tweets - n) * (days * interval '24 hours' / tweets),
           ARRAY['brand ' || 1 + n * 7919 % brands],
           'A tweet as long as tweets are, in its own words: number ' || n || ' says that the flight was late again',
           0.9, 0.05, (ARRAY['NEGATIVE', 'NEUTRAL', 'POSITIVE'])[1 + n % 3], 'model@1',
           CASE WHEN n % 10 = 0 THEN 'fr' ELSE 'en' END, 'author ' || n * 7919 % 100003
    FROM (SELECT current_setting('monitor.tweets')::bigint AS tweets, current_setting('monitor.days')::integer AS days,
                 current_setting('monitor.brands')::integer AS brands,
                 current_setting('monitor.until')::timestamptz AS until) AS size,
         generate_series(1, tweets) AS n;
    INSERT INTO minute_counts (brand, minute, model, total, negative)
    SELECT brand, date_trunc('minute', created_at, 'UTC'), model, count(*), count(*) FILTER (WHERE label = 'NEGATIVE')
    FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3;
    ANALYZE;";

/// What the old schema knows: tweets, a checksum of their ids, and the sums of the counts.
pub const CHECK: &str = "
    SELECT count(*), sum(hashtext(tweet_id)::bigint)::bigint, sum(extract(epoch FROM created_at))::bigint,
           (SELECT sum(total)::bigint FROM minute_counts)
    FROM scores";

/// One transaction of the version before.
pub async fn commit(pool: &PgPool, batch: &Batch) -> anyhow::Result<()> {
    let advance = &batch.advances[0];
    let (topic, partition) = (&*advance.partition.topic, advance.partition.partition);
    let mut tx = pool.begin().await?;
    sqlx::query(
        r#"SELECT position FROM checkpoints WHERE topic = $1 AND "partition" = $2 FOR UPDATE"#,
    )
    .bind(topic)
    .bind(partition)
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query("LOCK TABLE model_switches IN SHARE MODE").execute(&mut *tx).await?;
    sqlx::query("SELECT minute, model, gap_from FROM model_switches ORDER BY minute")
        .fetch_all(&mut *tx)
        .await?;
    let mut rows: Vec<_> = batch.scores.iter().collect();
    rows.sort_by(|a, b| a.tweet.id.cmp(&b.tweet.id));
    let scores = || rows.iter().map(|row| row.score.as_ref().expect("all have a score"));
    let texts = |of: fn(&monitor_store::ScoredTweet) -> &str| {
        rows.iter().map(|row| of(row)).collect::<Vec<_>>()
    };
    let (new,): (i64,) = sqlx::query_as(
        "WITH fresh AS (
             INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model,
                                 author, followers, retweets, retweet_of, truncated, neutral,
                                 language)
             SELECT tweet_id, created_at, string_to_array(brands, $15), text, negative, label,
                    model, author, followers, retweets, retweet_of, truncated, neutral, language
             FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::real[],
                         $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
                         $11::text[], $12::bool[], $13::real[], $14::text[])
                  AS r (tweet_id, created_at, brands, text, negative, label, model,
                        author, followers, retweets, retweet_of, truncated, neutral, language)
             ON CONFLICT (tweet_id) DO NOTHING
             RETURNING created_at, brands, label, model, language
         ), not_judged AS (
             INSERT INTO not_judged_counts AS n (brand, minute, language, tweets)
             SELECT brand, date_trunc('minute', created_at, 'UTC'), language, count(*)
             FROM fresh, unnest(brands) AS brand
             WHERE label IS NULL AND language IS NOT NULL
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (brand, minute, language) DO UPDATE
             SET tweets = n.tweets + excluded.tweets
         ), counted AS (
             INSERT INTO minute_counts AS m (brand, minute, model, total, negative)
             SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute, model,
                    count(*), count(*) FILTER (WHERE label = 'NEGATIVE')
             FROM fresh, unnest(brands) AS brand
             WHERE label IS NOT NULL
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (brand, minute, model) DO UPDATE
             SET total = m.total + excluded.total, negative = m.negative + excluded.negative
         )
         SELECT count(*) FROM fresh",
    )
    .bind(texts(|row| row.tweet.id.as_str()))
    .bind(rows.iter().map(|row| row.tweet.created_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.brands.join("\u{1f}")).collect::<Vec<_>>())
    .bind(texts(|row| &row.tweet.text))
    .bind(scores().map(|it| it.score.probabilities.negative().get()).collect::<Vec<_>>())
    .bind(scores().map(|it| it.score.label.as_str()).collect::<Vec<_>>())
    .bind(scores().map(|it| it.model.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tweet.reach.author.as_deref()).collect::<Vec<_>>())
    .bind(vec![None::<i64>; rows.len()])
    .bind(vec![None::<i64>; rows.len()])
    .bind(vec![None::<&str>; rows.len()])
    .bind(scores().map(|it| it.truncated).collect::<Vec<_>>())
    .bind(scores().map(|it| it.score.probabilities.neutral().get()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.tweet.language.map(|it| it.to_string())).collect::<Vec<_>>())
    .bind("\u{1f}")
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        r#"UPDATE checkpoints AS c
           SET position = $3, event_time_max = greatest(c.event_time_max, $4), at_end = false, updated_at = now()
           WHERE c.topic = $1 AND c."partition" = $2"#,
    )
    .bind(topic)
    .bind(partition)
    .bind(advance.to.0)
    .bind(advance.event_time_max)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        r#"UPDATE checkpoints SET scores = scores + $3 WHERE topic = $1 AND "partition" = $2"#,
    )
    .bind(topic)
    .bind(partition)
    .bind(new)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}
