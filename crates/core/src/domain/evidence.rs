use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Counts, Minute};
use crate::keywords;

/// A stretch of values that holds the true one with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a verdict on a brand's share of negative tweets rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareEvidence {
    /// Name of the rule that judged: `e-detector`, `share-above` or `times-previous`.
    pub rule: &'static str,
    /// First minute of the rise: the long window runs from here to the minute judged.
    pub since: Minute,
    /// What the long window holds.
    pub observed: Counts,
    /// Where its true share lies.
    pub observed_interval: Interval,
    /// Length of the short window, in minutes.
    pub recent_minutes: u32,
    /// What the short window holds.
    pub recent: Counts,
    /// What the brand's baseline holds.
    pub baseline: Counts,
    /// Share of negatives that the baseline leads us to expect now, in 0..=1.
    pub expected_share: f64,
    /// Where that share lies.
    pub expected_interval: Interval,
    /// The rule's statistic.
    pub statistic: f64,
    /// The value of the statistic that alarms.
    pub threshold: f64,
    /// How many times the variance of independent tweets the brand's counts have.
    pub dispersion: f64,
}

impl ShareEvidence {
    /// The observed share, zero in an empty window.
    pub fn observed_share(&self) -> f64 {
        self.observed.share().unwrap_or(0.0)
    }
}

/// What a verdict on a brand's volume rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurgeEvidence {
    /// First minute of the surge.
    pub since: Minute,
    /// Tweets since then.
    pub observed: u64,
    /// Tweets that the brand's past leads us to expect in as long a time.
    pub expected: f64,
    /// The test statistic.
    pub statistic: f64,
    /// The value of the statistic that alarms.
    pub threshold: f64,
}

/// What the verdict rests on that the stream has gone quiet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuietEvidence {
    /// When the last record arrived.
    pub last: Option<DateTime<Utc>>,
    /// Minutes since then.
    pub minutes: u32,
    /// Tweets that the past leads us to expect in that time.
    pub expected_tweets: f64,
    /// Minutes from which a gap alarms.
    pub limit_minutes: u32,
}

/// What the verdict rests on that reading lags behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LagEvidence {
    /// Age of the oldest record not yet read, in minutes.
    pub behind_minutes: u32,
    /// Minutes from which it alarms.
    pub limit_minutes: u32,
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evidence {
    /// The share of negative tweets has risen.
    Share(ShareEvidence),
    /// There are many more tweets than usual.
    Surge(SurgeEvidence),
    /// No tweets come.
    Quiet(QuietEvidence),
    /// Tweets come faster than they are read, or are not read at all.
    Lag(LagEvidence),
}

impl Evidence {
    /// The evidence of a share, where it is of one.
    pub fn share(&self) -> Option<&ShareEvidence> {
        match self {
            Self::Share(evidence) => Some(evidence),
            _ => None,
        }
    }

    /// What it is evidence of.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Share(_) => Cause::Share,
            Self::Surge(_) => Cause::Surge,
            Self::Quiet(_) => Cause::Quiet,
            Self::Lag(_) => Cause::Lag,
        }
    }
}

/// What an incident is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Cause {
    /// A brand's share of negative tweets has risen.
    Share,
    /// A brand has many more tweets than usual.
    Surge,
    /// The stream has gone quiet.
    Quiet,
    /// Reading lags behind the stream.
    Lag,
}

keywords!(Cause: "share" => Share, "surge" => Surge, "quiet" => Quiet, "lag" => Lag);

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Worth looking at today.
    Warning,
    /// Worth waking somebody.
    Critical,
}

keywords!(Severity: "notice" => Notice, "warning" => Warning, "critical" => Critical);
