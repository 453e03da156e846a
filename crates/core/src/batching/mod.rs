//! Which rows travel together; pure. Each decision is made in one place:
//!
//! | what | where | limits |
//! | --- | --- | --- |
//! | batch: the records of one Postgres transaction | [`Batcher`], in the intake stage | rows, age |
//! | pass: the rows of one run of the model | [`PassQueue`], on the model's thread | tokens with padding, rows, age |
//!
//! A [`LaneQueue`] has two of the latter: rows of the stream, and rows of callers who wait for an
//! answer, in turn.
//!
//! A batch is large and keeps the order of Kafka. The model's thread holds the rows of
//! several batches, and a pass takes rows of similar length from all of them.
//!
//! **Invariant.** Rows leave a [`Batcher`] in the order they came. A batch never holds more
//! than `rows_max` rows, and no row waits longer than `wait_max` after it was pushed, if
//! the caller polls at [`Batcher::deadline`].
//! Deliberately absent: timers, threads, and what the rows are.

mod lanes;
mod passes;

use std::time::Duration;

pub use lanes::{ATTENTIVE, Lane, LaneQueue, PARTS};
pub use passes::{Pass, PassLimits, PassPolicy, PassQueue, PassReason, plan_passes};

/// When a batch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// At this many rows ...
    pub rows_max: usize,
    /// ... or when the oldest row has waited this long.
    pub wait_max: Duration,
}

/// Why a batch closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchClosed {
    /// It was full.
    Full,
    /// Its oldest row had waited long enough.
    Aged,
    /// The caller asked, because a partition changes its owner or the daemon stops.
    Flushed,
}

/// Gathers rows into batches, one Postgres transaction each.
#[derive(Debug)]
pub struct Batcher<T> {
    policy: BatchPolicy,
    rows: Vec<T>,
    oldest: Duration,
}

impl<T> Batcher<T> {
    /// An empty batcher.
    pub fn new(policy: BatchPolicy) -> Self {
        Self { policy, rows: Vec::new(), oldest: Duration::ZERO }
    }

    /// Adds a row at time `now`; returns the batch if this row filled it.
    pub fn push(&mut self, row: T, now: Duration) -> Option<(Vec<T>, BatchClosed)> {
        if self.rows.is_empty() {
            self.oldest = now;
            self.rows.reserve(self.policy.rows_max.min(1024));
        }
        self.rows.push(row);
        (self.rows.len() >= self.policy.rows_max).then(|| (self.take(), BatchClosed::Full))
    }

    /// When the held rows must leave; `None` if there are none.
    pub fn deadline(&self) -> Option<Duration> {
        (!self.rows.is_empty()).then(|| self.oldest + self.policy.wait_max)
    }

    /// The batch, if its oldest row has waited long enough at time `now`.
    pub fn poll(&mut self, now: Duration) -> Option<(Vec<T>, BatchClosed)> {
        self.deadline()
            .filter(|&deadline| now >= deadline)
            .map(|_| (self.take(), BatchClosed::Aged))
    }

    /// All held rows, whatever their age.
    pub fn flush(&mut self) -> Option<(Vec<T>, BatchClosed)> {
        (!self.rows.is_empty()).then(|| (self.take(), BatchClosed::Flushed))
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
        let mut batcher = Batcher::new(BatchPolicy { rows_max: 3, wait_max: MS(10) });
        assert_eq!(batcher.poll(MS(0)), None, "nothing to close");
        assert_eq!(batcher.flush(), None, "nothing to flush");
        assert_eq!(batcher.push('a', MS(5)), None);
        assert_eq!(batcher.deadline(), Some(MS(15)), "counts from the oldest row");
        assert_eq!(batcher.push('b', MS(9)), None);
        assert_eq!(batcher.poll(MS(14)), None, "not old enough");
        assert_eq!(batcher.poll(MS(15)), Some((vec!['a', 'b'], BatchClosed::Aged)));
        batcher.push('c', MS(20));
        batcher.push('d', MS(20));
        assert_eq!(batcher.push('e', MS(20)), Some((vec!['c', 'd', 'e'], BatchClosed::Full)));
        batcher.push('f', MS(30));
        assert_eq!(batcher.flush(), Some((vec!['f'], BatchClosed::Flushed)));
        assert_eq!(batcher.deadline(), None);
    }

    proptest! {
        #[test]
        fn keeps_order_size_and_age(
            rows_max in 1_usize..20,
            wait_ms in 1_u64..50,
            gaps_ms in prop::collection::vec(0_u64..40, 0..200),
        ) {
            let policy = BatchPolicy { rows_max, wait_max: MS(wait_ms) };
            let mut batcher = Batcher::new(policy);
            let mut now = Duration::ZERO;
            let mut left = Vec::new();
            let mut take = |closed: Option<(Vec<(usize, Duration)>, BatchClosed)>, now: Duration| {
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
