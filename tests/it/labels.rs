//! `monitor labels`: from a sheet to the corrected share.

use std::fs;

use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet, TweetId,
};
use monitor_store::{Advance, Batch, Claim, ModelScore, PostgresStore, ScoredTweet, Store};
use serde_json::Value;

use crate::incidents::{call, settings};
use crate::support::fresh_database;

/// Of 900 tweets about acme, the model calls a third negative: half of them are, and no other.
const TWEETS: i64 = 900;

async fn store_tweets(url: &str) -> PostgresStore {
    let settings = config::Store { url: url.into(), ..config::Store::default() };
    let store = PostgresStore::connect(&settings).unwrap();
    store.migrate().await.unwrap();
    let partition = TopicPartition::new("tweets", 0);
    let (low, high) = (Offset(0), Offset(TWEETS));
    let claim = Claim { partition: partition.clone(), seen: None, low, high };
    store.claim(&[claim], StartAt::Earliest).await.unwrap();
    let now = SystemClock::new().now();
    let row = |n: i64| {
        let p = Probability::new(if n % 3 == 0 { 0.9 } else { 0.1 }).unwrap();
        let text = format!("=acme number {n}{}", if n % 6 == 0 { " is awful" } else { "" });
        let at = now - chrono::TimeDelta::minutes(n % 200);
        let id = TweetId::new(format!("57030613367776{n:04}")).unwrap();
        ScoredTweet {
            tweet: Tweet::new(id, text, at, Vec::new()).unwrap(),
            brands: vec!["acme".into()],
            score: Some(ModelScore::new(
                Score::new(Probabilities::two(p), Probability::HALF.into()),
                "any@1",
            )),
            heard: Heard::Always,
        }
    };
    let advance =
        Advance { partition, from: low, to: high, event_time_max: None, record_time_max: None };
    let scores = (0..TWEETS).map(row).collect();
    store.commit(&Batch { scores, advances: vec![advance], ..Batch::default() }).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn people_label_a_random_sample() {
    let url = fresh_database().await;
    let store = store_tweets(&url).await;
    let settings = settings(&url);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let (succeeded, printed) = call(&settings, arguments);
        assert!(succeeded, "{arguments:?}: {printed}");
        printed
    };
    let refused = |arguments: &[&str], part: &str| {
        let (succeeded, printed) = call(&settings, arguments);
        assert!(!succeeded && printed.contains(part), "{arguments:?}: {printed}");
    };
    assert!(run(&["labels", "list"]).contains("labels sample"), "it says what to do");
    refused(&["labels", "sample", "--brand", "nobody", "--output", "x.csv"], "no brand");
    refused(&["labels", "sample", "--brand", "globex", "--output", "x.csv"], "no scored tweet");

    let sheet = path("sheet.csv");
    let sample = ["labels", "sample", "--brand", "acme", "--tweets", "240", "--output", &sheet];
    let printed = run(&sample);
    assert!(printed.contains("sample 1: 240 of 900 tweets about acme"), "{printed}");

    // A person fills in the column, in a program that writes semicolons.
    let text = fs::read_to_string(&sheet).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut out = csv::WriterBuilder::new().delimiter(b';').from_writer(Vec::new());
    out.write_record(["Row", "Text", "Label"]).unwrap();
    for (n, row) in reader.records().enumerate() {
        let row = row.unwrap();
        assert!(row[3].starts_with(" =acme"), "no formula: {row:?}");
        let label = if row[3].contains("awful") { "Negative" } else { "neutral" };
        let label = if n < 20 { "" } else { label };
        out.write_record([&row[0], "changed", label]).unwrap();
    }
    let labelled = path("labelled.csv");
    fs::write(&labelled, out.into_inner().unwrap()).unwrap();
    let printed = run(&["labels", "import", &labelled]);
    assert_eq!(printed, "220 labels read, 220 new or changed, 20 rows without one\n");
    let printed = run(&["labels", "import", &labelled]);
    assert!(printed.starts_with("220 labels read, 0 new or changed"), "{printed}");

    // Mistakes leave everything as it was.
    let wrong = path("wrong.csv");
    fs::write(&wrong, "row,label\ns1r30,positive\ns1r999,negative\ns1r31,bad\n").unwrap();
    refused(&["labels", "import", &wrong], "line 3: this database has no row s1r999");
    refused(&["labels", "import", &wrong], "line 4: the label \"bad\" is not known");
    refused(&["labels", "import", &path("none.csv")], "none.csv");
    let tweets = store.sampled_tweets(1).await.unwrap();
    assert!(tweets.iter().all(|it| it.label.is_none_or(|it| it.word() != "positive")));

    let report: Value = serde_json::from_str(&run(&["labels", "report", "--json"])).unwrap();
    let corrected = &report[0]["corrected"];
    assert_eq!(corrected["method"], "prediction-powered", "{report}");
    let bound = |name: &str| corrected["interval"][name].as_f64().unwrap();
    assert!(bound("low") < 1.0 / 6.0 && 1.0 / 6.0 < bound("high"), "{corrected}");
    assert!(bound("high") - bound("low") < 0.12, "{corrected}");
    let printed = run(&["labels", "report"]);
    assert!(printed.contains("220 of 240 labelled\n"), "{printed}");
    assert!(printed.contains("100.0 % of the negative tweets found"), "{printed}");

    // Corrections are kept apart, and join the file to train on.
    run(&["labels", "correct", "570306133677760006", "positive"]);
    refused(&["labels", "correct", "1", "positive"], "no tweet with the id \"1\"");
    refused(&["labels", "correct", "1", "nice"], "negative, neutral or positive");
    let file = path("to-train.csv");
    assert!(run(&["labels", "export", "--output", &file]).starts_with("221 labels in"));
    assert!(fs::read_to_string(&file).unwrap().contains("positive,=acme number 6 is awful"));
    run(&["labels", "export", "--brand", "acme", "--output", &file]);
    assert!(!fs::read_to_string(&file).unwrap().contains("positive"));
    let listed = run(&["labels", "list"]);
    assert!(listed.contains("240") && listed.contains("220") && listed.contains("ada"), "{listed}");
}
