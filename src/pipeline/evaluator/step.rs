//! The step of a minute: how severe it is, who is notified, and what the notification says.
//!
//! **Invariant.** Severity never falls while an incident is open. Nobody is notified of a step that is past
//! ([`Backlog`](monitor_core::alerting::Backlog)) while the daemon catches up, but of the end of what they know of.
//! Deliberately absent: writing it.

use std::sync::atomic::Ordering;

use metrics::counter;

use super::report::{Content, Subject};
use super::{Evaluator, Pass, words};
use monitor_core::alerting::{Occasion, People, Recipient, Suppressed, Thresholds, severity};
use monitor_core::domain::{
    Cause, Evidence, Incident, Minute, Phase, Severity, Transition, Watch, silenced,
};
use monitor_store::{Delivery, DetectorState, Step, StoreError};
use monitor_telemetry as telemetry;

/// How often an open incident may be called worse, in minutes.
const RATED_EVERY_MINUTES: i64 = 5;

/// What has happened to an incident in a minute.
pub(super) struct Finding {
    pub transition: Transition,
    /// What the notification rests on.
    pub evidence: Evidence,
    /// The evidence of everything that lasts; the worst of it says how severe the incident is.
    pub lasting: Vec<Evidence>,
    /// The phases; none for the stream.
    pub phases: Vec<Phase>,
    /// Whether it is recorded even if nobody is notified of it.
    pub is_news: bool,
    pub reason: String,
}

impl Finding {
    /// Of an incident of one cause, as those of the stream.
    pub fn of(transition: Transition, evidence: Evidence, reason: String) -> Self {
        Self {
            transition,
            evidence,
            lasting: vec![evidence],
            phases: Vec::new(),
            is_news: transition != Transition::Updated,
            reason,
        }
    }

    /// Of an incident that no detector watches any more, because its settings or its state have
    /// changed.
    pub fn unwatched(incident: &Incident, minute: Minute) -> Self {
        let phases = incident.phases.iter();
        let phases = phases.map(|p| Phase { ended: p.ended.or(Some(minute)), ..*p }).collect();
        let reason = words::UNWATCHED.to_owned();
        Self { phases, ..Self::of(Transition::Resolved, incident.evidence, reason) }
    }

    pub fn causes(&self) -> Vec<Cause> {
        match self.phases.is_empty() {
            true => vec![self.evidence.cause()],
            false => self.phases.iter().map(Phase::cause).collect(),
        }
    }

    /// The severity of what lasts.
    pub fn severity(&self, people: People, thresholds: &Thresholds) -> Severity {
        let severities = self.lasting.iter().map(|e| severity(e, people, thresholds));
        severities.max().unwrap_or(Severity::Notice)
    }
}

impl Evaluator {
    /// The step of a minute, with the receivers to notify; `None` if nothing has changed and no
    /// receiver is due.
    pub(super) async fn step(
        &self,
        brand: &str,
        minute: Minute,
        finding: &Finding,
        stored: Option<&DetectorState>,
        pass: &Pass,
        latest: Minute,
    ) -> Result<Option<Step>, StoreError> {
        let transition = finding.transition;
        let incident = stored.and_then(|stored| match transition {
            Transition::Opened => None,
            Transition::Reopened => stored.last.as_ref(),
            Transition::Updated | Transition::Resolved => stored.open.as_ref(),
        });
        let notified = match (incident, stored) {
            (Some(_), Some(stored)) => &stored.notified[..],
            _ => &[],
        };
        // An incident that opens again may be milder than before.
        let worst = match transition {
            Transition::Reopened => Severity::Notice,
            _ => incident.map_or(Severity::Notice, |incident| incident.severity),
        };
        let rated = |people| match transition {
            Transition::Resolved => worst,
            _ => worst.max(finding.severity(people, &self.thresholds)),
        };
        let mut severe = rated(People::default());
        // Who is behind the tweets is read before it is called worse, which takes a moment.
        if !finding.is_news && minute.0.rem_euclid(RATED_EVERY_MINUTES) != 0 {
            severe = worst;
        }
        let changed = finding.is_news || severe != worst;
        let stale = latest.0 - minute.0 >= i64::from(self.audience.repeat_minutes.max(1));
        // What is about a stream, or its lack, is told even if it is past.
        let is_past = finding.evidence.cause().watch() == Watch::Buzz && pass.backlog.holds(minute);
        let opens = matches!(transition, Transition::Opened | Transition::Reopened);
        let causes = finding.causes();
        let occasion = |severity: Severity| Occasion {
            brand,
            causes: &causes,
            transition,
            severity,
            incident,
            notified,
            joined: finding.phases.iter().map(|phase| phase.began).max(),
            minute,
            now: pass.now,
            silence: silenced(&pass.silences, brand, pass.now),
            // After a long absence an unchanged incident is not worth a notification.
            stale: is_past || stale && !changed,
        };
        if !changed && self.audience.recipients(&occasion(severe)).is_empty() {
            self.count_suppressed(brand, &self.audience.suppressed(&occasion(severe), &[]));
            return Ok(None);
        }
        let opened = incident.map_or(minute, |incident| incident.opened);
        // A notification without examples is better than none.
        let evidence = &finding.evidence;
        let model = pass.switches.at(minute).map(|switch| switch.model.as_str());
        let content = self.reporter.content(brand, evidence, minute, model).await;
        let content = content.unwrap_or_else(|error| {
            tracing::warn!(%error, brand, "cannot read the incident's tweets; notifying without them");
            Content::empty()
        });
        if content.people.reach.is_some() || content.people.voices.is_some() {
            severe = rated(content.people);
        }
        let occasion = occasion(severe);
        let recipients = self.audience.recipients(&occasion);
        if !finding.is_news && severe == worst && recipients.is_empty() {
            return Ok(None);
        }
        let suppressed = self.audience.suppressed(&occasion, &recipients);
        let deliveries = recipients.into_iter().map(delivery).collect();
        let notification = self.reporter.notification(
            &Subject { brand, opened, minute, severity: severe, transition, evidence },
            &finding.phases,
            finding.reason.clone(),
            content,
        );
        if (is_past && opens) || incident.is_some_and(|incident| incident.missed) {
            self.any_missed.store(true, Ordering::Relaxed);
        }
        Ok(Some(Step {
            transition,
            minute,
            severity: severe,
            evidence: *evidence,
            phases: finding.phases.clone(),
            notification,
            deliveries,
            suppressed,
            missed: is_past && opens,
        }))
    }

    pub(super) fn count_suppressed(&self, brand: &str, suppressed: &[Suppressed]) {
        for suppressed in suppressed {
            let (receiver, reason) = (&suppressed.receiver, suppressed.reason.as_str());
            counter!(
                telemetry::NOTIFICATIONS_SUPPRESSED,
                "receiver" => receiver.clone(), "reason" => reason
            )
            .increment(1);
            let detail = suppressed.detail.as_str();
            tracing::debug!(brand, receiver, reason, detail, "no notification");
        }
    }
}

fn delivery(recipient: Recipient) -> Delivery {
    Delivery {
        receiver: recipient.receiver,
        not_before: recipient.when.not_before(),
        group: recipient.group,
    }
}
