//! Models on disk: trained, written, opened, damaged; and the shipped models.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Classes, Label, Language};
use monitor_core::text::Analyzer;
use monitor_model::{self as classifier, Manifest, Model};
use monitor_train::data::{self, Dataset, HELD_OUT, SplitBy};
use monitor_train::fit::{Family, FitError, Hyperparameters};
use monitor_train::{TrainingError, TrainingRequest, TrainingRows, report};

use crate::support::models_in;

pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Names of the models in `models/`.
const SHIPPED: [&str; 4] = ["cascade", "logistic-tfidf", "lstm", "transformer"];

fn fixture(name: &str) -> Dataset {
    let mut data = data::read(&here("tests/fixtures").join(name)).unwrap();
    data.leave_out_neutral();
    data
}

pub fn request(family: Family, output: &Path, seed: u64) -> TrainingRequest<'static> {
    TrainingRequest {
        commit: None,
        family,
        classes: Classes::Two,
        languages: vec![Language::ENGLISH],
        name: family.as_str().into(),
        analyzer: Analyzer::tweet(),
        embeddings: Vec::new(),
        frozen: None,
        directions: None,
        hyper: Hyperparameters {
            hidden: Some(32),
            // It begins at random.
            learning_rate: (family == Family::Transformer).then_some(3e-3),
            epochs_max: Some(6),
            ..Hyperparameters::default()
        },
        split: SplitBy::User,
        output: output.to_owned(),
        base: (family == Family::Transformer).then(|| here("tests/fixtures/transformer/bert")),
        mean_with: Vec::new(),
        half: false,
        teachers: Vec::new(),
        device_name: "cpu".into(),
        seed,
        threads: 2,
        device: tch::Device::Cpu,
        promote: true,
        train_share: 1.0,
        resume: false,
        stop: &|| false,
        command: "monitor retrain".into(),
    }
}

pub fn train_as(request: &TrainingRequest<'_>) -> Result<Manifest, TrainingError> {
    let test = here("tests/fixtures/manual.csv");
    let data = data::read_excluding(&here("tests/fixtures/sentiment.csv"), &[test]).unwrap();
    let test = fixture("manual.csv");
    let rows = TrainingRows {
        data: &data,
        more: &[],
        also: &[],
        also_rows: 0,
        tests: std::slice::from_ref(&test),
        calibrate: None,
    };
    monitor_train::train(request, rows).map(|registered| registered.manifest)
}

/// Trains on the fixture; a few hundred made-up rows take a second.
fn train(family: Family, output: &Path, seed: u64) -> Manifest {
    train_as(&request(family, output, seed)).unwrap()
}

/// All families trained on the fixture, once for all tests here.
pub fn trained() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for family in Family::ALL {
            train(family, folder.path(), 7);
        }
        folder
    });
    folder.path()
}

fn label(model: &mut Model, text: &str) -> Label {
    model.label(text).unwrap().label
}

#[test]
fn retrains_registers_and_opens() {
    let folder = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let name = family.as_str();
        let manifest = train(family, folder.path(), 7);
        assert_eq!(manifest.id().to_string(), format!("{name}@1"));
        let accuracy = manifest.metrics[HELD_OUT]["accuracy"];
        assert!(accuracy > 0.75, "{name}: {accuracy}");
        assert_eq!(manifest.metrics["manual.csv"]["rows"], 4.0, "neutral rows are not measured");
        let mut model = classifier::open(&models_in(folder.path()), name).unwrap();
        assert_eq!(label(&mut model, "i love my cat, awesome"), Label::Positive, "{name}");
        assert_eq!(label(&mut model, "i hate work, terrible"), Label::Negative, "{name}");

        let card = fs::read_to_string(folder.path().join(name).join("1/README.md")).unwrap();
        assert!(card.contains(&format!("# {name}@1")), "{card}");
        let text = fs::read_to_string(folder.path().join(name).join("1/manifest.json")).unwrap();
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{text}");
        assert_eq!(classifier::read_manifest(folder.path(), name).unwrap(), manifest);
        let left: Vec<_> = fs::read_dir(folder.path().join(name)).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary folder is left");
    }
}

#[test]
fn promotes_the_next_version_unless_disabled() {
    let folder = tempfile::tempdir().unwrap();
    train(Family::Dense, folder.path(), 1);
    train(Family::Dense, folder.path(), 2);
    let id = |name: &str| classifier::open(&models_in(folder.path()), name).unwrap().id.to_string();
    assert_eq!(id("dense"), "dense@2");
    assert_eq!(id("dense@1"), "dense@1");
    let old = classifier::read_manifest(folder.path(), "dense@1").unwrap().id();
    classifier::promote(folder.path(), &old, SystemClock::new().now()).unwrap();
    assert_eq!(id("dense"), "dense@1");
}

#[test]
fn the_same_seed_gives_the_same_metrics() {
    for family in Family::ALL {
        let folder = tempfile::tempdir().unwrap();
        // Enough for two shuffles of the rows, which must be the same too.
        let train = |seed| {
            let request = request(family, folder.path(), seed);
            let hyper = Hyperparameters { epochs_max: Some(3), ..request.hyper };
            train_as(&TrainingRequest { hyper, ..request }).unwrap()
        };
        let (first, second) = (train(3), train(3));
        assert_eq!(first.metrics, second.metrics, "{family:?}");
        let weights = |version| {
            let folder = folder.path().join(family.as_str()).join(version);
            let name = if family == Family::Transformer { "model" } else { "weights" };
            fs::read(folder.join(name).with_extension("safetensors")).unwrap()
        };
        assert!(weights("1") == weights("2"), "{family:?}: same weights");
        let other = train(4);
        assert_ne!(first.metrics, other.metrics, "{family:?}: another seed splits other authors");
    }
}

#[test]
fn a_teacher_changes_the_scores_of_its_student() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path();
    let teacher = train(Family::LogisticTfidf, output, 7);
    let student = |name: &str, seed, teachers: &[&str]| {
        train_as(&TrainingRequest {
            name: name.into(),
            teachers: teachers.iter().map(|name| (*name).to_owned()).collect(),
            // Long enough to be more certain than the teacher about easy rows.
            hyper: Hyperparameters { epochs_max: Some(60), hidden: Some(32), ..Default::default() },
            ..request(Family::Dense, output, seed)
        })
    };
    let taught = student("taught", 7, &["logistic-tfidf"]).unwrap();
    student("alone", 7, &[]).unwrap();
    let rows = fixture("sentiment.csv").rows;
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let scores = |name: &str| -> Vec<f32> {
        let mut model = classifier::open(&models_in(output), name).unwrap();
        model.score(&texts).unwrap().into_iter().map(|score| score.negative().get()).collect()
    };
    let teachers = scores("logistic-tfidf");
    let distance = |name: &str| -> f32 {
        scores(name).iter().zip(&teachers).map(|(a, b)| (a - b).abs()).sum()
    };
    let (near, far) = (distance("taught"), distance("alone"));
    assert!(near < 0.9 * far, "{near} from the teacher when taught, {far} when not");

    let files = |manifest: &Manifest| -> Vec<String> {
        manifest.data.teachers.iter().map(|source| source.file.clone()).collect()
    };
    assert_eq!(files(&taught), ["logistic-tfidf@1"]);
    let by_two = student("by-two", 7, &["logistic-tfidf", "alone"]).unwrap();
    assert_eq!(files(&by_two), ["logistic-tfidf@1", "alone@1"]);
    let others = scores("alone");
    let from = |of: &[f32], name: &str| -> f32 {
        scores(name).iter().zip(of).map(|(a, b)| (a - b).abs()).sum()
    };
    assert!(from(&others, "by-two") < from(&others, "taught"), "the second one teaches too");
    let card = fs::read_to_string(output.join("taught/1/README.md")).unwrap();
    assert!(card.contains("Taught by logistic-tfidf@1 (its scores make up"), "{card}");
    assert_eq!(teacher.rows_sha256[HELD_OUT], taught.rows_sha256[HELD_OUT]);

    let error = student("taught", 8, &["logistic-tfidf"]).unwrap_err().to_string();
    assert!(error.contains("logistic-tfidf@1 cannot teach here: it held out other"), "{error}");
    let error = student("taught", 7, &["nobody"]).unwrap_err().to_string();
    assert!(error.contains("there is no model \"nobody\""), "{error}");
}

#[test]
fn a_resumed_training_equals_an_uninterrupted_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = train(Family::Lstm, whole.path(), 5);
    let mut stops = 0;
    let found = loop {
        assert!(stops < 50, "it never ends");
        let looks = std::cell::Cell::new(0);
        let stop = || {
            looks.set(looks.get() + 1);
            looks.get() > 20 // in the middle of an epoch of 32 steps or more
        };
        let request = TrainingRequest {
            stop: &stop,
            resume: stops > 0,
            ..request(Family::Lstm, parts.path(), 5)
        };
        match train_as(&request) {
            Ok(manifest) => break manifest,
            Err(TrainingError::Fit(FitError::Stopped)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(!parts.path().join("lstm").exists(), "nothing is registered yet");
        stops += 1;
    };
    assert!(stops > 5, "{stops}");
    assert_eq!(found.metrics, expected.metrics);
    let weights = |folder: &Path| fs::read(folder.join("lstm/1/weights.safetensors")).unwrap();
    assert!(weights(parts.path()) == weights(whole.path()), "same weights");
    assert!(!parts.path().join(".runs").exists(), "the checkpoint is gone");
}

#[test]
fn a_checkpoint_is_resumed_only_by_the_same_training() {
    let folder = tempfile::tempdir().unwrap();
    let resume =
        |seed| TrainingRequest { resume: true, ..request(Family::Lstm, folder.path(), seed) };
    let check = |name: &str, request: &TrainingRequest<'_>, expected: &[&str]| {
        let error = train_as(request).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    check("none", &resume(1), &[".runs/lstm", "leave --resume out"]);
    let steps = std::cell::Cell::new(0);
    let stop = || {
        steps.set(steps.get() + 1);
        steps.get() > 3
    };
    check(
        "stopped",
        &TrainingRequest { stop: &stop, ..request(Family::Lstm, folder.path(), 1) },
        &["stopped", "the same command with --resume"],
    );
    let other = TrainingRequest { command: "monitor retrain --seed 2".into(), ..resume(1) };
    check("another command", &other, &["another training", "`monitor retrain`"]);
    let path = folder.path().join(".runs/lstm/checkpoint");
    let bytes = fs::read(&path).unwrap();
    for end in [0, 5, 40, bytes.len() - 1] {
        fs::write(&path, &bytes[..end]).unwrap();
        check("cut off", &resume(1), &["checkpoint", "start over"]);
    }
    fs::write(&path, &bytes).unwrap();
    train_as(&resume(1)).unwrap();
}

#[test]
fn calibrates_on_human_labelled_rows() {
    let folder = tempfile::tempdir().unwrap();
    let data = fixture("sentiment.csv");
    // Training rows must not calibrate the model.
    let mut human = fixture("sentiment.csv");
    human.rows.iter_mut().for_each(|row| row.text.push_str(", said a person"));
    human.rows.extend(data.rows.iter().take(50).cloned());
    let request = request(Family::Dense, folder.path(), 3);
    let rows = TrainingRows {
        data: &data,
        more: &[],
        also: &[],
        also_rows: 0,
        tests: &[],
        calibrate: Some(&human),
    };
    let manifest = monitor_train::train(&request, rows).unwrap().manifest;
    let figures = |when: &str| &manifest.metrics[&format!("sentiment.csv, {when} calibration")];
    let (before, after) = (figures("before"), figures("after"));
    assert_eq!(before["rows"], after["rows"]);
    let fitted = &manifest.data.calibrate.as_ref().unwrap().about;
    let others = human.rows.len() as f64 - 50.0;
    assert_eq!(*fitted, format!("{} rows fitted on", others - before["rows"]));
    assert_eq!(before["roc_auc"], after["roc_auc"], "the order of scores stays");
    assert_ne!(manifest.calibration.temperature, 1.0);
    let before = &manifest.metrics[&format!("{HELD_OUT}, before calibration")];
    assert_eq!(before["roc_auc"], manifest.metrics[HELD_OUT]["roc_auc"]);

    // The daemon uses the calibrated scores.
    let mut served = classifier::open(&models_in(folder.path()), "dense").unwrap();
    assert_eq!(served.thresholds.negative.get(), manifest.calibration.threshold);
    let held_out = data::split(&data.rows, SplitBy::User, 3).held_out;
    let measured = report::measure(&mut served, &held_out).unwrap();
    assert_eq!(measured, manifest.metrics[HELD_OUT]);

    let mut few = human.clone();
    few.rows.truncate(30);
    let rows = TrainingRows { calibrate: Some(&few), ..rows };
    let error = monitor_train::train(&request, rows).unwrap_err().to_string();
    assert!(error.contains("sentiment.csv: 30 of 30 rows are not in the training data"), "{error}");
    assert!(!folder.path().join("dense/2").exists());
}

#[test]
fn trains_the_form_of_the_study_on_word_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = folder.path().join("vectors.txt");
    fs::write(&vectors, "love 1 0 0.5 0.25\nhate -1 0 0.5 0.25\nwork 0 1 0.5 0.25\n").unwrap();
    let with = TrainingRequest {
        name: "lstm-tiny".into(),
        embeddings: vec![vectors],
        frozen: Some(true),
        ..request(Family::Lstm, folder.path(), 3)
    };
    let manifest = train_as(&with).unwrap();
    assert_eq!(manifest.id().to_string(), "lstm-tiny@1");
    assert!(manifest.trainable < manifest.parameters, "{manifest:?}");
    assert!(manifest.data.embeddings[0].about.starts_with("4 wide"), "{manifest:?}");
    let mut model = classifier::open(&models_in(folder.path()), "lstm-tiny").unwrap();
    assert_eq!(label(&mut model, "i love my cat, awesome"), Label::Positive);
}

/// Texts of many lengths, in mixed order.
fn texts() -> Vec<String> {
    let words = ["we", "love", "you", "worst", "flight", "ever", "@united", "lost", "bag", "!!"];
    let length = |n: usize| (n * 17) % 60;
    (0..200)
        .map(|n| (0..length(n)).map(|k| words[(n + k * 3) % words.len()]).collect::<Vec<_>>())
        .map(|words| words.join(" "))
        .collect()
}

#[test]
fn a_batch_scores_like_single_texts() {
    for (folder, name) in [
        (trained().to_owned(), "logistic-hash"),
        (trained().to_owned(), "logistic-tfidf"),
        (trained().to_owned(), "dense"),
        (trained().to_owned(), "lstm"),
        (trained().to_owned(), "transformer"),
        (here("models"), "lstm"),
    ] {
        let mut model = classifier::open(&models_in(&folder), name).unwrap();
        let texts = texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = model.score(&texts).unwrap();
        for (text, batched) in texts.iter().zip(together) {
            let alone = model.score(&[text]).unwrap()[0].negative().get();
            assert!(
                (alone - batched.negative().get()).abs() < 1e-5,
                "{name}: {alone} {batched:?} {text}"
            );
        }
    }
}

#[test]
fn shipped_models_tell_praise_from_complaint() {
    for name in SHIPPED {
        let mut model = classifier::open(&models_in(&here("models")), name).unwrap();
        assert_eq!(label(&mut model, "we love you"), Label::Positive, "{name}");
        assert_eq!(label(&mut model, "worst airline ever, lost my bag"), Label::Negative, "{name}");
    }
}

#[test]
fn scores_any_text() {
    let megabyte = "so sad ".repeat(150_000);
    let one_word = "a".repeat(1 << 20);
    let cases =
        ["", " ", "\0", "a\0b", "😂😡👍🏽", "\u{200D}", "最悪", &megabyte, &one_word, "&", "@", "#"];
    for name in SHIPPED {
        let mut model = classifier::open(&models_in(&here("models")), name).unwrap();
        for text in cases {
            let shown: String = text.chars().take(10).collect();
            let score = model.score(&[text]).unwrap()[0].negative().get();
            assert!(score.is_finite(), "{name}: {shown:?}");
            assert_eq!(
                model.score(&[text]).unwrap()[0].negative().get(),
                score,
                "{name}: {shown:?}"
            );
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn reports_damaged_files() {
    let check = |name: &str, damage: &dyn Fn(&Path), model: &str, expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        copy(trained(), folder.path());
        damage(folder.path());
        let error = classifier::open(&models_in(folder.path()), model).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    let cut = |path: PathBuf, bytes: u64| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    let edit = |path: PathBuf, from: &str, to: &str| {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    for (family, manifest) in [("dense", "dense/1"), ("lstm", "lstm/1")] {
        let weights = "weights.safetensors";
        check(
            "truncated weights",
            &|folder| cut(folder.join(manifest).join(weights), 1000),
            family,
            &["weights.safetensors", "changed or truncated", "monitor retrain"],
        );
        check(
            "missing weights",
            &|folder| fs::remove_file(folder.join(manifest).join(weights)).unwrap(),
            family,
            &["weights.safetensors is missing", "monitor retrain"],
        );
        check(
            "missing manifest",
            &|folder| fs::remove_file(folder.join(manifest).join("manifest.json")).unwrap(),
            family,
            &["manifest.json is missing"],
        );
        check(
            "manifest of another format",
            &|folder| fs::write(folder.join(manifest).join("manifest.json"), "{}").unwrap(),
            family,
            &["manifest.json", "missing field"],
        );
        check(
            "unknown preset",
            &|folder| edit(folder.join(manifest).join("manifest.json"), "\"tweet\"", "\"toot\""),
            family,
            &["manifest.json", "no text preset \"toot\""],
        );
    }
    check(
        "vocabulary changed",
        &|folder| edit(folder.join("lstm/1/vocabulary.txt"), "\nthe\n", "\nthy\n"),
        "lstm",
        &["vocabulary.txt was changed", "SHA-256"],
    );
    check(
        "wrong shape",
        &|folder| edit(folder.join("lstm/1/manifest.json"), "\"hidden\": ", "\"hidden\": 1"),
        "lstm",
        &["weights.safetensors", "7 misshapen", "output.weight is [2, 64] and should be [2, 264]"],
    );
    check("unknown model", &|_| (), "bert", &["no model \"bert\"", "lstm (= lstm@1)", "dense@1"]);
    check("unknown version", &|_| (), "lstm@9", &["no model \"lstm@9\"", "lstm@1"]);
    check("a path", &|_| (), "../models/lstm@1", &["no model"]);
    check(
        "no models",
        &|folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        },
        "lstm",
        &["there are none", "monitor retrain"],
    );
}

#[test]
fn too_few_rows_and_bad_files_leave_the_registry_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data::read(&here("tests/fixtures/sentiment.csv")).unwrap();
    data.draw(3, 1);
    let request = request(Family::Lstm, &folder.path().join("models"), 1);
    let error = monitor_train::train(
        &request,
        TrainingRows {
            data: &data,
            more: &[],
            also: &[],
            also_rows: 0,
            tests: &[],
            calibrate: None,
        },
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("give more rows"), "{error}");
    assert_eq!(classifier::registered(&folder.path().join("models")).unwrap(), []);
}
