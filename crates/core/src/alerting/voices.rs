//! What counts as one voice: a tweet, an author, or a text.
//!
//! **Invariant.** Of a brand and minute, negative voices are never more than voices. What counts depends on
//! the tweets alone and on their order, never on the clock. Deliberately absent: similar texts; two
//! texts are one if [`identity_key`] says so.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::{Counts, Minute, Tweet};
use crate::text::identity_key;

/// Minutes in which a voice counts once.
const MINUTES: i64 = 60;

/// What counts as one voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Voice {
    /// Each tweet.
    #[default]
    Tweet,
    /// Each author once an hour, and once more if they are also negative, or not. A tweet without an
    /// author counts.
    Author,
    /// Each text once an hour, whoever repeats it: retweets, copies, and tweets that differ in
    /// names and links alone.
    Original,
}

/// Counts voices in the order of their tweets.
#[derive(Debug, Default)]
pub struct Voices {
    voice: Voice,
    /// The hour of each voice of a brand that was heard last: by key, and whether it was negative.
    heard: BTreeMap<(String, u64, bool), i64>,
}

impl Voices {
    /// None was heard so far.
    pub fn new(voice: Voice) -> Self {
        Self { voice, heard: BTreeMap::new() }
    }

    /// What a tweet adds to the counts of a brand in its minute.
    pub fn add(&mut self, brand: &str, tweet: &Tweet, negative: bool) -> Counts {
        let one = Counts { total: 1, negative: u64::from(negative) };
        let key = match (self.voice, &tweet.reach.author) {
            (Voice::Tweet, _) | (Voice::Author, None) => return one,
            (Voice::Author, Some(author)) => {
                let mut hasher = DefaultHasher::new();
                author.to_lowercase().hash(&mut hasher);
                hasher.finish()
            }
            (Voice::Original, _) => identity_key(original(&tweet.text)),
        };
        let hour = Minute::of(tweet.created_at).0.div_euclid(MINUTES);
        match self.heard.entry((brand.to_owned(), key, negative)) {
            Entry::Occupied(heard) if *heard.get() == hour => Counts::default(),
            Entry::Occupied(mut heard) => {
                heard.insert(hour);
                one
            }
            Entry::Vacant(heard) => {
                heard.insert(hour);
                one
            }
        }
    }
}

/// The text without the words that make it a retweet: "RT @name: ".
fn original(text: &str) -> &str {
    let trimmed = text.trim_start();
    let after =
        trimmed.get(..4).filter(|it| it.eq_ignore_ascii_case("RT @")).map(|_| &trimmed[4..]);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match after.map(|after| after.trim_start_matches(name)) {
        Some(rest) => rest.trim_start_matches(':').trim_start(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Reach, TweetId};

    const ALL: [Voice; 3] = [Voice::Tweet, Voice::Author, Voice::Original];

    fn tweet(author: &str, minute: i64, text: &str) -> Tweet {
        let at = Minute(minute).start();
        let tweet =
            Tweet::new(TweetId::new("1").unwrap(), text.to_owned(), at, Vec::new()).unwrap();
        let author = Some(author.to_owned()).filter(|author| !author.is_empty());
        tweet.with_reach(Reach { author, ..Reach::default() })
    }

    fn counted(voice: Voice, tweets: &[(&str, i64, &str, bool)]) -> (u64, u64) {
        let mut voices = Voices::new(voice);
        let mut all = Counts::default();
        for (author, minute, text, negative) in tweets {
            all += voices.add("acme", &tweet(author, *minute, text), *negative);
        }
        (all.total, all.negative)
    }

    #[test]
    fn voices_count_once_an_hour() {
        let check = |name, tweets: &[(&str, i64, &str, bool)], expected: [(u64, u64); 3]| {
            let found = ALL.map(|voice| counted(voice, tweets));
            assert_eq!(found, expected, "{name}");
        };
        let one = |author, minute| (author, minute, "late again", true);
        check("one author", &[one("ann", 0), one("Ann", 59)], [(2, 2), (1, 1), (1, 1)]);
        check("the next hour", &[one("ann", 0), one("ann", 60)], [(2, 2), (2, 2), (2, 2)]);
        check("two authors", &[one("ann", 0), one("bob", 1)], [(2, 2), (2, 2), (1, 1)]);
        check("no author", &[one("", 0), one("", 1)], [(2, 2), (2, 2), (1, 1)]);
        let both = [("ann", 0, "fine", false), ("ann", 1, "late", true), ("ann", 2, "sad", true)];
        check("of two minds", &both, [(3, 2), (2, 1), (3, 2)]);
        let retweet = [one("ann", 0), ("bob", 1, "RT @ann: Late again", true)];
        check("a retweet", &retweet, [(2, 2), (2, 2), (1, 1)]);
        let links = [("a", 0, "late http://a.b", true), ("b", 1, "late https://t.co/x", true)];
        check("other links", &links, [(2, 2), (2, 2), (1, 1)]);
    }

    #[test]
    fn brands_are_apart() {
        let mut voices = Voices::new(Voice::Author);
        let tweet = tweet("ann", 0, "late");
        let found = ["acme", "other", "acme"].map(|brand| voices.add(brand, &tweet, true).total);
        assert_eq!(found, [1, 1, 0]);
    }

    proptest! {
        /// There are never more voices than tweets, nor more negative voices than voices.
        #[test]
        fn voices_are_bounded(tweets in prop::collection::vec((0..4_u8, 0..200_i64, any::<bool>()), 0..60)) {
            for voice in ALL {
                let mut voices = Voices::new(voice);
                for (author, minute, negative) in &tweets {
                    let tweet = tweet(&author.to_string(), *minute, "late");
                    let added = voices.add("acme", &tweet, *negative);
                    prop_assert!(added.total <= 1 && added.negative <= added.total);
                    prop_assert_eq!(added.negative > 0, *negative && added.total > 0);
                }
            }
        }
    }
}
