//! Where the words of a text stand in it: for showing which words made a score.
//!
//! **Invariant.** A range is one of bytes of the text as it was received, starts and ends between
//! characters, and the ranges of [`visible_words`] ascend and do not overlap. The words are those
//! of the tweet preset, so a mention, a link, a hashtag, an emoticon and a run of `!` are one each.
//! Work is bounded by [`TEXT_BYTES_MAX`]. Deliberately absent: places of the study's words.

use std::ops::Range;

use unicode_normalization::{IsNormalized, is_nfc_quick};

use super::{TEXT_BYTES_MAX, beginning, canonical, tweet};

/// Within longer stretches without a space, places of entities and composed characters are not
/// searched: the whole stretch is one place. Bounds work that is quadratic in this length.
const STRETCH_BYTES_MAX: usize = 256;

/// A word that an analyzer reads, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedWord {
    /// The word as the analyzer reads it.
    pub word: String,
    /// Its bytes in the text as received. Words of one hashtag have the same bytes.
    pub bytes: Range<usize>,
}

/// The first `words_max` words of the tweet preset with their places in `text`.
pub(super) fn placed_words(text: &str, words_max: usize) -> Vec<PlacedWord> {
    let read = beginning(text, TEXT_BYTES_MAX);
    let (words, places) = tweet::placed(&canonical(read), words_max);
    let origin = Origin::new(read);
    let placed = |(word, place)| PlacedWord { word, bytes: origin.of(place) };
    words.into_iter().zip(places).map(placed).collect()
}

/// The bytes of the words that a reader sees, at most `words_max`, read from the first
/// [`TEXT_BYTES_MAX`] bytes of `text`. Punctuation other than `!`, `?`, `...` and emoticons is no
/// word.
pub fn visible_words(text: &str, words_max: usize) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for PlacedWord { bytes, .. } in placed_words(text, usize::MAX) {
        if let Some(last) = found.last_mut()
            && bytes.start < last.end
        {
            last.end = last.end.max(bytes.end);
        } else if found.len() < words_max {
            found.push(bytes);
        } else {
            break;
        }
    }
    found
}

/// `text` without these bytes. A space takes the place of each range, so that its neighbours do
/// not become one word. The ranges ascend and do not overlap.
pub fn without<'a>(text: &str, ranges: impl IntoIterator<Item = &'a Range<usize>>) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        kept.push_str(&text[at..range.start]);
        kept.push(' ');
        at = range.end;
    }
    kept.push_str(&text[at..]);
    kept
}

/// From bytes of a text's canonical form to bytes of the text.
struct Origin {
    /// Places between characters that correspond: in the canonical form and in the text,
    /// ascending in both.
    joints: Vec<(usize, usize)>,
}

impl Origin {
    fn new(text: &str) -> Self {
        let mut joints = vec![(0, 0)];
        // No entity spans white space, and no character composes with it.
        let split = text.split_inclusive(char::is_whitespace);
        let split = split.map(|it| it.split_at(it.trim_end_matches(char::is_whitespace).len()));
        for stretch in split.flat_map(|(word, space)| [word, space]) {
            let (from, at) = *joints.last().expect("it begins with one");
            let simple =
                !stretch.contains('&') && is_nfc_quick(stretch.chars()) == IsNormalized::Yes;
            let whole = canonical(stretch);
            if simple {
                // Characters are replaced one by one.
                let (mut canonical, mut raw) = (from, at);
                for (a, b) in whole.chars().zip(stretch.chars()) {
                    (canonical, raw) = (canonical + a.len_utf8(), raw + b.len_utf8());
                    joints.push((canonical, raw));
                }
                continue;
            }
            if stretch.len() <= STRETCH_BYTES_MAX {
                for (middle, _) in stretch.char_indices().skip(1) {
                    let (head, tail) = stretch.split_at(middle);
                    let head = canonical(head);
                    if whole.strip_prefix(&*head) == Some(&*canonical(tail)) {
                        joints.push((from + head.len(), at + middle));
                    }
                }
            }
            joints.push((from + whole.len(), at + stretch.len()));
        }
        Self { joints }
    }

    /// The smallest range of the text that has the range `of` of the canonical form.
    fn of(&self, of: Range<usize>) -> Range<usize> {
        let after = self.joints.partition_point(|(canonical, _)| *canonical <= of.start);
        let end = self.joints.partition_point(|(canonical, _)| *canonical < of.end);
        let start = self.joints[after.saturating_sub(1)].1;
        let end = self.joints[end.min(self.joints.len() - 1)].1;
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Analyzer, SourceText};
    use super::*;

    #[test]
    fn places_of_words() {
        let check = |name: &str, text: &str, expected: &[&str]| {
            let found: Vec<_> =
                visible_words(text, 99).into_iter().map(|bytes| &text[bytes]).collect();
            assert_eq!(found, expected, "{name}");
        };
        check("plain", "lost my bag", &["lost", "my", "bag"]);
        check("punctuation is no word", "no, \"never\" - ok.", &["no", "never", "ok"]);
        check(
            "signs that are words",
            "why?? no!!! hm...",
            &["why", "??", "no", "!!!", "hm", "..."],
        );
        check("apostrophes", "don’t can't", &["don’t", "can't"]);
        check("mention and hashtag", "@united: #FlyAway!", &["@united", "#FlyAway", "!"]);
        check(
            "link",
            "see https://t.co/x?a=1&amp;b now",
            &["see", "https://t.co/x?a=1&amp;b", "now"],
        );
        check("a word drawn out", "soooo bad", &["soooo", "bad"]);
        check("entities", "I &lt;3 u &amp;amp; me", &["I", "&lt;3", "u", "me"]);
        check("an entity within a stretch", "ok&gt;bad", &["ok", "bad"]);
        check("emoticon and emoji", "late:( 😡bag", &["late", ":(", "😡", "bag"]);
        check("decomposed", "cafe\u{301} closed", &["cafe\u{301}", "closed"]);
        check("full width", "＠united ＃fail", &["＠united", "＃fail"]);
        check("nothing", " ,;- ", &[]);
    }

    #[test]
    fn words_of_a_hashtag_have_one_place() {
        let found = Analyzer::tweet().placed_words("#FlyAway", 9).expect("the tweet preset");
        let found: Vec<_> = found.iter().map(|it| (&*it.word, it.bytes.clone())).collect();
        assert_eq!(found, [("fly", 0..8), ("away", 0..8)]);
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!(visible_words("a b c", 2), [0..1, 2..3]);
        assert_eq!(visible_words(&"ab ".repeat(100_000), usize::MAX).len(), TEXT_BYTES_MAX / 3 + 1);
        let stretch = "&lt;b".repeat(100);
        assert_eq!(visible_words(&format!("a {stretch} c"), 9), [0..1, 2..502, 503..504]);
    }

    #[test]
    fn removed_words_leave_a_space() {
        assert_eq!(without("late😡bag!", &[0..4, 8..11]), " 😡 !");
        assert_eq!(without("late", &[]), "late");
    }

    proptest! {
        #[test]
        fn places_are_exact(text in "([a-z@#'&;:()<>! 3]|&amp;|&lt;|&#39;|e\u{301}|é|😡|’|\\s|\\PC){0,40}") {
            let placed = placed_words(&text, usize::MAX);
            let words: Vec<String> = placed.iter().map(|it| it.word.clone()).collect();
            prop_assert_eq!(words, tweet::words(&SourceText::new(&text), usize::MAX));
            let whole = |it: &PlacedWord| text.get(it.bytes.clone()).is_some_and(|it| !it.is_empty());
            prop_assert!(placed.iter().all(whole));
            let origin = Origin::new(&text);
            prop_assert_eq!(*origin.joints.last().expect("one"), (canonical(&text).len(), text.len()));
            prop_assert!(origin.joints.is_sorted());
            let spans = visible_words(&text, usize::MAX);
            prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
