//! The tables of counts: what a batch adds to them.
//!
//! **Invariant.** One statement writes them, each row once and in order, so that batches of several daemons do not
//! deadlock. A count never goes below 0.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::StoreError;
use monitor_core::domain::{Label, Minute};

/// What a tweet is in the counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'a> {
    pub label: Option<&'a str>,
    pub model: Option<&'a str>,
    pub language: Option<&'a str>,
    pub echo: bool,
}

/// Brand, minute, model and language.
type Key<'a> = (&'a str, Minute, Option<&'a str>, Option<&'a str>);

/// What changes in the counts.
#[derive(Debug, Default)]
pub(super) struct Tally<'a> {
    sums: BTreeMap<Key<'a>, Sums>,
    /// Whether anything is taken out.
    takes: bool,
}

#[derive(Debug, Default)]
struct Sums {
    tweets: i64,
    negative: i64,
    neutral: i64,
    echoes: i64,
    negative_echoes: i64,
    gone: i64,
}

impl<'a> Tally<'a> {
    /// Counts a tweet.
    pub fn add(&mut self, brands: &'a [String], at: DateTime<Utc>, of: Of<'a>) {
        self.change(brands, at, of, 1);
    }

    /// Counts a tweet no more.
    pub fn take(&mut self, brands: &'a [String], at: DateTime<Utc>, of: Of<'a>) {
        self.takes = true;
        self.change(brands, at, of, -1);
    }

    /// Counts a tweet as one that is gone, and still counts.
    pub fn gone(&mut self, brands: &'a [String], at: DateTime<Utc>, of: Of<'a>) {
        for brand in brands {
            self.at(brand, at, of).gone += i64::from(!of.echo);
        }
    }

    fn at(&mut self, brand: &'a str, at: DateTime<Utc>, of: Of<'a>) -> &mut Sums {
        self.sums.entry((brand, Minute::of(at), of.model, of.language)).or_default()
    }

    fn change(&mut self, brands: &'a [String], at: DateTime<Utc>, of: Of<'a>, by: i64) {
        let is = |label: Label| if of.label == Some(label.as_str()) { by } else { 0 };
        for brand in brands {
            let sums = self.at(brand, at, of);
            sums.tweets += by;
            sums.negative += is(Label::Negative);
            sums.neutral += is(Label::Neutral);
            if of.echo {
                sums.echoes += by;
                sums.negative_echoes += is(Label::Negative);
            }
        }
    }

    /// Writes the changes.
    pub async fn write(self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.sums.is_empty() {
            return Ok(());
        }
        let keys = || self.sums.keys();
        let sums = |of: fn(&Sums) -> i64| self.sums.values().map(of).collect::<Vec<_>>();
        let sql = if self.takes { &*CHANGES } else { &*ADDITIONS };
        sqlx::query(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(keys().map(|(brand, ..)| *brand).collect::<Vec<_>>())
            .bind(keys().map(|(_, minute, ..)| minute.start()).collect::<Vec<_>>())
            .bind(keys().map(|(_, _, model, _)| *model).collect::<Vec<_>>())
            .bind(keys().map(|(.., language)| *language).collect::<Vec<_>>())
            .bind(sums(|of| of.tweets))
            .bind(sums(|of| of.negative))
            .bind(sums(|of| of.neutral))
            .bind(sums(|of| of.echoes))
            .bind(sums(|of| of.negative_echoes))
            .bind(sums(|of| of.gone))
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// A table of counts: its name, its key, the columns of `tallied` that it sums, and which rows of those it takes.
struct Counts {
    table: &'static str,
    /// Each column, and what it is in `tallied`.
    key: &'static [(&'static str, &'static str)],
    /// The first is the total, and the others are parts of it.
    sums: &'static [&'static str],
    of: &'static str,
}

const MODEL: (&str, &str) = ("model", "coalesce(model, '')");
const LANGUAGE: (&str, &str) = ("language", "coalesce(language, '')");
const HOURS: &[&str] = &["tweets", "negative", "neutral", "echoes", "negative_echoes"];
const TABLES: [Counts; 4] = [
    Counts {
        table: "not_judged_counts",
        key: &[("brand", "brand"), ("minute", "minute"), ("language", "language")],
        sums: &["tweets"],
        of: "model IS NULL AND language IS NOT NULL",
    },
    Counts {
        table: "minute_counts",
        key: &[("brand", "brand"), ("minute", "minute"), ("model", "model")],
        sums: &["total", "negative", "echoes", "negative_echoes", "gone"],
        of: "model IS NOT NULL",
    },
    Counts {
        table: "hour_counts",
        key: &[("brand", "brand"), ("hour", "date_trunc('hour', minute, 'UTC')"), MODEL, LANGUAGE],
        sums: HOURS,
        of: "true",
    },
    Counts {
        table: "day_counts",
        key: &[("brand", "brand"), ("day", "date_trunc('day', minute, 'UTC')"), MODEL, LANGUAGE],
        sums: HOURS,
        of: "true",
    },
];

impl Counts {
    /// Adds the sums to the table. `excluded` holds them only if none is below 0: a constraint that is checked
    /// before the conflict would refuse the row otherwise.
    fn added(&self, takes: bool) -> String {
        let Self { table, key, sums, of } = self;
        let list = |parts: Vec<String>| parts.join(", ");
        let keys = list(key.iter().map(|(to, _)| (*to).to_owned()).collect());
        let columns = sums.join(", ");
        let summed = |column: &&str| {
            let from = if *column == "total" { "tweets" } else { column };
            format!("sum({from}) AS {column}")
        };
        let summed = list(sums.iter().map(summed).collect());
        let grouped = list(key.iter().map(|(to, from)| format!("{from} AS {to}")).collect());
        let places = list((1..=key.len()).map(|place| place.to_string()).collect());
        let from = format!(
            "SELECT {grouped}, {summed} FROM tallied WHERE {of} GROUP BY {places} ORDER BY {places}"
        );
        let plus =
            |with: &str| list(sums.iter().map(|to| format!("t.{to} + {with}.{to}")).collect());
        if !takes {
            return format!(
                ", to_{table} AS (
                    INSERT INTO {table} AS t ({keys}, {columns}) {from}
                    ON CONFLICT ({keys}) DO UPDATE SET ({columns}) = ROW({}))",
                plus("excluded")
            );
        }
        let total = sums[0];
        let labels = sums.iter().filter(|to| ["negative", "neutral"].contains(*to));
        let labels = labels.fold("0".to_owned(), |sum, to| format!("{sum} + {to}"));
        let is_sum = format!("least({columns}) >= 0 AND {labels} <= {total}");
        let bounded = sums.iter().map(|to| format!("CASE WHEN {is_sum} THEN {to} ELSE 0 END"));
        let bounded = list(bounded.collect());
        let same = key.iter().map(|(to, _)| format!("s.{to} = excluded.{to}"));
        let same = same.collect::<Vec<_>>().join(" AND ");
        format!(
            ", of_{table} AS MATERIALIZED ({from}), to_{table} AS (
                INSERT INTO {table} AS t ({keys}, {columns}) SELECT {keys}, {bounded} FROM of_{table}
                ON CONFLICT ({keys}) DO UPDATE
                SET ({columns}) = (SELECT {} FROM of_{table} AS s WHERE {same}))",
            plus("s")
        )
    }
}

static ADDITIONS: LazyLock<String> = LazyLock::new(|| statement(false));
static CHANGES: LazyLock<String> = LazyLock::new(|| statement(true));

fn statement(takes: bool) -> String {
    let counts: String = TABLES.iter().map(|table| table.added(takes)).collect();
    format!(
        "WITH tallied AS MATERIALIZED (
             SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                                  $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
                  AS t (brand, minute, model, language, tweets, negative, neutral, echoes, negative_echoes, gone)
         ){counts}
         SELECT"
    )
}
