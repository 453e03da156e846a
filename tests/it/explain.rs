//! `monitor explain`, with a text and with a stored tweet, and `monitor evaluate --faithfulness`.

use std::process::Output;

use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::domain::{
    Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet, TweetId,
};
use monitor_store::{Advance, Batch, Claim, ModelScore, PostgresStore, ScoredTweet, Store};
use serde_json::Value;

use crate::support::{self, fresh_database};

const TEXT: &str = "@united lost my bag again &amp; nobody answers 😡 #FlyAway";

fn monitor(arguments: &[&str]) -> Output {
    support::monitor(&[&["explain"], arguments].concat())
}

fn answer(arguments: &[&str]) -> Value {
    let output = monitor(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The words of the answer, which are at their places in bytes and in characters.
fn words(answer: &Value) -> Vec<(String, f64)> {
    let text = answer["text"].as_str().expect("a text");
    let characters: Vec<char> = text.chars().collect();
    let place = |word: &Value, of: &str| -> (usize, usize) {
        let at = |end: usize| word[of][end].as_u64().expect("a place") as usize;
        (at(0), at(1))
    };
    let word = |found: &Value| {
        let word = found["word"].as_str().expect("a word");
        let (begin, end) = place(found, "bytes");
        assert_eq!(&text[begin..end], word);
        let (begin, end) = place(found, "chars");
        assert_eq!(characters[begin..end].iter().collect::<String>(), word);
        (word.to_owned(), found["weight"].as_f64().expect("a number"))
    };
    answer["words"].as_array().expect("words").iter().map(word).collect()
}

fn log_odds(answer: &Value) -> f64 {
    let negative = answer["negative"].as_f64().expect("a probability");
    (negative / (1.0 - negative)).ln()
}

#[test]
fn each_shipped_model_explains_a_text() {
    let check = |model: &str, answered_by: &str, method: &str| {
        let found = answer(&["--json", "--model", model, TEXT]);
        assert_eq!(found["model"], model);
        assert_eq!(found["answered_by"], answered_by, "{model}");
        assert_eq!(found["method"], method, "{model}");
        assert_eq!(found["label"], "NEGATIVE", "{model}");
        let names = ["negative", "neutral", "positive"];
        let sum: f64 = names.map(|name| found[name].as_f64().expect("a number")).iter().sum();
        assert!((sum - 1.0).abs() < 1e-4, "{model}");
        assert!((found["log_odds"].as_f64().expect("a number") - log_odds(&found)).abs() < 1e-3);
        let words = words(&found);
        let texts: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(
            texts,
            ["@united", "lost", "my", "bag", "again", "nobody", "answers", "😡", "#FlyAway"],
            "{model}"
        );
        assert!(words[1].1 > 0.2, "{model}: \"lost\" makes it negative: {words:?}");
        if method == "exact" {
            let bias = found["bias"].as_f64().expect("a bias");
            let sum = bias + words.iter().map(|(_, weight)| weight).sum::<f64>();
            assert!((sum - log_odds(&found)).abs() < 1e-3, "{model}: {sum}");
        }
    };
    check("logistic-tfidf@4", "logistic-tfidf@4", "exact");
    check("lstm@4", "lstm@4", "occlusion");
    check("transformer@6", "transformer@6", "occlusion");
    let by = answer(&["--json", "--model", "cascade@5", TEXT])["answered_by"].clone();
    check("cascade@5", by.as_str().expect("a model"), "occlusion");
}

/// Leaving a word out is what the contribution of the other models says.
#[test]
fn occlusion_is_the_score_without_the_word() {
    let found = answer(&["--json", "--model", "lstm@4", "so late again"]);
    let without = answer(&["--json", "--model", "lstm@4", "so  again"]);
    let expected = log_odds(&found) - log_odds(&without);
    assert!((words(&found)[1].1 - expected).abs() < 1e-3, "{found}");
}

#[test]
fn a_pipe_gets_marks_instead_of_colours() {
    let output = monitor(&["--model", "logistic-tfidf@4", TEXT]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("NEGATIVE 0."), "{text}");
    assert!(text.contains(" *lost* "), "{text}");
    assert!(text.contains("the sum of all words and of the model's bias"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_long_text_is_explained_in_groups() {
    let text = "late again ".repeat(500);
    let found = answer(&["--json", "--model", "lstm@4", &text]);
    assert_eq!(found["words_per_span"], 16);
    assert!(words(&found).len() <= 64);
    let note = found["note"].as_str().expect("a note");
    assert!(note.contains("those of 16 words together"), "{note}");
}

/// Stores a tweet with the given model.
async fn store(url: &str, rows: &[(&str, &str)]) {
    let settings = config::Store { url: url.to_owned(), ..config::Store::default() };
    let store = PostgresStore::connect(&settings).expect("a store");
    store.migrate().await.expect("migrated");
    let partition = TopicPartition::new("tweets", 0);
    let claim = Claim { partition: partition.clone(), seen: None, low: Offset(0), high: Offset(0) };
    store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
    let p = Probability::new(0.875).expect("a probability");
    let scored = |(id, model): &(&str, &str)| ScoredTweet {
        tweet: Tweet::new(
            TweetId::new(*id).expect("an id"),
            TEXT,
            "2015-02-23T13:58:12Z".parse().expect("a time"),
            Vec::new(),
        )
        .expect("a tweet"),
        brands: vec!["united".into()],
        score: Some(ModelScore::new(
            Score::new(Probabilities::two(p), Probability::HALF.into()),
            *model,
        )),
        heard: Heard::Always,
    };
    let to = Offset(1);
    let (event_time_max, record_time_max) = (None, None);
    let advance = Advance { partition, from: Offset(0), to, event_time_max, record_time_max };
    let scores = rows.iter().map(scored).collect();
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_tweet_is_explained_by_the_model_that_scored_it() {
    let url = fresh_database().await;
    store(&url, &[("1", "logistic-tfidf@4"), ("2", "lstm@99")]).await;
    let place = format!("store.url={url}");
    let settings = ["--set", &place, "--set", "model.name=lstm@4", "--json"];
    let with = |more: &[&'static str]| [&settings[..], more].concat();

    let found = answer(&with(&["--id", "1"]));
    assert_eq!((&found["tweet_id"], &found["text"]), (&"1".into(), &TEXT.into()));
    assert_eq!(found["model"], "logistic-tfidf@4");
    assert_eq!(found["scored_by"], "logistic-tfidf@4");
    assert_eq!(found["note"], Value::Null);

    let found = answer(&with(&["--id", "2"]));
    assert_eq!((&found["model"], &found["scored_by"]), (&"lstm@4".into(), &"lstm@99".into()));
    let note = found["note"].as_str().expect("a note");
    for part in ["was scored by lstm@99, which cannot be opened", "this is what lstm@4 says"] {
        assert!(note.contains(part), "{note}");
    }

    let found = answer(&with(&["--id", "1", "--model", "lstm@4"]));
    assert_eq!(found["note"], "The tweet was scored by logistic-tfidf@4.");
    let shown = monitor(&["--set", &place, "--id", "1"]).stdout;
    let shown = String::from_utf8(shown).expect("UTF-8");
    let stored = "Stored: negative 0.88 by logistic-tfidf@4, written 23 Feb 2015, 13:58 UTC.";
    assert!(shown.contains(stored), "{shown}");

    let missing = monitor(&["--set", &place, "--id", "3"]);
    let error = String::from_utf8(missing.stderr).expect("UTF-8");
    assert!(
        !missing.status.success() && error.contains("no tweet \"3\" is stored with a score in"),
        "{error}"
    );
}

#[test]
fn asks_for_a_text_or_an_id() {
    let check = |arguments: &[&str], part: &str| {
        let output = monitor(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(part), "{arguments:?}: {error}");
    };
    check(&[], "<TEXT>");
    check(&["late", "--id", "1"], "cannot be used with");
    check(&["late", "--model", "lstm@99"], "lstm");
}

#[test]
fn explanations_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.csv");
    let rows = "label,text\nnegative,worst flight ever they lost my bag\n\
                negative,so late again nobody answers\npositive,great crew thank you\n\
                positive,cancelled again what a terrible airline\n";
    std::fs::write(&file, rows).expect("written");
    let file = file.to_str().expect("UTF-8");
    let evaluate = |more: &[&str]| {
        let common = ["evaluate", "--model", "logistic-tfidf@4", "--data", file];
        support::monitor(&[&common[..], more].concat())
    };
    let output = evaluate(&["--faithfulness", "9", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // Those that the model calls negative, whatever their label.
    assert_eq!((&found["rows"], &found["exact"]), (&3.into(), &3.into()), "{found}");
    let mean = |name: &str| found[name]["mean"].as_f64().expect("a number");
    assert!(mean("explained") > mean("random"), "{found}");
    let difference = mean("explained") - mean("random");
    assert!((mean("difference") - difference).abs() < 1e-9, "{found}");
    let text = String::from_utf8(evaluate(&["--faithfulness", "2"]).stdout).expect("UTF-8");
    assert!(text.contains("2 rows that it calls negative"), "{text}");
    assert!(text.contains(&format!("{:<28} 0.", "in random order")), "{text}");
    let error = evaluate(&["--faithfulness", "0"]).stderr;
    assert!(String::from_utf8_lossy(&error).contains("--faithfulness"));
}
