//! Lines for the person who waits: how far, how fast, how long yet.
//!
//! **Invariant.** A line every few seconds at most, on standard error; nothing here
//! changes what is computed. Deliberately absent: bars that redraw; logs keep lines.

use crate::clock::{Clock, SystemClock};

const LINE_EVERY_S: f64 = 5.0;

/// Progress through a known number of rows.
#[derive(Debug)]
pub(super) struct Progress {
    clock: SystemClock,
    task: String,
    total: usize,
    last_s: f64,
}

impl Progress {
    pub(super) fn new(task: String, total: usize) -> Self {
        Self { clock: SystemClock::new(), task, total, last_s: 0.0 }
    }

    /// Says where things stand, if it has been a while.
    pub(super) fn rows(&mut self, done: usize, loss: f64) {
        let now_s = self.clock.elapsed().as_secs_f64();
        if now_s - self.last_s >= LINE_EVERY_S {
            self.last_s = now_s;
            let rate = done as f64 / now_s;
            let left_s = (self.total - done) as f64 / rate;
            let percent = 100 * done / self.total.max(1);
            eprintln!(
                "{}: {percent:3} %, loss {loss:.4}, {rate:.0} rows/s, {left_s:.0} s left",
                self.task
            );
        }
    }

    /// Says how much was read, where the whole is not known beforehand.
    pub(super) fn read(&mut self, done: usize, what: &str) {
        let now_s = self.clock.elapsed().as_secs_f64();
        if now_s - self.last_s >= LINE_EVERY_S {
            self.last_s = now_s;
            eprintln!("{}: {done} {what} read, {:.0} {what}/s", self.task, done as f64 / now_s);
        }
    }

    /// Says how it ended.
    pub(super) fn end(&self, outcome: &str) {
        eprintln!("{}: {outcome}, {:.1} s", self.task, self.clock.elapsed().as_secs_f64());
    }
}
