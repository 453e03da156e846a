//! The meaning of labels.
//!
//! **Invariant.** Words mean the same in every file. All numbers of a column together decide
//! what each means; an ambiguous column is an error, never a guess.

use std::collections::BTreeSet;

use monitor_core::domain::Label;

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

    pub(super) fn label(self, number: i8) -> Option<Label> {
        match (self, number) {
            (Self::ZeroOne | Self::ZeroTwoFour, 0) | (Self::MinusOneToOne, -1) => {
                Some(Label::Negative)
            }
            (Self::ZeroTwoFour, 2) | (Self::MinusOneToOne, 0) => Some(Label::Neutral),
            (Self::ZeroOne | Self::MinusOneToOne, 1) | (Self::ZeroTwoFour, 4) => {
                Some(Label::Positive)
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
                    .map(|label| number(label).and_then(|number| numbers.label(number)))
                    .map(|label| label.map_or("?", Label::word)[..1].to_owned())
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
            Numbers::ZeroTwoFour.label(2),
            Some(Label::Neutral),
            "two words begin with an n"
        );
        assert_eq!(Numbers::MinusOneToOne.label(0), Some(Label::Neutral));
    }
}
