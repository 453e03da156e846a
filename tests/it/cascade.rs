//! Cascades: which model scores a row, invalid members, and the commands that fit a cascade.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use monitor_core::text::Analyzer;
use monitor_model::{
    self as classifier, Architecture, ArtifactError, CascadeShape, Manifest, Model, ModelId,
    NewArtifact, Weights,
};
use serde_json::Value;

use crate::support::{models_in, tiny_model};

const TRAINING: &str = "tests/fixtures/sentiment.csv";

/// Registers a cascade of `cheap@1` and `costly@1`.
fn cascade(directory: &Path, (low, high): (f32, f32)) -> ModelId {
    let member = |name: &str| classifier::member(directory, name).unwrap();
    let (cheap, costly) = (member("cheap@1"), member("costly@1"));
    let manifest = classifier::read_manifest(directory, "costly@1").unwrap();
    let shape = CascadeShape { cheap, costly, low, high, certainty: None };
    let artifact = NewArtifact {
        manifest: Manifest {
            name: "cascade".into(),
            architecture: Architecture::Cascade(shape),
            ..manifest
        },
        weights: Weights::default(),
        vocabulary: None,
        ngrams: None,
        transformer: None,
        analyzer: Analyzer::tweet(),
        extra: BTreeMap::new(),
    };
    let card = |_: Model, _: &mut Manifest| Ok::<_, ArtifactError>("# A cascade\n".into());
    classifier::register(directory, artifact, tch::Device::Cpu, card).unwrap().id()
}

/// Two models that know different words.
fn models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_model(folder.path(), "cheap", &[("late", 2.0), ("love", -2.0), ("so", 0.1)], 0.0, &[]);
    tiny_model(folder.path(), "costly", &[("so", 3.0), ("love", 1.0)], -1.0, &[]);
    folder
}

#[test]
fn escalates_rows_within_the_band() {
    let folder = models();
    let texts = ["late", "love", "so", "", "so late", "so much love", "😡", "x y z so"];
    let scores = |name: &str| {
        let mut model = classifier::open(&models_in(folder.path()), name).unwrap();
        let together = model.score(&texts).unwrap();
        for (text, score) in texts.iter().zip(&together) {
            assert_eq!(model.score(&[text]).unwrap(), [*score], "{name}: {text}");
        }
        together
    };
    let (cheap, costly) = (scores("cheap@1"), scores("costly@1"));
    let check = |name: &str, band: (f32, f32), expected: &[_]| {
        let id = cascade(folder.path(), band);
        assert_eq!(scores(&id.to_string()), expected, "{name}");
        let version = folder.path().join("cascade").join(id.version.to_string());
        assert!(!version.join("weights.safetensors").exists(), "it has no weights");
    };
    check("none is escalated", (0.5, 0.4), &cheap);
    check("all are", (0.0, 1.0), &costly);
    let some = cheap.iter().zip(&costly).map(|(cheap, costly)| {
        if (0.45..=0.6).contains(&cheap.negative().get()) { *costly } else { *cheap }
    });
    let some: Vec<_> = some.collect();
    assert!(some != cheap && some != costly);
    check("some are", (0.45, 0.6), &some);
}

#[test]
fn needs_exactly_the_models_it_was_fitted_on() {
    let check = |name: &str, damage: &dyn Fn(&Path), expected: &[&str]| {
        let folder = models();
        let id = cascade(folder.path(), (0.2, 0.8)).to_string();
        damage(folder.path());
        let error = classifier::open(&models_in(folder.path()), &id).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    let again = "fit the cascade again (monitor models cascade)";
    check(
        "missing",
        &|models| fs::remove_dir_all(models.join("costly/1")).unwrap(),
        &["cascade@1 needs costly@1", "costly/1/manifest.json is missing", again],
    );
    check(
        "another one",
        &|models| {
            fs::remove_dir_all(models.join("cheap")).unwrap();
            tiny_model(models, "cheap", &[("late", 2.1)], 0.0, &[]);
        },
        &["cascade@1 needs cheap@1", "cheap/1/manifest.json was changed", again],
    );
    check(
        "damaged",
        &|models| fs::write(models.join("cheap/1/weights.safetensors"), "x").unwrap(),
        &["cascade@1 needs cheap@1", "weights.safetensors was changed", again],
    );
}

/// Whether the program succeeded, and its output.
fn monitor(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--set", &format!("model.directory={}", directory.display())])
        .args(arguments)
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn fits_a_cascade_from_two_models() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let check = |command: &str, well: bool, parts: &[&str]| {
        let (ended_well, said) = monitor(directory, &command.split(' ').collect::<Vec<_>>());
        assert_eq!(ended_well, well, "{command}: {said}");
        for part in parts {
            assert!(said.contains(part), "{command}: {part:?} is not in: {said}");
        }
        said
    };
    let train = |family: &str, more: &str| {
        let output = directory.display();
        check(&format!("retrain {family} --data {TRAINING} --output {output}{more}"), true, &[]);
    };
    train("logistic-hash", "");
    train("logistic-tfidf", "");
    train("logistic-tfidf", " --split random --seed 6 --name elsewhere");
    let fit = format!("models cascade --data {TRAINING} --cheap logistic-hash --costly");
    check(&format!("{fit} nobody"), false, &["there is no model \"nobody\""]);
    check(&format!("{fit} logistic-tfidf --accuracy-loss-max 101"), false, &["from 0 to 100"]);
    check(&format!("{fit} elsewhere"), false, &["outside the training sets of both models"]);
    check(
        &format!("{fit} logistic-tfidf"),
        true,
        &["cascade@1: accuracy", "cascade@1 is promoted"],
    );
    check(
        &format!("{fit} logistic-tfidf --accuracy-loss-max 100 --no-promote"),
        true,
        &["cascade@2: accuracy"],
    );
    check("models list", true, &["cascade@1", "promoted", "cascade@2"]);
    check("models show cascade", true, &["family      cascade", "logistic-hash@1"]);
    check("--set model.name=cascade score i-love-it", true, &["TIVE 0."]);
    let needed = ["cascade@1 needs logistic-hash@1", "--force"];
    train("logistic-hash", "");
    check("models promote logistic-hash@2 --force", true, &[]);
    check("models rm logistic-hash@1", false, &needed);
    check("models promote logistic-hash@1 --force", true, &[]);

    let manifest = classifier::read_manifest(directory, "cascade@2").unwrap();
    let figures = &manifest.metrics["held out"];
    assert_eq!(figures["escalated_share"], 0.0, "nobody minds");
    assert_eq!(figures["accuracy"], figures["cheap_accuracy"]);
    assert_eq!(manifest.data.rows_held_out as f64, figures["rows"]);
    let card = fs::read_to_string(directory.join("cascade/2/README.md")).unwrap();
    assert!(card.contains("A cascade: logistic-hash@1 scores every tweet"), "{card}");
    assert!(card.contains("Of these rows 0.0000 were escalated"), "{card}");

    let text = format!("evaluate --model cascade --data {TRAINING}");
    check(&text, true, &["cascade@1 escalates", "x as fast as logistic-tfidf@1 alone"]);
    let json = check(&format!("{text} --json"), true, &[]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["data"]["part"], "held-out");
    assert_eq!(json["data"]["rows"], figures["rows"] as u64);
    let share = json["cascade"]["escalated_share"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&share), "{share}");
    assert!(json["cascade"]["speed_up"].as_f64().unwrap() > 0.0);
    check(
        &format!("compare cascade --data {TRAINING}"),
        true,
        &["cascade@1", "logistic-hash@1", "logistic-tfidf@1", "cascade@1 escalates"],
    );
}
