//! Leases, results and requeues of the outbox.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Tables;
use crate::{DeadNotification, Example, Notification, OutboxRow, OutboxState, StoreError};
use monitor_core::domain::{IncidentId, Transition};

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) key: String,
    pub(super) receiver: String,
    pub(super) notification: Notification,
    pub(super) attempts: u32,
    pub(super) error: Option<String>,
    pub(super) state: QueuedState,
}

/// What the columns `state`, `due_at` and `ended_at` hold.
#[derive(Debug)]
pub(super) enum QueuedState {
    Pending { due: DateTime<Utc> },
    Sent,
    Dead { at: DateTime<Utc> },
}

impl Tables {
    pub(super) fn examples(&self, id: IncidentId) -> Result<Vec<Example>, StoreError> {
        let is_first = |row: &&Queued| {
            row.notification.incident_id == id.0 && row.notification.thread == row.key
        };
        let first = self.outbox.iter().find(is_first);
        Ok(first.map_or_else(Vec::new, |row| row.notification.examples.clone()))
    }

    /// All its users have the same clock.
    pub(super) fn time(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        Ok(now)
    }

    pub(super) fn outbox_lease(
        &mut self,
        now: DateTime<Utc>,
        lease: Duration,
        limit: u32,
        resting: &[String],
        sending: &[i64],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut due: Vec<(DateTime<Utc>, usize)> = self
            .outbox
            .iter()
            .enumerate()
            .filter(|(place, row)| {
                !resting.contains(&row.receiver) && !sending.contains(&(*place as i64 + 1))
            })
            .filter_map(|(place, row)| match row.state {
                QueuedState::Pending { due } if due <= now && !self.waits(place) => {
                    Some((due, place))
                }
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        // Chosen by due time, returned by number.
        due.sort_unstable_by_key(|&(_, place)| place);
        Ok(due
            .into_iter()
            .map(|(_, place)| {
                let row = &mut self.outbox[place];
                row.state = QueuedState::Pending { due: now + lease };
                row.attempts += 1;
                OutboxRow {
                    id: place as i64 + 1,
                    key: row.key.clone(),
                    receiver: row.receiver.clone(),
                    notification: row.notification.clone(),
                    attempts: row.attempts,
                }
            })
            .collect())
    }

    /// Whether it is a `resolved` or `reopened` with an earlier pending row in its thread; for the reason see
    /// `postgres/outbox.rs`.
    fn waits(&self, place: usize) -> bool {
        let late = &self.outbox[place].notification;
        let turns = [Transition::Resolved, Transition::Reopened].map(Transition::as_str);
        turns.contains(&late.transition.as_str())
            && self.outbox[..place].iter().any(|early| {
                matches!(early.state, QueuedState::Pending { .. })
                    && early.notification.thread == late.thread
            })
    }

    pub(super) fn outbox_record(
        &mut self,
        row: i64,
        attempt: u32,
        now: DateTime<Utc>,
        state: &OutboxState,
    ) -> Result<(), StoreError> {
        let place = usize::try_from(row - 1).ok();
        // A sent or dead row stays so: the late result of a second sender changes nothing.
        if let Some(row) = place.and_then(|place| self.outbox.get_mut(place))
            && matches!(row.state, QueuedState::Pending { .. })
            && row.attempts == attempt
        {
            let error;
            (row.state, error) = match state {
                OutboxState::Sent => (QueuedState::Sent, None),
                OutboxState::Retry { at, error } => {
                    (QueuedState::Pending { due: *at }, Some(error))
                }
                OutboxState::Dead { error } => (QueuedState::Dead { at: now }, Some(error)),
            };
            row.error = error.cloned().or(row.error.take());
        }
        Ok(())
    }

    pub(super) fn dead_notifications(
        &self,
        limit: u32,
    ) -> Result<Vec<DeadNotification>, StoreError> {
        let mut dead: Vec<_> = self
            .outbox
            .iter()
            .zip(1..)
            .filter_map(|(row, id)| match row.state {
                QueuedState::Dead { at } => Some(DeadNotification {
                    id,
                    key: row.key.clone(),
                    receiver: row.receiver.clone(),
                    attempts: row.attempts,
                    error: row.error.clone().unwrap_or_default(),
                    ended_at: at,
                }),
                _ => None,
            })
            .collect();
        dead.sort_by_key(|row| (row.ended_at, row.id));
        dead.truncate(limit as usize);
        Ok(dead)
    }

    pub(super) fn requeue(
        &mut self,
        row: Option<i64>,
        receiver: Option<&str>,
    ) -> Result<u64, StoreError> {
        let due_at_once = || QueuedState::Pending { due: DateTime::<Utc>::MIN_UTC };
        let mut requeued = 0;
        for place in 0..self.outbox.len() {
            let (before, late) = self.outbox.split_at_mut(place + 1);
            let queued = &mut before[place];
            if !matches!(queued.state, QueuedState::Dead { .. })
                || row.is_some_and(|row| row != place as i64 + 1)
                || receiver.is_some_and(|receiver| receiver != queued.receiver)
            {
                continue;
            }
            queued.state = due_at_once();
            queued.attempts = 0;
            requeued += 1;
            // A sent `resolved` is sent again; for the reason see `postgres/outbox.rs`.
            for end in late.iter_mut().filter(|end| {
                matches!(end.state, QueuedState::Sent)
                    && end.notification.transition == Transition::Resolved.as_str()
                    && end.notification.thread == queued.notification.thread
                    && end.receiver == queued.receiver
            }) {
                end.state = due_at_once();
                end.attempts = 0;
            }
        }
        Ok(requeued)
    }
}
