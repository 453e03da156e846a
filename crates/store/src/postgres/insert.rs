//! Writes the tweets of a batch: those that are new, those that replace or remove others, and the counts.
//!
//! **Invariant.** Rows that others may want are locked by key, and table by table in one order: ids, voices, stored tweets,
//! counts. So batches of several daemons do not deadlock. Counts equal a fold over the tweets stored and those removed that
//! keep their count; `echoes` and `gone` are parts of the totals.
//! Deliberately absent: what counts once (`monitor_core::alerting::Counting`), the tables of counts (`tally`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::authors::AuthorKey;
use super::copy::Rows;
use super::tally::{Of, Tally};
use crate::batch::Changes;
use crate::{Batch, Committed, NewTweets, ScoredTweet, StoreError};
use monitor_core::alerting::Heard;
use monitor_core::domain::{Label, Minute, Removed, TweetId};

/// `tweet_ids` says which tweets are new, whatever week they are in. Of two transactions with the same id, the
/// second waits here for the first. Null means that all are new, as most often.
const IDS: &str = "
    WITH new AS (
        INSERT INTO tweet_ids (tweet_id, created_at) SELECT * FROM unnest($1::text[], $2::timestamptz[])
        ON CONFLICT DO NOTHING RETURNING tweet_id
    )
    SELECT CASE WHEN count(*) < cardinality($1) THEN coalesce(array_agg(tweet_id), '{}') END FROM new";

/// Of the tweets of one voice in an hour, the first counts.
const VOICES: &str = "
    INSERT INTO voices (hour, voice, negative) SELECT * FROM unnest($1::timestamptz[], $2::bigint[], $3::bool[])
    ON CONFLICT DO NOTHING RETURNING hour, voice, negative";

const SCORES: &str = "scores (tweet_id, created_at, brands, text, negative, neutral, label, model, author, followers, \
                      retweets, retweet_of, truncated, language, echo)";

/// Tweets of which a later version came first.
const NEVER: &str = "
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, neutral, label, model, removed)
    SELECT tweet_id, created_at, '{}', '', NULL, NULL, NULL, NULL, 'edited'
    FROM unnest($1::text[], $2::timestamptz[]) AS e (tweet_id, created_at)";

/// The stored tweets that change, and whether they are in the counts.
const OLD: &str = "
    SELECT s.tweet_id, s.created_at, s.brands, s.label, s.model, s.language, s.echo,
           CASE WHEN s.model IS NOT NULL THEN EXISTS (
                    SELECT FROM minute_counts AS m WHERE m.brand = ANY(s.brands) AND m.model = s.model
                      AND m.minute = date_trunc('minute', s.created_at, 'UTC'))
                WHEN s.language IS NOT NULL THEN EXISTS (
                    SELECT FROM not_judged_counts AS n WHERE n.brand = ANY(s.brands)
                      AND n.minute = date_trunc('minute', s.created_at, 'UTC') AND n.language = s.language)
                ELSE true END AS counted
    FROM unnest($1::text[]) AS w (tweet_id)
    JOIN tweet_ids AS i ON i.tweet_id = w.tweet_id COLLATE \"C\"
    JOIN scores AS s ON s.created_at = i.created_at AND s.tweet_id = w.tweet_id
    WHERE s.removed IS NULL ORDER BY s.tweet_id COLLATE \"C\" FOR UPDATE OF s";

const EMPTY: &str = "
    UPDATE scores AS s
    SET brands = '{}', text = '', negative = NULL, label = NULL, model = NULL, author = NULL,
        followers = NULL, retweets = NULL, retweet_of = NULL, truncated = false, neutral = NULL,
        echo = false, removed = w.why
    FROM unnest($1::text[], $2::timestamptz[], $3::text[]) AS w (tweet_id, created_at, why)
    WHERE s.created_at = w.created_at AND s.tweet_id = w.tweet_id";

const DELETE: &str = "
    DELETE FROM scores AS s USING unnest($1::text[], $2::timestamptz[]) AS w (tweet_id, created_at)
    WHERE s.created_at = w.created_at AND s.tweet_id = w.tweet_id";

/// A tweet as it is stored.
struct Stored<'a> {
    row: &'a ScoredTweet,
    author: Option<String>,
    /// What it is heard as, of those that are heard once an hour.
    voice: Option<i64>,
    echo: bool,
}

/// A stored tweet that changes.
struct Old {
    tweet_id: String,
    created_at: DateTime<Utc>,
    brands: Vec<String>,
    label: Option<String>,
    model: Option<String>,
    language: Option<String>,
    echo: bool,
    counted: bool,
}

impl<'a> Stored<'a> {
    fn new(row: &'a ScoredTweet, (key, ignored): (&AuthorKey, &HashSet<String>)) -> Self {
        let author = row.tweet.reach.author.as_deref().and_then(|author| key.stored(author));
        let is_ignored = author.as_ref().is_some_and(|author| ignored.contains(author));
        let (voice, echo) = match row.heard {
            _ if row.score.is_none() => (None, false),
            _ if is_ignored && !row.brands.is_empty() => (None, true),
            Heard::Always => (None, false),
            Heard::OnceAnHour(voice) => (Some(key.voice(voice)), false),
            Heard::Never => (None, true),
        };
        Self { row, author, voice, echo }
    }

    fn label(&self) -> Option<Label> {
        self.row.score.as_ref().map(|of| of.score.label)
    }

    /// The key of `voices`.
    fn spoken(&self) -> Option<(DateTime<Utc>, i64, bool)> {
        let hour = Minute::of(self.row.tweet.created_at).hour_start().start();
        Some((hour, self.voice?, self.label()? == Label::Negative))
    }

    fn of(&self) -> Of<'a> {
        Of {
            label: self.label().map(Label::as_str),
            model: self.row.score.as_ref().map(|of| of.model.as_str()),
            language: self.row.tweet.language.as_ref().map(|it| it.as_str()),
            echo: self.echo,
        }
    }

    /// The row of `scores`, of the time `at`.
    fn copy(&self, rows: &mut Rows, at: DateTime<Utc>) -> Result<(), sqlx::Error> {
        let ScoredTweet { tweet, brands, score, .. } = self.row;
        let of = self.of();
        let probabilities = score.as_ref().map(|of| of.score.probabilities);
        rows.row();
        rows.value(tweet.id.as_str())?;
        rows.value(at)?;
        rows.value(brands.as_slice())?;
        rows.value(tweet.text.as_str())?;
        rows.value(probabilities.map(|p| p.negative().get()))?;
        rows.value(probabilities.map(|p| p.neutral().get()))?;
        rows.value(of.label)?;
        rows.value(of.model)?;
        rows.value(self.author.as_deref())?;
        rows.value(tweet.reach.followers.map(bigint))?;
        rows.value(tweet.reach.retweets.map(bigint))?;
        rows.value(tweet.reach.retweet_of.as_ref().map(TweetId::as_str))?;
        rows.value(score.as_ref().is_some_and(|of| of.truncated))?;
        rows.value(of.language)?;
        rows.value(of.echo)
    }
}

impl Old {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            tweet_id: row.try_get("tweet_id")?,
            created_at: row.try_get("created_at")?,
            brands: row.try_get("brands")?,
            label: row.try_get("label")?,
            model: row.try_get("model")?,
            language: row.try_get("language")?,
            echo: row.try_get("echo")?,
            counted: row.try_get("counted")?,
        })
    }

    fn of(&self) -> Of<'_> {
        Of {
            label: self.label.as_deref(),
            model: self.model.as_deref(),
            language: self.language.as_deref(),
            echo: self.echo,
        }
    }
}

/// Stores the tweets of a batch, and removes those that it removes.
pub(super) async fn tweets(
    connection: &mut PgConnection,
    batch: &Batch,
    authors: (&AuthorKey, &HashSet<String>),
) -> Result<Committed, StoreError> {
    let changes = batch.changes();
    let new = insert_ids(connection, &changes).await?;
    let (mut fresh, mut replaced) = (Vec::new(), BTreeMap::new());
    for (id, (row, replaces)) in &changes.tweets {
        if new.contains(id.as_str()) {
            fresh.push(Stored::new(row, authors));
        } else if *replaces {
            replaced.insert(id.as_str(), Stored::new(row, authors));
        }
    }
    hear(connection, &mut fresh).await?;
    copy(connection, &fresh, &changes, &new).await?;
    let old = read_old(connection, &changes, &replaced).await?;

    let mut tally = Tally::default();
    let mut done = Committed::default();
    let mut by_brand: BTreeMap<_, u64> = BTreeMap::new();
    for tweet in &fresh {
        let (row, of) = (tweet.row, tweet.of());
        tally.add(&row.brands, row.tweet.created_at, of);
        for brand in &row.brands {
            *by_brand.entry((brand, of.model, row.tweet.language)).or_default() += 1;
        }
        let judged = if of.label.is_some() { &mut done.new } else { &mut done.not_judged };
        *judged += 1;
        done.echoes += u64::from(of.echo);
    }
    let removals: BTreeMap<_, _> =
        changes.removals.iter().map(|(id, change)| (id.as_str(), change)).collect();
    let (mut replacements, mut emptied) = (Vec::new(), Vec::new());
    for old in &old {
        let (id, at) = (old.tweet_id.as_str(), old.created_at);
        let mut is_counted = old.counted || new.contains(id);
        let (mut brands, mut of) = (&old.brands, old.of());
        let removal = removals.get(id);
        if let Some(tweet) = replaced.get(id) {
            done.removed += 1;
            if is_counted {
                tally.take(brands, at, of);
            }
            (brands, of, is_counted) = (&tweet.row.brands, tweet.of(), true);
            tally.add(brands, at, of);
            if removal.is_none() {
                replacements.push((old, tweet));
            }
        }
        if let Some(change) = removal {
            done.removed += 1;
            emptied.push((id, at, change.why));
            match change.keeps_count {
                _ if !is_counted => {}
                true => tally.gone(brands, at, of),
                false => tally.take(brands, at, of),
            }
        }
    }
    replace(connection, &replacements).await?;
    empty(connection, &emptied).await?;
    tally.write(connection).await?;
    done.duplicate = (batch.scores.len() as u64).saturating_sub(done.new + done.not_judged);
    let of_brand = |((brand, model, language), tweets): ((&String, Option<&str>, _), u64)| {
        NewTweets { brand: brand.clone(), model: model.map(str::to_owned), language, tweets }
    };
    done.by_brand = by_brand.into_iter().map(of_brand).collect();
    Ok(done)
}

/// Takes the ids of the tweets, and of those that were edited before they were seen; returns those that are new.
async fn insert_ids<'a>(
    connection: &mut PgConnection,
    changes: &'a Changes<'_>,
) -> Result<HashSet<&'a str>, StoreError> {
    let tweets = changes.tweets.values().map(|(row, _)| (&row.tweet.id, row.tweet.created_at));
    let edited = changes.removals.iter().filter_map(|(id, change)| Some((*id, change.edited_at?)));
    let times: BTreeMap<&TweetId, DateTime<Utc>> = tweets.chain(edited).collect();
    if times.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<&str> = times.keys().map(|id| id.as_str()).collect();
    let new: Option<Vec<String>> = sqlx::query_scalar(IDS)
        .bind(&ids)
        .bind(times.into_values().collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    let new: Option<HashSet<String>> = new.map(HashSet::from_iter);
    let is_new = |id: &&str| new.as_ref().is_none_or(|new| new.contains(*id));
    Ok(ids.into_iter().filter(is_new).collect())
}

/// Finds the echoes: of each voice, the first tweet of the first batch is heard.
async fn hear(connection: &mut PgConnection, fresh: &mut [Stored<'_>]) -> Result<(), StoreError> {
    let spoken: BTreeSet<_> = fresh.iter().filter_map(Stored::spoken).collect();
    if spoken.is_empty() {
        return Ok(());
    }
    let heard: Vec<(DateTime<Utc>, i64, bool)> = sqlx::query_as(VOICES)
        .bind(spoken.iter().map(|(hour, _, _)| *hour).collect::<Vec<_>>())
        .bind(spoken.iter().map(|(_, voice, _)| *voice).collect::<Vec<_>>())
        .bind(spoken.iter().map(|(_, _, negative)| *negative).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut heard: HashSet<_> = heard.into_iter().collect();
    let mut by_time: Vec<_> = fresh.iter_mut().collect();
    by_time.sort_by_key(|tweet| (tweet.row.tweet.created_at, &tweet.row.tweet.id));
    for tweet in by_time {
        if let Some(spoken) = tweet.spoken() {
            tweet.echo = !heard.remove(&spoken);
        }
    }
    Ok(())
}

/// Writes the new tweets; of those that were edited before they were seen, that they are gone.
async fn copy(
    connection: &mut PgConnection,
    fresh: &[Stored<'_>],
    changes: &Changes<'_>,
    new: &HashSet<&str>,
) -> Result<(), StoreError> {
    if !fresh.is_empty() {
        let mut rows = Rows::new();
        for tweet in fresh {
            tweet.copy(&mut rows, tweet.row.tweet.created_at)?;
        }
        rows.copy(connection, SCORES).await?;
    }
    let edited = changes.removals.iter().filter(|(id, _)| new.contains(id.as_str()));
    let edited = edited.filter_map(|(id, change)| Some((id.as_str(), change.edited_at?)));
    let (ids, times): (Vec<_>, Vec<_>) = edited.unzip();
    if !ids.is_empty() {
        sqlx::query(NEVER).bind(ids).bind(times).execute(connection).await?;
    }
    Ok(())
}

/// Locks and reads the stored tweets that are replaced or removed.
async fn read_old(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    replaced: &BTreeMap<&str, Stored<'_>>,
) -> Result<Vec<Old>, StoreError> {
    let removed = changes.removals.keys().map(|id| id.as_str());
    let ids: BTreeSet<_> = replaced.keys().copied().chain(removed).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let rows = sqlx::query(OLD).bind(ids).fetch_all(connection).await?;
    Ok(rows.iter().map(Old::read).collect::<Result<_, _>>()?)
}

/// Stores the later versions in the place of those before. They stay in the minute in which the tweet was written.
async fn replace(
    connection: &mut PgConnection,
    tweets: &[(&Old, &Stored<'_>)],
) -> Result<(), StoreError> {
    if tweets.is_empty() {
        return Ok(());
    }
    sqlx::query(DELETE)
        .bind(tweets.iter().map(|(old, _)| old.tweet_id.as_str()).collect::<Vec<_>>())
        .bind(tweets.iter().map(|(old, _)| old.created_at).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let mut rows = Rows::new();
    for (old, new) in tweets {
        new.copy(&mut rows, old.created_at)?;
    }
    Ok(rows.copy(connection, SCORES).await?)
}

async fn empty(
    connection: &mut PgConnection,
    tweets: &[(&str, DateTime<Utc>, Removed)],
) -> Result<(), StoreError> {
    if tweets.is_empty() {
        return Ok(());
    }
    sqlx::query(EMPTY)
        .bind(tweets.iter().map(|(id, _, _)| *id).collect::<Vec<_>>())
        .bind(tweets.iter().map(|(_, at, _)| *at).collect::<Vec<_>>())
        .bind(tweets.iter().map(|(_, _, why)| why.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Larger numbers than Postgres can store exceed the number of people.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
