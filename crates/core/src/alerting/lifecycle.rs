//! Who is told of an incident as it goes on; pure.
//!
//! **Invariant.** A receiver hears of an incident first as opened, then of what is new: at most
//! once every repeat interval, or when it is worse than what that receiver heard last. Once
//! somebody has taken the incident on, only the latter. Whoever heard of it hears of its end.
//! Deliberately absent: silences, which the caller knows of.

use chrono::{DateTime, Utc};

use super::routing::{Recipient, Route, When, route};
use crate::domain::{Cause, Incident, Minute, Notified, Severity, Transition};

/// Whom there is to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Audience {
    /// Who hears of what; with none every receiver hears of everything.
    pub routes: Vec<Route>,
    /// All receivers.
    pub receivers: Vec<String>,
    /// How often people are told again of an incident that goes on, in minutes; 0 is never.
    pub repeat_minutes: u32,
}

impl Audience {
    /// Who hears that an incident opens.
    pub fn opened(
        &self,
        brand: &str,
        cause: Cause,
        severity: Severity,
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        self.route(brand, cause, severity, Transition::Opened, now)
    }

    /// Who hears at `minute` of an incident that goes on with `severity`; `told` is who heard
    /// what of it.
    pub fn updated(
        &self,
        incident: &Incident,
        told: &[Notified],
        severity: Severity,
        minute: Minute,
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        let (brand, cause) = (&incident.brand, incident.cause());
        let taken = incident.acknowledged.is_some();
        let heard =
            |recipient: &Recipient| told.iter().find(|told| told.receiver == recipient.receiver);
        // Worse than whoever took it on can know of: it may have become so in a silence.
        let worst_told = told.iter().map(|told| told.severity).max();
        let worse = severity > incident.severity || worst_told.is_some_and(|told| severity > told);
        let first = self
            .opened(brand, cause, severity, now)
            .into_iter()
            .filter(|recipient| heard(recipient).is_none() && (!taken || worse));
        let again = self
            .route(brand, cause, severity, Transition::Updated, now)
            .into_iter()
            .filter(|recipient| {
                heard(recipient).is_some_and(|told| {
                    let waited = minute.0 - told.at.0 >= i64::from(self.repeat_minutes);
                    severity > told.severity || (waited && self.repeat_minutes > 0 && !taken)
                })
            });
        first.chain(again).collect()
    }

    /// Who hears that an incident is over: all who heard of it, by their routes' hours.
    pub fn resolved(
        &self,
        incident: &Incident,
        told: &[Notified],
        now: DateTime<Utc>,
    ) -> Vec<Recipient> {
        let (brand, cause, severity) = (&incident.brand, incident.cause(), incident.severity);
        let routed = self.route(brand, cause, severity, Transition::Resolved, now);
        told.iter()
            .map(|told| {
                let by_route = routed.iter().find(|r| r.receiver == told.receiver).cloned();
                by_route.unwrap_or_else(|| Recipient {
                    receiver: told.receiver.clone(),
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
    fn tells_what_is_new() {
        let now = at("2026-03-01T12:00:00Z");
        let audience = Audience {
            routes: Vec::new(),
            receivers: vec!["comms".into(), "desk".into()],
            repeat_minutes: 60,
        };
        let check = |name: &str,
                     (was, is): (Severity, Severity),
                     taken: bool,
                     told: &[(&str, i64, Severity)],
                     expected: &[&str]| {
            let incident = Incident {
                id: IncidentId(1),
                brand: STREAM.into(),
                severity: was,
                opened: Minute(1000),
                resolved: None,
                acknowledged: taken.then(|| Acknowledgement {
                    at: now,
                    by: "ada".into(),
                    note: String::new(),
                }),
                evidence: Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 }),
            };
            let told: Vec<_> = told
                .iter()
                .map(|&(receiver, at, severity)| Notified {
                    receiver: receiver.into(),
                    at: Minute(at),
                    severity,
                })
                .collect();
            let found = audience.updated(&incident, &told, is, Minute(1060), now);
            let found: Vec<_> = found.iter().map(|r| r.receiver.as_str()).collect();
            assert_eq!(found, expected, "{name}");
        };
        use Severity::{Critical, Notice, Warning};
        let both = [("comms", 1030, Warning), ("desk", 1030, Warning)];
        check("too soon", (Warning, Warning), false, &both, &[]);
        check("worse", (Warning, Critical), false, &both, &["comms", "desk"]);
        check("worse, and taken", (Warning, Critical), true, &both, &["comms", "desk"]);
        check("no worse than it was", (Critical, Warning), false, &both, &[]);
        let long_ago = [("comms", 1000, Warning), ("desk", 1001, Warning)];
        check("time to repeat", (Warning, Warning), false, &long_ago, &["comms"]);
        check("taken on", (Warning, Warning), true, &long_ago, &[]);
        check("one has not heard", (Notice, Notice), false, &long_ago[..1], &["desk", "comms"]);
        check("nobody has heard, but it is taken", (Notice, Notice), true, &[], &[]);
        check("taken, then worse", (Notice, Warning), true, &[], &["comms", "desk"]);
        check("worse in a silence", (Critical, Critical), true, &both[..1], &["desk", "comms"]);
        check(
            "one heard of less",
            (Critical, Critical),
            false,
            &[both[0], ("desk", 1030, Critical)],
            &["comms"],
        );
    }

    #[test]
    fn all_who_heard_hear_of_the_end() {
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
        let told = ["desk", "gone"].map(|receiver| Notified {
            receiver: receiver.into(),
            at: Minute(1000),
            severity: Severity::Warning,
        });
        let found = audience.resolved(&incident, &told, at("2026-03-01T12:00:00Z"));
        let found: Vec<_> =
            found.iter().map(|r| (r.receiver.as_str(), r.route.as_deref())).collect();
        assert_eq!(found, [("desk", Some("night")), ("gone", None)]);
        assert_eq!(audience.resolved(&incident, &[], at("2026-03-01T12:00:00Z")), []);
    }
}
