//! Decides which receivers are notified when an incident opens, continues or resolves; pure.
//!
//! **Invariant.** The first notification of an incident to a receiver says that it opened. A
//! further one follows if the incident is worse than in that receiver's last notification, or
//! once per repeat interval. After somebody acknowledges the incident, there are no repeats.
//! Every receiver that was notified of an incident is notified when it resolves. Deliberately
//! absent: silences, which the caller applies.

use chrono::{DateTime, Utc};

use super::routing::{Recipient, Route, When, route};
use crate::domain::{Cause, Incident, Minute, Notified, Severity, Transition};

/// The receivers, and the rules by which they are notified.
#[derive(Debug, Clone, PartialEq)]
pub struct Audience {
    /// The routes. Without routes, every receiver is notified of everything.
    pub routes: Vec<Route>,
    /// All receivers.
    pub receivers: Vec<String>,
    /// How often the notification of an open incident is repeated, in minutes; 0 is never.
    pub repeat_minutes: u32,
}

impl Audience {
    /// Who is notified that an incident opens.
    pub fn opened(
        &self,
        brand: &str,
        cause: Cause,
        severity: Severity,
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        self.route(brand, cause, severity, Transition::Opened, now)
    }

    /// Who is notified at `minute` of an open incident that now has `severity`. `notified` has
    /// the last notification of each receiver.
    pub fn updated(
        &self,
        incident: &Incident,
        notified: &[Notified],
        severity: Severity,
        minute: Minute,
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        let (brand, cause) = (&incident.brand, incident.cause());
        let acknowledged = incident.acknowledged.is_some();
        let last_to = |recipient: &Recipient| {
            notified.iter().find(|last| last.receiver == recipient.receiver)
        };
        // A silence can hide a rise in severity from the person who acknowledged the incident.
        let worst_notified = notified.iter().map(|last| last.severity).max();
        let worse =
            severity > incident.severity || worst_notified.is_some_and(|worst| severity > worst);
        let first = self
            .opened(brand, cause, severity, now)
            .into_iter()
            .filter(|recipient| last_to(recipient).is_none() && (!acknowledged || worse));
        let again = self
            .route(brand, cause, severity, Transition::Updated, now)
            .into_iter()
            .filter(|recipient| {
                last_to(recipient).is_some_and(|last| {
                    let waited = minute.0 - last.at.0 >= i64::from(self.repeat_minutes);
                    let repeat = waited && self.repeat_minutes > 0 && !acknowledged;
                    severity > last.severity || repeat
                })
            });
        first.chain(again).collect()
    }

    /// Who is notified that an incident resolves: all receivers that were notified of it, with
    /// the quiet hours of their routes.
    pub fn resolved(
        &self,
        incident: &Incident,
        notified: &[Notified],
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        let (brand, cause, severity) = (&incident.brand, incident.cause(), incident.severity);
        let routed = self.route(brand, cause, severity, Transition::Resolved, now);
        notified
            .iter()
            .map(|last| {
                let by_route = routed.iter().find(|r| r.receiver == last.receiver).cloned();
                by_route.unwrap_or_else(|| Recipient {
                    receiver: last.receiver.clone(),
                    route: None,
                    when: When::AtOnce,
                    group: false,
                })
            })
            .collect()
    }

    fn route(
        &self,
        brand: &str,
        cause: Cause,
        severity: Severity,
        transition: Transition,
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        route(&self.routes, &self.receivers, brand, cause, severity, transition, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Acknowledgement, Evidence, IncidentId, LagEvidence, STREAM};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn updates_go_out_when_worse_or_due() {
        let now = at("2026-03-01T12:00:00Z");
        let audience = Audience {
            routes: Vec::new(),
            receivers: vec!["comms".into(), "desk".into()],
            repeat_minutes: 60,
        };
        let check = |name: &str,
                     (was, is): (Severity, Severity),
                     acknowledged: bool,
                     notified: &[(&str, i64, Severity)],
                     expected: &[&str]| {
            let incident = Incident {
                id: IncidentId(1),
                brand: STREAM.into(),
                severity: was,
                opened: Minute(1000),
                resolved: None,
                acknowledged: acknowledged.then(|| Acknowledgement {
                    at: now,
                    by: "ada".into(),
                    note: String::new(),
                }),
                evidence: Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
            };
            let notified: Vec<_> = notified
                .iter()
                .map(|&(receiver, at, severity)| Notified {
                    receiver: receiver.into(),
                    at: Minute(at),
                    severity,
                })
                .collect();
            let found = audience.updated(&incident, &notified, is, Minute(1060), now);
            let found: Vec<_> = found.iter().map(|r| r.receiver.as_str()).collect();
            assert_eq!(found, expected, "{name}");
        };
        use Severity::{Critical, Notice, Warning};
        let both = [("comms", 1030, Warning), ("desk", 1030, Warning)];
        check("too soon", (Warning, Warning), false, &both, &[]);
        check("worse", (Warning, Critical), false, &both, &["comms", "desk"]);
        check("worse, and acknowledged", (Warning, Critical), true, &both, &["comms", "desk"]);
        check("no worse than it was", (Critical, Warning), false, &both, &[]);
        let long_ago = [("comms", 1000, Warning), ("desk", 1001, Warning)];
        check("time to repeat", (Warning, Warning), false, &long_ago, &["comms"]);
        check("acknowledged", (Warning, Warning), true, &long_ago, &[]);
        check("one not yet notified", (Notice, Notice), false, &long_ago[..1], &["desk", "comms"]);
        check("nobody notified, but acknowledged", (Notice, Notice), true, &[], &[]);
        check("acknowledged, then worse", (Notice, Warning), true, &[], &["comms", "desk"]);
        check("worse during a silence", (Critical, Critical), true, &both[..1], &["desk", "comms"]);
        check(
            "one notified of a lower severity",
            (Critical, Critical),
            false,
            &[both[0], ("desk", 1030, Critical)],
            &["comms"],
        );
    }

    #[test]
    fn all_notified_receivers_are_notified_of_the_end() {
        let night = Route {
            name: "night".into(),
            brands: vec!["acme".into()],
            causes: Vec::new(),
            severity_min: Severity::Warning,
            receivers: vec!["desk".into()],
            quiet: None,
            group_wait: chrono::TimeDelta::zero(),
        };
        let audience =
            Audience { routes: vec![night], receivers: vec!["desk".into()], repeat_minutes: 0 };
        let incident = Incident {
            id: IncidentId(1),
            brand: "acme".into(),
            severity: Severity::Warning,
            opened: Minute(1000),
            resolved: None,
            acknowledged: None,
            evidence: Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
        };
        let notified = ["desk", "gone"].map(|receiver| Notified {
            receiver: receiver.into(),
            at: Minute(1000),
            severity: Severity::Warning,
        });
        let found = audience.resolved(&incident, &notified, at("2026-03-01T12:00:00Z"));
        let found: Vec<_> =
            found.iter().map(|r| (r.receiver.as_str(), r.route.as_deref())).collect();
        assert_eq!(found, [("desk", Some("night")), ("gone", None)]);
        assert_eq!(audience.resolved(&incident, &[], at("2026-03-01T12:00:00Z")), []);
    }
}
