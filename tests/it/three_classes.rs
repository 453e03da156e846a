//! Models that tell negative, neutral and positive tweets apart, from training to the labels.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{self, monitor, printed as text};

/// Emoticon labels: negative and positive alone.
const TWO: &str = "tests/fixtures/sentiment.csv";

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(arguments)).unwrap()
}

/// A file with all three labels, 600 rows.
fn three(folder: &Path) -> String {
    let [subjects, times] = [
        ["my phone", "the shop", "this song", "our train"],
        ["today", "at eight", "on monday", "this week"],
    ];
    let words = [
        ("negative", ["is terrible", "is awful", "made me sad"]),
        ("neutral", ["opens", "is listed", "is at the station"]),
        ("positive", ["is lovely", "is wonderful", "made me happy"]),
    ];
    let mut rows = String::from("label,text\n");
    for n in 0..200 {
        for (label, said) in words {
            let (subject, time) = (subjects[n % 4], times[n / 4 % 4]);
            // The numbers keep rows from being near-duplicates of each other.
            let said = said[n / 16 % 3];
            writeln!(rows, "{label},{n} {subject} {said} no {n} {time}").unwrap();
        }
    }
    let path = folder.join("three.csv");
    fs::write(&path, rows).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The layout of multilingual benchmarks: a header, tabs, a column that says what is held out.
#[test]
fn a_benchmark_says_which_rows_are_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let words = [("negative", "c'est nul"), ("neutral", "à midi"), ("positive", "j'adore")];
    let mut content = String::from("split\tlabel\ttext\n");
    for (set, rows) in [("train", 60), ("val", 10), ("test", 25)] {
        for n in 0..rows {
            for (label, said) in words {
                let quote = if n % 5 == 0 { "\"" } else { "" };
                let text = format!("{quote}{set}{n}a {said}, {set}{n}b {}c", n * 31 % 97);
                writeln!(content, "{set}\t{label}\t{text}").unwrap();
            }
        }
    }
    let data = folder.path().join("french.tsv");
    fs::write(&data, content).unwrap();
    let (data, output) = (data.to_str().unwrap(), folder.path().to_str().unwrap());
    let train = ["retrain", "logistic-tfidf", "--data", data, "--language", "fr"];
    text(&[&train[..], &["--split", "file", "--output", output]].concat());
    let set = format!("model.directory={output}");
    let manifest = json(&["models", "show", "logistic-tfidf@1", "--json", "--set", &set]);
    let manifest = &manifest["manifest"];
    let rows = ["rows_train", "rows_validation", "rows_held_out"].map(|it| &manifest["data"][it]);
    assert_eq!(rows, [180, 30, 75], "{manifest}");
    assert_eq!(manifest["data"]["split"], "file");
    let held_out = &manifest["metrics"]["held out"];
    assert!(held_out["macro_recall"].as_f64().unwrap() > 0.9, "{held_out}");

    let evaluate = ["evaluate", "--model", "logistic-tfidf@1", "--data", data, "--set", &set];
    let found = json(&[&evaluate[..], &["--by", "split", "--json"]].concat());
    assert_eq!(found["data"]["rows"], 75, "{}", found["data"]);
    let by = found["by"].to_string();
    assert!(by.contains("test") && !by.contains("train"), "only the rows held out: {by}");
    let by_user = [&train[..], &["--name", "own", "--output", output]].concat();
    text(&by_user);
    let manifest = json(&["models", "show", "own@1", "--json", "--set", &set]);
    assert_ne!(manifest["manifest"]["data"]["rows_held_out"], 75, "unless it is asked for");
}

#[test]
fn every_family_learns_neutral_from_people_and_words_from_emoticons() {
    let folder = tempfile::tempdir().unwrap();
    let (output, data) = (folder.path().to_str().unwrap(), three(folder.path()));
    let base = tempfile::tempdir().unwrap();
    support::tiny_distilbert(base.path());
    let weighted = format!("{TWO}=0.5");
    let setting = format!("model.directory={output}");
    for family in ["logistic-hash", "logistic-tfidf", "dense", "lstm", "transformer"] {
        let arguments =
            ["retrain", family, "--data", &data, "--data", &weighted, "--output", output];
        let more: &[&str] = match family {
            "transformer" => &[
                "--base",
                base.path().to_str().unwrap(),
                "--learning-rate",
                "3e-3",
                "--epochs",
                "8",
            ],
            "dense" | "lstm" => &["--epochs", "6"],
            _ => &[],
        };
        text(&[&arguments, more].concat());

        let manifest = fs::read_to_string(folder.path().join(family).join("1/manifest.json"));
        let manifest: Value = serde_json::from_str(&manifest.unwrap()).unwrap();
        assert_eq!(manifest["classes"], 3, "{family}");
        assert!(manifest["calibration"]["positive"]["threshold"].is_number(), "{family}");
        assert_eq!(manifest["data"]["more"][0]["file"], "sentiment.csv", "{family}");
        let figures = &manifest["metrics"]["held out"];
        let recall = figures["macro_recall"].as_f64().unwrap();
        // A transformer of this size that begins at random learns little.
        let begins_at_random = family == "transformer";
        let least = if begins_at_random { 0.5 } else { 0.8 };
        assert!(recall > least, "{family}: {figures}");
        let of_two = &manifest["metrics"]["held out of sentiment.csv"];
        let accuracy = of_two["accuracy"].as_f64().unwrap();
        assert!(begins_at_random || accuracy > 0.7, "{family}: {of_two}");
        assert!(of_two["macro_recall"].is_null(), "{family}: {of_two}");

        // Words that only the emoticons know count too.
        for (said, label) in [
            ("the shop opens on monday", "NEUTRAL"),
            ("my phone is wonderful this week", "POSITIVE"),
            ("our train is awful today", "NEGATIVE"),
        ] {
            let found = text(&["score", said, "--model", family, "--set", &setting]);
            let is_it = found.starts_with(label) || begins_at_random;
            assert!(is_it, "{family}: {said}: {found}");
        }
        let found =
            json(&["evaluate", "--json", "--set", &setting, "--model", family, "--data", &data]);
        assert_eq!(found["data"]["part"], "held-out", "{family}");
        assert_eq!(found["figures"]["macro_recall"], figures["macro_recall"], "{family}");
        assert_eq!(found["report"]["classes"].as_array().unwrap().len(), 3, "{family}");
        // The second file was split too: none of its training rows is measured.
        let found =
            json(&["evaluate", "--json", "--set", &setting, "--model", family, "--data", TWO]);
        assert_eq!(found["data"]["part"], "held-out", "{family}");
        assert_eq!(found["figures"]["accuracy"], of_two["accuracy"], "{family}");
    }

    let cascade = ["models", "cascade", "--cheap", "logistic-hash", "--costly", "lstm"];
    let more = ["--name", "both", "--data", &data, "--set", &setting];
    text(&[&cascade[..], &more].concat());
    let found = text(&["score", "the shop opens on monday", "--model", "both", "--set", &setting]);
    assert!(found.starts_with("NEUTRAL"), "{found}");

    let two = ["retrain", "logistic-hash", "--classes", "2", "--name", "two", "--data", &data];
    text(&[&two[..], &["--output", output]].concat());
    let mixed = ["models", "cascade", "--cheap", "two", "--costly", "lstm", "--name", "mixed"];
    let error = monitor(&[&mixed[..], &["--data", &data, "--set", &setting]].concat());
    let error = String::from_utf8_lossy(&error.stderr).into_owned();
    assert!(error.contains("do not tell the same classes apart"), "{error}");
    // A model of two classes calls every neutral row one or the other.
    let found = json(&["evaluate", "--json", "--set", &setting, "--model", "two", "--data", &data]);
    assert_eq!(found["figures"]["neutral_recall"], 0.0);
    assert!(found["figures"]["neutral_called_negative"].is_number());
}

#[test]
fn says_what_three_classes_need() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().to_str().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let found =
            monitor(&[&["retrain", "logistic-hash", "--output", output], arguments].concat());
        assert!(!found.status.success(), "{arguments:?}");
        let error = String::from_utf8_lossy(&found.stderr);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    check(&["--data", TWO, "--classes", "3"], "no file of --data has neutral rows");
    check(&["--data", TWO, "--classes", "4"], "4 is not in 2..=3");
    check(&["--data", "a.csv=0"], "is not a weight above 0");
    let few = folder.path().join("few.csv");
    fs::write(&few, "label,text\nnegative,sad\nneutral,so so\npositive,glad\n").unwrap();
    check(&["--data", few.to_str().unwrap()], "each set needs rows of each class");
}
