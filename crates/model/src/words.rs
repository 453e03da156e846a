//! From a text to the ids of its words, in order: the input of [`Dense`](super::Dense) and
//! [`Lstm`](super::Lstm).
//!
//! **Invariant.** A text's ids depend on that text alone. Deliberately absent: the words
//! themselves; see [`Analyzer`].

use serde::{Deserialize, Serialize};

use monitor_core::drift::KnownWords;
use monitor_core::text::{Analyzer, PADDING, SourceText, Vocabulary};

use super::{Encoder, Encoding};

/// Words of a text that are analysed if only the last of them are read.
const ANALYSED_MAX: usize = 256;

/// Which words of a text are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Largest number of words.
    pub words_max: usize,
    /// Like Keras: the last `words_max` words instead of the first, with padding in front up to
    /// exactly that many.
    #[serde(default)]
    pub padded: bool,
    /// Only this many of the most frequent words of the vocabulary; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequent_max: Option<usize>,
}

impl Sequence {
    /// Words of a text that are analysed; some of them are read.
    pub fn analysed_max(self) -> usize {
        if self.padded { ANALYSED_MAX } else { self.words_max }
    }
}

/// Encodes a text as the ids of its words, in order.
#[derive(Debug)]
pub struct WordIds {
    analyzer: Analyzer,
    vocabulary: Vocabulary,
    sequence: Sequence,
    /// Words with this id or a higher one are too rare to be read.
    rare_from: u32,
}

impl WordIds {
    /// An encoder that reads the words that `sequence` selects.
    pub fn new(analyzer: Analyzer, vocabulary: Vocabulary, sequence: Sequence) -> Self {
        let frequent = sequence.frequent_max.unwrap_or(usize::MAX);
        let rare_from = vocabulary.words().map(|(_, id)| id).nth(frequent).unwrap_or(u32::MAX);
        Self { analyzer, vocabulary, sequence, rare_from }
    }
}

impl Encoder for WordIds {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        let Sequence { words_max, padded, .. } = self.sequence;
        let analysed_max = self.sequence.analysed_max();
        let words = self.analyzer.words_of(text, analysed_max.saturating_add(1));
        let mut truncated = words.len() > analysed_max;
        let unknown = self.vocabulary.unknown();
        let known = |id: u32| if id < self.rare_from { Some(id) } else { unknown };
        let id = |word: &String| self.vocabulary.id(word).and_then(known);
        let mut ids: Vec<u32> = words.iter().take(analysed_max).filter_map(id).collect();
        if padded {
            truncated |= ids.len() > words_max;
            let from = ids.len().saturating_sub(words_max);
            let missing = words_max.saturating_sub(ids.len());
            ids = std::iter::repeat_n(PADDING, missing).chain(ids.drain(from..)).collect();
        }
        if ids.is_empty() {
            ids.push(unknown.unwrap_or(PADDING));
        }
        Encoding { ids, truncated, text: None }
    }

    fn known_words(&self, text: &str) -> Option<KnownWords> {
        let words = self.analyzer.words(text, self.sequence.analysed_max());
        let reserved = self.vocabulary.unknown();
        let is_known = |word: &String| {
            let id = self.vocabulary.id(word).filter(|id| Some(*id) != reserved);
            id.is_some_and(|id| id < self.rare_from)
        };
        let count = words.len();
        let unknown = words.into_iter().filter(|word| !is_known(word)).collect();
        Some(KnownWords { words: count, unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_texts() {
        let texts = ["a a a b b c"].map(|text| Analyzer::tweet().words(text, 9));
        let texts = || texts.iter().map(Vec::as_slice);
        let open = Vocabulary::build(texts(), 9, 1); // a 2, b 3, c 4
        let closed = Vocabulary::build_closed(texts(), 9, 1); // a 1, b 2, c 3
        let plain = Sequence { words_max: 4, padded: false, frequent_max: None };
        let keras = Sequence { padded: true, ..plain };
        let frequent = Some(2);
        let check = |name: &str, words: &Vocabulary, sequence, text: &str, expected: &[u32]| {
            let encoder = WordIds::new(Analyzer::tweet(), words.clone(), sequence);
            assert_eq!(encoder.encode(text).ids, expected, "{name}");
        };
        check("the first words", &open, plain, "a b c a b", &[2, 3, 4, 2]);
        check("unknown", &open, plain, "x a", &[1, 2]);
        check("nothing", &open, plain, "", &[1]);
        check("too rare", &open, Sequence { frequent_max: frequent, ..plain }, "a c", &[2, 1]);
        check("padded in front", &closed, keras, "a b", &[0, 0, 1, 2]);
        check("the last words", &closed, keras, "a b c a b", &[2, 3, 1, 2]);
        check("unknown left out", &closed, keras, "x a x", &[0, 0, 0, 1]);
        check(
            "rare left out",
            &closed,
            Sequence { frequent_max: frequent, ..keras },
            "a c b c",
            &[0, 0, 1, 2],
        );
        check("padding alone", &closed, keras, "", &[0; 4]);
        check("closed, nothing", &closed, plain, "x", &[0]);
    }

    #[test]
    fn words_that_the_vocabulary_does_not_have() {
        let texts = [Analyzer::tweet().words("a a a b b c", 9)];
        let open = Vocabulary::build(texts.iter().map(Vec::as_slice), 9, 1);
        let closed = Vocabulary::build_closed(texts.iter().map(Vec::as_slice), 9, 1);
        let plain = Sequence { words_max: 9, padded: false, frequent_max: None };
        let frequent = Sequence { frequent_max: Some(2), ..plain };
        let check = |name: &str, words: &Vocabulary, sequence, expected: &[&str]| {
            let encoder = WordIds::new(Analyzer::tweet(), words.clone(), sequence);
            let found = encoder.known_words("a x c x").unwrap();
            assert_eq!(
                (found.words, found.unknown),
                (4, expected.iter().map(|it| it.to_string()).collect()),
                "{name}"
            );
        };
        check("open", &open, plain, &["x", "x"]);
        check("closed", &closed, plain, &["x", "x"]);
        check("too rare", &open, frequent, &["x", "c", "x"]);
        check("closed, too rare", &closed, frequent, &["x", "c", "x"]);
    }
}
