//! Which rows the model computes in one pass; pure.
//!
//! **Invariant.** Each row leaves once. Rows times the longest of them stay within
//! `tokens_max`, unless a single row is longer. A row as old as `wait_max` leaves after at
//! most one pass for each row older than it. At most `queue_rows_max` rows wait.
//! Deliberately absent: waiting for more rows. An idle model takes the rows that wait, so
//! passes grow with the load and a quiet stream has no extra delay. Also absent: planning by
//! dynamic programming, which pads only slightly less than a greedy cut of sorted rows.

use std::cmp::Reverse;
use std::time::Duration;

/// A pass takes rows that have at least this share of the tokens of its longest row.
const LENGTH_RATIO_MIN: f64 = 0.75;
/// A pass that uses less than this part of its budget costs mostly overhead, so it takes
/// shorter rows too.
const SMALL_PART: usize = 16;

/// The limits of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassLimits {
    /// Rows times the tokens of the longest; a longer row is computed alone.
    pub tokens_max: usize,
    /// Rows.
    pub rows_max: usize,
}

impl PassLimits {
    /// Whether `rows` rows, the longest of `longest` tokens, leave no room for one more.
    fn are_met(self, rows: usize, longest: usize) -> bool {
        rows >= self.rows_max || longest.saturating_mul(rows + 1) > self.tokens_max
    }
}

/// Cuts rows of these lengths into passes of similar length, longest first. Returns
/// indices into `tokens`. Planning the rows of one pass again gives the same single pass.
pub fn plan_passes(tokens: &[usize], limits: PassLimits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|row| Reverse(tokens[*row]));
    let mut passes: Vec<Vec<usize>> = Vec::new();
    for row in order {
        if let Some(pass) = passes.last_mut() {
            let longest = tokens[pass[0]];
            let similar = tokens[row] as f64 >= LENGTH_RATIO_MIN * longest as f64;
            let small = longest * pass.len() < limits.tokens_max / SMALL_PART;
            if !limits.are_met(pass.len(), longest) && (similar || small) {
                pass.push(row);
                continue;
            }
        }
        passes.push(vec![row]);
    }
    passes
}

/// How rows wait and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassPolicy {
    /// The limits of one pass.
    pub limits: PassLimits,
    /// A row of this age goes before fuller passes.
    pub wait_max: Duration,
    /// Largest number of waiting rows.
    pub queue_rows_max: usize,
}

/// Why these rows are computed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassReason {
    /// The pass is full.
    Full,
    /// The oldest row has waited long enough.
    Aged,
    /// The model is idle, and no pass is full.
    Idle,
}

/// The rows to compute in one pass. They stay in the queue until [`PassQueue::remove`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Positions in the queue, ascending.
    places: Vec<usize>,
    /// Why these rows are computed now.
    pub reason: PassReason,
    /// How long the oldest row has waited.
    pub waited: Duration,
    /// Tokens of all rows.
    pub tokens: usize,
    /// Tokens that pad the rows to the longest.
    pub padding: usize,
}

/// Rows that wait for the model.
#[derive(Debug)]
pub struct PassQueue<T> {
    policy: PassPolicy,
    /// In the order in which they came.
    waiting: Vec<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    row: T,
    tokens: usize,
    since: Duration,
}

impl<T> PassQueue<T> {
    /// An empty queue.
    pub fn new(policy: PassPolicy) -> Self {
        Self { policy, waiting: Vec::new() }
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Changes the limits, from the next pass on.
    pub fn set_limits(&mut self, limits: PassLimits) {
        self.policy.limits = limits;
    }

    /// Adds a row of `tokens` tokens that has waited since `since`.
    ///
    /// # Errors
    /// Returns the row if `queue_rows_max` rows already wait.
    pub fn push(&mut self, row: T, tokens: usize, since: Duration) -> Result<(), T> {
        if self.waiting.len() >= self.policy.queue_rows_max {
            return Err(row);
        }
        self.waiting.push(Waiting { row, tokens, since });
        Ok(())
    }

    /// Drops the rows that are no longer wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.waiting.retain(|waiting| wanted(&waiting.row));
    }

    /// The pass to compute at time `now`: the one with the oldest row if that row has waited
    /// `wait_max`, else a full one, else the one with the oldest row; `None` if no row waits.
    pub fn next_pass(&self, now: Duration) -> Option<Pass> {
        let lengths: Vec<usize> = self.waiting.iter().map(|waiting| waiting.tokens).collect();
        let mut passes = plan_passes(&lengths, self.policy.limits);
        let first = |pass: &Vec<usize>| pass.iter().copied().min();
        let waited = |row: usize| now.saturating_sub(self.waiting[row].since);
        let oldest = passes.iter().position(|pass| first(pass) == Some(0))?;
        let full = (0..passes.len())
            .filter(|at| self.policy.limits.are_met(passes[*at].len(), lengths[passes[*at][0]]))
            .min_by_key(|at| first(&passes[*at]));
        let (chosen, reason) = match full {
            _ if waited(0) >= self.policy.wait_max => (oldest, PassReason::Aged),
            Some(full) => (full, PassReason::Full),
            None => (oldest, PassReason::Idle),
        };
        let mut places = passes.swap_remove(chosen);
        let waited = places.iter().map(|row| waited(*row)).max().unwrap_or_default();
        let tokens = places.iter().map(|row| lengths[*row]).sum();
        let padding = places.len() * lengths[places[0]] - tokens;
        places.sort_unstable();
        Some(Pass { places, reason, waited, tokens, padding })
    }

    /// The rows of a pass, in the order in which they came.
    pub fn rows(&self, pass: &Pass) -> impl Iterator<Item = &T> {
        pass.places.iter().map(|place| &self.waiting[*place].row)
    }

    /// Takes the rows of a pass out of the queue, in the order in which they came. The queue
    /// must not have changed since [`PassQueue::next_pass`].
    pub fn remove(&mut self, pass: &Pass) -> Vec<T> {
        let mut places = pass.places.iter().copied().peekable();
        let mut at = 0..;
        let mut leaves = |_: &mut Waiting<T>| {
            places.next_if_eq(&at.next().expect("an infinite range")).is_some()
        };
        self.waiting.extract_if(.., &mut leaves).map(|waiting| waiting.row).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn policy(tokens_max: usize, rows_max: usize, wait_ms: u64) -> PassPolicy {
        let limits = PassLimits { tokens_max, rows_max };
        PassPolicy { limits, wait_max: MS(wait_ms), queue_rows_max: 1_000 }
    }

    /// Removes the next pass.
    fn take<T>(queue: &mut PassQueue<T>, now_ms: u64) -> Option<(Pass, Vec<T>)> {
        let pass = queue.next_pass(MS(now_ms))?;
        let rows = queue.remove(&pass);
        Some((pass, rows))
    }

    #[test]
    fn plans_passes_of_similar_length() {
        let check =
            |name: &str, tokens: &[usize], limits: (usize, usize), expected: &[&[usize]]| {
                let limits = PassLimits { tokens_max: limits.0, rows_max: limits.1 };
                assert_eq!(plan_passes(tokens, limits), expected, "{name}");
            };
        check("nothing", &[], (100, 9), &[]);
        check("budget, padding counted", &[10, 8, 9], (29, 9), &[&[0, 2], &[1]]);
        check("budget met", &[10, 8, 9], (30, 9), &[&[0, 2, 1]]);
        check("rows", &[5, 5, 5], (100, 2), &[&[0, 1], &[2]]);
        check("longer than the budget", &[200, 3], (100, 9), &[&[0], &[1]]);
        check("different lengths", &[4, 40, 30, 29], (400, 9), &[&[1, 2], &[3], &[0]]);
        check("different lengths, small pass", &[4, 40, 30, 29], (16_000, 9), &[&[1, 2, 3, 0]]);
        check("unlimited budget", &[1, 500, 20], (usize::MAX, 9), &[&[1, 2, 0]]);
    }

    /// Name, tokens, and when it came, in ms.
    type Arrival = (&'static str, usize, u64);

    #[test]
    fn chooses_aged_before_full_before_idle() {
        // Two lengths; a pass takes two of the long rows or four of the short ones.
        let check = |name: &str, rows: &[Arrival], now, expected: &[(&str, PassReason)]| {
            let mut queue = PassQueue::new(policy(40, 4, 100));
            for (row, tokens, since) in rows {
                queue.push(*row, *tokens, MS(*since)).unwrap();
            }
            let passes = std::iter::from_fn(|| take(&mut queue, now));
            let found: Vec<_> = passes.map(|(pass, rows)| (rows.concat(), pass.reason)).collect();
            let expected: Vec<_> = expected.iter().map(|(r, c)| ((*r).to_owned(), *c)).collect();
            assert_eq!(found, expected, "{name}");
        };
        use PassReason::{Aged, Full, Idle};
        check("nothing", &[], 0, &[]);
        check("alone", &[("a", 9, 0)], 0, &[("a", Idle)]);
        let rows = [("a", 9, 0), ("b", 20, 10), ("c", 20, 20), ("d", 9, 30)];
        check("the full one", &rows, 50, &[("bc", Full), ("ad", Idle)]);
        check("the oldest, aged", &rows, 100, &[("ad", Aged), ("bc", Full)]);
        check("both aged", &rows, 110, &[("ad", Aged), ("bc", Aged)]);
        let rows = [("a", 20, 0), ("b", 9, 1), ("c", 9, 2), ("d", 20, 3), ("e", 9, 4), ("f", 9, 5)];
        check("two full: the older", &rows, 9, &[("ad", Full), ("bcef", Full)]);
    }

    #[test]
    fn reports_wait_tokens_and_padding() {
        let mut queue = PassQueue::new(policy(1_000, 9, 100));
        for (row, tokens) in [("a", 10), ("b", 8), ("c", 9)] {
            queue.push(row, tokens, MS(5)).unwrap();
        }
        queue.retain(|row| *row != "c");
        let (pass, rows) = take(&mut queue, 25).unwrap();
        assert_eq!((pass.waited, pass.tokens, pass.padding), (MS(20), 18, 2));
        assert_eq!(rows, ["a", "b"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_smaller_budget_cuts_waiting_rows_again() {
        let mut queue = PassQueue::new(policy(1_000, 9, 100));
        for row in ["a", "b", "c", "d"] {
            queue.push(row, 10, MS(0)).unwrap();
        }
        let failed = queue.next_pass(MS(0)).unwrap();
        assert_eq!(queue.rows(&failed).count(), 4);
        assert_eq!(queue.len(), 4, "rows stay until they are removed");
        queue.set_limits(PassLimits { tokens_max: 20, rows_max: 9 });
        let passes = std::iter::from_fn(|| take(&mut queue, 0));
        assert_eq!(passes.map(|(_, rows)| rows.concat()).collect::<Vec<_>>(), ["ab", "cd"]);
    }

    /// Lengths similar to those of tweets: many short, few long.
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
            let limits = PassLimits { tokens_max, rows_max };
            let passes = plan_passes(&tokens, limits);
            let mut seen: Vec<usize> = passes.concat();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..tokens.len()), "each row once");
            for pass in passes {
                let lengths: Vec<usize> = pass.iter().map(|row| tokens[*row]).collect();
                let padded = lengths[0] * lengths.len();
                prop_assert!(lengths.iter().all(|length| *length <= lengths[0]));
                prop_assert!(padded <= tokens_max || lengths.len() == 1);
                prop_assert!(lengths.len() <= rows_max);
                let padding = padded - lengths.iter().sum::<usize>();
                let small = tokens_max / SMALL_PART + lengths[0];
                prop_assert!(padding <= padded / 4 + small, "{padding} of {padded}");
                prop_assert_eq!(plan_passes(&lengths, limits).len(), 1, "a pass stays one");
            }
        }

        /// Rows arrive, wait outside while the queue is full, and are computed at a fixed
        /// rate of tokens.
        #[test]
        fn every_row_leaves_once_and_none_starves(
            arrivals in prop::collection::vec((0_u64..8, tokens()), 0..300),
            tokens_max in 50_usize..3_000,
            rows_max in 1_usize..60,
            wait_ms in 0_u64..200,
            queue_rows_max in 1_usize..100,
            tokens_per_ms in 1_u64..50,
        ) {
            let policy = PassPolicy { queue_rows_max, ..policy(tokens_max, rows_max, wait_ms) };
            let mut queue = PassQueue::new(policy);
            let mut coming: VecDeque<(usize, u64, usize)> = VecDeque::new();
            let mut at_ms = 0;
            for (row, (gap_ms, tokens)) in arrivals.iter().enumerate() {
                at_ms += gap_ms;
                coming.push_back((row, at_ms, *tokens));
            }
            let mut left = vec![false; arrivals.len()];
            // Passes that left before a row that had waited `wait_max`.
            let mut overtaken = vec![0; arrivals.len()];
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
                let aged: Vec<usize> = (queue.waiting.iter())
                    .filter(|it| it.since + policy.wait_max <= MS(now_ms))
                    .map(|it| it.row.0)
                    .collect();
                let Some((pass, rows)) = take(&mut queue, now_ms) else {
                    let Some((_, at_ms, _)) = coming.front() else { break };
                    now_ms = *at_ms;
                    continue;
                };
                let padded = pass.tokens + pass.padding;
                prop_assert!(padded <= tokens_max || rows.len() == 1);
                prop_assert!(rows.len() <= rows_max);
                let lengths = rows.iter().map(|(_, _, tokens)| *tokens);
                prop_assert_eq!(lengths.sum::<usize>(), pass.tokens);
                let leaving: Vec<usize> = rows.iter().map(|(row, _, _)| *row).collect();
                prop_assert!(leaving.is_sorted(), "in the order in which they came");
                if let Some(oldest) = aged.first() {
                    prop_assert_eq!(pass.reason, PassReason::Aged);
                    prop_assert!(leaving.contains(oldest), "the oldest aged row goes first");
                }
                for row in &leaving {
                    prop_assert!(waiting.contains(row) && !left[*row], "once");
                    left[*row] = true;
                }
                for row in aged.into_iter().filter(|row| !leaving.contains(row)) {
                    overtaken[row] += 1;
                    // Each pass took at least one row that had come before this one.
                    prop_assert!(overtaken[row] <= row, "row {row} starves");
                }
                now_ms += (padded as u64).div_ceil(tokens_per_ms);
            }
            prop_assert!(left.into_iter().all(|left| left), "every row leaves");
        }

        #[test]
        fn little_is_padding(lengths in prop::collection::vec(tokens(), 900..1_000)) {
            let mut queue = PassQueue::new(policy(2_048, 512, 100));
            for tokens in lengths {
                queue.push((), tokens, MS(0)).unwrap();
            }
            let passes: Vec<Pass> =
                std::iter::from_fn(|| take(&mut queue, 0)).map(|(pass, _)| pass).collect();
            let padding: usize = passes.iter().map(|pass| pass.padding).sum();
            let tokens: usize = passes.iter().map(|pass| pass.tokens).sum();
            prop_assert!(padding * 10 < tokens + padding, "{padding} of {tokens}");
        }
    }
}
