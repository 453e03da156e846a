//! When to try again, and when to give up; pure.
//!
//! **Invariant.** The verdict follows from the outcome, the number of attempts, the time
//! and the random number passed in, and from nothing else. No wait is longer than
//! `retry_wait_ms_max`, unless the receiver asked for it, and none is longer than
//! [`WAIT_MAX`]. Deliberately absent: a clock, and a source of random numbers.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Outcome;
use monitor_config::Delivery;

/// Longest wait of all: a slip in a receiver's header, or in the settings, must not park
/// an alert for a year.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The schedule of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Wait after the first attempt; doubles with each further one.
    pub wait: Duration,
    /// Where the doubling ends.
    pub wait_max: Duration,
    /// After this many attempts a notification is given up.
    pub attempts_max: u32,
}

impl From<Delivery> for Policy {
    fn from(delivery: Delivery) -> Self {
        Self {
            wait: Duration::from_millis(delivery.retry_wait_ms),
            wait_max: Duration::from_millis(delivery.retry_wait_ms_max),
            attempts_max: delivery.attempts_max,
        }
    }
}

/// What becomes of a notification after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Delivered,
    /// It is due again.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// Who chose the wait.
        paced_by: PacedBy,
    },
    /// It is kept as dead.
    GiveUp {
        /// Why.
        reason: GiveUpReason,
    },
}

/// Who chose a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedBy {
    /// Our own schedule.
    Schedule,
    /// The receiver, who asked for a longer one.
    Receiver,
}

/// Why a notification is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The notifier says that it can never succeed.
    Permanent,
    /// It has failed this many times.
    AttemptsSpent(u32),
}

impl fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent => f.write_str("it would fail again"),
            Self::AttemptsSpent(1) => f.write_str("1 attempt failed"),
            Self::AttemptsSpent(n) => write!(f, "{n} attempts failed"),
        }
    }
}

/// Judges an attempt that ended at `now` as the `attempts`-th (from 1). `draw`, in 0..1,
/// spreads the waits: half of a wait is certain, half is drawn, so that notifications
/// that failed together do not come back together.
pub fn judge(
    policy: Policy,
    attempts: u32,
    outcome: &Outcome,
    draw: f64,
    now: DateTime<Utc>,
) -> Verdict {
    let asked = match outcome {
        Outcome::Sent | Outcome::Partly { after: None, .. } => return Verdict::Delivered,
        Outcome::Permanent { .. } => {
            return Verdict::GiveUp { reason: GiveUpReason::Permanent };
        }
        Outcome::Retry { .. } | Outcome::Partly { .. } if attempts >= policy.attempts_max => {
            return Verdict::GiveUp { reason: GiveUpReason::AttemptsSpent(attempts) };
        }
        Outcome::Retry { after, .. } | Outcome::Partly { after, .. } => {
            after.unwrap_or_default().min(WAIT_MAX)
        }
    };
    let own = jittered(step(policy, attempts), draw);
    let (wait, paced_by) =
        if asked > own { (asked, PacedBy::Receiver) } else { (own, PacedBy::Schedule) };
    Verdict::Retry { at: now + wait, paced_by }
}

/// The wait after the `attempts`-th attempt, before jitter.
fn step(policy: Policy, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    policy.wait.saturating_mul(1 << doublings).min(policy.wait_max).min(WAIT_MAX)
}

fn jittered(wait: Duration, draw: f64) -> Duration {
    wait / 2 + (wait / 2).mul_f64(draw.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        wait: Duration::from_secs(1),
        wait_max: Duration::from_secs(300),
        attempts_max: 20,
    };

    fn now() -> DateTime<Utc> {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn busy(after_s: Option<u64>) -> Outcome {
        Outcome::Retry { reason: "busy".into(), after: after_s.map(Duration::from_secs) }
    }

    #[test]
    fn judges_attempts() {
        let check = |name, attempts, outcome, draw, expected| {
            assert_eq!(judge(POLICY, attempts, &outcome, draw, now()), expected, "{name}");
        };
        let retry =
            |ms, paced_by| Verdict::Retry { at: now() + Duration::from_millis(ms), paced_by };
        let give_up = |reason| Verdict::GiveUp { reason };
        let permanent = Outcome::Permanent { reason: "gone".into() };
        use PacedBy::{Receiver, Schedule};
        check("sent", 1, Outcome::Sent, 0.5, Verdict::Delivered);
        check("sent at the last attempt", 20, Outcome::Sent, 0.5, Verdict::Delivered);
        let partly = |seconds: Option<u64>| Outcome::Partly {
            reason: "one is full".into(),
            after: seconds.map(Duration::from_secs),
        };
        check("the others never will", 1, partly(None), 0.5, Verdict::Delivered);
        check("the others later", 1, partly(Some(180)), 0.5, retry(180_000, Receiver));
        check("permanent", 1, permanent, 0.5, give_up(GiveUpReason::Permanent));
        check("first, least", 1, busy(None), 0.0, retry(500, Schedule));
        check("first, most", 1, busy(None), 1.0, retry(1000, Schedule));
        check("doubles", 4, busy(None), 1.0, retry(8000, Schedule));
        check("jitter is half", 4, busy(None), 0.5, retry(6000, Schedule));
        check("capped", 10, busy(None), 1.0, retry(300_000, Schedule));
        check("still capped", 19, busy(None), 0.0, retry(150_000, Schedule));
        check("spent", 20, busy(None), 0.0, give_up(GiveUpReason::AttemptsSpent(20)));
        check("beyond", 21, busy(Some(5)), 0.0, give_up(GiveUpReason::AttemptsSpent(21)));
        check("asked for more", 1, busy(Some(900)), 1.0, retry(900_000, Receiver));
        check("asked for less", 4, busy(Some(1)), 1.0, retry(8000, Schedule));
        check("asked for a year", 1, busy(Some(31_536_000)), 1.0, retry(86_400_000, Receiver));
        check("draw out of range", 1, busy(None), 7.0, retry(1000, Schedule));
    }

    #[test]
    fn waits_never_overflow() {
        let policy =
            Policy { wait: Duration::MAX, wait_max: Duration::MAX, attempts_max: u32::MAX };
        let verdict = judge(policy, u32::MAX - 1, &busy(Some(u64::MAX)), 1.0, now());
        assert_eq!(verdict, Verdict::Retry { at: now() + WAIT_MAX, paced_by: PacedBy::Schedule });
    }
}
