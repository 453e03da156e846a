//! Checkpoints, scores and counts.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::{PostgresStore, count, insert, partitions, switches};
use crate::{Advance, Batch, Claim, Committed, PartitionProgress, StoreError, Totals};
use monitor_core::domain::{Offset, Resume, StartAt, TopicPartition};

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
    let stored = insert::tweets(&mut tx, batch, (&key, &store.ignored_authors)).await?;
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
    .bind(stored.new.cast_signed())
    .bind(letters.cast_signed())
    .bind(stored.not_judged.cast_signed())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(stored)
}

pub(super) async fn mark_at_end(
    store: &PostgresStore,
    partition: &TopicPartition,
    position: Offset,
    at_end: bool,
) -> Result<(), StoreError> {
    let mut tx = store.pool.begin().await?;
    let stored = checkpoint_for_update(&mut tx, partition).await?;
    if stored != Some(position) {
        return Err(StoreError::Fenced { partition: partition.clone(), held: position, stored });
    }
    sqlx::query(
        r#"UPDATE checkpoints SET at_end = $3, updated_at = now()
           WHERE topic = $1 AND "partition" = $2"#,
    )
    .bind(&*partition.topic)
    .bind(partition.partition)
    .bind(at_end)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
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
