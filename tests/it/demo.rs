//! `monitor demo` on tweets of one's own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::fresh_database;

/// Runs the demo on 200 tweets about acme, for somebody whose brand has this keyword.
async fn demo(keyword: &str) -> Output {
    let server = fresh_database().await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut tweets = "id,created_at,text\n".to_owned();
    for n in 0..200 {
        let (hour, minute) = (8 + n / 60, n % 60);
        writeln!(
            tweets,
            "{n},2026-03-02T{hour:02}:{minute:02}:00Z,acme lost my bag number {n} again"
        )
        .unwrap();
    }
    std::fs::write(path("tweets.csv"), tweets).unwrap();
    let settings = format!(
        "[brands.acme]\nkeywords = [\"{keyword}\"]\n[model]\nname = \"logistic-tfidf\"\ndirectory = \"{}\"\n",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models").display()
    );
    std::fs::write(path("monitor.toml"), settings).unwrap();
    Command::new(env!("CARGO_BIN_EXE_monitor"))
        .args(["demo", "--speed", "0", "--set", "http.listen=127.0.0.1:0"])
        .env("DATABASE_URL", server)
        .env_remove("MONITOR_KAFKA__BROKERS")
        .args([
            "-c",
            &path("monitor.toml"),
            "--tweets",
            &path("tweets.csv"),
            "--output",
            &path("mails"),
        ])
        .output()
        .unwrap()
}

#[tokio::test]
async fn shows_tweets_of_ones_own() {
    let output = demo("acme").await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("The tweets of ") && text.contains("tweets.csv"), "{text}");
    assert!(text.contains("200 tweets sent; 200 distinct scored"), "{text}");
    assert!(text.contains("Alerts: 0"), "{text}");
}

#[tokio::test]
async fn says_at_once_that_no_tweet_is_about_a_brand() {
    let output = demo("other").await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("none of the tweets of ") && error.contains("[brands]"), "{error}");
}
