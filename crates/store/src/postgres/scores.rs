//! Checkpoints, scores and counts.

use sqlx::{Acquire, PgConnection, Row};

use super::{PostgresStore, count, switches};
use crate::{Batch, Claim, Committed, PartitionProgress, StoreError, Totals};
use monitor_core::domain::{Offset, Resume, StartAt, TopicPartition, TweetId};

/// Separates the brand names that are sent to Postgres as one string: `unnest` takes no
/// arrays of arrays.
const UNIT_SEPARATOR: &str = "\u{1f}";

pub(super) async fn claim(
    store: &PostgresStore,
    claims: &[Claim],
    start_at: StartAt,
) -> Result<Vec<Resume>, StoreError> {
    let mut tx = store.pool.begin().await?;
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

pub(super) async fn commit(store: &PostgresStore, batch: &Batch) -> Result<Committed, StoreError> {
    let mut tx = store.pool.begin().await?;
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
    if !batch.scores.is_empty() {
        batch.check_models(&switches::hold_still(&mut tx).await?)?;
    }
    let (new, not_judged) = insert_scores(&mut tx, batch).await?;
    let letters = insert_dead_letters(&mut tx, batch).await?;
    sqlx::query(
        r#"UPDATE checkpoints AS c
           SET position = n.position,
               event_time_max = greatest(c.event_time_max, n.event_time_max),
               record_time_max = greatest(c.record_time_max, n.record_time_max),
               at_end = false,
               updated_at = now()
           FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
                AS n (topic, "partition", position, event_time_max, record_time_max)
           WHERE c.topic = n.topic AND c."partition" = n."partition""#,
    )
    .bind(advances.iter().map(|a| &*a.partition.topic).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.partition.partition).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.to.0).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.event_time_max).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.record_time_max).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    if let Some(first) = advances.first() {
        // The partition does not matter: only the sum is used.
        sqlx::query(
            r#"UPDATE checkpoints
               SET scores = scores + $3, dead_letters = dead_letters + $4,
                   not_judged = not_judged + $5
               WHERE topic = $1 AND "partition" = $2"#,
        )
        .bind(&*first.partition.topic)
        .bind(first.partition.partition)
        .bind(new.cast_signed())
        .bind(letters.cast_signed())
        .bind(not_judged.cast_signed())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    let duplicate = batch.scores.len() as u64 - new - not_judged;
    Ok(Committed { new, not_judged, duplicate })
}

pub(super) async fn mark_at_end(
    store: &PostgresStore,
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
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn progress(
    store: &PostgresStore,
    topic: &str,
) -> Result<Vec<PartitionProgress>, StoreError> {
    let rows = sqlx::query(
        r#"SELECT "partition", position, event_time_max, record_time_max, at_end
           FROM checkpoints WHERE topic = $1 ORDER BY "partition""#,
    )
    .bind(topic)
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(PartitionProgress {
                partition: TopicPartition::new(topic, row.try_get("partition")?),
                position: Offset(row.try_get("position")?),
                event_time_max: row.try_get("event_time_max")?,
                record_time_max: row.try_get("record_time_max")?,
                at_end: row.try_get("at_end")?,
            })
        })
        .collect()
}

pub(super) async fn totals(store: &PostgresStore) -> Result<Totals, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT coalesce(sum(scores), 0)::bigint FROM checkpoints) AS scores,
                (SELECT coalesce(sum(not_judged), 0)::bigint FROM checkpoints) AS not_judged,
                (SELECT coalesce(sum(dead_letters), 0)::bigint FROM checkpoints)
                    AS dead_letters,
                count(*) FILTER (WHERE state = 'pending') AS pending,
                count(*) FILTER (WHERE state = 'dead') AS dead
         FROM outbox",
    )
    .fetch_one(&store.pool)
    .await?;
    Ok(Totals {
        scores: count(&row, "scores")?,
        not_judged: count(&row, "not_judged")?,
        dead_letters: count(&row, "dead_letters")?,
        outbox_pending: count(&row, "pending")?,
        outbox_dead: count(&row, "dead")?,
    })
}

pub(super) async fn ping(store: &PostgresStore) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM checkpoints LIMIT 1").execute(&store.pool).await?;
    Ok(())
}

/// Reads and locks a checkpoint until the transaction ends.
async fn checkpoint_for_update(
    connection: &mut PgConnection,
    partition: &TopicPartition,
) -> Result<Option<Offset>, StoreError> {
    let position = sqlx::query_scalar(
        r#"SELECT position FROM checkpoints
           WHERE topic = $1 AND "partition" = $2 FOR UPDATE"#,
    )
    .bind(&*partition.topic)
    .bind(partition.partition)
    .fetch_optional(connection)
    .await?;
    Ok(position.map(Offset))
}

/// Inserts the tweets that are new and adds them to their minutes' counts; returns how many
/// were new with a score and without one.
async fn insert_scores(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<(u64, u64), StoreError> {
    if batch.scores.is_empty() {
        return Ok((0, 0));
    }
    let mut scores: Vec<_> = batch.scores.iter().collect();
    scores.sort_by(|a, b| a.tweet.id.cmp(&b.tweet.id));
    let reach = || scores.iter().map(|s| &s.tweet.reach);
    // Larger numbers than Postgres can store exceed the number of people.
    let bigint = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let of_model = || scores.iter().map(|s| s.score.as_ref());
    let probabilities = || of_model().map(|s| s.map(|s| s.score.probabilities));
    let (new, not_judged): (i64, i64) = sqlx::query_as(
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
         SELECT count(label), count(*) - count(label) FROM fresh",
    )
    .bind(scores.iter().map(|s| s.tweet.id.as_str()).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.tweet.created_at).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.brands.join(UNIT_SEPARATOR)).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.tweet.text.as_str()).collect::<Vec<_>>())
    .bind(probabilities().map(|p| p.map(|p| p.negative().get())).collect::<Vec<_>>())
    .bind(of_model().map(|s| s.map(|s| s.score.label.as_str())).collect::<Vec<_>>())
    .bind(of_model().map(|s| s.map(|s| s.model.as_str())).collect::<Vec<_>>())
    .bind(reach().map(|r| r.author.as_deref()).collect::<Vec<_>>())
    .bind(reach().map(|r| r.followers.map(bigint)).collect::<Vec<_>>())
    .bind(reach().map(|r| r.retweets.map(bigint)).collect::<Vec<_>>())
    .bind(reach().map(|r| r.retweet_of.as_ref().map(TweetId::as_str)).collect::<Vec<_>>())
    .bind(of_model().map(|s| s.is_some_and(|s| s.truncated)).collect::<Vec<_>>())
    .bind(probabilities().map(|p| p.map(|p| p.neutral().get())).collect::<Vec<_>>())
    .bind(scores.iter().map(|s| s.tweet.language.map(|it| it.to_string())).collect::<Vec<_>>())
    .bind(UNIT_SEPARATOR)
    .fetch_one(connection.acquire().await?)
    .await?;
    Ok((new.unsigned_abs(), not_judged.unsigned_abs()))
}

/// Inserts the dead letters; returns how many were new.
async fn insert_dead_letters(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<u64, StoreError> {
    if batch.dead_letters.is_empty() {
        return Ok(0);
    }
    let letters = &batch.dead_letters;
    let inserted = sqlx::query(
        r#"INSERT INTO dead_letters (topic, "partition", "offset", reason, payload, payload_bytes)
           SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bytea[],
                                $6::bigint[])
           ON CONFLICT DO NOTHING"#,
    )
    .bind(letters.iter().map(|d| &*d.partition.topic).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.partition.partition).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.offset.0).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.reason.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload.as_slice()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload_bytes.cast_signed()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}
