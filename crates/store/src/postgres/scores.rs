//! Checkpoints, scores and counts.

use std::collections::BTreeMap;

use sqlx::{Acquire, PgConnection, Row};

use super::authors::AuthorKey;
use super::{PostgresStore, count, partitions, switches};
use crate::{Advance, Batch, Claim, Committed, PartitionProgress, StoreError, Totals};
use monitor_core::domain::{Offset, Resume, StartAt, TopicPartition, TweetId};

/// Separates the brand names that are sent to Postgres as one string: `unnest` takes no
/// arrays of arrays.
const UNIT_SEPARATOR: &str = "\u{1f}";

/// Of the dead letters beyond the limit of a minute, those at offsets that this divides are kept.
pub(super) const LETTER_SAMPLE: i64 = 100;

/// Length of a kind of reason, in characters, at most.
const REASON_CHARS: usize = 120;

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
    partitions::make_for(store, batch).await?;
    match commit_once(store, batch).await {
        Err(error) if partitions::is_missing(&error) => {
            tracing::info!("a part of scores was dropped meanwhile; storing the batch again");
            store.partitions.forget();
            partitions::make_for(store, batch).await?;
            commit_once(store, batch).await
        }
        outcome => outcome,
    }
}

async fn commit_once(store: &PostgresStore, batch: &Batch) -> Result<Committed, StoreError> {
    let key = store.authors.key(&store.pool).await?;
    let mut tx = store.pool.begin().await?;
    let mut advances: Vec<_> = batch.advances.iter().collect();
    advances.sort_by(|a, b| a.partition.cmp(&b.partition));
    let checkpoints = checkpoints_for_update(&mut tx, &advances).await?;
    for advance in &advances {
        let stored = checkpoints.get(&advance.partition).copied();
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
    let (new, not_judged) = insert_scores(&mut tx, batch, &key).await?;
    let letters = insert_dead_letters(&mut tx, batch, store.dead_letters_per_minute_max).await?;
    // The new rows are added to the first partition: only the sum is used.
    sqlx::query(
        r#"UPDATE checkpoints AS c
           SET position = n.position,
               event_time_max = greatest(c.event_time_max, n.event_time_max),
               record_time_max = greatest(c.record_time_max, n.record_time_max),
               at_end = false,
               updated_at = now(),
               scores = c.scores + CASE WHEN place = 1 THEN $6 ELSE 0 END,
               dead_letters = c.dead_letters + CASE WHEN place = 1 THEN $7 ELSE 0 END,
               not_judged = c.not_judged + CASE WHEN place = 1 THEN $8 ELSE 0 END
           FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
                WITH ORDINALITY
                AS n (topic, "partition", position, event_time_max, record_time_max, place)
           WHERE c.topic = n.topic AND c."partition" = n."partition""#,
    )
    .bind(advances.iter().map(|a| &*a.partition.topic).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.partition.partition).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.to.0).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.event_time_max).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.record_time_max).collect::<Vec<_>>())
    .bind(new.cast_signed())
    .bind(letters.cast_signed())
    .bind(not_judged.cast_signed())
    .execute(&mut *tx)
    .await?;
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

/// Reads and locks the checkpoints of a batch until the transaction ends, in order.
async fn checkpoints_for_update(
    connection: &mut PgConnection,
    advances: &[&Advance],
) -> Result<BTreeMap<TopicPartition, Offset>, StoreError> {
    let rows = sqlx::query(
        r#"SELECT topic, "partition", position FROM checkpoints
           WHERE (topic, "partition") IN (SELECT * FROM unnest($1::text[], $2::int[]))
           ORDER BY topic, "partition" FOR UPDATE"#,
    )
    .bind(advances.iter().map(|a| &*a.partition.topic).collect::<Vec<_>>())
    .bind(advances.iter().map(|a| a.partition.partition).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let topic: String = row.try_get("topic")?;
            let partition = TopicPartition::new(topic, row.try_get("partition")?);
            Ok((partition, Offset(row.try_get("position")?)))
        })
        .collect()
}

/// Inserts the tweets that are new and adds them to the counts of their minutes, hours and days; returns how
/// many were new with a score and without one.
///
/// `tweet_ids` says which are new, whatever week they are in. Of two transactions with the same id, the second
/// waits there for the first.
async fn insert_scores(
    connection: &mut PgConnection,
    batch: &Batch,
    key: &AuthorKey,
) -> Result<(u64, u64), StoreError> {
    if batch.scores.is_empty() {
        return Ok((0, 0));
    }
    let mut scores: Vec<_> = batch.scores.iter().collect();
    scores.sort_by(|a, b| a.tweet.id.cmp(&b.tweet.id));
    scores.dedup_by(|later, first| later.tweet.id == first.tweet.id);
    let reach = || scores.iter().map(|s| &s.tweet.reach);
    let authors = reach().map(|r| r.author.as_deref().and_then(|author| key.stored(author)));
    let authors: Vec<Option<String>> = authors.collect();
    // Larger numbers than Postgres can store exceed the number of people.
    let bigint = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let of_model = || scores.iter().map(|s| s.score.as_ref());
    let probabilities = || of_model().map(|s| s.map(|s| s.score.probabilities));
    let (new, not_judged): (i64, i64) = sqlx::query_as(
        "WITH rows AS (
             SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::real[],
                                  $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
                                  $11::text[], $12::bool[], $13::real[], $14::text[])
                  AS r (tweet_id, created_at, brands, text, negative, label, model,
                        author, followers, retweets, retweet_of, truncated, neutral, language)
         ), known AS (
             INSERT INTO tweet_ids (tweet_id, created_at) SELECT tweet_id, created_at FROM rows
             ON CONFLICT DO NOTHING RETURNING tweet_id
         ), fresh AS (
             INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model,
                                 author, followers, retweets, retweet_of, truncated, neutral,
                                 language)
             SELECT r.tweet_id, created_at, string_to_array(brands, $15), text, negative, label,
                    model, author, followers, retweets, retweet_of, truncated, neutral, language
             FROM rows AS r JOIN known ON known.tweet_id = r.tweet_id COLLATE \"C\"
             RETURNING created_at, brands, label, model, language
         ), tallied AS MATERIALIZED (
             SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute, model, language,
                    count(*) AS tweets, count(*) FILTER (WHERE label = 'NEGATIVE') AS negative,
                    count(*) FILTER (WHERE label = 'NEUTRAL') AS neutral
             FROM fresh, unnest(brands) AS brand
             GROUP BY 1, 2, 3, 4
         ), not_judged AS (
             INSERT INTO not_judged_counts AS n (brand, minute, language, tweets)
             SELECT brand, minute, language, sum(tweets) FROM tallied
             WHERE model IS NULL AND language IS NOT NULL
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (brand, minute, language) DO UPDATE
             SET tweets = n.tweets + excluded.tweets
         ), by_minute AS (
             INSERT INTO minute_counts AS m (brand, minute, model, total, negative)
             SELECT brand, minute, model, sum(tweets), sum(negative) FROM tallied
             WHERE model IS NOT NULL
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (brand, minute, model) DO UPDATE
             SET total = m.total + excluded.total, negative = m.negative + excluded.negative
         ), by_hour AS (
             INSERT INTO hour_counts AS h (brand, hour, model, language, tweets, negative, neutral)
             SELECT brand, date_trunc('hour', minute, 'UTC'), coalesce(model, ''),
                    coalesce(language, ''), sum(tweets), sum(negative), sum(neutral)
             FROM tallied GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
             ON CONFLICT (brand, hour, model, language) DO UPDATE
             SET tweets = h.tweets + excluded.tweets, negative = h.negative + excluded.negative,
                 neutral = h.neutral + excluded.neutral
         ), by_day AS (
             INSERT INTO day_counts AS d (brand, day, model, language, tweets, negative, neutral)
             SELECT brand, date_trunc('day', minute, 'UTC'), coalesce(model, ''),
                    coalesce(language, ''), sum(tweets), sum(negative), sum(neutral)
             FROM tallied GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
             ON CONFLICT (brand, day, model, language) DO UPDATE
             SET tweets = d.tweets + excluded.tweets, negative = d.negative + excluded.negative,
                 neutral = d.neutral + excluded.neutral
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
    .bind(authors)
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

/// Inserts the dead letters and counts them; returns how many are new or only counted. Of more than `max` in a
/// minute of the clock, one in [`LETTER_SAMPLE`] is inserted.
async fn insert_dead_letters(
    connection: &mut PgConnection,
    batch: &Batch,
    max: u32,
) -> Result<u64, StoreError> {
    if batch.dead_letters.is_empty() {
        return Ok(0);
    }
    let letters = &batch.dead_letters;
    let counted: i64 = sqlx::query_scalar(
        r#"WITH letters AS (
               SELECT *, row_number() OVER () + coalesce((
                   SELECT sum(kept) FROM dead_letter_counts
                   WHERE minute = date_trunc('minute', now(), 'UTC')), 0) AS place
               FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bytea[],
                           $6::bigint[], $7::text[], $8::timestamptz[])
                    AS l (topic, "partition", "offset", reason, payload, payload_bytes, kind,
                          record_time)
           ), fresh AS (
               SELECT *, place <= $9 OR "offset" % $10 = 0 AS keep FROM letters AS l
               WHERE NOT EXISTS (
                   SELECT FROM dead_letters AS d WHERE d.topic = l.topic
                     AND d."partition" = l."partition" AND d."offset" = l."offset"
                     AND d.record_time IS NOT DISTINCT FROM l.record_time
                     AND d.payload_bytes = l.payload_bytes AND d.payload = l.payload)
           ), kept AS (
               INSERT INTO dead_letters
                   (topic, "partition", "offset", reason, payload, payload_bytes, record_time)
               SELECT topic, "partition", "offset", reason, payload, payload_bytes, record_time
               FROM fresh WHERE keep
           ), counted AS (
               INSERT INTO dead_letter_counts AS c (minute, reason, records, kept)
               SELECT date_trunc('minute', now(), 'UTC'), kind, count(*),
                      count(*) FILTER (WHERE keep)
               FROM fresh GROUP BY kind ORDER BY kind
               ON CONFLICT (minute, reason) DO UPDATE
               SET records = c.records + excluded.records, kept = c.kept + excluded.kept
           )
           SELECT count(*) FROM fresh"#,
    )
    .bind(letters.iter().map(|d| &*d.partition.topic).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.partition.partition).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.offset.0).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.reason.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload.as_slice()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.payload_bytes.cast_signed()).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| kind(&d.reason)).collect::<Vec<_>>())
    .bind(letters.iter().map(|d| d.record_time).collect::<Vec<_>>())
    .bind(i64::from(max))
    .bind(LETTER_SAMPLE)
    .fetch_one(connection)
    .await?;
    Ok(counted.unsigned_abs())
}

/// A reason without the values that it quotes, so that there are few kinds.
fn kind(reason: &str) -> String {
    let mut kind = String::new();
    let (mut quoted, mut escaped, mut number) = (false, false, false);
    for c in reason.chars().take(4 * REASON_CHARS) {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            kind.push('…');
            (quoted, number) = (true, false);
        } else if c.is_ascii_digit() {
            if !std::mem::replace(&mut number, true) {
                kind.push('…');
            }
        } else if !(number && matches!(c, '.' | ':' | '-')) {
            number = false;
            kind.push(c);
        }
    }
    kind.chars().take(REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_reason_has_no_values() {
        let check = |reason: &str, expected: &str| assert_eq!(kind(reason), expected, "{reason}");
        check("the record is empty", "the record is empty");
        check(
            "the record has 70000 bytes, more than kafka.record_bytes_max = 65536",
            "the record has … bytes, more than kafka.record_bytes_max = …",
        );
        check(
            r#"created_at "24 \"Feb\" 2015" is not a time such as 2015-02-24T19:35:52Z"#,
            "created_at … is not a time such as …T…Z",
        );
        check("not a tweet: \"an open quote", "not a tweet: …");
        check(&"x".repeat(999), &"x".repeat(REASON_CHARS));
    }
}
