use std::fmt;

use chrono::{DateTime, Utc};

use serde::{Deserialize, Serialize};

use super::{Cause, Evidence, Minute, Phase, Severity};
use crate::keywords;

/// An incident's id, assigned by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(pub i64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Used instead of a brand's name in incidents about the stream itself. The settings do not
/// accept a brand with this name.
pub const STREAM: &str = "(stream)";

/// An incident that people should know about. At most one is open per brand and
/// [`Watch`](super::Watch).
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// The incident's id.
    pub id: IncidentId,
    /// The affected brand, or [`STREAM`].
    pub brand: String,
    /// The highest severity since it opened, or opened again.
    pub severity: Severity,
    /// Minute at whose end it opened: event time for brands, wall-clock time for the stream.
    pub opened: Minute,
    /// Minute at whose end it resolved; `None` while it is open.
    pub resolved: Option<Minute>,
    /// The acknowledgement, if any.
    pub acknowledged: Option<Acknowledgement>,
    /// The evidence when it opened.
    pub evidence: Evidence,
    /// Its phases, in the order in which they joined, as of its last step; none for the stream.
    pub phases: Vec<Phase>,
    /// Whether it opened, or opened again, so long ago that it was not told, and nobody has been told of it since.
    pub missed: bool,
}

impl Incident {
    /// The cause that opened the incident.
    pub fn cause(&self) -> Cause {
        self.evidence.cause()
    }

    /// All its causes, in the order in which they joined.
    pub fn causes(&self) -> Vec<Cause> {
        match self.phases.is_empty() {
            true => vec![self.cause()],
            false => self.phases.iter().map(Phase::cause).collect(),
        }
    }
}

/// Somebody has acknowledged an incident. Its notification is not repeated any more, unless the
/// incident gets worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// When, in wall-clock time.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// A note by that person; may be empty.
    pub note: String,
}

/// The last notification of an incident that a receiver got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// The receiver.
    pub receiver: String,
    /// The minute of the latest notification.
    pub at: Minute,
    /// The severity in that notification.
    pub severity: Severity,
}

/// A change of an incident that people are notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Transition {
    /// It opened.
    Opened,
    /// It is still open, has become worse, or a phase has joined or ended.
    Updated,
    /// It resolved: the normal state is back, or there is a new normal.
    Resolved,
    /// It was resolved and is back.
    Reopened,
}

keywords!(Transition: "opened" => Opened, "updated" => Updated, "resolved" => Resolved,
    "reopened" => Reopened);
