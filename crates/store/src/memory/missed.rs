//! Incidents that were over when they were found, and the digest that tells of them.

use chrono::{DateTime, Utc};

use super::Tables;
use super::outbox::{Queued, QueuedState};
use crate::{Addressed, StoreError};
use monitor_core::domain::{Incident, IncidentId};

impl Tables {
    pub(super) fn missed(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut found = self.incidents(u32::MAX)?;
        found.retain(|incident| incident.missed && incident.resolved.is_some());
        found.sort_by_key(|incident| (incident.opened, incident.id));
        found.truncate(limit as usize);
        Ok(found)
    }

    pub(super) fn tell_missed(
        &mut self,
        incidents: &[IncidentId],
        notifications: &[Addressed],
    ) -> Result<bool, StoreError> {
        let missed = self.missed(u32::MAX)?;
        if !incidents.iter().all(|id| missed.iter().any(|incident| incident.id == *id)) {
            return Ok(false);
        }
        for id in incidents {
            self.set_missed(*id, false);
        }
        for Addressed { receiver, not_before, notification } in notifications {
            if self.outbox.iter().all(|row| row.key != notification.thread) {
                self.outbox.push(Queued {
                    key: notification.thread.clone(),
                    receiver: receiver.clone(),
                    notification: notification.clone(),
                    attempts: 0,
                    error: None,
                    state: QueuedState::Pending {
                        due: not_before.unwrap_or(DateTime::<Utc>::MIN_UTC),
                    },
                });
            }
        }
        Ok(true)
    }
}
