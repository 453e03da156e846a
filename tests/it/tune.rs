//! `monitor tune`, as a data scientist runs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use monitor_core::domain::Label;
use monitor_train::data::{self, SplitBy};
use serde_json::Value;

use crate::support::{monitor, printed};

/// `rows` rows with one word that says the label, except in every seventh row.
fn rows(name: &str, rows: usize) -> Vec<(Label, String)> {
    let row = |n: usize| {
        let bad = n * 7_919 % 13 < 6;
        let word = ["lovely", "awful"][usize::from(bad)];
        let label = if bad != n.is_multiple_of(7) { Label::Negative } else { Label::Positive };
        (label, format!("{name}{n}a it was {word} {name}{n}b {name}{}c", n * 31 % 97))
    };
    (0..rows).map(row).collect()
}

fn write(folder: &Path, name: &str, rows: &[(Label, String)]) -> String {
    let lines = rows.iter().map(|(label, text)| format!("{},{text}\n", label.word()));
    let path = folder.join(name);
    fs::write(&path, "label,text\n".to_owned() + &lines.collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The trials that a search prints, without the time they took.
fn trials(printed: &str) -> (Value, Value) {
    let mut found: Value = serde_json::from_str(printed).unwrap();
    for trial in found["trials"].as_array_mut().unwrap() {
        for run in trial["runs"].as_array_mut().unwrap() {
            assert!(run.as_object_mut().unwrap().remove("minutes").unwrap().is_number());
        }
    }
    (found["trials"].take(), found)
}

#[test]
fn only_validation_rows_decide() {
    let folder = tempfile::tempdir().unwrap();
    let (own, test) = (rows("own", 3_000), rows("test", 100));
    let data = write(folder.path(), "own.csv", &own);
    let set_of = |wanted: &str| -> BTreeSet<String> {
        let read = data::read(Path::new(&data)).unwrap();
        let split = data::split(&read.rows, SplitBy::User, 140);
        let set = if wanted == "held out" { split.held_out } else { split.validation };
        set.into_iter().map(|row| row.text.clone()).collect()
    };
    let turned = |rows: &[(Label, String)], which: &BTreeSet<String>| -> Vec<(Label, String)> {
        let turn = |(label, text): &(Label, String)| match (which.contains(text), label) {
            (true, Label::Negative) => (Label::Positive, text.clone()),
            (true, _) => (Label::Negative, text.clone()),
            (false, label) => (*label, text.clone()),
        };
        rows.iter().map(turn).collect()
    };
    let search = |name: &str, own: &[(Label, String)], test: &[(Label, String)]| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let (data, test) = (write(&folder, "own.csv", own), write(&folder, "test.csv", test));
        let output = folder.join("models");
        let arguments =
            ["tune", "logistic-hash", "--data", &data, "--test", &test, "--trials", "4"];
        trials(&printed(
            &[&arguments[..], &["--json", "--output", output.to_str().unwrap()]].concat(),
        ))
    };
    let (expected, about) = search("as-they-are", &own, &test);
    assert_eq!(expected.as_array().unwrap().len(), 4, "{about}");
    assert_eq!((&about["figure"], &about["complete"]), (&"ROC AUC".into(), &true.into()));

    let (held_out, validation) = (set_of("held out"), set_of("validation"));
    assert!(held_out.len() > 500 && validation.len() > 80);
    let every = test.iter().map(|(_, text)| text.clone()).collect();
    let (found, _) = search("turned", &turned(&own, &held_out), &turned(&test, &every));
    assert_eq!(found, expected, "labels of held-out and test rows change nothing");
    let (found, _) = search("validation", &turned(&own, &validation), &test);
    assert_ne!(found, expected, "those of validation rows do");
}

#[test]
fn continues_where_it_was_stopped_and_registers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = write(folder.path(), "own.csv", &rows("own", 2_200));
    let further = write(folder.path(), "more.csv", &rows("more", 200));
    let picture = folder.path().join("trials.svg");
    let tune = |models: &str, more: &[&str]| -> Vec<String> {
        let output = folder.path().join(models).to_str().unwrap().to_owned();
        let arguments = ["tune", "dense", "--data", &data, "--data", &further, "--output", &output];
        let fixed = ["--epochs", "2", "--hidden", "8", "--json"];
        [&arguments[..], &fixed, more].concat().into_iter().map(str::to_owned).collect()
    };
    let run = |models: &str, more: &[&str]| {
        printed(&tune(models, more).iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (expected, about) =
        trials(&run("whole", &["--trials", "4", "--picture", picture.to_str().unwrap()]));
    let drawn = fs::read_to_string(&picture).unwrap();
    assert!(drawn.contains("best: trial ") || drawn.contains("best, and defaults"), "{drawn}");
    assert!(!folder.path().join("whole/dense").exists(), "nothing is registered");
    for trial in expected.as_array().unwrap() {
        let settings = &trial["settings"];
        assert_eq!((&settings["epochs"], &settings["hidden"]), (&2.into(), &8.into()));
    }
    let runs: usize =
        expected.as_array().unwrap().iter().map(|it| it["runs"].as_array().unwrap().len()).sum();
    // Four on a third of the rows; the best of the first three, and the defaults, on all.
    assert!((5..=6).contains(&runs), "{expected}");
    assert_eq!(expected[0]["runs"].as_array().unwrap().len(), 2, "{expected}");

    // Stopped at once, then killed while the second result was written.
    let (none, stopped) = trials(&run("parts", &["--trials", "4", "--minutes", "0.00001"]));
    assert_eq!((none.as_array().unwrap().len(), &stopped["complete"]), (0, &false.into()));
    run("parts", &["--trials", "2", "--resume"]);
    let log = folder.path().join("parts/.runs/tune-dense/trials.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cut = &lines[2][..lines[2].len() / 2];
    fs::write(&log, format!("{}\n{}\n{cut}", lines[0], lines[1])).unwrap();
    let (found, _) = trials(&run("parts", &["--trials", "4", "--resume"]));
    assert_eq!(found, expected);

    let other = tune("parts", &["--resume", "--dropout", "0.1"]);
    let output = monitor(&other.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("written by another training") && said.contains("monitor tune"),
        "{said}"
    );

    // The command trains the model of the best trial.
    let command = about["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(words[..3], ["monitor", "retrain", "dense"], "{command}");
    printed(&words[1..]);
    let version = folder.path().join("whole/dense/1");
    let csv = fs::read_to_string(version.join("training.csv")).unwrap();
    let lowest = (csv.lines().skip(1))
        .map(|line| line.split(',').nth(2).unwrap().parse::<f64>().unwrap())
        .fold(f64::INFINITY, f64::min);
    let best = expected[0]["runs"].as_array().unwrap().last().unwrap()["loss"].as_f64().unwrap();
    // The loss of the trainer also counts the validation rows of the second file.
    assert!((lowest - best).abs() < 0.05, "{lowest} {best}");
    let manifest = fs::read_to_string(version.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let kept = manifest["command"].as_str().unwrap();
    for word in words.iter().filter(|word| word.starts_with("--")) {
        let is_kept = kept.contains(word) || ["--output", "--device"].contains(word);
        assert!(is_kept, "{word} is not in {kept}");
    }
    assert!(kept.contains(" --dropout ") && kept.contains(" --weight-decay "), "{kept}");
}

#[test]
fn refuses_what_means_nothing() {
    let data = "tests/fixtures/sentiment.csv";
    let check = |flags: &[&str], reason: &str| {
        let output = monitor(&[&["tune", "logistic-hash", "--data", data], flags].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{flags:?}: {said}");
    };
    check(&["--epochs", "3"], "--epochs means nothing to logistic-hash");
    check(&["--trials", "0"], "0 is not in 1..=1000");
    check(&["--minutes", "0"], "is not a number of minutes");
    check(&["--picture", "a.png"], "ends in .svg");
    let folder = tempfile::tempdir().unwrap();
    check(&["--resume", "--output", folder.path().to_str().unwrap()], "leave --resume out");
}
