use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest tag accepted, in bytes; BCP 47 asks readers for 35.
const TAG_BYTES_MAX: usize = 35;

/// Codes that ISO 639 has replaced. X still sends "in" and "iw".
const REPLACED: [(&str, &str); 5] =
    [("in", "id"), ("iw", "he"), ("ji", "yi"), ("jw", "jv"), ("mo", "ro")];

/// Codes of three letters, and the ISO 639-1 codes of the same languages.
#[rustfmt::skip]
const THREE_LETTERS: [(&str, &str); 73] = [
    ("afr", "af"), ("aka", "ak"), ("amh", "am"), ("ara", "ar"), ("aze", "az"), ("bel", "be"),
    ("ben", "bn"), ("bul", "bg"), ("cat", "ca"), ("ces", "cs"), ("cmn", "zh"), ("cym", "cy"),
    ("dan", "da"), ("deu", "de"), ("ell", "el"), ("eng", "en"), ("epo", "eo"), ("est", "et"),
    ("fas", "fa"), ("fin", "fi"), ("fra", "fr"), ("guj", "gu"), ("heb", "he"), ("hin", "hi"),
    ("hrv", "hr"), ("hun", "hu"), ("hye", "hy"), ("ind", "id"), ("ita", "it"), ("jav", "jv"),
    ("jpn", "ja"), ("kan", "kn"), ("kat", "ka"), ("khm", "km"), ("kor", "ko"), ("lat", "la"),
    ("lav", "lv"), ("lit", "lt"), ("mal", "ml"), ("mar", "mr"), ("mkd", "mk"), ("mya", "my"),
    ("nep", "ne"), ("nld", "nl"), ("nob", "nb"), ("nor", "no"), ("ori", "or"), ("pan", "pa"),
    ("pes", "fa"), ("pol", "pl"), ("por", "pt"), ("ron", "ro"), ("rus", "ru"), ("sin", "si"),
    ("slk", "sk"), ("slv", "sl"), ("sna", "sn"), ("spa", "es"), ("srp", "sr"), ("swe", "sv"),
    ("tam", "ta"), ("tel", "te"), ("tgl", "tl"), ("tha", "th"), ("tuk", "tk"), ("tur", "tr"),
    ("ukr", "uk"), ("urd", "ur"), ("uzb", "uz"), ("vie", "vi"), ("yid", "yi"), ("zho", "zh"),
    ("zul", "zu"),
];

/// Codes of ISO 639-2 that stand for no language: undetermined, several, none of the others,
/// no words, artificial.
const NO_LANGUAGE: [&str; 5] = ["und", "mul", "mis", "zxx", "art"];

/// A language, as its ISO 639-1 code ("en"). A language without one has its ISO 639-3 code
/// ("ckb", Central Kurdish).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language {
    /// Lower-case ASCII letters, the third one is 0 in a code of two.
    code: [u8; 3],
}

/// Why a tag does not name a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLanguage {
    /// The tag does not begin with two or three letters, or it is too long.
    #[error("a language is a code of two or three letters such as \"en\"")]
    Malformed,
    /// The tag says that the language is unknown, or that the tweet has no words: "und",
    /// "zxx", or one of X's codes for hashtags, mentions, media only ("qht", "qam", "qme").
    #[error("the code stands for no language")]
    NoLanguage,
}

impl Language {
    /// English, the language of the models that ship.
    pub const ENGLISH: Self = Self::of(*b"en");

    /// The language with this ISO 639-1 code, which must be two lower-case letters.
    pub(crate) const fn of(code: [u8; 2]) -> Self {
        assert!(code[0].is_ascii_lowercase() && code[1].is_ascii_lowercase());
        Self { code: [code[0], code[1], 0] }
    }

    /// The code: two or three lower-case letters.
    pub fn as_str(&self) -> &str {
        let length = if self.code[2] == 0 { 2 } else { 3 };
        str::from_utf8(&self.code[..length]).expect("the constructors accept ASCII letters only")
    }

    /// Whether it is one of some seventy common languages, and no code that a sender made up.
    pub fn is_common(&self) -> bool {
        THREE_LETTERS.iter().any(|(_, code)| *code == self.as_str())
    }
}

impl FromStr for Language {
    type Err = InvalidLanguage;

    /// Reads a code or a BCP 47 tag in any case, and drops region and script: "pt-BR" is "pt".
    /// A replaced code becomes the new one, a code of three letters that of two, if there is one.
    ///
    /// # Errors
    /// [`InvalidLanguage`]. Whether such a language exists is not checked.
    fn from_str(tag: &str) -> Result<Self, InvalidLanguage> {
        let tag = tag.trim();
        let code = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let letters = code.bytes().all(|byte| byte.is_ascii_lowercase());
        if tag.len() > TAG_BYTES_MAX || !letters || !matches!(code.len(), 2 | 3) {
            return Err(InvalidLanguage::Malformed);
        }
        // ISO 639-2 leaves qaa to qtz to private use.
        let private = code.len() == 3
            && (*b"qa"..=*b"qt").contains(&[code.as_bytes()[0], code.as_bytes()[1]]);
        if private || NO_LANGUAGE.contains(&code.as_str()) {
            return Err(InvalidLanguage::NoLanguage);
        }
        let replaced = REPLACED.iter().chain(&THREE_LETTERS).find(|(old, _)| *old == code);
        let code = replaced.map_or(code.as_str(), |(_, new)| new).as_bytes();
        Ok(Self { code: [code[0], code[1], code.get(2).copied().unwrap_or(0)] })
    }
}

impl TryFrom<String> for Language {
    type Error = InvalidLanguage;

    fn try_from(tag: String) -> Result<Self, InvalidLanguage> {
        tag.parse()
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.as_str().to_owned()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Language({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tags() {
        let check = |name: &str, tag: &str, expected: Result<&str, InvalidLanguage>| {
            let found = tag.parse::<Language>();
            assert_eq!(found.as_ref().map(Language::as_str), expected.as_ref().copied(), "{name}");
        };
        check("a code", "en", Ok("en"));
        check("capitals, blanks", " FR ", Ok("fr"));
        check("a region", "pt-BR", Ok("pt"));
        check("a script", "zh-Hant-TW", Ok("zh"));
        check("an underscore", "zh_tw", Ok("zh"));
        check("three letters", "ckb", Ok("ckb"));
        check("three letters for a code of two", "fra", Ok("fr"));
        check("Indonesian, as X says it", "in", Ok("id"));
        check("Hebrew, as X says it", "iw", Ok("he"));
        check("undetermined", "und", Err(InvalidLanguage::NoLanguage));
        check("no words", "zxx", Err(InvalidLanguage::NoLanguage));
        check("media only", "qme", Err(InvalidLanguage::NoLanguage));
        check("hashtags only", "qht", Err(InvalidLanguage::NoLanguage));
        check("too short for X", "qst", Err(InvalidLanguage::NoLanguage));
        check("Quechua is a language", "qu", Ok("qu"));
        check("K'iche' is a language", "quc", Ok("quc"));
        check("empty", "", Err(InvalidLanguage::Malformed));
        check("a name", "english", Err(InvalidLanguage::Malformed));
        check("digits", "e1", Err(InvalidLanguage::Malformed));
        check("other letters", "éñ", Err(InvalidLanguage::Malformed));
        check("NUL", "en\0", Err(InvalidLanguage::Malformed));
        check("endless", &format!("en-{}", "x".repeat(40)), Err(InvalidLanguage::Malformed));
    }

    #[test]
    fn knows_common_languages() {
        let check = |tag: &str, expected| {
            assert_eq!(tag.parse::<Language>().unwrap().is_common(), expected, "{tag}");
        };
        check("en", true);
        check("jpn", true);
        check("iw", true);
        check("xx", false);
        check("ckb", false);
    }

    #[test]
    fn is_a_string_in_json() {
        let read = |json: &str| serde_json::from_str::<Language>(json);
        assert_eq!(serde_json::to_string(&Language::ENGLISH).unwrap(), r#""en""#);
        assert_eq!(read(r#""en""#).unwrap(), Language::ENGLISH);
        assert!(read(r#""und""#).unwrap_err().to_string().contains("no language"));
        assert!(read("7").is_err());
        assert_eq!(format!("{:>4}", Language::ENGLISH), "  en");
    }
}
