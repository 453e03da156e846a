//! How long to wait before the next attempt; pure.
//!
//! **Invariant.** A wait depends only on the policy, the number of attempts and the random
//! number passed in. Deliberately absent: a clock, a source of random numbers, and the
//! decision to stop, which differs between callers.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The doubling is computed with at most this many factors of two.
const DOUBLINGS_MAX: u32 = 31;

/// Exponential backoff with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Longest wait after the first attempt; it doubles with each further attempt.
    pub wait: Duration,
    /// Upper limit of the doubled wait.
    pub wait_max: Duration,
}

impl BackoffPolicy {
    /// The wait after the `attempts`-th failed attempt (from 1). One half is fixed, the
    /// other half is multiplied by `draw`, a random number in 0..1 ("equal jitter"), so
    /// that senders that failed together do not retry together.
    pub fn wait(self, attempts: u32, draw: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(DOUBLINGS_MAX);
        let step = self.wait.saturating_mul(1 << doublings).min(self.wait_max);
        step / 2 + (step / 2).mul_f64(draw.clamp(0.0, 1.0))
    }
}

/// Reads the header `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3). A
/// date in the past gives zero; `None` if the value is neither a number nor a date.
pub fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let policy =
            BackoffPolicy { wait: Duration::from_secs(1), wait_max: Duration::from_secs(30) };
        let check = |name, attempts, draw, expected_ms| {
            let found = policy.wait(attempts, draw);
            assert_eq!(found, Duration::from_millis(expected_ms), "{name}");
        };
        check("first, shortest", 1, 0.0, 500);
        check("first, longest", 1, 1.0, 1_000);
        check("doubles", 3, 1.0, 4_000);
        check("half of the wait is random", 4, 0.5, 6_000);
        check("capped", 10, 1.0, 30_000);
        check("still capped", u32::MAX, 0.0, 15_000);
        check("draw out of range", 1, 7.0, 1_000);
        let endless = BackoffPolicy { wait: Duration::MAX, wait_max: Duration::from_secs(30) };
        assert_eq!(endless.wait(u32::MAX, 1.0), Duration::from_secs(30), "never overflows");
    }

    #[test]
    fn reads_the_header() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
        let check = |name, text, expected: Option<u64>| {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{name}");
        };
        check("seconds", " 34 ", Some(34));
        check("zero", "0", Some(0));
        check("a date", "Thu, 01 Jan 2026 12:00:30 GMT", Some(30));
        check("a date in the past", "Thu, 01 Jan 2026 11:00:00 GMT", Some(0));
        check("negative", "-3", None);
        check("not a number", "soon", None);
        check("out of range", "99999999999999999999999", None);
    }
}
