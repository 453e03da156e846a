//! The study preset beside NLTK: the same lemmas, the same words.

use std::collections::BTreeMap;
use std::path::Path;

use monitor::text::Lexicon;
use monitor::training::find_word_lists;

/// What NLTK 3.7 answered; `scripts/make-study-fixture` asked it.
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

/// The full lists; `None` where they are not at hand.
fn lists() -> Option<Lexicon> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    folder.join("wordnet").exists().then(|| find_word_lists(Some(&folder)).unwrap())
}

#[test]
fn the_study_preset_agrees_with_nltk() {
    let Some(lexicon) = lists() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/study.json");
    let expected: Expected = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(expected.lemmas.len() > 900 && expected.rows.len() > 20);
    for (word, lemma) in &expected.lemmas {
        assert_eq!(lexicon.lemma(word), lemma, "{word}");
    }
}

#[test]
fn the_full_lists_survive_their_file() {
    let Some(lexicon) = lists() else { return };
    let text = lexicon.to_text();
    assert!(text.len() < 3_000_000, "{} bytes in each model", text.len());
    assert_eq!(Lexicon::parse(&text).unwrap(), lexicon);
}
