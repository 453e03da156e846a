//! Finds the language of a tweet from its text, for streams that do not name it.
//!
//! Two detectors decide together. `whichlang` (logistic regression on letters, 16 languages)
//! judges every text in Latin letters; most are English, and this takes about a microsecond. If it
//! names another language, `whatlang` (profiles of trigrams) has to confirm. Texts in other
//! scripts are for `whatlang` alone, because the script tells most.
//!
//! **Invariant.** Pure. An English tweet that is called another language is lost, because it
//! is not scored. So a text that is short, or on which the detectors disagree, has no language,
//! and the caller scores it. `scripts/bench language` prints the figures behind the limits.
//! Deliberately absent: Hindi and Arabic in Latin letters, which neither detector knows, and
//! texts in several languages.

use std::collections::HashMap;
use std::sync::LazyLock;

use whatlang::{Detector, Lang, Script};

use super::{SourceText, is_word};
use crate::domain::Language;

/// A text in Latin letters with fewer letters has no language. Chosen with the other limits on
/// the training rows of seven languages and on English tweets that the benchmark leaves out.
const LETTERS_MIN: usize = 6;
/// The same for other scripts, where a word may be two characters.
const LETTERS_OTHER_SCRIPT_MIN: usize = 2;
/// A text with fewer letters has the language on which both detectors agree, or none.
const LETTERS_ALONE_MIN: usize = 15;
/// From this confidence on, `whatlang` is believed against `whichlang`: the language may be
/// one that `whichlang` does not know. It is also `whatlang`'s own mark of a reliable result.
const CONFIDENCE_MIN: f64 = 0.9;
/// Largest number of bytes of words that are read.
const WORDS_BYTES_MAX: usize = 1024;
/// The longest run of one letter: "sooooo" becomes "soo".
const REPEATS_MAX: usize = 2;

/// The languages in Latin letters that can be found: those of `whichlang`, and three that are
/// common on X. More would be slower, and less accurate.
const LATIN: [Lang; 13] = [
    Lang::Cat,
    Lang::Deu,
    Lang::Eng,
    Lang::Fra,
    Lang::Ind,
    Lang::Ita,
    Lang::Nld,
    Lang::Pol,
    Lang::Por,
    Lang::Spa,
    Lang::Swe,
    Lang::Tur,
    Lang::Vie,
];

static LATIN_DETECTOR: LazyLock<Detector> =
    LazyLock::new(|| Detector::with_allowlist(LATIN.to_vec()));
static OTHER_DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::new);

/// The language of `text`, or `None` if it is too short or not certain.
pub fn detect(text: &str) -> Option<Language> {
    detect_in(&SourceText::new(text))
}

/// As [`detect`], for a text that shares its canonical form.
pub fn detect_in(text: &SourceText<'_>) -> Option<Language> {
    let words = words(&text.canonical_beginning());
    let letters = words.chars().filter(|c| c.is_alphabetic()).count();
    let script = if words.is_ascii() { Script::Latin } else { whatlang::detect_script(&words)? };
    let lang = match script {
        Script::Latin if letters >= LETTERS_MIN => in_latin(&words, letters)?,
        Script::Latin => return None,
        _ if letters >= LETTERS_OTHER_SCRIPT_MIN => in_other_script(&words)?,
        _ => return None,
    };
    Some(lang.code().parse().expect("whatlang has ISO 639-3 codes of languages"))
}

fn in_latin(words: &str, letters: usize) -> Option<Lang> {
    let first = Lang::from_code(whichlang::detect_language(words).three_letter_code())?;
    if first == Lang::Eng {
        return Some(first);
    }
    let second = LATIN_DETECTOR.detect(words)?;
    if second.lang() == first {
        return Some(first);
    }
    if second.lang() == Lang::Eng || letters < LETTERS_ALONE_MIN {
        return None;
    }
    if second.confidence() >= CONFIDENCE_MIN {
        return Some(second.lang());
    }
    LATIN.contains(&first).then_some(first)
}

fn in_other_script(words: &str) -> Option<Lang> {
    let found = OTHER_DETECTOR.detect(words)?;
    if found.confidence() >= CONFIDENCE_MIN {
        return Some(found.lang());
    }
    // Several languages share the script: the one with most tweets.
    Some(match found.script() {
        Script::Arabic => Lang::Ara,
        Script::Cyrillic => Lang::Rus,
        Script::Devanagari => Lang::Hin,
        Script::Hebrew => Lang::Heb,
        _ => found.lang(),
    })
}

/// The English name of a language, or its code if the name is not known.
pub fn name(language: &Language) -> &str {
    static NAMES: LazyLock<HashMap<Language, &str>> = LazyLock::new(|| {
        let code = |lang: &Lang| lang.code().parse().expect("whatlang has ISO 639-3 codes");
        Lang::all().iter().map(|lang| (code(lang), lang.eng_name())).collect()
    });
    NAMES.get(language).copied().unwrap_or(language.as_str())
}

/// The words of `text` from which [`detect`] reads the language, in lower case with single
/// blanks: no mentions, links, emoji, digits and punctuation, and hashtags without their sign.
pub fn words_to_detect(text: &str) -> String {
    words(&SourceText::new(text).canonical_beginning())
}

fn words(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len().min(WORDS_BYTES_MAX + 4));
    // As if after a blank: the words do not begin with one.
    let (mut last, mut run) = (' ', 1);
    for word in canonical.split_whitespace().filter(|word| !is_noise(word)) {
        for c in word.chars().flat_map(char::to_lowercase).chain([' ']) {
            let letter = (is_word(c) && !c.is_numeric() && c != '_') || c == '\'';
            let c = if letter { c } else { ' ' };
            run = if c == last { run + 1 } else { 1 };
            last = c;
            if run <= if c == ' ' { 1 } else { REPEATS_MAX } {
                out.push(c);
            }
        }
        if out.len() > WORDS_BYTES_MAX {
            break;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Whether a word says nothing about the language: mentions, links, also cut ones, and the
/// sign of a retweet.
fn is_noise(word: &str) -> bool {
    const WHOLE: [&str; 3] = ["rt", "http", "https"];
    const PARTS: [&str; 4] = ["@", "://", "t.co/", "twitter.com/"];
    WHOLE.iter().any(|whole| word.eq_ignore_ascii_case(whole))
        || PARTS.iter().any(|part| word.contains(part))
        || word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www."))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn finds_the_language() {
        let check = |name: &str, text: &str, expected: Option<&str>| {
            let found = detect(text);
            assert_eq!(found.as_ref().map(Language::as_str), expected, "{name}: {text:?}");
        };
        check("English", "@united flight cancelled again, worst service ever", Some("en"));
        check("English, neutral", "my flight is at 8am tomorrow", Some("en"));
        check("English slang", "omg sooooo tired rn, cant even lol #mondays", Some("en"));
        check("English with a name", "Just landed in São Paulo, lost my bag @LATAM", Some("en"));
        check("English with entities", "Tom &amp; I can&#39;t get a refund &lt;3", Some("en"));
        check("French", "@AirFrance encore un vol annulé, c'est vraiment la honte", Some("fr"));
        check("French, no accents", "jamais vu un service client aussi nul", Some("fr"));
        check(
            "French, capitals",
            "VOL ANNULÉ ENCORE UNE FOIS, QUELLE HONTE POUR VOTRE COMPAGNIE",
            Some("fr"),
        );
        check("German", "Schon wieder zwei Stunden Verspätung, danke @DB_Bahn", Some("de"));
        check("Spanish", "Llevo tres horas esperando y nadie contesta 😡", Some("es"));
        check("Italian", "non ci posso credere, hanno perso la mia valigia", Some("it"));
        check("Portuguese", "vocês não respondem ninguém, que vergonha", Some("pt"));
        check("Dutch", "alweer vertraging, wat een waardeloze service is dit", Some("nl"));
        check("Turkish", "uçuşum yine iptal oldu, kimse cevap vermiyor", Some("tr"));
        check(
            "Polish, unknown to whichlang",
            "mój lot został znowu odwołany, dziękuję bardzo",
            Some("pl"),
        );
        check(
            "Indonesian",
            "kenapa penerbangan saya dibatalkan lagi tanpa pemberitahuan",
            Some("id"),
        );
        check("Arabic", "خدمة سيئة جدا والرحلة ألغيت", Some("ar"));
        check("Hindi", "मेरी उड़ान फिर से रद्द हो गई", Some("hi"));
        check("Russian", "мой рейс опять отменили, ужасный сервис", Some("ru"));
        check("Japanese", "トヨタの車は最悪", Some("ja"));
        check("Korean", "삼성은 최악", Some("ko"));
        check("Chinese", "我讨厌华为手机", Some("zh"));
        check("Greek", "η πτήση μου ακυρώθηκε", Some("el"));
        check("Thai", "เที่ยวบินของฉันถูกยกเลิก", Some("th"));
        check("a face, not Kannada", "that price tag ಠ_ಠ", Some("en"));
        check("nothing", "", None);
        check("blanks", " \n", None);
        check("a word", "merci", None);
        check("a name", "Beyoncé", None);
        check("digits and signs", "100 % :( !!! 😡😡", None);
        check("mentions and links", "@united @delta https://t.co/abc http", None);
        check("one letter of another script", "ツ", None);
    }

    #[test]
    fn names() {
        let check = |code: &str, expected| assert_eq!(name(&code.parse().unwrap()), expected);
        check("fr", "French");
        check("en", "English");
        check("ckb", "ckb");
    }

    /// Each English tweet that is called another language is a tweet that is not scored.
    #[test]
    fn english_tweets_are_seldom_called_another_language() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/airline-week.csv.xz");
        let file = lzma_rust2::XzReader::new(File::open(path).expect("the fixture"), true);
        let mut text = String::new();
        std::io::BufReader::new(file).read_to_string(&mut text).expect("a table");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let texts: Vec<String> =
            reader.records().map(|row| row.expect("a row")[2].to_owned()).collect();
        let other = |text: &&String| detect(text).is_some_and(|found| found != Language::ENGLISH);
        let others = texts.iter().filter(other).count();
        assert!(others * 200 <= texts.len(), "{others} of {}", texts.len());
    }

    #[test]
    fn reads_words_only() {
        let check = |name: &str, text: &str, expected: &str| {
            assert_eq!(words_to_detect(text), expected, "{name}");
        };
        check("plain", "a flight", "a flight");
        check("mentions", "RT @ann: cc:@bob hi (@united)", "hi");
        check("links", "see https://t.co/x www.x.com t.co/y pic.twitter.com/z http", "see");
        check("hashtags", "#late_again #Fail2day", "late again fail day");
        check("apostrophes", "can’t &amp; won&#39;t", "can't won't");
        check("emoji and signs", "no!!! 😡👍🏽 ❤️ :-(", "no");
        check("runs of a letter", "sooooo annoyed", "soo annoyed");
        check("marks", "cafe\u{301} मेरी", "café मेरी");
        check("nothing", "12 %", "");
    }

    #[test]
    fn work_is_bounded() {
        let words = words_to_detect(&"mot ".repeat(500_000));
        assert!(words.len() <= WORDS_BYTES_MAX + 4);
        assert!(words_to_detect(&"ab".repeat(500_000)).len() <= super::super::TEXT_BYTES_MAX);
    }

    #[test]
    fn every_language_found_has_a_code_of_two_letters() {
        for lang in Lang::all() {
            let language: Language = lang.code().parse().expect("a code of ISO 639-3");
            assert_eq!(language.as_str().len(), 2, "{lang:?}");
        }
    }
}
