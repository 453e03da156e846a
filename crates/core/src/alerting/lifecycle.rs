//! Decides which receivers are notified when an incident opens, continues or resolves; pure.
//!
//! **Invariant.** The first notification of an incident to a receiver says that it opened. A
//! further one follows if the incident is worse than in that receiver's last notification, if a phase
//! has joined since then, or once per repeat interval. After somebody acknowledges the incident, only
//! a worse one follows. If the incident opens again, all who were notified of it are notified, acknowledged or not.
//! Every receiver that was notified of an incident is notified when it resolves. Deliberately
//! absent: silences, which the caller applies.

use super::routing::{Recipient, Route, When, route};
use super::suppression::Occasion;
use crate::domain::{Incident, Transition};

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
    pub(super) fn opened(&self, o: &Occasion) -> Vec<Recipient> {
        self.route(o, Transition::Opened)
    }

    /// Who is notified of an open incident that goes on.
    pub(super) fn updated(&self, o: &Occasion, incident: &Incident) -> Vec<Recipient> {
        let acknowledged = incident.acknowledged.is_some();
        let last_to = |recipient: &Recipient| {
            o.notified.iter().find(|last| last.receiver == recipient.receiver)
        };
        // A silence can hide a rise in severity from the person who acknowledged the incident.
        let worst_notified = o.notified.iter().map(|last| last.severity).max();
        let worse = o.severity > incident.severity
            || worst_notified.is_some_and(|worst| o.severity > worst);
        let first = self
            .opened(o)
            .into_iter()
            .filter(|recipient| last_to(recipient).is_none() && (!acknowledged || worse));
        let again = self.route(o, Transition::Updated).into_iter().filter(|recipient| {
            last_to(recipient).is_some_and(|last| {
                let waited = o.minute.0 - last.at.0 >= i64::from(self.repeat_minutes);
                let repeat = waited && self.repeat_minutes > 0;
                let joined = o.joined.is_some_and(|joined| joined > last.at);
                o.severity > last.severity || ((repeat || joined) && !acknowledged)
            })
        });
        first.chain(again).collect()
    }

    /// Who is notified that an incident opens again: whoever would be notified of a new one, and all who
    /// were notified of this one.
    pub(super) fn reopened(&self, o: &Occasion) -> Vec<Recipient> {
        let mut recipients = self.notified(o, Transition::Reopened);
        let routed = self.route(o, Transition::Reopened).into_iter();
        let new: Vec<_> = routed
            .filter(|new| recipients.iter().all(|known| known.receiver != new.receiver))
            .collect();
        recipients.extend(new);
        recipients
    }

    /// Who is notified that an incident resolves: all who were notified of it.
    pub(super) fn resolved(&self, o: &Occasion) -> Vec<Recipient> {
        self.notified(o, Transition::Resolved)
    }

    /// All receivers that were notified of the incident, with the quiet hours of their routes.
    fn notified(&self, o: &Occasion, transition: Transition) -> Vec<Recipient> {
        let routed = self.route(o, transition);
        o.notified
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

    fn route(&self, o: &Occasion, transition: Transition) -> Vec<Recipient> {
        route(&self.routes, &self.receivers, o.brand, o.causes, o.severity, transition, o.now)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::domain::{
        Acknowledgement, Cause, Evidence, IncidentId, LagEvidence, Minute, Notified, STREAM,
        Severity,
    };

    /// An incident of the stream at minute 1060 that goes on.
    fn goes_on<'a>(incident: &'a Incident, notified: &'a [Notified]) -> Occasion<'a> {
        Occasion {
            brand: &incident.brand,
            causes: &[Cause::Lag],
            transition: Transition::Updated,
            severity: incident.severity,
            incident: Some(incident),
            notified,
            joined: None,
            minute: Minute(1060),
            now: at("2026-03-01T12:00:00Z"),
            silence: None,
            stale: false,
        }
    }

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
                phases: Vec::new(),
                missed: false,
            };
            let notified: Vec<_> = notified
                .iter()
                .map(|&(receiver, at, severity)| Notified {
                    receiver: receiver.into(),
                    at: Minute(at),
                    severity,
                })
                .collect();
            let occasion = Occasion { severity: is, ..goes_on(&incident, &notified) };
            let found = audience.updated(&occasion, &incident);
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
            phases: Vec::new(),
            missed: false,
        };
        let notified = ["desk", "gone"].map(|receiver| Notified {
            receiver: receiver.into(),
            at: Minute(1000),
            severity: Severity::Warning,
        });
        let found = audience.resolved(&goes_on(&incident, &notified));
        let found: Vec<_> =
            found.iter().map(|r| (r.receiver.as_str(), r.route.as_deref())).collect();
        assert_eq!(found, [("desk", Some("night")), ("gone", None)]);
        assert_eq!(audience.resolved(&goes_on(&incident, &[])), []);
        let found = audience.reopened(&goes_on(&incident, &notified[1..]));
        let found: Vec<_> = found.iter().map(|r| r.receiver.as_str()).collect();
        assert_eq!(found, ["gone", "desk"], "also of a new opening");
    }

    #[test]
    fn a_phase_that_joins_is_told_once() {
        let audience =
            Audience { routes: Vec::new(), receivers: vec!["comms".into()], repeat_minutes: 0 };
        let incident = |acknowledged: bool| Incident {
            id: IncidentId(1),
            brand: "acme".into(),
            severity: Severity::Warning,
            opened: Minute(1000),
            resolved: None,
            acknowledged: acknowledged.then(|| Acknowledgement {
                at: at("2026-03-01T12:00:00Z"),
                by: "ada".into(),
                note: String::new(),
            }),
            evidence: Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
            phases: Vec::new(),
            missed: false,
        };
        let check = |name: &str, told: i64, joined, acknowledged, expected: usize| {
            let incident = incident(acknowledged);
            let notified = [Notified {
                receiver: "comms".into(),
                at: Minute(told),
                severity: Severity::Warning,
            }];
            let occasion =
                Occasion { joined: Some(Minute(joined)), ..goes_on(&incident, &notified) };
            assert_eq!(audience.updated(&occasion, &incident).len(), expected, "{name}");
        };
        check("the phase that opened it", 1000, 1000, false, 0);
        check("one that joins", 1000, 1060, false, 1);
        check("one that joined in quiet hours", 1000, 1020, false, 1);
        check("told already", 1060, 1060, false, 0);
        check("acknowledged", 1000, 1060, true, 0);
    }
}
