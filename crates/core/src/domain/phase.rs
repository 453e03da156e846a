use serde::{Deserialize, Serialize};

use super::{Cause, Evidence, Minute};
use crate::keywords;

/// One view of a brand's trouble within an incident: its share of negative tweets, the number of
/// negative tweets, or the number of all tweets. An incident has at most one phase of each cause. Its JSON
/// is stored with incidents and notifications: fields may be added, but not renamed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The minute at whose end it joined the incident.
    pub began: Minute,
    /// The minute at whose end it ended; `None` while it lasts.
    pub ended: Option<Minute>,
    /// How it ended; `None` while it lasts, and if nobody watches it any more.
    pub ended_as: Option<ResolveReason>,
    /// How often it has come back.
    #[serde(default)]
    pub relapses: u32,
    /// The evidence when it joined.
    pub opening: Evidence,
    /// The minute of its peak, when the rise was surely largest.
    pub peak_at: Minute,
    /// The evidence of that minute.
    pub peak: Evidence,
    /// The latest evidence.
    pub latest: Evidence,
}

impl Phase {
    /// A phase that begins.
    pub fn new(began: Minute, opening: Evidence) -> Self {
        Self {
            began,
            ended: None,
            ended_as: None,
            relapses: 0,
            opening,
            peak_at: began,
            peak: opening,
            latest: opening,
        }
    }

    /// What it is about.
    pub fn cause(&self) -> Cause {
        self.opening.cause()
    }

    /// Whether it lasts.
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Takes in the evidence of `minute`.
    pub fn see(&mut self, minute: Minute, evidence: Evidence) {
        self.latest = evidence;
        if evidence.certain_size() > self.peak.certain_size() {
            (self.peak_at, self.peak) = (minute, evidence);
        }
    }
}

/// Why an incident, or a phase of it, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum ResolveReason {
    /// It is as usual again.
    Calm,
    /// It has been high and stable for so long that it is the new normal.
    NewNormal,
}

keywords!(ResolveReason: "calm" => Calm, "new normal" => NewNormal);
