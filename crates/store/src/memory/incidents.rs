//! Decisions, the incidents they open, their histories, and silences.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::outbox::{Queued, QueuedState};
use super::{Tables, refused};
use crate::{Decision, DetectorState, Event, Silence, Step, StoreError};
use monitor_core::alerting::{OutboxWrite, PendingRow, plan_outbox};
use monitor_core::domain::{
    Acknowledgement, Incident, IncidentId, Minute, Notified, Transition, Watch,
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
        watch: Watch,
    ) -> Result<Option<DetectorState>, StoreError> {
        let Some((evaluated, state)) = self.watches.get(&(brand.to_owned(), watch)) else {
            return Ok(None);
        };
        let latest = self.latest_incident(brand, watch).map(|place| &self.incidents[place]);
        let incident = latest.map(|record| record.incident.clone());
        let (open, last) = match incident {
            Some(incident) if incident.resolved.is_none() => (Some(incident), None),
            other => (None, other),
        };
        Ok(Some(DetectorState {
            evaluated: *evaluated,
            state: state.clone(),
            open,
            last,
            notified: latest
                .map(|record| {
                    record.notified.values().map(|(_, notified)| notified.clone()).collect()
                })
                .unwrap_or_default(),
        }))
    }

    /// The open incident, else the one that opened last.
    fn latest_incident(&self, brand: &str, watch: Watch) -> Option<usize> {
        let of_it = |(_, incident): &(usize, &Incident)| {
            incident.brand == brand && incident.cause().watch() == watch
        };
        let all = self.incidents.iter().map(|record| &record.incident).enumerate();
        all.filter(of_it)
            .max_by_key(|(_, incident)| (incident.resolved.is_none(), incident.opened, incident.id))
            .map(|(place, _)| place)
    }

    pub(super) fn decide(&mut self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let detector = (decision.brand.clone(), decision.watch);
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
        let latest = self.latest_incident(brand, decision.watch);
        let is_open = latest.is_some_and(|place| self.incidents[place].incident.resolved.is_none());
        let place = match (step.transition, latest) {
            (Transition::Opened | Transition::Reopened, Some(_)) if is_open => {
                return Err(refused(format!("brand {brand:?} has an open incident")));
            }
            (Transition::Opened, _) => {
                self.incidents.push(IncidentRecord {
                    incident: Incident {
                        id: IncidentId(self.incidents.len() as i64 + 1),
                        brand: brand.clone(),
                        severity: step.severity,
                        opened: step.minute,
                        resolved: None,
                        acknowledged: None,
                        evidence: step.evidence,
                        phases: Vec::new(),
                        missed: false,
                    },
                    events: Vec::new(),
                    notified: BTreeMap::new(),
                });
                self.incidents.len() - 1
            }
            (Transition::Reopened, Some(place)) => place,
            (_, Some(place)) if is_open => place,
            _ => return Err(refused(format!("brand {brand:?} has no such incident"))),
        };
        let incident = &mut self.incidents[place].incident;
        incident.phases.clone_from(&step.phases);
        incident.missed = step.missed || incident.missed && step.deliveries.is_empty();
        match step.transition {
            Transition::Opened => {}
            Transition::Updated => incident.severity = incident.severity.max(step.severity),
            Transition::Resolved => incident.resolved = Some(step.minute),
            Transition::Reopened => {
                incident.severity = step.severity;
                (incident.resolved, incident.acknowledged) = (None, None);
            }
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
        watch: Watch,
        from: Minute,
    ) -> Result<Vec<Incident>, StoreError> {
        let mut found: Vec<_> = self
            .incidents
            .iter()
            .map(|record| &record.incident)
            .filter(|i| i.brand == brand && i.cause().watch() == watch)
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
        let mut left = limit;
        found.retain(|incident| {
            let is_latest = left > 0;
            left = left.saturating_sub(1);
            is_latest || incident.resolved.is_none()
        });
        Ok(found)
    }

    pub(super) fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        Ok(self.record(id).map(|record| record.incident.clone()))
    }

    pub(super) fn events(&self, id: IncidentId) -> Result<Vec<Event>, StoreError> {
        Ok(self.record(id).map(|record| record.events.clone()).unwrap_or_default())
    }

    pub(super) fn set_missed(&mut self, id: IncidentId, missed: bool) {
        if let Some(record) = self.incidents.iter_mut().find(|record| record.incident.id == id) {
            record.incident.missed = missed;
        }
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
