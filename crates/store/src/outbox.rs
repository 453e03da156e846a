//! The outbox: notifications to deliver.
//!
//! **Invariant.** A row is written in the transaction of its incident, under an idempotency
//! key that never changes, and stays pending until a receiver has accepted it or it is dead.
//! So delivery is at least once, and receivers can drop repeats by key.

use chrono::{DateTime, Utc};

use monitor_core::notification::Notification;

/// A notification for one receiver, leased for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// Idempotency key; the same in every attempt.
    pub key: String,
    /// Name of the receiver.
    pub receiver: String,
    /// What to send.
    pub notification: Notification,
    /// Attempts made, this one included.
    pub attempts: u32,
}

/// A notification about no single incident, for one receiver; its thread is its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// Name of the receiver.
    pub receiver: String,
    /// The earliest time to send it; `None` is at once.
    pub not_before: Option<DateTime<Utc>>,
    /// What to send.
    pub notification: Notification,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxState {
    /// The receiver accepted it.
    Sent,
    /// It failed and is due again at `at`.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// What went wrong.
        error: String,
    },
    /// Its delivery was given up.
    Dead {
        /// What went wrong.
        error: String,
    },
}
