//! A fixed list of words, ordered by frequency.
//!
//! **Invariant.** Id 0 is padding, and a word's id is its line in the file (counted from
//! 0), so the text file defines all ids. If the second line is `<unknown>`, every
//! other word has id 1; if not, other words have no id. Deliberately absent: counts; they
//! matter only while the list is built.

use std::collections::HashMap;

/// The id that fills rows up to a common length; no word has it.
pub const PADDING: u32 = 0;
/// The id of every word that is not in the vocabulary, if the vocabulary reserves one.
pub const UNKNOWN: u32 = 1;

const RESERVED: [&str; 2] = ["<padding>", "<unknown>"];

/// Words and their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

/// An invalid vocabulary file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// The file must begin with the reserved line.
    #[error("line 1 must be <padding>")]
    Reserved,
    /// A word is a duplicate, or a line is empty.
    #[error("line {line}: {word:?} is empty or a duplicate")]
    Word {
        /// Line, counted from 1.
        line: usize,
        /// The word.
        word: String,
    },
}

impl Vocabulary {
    /// The `size_max` most frequent words of `texts` (reserved ids included) that occur
    /// `count_min` times or more; equally frequent words in alphabetical order.
    pub fn build<'a>(
        texts: impl IntoIterator<Item = &'a [String]>,
        size_max: usize,
        count_min: usize,
    ) -> Self {
        Self::of(&RESERVED, texts, size_max, count_min)
    }

    /// Like [`Vocabulary::build`], but other words get no id: they are left out of a text.
    pub fn build_closed<'a>(
        texts: impl IntoIterator<Item = &'a [String]>,
        size_max: usize,
        count_min: usize,
    ) -> Self {
        Self::of(&RESERVED[..1], texts, size_max, count_min)
    }

    fn of<'a>(
        reserved: &[&str],
        texts: impl IntoIterator<Item = &'a [String]>,
        size_max: usize,
        count_min: usize,
    ) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for word in texts.into_iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let mut kept: Vec<_> = counts
            .into_iter()
            .filter(|(word, count)| *count >= count_min && !RESERVED.contains(word))
            .collect();
        kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        kept.truncate(size_max.saturating_sub(reserved.len()));
        let words = reserved.iter().copied().chain(kept.into_iter().map(|(word, _)| word));
        Self::index(words.map(str::to_owned).collect())
    }

    fn index(words: Vec<String>) -> Self {
        let reserved = words.iter().zip(RESERVED).take_while(|(a, b)| *a == b).count();
        let ids = words.iter().cloned().zip(0..).skip(reserved).collect();
        Self { words, ids }
    }

    /// How many ids there are, the reserved ones included.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is no word except the reserved ones.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The id of a word; [`UNKNOWN`] for a word outside the list, or `None` if that id is not
    /// reserved.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied().or_else(|| self.unknown())
    }

    /// [`UNKNOWN`], if it is reserved.
    pub fn unknown(&self) -> Option<u32> {
        (self.words.get(1).map(String::as_str) == Some(RESERVED[1])).then_some(UNKNOWN)
    }

    /// Words and their ids, without the reserved ones, most frequent first.
    pub fn words(&self) -> impl Iterator<Item = (&str, u32)> {
        let reserved = self.words.len() - self.ids.len();
        self.words.iter().map(String::as_str).zip(0..).skip(reserved)
    }

    /// The file: one word per line.
    pub fn to_text(&self) -> String {
        let mut text = self.words.join("\n");
        text.push('\n');
        text
    }

    /// Reads the output of [`Vocabulary::to_text`].
    ///
    /// # Errors
    /// [`VocabularyError`], with the line.
    pub fn parse(text: &str) -> Result<Self, VocabularyError> {
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        if words.first().is_none_or(|word| word != RESERVED[0]) {
            return Err(VocabularyError::Reserved);
        }
        let mut seen = std::collections::HashSet::new();
        for (index, word) in words.iter().enumerate() {
            if word.is_empty() || !seen.insert(word) {
                return Err(VocabularyError::Word { line: index + 1, word: word.clone() });
            }
        }
        Ok(Self::index(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn builds_by_frequency_and_is_unchanged_by_its_file() {
        let texts = [words("b a b c"), words("b a d <unknown>")];
        let built = Vocabulary::build(texts.iter().map(Vec::as_slice), 4, 1);
        assert_eq!(built.to_text(), "<padding>\n<unknown>\nb\na\n");
        let ids = |words: &Vocabulary| ["b", "a", "c"].map(|word| words.id(word));
        assert_eq!(ids(&built), [Some(2), Some(3), Some(UNKNOWN)]);
        assert_eq!(built.id("<padding>"), Some(UNKNOWN), "no text can write padding");
        assert!(built.words().eq([("b", 2), ("a", 3)]));
        assert_eq!(Vocabulary::parse(&built.to_text()), Ok(built));

        let closed = Vocabulary::build_closed(texts.iter().map(Vec::as_slice), 3, 1);
        assert_eq!(closed.to_text(), "<padding>\nb\na\n");
        assert_eq!(ids(&closed), [Some(1), Some(2), None]);
        assert_eq!(closed.id("<padding>"), None, "no text can write padding");
        assert!(closed.words().eq([("b", 1), ("a", 2)]));
        assert_eq!(Vocabulary::parse(&closed.to_text()), Ok(closed));
    }

    #[test]
    fn rare_words_are_left_out() {
        let texts = [words("a a b")];
        let built = Vocabulary::build(texts.iter().map(Vec::as_slice), 100, 2);
        assert_eq!(built.len(), 3);
    }

    #[test]
    fn errors_of_invalid_files_have_the_line() {
        let check = |name, text, line| {
            let found = match Vocabulary::parse(text) {
                Err(VocabularyError::Reserved) => 1,
                Err(VocabularyError::Word { line, .. }) => line,
                Ok(_) => 0,
            };
            assert_eq!(found, line, "{name}");
        };
        check("empty", "", 1);
        check("other reserved words", "[PAD]\n<unknown>\n", 1);
        check("twice", "<padding>\n<unknown>\na\nb\na\n", 5);
        check("empty line", "<padding>\n<unknown>\n\na\n", 3);
        check("sound", "<padding>\n<unknown>\na\n", 0);
    }
}
