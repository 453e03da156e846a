//! Groups near-duplicate tweets.
//!
//! A tweet joins the first group that matches: the group of the tweet that it retweets; the group
//! with the same words in the same order, without mentions, links, case and a leading "RT"; the
//! group whose first tweet is a near-duplicate ([`NearTexts`]).
//!
//! **Invariant.** A tweet is compared only with the first tweet of a group, so that a group does
//! not drift away from its first tweet.

use rustc_hash::FxHashMap;

use super::TweetView;
use crate::text::{NearTexts, Shingles, Token, content_words, fnv1a_64};

/// Groups of positions in `tweets`, which are in order of time. The groups and the positions in
/// them are in ascending order.
pub(super) fn groups(tweets: &[&TweetView<'_>], tokens: &[Vec<Token>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut originals: FxHashMap<&str, usize> = FxHashMap::default();
    let mut texts: FxHashMap<u64, usize> = FxHashMap::default();
    // The first tweet of each group.
    let mut firsts = NearTexts::default();
    for (position, (tweet, tokens)) in tweets.iter().zip(tokens).enumerate() {
        let original = tweet.retweet_of.unwrap_or(tweet.id);
        let words = content_words(tokens);
        // A text without words, only links or emoji, is compared as a whole.
        let key = if words.is_empty() {
            fnv1a_64(tweet.text.as_bytes())
        } else {
            fnv1a_64(words.join(" ").as_bytes())
        };
        let known = originals.get(original).or_else(|| texts.get(&key)).copied();
        let group = known.unwrap_or_else(|| {
            let shingles = Shingles::of(&words);
            firsts.find(&shingles).unwrap_or_else(|| {
                firsts.add(shingles);
                groups.push(Vec::new());
                groups.len() - 1
            })
        });
        originals.entry(original).or_insert(group);
        texts.entry(key).or_insert(group);
        groups[group].push(position);
    }
    groups
}
