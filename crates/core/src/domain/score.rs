use std::fmt;

use serde::{Deserialize, Serialize};

/// A number between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f32);

/// The value is not a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InvalidProbability(pub f32);

impl fmt::Display for InvalidProbability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no probability: it must lie between 0 and 1", self.0)
    }
}

impl std::error::Error for InvalidProbability {}

impl Probability {
    /// Impossible.
    pub const ZERO: Self = Self(0.0);
    /// As likely as not; also the usual threshold.
    pub const HALF: Self = Self(0.5);

    /// Checks and wraps a value.
    pub fn new(value: f32) -> Result<Self, InvalidProbability> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(InvalidProbability(value)) }
    }

    /// The value, in 0..=1.
    pub fn get(self) -> f32 {
        self.0
    }
}

/// The sentiment of a tweet: as people or emoticons label it, or as a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// Negative; counts in the share of negative tweets.
    Negative,
    /// Neither negative nor positive. A model of two classes never says this.
    Neutral,
    /// Positive; from a model of two classes: not negative.
    Positive,
}

impl Label {
    /// All of them, from negative to positive.
    pub const ALL: [Self; 3] = [Self::Negative, Self::Neutral, Self::Positive];

    /// The label's name in rows and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "NEGATIVE",
            Self::Neutral => "NEUTRAL",
            Self::Positive => "POSITIVE",
        }
    }

    /// The label's name in text for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Neutral => "neutral",
            Self::Positive => "positive",
        }
    }

    /// Reads `negative` or `neg`, `neutral` or `neu`, `positive` or `pos`, in any case.
    pub fn of_word(word: &str) -> Option<Self> {
        let is = |label: &Self| {
            word.eq_ignore_ascii_case(label.word()) || word.eq_ignore_ascii_case(&label.word()[..3])
        };
        Self::ALL.into_iter().find(is)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many classes a model tells apart, or the labels of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Classes {
    /// Negative and positive, as emoticons label tweets.
    Two,
    /// Negative, neutral and positive, as people do.
    Three,
}

impl Classes {
    /// Their number.
    pub fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The labels, from negative to positive.
    pub fn labels(self) -> &'static [Label] {
        match self {
            Self::Two => &[Label::Negative, Label::Positive],
            Self::Three => &Label::ALL,
        }
    }
}

impl TryFrom<u8> for Classes {
    type Error = String;
    fn try_from(count: u8) -> Result<Self, String> {
        match count {
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            _ => Err(format!("{count} classes: there are models of 2 and of 3")),
        }
    }
}

impl From<Classes> for u8 {
    fn from(classes: Classes) -> Self {
        classes.count() as Self
    }
}

/// The probabilities of the classes of one text; they sum to 1. With two classes, neutral is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probabilities {
    negative: Probability,
    neutral: Probability,
}

impl Probabilities {
    /// Negative against positive.
    pub fn two(negative: Probability) -> Self {
        Self { negative, neutral: Probability::ZERO }
    }

    /// Negative, and positive among the rest.
    pub fn three(negative: Probability, positive_among_others: Probability) -> Self {
        let neutral = (1.0 - negative.0) * (1.0 - positive_among_others.0);
        Self { negative, neutral: Probability(neutral.clamp(0.0, 1.0)) }
    }

    /// From stored values of negative and neutral.
    ///
    /// # Errors
    /// One of the values, or what they leave for positive, is no probability.
    pub fn new(negative: f32, neutral: f32) -> Result<Self, InvalidProbability> {
        // The stored values are rounded.
        let positive = 1.0 - negative - neutral;
        if positive < -1e-5 || positive.is_nan() {
            return Err(InvalidProbability(positive));
        }
        Ok(Self { negative: Probability::new(negative)?, neutral: Probability::new(neutral)? })
    }

    /// Probability of [`Label::Negative`].
    pub fn negative(self) -> Probability {
        self.negative
    }

    /// Probability of [`Label::Neutral`].
    pub fn neutral(self) -> Probability {
        self.neutral
    }

    /// Probability of [`Label::Positive`].
    pub fn positive(self) -> Probability {
        Probability((1.0 - self.negative.0 - self.neutral.0).clamp(0.0, 1.0))
    }

    /// Probability of a class.
    pub fn of(self, label: Label) -> Probability {
        match label {
            Label::Negative => self.negative,
            Label::Neutral => self.neutral,
            Label::Positive => self.positive(),
        }
    }

    /// Probability of "positive" if the text is not negative; 1 with two classes.
    pub fn positive_among_others(self) -> Probability {
        let others = f64::from(self.neutral.0) + f64::from(self.positive().0);
        if self.neutral.0 == 0.0 || others <= 0.0 {
            return Probability(1.0);
        }
        Probability((f64::from(self.positive().0) / others) as f32)
    }

    /// Probability of "negative" if the text is not neutral: for rows of two classes.
    pub fn negative_among_two(self) -> Probability {
        let (negative, positive) = (f64::from(self.negative.0), f64::from(self.positive().0));
        if self.neutral.0 == 0.0 {
            self.negative
        } else if negative + positive > 0.0 {
            Probability((negative / (negative + positive)) as f32)
        } else {
            Probability::HALF
        }
    }
}

/// From probabilities to a label: negative from `negative` upwards; of the others, positive if
/// [`Probabilities::positive_among_others`] is at least `positive`, else neutral.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelThresholds {
    /// For the probability of negative.
    pub negative: Probability,
    /// For the probability of positive among the others.
    pub positive: Probability,
}

impl LabelThresholds {
    /// The label of a text.
    pub fn label(self, probabilities: Probabilities) -> Label {
        if probabilities.negative >= self.negative {
            Label::Negative
        } else if probabilities.positive_among_others() >= self.positive {
            Label::Positive
        } else {
            Label::Neutral
        }
    }
}

impl From<Probability> for LabelThresholds {
    /// For a model of two classes.
    fn from(negative: Probability) -> Self {
        Self { negative, positive: Probability::HALF }
    }
}

/// A model's result for one text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Probability of each class.
    pub probabilities: Probabilities,
    /// The label, from the probabilities and the model's thresholds.
    pub label: Label,
}

impl Score {
    /// The score of a text.
    pub fn new(probabilities: Probabilities, thresholds: LabelThresholds) -> Self {
        Self { probabilities, label: thresholds.label(probabilities) }
    }

    /// Probability of the label.
    pub fn of_label(&self) -> f32 {
        self.probabilities.of(self.label).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(value: f32) -> Probability {
        Probability::new(value).unwrap()
    }

    #[test]
    fn labels_by_two_thresholds() {
        let check = |negative: f32, neutral: f32, thresholds: (f32, f32), expected: Label| {
            let thresholds =
                LabelThresholds { negative: p(thresholds.0), positive: p(thresholds.1) };
            let score = Score::new(Probabilities::new(negative, neutral).unwrap(), thresholds);
            assert_eq!(score.label, expected, "{negative} {neutral}");
            let expected = score.probabilities.of(expected).get();
            assert!((score.of_label() - expected).abs() < 1e-6);
        };
        check(0.4, 0.0, (0.4, 0.5), Label::Negative);
        check(0.39, 0.0, (0.4, 0.5), Label::Positive);
        check(0.39, 0.0, (0.4, 0.99), Label::Positive);
        check(0.4, 0.5, (0.4, 0.5), Label::Negative);
        check(0.2, 0.4, (0.4, 0.5), Label::Positive);
        check(0.2, 0.41, (0.4, 0.5), Label::Neutral);
        check(0.2, 0.5, (0.4, 0.3), Label::Positive);
        check(1.0, 0.0, (1.0, 0.5), Label::Negative);
        check(0.0, 1.0, (0.4, 0.5), Label::Neutral);
    }

    #[test]
    fn probabilities_sum_to_one() {
        for (negative, positive) in [(0.0, 0.0), (0.3, 0.25), (1.0, 0.5), (0.999_999, 1.0)] {
            let found = Probabilities::three(p(negative), p(positive));
            let sum: f32 = Label::ALL.map(|label| found.of(label).get()).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{found:?}");
            if (0.01..0.99).contains(&negative) {
                assert!((found.positive_among_others().get() - positive).abs() < 1e-5);
            }
        }
        let two = Probabilities::two(p(0.3));
        assert_eq!((two.neutral().get(), two.positive_among_others().get()), (0.0, 1.0));
        assert_eq!(two.negative_among_two(), p(0.3));
        let three = Probabilities::new(0.2, 0.5).unwrap();
        assert!((three.negative_among_two().get() - 0.4).abs() < 1e-6);
        for (negative, neutral) in [(0.6, 0.5), (-0.1, 0.0), (0.5, f32::NAN), (0.0, 1.1)] {
            assert!(Probabilities::new(negative, neutral).is_err(), "{negative} {neutral}");
        }
    }

    #[test]
    fn words_in_any_case() {
        let check = |word, expected| assert_eq!(Label::of_word(word), expected, "{word}");
        check("NEG", Some(Label::Negative));
        check("Neutral", Some(Label::Neutral));
        check("positive", Some(Label::Positive));
        check("mixed", None);
        check("", None);
    }
}
