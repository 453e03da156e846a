//! The contract of `Store`: one list of checks, run on each implementation.
//!
//! **Invariant.** A check gets a fresh, empty store, and uses only the trait.
//! Deliberately absent: features of one implementation.

mod changes;
mod concurrent;
mod drift;
pub(crate) mod fixtures;
mod incidents;
mod labels;
mod links;
mod missed;
mod notifications;
mod partitions;
mod phases;
mod postgres;
mod retrainings;
mod switches;
mod tweets;
mod upgrade;
pub(crate) mod views;

use std::collections::BTreeMap;
use std::pin::Pin;

use crate::support::fresh_database;
use chrono::TimeDelta;
use monitor_config as config;
use monitor_core::domain::{Counts, Label, Minute, Offset, Resume, ResumeReason, StartAt};
use monitor_store::{
    Advance, Batch, Claim, Committed, DeadLetter, MemoryStore, PostgresStore, Store, StoreError,
    Totals,
};

use changes::{
    counts_a_voice_once_an_hour, counts_equal_a_fold_after_changes, removes_deleted_tweets,
    replaces_edited_tweets,
};
use drift::keeps_the_newest_drift;
use fixtures::*;
use incidents::*;
use labels::{corrects_a_share, draws_samples_and_keeps_labels, records_models};
use links::{keeps_who_has_used_a_link, lets_one_of_two_uses_win};
use missed::*;
use notifications::*;
use retrainings::keeps_retrainings;
use switches::*;
use tweets::{
    counts_tweets_without_a_score_apart, draws_random_tweets, finds_a_tweet_by_its_id,
    keeps_whether_a_text_was_truncated, leaves_authors_out_of_a_window, searches_tweets,
    stores_reach,
};

#[tokio::test]
async fn memory_store_keeps_the_contract() {
    contract(async || MemoryStore::new().ignoring(&left_out())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_corrects_as_the_program_does() {
    let store = on_postgres(fresh_database().await);
    store.migrate().await.unwrap();
    labels::sql_corrects_as_the_program_does(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_store_keeps_the_contract() {
    contract(async || {
        let store = on_postgres(fresh_database().await);
        store.migrate().await.unwrap();
        store.ignoring(&left_out())
    })
    .await;
}

/// Authors that the stores of the contract leave out.
fn left_out() -> [String; 2] {
    ["Deals_Bot", " @other"].map(str::to_owned)
}

/// A store on the database at `url`.
fn on_postgres(url: String) -> PostgresStore {
    // The in-memory store hashes no authors.
    let authors = config::Authors::Plain;
    PostgresStore::connect(&config::Store { url, authors, ..config::Store::default() }).unwrap()
}

/// Runs every check on its own store.
async fn contract<S: Store>(fresh: impl AsyncFn() -> S) {
    for (name, check) in CHECKS {
        println!("check: {name}");
        check(&fresh().await).await;
    }
}

type Check = for<'a> fn(&'a dyn Store) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        const CHECKS: &[(&str, Check)] = &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}

checks![
    refuses_a_model_whose_time_is_over,
    scores_stored_tweets_again_once,
    claims_partitions,
    commits_and_fences,
    refuses_a_stale_batch_as_a_whole,
    counts_a_tweet_once,
    counts_a_voice_once_an_hour,
    removes_deleted_tweets,
    replaces_edited_tweets,
    counts_equal_a_fold_after_changes,
    counts_equal_the_sum_of_the_scores,
    accepts_a_checkpoint_newer_than_the_bounds,
    tells_what_was_missed_once,
    forgets_that_it_was_missed_when_somebody_is_told,
    keeps_dead_letters_once,
    marks_the_end_of_partitions,
    event_time_never_moves_back,
    record_time_never_moves_back,
    returns_ranges_of_minutes,
    sums_counts_by_hour,
    samples_a_window,
    draws_random_tweets,
    returns_totals,
    stores_reach,
    leaves_authors_out_of_a_window,
    keeps_the_examples_of_an_incident,
    finds_a_tweet_by_its_id,
    searches_tweets,
    tells_what_became_of_notifications,
    keeps_whether_a_text_was_truncated,
    counts_tweets_without_a_score_apart,
    draws_samples_and_keeps_labels,
    records_models,
    corrects_a_share,
    keeps_retrainings,
    keeps_the_newest_drift,
    decides_once,
    lets_one_of_two_deciders_win,
    opens_updates_and_resolves,
    opens_again,
    separates_watches,
    stores_the_evidence_of_each_cause,
    refuses_impossible_steps,
    lists_incidents,
    acknowledges_incidents,
    keeps_who_has_used_a_link,
    lets_one_of_two_uses_win,
    stores_and_ends_silences,
    notifies_each_receiver_in_its_thread,
    holds_notifications_until_their_time,
    groups_incidents_that_open_together,
    groups_only_fresh_openings,
    leases_the_outbox,
    leases_nothing_for_resting_receivers,
    sends_a_resolve_after_its_thread,
    releases_held_rows_once_a_notification_goes_at_once,
    resends_the_end_after_a_requeued_opening,
    keeps_sent_and_dead_rows,
    requeues_dead_notifications,
    takes_and_keeps_the_lead,
];

async fn accepts_a_checkpoint_newer_than_the_bounds(store: &dyn Store) {
    store.claim(&[claim(0, 5, 9)], StartAt::Earliest).await.expect("claimed");
    let batch = batch(vec![], vec![advance(0, 5, 20)]);
    store.commit(&batch).await.expect("committed");
    // Another reader advanced from 5 to 20 after the broker had answered that 9 is the end.
    let stale = Claim { seen: Some(Offset(5)), ..claim(0, 5, 9) };
    let found = store.claim(&[stale], StartAt::Earliest).await.expect("claimed");
    assert_eq!(found, [Resume { position: Offset(20), reason: ResumeReason::Checkpoint }]);
}

async fn claims_partitions(store: &dyn Store) {
    let check = async |name, low, high, start_at, position, reason| {
        let seen = positions(store).await.first().copied().map(Offset);
        let claim = Claim { seen, ..claim(0, low, high) };
        let found = store.claim(&[claim], start_at).await.expect("claimed");
        assert_eq!(found, [Resume { position: Offset(position), reason }], "{name}");
        assert_eq!(positions(store).await, [position], "{name}: stored");
    };
    use ResumeReason::*;
    use StartAt::*;
    check("new", 5, 9, Earliest, 5, FirstSeen).await;
    check("existing", 0, 9, Latest, 5, Checkpoint).await;
    check("retention gap", 7, 9, Latest, 7, RetentionGap { lost: 2 }).await;
    check("beyond the end", 0, 3, Latest, 0, BeyondEnd { checkpoint: Offset(7) }).await;
    check("resumes from there", 0, 9, Latest, 0, Checkpoint).await;

    let several = [claim(3, 0, 4), claim(1, 2, 8)];
    let found = store.claim(&several, Latest).await.expect("claimed");
    assert_eq!(found.iter().map(|r| r.position.0).collect::<Vec<_>>(), [4, 8], "order of claims");
    let progress = store.progress("tweets").await.expect("progress");
    let order: Vec<_> = progress.iter().map(|p| p.partition.partition).collect();
    assert_eq!(order, [0, 1, 3], "progress by partition");
    assert!(store.progress("elsewhere").await.expect("progress").is_empty(), "other topic");
}

async fn commits_and_fences(store: &dyn Store) {
    // Two readers hold partition 0 at the same position; the first to commit wins.
    claim_empty(store, 1).await;
    let first = batch(vec![tweet("a", &["united"], 0.9)], vec![advance(0, 0, 3)]);
    let committed = store.commit(&first).await.expect("committed");
    assert_eq!(sums(committed), Committed { new: 1, ..Committed::default() });

    let stale = batch(vec![tweet("z", &["united"], 0.9)], vec![advance(0, 0, 2)]);
    match store.commit(&stale).await {
        Err(StoreError::Fenced { partition: p, held, stored }) => {
            assert_eq!((p, held, stored), (partition(0), Offset(0), Some(Offset(3))));
        }
        other => panic!("the stale reader was accepted: {other:?}"),
    }
    assert_eq!(positions(store).await, [3]);
    assert_eq!(store.totals().await.expect("totals").scores, 1, "nothing of it is written");

    // Offsets may have gaps; only the position held matters.
    let next = batch(vec![tweet("b", &["united"], 0.1)], vec![advance(0, 3, 17)]);
    store.commit(&next).await.expect("committed");
    assert_eq!(positions(store).await, [17]);

    match store.commit(&batch(Vec::new(), vec![advance(9, 0, 1)])).await {
        Err(StoreError::Fenced { stored: None, .. }) => {}
        other => panic!("no checkpoint, yet: {other:?}"),
    }
}

async fn refuses_a_stale_batch_as_a_whole(store: &dyn Store) {
    // One of two partitions is stale: neither advances, and nothing is written.
    claim_empty(store, 2).await;
    let mut mixed =
        batch(vec![tweet("a", &["united"], 0.9)], vec![advance(0, 0, 5), advance(1, 4, 6)]);
    mixed.dead_letters.push(dead_letter(0, 1, "not JSON"));
    assert!(matches!(store.commit(&mixed).await, Err(StoreError::Fenced { .. })));
    assert_eq!(positions(store).await, [0, 0]);
    assert_eq!(store.totals().await.expect("totals"), Totals::default());
    assert!(all_counts(store, "united").await.is_empty());
}

async fn counts_a_tweet_once(store: &dyn Store) {
    claim_empty(store, 2).await;
    let commit = async |name, ids: &[&str], advance, new, duplicate| {
        let scores = ids.iter().map(|id| tweet(id, &["united"], 0.9)).collect();
        let found = store.commit(&batch(scores, vec![advance])).await.expect("committed");
        let by_brand: u64 = found.by_brand.iter().map(|of| of.tweets).sum();
        assert_eq!(by_brand, new, "{name}");
        assert_eq!(sums(found), Committed { new, duplicate, ..Committed::default() }, "{name}");
    };
    commit("within a batch", &["a", "b", "a", "a"], advance(0, 0, 4), 2, 2).await;
    commit("across batches", &["b", "c"], advance(0, 4, 6), 1, 1).await;
    commit("across partitions", &["c", "d"], advance(1, 0, 2), 1, 1).await;
    commit("nothing new", &["a", "d"], advance(1, 2, 4), 0, 2).await;
    commit("no tweet", &[], advance(1, 4, 5), 0, 0).await;
    assert_eq!(
        all_counts(store, "united").await,
        [(minute(5), Counts { total: 4, negative: 4 })],
        "only new rows count"
    );
    assert_eq!(positions(store).await, [6, 5], "repeats move the checkpoint all the same");
}

async fn counts_equal_the_sum_of_the_scores(store: &dyn Store) {
    claim_empty(store, 1).await;
    let brands: [&[&str]; 4] = [&[], &["delta"], &["united"], &["delta", "united"]];
    let mut expected: BTreeMap<(String, Minute), Counts> = BTreeMap::new();
    for round in 0..5_i64 {
        let mut scores = Vec::new();
        for n in 0..40_i64 {
            // Ids overlap between rounds: 10 of 40 are repeated.
            let id = round * 30 + n;
            let row = scored(
                &format!("t{id}"),
                "some text",
                minute(id % 7).start() + TimeDelta::seconds(id % 60),
                brands[(id % 4) as usize],
                (id % 10) as f32 / 10.0,
            );
            if round == 0 || n >= 10 {
                for brand in &row.brands {
                    let key = (brand.clone(), Minute::of(row.tweet.created_at));
                    *expected.entry(key).or_default() += Counts {
                        total: 1,
                        negative: u64::from(
                            row.score.as_ref().expect("a score").score.label == Label::Negative,
                        ),
                    };
                }
            }
            scores.push(row);
        }
        let batch = batch(scores, vec![advance(0, round * 40, (round + 1) * 40)]);
        store.commit(&batch).await.expect("committed");
    }
    let mut found = BTreeMap::new();
    for brand in ["delta", "united"] {
        for (minute, counts) in all_counts(store, brand).await {
            found.insert((brand.to_owned(), minute), counts);
        }
    }
    assert_eq!(found, expected);
    assert_eq!(store.totals().await.expect("totals").scores, 160);
}

async fn keeps_dead_letters_once(store: &dyn Store) {
    claim_empty(store, 2).await;
    let commit = async |letters: Vec<DeadLetter>, advance| {
        let batch = Batch { dead_letters: letters, advances: vec![advance], ..Batch::default() };
        store.commit(&batch).await.expect("committed");
        store.totals().await.expect("totals").dead_letters
    };
    assert_eq!(
        commit(vec![dead_letter(0, 0, "a"), dead_letter(0, 1, "b")], advance(0, 0, 2)).await,
        2
    );
    assert_eq!(commit(vec![dead_letter(1, 0, "same offset")], advance(1, 0, 1)).await, 3);
    // The end of the partition was lost, or the topic was recreated: the same offset is read again.
    let read_again = async |stored| {
        let claim = Claim { seen: Some(Offset(stored)), ..claim(0, 0, 0) };
        let resumed = store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
        assert_eq!(resumed[0].position, Offset(0));
    };
    read_again(2).await;
    assert_eq!(commit(vec![dead_letter(0, 0, "a")], advance(0, 0, 1)).await, 3, "the same record");
    read_again(1).await;
    let other = DeadLetter { payload: b"another".to_vec(), ..dead_letter(0, 0, "a") };
    assert_eq!(commit(vec![other.clone()], advance(0, 0, 1)).await, 4, "another record");
    read_again(1).await;
    let record_time = Some(noon() + TimeDelta::milliseconds(1));
    let later = DeadLetter { record_time, ..other };
    let after =
        Batch { dead_letters: vec![later], advances: vec![advance(0, 0, 1)], ..Batch::default() };
    store.commit(&after).await.expect("committed");
    assert_eq!(store.totals().await.expect("totals").dead_letters, 5, "sent again later");
    // Its reader died before it heard that it was stored.
    let repeated = store.commit(&after).await;
    assert!(matches!(repeated, Err(StoreError::Fenced { .. })), "{repeated:?}");
    assert_eq!(store.totals().await.expect("totals").dead_letters, 5);
}

async fn at_end(store: &dyn Store) -> bool {
    store.progress("tweets").await.expect("progress")[0].at_end
}

async fn marks_the_end_of_partitions(store: &dyn Store) {
    claim_empty(store, 1).await;
    assert!(!at_end(store).await, "a fresh claim is not at the end");
    let mark = async |position, value| {
        store.mark_at_end(&partition(0), Offset(position), value).await.expect("marked");
        at_end(store).await
    };
    let refused = async |number, position| match store
        .mark_at_end(&partition(number), Offset(position), true)
        .await
    {
        Err(StoreError::Fenced { held, stored, .. }) if held == Offset(position) => stored,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(0, 7).await, Some(Offset(0)), "another position");
    assert!(!at_end(store).await);
    assert!(mark(0, true).await, "at its position");
    assert!(!mark(0, false).await, "no longer");
    assert!(mark(0, true).await, "once more");
    store.commit(&batch(Vec::new(), vec![advance(0, 0, 2)])).await.expect("committed");
    assert!(!at_end(store).await, "a commit clears it");
    assert!(mark(2, true).await, "at its new position");
    store.claim(&[claim(0, 0, 9)], StartAt::Earliest).await.expect("claimed");
    assert!(!at_end(store).await, "a new reader has not been there yet");
    assert_eq!(refused(5, 0).await, None, "an unknown partition");
}

async fn record_time_never_moves_back(store: &dyn Store) {
    claim_empty(store, 1).await;
    let newest = async || store.progress("tweets").await.expect("progress")[0].record_time_max;
    assert_eq!(newest().await, None);
    for (position, record_time, expected) in
        [(0, None, None), (1, Some(9), Some(9)), (2, Some(1), Some(9))]
    {
        let time = |m: Option<i64>| m.map(|m| minute(m).start());
        let moved =
            Advance { record_time_max: time(record_time), ..advance(0, position, position + 1) };
        store.commit(&batch(Vec::new(), vec![moved])).await.expect("committed");
        assert_eq!(newest().await, time(expected), "after {record_time:?}");
    }
    store.claim(&[claim(0, 0, 9)], StartAt::Earliest).await.expect("claimed");
    assert_eq!(newest().await, Some(minute(9).start()), "a new reader knows it too");
}

async fn event_time_never_moves_back(store: &dyn Store) {
    claim_empty(store, 1).await;
    let newest = async || store.progress("tweets").await.expect("progress")[0].event_time_max;
    assert_eq!(newest().await, None);
    let mut position = 0;
    let mut step = async |event_time_max| {
        let moved = Advance { event_time_max, ..advance(0, position, position + 1) };
        store.commit(&batch(Vec::new(), vec![moved])).await.expect("committed");
        position += 1;
        newest().await
    };
    let (early, late) = (minute(1).start(), minute(9).start());
    assert_eq!(step(None).await, None, "no tweet seen");
    assert_eq!(step(Some(late)).await, Some(late));
    assert_eq!(step(Some(early)).await, Some(late), "a late tweet");
    assert_eq!(step(None).await, Some(late), "a batch of dead letters");
}

async fn returns_ranges_of_minutes(store: &dyn Store) {
    assert_eq!(store.first_minute("united").await.expect("first"), None);
    assert_eq!(store.last_minute("united").await.expect("last"), None);
    claim_empty(store, 1).await;
    let rows = [3, 1, 7, 7]
        .iter()
        .enumerate()
        .map(|(n, &m)| {
            let created = minute(m).start() + TimeDelta::seconds(59);
            scored(&n.to_string(), "text", created, &["united"], if m == 7 { 0.9 } else { 0.1 })
        })
        .chain([scored("x", "other", minute(0).start(), &["unite", "united "], 0.9)])
        .collect();
    store.commit(&batch(rows, vec![advance(0, 0, 5)])).await.expect("committed");

    let one = |negative| Counts { total: 1, negative };
    let check = async |name, from, to, expected: &[(Minute, Counts)]| {
        let found = store.minute_counts("united", minute(from), minute(to)).await.expect("counts");
        assert_eq!(found, expected, "{name}");
    };
    let two = Counts { total: 2, negative: 2 };
    check("all, ascending", 0, 9, &[(minute(1), one(0)), (minute(3), one(0)), (minute(7), two)])
        .await;
    check("both ends belong", 3, 7, &[(minute(3), one(0)), (minute(7), two)]).await;
    check("none there", 4, 6, &[]).await;
    check("backwards", 7, 3, &[]).await;
    assert_eq!(store.first_minute("united").await.expect("first"), Some(minute(1)));
    assert_eq!(store.last_minute("united").await.expect("last"), Some(minute(7)));
}

async fn samples_a_window(store: &dyn Store) {
    claim_empty(store, 1).await;
    let mut rows: Vec<_> = (0..200)
        .map(|n| {
            let created = minute(1 + n % 4).start() + TimeDelta::seconds(59 - n % 7);
            scored(&format!("t{n}"), &format!("text {n}"), created, &["united"], 0.2)
        })
        .collect();
    rows.push(scored("before", "text", minute(0).start(), &["united"], 0.9));
    rows.push(scored("after", "text", minute(5).start(), &["united"], 0.9));
    rows.push(scored("other", "text", minute(2).start(), &["delta"], 0.9));
    rows.push(scored("both", "text", minute(2).start(), &["delta", "united"], 0.9));
    store.commit(&batch(rows, vec![advance(0, 0, 204)])).await.expect("committed");
    let tweets = async |brand: &str, limit| {
        store.window_tweets(brand, minute(1), minute(4), limit).await.expect("tweets")
    };

    let all = tweets("united", 1000).await;
    assert_eq!(all.len(), 201, "the window's, of that brand");
    let order: Vec<_> = all.iter().map(|t| (t.created_at, t.tweet_id.clone())).collect();
    assert!(order.is_sorted(), "ascending by time, then id");
    let both = all.iter().find(|t| t.tweet_id == "both").expect("of two brands");
    assert_eq!((both.text.as_str(), both.is_negative), ("text", true));
    assert!((both.negative - 0.9).abs() < 1e-6);
    assert!(all.iter().filter(|t| t.is_negative).count() == 1, "the others are positive");

    let ten = tweets("united", 10).await;
    assert!(ten.iter().all(|tweet| all.contains(tweet)));
    assert!(ten.is_sorted_by_key(|t| t.created_at), "a sample too is ascending");
    assert_eq!(ten, tweets("united", 10).await, "the same at every call");
    let eleven = tweets("united", 11).await;
    assert!(ten.iter().all(|tweet| eleven.contains(tweet)), "a larger sample holds a smaller");
    // Both stores must return exactly these tweets.
    let ids: Vec<_> = ten.iter().map(|t| t.tweet_id.as_str()).collect();
    assert_eq!(ids, SAMPLE_OF_TEN);
    assert_eq!(tweets("united", 0).await, []);
    assert_eq!(tweets("nobody", 10).await, []);
}

const SAMPLE_OF_TEN: [&str; 10] =
    ["t48", "t128", "t28", "t61", "t105", "t166", "t66", "t142", "t98", "t43"];

async fn sums_counts_by_hour(store: &dyn Store) {
    claim_empty(store, 1).await;
    let rows = [(0, "united", 0.9), (59, "united", 0.1), (60, "united", 0.9), (61, "delta", 0.9)]
        .into_iter()
        .chain([(-1, "united", 0.1), (240, "delta", 0.1)])
        .enumerate()
        .map(|(n, (m, brand, p))| scored(&n.to_string(), "text", minute(m).start(), &[brand], p))
        .collect();
    store.commit(&batch(rows, vec![advance(0, 0, 6)])).await.expect("committed");
    let check = async |name, brand, from, to, expected: &[(i64, u64, u64)]| {
        let found = store.hour_counts(brand, minute(from), minute(to)).await.expect("counts");
        let expected: Vec<_> = expected
            .iter()
            .map(|&(m, total, negative)| (minute(m), Counts { total, negative }))
            .collect();
        assert_eq!(found, expected, "{name}");
    };
    check("a brand", Some("united"), -60, 300, &[(-60, 1, 0), (0, 2, 1), (60, 1, 1)]).await;
    check("all", None, -60, 300, &[(-60, 1, 0), (0, 2, 1), (60, 2, 2), (240, 1, 0)]).await;
    check("whole hours", Some("united"), 59, 60, &[(0, 2, 1), (60, 1, 1)]).await;
    check("one hour", None, 61, 61, &[(60, 2, 2)]).await;
    check("an empty one", None, 120, 239, &[]).await;
    check("backwards", None, 120, 0, &[]).await;
}

async fn returns_totals(store: &dyn Store) {
    store.ping().await.expect("reachable");
    assert_eq!(store.totals().await.expect("totals"), Totals::default());
    claim_empty(store, 1).await;
    let batch = Batch {
        scores: vec![tweet("a", &[], 0.9), tweet("b", &["united", "delta"], 0.9)],
        dead_letters: vec![dead_letter(0, 2, "not JSON")],
        advances: vec![advance(0, 0, 3)],
        ..Batch::default()
    };
    store.commit(&batch).await.expect("committed");
    open(store, "united", 10).await;
    let totals = store.totals().await.expect("totals");
    let expected =
        Totals { scores: 2, not_judged: 0, dead_letters: 1, outbox_pending: 2, outbox_dead: 0 };
    assert_eq!(totals, expected, "a tweet without a brand, or with two, is one score");
}
