//! Near-duplicates: texts that share most of their sequences of three words.
//!
//! Two texts are similar by the Jaccard index of their sets of three consecutive words (shingles).
//! MinHash with banding selects the texts to compare with (Broder, "On the resemblance and
//! containment of documents", SEQUENCES 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive
//! Datasets", section 3.4).
//!
//! **Invariant.** A text is compared with at most `BANDS * BAND_TEXTS_MAX` others. Deliberately
//! absent: texts of fewer than three words, which have no shingle and must match as a whole.

use rustc_hash::FxHashMap;

use super::{Token, TokenKind, fnv1a_64};

/// Smallest Jaccard index of two near-duplicates.
const JACCARD_MIN: f64 = 0.6;
/// Number of consecutive words in a shingle.
const SHINGLE_WORDS: usize = 3;
/// Number of bands of the signature, and of rows of each band. Two texts with index 0.6 share a
/// band with probability `1 - (1 - 0.6^3)^20` = 0.99, two texts with index 0.2 with 0.15.
const BANDS: usize = 20;
const BAND_ROWS: usize = 3;
/// Largest number of texts stored for one band.
const BAND_TEXTS_MAX: usize = 4;

/// The words that near-duplicates share: without links, mentions and a leading "RT @someone",
/// hashtags without `#`.
pub fn content_words(tokens: &[Token]) -> Vec<&str> {
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

/// A text reduced to what near-duplicates are found by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shingles {
    /// Hashes of three consecutive words, ascending, each once.
    hashes: Vec<u64>,
    /// The bands of a MinHash signature: number of the band, and a hash of its rows.
    bands: Vec<(usize, u64)>,
}

impl Shingles {
    /// Those of a text's words; none if there are fewer than three.
    pub fn of(words: &[&str]) -> Self {
        let of_three = |words: &[&str]| fnv1a_64(words.join(" ").as_bytes());
        let mut hashes: Vec<u64> = words.windows(SHINGLE_WORDS).map(of_three).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let bands = signature(&hashes);
        Self { hashes, bands }
    }
}

/// Texts among which near-duplicates are searched, numbered in the order in which they were
/// added.
#[derive(Debug, Clone, Default)]
pub struct NearTexts {
    bands: FxHashMap<(usize, u64), Vec<u32>>,
    texts: Vec<Vec<u64>>,
}

impl NearTexts {
    /// The number of the first text that is a near-duplicate.
    pub fn find(&self, text: &Shingles) -> Option<usize> {
        let mut near: Vec<u32> =
            text.bands.iter().filter_map(|band| self.bands.get(band)).flatten().copied().collect();
        near.sort_unstable();
        near.dedup();
        (near.into_iter().map(|at| at as usize))
            .find(|at| jaccard(&text.hashes, &self.texts[*at]) >= JACCARD_MIN)
    }

    /// Adds a text, one without shingles too.
    pub fn add(&mut self, text: Shingles) {
        let number = self.texts.len() as u32;
        for band in text.bands {
            let remembered = self.bands.entry(band).or_default();
            if remembered.len() < BAND_TEXTS_MAX {
                remembered.push(number);
            }
        }
        self.texts.push(text.hashes);
    }
}

fn signature(shingles: &[u64]) -> Vec<(usize, u64)> {
    if shingles.is_empty() {
        return Vec::new();
    }
    let spread_out: Vec<u64> = shingles.iter().map(|shingle| spread(*shingle)).collect();
    let smallest = |row: u64| {
        // The odd multiplier and the shift make a family of hashes from one (Dietzfelbinger
        // et al., "A reliable randomized algorithm for the closest-pair problem", 1997).
        let multiplier = spread(row) | 1;
        spread_out.iter().map(|shingle| shingle.wrapping_mul(multiplier) >> 32).min()
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

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;

    fn shingles(text: &str) -> Shingles {
        Shingles::of(&content_words(&tokens(text, 120)))
    }

    #[test]
    fn finds_near_duplicates() {
        let mut known = NearTexts::default();
        known.add(shingles("hello"));
        known.add(shingles("my flight to Denver was cancelled and nobody told us why"));
        known.add(shingles("best crew ever"));
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(known.find(&shingles(text)), expected, "{text}");
        };
        check("RT @ann: my flight to Denver was cancelled and nobody told us why", Some(1));
        check("My flight to #Denver was cancelled, and nobody told us http://t.co/x", Some(1));
        check("my flight to Boston was late and nobody told us", None);
        check("@united best crew EVER!", Some(2));
        check("hello", None);
        check("", None);
    }
}
