//! The study preset: the same lemmas and words as NLTK, and its lists kept in the model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use monitor_core::hash::sha256_hex;
use monitor_core::text::{Analyzer, Lexicon, LexiconSources};
use monitor_model as classifier;
use monitor_train::TrainingRequest;
use monitor_train::data::find_word_lists;
use monitor_train::fit::Family;

use crate::models::{request, train_as};
use crate::support::{models_in, shared};

/// The output of NLTK 3.7, recorded by `scripts/make-study-fixture`.
#[derive(serde::Deserialize)]
struct Expected {
    lemmas: BTreeMap<String, String>,
    rows: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    text: String,
    words: Vec<String>,
}

#[test]
#[ignore = "needs ../shared"]
fn the_study_preset_agrees_with_nltk() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = find_word_lists(Some(&shared(""))).unwrap();
    let text = found.to_text();
    assert!(text.len() < 3_000_000, "{} bytes in each model", text.len());
    let lexicon = Arc::new(Lexicon::parse(&text).unwrap());
    assert!(*lexicon == found, "it survives its file");

    let expected = fs::read(root.join("tests/fixtures/study.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    assert!(expected.lemmas.len() > 900 && expected.rows.len() > 20);
    for (word, lemma) in &expected.lemmas {
        assert_eq!(lexicon.lemma(word), lemma, "{word}");
    }
    let analyzer = Analyzer::study(lexicon);
    for row in &expected.rows {
        assert_eq!(analyzer.words(&row.text, 100), row.words, "{}", row.text);
    }
}

#[test]
fn a_model_keeps_its_word_lists() {
    let lexicon = Lexicon::from_sources(&LexiconSources {
        stop_words: "the\nmy\nso\nis\nwas\nme\n",
        dictionary: "amazing\nangry\nawesome\nbag\ncat\nfantastic\ngreat\nhate\nlost\nmiserable\n\
                     perfect\nsick\nterrible\nwonderful\nwork\n",
        index_noun: "bag n 1\ncat n 1\nwork n 1\n",
        noun_exc: "catta cat\n",
    });
    let folder = tempfile::tempdir().unwrap();
    let analyzer = Analyzer::study(Arc::new(lexicon.unwrap()));
    let manifest =
        train_as(&TrainingRequest { analyzer, ..request(Family::Dense, folder.path(), 7) })
            .unwrap();
    assert_eq!(manifest.preset, "study");
    assert!(manifest.files.contains_key("lexicon.txt"));
    let version = folder.path().join("dense/1");
    let lists = version.join("lexicon.txt");

    let encode =
        |text| classifier::open(&models_in(folder.path()), "dense").unwrap().encoder.encode(text);
    let ids = encode("work cat");
    assert_ne!(ids, encode("xyzzy"), "the words are in the vocabulary");
    assert_eq!(ids, encode("The WORK, is the xyzzy http://bag.com [great] @cats!"));

    let sound = |name: &str| fs::read_to_string(version.join(name)).unwrap();
    let (text, json) = (sound("lexicon.txt"), sound("manifest.json"));
    let check = |name: &str, expected: &[&str]| {
        let error = classifier::open(&models_in(folder.path()), "dense").unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    fs::remove_file(&lists).unwrap();
    check("missing", &["lexicon.txt is missing", "monitor retrain"]);
    fs::write(&lists, text.replace("awesome\n", "")).unwrap();
    check("changed", &["lexicon.txt was changed or truncated", "monitor retrain"]);
    fs::write(&lists, &text).unwrap();
    fs::write(version.join("manifest.json"), json.replace("lexicon.txt", "lists.csv")).unwrap();
    check("not among its files", &["manifest.json", "\"lexicon.txt\" is not among its files"]);
    let sealed = |text: &str| {
        let sum = sha256_hex(text.as_bytes());
        fs::write(
            version.join("manifest.json"),
            json.replace(&manifest.files["lexicon.txt"], &sum),
        )
        .unwrap();
        fs::write(&lists, text).unwrap();
    };
    sealed("awesome\n");
    check("another file", &["lexicon.txt: line 1: \"awesome\" is not valid here"]);
    sealed(&text);
    assert!(classifier::open(&models_in(folder.path()), "dense").is_ok(), "all is well again");
}
