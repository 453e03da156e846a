//! Who is learned from, who decides when to stop, who is held out.
//!
//! **Invariant.** Sides depend on the seed and the rows alone. By user, a row's side
//! depends on its author (on its text where the author is unknown), so nobody stands on
//! two sides, and adding rows moves nobody. Deliberately absent: stratification; with
//! thousands of rows the shares agree anyway.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use monitor_core::text::unit_interval;

use super::Row;

/// Share of rows held out.
const HELD_OUT: f64 = 0.2;
/// Share of rows to validate on, out of the others.
const VALIDATION: f64 = 0.05;

/// How rows are parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// No author on two sides; rows without an author by their text
    User,
    /// Each row by itself
    Random,
    /// The latest rows held out, those before them to validate; rows without a date are
    /// learned from
    Time,
}

impl SplitBy {
    /// The word for it in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Random => "random",
            Self::Time => "time",
        }
    }
}

/// Rows of the three sides, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split<'a> {
    /// Learned from.
    pub train: Vec<&'a Row>,
    /// Decide when to stop.
    pub validation: Vec<&'a Row>,
    /// Measured on, once.
    pub held_out: Vec<&'a Row>,
}

/// Parts rows: 20 % held out, 5 % of the rest to validate. By time, of the rows with a date.
pub fn split(rows: &[Row], by: SplitBy, seed: u64) -> Split<'_> {
    let mut dates: Vec<DateTime<Utc>> = rows.iter().filter_map(|row| row.created_at).collect();
    dates.sort_unstable();
    let mut sides = Split::default();
    for row in rows {
        // From the end of the time, or of the interval that the seed and the key draw from.
        let place = match by {
            SplitBy::User if row.user.is_empty() => {
                unit_interval(seed, &format!("text {}", row.text))
            }
            SplitBy::User => unit_interval(seed, &format!("user {}", row.user.to_lowercase())),
            SplitBy::Random => unit_interval(seed, &format!("row {} {}", row.user, row.text)),
            SplitBy::Time => row.created_at.map_or(1.0, |at| {
                let later = dates.len() - dates.partition_point(|date| *date <= at);
                later as f64 / dates.len() as f64
            }),
        };
        if place < HELD_OUT {
            sides.held_out.push(row);
        } else if place < HELD_OUT + (1.0 - HELD_OUT) * VALIDATION {
            sides.validation.push(row);
        } else {
            sides.train.push(row);
        }
    }
    sides
}

/// Parts `own` rows as [`split`] does, and learns from `also`, but from none of its rows by an
/// author, or of a time, that is validated or held out.
pub(crate) fn split_with_further_rows<'a>(
    own: &'a [Row],
    also: &'a [Row],
    by: SplitBy,
    seed: u64,
) -> Split<'a> {
    let mut sides = split(own, by, seed);
    let kept_back = || sides.validation.iter().chain(&sides.held_out);
    let users: HashSet<String> = kept_back().map(|row| row.user.to_lowercase()).collect();
    let earliest = kept_back().filter_map(|row| row.created_at).min();
    let leaks = |row: &&Row| match by {
        SplitBy::User => !row.user.is_empty() && users.contains(&row.user.to_lowercase()),
        SplitBy::Random => false,
        SplitBy::Time => row.created_at.zip(earliest).is_some_and(|(at, from)| at >= from),
    };
    let sound: Vec<&Row> = also.iter().filter(|row| !leaks(row)).collect();
    if sound.len() < also.len() {
        let left_out = also.len() - sound.len();
        eprintln!("{left_out} further rows are by authors, or of a time, held out: left out");
    }
    sides.train.extend(sound);
    sides
}

/// Rows to fit on, and rows to report on: halves, by text.
pub(crate) fn halves<'a>(rows: impl IntoIterator<Item = &'a Row>) -> (Vec<&'a Row>, Vec<&'a Row>) {
    rows.into_iter().partition(|row| unit_interval(0, &row.text) < 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        (0..20_000)
            .map(|n| Row {
                negative: n % 2 == 0,
                user: if n % 3 == 0 { String::new() } else { format!("user{}", n % 4_000) },
                text: format!("text {n}"),
                created_at: (n % 4 > 0).then(|| {
                    DateTime::from_timestamp(1_240_000_000 + n * 7_919 % 20_000, 0).unwrap()
                }),
                weight: 1.0,
            })
            .collect()
    }

    fn users(rows: &[&Row]) -> HashSet<String> {
        rows.iter().filter(|row| !row.user.is_empty()).map(|row| row.user.clone()).collect()
    }

    #[test]
    fn shares_and_seeds() {
        let rows = rows();
        for by in [SplitBy::User, SplitBy::Random, SplitBy::Time] {
            let sides = split(&rows, by, 7);
            let dated = rows.iter().filter(|row| row.created_at.is_some()).count();
            let whole = if by == SplitBy::Time { dated } else { rows.len() };
            let share = sides.held_out.len() as f64 / whole as f64;
            assert!((share - 0.2).abs() < 0.02, "{by:?}: {share}");
            let share = sides.validation.len() as f64 / whole as f64;
            assert!((share - 0.04).abs() < 0.01, "{by:?}: {share}");
            let all = sides.train.len() + sides.validation.len() + sides.held_out.len();
            assert_eq!(all, rows.len(), "{by:?}");
            assert_eq!(split(&rows, by, 7), sides, "{by:?}: same seed, same sides");
            assert_eq!(split(&rows, by, 8) == sides, by == SplitBy::Time, "{by:?}");
        }
    }

    #[test]
    fn nobody_stands_on_two_sides() {
        let rows = rows();
        let sides = split(&rows, SplitBy::User, 7);
        let (train, validation, held) =
            (users(&sides.train), users(&sides.validation), users(&sides.held_out));
        assert!(train.is_disjoint(&held) && train.is_disjoint(&validation));
        assert!(validation.is_disjoint(&held));
        let sides = split(&rows, SplitBy::Random, 7);
        assert!(!users(&sides.train).is_disjoint(&users(&sides.held_out)));
    }

    #[test]
    fn further_rows_tell_nothing_of_those_held_out() {
        let rows = rows();
        let (own, also) = rows.split_at(10_000);
        for by in [SplitBy::User, SplitBy::Time] {
            let (alone, sides) = (split(own, by, 7), split_with_further_rows(own, also, by, 7));
            assert_eq!((&alone.validation, &alone.held_out), (&sides.validation, &sides.held_out));
            let added = sides.train.len() - alone.train.len();
            assert!(added > 1_000 && added < also.len(), "{by:?}: {added}");
            match by {
                SplitBy::User => {
                    assert!(users(&sides.train).is_disjoint(&users(&sides.held_out)));
                }
                _ => {
                    let latest = sides.train.iter().filter_map(|row| row.created_at).max();
                    assert!(latest < sides.held_out.iter().filter_map(|row| row.created_at).min());
                }
            }
        }
        assert_eq!(
            split_with_further_rows(own, also, SplitBy::Random, 7).train.len(),
            split(own, SplitBy::Random, 7).train.len() + also.len()
        );
    }

    #[test]
    fn the_latest_are_held_out() {
        let rows = rows();
        let sides = split(&rows, SplitBy::Time, 7);
        let dates =
            |rows: &[&Row]| -> Vec<_> { rows.iter().filter_map(|r| r.created_at).collect() };
        let (train, validation, held) =
            (dates(&sides.train), dates(&sides.validation), dates(&sides.held_out));
        assert!(train.iter().max() < validation.iter().min());
        assert!(validation.iter().max() < held.iter().min());
        assert_eq!(held.len(), sides.held_out.len(), "rows without a date are learned from");
    }
}
