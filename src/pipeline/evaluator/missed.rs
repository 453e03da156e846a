//! Tells in one digest which incidents were over when they were found, because the daemon was away.
//!
//! **Invariant.** An incident is told in one digest, whoever leads and whenever daemons die: the digest and the mark that it
//! is told are one transaction. Routes, silences and quiet hours are those of the time at which it is sent.
//! Deliberately absent: when the past is over ([`CatchUp`](monitor_core::alerting::CatchUp)), and wording.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};

use super::brand::counts_of;
use super::{Evaluator, Pass};
use monitor_config::{Receiver, Settings};
use monitor_core::alerting::route;
use monitor_core::domain::{Counts, Incident, Minute, Severity, Transition, silenced};
use monitor_store::{Addressed, Missed, Notification, StoreError};

/// Incidents in one digest, at most; the rest is in the next one.
const MISSED_MAX: u32 = 500;

/// The receivers of digests. For Alertmanager an alert that is over is none.
pub(super) fn receivers(settings: &Settings) -> Vec<String> {
    let takes = |receiver: &Receiver| !matches!(receiver, Receiver::Alertmanager(_));
    let receivers = settings.receivers.iter().filter(|(_, receiver)| takes(receiver));
    receivers.map(|(name, _)| name.clone()).collect()
}

/// What a receiver is told.
#[derive(Default)]
struct Told {
    incidents: Vec<usize>,
    /// The earliest time of any of its incidents; `None` is at once.
    not_before: Option<DateTime<Utc>>,
}

impl Evaluator {
    /// Writes the digest of all missed incidents that are over, if there are any.
    pub(super) async fn tell_missed(&self, pass: &Pass) -> Result<(), StoreError> {
        while self.any_missed.load(Ordering::Relaxed) {
            let missed = self.store.missed(MISSED_MAX).await?;
            if missed.is_empty() {
                self.any_missed.store(false, Ordering::Relaxed);
                break;
            }
            let ids: Vec<_> = missed.iter().map(|incident| incident.id).collect();
            let digests = self.digests(&missed, pass).await?;
            if !self.store.tell_missed(&ids, &digests).await? {
                // Another daemon has told some, or they are open again: the next pass sees which.
                break;
            }
            let receivers: Vec<_> = digests.iter().map(|it| it.receiver.as_str()).collect();
            let receivers = receivers.join(", ");
            tracing::info!(incidents = ids.len(), receivers, "told in one digest what is over");
        }
        Ok(())
    }

    /// The digest of each receiver that a route leads to.
    async fn digests(
        &self,
        missed: &[Incident],
        pass: &Pass,
    ) -> Result<Vec<Addressed>, StoreError> {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        for (place, incident) in missed.iter().enumerate() {
            let brand = &incident.brand;
            if silenced(&pass.silences, brand, pass.now).is_some() {
                continue;
            }
            let (routes, causes) = (&self.audience.routes, incident.causes());
            // Nothing joins a digest, so it does not wait as an opening does.
            let as_if = Transition::Reopened;
            let severity = incident.severity;
            let found =
                route(routes, &self.takes_missed, brand, &causes, severity, as_if, pass.now);
            for recipient in found {
                if !self.takes_missed.contains(&recipient.receiver) {
                    continue;
                }
                let not_before = recipient.when.not_before();
                let told = told
                    .entry(recipient.receiver)
                    .or_insert_with(|| Told { not_before, ..Told::default() });
                told.incidents.push(place);
                // `None` is at once and is less than any time.
                told.not_before = told.not_before.min(not_before);
            }
        }
        let mut entries = Vec::new();
        for incident in missed {
            entries.push(self.entry(incident, pass).await?);
        }
        let digest = |(receiver, told): (String, Told)| {
            let incidents: Vec<_> = told.incidents.iter().map(|place| &missed[*place]).collect();
            let entries = told.incidents.iter().map(|place| entries[*place].clone());
            let notification = self.digest(&receiver, &incidents, entries.collect(), pass.now);
            Addressed { receiver, not_before: told.not_before, notification }
        };
        Ok(told.into_iter().map(digest).collect())
    }

    /// What is told of one incident.
    async fn entry(&self, incident: &Incident, pass: &Pass) -> Result<Missed, StoreError> {
        let resolved = incident.resolved.unwrap_or(incident.opened);
        let began = incident.phases.iter().filter_map(|phase| phase.opening.since()).min();
        let from = began.or_else(|| incident.evidence.since()).unwrap_or(incident.opened);
        let model = pass.switches.at(resolved).map(|switch| switch.model.as_str());
        let counts = counts_of(&*self.store, model, &incident.brand, from, resolved).await?;
        Ok(Missed {
            incident_id: incident.id.0,
            brand: incident.brand.clone(),
            severity: incident.severity.as_str().to_owned(),
            opened_at: incident.opened.start(),
            resolved_at: resolved.start(),
            phases: incident.phases.clone(),
            tweets: counts.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts),
        })
    }

    /// The digest for one receiver.
    fn digest(
        &self,
        receiver: &str,
        incidents: &[&Incident],
        missed: Vec<Missed>,
        now: DateTime<Utc>,
    ) -> Notification {
        let (first, last) = (incidents[0], incidents[incidents.len() - 1]);
        let is_of_one = incidents.iter().all(|incident| incident.brand == first.brand);
        let severity = incidents.iter().map(|incident| incident.severity).max();
        let resolved = last.resolved.unwrap_or(last.opened);
        let began = if incidents.len() == 1 {
            "1 alert".into()
        } else {
            format!("{} alerts", incidents.len())
        };
        let brand = if is_of_one { &first.brand } else { "(all)" };
        let severity = severity.unwrap_or(Severity::Notice);
        let reason = format!(
            "{began} began and ended while Monitor was not reading, or before it was started."
        );
        let at = Minute::of(now).start();
        Notification {
            opened_at: first.opened.start(),
            // An incident that opens again may be missed again. A new database numbers from 1 again.
            thread: format!("missed-{}-{}-{receiver}", last.id, resolved.0),
            url: self.reporter.page(),
            missed,
            ..Notification::bare("missed", brand, severity, at, reason, first.evidence)
        }
    }
}
