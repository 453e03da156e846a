//! Trainings that the settings ask for, and how they ended.

use chrono::{DateTime, Utc};

/// Why a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrainReason {
    /// The schedule of the settings.
    Schedule,
    /// The tweets of a day have drifted.
    Drift,
    /// A person asked for it.
    Request,
}

impl RetrainReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Schedule, Self::Drift, Self::Request];

    /// Its word in the database and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Drift => "drift",
            Self::Request => "request",
        }
    }
}

/// How a retraining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrainOutcome {
    /// The new version is better and was promoted.
    Promoted,
    /// The new version is registered, and another one stays promoted.
    Kept,
    /// There is no new version.
    Failed,
}

impl RetrainOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Promoted, Self::Kept, Self::Failed];

    /// Its word in the database, the log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Kept => "kept",
            Self::Failed => "failed",
        }
    }
}

/// A retraining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retraining {
    /// Its number.
    pub id: i64,
    /// Why.
    pub reason: RetrainReason,
    /// When it was due: by the schedule, the end of the day that drifted, or when it was asked for.
    pub due_at: DateTime<Utc>,
    /// When it was begun, in clock time.
    pub started_at: DateTime<Utc>,
    /// How often its training was begun.
    pub attempts: u32,
    /// `name@version`, once it is registered.
    pub model: Option<String>,
    /// How it ended, and when; `None` while it is not over.
    pub ended: Option<(RetrainOutcome, DateTime<Utc>)>,
    /// By how much the version is better, or why it was not promoted.
    pub note: String,
}
