//! `monitor replay --check`, and that replay and backtest read a file in the same way.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::monitor;

/// What the program prints and says beside, and whether it succeeds.
fn run(arguments: &[&str]) -> (String, String, bool) {
    let output = monitor(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.success())
}

fn check(file: &Path) -> (String, bool) {
    let (out, error, is_ok) = run(&["replay", "--check", file.to_str().unwrap()]);
    (out + &error, is_ok)
}

#[test]
fn check_reports_what_becomes_of_a_file() {
    let folder = Path::new("tests/fixtures/formats");
    let (out, is_ok) = check(&folder.join("x-compliance.jsonl"));
    assert!(is_ok, "{out}");
    insta::assert_snapshot!("check-compliance", out);
    let (out, is_ok) = check(&folder.join("x-v2.jsonl"));
    assert!(is_ok, "{out}");
    insta::assert_snapshot!("check-x-v2", out);
    let (out, is_ok) = check(&folder.join("flat.jsonl"));
    assert!(is_ok, "{out}");
    insta::assert_snapshot!("check-flat", out);
}

#[test]
fn check_prints_the_same_as_json() {
    let file = "tests/fixtures/formats/x-compliance.jsonl";
    let (out, _, is_ok) = run(&["replay", "--check", file, "--json"]);
    assert!(is_ok, "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let text = check(Path::new(file)).0;
    let notices = told["notices"].as_array().unwrap();
    assert!(notices.len() > 1, "{out}");
    for notice in notices {
        let (rows, reason) = (&notice["rows"], notice["reason"].as_str().unwrap());
        assert!(text.contains(&format!("{rows} notices: {reason} (x)")), "{notice} in {text}");
    }
    let (_, error, is_ok) = run(&["replay", file, "--json"]);
    assert!(!is_ok && error.contains("--check"), "there is no JSON of sending: {error}");
}

#[test]
fn check_names_what_is_wrong_with_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tweets.csv");
    let rows = "1,2015-02-24 19:35:52,hi\n5.70306E+17,2015-02-24 19:35:52,hi\n5.70306E+17,2015-02-24 19:35:52,ho\n\
                4,then,hi\n5,2015-02-24 19:35:52\n";
    fs::write(&file, format!("id,created_at,text\n{rows}")).unwrap();
    let (out, is_ok) = check(&file);
    assert!(is_ok, "one row is a tweet: {out}");
    insta::assert_snapshot!("check-csv", out);
    let (out, error, is_ok) = run(&["replay", "--check", file.to_str().unwrap(), "--json"]);
    assert!(is_ok && error.is_empty(), "{error}");
    insta::assert_snapshot!("check-csv-json", out);
    fs::write(&file, "id,created_at,text\n5.70306E+17,2015-02-24 19:35:52,hi\n").unwrap();
    let (out, is_ok) = check(&file);
    assert!(!is_ok && out.contains("no row is readable"), "{out}");
    fs::write(&file, "created_at,text\n2015-02-24 19:35:52,hi\n").unwrap();
    let (out, is_ok) = check(&file);
    assert!(!is_ok && out.contains("there is no column \"id\""), "{out}");
}

#[test]
fn a_replay_that_sent_nothing_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tweets.csv");
    // Nothing is sent, so no broker is needed.
    for content in [
        "id,created_at,text\n5.70306E+17,2015-02-24 19:35:52,hi\n",
        "id,created_at,text\n",
        "id,time,text\n1,then,hi\n",
    ] {
        fs::write(&file, content).unwrap();
        let (out, error, is_ok) =
            run(&["replay", file.to_str().unwrap(), "--set", "kafka.brokers=127.0.0.1:1"]);
        assert!(!is_ok && error.contains("nothing was sent"), "{content}: {out}{error}");
    }
}

/// Each file is read by `backtest` and by the check of `replay`, which uses replay's reader and the daemon's decoder.
#[test]
fn replay_and_backtest_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("monitor.toml");
    fs::write(
        &settings,
        "[brands.cafe]\nkeywords = [\"café\"]\n[model]\nname = \"logistic-tfidf\"\n",
    )
    .unwrap();
    let file = folder.path().join("tweets");
    let alike = |name: &str, content: &[u8], tweets: u64| {
        fs::write(&file, content).unwrap();
        let file = file.to_str().unwrap();
        let (out, error, _) =
            run(&["backtest", "-c", settings.to_str().unwrap(), "--file", file, "--json"]);
        let found: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{name}: {out}{error}"));
        assert_eq!(found["source"]["tweets"], tweets, "{name}: {found} {error}");
        let (out, _) = check(Path::new(file));
        let tweet_rows: u64 = out
            .lines()
            .filter(|line| line.contains(" tweets ("))
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        assert_eq!(tweet_rows, tweets, "{name}: {out}");
    };
    let texts = ["what an awful café", "the café was cold again", "I love this café so much"];
    let row = |number: usize, time: &str| {
        format!(r#"{{"id":"{number}","text":"{}","created_at":"{time}"}}"#, texts[number])
    };
    let no_zone =
        [0, 1, 2].map(|number| row(number, &format!("2015-02-24 19:3{number}:52"))).join("\n");
    alike("times without a zone", no_zone.as_bytes(), 3);
    alike("half a day's offset", no_zone.replace("52\"", "52+0530\"").as_bytes(), 3);
    let latin1: Vec<u8> = no_zone.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    alike("Latin-1", &latin1, 3);
    alike("full_text", no_zone.replace("\"text\"", "\"full_text\"").as_bytes(), 3);
    alike("names of a table", no_zone.replace("\"created_at\"", "\"date\"").as_bytes(), 3);
    let long = no_zone.replace("\"id\"", &format!("\"more\":\"{}\",\"id\"", "x".repeat(100_000)));
    alike("lines of 100 KB", long.as_bytes(), 3);
    alike(
        "a table",
        "id,date,text\n1,2015-02-24 19:35:52,what an awful café\n2,1424806552,I love this café\n"
            .as_bytes(),
        2,
    );
    alike("a rounded id", "id,date,text\n1,2015-02-24 19:35:52,what an awful café\n5.7E+17,1424806552,I love this café\n".as_bytes(), 1);
}
