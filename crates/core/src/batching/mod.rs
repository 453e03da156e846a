//! When a batch closes; pure. [`Batcher`] gathers records on their way in; [`TokenQueue`]
//! decides which rows the model computes together.
//!
//! **Invariant.** Of a [`Batcher`], rows leave in the order they came. A batch never holds more than
//! `rows_max` rows, and no row waits longer than `wait_max` after it was pushed, provided
//! the caller asks at the time [`Batcher::deadline`] names.
//! Deliberately absent: timers, threads, and what the rows are.

mod tokens;

use std::time::Duration;

pub use tokens::{Limits, TokenBatch, TokenPolicy, TokenQueue, cut};

/// When a batch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// At this many rows ...
    pub rows_max: usize,
    /// ... or when the oldest row has waited this long.
    pub wait_max: Duration,
}

/// Why a batch closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It was full.
    Full,
    /// Its oldest row had waited long enough.
    Aged,
    /// The caller asked: a partition changes hands, or the daemon stops.
    Flushed,
    /// The model had nothing else to do.
    Idle,
}

/// Gathers rows into batches.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: Policy,
    rows: Vec<T>,
    oldest: Duration,
}

impl<T> Batcher<T> {
    /// An empty batcher.
    pub fn new(policy: Policy) -> Self {
        Self { policy, rows: Vec::new(), oldest: Duration::ZERO }
    }

    /// Adds a row at time `now`; answers with the batch it filled, if it did.
    pub fn push(&mut self, row: T, now: Duration) -> Option<(Vec<T>, Closed)> {
        if self.rows.is_empty() {
            self.oldest = now;
            self.rows.reserve(self.policy.rows_max.min(1024));
        }
        self.rows.push(row);
        (self.rows.len() >= self.policy.rows_max).then(|| (self.take(), Closed::Full))
    }

    /// When the rows held must leave; `None` while there are none.
    pub fn deadline(&self) -> Option<Duration> {
        (!self.rows.is_empty()).then(|| self.oldest + self.policy.wait_max)
    }

    /// The batch, if its oldest row has waited long enough at time `now`.
    pub fn poll(&mut self, now: Duration) -> Option<(Vec<T>, Closed)> {
        self.deadline().filter(|&deadline| now >= deadline).map(|_| (self.take(), Closed::Aged))
    }

    /// The rows held, whatever their age.
    pub fn flush(&mut self) -> Option<(Vec<T>, Closed)> {
        (!self.rows.is_empty()).then(|| (self.take(), Closed::Flushed))
    }

    fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn closes_when_full_aged_or_flushed() {
        let mut batcher = Batcher::new(Policy { rows_max: 3, wait_max: MS(10) });
        assert_eq!(batcher.poll(MS(0)), None, "nothing to close");
        assert_eq!(batcher.flush(), None, "nothing to flush");
        assert_eq!(batcher.push('a', MS(5)), None);
        assert_eq!(batcher.deadline(), Some(MS(15)), "counts from the oldest row");
        assert_eq!(batcher.push('b', MS(9)), None);
        assert_eq!(batcher.poll(MS(14)), None, "not old enough");
        assert_eq!(batcher.poll(MS(15)), Some((vec!['a', 'b'], Closed::Aged)));
        batcher.push('c', MS(20));
        batcher.push('d', MS(20));
        assert_eq!(batcher.push('e', MS(20)), Some((vec!['c', 'd', 'e'], Closed::Full)));
        batcher.push('f', MS(30));
        assert_eq!(batcher.flush(), Some((vec!['f'], Closed::Flushed)));
        assert_eq!(batcher.deadline(), None);
    }

    proptest! {
        #[test]
        fn keeps_order_size_and_age(
            rows_max in 1_usize..20,
            wait_ms in 1_u64..50,
            gaps_ms in prop::collection::vec(0_u64..40, 0..200),
        ) {
            let policy = Policy { rows_max, wait_max: MS(wait_ms) };
            let mut batcher = Batcher::new(policy);
            let mut now = Duration::ZERO;
            let mut left = Vec::new();
            let mut take = |closed: Option<(Vec<(usize, Duration)>, Closed)>, now: Duration| {
                if let Some((rows, _)) = closed {
                    assert!(rows.len() <= rows_max);
                    assert!(now - rows[0].1 <= policy.wait_max, "the oldest row waited too long");
                    left.extend(rows.into_iter().map(|(row, _)| row));
                }
            };
            for (row, gap) in gaps_ms.iter().enumerate() {
                let arrival = now + MS(*gap);
                while let Some(deadline) = batcher.deadline().filter(|d| *d <= arrival) {
                    take(batcher.poll(deadline), deadline);
                }
                now = arrival;
                take(batcher.push((row, now), now), now);
            }
            take(batcher.flush(), now);
            prop_assert_eq!(left, (0..gaps_ms.len()).collect::<Vec<_>>());
        }
    }
}
