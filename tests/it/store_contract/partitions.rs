//! Weeks of tweets in Postgres: counted once, kept as long as asked for, and gone then.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Cause, Minute, Offset, StartAt, Transition};
use monitor_core::drift::Report;
use monitor_core::notification::{FirstAuthor, Repeater, Theme};
use monitor_store::{
    Advance, Batch, Committed, DeadLetter, DriftDay, Drivers, Keep, Notification, PostgresStore,
    Pruned, ScoredTweet, Store,
};

use super::fixtures::*;
use super::on_postgres;
use crate::support::fresh_database;

async fn fresh() -> PostgresStore {
    let store = on_postgres(fresh_database().await);
    store.migrate().await.unwrap();
    store
}

async fn number(store: &PostgresStore, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

fn about_a(id: &str, created_at: &str) -> ScoredTweet {
    scored(id, "text", at(created_at), &["a"], 0.9)
}

/// Stores tweets as the next offsets of partition `n`.
async fn store_next(store: &PostgresStore, n: i32, tweets: Vec<ScoredTweet>) -> Committed {
    let progress = store.progress("tweets").await.unwrap();
    let from = progress.iter().find(|p| p.partition == partition(n)).unwrap().position;
    let to = Offset(from.0 + tweets.len() as i64);
    let advance = Advance { to, ..advance(n, from.0, 0) };
    store.commit(&batch(tweets, vec![advance])).await.unwrap()
}

const KEEP: Keep = Keep { tweets_days: 0, history_days: 0, dead_letters_days: 0 };

async fn prune(store: &PostgresStore, keep: Keep, now: &str) -> Pruned {
    store.prune(&keep, at(now), false, &|_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tweet_that_comes_again_with_another_time_counts_once() {
    let store = fresh().await;
    claim_empty(&store, 1).await;
    let first = about_a("1", "2026-11-24T10:00:00Z");
    assert_eq!(store_next(&store, 0, vec![first]).await.new, 1);
    // In the same week, in another one, and twice in a batch with a new one.
    for created_at in ["2026-11-25T10:00:00Z", "2026-10-01T10:00:00Z"] {
        let again = store_next(&store, 0, vec![about_a("1", created_at)]).await;
        assert_eq!((again.new, again.duplicate), (0, 1), "{created_at}");
    }
    let of_both = vec![
        about_a("2", "2026-11-25T10:00:00Z"),
        about_a("1", "2024-01-01T10:00:00Z"),
        about_a("2", "2026-10-01T10:00:00Z"),
    ];
    let both = store_next(&store, 0, of_both).await;
    assert_eq!((both.new, both.duplicate), (1, 2));
    assert_eq!(number(&store, "SELECT count(*) FROM scores").await, 2);
    assert_eq!(number(&store, "SELECT sum(total)::bigint FROM minute_counts").await, 2);
    assert_eq!(number(&store, "SELECT sum(tweets)::bigint FROM hour_counts").await, 2);
    assert_eq!(number(&store, "SELECT sum(tweets)::bigint FROM day_counts").await, 2);
    assert_eq!(store.totals().await.unwrap().scores, 2);
    let found = store.tweet("2").await.unwrap().expect("found by its id alone");
    assert_eq!(found.created_at, at("2026-11-25T10:00:00Z"), "the first of the batch");
}

/// Eight daemons store the same 400 tweets in another order, each with times of its own, so that no
/// week has a table at first and every id is fought for.
#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_store_the_same_tweets_at_once_count_each_once() {
    const DAEMONS: i32 = 8;
    const TWEETS: i64 = 400;
    let url = fresh_database().await;
    let store = on_postgres(url.clone());
    store.migrate().await.unwrap();
    claim_empty(&store, DAEMONS).await;
    let mut daemons = tokio::task::JoinSet::new();
    for n in 0..DAEMONS {
        let store = on_postgres(url.clone());
        daemons.spawn(async move {
            let order = |place: i64| (place * 7 + i64::from(n) * 53) % TWEETS;
            let mut new = 0;
            for first in (0..TWEETS).step_by(40) {
                let tweets = (first..first + 40).map(order).map(|id| {
                    let weeks = TimeDelta::weeks((id + i64::from(n)) % 9);
                    let time = at("2026-11-24T10:00:00Z") - weeks;
                    scored(&id.to_string(), "text", time, &["a", "b"], 0.9)
                });
                new += store_next(&store, n, tweets.collect()).await.new;
            }
            new
        });
    }
    let new: u64 = daemons.join_all().await.into_iter().sum();
    assert_eq!(new, TWEETS.unsigned_abs(), "each is new to one daemon");
    assert_eq!(number(&store, "SELECT count(*) FROM scores").await, TWEETS);
    assert_eq!(number(&store, "SELECT count(DISTINCT tweet_id) FROM scores").await, TWEETS);
    for sql in [
        "SELECT sum(total)::bigint FROM minute_counts",
        "SELECT sum(tweets)::bigint FROM hour_counts",
        "SELECT sum(tweets)::bigint FROM day_counts",
    ] {
        assert_eq!(number(&store, sql).await, 2 * TWEETS, "{sql}: about two brands");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_and_days_are_the_sums_of_the_tweets() {
    let store = fresh().await;
    claim_empty(&store, 1).await;
    let mut tweets = Vec::new();
    for n in 0..200 {
        let time = at("2026-11-22T20:00:00Z") + TimeDelta::minutes(7 * n);
        let brands: &[&str] = if n % 3 == 0 { &["a", "b"] } else { &["b"] };
        let mut tweet =
            scored(&n.to_string(), "text", time, brands, if n % 4 == 0 { 0.9 } else { 0.1 });
        tweet.tweet.language = (n % 5 != 0).then(|| "en".parse().unwrap());
        if n % 7 == 0 {
            tweet.score = None;
        }
        tweets.push(tweet);
    }
    for tweets in tweets.chunks(37) {
        store_next(&store, 0, tweets.to_vec()).await;
    }
    for (table, unit) in [("hour_counts", "hour"), ("day_counts", "day")] {
        let sql = format!(
            "SELECT count(*) FROM (
                 SELECT brand, date_trunc('{unit}', created_at, 'UTC'), coalesce(model, ''),
                        coalesce(language, ''), count(*),
                        count(*) FILTER (WHERE label = 'NEGATIVE'), 0::bigint
                 FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3, 4
             ) AS expected
             FULL JOIN (
                 SELECT brand, {unit}, model, language, tweets, negative, neutral FROM {table}
             ) AS t ON expected = t
             WHERE expected IS NULL OR t IS NULL"
        );
        let different: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.pool()).await.unwrap();
        assert_eq!(different, 0, "{table}");
    }
    let hours = store.hour_counts(
        Some("b"),
        minute_of("2026-11-22T00:00:00Z"),
        minute_of("2026-11-24T00:00:00Z"),
    );
    let judged: u64 = hours.await.unwrap().iter().map(|(_, counts)| counts.total).sum();
    assert_eq!(judged, 171, "tweets without a score are in no share");
}

fn minute_of(text: &str) -> Minute {
    Minute::of(at(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn old_weeks_are_removed_with_their_ids() {
    let store = fresh().await;
    claim_empty(&store, 1).await;
    let tweets: Vec<_> = [
        ("1", "2026-08-10T10:00:00Z"),
        ("2", "2026-10-18T23:59:59Z"),
        ("3", "2026-10-19T00:00:00Z"),
        ("4", "2026-11-24T10:00:00Z"),
    ]
    .map(|(id, created_at)| about_a(id, created_at))
    .into();
    store_next(&store, 0, tweets).await;
    let keep = Keep { tweets_days: 35, ..KEEP };
    let now = "2026-11-27T12:00:00Z"; // 35 days before is in the week of 19 October
    let planned = store.prune(&keep, at(now), true, &|_| {}).await.unwrap();
    let names = |pruned: &Pruned| pruned.parts.iter().map(|it| it.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&planned), ["scores_2026_08_10", "scores_2026_10_12"]);
    assert_eq!(number(&store, "SELECT count(*) FROM scores").await, 4, "a dry run removes nothing");

    let pruned = prune(&store, keep, now).await;
    assert_eq!(names(&pruned), names(&planned));
    assert_eq!((pruned.minutes, planned.minutes), (1, 1), "60 days of minutes stay");
    assert_eq!(number(&store, "SELECT count(*) FROM scores").await, 2);
    assert_eq!(number(&store, "SELECT count(*) FROM tweet_ids").await, 2);
    assert_eq!(number(&store, "SELECT sum(total)::bigint FROM minute_counts").await, 3);
    assert_eq!(
        number(&store, "SELECT sum(tweets)::bigint FROM hour_counts").await,
        4,
        "hours stay"
    );
    assert_eq!(number(&store, "SELECT sum(tweets)::bigint FROM day_counts").await, 4, "days stay");
    assert!(store.tweet("2").await.unwrap().is_none());
    assert!(store.tweet("3").await.unwrap().is_some());
    assert_eq!(prune(&store, keep, now).await, Pruned::default(), "nothing is left to do");

    // A tweet of a removed week gets a table again; one that is still stored is known.
    let again = store_next(
        &store,
        0,
        vec![about_a("2", "2026-10-18T23:59:59Z"), about_a("3", "2026-10-18T00:00:00Z")],
    );
    let again = again.await;
    assert_eq!((again.new, again.duplicate), (1, 1));
    assert_eq!(names(&prune(&store, keep, now).await), ["scores_2026_10_12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_that_another_process_removed_is_made_again() {
    let url = fresh_database().await;
    let (daemon, other) = (on_postgres(url.clone()), on_postgres(url));
    daemon.migrate().await.unwrap();
    claim_empty(&daemon, 1).await;
    let old = "2026-08-10T10:00:00Z";
    assert_eq!(store_next(&daemon, 0, vec![about_a("1", old)]).await.new, 1);
    let keep = Keep { tweets_days: 30, ..KEEP };
    assert_eq!(prune(&other, keep, "2026-11-27T12:00:00Z").await.parts.len(), 1);
    // The daemon still believes that the week has a table.
    assert_eq!(store_next(&daemon, 0, vec![about_a("2", old)]).await.new, 1);
    assert_eq!(number(&daemon, "SELECT count(*) FROM scores").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_is_finished() {
    let store = fresh().await;
    claim_empty(&store, 1).await;
    let old = "2026-08-10T10:00:00Z";
    store_next(&store, 0, vec![about_a("1", old)]).await;
    number(&store, "SELECT 1::bigint FROM detach_score_partition('scores_2026_08_10')").await;
    // Its ids are known as long as its table is not dropped, and a new table is made for the week.
    let late = store_next(&store, 0, vec![about_a("1", old), about_a("2", old)]).await;
    assert_eq!((late.new, late.duplicate), (1, 1));
    prune(&store, KEEP, "2026-11-27T12:00:00Z").await;
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT tweet_id FROM tweet_ids").fetch_all(store.pool()).await.unwrap();
    assert_eq!(ids, ["2"]);
    let dropped = "SELECT count(*) FROM pg_class WHERE relname LIKE '%dropped'";
    assert_eq!(number(&store, dropped).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_drift_go_with_their_tweets() {
    let store = fresh().await;
    for day in ["2026-08-10", "2026-10-18", "2026-10-19", "2026-11-26"] {
        store.record_drift(&drift_of(&format!("{day}T00:00:00Z"))).await.unwrap();
    }
    let now = "2026-11-27T12:00:00Z"; // 35 days before is in the week of 19 October
    assert_eq!(prune(&store, KEEP, now).await, Pruned::default(), "for ever");
    let keep = Keep { tweets_days: 35, ..KEEP };
    let planned = store.prune(&keep, at(now), true, &|_| {}).await.unwrap();
    let days = "SELECT count(*) FROM drift_days";
    assert_eq!(number(&store, days).await, 4, "a dry run removes nothing");
    assert_eq!(prune(&store, keep, now).await, planned);
    assert_eq!(planned, Pruned { drift_days: 2, ..Pruned::default() });
    let left = "SELECT count(*) FROM drift_days WHERE day >= '2026-10-19T00:00Z'";
    assert_eq!((number(&store, days).await, number(&store, left).await), (2, 2));
}

fn drift_of(day: &str) -> DriftDay {
    let report = Report {
        recent: day.into(),
        tweets: 2000,
        reference: vec!["the days before".into()],
        reference_tweets: 6000,
        measures: Vec::new(),
    };
    DriftDay { day: at(day), model: "test@1".into(), report }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_dead_letters_a_sample_is_kept_and_all_are_counted() {
    let url = fresh_database().await;
    let settings =
        config::Store { url, dead_letters_per_minute_max: 5, ..config::Store::default() };
    let store = PostgresStore::connect(&settings).unwrap();
    store.migrate().await.unwrap();
    claim_empty(&store, 1).await;
    let letters = |from: i64, to: i64| {
        let letter = |offset| DeadLetter {
            partition: partition(0),
            offset: Offset(offset),
            record_time: None,
            reason: format!("not a tweet: \"{offset}\""),
            payload: b"{".to_vec(),
            payload_bytes: 1,
        };
        let dead_letters = (from..to).map(letter).collect();
        Batch { dead_letters, advances: vec![advance(0, from, to)], ..Batch::default() }
    };
    store.commit(&letters(0, 3)).await.unwrap();
    store.commit(&letters(3, 350)).await.unwrap();
    assert_eq!(store.totals().await.unwrap().dead_letters, 350);
    let counted = "SELECT sum(records)::bigint FROM dead_letters_by_reason
                   WHERE reason = 'not a tweet: …'";
    assert_eq!(number(&store, counted).await, 350, "one kind of reason");
    // 0 to 4 by the limit, then 100, 200 and 300; a minute may have ended in between.
    let kept = number(&store, "SELECT count(*) FROM dead_letters").await;
    assert!((8..=13).contains(&kept), "{kept}");
    assert_eq!(number(&store, "SELECT sum(kept)::bigint FROM dead_letters_by_reason").await, kept);
    let of = "SELECT count(*) FROM dead_letters WHERE \"offset\" IN (0, 1, 2, 100, 200, 300)";
    assert_eq!(number(&store, of).await, 6);

    let old = Keep { dead_letters_days: 7, ..KEEP };
    let later = SystemClock::new().now() + TimeDelta::days(31);
    let pruned = store.prune(&old, later, false, &|_| {}).await.unwrap();
    assert_eq!(pruned.dead_letters, kept.unsigned_abs());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_incidents_go_with_all_that_belongs_to_them() {
    use monitor_core::domain::Transition;
    let store = fresh().await;
    open(&store, "united", 10).await;
    decide(&store, decision("united", Some(10), 20, Some(Transition::Resolved))).await;
    let lasting = open(&store, "delta", 10).await;
    send_all(&store).await;
    sqlx::query("UPDATE outbox SET ended_at = '2015-02-23T02:00Z' WHERE state = 'sent'")
        .execute(store.pool())
        .await
        .unwrap();
    let keep = Keep { history_days: 30, ..KEEP };
    let pruned = prune(&store, keep, "2015-03-01T00:00:00Z").await;
    assert_eq!(pruned, Pruned::default(), "younger than 30 days");
    let of_united =
        number(&store, "SELECT count(*) FROM notifications WHERE brand = 'united'").await;
    let planned = store.prune(&keep, at("2015-06-01T00:00:00Z"), true, &|_| {}).await.unwrap();
    let pruned = prune(&store, keep, "2015-06-01T00:00:00Z").await;
    assert_eq!(planned, pruned);
    assert_eq!((pruned.incidents, pruned.notifications), (1, of_united.unsigned_abs()));
    let left = store.incidents(9).await.unwrap();
    assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), [lasting], "what is open stays");
    assert!(!store.events(lasting).await.unwrap().is_empty());
    assert_eq!(
        number(&store, "SELECT count(*) FROM notifications WHERE brand = 'united'").await,
        0
    );
    assert!(number(&store, "SELECT count(*) FROM notifications").await > 0);
}

/// A theme that these authors began with these tweets, each of whom also repeats themselves.
fn drivers_by(first: &[(&str, &str)]) -> Drivers {
    let at = about_a("1", "2026-11-24T10:00:00Z").tweet.created_at;
    let began = |&(id, author): &(&str, &str)| FirstAuthor {
        author: author.into(),
        at,
        followers: None,
        tweet_id: id.into(),
    };
    let theme = Theme {
        terms: vec!["late".into()],
        tweets: 2,
        began: at,
        first: first.iter().map(began).collect(),
        hours: vec![2],
        tweet_id: "4".into(),
    };
    let repeater = |&(_, author): &(&str, &str)| Repeater { author: author.into(), tweets: 9 };
    let repeaters = first.iter().map(repeater).collect();
    Drivers { themes: vec![theme], repeaters, ..Drivers::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn authors_are_hashed_unless_asked_otherwise_and_can_be_forgotten() {
    let url = fresh_database().await;
    let settings =
        |authors| config::Store { url: url.clone(), authors, ..config::Store::default() };
    let connect = |authors| PostgresStore::connect(&settings(authors)).unwrap();
    assert_eq!(config::Store::default().authors, config::Authors::Hashed);
    let hashed = connect(config::Authors::Hashed);
    hashed.migrate().await.unwrap();
    claim_empty(&hashed, 1).await;
    let by = |id: &str, author: &str| {
        let mut tweet = about_a(id, "2026-11-24T10:00:00Z");
        tweet.tweet.reach.author = Some(author.to_owned());
        tweet
    };
    store_next(&hashed, 0, vec![by("1", "ann"), by("2", "ann"), by("3", "bob")]).await;
    store_next(&connect(config::Authors::Plain), 0, vec![by("4", "ann")]).await;
    store_next(&connect(config::Authors::None), 0, vec![by("5", "ann")]).await;
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT tweet_id, author FROM scores ORDER BY tweet_id")
            .fetch_all(hashed.pool())
            .await
            .unwrap();
    let author: BTreeMap<_, _> = rows.into_iter().collect();
    let of = |id: &str| author[id].as_deref();
    assert!(of("1").unwrap().starts_with('#') && of("1").unwrap().len() == 17, "{author:?}");
    assert!(of("1") == of("2") && of("1") != of("3"), "{author:?}");
    assert_eq!((of("4"), of("5")), (Some("ann"), None));

    let mut notification = notification("united", Cause::Share, Transition::Opened);
    notification.drivers = drivers_by(&[("4", "ann"), ("9", "bob")]);
    let outbox = "INSERT INTO outbox (key, receiver, notification) VALUES ('key', 'desk', $1)";
    sqlx::query(outbox)
        .bind(sqlx::types::Json(&notification))
        .execute(hashed.pool())
        .await
        .unwrap();

    assert_eq!(hashed.forget_author("ann").await.unwrap(), 3, "hashed and plain");
    let stored: sqlx::types::Json<Notification> =
        sqlx::query_scalar("SELECT notification FROM outbox")
            .fetch_one(hashed.pool())
            .await
            .unwrap();
    assert_eq!(stored.0.drivers, drivers_by(&[("9", "bob")]));
    assert_eq!(hashed.forget_author("ann").await.unwrap(), 0);
    assert_eq!(number(&hashed, "SELECT count(*) FROM scores").await, 2);
    assert_eq!(
        number(&hashed, "SELECT sum(total)::bigint FROM minute_counts").await,
        5,
        "counts stay"
    );
    let again = store_next(&hashed, 0, vec![by("1", "ann")]).await;
    assert_eq!((again.new, again.duplicate), (0, 1), "it is not stored again");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_topic_stay_as_they_were() {
    // A guard for the one statement that locks all checkpoints of a batch: order and fencing.
    let store = fresh().await;
    claim_empty(&store, 3).await;
    let both = vec![advance(2, 0, 5), advance(0, 0, 1)];
    store.commit(&batch(vec![], both)).await.unwrap();
    assert_eq!(positions(&store).await, [1, 0, 5]);
    let stale = store.commit(&batch(vec![], vec![advance(1, 0, 1), advance(2, 4, 6)])).await;
    assert!(matches!(stale, Err(monitor_store::StoreError::Fenced { .. })), "{stale:?}");
    let unknown = store.commit(&batch(vec![], vec![advance(9, 0, 1)])).await;
    assert!(matches!(unknown, Err(monitor_store::StoreError::Fenced { stored: None, .. })));
    assert_eq!(positions(&store).await, [1, 0, 5], "nothing has moved");
    let claimed = store.claim(&[claim(1, 0, 10)], StartAt::Earliest).await.unwrap();
    assert_eq!(claimed[0].position, Offset(0));
}
