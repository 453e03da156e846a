use std::fmt;

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
    /// Checks and wraps a value.
    pub fn new(value: f32) -> Result<Self, InvalidProbability> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(InvalidProbability(value)) }
    }

    /// The value, in 0..=1.
    pub fn get(self) -> f32 {
        self.0
    }
}

/// The class of a tweet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// Negative; counts in the share of negative tweets.
    Negative,
    /// Not negative.
    Positive,
}

impl Label {
    /// The label's name in logs, rows and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "NEGATIVE",
            Self::Positive => "POSITIVE",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A model's result for one text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Probability that the text is negative.
    pub negative: Probability,
    /// The label, from this probability and the model's threshold.
    pub label: Label,
}

impl Score {
    /// The score of a text; it is negative if the probability is at least `threshold`.
    pub fn new(negative: Probability, threshold: Probability) -> Self {
        let label = if negative >= threshold { Label::Negative } else { Label::Positive };
        Self { negative, label }
    }

    /// Probability of the label.
    pub fn of_label(&self) -> f32 {
        match self.label {
            Label::Negative => self.negative.get(),
            Label::Positive => 1.0 - self.negative.get(),
        }
    }
}
