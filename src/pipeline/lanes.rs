//! Which rows the next transaction stores.
//!
//! **Invariant.** Rows of a partition are stored in their order, and by one transaction at a time: each partition has its
//! lane, and a lane has one transaction in progress at most. A batch that finds the store idle is stored whole, so that a
//! quiet stream has one transaction for each batch. What comes meanwhile waits, and is stored together, lane by lane:
//! transactions grow where the store is what limits, and while one waits for the disk another is written.
//! Deliberately absent: how rows are stored (`commit`).

use tracing::Span;
use tracing::field::Empty;

use super::flow::Row;

/// Transactions in progress, at most.
pub(super) const LANES: usize = 2;

/// Batches of which one transaction stores rows, at most.
pub(super) const BATCHES_TOGETHER_MAX: usize = 4;

/// Lanes, and whether each is taken.
pub(super) type Taken = [bool; LANES];

/// Rows that are stored together, and the lanes that they take.
pub(super) struct Transaction {
    pub rows: Vec<Row>,
    /// Of the first batch.
    pub span: Span,
    pub taken: Taken,
}

/// The rows that wait.
#[derive(Default)]
pub(super) struct Lanes {
    /// A batch that came while nothing was stored.
    whole: Option<(Vec<Row>, Span)>,
    waiting: [(Vec<Row>, Vec<Span>); LANES],
    taken: Taken,
}

impl Lanes {
    /// Whether there is room for another batch.
    pub fn has_room(&self) -> bool {
        self.whole.is_none()
            && self.waiting.iter().all(|(_, spans)| spans.len() < BATCHES_TOGETHER_MAX)
    }

    /// Whether a transaction is in progress.
    pub fn are_taken(&self) -> bool {
        self.taken.contains(&true)
    }

    /// Adds a batch.
    pub fn add(&mut self, rows: Vec<Row>, batch: &Span) {
        if !self.are_taken() {
            let span = commit_span(batch, rows.len());
            self.whole = Some((rows, span));
            return;
        }
        let mut parts: [Vec<Row>; LANES] = Default::default();
        for row in rows {
            parts[lane(row.origin.partition.partition)].push(row);
        }
        for ((rows, spans), part) in self.waiting.iter_mut().zip(parts) {
            if !part.is_empty() {
                spans.push(commit_span(batch, part.len()));
                rows.extend(part);
            }
        }
    }

    /// The next transaction that may begin; its lanes are taken until they are freed.
    pub fn begin(&mut self) -> Option<Transaction> {
        if let Some((rows, span)) = self.whole.take() {
            self.taken = [true; LANES];
            return Some(Transaction { rows, span, taken: self.taken });
        }
        let lane =
            (0..LANES).find(|&lane| !self.taken[lane] && !self.waiting[lane].0.is_empty())?;
        let (rows, spans) = std::mem::take(&mut self.waiting[lane]);
        let span = spans.into_iter().next()?;
        let mut taken = Taken::default();
        (self.taken[lane], taken[lane]) = (true, true);
        Some(Transaction { rows, span, taken })
    }

    /// Frees the lanes of a transaction that has ended.
    pub fn free(&mut self, taken: Taken) {
        for (lane, ended) in self.taken.iter_mut().zip(taken) {
            *lane &= !ended;
        }
    }
}

/// The lane of a partition.
fn lane(partition: i32) -> usize {
    partition.unsigned_abs() as usize % LANES
}

/// The span of a batch's part in a transaction.
fn commit_span(batch: &Span, rows: usize) -> Span {
    tracing::debug_span!(
        parent: batch,
        "commit",
        rows = rows as i64,
        new = Empty,
        duplicate = Empty,
        not_judged = Empty,
        dead_letters = Empty
    )
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Offset, TopicPartition};
    use monitor_ingest::Load;

    use super::super::flow::{Origin, Outcome};
    use super::*;

    /// Partition and offset.
    type At = (i32, i64);

    fn row(&(partition, offset): &At) -> Row {
        let origin = Origin {
            partition: TopicPartition::new("tweets", partition),
            offset: Offset(offset),
            record_time: None,
            payload: Vec::new(),
            payload_bytes: 0,
            _weight: Load::default().add(0),
        };
        Row { origin, outcome: Outcome::Notice }
    }

    fn add(lanes: &mut Lanes, rows: &[At]) {
        lanes.add(rows.iter().map(row).collect(), &Span::none());
    }

    /// The rows of the next transaction, and its lanes.
    fn begin(lanes: &mut Lanes) -> Option<(Vec<At>, Taken)> {
        let of = |row: &Row| (row.origin.partition.partition, row.origin.offset.0);
        lanes.begin().map(|it| (it.rows.iter().map(of).collect(), it.taken))
    }

    #[test]
    fn a_batch_that_finds_the_store_idle_is_stored_whole() {
        let mut lanes = Lanes::default();
        assert!(begin(&mut lanes).is_none());
        for _ in 0..2 {
            add(&mut lanes, &[(0, 1), (1, 1), (0, 2)]);
            assert!(!lanes.has_room());
            let (rows, taken) = begin(&mut lanes).unwrap();
            assert_eq!((rows, taken), (vec![(0, 1), (1, 1), (0, 2)], [true; LANES]));
            lanes.free(taken);
            assert!(!lanes.are_taken());
        }
    }

    #[test]
    fn what_waits_is_stored_by_lane_and_in_order() {
        let mut lanes = Lanes::default();
        add(&mut lanes, &[(0, 1)]);
        let (_, whole) = begin(&mut lanes).unwrap();
        add(&mut lanes, &[(0, 2), (1, 2), (2, 2)]);
        add(&mut lanes, &[(2, 3), (1, 3), (0, 3)]);
        assert!(begin(&mut lanes).is_none(), "all lanes are taken");
        lanes.free(whole);
        let (even, first) = begin(&mut lanes).unwrap();
        assert_eq!(even, [(0, 2), (2, 2), (2, 3), (0, 3)]);
        let (odd, second) = begin(&mut lanes).unwrap();
        assert_eq!((odd, second), (vec![(1, 2), (1, 3)], [false, true]));
        add(&mut lanes, &[(0, 4), (1, 4)]);
        assert!(begin(&mut lanes).is_none(), "both lanes are taken");
        lanes.free(second);
        assert_eq!(begin(&mut lanes).unwrap().0, [(1, 4)], "the other lane goes on");
        lanes.free(first);
        assert_eq!(begin(&mut lanes).unwrap().0, [(0, 4)]);
    }

    #[test]
    fn few_batches_wait() {
        let mut lanes = Lanes::default();
        add(&mut lanes, &[(0, 0)]);
        begin(&mut lanes).unwrap();
        for offset in 1..=BATCHES_TOGETHER_MAX as i64 {
            assert!(lanes.has_room());
            add(&mut lanes, &[(0, offset)]);
        }
        assert!(!lanes.has_room());
    }
}
