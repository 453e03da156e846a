//! What a comparison found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Share of words that the model's vocabulary does not have.
    UnknownWords,
    /// Mix of languages.
    Languages,
    /// Number of words of a tweet.
    Lengths,
    /// Probability of negative, by the model in force.
    Scores,
    /// Whether a classifier can tell recent tweets from others by their words.
    Domain,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::UnknownWords, Self::Languages, Self::Lengths, Self::Scores, Self::Domain];

    /// Its name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownWords => "unknown_words",
            Self::Languages => "languages",
            Self::Lengths => "lengths",
            Self::Scores => "scores",
            Self::Domain => "domain",
        }
    }
}

/// What a measure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within the limit.
    Usual,
    /// Beyond the limit.
    Drifted,
    /// Not measured: the recent period has fewer than [`super::TWEETS_MIN`] usable tweets.
    TooFewTweets,
    /// Not measured: the reference has fewer than [`super::PERIODS_MIN`] usable periods.
    TooFewPeriods,
    /// Not measured: the model has no list of words that it knows.
    NoVocabulary,
}

impl Verdict {
    /// Its word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Drifted => "drifted",
            Self::TooFewTweets => "too_few_tweets",
            Self::TooFewPeriods => "too_few_periods",
            Self::NoVocabulary => "no_vocabulary",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usual => "usual",
            Self::Drifted => "DRIFTED",
            Self::TooFewTweets => "not measured: too few recent tweets",
            Self::TooFewPeriods => "not measured: too few periods to compare with",
            Self::NoVocabulary => "not measured: the model has no list of words",
        })
    }
}

/// A part of what has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// A word, a language, or the name of a figure.
    pub what: String,
    /// Its share of the tweets of the reference, or the figure there.
    pub before: f64,
    /// The same of the recent tweets.
    pub now: f64,
}

/// One measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which one.
    pub measure: Measure,
    /// What it says.
    pub verdict: Verdict,
    /// Its value; `None` if it was not measured.
    pub value: Option<f64>,
    /// It has drifted if the value is above this.
    pub limit: Option<f64>,
    /// The value of each usable period of the reference, with its place in [`Report::reference`].
    pub usual: Vec<(usize, f64)>,
    /// False alarms of this measure in 30 days that chance is expected to cause.
    pub false_alarms_per_month: f64,
    /// What has changed, the most important first.
    pub changes: Vec<Change>,
}

impl Measured {
    pub(super) fn not(measure: Measure, verdict: Verdict, false_alarms_per_month: f64) -> Self {
        let (value, limit, usual, changes) = (None, None, Vec::new(), Vec::new());
        Self { measure, verdict, value, limit, usual, false_alarms_per_month, changes }
    }

    /// Smallest and largest value of the reference's periods.
    pub fn usual_range(&self) -> Option<(f64, f64)> {
        let values = || self.usual.iter().map(|(_, value)| *value);
        Some((values().reduce(f64::min)?, values().reduce(f64::max)?))
    }
}

/// A comparison of recent tweets with a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The recent period.
    pub recent: String,
    /// Its tweets that were read.
    pub tweets: usize,
    /// The periods of the reference.
    pub reference: Vec<String>,
    /// Their tweets that were read.
    pub reference_tweets: usize,
    /// The measures, in the order of [`Measure::ALL`].
    pub measures: Vec<Measured>,
}

impl Report {
    /// The measures that are beyond their limit.
    pub fn drifted(&self) -> impl Iterator<Item = &Measured> {
        self.measures.iter().filter(|it| it.verdict == Verdict::Drifted)
    }
}
