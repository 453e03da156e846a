//! Text processing: canonical form, words, vocabulary, feature hashing, brand matching, language.
//!
//! **Invariant.** Everything here is a pure function of its arguments, and training and
//! serving call the same functions: a model's manifest names its [`Preset`], so a text
//! gets the same ids in both. [`TEXT_BYTES_MAX`] bounds the work on one text.
//! Deliberately absent: models, files, settings. Stop words remove "not", so only the
//! study's preset uses them.

mod analyzer;
mod brands;
mod encoding;
mod hashing;
mod identity;
pub mod language;
mod lexicon;
mod near;
mod ngrams;
mod places;
mod study;
mod tokens;
mod tweet;
mod vocabulary;

use std::borrow::Cow;
use std::cell::OnceCell;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

pub use analyzer::{Analyzer, Preset, UnknownPreset};
pub use brands::{BrandError, BrandMatcher, BrandRule};
pub use encoding::utf8;
pub use hashing::{Buckets, fnv1a_64, unit_interval};
pub use identity::{identity, identity_key};
pub use lexicon::{Lexicon, LexiconError, LexiconSources};
pub use near::{NearTexts, Shingles, content_words};
pub use ngrams::{Ngram, NgramKind, NgramLengths, Ngrams, NgramsError};
pub use places::{PlacedWord, visible_words, without};
pub use tokens::{Token, TokenKind, tokens};
pub use vocabulary::{PADDING, UNKNOWN, Vocabulary, VocabularyError};

/// Largest number of bytes of a text from which words are read. A tweet has 280 characters,
/// X's longest posts 25,000; words after that many bytes do not change a score.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// The longest prefix of `text` that has at most `bytes_max` bytes and ends between characters.
pub fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text with its canonical form, which is computed once, at the first use, because the brand
/// matcher and the encoder both need it.
#[derive(Debug)]
pub struct SourceText<'a> {
    raw: &'a str,
    canonical: OnceCell<String>,
}

impl<'a> SourceText<'a> {
    /// A text whose canonical form is not yet computed.
    pub fn new(raw: &'a str) -> Self {
        Self { raw, canonical: OnceCell::new() }
    }

    /// The text as it was received.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The canonical form of the whole text.
    fn canonical(&self) -> &str {
        self.canonical.get_or_init(|| canonical(self.raw))
    }

    /// The canonical form of the first [`TEXT_BYTES_MAX`] bytes. Only a longer text is
    /// normalised again, because a cut can change the characters next to it.
    fn canonical_beginning(&self) -> Cow<'_, str> {
        if self.raw.len() <= TEXT_BYTES_MAX {
            self.canonical().into()
        } else {
            canonical(beginning(self.raw, TEXT_BYTES_MAX)).into()
        }
    }
}

/// HTML entities decoded (twice: `&amp;lt;` is common in old tweets), characters
/// composed (Unicode NFC), full-width `＠` and `＃`, curly apostrophes and backticks in
/// their ASCII form.
fn canonical(text: &str) -> String {
    let once = decode_entities(text);
    let twice = decode_entities(&once);
    let composed: Cow<'_, str> = match is_nfc_quick(twice.chars()) {
        IsNormalized::Yes => twice,
        _ => Cow::Owned(twice.nfc().collect()),
    };
    composed
        .chars()
        .map(|c| match c {
            '\u{2018}' | '\u{2019}' | '\u{02BC}' | '\u{FF07}' | '`' | '\u{00B4}' => '\'',
            '\u{FF20}' => '@',
            '\u{FF03}' => '#',
            other => other,
        })
        .collect()
}

/// Decodes HTML entities once, because X delivers escaped texts (`&gt;`).
pub fn decode_entities(text: &str) -> Cow<'_, str> {
    if text.contains('&') { html_escape::decode_html_entities(text) } else { text.into() }
}

/// Part of a word: letter, digit, combining mark or underscore.
fn is_word(c: char) -> bool {
    c.is_alphanumeric()
        || c == '_'
        || (c >= '\u{300}' && unicode_normalization::char::is_combining_mark(c) && !is_selector(c))
}

/// Variation selectors: they belong to emoji, although Unicode classifies them as marks.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{20E3}')
}

/// Length in bytes of the link at the beginning of `text`, if any. `text` is lower case.
fn link_length(text: &str) -> Option<usize> {
    ["http://", "https://", "www."]
        .iter()
        .any(|start| text.starts_with(start))
        .then(|| text.find(char::is_whitespace).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        let check = |name, text, expected| assert_eq!(canonical(text), expected, "{name}");
        check("plain", "hello", "hello");
        check("entity", "AT&amp;T", "AT&T");
        check("entity escaped twice", "I &amp;lt;3 you", "I <3 you");
        check("a lone ampersand", "this & that", "this & that");
        check("decomposed accent", "cafe\u{301}", "café");
        check("curly apostrophe", "don’t", "don't");
        check("full-width signs", "＠united ＃fail", "@united #fail");
    }

    #[test]
    fn a_long_text_is_cut_before_it_is_normalised() {
        let check = |length: usize, expected: &str| {
            let raw = "x".repeat(length) + "e\u{301} &amp; more";
            let text = SourceText::new(&raw);
            assert!(text.canonical().ends_with("é & more"));
            assert!(text.canonical_beginning().ends_with(expected), "{length}");
        };
        check(10, "xé & more");
        check(TEXT_BYTES_MAX - 1, "xe");
        check(TEXT_BYTES_MAX - 9, "xé &");
    }

    #[test]
    fn beginning_cuts_no_character() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 3), "aé");
        assert_eq!(beginning("", 3), "");
    }
}
