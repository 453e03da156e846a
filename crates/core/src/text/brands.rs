//! Finds the brands that a tweet is about.
//!
//! **Invariant.** A term matches only as a whole: next to an end that is a letter, there is no
//! letter, digit or underscore. Scripts without spaces between words have no such border: see
//! [`has_border`]. Case, HTML entities, Unicode composition, the width of white space, and the form of
//! dashes and apostrophes never matter. Links are not read, because a word in an address says little
//! about the tweet. Deliberately absent: stemming and misspellings; list them as terms.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};
use unicode_script::{Script, UnicodeScript};

use super::{SourceText, canonical, is_word, link_length};

/// The terms of one brand; a tweet that matches any of them is about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrandRule {
    /// The name that [`BrandMatcher::matches`] returns.
    pub name: String,
    /// Whole words or phrases, any case. A sign before the word changes nothing:
    /// "delta" is found in "Delta!", "delta's" and "#delta".
    pub keywords: Vec<String>,
    /// Whole handles, any case, with or without the `@`.
    pub handles: Vec<String>,
    /// Whole hashtags, any case, with or without the `#`.
    pub hashtags: Vec<String>,
    /// Tags of the stream's own rules, exact.
    pub rule_tags: Vec<String>,
    /// Whether a keyword is also found with an English plural ending: "deltas" is "delta".
    pub plurals: bool,
}

/// The terms exceed the size limit of one automaton.
#[derive(Debug, thiserror::Error)]
#[error("the brands' terms are too many or too long: {0}")]
pub struct BrandError(#[from] aho_corasick::BuildError);

/// All brands' terms in one Aho-Corasick automaton, so the time for a text does not depend on
/// the number of terms.
#[derive(Debug, Clone)]
pub struct BrandMatcher {
    brands: Vec<BrandRule>,
    automaton: AhoCorasick,
    /// Brand of each pattern of the automaton.
    owner: Vec<usize>,
}

impl BrandMatcher {
    /// Compiles the rules. Terms that are empty, or only a sign, match nothing.
    ///
    /// # Errors
    /// [`BrandError`] if the terms take hundreds of megabytes.
    pub fn new(rules: impl IntoIterator<Item = BrandRule>) -> Result<Self, BrandError> {
        let brands: Vec<BrandRule> = rules.into_iter().collect();
        let (mut patterns, mut owner) = (Vec::new(), Vec::new());
        for (index, brand) in brands.iter().enumerate() {
            let signed = |sign: char| {
                move |term: &String| {
                    let bare = folded(&canonical(term)).trim_start_matches(sign).trim().to_owned();
                    if bare.is_empty() { bare } else { format!("{sign}{bare}") }
                }
            };
            let terms =
                (brand.keywords.iter().map(|term| folded(&canonical(term)).trim().to_owned()))
                    .chain(brand.handles.iter().map(signed('@')))
                    .chain(brand.hashtags.iter().map(signed('#')));
            for term in terms.filter(|term| !term.is_empty()) {
                patterns.push(term);
                owner.push(index);
            }
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns)?;
        Ok(Self { brands, automaton, owner })
    }

    /// Names of the brands that `text`, or one of the stream's `rule_tags`, is about:
    /// sorted, each once.
    pub fn matches(&self, text: &str, rule_tags: &[String]) -> Vec<String> {
        self.matches_in(&SourceText::new(text), rule_tags)
    }

    /// As [`BrandMatcher::matches`], for a text that shares its canonical form.
    pub fn matches_in(&self, text: &SourceText<'_>, rule_tags: &[String]) -> Vec<String> {
        let mut found = BTreeSet::new();
        for brand in &self.brands {
            if brand.rule_tags.iter().any(|tag| rule_tags.contains(tag)) {
                found.insert(brand.name.as_str());
            }
        }
        let text = without_links(&folded(text.canonical()));
        for hit in self.automaton.find_overlapping_iter(&text) {
            let brand = &self.brands[self.owner[hit.pattern().as_usize()]];
            let name = brand.name.as_str();
            let is_whole = || {
                has_boundaries(&text, hit.start(), hit.end())
                    || (brand.plurals && is_plural(&text, hit.start(), hit.end()))
            };
            if !found.contains(name) && is_whole() {
                found.insert(name);
            }
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// A canonical text in lower case with single blanks, and one kind of dashes and apostrophes.
fn folded(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len());
    for c in canonical.chars() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            match c {
                // Hyphens and dashes, the minus sign, small and full-width ones.
                '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' => {
                    out.push('-')
                }
                // Quotation marks and modifier letters in the place of an apostrophe.
                '\u{2018}' | '\u{2019}' | '\u{201B}' | '\u{02BC}' | '\u{02B9}' | '\u{2032}'
                | '\u{FF07}' => {
                    out.push('\'');
                }
                // A soft hyphen and a zero-width joiner are not seen.
                '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}' => {}
                _ => out.extend(c.to_lowercase()),
            }
        }
    }
    out
}

/// Replaces each link by a line feed, which no term contains.
fn without_links(text: &str) -> String {
    if !text.contains("://") && !text.contains("www.") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, ' ');
    while let Some(c) = rest.chars().next() {
        let link = if is_word(before) { None } else { link_length(rest) };
        let link = link.map(|length| address_length(&rest[..length]));
        let length = link.unwrap_or(c.len_utf8());
        if link.is_some() {
            out.push('\n');
        } else {
            out.push(c);
        }
        before = c;
        rest = &rest[length..];
    }
    out
}

/// Length in bytes of the address at the beginning of a link that reaches to the next white space: it
/// ends at a quotation mark, a bracket or a sign that no address contains. An address of `t.co`, where
/// Twitter puts all links, has letters and digits only.
fn address_length(link: &str) -> usize {
    if let Some(at) = link.find("//t.co/").map(|at| at + "//t.co/".len()) {
        let path = &link[at..];
        return at + path.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(path.len());
    }
    link.find(|c: char| {
        matches!(c, '"' | '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '\\' | '^' | '`')
            || matches!(c, '\u{3000}'..='\u{303F}' | '\u{FF00}'..='\u{FF0F}' | '\u{2010}'..='\u{2027}')
    })
    .unwrap_or(link.len())
}

/// Whether there is no letter, digit or underscore next to `text[start..end]`.
fn has_boundaries(text: &str, start: usize, end: usize) -> bool {
    let term = &text[start..end];
    let (first, last) = (term.chars().next(), term.chars().next_back());
    let (before, after) = (text[..start].chars().next_back(), text[end..].chars().next());
    // A sign belongs to the word before it: "x@united" is not a handle.
    let opens = first.is_some_and(|c| is_word(c) || c == '@' || c == '#');
    let closes = last.is_some_and(is_word);
    let is_open = |inner: Option<char>, outer: Option<char>, outer_is_behind| {
        inner.zip(outer).is_none_or(|(inner, outer)| has_border(inner, outer, outer_is_behind))
    };
    (!opens || is_open(first, before, false)) && (!closes || is_open(last, after, true))
}

/// Whether a word with the end `inner` ends there, next to `outer`.
///
/// Han characters, Hiragana, Thai, Lao, Khmer and Burmese are written without spaces, so a word may end
/// anywhere. A word of Katakana ends where another script begins. Korean endings are written at the end
/// of a word. (As ICU, which needs dictionaries of tens of megabytes to do better.)
fn has_border(inner: char, outer: char, outer_is_behind: bool) -> bool {
    // The prolonged sound mark belongs to two scripts.
    let is_katakana = |c: char| c.script() == Script::Katakana || c == 'ー';
    if !is_word(outer) {
        return true;
    }
    match inner.script() {
        Script::Han
        | Script::Hiragana
        | Script::Thai
        | Script::Lao
        | Script::Khmer
        | Script::Myanmar => true,
        Script::Hangul => outer_is_behind || outer.script() != Script::Hangul,
        _ if is_katakana(inner) => !is_katakana(outer),
        _ => matches!(
            outer.script(),
            Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Thai
        ),
    }
}

/// Whether `text[start..end]` is a whole word but for an English plural ending.
fn is_plural(text: &str, start: usize, end: usize) -> bool {
    ["s", "es"].iter().any(|ending| {
        text[end..].starts_with(ending) && has_boundaries(text, start, end + ending.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher() -> BrandMatcher {
        let list = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
        BrandMatcher::new([
            BrandRule {
                name: "united".into(),
                keywords: list(&["United Airlines", "united.com"]),
                handles: list(&["@united"]),
                hashtags: list(&["flyunited", "#UAL"]),
                rule_tags: list(&["united-rule"]),
                ..BrandRule::default()
            },
            BrandRule {
                name: "delta".into(),
                keywords: list(&["delta", "Delta Air"]),
                handles: list(&["Delta"]),
                ..BrandRule::default()
            },
            BrandRule {
                name: "misc".into(),
                keywords: list(&["AT&T", "café", "yahoo!", "🍎", "C++", "", "ÉCOLE"]),
                handles: list(&["@", " "]),
                ..BrandRule::default()
            },
        ])
        .unwrap()
    }

    #[test]
    fn finds_brands() {
        let matcher = matcher();
        let check = |name: &str, text: &str, expected: &[&str]| {
            assert_eq!(matcher.matches(text, &[]), expected, "{name}");
        };
        check("handle", "thanks @united", &["united"]);
        check("handle in capitals", "@UNITED why", &["united"]);
        check("handle with punctuation", ".@United: why", &["united"]);
        check("longer handle", "@unitednations @united_nations", &[]);
        check("handle in an address", "mail x@united", &[]);
        check("the word without the sign", "we stand united", &[]);
        check("full-width sign", "＠united", &["united"]);
        check("hashtag, sign added", "#FlyUnited!", &["united"]);
        check("hashtag, sign given", "so #ual", &["united"]);
        check("the tag without the sign", "flyunited", &[]);
        check("longer hashtag", "#ualfail", &[]);
        check("phrase", "UNITED airlines lost it", &["united"]);
        check("phrase over a line break", "united \n airlines", &["united"]);
        check("phrase in longer words", "reunited airlines", &[]);
        check("keyword", "Delta, why?", &["delta"]);
        check("keyword, possessive", "delta's food", &["delta"]);
        check("keyword, curly possessive", "delta’s food", &["delta"]);
        check("keyword, plural", "deltas", &[]);
        check("keyword as hashtag", "#delta", &["delta"]);
        check("keyword within a word", "deltax xdelta delta_x", &[]);
        check("keyword in a link", "http://t.co/delta https://delta.com/x", &[]);
        check("keyword after a link", "http://t.co/a delta", &["delta"]);
        check("link without scheme", "see united.com now", &["united"]);
        check("two brands, sorted", "@united or @delta", &["delta", "united"]);
        check("twice the same", "delta delta air @delta", &["delta"]);
        check("entity", "AT&amp;T is down", &["misc"]);
        check("letter after a sign", "at&tt", &[]);
        check("accent", "CAFÉ", &["misc"]);
        check("decomposed accent", "cafe\u{301}", &["misc"]);
        check("without the accent", "cafe", &[]);
        check("accent folds in the rule", "école", &["misc"]);
        check("emoji", "an🍎a day", &["misc"]);
        check("ends in signs", "yahoo!! and c++11", &["misc"]);
        check("emoji beside a word", "delta😡", &["delta"]);
        check("nothing", "", &[]);
        check("a lone sign", "@ # you", &[]);
    }

    #[test]
    fn finds_brands_in_scripts_without_spaces() {
        let list = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
        let matcher = BrandMatcher::new([BrandRule {
            name: "it".into(),
            keywords: list(&["トヨタ", "삼성", "华为", "การบินไทย", "ANA", "全日空"]),
            ..BrandRule::default()
        }])
        .unwrap();
        let check = |name: &str, text: &str, expected: bool| {
            assert_eq!(!matcher.matches(text, &[]).is_empty(), expected, "{name}");
        };
        check("Katakana before Hiragana", "トヨタの車は最悪", true);
        check("Katakana within Katakana", "トヨタマの車", false);
        check("a prolonged sound", "トヨター", false);
        check("a Korean ending", "삼성은 최악", true);
        check("the end of a Korean word", "외삼성", false);
        check("Han within Han", "我讨厌华为手机", true);
        check("Thai within Thai", "สายการบินไทยแย่มาก", true);
        check("Latin before Hiragana", "ANAは最悪", true);
        check("Latin within Latin", "banana は", false);
        check("Han before Hiragana", "全日空の便", true);
    }

    #[test]
    fn dashes_apostrophes_and_plurals() {
        let rule = |plurals| BrandRule {
            name: "it".into(),
            keywords: vec!["Coca-Cola".into(), "McDonald's".into(), "delta".into()],
            plurals,
            ..BrandRule::default()
        };
        let matcher = |plurals| BrandMatcher::new([rule(plurals)]).unwrap();
        let check = |name: &str, text: &str, expected: (bool, bool)| {
            let found = |plurals| !matcher(plurals).matches(text, &[]).is_empty();
            assert_eq!((found(false), found(true)), expected, "{name}");
        };
        check("a hyphen", "coca\u{2010}cola", (true, true));
        check("a non-breaking hyphen", "Coca\u{2011}Cola", (true, true));
        check("a dash", "Coca–Cola", (true, true));
        check("a soft hyphen", "del\u{AD}ta", (true, true));
        check("a modifier letter", "mcdonaldʼs", (true, true));
        check("a plural", "two deltas", (false, true));
        check("a plural, possessive", "the deltas' crews", (false, true));
        check("another word", "deltasky", (false, false));
    }

    #[test]
    fn a_link_ends_where_an_address_ends() {
        let matcher = matcher();
        let check = |name: &str, text: &str, expected: &[&str]| {
            assert_eq!(matcher.matches(text, &[]), expected, "{name}");
        };
        check("a bracket", "(https://t.co/abc)@united", &["united"]);
        check("a quotation mark", "https://t.co/abc\"@united", &["united"]);
        check("a comma", "http://t.co/abc,@united", &["united"]);
        check("a full stop of another script", "https://example.com/a。@united", &["united"]);
        check("a comma within", "https://example.com/a,delta", &[]);
        check("a curly quotation mark", "“https://example.com/a”delta", &["delta"]);
    }

    #[test]
    fn rule_tags_are_exact() {
        let matcher = matcher();
        assert_eq!(matcher.matches("hm", &["united-rule".into()]), ["united"]);
        assert!(matcher.matches("hm", &["United-Rule".into()]).is_empty());
    }

    #[test]
    fn no_rules_match_nothing() {
        assert!(BrandMatcher::new([]).unwrap().matches("@united", &[]).is_empty());
    }

    #[test]
    fn many_terms_and_a_long_text() {
        let rules = (0..500).map(|n| BrandRule {
            name: format!("brand{n:03}"),
            keywords: vec![format!("word{n}"), format!("phrase number {n}")],
            ..BrandRule::default()
        });
        let matcher = BrandMatcher::new(rules).unwrap();
        let text = format!("{} word7 phrase number 499", "filler ".repeat(100_000));
        assert_eq!(matcher.matches(&text, &[]), ["brand007", "brand499"]);
    }
}
