//! Turns words into numbers without a vocabulary: the hashing trick (Weinberger et al. 2009).
//!
//! **Invariant.** The hash function is part of shipped artifacts: FNV-1a, 64 bits, over the
//! UTF-8 bytes, followed by murmur3's `fmix64` so that every bit matters. Changing either
//! breaks every hashed model. Deliberately absent: signed hashing; with 2^20 buckets and
//! tweets of a dozen words collisions are rare enough.

/// Separator of the two words of a bigram; no word contains it.
const JOIN: u8 = b' ';

/// FNV-1a, 64 bits (Fowler, Noll, Vo; test vectors below).
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    extend(0xcbf2_9ce4_8422_2325, bytes)
}

pub(super) fn extend(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// murmur3's finisher: spreads FNV's weak upper bits.
pub(super) fn fmix64(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

/// A number in 0..1 that depends only on `seed` and `key`: the same key gives the same number.
pub fn unit_interval(seed: u64, key: &str) -> f64 {
    let hash = fmix64(extend(fnv1a_64(&seed.to_le_bytes()), key.as_bytes()));
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// Buckets for single words and pairs of adjacent words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    bits: u32,
}

impl Buckets {
    /// The id of a text without words; no word has it.
    pub const NOTHING: u32 = 0;

    /// 2^`bits` buckets, `bits` in 1..=31.
    pub fn new(bits: u32) -> Option<Self> {
        (1..=31).contains(&bits).then_some(Self { bits })
    }

    /// How many ids there are, [`Buckets::NOTHING`] included.
    pub fn count(self) -> usize {
        1 << self.bits
    }

    /// Ids of all words and of all pairs of adjacent words, each id once, in ascending
    /// order; only [`Buckets::NOTHING`] if there is no word.
    pub fn ids(self, words: &[String]) -> Vec<u32> {
        if words.is_empty() {
            return vec![Self::NOTHING];
        }
        let mut ids = Vec::with_capacity(words.len() * 2);
        self.for_each(words, |id, _, _| ids.push(id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Calls `visit` with the id of each word and of each pair of adjacent words, the index of
    /// its first word and its number of words.
    pub fn for_each(self, words: &[String], mut visit: impl FnMut(u32, usize, usize)) {
        for (index, word) in words.iter().enumerate() {
            let hash = fnv1a_64(word.as_bytes());
            visit(self.bucket(hash), index, 1);
            if let Some(next) = words.get(index + 1) {
                visit(self.bucket(extend(extend(hash, &[JOIN]), next.as_bytes())), index, 2);
            }
        }
    }

    fn bucket(self, hash: u64) -> u32 {
        let others = self.count() as u64 - 1;
        (fmix64(hash) % others) as u32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_vectors() {
        let check =
            |text: &str, expected| assert_eq!(fnv1a_64(text.as_bytes()), expected, "{text}");
        check("", 0xcbf29ce484222325);
        check("a", 0xaf63dc4c8601ec8c);
        check("foobar", 0x85944171f73967e8);
    }

    #[test]
    fn ids_are_stable() {
        let ids = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Buckets::new(18).unwrap().ids(&words)
        };
        assert_eq!(ids(""), [Buckets::NOTHING]);
        assert_eq!(ids("love").len(), 1);
        assert_eq!(ids("not good").len(), 3, "two words, one pair");
        assert_ne!(ids("not good"), ids("good not"), "pairs keep their order");
        assert_eq!(ids("ha ha ha").len(), 2, "each id once");
        assert!(ids("a b c d").iter().all(|id| (1..1 << 18).contains(id)));
    }

    #[test]
    fn unit_interval_is_uniform() {
        let below = (0..10_000).filter(|n| unit_interval(7, &format!("user{n}")) < 0.2).count();
        assert!((1_850..2_150).contains(&below), "{below} of 10,000 below 0.2");
        assert_ne!(unit_interval(7, "a"), unit_interval(8, "a"));
    }
}
