//! BERT and DistilBERT from folders in Hugging Face's layout: the ids of Python's transformers,
//! invalid folders, training and scoring.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;

use monitor_core::domain::{Classes, Precision};
use monitor_core::hash::sha256_hex;
use monitor_model::{
    self as classifier, ArtifactError, Encoding, GENERATOR, Network, OpenOptions, Pretrained,
    StoredPrecision, Weights, WordPieces,
};
use monitor_train::data;
use monitor_train::fit::{Family, FitError, Hyperparameters};
use monitor_train::{TrainingError, TrainingRequest};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::Device;

use crate::models::{copy, here, request, train_as, trained};
use crate::support::{models_in, shared};

/// Positions of the models in the fixture.
const TOKENS_MAX: usize = 48;
/// More than any text of the fixture has.
const UNCUT: usize = 1 << 20;

fn fixture(name: &str) -> PathBuf {
    here("tests/fixtures/transformer").join(name)
}

// --- Token ids -----------------------------------------------------------------------------

fn pieces(folder: &Path, tokens_max: usize) -> WordPieces {
    WordPieces::parse(&fs::read(folder.join("tokenizer.json")).unwrap(), tokens_max).unwrap()
}

/// A tokenizer from a vocabulary file, case-sensitive.
fn cased() -> WordPieces {
    let words = fs::read_to_string(fixture("cased/vocab.txt")).unwrap();
    WordPieces::of_vocabulary(&words, false, UNCUT).unwrap()
}

/// A made-up text, and its ids in Python's transformers.
#[derive(serde::Deserialize)]
struct Hard {
    text: String,
    small: Vec<u32>,
    cut: Vec<u32>,
    cased: Vec<u32>,
    full: Vec<u32>,
}

fn check_hard_texts(name: &str, pieces: WordPieces, expected: impl Fn(&Hard) -> &[u32]) {
    let texts: Vec<Hard> =
        serde_json::from_slice(&fs::read(fixture("hard.json")).unwrap()).unwrap();
    assert!(texts.len() > 150);
    for row in &texts {
        let Encoding { ids, truncated, .. } = pieces.pieces(&row.text);
        assert_eq!(ids, expected(row), "{name}: {:?}", row.text);
        assert_eq!(truncated, name == "cut" && row.small.len() > 16, "{name}: {:?}", row.text);
    }
}

#[test]
fn ids_of_hard_texts_are_those_of_transformers() {
    for folder in ["bert", "distilbert"] {
        check_hard_texts("whole", pieces(&fixture(folder), UNCUT), |row| &row.small);
        check_hard_texts("cut", pieces(&fixture(folder), 16), |row| &row.cut);
    }
    check_hard_texts("a vocabulary, case kept", cased(), |row| &row.cased);
}

#[test]
#[ignore = "needs ../shared"]
fn ids_of_hard_texts_are_those_of_transformers_with_the_whole_vocabulary() {
    let pieces = pieces(&shared("models/all-MiniLM-L6-v2"), UNCUT);
    check_hard_texts("the whole vocabulary", pieces, |row| &row.full);
}

fn short_hash(bytes: &[u8]) -> String {
    sha256_hex(bytes)[..8].to_owned()
}

/// Compares the ids of the tweets in a file with `column` of the fixture: 1 is the small
/// vocabulary, 2 the whole one.
fn check_real_tweets(file: &Path, pieces: &WordPieces, column: usize, rows_min: usize) {
    let table = fs::read_to_string(fixture("ids.tsv")).unwrap();
    let expected: HashMap<&str, &str> = (table.lines())
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|cells| (cells[0], cells[column]))
        .collect();
    let mut seen = 0;
    for row in data::read(file).unwrap().rows {
        let Some(expected) = expected.get(&*short_hash(row.text.as_bytes())) else { continue };
        seen += 1;
        let Encoding { ids, truncated, .. } = pieces.pieces(&row.text);
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(short_hash(&bytes), *expected, "{:?} is {ids:?}", row.text);
        assert!(!truncated, "{:?}", row.text);
    }
    assert!(seen >= rows_min, "{}: {seen} rows", file.display());
}

#[test]
fn ids_of_real_tweets_are_those_of_transformers() {
    let pieces = pieces(&fixture("bert"), UNCUT);
    check_real_tweets(&here("tests/fixtures/airline-week.csv.xz"), &pieces, 1, 2_300);
}

#[test]
#[ignore = "needs ../shared"]
fn ids_of_more_real_tweets_are_those_of_transformers() {
    let (airline, sentiment140) = (
        here("tests/fixtures/airline-week.csv.xz"),
        shared("sentiment140/training.249010.processed.noemoticon.csv.xz"),
    );
    let whole = pieces(&shared("models/all-MiniLM-L6-v2"), UNCUT);
    check_real_tweets(&airline, &whole, 2, 2_300);
    check_real_tweets(&sentiment140, &whole, 2, 1_500);
    check_real_tweets(&sentiment140, &pieces(&fixture("bert"), UNCUT), 1, 1_500);
}

// --- Invalid folders -----------------------------------------------------------------------

/// A copy of the fixture's BERT, changed.
fn changed(change: &dyn Fn(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("bert"), folder.path());
    change(folder.path());
    folder
}

/// Changes the arrays of the folder.
fn with_arrays(folder: &Path, change: impl FnOnce(Weights) -> Weights) {
    let path = folder.join("model.safetensors");
    let weights = change(Weights::parse(&fs::read(&path).unwrap()).unwrap());
    fs::write(path, weights.to_bytes(StoredPrecision::Single)).unwrap();
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Changes a JSON file.
fn edit_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// The first step of a training. Draws random numbers, which must not change a training in
/// another test.
fn begin(folder: &Path) -> Result<Weights, ArtifactError> {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    begin_alone(folder)
}

/// [`begin`] for a caller that holds the lock.
fn begin_alone(folder: &Path) -> Result<Weights, ArtifactError> {
    let base = Pretrained::read(folder)?;
    base.tokenizer(TOKENS_MAX)?;
    Ok(base.network(Classes::Two, TOKENS_MAX, Device::Cpu)?.weights())
}

/// A fault of a folder: its name, the change that causes it, and parts of the message, first
/// the file.
type Fault = (&'static str, fn(&Path), &'static [&'static str]);
const FAULTS: &[Fault] = &[
    (
        "arrays of all sorts",
        |folder| {
            with_arrays(folder, |weights| {
                let mut weights = weights.rename(|name| {
                    let is_gone = name == "bert.encoder.layer.1.output.dense.weight";
                    (!is_gone).then(|| name.to_owned())
                });
                let turned = "bert.encoder.layer.0.intermediate.dense.weight";
                let values = weights.take(turned, &[64, 32]).unwrap();
                weights.insert(turned, &[32, 64], values);
                weights.insert("bert.adapter.weight", &[2], vec![1.0, 2.0]);
                weights
            });
        },
        &[
            "model.safetensors",
            "1 missing: bert.encoder.layer.1.output.dense.weight",
            "1 unexpected: bert.adapter.weight",
            "1 misshapen: bert.encoder.layer.0.intermediate.dense.weight is [32, 64] and should \
             be [64, 32]",
        ],
    ),
    (
        "a pickle by the name of safetensors",
        |folder| fs::write(folder.join("model.safetensors"), b"\x80\x04cos\nsystem\n").unwrap(),
        &["model.safetensors", "is a pickle", "never read"],
    ),
    (
        "a zip archive by that name",
        |folder| fs::write(folder.join("model.safetensors"), b"PK\x03\x04data.pkl").unwrap(),
        &["model.safetensors", "is a pickle"],
    ),
    (
        "cut off",
        |folder| {
            let file = fs::OpenOptions::new().write(true).open(folder.join("model.safetensors"));
            file.unwrap().set_len(100_000).unwrap();
        },
        &["model.safetensors", "truncated"],
    ),
    (
        "no bytes",
        |folder| fs::write(folder.join("model.safetensors"), "").unwrap(),
        &["model.safetensors", "truncated"],
    ),
    (
        "another kind of model",
        |folder| edit(&folder.join("config.json"), "\"bert\"", "\"roberta\""),
        &["config.json", "\"roberta\"", "\"distilbert\""],
    ),
    (
        "no JSON",
        |folder| fs::write(folder.join("config.json"), "{").unwrap(),
        &["config.json", "EOF"],
    ),
    (
        "a tokenizer with more ids than the model",
        |folder| {
            let path = folder.join("tokenizer.json");
            edit_json(&path, |it| it["model"]["vocab"]["beyond"] = 5000.into());
        },
        &["tokenizer.json", "5001"],
    ),
    (
        "no tokenizer",
        |folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap(),
        &["tokenizer.json"],
    ),
    (
        "a tokenizer without word pieces",
        |folder| {
            let json = r#"{"added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0},
                           "unk_token": "a"}}"#;
            fs::write(folder.join("tokenizer.json"), json).unwrap();
        },
        &["tokenizer.json", "not word pieces"],
    ),
    (
        "a tokenizer that does not know what is unknown",
        |folder| {
            let path = folder.join("tokenizer.json");
            edit_json(&path, |it| it["model"]["unk_token"] = "<unk>".into());
        },
        &["tokenizer.json", "it has no <unk>"],
    ),
];

#[test]
fn reports_faults_of_a_pretrained_folder() {
    let check = |name: &str, damage: &dyn Fn(&Path), expected: &[&str]| {
        let folder = changed(damage);
        let error = begin(folder.path()).unwrap_err().to_string();
        let place = folder.path().display().to_string();
        assert_eq!(error.matches(&place).count(), 1, "{name}: {error}");
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    for (name, damage, expected) in FAULTS {
        check(name, damage, expected);
    }
    let remove = |folder: &Path, name| fs::remove_file(folder.join(name)).unwrap();
    check(
        "a pickle alone",
        &|folder| {
            remove(folder, "model.safetensors");
            fs::write(folder.join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
        },
        &["pytorch_model.bin", "pickle can contain code", "save_pretrained"],
    );
    check(
        "several files",
        &|folder| {
            remove(folder, "model.safetensors");
            for name in ["model-1-of-2.safetensors", "model-2-of-2.safetensors"] {
                fs::write(folder.join(name), "").unwrap();
            }
        },
        &["several files", "one model.safetensors"],
    );
    for name in ["config.json", "model.safetensors"] {
        check(name, &|folder| remove(folder, name), &[name, "is missing", "vocab.txt"]);
    }
    check(
        "no words",
        &|folder| {
            remove(folder, "tokenizer.json");
            remove(folder, "vocab.txt");
        },
        &["vocab.txt: it is missing"],
    );
    let error = begin(Path::new("nowhere")).unwrap_err().to_string();
    assert!(error.contains("nowhere/config.json: it is missing"), "{error}");
}

/// Writes the current checksums of the files into the manifest.
fn seal(version: &Path) {
    edit_json(&version.join("manifest.json"), |manifest| {
        for (name, sum) in manifest["files"].as_object_mut().unwrap() {
            *sum = sha256_hex(&fs::read(version.join(name)).unwrap()).into();
        }
    });
}

#[test]
fn reports_faults_of_a_version() {
    let check = |name: &str, damage: &dyn Fn(&Path), expected: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        copy(trained(), folder.path());
        damage(&folder.path().join("transformer/1"));
        let opened = classifier::open(&models_in(folder.path()), "transformer");
        let error = opened.unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    for (name, damage, expected) in FAULTS {
        let file = expected[0];
        check(name, damage, &[file, "changed or truncated"]);
        // The same fault with a matching checksum.
        let sealed = |version: &Path| {
            damage(version);
            seal(version);
        };
        check(name, &sealed, expected);
    }
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let remove = |version: &Path| fs::remove_file(version.join(name)).unwrap();
        check(name, &remove, &[name, "is missing", "monitor retrain"]);
    }
    let shaped = |key: &'static str, size: usize| {
        move |version: &Path| {
            let path = version.join("manifest.json");
            edit_json(&path, |manifest| manifest["architecture"][key] = size.into());
        }
    };
    let differs = ["config.json", "differs from the manifest"];
    check("another shape", &shaped("layers", 3), &differs);
    check("too long", &shaped("tokens_max", 49), &differs);
    check("too short", &shaped("tokens_max", 2), &["tokenizer.json", "adds 2 tokens"]);
}

#[test]
fn the_program_reports_faults() {
    let folder = tempfile::tempdir().unwrap();
    copy(trained(), folder.path());
    let pickle = changed(&|folder| {
        fs::remove_file(folder.join("model.safetensors")).unwrap();
        fs::write(folder.join("pytorch_model.bin"), b"\x80\x02").unwrap();
    });
    let models = format!("model.directory={}", folder.path().display());
    let check = |command: &str, base: Option<&Path>, well: bool, parts: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("HF_HOME", folder.path()) // where nothing was fetched
            .args(command.split(' '))
            .args(base.into_iter().flat_map(|base| [Path::new("--base"), base]))
            .args(["--set", &models])
            .output()
            .unwrap();
        let said = if well { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said);
        assert_eq!(output.status.success(), well, "{command}: {said}");
        for part in parts {
            assert!(said.contains(part), "{command}: {part:?} is not in {said}");
        }
    };
    let retrain = "retrain transformer --data tests/fixtures/sentiment.csv";
    let bert = fixture("bert");
    check(retrain, None, false, &["--base", "monitor models fetch"]);
    check(retrain, Some(pickle.path()), false, &["pytorch_model.bin", "never read"]);
    let refused = |flags: &str, family: &str, base| {
        let command = format!("retrain {family} --data tests/fixtures/sentiment.csv {flags}");
        let flag = flags.split(' ').next().unwrap();
        check(command.trim_end(), base, false, &[flag, &format!("means nothing to {family}")]);
    };
    for flags in [
        "--hidden 8",
        "--word-dropout 0.1",
        "--l2 1",
        "--frozen true",
        "--directions 1",
        "--embeddings x.txt",
        "--preset study",
    ] {
        refused(flags, "transformer", Some(&bert));
    }
    for family in ["lstm", "dense", "logistic-tfidf"] {
        refused("--base x", family, None);
        refused("--layers 1", family, None);
        refused("--vocabulary 400", family, None);
        refused("--epochs 0", family, None);
        refused("--precision half", family, None);
    }
    for flags in ["--batch 8", "--learning-rate 0.1", "--resume", "--word-ngrams 1"] {
        refused(flags, "logistic-hash", None);
    }
    check(
        &format!(
            "{retrain} --epochs 1 --batch 64 --learning-rate 1e-3 --weight-decay 0 --layers 1 \
             --vocabulary 400 --precision half"
        ),
        Some(&bert),
        true,
        &["transformer@2: accuracy", "on held out"],
    );
    let manifest = classifier::read_manifest(folder.path(), "transformer@2").unwrap();
    let command = "--epochs 1 --batch 64 --learning-rate 0.001 --weight-decay 0 --layers 1 \
                   --vocabulary 400 --base bert --precision half";
    assert!(manifest.command.contains(command), "{}", manifest.command);
    let source = &manifest.data.embeddings[0].about;
    assert_eq!(
        source,
        "pretrained weights to begin with, 1 of its 2 layers, 400 of its 460 word pieces"
    );
    let too_many = format!("{retrain} --layers 3");
    check(&too_many, Some(&bert), false, &["it has 2 layers, fewer than the 3 to keep"]);

    // The mean of weights and themselves is what they are.
    let mean = format!("{retrain} --epochs 0 --base transformer@2 --mean-with transformer");
    check(&format!("{mean}@2"), None, true, &["transformer@3: accuracy"]);
    let bytes = |version: u32| {
        fs::read(folder.path().join(format!("transformer/{version}/model.safetensors"))).unwrap()
    };
    assert!(bytes(3) == bytes(2), "the same weights");
    let manifest = classifier::read_manifest(folder.path(), "transformer@3").unwrap();
    let files = manifest.data.embeddings.iter().map(|source| &*source.file);
    assert_eq!(files.collect::<Vec<_>>(), ["transformer@2/model.safetensors"; 2]);
    check(&format!("{mean}@1"), None, false, &["only weights of one shape have a mean"]);

    let weights = folder.path().join("transformer/1/model.safetensors");
    fs::OpenOptions::new().write(true).open(weights).unwrap().set_len(1_000).unwrap();
    let score = "score --model transformer@1 fine";
    check(score, None, false, &["model.safetensors was changed or truncated"]);
}

// --- Training and scoring ------------------------------------------------------------------

/// A body in an old published form: no prefix, old names of LayerNorm arrays, token positions,
/// and the head of another task.
fn published(folder: &Path) {
    with_arrays(folder, |weights| {
        let mut weights = weights.rename(|name| {
            let name = name.strip_prefix("bert.")?.replace("LayerNorm.weight", "LayerNorm.gamma");
            let is_body = !name.starts_with("pooler.");
            is_body.then(|| name.replace("LayerNorm.bias", "LayerNorm.beta"))
        });
        weights.insert("cls.predictions.bias", &[3], vec![0.0; 3]);
        weights.insert("cls.predictions.transform.LayerNorm.gamma", &[3], vec![0.0; 3]);
        weights
    });
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut arrays = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let places: Vec<u8> = (0..3i64).flat_map(i64::to_le_bytes).collect();
    let places = TensorView::new(Dtype::I64, vec![1, 3], &places).unwrap();
    arrays.push(("embeddings.position_ids".into(), places));
    fs::write(path, safetensors::serialize(arrays, None).unwrap()).unwrap();
}

#[test]
fn a_body_without_a_head_can_be_trained() {
    let whole = begin(&fixture("bert")).unwrap();
    let folder = changed(&published);
    let seeded = |seed| {
        let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed);
        begin_alone(folder.path()).unwrap()
    };
    let head = ["classifier.weight", "bert.pooler.dense.weight"];
    let shapes: [&[usize]; 2] = [&[2, 32], &[32, 32]];
    let body = |weights: Weights| {
        let is_head = |name: &str| name.starts_with("classifier.") || name.contains(".pooler.");
        weights.rename(|name| (!is_head(name)).then(|| name.to_owned()))
    };
    let (mut first, mut other) = (seeded(1), seeded(2));
    assert_eq!(first, seeded(1), "the seed gives the head");
    assert_eq!(body(first.clone()), body(whole), "the body is the one that was given");
    assert_eq!(first.take("classifier.bias", &[2]).unwrap(), [0.0; 2]);
    for (name, shape) in head.into_iter().zip(shapes) {
        let (first, other) = (first.take(name, shape).unwrap(), other.take(name, shape).unwrap());
        assert_ne!(first, other, "{name}");
        let square = first.iter().map(|value| value * value).sum::<f32>() / first.len() as f32;
        assert!((0.01..0.03).contains(&square.sqrt()), "{name}: {square}");
    }
}

#[test]
fn trains_and_writes_hugging_face_s_layout() {
    let version = trained().join("transformer/1");
    let mut losses = csv::Reader::from_path(version.join("training.csv")).unwrap();
    let losses: Vec<f64> = (losses.deserialize::<BTreeMap<String, f64>>())
        .map(|epoch| epoch.unwrap()["validation_loss"])
        .collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(losses.len() == 6 && best < 0.5 && best < losses[0], "{losses:?}");

    let base = Pretrained::read(&version).unwrap();
    let weights = begin(&version).unwrap();
    assert_eq!(
        Weights::parse(&weights.to_bytes(StoredPrecision::Fp16)),
        Ok(weights),
        "none is lost"
    );
    let manifest = classifier::read_manifest(trained(), "transformer").unwrap();
    assert_eq!(manifest.data.embeddings[0].file, "bert/model.safetensors");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(version.join(name)).unwrap()).unwrap()
    };
    assert_eq!(json("config.json")["architectures"][0], "BertForSequenceClassification");
    assert_eq!(json("config.json")["torch_dtype"], "float32");
    insta::assert_snapshot!(
        fs::read_to_string(version.join("tokenizer_config.json")).unwrap(),
        @r#"
    {
      "cls_token": "[CLS]",
      "mask_token": "[MASK]",
      "model_input_names": [
        "input_ids",
        "attention_mask"
      ],
      "model_max_length": 16,
      "pad_token": "[PAD]",
      "sep_token": "[SEP]",
      "tokenizer_class": "PreTrainedTokenizerFast",
      "unk_token": "[UNK]"
    }
    "#
    );
    let tokens_max = json("manifest.json")["architecture"]["tokens_max"].as_u64().unwrap() as usize;

    // The version's encoder and the file for Python give the same tokens.
    let model = classifier::open(&models_in(trained()), "transformer").unwrap();
    let long = "so @sam happy &amp; glad ".repeat(30);
    let prepared = "so @user happy & glad ".repeat(30);
    let (ours, theirs) = (model.encoder.encode(&long), base.tokenizer(tokens_max).unwrap());
    assert_eq!(ours, theirs.pieces(&prepared));
    assert!(ours.truncated && ours.ids.len() == tokens_max, "{ours:?}");
}

#[test]
fn a_thousand_rows_score_like_each_alone() {
    let rows = data::read(&here("tests/fixtures/airline-week.csv.xz")).unwrap().rows;
    let mut texts: Vec<&str> = rows.iter().take(1_000).map(|row| row.text.as_str()).collect();
    texts.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
    let score = |precision, rows, tolerance: f32| {
        let settings = OpenOptions { precision, ..models_in(trained()) };
        let mut model = classifier::open(&settings, "transformer").unwrap();
        let together = model.score(&texts).unwrap();
        assert_eq!(together.len(), 1_000);
        for (text, batched) in texts.iter().zip(&together).take(rows) {
            let alone = model.score(&[text]).unwrap()[0].negative().get();
            assert!(
                (alone - batched.negative().get()).abs() < tolerance,
                "{alone} {batched:?} {text}"
            );
        }
        together
    };
    let single = score(Precision::Single, 1_000, 1e-4);
    // With 8 significant bits, the rounding of sums depends on the other rows.
    let half = score(Precision::Bf16, 100, 0.03);
    let apart = single
        .iter()
        .zip(&half)
        .map(|(single, half)| (single.negative().get() - half.negative().get()).abs());
    let furthest = apart.fold(0.0, f32::max);
    assert!(furthest > 0.0 && furthest < 0.05, "half precision is {furthest} off");
}

#[test]
fn scores_any_text() {
    let mut model = classifier::open(&models_in(trained()), "transformer").unwrap();
    let words = "so sad ".repeat(150_000);
    let one_word = "a".repeat(1 << 20);
    let emoji = "😡".repeat(1 << 18);
    let mut score = |name: &str, text: &str, truncated: bool| {
        let encoding = model.encoder.encode(text);
        assert_eq!(encoding.truncated, truncated, "{name}");
        let score = model.score(&[text]).unwrap()[0].negative().get();
        assert!(score.is_finite(), "{name}");
        score
    };
    score("a megabyte of words", &words, true);
    score("a megabyte of one word", &one_word, true);
    score("eight kibibytes of one word", &one_word[..8 * 1024], false);
    score("a megabyte of emoji", &emoji, true);
    let nothing = score("nothing", "", false);
    for (name, text) in [
        ("spaces", "   \n\t"),
        ("zero width", "\u{200B}\u{200C}\u{200D}\u{FEFF}"),
        ("controls", "\u{0}\u{1}\u{7F}"),
        ("accents without letters", "\u{301}\u{308}"),
    ] {
        assert_eq!(score(name, text, false), nothing, "{name}");
    }
}

#[test]
fn a_resumed_fine_tuning_equals_an_uninterrupted_one() {
    for half in [false, true] {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let asked = |folder: &Path| TrainingRequest {
            half,
            hyper: Hyperparameters {
                epochs_max: Some(2),
                ..request(Family::Transformer, folder, 5).hyper
            },
            ..request(Family::Transformer, folder, 5)
        };
        let expected = train_as(&asked(whole.path())).unwrap();
        let mut stops = 0;
        let found = loop {
            assert!(stops < 50, "it never ends");
            let looks = std::cell::Cell::new(0);
            let stop = || {
                looks.set(looks.get() + 1);
                looks.get() > 20 // in the middle of an epoch of 32 steps or more
            };
            match train_as(&TrainingRequest {
                stop: &stop,
                resume: stops > 0,
                ..asked(parts.path())
            }) {
                Ok(manifest) => break manifest,
                Err(TrainingError::Fit(FitError::Stopped)) => stops += 1,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(stops >= 3, "{stops}");
        assert_eq!(found.metrics, expected.metrics, "half: {half}");
        let weights = |folder: &Path| fs::read(folder.join("transformer/1/model.safetensors"));
        let same = weights(parts.path()).unwrap() == weights(whole.path()).unwrap();
        assert!(same, "half: {half}: same weights");
    }
}
