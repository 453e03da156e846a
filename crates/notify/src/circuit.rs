//! A circuit breaker per receiver: pauses a receiver that keeps failing; pure.
//!
//! **Invariant.** While the circuit is open nothing is sent to the receiver, so no
//! notification uses up its attempts. When the pause is over one notification is sent as a
//! probe; the others follow if it succeeds. A permanent refusal, and a delivery to only some
//! recipients, count as success here: the receiver has answered.
//! Deliberately absent: persistence; a restarted daemon starts with closed circuits.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Outcome;
use monitor_config::Delivery;

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// Consecutive failures that open the circuit.
    pub failures: u32,
    /// How long it stays open.
    pub pause: Duration,
}

impl From<Delivery> for CircuitPolicy {
    fn from(delivery: Delivery) -> Self {
        Self {
            failures: delivery.circuit_failures,
            pause: Duration::from_millis(delivery.circuit_rest_ms),
        }
    }
}

/// The state of a receiver's circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuit {
    failures: u32,
    open_until: Option<DateTime<Utc>>,
}

/// How many notifications may be sent to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Any number; the circuit is closed.
    All,
    /// One, as a probe.
    One,
    /// None: the circuit is open, or a probe is in flight.
    None,
}

/// A change of the circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened.
    Opened {
        /// Until when.
        until: DateTime<Utc>,
        /// Consecutive failures.
        failures: u32,
    },
    /// It closed: the receiver works again.
    Closed,
}

impl Circuit {
    /// How many notifications may be sent at `now`, while `in_flight` are being sent.
    pub fn permit(&self, in_flight: usize, now: DateTime<Utc>) -> Permit {
        match self.open_until {
            None => Permit::All,
            Some(until) if until <= now && in_flight == 0 => Permit::One,
            Some(_) => Permit::None,
        }
    }

    /// Records the outcome of an attempt that ended at `now`. If the receiver asks for a wait
    /// the circuit opens for that long, but not longer than the policy's pause: the request may
    /// concern only one notification.
    pub fn record(
        &mut self,
        policy: CircuitPolicy,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Option<Change> {
        let was_open = self.open_until.is_some();
        let Outcome::Retry { after, .. } = outcome else {
            *self = Self::default();
            return was_open.then_some(Change::Closed);
        };
        self.failures = self.failures.saturating_add(1);
        let requested = after.map(|after| after.min(policy.pause));
        let pause = if self.failures >= policy.failures { Some(policy.pause) } else { requested };
        let until = now + pause?;
        self.open_until = Some(until);
        (!was_open).then_some(Change::Opened { until, failures: self.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CircuitPolicy = CircuitPolicy { failures: 3, pause: Duration::from_secs(60) };

    /// What happens in a step of a test.
    enum Step {
        Fails,
        Asks(u64),
        Succeeds,
        Refuses,
        Partly,
        /// With so many in flight, this is permitted.
        Permits(usize, Permit),
    }

    #[test]
    fn opens_probes_and_closes() {
        use Step::{Asks, Fails, Partly, Permits, Refuses, Succeeds};
        let start: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().expect("a time");
        let check = |name, steps: &[(u64, Step, &str)]| {
            let mut circuit = Circuit::default();
            for (place, (second, step, expected)) in steps.iter().enumerate() {
                let now = start + Duration::from_secs(*second);
                let retry = |after| Outcome::Retry { reason: "away".into(), after };
                let outcome = match step {
                    Permits(in_flight, permit) => {
                        assert_eq!(
                            circuit.permit(*in_flight, now),
                            *permit,
                            "{name}, step {place}"
                        );
                        continue;
                    }
                    Fails => retry(None),
                    Asks(seconds) => retry(Some(Duration::from_secs(*seconds))),
                    Succeeds => Outcome::Sent,
                    Partly => {
                        let after = Some(Duration::from_secs(9));
                        Outcome::Partly { reason: "one is full".into(), after }
                    }
                    Refuses => Outcome::Permanent { reason: "refused".into() },
                };
                let found = match circuit.record(POLICY, &outcome, now) {
                    None => String::new(),
                    Some(Change::Closed) => "closed".into(),
                    Some(Change::Opened { until, failures }) => {
                        format!("{failures} failures, until {}", (until - start).num_seconds())
                    }
                };
                assert_eq!(found, *expected, "{name}, step {place}");
            }
        };
        check(
            "works",
            &[
                (0, Permits(0, Permit::All), ""),
                (1, Succeeds, ""),
                (2, Permits(9, Permit::All), ""),
            ],
        );
        check(
            "occasional failures",
            &[
                (0, Fails, ""),
                (1, Fails, ""),
                (2, Succeeds, ""),
                (3, Fails, ""),
                (4, Fails, ""),
                (5, Permits(0, Permit::All), ""),
            ],
        );
        check(
            "fails, pauses, fails, pauses, works",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (1, Fails, "3 failures, until 61"),
                (60, Permits(0, Permit::None), ""),
                (61, Permits(0, Permit::One), ""),
                (61, Permits(1, Permit::None), ""),
                (62, Fails, ""),
                (121, Permits(0, Permit::None), ""),
                (122, Permits(0, Permit::One), ""),
                (123, Succeeds, "closed"),
                (123, Permits(0, Permit::All), ""),
                (124, Fails, ""),
            ],
        );
        check(
            "notifications in flight fail late",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Fails, "3 failures, until 60"),
                (9, Fails, ""),
                (60, Permits(0, Permit::None), ""),
                (69, Permits(0, Permit::One), ""),
            ],
        );
        check(
            "a notification in flight succeeds late",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Fails, "3 failures, until 60"),
                (9, Succeeds, "closed"),
            ],
        );
        check(
            "a permanent refusal is an answer",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Refuses, ""),
                (0, Fails, ""),
                (1, Permits(0, Permit::All), ""),
            ],
        );
        check(
            "a full mailbox does not open the circuit",
            &[(0, Partly, ""), (0, Partly, ""), (0, Partly, ""), (1, Permits(0, Permit::All), "")],
        );
        check(
            "asks for a wait",
            &[
                (0, Asks(30), "1 failures, until 30"),
                (29, Permits(0, Permit::None), ""),
                (30, Permits(0, Permit::One), ""),
                (31, Succeeds, "closed"),
            ],
        );
        check("asks for a year", &[(0, Asks(31_536_000), "1 failures, until 60")]);
        check(
            "asks for nothing",
            &[(0, Asks(0), "1 failures, until 0"), (0, Permits(0, Permit::One), "")],
        );
    }
}
