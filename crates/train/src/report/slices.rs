//! Accuracy by kind of tweet, which shows where a model is weak.
//!
//! **Invariant.** Within a kind, every row is in exactly one slice; slices without rows
//! are omitted. All texts are analysed with [`Analyzer::tweet`], whatever analyzer the model
//! uses, so slices of two models contain the same rows. Deliberately absent: slices
//! combined with one another; these would have too few rows.

use serde::Serialize;

use super::{Scored, intervals};
use monitor_core::domain::{Classes, Interval, Label, LabelThresholds};
use monitor_core::text::Analyzer;

/// Most words of a text that are analysed.
const WORDS_MAX: usize = 1_000;
/// Smallest number of words of each length class; the last class has no upper limit.
const LENGTHS: [usize; 6] = [1, 6, 11, 16, 21, 26];
/// Negations, after the list of Potts 2011; words ending in "n't" count, too. Tweets often lack the apostrophe.
const NEGATIONS: [&str; 31] = [
    "not", "no", "never", "none", "nothing", "nobody", "nowhere", "noone", "neither", "nor",
    "cannot", "aint", "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt",
    "havent", "isnt", "mustnt", "neednt", "shouldnt", "wasnt", "werent", "wont", "wouldnt",
    "without", "nope",
];

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// The property that defines the slices: "words", "link", "mention", ...
    pub by: &'static str,
    /// The value of this slice: "1-5", "with", "without".
    pub slice: String,
    /// Number of rows.
    pub rows: usize,
    /// Share of negative rows.
    pub negative_share: f64,
    /// Accuracy.
    pub accuracy: f64,
    /// 95 % confidence interval of the accuracy.
    pub accuracy_95: Interval,
}

/// All slices, by kind; `classes` are those of the data.
pub fn slices(rows: &[Scored<'_>], thresholds: LabelThresholds, classes: Classes) -> Vec<Slice> {
    let traits: Vec<Traits> = rows.iter().map(|row| Traits::of(row.text)).collect();
    let mut found = Vec::new();
    let mut cut = |by: &'static str, slice: String, belongs: &dyn Fn(&Traits) -> bool| {
        let chosen = || rows.iter().zip(&traits).filter(|(_, traits)| belongs(traits));
        let count = chosen().count();
        let is_negative = |row: &Scored<'_>| row.prediction.label == Label::Negative;
        let is_right = |row: &Scored<'_>| {
            row.prediction.predicted(thresholds, classes) == row.prediction.label
        };
        let negatives = chosen().filter(|(row, _)| is_negative(row)).count();
        let right = chosen().filter(|(row, _)| is_right(row)).count();
        // Without rows there is no interval, and no slice.
        let Some(accuracy_95) = intervals::of_share(right, count) else { return };
        found.push(Slice {
            by,
            slice,
            rows: count,
            negative_share: negatives as f64 / count as f64,
            accuracy: right as f64 / count as f64,
            accuracy_95,
        });
    };
    for (at, first) in LENGTHS.iter().enumerate() {
        let end = LENGTHS.get(at + 1).copied();
        let name = end.map_or(format!("{first}+"), |end| format!("{first}-{}", end - 1));
        cut("words", name, &|t| t.words.max(1) >= *first && end.is_none_or(|end| t.words < end));
    }
    let kinds: [(&str, Has); 5] = [
        ("link", |t| t.link),
        ("mention", |t| t.mention),
        ("negation", |t| t.negation),
        ("hashtag", |t| t.hashtag),
        ("emoji", |t| t.emoji),
    ];
    for (by, has) in kinds {
        cut(by, "with".into(), &|t| has(t));
        cut(by, "without".into(), &|t| !has(t));
    }
    found
}

/// The value of a slice for a property that a text has or lacks.
type Has = fn(&Traits) -> bool;

/// Properties of a text.
#[derive(Debug, PartialEq)]
struct Traits {
    /// Number of words, separated by white space.
    words: usize,
    link: bool,
    mention: bool,
    negation: bool,
    hashtag: bool,
    emoji: bool,
}

impl Traits {
    fn of(text: &str) -> Self {
        let words = Analyzer::tweet().words(text, WORDS_MAX);
        let has = |word: &str| words.iter().any(|found| found == word);
        let negates = |word: &String| word.ends_with("n't") || NEGATIONS.contains(&word.as_str());
        let is_hashtag = |word: &str| {
            word.strip_prefix('#').is_some_and(|name| name.contains(char::is_alphabetic))
        };
        Self {
            words: text.split_whitespace().count(),
            link: has("<url>"),
            mention: has("<user>"),
            negation: words.iter().any(negates),
            hashtag: text.split_whitespace().any(is_hashtag),
            emoji: text.contains(is_emoji),
        }
    }
}

/// Whether a character is a pictograph or an older symbol displayed like one.
fn is_emoji(c: char) -> bool {
    matches!(c, '\u{1F000}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}')
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Probabilities, Probability};

    use super::*;
    use crate::fit::Prediction;

    #[test]
    fn finds_traits_of_texts() {
        let check = |text: &str, words, expected: &str| {
            let found = Traits::of(text);
            let names = [
                (found.link, "link"),
                (found.mention, "mention"),
                (found.negation, "negation"),
                (found.hashtag, "hashtag"),
                (found.emoji, "emoji"),
            ];
            let names = names.iter().filter(|(has, _)| *has).map(|(_, name)| *name);
            assert_eq!(found.words, words, "{text}");
            assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{text}");
        };
        check("so sad", 2, "");
        check("@united see http://t.co/x", 3, "link mention");
        check("mail me at a@b.example", 4, "");
        check("I don't know", 3, "negation");
        check("I don’t know", 3, "negation");
        check("I don&#39;t know", 3, "negation");
        check("Dont. NOT", 2, "negation");
        check("knots and notes, nota bene", 5, "");
        check("we are #1", 3, "");
        check("#FlyAway 😡", 2, "hashtag emoji");
    }

    #[test]
    fn every_row_is_once_in_each_kind() {
        let rows: Vec<(String, f32, bool)> = (1..=40)
            .map(|n| {
                let words = vec![if n % 4 == 0 { "not" } else { "word" }; n].join(" ");
                (words, if n % 5 == 0 { 0.9 } else { 0.1 }, n % 2 == 0)
            })
            .collect();
        let scored: Vec<Scored<'_>> = (rows.iter())
            .map(|(text, score, negative)| Scored {
                text,
                prediction: Prediction {
                    probabilities: Probabilities::two(Probability::new(*score).unwrap()),
                    label: if *negative { Label::Negative } else { Label::Positive },
                },
            })
            .collect();
        let found = slices(&scored, Probability::HALF.into(), Classes::Two);
        for by in ["words", "link", "mention", "negation", "hashtag", "emoji"] {
            let of_kind: Vec<&Slice> = found.iter().filter(|slice| slice.by == by).collect();
            assert_eq!(of_kind.iter().map(|slice| slice.rows).sum::<usize>(), 40, "{by}");
            let right: f64 = of_kind.iter().map(|s| s.accuracy * s.rows as f64).sum();
            assert!((right - 20.0).abs() < 1e-9, "{by}: {right}");
        }
        let names: Vec<&str> = found.iter().take(7).map(|slice| slice.slice.as_str()).collect();
        assert_eq!(names, ["1-5", "6-10", "11-15", "16-20", "21-25", "26+", "without"]);
        let first = &found[0];
        // Rows 1 to 5: 2 and 4 are negative, only row 5 is found negative.
        assert_eq!((first.rows, first.negative_share, first.accuracy), (5, 0.4, 0.4));
        let negation = found.iter().find(|s| s.by == "negation" && s.slice == "with").unwrap();
        assert_eq!((negation.rows, negation.negative_share, negation.accuracy), (10, 1.0, 0.2));
    }
}
