//! A tweet is scored by a model that knows its language, or stored without a score.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use monitor::pipeline::{Lineup, Pipeline, Settings, StoredPositions, open_models};
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Counts, Language, Minute, Offset, StartAt, StreamFormat};
use monitor_core::text::{BrandMatcher, BrandRule};
use monitor_ingest::{MemorySource, WireLimits};
use monitor_model as classifier;
use monitor_store::{MemoryStore, Store};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{monitor, tiny_model};

fn language(code: &str) -> Language {
    code.parse().unwrap()
}

/// Registers a model that calls every text negative, and knows these languages.
fn model(directory: &Path, name: &str, languages: &[&str]) {
    tiny_model(directory, name, &[], 1.0, &[]);
    let path = directory.join(name).join("1/manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["languages"] = json!(languages);
    fs::write(&path, manifest.to_string()).unwrap();
    let id = format!("{name}@1").parse().unwrap();
    classifier::promote(directory, &id, SystemClock::new().now()).unwrap();
}

fn settings(directory: &Path, by_language: &[(&str, &str)]) -> config::Model {
    let by_language =
        by_language.iter().map(|(code, name)| (language(code), (*name).to_owned())).collect();
    let directory = directory.to_owned();
    config::Model { name: "main".into(), by_language, directory, ..config::Model::default() }
}

#[tokio::test]
async fn each_tweet_goes_to_the_model_of_its_language() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "main", &["en", "de"]);
    model(folder.path(), "romance", &["fr", "es"]);
    // Id, text, language in the stream; the language stored and the model.
    let rows = [
        ("named", "air", Some("en"), Some("en"), Some("main@1")),
        ("found", "air lost my bag again, worst service", None, Some("en"), Some("main@1")),
        ("unknown", "air 😡", Some("und"), None, Some("main@1")),
        ("also known", "air ist zu spät", Some("de"), Some("de"), Some("main@1")),
        ("own model", "air", Some("fr"), Some("fr"), Some("romance@1")),
        (
            "own model, found",
            "air a encore annulé mon vol, c'est la honte",
            None,
            Some("fr"),
            Some("romance@1"),
        ),
        ("second of a model", "air", Some("es"), Some("es"), Some("romance@1")),
        ("no model", "air", Some("ja"), Some("ja"), None),
        ("no model, found", "air мой рейс опять отменили", None, Some("ru"), None),
        ("no model, a code of three letters", "air", Some("ckb"), Some("ckb"), None),
    ];
    let record = |(place, (id, text, lang, ..)): (usize, &(&str, &str, Option<&str>, _, _))| {
        let mut tweet = json!({"id": id, "text": text, "created_at": "2015-02-20T10:00:00Z"});
        if let Some(lang) = lang {
            tweet["lang"] = json!(lang);
        }
        (Offset(place as i64), tweet.to_string().into_bytes())
    };
    let source = MemorySource::new("tweets", vec![rows.iter().enumerate().map(record).collect()]);
    let store = Arc::new(MemoryStore::default());
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let settings = settings(folder.path(), &[("fr", "romance"), ("es", "romance")]);
    let models = watch::Sender::new(Lineup::spawn(open_models(&settings).unwrap()));
    let air =
        BrandRule { name: "air".into(), keywords: vec!["air".into()], ..BrandRule::default() };
    let pipeline = Pipeline::new(
        Settings {
            batching: BatchPolicy { rows_max: 4, wait_max: Duration::from_millis(5) },
            counting: Counting::new(Voice::Tweet, &[]),
            count_deleted: true,
            limits: WireLimits {
                record_bytes_max: 10_000,
                future_max: TimeDelta::hours(1),
                format: StreamFormat::Auto,
            },
            retry_wait_max: Duration::from_millis(1),
            drain_max: Duration::from_secs(30),
        },
        store.clone(),
        models,
        BrandMatcher::new([air]).unwrap(),
        Arc::new(SystemClock::new()),
    );
    pipeline.run(source.start(positions, 64), std::future::pending()).await.unwrap();

    let stored = store.scores();
    assert_eq!(stored.len(), rows.len());
    for (id, _, _, language, model) in rows {
        let row = &stored[id];
        let found = row.tweet.language.map(|it| it.to_string());
        assert_eq!(found.as_deref(), language, "{id}");
        assert_eq!(row.score.as_ref().map(|score| score.model.as_str()), model, "{id}");
    }
    let minute = Minute::of("2015-02-20T10:00:00Z".parse().unwrap());
    let counts = store.minute_counts("air", minute, minute).await.unwrap();
    assert_eq!(counts, [(minute, Counts { total: 7, negative: 7 })], "no share has the others");
    let not_judged = store.not_judged("air", minute, minute).await.unwrap();
    let expected = ["ckb", "ja", "ru"].map(|code| (language(code), 1));
    assert_eq!(not_judged, expected);
}

#[test]
fn a_model_must_know_the_language_that_it_is_named_for() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "main", &["en"]);
    let error = open_models(&settings(folder.path(), &[("fr", "main")])).unwrap_err().to_string();
    let expected = "model.by_language.fr: main@1 does not know French; name a model that was \
                    trained with `monitor retrain --language fr`";
    assert_eq!(error, expected);
    let directory = format!("model.directory={}", folder.path().display());
    let check = |setting: &str| {
        let output = monitor(&[
            "check-config",
            "--config",
            "config/monitor.example.toml",
            "--set",
            "model.name=main",
            "--set",
            &directory,
            "--set",
            setting,
        ]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (valid, text) = check("model.by_language.fr=main");
    assert!(!valid && text.contains(expected), "{text}");
    let (valid, text) = check("model.by_language.french=main");
    assert!(!valid && text.contains("by_language"), "{text}");
    model(folder.path(), "romance", &["fr"]);
    let (valid, text) = check("model.by_language.fr=romance");
    assert!(valid && text.contains("model: romance@1 from"), "{text}");
    assert!(text.contains("for tweets in French\n"), "{text}");
}

#[test]
fn a_backtest_counts_what_the_daemon_would() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), "main", &["en"]);
    let file = folder.path().join("tweets.csv");
    let row = |(n, text): (usize, &str)| format!("{n},2015-02-20T10:0{n}:00Z,\"{text}\"\n");
    let texts = ["acme is late, my bag is lost", "acme a encore annulé mon vol, quelle honte"];
    let rows: String = texts.into_iter().enumerate().map(row).collect();
    fs::write(&file, format!("id,created_at,text\n{rows}")).unwrap();
    let output = monitor(&[
        "backtest",
        "--config",
        "config/monitor.example.toml",
        "--set",
        &format!("model.directory={}", folder.path().display()),
        "--json",
        "--model",
        "main",
        "--file",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let source: BTreeMap<String, serde_json::Value> =
        serde_json::from_value(report["source"].clone()).unwrap();
    assert_eq!((&source["tweets"], &source["not_judged"]), (&json!(2), &json!(1)), "{report}");
}
