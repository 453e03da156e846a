//! The only place that reads the time.
//!
//! **Invariant.** `Utc::now` and `Instant::now` appear nowhere else (`clippy.toml`
//! forbids them), so every decision that takes a [`Clock`] can be tested without
//! a sleep. Deliberately absent: timers; async code uses `tokio::time` to wait,
//! and a clock to decide.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Tells what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> DateTime<Utc>;
    /// A monotonic time: the duration since the clock was made.
    fn elapsed(&self) -> Duration;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts at zero.
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only by [`SimulatedClock::advance`]; for tests.
#[derive(Debug)]
pub struct SimulatedClock {
    start: DateTime<Utc>,
    elapsed: Mutex<Duration>,
}

impl SimulatedClock {
    /// A clock that stands at `start`.
    pub fn at(start: DateTime<Utc>) -> Self {
        Self { start, elapsed: Mutex::new(Duration::ZERO) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().expect("no holder of this lock panics") += by;
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> DateTime<Utc> {
        self.start + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock().expect("no holder of this lock panics")
    }
}
