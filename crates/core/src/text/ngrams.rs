//! N-grams of words and of characters, and the list of those that a model knows.
//!
//! They are those of scikit-learn: an n-gram of words is joined by single spaces
//! (`analyzer='word'`); an n-gram of characters lies within one word and the space at
//! either end of it (`'char_wb'`).
//!
//! **Invariant.** An n-gram's id is its line in the file (counted from 1), so the text file
//! defines all ids; no line has the id [`Ngrams::NOTHING`]. N-grams are looked up by a hash
//! of 64 bits; [`Ngrams::parse`] checks that no two lines share one. Deliberately absent:
//! weights, and how often an n-gram must occur to be kept; see the training crate.

use std::collections::HashMap;
use std::fmt::Write;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use super::hashing::{extend, fmix64, fnv1a_64};

/// How long the n-grams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NgramLengths {
    /// Words in a row: from one to this many.
    pub words_max: usize,
    /// Characters in a row: from this many ...
    pub characters_min: usize,
    /// ... to this many; none if this is less than `characters_min`.
    pub characters_max: usize,
}

/// What an n-gram is made of; `w` and `c` in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NgramKind {
    /// Words, joined by spaces.
    Words,
    /// Characters of one word with a space before and after.
    Characters,
}

impl NgramKind {
    fn mark(self) -> char {
        match self {
            Self::Words => 'w',
            Self::Characters => 'c',
        }
    }

    /// Where the hash of such an n-gram starts.
    fn seed(self) -> u64 {
        fnv1a_64(&[self.mark() as u8])
    }
}

/// One n-gram of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ngram<'a> {
    /// Of words or of characters.
    pub kind: NgramKind,
    /// Its text.
    pub text: &'a str,
    /// Index of its first word.
    pub first: usize,
    /// Number of words; one, for characters.
    pub words: usize,
    /// 64-bit hash of kind and text.
    pub hash: u64,
}

impl NgramLengths {
    /// Calls `visit` for each occurrence of an n-gram in a text with these words.
    pub fn for_each(self, words: &[String], mut visit: impl FnMut(Ngram<'_>)) {
        // With a space at either end, every n-gram is a substring of this one string.
        let mut text = String::with_capacity(words.iter().map(|word| word.len() + 1).sum());
        text.push(' ');
        for word in words {
            text.push_str(word);
            text.push(' ');
        }
        let mut start = 1;
        for (first, word) in words.iter().enumerate() {
            let mut end = start;
            let mut hash = NgramKind::Words.seed();
            for (more, next) in words[first..].iter().take(self.words_max).enumerate() {
                if end > start {
                    hash = extend(hash, b" ");
                    end += 1;
                }
                hash = extend(hash, next.as_bytes());
                end += next.len();
                visit(Ngram {
                    kind: NgramKind::Words,
                    text: &text[start..end],
                    first,
                    words: more + 1,
                    hash: fmix64(hash),
                });
            }
            self.characters(first, &text[start - 1..=start + word.len()], &mut visit);
            start += word.len() + 1;
        }
    }

    /// N-grams of characters in the word of index `first` between its spaces.
    fn characters(self, first: usize, word: &str, visit: &mut impl FnMut(Ngram<'_>)) {
        for (start, _) in word.char_indices() {
            let mut hash = NgramKind::Characters.seed();
            let rest = &word[start..];
            for (count, (at, c)) in rest.char_indices().take(self.characters_max).enumerate() {
                let end = at + c.len_utf8();
                hash = extend(hash, &rest.as_bytes()[at..end]);
                if count + 1 >= self.characters_min {
                    visit(Ngram {
                        kind: NgramKind::Characters,
                        text: &rest[..end],
                        first,
                        words: 1,
                        hash: fmix64(hash),
                    });
                }
            }
        }
    }
}

/// The n-grams that a model knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ngrams {
    text: String,
    ids: FxHashMap<u64, u32>,
}

/// A line that is not an n-gram, or a duplicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: {found:?} is not an n-gram (\"w\" or \"c\", a space, the n-gram) or is a duplicate"
)]
pub struct NgramsError {
    /// Line, counted from 1.
    pub line: usize,
    /// The line.
    pub found: String,
}

impl Ngrams {
    /// The id of a text without a known n-gram; no n-gram has it.
    pub const NOTHING: u32 = 0;

    /// A list of the given n-grams, in their order.
    ///
    /// # Errors
    /// An n-gram is a duplicate or contains a line break.
    pub fn new<'a>(
        ngrams: impl IntoIterator<Item = (NgramKind, &'a str)>,
    ) -> Result<Self, NgramsError> {
        let mut text = String::new();
        for (kind, ngram) in ngrams {
            writeln!(text, "{} {ngram}", kind.mark()).expect("writing to a String cannot fail");
        }
        Self::parse(text)
    }

    /// Reads the output of [`Ngrams::text`].
    ///
    /// # Errors
    /// A line is not an n-gram or is a duplicate.
    pub fn parse(text: String) -> Result<Self, NgramsError> {
        let mut ids = HashMap::with_capacity_and_hasher(text.len() / 8, FxBuildHasher);
        for (index, line) in text.split_terminator('\n').enumerate() {
            let wrong = || NgramsError { line: index + 1, found: line.to_owned() };
            let kind = match line.get(..2) {
                Some("w ") => NgramKind::Words,
                Some("c ") => NgramKind::Characters,
                _ => return Err(wrong()),
            };
            let id = u32::try_from(index + 1).map_err(|_| wrong())?;
            let hash = fmix64(extend(kind.seed(), &line.as_bytes()[2..]));
            if line.len() == 2 || ids.insert(hash, id).is_some() {
                return Err(wrong());
            }
        }
        ids.shrink_to_fit();
        Ok(Self { text, ids })
    }

    /// One n-gram a line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many ids there are, [`Ngrams::NOTHING`] included.
    pub fn ids(&self) -> usize {
        self.ids.len() + 1
    }

    /// The id of an n-gram, by its hash.
    pub fn id(&self, hash: u64) -> Option<u32> {
        self.ids.get(&hash).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: NgramLengths = NgramLengths { words_max: 2, characters_min: 2, characters_max: 3 };

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn runs_of_words_and_characters() {
        let check = |name: &str, lengths: NgramLengths, text: &str, expected: &[&str]| {
            let mut found = Vec::new();
            lengths.for_each(&words(text), |ngram| {
                found.push(format!("{}{}", ngram.kind.mark(), ngram.text.replace(' ', "_")));
            });
            assert_eq!(found, expected, "{name}");
        };
        let none = NgramLengths { characters_max: 0, ..ALL };
        check("nothing", ALL, "", &[]);
        check("words", none, "so so sad", &["wso", "wso_so", "wso", "wso_sad", "wsad"]);
        check(
            "three in a row",
            NgramLengths { words_max: 3, ..none },
            "a b c",
            &["wa", "wa_b", "wa_b_c", "wb", "wb_c", "wc"],
        );
        check("a short word", ALL, "i", &["wi", "c_i", "c_i_", "ci_"]);
        check(
            "accents are one character",
            ALL,
            "né",
            &["wné", "c_n", "c_né", "cné", "cné_", "cé_"],
        );
        let long = NgramLengths { words_max: 0, characters_min: 3, characters_max: 5 };
        check("shorter than the longest", long, "a no", &["c_a_", "c_no", "c_no_", "cno_"]);
    }

    #[test]
    fn is_unchanged_by_its_file() {
        let listed = [(NgramKind::Words, "not good"), (NgramKind::Characters, " no")];
        let ngrams = Ngrams::new(listed).unwrap();
        assert_eq!(ngrams.text(), "w not good\nc  no\n");
        assert_eq!(Ngrams::parse(ngrams.text().to_owned()), Ok(ngrams.clone()));
        assert_eq!(ngrams.ids(), 3);
        let mut found = Vec::new();
        ALL.for_each(&words("not good"), |ngram| found.extend(ngrams.id(ngram.hash)));
        assert_eq!(found, [1, 2], "hashes of a text are those of the file");
    }

    #[test]
    fn rejects_invalid_lists() {
        let check = |name: &str, text: &str, line: usize| {
            let error = Ngrams::parse(text.to_owned()).unwrap_err();
            assert_eq!(error.line, line, "{name}");
        };
        check("no kind", "w a\nb\n", 2);
        check("an unknown kind", "x a\n", 1);
        check("nothing after the kind", "w \n", 1);
        check("an empty line", "w a\n\nw b\n", 2);
        check("twice", "w a\nc a\nw a\n", 3);
        assert!(Ngrams::new([(NgramKind::Words, "a\nb")]).is_err());
    }
}
