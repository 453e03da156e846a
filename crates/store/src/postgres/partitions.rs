//! The weeks of `scores`: each is a table of its own.
//!
//! **Invariant.** A batch is written only when the weeks of its tweets have a table. Which do is remembered; should
//! another process have dropped one since, Postgres refuses the batch as a whole, and it is tried again.
//! Deliberately absent: dropping them ([`super::prune`]).

use std::collections::BTreeSet;
use std::sync::Mutex;

use chrono::{DateTime, Datelike, Days, TimeDelta, Utc};
use sqlx::Row;

use super::PostgresStore;
use crate::{Batch, StoreError};

/// Weeks made ahead of the clock: a daemon that may not change the schema for a month goes on.
const WEEKS_AHEAD: i64 = 4;

/// The times that have a table, as `[from, to)`.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Mutex<Vec<(DateTime<Utc>, DateTime<Utc>)>>,
}

impl Partitions {
    fn covers(&self, at: DateTime<Utc>) -> bool {
        let known = self.known.lock().expect("no holder of this lock panics");
        known.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    fn remember(&self, ranges: Vec<(DateTime<Utc>, DateTime<Utc>)>) {
        *self.known.lock().expect("no holder of this lock panics") = ranges;
    }

    /// Another process has changed the tables.
    pub(super) fn forget(&self) {
        self.remember(Vec::new());
    }
}

/// Makes the tables of the weeks of a batch, as far as there are none.
pub(super) async fn make_for(store: &PostgresStore, batch: &Batch) -> Result<(), StoreError> {
    let missing = || -> BTreeSet<DateTime<Utc>> {
        let times = batch.scores.iter().map(|row| row.tweet.created_at);
        times.filter(|at| !store.partitions.covers(*at)).map(week).collect()
    };
    if missing().is_empty() {
        return Ok(());
    }
    read(store).await?;
    let weeks = missing();
    for week in &weeks {
        make(store, *week, *week).await?;
        tracing::debug!(week = %week.date_naive(), "made a part of scores");
    }
    if weeks.is_empty() { Ok(()) } else { read(store).await }
}

/// Makes the tables of this week and the next ones.
pub(super) async fn make_ahead(
    store: &PostgresStore,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    make(store, now, now + TimeDelta::weeks(WEEKS_AHEAD)).await
}

async fn make(
    store: &PostgresStore,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
) -> Result<(), StoreError> {
    let made = sqlx::query("SELECT make_score_partitions($1, $2)").bind(first).bind(last);
    made.execute(&store.pool).await?;
    Ok(())
}

async fn read(store: &PostgresStore) -> Result<(), StoreError> {
    // chrono has no -infinity.
    let rows = sqlx::query(
        "SELECT greatest(from_at, '0001-01-01 00:00+00') AS from_at, to_at
         FROM score_partitions WHERE detached_at IS NULL",
    )
    .fetch_all(&store.pool)
    .await?;
    let range = |row: &sqlx::postgres::PgRow| Ok((row.try_get("from_at")?, row.try_get("to_at")?));
    store.partitions.remember(rows.iter().map(range).collect::<Result<_, StoreError>>()?);
    Ok(())
}

/// Whether a row was refused because its week has no table.
pub(super) fn is_missing(error: &StoreError) -> bool {
    // A check that fails has a name; a row without a place has none.
    const CHECK_VIOLATION: &str = "23514";
    match error {
        StoreError::Refused(sqlx::Error::Database(refused)) => {
            refused.code().is_some_and(|code| code == CHECK_VIOLATION)
                && refused.constraint().is_none()
        }
        _ => false,
    }
}

/// The Monday of a time's week, at midnight UTC.
pub(super) fn week(at: DateTime<Utc>) -> DateTime<Utc> {
    let day = at.date_naive();
    let monday = day - Days::new(u64::from(day.weekday().num_days_from_monday()));
    monday.and_time(chrono::NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday() {
        let check = |at: &str, monday: &str| {
            let at: DateTime<Utc> = at.parse().expect("a time");
            assert_eq!(week(at).to_rfc3339(), format!("{monday}T00:00:00+00:00"), "{at}");
        };
        check("2026-11-27T21:00:00Z", "2026-11-23");
        check("2026-11-23T00:00:00Z", "2026-11-23");
        check("2026-11-22T23:59:59.999Z", "2026-11-16");
        check("2006-03-21T20:50:14Z", "2006-03-20");
        check("2027-01-01T00:00:00Z", "2026-12-28");
    }

    #[test]
    fn remembers_the_weeks_that_have_a_table() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let partitions = Partitions::default();
        partitions.remember(vec![(at("2026-11-23T00:00:00Z"), at("2026-11-30T00:00:00Z"))]);
        assert!(partitions.covers(at("2026-11-29T23:59:59Z")));
        assert!(!partitions.covers(at("2026-11-30T00:00:00Z")), "the end is not part of it");
        partitions.forget();
        assert!(!partitions.covers(at("2026-11-29T23:59:59Z")));
    }
}
