//! Turns a text into words, by the rules of a named preset.
//!
//! **Invariant.** A [`Preset`] never changes after a model has shipped with it: new rules get a
//! new name. Deliberately absent: the rules themselves; each preset has a module.

use std::sync::Arc;

use super::{Lexicon, PlacedWord, SourceText, places, study, tweet};

/// Rules that turn a text into words. Manifests contain their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Rules for tweets. Lower case; `@someone`, links and numbers become `<user>`, `<url>`,
    /// `<number>`; a hashtag becomes its words (`#FlyAway` gives "fly away"); a letter
    /// that occurs more than twice in a row is cut to two, and `<long>` follows the word;
    /// emoticons and common emoji become a word (":(" gives "sad"), any other emoji is a word
    /// itself; of punctuation only `!`, `!!`, `?`, `??` and `...` stay; "don't" stays one word.
    Tweet,
    /// The recipe of the study behind this project, for comparison. In this order:
    ///
    /// | step | result |
    /// | --- | --- |
    /// | brackets | `[...]` is removed with its content |
    /// | links | `http://`, `https://` and `www.` are removed up to the next white space |
    /// | line breaks | are removed; the words on both sides become one |
    /// | punctuation | ASCII punctuation is removed: "don't" becomes "dont", "@you" "you" |
    /// | lower case | |
    /// | stop words | NLTK's English stop words are removed, "not" and "no" among them |
    /// | lemmas | WordNet's, each word read as a noun: "cats" becomes "cat" |
    /// | dictionary | a word that is not in NLTK's `words` is removed: names, "lol", "loved" |
    ///
    /// A model with these rules contains the word lists of its training.
    Study,
}

/// No preset has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no text preset {0:?}; this program knows \"tweet\" and \"study\"")]
pub struct UnknownPreset(pub String);

impl std::str::FromStr for Preset {
    type Err = UnknownPreset;
    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        match name {
            "tweet" => Ok(Self::Tweet),
            "study" => Ok(Self::Study),
            other => Err(UnknownPreset(other.to_owned())),
        }
    }
}

impl Preset {
    /// The name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tweet => "tweet",
            Self::Study => "study",
        }
    }
}

/// A preset with the word lists it needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Analyzer {
    rules: Rules,
}

#[derive(Debug, Clone)]
enum Rules {
    Tweet,
    Study(Arc<Lexicon>),
}

impl Analyzer {
    /// An analyzer with the rules of [`Preset::Tweet`].
    pub fn tweet() -> Self {
        Self { rules: Rules::Tweet }
    }

    /// An analyzer with the rules of [`Preset::Study`].
    pub fn study(lexicon: Arc<Lexicon>) -> Self {
        Self { rules: Rules::Study(lexicon) }
    }

    /// The preset.
    pub fn preset(&self) -> Preset {
        match self.rules {
            Rules::Tweet => Preset::Tweet,
            Rules::Study(_) => Preset::Study,
        }
    }

    /// The word lists it needs, if any; kept with the model.
    pub fn lexicon(&self) -> Option<&Lexicon> {
        match &self.rules {
            Rules::Tweet => None,
            Rules::Study(lexicon) => Some(lexicon),
        }
    }

    /// The first `words_max` words of `text`, read from its first
    /// [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX) bytes.
    pub fn words(&self, text: &str, words_max: usize) -> Vec<String> {
        self.words_of(&SourceText::new(text), words_max)
    }

    /// As [`Analyzer::words`], for a text that shares its canonical form.
    pub fn words_of(&self, text: &SourceText<'_>, words_max: usize) -> Vec<String> {
        match &self.rules {
            Rules::Tweet => tweet::words(text, words_max),
            Rules::Study(lexicon) => study::words(text.raw(), lexicon, words_max),
        }
    }

    /// The words of [`Analyzer::words`] with their places in `text`. `None` with the study's
    /// rules, which join and remove parts of words.
    pub fn placed_words(&self, text: &str, words_max: usize) -> Option<Vec<PlacedWord>> {
        match &self.rules {
            Rules::Tweet => Some(places::placed_words(text, words_max)),
            Rules::Study(_) => None,
        }
    }
}
