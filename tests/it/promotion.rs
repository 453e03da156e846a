//! `monitor models promote` and `rollback` on a database with stored tweets, as a user runs them.

use std::path::Path;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::domain::{
    Label, Language, Minute, Offset, Score, StartAt, TopicPartition, Tweet, TweetId,
};
use monitor_store::{Advance, Batch, Claim, ModelScore, PostgresStore, ScoredTweet, Store};

use crate::support::{fresh_database, models_in, tiny_model};

const TWEETS: i64 = 1500;
const ENGLISH: Option<Language> = Some(Language::ENGLISH);

/// Stores tweets about "acme" that `m@1` has scored, from `n` on. Of each ten, two are negative by
/// both models, two more by `m@2` alone, and one by `m@1` alone.
async fn store_tweets(store: &PostgresStore, directory: &Path, ns: std::ops::Range<i64>) {
    let partition = TopicPartition::new("tweets", 0);
    let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let word = |n: i64| match n % 10 {
        0 | 1 => "awful",
        2 | 3 => "late",
        4 => "sigh",
        _ => "fine",
    };
    let texts: Vec<String> = ns.clone().map(|n| format!("acme {}", word(n))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut model = monitor_model::open(&models_in(directory), "m@1").unwrap();
    let probabilities = model.score(&texts).unwrap();
    let scores = ns.clone().zip(texts).zip(probabilities).map(|((n, text), probabilities)| {
        let (id, at) = (TweetId::new(n.to_string()).unwrap(), start + TimeDelta::seconds(7 * n));
        ScoredTweet {
            tweet: Tweet::new(id, text, at, Vec::new()).unwrap().with_language(ENGLISH),
            brands: vec!["acme".into()],
            score: Some(ModelScore::new(Score::new(probabilities, model.thresholds), "m@1")),
            heard: Heard::Always,
        }
    });
    let scores: Vec<_> = scores.collect();
    let from = Offset(ns.start);
    let advance = Advance {
        partition,
        from,
        to: Offset(ns.end),
        event_time_max: scores.iter().map(|score| score.tweet.created_at).max(),
        record_time_max: None,
    };
    let negative = scores
        .iter()
        .filter(|s| s.score.as_ref().is_some_and(|s| s.score.label == Label::Negative))
        .count();
    assert_eq!(negative * 10, scores.len() * 3, "the first model says so");
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prepares_refuses_switches_and_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let figures = [("held out", 1000, 0.9)];
    tiny_model(directory, "m", &[("awful", 9.0), ("sigh", 9.0)], -2.0, &figures);
    tiny_model(directory, "m", &[("awful", 9.0), ("late", 9.0)], -2.0, &figures);
    let url = fresh_database().await;
    let monitor = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args(["--set", &format!("model.directory={}", directory.display())])
            .args(["--set", &format!("store.url={url}"), "--set", "model.name=m"])
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let check = |what: &str, arguments: &[&str], well: bool, parts: &[&str]| {
        let (ended_well, said) = monitor(arguments);
        assert_eq!(ended_well, well, "{what}: {said}");
        for part in parts {
            assert!(said.contains(part), "{what}: {part:?} is not in: {said}");
        }
    };
    let promote = |version: &'static str| ["models", "promote", version];
    check(
        "a database without a schema",
        &promote("m@1"),
        true,
        &["m@1 is promoted, the first version of its name", "no stream is switched", "migrate"],
    );
    let store =
        PostgresStore::connect(&config::Store { url: url.clone(), ..config::Store::default() });
    let store = store.unwrap();
    store.migrate().await.unwrap();
    check("no daemon yet", &promote("m@1"), true, &["no daemon has used the database"]);
    store.begin_with("m@1").await.unwrap();
    let partition = TopicPartition::new("tweets", 0);
    let claim = Claim { partition, seen: None, low: Offset(0), high: Offset(0) };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    store_tweets(&store, directory, 0..TWEETS).await;

    check(
        "too large a jump",
        &["--set", "promotion.jump_max=0.05", "models", "promote", "m@2"],
        false,
        &[
            "m@2 scores the stored tweets: 1500 of 1500",
            "acme        1500   30.0 %   40.0 %  +10.0 points  +7.3 to +12.7",
            "m@2 is not promoted: the share would jump by more than 5 points (promotion.jump_max) for acme",
        ],
    );
    assert_eq!(store.switches().await.unwrap().as_slice().len(), 1, "the stream keeps its model");
    check("the name too", &["models", "show", "m"], true, &["m@1"]);

    store_tweets(&store, directory, TWEETS..TWEETS + 200).await;
    let newest = Minute::of("2026-01-01T00:00:00Z".parse().unwrap()).plus((1700 * 7 - 7) / 60);
    check(
        "a larger one is allowed; only what is new is scored",
        &["--set", "promotion.jump_max=0.2", "models", "promote", "m@2"],
        true,
        &[
            "m@2 scores the stored tweets: 200 of 200",
            "acme        1700   30.0 %   40.0 %",
            "m@2 is promoted in place of m@1",
            "m@2 scores the stream from 2026-01-01 03:20 on",
        ],
    );
    let switches = store.switches().await.unwrap();
    let switch = switches.newest().unwrap();
    assert_eq!((switch.model.as_str(), switch.from), ("m@2", newest.plus(2)));
    let counts = store.model_counts("m@2", "acme", newest.plus(-200), newest).await.unwrap();
    let sum = counts.iter().fold((0, 0), |sum, (_, c)| (sum.0 + c.total, sum.1 + c.negative));
    assert_eq!(sum, (1700, 680), "each once");
    check("again", &promote("m@2"), true, &["already promoted", "m@2 scores the stream from"]);

    check(
        "back",
        &["models", "rollback", "m"],
        true,
        &["m opens m@1 again instead of m@2", "m@1 scores the stream from its beginning"],
    );
    // No tweet has come since, so the stream has never left its first model.
    assert_eq!(store.switches().await.unwrap().as_slice().len(), 1);
    check(
        "a model of another name",
        &["--set", "model.name=other", "models", "promote", "m@2"],
        true,
        &["m@2 is promoted", "model.name of the settings is other, so the stream keeps its model"],
    );
}
