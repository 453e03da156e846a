//! Tweets that repeat others, and tweets that are edited or deleted.

use std::collections::{BTreeMap, BTreeSet};

use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::domain::{Counts, Label, Minute, Reach, Removed, TweetId};
use monitor_store::{Batch, Committed, Correction, PostgresStore, Removal, ScoredTweet, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fixtures::*;
use super::on_postgres;
use crate::support::fresh_database;

fn said_by(voice: u64, id: &str, at: i64, p: f32) -> ScoredTweet {
    ScoredTweet {
        heard: Heard::OnceAnHour(voice),
        ..scored(id, "text", minute(at).start(), &["united"], p)
    }
}

fn removal(id: &str, keeps_count: bool) -> Removal {
    let tweet_id = TweetId::new(id).expect("an id");
    Removal { tweet_id, why: Removed::Deleted, keeps_count }
}

/// A later version of these.
fn edit_of(before: &[&str], row: ScoredTweet) -> ScoredTweet {
    let before = before.iter().map(|id| TweetId::new(*id).expect("an id")).collect();
    ScoredTweet { tweet: row.tweet.with_edit_of(before), ..row }
}

async fn store_next(
    store: &dyn Store,
    rows: Vec<ScoredTweet>,
    removals: Vec<Removal>,
) -> Committed {
    let from = positions(store).await[0];
    let advances = vec![advance(0, from, from + 1)];
    let batch = Batch { scores: rows, removals, advances, ..Batch::default() };
    store.commit(&batch).await.expect("committed")
}

/// Minute of these tests, total and negative.
async fn counted(store: &dyn Store) -> Vec<(i64, u64, u64)> {
    let counts = all_counts(store, "united").await.into_iter();
    counts.map(|(at, c)| (at.0 - minute(0).0, c.total, c.negative)).collect()
}

async fn shown(store: &dyn Store) -> Vec<String> {
    let found = store.window_tweets("united", minute(-999), minute(999), 99).await;
    let mut ids: Vec<_> = found.expect("tweets").into_iter().map(|it| it.tweet_id).collect();
    ids.sort();
    ids
}

pub async fn counts_a_voice_once_an_hour(store: &dyn Store) {
    claim_empty(store, 1).await;
    let rows = vec![
        said_by(1, "b", 7, 0.9),
        said_by(1, "a", 5, 0.9),
        said_by(1, "c", 8, 0.1),
        said_by(2, "d", 8, 0.9),
        ScoredTweet { score: None, ..said_by(2, "e", 8, 0.9) },
        tweet("f", &["united"], 0.9),
    ];
    let committed = store_next(store, rows, vec![]).await;
    let expected = Committed { new: 5, not_judged: 1, echoes: 1, ..Committed::default() };
    assert_eq!(sums(committed), expected);
    assert_eq!(counted(store).await, [(5, 2, 2), (8, 2, 1)], "the earliest of a batch counts");
    let again = vec![said_by(1, "g", 59, 0.9), said_by(1, "h", 60, 0.9), said_by(1, "a", 5, 0.9)];
    let committed = store_next(store, again, vec![]).await;
    let expected = Committed { new: 2, duplicate: 1, echoes: 1, ..Committed::default() };
    assert_eq!(sums(committed), expected);
    assert_eq!(counted(store).await, [(5, 2, 2), (8, 2, 1), (60, 1, 1)]);
    assert_eq!(shown(store).await, ["a", "b", "c", "d", "f", "g", "h"], "echoes are stored");
    let echoes = async |brand, from, to| {
        store.echoes(brand, minute(from), minute(to)).await.expect("a number")
    };
    assert_eq!(echoes("united", 0, 99).await, 2);
    assert_eq!((echoes("united", 8, 58).await, echoes("delta", 0, 99).await), (0, 0));

    let ignored = |id, p| ScoredTweet { heard: Heard::Never, ..said_by(3, id, 90, p) };
    let unjudged = ScoredTweet { score: None, ..ignored("k", 0.9) };
    let rows = vec![ignored("i", 0.9), ignored("j", 0.1), unjudged, said_by(3, "l", 91, 0.9)];
    let committed = store_next(store, rows, vec![]).await;
    let expected = Committed { new: 3, not_judged: 1, echoes: 2, ..Committed::default() };
    assert_eq!(
        sums(committed),
        expected,
        "whose author is left out is stored, and hides nobody else"
    );
    assert_eq!(counted(store).await, [(5, 2, 2), (8, 2, 1), (60, 1, 1), (91, 1, 1)]);

    // Another model scores what counts, and no more.
    store.begin_with("test@1").await.expect("begun");
    let open = store.unscored("new@1", minute(0), minute(60)).await.expect("minutes");
    let rows = |minute: Minute| open.iter().find(|(at, _)| *at == minute).map(|(_, rows)| *rows);
    assert_eq!([5, 7, 8].map(|at| rows(minute(at))), [Some(2), None, Some(2)]);
    let minutes = [minute(5), minute(7), minute(8)];
    let texts = store.texts_to_rescore("new@1", &minutes, None, 99).await.expect("texts");
    let texts: Vec<_> = texts.iter().map(|text| text.tweet_id.as_str()).collect();
    assert_eq!(texts, ["a", "f", "c", "d"]);
}

pub async fn removes_deleted_tweets(store: &dyn Store) {
    claim_empty(store, 1).await;
    let row = |id: &str, at, p| scored(id, "text", minute(at).start(), &["united"], p);
    let rows = vec![row("a", 5, 0.9), row("b", 5, 0.9), row("c", 6, 0.1), row("d", 6, 0.1)];
    store_next(store, rows, vec![]).await;
    let removals = vec![removal("a", true), removal("c", false), removal("other", false)];
    let committed = store_next(store, vec![], removals).await;
    assert_eq!(committed, Committed { removed: 2, ..Committed::default() });
    assert_eq!(counted(store).await, [(5, 2, 2), (6, 1, 0)], "one keeps its count");
    assert_eq!(shown(store).await, ["b", "d"]);
    assert_eq!(store.tweet("a").await.expect("an answer"), None);
    let correction = Correction {
        tweet_id: "a".into(),
        label: Label::Positive,
        by: "ann".into(),
        at: minute(9).start(),
        text: String::new(),
    };
    assert!(!store.correct(&correction).await.expect("an answer"), "it is not there any more");

    let again = vec![row("a", 5, 0.9), row("c", 6, 0.1)];
    let committed = store_next(store, again, vec![removal("a", false)]).await;
    assert_eq!(committed, Committed { duplicate: 2, ..Committed::default() }, "they stay removed");
    assert_eq!(counted(store).await, [(5, 2, 2), (6, 1, 0)]);

    // What is gone cannot be scored again, and nobody waits for it.
    store.begin_with("test@1").await.expect("begun");
    let open = store.unscored("new@1", minute(0), minute(60)).await.expect("minutes");
    assert_eq!(open, [(minute(6), 1), (minute(5), 1)]);

    let both = store_next(store, vec![row("e", 7, 0.9)], vec![removal("e", false)]).await;
    assert_eq!((both.new, both.removed), (1, 1), "within one batch");
    let committed = store_next(store, vec![], vec![removal("d", false)]).await;
    assert_eq!(committed.removed, 1);
    assert_eq!(counted(store).await, [(5, 2, 2)], "empty minutes are left out");
    let hours = store.hour_counts(Some("united"), minute(0), minute(60)).await.expect("counts");
    assert_eq!(hours, [(minute(0), Counts { total: 2, negative: 2 })]);
}

pub async fn replaces_edited_tweets(store: &dyn Store) {
    claim_empty(store, 1).await;
    let row = |id: &str, at, p| scored(id, id, minute(at).start(), &["united"], p);
    store_next(store, vec![row("a", 5, 0.9), row("b", 5, 0.9)], vec![]).await;
    // An edit with an id of its own.
    let committed = store_next(store, vec![edit_of(&["a"], row("a2", 9, 0.1))], vec![]).await;
    assert_eq!(sums(committed), Committed { new: 1, removed: 1, ..Committed::default() });
    assert_eq!(counted(store).await, [(5, 1, 1), (9, 1, 0)]);
    let early = store_next(store, vec![row("a", 5, 0.9)], vec![]).await;
    assert_eq!(early.duplicate, 1, "the first version does not come back");

    // The third version before the others.
    store_next(store, vec![edit_of(&["c", "c2"], row("c3", 12, 0.9))], vec![]).await;
    let late = vec![edit_of(&["c"], row("c2", 11, 0.1)), row("c", 10, 0.1)];
    let committed = store_next(store, late, vec![]).await;
    assert_eq!((committed.new, committed.duplicate), (0, 2));
    assert_eq!(shown(store).await, ["a2", "b", "c3"]);

    // All versions in one batch.
    let rows = vec![
        row("d", 20, 0.9),
        edit_of(&["d"], row("d2", 21, 0.9)),
        edit_of(&["d", "d2"], row("d3", 22, 0.1)),
    ];
    store_next(store, rows, vec![]).await;
    assert_eq!(counted(store).await, [(5, 1, 1), (9, 1, 0), (12, 1, 1), (22, 1, 0)]);

    // An edit that keeps its id stays in its minute.
    let edit =
        |text: &str, p| edit_of(&["b"], scored("b", text, minute(30).start(), &["united"], p));
    let committed = store_next(store, vec![edit("second", 0.8), edit("third", 0.1)], vec![]).await;
    assert_eq!((committed.new, committed.removed), (0, 1));
    assert_eq!(counted(store).await[0], (5, 1, 0));
    let found = store.tweet("b").await.expect("an answer").expect("a tweet");
    assert_eq!((found.text.as_str(), found.created_at), ("third", minute(5).start()));
    let committed = store_next(store, vec![edit_of(&["e"], row("e", 31, 0.9))], vec![]).await;
    assert_eq!(committed.new, 1, "an edit of a tweet that is not stored");
    let totals = store.totals().await.expect("totals");
    assert_eq!(totals.scores, 6, "tweets that were scored, those that are gone too: {totals:?}");
}

/// What is left of random tweets, edits and deletions, by minute of these tests and whether it is negative.
struct Left {
    /// By id.
    stored: BTreeMap<String, (i64, bool)>,
    /// Removed, and still counted.
    kept: Vec<(i64, bool)>,
}

/// Changes a store at random; with echoes and without removed tweets that still count, or the other way round.
async fn change_at_random(store: &dyn Store, rng: &mut ChaCha8Rng, has_echoes: bool) -> Left {
    claim_empty(store, 1).await;
    let mut left = Left { stored: BTreeMap::new(), kept: Vec::new() };
    let mut known: Vec<String> = Vec::new();
    for _ in 0..40 {
        let (mut rows, mut removals) = (Vec::new(), Vec::new());
        // Each tweet is touched once a batch: what is done to it does not depend on the order.
        let mut touched: BTreeSet<String> = BTreeSet::new();
        for _ in 0..rng.random_range(1..12) {
            let (at, negative) = (rng.random_range(0..150), rng.random());
            let heard = match rng.random_range(0..6) {
                _ if !has_echoes => Heard::Always,
                5 => Heard::Never,
                voice => Heard::OnceAnHour(voice),
            };
            let row = |id: &str| {
                let p = if negative { 0.9 } else { 0.1 };
                ScoredTweet { heard, ..scored(id, "text", minute(at).start(), &["united"], p) }
            };
            let any = known.get(rng.random_range(0..known.len().max(1))).cloned();
            let any = any.filter(|id| touched.insert(id.clone()));
            let new = match (rng.random_range(0..10), any) {
                (0..2, Some(id)) => {
                    let keeps = !has_echoes && rng.random();
                    removals.push(removal(&id, keeps));
                    left.kept.extend(left.stored.remove(&id).filter(|_| keeps));
                    None
                }
                (2..4, Some(id)) => {
                    left.stored.remove(&id);
                    Some(edit_of(&[&id], row(&format!("t{:04}", known.len()))))
                }
                (4, Some(id)) => {
                    rows.push(edit_of(&[&id], row(&id)));
                    if let Some((_, was)) = left.stored.get_mut(&id) {
                        *was = negative;
                    }
                    None
                }
                (5, Some(id)) => {
                    rows.push(row(&id));
                    None
                }
                _ => Some(row(&format!("t{:04}", known.len()))),
            };
            if let Some(new) = new {
                let id = new.tweet.id.as_str().to_owned();
                left.stored.insert(id.clone(), (at, negative));
                touched.insert(id.clone());
                known.push(id);
                rows.push(new);
            }
        }
        store_next(store, rows, removals).await;
    }
    left
}

/// Counts equal a fold over what is stored and what still counts.
pub async fn counts_equal_a_fold_after_changes(store: &dyn Store) {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let left = change_at_random(store, &mut ChaCha8Rng::seed_from_u64(seed), false).await;
    let mut minutes: BTreeMap<i64, Counts> = BTreeMap::new();
    for (at, negative) in left.stored.values().chain(&left.kept) {
        *minutes.entry(*at).or_default() += Counts { total: 1, negative: u64::from(*negative) };
    }
    let expected: Vec<_> = minutes.iter().map(|(at, c)| (*at, c.total, c.negative)).collect();
    assert_eq!(counted(store).await, expected, "seed {seed}");
    let mut hours: BTreeMap<i64, Counts> = BTreeMap::new();
    for (at, counts) in minutes {
        *hours.entry(at / 60).or_default() += counts;
    }
    let found = store.hour_counts(Some("united"), minute(0), minute(999)).await.expect("counts");
    let found = found.iter().map(|(at, counts)| ((at.0 - minute(0).0) / 60, *counts));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), hours, "seed {seed}");
    let stored = store.window_tweets("united", minute(0), minute(999), 999).await.expect("tweets");
    let stored: BTreeMap<_, _> = (stored.into_iter())
        .map(|it| (it.tweet_id, (Minute::of(it.created_at).0 - minute(0).0, it.is_negative)))
        .collect();
    assert_eq!(stored, left.stored, "seed {seed}");
}

/// In Postgres, the counts with their echoes equal a fold over the rows.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_counts_equal_a_fold_after_changes() {
    let store = on_postgres(fresh_database().await);
    store.migrate().await.unwrap();
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    change_at_random(&store, &mut ChaCha8Rng::seed_from_u64(seed), true).await;
    let echoes: i64 = sqlx::query_scalar("SELECT count(*) FROM scores WHERE echo")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert!(echoes > 0, "seed {seed}");
    for (table, unit, total) in [
        ("minute_counts", "minute", "total"),
        ("hour_counts", "hour", "tweets"),
        ("day_counts", "day", "tweets"),
    ] {
        let sql = format!(
            "SELECT count(*) FROM (
                 SELECT brand, date_trunc('{unit}', created_at, 'UTC'), count(*),
                        count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE echo),
                        count(*) FILTER (WHERE echo AND label = 'NEGATIVE')
                 FROM scores, unnest(brands) AS brand GROUP BY 1, 2
             ) AS expected
             FULL JOIN (
                 SELECT brand, {unit}, {total}, negative, echoes, negative_echoes FROM {table} WHERE {total} > 0
             ) AS found ON expected = found
             WHERE expected IS NULL OR found IS NULL"
        );
        let different: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap();
        assert_eq!(different, 0, "{table}, seed {seed}");
    }
}

/// Whose name nobody knows can still be left out, by the hash that is stored.
#[tokio::test(flavor = "multi_thread")]
async fn authors_are_left_out_by_their_hash() {
    let settings = config::Store { url: fresh_database().await, ..config::Store::default() };
    let store = PostgresStore::connect(&settings).unwrap();
    store.migrate().await.unwrap();
    claim_empty(&store, 1).await;
    let by = |author: &str, id: &str| {
        let row = said_by(1, id, 5, 0.9);
        let reach = Reach { author: Some(author.into()), ..Reach::default() };
        ScoredTweet { tweet: row.tweet.with_reach(reach), ..row }
    };
    store_next(&store, vec![by("bot", "a")], vec![]).await;
    let hash: String =
        sqlx::query_scalar("SELECT author FROM scores").fetch_one(store.pool()).await.unwrap();
    assert!(hash.starts_with('#'), "{hash}");
    let store = store.ignoring(&[hash.to_uppercase()]);
    let about_none = ScoredTweet { brands: Vec::new(), heard: Heard::Always, ..by("bot", "d") };
    let rows = vec![
        by("bot", "b"),
        about_none,
        ScoredTweet { heard: Heard::OnceAnHour(2), ..by("ann", "c") },
    ];
    let committed = store_next(&store, rows, vec![]).await;
    assert_eq!((committed.new, committed.echoes), (3, 1));
    let echoes: Vec<String> = sqlx::query_scalar("SELECT tweet_id FROM scores WHERE echo")
        .fetch_all(store.pool())
        .await
        .unwrap();
    assert_eq!(echoes, ["b"]);
    assert_eq!(shown(&store).await, ["c"], "no reason for an alert");
    for name in ["bot", "@Bot"] {
        let store = PostgresStore::connect(&settings).unwrap().ignoring(&[name.to_owned()]);
        assert_eq!(shown(&store).await, ["c"], "{name}: whose hash is stored, by name");
    }
}
