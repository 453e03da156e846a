//! Models on disk: trained, written, opened, damaged; and those that ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use monitor::classifier::{self, Manifest, Model};
use monitor::clock::{Clock, SystemClock};
use monitor::domain::{Label, Score};
use monitor::training::{self, Family, Request};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Trains on the fixture; a few hundred made-up rows are learned in a second.
fn train(family: Family, output: &Path, seed: u64) -> Manifest {
    let test = here("tests/fixtures/manual.csv");
    let data = training::read(&here("tests/fixtures/sentiment.csv"), Some(&test)).unwrap();
    let test = training::read(&test, None).unwrap();
    let request = Request {
        family,
        output: output.to_owned(),
        epochs_max: Some(if family == Family::Logistic { 5 } else { 6 }),
        seed,
        threads: 2,
        promote: true,
        command: "monitor retrain".into(),
    };
    training::train(&request, &data, Some(&test)).unwrap()
}

/// Both families trained on the fixture, once for all tests here.
fn trained() -> &'static Path {
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
    Score::new(model.score(&[text]).unwrap()[0], model.threshold).label
}

#[test]
fn retrains_registers_and_opens() {
    let folder = tempfile::tempdir().unwrap();
    for family in Family::ALL {
        let name = family.as_str();
        let manifest = train(family, folder.path(), 7);
        assert_eq!(manifest.id().to_string(), format!("{name}@1"));
        let accuracy = manifest.metrics["held-out authors"]["accuracy"];
        assert!(accuracy > 0.75, "{name}: {accuracy}");
        assert_eq!(manifest.metrics["manual.csv"]["rows"], 4.0, "neutral rows are not measured");
        let mut model = classifier::open(folder.path(), name, 2).unwrap();
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
fn the_next_version_is_promoted_unless_told_not_to() {
    let folder = tempfile::tempdir().unwrap();
    train(Family::Logistic, folder.path(), 1);
    train(Family::Logistic, folder.path(), 2);
    let id = |name: &str| classifier::open(folder.path(), name, 1).unwrap().id.to_string();
    assert_eq!(id("logistic"), "logistic@2");
    assert_eq!(id("logistic@1"), "logistic@1");
    let old = classifier::read_manifest(folder.path(), "logistic@1").unwrap().id();
    classifier::promote(folder.path(), &old, SystemClock::new().now()).unwrap();
    assert_eq!(id("logistic"), "logistic@1");
}

#[test]
fn same_seed_same_figures() {
    for family in Family::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (train(family, folder.path(), 3), train(family, folder.path(), 3));
        assert_eq!(first.metrics, second.metrics, "{family:?}");
        let weights = |version| {
            let manifest = folder.path().join(family.as_str()).join(version);
            fs::read(manifest.join("weights.safetensors")).unwrap()
        };
        assert!(weights("1") == weights("2"), "{family:?}: same weights");
        let other = train(family, folder.path(), 4);
        assert_ne!(first.metrics, other.metrics, "{family:?}: another seed parts other authors");
    }
}

/// Texts of many lengths, in an order of their own.
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
        (trained().to_owned(), "logistic"),
        (trained().to_owned(), "lstm"),
        (here("models"), "logistic"),
        (here("models"), "lstm"),
    ] {
        let mut model = classifier::open(&folder, name, 2).unwrap();
        let texts = texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = model.score(&texts).unwrap();
        for (text, batched) in texts.iter().zip(together) {
            let alone = model.score(&[text]).unwrap()[0].get();
            assert!((alone - batched.get()).abs() < 1e-5, "{name}: {alone} {batched:?} {text}");
        }
    }
}

#[test]
fn shipped_models_know_love_from_a_lost_bag() {
    for name in ["logistic", "lstm"] {
        let mut model = classifier::open(&here("models"), name, 2).unwrap();
        assert_eq!(label(&mut model, "we love you"), Label::Positive, "{name}");
        assert_eq!(label(&mut model, "worst airline ever, lost my bag"), Label::Negative, "{name}");
    }
}

#[test]
fn any_text_has_a_score() {
    let megabyte = "so sad ".repeat(150_000);
    let one_word = "a".repeat(1 << 20);
    let cases =
        ["", " ", "\0", "a\0b", "😂😡👍🏽", "\u{200D}", "最悪", &megabyte, &one_word, "&", "@", "#"];
    for name in ["logistic", "lstm"] {
        let mut model = classifier::open(&here("models"), name, 2).unwrap();
        for text in cases {
            let shown: String = text.chars().take(10).collect();
            let score = model.score(&[text]).unwrap()[0].get();
            assert!(score.is_finite(), "{name}: {shown:?}");
            assert_eq!(model.score(&[text]).unwrap()[0].get(), score, "{name}: {shown:?}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
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
fn damage_is_named() {
    let check = |name: &str, damage: &dyn Fn(&Path), model: &str, expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        copy(trained(), folder.path());
        damage(folder.path());
        let error = classifier::open(folder.path(), model, 1).unwrap_err().to_string();
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
    for (family, manifest) in [("logistic", "logistic/1"), ("lstm", "lstm/1")] {
        let weights = "weights.safetensors";
        check(
            "truncated weights",
            &|folder| cut(folder.join(manifest).join(weights), 1000),
            family,
            &["weights.safetensors", "changed or cut off", "monitor retrain"],
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
        &["weights.safetensors", "has the shape", "manifest asks for"],
    );
    check(
        "wrong number of buckets",
        &|folder| {
            edit(
                folder.join("logistic/1/manifest.json"),
                "\"buckets_log2\": ",
                "\"buckets_log2\": 9",
            )
        },
        "logistic",
        &["buckets are out of range"],
    );
    check(
        "unknown model",
        &|_| (),
        "bert",
        &["no model \"bert\"", "lstm (= lstm@1)", "logistic@1"],
    );
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
fn too_few_rows_and_bad_files_leave_the_registry_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = training::read(&here("tests/fixtures/sentiment.csv"), None).unwrap();
    data.draw(3, 1);
    let request = Request {
        family: Family::Lstm,
        output: folder.path().join("models"),
        epochs_max: None,
        seed: 1,
        threads: 1,
        promote: true,
        command: String::new(),
    };
    let error = training::train(&request, &data, None).unwrap_err().to_string();
    assert!(error.contains("give more rows"), "{error}");
    assert!(!folder.path().join("models").exists());
}

/// rust-bert is in the build from the first day, through the shim in vendor/tch.
#[test]
fn distilbert_of_rust_bert_has_its_known_size() {
    use rust_bert::distilbert::{DistilBertConfig, DistilBertModelClassifier};
    use tch::{Device, nn};
    let config: DistilBertConfig = serde_json::from_value(serde_json::json!({
        "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
        "hidden_dim": 3072, "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "initializer_range": 0.02, "is_decoder": false,
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1}, "max_position_embeddings": 512,
        "n_heads": 12, "n_layers": 6, "num_labels": 2, "output_attentions": false,
        "output_hidden_states": false, "output_past": true, "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": false, "tie_weights_": true,
        "torchscript": false, "vocab_size": 30522
    }))
    .unwrap();
    let variables = nn::VarStore::new(Device::Cpu);
    let _model = DistilBertModelClassifier::new(variables.root(), &config).unwrap();
    let numbers: usize = variables.variables().values().map(tch::Tensor::numel).sum();
    assert_eq!(numbers, 66_955_010);
}
