//! `monitor evaluate` and `monitor compare`, as a person calls them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The models that ship, and the family that is trained here.
const SHIPPED: [&str; 2] = ["logistic", "lstm"];
const QUICK: &str = "logistic";
const TRAINING: &str = "tests/fixtures/sentiment.csv";
const MANUAL: &str = "tests/fixtures/manual.csv";

fn monitor(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = monitor(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let text = text(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A folder with the versions that these seeds give, and the setting that names it.
fn trained(seeds: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    for seed in seeds {
        text(&[
            "retrain", QUICK, "--data", TRAINING, "--output", &path, "--epochs", "3", "--seed",
            seed,
        ]);
    }
    (folder, format!("model.directory={path}"))
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn row(target: &str, text: &str) -> String {
    format!("\"{target}\",\"1\",\"today\",\"NO_QUERY\",\"ann\",\"{text}\"\n")
}

#[test]
fn text_and_json_say_the_same() {
    for model in SHIPPED {
        let arguments = ["evaluate", "--model", model, "--data", MANUAL];
        let (text, json) = (text(&arguments), json(&arguments));
        assert_eq!(json["data"]["rows"], 4, "{model}");
        assert_eq!(json["data"]["left_out"]["neutral"], 1, "{model}");
        assert_eq!(json["data"]["part"], "all", "{model}");
        assert!(text.contains("left out 1 neutral"), "{text}");
        assert!(text.contains(json["data"]["note"].as_str().unwrap()), "{text}");
        let line = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
        };
        let shown = |value: &Value| format!("{:.4}", value.as_f64().unwrap());
        for (name, key) in
            [("accuracy   ", "accuracy"), ("ROC AUC", "roc_auc"), ("log loss", "log_loss")]
        {
            assert!(line(name).contains(&shown(&json["figures"][key])), "{name}: {text}");
        }
        assert_eq!(json["figures"]["accuracy"], json["report"]["accuracy"], "{model}");
        for class in json["report"]["classes"].as_array().unwrap() {
            let line = line(class["class"].as_str().unwrap());
            for figure in ["precision", "recall", "f1"] {
                assert!(line.contains(&shown(&class[figure])), "{figure}: {line}");
            }
        }
        let by_length = json["slices"].as_array().unwrap().iter().filter(|s| s["by"] == "words");
        assert_eq!(
            by_length.map(|slice| slice["rows"].as_u64().unwrap()).sum::<u64>(),
            4,
            "{model}"
        );
        assert!(json["speed"]["tweets_per_s"].as_f64().unwrap() > 0.0, "{model}");
    }
}

#[test]
fn rows_learned_from_are_never_measured_in_silence() {
    let (folder, models) = trained(&["7"]);
    let manifest = fs::read_to_string(folder.path().join(QUICK).join("1/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let held_out = &manifest["data"]["rows_held_out"];

    let check = |name: &str, data: &str, part: &str, more: &[&str], note: &str| {
        let arguments = ["evaluate", "--set", &models, "--model", QUICK, "--data", data];
        let found = json(&[&arguments, more].concat());
        assert_eq!(found["data"]["part"], part, "{name}");
        assert!(
            found["data"]["note"].as_str().unwrap().contains(note),
            "{name}: {}",
            found["data"]
        );
        assert_eq!(&found["data"]["rows"] == held_out, part == "held-out", "{name}");
        found
    };
    let found =
        check("the training file", TRAINING, "held-out", &[], "only rows that were held out");
    let of_manifest = &manifest["metrics"]["held-out authors"];
    assert_eq!(found["figures"]["accuracy"], of_manifest["accuracy"], "as when it was trained");
    assert_eq!(found["figures"]["roc_auc"], of_manifest["roc_auc"]);
    check("asked for", TRAINING, "held-out", &["--split", "held-out"], "only rows that were");
    check("all of it", TRAINING, "all", &["--split", "all"], "CAUTION");
    check("another file", MANUAL, "all", &[], "not from this file");

    let elsewhere = tempfile::tempdir().unwrap();
    let mut longer = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAINING)).unwrap();
    longer.extend(row("0", "new row").bytes());
    let longer = write(elsewhere.path(), "sentiment.csv", longer);
    let found = json(&["evaluate", "--set", &models, "--model", QUICK, "--data", &longer]);
    assert_eq!(found["data"]["part"], "held-out", "of its name, but with a row more");
}

#[test]
fn compares_on_rows_that_none_learned_from() {
    let (_folder, models) = trained(&["1", "2"]);
    let of = |name: &str| {
        let arguments = ["evaluate", "--set", &models, "--model", name, "--data", TRAINING];
        json(&arguments)["data"]["rows"].as_u64().unwrap()
    };
    let (first, second) = (of(&format!("{QUICK}@1")), of(&format!("{QUICK}@2")));
    let found = json(&["compare", "--set", &models, "--all", "--data", TRAINING]);
    let rows = found["data"]["rows"].as_u64().unwrap();
    assert!(0 < rows && rows < first.min(second), "{rows} of {first} and {second}");
    assert_eq!(found["models"].as_array().unwrap().len(), 2);
    let promoted = json(&["compare", "--set", &models, "--data", TRAINING]);
    assert_eq!(promoted["models"].as_array().unwrap().len(), 1, "the promoted version alone");
    assert_eq!(promoted["models"][0]["model"], format!("{QUICK}@2"));
}

#[test]
fn the_table_of_the_shipped_models() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("compared.svg");
    let picture = picture.to_str().unwrap();
    let arguments = ["compare", SHIPPED[0], SHIPPED[1], "--data", MANUAL];
    let found =
        json(&[&arguments[..], &["--picture", picture, "--price-per-hour", "0.5"]].concat());
    let models = found["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    let number = |value: &Value| value.as_f64().unwrap();
    for model in models {
        assert_eq!(model["figures"]["rows"], 4.0, "{model}");
        let rate = number(&model["speed"]["tweets_per_s"]);
        let cost = number(&model["cost_per_million"]);
        assert!((cost * rate * 3600.0 / 1e6 - 0.5).abs() < 1e-9, "{model}");
        let cost = number(&model["training_cost"]);
        assert!((cost * 60.0 / number(&model["training_minutes"]) - 0.5).abs() < 1e-9, "{model}");
        assert!(number(&model["bytes"]) > 1e6, "{model}");
    }
    let svg = fs::read_to_string(picture).unwrap();
    for part in ["<svg", "as published", models[0]["model"].as_str().unwrap()] {
        assert!(svg.contains(part), "{part}");
    }
    let table = text(&[&arguments[..], &["--markdown"]].concat());
    assert!(table.starts_with("| model | family | accuracy |"), "{table}");
    assert!(table.contains("*as published*") && table.contains("0.20 EUR an hour"), "{table}");
}

#[test]
fn a_picture_and_a_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("evaluated.svg");
    let arguments =
        ["evaluate", "--data", MANUAL, "--threshold", "1", "--picture", picture.to_str().unwrap()];
    let found = json(&arguments);
    assert_eq!(found["threshold"], 1.0);
    assert_eq!(found["report"]["undefined"][0], "negative: precision", "nothing scores 1");
    let svg = fs::read_to_string(&picture).unwrap();
    for part in ["<svg", "ROC curve", "Reliability", "Scores of each class"] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn one_class_has_no_area() {
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "sad.csv", &(row("0", "so sad") + &row("0", "so very sad")));
    let picture = folder.path().join("sad.svg");
    let found = text(&["evaluate", "--data", &data, "--picture", picture.to_str().unwrap()]);
    assert!(found.contains("ROC AUC            not defined: there is one class only"), "{found}");
    assert!(found.contains("positive: recall"), "{found}");
    assert!(fs::read_to_string(picture).unwrap().contains("one class only"));
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(folder.path(), "empty.csv", "");
    let neutral = write(folder.path(), "neutral.csv", &row("2", "a table"));
    let nowhere: PathBuf = folder.path().join("none").join("p.svg");
    let nowhere = nowhere.to_str().unwrap();
    let no_models = format!("model.directory={}", folder.path().display());
    let check = |arguments: &[&str], expected: &[&str]| {
        let output = monitor(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        for part in expected {
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    };
    for command in ["evaluate", "compare"] {
        check(&[command, "--data", "none.csv"], &["none.csv", "cannot read"]);
        check(&[command, "--data", &empty], &["empty.csv is empty"]);
        check(&[command, "--data", &neutral], &["neutral.csv has no row", "1 are neutral"]);
        check(
            &[command, "--data", MANUAL, "--split", "held-out"],
            &["no rows of manual.csv", "leave --split out"],
        );
        check(&[command, "--data", MANUAL, "--picture", nowhere], &["cannot write", "p.svg"]);
    }
    check(&["evaluate", "--data", MANUAL, "--model", "bert"], &["no model \"bert\"", SHIPPED[1]]);
    check(&["evaluate", "--data", MANUAL, "--threshold", "1.5"], &["1.5 is no probability"]);
    check(&["compare", "bert", "--data", MANUAL], &["no model \"bert\""]);
    check(&["compare", "--data", MANUAL, "--price-per-hour=-1"], &["is no price"]);
    check(&["compare", "--data", MANUAL, "--set", &no_models], &["no model to compare"]);
}
