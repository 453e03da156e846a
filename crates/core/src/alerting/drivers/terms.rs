//! Weights terms by log-odds: which terms are more frequent in the incident than before it.
//!
//! Source: Monroe, Colaresi, Quinn, "Fightin' Words: Lexical Feature Selection and
//! Evaluation for Identifying the Content of Political Conflict", Political Analysis 16
//! (2008), equations 16 and 22. A term counts once per tweet, so that a tweet cannot increase
//! the weight of a term by repeating it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::stop_words::{is_function_word, is_negation};
use super::{DriverLimits, Term, TermKind};
use crate::text::{Token, TokenKind};

/// The prior weighs as much as this many tweets.
const PRIOR_TWEETS: f64 = 50.0;
/// Two terms that share a word are redundant if this share of the tweets of one also contain the
/// other.
const TOGETHER_MIN: f64 = 0.75;
/// Largest number of words in a phrase, or of characters in a phrase of a script without spaces.
const PHRASE_WORDS_MAX: usize = 3;
const PHRASE_CHARACTERS_MAX: usize = 4;
/// Number of candidates compared with each other, per term in the result.
const CANDIDATES_PER_TERM: usize = 20;
/// Terms that are found for each one in the result: themes are made of more.
const FOUND_PER_TERM: usize = 3;

/// A distinct tweet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a> {
    pub tokens: &'a [Token],
    pub is_negative: bool,
}

/// A term, and the positions of the incident's tweets that contain it, ascending.
#[derive(Debug)]
pub(super) struct Found {
    pub term: Term,
    pub tweets: Vec<u32>,
    key: Key,
}

/// The numbers of a term's tokens; unused places are [`NO_TOKEN`].
type Key = [u32; PHRASE_CHARACTERS_MAX];
const NO_TOKEN: u32 = u32::MAX;

/// How many distinct tweets contain a term.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    incident: u32,
    baseline_negative: u32,
    baseline: u32,
}

/// The terms with a positive weight of `incident`, whose tweets are all negative, compared with
/// `baseline`; heaviest first, without redundant terms. Up to [`FOUND_PER_TERM`] times
/// [`DriverLimits::terms_max`].
pub(super) fn distinctive(
    incident: &[Counted<'_>],
    baseline: &[Counted<'_>],
    own: &[String],
    limits: &DriverLimits,
) -> Vec<Found> {
    let mut reader = Reader::new(own);
    let mut tallies: FxHashMap<Key, Tally> = FxHashMap::default();
    let keys: Vec<Vec<Key>> = incident.iter().map(|tweet| reader.keys(tweet.tokens)).collect();
    for key in keys.iter().flatten() {
        tallies.entry(*key).or_default().incident += 1;
    }
    tallies.retain(|_, tally| tally.incident >= limits.tweets_min);
    for tweet in baseline {
        for key in reader.keys(tweet.tokens) {
            if let Some(tally) = tallies.get_mut(&key) {
                tally.baseline += 1;
                tally.baseline_negative += u32::from(tweet.is_negative);
            }
        }
    }
    let negative = baseline.iter().filter(|tweet| tweet.is_negative).count();
    let z = |tally: &Tally| z(tally, incident.len(), negative, baseline.len());
    let mut candidates: Vec<Found> = tallies
        .iter()
        .map(|(key, tally)| (key, tally, z(tally)))
        .filter(|(.., z)| *z > 0.0)
        .map(|(key, tally, z)| reader.found(*key, tally, z))
        .filter(|found| !reader.is_own(&found.term.text))
        .collect();
    candidates.sort_by(|a, b| {
        (b.term.z.total_cmp(&a.term.z))
            .then_with(|| length(&b.key).cmp(&length(&a.key)))
            .then_with(|| a.term.text.cmp(&b.term.text))
    });
    candidates.truncate(limits.terms_max.saturating_mul(CANDIDATES_PER_TERM));
    let places: FxHashMap<Key, usize> =
        candidates.iter().enumerate().map(|(place, found)| (found.key, place)).collect();
    for (tweet, keys) in keys.iter().enumerate() {
        for place in keys.iter().filter_map(|key| places.get(key)) {
            candidates[*place].tweets.push(tweet as u32);
        }
    }
    without_repetition(candidates, limits.terms_max.saturating_mul(FOUND_PER_TERM))
}

/// Removes a word if most of its tweets contain a phrase with that word, and a term if most of
/// its tweets contain a heavier term that shares a word with it.
fn without_repetition(candidates: Vec<Found>, terms_max: usize) -> Vec<Found> {
    let superseded: Vec<bool> = candidates
        .iter()
        .map(|part| {
            candidates.iter().any(|phrase| {
                is_within(&part.key, &phrase.key)
                    && f64::from(phrase.term.incident)
                        >= TOGETHER_MIN * f64::from(part.term.incident)
            })
        })
        .collect();
    let mut kept: Vec<Found> = Vec::new();
    for (found, superseded) in candidates.into_iter().zip(superseded) {
        let is_redundant_to = |heavier: &Found| {
            share_a_word(&heavier.key, &found.key)
                && shared(&heavier.tweets, &found.tweets) as f64
                    >= TOGETHER_MIN * found.tweets.len() as f64
        };
        if kept.len() < terms_max && !superseded && !kept.iter().any(is_redundant_to) {
            kept.push(found);
        }
    }
    kept
}

/// Log-odds ratio of a term between the incident's and the baseline's negative tweets, divided
/// by its standard error. The prior is the term's share in the tweets of the incident and all
/// tweets of the baseline.
fn z(tally: &Tally, incident: usize, negative: usize, baseline: usize) -> f64 {
    let share = f64::from(tally.incident + tally.baseline) / (incident + baseline) as f64;
    let prior = PRIOR_TWEETS * share;
    // One of the two terms of equation 16.
    let log_odds = |count: u32, tweets: usize| {
        let with = f64::from(count) + prior;
        let without = tweets as f64 + PRIOR_TWEETS - with;
        (with / without).ln()
    };
    // Equations 20 and 22. A term that is in every tweet has no odds, and its weight is 0.
    let variance = 1.0 / (f64::from(tally.incident) + prior)
        + 1.0 / (f64::from(tally.baseline_negative) + prior);
    let z = (log_odds(tally.incident, incident) - log_odds(tally.baseline_negative, negative))
        / variance.sqrt();
    if z.is_finite() { z } else { 0.0 }
}

/// How a token can be used in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A term alone, or any part of a phrase.
    Content,
    /// Any part of a phrase. A phrase needs no other content.
    Character,
    /// A number or a single letter: any part of a phrase that also has content.
    Number,
    /// Not the last part of a phrase.
    Negation,
    /// Neither the first nor the last part of a phrase.
    Function,
    /// A term alone, never in a phrase.
    Single,
    /// Never in a term.
    Break,
}

/// Numbers the tokens and builds the terms.
struct Reader {
    /// The brand's names, in lower case and without `@` and `#`.
    own: FxHashSet<String>,
    numbers: FxHashMap<Token, u32>,
    tokens: Vec<(Token, Role)>,
}

impl Reader {
    fn new(own: &[String]) -> Self {
        let own = own.iter().map(|name| without_sign(&name.to_lowercase()).to_owned()).collect();
        Self { own, numbers: FxHashMap::default(), tokens: Vec::new() }
    }

    /// The terms of a tweet, each once.
    fn keys(&mut self, tokens: &[Token]) -> Vec<Key> {
        let numbers: Vec<u32> = tokens.iter().map(|token| self.number(token)).collect();
        let mut keys = Vec::new();
        for first in 0..numbers.len() {
            let mut key = [NO_TOKEN; PHRASE_CHARACTERS_MAX];
            let length_max = match self.role(numbers[first]) {
                Role::Break | Role::Function => continue,
                Role::Single => 1,
                Role::Character => PHRASE_CHARACTERS_MAX,
                Role::Content | Role::Number | Role::Negation => PHRASE_WORDS_MAX,
            };
            let mut has_content = false;
            for (place, number) in numbers[first..].iter().take(length_max).enumerate() {
                let role = self.role(*number);
                if role == Role::Break || (role == Role::Single && place > 0) {
                    break;
                }
                key[place] = *number;
                has_content |= matches!(role, Role::Content | Role::Character | Role::Single);
                let can_end = !matches!(role, Role::Negation | Role::Function);
                let is_long_enough = place > 0 || matches!(role, Role::Content | Role::Single);
                if has_content && can_end && is_long_enough {
                    keys.push(key);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn number(&mut self, token: &Token) -> u32 {
        if let Some(number) = self.numbers.get(token) {
            return *number;
        }
        let role = match token.kind {
            TokenKind::Break => Role::Break,
            TokenKind::Mention | TokenKind::Hashtag if self.is_own(&token.text) => Role::Break,
            TokenKind::Mention | TokenKind::Hashtag | TokenKind::Link => Role::Single,
            TokenKind::Character => Role::Character,
            TokenKind::Word if is_function_word(&token.text) || self.is_own(&token.text) => {
                Role::Function
            }
            TokenKind::Word if is_negation(&token.text) => Role::Negation,
            TokenKind::Word if !token.text.chars().any(char::is_alphabetic) => Role::Number,
            TokenKind::Word if token.text.chars().nth(1).is_none() => Role::Number,
            TokenKind::Word => Role::Content,
        };
        let number = self.tokens.len() as u32;
        self.numbers.insert(token.clone(), number);
        self.tokens.push((token.clone(), role));
        number
    }

    fn role(&self, number: u32) -> Role {
        self.tokens[number as usize].1
    }

    /// Whether `term` is one of the brand's names.
    fn is_own(&self, term: &str) -> bool {
        self.own.contains(without_sign(term))
    }

    fn found(&self, key: Key, tally: &Tally, z: f64) -> Found {
        let mut text = String::new();
        let mut last = None;
        for number in key.iter().filter(|number| **number != NO_TOKEN) {
            let (token, _) = &self.tokens[*number as usize];
            let unspaced = |kind| kind == TokenKind::Character;
            if last.is_some_and(|last| !(unspaced(last) && unspaced(token.kind))) {
                text.push(' ');
            }
            text.push_str(&token.text);
            last = Some(token.kind);
        }
        let kind = match (last, length(&key)) {
            (Some(TokenKind::Hashtag), _) => TermKind::Hashtag,
            (Some(TokenKind::Mention), _) => TermKind::Mention,
            (Some(TokenKind::Link), _) => TermKind::Link,
            (_, 1) => TermKind::Word,
            _ => TermKind::Phrase,
        };
        let term =
            Term { text, kind, incident: tally.incident, baseline: tally.baseline_negative, z };
        Found { term, tweets: Vec::new(), key }
    }
}

/// A handle, hashtag or word without a leading `@` or `#`.
fn without_sign(name: &str) -> &str {
    name.trim_start_matches(['@', '#'])
}

fn length(key: &Key) -> usize {
    key.iter().filter(|number| **number != NO_TOKEN).count()
}

/// Whether the longer `phrase` contains `part`.
fn is_within(part: &Key, phrase: &Key) -> bool {
    let (part, phrase) = (&part[..length(part)], &phrase[..length(phrase)]);
    part.len() < phrase.len() && phrase.windows(part.len()).any(|window| window == part)
}

fn share_a_word(a: &Key, b: &Key) -> bool {
    a.iter().any(|number| *number != NO_TOKEN && b.contains(number))
}

/// Number of positions that are in both ascending lists.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().filter(|position| b.binary_search(position).is_ok()).count()
}
