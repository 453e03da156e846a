//! Decisions, the incidents they open, their histories, and silences.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::outbox::{Queued, QueuedState};
use super::{Tables, refused};
use crate::{Decision, DetectorState, Event, Silence, Step, StoreError};
use monitor_core::alerting::{OutboxWrite, PendingRow, plan_outbox};
use monitor_core::domain::{
    Acknowledgement, Cause, Incident, IncidentId, Minute, Notified, Transition,
};

/// An incident with the rows that refer to it.
#[derive(Debug)]
pub(super) struct IncidentRecord {
    incident: Incident,
    events: Vec<Event>,
    /// By receiver: the key of its thread, and its last notification.
    notified: BTreeMap<String, (String, Notified)>,
}

impl Tables {
    pub(super) fn lead(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    pub(super) fn detector_state(
        &self,
        brand: &str,
        cause: Cause,
    ) -> Result<Option<DetectorState>, StoreError> {
        let Some((evaluated, state)) = self.watches.get(&(brand.to_owned(), cause)) else {
            return Ok(None);
        };
        let open = self.open_incident(brand, cause).map(|place| &self.incidents[place]);
        Ok(Some(DetectorState {
            evaluated: *evaluated,
            state: state.clone(),
            open: open.map(|record| record.incident.clone()),
            notified: open
                .map(|record| {
                    record.notified.values().map(|(_, notified)| notified.clone()).collect()
                })
                .unwrap_or_default(),
        }))
    }

    fn open_incident(&self, brand: &str, cause: Cause) -> Option<usize> {
        self.incidents.iter().map(|record| &record.incident).position(|incident| {
            incident.brand == brand && incident.cause() == cause && incident.resolved.is_none()
        })
    }

    pub(super) fn decide(&mut self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let detector = (decision.brand.clone(), decision.cause);
        if self.watches.get(&detector).map(|&(evaluated, _)| evaluated) != decision.evaluated_before
        {
            return Err(StoreError::Overtaken { brand: decision.brand.clone() });
        }
        let incident = match &decision.step {
            Some(step) => Some(self.write_step(decision, step)?),
            None => None,
        };
        self.watches.insert(detector, (decision.evaluated, decision.state.clone()));
        Ok(incident)
    }

    fn write_step(&mut self, decision: &Decision, step: &Step) -> Result<IncidentId, StoreError> {
        let brand = &decision.brand;
        let place = match (step.transition, self.open_incident(brand, decision.cause)) {
            (Transition::Opened, None) => {
                self.incidents.push(IncidentRecord {
                    incident: Incident {
                        id: IncidentId(self.incidents.len() as i64 + 1),
                        brand: brand.clone(),
                        severity: step.severity,
                        opened: step.minute,
                        resolved: None,
                        acknowledged: None,
                        evidence: step.evidence,
                    },
                    events: Vec::new(),
                    notified: BTreeMap::new(),
                });
                self.incidents.len() - 1
            }
            (Transition::Opened, Some(_)) => {
                return Err(refused(format!("brand {brand:?} has an open incident")));
            }
            (_, None) => return Err(refused(format!("brand {brand:?} has no open incident"))),
            (_, Some(place)) => place,
        };
        let incident = &mut self.incidents[place].incident;
        match step.transition {
            Transition::Opened => {}
            Transition::Updated => incident.severity = incident.severity.max(step.severity),
            Transition::Resolved => incident.resolved = Some(step.minute),
        }
        self.notify(place, step);
        let record = &mut self.incidents[place];
        record.events.push(Event {
            kind: step.transition.as_str().into(),
            at: step.minute.start(),
            severity: step.severity,
            who: None,
            note: step.notification.reason.clone(),
            notified: step.deliveries.iter().map(|d| d.receiver.clone()).collect(),
            suppressed: step.suppressed.clone(),
        });
        Ok(record.incident.id)
    }

    /// Carries out the plan of what a step writes to the outbox.
    fn notify(&mut self, place: usize, step: &Step) {
        let record = &self.incidents[place];
        let threads: BTreeMap<String, String> = record
            .notified
            .iter()
            .map(|(receiver, (thread, _))| (receiver.clone(), thread.clone()))
            .collect();
        let plan = plan_outbox(step, record.incident.id, &threads, &self.pending());
        for write in plan.writes {
            match write {
                OutboxWrite::Insert { key, receiver, notification, due_at } => {
                    if !self.outbox.iter().any(|row| row.key == key) {
                        let due = due_at.unwrap_or(DateTime::<Utc>::MIN_UTC);
                        self.outbox.push(Queued {
                            key,
                            receiver,
                            notification: *notification,
                            attempts: 0,
                            error: None,
                            state: QueuedState::Pending { due },
                        });
                    }
                }
                OutboxWrite::Join { row, also } => {
                    self.outbox[row as usize - 1].notification.also.push(also);
                }
                OutboxWrite::MakeDue { row } => {
                    let due = DateTime::<Utc>::MIN_UTC;
                    self.outbox[row as usize - 1].state = QueuedState::Pending { due };
                }
            }
        }
        for (receiver, thread) in plan.threads {
            let notified =
                Notified { receiver: receiver.clone(), at: step.minute, severity: step.severity };
            self.incidents[place].notified.insert(receiver, (thread, notified));
        }
    }

    /// The pending rows of the outbox.
    fn pending(&self) -> Vec<PendingRow> {
        let pending = |(row, id): (&Queued, i64)| {
            let QueuedState::Pending { due } = row.state else { return None };
            Some(PendingRow {
                id,
                key: row.key.clone(),
                receiver: row.receiver.clone(),
                thread: row.notification.thread.clone(),
                due_at: (due > DateTime::<Utc>::MIN_UTC).then_some(due),
                attempts: row.attempts,
                failed: row.error.is_some(),
                transition: row.notification.transition.clone(),
                test: row.notification.test,
                incident: IncidentId(row.notification.incident_id),
                also: Some(row.notification.also.len()),
            })
        };
        self.outbox.iter().zip(1..).filter_map(pending).collect()
    }

    pub(super) fn incidents_since(
        &self,
        brand: &str,
        cause: Cause,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError> {
        let mut found: Vec<_> = self
            .incidents
            .iter()
            .map(|record| &record.incident)
            .filter(|i| i.brand == brand && i.cause() == cause)
            .filter(|i| i.resolved.is_none_or(|at| at >= from))
            .cloned()
            .collect();
        found.sort_by_key(|i| (i.opened, i.id));
        Ok(found)
    }

    pub(super) fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut found: Vec<_> =
            self.incidents.iter().map(|record| record.incident.clone()).collect();
        found.sort_by_key(|i| std::cmp::Reverse((i.opened, i.id)));
        found.truncate(limit as usize);
        Ok(found)
    }

    pub(super) fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        Ok(self.record(id).map(|record| record.incident.clone()))
    }

    pub(super) fn events(&self, id: IncidentId) -> Result<Vec<Event>, StoreError> {
        Ok(self.record(id).map(|record| record.events.clone()).unwrap_or_default())
    }

    fn record(&self, id: IncidentId) -> Option<&IncidentRecord> {
        self.incidents.iter().find(|record| record.incident.id == id)
    }

    pub(super) fn acknowledge(
        &mut self,
        id: IncidentId,
        acknowledgement: &Acknowledgement,
    ) -> Result<bool, StoreError> {
        let Some(record) = self.incidents.iter_mut().find(|record| record.incident.id == id) else {
            return Ok(false);
        };
        record.incident.acknowledged = Some(acknowledgement.clone());
        record.events.push(Event {
            kind: "acknowledged".into(),
            at: acknowledgement.at,
            severity: record.incident.severity,
            who: Some(acknowledgement.by.clone()),
            note: acknowledgement.note.clone(),
            notified: Vec::new(),
            suppressed: Vec::new(),
        });
        Ok(true)
    }

    pub(super) fn silences(&self, now: DateTime<Utc>) -> Result<Vec<Silence>, StoreError> {
        Ok(self.silences.iter().filter(|silence| lasts(silence, now)).cloned().collect())
    }

    pub(super) fn silence(&mut self, silence: &Silence) -> Result<i64, StoreError> {
        if silence.ends_at < silence.starts_at {
            return Err(refused("a silence ends before it starts".into()));
        }
        let id = self.silences.len() as i64 + 1;
        self.silences.push(Silence { id, ..silence.clone() });
        Ok(id)
    }

    pub(super) fn end_silence(&mut self, id: i64, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let found =
            self.silences.iter_mut().find(|silence| silence.id == id && lasts(silence, now));
        let ended = found.map(|silence| silence.ends_at = silence.starts_at.max(now));
        Ok(ended.is_some())
    }
}

/// Whether a silence has not ended and has not been cancelled.
fn lasts(silence: &Silence, now: DateTime<Utc>) -> bool {
    silence.ends_at > now.max(silence.starts_at)
}
