//! When to repeat a request, and when to stop; pure.
//!
//! **Invariant.** The decision depends only on the number of attempts, the wait that the
//! service requested and the random number passed in. No wait is shorter than the service
//! requested; a request for a wait beyond the limit ends the run.
//! Deliberately absent: a clock, and a source of random numbers.

use std::time::Duration;

use monitor_core::backoff::BackoffPolicy;

/// The retry schedule for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts per batch at most.
    pub attempts_max: u32,
    /// Our own waits between attempts.
    pub backoff: BackoffPolicy,
    /// The longest wait that the service may request.
    pub asked_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: 6,
            backoff: BackoffPolicy {
                wait: Duration::from_secs(1),
                wait_max: Duration::from_secs(30),
            },
            // A rate limit ends within a minute; a monthly quota does not.
            asked_max: Duration::from_secs(120),
        }
    }
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send the request again after this wait.
    Wait(Duration),
    /// The last allowed attempt failed.
    AttemptsSpent,
    /// The service requests a wait beyond [`Retry::asked_max`].
    AskedTooLong(Duration),
}

impl Retry {
    /// Decides after the `attempts`-th failure (from 1). `asked` is the wait that the
    /// service requested, if any; `draw` is a random number in 0..1 for the jitter.
    pub fn next(self, attempts: u32, asked: Option<Duration>, draw: f64) -> Next {
        let asked = asked.unwrap_or_default();
        if asked > self.asked_max {
            return Next::AskedTooLong(asked);
        }
        if attempts >= self.attempts_max {
            return Next::AttemptsSpent;
        }
        Next::Wait(self.backoff.wait(attempts, draw).max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_after_each_failure() {
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
            backoff: BackoffPolicy { wait: Duration::MAX, wait_max: Duration::from_secs(30) },
            asked_max: Duration::MAX,
        };
        assert_eq!(endless.next(u32::MAX - 1, None, 1.0), wait(30_000), "never overflows");
    }
}
