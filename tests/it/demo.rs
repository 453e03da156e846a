//! `monitor demo` on tweets of one's own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::fresh_database;

/// Two hundred tweets about acme, as rows of a CSV.
fn rows() -> String {
    let mut rows = "id,created_at,text\n".to_owned();
    for n in 0..200 {
        let (hour, minute) = (8 + n / 60, n % 60);
        writeln!(
            rows,
            "{n},2026-03-02T{hour:02}:{minute:02}:00Z,acme lost my bag number {n} again"
        )
        .unwrap();
    }
    rows
}

/// Runs the demo on a file of tweets, with these settings and a model.
async fn demo((file, tweets): (&str, String), settings: &str) -> Output {
    let server = fresh_database().await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path(file), tweets).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let settings = format!(
        "{settings}\n[model]\nname = \"logistic-tfidf\"\ndirectory = \"{}\"\n",
        models.display()
    );
    std::fs::write(path("monitor.toml"), settings).unwrap();
    Command::new(env!("CARGO_BIN_EXE_monitor"))
        .args(["demo", "--speed", "0", "--set", "http.listen=127.0.0.1:0"])
        .env("DATABASE_URL", server)
        .env_remove("MONITOR_KAFKA__BROKERS")
        .args(["-c", &path("monitor.toml"), "--tweets", &path(file), "--output", &path("mails")])
        .output()
        .unwrap()
}

#[tokio::test]
async fn shows_tweets_of_ones_own() {
    let settings = r##"
        [brands.acme]
        keywords = ["acme"]
        # A row of a CSV is of no platform.
        [kafka]
        format = "mastodon"
        [alerting]
        ignore_authors = ["#9d77c3180ff81edf"]
    "##;
    let output = demo(("tweets.csv", rows()), settings).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{error}");
    let (first, _) = text.split_once('\n').unwrap();
    assert!(first.starts_with("The tweets of "), "{text}");
    assert!(first.ends_with("tweets.csv, as fast as possible."), "{text}");
    assert!(text.contains("200 tweets sent; 200 distinct scored"), "{text}");
    assert!(text.contains("None names its author"), "{text}");
    assert!(text.contains("Alerts: 0"), "{text}");
    assert!(error.contains("leaves nobody of a file out by #9d77c3180ff81edf"), "{error}");
}

#[tokio::test]
async fn says_at_once_that_no_tweet_is_about_a_brand() {
    let output = demo(("tweets.csv", rows()), "[brands.acme]\nkeywords = [\"other\"]").await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("none of the tweets of ") && error.contains("[brands]"), "{error}");
}

/// Fields of X's first API on records of another maker: read by the format of the settings, or not at all.
#[tokio::test]
async fn reads_the_format_of_the_settings() {
    let line = |n: i64| {
        let at = format!("2026-03-02T08:{:02}:00Z", n % 60);
        let text = "acme lost my bag";
        format!(
            r#"{{"id": "{n}", "created_at": "{at}", "text": "{text}", "author": "ann", "user": {{}}}}"#
        )
    };
    let lines = || (0..60).map(line).collect::<Vec<_>>().join("\n");
    let settings = |format: &str| {
        format!("[brands.acme]\nkeywords = [\"acme\"]\n[kafka]\nformat = \"{format}\"")
    };
    let output = demo(("tweets.jsonl", lines()), &settings("flat")).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("60 tweets sent; 60 distinct scored"), "{text}");
    assert!(!text.contains("None names its author"), "as a flat record it does: {text}");
    let output = demo(("tweets.jsonl", lines()), &settings("bluesky")).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no record of ") && error.contains("kafka.format"), "{error}");
}
