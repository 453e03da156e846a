//! `monitor models`, as a user runs it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::tiny_model;

/// The output of the program, and whether it succeeded.
fn monitor(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--set", &format!("model.directory={}", directory.display())])
        // Nobody listens there.
        .args(["--set", "store.url=postgres://monitor@127.0.0.1:1/monitor"])
        .args(["--set", "model.name=m", "models"])
        .args(arguments)
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Three versions: the second is better than the first, the third worse; nothing promoted.
fn three(directory: &Path) {
    for auc in [0.88, 0.89, 0.87] {
        tiny_model(directory, "m", &[], 0.0, &[("held out", 1000, auc)]);
    }
}

#[test]
fn promotes_and_rolls_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    three(directory);
    tiny_model(directory, "m", &[], 0.0, &[("other rows", 7, 0.99)]);
    let check = |command: &str, well: bool, parts: &[&str]| {
        let (ended_well, said) = monitor(directory, &command.split(' ').collect::<Vec<_>>());
        assert_eq!(ended_well, well, "{command}: {said}");
        for part in parts {
            assert!(said.contains(part), "{command}: {part:?} is not in: {said}");
        }
    };
    check("rollback m", false, &["nothing is promoted under the name \"m\""]);
    check(
        "promote m@1",
        true,
        &[
            "m@1 is promoted, the first version of its name",
            "no stream is switched and no stored tweet is scored again: cannot connect to Postgres",
        ],
    );
    check(
        "promote m@2",
        true,
        &["m@2 is promoted in place of m@1: ROC AUC 0.8900, was 0.8800", "held out (1000 rows)"],
    );
    check(
        "promote m@3",
        false,
        &[
            "m@3 is not promoted: it is worse than m@2",
            "0.8700, was 0.8900",
            "(worse)",
            &format!("promote m@3 --force --set model.directory={}", directory.display()),
        ],
    );
    check("promote m@3 --force", true, &["m@3 is promoted"]);
    check(
        "promote m@4",
        false,
        &["it and m@3 have no metrics on the same rows", "--data FILE", "--force"],
    );
    check("promote m@9", false, &["no model \"m@9\"", "m (= m@3), m@1, m@2, m@3, m@4"]);
    check("promote m", false, &["is not a model id: give name@version"]);
    check("promote m@4 --force --data x.csv", false, &["cannot be used with"]);
    check("rollback m", true, &["m opens m@2 again instead of m@3"]);
    check("rollback m", true, &["m opens m@1 again instead of m@2"]);
    check("rollback m", false, &["no version that was promoted before it", "m@1, m@2, m@3, m@4"]);
    check("rm m@1", false, &["m@1 is promoted", "--force"]);
    check("--set model.name=m@2 rm m@2", false, &["model.name of the settings is m@2", "--force"]);
    check("rm m@2", true, &["m@2 is removed"]);
    check("rm m@1 --force", true, &["m@1 is removed"]);
    check("show m", false, &["no model \"m\"", "m@3"]);
}

#[test]
fn evaluates_both_versions_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let words = [("love", -4.0), ("awesome", -4.0), ("hate", 4.0), ("terrible", 4.0)];
    tiny_model(directory, "m", &words, 0.0, &[]);
    let wrong = words.map(|(word, weight)| (word, -weight));
    tiny_model(directory, "m", &wrong, 0.0, &[]);
    tiny_model(directory, "m", &words, 1.0, &[]);
    let promote =
        |id: &str| monitor(directory, &["promote", id, "--data", "tests/fixtures/sentiment.csv"]);
    assert!(promote("m@1").0);
    let (well, said) = promote("m@2");
    assert!(!well && said.contains("worse than m@1") && said.contains("sentiment.csv"), "{said}");
    let own = directory.join("made-up.csv");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sentiment.csv"), &own)
        .unwrap();
    let (well, said) = monitor(directory, &["promote", "m@2", "--data", own.to_str().unwrap()]);
    let note = "m@1, m@2 learned from rows of this file: only rows that were held out";
    assert!(!well && said.contains(note), "{said}");
    let (well, said) = promote("m@3");
    assert!(well && said.contains("in place of m@1"), "another bias changes no ranking: {said}");
    let (well, said) = monitor(directory, &["promote", "m@1", "--data", "nowhere.csv"]);
    assert!(!well && said.contains("cannot read nowhere.csv"), "{said}");
}

#[test]
fn lists_the_versions_of_one_model_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    tiny_model(directory, "m", &[], 0.0, &[("held out", 1000, 0.88), ("test.csv", 50, 0.7)]);
    tiny_model(directory, "m", &[], 0.0, &[("held out", 1000, 0.89)]);
    tiny_model(directory, "m", &[], 0.0, &[("held out", 900, 0.91), ("test.csv", 50, 0.75)]);
    tiny_model(directory, "n", &[], 0.0, &[("held out", 1000, 0.5)]);
    assert!(monitor(directory, &["promote", "m@2"]).0);
    fs::write(directory.join("m/1/manifest.json"), "{").unwrap();

    let (well, said) = monitor(directory, &["list", "m"]);
    assert!(well && !said.contains("n@1"), "{said}");
    let line = |beginning: &str| -> Vec<&str> {
        let line = said.lines().find(|line| line.starts_with(beginning));
        let line = line.unwrap_or_else(|| panic!("{beginning} is not in {said}"));
        line.split_whitespace().rev().take(3).collect()
    };
    assert_eq!(
        said.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["m@1", "m@2", "m@3"]
    );
    assert_eq!(line("promoted"), ["no", "yes", "no"]);
    // The made-up SHA-256 begin with the name.
    assert_eq!(line("ROC AUC on held out, 1000 rows held o"), ["-", "0.8900", "-"], "{said}");
    assert_eq!(line("ROC AUC on held out, 900 rows"), ["0.9100", "-", "-"], "other rows: {said}");
    assert_eq!(line("ROC AUC on test.csv, 50 rows"), ["0.7500", "-", "-"], "{said}");
    assert!(!said.contains("macro recall"), "none has it: {said}");
    assert!(said.lines().last().unwrap().contains("m/1/manifest.json: EOF"), "{said}");

    let list: Value =
        serde_json::from_str(&monitor(directory, &["list", "m", "--json"]).1).unwrap();
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|it| &it["model"]).collect();
    assert_eq!(ids, ["m@1", "m@2", "m@3"]);
    assert_eq!(list[2]["manifest"]["metrics"]["test.csv"]["roc_auc"], 0.75);
    let (well, said) = monitor(directory, &["list", "x"]);
    assert!(!well && said.contains("there is no model \"x\""), "{said}");
}

#[test]
fn lists_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    assert!(monitor(directory, &["list"]).1.contains("there are no models in"));
    assert_eq!(monitor(directory, &["list", "--json"]).1.trim(), "[]");
    three(directory);
    // The format of the first release.
    fs::write(directory.join("promoted.json"), r#"{"m": "m@2"}"#).unwrap();
    fs::write(directory.join("m/3/manifest.json"), "{").unwrap();
    fs::create_dir(directory.join("m/.new-left")).unwrap();

    let (well, said) = monitor(directory, &["list"]);
    assert!(well, "a damaged version does not hide the others: {said}");
    let lines: Vec<Vec<&str>> =
        said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 4, "{said}");
    let row = ["m@2", "promoted", "logistic-hash", "0.5000", "0.8900", "1000"];
    assert_eq!(lines[2][..row.len()], row, "{said}");
    assert_eq!(lines[1][..2], ["m@1", "logistic-hash"], "{said}");
    assert!(lines[2].ends_with(&["2026-01-01", "6.0", "s", "made-up.csv"]), "{said}");
    assert!(said.lines().last().unwrap().contains("m/3/manifest.json: EOF"), "{said}");

    let list: Value = serde_json::from_str(&monitor(directory, &["list", "--json"]).1).unwrap();
    assert_eq!(list[1]["model"], "m@2");
    assert_eq!((&list[0]["promoted"], &list[1]["promoted"]), (&false.into(), &true.into()));
    assert_eq!(list[1]["manifest"]["metrics"]["held out"]["roc_auc"], 0.89);
    assert!(list[1]["bytes"].as_u64().unwrap() > 500_000);
    assert!(list[2]["problem"].as_str().unwrap().contains("manifest.json"));

    let (_, said) = monitor(directory, &["show", "m"]);
    for part in [
        "m@2",
        "in use      yes",
        "parameters  262145, of which 262145 learned",
        "trained     2026-01-01 00:00:00 UTC, 6.0 s",
        "shape       buckets_log2 18, words_max 64",
        "measured    on held out: accuracy 0.5, roc auc 0.89, rows 1000",
        "verified    weights.safetensors",
        "m/2/README.md",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    fs::write(directory.join("m/1/README.md"), "mended").unwrap();
    fs::remove_file(directory.join("m/1/weights.safetensors")).unwrap();
    let shown = monitor(directory, &["show", "m@1", "--json"]).1;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let expected = serde_json::json!({"README.md": "changed", "weights.safetensors": "missing"});
    assert_eq!(shown["files"], expected);
    assert_eq!(shown["manifest"]["name"], "m");
    let (well, said) = monitor(directory, &["show", "m@3"]);
    assert!(!well && said.contains("m/3/manifest.json: EOF"), "{said}");
}
