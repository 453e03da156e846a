//! Which requests are let in; pure.
//!
//! **Invariant.** At most `rows_max` texts wait for the model at any time; a request that would exceed
//! it is refused at once, and told when there is probably room again. Deliberately absent: a clock, and
//! an order among requests: they are scored as they come.

use std::time::Duration;

/// Longest wait that a refused client is asked for, in seconds.
const RETRY_S_MAX: u64 = 30;
/// How much of the estimated pace comes from the last answer.
const WEIGHT: f64 = 0.2;

/// The texts that wait, and how fast they are answered.
#[derive(Debug)]
pub(super) struct Admission {
    rows_max: usize,
    rows: usize,
    /// Texts answered in a second, estimated; `None` before the first answer.
    pace: Option<f64>,
}

/// A request that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    rows: usize,
    /// Texts that waited when it came, its own included.
    waiting: usize,
}

/// A request that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Texts that wait.
    pub rows: usize,
    /// When half of them are probably answered, in seconds from now.
    pub retry_after_s: u64,
}

impl Admission {
    pub fn new(rows_max: usize) -> Self {
        Self { rows_max, rows: 0, pace: None }
    }

    /// Lets `rows` texts in.
    pub fn enter(&mut self, rows: usize) -> Result<Entry, Refused> {
        if self.rows + rows > self.rows_max {
            let half = self.rows as f64 / 2.0;
            let seconds = self.pace.map_or(1.0, |pace| (half / pace).ceil());
            let retry_after_s = (seconds as u64).clamp(1, RETRY_S_MAX);
            return Err(Refused { rows: self.rows, retry_after_s });
        }
        self.rows += rows;
        Ok(Entry { rows, waiting: self.rows })
    }

    /// Learns from a request that was answered after `took`.
    pub fn answered(&mut self, entry: Entry, took: Duration) {
        let pace = entry.waiting as f64 / took.as_secs_f64().max(1e-6);
        self.pace = Some(self.pace.map_or(pace, |before| before + WEIGHT * (pace - before)));
    }

    /// A request has gone, answered or not.
    pub fn leave(&mut self, entry: Entry) {
        self.rows -= entry.rows;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_would_wait_too_long() {
        let mut admission = Admission::new(10);
        let first = admission.enter(8).unwrap();
        assert_eq!(admission.enter(3), Err(Refused { rows: 8, retry_after_s: 1 }), "no pace yet");
        let second = admission.enter(2).unwrap();
        assert_eq!(second, Entry { rows: 2, waiting: 10 });
        assert!(admission.enter(1).is_err(), "full");
        admission.leave(first);
        assert!(admission.enter(8).is_ok(), "there is room again");
    }

    #[test]
    fn says_when_half_of_them_are_answered() {
        let check = |took_ms, expected| {
            let mut admission = Admission::new(100);
            let entry = admission.enter(100).unwrap();
            admission.answered(entry, Duration::from_millis(took_ms));
            assert_eq!(admission.enter(1).unwrap_err().retry_after_s, expected, "{took_ms} ms");
        };
        check(0, 1);
        check(1_000, 1);
        check(9_000, 5);
        check(3_600_000, RETRY_S_MAX);
    }

    #[test]
    fn the_pace_follows_slowly() {
        let mut admission = Admission::new(100);
        let entry = admission.enter(100).unwrap();
        admission.answered(entry, Duration::from_secs(10));
        admission.answered(entry, Duration::from_secs(1));
        assert_eq!(admission.pace, Some(28.0), "10, then a fifth of the way to 100");
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            rows_max in 1_usize..50,
            events in prop::collection::vec((1_usize..20, any::<bool>()), 0..200),
        ) {
            let mut admission = Admission::new(rows_max);
            let mut inside: Vec<Entry> = Vec::new();
            for (rows, leaves) in events {
                if leaves && !inside.is_empty() {
                    admission.leave(inside.remove(rows % inside.len()));
                }
                let waiting: usize = inside.iter().map(|entry| entry.rows).sum();
                match admission.enter(rows) {
                    Ok(entry) => inside.push(entry),
                    Err(refused) => prop_assert!(waiting + rows > rows_max && refused.rows == waiting),
                }
                prop_assert!(admission.rows <= rows_max);
            }
            inside.into_iter().for_each(|entry| admission.leave(entry));
            prop_assert_eq!(admission.rows, 0);
        }
    }
}
