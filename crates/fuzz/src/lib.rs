//! What fuzzing checks: each function here takes any bytes, and panics if something that must hold does not.
//!
//! `scripts/fuzz` runs them under libFuzzer, guided by coverage. `corpus/` keeps, for each function, inputs to start
//! from and those that once failed; the test here runs all of them.
//!
//! **Invariant.** A function is pure but for the file that readers of files need. Deliberately absent: Kafka, Postgres
//! and the network (tests/it), and the model's numbers.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::domain::StreamFormat;
use monitor_core::text::{
    BrandMatcher, BrandRule, NearTexts, Shingles, SourceText, beginning, content_words,
    decode_entities, identity, language, tokens, visible_words, without,
};
use monitor_ingest::{Content, Decoded, Headers, Raw, WireLimits, decode, parse_timestamp};
use monitor_model::{Manifest, TransformerConfig, WordPieces};
use monitor_train::data::embeddings;

/// A function of this crate.
pub type Target = fn(&[u8]);

/// All functions, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("wire", wire),
    ("unwrap", unwrap),
    ("timestamps", timestamps),
    ("text", text),
    ("config", config),
    ("embeddings", embeddings),
    ("word_pieces", word_pieces),
    ("manifests", manifests),
];

const NOW: DateTime<Utc> = DateTime::from_timestamp(1_795_000_000, 0).expect("a time");
const FUTURE_MAX: TimeDelta = TimeDelta::seconds(300);
const RECORD_BYTES_MAX: usize = 1 << 20;
/// Longest reason of a dead letter.
const REASON_CHARS_MAX: usize = 2000;

/// Decodes a record. The first byte chooses the format, the second the headers.
pub fn wire(input: &[u8]) {
    let [format, header, payload @ ..] = input else { return };
    let format = StreamFormat::ALL[usize::from(*format) % StreamFormat::ALL.len()];
    let mut headers = Headers::default();
    match header % 4 {
        1 => headers.add("content-type", Some(b"application/json")),
        2 => headers.add("ce_time", Some(b"2026-11-27T12:00:00Z")),
        3 => headers.add("__value_schema_id", Some(payload)),
        _ => {}
    }
    check(payload, &headers, format);
}

/// Decodes a record inside wrappers: the first byte chooses them, up to five deep.
pub fn unwrap(input: &[u8]) {
    let [wrappers, inner @ ..] = input else { return };
    let (mut payload, mut left) = (inner.to_vec(), *wrappers);
    for _ in 0..5 {
        payload = match left % 5 {
            0 => break,
            1 => [&[0, 0, 0, 0, 7], &payload[..]].concat(),
            2 => envelope("{\"schema\":{\"type\":\"string\"},\"payload\":", &payload),
            3 => envelope(
                "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"data\":",
                &payload,
            ),
            _ => envelope("{\"op\":\"c\",\"source\":{},\"before\":null,\"after\":", &payload),
        };
        left /= 5;
    }
    let decoded = check(&payload, &Headers::default(), StreamFormat::Auto);
    assert!(decoded.layers <= 3, "{} wrappers were taken off", decoded.layers);
}

/// JSON inside an envelope: as it is where it is UTF-8, else as a string.
fn envelope(start: &str, payload: &[u8]) -> Vec<u8> {
    let inner = match str::from_utf8(payload) {
        Ok(text) => text.to_owned(),
        Err(_) => serde_json::to_string(&String::from_utf8_lossy(payload)).expect("a string"),
    };
    format!("{start}{inner}}}").into_bytes()
}

fn check(payload: &[u8], headers: &Headers, format: StreamFormat) -> Decoded {
    let raw = Raw { payload, payload_bytes: payload.len(), headers, timestamp: Some(NOW) };
    let limits = WireLimits { record_bytes_max: RECORD_BYTES_MAX, future_max: FUTURE_MAX, format };
    let decoded = decode(&raw, &limits, NOW);
    match &decoded.content {
        Ok(Content::Tweet(tweet)) => {
            assert!(!tweet.id.as_str().trim().is_empty(), "an id");
            assert!(!tweet.text.trim().is_empty() && !tweet.text.contains('\0'), "a text");
            assert!(tweet.created_at <= NOW + FUTURE_MAX, "a time: {}", tweet.created_at);
            assert!(tweet.created_at.timestamp() > 0, "a time: {}", tweet.created_at);
        }
        Ok(Content::Notice(notice)) => assert!(!notice.reason().is_empty()),
        Err(rejected) => {
            let reason = rejected.to_string();
            assert!(!reason.is_empty() && !rejected.kind().is_empty());
            assert!(
                reason.chars().count() <= REASON_CHARS_MAX,
                "a reason of {} bytes",
                reason.len()
            );
        }
    }
    assert_eq!(decode(&raw, &limits, NOW), decoded, "twice the same");
    decoded
}

/// Reads a time: what is read is the same when it is written and read again.
pub fn timestamps(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(time) = parse_timestamp(&text) {
        assert_eq!(parse_timestamp(&time.to_rfc3339()), Some(time), "{text:?}");
    }
}

static BRANDS: LazyLock<BrandMatcher> = LazyLock::new(|| {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let rule = BrandRule {
        name: "air".to_owned(),
        keywords: words(&["air paradis", "délta", "航空", "-"]),
        handles: words(&["@AirParadis"]),
        hashtags: words(&["#air"]),
        rule_tags: Vec::new(),
        plurals: true,
    };
    BrandMatcher::new([rule]).expect("a few terms")
});

/// Reads a text in every way that a tweet's is read.
pub fn text(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let source = SourceText::new(text);
    assert_eq!(BRANDS.matches(text, &[]), BRANDS.matches_in(&source, &[]));
    assert_eq!(language::detect(text), language::detect_in(&source));
    let _ = decode_entities(text);
    assert_eq!(identity(text), identity(&format!(" {text} ")));
    let tokens = tokens(text, 120);
    assert!(tokens.len() <= 120);
    let shingles = Shingles::of(&content_words(&tokens));
    let mut near = NearTexts::default();
    near.add(shingles.clone());
    assert!(near.find(&shingles).is_none_or(|found| found == 0));
    let ranges = visible_words(text, 40);
    assert!(ranges.len() <= 40);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
    assert!(ranges.iter().all(|range| text.get(range.clone()).is_some()), "{ranges:?}");
    assert!(without(text, &ranges).len() <= text.len());
    assert!(text.starts_with(beginning(text, 16)));
}

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
}

/// Calls `read` with the path of a file that holds `input`.
fn with_file(input: &[u8], read: impl FnOnce(&Path)) {
    FILE.with_borrow(|file| {
        fs::write(file.path(), input).expect("a temporary file");
        read(file.path());
    });
}

/// Reads settings: they are valid, or the error says something.
pub fn config(input: &[u8]) {
    with_file(input, |path| {
        if let Err(error) = monitor_config::load_from(Some(path), [], &[], &[]) {
            assert!(!error.to_string().is_empty());
        }
    });
}

/// Reads word vectors, in either layout and packed or not.
pub fn embeddings(input: &[u8]) {
    let wanted = HashSet::from(["the", "a", "Paris", "é"]);
    with_file(input, |path| {
        if let Ok(read) = embeddings::read(path, &wanted) {
            let vectors = wanted.iter().filter_map(|word| read.get(word));
            assert!(vectors.clone().count() > 0, "else an error says that no word is covered");
            vectors.for_each(|vector| assert_eq!(vector.len(), read.width));
        }
    });
}

const TOKENS_MAX: usize = 16;
static PIECES: LazyLock<WordPieces> = LazyLock::new(|| {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "flight", "##s", "late", "!", "#", "é",
    ];
    WordPieces::of_vocabulary(&words.join("\n"), true, TOKENS_MAX).expect("BERT's special tokens")
});

/// Cuts a text into word pieces, and reads a tokenizer's file.
pub fn word_pieces(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let ids = PIECES.ids();
    for id in &PIECES.pieces(text).ids {
        assert!((*id as usize) < ids, "{id} of {ids}");
    }
    if let Ok(read) = WordPieces::parse(input, TOKENS_MAX) {
        let _ = read.pieces("the flights are late!");
    }
    let _ = WordPieces::of_vocabulary(text, true, TOKENS_MAX);
}

/// Reads a model's manifest and a transformer's configuration.
pub fn manifests(input: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(input) {
        let written = serde_json::to_vec(&manifest).expect("a manifest is JSON");
        let again: Manifest = serde_json::from_slice(&written).expect("what was written is read");
        assert_eq!(again.id(), manifest.id());
        assert_eq!(again.files_read().count(), manifest.files_read().count());
        let _ = (manifest.architecture.family(), manifest.architecture.members());
    }
    if let Ok(config) = TransformerConfig::parse(input) {
        let _ = (config.positions(), config.prefix(), config.shape(TOKENS_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_all_inputs_that_were_kept() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let files: Vec<_> = fs::read_dir(&folder).expect("a folder").collect();
            assert!(files.len() >= 10, "{}: {} inputs", folder.display(), files.len());
            for file in files {
                let path = file.expect("a file").path();
                println!("{}", path.display());
                target(&fs::read(&path).expect("a file"));
            }
        }
    }
}
