//! Decisions, the incidents they open, their histories, and silences.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::outbox::{Queued, State};
use super::{Tables, refused};
use crate::outbox::{ALSO_MAX, addressed};
use crate::{
    Also, Decision, Delivery, DetectorState, Event, Notification, Silence, Step, StoreError,
};
use monitor_core::domain::{
    Acknowledgement, Cause, Incident, IncidentId, Minute, Notified, Transition,
};

/// An incident, with the rows that refer to it.
#[derive(Debug)]
pub(super) struct Kept {
    incident: Incident,
    events: Vec<Event>,
    /// By receiver: the key of its thread, and what it was told.
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
            open: open.map(|kept| kept.incident.clone()),
            notified: open
                .map(|kept| kept.notified.values().map(|(_, told)| told.clone()).collect())
                .unwrap_or_default(),
        }))
    }

    fn open_incident(&self, brand: &str, cause: Cause) -> Option<usize> {
        self.incidents.iter().map(|kept| &kept.incident).position(|incident| {
            incident.brand == brand && incident.cause() == cause && incident.resolved.is_none()
        })
    }

    pub(super) fn decide(&mut self, decision: &Decision) -> Result<Option<IncidentId>, StoreError> {
        let watch = (decision.brand.clone(), decision.cause);
        if self.watches.get(&watch).map(|&(evaluated, _)| evaluated) != decision.evaluated_before {
            return Err(StoreError::Overtaken { brand: decision.brand.clone() });
        }
        let incident = match &decision.step {
            Some(step) => Some(self.take(decision, step)?),
            None => None,
        };
        self.watches.insert(watch, (decision.evaluated, decision.state.clone()));
        Ok(incident)
    }

    fn take(&mut self, decision: &Decision, step: &Step) -> Result<IncidentId, StoreError> {
        let brand = &decision.brand;
        let place = match (step.transition, self.open_incident(brand, decision.cause)) {
            (Transition::Opened, None) => {
                self.incidents.push(Kept {
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
        for delivery in &step.deliveries {
            self.tell(place, step, delivery);
        }
        let kept = &mut self.incidents[place];
        kept.events.push(Event {
            kind: step.transition.as_str().into(),
            at: step.minute.start(),
            severity: step.severity,
            who: None,
            note: step.notification.reason.clone(),
            notified: step.deliveries.iter().map(|d| d.receiver.clone()).collect(),
        });
        Ok(kept.incident.id)
    }

    fn tell(&mut self, place: usize, step: &Step, delivery: &Delivery) {
        let kept = &self.incidents[place];
        let receiver = &delivery.receiver;
        let thread = kept.notified.get(receiver).map(|(thread, _)| thread.as_str());
        let (key, notification) = addressed(step, kept.incident.id, receiver, thread);
        let opens = notification.transition == Transition::Opened.as_str();
        let thread = match self.host(delivery, &notification).filter(|_| delivery.group && opens) {
            Some(host) => {
                let host = &mut self.outbox[host];
                host.notification.also.push(Also::of(&notification));
                host.key.clone()
            }
            None => {
                let thread = notification.thread.clone();
                if !self.outbox.iter().any(|row| row.key == key) {
                    self.outbox.push(Queued {
                        key,
                        receiver: receiver.clone(),
                        notification,
                        attempts: 0,
                        error: None,
                        state: State::Pending {
                            due: delivery.not_before.unwrap_or(DateTime::<Utc>::MIN_UTC),
                        },
                    });
                }
                if delivery.not_before.is_none() {
                    self.hold_no_longer(receiver, &thread);
                }
                thread
            }
        };
        let told =
            Notified { receiver: receiver.clone(), at: step.minute, severity: step.severity };
        self.incidents[place]
            .notified
            .entry(receiver.clone())
            .and_modify(|(_, before)| *before = told.clone())
            .or_insert((thread, told));
    }

    /// Makes what is held back of a thread due at once; for the reasons see the twin on Postgres.
    fn hold_no_longer(&mut self, receiver: &str, thread: &str) {
        for row in &mut self.outbox {
            if let State::Pending { due } = &mut row.state
                && row.attempts == 0
                && row.receiver == receiver
                && row.notification.thread == thread
            {
                *due = DateTime::<Utc>::MIN_UTC;
            }
        }
    }

    /// The notification that this one may join; for the reasons see the twin on Postgres.
    fn host(&self, delivery: &Delivery, notification: &Notification) -> Option<usize> {
        let due_max = delivery.not_before.unwrap_or(DateTime::<Utc>::MIN_UTC);
        self.outbox.iter().position(|row| {
            row.receiver == delivery.receiver
                && matches!(row.state, State::Pending { due } if due <= due_max)
                && (row.attempts, &row.error) == (0, &None)
                && row.notification.transition == Transition::Opened.as_str()
                && !row.notification.test
                && row.notification.incident_id != notification.incident_id
                && row.notification.also.len() < ALSO_MAX
        })
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
            .map(|kept| &kept.incident)
            .filter(|i| i.brand == brand && i.cause() == cause)
            .filter(|i| i.resolved.is_none_or(|at| at >= from))
            .cloned()
            .collect();
        found.sort_by_key(|i| (i.opened, i.id));
        Ok(found)
    }

    pub(super) fn incidents(&self, limit: u32) -> Result<Vec<Incident>, StoreError> {
        let mut found: Vec<_> = self.incidents.iter().map(|kept| kept.incident.clone()).collect();
        found.sort_by_key(|i| std::cmp::Reverse((i.opened, i.id)));
        found.truncate(limit as usize);
        Ok(found)
    }

    pub(super) fn incident(&self, id: IncidentId) -> Result<Option<Incident>, StoreError> {
        Ok(self.kept(id).map(|kept| kept.incident.clone()))
    }

    pub(super) fn events(&self, id: IncidentId) -> Result<Vec<Event>, StoreError> {
        Ok(self.kept(id).map(|kept| kept.events.clone()).unwrap_or_default())
    }

    fn kept(&self, id: IncidentId) -> Option<&Kept> {
        self.incidents.iter().find(|kept| kept.incident.id == id)
    }

    pub(super) fn acknowledge(
        &mut self,
        id: IncidentId,
        acknowledgement: &Acknowledgement,
    ) -> Result<bool, StoreError> {
        let Some(kept) = self.incidents.iter_mut().find(|kept| kept.incident.id == id) else {
            return Ok(false);
        };
        kept.incident.acknowledged = Some(acknowledgement.clone());
        kept.events.push(Event {
            kind: "acknowledged".into(),
            at: acknowledgement.at,
            severity: kept.incident.severity,
            who: Some(acknowledgement.by.clone()),
            note: acknowledgement.note.clone(),
            notified: Vec::new(),
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

/// Whether a silence has not ended, and will have been one.
fn lasts(silence: &Silence, now: DateTime<Utc>) -> bool {
    silence.ends_at > now.max(silence.starts_at)
}
