//! Which rows the model computes together; pure.
//!
//! **Invariant.** Each row leaves once. Rows times the longest of them stay within
//! `tokens_max`, unless a single row is longer. A row as old as `wait_max` leaves after at
//! most one batch for each row older than it. At most `queue_rows_max` rows wait.
//! Deliberately absent: waiting for more rows. A model that has none at work takes what
//! there is, so batches grow with the load and a quiet stream pays nothing; and a plan by
//! dynamic programming, which pads little less than a greedy cut of sorted rows.

use std::cmp::Reverse;
use std::time::Duration;

use super::Closed;

/// A batch takes rows as long as they are at least this share of its longest row.
const ALIKE_MIN: f64 = 0.75;
/// A batch that holds less than this part of its budget is all overhead, and takes shorter
/// rows too.
const SMALL_PART: usize = 16;

/// What one batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows times the tokens of the longest; a longer row travels alone.
    pub tokens_max: usize,
    /// Rows.
    pub rows_max: usize,
}

impl Limits {
    /// Whether one more row would be too much for `rows` of them, the longest of `longest`
    /// tokens.
    fn are_met(self, rows: usize, longest: usize) -> bool {
        rows >= self.rows_max || longest.saturating_mul(rows + 1) > self.tokens_max
    }
}

/// Cuts rows of these lengths into batches of like length, longest first. Answers with
/// places in `tokens`; those of a batch cut again are one batch.
pub fn cut(tokens: &[usize], limits: Limits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|row| Reverse(tokens[*row]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in order {
        if let Some(batch) = batches.last_mut() {
            let longest = tokens[batch[0]];
            let alike = tokens[row] as f64 >= ALIKE_MIN * longest as f64;
            let small = longest * batch.len() < limits.tokens_max / SMALL_PART;
            if !limits.are_met(batch.len(), longest) && (alike || small) {
                batch.push(row);
                continue;
            }
        }
        batches.push(vec![row]);
    }
    batches
}

/// How rows wait and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPolicy {
    /// What one batch may hold.
    pub limits: Limits,
    /// From this age on a row goes before fuller batches.
    pub wait_max: Duration,
    /// Rows that wait at most.
    pub queue_rows_max: usize,
}

/// Rows that leave together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch<T> {
    /// In the order in which they came.
    pub rows: Vec<T>,
    /// Why these, and now.
    pub closed: Closed,
    /// How long the oldest has waited.
    pub waited: Duration,
    /// Tokens of all rows.
    pub tokens: usize,
    /// Tokens that pad them to the longest.
    pub padding: usize,
}

/// Rows that wait for the model.
#[derive(Debug)]
pub struct TokenQueue<T> {
    policy: TokenPolicy,
    /// In the order in which they came.
    waiting: Vec<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    row: T,
    tokens: usize,
    since: Duration,
}

impl<T> TokenQueue<T> {
    /// An empty queue.
    pub fn new(policy: TokenPolicy) -> Self {
        Self { policy, waiting: Vec::new() }
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Another budget, from the next batch on.
    pub fn set_tokens_max(&mut self, tokens_max: usize) {
        self.policy.limits.tokens_max = tokens_max;
    }

    /// Adds a row of `tokens` tokens that has waited since `since`.
    ///
    /// # Errors
    /// The row itself, while `queue_rows_max` rows wait.
    pub fn push(&mut self, row: T, tokens: usize, since: Duration) -> Result<(), T> {
        if self.waiting.len() >= self.policy.queue_rows_max {
            return Err(row);
        }
        self.waiting.push(Waiting { row, tokens, since });
        Ok(())
    }

    /// Drops the rows that nobody wants any more.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.waiting.retain(|waiting| wanted(&waiting.row));
    }

    /// The batch to compute at time `now`: the one with the oldest row if that is of age,
    /// else a full one, else the one with the oldest row; `None` while no row waits.
    pub fn take(&mut self, now: Duration) -> Option<TokenBatch<T>> {
        let lengths: Vec<usize> = self.waiting.iter().map(|waiting| waiting.tokens).collect();
        let mut batches = cut(&lengths, self.policy.limits);
        let first = |batch: &Vec<usize>| batch.iter().copied().min();
        let waited = |row: usize| now.saturating_sub(self.waiting[row].since);
        let eldest = batches.iter().position(|batch| first(batch) == Some(0))?;
        let full = (0..batches.len())
            .filter(|at| self.policy.limits.are_met(batches[*at].len(), lengths[batches[*at][0]]))
            .min_by_key(|at| first(&batches[*at]));
        let (chosen, closed) = match full {
            _ if waited(0) >= self.policy.wait_max => (eldest, Closed::Aged),
            Some(full) => (full, Closed::Full),
            None => (eldest, Closed::Idle),
        };
        let batch = batches.swap_remove(chosen);
        let waited = batch.iter().map(|row| waited(*row)).max().unwrap_or_default();
        let tokens = batch.iter().map(|row| lengths[*row]).sum();
        let padding = batch.len() * lengths[batch[0]] - tokens;
        let mut leaves = vec![false; lengths.len()];
        batch.into_iter().for_each(|row| leaves[row] = true);
        let mut leaves = leaves.into_iter();
        let leaving = self.waiting.extract_if(.., |_| leaves.next() == Some(true));
        let rows = leaving.map(|waiting| waiting.row).collect();
        Some(TokenBatch { rows, closed, waited, tokens, padding })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn policy(tokens_max: usize, rows_max: usize, wait_ms: u64) -> TokenPolicy {
        let limits = Limits { tokens_max, rows_max };
        TokenPolicy { limits, wait_max: MS(wait_ms), queue_rows_max: 1_000 }
    }

    #[test]
    fn what_travels_together() {
        let check =
            |name: &str, tokens: &[usize], limits: (usize, usize), expected: &[&[usize]]| {
                let limits = Limits { tokens_max: limits.0, rows_max: limits.1 };
                assert_eq!(cut(tokens, limits), expected, "{name}");
            };
        check("nothing", &[], (100, 9), &[]);
        check("budget, padding counted", &[10, 8, 9], (29, 9), &[&[0, 2], &[1]]);
        check("budget met", &[10, 8, 9], (30, 9), &[&[0, 2, 1]]);
        check("rows", &[5, 5, 5], (100, 2), &[&[0, 1], &[2]]);
        check("too long for any", &[200, 3], (100, 9), &[&[0], &[1]]);
        check("unlike", &[4, 40, 30, 29], (400, 9), &[&[1, 2], &[3], &[0]]);
        check("unlike, but little", &[4, 40, 30, 29], (16_000, 9), &[&[1, 2, 3, 0]]);
        check("no budget at all", &[1, 500, 20], (usize::MAX, 9), &[&[1, 2, 0]]);
    }

    /// Name, tokens, and when it came, in ms.
    type Arrival = (&'static str, usize, u64);

    #[test]
    fn what_leaves_first() {
        // Two lengths; a batch takes two of the long rows or four of the short ones.
        let check = |name: &str, rows: &[Arrival], now, expected: &[(&str, Closed)]| {
            let mut queue = TokenQueue::new(policy(40, 4, 100));
            for (row, tokens, since) in rows {
                queue.push(*row, *tokens, MS(*since)).unwrap();
            }
            let batches = std::iter::from_fn(|| queue.take(MS(now)));
            let found: Vec<_> = batches.map(|it| (it.rows.concat(), it.closed)).collect();
            let expected: Vec<_> = expected.iter().map(|(r, c)| ((*r).to_owned(), *c)).collect();
            assert_eq!(found, expected, "{name}");
        };
        use Closed::{Aged, Full, Idle};
        check("nothing", &[], 0, &[]);
        check("alone", &[("a", 9, 0)], 0, &[("a", Idle)]);
        let rows = [("a", 9, 0), ("b", 20, 10), ("c", 20, 20), ("d", 9, 30)];
        check("the full one", &rows, 50, &[("bc", Full), ("ad", Idle)]);
        check("the oldest, of age", &rows, 100, &[("ad", Aged), ("bc", Full)]);
        check("both of age", &rows, 110, &[("ad", Aged), ("bc", Aged)]);
        let rows = [("a", 20, 0), ("b", 9, 1), ("c", 9, 2), ("d", 20, 3), ("e", 9, 4), ("f", 9, 5)];
        check("of two full, the older", &rows, 9, &[("ad", Full), ("bcef", Full)]);
    }

    #[test]
    fn tells_what_it_cost() {
        let mut queue = TokenQueue::new(policy(1_000, 9, 100));
        for (row, tokens) in [("a", 10), ("b", 8), ("c", 9)] {
            queue.push(row, tokens, MS(5)).unwrap();
        }
        queue.retain(|row| *row != "c");
        let batch = queue.take(MS(25)).unwrap();
        assert_eq!((batch.waited, batch.tokens, batch.padding), (MS(20), 18, 2));
        assert!(queue.is_empty());
    }

    /// Lengths about as those of tweets: many short, few long.
    fn tokens() -> impl Strategy<Value = usize> {
        prop_oneof![8 => 3_usize..50, 2 => 50_usize..130]
    }

    proptest! {
        #[test]
        fn cuts_each_row_once_within_limits(
            tokens in prop::collection::vec(tokens(), 0..400),
            tokens_max in 1_usize..10_000,
            rows_max in 1_usize..200,
        ) {
            let limits = Limits { tokens_max, rows_max };
            let batches = cut(&tokens, limits);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..tokens.len()), "each row once");
            for batch in batches {
                let lengths: Vec<usize> = batch.iter().map(|row| tokens[*row]).collect();
                let padded = lengths[0] * lengths.len();
                prop_assert!(lengths.iter().all(|length| *length <= lengths[0]));
                prop_assert!(padded <= tokens_max || lengths.len() == 1);
                prop_assert!(lengths.len() <= rows_max);
                let padding = padded - lengths.iter().sum::<usize>();
                let small = tokens_max / SMALL_PART + lengths[0];
                prop_assert!(padding <= padded / 4 + small, "{padding} of {padded}");
                prop_assert_eq!(cut(&lengths, limits).len(), 1, "a batch stays one");
            }
        }

        /// Rows arrive, wait at the door while the queue is full, and are computed for as
        /// long as their tokens take.
        #[test]
        fn every_row_leaves_once_and_none_starves(
            arrivals in prop::collection::vec((0_u64..8, tokens()), 0..300),
            tokens_max in 50_usize..3_000,
            rows_max in 1_usize..60,
            wait_ms in 0_u64..200,
            queue_rows_max in 1_usize..100,
            tokens_per_ms in 1_u64..50,
        ) {
            let policy = TokenPolicy { queue_rows_max, ..policy(tokens_max, rows_max, wait_ms) };
            let mut queue = TokenQueue::new(policy);
            let mut coming: VecDeque<(usize, u64, usize)> = VecDeque::new();
            let mut at_ms = 0;
            for (row, (gap_ms, tokens)) in arrivals.iter().enumerate() {
                at_ms += gap_ms;
                coming.push_back((row, at_ms, *tokens));
            }
            let mut left = vec![false; arrivals.len()];
            // Batches that left before a row that was of age.
            let mut passed_by = vec![0; arrivals.len()];
            let mut now_ms = 0;
            loop {
                while let Some(&(row, at_ms, tokens)) = coming.front()
                    && at_ms <= now_ms
                    && queue.push((row, at_ms, tokens), tokens, MS(at_ms)).is_ok()
                {
                    coming.pop_front();
                }
                prop_assert!(queue.len() <= queue_rows_max);
                let waiting: Vec<usize> = queue.waiting.iter().map(|it| it.row.0).collect();
                let of_age: Vec<usize> = (queue.waiting.iter())
                    .filter(|it| it.since + policy.wait_max <= MS(now_ms))
                    .map(|it| it.row.0)
                    .collect();
                let Some(batch) = queue.take(MS(now_ms)) else {
                    let Some((_, at_ms, _)) = coming.front() else { break };
                    now_ms = *at_ms;
                    continue;
                };
                let padded = batch.tokens + batch.padding;
                prop_assert!(padded <= tokens_max || batch.rows.len() == 1);
                prop_assert!(batch.rows.len() <= rows_max);
                let lengths = batch.rows.iter().map(|(_, _, tokens)| *tokens);
                prop_assert_eq!(lengths.sum::<usize>(), batch.tokens);
                let leaving: Vec<usize> = batch.rows.iter().map(|(row, _, _)| *row).collect();
                prop_assert!(leaving.is_sorted(), "in the order in which they came");
                if let Some(oldest) = of_age.first() {
                    prop_assert_eq!(batch.closed, Closed::Aged);
                    prop_assert!(leaving.contains(oldest), "the oldest of age goes first");
                }
                for row in &leaving {
                    prop_assert!(waiting.contains(row) && !left[*row], "once");
                    left[*row] = true;
                }
                for row in of_age.into_iter().filter(|row| !leaving.contains(row)) {
                    passed_by[row] += 1;
                    // Each batch took at least one row that had come before this one.
                    prop_assert!(passed_by[row] <= row, "row {row} starves");
                }
                now_ms += (padded as u64).div_ceil(tokens_per_ms);
            }
            prop_assert!(left.into_iter().all(|left| left), "every row leaves");
        }

        #[test]
        fn little_is_padding(lengths in prop::collection::vec(tokens(), 900..1_000)) {
            let mut queue = TokenQueue::new(policy(2_048, 512, 100));
            for tokens in lengths {
                queue.push((), tokens, MS(0)).unwrap();
            }
            let batches: Vec<_> = std::iter::from_fn(|| queue.take(MS(0))).collect();
            let padding: usize = batches.iter().map(|batch| batch.padding).sum();
            let tokens: usize = batches.iter().map(|batch| batch.tokens).sum();
            prop_assert!(padding * 10 < tokens + padding, "{padding} beside {tokens}");
        }
    }
}
