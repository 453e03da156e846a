//! Themes: what different groups of an incident's negative tweets are about.
//!
//! Terms that are in many tweets no theme has yet begin a theme, the one that covers most first; terms that are
//! mostly in the same tweets join it. A term that is mostly in themes before it neither begins nor names another.
//! Source: the greedy choice of Beil, Ester, Xu, "Frequent term-based text
//! clustering", KDD 2002, with log-odds as the weight of a term.
//!
//! **Invariant.** A distinct tweet is in one theme at most. Deliberately absent: a theme for the rest.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rustc_hash::FxHashSet;

use super::terms::Found;
use super::{DriverLimits, Side};
use crate::domain::Minute;

/// Largest number of themes.
const THEMES_MAX: usize = 4;
/// Smallest share of the distinct tweets that a theme covers.
const SHARE_MIN: f64 = 0.05;
/// Smallest number of distinct tweets that a theme covers: a few tweets are no theme.
const TWEETS_MIN: u32 = 5;
/// A term is mostly in some tweets if this share of its tweets is among them.
const TOGETHER_MIN: f64 = 0.5;
/// Largest number of terms that name a theme.
const TERMS_MAX: usize = 3;
/// Largest number of first authors.
const AUTHORS_MAX: usize = 3;

/// What a group of an incident's negative tweets is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    /// Its terms, the most frequent first; at least one.
    pub terms: Vec<String>,
    /// Number of negative tweets, near-duplicates included.
    pub tweets: u32,
    /// When its first tweet of the incident was written.
    pub began: DateTime<Utc>,
    /// The first tweets of its first authors, if authors are known.
    pub first: Vec<FirstTweet>,
    /// Negative tweets in each hour from that of `began` to that of its last tweet.
    pub hours: Vec<u32>,
    /// Id of a typical tweet, which is one of the examples if there are as many.
    pub tweet_id: String,
    /// Positions of its groups of near-duplicates, ascending.
    pub(super) groups: Vec<usize>,
}

/// The first tweet of an author in a theme.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstTweet {
    /// Its id.
    pub id: String,
    /// Its author.
    pub author: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Number of its author's followers, if known.
    pub followers: Option<u64>,
}

/// The themes of `incident`, whose terms are `found`; the one with most tweets first.
pub(super) fn themes(incident: &Side<'_>, found: &[Found], limits: &DriverLimits) -> Vec<Theme> {
    let share = SHARE_MIN * incident.groups.len() as f64;
    let least = share.max(f64::from(limits.tweets_min.max(TWEETS_MIN))) as usize;
    let terms = || found.iter().filter(|found| found.term.z >= limits.z_min);
    let mut covered: FxHashSet<u32> = FxHashSet::default();
    let mut themes = Vec::new();
    while themes.len() < THEMES_MAX {
        let left = |term: &Found| -> Vec<u32> {
            term.tweets.iter().filter(|tweet| !covered.contains(tweet)).copied().collect()
        };
        let weight = |term: &Found| term.term.z * left(term).len() as f64;
        let is_free = |term: &&Found| is_most(left(term).len(), term.tweets.len());
        let free = || terms().filter(is_free);
        let first = free().filter(|term| left(term).len() >= least).max_by(|a, b| {
            weight(a).total_cmp(&weight(b)).then_with(|| b.term.text.cmp(&a.term.text))
        });
        let Some(first) = first else { break };
        let seed: FxHashSet<u32> = left(first).into_iter().collect();
        let mut members = seed.clone();
        let among = |tweets: &[u32], all: &FxHashSet<u32>| {
            tweets.iter().filter(|tweet| all.contains(tweet)).count()
        };
        for term in free() {
            let own = left(term);
            if is_most(among(&own, &seed), own.len()) {
                members.extend(own);
            }
        }
        let inside = |term: &Found| (among(&term.tweets, &members), term.tweets.len());
        let mut named: Vec<_> = terms()
            .map(|term| (inside(term), term.term.text.clone()))
            .filter(|((inside, all), _)| is_most(*inside, *all))
            .map(|((inside, _), text)| (inside, text))
            .collect();
        named.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        covered.extend(&members);
        let terms = named.into_iter().map(|(_, text)| text).take(TERMS_MAX).collect();
        themes.push(theme(incident, terms, members.iter().map(|tweet| *tweet as usize).collect()));
    }
    themes.sort_by(|a, b| b.tweets.cmp(&a.tweets).then_with(|| a.began.cmp(&b.began)));
    themes
}

fn is_most(part: usize, all: usize) -> bool {
    part as f64 >= TOGETHER_MIN * all as f64
}

fn theme(incident: &Side<'_>, terms: Vec<String>, mut groups: Vec<usize>) -> Theme {
    groups.sort_unstable();
    let mut positions: Vec<usize> =
        groups.iter().flat_map(|group| &incident.groups[*group]).copied().collect();
    positions.sort_unstable();
    let tweets = || positions.iter().map(|position| incident.tweets[*position]);
    let mut seen = FxHashSet::default();
    let first = tweets()
        .filter_map(|tweet| Some((tweet.author?, tweet)))
        .filter(|(author, _)| seen.insert(*author))
        .map(|(author, tweet)| FirstTweet {
            id: tweet.id.to_owned(),
            author: author.to_owned(),
            created_at: tweet.created_at,
            followers: tweet.followers,
        })
        .take(AUTHORS_MAX)
        .collect();
    let began = incident.tweets[positions[0]].created_at;
    Theme {
        terms,
        tweets: positions.len() as u32,
        began,
        first,
        hours: hours(tweets().map(|tweet| tweet.created_at)),
        tweet_id: incident.tweets[positions[0]].id.to_owned(),
        groups,
    }
}

/// How many of `times`, in ascending order, are in each hour from the first to the last.
fn hours(times: impl Iterator<Item = DateTime<Utc>>) -> Vec<u32> {
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    times.for_each(|at| *counts.entry(Minute::of(at).hour()).or_default() += 1);
    let (Some((first, _)), Some((last, _))) = (counts.first_key_value(), counts.last_key_value())
    else {
        return Vec::new();
    };
    (*first..=*last).map(|hour| counts.get(&hour).copied().unwrap_or(0)).collect()
}
