use std::fmt;

use chrono::{DateTime, Utc};

use serde::{Deserialize, Serialize};

use super::{Cause, Evidence, Minute, Severity};
use crate::keywords;

/// Names an incident; given by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(pub i64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Stands in a brand's place where an incident is about the stream itself. No brand can
/// be called so in the settings.
pub const STREAM: &str = "(stream)";

/// Something that people should know of; at most one is open for a brand and cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// The brand it is about, or [`STREAM`].
    pub brand: String,
    /// How bad it has been at its worst.
    pub severity: Severity,
    /// Minute at whose end it opened: of event time for brands, of the clock for the stream.
    pub opened: Minute,
    /// Minute at whose end it was resolved, if it was.
    pub resolved: Option<Minute>,
    /// Who has taken it on, if somebody has.
    pub acknowledged: Option<Acknowledgement>,
    /// What it opened on.
    pub evidence: Evidence,
}

impl Incident {
    /// What it is about.
    pub fn cause(&self) -> Cause {
        self.evidence.cause()
    }
}

/// Somebody has taken an incident on: it is repeated no more unless it gets worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// When, by the clock.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// What they had to say.
    pub note: String,
}

/// What a receiver has been told of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// The receiver.
    pub receiver: String,
    /// The minute of the latest notification.
    pub at: Minute,
    /// The severity that it told.
    pub severity: Severity,
}

/// A step in an incident's life that people hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Transition {
    /// It began.
    Opened,
    /// It goes on, or has become worse.
    Updated,
    /// It is over, or has become the new normal.
    Resolved,
}

keywords!(Transition: "opened" => Opened, "updated" => Updated, "resolved" => Resolved);
