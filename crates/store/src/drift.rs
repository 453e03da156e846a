//! Comparisons of a day's tweets with those before.

use chrono::{DateTime, Utc};

use monitor_core::drift::Report;

/// What a comparison of one day found.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftDay {
    /// Start of the day, in event time.
    pub day: DateTime<Utc>,
    /// The model whose words and scores were compared, `name@version`.
    pub model: String,
    /// What was found.
    pub report: Report,
}
