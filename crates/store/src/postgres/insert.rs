//! Writes the tweets of a batch: those that are new, those that replace or remove others, and the counts.
//!
//! **Invariant.** One statement writes tweets and counts, so that each count row is locked once, in order, and
//! batches of several daemons do not deadlock. Counts equal a fold over the tweets stored and those removed that
//! keep their count; `echoes` and `gone` are parts of the totals.
//! Deliberately absent: what counts once (`monitor_core::alerting::Counting`).

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{Acquire, PgConnection};

use super::authors::AuthorKey;
use crate::batch::{Change, Changes};
use crate::{Batch, Committed, NewTweets, ScoredTweet, StoreError};
use monitor_core::alerting::Heard;
use monitor_core::domain::{Removed, TweetId};

/// Separates the brand names that are sent to Postgres as one string: `unnest` takes no
/// arrays of arrays.
const UNIT_SEPARATOR: &str = "\u{1f}";

/// `tweet_ids` says which tweets are new, whatever week they are in. Of two transactions with the same id, the
/// second waits there for the first.
const NEW: &str = r#"
WITH rows AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::real[],
                         $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[],
                         $11::text[], $12::bool[], $13::real[], $14::text[], $15::bigint[], $16::bool[],
                         $17::bool[])
         AS r (tweet_id, created_at, brands, text, negative, label, model, author, followers,
               retweets, retweet_of, truncated, neutral, language, voice, ignored, replaces)
), known AS (
    INSERT INTO tweet_ids (tweet_id, created_at) SELECT tweet_id, created_at FROM rows
    ON CONFLICT DO NOTHING RETURNING tweet_id
), new AS (
    SELECT r.*, date_trunc('hour', r.created_at, 'UTC') AS hour
    FROM rows AS r JOIN known ON known.tweet_id = r.tweet_id COLLATE "C"
)"#;

/// Of the tweets of one voice in an hour, the first counts: of the first batch that has one, the earliest.
const HEARD: &str = r#", heard AS (
    INSERT INTO voices (hour, voice, negative)
    SELECT DISTINCT hour, voice, label = 'NEGATIVE' FROM new
    WHERE voice IS NOT NULL AND label IS NOT NULL ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING RETURNING hour, voice, negative
), told AS (
    SELECT new.*, label IS NOT NULL AND (ignored OR new.voice IS NOT NULL AND (h.voice IS NULL OR row_number() OVER (
               PARTITION BY new.hour, new.voice, label = 'NEGATIVE'
               ORDER BY created_at, tweet_id COLLATE "C") > 1)) AS echo
    FROM new LEFT JOIN heard AS h
         ON h.hour = new.hour AND h.voice = new.voice AND h.negative = (label = 'NEGATIVE')
)"#;
const NOTHING_HEARD: &str = ", told AS (SELECT *, ignored AND label IS NOT NULL AS echo FROM new)";

const FRESH: &str = r#", fresh AS (
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model, author, followers,
                        retweets, retweet_of, truncated, neutral, language, echo)
    SELECT tweet_id, created_at, string_to_array(brands, $18), text, negative, label, model, author,
           followers, retweets, retweet_of, truncated, neutral, language, echo
    FROM told
    RETURNING created_at, brands, label, model, language, echo
)"#;

/// What is taken out of the counts: never more than they have.
const REMOVED: &str = r#", wanted AS (
    SELECT * FROM unnest($19::text[], $20::text[], $21::bool[], $22::timestamptz[])
         AS w (tweet_id, why, keeps, edited_at)
), old AS MATERIALIZED (
    SELECT s.tweet_id, s.created_at, s.brands, s.label, s.model, s.language, s.echo, w.why, w.keeps,
           CASE WHEN s.model IS NOT NULL THEN EXISTS (
                    SELECT FROM minute_counts AS m WHERE m.brand = ANY(s.brands) AND m.model = s.model
                      AND m.minute = date_trunc('minute', s.created_at, 'UTC'))
                WHEN s.language IS NOT NULL THEN EXISTS (
                    SELECT FROM not_judged_counts AS n WHERE n.brand = ANY(s.brands)
                      AND n.minute = date_trunc('minute', s.created_at, 'UTC') AND n.language = s.language)
                ELSE true END AS counted
    FROM (
        SELECT tweet_id, why, keeps FROM wanted
        UNION ALL SELECT tweet_id, 'replaced', false FROM rows WHERE replaces
    ) AS w
    JOIN tweet_ids AS i ON i.tweet_id = w.tweet_id COLLATE "C"
    JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = w.tweet_id
    WHERE s.removed IS NULL ORDER BY s.tweet_id COLLATE "C" FOR UPDATE OF s
), emptied AS (
    UPDATE scores AS s
    SET brands = '{}', text = '', negative = NULL, label = NULL, model = NULL, author = NULL,
        followers = NULL, retweets = NULL, retweet_of = NULL, truncated = false, neutral = NULL,
        echo = false, removed = old.why
    FROM old
    WHERE s.created_at = old.created_at AND s.tweet_id = old.tweet_id AND old.why <> 'replaced'
), replaced AS (
    UPDATE scores AS s
    SET brands = string_to_array(r.brands, $18), text = r.text, negative = r.negative, label = r.label,
        model = r.model, author = r.author, followers = r.followers, retweets = r.retweets,
        retweet_of = r.retweet_of, truncated = r.truncated, neutral = r.neutral, language = r.language,
        echo = r.ignored AND r.label IS NOT NULL
    FROM old JOIN rows AS r ON r.tweet_id = old.tweet_id
    WHERE s.created_at = old.created_at AND s.tweet_id = old.tweet_id AND old.why = 'replaced'
    RETURNING s.created_at, s.brands, s.label, s.model, s.language, s.echo
), unknown AS (
    INSERT INTO tweet_ids (tweet_id, created_at)
    SELECT tweet_id, edited_at FROM wanted WHERE edited_at IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING tweet_id, created_at
), never AS (
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, neutral, label, model, truncated, removed)
    SELECT tweet_id, created_at, '{}', '', NULL, NULL, NULL, NULL, false, 'edited' FROM unknown
), changed AS (
    SELECT *, 1 AS n, 0 AS gone FROM fresh
    UNION ALL SELECT *, 1, 0 FROM replaced
    UNION ALL SELECT created_at, brands, label, model, language, echo, CASE WHEN keeps THEN 0 ELSE -1 END,
                     CASE WHEN keeps AND NOT echo THEN 1 ELSE 0 END FROM old WHERE counted
)"#;
const NOTHING_REMOVED: &str = ", changed AS (SELECT *, 1 AS n, 0 AS gone FROM fresh)";

const TALLIED: &str = r#", tallied AS MATERIALIZED (
    SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute, model, language, sum(n) AS tweets,
           coalesce(sum(n) FILTER (WHERE label = 'NEGATIVE'), 0) AS negative,
           coalesce(sum(n) FILTER (WHERE label = 'NEUTRAL'), 0) AS neutral,
           coalesce(sum(n) FILTER (WHERE echo), 0) AS echoes,
           coalesce(sum(n) FILTER (WHERE echo AND label = 'NEGATIVE'), 0) AS negative_echoes,
           sum(gone) AS gone
    FROM changed, unnest(brands) AS brand
    GROUP BY 1, 2, 3, 4
)"#;

const BY_BRAND: &str = r#"(
    SELECT coalesce(jsonb_agg(jsonb_build_array(brand, model, language, tweets)), '[]') FROM (
        SELECT brand COLLATE "C" AS brand, model COLLATE "C" AS model, language COLLATE "C" AS language,
               count(*) AS tweets
        FROM fresh, unnest(brands) AS brand GROUP BY 1, 2, 3
        ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST
    ) AS n)"#;

/// A table of counts: its name, its key, the columns of [`TALLIED`] that it sums, and which rows of those it takes.
struct Counts {
    table: &'static str,
    /// Each column, and what it is in [`TALLIED`].
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
    fn added(&self, has_changes: bool) -> String {
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
        if !has_changes {
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

fn statement(has_voices: bool, has_changes: bool) -> String {
    let (heard, changed, removed) = (
        if has_voices { HEARD } else { NOTHING_HEARD },
        if has_changes { REMOVED } else { NOTHING_REMOVED },
        if has_changes { "(SELECT count(*) FROM old)" } else { "0::bigint" },
    );
    let counts: String = TABLES.iter().map(|table| table.added(has_changes)).collect();
    format!(
        "{NEW}{heard}{FRESH}{changed}{TALLIED}{counts}
         SELECT count(label), count(*) - count(label), count(*) FILTER (WHERE echo), {removed}, {BY_BRAND} FROM fresh"
    )
}

/// Stores the tweets of a batch, and removes those that it removes.
pub(super) async fn tweets(
    connection: &mut PgConnection,
    batch: &Batch,
    authors: (&AuthorKey, &HashSet<String>),
) -> Result<Committed, StoreError> {
    let mut changes = batch.changes();
    // A statement does not see what it inserts itself.
    let own: Vec<_> =
        changes.removals.keys().copied().filter(|id| changes.tweets.contains_key(*id)).collect();
    let mut later = BTreeMap::new();
    for id in own {
        later.extend(changes.removals.remove_entry(id));
    }
    let mut done = write(connection, &changes, authors).await?;
    if !later.is_empty() {
        let changes = Changes { tweets: BTreeMap::new(), removals: later };
        done.removed += write(connection, &changes, authors).await?.removed;
    }
    done.duplicate = (batch.scores.len() as u64).saturating_sub(done.new + done.not_judged);
    Ok(done)
}

async fn write(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    (key, ignored): (&AuthorKey, &HashSet<String>),
) -> Result<Committed, StoreError> {
    let Changes { tweets, removals } = changes;
    if tweets.is_empty() && removals.is_empty() {
        return Ok(Committed::default());
    }
    let scores = || tweets.values().map(|(row, _)| *row);
    let reach = || scores().map(|s| &s.tweet.reach);
    let authors = reach().map(|r| r.author.as_deref().and_then(|author| key.stored(author)));
    let authors: Vec<Option<String>> = authors.collect();
    // Larger numbers than Postgres can store exceed the number of people.
    let bigint = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let of_model = || scores().map(|s| s.score.as_ref());
    let probabilities = || of_model().map(|s| s.map(|s| s.score.probabilities));
    let is_ignored =
        |author: &Option<String>| author.as_ref().is_some_and(|author| ignored.contains(author));
    let heard = |(s, author): (&ScoredTweet, _)| match s.heard {
        _ if is_ignored(author) && !s.brands.is_empty() => (None, true),
        Heard::Always => (None, false),
        Heard::OnceAnHour(voice) => (Some(key.voice(voice)), false),
        Heard::Never => (None, true),
    };
    let (voices, ignored): (Vec<_>, Vec<_>) = scores().zip(&authors).map(heard).unzip();
    let has_voices = voices.iter().any(Option::is_some);
    let has_changes = !removals.is_empty() || tweets.values().any(|(_, replaces)| *replaces);
    let sql = statement(has_voices, has_changes);
    let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(scores().map(|s| s.tweet.id.as_str()).collect::<Vec<_>>())
        .bind(scores().map(|s| s.tweet.created_at).collect::<Vec<_>>())
        .bind(scores().map(|s| s.brands.join(UNIT_SEPARATOR)).collect::<Vec<_>>())
        .bind(scores().map(|s| s.tweet.text.as_str()).collect::<Vec<_>>())
        .bind(probabilities().map(|p| p.map(|p| p.negative().get())).collect::<Vec<_>>())
        .bind(of_model().map(|s| s.map(|s| s.score.label.as_str())).collect::<Vec<_>>())
        .bind(of_model().map(|s| s.map(|s| s.model.as_str())).collect::<Vec<_>>())
        .bind(authors)
        .bind(reach().map(|r| r.followers.map(bigint)).collect::<Vec<_>>())
        .bind(reach().map(|r| r.retweets.map(bigint)).collect::<Vec<_>>())
        .bind(reach().map(|r| r.retweet_of.as_ref().map(TweetId::as_str)).collect::<Vec<_>>())
        .bind(of_model().map(|s| s.is_some_and(|s| s.truncated)).collect::<Vec<_>>())
        .bind(probabilities().map(|p| p.map(|p| p.neutral().get())).collect::<Vec<_>>())
        .bind(scores().map(|s| s.tweet.language.map(|it| it.to_string())).collect::<Vec<_>>())
        .bind(voices)
        .bind(ignored)
        .bind(tweets.values().map(|(_, replaces)| *replaces).collect::<Vec<_>>())
        .bind(UNIT_SEPARATOR);
    if has_changes {
        let of = || removals.values();
        let edited_at = |change: &Change| -> Option<DateTime<Utc>> {
            change.edited_at.filter(|_| change.why == Removed::Edited)
        };
        query = query
            .bind(removals.keys().map(|id| id.as_str()).collect::<Vec<_>>())
            .bind(of().map(|change| change.why.as_str()).collect::<Vec<_>>())
            .bind(of().map(|change| change.keeps_count).collect::<Vec<_>>())
            .bind(of().map(edited_at).collect::<Vec<_>>());
    }
    type Groups = Vec<(String, Option<String>, Option<String>, u64)>;
    let (new, not_judged, echoes, removed, Json(groups)): (i64, i64, i64, i64, Json<Groups>) =
        query.fetch_one(connection.acquire().await?).await?;
    let by_brand = groups.into_iter().map(|(brand, model, language, tweets)| NewTweets {
        brand,
        model,
        language: language.and_then(|code| code.parse().ok()),
        tweets,
    });
    let count = i64::unsigned_abs;
    Ok(Committed {
        new: count(new),
        not_judged: count(not_judged),
        duplicate: 0,
        echoes: count(echoes),
        removed: count(removed),
        by_brand: by_brand.collect(),
    })
}
