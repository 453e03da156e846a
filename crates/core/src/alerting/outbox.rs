//! What a step of an incident writes to the outbox; pure.
//!
//! The stores fetch the pending rows that may matter, call [`plan`], and carry out its writes
//! in the transaction of the decision.
//!
//! **Invariant.** Each delivery of a step either inserts one row or joins one pending row.
//! A key never changes and never repeats. Deliberately absent: what a lease takes and what a
//! requeue resets. Postgres does each of these in one statement, because a row that is fetched
//! and then changed could be taken by another sender in between.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::suppression::Suppressed;
use crate::domain::{Evidence, IncidentId, Minute, Phase, Severity, Transition};
use crate::notification::{Also, Notification};

/// Other incidents in one notification, at most.
pub const ALSO_MAX: usize = 20;

/// A step in an incident's life, with its notification.
#[derive(Debug, Clone)]
pub struct Step {
    /// What happened.
    pub transition: Transition,
    /// The minute evaluated.
    pub minute: Minute,
    /// Severity of the incident now.
    pub severity: Severity,
    /// The measurements that the step is based on.
    pub evidence: Evidence,
    /// The phases of the incident; none for the stream.
    pub phases: Vec<Phase>,
    /// The notification before it is addressed. [`plan`] fills in `incident_id` and `thread`,
    /// extends `url` from the page to the incident, and writes `opened` to a receiver that has
    /// not been notified of the incident before.
    pub notification: Notification,
    /// The deliveries, at most one per receiver.
    pub deliveries: Vec<Delivery>,
    /// The receivers that are not notified, with the reason for each.
    pub suppressed: Vec<Suppressed>,
    /// Whether it is an opening of so long ago that it is told in a digest once the incident is over.
    pub missed: bool,
}

/// A notification on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The receiver.
    pub receiver: String,
    /// The earliest time to send it, in wall-clock time: the end of quiet hours, or of a wait
    /// for other incidents to join. `None` is at once.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether it may join a pending notification about another incident.
    pub group: bool,
}

/// A pending row of the outbox, as far as [`plan`] needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Its number.
    pub id: i64,
    /// Its idempotency key.
    pub key: String,
    /// The receiver.
    pub receiver: String,
    /// Key of the first notification of its thread.
    pub thread: String,
    /// When it is due; `None` is at once.
    pub due_at: Option<DateTime<Utc>>,
    /// Attempts made.
    pub attempts: u32,
    /// Whether an attempt has failed. Stays true when a dead row is requeued.
    pub failed: bool,
    /// `opened`, `updated`, `resolved` or `reopened`.
    pub transition: String,
    /// Whether it is a test.
    pub test: bool,
    /// The incident.
    pub incident: IncidentId,
    /// How many incidents have joined it; `None` if the row is too old to be joined.
    pub also: Option<usize>,
}

/// A write to the outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum OutboxWrite {
    /// Insert a row, unless its key exists.
    Insert {
        /// Idempotency key.
        key: String,
        /// The receiver.
        receiver: String,
        /// What to send.
        notification: Box<Notification>,
        /// When it is due; `None` is at once.
        due_at: Option<DateTime<Utc>>,
    },
    /// Append to the `also` of a pending row.
    Join {
        /// The row's number.
        row: i64,
        /// What to append.
        also: Also,
    },
    /// Make a pending row due at once.
    MakeDue {
        /// The row's number.
        row: i64,
    },
}

/// What a step writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutboxPlan {
    /// Writes to the outbox, in order.
    pub writes: Vec<OutboxWrite>,
    /// By receiver notified, the thread of the incident's notifications to it.
    pub threads: BTreeMap<String, String>,
}

/// Plans the outbox writes of `step`. `threads` has the thread of each receiver that was
/// notified of the incident before. `pending` are the pending rows that may matter, by number:
/// all held rows of these threads, and those that deliveries with `group` could join. Joinable
/// rows that a sender locks may be missing.
pub fn plan(
    step: &Step,
    incident: IncidentId,
    threads: &BTreeMap<String, String>,
    pending: &[PendingRow],
) -> OutboxPlan {
    let mut plan = OutboxPlan::default();
    for delivery in &step.deliveries {
        let receiver = &delivery.receiver;
        let known = threads.get(receiver);
        let (key, notification) = addressed(step, incident, receiver, known.map(String::as_str));
        let host = pending.iter().find(|row| may_join(row, delivery, &notification));
        let thread = match host {
            Some(host) => {
                let also = Also::of(&notification);
                plan.writes.push(OutboxWrite::Join { row: host.id, also });
                host.key.clone()
            }
            None => {
                let thread = notification.thread.clone();
                plan.writes.push(OutboxWrite::Insert {
                    key,
                    receiver: receiver.clone(),
                    notification: Box::new(notification),
                    due_at: delivery.not_before,
                });
                // The receiver is notified of the incident now, so what was held back of its
                // thread need not wait any longer, and the end need not wait behind it.
                if delivery.not_before.is_none() {
                    let held = pending.iter().filter(|row| {
                        row.attempts == 0
                            && row.due_at.is_some()
                            && row.receiver == *receiver
                            && row.thread == thread
                    });
                    plan.writes.extend(held.map(|row| OutboxWrite::MakeDue { row: row.id }));
                }
                thread
            }
        };
        plan.threads.insert(receiver.clone(), known.cloned().unwrap_or(thread));
    }
    plan
}

/// Whether `notification` may join the pending `row` instead of getting a row of its own. Only
/// the opening of an incident joins, and only the opening of another incident. A row that was
/// attempted is excluded: the receiver may know its key and would drop the repeat. So is a row
/// that is due later than the delivery, which would delay it.
fn may_join(row: &PendingRow, delivery: &Delivery, notification: &Notification) -> bool {
    let opened = Transition::Opened.as_str();
    let is_due_in_time = match (row.due_at, delivery.not_before) {
        (None, _) => true,
        (Some(due_at), Some(not_before)) => due_at <= not_before,
        (Some(_), None) => false,
    };
    delivery.group
        && notification.transition == opened
        && row.receiver == delivery.receiver
        && is_due_in_time
        && row.attempts == 0
        && !row.failed
        && row.transition == opened
        && !row.test
        && row.incident.0 != notification.incident_id
        && row.also.is_some_and(|also| also < ALSO_MAX)
}

/// The notification of a step for one receiver, with its key. `thread` is the key of the first
/// notification of this incident to the receiver. Without one the receiver has not been
/// notified of the incident, so an update is an opening for it.
fn addressed(
    step: &Step,
    incident: IncidentId,
    receiver: &str,
    thread: Option<&str>,
) -> (String, Notification) {
    let transition = match (thread, step.transition) {
        (None, Transition::Updated | Transition::Reopened) => Transition::Opened,
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

/// The idempotency key of a step's notification to one receiver. It contains the minute because
/// an incident may have several updates, and because a new database numbers its incidents
/// from 1 again but must not repeat the keys of the old one.
fn key(incident: IncidentId, transition: Transition, minute: Minute, receiver: &str) -> String {
    format!("incident-{incident}-{}-{}-{receiver}", transition.as_str(), minute.0)
}

#[cfg(test)]
mod tests;
