//! Two kinds of rows share one model: those of the stream, and those of callers who wait for an
//! answer; pure.
//!
//! **Invariant.** While both kinds wait, passes alternate between them, so at least every second
//! pass is the stream's, and a caller's row never waits for more passes of the stream than of its
//! own kind, plus the one in progress. While callers ask, and for [`ATTENTIVE`] after the last one,
//! a pass has at most one part in [`PARTS`] of its usual limits, so that the pass in progress is
//! short. Without callers, nothing differs from a [`PassQueue`].
//! Deliberately absent: how many rows callers may have waiting; whoever admits them decides.

use std::time::Duration;

use super::{Pass, PassLimits, PassPolicy, PassQueue};

/// How long after a caller's row came passes stay short.
pub const ATTENTIVE: Duration = Duration::from_secs(5);
/// A short pass has one in this many of the tokens and rows of a usual one. On two cores, a pass
/// of a transformer then takes tens of milliseconds, and costs less than 1 % more for each row.
pub const PARTS: usize = 8;

/// Which kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Of the stream.
    Stream,
    /// Of callers who wait for an answer.
    Callers,
}

/// Rows that wait for the model, of both kinds.
#[derive(Debug)]
pub struct LaneQueue<T> {
    limits: PassLimits,
    stream: PassQueue<T>,
    callers: PassQueue<T>,
    /// Whose rows the last pass had.
    last: Lane,
    /// When the last caller's row came.
    asked: Option<Duration>,
}

impl<T> LaneQueue<T> {
    /// An empty queue. `queue_rows_max` of the policy is the limit of the stream's rows.
    pub fn new(policy: PassPolicy) -> Self {
        let callers = PassPolicy { queue_rows_max: usize::MAX, ..policy };
        Self {
            limits: policy.limits,
            stream: PassQueue::new(policy),
            callers: PassQueue::new(callers),
            last: Lane::Stream,
            asked: None,
        }
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.stream.len() + self.callers.len()
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.stream.is_empty() && self.callers.is_empty()
    }

    /// Changes the token budget, from the next pass on.
    pub fn set_tokens_max(&mut self, tokens_max: usize) {
        self.limits.tokens_max = tokens_max;
    }

    /// Adds a row of `tokens` tokens that has waited since `since`.
    ///
    /// # Errors
    /// Returns a row of the stream if as many as allowed already wait.
    pub fn push(&mut self, lane: Lane, row: T, tokens: usize, since: Duration) -> Result<(), T> {
        if lane == Lane::Callers {
            self.asked = self.asked.max(Some(since));
        }
        self.lane_mut(lane).push(row, tokens, since)
    }

    /// Drops the rows that are no longer wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.stream.retain(&mut wanted);
        self.callers.retain(&mut wanted);
    }

    /// The pass to compute at time `now`, and whose rows it has; `None` if no row waits.
    pub fn next_pass(&mut self, now: Duration) -> Option<(Lane, Pass)> {
        let lane = match (self.stream.is_empty(), self.callers.is_empty()) {
            (true, true) => return None,
            (false, true) => Lane::Stream,
            (true, false) => Lane::Callers,
            (false, false) if self.last == Lane::Stream => Lane::Callers,
            (false, false) => Lane::Stream,
        };
        let attentive = !self.callers.is_empty()
            || self.asked.is_some_and(|asked| now.saturating_sub(asked) < ATTENTIVE);
        let limits = if attentive { part(self.limits) } else { self.limits };
        let queue = self.lane_mut(lane);
        queue.set_limits(limits);
        queue.next_pass(now).map(|pass| (lane, pass))
    }

    /// The rows of a pass, in the order in which they came.
    pub fn rows(&self, lane: Lane, pass: &Pass) -> impl Iterator<Item = &T> {
        match lane {
            Lane::Stream => &self.stream,
            Lane::Callers => &self.callers,
        }
        .rows(pass)
    }

    /// Takes the rows of a pass out of the queue, as [`PassQueue::remove`]. A pass that is not
    /// taken out, because it failed, does not end its kind's turn.
    pub fn remove(&mut self, lane: Lane, pass: &Pass) -> Vec<T> {
        self.last = lane;
        self.lane_mut(lane).remove(pass)
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut PassQueue<T> {
        match lane {
            Lane::Stream => &mut self.stream,
            Lane::Callers => &mut self.callers,
        }
    }
}

/// The limits of a short pass.
fn part(limits: PassLimits) -> PassLimits {
    let of = |whole: usize| (whole / PARTS).max(1);
    // No limit stays none: such a model does not pad, and its rows are limited.
    let tokens_max = match limits.tokens_max {
        usize::MAX => usize::MAX,
        tokens_max => of(tokens_max),
    };
    PassLimits { tokens_max, rows_max: of(limits.rows_max) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Passes of 8 rows, or of 1 while callers ask.
    fn queue<T>() -> LaneQueue<T> {
        let limits = PassLimits { tokens_max: 80, rows_max: 8 };
        LaneQueue::new(PassPolicy { limits, wait_max: MS(100), queue_rows_max: 1_000 })
    }

    /// The rows of the passes from `now_ms` on, until none wait.
    fn passes(queue: &mut LaneQueue<&'static str>, now_ms: u64) -> Vec<(Lane, String)> {
        std::iter::from_fn(|| {
            let (lane, pass) = queue.next_pass(MS(now_ms))?;
            Some((lane, queue.remove(lane, &pass).concat()))
        })
        .collect()
    }

    #[test]
    fn kinds_take_turns() {
        use Lane::{Callers, Stream};
        let check = |name, stream: &[&'static str], callers: &[&'static str], expected: &[_]| {
            let mut queue = queue();
            for row in stream {
                queue.push(Stream, *row, 10, MS(0)).unwrap();
            }
            for row in callers {
                queue.push(Callers, *row, 10, MS(1)).unwrap();
            }
            assert_eq!(queue.len(), stream.len() + callers.len(), "{name}");
            let expected: Vec<_> = expected
                .iter()
                .map(|(lane, rows): &(Lane, &str)| (*lane, (*rows).into()))
                .collect();
            assert_eq!(passes(&mut queue, 2), expected, "{name}");
            assert!(queue.is_empty(), "{name}");
        };
        check("nothing", &[], &[], &[]);
        check("the stream alone: one pass", &["a", "b", "c"], &[], &[(Stream, "abc")]);
        check("callers alone: short passes", &[], &["x", "y"], &[(Callers, "x"), (Callers, "y")]);
        check(
            "both: in turn, callers first",
            &["a", "b", "c"],
            &["x", "y"],
            &[(Callers, "x"), (Stream, "a"), (Callers, "y"), (Stream, "b"), (Stream, "c")],
        );
    }

    #[test]
    fn passes_stay_short_for_a_while_after_a_caller() {
        let mut queue = queue();
        queue.push(Lane::Callers, "x", 10, MS(0)).unwrap();
        assert_eq!(passes(&mut queue, 0).len(), 1);
        let fill = |queue: &mut LaneQueue<_>| {
            for row in ["a", "b"] {
                queue.push(Lane::Stream, row, 10, MS(1)).unwrap();
            }
        };
        fill(&mut queue);
        assert_eq!(passes(&mut queue, 4_999).len(), 2, "another caller may come");
        fill(&mut queue);
        assert_eq!(passes(&mut queue, 5_000).len(), 1, "nobody has asked for long");
    }

    #[test]
    fn a_failed_pass_keeps_its_turn() {
        let mut queue = queue();
        queue.push(Lane::Stream, "a", 10, MS(0)).unwrap();
        queue.push(Lane::Callers, "x", 10, MS(0)).unwrap();
        let (first, pass) = queue.next_pass(MS(0)).unwrap();
        assert_eq!(queue.rows(first, &pass).copied().collect::<String>(), "x");
        queue.set_tokens_max(40);
        assert_eq!(queue.next_pass(MS(0)).unwrap().0, first, "its rows still wait");
        queue.retain(|row| *row != "x");
        assert_eq!(passes(&mut queue, 0), [(Lane::Stream, "a".to_owned())]);
    }

    #[test]
    fn a_model_without_a_budget_of_tokens_has_short_passes_too() {
        let limits = PassLimits { tokens_max: usize::MAX, rows_max: 64 };
        assert_eq!(part(limits), PassLimits { tokens_max: usize::MAX, rows_max: 8 });
        assert_eq!(
            part(PassLimits { tokens_max: 4, rows_max: 1 }),
            PassLimits { tokens_max: 1, rows_max: 1 }
        );
    }

    proptest! {
        /// Rows of both kinds come and are computed. While both wait, no kind gets two passes in a
        /// row, and every row leaves once.
        #[test]
        fn neither_kind_starves(
            arrivals in prop::collection::vec((any::<bool>(), 1_usize..60, 0_u64..20), 0..200),
        ) {
            let mut queue = queue();
            let (mut left, mut now) = (0, 0);
            let mut before: Option<Lane> = None;
            let mut coming = arrivals.iter().enumerate().peekable();
            loop {
                while let Some((row, (stream, tokens, gap))) = coming.next_if(|(row, _)| *row <= 2 * left) {
                    now += gap;
                    let lane = if *stream { Lane::Stream } else { Lane::Callers };
                    prop_assert!(queue.push(lane, row, *tokens, MS(now)).is_ok());
                }
                let both = !queue.stream.is_empty() && !queue.callers.is_empty();
                let Some((lane, pass)) = queue.next_pass(MS(now)) else { break };
                prop_assert!(!both || before != Some(lane), "{lane:?} twice");
                let callers = !queue.callers.is_empty();
                let rows = queue.remove(lane, &pass).len();
                prop_assert!(rows > 0 && (!callers || rows == 1), "short while callers wait");
                left += rows;
                before = Some(lane);
                now += 1;
            }
            prop_assert_eq!(left, arrivals.len());
        }
    }
}
