use std::fmt;

use super::{Counts, Minute};

/// Names an incident; given by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(pub i64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Length of the rolling window, in minutes.
    pub window_minutes: u32,
    /// What the window holds.
    pub observed: Counts,
    /// What the baseline before it holds.
    pub baseline: Counts,
    /// Share of negatives that the baseline leads us to expect, in 0..=1.
    pub expected_share: f64,
    /// Test statistic: how many standard errors the observed share lies above.
    pub z: f64,
    /// The value of `z` from which chance no longer explains it.
    pub z_min: f64,
}

impl Evidence {
    /// The observed share, zero in an empty window.
    pub fn observed_share(&self) -> f64 {
        self.observed.share().unwrap_or(0.0)
    }
}

/// A bad buzz: one brand's negative share above what its baseline explains.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// The brand it is about.
    pub brand: String,
    /// Event-time minute at whose end it opened.
    pub opened: Minute,
    /// Event-time minute at whose end it was resolved, if it was.
    pub resolved: Option<Minute>,
    /// What it opened on; its baseline stays frozen until the incident is resolved.
    pub evidence: Evidence,
}

/// A step in an incident's life that people hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The share rose beyond what chance explains.
    Opened,
    /// It is back where it was, or has become the new normal.
    Resolved,
}

impl Transition {
    /// The word for it in keys, logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Resolved => "resolved",
        }
    }
}
