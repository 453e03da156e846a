//! Finds the brands that a tweet is about.
//!
//! **Invariant.** A term matches only as a whole: next to an end that is a letter, there is no
//! letter, digit or underscore. Case, HTML entities, Unicode composition and the width of
//! white space never matter. Links are not read, because a word in an address says little
//! about the tweet. Deliberately absent: stemming ("deltas" is not "delta") and
//! misspellings; list them as terms.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

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
            let name = self.brands[self.owner[hit.pattern().as_usize()]].name.as_str();
            if !found.contains(name) && has_boundaries(&text, hit.start(), hit.end()) {
                found.insert(name);
            }
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// A canonical text in lower case with single blanks.
fn folded(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len());
    for c in canonical.chars() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.extend(c.to_lowercase());
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

/// Whether there is no letter, digit or underscore next to `text[start..end]`.
fn has_boundaries(text: &str, start: usize, end: usize) -> bool {
    let term = &text[start..end];
    let (first, last) = (term.chars().next(), term.chars().next_back());
    let (before, after) = (text[..start].chars().next_back(), text[end..].chars().next());
    // A sign belongs to the word before it: "x@united" is not a handle.
    let opens = first.is_some_and(|c| is_word(c) || c == '@' || c == '#');
    let closes = last.is_some_and(is_word);
    let touched = (opens && before.is_some_and(is_word)) || (closes && after.is_some_and(is_word));
    !touched
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
