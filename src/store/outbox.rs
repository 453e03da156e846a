//! Notifications that wait for delivery.
//!
//! **Invariant.** A row is written in the transaction of the incident it tells of, under
//! a key that never changes, and leaves the state `Pending` only once a receiver has
//! taken it or it was given up. Hence at least once, and receivers can drop repeats by key.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::{IncidentId, Transition};

/// What people are told about an incident; stored as JSON in the outbox, and the body of
/// the webhook. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The incident's number; the store fills it in.
    pub incident_id: i64,
    /// `opened` or `resolved`.
    pub transition: String,
    /// The brand.
    pub brand: String,
    /// Start of the minute, in event time, whose judgement this step is.
    pub at: DateTime<Utc>,
    /// Start of the minute whose judgement opened the incident.
    pub opened_at: DateTime<Utc>,
    /// Length of the rolling window, in minutes.
    pub window_minutes: u32,
    /// What the window holds.
    pub observed: Tally,
    /// What the baseline holds.
    pub baseline: Tally,
    /// Share expected from the baseline, in 0..=1.
    pub expected_share: f64,
    /// Standard errors that the observed share lies above the expected one.
    pub z: f64,
    /// The value of `z` that alarms.
    pub z_min: f64,
    /// The reason in one sentence.
    pub reason: String,
    /// The most negative tweets of the window.
    pub examples: Vec<Example>,
    /// The share over the last day, oldest first.
    pub curve: Vec<CurvePoint>,
}

/// Tweets, negative tweets, and their share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// All tweets.
    pub total: u64,
    /// Negative tweets.
    pub negative: u64,
    /// Share of negatives, in 0..=1; 0 where there is no tweet.
    pub share: f64,
}

impl From<crate::domain::Counts> for Tally {
    fn from(counts: crate::domain::Counts) -> Self {
        Self {
            total: counts.total,
            negative: counts.negative,
            share: counts.share().unwrap_or(0.0),
        }
    }
}

/// A tweet shown as an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its id.
    pub tweet_id: String,
    /// Its text.
    pub text: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Probability that it is negative.
    pub negative: f32,
}

/// Counts of a stretch of time, for the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Start of the stretch.
    pub at: DateTime<Utc>,
    /// All tweets.
    pub total: u64,
    /// Negative tweets.
    pub negative: u64,
}

/// A notification for one receiver, leased for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// Idempotency key: `incident-<id>-<transition>-<receiver>`; the same in every attempt.
    pub key: String,
    /// Name of the receiver.
    pub receiver: String,
    /// What to tell.
    pub notification: Notification,
    /// Attempts made, this one included.
    pub attempts: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxState {
    /// The receiver took it.
    Sent,
    /// It failed, and is due again at `at`.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// What went wrong.
        error: String,
    },
    /// It was given up.
    Dead {
        /// What went wrong.
        error: String,
    },
}

/// The key under which every attempt to tell one receiver of one step is made.
pub(super) fn key(incident: IncidentId, transition: Transition, receiver: &str) -> String {
    format!("incident-{incident}-{}-{receiver}", transition.as_str())
}
