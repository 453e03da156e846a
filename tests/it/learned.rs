//! Rows that a model learned from are recognised in any file.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{monitor, printed};

/// Rows of a file: each has words of its own, which a model can memorise, and one word that says
/// its label, except in `noise` of 10 rows.
fn rows(name: &str, noise: u64) -> Vec<(&'static str, String)> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let row = |n| {
        let (bad, wrong) = (random() % 2 == 0, random() % 10 < noise);
        let word = if bad { "awful" } else { "lovely" };
        let label = if bad == wrong { "positive" } else { "negative" };
        (
            label,
            format!("{name}{n}a it was {word} {name}{n}b {name}{n}c &amp; @ann http://t.co/{n}"),
        )
    };
    (0..3_000).map(row).collect()
}

fn write<'a>(
    folder: &Path,
    name: &str,
    rows: impl IntoIterator<Item = &'a (&'static str, String)>,
) -> String {
    let lines = rows.into_iter().map(|(label, text)| format!("{label},{text}\n"));
    let path = folder.join(name);
    fs::write(&path, "label,text\n".to_owned() + &lines.collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// As if the version had been trained before lists were kept.
fn forget(models: &Path, name: &str) {
    let path = models.join(name).join("1/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["files"].as_object_mut().unwrap().remove("learned.filter").unwrap();
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_copy_of_the_training_file_turns_no_ranking_round() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let (own, other) = (rows("own", 3), rows("other", 1));
    let own_file = write(folder.path(), "own.csv", &own);
    let other_file = write(folder.path(), "other.csv", &other);
    let set = format!("model.directory={}", models.display());
    for (name, file) in [("memorises", &own_file), ("learns", &other_file)] {
        let train = ["retrain", "logistic-hash", "--name", name, "--data", file, "--set", &set];
        printed(&[&train[..], &["--no-promote"]].concat());
    }
    let json = |arguments: &[&str]| -> Value {
        let printed = printed(&[arguments, &["--set", &set, "--json"]].concat());
        serde_json::from_str(&printed).unwrap()
    };
    let held_out = json(&["evaluate", "--model", "memorises@1", "--data", &own_file]);
    let held_out = &held_out["data"]["rows"];

    // All rows under another name, written as another publisher would.
    let rewritten: Vec<_> = (own.iter().rev())
        .map(|(label, text)| {
            let text = text.replace("&amp;", " & ").replace("@ann", "@user").to_uppercase();
            (*label, text.split(" HTTP:").next().unwrap().to_owned() + " http")
        })
        .collect();
    let copy = write(folder.path(), "benchmark.csv", &rewritten);
    let found = json(&["evaluate", "--model", "memorises@1", "--data", &copy]);
    let data = &found["data"];
    assert_eq!(&data["rows"], held_out, "exactly the rows held out: {data}");
    assert_eq!(data["part"], "held-out");
    assert_eq!(data["learned_from"], 3_000 - held_out.as_u64().unwrap());
    assert!(data["learned_by_mistake"].as_f64().unwrap() < 0.02, "{data}");
    assert!(data["note"].as_str().unwrap().contains("the lists of memorises@1 contain"), "{data}");
    let all = ["evaluate", "--model", "memorises@1", "--data", &copy, "--split", "all"];
    let all = json(&all);
    assert_eq!(all["data"]["rows"], 3_000);
    assert!(all["data"]["note"].as_str().unwrap().starts_with("CAUTION"), "{}", all["data"]);
    // No row of the other file is taken for one that it learned from.
    let found = json(&["evaluate", "--model", "memorises@1", "--data", &other_file]);
    assert_eq!(found["data"]["rows"], 3_000, "{}", found["data"]);
    assert_eq!(found["data"]["part"], "all");

    let sample = write(folder.path(), "sample.csv", own.iter().step_by(3));
    let ranking = || -> (Vec<String>, Value) {
        let found = json(&["compare", "--all", "--data", &sample]);
        let models = found["models"].as_array().unwrap().iter();
        let names = models.map(|model| model["model"].as_str().unwrap().to_owned());
        (names.collect(), found["data"].clone())
    };
    let (names, data) = ranking();
    assert_eq!(names, ["learns@1", "memorises@1"], "{data}");
    let rows = data["rows"].as_u64().unwrap();
    assert!((150..250).contains(&rows), "a fifth of 1,000: {data}");

    let promote = ["models", "promote", "memorises@1", "--data", &sample, "--set", &set];
    let said = String::from_utf8(monitor(&promote).stderr).unwrap();
    assert!(!said.contains("all rows are measured"), "{said}");

    forget(&models, "memorises");
    let (names, data) = ranking();
    assert_eq!(
        names,
        ["memorises@1", "learns@1"],
        "without its list, the leak is not seen: {data}"
    );
    let note = data["note"].as_str().unwrap();
    assert!(note.contains("memorises@1 keeps no list of the rows it learned from"), "{note}");
    assert!(!note.contains("learns@1 keeps no list"), "{note}");
}

#[test]
fn a_damaged_list_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "own.csv", &rows("own", 1));
    let set = format!("model.directory={}", folder.path().display());
    printed(&["retrain", "logistic-hash", "--data", &file, "--set", &set]);
    let list = folder.path().join("logistic-hash/1/learned.filter");
    fs::write(list, "nothing").unwrap();
    let evaluate = ["evaluate", "--model", "logistic-hash", "--data", &file, "--set", &set];
    let output = monitor(&evaluate);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("learned.filter"), "{said}");
    assert!(said.contains("was changed or truncated"), "{said}");
    // Scoring does not need it.
    let score = ["score", "so sad", "--model", "logistic-hash", "--set", &set];
    assert!(monitor(&score).status.success());
}

#[test]
fn what_is_near_to_the_test_is_not_learned() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let mut own = rows("own", 1);
    let tests: Vec<(&str, String)> = (0..40)
        .map(|n| ("negative", format!("gate {n} closed and nobody of the crew told me why today")))
        .collect();
    let near = |(label, text): &(&'static str, String)| {
        (*label, format!("RT @ann: {} http://t.co/1", text.replace(" today", "!")))
    };
    own.extend(tests.iter().map(near));
    let file = write(folder.path(), "own.csv", &own);
    let test = write(folder.path(), "test.csv", &tests);
    let output = models.to_str().unwrap();
    let train = ["retrain", "logistic-hash", "--data", &file, "--test", &test, "--output", output];
    printed(&train);
    let manifest = fs::read(models.join("logistic-hash/1/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let data = &manifest["data"];
    let left_out = data["near_duplicates"]["of_tests"].as_u64().unwrap();
    // Those held out are not learned from anyway.
    assert!((25..=40).contains(&left_out), "{data}");
    let rows = ["rows_train", "rows_validation", "rows_held_out"];
    let rows: u64 = rows.iter().map(|set| data[set].as_u64().unwrap()).sum();
    let near = &data["near_duplicates"];
    let near: u64 = near.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(rows + near, 3_040, "each row is in one set, or counted as left out: {data}");
    let card = fs::read_to_string(models.join("logistic-hash/1/README.md")).unwrap();
    let said = format!("{left_out} rows nearly the same as rows of the test files");
    assert!(card.contains(&said), "{card}");
}

#[test]
fn more_rows_give_a_learning_curve() {
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "own.csv", &rows("own", 1));
    let picture = folder.path().join("curve.svg");
    let set = format!("model.directory={}", folder.path().join("models").display());
    let train = ["retrain", "logistic-tfidf", "--data", &data, "--set", &set];
    let fractions = ["--fractions", "0.02,1,0.3"];
    let more = ["--json", "--picture", picture.to_str().unwrap()];
    let found = printed(&[&train[..], &fractions, &more].concat());
    let found: Value = serde_json::from_str(&found).unwrap();
    let points = found["points"].as_array().unwrap();
    let column = |name: &str| -> Vec<f64> {
        points.iter().map(|point| point[name].as_f64().unwrap()).collect()
    };
    assert_eq!(column("fraction"), [0.02, 0.3, 1.0], "fewest rows first");
    let rows = column("rows");
    assert!((0.25..0.35).contains(&(rows[1] / rows[2])), "{rows:?}");
    let values = column("value");
    assert!(values[0] < values[2] && values[2] > 0.8, "{values:?}");
    assert_eq!(found["figure"], "ROC AUC");
    assert!(found["held_out"].as_u64().unwrap() > 500, "{found}");
    assert!(fs::read_to_string(picture).unwrap().contains("rows learned from"));
    assert!(!folder.path().join("models/logistic-tfidf/1").exists(), "nothing is registered");

    let output = monitor(&["retrain", "--data", &data, "--fractions", "0.1,1", "--set", &set]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--fractions measures one family"), "{said}");
    let output = monitor(&[&train[..], &["--fractions", "0,1"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is not a share above 0"), "{said}");
}
