//! Groups near-duplicate tweets.
//!
//! A tweet joins the first group that matches: the group of the tweet that it retweets; the group
//! with the same words in the same order, without mentions, links, case and a leading "RT"; the
//! group whose first tweet is similar, by the Jaccard index of the sets of three consecutive
//! words. MinHash with banding selects the first tweets to compare with (Broder, "On the
//! resemblance and containment of documents", SEQUENCES 1997; Leskovec, Rajaraman, Ullman,
//! "Mining of Massive Datasets", section 3.4).
//!
//! **Invariant.** A tweet is compared with at most `BANDS * BAND_GROUPS_MAX` others, and only
//! with the first tweet of a group, so that a group does not drift away from its first tweet.

use rustc_hash::FxHashMap;

use super::TweetView;
use crate::text::{Token, TokenKind, fnv1a_64};

/// Smallest Jaccard index of two near-duplicates.
const JACCARD_MIN: f64 = 0.6;
/// Number of consecutive words in a shingle.
const SHINGLE_WORDS: usize = 3;
/// Number of bands of the signature, and of rows of each band. Two texts with index 0.6 share a
/// band with probability `1 - (1 - 0.6^3)^20` = 0.99, two texts with index 0.2 with 0.15.
const BANDS: usize = 20;
const BAND_ROWS: usize = 3;
/// Largest number of groups stored for one band.
const BAND_GROUPS_MAX: usize = 4;

/// Groups of positions in `tweets`, which are in order of time. The groups and the positions in
/// them are in ascending order.
pub(super) fn groups(tweets: &[&TweetView<'_>], tokens: &[Vec<Token>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut originals: FxHashMap<&str, usize> = FxHashMap::default();
    let mut texts: FxHashMap<u64, usize> = FxHashMap::default();
    let mut bands: FxHashMap<(usize, u64), Vec<usize>> = FxHashMap::default();
    let mut firsts: Vec<Vec<u64>> = Vec::new();
    for (position, (tweet, tokens)) in tweets.iter().zip(tokens).enumerate() {
        let original = tweet.retweet_of.unwrap_or(tweet.id);
        let words = words(tokens);
        // A text without words, only links or emoji, is compared as a whole.
        let key = if words.is_empty() {
            fnv1a_64(tweet.text.as_bytes())
        } else {
            fnv1a_64(words.join(" ").as_bytes())
        };
        let known = originals.get(original).or_else(|| texts.get(&key)).copied();
        let shingles = if known.is_some() { Vec::new() } else { shingles(&words) };
        let signature = signature(&shingles);
        let group = known.or_else(|| {
            let mut near: Vec<usize> =
                signature.iter().filter_map(|band| bands.get(band)).flatten().copied().collect();
            near.sort_unstable();
            near.dedup();
            near.into_iter().find(|group| jaccard(&shingles, &firsts[*group]) >= JACCARD_MIN)
        });
        let group = group.unwrap_or_else(|| {
            for band in signature {
                let remembered = bands.entry(band).or_default();
                if remembered.len() < BAND_GROUPS_MAX {
                    remembered.push(groups.len());
                }
            }
            groups.push(Vec::new());
            firsts.push(shingles);
            groups.len() - 1
        });
        originals.entry(original).or_insert(group);
        texts.entry(key).or_insert(group);
        groups[group].push(position);
    }
    groups
}

/// The words of a text, without a leading "RT @someone".
fn words(tokens: &[Token]) -> Vec<&str> {
    let of_words =
        |kind| matches!(kind, TokenKind::Word | TokenKind::Character | TokenKind::Hashtag);
    let is_retweet_sign = |at: usize| {
        tokens[at].text == "rt" && tokens.get(at + 1).is_some_and(|t| t.kind == TokenKind::Mention)
    };
    (0..tokens.len())
        .filter(|at| of_words(tokens[*at].kind) && !is_retweet_sign(*at))
        .map(|at| tokens[at].text.trim_start_matches('#'))
        .collect()
}

/// Hashes of three consecutive words, ascending, each once. A shorter text has none, because it
/// must match as a whole.
fn shingles(words: &[&str]) -> Vec<u64> {
    let mut shingles: Vec<u64> =
        words.windows(SHINGLE_WORDS).map(|words| fnv1a_64(words.join(" ").as_bytes())).collect();
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

/// The bands of a MinHash signature: number of the band, and a hash of its rows.
fn signature(shingles: &[u64]) -> Vec<(usize, u64)> {
    if shingles.is_empty() {
        return Vec::new();
    }
    let smallest = |row: u64| {
        // The odd multiplier and the shift make a family of hashes from one (Dietzfelbinger
        // et al., "A reliable randomized algorithm for the closest-pair problem", 1997).
        let multiplier = spread(row) | 1;
        shingles.iter().map(|shingle| spread(*shingle).wrapping_mul(multiplier) >> 32).min()
    };
    (0..BANDS)
        .map(|band| {
            let rows = (0..BAND_ROWS).map(|row| smallest((band * BAND_ROWS + row) as u64 + 1));
            (band, rows.flatten().fold(0, |hash, row| spread(hash ^ row)))
        })
        .collect()
}

/// One step of SplitMix64: every bit of the input affects every bit of the output.
fn spread(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The Jaccard index of two ascending lists.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut at_a, mut at_b, mut shared) = (0, 0, 0);
    while at_a < a.len() && at_b < b.len() {
        let (next_a, next_b) = (a[at_a], b[at_b]);
        shared += usize::from(next_a == next_b);
        at_a += usize::from(next_a <= next_b);
        at_b += usize::from(next_b <= next_a);
    }
    let all = a.len() + b.len() - shared;
    if all == 0 { 0.0 } else { shared as f64 / all as f64 }
}
