//! `monitor evaluate` and `monitor compare`, as a user runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use serde_json::Value;

use crate::support::{monitor, printed as text};

/// The families to train, which takes a second or two.
const FAMILIES: [&str; 2] = ["dense", "lstm"];
const QUICK: &str = FAMILIES[0];
const TRAINING: &str = "tests/fixtures/sentiment.csv";
const MANUAL: &str = "tests/fixtures/manual.csv";

fn json(arguments: &[&str]) -> Value {
    let text = text(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn retrain(folder: &Path, family: &str, more: &[&str]) {
    let output = folder.to_str().unwrap();
    let arguments = ["retrain", family, "--data", TRAINING, "--output", output, "--epochs", "2"];
    text(&[&arguments, more].concat());
}

fn setting(folder: &Path) -> String {
    format!("model.directory={}", folder.display())
}

/// The setting for a folder with a model of each family, trained once for all tests.
fn models() -> &'static str {
    static MODELS: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, setting) = MODELS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        FAMILIES.iter().for_each(|family| retrain(folder.path(), family, &["--seed", "7"]));
        let setting = setting(folder.path());
        (folder, setting)
    });
    setting
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
fn text_and_json_have_the_same_figures() {
    for model in FAMILIES {
        let arguments = [
            "evaluate",
            "--set",
            models(),
            "--model",
            model,
            "--data",
            MANUAL,
            "--without-neutral",
        ];
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
fn says_when_training_rows_are_evaluated() {
    let models = tempfile::tempdir().unwrap();
    retrain(models.path(), QUICK, &["--seed", "7"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let more = write(elsewhere.path(), "more.csv", "label,text\nnegative,no bag\npositive,nice\n");
    retrain(models.path(), QUICK, &["--seed", "7", "--also", &more]);
    let set = setting(models.path());
    let manifest = fs::read_to_string(models.path().join(QUICK).join("1/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let held_out = &manifest["data"]["rows_held_out"];

    let content = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAINING)).unwrap();
    let renamed = write(elsewhere.path(), "renamed.csv", &content);
    let longer = [&content[..], row("0", "a new row").as_bytes()].concat();
    let longer = write(elsewhere.path(), "sentiment.csv", longer);

    let check = |name: &str, version: &str, data: &str, more: &[&str], part: &str, note: &str| {
        let model = format!("{QUICK}@{version}");
        let arguments = ["evaluate", "--set", &set, "--model", &model, "--data", data];
        let found = json(&[&arguments, more].concat());
        assert_eq!(found["data"]["part"], part, "{name}");
        let said = found["data"]["note"].as_str().unwrap();
        assert!(said.contains(note), "{name}: {said}");
        found
    };
    let only = "only rows that were held out";
    let found = check("the training file", "1", TRAINING, &[], "held-out", only);
    assert_eq!(&found["data"]["rows"], held_out);
    let of_manifest = &manifest["metrics"]["held out"];
    for figure in ["accuracy", "roc_auc", "calibration_error"] {
        assert_eq!(found["figures"][figure], of_manifest[figure], "{figure} as in training");
    }
    check("asked for", "1", TRAINING, &["--split", "held-out"], "held-out", only);
    check("all of it", "1", TRAINING, &["--split", "all"], "all", "CAUTION");
    check("under another name", "1", &renamed, &[], "held-out", only);
    check("with a row more", "1", &longer, &[], "held-out", only);
    check("another file", "1", MANUAL, &[], "all", "not from this file");
    check("learned from whole", "2", &more, &["--split", "all"], "all", "CAUTION");
    let model = format!("{QUICK}@2");
    let output = monitor(&["evaluate", "--set", &set, "--model", &model, "--data", &more]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("none of its 2 rows was held out"), "{error}");
}

#[test]
fn handles_rows_split_by_time_and_calibration_rows() {
    let models = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let rows: String =
        (0..100).map(|n| format!("negative,awful {n}\npositive,fine {n}\n")).collect();
    let human = write(elsewhere.path(), "human.csv", format!("label,text\n{rows}"));
    retrain(models.path(), QUICK, &["--split", "time", "--calibrate", &human]);
    let set = setting(models.path());
    let arguments = |data| ["evaluate", "--set", &set, "--model", QUICK, "--data", data];

    let found = json(&arguments(TRAINING));
    let latest = found["data"]["rows"].as_u64().unwrap();
    assert_eq!(found["data"]["part"], "held-out", "{}", found["data"]);
    assert!((60..100).contains(&latest), "a fifth of 420: {latest}");

    let found = json(&arguments(&human));
    let rows = found["data"]["rows"].as_u64().unwrap();
    assert_eq!(found["data"]["part"], "held-out", "{}", found["data"]);
    assert!((70..130).contains(&rows), "half of 200: {rows}");

    let content = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAINING)).unwrap();
    let later = row("0", "a later row").replace("today", "Sat May 11 03:00:01 UTC 2019");
    let later = write(elsewhere.path(), "sentiment.csv", [&content[..], later.as_bytes()].concat());
    let found = json(&arguments(&later));
    assert_eq!(found["data"]["part"], "held-out", "{}", found["data"]);
    let rows = found["data"]["rows"].as_u64().unwrap();
    // One row more, and those that are near to rows held out, which it did not learn from.
    assert!((latest + 1..latest + 20).contains(&rows), "{rows}, not {latest} and one");

    // A version of before lists were kept cannot tell.
    let path = models.path().join(QUICK).join("1/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["files"].as_object_mut().unwrap().remove("learned.filter").unwrap();
    fs::write(&path, manifest.to_string()).unwrap();
    let output = monitor(&arguments(&later));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot be identified"), "{error}");
}

#[test]
fn compares_on_rows_outside_all_training_sets() {
    let folder = tempfile::tempdir().unwrap();
    ["1", "2"].iter().for_each(|seed| retrain(folder.path(), QUICK, &["--seed", seed]));
    let models = setting(folder.path());
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
    // The second model has other held-out rows: they share no data set, so the first stays
    // promoted.
    assert_eq!(promoted["models"][0]["model"], format!("{QUICK}@1"));

    let weights = folder.path().join(QUICK).join("1").join("weights.safetensors");
    fs::write(weights, "half").unwrap();
    let output = monitor(&["compare", "--set", &models, "--all", "--data", TRAINING]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.contains("@1 is left out"), "{error}");
    let output = monitor(&["compare", "--set", &models, "--data", TRAINING]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no model to compare"), "{error}");
}

#[test]
fn prints_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("compared.svg");
    let picture = picture.to_str().unwrap();
    let arguments = ["compare", FAMILIES[0], FAMILIES[1], "--set", models(), "--data", MANUAL];
    let found =
        json(&[&arguments[..], &["--picture", picture, "--price-per-hour", "0.5"]].concat());
    let models = found["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    let number = |value: &Value| value.as_f64().unwrap();
    for model in models {
        assert_eq!(model["figures"]["rows"], 5.0, "{model}");
        assert!(model["figures"]["neutral_called_negative"].is_number(), "{model}");
        let rate = number(&model["speed"]["tweets_per_s"]);
        let cost = number(&model["cost_per_million"]);
        assert!((cost * rate * 3600.0 / 1e6 - 0.5).abs() < 1e-9, "{model}");
        let (cost, minutes) = (number(&model["training_cost"]), number(&model["training_minutes"]));
        assert!((cost - minutes / 60.0 * 0.5).abs() < 1e-9, "{model}");
        let (bytes, parameters) = (number(&model["bytes"]), number(&model["parameters"]));
        assert!(bytes > 2.0 * parameters && parameters > 1e3, "{model}");
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
fn draws_a_picture_and_applies_a_threshold() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("evaluated.svg");
    let arguments = ["evaluate", "--set", models(), "--model", QUICK, "--data", MANUAL];
    let more = ["--threshold", "1", "--picture", picture.to_str().unwrap()];
    let found = json(&[&arguments[..], &more].concat());
    assert_eq!(found["threshold"], 1.0);
    assert_eq!(found["report"]["undefined"][0], "negative: precision", "nothing scores 1");
    let svg = fs::read_to_string(&picture).unwrap();
    for part in ["<svg", "ROC curve", "Reliability", "Scores of each class"] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn one_class_has_no_auc() {
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "sad.csv", row("0", "so sad") + &row("0", "so very sad"));
    let picture = folder.path().join("sad.svg");
    let arguments = ["evaluate", "--set", models(), "--model", QUICK, "--data", &data];
    let found = text(&[&arguments[..], &["--picture", picture.to_str().unwrap()]].concat());
    assert!(found.contains("ROC AUC              not defined: there is one class only"), "{found}");
    assert!(found.contains("positive: recall"), "{found}");
    assert!(fs::read_to_string(picture).unwrap().contains("one class only"));
}

#[test]
fn names_what_is_wrong_with_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(folder.path(), "empty.csv", "");
    let neutral = write(folder.path(), "neutral.csv", row("2", "a table"));
    let nowhere: PathBuf = folder.path().join("none").join("p.svg");
    let nowhere = nowhere.to_str().unwrap();
    let no_models = format!("model.directory={}", folder.path().display());
    let model = format!("model.name={QUICK}");
    let check = |arguments: &[&str], expected: &[&str]| {
        let settings = ["--set", models(), "--set", &model];
        let output = monitor(&[arguments, &settings].concat());
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
        check(
            &[command, "--data", &neutral, "--without-neutral"],
            &["neutral.csv has no row", "1 are neutral"],
        );
        check(
            &[command, "--data", MANUAL, "--split", "held-out"],
            &["no rows of manual.csv", "leave --split out"],
        );
        check(&[command, "--data", MANUAL, "--picture", nowhere], &["cannot write", "p.svg"]);
    }
    check(&["evaluate", "--data", MANUAL, "--model", "bert"], &["no model \"bert\"", FAMILIES[1]]);
    check(&["evaluate", "--data", MANUAL, "--threshold", "1.5"], &["1.5 is no probability"]);
    check(&["compare", "bert", "--data", MANUAL], &["no model \"bert\""]);
    check(&["compare", "--data", MANUAL, "--price-per-hour=-1"], &["is not a price"]);
    let output = monitor(&["compare", "--data", MANUAL, "--set", &no_models]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no model to compare"), "{error}");
}

#[test]
fn writes_rows_and_figures_by_column() {
    let folder = tempfile::tempdir().unwrap();
    // 60 rows of each of two topics, and one of a third; label and words disagree in every fourth.
    let rows: String = (0..121)
        .map(|n| {
            let topic = ["denver", "boston", "rare"][if n == 120 { 2 } else { n % 2 }];
            let word = ["terrible", "happy", "awful"][n / 2 % 3];
            let label = ["negative", "positive", "neutral", "negative"][n / 2 % 4];
            format!("{n},\"a, \"\"{topic}\"\"\",{label},this made me {word} no {n}\n")
        })
        .collect();
    let data = write(folder.path(), "topics.csv", format!("id,Topic,label,text\n{rows}"));
    let [errors, all, picture] =
        ["errors.csv", "all.csv", "p.svg"].map(|name| folder.path().join(name));
    let arguments = ["evaluate", "--set", models(), "--model", QUICK, "--data", &data];
    let more = [
        "--by",
        "topic",
        "--errors",
        errors.to_str().unwrap(),
        "--predictions",
        all.to_str().unwrap(),
        "--picture",
        picture.to_str().unwrap(),
    ];
    let found = json(&[&arguments[..], &more].concat());

    let read = |path: &Path| -> Vec<csv::StringRecord> {
        let mut csv = csv::Reader::from_path(path).unwrap();
        let header = csv.headers().unwrap().iter().collect::<Vec<_>>().join(",");
        assert_eq!(header, "text,label,called,negative,neutral,positive,id,Topic");
        csv.records().map(Result::unwrap).collect()
    };
    let (all, errors) = (read(&all), read(&errors));
    assert_eq!((all.len(), &all[7][6], &all[7][7]), (121, "7", "a, \"boston\""));
    assert_eq!(&all[7][0], "this made me terrible no 7");
    let wrong = all.iter().filter(|row| row[1] != row[2]).count();
    assert!(wrong > 20, "{wrong}");
    assert_eq!(errors.len(), wrong);
    // The same rows as Parquet, with the probabilities as numbers.
    let parquet = folder.path().join("all.parquet");
    json(&[&arguments[..], &["--predictions", parquet.to_str().unwrap()]].concat());
    let parquet = SerializedFileReader::new(fs::File::open(&parquet).unwrap()).unwrap();
    let rows: Vec<_> = parquet.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows.len(), all.len());
    for (row, csv) in rows.iter().zip(&all) {
        for (at, (name, field)) in row.get_column_iter().enumerate() {
            match field {
                Field::Str(text) => assert_eq!(text, &csv[at], "{name}"),
                Field::Float(number) => assert_eq!(format!("{number:.4}"), &csv[at], "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    let right = 1.0 - wrong as f64 / 121.0;
    assert!((found["report"]["accuracy"].as_f64().unwrap() - right).abs() < 1e-9);
    let certainty = |row: &csv::StringRecord| -> f64 {
        let column = ["negative", "neutral", "positive"].iter().position(|it| *it == &row[2]);
        row[3 + column.unwrap()].parse().unwrap()
    };
    assert!(errors.windows(2).all(|pair| certainty(&pair[0]) >= certainty(&pair[1])));

    let by = &found["by"][0];
    assert_eq!(by["column"], "Topic");
    let values: Vec<(&Value, u64)> = (by["values"].as_array().unwrap().iter())
        .map(|value| (&value["value"], value["rows"].as_u64().unwrap()))
        .collect();
    assert_eq!(values.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), [60, 60, 1]);
    assert_eq!((values[2].0, &by["values_together"]), (&Value::Null, &1.into()));
    assert_eq!(by["share_errors"]["values"], 2);
    let curve = found["precision_recall"]["points"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()["recall"], 1.0);
    let average = found["figures"]["average_precision"].as_f64().unwrap();
    let of_curve = found["precision_recall"]["average_precision"].as_f64().unwrap();
    assert!((average - of_curve).abs() < 1e-4, "{average} {of_curve}");
    assert!(fs::read_to_string(picture).unwrap().contains("Precision and recall, average"));
    let text = text(&[&arguments[..], &["--by", "TOPIC"]].concat());
    assert!(text.contains("(1 smaller ones)") && text.contains("a, \"denver\""), "{text}");

    let output = monitor(&[&arguments[..], &["--by", "airline"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no column \"airline\"") && error.contains("id, Topic"), "{error}");
}

#[test]
fn a_first_version_no_better_than_chance_is_not_promoted() {
    let folder = tempfile::tempdir().unwrap();
    // The labels do not depend on the texts.
    let rows: String = (0..400)
        .map(|n| format!("{},word{} word{}\n", ["negative", "positive"][n / 7 % 2], n % 40, n % 37))
        .collect();
    let data = write(folder.path(), "noise.csv", format!("label,text\n{rows}"));
    let set = setting(folder.path());
    let said = text(&["retrain", "logistic-hash", "--data", &data, "--set", &set]);
    assert!(said.contains("registered, but not promoted"), "{said}");
    assert!(said.contains("no better than chance: ROC AUC 0."), "{said}");
    assert!(!folder.path().join("promoted.json").exists());
    let promote = ["models", "promote", "logistic-hash@1", "--set", &set];
    let output = monitor(&promote);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no better than chance"), "{error}");
    let force = text(&[&promote[..], &["--force"]].concat());
    assert!(force.contains("logistic-hash@1 is promoted"), "{force}");
}
