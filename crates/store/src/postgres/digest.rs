//! What the weekly digest reads and writes beside the [`Store`](crate::Store) of a stream.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::types::Json;

use super::counts::ABOUT;
use super::{PostgresStore, authors};
use crate::{Example, Notification, StoreError};
use monitor_core::domain::Label;

/// Copies of the same texts are left out of so many of the surest tweets.
const CANDIDATES: i64 = 200;

impl PostgresStore {
    /// A brand's tweets of `from..to` with this label that have the highest probability of it, at most `limit`, each text
    /// once; none of the authors that are left out. Reads all of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn surest_tweets(
        &self,
        brand: &str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        label: Label,
        limit: usize,
    ) -> Result<Vec<(Example, f32)>, StoreError> {
        let probability = match label {
            Label::Negative => "negative",
            Label::Neutral => "neutral",
            Label::Positive => "(1 - negative - neutral)::real",
        };
        let is_heard = authors::is_heard("$6");
        let part = |about| {
            format!(
                "SELECT tweet_id, created_at, text, negative, {probability} AS probability FROM scores
                 WHERE {about} AND created_at >= $2 AND created_at < $3 AND label = $4 AND {is_heard}"
            )
        };
        let sql = format!(
            r#"SELECT * FROM ({}) AS tweets
               ORDER BY probability DESC, created_at, tweet_id COLLATE "C" LIMIT $5"#,
            ABOUT.map(part).join(" UNION ALL ")
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(brand)
            .bind(from)
            .bind(to)
            .bind(label.as_str())
            .bind(CANDIDATES)
            .bind(authors::left_out(self).await?)
            .fetch_all(&self.pool)
            .await?;
        let mut seen = std::collections::HashSet::new();
        let mut found = Vec::new();
        for row in &rows {
            let text: String = row.try_get("text")?;
            if found.len() < limit && seen.insert(plain(&text)) {
                let example = Example {
                    tweet_id: row.try_get("tweet_id")?,
                    text,
                    created_at: row.try_get("created_at")?,
                    negative: row.try_get("negative")?,
                    author: None,
                    reach: None,
                    alike: 1,
                    words: Vec::new(),
                };
                found.push((example, row.try_get("probability")?));
            }
        }
        Ok(found)
    }

    /// How many records of `from..to`, by the clock, were no tweets.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn dead_letters_between(
        &self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(records), 0)::bigint FROM dead_letter_counts
                   WHERE minute >= $1 AND minute < $2";
        let records: i64 =
            sqlx::query_scalar(sql).bind(from).bind(to).fetch_one(&self.pool).await?;
        Ok(records.unsigned_abs())
    }

    /// Puts a notification that belongs to no incident into the outbox, under its thread as key, unless that key is
    /// there already. Returns whether it is new.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put_notification(
        &self,
        receiver: &str,
        notification: &Notification,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "INSERT INTO outbox (key, receiver, notification) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(&notification.thread)
        .bind(receiver)
        .bind(Json(notification))
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
    }
}

/// A text without its links, mentions, case and spaces, so that copies are recognised.
fn plain(text: &str) -> String {
    let is_own =
        |word: &&str| !word.starts_with(['@', '#']) && !word.contains("://") && *word != "RT";
    text.split_whitespace().filter(is_own).collect::<Vec<_>>().join(" ").to_lowercase()
}
