//! Who repeats: the link that most tweets share, and accounts that post one text again and again.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{DriverLimits, Side};
use crate::text::TokenKind;

/// Fewest near-duplicates by which an account is marked.
const REPEATS_MIN: u32 = 5;
/// Largest number of marked accounts.
const ACCOUNTS_MAX: usize = 5;

/// The link that most of the incident's negative tweets have, and how many; `None` if it is in fewer than
/// [`DriverLimits::tweets_min`].
pub(super) fn shared_link(incident: &Side<'_>, limits: &DriverLimits) -> Option<(String, u32)> {
    let mut counts: FxHashMap<&str, u32> = FxHashMap::default();
    for tokens in &incident.tokens {
        let links = tokens.iter().filter(|token| token.kind == TokenKind::Link);
        let mut links: Vec<&str> = links.map(|token| token.text.as_str()).collect();
        links.sort_unstable();
        links.dedup();
        links.into_iter().for_each(|link| *counts.entry(link).or_default() += 1);
    }
    let most = counts.into_iter().max_by_key(|(link, tweets)| (*tweets, Reverse(*link)));
    most.filter(|(_, tweets)| *tweets >= limits.tweets_min)
        .map(|(link, tweets)| (link.into(), tweets))
}

/// Accounts that posted near-duplicates of one tweet at least [`REPEATS_MIN`] times, and how often; most first.
pub(super) fn repeaters(incident: &Side<'_>) -> Vec<(String, u32)> {
    let mut most: FxHashMap<&str, u32> = FxHashMap::default();
    for group in incident.groups.iter().filter(|group| group.len() >= REPEATS_MIN as usize) {
        let mut counts: FxHashMap<&str, u32> = FxHashMap::default();
        for author in group.iter().filter_map(|position| incident.tweets[*position].author) {
            *counts.entry(author).or_default() += 1;
        }
        for (author, tweets) in counts {
            let known = most.entry(author).or_default();
            *known = (*known).max(tweets);
        }
    }
    let mut found: Vec<_> = most.into_iter().filter(|(_, tweets)| *tweets >= REPEATS_MIN).collect();
    found.sort_unstable_by_key(|(author, tweets)| (Reverse(*tweets), *author));
    found
        .into_iter()
        .take(ACCOUNTS_MAX)
        .map(|(author, tweets)| (author.to_owned(), tweets))
        .collect()
}
