//! Notifications that wait for delivery.
//!
//! **Invariant.** A row is written in the transaction of the incident it tells of, under
//! a key that never changes, and leaves the state `Pending` only once a receiver has
//! taken it or it was given up. Hence at least once, and receivers can drop repeats by key.

use chrono::{DateTime, Utc};

use super::Step;
use monitor_core::domain::{IncidentId, Minute, Transition};
use monitor_core::notification::Notification;

/// Other incidents in one notification, at most.
pub(super) const ALSO_MAX: usize = 20;

/// A notification for one receiver, leased for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// Idempotency key; the same in every attempt.
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

/// A step as one receiver is told of it, with its key. `thread` is the key of the first
/// notification of this incident to the receiver; without one the receiver hears of the
/// incident for the first time, so unless it is over by now it has opened.
pub(super) fn addressed(
    step: &Step,
    incident: IncidentId,
    receiver: &str,
    thread: Option<&str>,
) -> (String, Notification) {
    let transition = match (thread, step.transition) {
        (None, Transition::Updated) => Transition::Opened,
        (_, transition) => transition,
    };
    let key = key(incident, transition, step.minute, receiver);
    let page = step.notification.url.as_deref();
    let notification = Notification {
        incident_id: incident.0,
        transition: transition.as_str().into(),
        thread: thread.unwrap_or(&key).into(),
        url: page.map(|page| format!("{}/#incident-{incident}", page.trim_end_matches('/'))),
        ..step.notification.clone()
    };
    (key, notification)
}

/// The key under which every attempt to tell one receiver of one step is made. The step's
/// minute is part of it: an incident may have several updates, and a database that is begun
/// anew, whose incidents count from 1 again, does not repeat the keys of the one before.
fn key(incident: IncidentId, transition: Transition, minute: Minute, receiver: &str) -> String {
    format!("incident-{incident}-{}-{}-{receiver}", transition.as_str(), minute.0)
}
