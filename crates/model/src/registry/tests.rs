use std::thread;

use serde_json::json;

use super::*;
use crate::Weights;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::text::Analyzer;

/// A tiny model, like the output of a training; `figures` are ROC AUC by data set.
fn artifact(name: &str, figures: &[(&str, f64)]) -> NewArtifact {
    let metrics: BTreeMap<_, _> =
        figures.iter().map(|(data, auc)| (*data, json!({"rows": 1000, "roc_auc": auc}))).collect();
    let rows_sha256: BTreeMap<_, _> = figures.iter().map(|(data, _)| (*data, data)).collect();
    let manifest = serde_json::from_value(json!({
        "name": name,
        "version": 1,
        "family": "logistic-hash",
        "architecture": {"buckets_log2": 4, "words_max": 8},
        "preset": "tweet",
        "calibration": {"temperature": 1.0, "threshold": 0.5},
        "parameters": 17,
        "trainable": 17,
        "seed": 1,
        "command": "",
        "data": {
            "file": "", "sha256": "", "rows_train": 1, "rows_validation": 1, "rows_held_out": 1,
            "split": "user"
        },
        "libraries": {},
        "machine": "",
        "trained_at": "2026-01-01T00:00:00Z",
        "minutes": 0.1,
        "metrics": metrics,
        "rows_sha256": rows_sha256,
        "files": {},
    }));
    let mut weights = Weights::default();
    weights.insert("weight", &[16], vec![0.0; 16]);
    weights.insert("bias", &[1], vec![0.0]);
    NewArtifact {
        manifest: manifest.unwrap(),
        weights,
        vocabulary: None,
        transformer: None,
        ngrams: None,
        analyzer: Analyzer::tweet(),
        extra: BTreeMap::new(),
    }
}

fn add(directory: &Path, name: &str, figures: &[(&str, f64)]) -> ModelId {
    let card = |_: Model, _: &mut Manifest| Ok::<_, ArtifactError>(String::new());
    register(directory, artifact(name, figures), Device::Cpu, card).unwrap().id()
}

fn now() -> DateTime<Utc> {
    SystemClock::new().now()
}

fn id(text: &str) -> ModelId {
    text.parse().unwrap()
}

/// The version that `name` opens, or `-`.
fn opens(directory: &Path, name: &str) -> String {
    resolve(directory, name).map_or("-".into(), |id| id.to_string())
}

fn by_manifest(current: &Manifest, new: &Manifest) -> Result<Vec<Comparison>, ArtifactError> {
    Ok(comparable(current, new))
}

#[test]
fn a_worse_model_is_not_promoted() {
    let check = |name: &str, old: &[(&str, f64)], new: &[(&str, f64)], promoted: bool| {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (add(folder.path(), "m", old), add(folder.path(), "m", new));
        let wish = |id| promote_checked(folder.path(), id, now(), by_manifest).unwrap();
        assert_eq!(wish(&first), Promotion::First, "{name}");
        let outcome = wish(&second);
        let words = outcome.words(&second, folder.path());
        assert_eq!(outcome.is_promoted(), promoted, "{name}: {words}");
        assert_eq!(opens(folder.path(), "m"), if promoted { "m@2" } else { "m@1" }, "{name}");
        assert_eq!(words.contains("--force"), !promoted, "{name}: {words}");
        let set = format!(" --set model.directory={}", folder.path().display());
        assert_eq!(words.contains(&set), !promoted, "{name}: {words}");
        assert!(!outcome.words(&second, Path::new("models")).contains("--set"), "{name}");
        assert_eq!(wish(&id(&opens(folder.path(), "m"))), Promotion::Already, "{name}");
        promote(folder.path(), &second, now()).unwrap();
        assert_eq!(opens(folder.path(), "m"), "m@2", "{name}: forced");
    };
    check("better", &[("a", 0.88)], &[("a", 0.89)], true);
    check("same", &[("a", 0.88)], &[("a", 0.88)], true);
    check("worse by as much as it may", &[("a", 0.8805)], &[("a", 0.88)], true);
    check("worse by more", &[("a", 0.8806)], &[("a", 0.88)], false);
    check(
        "better on one, worse on the other",
        &[("a", 0.88), ("b", 0.9)],
        &[("a", 0.95), ("b", 0.89)],
        false,
    );
    check(
        "only the shared data set counts",
        &[("a", 0.88), ("b", 0.9)],
        &[("a", 0.88), ("c", 0.1)],
        true,
    );
    check("nothing shared", &[("a", 0.88)], &[("b", 0.99)], false);
    check("nothing measured", &[], &[("a", 0.99)], false);
}

#[test]
fn metrics_on_other_rows_are_not_compared() {
    let mut new = artifact("m", &[("a", 0.9), ("b", 0.9)]).manifest;
    let current = artifact("m", &[("a", 0.8), ("b", 0.8)]).manifest;
    new.rows_sha256.insert("a".into(), "of other rows".into());
    let found = comparable(&current, &new);
    assert_eq!(found, [Comparison { data: "b".into(), rows: 1000, current: 0.8, new: 0.9 }]);
    new.metrics.get_mut("b").unwrap().remove("roc_auc");
    assert_eq!(comparable(&current, &new), []);
    let twice = artifact("m", &[("a", 0.9), ("a, before calibration", 0.9)]).manifest;
    let found = comparable(&twice, &twice).into_iter().map(|c| c.data).collect::<Vec<_>>();
    assert_eq!(found, ["a"], "once each");
}

#[test]
fn a_version_without_a_manifest_is_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let [first, second] = [0.8, 0.9].map(|auc| add(directory, "m", &[("a", auc)]));
    promote(directory, &first, now()).unwrap();
    fs::write(directory.join("m/1/manifest.json"), "{").unwrap();
    let outcome = promote_checked(directory, &second, now(), by_manifest).unwrap();
    assert_eq!(outcome, Promotion::Unreadable { current: first });
    let words = outcome.words(&second, directory);
    assert!(words.contains("--force") && !words.contains("--data"), "{words}");
    fs::remove_dir_all(directory.join("m/1")).unwrap();
    let error = resolve(directory, "m").unwrap_err().to_string();
    assert!(error.contains("\"m\" opens m@1, which does not exist: promote another"), "{error}");
    let error = resolve(directory, "n").unwrap_err().to_string();
    assert!(error.ends_with("there are m@2"), "{error}");
    promote(directory, &second, now()).unwrap();
    assert_eq!(opens(directory, "m"), "m@2", "forced");
}

#[test]
fn rollback_goes_back_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    for _ in 0..4 {
        add(directory, "m", &[]);
    }
    // The older form of the file.
    fs::write(directory.join("promoted.json"), r#"{"m": "m@1"}"#).unwrap();
    for version in ["m@3", "m@2", "m@4"] {
        promote(directory, &id(version), now()).unwrap();
    }
    let check = |step: &str, expected: Result<(&str, &str), &str>| {
        let found = rollback(directory, "m", now())
            .map(|(from, to)| (from.to_string(), to.to_string()))
            .map_err(|error| error.to_string());
        match expected {
            Ok((from, to)) => assert_eq!(found, Ok((from.into(), to.into())), "{step}"),
            Err(part) => {
                assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{step}: {found:?}")
            }
        }
    };
    check("one back", Ok(("m@4", "m@2")));
    remove(directory, &id("m@3"), false, now()).unwrap();
    check("over one that was removed, to the plain entry", Ok(("m@2", "m@1")));
    check("nothing before", Err("promote one of: m@1, m@2, m@4"));
    promote(directory, &id("m@4"), now()).unwrap();
    check("a withdrawn version stays withdrawn", Ok(("m@4", "m@1")));
    let entries: Vec<_> = (history(directory, "m").unwrap().into_iter())
        .map(|entry| (entry.version, entry.at.is_some(), entry.withdrawn.is_some()))
        .collect();
    let expected =
        [(1, false, false), (3, true, true), (2, true, true), (4, true, true), (4, true, true)];
    assert_eq!(entries, expected);
    let error = rollback(directory, "n", now()).unwrap_err().to_string();
    assert!(error.contains("nothing is promoted under the name \"n\""), "{error}");
}

#[test]
fn a_damaged_version_is_not_promoted() {
    let check = |name: &str, damage: &dyn Fn(&Path), expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        for _ in 0..2 {
            add(directory, "m", &[("a", 0.9)]);
        }
        promote(directory, &id("m@1"), now()).unwrap();
        damage(directory);
        let error = promote(directory, &id("m@2"), now()).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        let error = promote_checked(directory, &id("m@2"), now(), by_manifest);
        assert!(error.unwrap_err().to_string().contains(expected), "{name}");
    };
    let write = |path: &'static str, text: &'static str| {
        move |directory: &Path| fs::write(directory.join(path), text).unwrap()
    };
    check("weights", &write("m/2/weights.safetensors", "no"), "was changed or truncated");
    check(
        "promoted already",
        &|at| {
            promote(at, &id("m@2"), now()).unwrap();
            fs::write(at.join("m/2/weights.safetensors"), "no").unwrap();
        },
        "was changed or truncated",
    );
    check("manifest", &write("m/2/manifest.json", "{"), "manifest.json: EOF");
    check("gone", &|at| fs::remove_dir_all(at.join("m/2")).unwrap(), "no model \"m@2\"");
    check(
        "renamed",
        &|at| {
            fs::remove_dir_all(at.join("m/2")).unwrap();
            fs::rename(at.join("m/1"), at.join("m/2")).unwrap();
            add(at, "other", &[("a", 0.9)]);
            fs::rename(at.join("other/1"), at.join("m/1")).unwrap();
        },
        "its manifest is that of m@1",
    );
    check(
        "promoted.json",
        &write("promoted.json", "{\"m\": 1}"),
        "promoted.json: each name should have",
    );
    check("another's", &write("promoted.json", r#"{"m": "n@1"}"#), "\"m\" cannot open n@1");
    check("a path", &write("promoted.json", r#"{"../m": []}"#), "\"../m\" is not a model name");
}

#[test]
fn removes_versions() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    for _ in 0..3 {
        add(directory, "m", &[]);
    }
    for version in ["m@1", "m@3"] {
        promote(directory, &id(version), now()).unwrap();
    }
    let error = remove(directory, &id("m@3"), false, now()).unwrap_err().to_string();
    assert!(error.contains("m@3 is promoted") && error.contains("--force"), "{error}");
    remove(directory, &id("m@2"), false, now()).unwrap();
    let error = remove(directory, &id("m@2"), false, now()).unwrap_err().to_string();
    assert!(error.contains("no model \"m@2\""), "{error}");
    remove(directory, &id("m@3"), true, now()).unwrap();
    assert_eq!(opens(directory, "m"), "-", "not m@1, which nobody asked for");
    assert_eq!(add(directory, "m", &[]), id("m@4"), "a promoted number is not given again");
    for version in ["m@1", "m@4"] {
        remove(directory, &id(version), false, now()).unwrap();
    }
    assert!(!directory.join("m").exists(), "nothing is left of the name");
    assert_eq!(registered(directory).unwrap(), []);
}

#[test]
fn concurrent_writers_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let new = add(directory, "m", &[]);
                promote(directory, &new, now()).unwrap();
                promote(directory, &add(directory, &format!("n-{}", new.version), &[]), now())
                    .unwrap();
            });
        }
    });
    let versions: Vec<u32> = (registered(directory).unwrap().into_iter())
        .filter_map(|id| (id.name == "m").then_some(id.version))
        .collect();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    assert_eq!(promoted(directory).unwrap().len(), 9, "no promotion is lost");
    assert_eq!(history(directory, "m").unwrap().len(), 8);
}

#[test]
fn leftover_folders_are_removed_and_failures_leave_none() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    add(directory, "m", &[]);
    for left in [".new-abc", ".gone-7"] {
        fs::create_dir(directory.join("m").join(left)).unwrap();
        fs::write(directory.join("m").join(left).join("weights.safetensors"), "half").unwrap();
    }
    assert_eq!(registered(directory).unwrap(), [id("m@1")], "they are not seen");
    let fails = |_: Model, _: &mut Manifest| Err(ArtifactError::Name("failed".into()));
    register(directory, artifact("m", &[]), Device::Cpu, fails).unwrap_err();
    let left: Vec<_> =
        fs::read_dir(directory.join("m")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["1"]);
    for name in ["", "M", "a/b", "..", "a@1", "é", &"x".repeat(101)] {
        let card = |_: Model, _: &mut Manifest| Ok::<_, ArtifactError>(String::new());
        let error =
            register(directory, artifact(name, &[]), Device::Cpu, card).unwrap_err().to_string();
        assert!(error.contains("is not a model name"), "{name}: {error}");
    }
}

#[test]
fn ready_fails_before_a_training_that_cannot_be_registered() {
    let check = |case: &str, prepare: &dyn Fn(&Path), name: &str, expected: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("models");
        prepare(&directory);
        let found = ready(&directory, name).map_err(|error| error.to_string());
        match expected {
            None => assert_eq!(found, Ok(()), "{case}"),
            Some(part) => {
                assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{case}: {found:?}")
            }
        }
    };
    check("no folder yet", &|_| (), "m", None);
    check("a version is there", &|at| drop(add(at, "m", &[])), "m", None);
    check("a file", &|at| fs::write(at, "").unwrap(), "m", Some("models: "));
    check("no name", &|_| (), "../m", Some("is not a model name"));
    let damage = |at: &Path| {
        fs::create_dir(at).unwrap();
        fs::write(at.join("promoted.json"), "{").unwrap();
    };
    check("promoted.json", &damage, "m", Some("promoted.json: EOF"));
}

#[test]
fn files_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    add(folder.path(), "m", &[]);
    let manifest = read_manifest(folder.path(), "m@1").unwrap();
    let folder = folder.path().join("m/1");
    let states = || verify(&folder, &manifest).unwrap().into_values().collect::<Vec<_>>();
    assert_eq!(states(), [FileState::Verified, FileState::Verified]);
    fs::write(folder.join("README.md"), "mended").unwrap();
    fs::remove_file(folder.join("weights.safetensors")).unwrap();
    assert_eq!(states(), [FileState::Changed, FileState::Missing]);
}
