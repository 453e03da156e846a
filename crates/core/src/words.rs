//! The words of a text with their contributions to its score, and the text with some of them
//! marked; pure.
//!
//! **Invariant.** A word whose place does not fit the text is never marked, so a stored list and a
//! changed text give no wrong mark. Deliberately absent: how contributions are computed (the model
//! crate), and colours and markup (mail, page and command line).

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Words marked in one text, at most.
const MARKED_MAX: usize = 5;
/// A marked word adds at least this much to the log-odds: it multiplies the odds by 1.35.
const WEIGHT_MIN: f64 = 0.3;
/// A marked word adds at least this part of what the strongest word adds.
const OF_STRONGEST_MIN: f64 = 0.25;

/// A word of a text, or several in a row, and its contribution. Its JSON is stored and sent with
/// the example tweets of a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordWeight {
    /// The word as written.
    pub word: String,
    /// Begin and end in bytes of the text's UTF-8; the end is not included.
    pub bytes: [usize; 2],
    /// Begin and end in characters (Unicode code points) of the text; the end is not included.
    pub chars: [usize; 2],
    /// What it adds to the log-odds of negative; above 0 if it makes the text more negative.
    pub weight: f64,
}

/// The words at these bytes of `text`, with their contributions. The ranges ascend, and start and
/// end between characters.
pub fn word_weights(
    text: &str,
    words: impl IntoIterator<Item = (Range<usize>, f64)>,
) -> Vec<WordWeight> {
    let (mut at, mut chars) = (0, 0);
    let mut to = |byte: usize| {
        chars += text[at..byte].chars().count();
        at = byte;
        chars
    };
    let word = |(bytes, weight): (Range<usize>, f64)| WordWeight {
        word: text[bytes.clone()].to_owned(),
        bytes: [bytes.start, bytes.end],
        chars: [to(bytes.start), to(bytes.end)],
        weight,
    };
    words.into_iter().map(word).collect()
}

/// The bytes of the words to mark in `text`, ascending: the strongest of those that made it
/// negative, at most five.
pub fn marked(text: &str, words: &[WordWeight]) -> Vec<Range<usize>> {
    let fits = |word: &&WordWeight| text.get(word.bytes[0]..word.bytes[1]) == Some(&*word.word);
    let mut found: Vec<_> =
        words.iter().filter(fits).filter(|it| it.weight >= WEIGHT_MIN).collect();
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let least = found.first().map_or(0.0, |strongest| strongest.weight * OF_STRONGEST_MIN);
    found.truncate(MARKED_MAX);
    found.retain(|word| word.weight >= least);
    let mut ranges: Vec<_> = found.iter().map(|word| word.bytes[0]..word.bytes[1]).collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// Control characters and those that change the direction of the text around them.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A part of a text, marked or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text of the part; not empty.
    pub text: String,
    /// Whether it is marked.
    pub marked: bool,
}

/// `text` in one line of at most `chars_max` characters, with the given bytes marked: white space
/// and hidden characters ([`is_hidden`]) become single blanks, and a cut ends with an ellipsis.
pub fn marked_line(text: &str, marks: &[Range<usize>], chars_max: usize) -> Vec<Piece> {
    let within = |at: usize| marks.iter().any(|range| range.contains(&at));
    let mut line: Vec<(char, bool)> = Vec::new();
    for (at, c) in text.char_indices() {
        let blank = c.is_whitespace() || is_hidden(c);
        match line.last_mut() {
            None if blank => {}
            // A blank belongs to a mark only if both of its sides do.
            Some((' ', marked)) if blank => *marked &= within(at),
            _ => line.push((if blank { ' ' } else { c }, within(at))),
        }
    }
    line.pop_if(|(last, _)| *last == ' ');
    if line.len() > chars_max {
        line.truncate(chars_max.saturating_sub(1));
        line.push(('…', false));
    }
    let piece = |run: &[(char, bool)]| Piece {
        text: run.iter().map(|(c, _)| *c).collect(),
        marked: run[0].1,
    };
    line.chunk_by(|a, b| a.1 == b.1).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, weights: &[(&str, f64)]) -> Vec<WordWeight> {
        let at = |word: &str| text.find(word).map(|at| at..at + word.len()).expect("a word");
        word_weights(text, weights.iter().map(|(word, weight)| (at(word), *weight)))
    }

    #[test]
    fn places_are_in_bytes_and_characters() {
        let text = "é 😡 late";
        let found = words(text, &[("😡", 1.0), ("late", 2.0)]);
        assert_eq!((found[0].bytes, found[0].chars), ([3, 7], [2, 3]));
        assert_eq!((found[1].bytes, found[1].chars), ([8, 12], [4, 8]));
        let json = serde_json::to_string(&found[1]).expect("JSON");
        assert_eq!(json, r#"{"word":"late","bytes":[8,12],"chars":[4,8],"weight":2.0}"#);
    }

    #[test]
    fn the_strongest_words_are_marked() {
        let check = |name: &str, weights: &[(&str, f64)], expected: &[&str]| {
            let text = "a b c d e f g h";
            let found = marked(text, &words(text, weights));
            let found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{name}");
        };
        check("none", &[], &[]);
        check("in the order of the text", &[("a", 1.0), ("c", 2.0)], &["a", "c"]);
        check("too weak", &[("a", 0.29), ("b", -3.0)], &[]);
        check("weak beside the strongest", &[("a", 0.4), ("b", 2.0)], &["b"]);
        let all: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(|word| (word, 1.0)).into();
        check("at most five", &all, &["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn places_that_do_not_fit_are_not_marked() {
        let other = words("late again", &[("again", 1.0)]);
        assert!(marked("late 😡", &other).is_empty());
        assert!(marked("late, again", &other).is_empty());
        let turned = WordWeight { bytes: [4, 2], ..other[0].clone() };
        assert!(marked("late again", &[turned]).is_empty());
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "a list of one mark")]
    fn lines_with_marks() {
        let check = |name: &str, text: &str, marks: &[Range<usize>], max, expected: &str| {
            let pieces = marked_line(text, marks, max);
            let found: Vec<_> = (pieces.iter())
                .map(|it| if it.marked { format!("[{}]", it.text) } else { it.text.clone() })
                .collect();
            assert_eq!(found.concat(), expected, "{name}");
        };
        check("plain", "lost bag", &[], 20, "lost bag");
        check("marked", "lost bag!", &[5..8], 20, "lost [bag]!");
        check("beginning and end", "lost my bag", &[0..4, 8..11], 20, "[lost] my [bag]");
        check("several words", "so  very\nlate", &[0..8], 20, "[so very] late");
        check("blanks at both ends", "\n late \u{0}", &[2..6], 20, "[late]");
        check("cut within a mark", "lost my bag", &[0..11], 6, "[lost ]…");
        check("nothing", " ", &[0..1], 20, "");
        check("a mark within a character", "é!", &[1..2], 20, "é!");
    }
}
