//! A week of the brands, as it is stored in the outbox and told to the communications team.
//!
//! **Invariant.** Plain data whose JSON is stored: fields may be added, but not renamed or removed.
//! Deliberately absent: wording and layout (`monitor-notify`), and how it is gathered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{Counts, Evidence, Language};
use crate::notification::CurvePoint;
use crate::quantify::Estimate;

/// A week, or another period, of all brands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// Start, in event time.
    pub from: DateTime<Utc>,
    /// End, exclusive. The period before is as long.
    pub to: DateTime<Utc>,
    /// The brands, most tweets first.
    pub brands: Vec<BrandWeek>,
    /// Records that were no tweets, by the clock.
    pub dead_letters: u64,
    /// The same of the period before.
    pub dead_letters_before: u64,
    /// Address of the page.
    pub url: Option<String>,
}

/// The period of one brand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrandWeek {
    /// The brand.
    pub brand: String,
    /// The period.
    pub week: WeekFigures,
    /// The period before, of the same length.
    pub before: WeekFigures,
    /// Counts by hour, oldest first.
    pub curve: Vec<CurvePoint>,
    /// Incidents that were open in the period, in the order in which they opened.
    pub incidents: Vec<WeekIncident>,
    /// Tweets without a score by language, most first.
    pub not_judged: Vec<(Language, u64)>,
    /// Tweets that are negative with the highest probability, highest first; each text once.
    pub negative: Vec<WeekTweet>,
    /// The same of positive ones.
    pub positive: Vec<WeekTweet>,
}

/// The figures of a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WeekFigures {
    /// Scored tweets.
    pub total: u64,
    /// Those called negative.
    pub negative: u64,
    /// The share that people would call negative, if enough tweets have labels.
    pub corrected: Option<Estimate>,
}

impl WeekFigures {
    /// The raw share of negative tweets; `None` without tweets.
    pub fn share(&self) -> Option<f64> {
        Counts { total: self.total, negative: self.negative }.share()
    }
}

/// An incident of the period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeekIncident {
    /// Its number.
    pub id: i64,
    /// The numbers on which it opened.
    pub evidence: Evidence,
    /// `notice`, `warning` or `critical`.
    pub severity: String,
    /// When it opened, in event time.
    pub opened: DateTime<Utc>,
    /// When it ended; `None` while it is open.
    pub resolved: Option<DateTime<Utc>>,
    /// Who has acknowledged it.
    pub acknowledged: Option<String>,
}

/// A tweet to read. Its text stands with the other examples of the notification, so that whatever forgets a tweet there
/// forgets this one too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeekTweet {
    /// Its id.
    pub tweet_id: String,
    /// The probability of its label.
    pub probability: f32,
}
