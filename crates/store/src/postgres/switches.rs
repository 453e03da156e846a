//! Switches of the model, and the counts of tweets that another model scored again.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{PostgresStore, count};
use crate::{Pairs, Rescored, StoreError, StoredText};
use monitor_core::domain::{Counts, Minute, ModelSwitch, Switches};

const ALL: &str = "SELECT minute, model, gap_from FROM model_switches ORDER BY minute";

pub(super) async fn switches(store: &PostgresStore) -> Result<Switches, StoreError> {
    read(&mut *store.pool.acquire().await?).await
}

async fn read(connection: &mut PgConnection) -> Result<Switches, StoreError> {
    of(&sqlx::query(ALL).fetch_all(connection).await?)
}

fn of(rows: &[PgRow]) -> Result<Switches, StoreError> {
    let switch = |row: &PgRow| {
        Ok(ModelSwitch {
            from: Minute::of(row.try_get("minute")?),
            model: row.try_get("model")?,
            gap_from: Minute::of(row.try_get("gap_from")?),
        })
    };
    Ok(Switches::new(rows.iter().map(switch).collect::<Result<_, StoreError>>()?))
}

/// Reads the switches and keeps them as they are until the transaction ends. Several
/// transactions may do so at once.
pub(super) async fn hold_still(connection: &mut PgConnection) -> Result<Switches, StoreError> {
    // Two statements, sent at once: the second must see what the lock waited for.
    let sql = format!("LOCK TABLE model_switches IN SHARE MODE; {ALL}");
    of(&sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await?)
}

pub(super) async fn begin_with(store: &PostgresStore, model: &str) -> Result<Switches, StoreError> {
    sqlx::query(
        "INSERT INTO model_switches (minute, model, gap_from)
         SELECT $2, $1, $2 WHERE NOT EXISTS (SELECT FROM model_switches)
         ON CONFLICT DO NOTHING",
    )
    .bind(model)
    .bind(Minute(0).start())
    .execute(&store.pool)
    .await?;
    switches(store).await
}

pub(super) async fn switch_to(
    store: &PostgresStore,
    model: &str,
    gap_from: Minute,
) -> Result<Switches, StoreError> {
    let mut tx = store.pool.begin().await?;
    // Waits for the commits in progress, and lets none begin.
    sqlx::query("LOCK TABLE model_switches IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    let newest: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT max(event_time_max) FROM checkpoints")
            .fetch_one(&mut *tx)
            .await?;
    let mut switches = read(&mut tx).await?;
    let from = switches.fence(newest.map(Minute::of));
    let gap_from = gap_from.min(from);
    switches.switch_to(ModelSwitch { from, model: model.to_owned(), gap_from });
    sqlx::query("DELETE FROM model_switches WHERE minute >= $1")
        .bind(from.start())
        .execute(&mut *tx)
        .await?;
    if let Some(switch) = switches.newest().filter(|newest| newest.from == from) {
        sqlx::query("INSERT INTO model_switches (minute, model, gap_from) VALUES ($1, $2, $3)")
            .bind(switch.from.start())
            .bind(&switch.model)
            .bind(switch.gap_from.start())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(switches)
}

pub(super) async fn model_counts(
    store: &PostgresStore,
    model: &str,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let rows = sqlx::query(
        "SELECT minute, sum(total)::bigint AS total, sum(negative)::bigint AS negative
         FROM (
             SELECT minute, total - echoes AS total, negative - negative_echoes AS negative
             FROM minute_counts
             WHERE brand = $2 AND minute BETWEEN $3 AND $4 AND total > echoes
               AND (model = $1 OR model NOT IN (SELECT model FROM model_switches))
             UNION ALL
             SELECT minute, total, negative FROM rescored_counts
             WHERE model = $1 AND brand = $2 AND minute BETWEEN $3 AND $4 AND total > 0
         ) AS counts
         GROUP BY 1 ORDER BY 1",
    )
    .bind(model)
    .bind(brand)
    .bind(from.start())
    .bind(to.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(super::counts::counts).collect()
}

pub(super) async fn model_hour_counts(
    store: &PostgresStore,
    model: &str,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    let rows = sqlx::query(
        "SELECT minute, sum(total)::bigint AS total, sum(negative)::bigint AS negative
         FROM (
             SELECT hour AS minute, tweets - echoes AS total, negative - negative_echoes AS negative
             FROM hour_counts
             WHERE brand = $2 AND hour BETWEEN $3 AND $4 AND model <> '' AND tweets > echoes
               AND (model = $1 OR model NOT IN (SELECT model FROM model_switches))
             UNION ALL
             SELECT date_trunc('hour', minute, 'UTC'), total, negative FROM rescored_counts
             WHERE model = $1 AND brand = $2 AND minute >= $3 AND minute < $4 + interval '1 hour'
               AND total > 0
         ) AS counts
         GROUP BY 1 ORDER BY 1",
    )
    .bind(model)
    .bind(brand)
    .bind(from.hour_start().start())
    .bind(to.hour_start().start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(super::counts::counts).collect()
}

pub(super) async fn unscored(
    store: &PostgresStore,
    model: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT minute, sum(total - done)::bigint AS rows
         FROM (
             SELECT m.minute, sum(m.total - m.echoes - m.gone) AS total, coalesce((
                 SELECT sum(r.total + r.not_judged) FROM rescored_counts AS r
                 WHERE r.model = $1 AND r.brand = m.brand AND r.minute = m.minute), 0) AS done
             FROM minute_counts AS m
             WHERE m.model <> $1 AND m.model IN (SELECT model FROM model_switches)
               AND m.minute BETWEEN $2 AND $3
             GROUP BY m.brand, m.minute
         ) AS minutes
         WHERE total > done GROUP BY minute ORDER BY minute DESC",
    )
    .bind(model)
    .bind(from.start())
    .bind(to.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| Ok((Minute::of(row.try_get("minute")?), count(row, "rows")?))).collect()
}

pub(super) async fn texts_to_rescore(
    store: &PostgresStore,
    model: &str,
    minutes: &[Minute],
    after: Option<&StoredText>,
    limit: u32,
) -> Result<Vec<StoredText>, StoreError> {
    let (Some(first), Some(last)) = (minutes.iter().min(), minutes.iter().max()) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query(
        r#"SELECT tweet_id, created_at, brands, text, label = 'NEGATIVE' AS is_negative, model,
                  language
           FROM scores
           WHERE created_at >= $2 AND created_at < $3 AND model <> $1 AND brands <> '{}' AND NOT echo
             AND model IN (SELECT model FROM model_switches)
             AND date_trunc('minute', created_at, 'UTC') = ANY($4)
             AND (created_at, tweet_id COLLATE "C") > ($5, $6)
           ORDER BY created_at, tweet_id COLLATE "C" LIMIT $7"#,
    )
    .bind(model)
    .bind(after.map_or(first.start(), |after| after.created_at))
    .bind(last.plus(1).start())
    .bind(minutes.iter().map(|minute| minute.start()).collect::<Vec<_>>())
    .bind(after.map_or(first.plus(-1).start(), |after| after.created_at))
    .bind(after.map_or("", |after| &after.tweet_id))
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(StoredText {
                tweet_id: row.try_get("tweet_id")?,
                created_at: row.try_get("created_at")?,
                brands: row.try_get("brands")?,
                text: row.try_get("text")?,
                language: row
                    .try_get::<Option<String>, _>("language")?
                    .and_then(|code| code.parse().ok()),
                is_negative: row.try_get("is_negative")?,
                model: row.try_get("model")?,
            })
        })
        .collect()
}

pub(super) async fn put_rescored(
    store: &PostgresStore,
    model: &str,
    rows: &[Rescored],
) -> Result<(), StoreError> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| (&row.brand, row.minute, &row.instead_of));
    let numbers = |of: fn(&Pairs) -> u64| -> Vec<i64> {
        rows.iter().map(|row| of(&row.pairs).cast_signed()).collect()
    };
    sqlx::query(
        "INSERT INTO rescored_counts
             (model, brand, minute, instead_of, total, negative, gained, lost, not_judged)
         SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::bigint[],
                                  $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
         ON CONFLICT (model, brand, minute, instead_of) DO UPDATE
         SET total = excluded.total, negative = excluded.negative, gained = excluded.gained,
             lost = excluded.lost, not_judged = excluded.not_judged",
    )
    .bind(model)
    .bind(rows.iter().map(|row| row.brand.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.minute.start()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.instead_of.as_str()).collect::<Vec<_>>())
    .bind(numbers(|pairs| pairs.total))
    .bind(numbers(|pairs| pairs.negative))
    .bind(numbers(|pairs| pairs.gained))
    .bind(numbers(|pairs| pairs.lost))
    .bind(numbers(|pairs| pairs.not_judged))
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn pairs(
    store: &PostgresStore,
    model: &str,
    instead_of: &str,
    from: Minute,
) -> Result<Vec<(String, Pairs)>, StoreError> {
    let rows = sqlx::query(
        "SELECT brand, sum(total)::bigint AS total, sum(negative)::bigint AS negative,
                sum(gained)::bigint AS gained, sum(lost)::bigint AS lost,
                sum(not_judged)::bigint AS not_judged
         FROM rescored_counts WHERE model = $1 AND instead_of = $2 AND minute >= $3
         GROUP BY brand ORDER BY brand COLLATE \"C\"",
    )
    .bind(model)
    .bind(instead_of)
    .bind(from.start())
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            let pairs = Pairs {
                total: count(row, "total")?,
                negative: count(row, "negative")?,
                gained: count(row, "gained")?,
                lost: count(row, "lost")?,
                not_judged: count(row, "not_judged")?,
            };
            Ok((row.try_get("brand")?, pairs))
        })
        .collect()
}
