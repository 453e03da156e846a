//! Acts by a link of a notification ([`monitor_core::links`]), each of which happens once.

use chrono::{DateTime, Utc};

use crate::{Correction, Silence};
use monitor_core::domain::{Acknowledgement, IncidentId};

/// An act by a link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkUse {
    /// [`monitor_core::links::Link::once`].
    pub link: String,
    /// Who, for the history.
    pub by: String,
    /// When, in clock time.
    pub at: DateTime<Utc>,
    /// When the link expires.
    pub expires: DateTime<Utc>,
    /// What is done.
    pub act: LinkedAct,
}

/// What a link does.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkedAct {
    /// As [`crate::Store::acknowledge`], of an incident that is open.
    Acknowledge(IncidentId, Acknowledgement),
    /// As [`crate::Store::silence`].
    Silence(Silence),
    /// As [`crate::Store::correct`].
    Correct(Correction),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It is done.
    Done,
    /// It was done before.
    Used(UsedLink),
    /// The incident has ended.
    Over,
    /// The incident or the tweet is not stored.
    Missing,
}

/// Who has used a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedLink {
    /// Who.
    pub by: String,
    /// When, in clock time.
    pub at: DateTime<Utc>,
}
