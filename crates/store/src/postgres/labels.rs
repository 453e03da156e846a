//! Labels that people give, and the models that have scored.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::{PostgresStore, count};
use crate::{Correction, Sample, SampleRequest, SampledTweet, StoreError, StoredModel};
use monitor_core::domain::{Classes, Counts, Label, LabelThresholds, Language, Probability};
use monitor_core::quantify::Rates;

/// The columns of a [`Sample`].
const SAMPLE: &str = "SELECT s.*, count(t.place) AS tweets, count(t.label) AS labelled
    FROM label_samples AS s LEFT JOIN sampled_tweets AS t ON t.sample = s.id";

pub(super) async fn record_model(
    store: &PostgresStore,
    model: &StoredModel,
) -> Result<(), StoreError> {
    let rates = model.rates.as_ref();
    let (negatives, others) = (rates.map(Rates::negative_rows), rates.map(Rates::other_rows));
    let bigint = |count: Option<u64>| count.map(u64::cast_signed);
    sqlx::query(
        "INSERT INTO models (model, classes, languages, negative_from, positive_from,
                             negative_rows, negative_found, other_rows, other_called)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (model) DO UPDATE
         SET classes = excluded.classes, languages = excluded.languages,
             negative_from = excluded.negative_from, positive_from = excluded.positive_from,
             negative_rows = excluded.negative_rows, negative_found = excluded.negative_found,
             other_rows = excluded.other_rows, other_called = excluded.other_called",
    )
    .bind(&model.model)
    .bind(i16::from(u8::from(model.classes)))
    .bind(model.languages.iter().map(ToString::to_string).collect::<Vec<_>>())
    .bind(model.thresholds.negative.get())
    .bind(model.thresholds.positive.get())
    .bind(bigint(negatives.map(|it| it.total)))
    .bind(bigint(negatives.map(|it| it.negative)))
    .bind(bigint(others.map(|it| it.total)))
    .bind(bigint(others.map(|it| it.negative)))
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn models(store: &PostgresStore) -> Result<Vec<StoredModel>, StoreError> {
    let rows = sqlx::query("SELECT * FROM models ORDER BY model COLLATE \"C\"")
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(read_model).collect()
}

fn read_model(row: &PgRow) -> Result<StoredModel, StoreError> {
    let classes = u8::try_from(row.try_get::<i16, _>("classes")?).unwrap_or(0);
    let probability = |column| {
        Probability::new(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
    };
    let languages: Result<Vec<Language>, _> =
        row.try_get::<Vec<String>, _>("languages")?.iter().map(|code| code.parse()).collect();
    let counts = |total, negative| -> Result<Option<Counts>, StoreError> {
        let total: Option<i64> = row.try_get(total)?;
        let negative: Option<i64> = row.try_get(negative)?;
        Ok(total.zip(negative).map(|(total, negative)| Counts {
            total: total.unsigned_abs(),
            negative: negative.unsigned_abs(),
        }))
    };
    let negatives = counts("negative_rows", "negative_found")?;
    let others = counts("other_rows", "other_called")?;
    Ok(StoredModel {
        model: row.try_get("model")?,
        classes: Classes::try_from(classes).map_err(|error| sqlx::Error::Decode(error.into()))?,
        thresholds: LabelThresholds {
            negative: probability("negative_from")?,
            positive: probability("positive_from")?,
        },
        languages: languages.map_err(|error| sqlx::Error::Decode(error.into()))?,
        rates: (negatives.zip(others))
            .and_then(|(negatives, others)| Rates::measured(negatives, others).ok()),
    })
}

pub(super) async fn draw_sample(
    store: &PostgresStore,
    request: &SampleRequest,
) -> Result<Sample, StoreError> {
    // One statement, so that the tweets counted are those drawn from.
    let id: i64 = sqlx::query_scalar(
        "WITH tweets AS MATERIALIZED (
             SELECT tweet_id, sha256(convert_to($4 || tweet_id, 'UTF8')) AS hash
             FROM scores
             WHERE created_at >= $2 AND created_at < $3 AND label IS NOT NULL
               AND (brands[1] = $1 OR cardinality(brands) > 1 AND brands @> ARRAY[$1])
         ), sample AS (
             INSERT INTO label_samples (brand, from_at, to_at, population, seed, drawn_by, drawn_at)
             SELECT $1, $2, $3, count(*), $4, $6, $7 FROM tweets
             RETURNING id
         ), drawn AS (
             INSERT INTO sampled_tweets (sample, place, tweet_id)
             SELECT sample.id, row_number() OVER (ORDER BY hash), tweet_id
             FROM (SELECT * FROM tweets ORDER BY hash LIMIT $5) AS first, sample
         )
         SELECT id FROM sample",
    )
    .bind(&request.brand)
    .bind(request.from)
    .bind(request.to)
    .bind(&request.seed)
    .bind(i64::from(request.tweets))
    .bind(&request.by)
    .bind(request.at)
    .fetch_one(&store.pool)
    .await?;
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{SAMPLE} WHERE s.id = $1 GROUP BY s.id")))
        .bind(id)
        .fetch_one(&store.pool)
        .await?;
    read_sample(&row)
}

pub(super) async fn samples(store: &PostgresStore) -> Result<Vec<Sample>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{SAMPLE} GROUP BY s.id ORDER BY s.id")))
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(read_sample).collect()
}

fn read_sample(row: &PgRow) -> Result<Sample, StoreError> {
    Ok(Sample {
        id: row.try_get("id")?,
        brand: row.try_get("brand")?,
        from: row.try_get("from_at")?,
        to: row.try_get("to_at")?,
        population: count(row, "population")?,
        tweets: count(row, "tweets")?,
        labelled: count(row, "labelled")?,
        by: row.try_get("drawn_by")?,
        at: row.try_get("drawn_at")?,
    })
}

pub(super) async fn sampled_tweets(
    store: &PostgresStore,
    sample: i64,
) -> Result<Vec<SampledTweet>, StoreError> {
    let rows = sqlx::query(
        "SELECT t.place, t.tweet_id, t.label, s.created_at, s.text, s.label AS called, s.model
         FROM sampled_tweets AS t
         JOIN tweet_ids AS i ON i.tweet_id = t.tweet_id COLLATE \"C\"
         JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = t.tweet_id
         WHERE t.sample = $1 AND s.label IS NOT NULL ORDER BY t.place",
    )
    .bind(sample)
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            let place: i32 = row.try_get("place")?;
            Ok(SampledTweet {
                place: place.unsigned_abs(),
                tweet_id: row.try_get("tweet_id")?,
                created_at: row.try_get("created_at")?,
                text: row.try_get("text")?,
                label: row
                    .try_get::<Option<String>, _>("label")?
                    .map(|it| label(&it))
                    .transpose()?,
                called: label(row.try_get("called")?)?,
                model: row.try_get("model")?,
            })
        })
        .collect()
}

pub(super) fn label(word: &str) -> Result<Label, StoreError> {
    let unknown = || sqlx::Error::Decode(format!("{word:?} is no label").into());
    Ok(Label::of_word(word).ok_or_else(unknown)?)
}

pub(super) async fn record_labels(
    store: &PostgresStore,
    sample: i64,
    labels: &[(u32, Label)],
    by: &str,
    at: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let changed = sqlx::query(
        "UPDATE sampled_tweets AS t SET label = n.label, labelled_by = $4, labelled_at = $5
         FROM unnest($2::bigint[], $3::text[]) AS n (place, label)
         WHERE t.sample = $1 AND t.place = n.place AND t.label IS DISTINCT FROM n.label",
    )
    .bind(sample)
    .bind(labels.iter().map(|(place, _)| i64::from(*place)).collect::<Vec<_>>())
    .bind(labels.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>())
    .bind(by)
    .bind(at)
    .execute(&store.pool)
    .await?;
    Ok(changed.rows_affected())
}

pub(super) async fn correct(
    store: &PostgresStore,
    correction: &Correction,
) -> Result<bool, StoreError> {
    correct_by(&store.pool, correction).await
}

/// As [`correct`], over a connection that may be in a transaction.
pub(super) async fn correct_by(
    executor: impl PgExecutor<'_>,
    correction: &Correction,
) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "INSERT INTO corrections (tweet_id, label, corrected_by, corrected_at)
         SELECT s.tweet_id, $2, $3, $4 FROM tweet_ids AS i
         JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = i.tweet_id
         WHERE i.tweet_id = $1 AND s.removed IS NULL
         ON CONFLICT (tweet_id) DO UPDATE
         SET label = excluded.label, corrected_by = excluded.corrected_by,
             corrected_at = excluded.corrected_at",
    )
    .bind(&correction.tweet_id)
    .bind(correction.label.as_str())
    .bind(&correction.by)
    .bind(correction.at)
    .execute(executor)
    .await?;
    Ok(written.rows_affected() == 1)
}

pub(super) async fn corrections(store: &PostgresStore) -> Result<Vec<Correction>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.*, s.text FROM corrections AS c
         JOIN tweet_ids AS i ON i.tweet_id = c.tweet_id COLLATE \"C\"
         JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = c.tweet_id
         WHERE s.removed IS NULL ORDER BY c.corrected_at, c.tweet_id COLLATE \"C\"",
    )
    .fetch_all(&store.pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Correction {
                tweet_id: row.try_get("tweet_id")?,
                label: label(row.try_get("label")?)?,
                by: row.try_get("corrected_by")?,
                at: row.try_get("corrected_at")?,
                text: row.try_get("text")?,
            })
        })
        .collect()
}
