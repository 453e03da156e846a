//! From a text to words, by named rules.
//!
//! **Invariant.** A [`Preset`] is frozen once a model has shipped with it: other rules
//! get another name. Deliberately absent: what the rules are; each has a module.

use super::tweet;

/// Rules that turn a text into words, by the name that manifests carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// For tweets. Lower case; `@someone`, links and numbers become `<user>`, `<url>`,
    /// `<number>`; a hashtag becomes its words (`#FlyAway` gives "fly away"); a letter
    /// repeats twice at most, and `<long>` follows where it was more; emoticons and the
    /// common emoji become the word they stand for (":(" gives "sad"), another emoji is a
    /// word of its own; of punctuation only `!`, `!!`, `?`, `??` and `...` stay; "don't"
    /// stays one word.
    Tweet,
}

/// No preset has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no text preset {0:?}; this program knows \"tweet\"")]
pub struct UnknownPreset(pub String);

impl std::str::FromStr for Preset {
    type Err = UnknownPreset;
    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        match name {
            "tweet" => Ok(Self::Tweet),
            other => Err(UnknownPreset(other.to_owned())),
        }
    }
}

impl Preset {
    /// The name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tweet => "tweet",
        }
    }
}

/// A preset with the word lists it needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Analyzer {
    preset: Preset,
}

impl Analyzer {
    /// By the rules of [`Preset::Tweet`].
    pub fn tweet() -> Self {
        Self { preset: Preset::Tweet }
    }

    /// Whose rules these are.
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// The first `words_max` words of `text`, read from its first
    /// [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX) bytes.
    pub fn words(&self, text: &str, words_max: usize) -> Vec<String> {
        match self.preset {
            Preset::Tweet => tweet::words(text, words_max),
        }
    }
}
