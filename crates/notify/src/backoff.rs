//! Decides whether and when a notification is sent again; pure.
//!
//! **Invariant.** The verdict depends only on the outcome, the number of attempts, the time
//! and the random number passed in. No wait is longer than `retry_wait_ms_max`, unless the
//! receiver asked for it, and none is longer than [`WAIT_MAX`].
//! Deliberately absent: a clock, and a source of random numbers.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use monitor_config::Delivery;
use monitor_core::backoff::BackoffPolicy;

use super::Outcome;

/// Upper limit of every wait: a mistake in a receiver's header, or in the settings, must not
/// delay an alert for a year.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The schedule of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The waits between attempts.
    pub backoff: BackoffPolicy,
    /// After this many attempts a notification is dead.
    pub attempts_max: u32,
}

impl From<Delivery> for RetryPolicy {
    fn from(delivery: Delivery) -> Self {
        let wait_max = Duration::from_millis(delivery.retry_wait_ms_max);
        Self {
            backoff: BackoffPolicy {
                wait: Duration::from_millis(delivery.retry_wait_ms),
                wait_max: wait_max.min(WAIT_MAX),
            },
            attempts_max: delivery.attempts_max,
        }
    }
}

/// What happens to a notification after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Delivered,
    /// It is sent again.
    Retry {
        /// When it is due.
        at: DateTime<Utc>,
        /// What determined the wait.
        paced_by: PacedBy,
    },
    /// It is dead: it is kept, but not sent again.
    Dead {
        /// Why.
        reason: DeadReason,
    },
}

/// What determined a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedBy {
    /// The backoff.
    Schedule,
    /// The receiver, which asked for a longer wait.
    Receiver,
}

/// Why a notification is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadReason {
    /// The notifier reported that it can never succeed.
    Permanent,
    /// It failed this many times.
    AttemptsExhausted(u32),
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("it would fail again"),
            Self::AttemptsExhausted(1) => f.write_str("1 attempt failed"),
            Self::AttemptsExhausted(n) => write!(f, "{n} attempts failed"),
        }
    }
}

/// Decides after the `attempts`-th attempt (from 1), which ended at `now`. `draw` is a random
/// number in 0..1, as in [`BackoffPolicy::wait`].
pub fn decide(
    policy: RetryPolicy,
    attempts: u32,
    outcome: &Outcome,
    draw: f64,
    now: DateTime<Utc>,
) -> Verdict {
    let requested = match outcome {
        Outcome::Sent | Outcome::Partly { after: None, .. } => return Verdict::Delivered,
        Outcome::Permanent { .. } => {
            return Verdict::Dead { reason: DeadReason::Permanent };
        }
        Outcome::Retry { .. } | Outcome::Partly { .. } if attempts >= policy.attempts_max => {
            return Verdict::Dead { reason: DeadReason::AttemptsExhausted(attempts) };
        }
        Outcome::Retry { after, .. } | Outcome::Partly { after, .. } => {
            after.unwrap_or_default().min(WAIT_MAX)
        }
    };
    let own = policy.backoff.wait(attempts, draw);
    let (wait, paced_by) =
        if requested > own { (requested, PacedBy::Receiver) } else { (own, PacedBy::Schedule) };
    Verdict::Retry { at: now + wait, paced_by }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        backoff: BackoffPolicy { wait: Duration::from_secs(1), wait_max: Duration::from_secs(300) },
        attempts_max: 20,
    };

    fn now() -> DateTime<Utc> {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn busy(after_s: Option<u64>) -> Outcome {
        Outcome::Retry { reason: "busy".into(), after: after_s.map(Duration::from_secs) }
    }

    #[test]
    fn decides_after_an_attempt() {
        let check = |name, attempts, outcome, draw, expected| {
            assert_eq!(decide(POLICY, attempts, &outcome, draw, now()), expected, "{name}");
        };
        let retry =
            |ms, paced_by| Verdict::Retry { at: now() + Duration::from_millis(ms), paced_by };
        let dead = |reason| Verdict::Dead { reason };
        let permanent = Outcome::Permanent { reason: "gone".into() };
        use PacedBy::{Receiver, Schedule};
        check("sent", 1, Outcome::Sent, 0.5, Verdict::Delivered);
        check("sent at the last attempt", 20, Outcome::Sent, 0.5, Verdict::Delivered);
        let partly = |seconds: Option<u64>| Outcome::Partly {
            reason: "one is full".into(),
            after: seconds.map(Duration::from_secs),
        };
        check("some recipients never", 1, partly(None), 0.5, Verdict::Delivered);
        check("some recipients later", 1, partly(Some(180)), 0.5, retry(180_000, Receiver));
        check("permanent", 1, permanent, 0.5, dead(DeadReason::Permanent));
        check("first, least", 1, busy(None), 0.0, retry(500, Schedule));
        check("first, most", 1, busy(None), 1.0, retry(1000, Schedule));
        check("doubles", 4, busy(None), 1.0, retry(8000, Schedule));
        check("jitter is half", 4, busy(None), 0.5, retry(6000, Schedule));
        check("capped", 10, busy(None), 1.0, retry(300_000, Schedule));
        check("still capped", 19, busy(None), 0.0, retry(150_000, Schedule));
        check("exhausted", 20, busy(None), 0.0, dead(DeadReason::AttemptsExhausted(20)));
        check("more than allowed", 21, busy(Some(5)), 0.0, dead(DeadReason::AttemptsExhausted(21)));
        check("the receiver asks for more", 1, busy(Some(900)), 1.0, retry(900_000, Receiver));
        check("the receiver asks for less", 4, busy(Some(1)), 1.0, retry(8000, Schedule));
        check(
            "the receiver asks for a year",
            1,
            busy(Some(31_536_000)),
            1.0,
            retry(86_400_000, Receiver),
        );
        check("draw out of range", 1, busy(None), 7.0, retry(1000, Schedule));
    }

    #[test]
    fn waits_never_overflow() {
        let policy = RetryPolicy::from(Delivery {
            retry_wait_ms: u64::MAX,
            retry_wait_ms_max: u64::MAX,
            attempts_max: u32::MAX,
            ..Delivery::default()
        });
        let verdict = decide(policy, u32::MAX - 1, &busy(Some(u64::MAX)), 1.0, now());
        assert_eq!(verdict, Verdict::Retry { at: now() + WAIT_MAX, paced_by: PacedBy::Schedule });
    }
}
