//! The meaning of labels.
//!
//! **Invariant.** Words mean the same in every file. All numbers of a column together decide
//! what each means; an ambiguous column is an error, never a guess.

use std::collections::BTreeSet;

/// The sentiment of a tweet, as labelled by a person or by its emoticons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Negative sentiment.
    Negative,
    /// Neither negative nor positive.
    Neutral,
    /// Positive sentiment.
    Positive,
}

impl Target {
    /// All of them, from negative to positive.
    pub const ALL: [Self; 3] = [Self::Negative, Self::Neutral, Self::Positive];

    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Neutral => "neutral",
            Self::Positive => "positive",
        }
    }

    /// Reads `negative` or `neg`, `neutral` or `neu`, `positive` or `pos`, in any case.
    pub fn of_word(label: &str) -> Option<Self> {
        let is = |words: [&str; 2]| words.iter().any(|word| label.eq_ignore_ascii_case(word));
        match label {
            _ if is(["negative", "neg"]) => Some(Self::Negative),
            _ if is(["neutral", "neu"]) => Some(Self::Neutral),
            _ if is(["positive", "pos"]) => Some(Self::Positive),
            _ => None,
        }
    }
}

/// What the numbers of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// 0 negative, 1 positive.
    ZeroOne,
    /// 0 negative, 2 neutral, 4 positive.
    ZeroTwoFour,
    /// -1 negative, 0 neutral, 1 positive.
    MinusOneToOne,
}

impl Numbers {
    /// Decides by the numbers that occur: with a -1, they are -1, 0, 1; with a 4, they are
    /// 0, 2, 4; without a 2, they are 0 and 1. `None` if ambiguous (0, 1, 2).
    pub(super) fn of_column(found: &BTreeSet<i8>) -> Option<Self> {
        if found.contains(&-1) {
            Some(Self::MinusOneToOne)
        } else if found.contains(&4) {
            Some(Self::ZeroTwoFour)
        } else {
            (!found.contains(&2)).then_some(Self::ZeroOne)
        }
    }

    pub(super) fn target(self, number: i8) -> Option<Target> {
        match (self, number) {
            (Self::ZeroOne | Self::ZeroTwoFour, 0) | (Self::MinusOneToOne, -1) => {
                Some(Target::Negative)
            }
            (Self::ZeroTwoFour, 2) | (Self::MinusOneToOne, 0) => Some(Target::Neutral),
            (Self::ZeroOne | Self::MinusOneToOne, 1) | (Self::ZeroTwoFour, 4) => {
                Some(Target::Positive)
            }
            _ => None,
        }
    }
}

/// Reads -1, 0, 1, 2 or 4, also as `4.0`.
pub(super) fn number(label: &str) -> Option<i8> {
    let value: f64 = label.parse().ok()?;
    [-1, 0, 1, 2, 4].into_iter().find(|number| f64::from(*number) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_column_decides() {
        let check = |name: &str, labels: &str, expected: &str| {
            let found: BTreeSet<i8> = labels.split(' ').filter_map(number).collect();
            let meant = match Numbers::of_column(&found) {
                None => "open".to_owned(),
                Some(numbers) => labels
                    .split(' ')
                    .map(|label| number(label).and_then(|number| numbers.target(number)))
                    .map(|target| target.map_or("?", Target::as_str)[..1].to_owned())
                    .collect::<Vec<_>>()
                    .join(" "),
            };
            assert_eq!(meant, expected, "{name}");
        };
        check("two", "0 1 1", "n p p");
        check("sentiment140", "4 2 0", "p n n");
        check("sentiment140 without neutral", "0 4", "n p");
        check("signed", "-1 0 1", "n n p");
        check("signed without neutral", "-1 1", "n p");
        check("only negative", "0", "n");
        check("as a data frame writes them", "0.0 4.0", "n p");
        check("a stray one", "0 4 1", "n p ?");
        check("another", "0 1 3", "n p ?");
        check("three from zero", "0 1 2", "open");
        assert_eq!(
            Numbers::ZeroTwoFour.target(2),
            Some(Target::Neutral),
            "two words begin with an n"
        );
        assert_eq!(Numbers::MinusOneToOne.target(0), Some(Target::Neutral));
    }

    #[test]
    fn words_in_any_case() {
        let check = |label, expected| assert_eq!(Target::of_word(label), expected, "{label}");
        check("NEG", Some(Target::Negative));
        check("Neutral", Some(Target::Neutral));
        check("positive", Some(Target::Positive));
        check("mixed", None);
        check("", None);
    }
}
