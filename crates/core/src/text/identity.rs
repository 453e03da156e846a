//! Which texts count as the same tweet, whichever file they come from.
//!
//! **Invariant.** Part of shipped artifacts (`learned.filter` in a model's folder): another rule
//! here forgets what every existing model learned from. Deliberately absent: similar texts; see
//! [`NearTexts`](super::NearTexts).

use sha2::{Digest, Sha256};

use super::{TEXT_BYTES_MAX, beginning, canonical, link_length};

/// The form in which two copies of one tweet are equal.
///
/// HTML entities are decoded, characters composed, letters in lower case, white space is one space;
/// a word that begins with `@` is `@user`, a link is `http`. Files differ in these: sentiment140
/// escapes `&`, TweetEval publishes its tweets without names and addresses (Barbieri et al. 2020).
/// Models do not tell names or addresses apart either, so a text of which only those differ is
/// nothing new to them.
pub fn identity(text: &str) -> String {
    let text = canonical(beginning(text, TEXT_BYTES_MAX)).to_lowercase();
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(if word.len() > 1 && word.starts_with('@') {
            "@user"
        } else if word.starts_with("http") || link_length(word).is_some() {
            "http"
        } else {
            word
        });
    }
    out
}

/// The first 64 bits of the SHA-256 of [`identity`], little-endian. Among a million texts, two
/// different ones share a key once in forty million files.
pub fn identity_key(text: &str) -> u64 {
    let hash = Sha256::digest(identity(text));
    u64::from_le_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_tweet_are_equal() {
        let check = |name: &str, a: &str, b: &str, equal: bool| {
            assert_eq!(identity(a) == identity(b), equal, "{name}: {:?}", identity(a));
            assert_eq!(identity_key(a) == identity_key(b), equal, "{name}");
            assert_eq!(identity(&identity(a)), identity(a), "{name}: twice is as once");
        };
        check("white space", " so  sad\n", "so sad", true);
        check("case", "So SAD", "so sad", true);
        check("entities", "AT&amp;amp;T &lt;3", "at&t <3", true);
        check("apostrophe", "don’t", "don't", true);
        check("names", "@united: never again", "@user never again", true);
        check("links", "see https://t.co/x www.a.b", "see http http", true);
        check("a lone sign", "@ home", "@user home", false);
        check("signs matter", "great :)", "great :(", false);
        check("words matter", "so sad", "so bad", false);
        check("order matters", "not good, bad", "not bad, good", false);
    }

    #[test]
    fn the_key_stays_the_same() {
        // python3: int.from_bytes(hashlib.sha256(b"@user so sad http").digest()[:8], "little")
        assert_eq!(identity_key("@ann So  sad https://t.co/1"), 14_957_456_217_347_646_324);
    }
}
