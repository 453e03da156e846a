//! Progress lines: share done, rate, time left.
//!
//! **Invariant.** A line every few seconds at most, on standard error; nothing here
//! changes what is computed. Deliberately absent: bars that redraw; logs keep lines.

use monitor_core::clock::{Clock, SystemClock};

const LINE_EVERY_S: f64 = 5.0;

/// A training time in minutes, or in seconds if less than a minute.
pub fn training_time(minutes: f64) -> String {
    if minutes < 1.0 { format!("{:.1} s", 60.0 * minutes) } else { format!("{minutes:.1} min") }
}

/// A number of threads in words.
pub(crate) fn threads(count: usize) -> String {
    format!("{count} thread{}", if count == 1 { "" } else { "s" })
}

/// Progress through a known number of rows.
#[derive(Debug)]
pub(crate) struct Progress {
    clock: SystemClock,
    task: String,
    /// Rows done before.
    from: usize,
    total: usize,
    last_s: f64,
}

impl Progress {
    pub(crate) fn new(task: String, total: usize) -> Self {
        Self::from(task, 0, total)
    }

    /// Of rows of which some were done before.
    pub(crate) fn from(task: String, from: usize, total: usize) -> Self {
        Self { clock: SystemClock::new(), task, from, total, last_s: 0.0 }
    }

    /// Seconds since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// Rows per second.
    pub(crate) fn rate(&self, done: usize) -> f64 {
        (done - self.from) as f64 / self.seconds()
    }

    /// Prints a line, unless the last one is recent.
    pub(crate) fn rows(&mut self, done: usize, loss: Option<f64>) {
        let now_s = self.seconds();
        if now_s - self.last_s >= LINE_EVERY_S {
            self.last_s = now_s;
            let rate = self.rate(done);
            let left_s = (self.total - done) as f64 / rate;
            let percent = 100 * done / self.total.max(1);
            eprintln!(
                "{}: {percent:3} %{}, {rate:.0} rows/s, {left_s:.0} s left",
                self.task,
                loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"))
            );
        }
    }

    /// Prints how much was read, if the total is unknown.
    pub(crate) fn read(&mut self, done: usize, what: &str) {
        let now_s = self.seconds();
        if now_s - self.last_s >= LINE_EVERY_S {
            self.last_s = now_s;
            eprintln!("{}: {done} {what} read, {:.0} {what}/s", self.task, done as f64 / now_s);
        }
    }

    /// Prints the outcome.
    pub(crate) fn end(&self, outcome: &str) {
        eprintln!("{}: {outcome}, {:.1} s", self.task, self.seconds());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_words() {
        let check = |minutes, expected: &str| assert_eq!(training_time(minutes), expected);
        check(0.002, "0.1 s");
        check(0.012, "0.7 s");
        check(0.99, "59.4 s");
        check(1.0, "1.0 min");
        check(90.04, "90.0 min");
        let check = |count, expected: &str| assert_eq!(threads(count), expected);
        check(1, "1 thread");
        check(2, "2 threads");
    }
}
