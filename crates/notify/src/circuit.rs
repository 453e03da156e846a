//! When a receiver that keeps failing is left alone, and when it is tried again; pure.
//!
//! **Invariant.** While a receiver rests no notification is sent to it, so none uses up its
//! attempts; after the rest one tries it out, and the others follow when that one succeeds.
//! What the receiver refuses for good counts as success here, as does what some of its people
//! take: it is there, and has answered.
//! Deliberately absent: memory beyond the process; a daemon that starts anew finds out anew.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Outcome;
use monitor_config::Delivery;

/// When a receiver rests, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures on end from which it rests.
    pub failures: u32,
    /// How long.
    pub rest: Duration,
}

impl From<Delivery> for Policy {
    fn from(delivery: Delivery) -> Self {
        Self {
            failures: delivery.circuit_failures,
            rest: Duration::from_millis(delivery.circuit_rest_ms),
        }
    }
}

/// What is remembered of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuit {
    failures: u32,
    rests_until: Option<DateTime<Utc>>,
}

/// How many notifications may be sent to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// As many as there are.
    All,
    /// One, to try it out.
    One,
    /// None: it rests, or is being tried out.
    None,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The receiver rests from now on.
    Opened {
        /// Until when.
        until: DateTime<Utc>,
        /// Failures on end.
        failures: u32,
    },
    /// It works again.
    Closed,
}

impl Circuit {
    /// What may be sent at `now`, while `in_flight` notifications are on their way to it.
    pub fn permit(&self, in_flight: usize, now: DateTime<Utc>) -> Permit {
        match self.rests_until {
            None => Permit::All,
            Some(until) if until <= now && in_flight == 0 => Permit::One,
            Some(_) => Permit::None,
        }
    }

    /// Notes how an attempt ended at `now`. A receiver that asks for a wait rests as long as it
    /// asks, though no longer than the policy's rest: what it asks of one notification need
    /// not hold for all.
    pub fn note(
        &mut self,
        policy: Policy,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Option<Change> {
        let rested = self.rests_until.is_some();
        let Outcome::Retry { after, .. } = outcome else {
            *self = Self::default();
            return rested.then_some(Change::Closed);
        };
        self.failures = self.failures.saturating_add(1);
        let asked = after.map(|after| after.min(policy.rest));
        let rest = if self.failures >= policy.failures { Some(policy.rest) } else { asked };
        let until = now + rest?;
        self.rests_until = Some(until);
        (!rested).then_some(Change::Opened { until, failures: self.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { failures: 3, rest: Duration::from_secs(60) };

    /// One step: seconds passed, what happened, and what changed.
    enum Step {
        Fails,
        Asks(u64),
        Succeeds,
        Refuses,
        Partly,
        /// So many are in flight; may send.
        May(usize, Permit),
    }

    #[test]
    fn opens_rests_and_closes() {
        use Step::{Asks, Fails, May, Partly, Refuses, Succeeds};
        let start: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().expect("a time");
        let check = |name, steps: &[(u64, Step, &str)]| {
            let mut circuit = Circuit::default();
            for (place, (second, step, expected)) in steps.iter().enumerate() {
                let now = start + Duration::from_secs(*second);
                let retry = |after| Outcome::Retry { reason: "away".into(), after };
                let outcome = match step {
                    May(in_flight, permit) => {
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
                let found = match circuit.note(POLICY, &outcome, now) {
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
            &[(0, May(0, Permit::All), ""), (1, Succeeds, ""), (2, May(9, Permit::All), "")],
        );
        check(
            "now and then a failure",
            &[
                (0, Fails, ""),
                (1, Fails, ""),
                (2, Succeeds, ""),
                (3, Fails, ""),
                (4, Fails, ""),
                (5, May(0, Permit::All), ""),
            ],
        );
        check(
            "fails, rests, fails, rests, works",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (1, Fails, "3 failures, until 61"),
                (60, May(0, Permit::None), ""),
                (61, May(0, Permit::One), ""),
                (61, May(1, Permit::None), ""),
                (62, Fails, ""),
                (121, May(0, Permit::None), ""),
                (122, May(0, Permit::One), ""),
                (123, Succeeds, "closed"),
                (123, May(0, Permit::All), ""),
                (124, Fails, ""),
            ],
        );
        check(
            "those in flight fail late",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Fails, "3 failures, until 60"),
                (9, Fails, ""),
                (60, May(0, Permit::None), ""),
                (69, May(0, Permit::One), ""),
            ],
        );
        check(
            "one in flight gets through late",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Fails, "3 failures, until 60"),
                (9, Succeeds, "closed"),
            ],
        );
        check(
            "a refusal is an answer",
            &[
                (0, Fails, ""),
                (0, Fails, ""),
                (0, Refuses, ""),
                (0, Fails, ""),
                (1, May(0, Permit::All), ""),
            ],
        );
        check(
            "a full mailbox is not the receiver",
            &[(0, Partly, ""), (0, Partly, ""), (0, Partly, ""), (1, May(0, Permit::All), "")],
        );
        check(
            "asks for a wait",
            &[
                (0, Asks(30), "1 failures, until 30"),
                (29, May(0, Permit::None), ""),
                (30, May(0, Permit::One), ""),
                (31, Succeeds, "closed"),
            ],
        );
        check("asks for a year", &[(0, Asks(31_536_000), "1 failures, until 60")]);
        check(
            "asks for nothing",
            &[(0, Asks(0), "1 failures, until 0"), (0, May(0, Permit::One), "")],
        );
    }
}
