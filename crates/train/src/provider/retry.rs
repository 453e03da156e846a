//! When to ask again, and when to stop; pure.
//!
//! **Invariant.** The verdict follows from the number of attempts, the wait that the
//! service asked for and the random number passed in. No wait is shorter than the service
//! asked for; one that is too long to sit through ends the run instead.
//! Deliberately absent: a clock, and a source of random numbers.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The schedule of attempts for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// After this many attempts a batch is given up.
    pub attempts_max: u32,
    /// Wait after the first attempt; doubles with each further one.
    pub wait: Duration,
    /// Where the doubling ends.
    pub wait_max: Duration,
    /// The longest wait that the service may ask for.
    pub asked_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 6,
            wait: Duration::from_secs(1),
            wait_max: Duration::from_secs(30),
            // A rate limit passes within a minute; a quota of the month does not.
            asked_max: Duration::from_secs(120),
        }
    }
}

/// What becomes of a batch after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask again after this wait.
    Wait(Duration),
    /// It has failed as often as is allowed.
    AttemptsSpent,
    /// The service asks for a wait beyond [`Retry::asked_max`].
    AskedTooLong(Duration),
}

impl Retry {
    /// Judges the `attempts`-th failure (from 1). `asked` is the wait that the service
    /// asked for. `draw`, in 0..1, spreads the waits: half of one is certain, half drawn.
    pub(super) fn next(self, attempts: u32, asked: Option<Duration>, draw: f64) -> Next {
        let asked = asked.unwrap_or_default();
        if asked > self.asked_max {
            return Next::AskedTooLong(asked);
        }
        if attempts >= self.attempts_max {
            return Next::AttemptsSpent;
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let step = self.wait.saturating_mul(1 << doublings).min(self.wait_max);
        let own = step / 2 + (step / 2).mul_f64(draw.clamp(0.0, 1.0));
        Next::Wait(own.max(asked))
    }
}

/// The header `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).
/// `None` where it is neither.
pub(super) fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
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
    fn judges_attempts() {
        let retry = Retry::default();
        let check = |name, attempts, asked_s: Option<u64>, draw, expected| {
            let found = retry.next(attempts, asked_s.map(Duration::from_secs), draw);
            assert_eq!(found, expected, "{name}");
        };
        let wait = |ms| Next::Wait(Duration::from_millis(ms));
        check("first, least", 1, None, 0.0, wait(500));
        check("first, most", 1, None, 1.0, wait(1_000));
        check("doubles", 3, None, 1.0, wait(4_000));
        check("asked for more", 1, Some(60), 0.0, wait(60_000));
        check("asked for less", 5, Some(1), 1.0, wait(16_000));
        check("asked for the most", 1, Some(120), 0.0, wait(120_000));
        let fortnight = 15 * 24 * 60 * 60;
        let too_long = Next::AskedTooLong(Duration::from_secs(fortnight));
        check("asked for a fortnight", 1, Some(fortnight), 0.0, too_long);
        check("spent", 6, None, 0.0, Next::AttemptsSpent);
        check("spent, and asked", 6, Some(1), 0.0, Next::AttemptsSpent);
        check("draw out of range", 1, None, 7.0, wait(1_000));

        let endless = Retry {
            attempts_max: u32::MAX,
            wait: Duration::MAX,
            wait_max: Duration::from_secs(30),
            asked_max: Duration::MAX,
        };
        assert_eq!(endless.next(u32::MAX - 1, None, 1.0), wait(30_000), "never overflows");
    }

    #[test]
    fn reads_the_header() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
        let check = |name, text, expected: Option<u64>| {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{name}");
        };
        check("seconds", " 34 ", Some(34));
        check("none", "0", Some(0));
        check("a date", "Thu, 01 Jan 2026 12:00:30 GMT", Some(30));
        check("a date gone by", "Thu, 01 Jan 2026 11:00:00 GMT", Some(0));
        check("negative", "-3", None);
        check("nonsense", "soon", None);
        check("beyond any number", "99999999999999999999999", None);
    }
}
