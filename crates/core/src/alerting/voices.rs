//! What counts as one voice: a tweet, an author, or a text; and whose tweets never count.
//!
//! **Invariant.** A voice counts once in an hour of event time, and once more if it is also negative, or not. What
//! counts depends on the tweets alone and on their order, never on the clock. Deliberately absent: texts
//! that differ in a word; two texts are one if [`identity`] says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::domain::{Minute, Tweet};
use crate::keywords;
use crate::text::identity;

/// Fewest letters and digits of a text, names and links aside, for its copies to be one voice: what is shorter,
/// such as "never again", many people write by themselves.
const COPY_CHARS_MIN: usize = 25;

/// What counts as one voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Voice {
    /// Each tweet.
    Tweet,
    /// Each author. A tweet without an author counts.
    Author,
    /// Each text, whoever repeats it: retweets, and copies that differ in names, links, case and white space alone.
    /// Short texts are one only if they are retweets.
    #[default]
    Original,
}

keywords!(Voice: "tweets" => Tweet, "authors" => Author, "originals" => Original);

impl Voice {
    /// What tweets of one voice about the same brands have in common; `None` if the tweet counts whatever others
    /// say. The first 64 bits of a SHA-256, little-endian.
    pub fn key(self, tweet: &Tweet, brands: &[String]) -> Option<u64> {
        let of = match self {
            Self::Tweet => return None,
            Self::Author => tweet.reach.author.as_ref()?.to_lowercase(),
            Self::Original => {
                let (text, is_retweet) = original(&tweet.text);
                let text = identity(text);
                let own = text.split(' ').filter(|word| !["@user", "http"].contains(word));
                let chars = own.flat_map(str::chars).filter(|c| c.is_alphanumeric()).count();
                if chars < COPY_CHARS_MIN && !is_retweet && tweet.reach.retweet_of.is_none() {
                    return None;
                }
                text
            }
        };
        let mut hash = Sha256::new_with_prefix(of);
        for brand in brands {
            hash.update([0]);
            hash.update(brand);
        }
        Some(u64::from_le_bytes(hash.finalize()[..8].try_into().expect("a SHA-256 has 32 bytes")))
    }
}

/// Whether the detector hears a tweet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heard {
    /// Whatever others say.
    #[default]
    Always,
    /// The first of those with this key in an hour, and of the negative ones among them.
    OnceAnHour(u64),
    /// Never: its author is left out.
    Never,
}

/// What is counted: `alerting.count` and `alerting.ignore_authors`. Clones share their names.
#[derive(Debug, Clone, Default)]
pub struct Counting {
    voice: Voice,
    ignored: Arc<HashSet<String>>,
}

impl Counting {
    /// Counts each `voice`, and nothing of the authors of these names: case and a leading `@` aside.
    pub fn new(voice: Voice, ignored: &[String]) -> Self {
        Self { voice, ignored: Arc::new(ignored.iter().map(|name| author_name(name)).collect()) }
    }

    /// Whether a tweet is heard. What is about no brand is in no count, so it always is; so is a later version of a
    /// tweet, whose first version is taken out of the counts.
    pub fn heard(&self, tweet: &Tweet, brands: &[String]) -> Heard {
        let is_ignored = |author: &String| self.ignored.contains(&author_name(author));
        match () {
            () if brands.is_empty() => Heard::Always,
            () if tweet.reach.author.as_ref().is_some_and(is_ignored) => Heard::Never,
            () if !tweet.edit_of.is_empty() => Heard::Always,
            () => self.voice.key(tweet, brands).map_or(Heard::Always, Heard::OnceAnHour),
        }
    }
}

fn author_name(name: &str) -> String {
    name.trim().trim_start_matches('@').to_lowercase()
}

/// Counts voices in the order of their tweets.
#[derive(Debug, Default)]
pub struct Voices {
    counting: Counting,
    /// The hour in which each voice was heard last: by key, and whether it was negative.
    heard: HashMap<(u64, bool), i64>,
}

impl Voices {
    /// None was heard so far.
    pub fn new(counting: Counting) -> Self {
        Self { counting, heard: HashMap::new() }
    }

    /// Whether a tweet counts, rather than repeats what its hour has heard.
    pub fn counts(&mut self, tweet: &Tweet, brands: &[String], negative: bool) -> bool {
        let key = match self.counting.heard(tweet, brands) {
            Heard::Always => return true,
            Heard::OnceAnHour(key) => key,
            Heard::Never => return false,
        };
        let hour = Minute::of(tweet.created_at).hour();
        self.heard.insert((key, negative), hour) != Some(hour)
    }
}

/// The text without the words that make it a retweet, "RT @name: ", and whether it had them.
fn original(text: &str) -> (&str, bool) {
    let trimmed = text.trim_start();
    let after =
        trimmed.get(..4).filter(|it| it.eq_ignore_ascii_case("RT @")).map(|_| &trimmed[4..]);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match after.map(|after| after.trim_start_matches(name)) {
        Some(rest) => (rest.trim_start_matches(':').trim_start(), true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Reach, TweetId};

    const ALL: [Voice; 3] = [Voice::Tweet, Voice::Author, Voice::Original];
    const LONG: &str = "your flight is late again, we have waited for hours";

    fn tweet(author: &str, minute: i64, text: &str) -> Tweet {
        let at = Minute(minute).start();
        let tweet =
            Tweet::new(TweetId::new("1").unwrap(), text.to_owned(), at, Vec::new()).unwrap();
        let author = Some(author.to_owned()).filter(|author| !author.is_empty());
        tweet.with_reach(Reach { author, ..Reach::default() })
    }

    /// How many count.
    fn counted(voice: Voice, tweets: &[(&str, i64, &str, bool)]) -> usize {
        let mut voices = Voices::new(Counting::new(voice, &[]));
        let brands = ["acme".to_owned()];
        let counts = |(author, minute, text, negative): &&(&str, i64, &str, bool)| {
            voices.counts(&tweet(author, *minute, text), &brands, *negative)
        };
        tweets.iter().filter(counts).count()
    }

    #[test]
    fn voices_count_once_an_hour() {
        let check = |name, tweets: &[(&str, i64, &str, bool)], expected: [usize; 3]| {
            assert_eq!(ALL.map(|voice| counted(voice, tweets)), expected, "{name}");
        };
        let one = |author, minute| (author, minute, LONG, true);
        check("one author", &[one("ann", 0), one("Ann", 59)], [2, 1, 1]);
        check("the next hour", &[one("ann", 0), one("ann", 60)], [2, 2, 2]);
        check("two authors", &[one("ann", 0), one("bob", 1)], [2, 2, 1]);
        check("no author", &[one("", 0), one("", 1)], [2, 2, 1]);
        let both = [("ann", 0, "fine", false), ("ann", 1, "late", true), ("ann", 2, "sad", true)];
        check("of two minds", &both, [3, 2, 3]);
        let case = format!("{LONG}  https://t.co/x").to_uppercase();
        let links = format!("{LONG} http://a.b");
        check("other links", &[("a", 0, &case, true), ("b", 1, &links, true)], [2, 2, 1]);
        let retweet = format!("RT @ann: {LONG}");
        check("a retweet", &[one("ann", 0), ("bob", 1, &retweet, true)], [2, 2, 1]);
        let short = |author, minute| (author, minute, "@acme never again http://a.b", true);
        check("a short text", &[short("ann", 0), short("bob", 1)], [2, 2, 2]);
        let short = |author, minute| (author, minute, "RT @ann: never again", true);
        check("a short retweet", &[short("bob", 0), short("eve", 1)], [2, 2, 1]);
    }

    #[test]
    fn a_retweet_is_known_by_its_field() {
        let (id, brands) = (TweetId::new("7").unwrap(), ["acme".to_owned()]);
        let of = |retweet_of| {
            let reach = Reach { retweet_of, ..Reach::default() };
            Voice::Original.key(&tweet("", 0, "never again").with_reach(reach), &brands)
        };
        assert_eq!(of(None), None);
        assert!(of(Some(id)).is_some());
    }

    #[test]
    fn authors_that_are_left_out_are_never_heard() {
        let ignored = ["@Deals_Bot".to_owned(), " other ".to_owned()];
        let counting = Counting::new(Voice::Tweet, &ignored);
        let heard = |author: &str| counting.heard(&tweet(author, 0, "late"), &["acme".to_owned()]);
        assert_eq!(
            ["deals_bot", "Other", "deals_bot2", ""].map(heard),
            [Heard::Never, Heard::Never, Heard::Always, Heard::Always]
        );
        assert_eq!(counting.heard(&tweet("other", 0, "late"), &[]), Heard::Always);
        let edit = |author| tweet(author, 0, LONG).with_edit_of(vec![TweetId::new("2").unwrap()]);
        let counting_texts = Counting::new(Voice::Original, &ignored);
        let heard = |author| counting_texts.heard(&edit(author), &["acme".to_owned()]);
        assert_eq!(["other", "ann"].map(heard), [Heard::Never, Heard::Always], "edited");
        let mut voices = Voices::new(counting);
        let counts = |author| voices.counts(&tweet(author, 0, "late"), &["acme".to_owned()], true);
        assert_eq!(["other", "ann", "ann"].map(counts), [false, true, true]);
    }

    #[test]
    fn brands_are_apart() {
        let mut voices = Voices::new(Counting::new(Voice::Author, &[]));
        let tweet = tweet("ann", 0, "late");
        let about = ["acme", "other", "acme"];
        let found = about.map(|brand| voices.counts(&tweet, &[brand.to_owned()], true));
        assert_eq!(found, [true, true, false]);
    }

    #[test]
    fn the_key_stays_the_same() {
        // python3: int.from_bytes(hashlib.sha256(b"ann\0acme").digest()[:8], "little")
        let key = Voice::Author.key(&tweet("Ann", 0, "late"), &["acme".to_owned()]);
        assert_eq!(key, Some(15_272_298_877_471_882_624));
    }

    proptest! {
        /// Of each hour, what counts is each voice once, and once more if it is of two minds.
        #[test]
        fn voices_are_counted_as_a_set(
            tweets in prop::collection::vec((0..4_u8, 0..200_i64, any::<bool>()), 0..60)
        ) {
            let mut tweets = tweets;
            tweets.sort_by_key(|(_, minute, _)| *minute);
            let distinct: std::collections::HashSet<_> =
                tweets.iter().map(|(author, minute, negative)| (author, minute / 60, negative)).collect();
            let names = ["a", "b", "c", "d"];
            let tweets: Vec<_> = tweets
                .iter()
                .map(|(author, minute, negative)| (names[usize::from(*author)], *minute, "late", *negative))
                .collect();
            prop_assert_eq!(counted(Voice::Author, &tweets), distinct.len());
            prop_assert_eq!(counted(Voice::Tweet, &tweets), tweets.len());
        }
    }
}
