//! What every `Store` must do: one list of checks, run on each implementation.
//!
//! **Invariant.** A check sees a fresh, empty store, and only what the trait offers.
//! Deliberately absent: anything that only one implementation can do.

mod fixtures;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use crate::support::fresh_database;
use chrono::TimeDelta;
use monitor::config;
use monitor::domain::{Counts, Label, Minute, Offset, Resume, ResumeReason, StartAt, Transition};
use monitor::store::{
    Advance, Batch, Claim, Committed, DeadLetter, Decision, MemoryStore, OutboxState,
    PostgresStore, Store, StoreError, Totals,
};

use fixtures::*;

#[tokio::test]
async fn memory_store_keeps_the_contract() {
    contract(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_store_keeps_the_contract() {
    contract(async || {
        let settings = config::Store { url: fresh_database().await, ..config::Store::default() };
        let store = PostgresStore::connect(&settings).unwrap();
        store.migrate().await.unwrap();
        store
    })
    .await;
}

/// Runs every check on a store of its own.
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
    claims,
    commits_and_fences_off,
    refuses_a_batch_whole,
    counts_a_tweet_once,
    counts_are_a_fold_over_scores,
    trusts_a_checkpoint_newer_than_the_bounds,
    keeps_dead_letters_once,
    minds_the_end_of_partitions,
    event_time_never_moves_back,
    answers_for_stretches_of_minutes,
    decides_once,
    opens_and_resolves,
    refuses_impossible_steps,
    lists_incidents,
    leases_the_outbox,
    ends_outbox_rows_for_good,
    shows_examples,
    totals_up,
];

async fn trusts_a_checkpoint_newer_than_the_bounds(store: &dyn Store) {
    store.claim(&[claim(0, 5, 9)], StartAt::Earliest).await.expect("claimed");
    let batch = batch(vec![], vec![advance(0, 5, 20)]);
    store.commit(&batch).await.expect("committed");
    // Another reader came from 5 to 20 after the broker had said that 9 is the end.
    let stale = Claim { seen: Some(Offset(5)), ..claim(0, 5, 9) };
    let found = store.claim(&[stale], StartAt::Earliest).await.expect("claimed");
    assert_eq!(found, [Resume { position: Offset(20), reason: ResumeReason::Checkpoint }]);
}

async fn claims(store: &dyn Store) {
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
    check("and on from there", 0, 9, Latest, 0, Checkpoint).await;

    let several = [claim(3, 0, 4), claim(1, 2, 8)];
    let found = store.claim(&several, Latest).await.expect("claimed");
    assert_eq!(found.iter().map(|r| r.position.0).collect::<Vec<_>>(), [4, 8], "order of claims");
    let progress = store.progress("tweets").await.expect("progress");
    let order: Vec<_> = progress.iter().map(|p| p.partition.partition).collect();
    assert_eq!(order, [0, 1, 3], "progress by partition");
    assert!(store.progress("elsewhere").await.expect("progress").is_empty(), "other topic");
}

async fn commits_and_fences_off(store: &dyn Store) {
    // Two readers hold partition 0 at the same position; the first to commit wins.
    claim_empty(store, 1).await;
    let first = batch(vec![tweet("a", &["united"], 0.9)], vec![advance(0, 0, 3)]);
    let committed = store.commit(&first).await.expect("committed");
    assert_eq!(committed, Committed { new: 1, duplicate: 0 });

    let zombie = batch(vec![tweet("z", &["united"], 0.9)], vec![advance(0, 0, 2)]);
    match store.commit(&zombie).await {
        Err(StoreError::Fenced { partition: p, held, stored }) => {
            assert_eq!((p, held, stored), (partition(0), Offset(0), Some(Offset(3))));
        }
        other => panic!("the zombie was let in: {other:?}"),
    }
    assert_eq!(positions(store).await, [3]);
    assert_eq!(store.totals().await.expect("totals").scores, 1, "nothing of it is written");

    // Offsets may leave gaps; what counts is the position held.
    let next = batch(vec![tweet("b", &["united"], 0.1)], vec![advance(0, 3, 17)]);
    store.commit(&next).await.expect("committed");
    assert_eq!(positions(store).await, [17]);

    match store.commit(&batch(Vec::new(), vec![advance(9, 0, 1)])).await {
        Err(StoreError::Fenced { stored: None, .. }) => {}
        other => panic!("no checkpoint, yet: {other:?}"),
    }
}

async fn refuses_a_batch_whole(store: &dyn Store) {
    // One stale partition of two: neither moves, no score, no count, no dead letter.
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
        assert_eq!(found, Committed { new, duplicate }, "{name}");
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

async fn counts_are_a_fold_over_scores(store: &dyn Store) {
    claim_empty(store, 1).await;
    let brands: [&[&str]; 4] = [&[], &["delta"], &["united"], &["delta", "united"]];
    let mut expected: BTreeMap<(String, Minute), Counts> = BTreeMap::new();
    for round in 0..5_i64 {
        let mut scores = Vec::new();
        for n in 0..40_i64 {
            // Ids overlap from round to round: 10 of 40 come again.
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
                        negative: u64::from(row.score.label == Label::Negative),
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
    // The topic was made anew, and the same place is read again.
    let anew = Claim { seen: Some(Offset(2)), ..claim(0, 0, 1) };
    store.claim(&[anew], StartAt::Earliest).await.expect("claimed");
    assert_eq!(commit(vec![dead_letter(0, 0, "again")], advance(0, 0, 1)).await, 3);
}

async fn at_end(store: &dyn Store) -> bool {
    store.progress("tweets").await.expect("progress")[0].at_end
}

async fn minds_the_end_of_partitions(store: &dyn Store) {
    claim_empty(store, 1).await;
    assert!(!at_end(store).await, "a fresh claim is not at the end");
    let mark = async |position, value| {
        store.mark_at_end(&partition(0), Offset(position), value).await.expect("marked");
        at_end(store).await
    };
    assert!(!mark(7, true).await, "another position: ignored");
    assert!(mark(0, true).await, "at its position");
    assert!(!mark(0, false).await, "no longer");
    assert!(mark(0, true).await, "once more");
    store.commit(&batch(Vec::new(), vec![advance(0, 0, 2)])).await.expect("committed");
    assert!(!at_end(store).await, "a commit clears it");
    assert!(mark(2, true).await, "at its new position");
    store.claim(&[claim(0, 0, 9)], StartAt::Earliest).await.expect("claimed");
    assert!(!at_end(store).await, "a new reader has not stood there yet");
    store.mark_at_end(&partition(5), Offset(0), true).await.expect("unknown: nothing to do");
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

async fn answers_for_stretches_of_minutes(store: &dyn Store) {
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

async fn decides_once(store: &dyn Store) {
    assert_eq!(store.brand_state("united").await.expect("state"), None);
    let overtaken = async |name, before| match store
        .decide(&decision("united", before, 99, Some(Transition::Opened)))
        .await
    {
        Err(StoreError::Overtaken { brand }) => assert_eq!(brand, "united", "{name}"),
        other => panic!("{name}: {other:?}"),
    };
    overtaken("never judged, though it says so", Some(1)).await;
    assert_eq!(decide(store, decision("united", None, 10, None)).await, None);
    overtaken("says first, but was judged", None).await;
    overtaken("says an older minute", Some(9)).await;
    let calm = Decision { calm_since: Some(minute(8)), ..decision("united", Some(10), 11, None) };
    assert_eq!(decide(store, calm).await, None);
    let state = store.brand_state("united").await.expect("state").expect("judged");
    assert_eq!((state.judged, state.open, state.calm_since), (minute(11), None, Some(minute(8))));
    assert!(store.incidents(10).await.expect("incidents").is_empty(), "nothing of the refused");
    assert_eq!(store.totals().await.expect("totals").outbox_pending, 0);
    assert_eq!(store.brand_state("delta").await.expect("state"), None, "brands are apart");
}

async fn opens_and_resolves(store: &dyn Store) {
    let opened = decide(store, decision("united", None, 10, Some(Transition::Opened))).await;
    let id = opened.expect("an incident");
    let open = store.brand_state("united").await.expect("state").expect("judged").open;
    let open = open.expect("the open incident");
    assert_eq!((open.id, open.opened, open.resolved), (id, minute(10), None));
    assert_eq!(open.evidence, evidence(), "frozen as it was");

    assert_eq!(decide(store, decision("united", Some(10), 11, None)).await, None);
    let still = store.brand_state("united").await.expect("state").expect("judged").open;
    assert_eq!(still.as_ref(), Some(&open), "stays open between steps");

    let mut resolve = decision("united", Some(11), 12, Some(Transition::Resolved));
    resolve.step.as_mut().expect("a step").evidence.z = 0.5;
    assert_eq!(decide(store, resolve).await, Some(id), "the incident that was open");
    let state = store.brand_state("united").await.expect("state").expect("judged");
    assert_eq!((state.judged, state.open), (minute(12), None));
    let all = store.incidents(10).await.expect("incidents");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].resolved, Some(minute(12)));
    assert_eq!(all[0].evidence, evidence(), "what it opened on, not what it closed on");

    let rows = store.outbox_lease(minute(0).start(), Duration::from_secs(60), 10).await;
    let rows = rows.expect("leased");
    let keys: Vec<_> = rows.iter().map(|r| r.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            format!("incident-{id}-opened-comms"),
            format!("incident-{id}-opened-hook"),
            format!("incident-{id}-resolved-comms"),
            format!("incident-{id}-resolved-hook"),
        ]
    );
    for row in &rows {
        assert!(row.key.ends_with(&row.receiver));
        assert_eq!(row.notification.incident_id, id.0, "filled in by the store");
        assert_eq!(row.notification.reason, "because");
    }
}

async fn refuses_impossible_steps(store: &dyn Store) {
    let refused = async |name, decision: Decision| {
        let before = store.brand_state("united").await.expect("state");
        let pending = store.totals().await.expect("totals").outbox_pending;
        match store.decide(&decision).await {
            Err(StoreError::Refused(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(store.brand_state("united").await.expect("state"), before, "{name}: state");
        let after = store.totals().await.expect("totals").outbox_pending;
        assert_eq!(after, pending, "{name}: outbox");
    };
    refused("resolves nothing", decision("united", None, 1, Some(Transition::Resolved))).await;
    decide(store, decision("united", None, 1, Some(Transition::Opened))).await;
    refused("opens twice", decision("united", Some(1), 2, Some(Transition::Opened))).await;
}

async fn lists_incidents(store: &dyn Store) {
    use Transition::{Opened, Resolved};
    decide(store, decision("united", None, 10, Some(Opened))).await;
    decide(store, decision("united", Some(10), 20, Some(Resolved))).await;
    decide(store, decision("delta", None, 15, Some(Opened))).await;
    decide(store, decision("united", Some(20), 30, Some(Opened))).await;

    let opened = |found: &[monitor::domain::Incident]| -> Vec<(String, i64)> {
        found.iter().map(|i| (i.brand.clone(), i.opened.0 - minute(0).0)).collect()
    };
    let name = |brand: &str, n| (brand.to_owned(), n);
    let all = store.incidents(10).await.expect("incidents");
    assert_eq!(opened(&all), [name("united", 30), name("delta", 15), name("united", 10)]);
    let two = store.incidents(2).await.expect("incidents");
    assert_eq!(opened(&two), [name("united", 30), name("delta", 15)], "newest first, limited");

    let check = async |what, from, expected: &[i64]| {
        let found = store.incidents_since("united", minute(from)).await.expect("incidents");
        let expected: Vec<_> = expected.iter().map(|&n| name("united", n)).collect();
        assert_eq!(opened(&found), expected, "{what}");
    };
    check("all, ascending", 0, &[10, 30]).await;
    check("in part after", 15, &[10, 30]).await;
    check("resolved in that very minute", 20, &[10, 30]).await;
    check("resolved before", 21, &[30]).await;
    check("open reaches on", 500, &[30]).await;
}

async fn leases_the_outbox(store: &dyn Store) {
    decide(store, decision("united", None, 10, Some(Transition::Opened))).await;
    let now = at("2026-01-01T12:00:00Z");
    let lease = async |seconds_later: i64, limit| {
        let now = now + TimeDelta::seconds(seconds_later);
        let rows = store.outbox_lease(now, Duration::from_secs(60), limit).await.expect("leased");
        rows.into_iter().map(|r| (r.id, r.receiver, r.attempts)).collect::<Vec<_>>()
    };
    let first = lease(0, 1).await;
    assert_eq!(first.len(), 1, "limit");
    let (comms, hook) = (first[0].0, first[0].0 + 1);
    assert_eq!(first, [(comms, "comms".to_owned(), 1)], "the older one first");
    assert_eq!(lease(1, 9).await, [(hook, "hook".to_owned(), 1)], "leased rows are not due");
    assert_eq!(lease(59, 9).await, [], "still leased");
    assert_eq!(lease(60, 9).await, [(comms, "comms".to_owned(), 2)], "the lease ran out");

    let retry = OutboxState::Retry { at: now + TimeDelta::seconds(300), error: "busy".into() };
    store.outbox_record(hook, now, &retry).await.expect("recorded");
    store.outbox_record(comms, now, &OutboxState::Sent).await.expect("recorded");
    assert_eq!(lease(299, 9).await, [], "not due before its time, nor once sent");
    assert_eq!(lease(300, 9).await, [(hook, "hook".to_owned(), 2)], "due at its time");
    assert_eq!(store.totals().await.expect("totals").outbox_pending, 1);
}

async fn ends_outbox_rows_for_good(store: &dyn Store) {
    decide(store, decision("united", None, 10, Some(Transition::Opened))).await;
    let now = at("2026-01-01T12:00:00Z");
    let rows = store.outbox_lease(now, Duration::from_secs(1), 9).await.expect("leased");
    let dead = OutboxState::Dead { error: "no such address".into() };
    let retry = OutboxState::Retry { at: now, error: "late word".into() };
    store.outbox_record(rows[0].id, now, &OutboxState::Sent).await.expect("recorded");
    store.outbox_record(rows[1].id, now, &dead).await.expect("recorded");
    for row in &rows {
        store.outbox_record(row.id, now, &retry).await.expect("recorded");
    }
    let later = now + TimeDelta::days(1);
    let due = store.outbox_lease(later, Duration::from_secs(1), 9).await.expect("leased");
    assert!(due.is_empty(), "a late word revives nothing: {due:?}");
    let totals = store.totals().await.expect("totals");
    assert_eq!((totals.outbox_pending, totals.outbox_dead), (0, 1));
    store.outbox_record(i64::MAX, now, &dead).await.expect("unknown: nothing to do");
}

async fn shows_examples(store: &dyn Store) {
    claim_empty(store, 1).await;
    let rows = [
        ("a", "awful", 1, "united", 0.80),
        ("b", "lost my bag", 2, "united", 0.97),
        ("c", "awful", 3, "united", 0.80),
        ("d", "never again", 4, "united", 0.90),
        ("e", "great", 4, "united", 0.10),
        ("f", "too late", 5, "united", 0.99),
        ("g", "too early", 0, "united", 0.99),
        ("h", "another brand", 2, "delta", 0.99),
        ("i", "rude crew", 3, "united", 0.60),
    ]
    .map(|(id, text, m, brand, p)| {
        scored(id, text, minute(m).start() + TimeDelta::seconds(59), &[brand], p)
    });
    store.commit(&batch(rows.to_vec(), vec![advance(0, 0, 9)])).await.expect("committed");
    let check = async |name, limit, expected: &[&str]| {
        let found = store.examples("united", minute(1), minute(4), limit).await.expect("examples");
        let texts: Vec<_> = found.iter().map(|e| e.text.as_str()).collect();
        assert_eq!(texts, expected, "{name}");
    };
    check(
        "ordered, one a text, negative only",
        9,
        &["lost my bag", "never again", "awful", "rude crew"],
    )
    .await;
    check("limited", 2, &["lost my bag", "never again"]).await;
    check("none wanted", 0, &[]).await;
    let top = &store.examples("united", minute(1), minute(4), 1).await.expect("examples")[0];
    assert_eq!((top.tweet_id.as_str(), top.created_at), ("b", rows[1].tweet.created_at));
    assert!((top.negative - 0.97).abs() < 1e-6);
}

async fn totals_up(store: &dyn Store) {
    store.ping().await.expect("reachable");
    assert_eq!(store.totals().await.expect("totals"), Totals::default());
    claim_empty(store, 1).await;
    let batch = Batch {
        scores: vec![tweet("a", &[], 0.9), tweet("b", &["united", "delta"], 0.9)],
        dead_letters: vec![dead_letter(0, 2, "not JSON")],
        advances: vec![advance(0, 0, 3)],
    };
    store.commit(&batch).await.expect("committed");
    decide(store, decision("united", None, 10, Some(Transition::Opened))).await;
    let totals = store.totals().await.expect("totals");
    let expected = Totals { scores: 2, dead_letters: 1, outbox_pending: 2, outbox_dead: 0 };
    assert_eq!(totals, expected, "a tweet without a brand, or with two, is one score");
}
