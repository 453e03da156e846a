//! Splits rows into training, validation and held-out sets.
//!
//! **Invariant.** The split depends only on the seed and the rows. With the split by user, a
//! row's set depends on its author (on its text if the author is unknown), so no author is in
//! two sets, and adding rows moves no author. Deliberately absent: stratification; with
//! thousands of rows the class shares are equal anyway.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use monitor_core::text::unit_interval;

use super::{Row, RowSet};

/// Share of rows held out.
const HELD_OUT: f64 = 0.2;
/// Share of the other rows used for validation.
const VALIDATION: f64 = 0.05;

/// How rows are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// No author in two sets; rows without an author by their text
    User,
    /// Each row by itself
    Random,
    /// The latest rows held out, those before them for validation; rows without a date are in
    /// the training set
    Time,
    /// As the column `split` of the file says (train, val or dev, test); other rows are in the
    /// training set
    File,
}

impl SplitBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Random, Self::Time, Self::File];

    /// Its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Random => "random",
            Self::Time => "time",
            Self::File => "file",
        }
    }
}

/// The three sets, each in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split<'a> {
    /// Training set.
    pub train: Vec<&'a Row>,
    /// Validation set: decides when to stop.
    pub validation: Vec<&'a Row>,
    /// Held-out set: measured on once.
    pub held_out: Vec<&'a Row>,
}

impl<'a> Split<'a> {
    /// The held-out rows of one of the training files.
    pub fn held_out_of(&self, source: usize) -> Vec<&'a Row> {
        self.held_out.iter().copied().filter(|row| row.source == source).collect()
    }
}

/// Splits rows: 20 % held out, 5 % of the rest for validation; with the split by time, of the
/// rows that have a date; with that of the file, as it says.
pub fn split(rows: &[Row], by: SplitBy, seed: u64) -> Split<'_> {
    let mut dates: Vec<DateTime<Utc>> = rows.iter().filter_map(|row| row.created_at).collect();
    dates.sort_unstable();
    let mut sets = Split::default();
    for row in rows {
        // In 0..1: by time, the share of later rows; else a pseudorandom number.
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
            SplitBy::File => match row.set {
                Some(RowSet::HeldOut) => 0.0,
                Some(RowSet::Validation) => HELD_OUT,
                Some(RowSet::Training) | None => 1.0,
            },
        };
        if place < HELD_OUT {
            sets.held_out.push(row);
        } else if place < HELD_OUT + (1.0 - HELD_OUT) * VALIDATION {
            sets.validation.push(row);
        } else {
            sets.train.push(row);
        }
    }
    sets
}

/// Splits `own` rows as [`split`] does and adds the rows of `also` to the training set, except
/// those whose author or time is in the validation or held-out set.
pub(crate) fn split_with_further_rows<'a>(
    own: &'a [Row],
    also: &'a [Row],
    by: SplitBy,
    seed: u64,
) -> Split<'a> {
    let mut sets = split(own, by, seed);
    let kept_back = || sets.validation.iter().chain(&sets.held_out);
    let users: HashSet<String> = kept_back().map(|row| row.user.to_lowercase()).collect();
    let earliest = kept_back().filter_map(|row| row.created_at).min();
    let leaks = |row: &&Row| match by {
        SplitBy::User => !row.user.is_empty() && users.contains(&row.user.to_lowercase()),
        SplitBy::Random | SplitBy::File => false,
        SplitBy::Time => row.created_at.zip(earliest).is_some_and(|(at, from)| at >= from),
    };
    let sound: Vec<&Row> = also.iter().filter(|row| !leaks(row)).collect();
    if sound.len() < also.len() {
        let left_out = also.len() - sound.len();
        eprintln!(
            "{left_out} further rows left out: their author or time is in the held-out or validation set"
        );
    }
    sets.train.extend(sound);
    sets
}

/// Two halves by a hash of the text: rows to fit on, and rows to report on.
pub(crate) fn halves<'a>(rows: impl IntoIterator<Item = &'a Row>) -> (Vec<&'a Row>, Vec<&'a Row>) {
    rows.into_iter().partition(|row| unit_interval(0, &row.text) < 0.5)
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Label;

    use super::*;

    fn rows() -> Vec<Row> {
        (0..20_000)
            .map(|n| Row {
                user: if n % 3 == 0 { String::new() } else { format!("user{}", n % 4_000) },
                text: format!("text {n}"),
                created_at: (n % 4 > 0).then(|| {
                    DateTime::from_timestamp(1_240_000_000 + n * 7_919 % 20_000, 0).unwrap()
                }),
                ..Row::new(if n % 2 == 0 { Label::Negative } else { Label::Positive }, "")
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
            let sets = split(&rows, by, 7);
            let dated = rows.iter().filter(|row| row.created_at.is_some()).count();
            let whole = if by == SplitBy::Time { dated } else { rows.len() };
            let share = sets.held_out.len() as f64 / whole as f64;
            assert!((share - 0.2).abs() < 0.02, "{by:?}: {share}");
            let share = sets.validation.len() as f64 / whole as f64;
            assert!((share - 0.04).abs() < 0.01, "{by:?}: {share}");
            let all = sets.train.len() + sets.validation.len() + sets.held_out.len();
            assert_eq!(all, rows.len(), "{by:?}");
            assert_eq!(split(&rows, by, 7), sets, "{by:?}: same seed, same sets");
            assert_eq!(split(&rows, by, 8) == sets, by == SplitBy::Time, "{by:?}");
        }
    }

    #[test]
    fn the_file_may_say_it() {
        let sets = [None, Some(RowSet::Training), Some(RowSet::Validation), Some(RowSet::HeldOut)];
        let row = |n: usize| Row { set: sets[n % 4], ..Row::new(Label::Negative, n.to_string()) };
        let rows: Vec<Row> = (0..40).map(row).collect();
        let split = split(&rows, SplitBy::File, 7);
        let of = |rows: &[&Row]| rows.iter().map(|row| row.set).collect::<HashSet<_>>();
        assert_eq!(split.train.len(), 20, "rows of which nothing is said are learned from");
        assert_eq!(of(&split.validation), HashSet::from([sets[2]]));
        assert_eq!(of(&split.held_out), HashSet::from([sets[3]]));
    }

    #[test]
    fn no_author_is_in_two_sets() {
        let rows = rows();
        let sets = split(&rows, SplitBy::User, 7);
        let (train, validation, held) =
            (users(&sets.train), users(&sets.validation), users(&sets.held_out));
        assert!(train.is_disjoint(&held) && train.is_disjoint(&validation));
        assert!(validation.is_disjoint(&held));
        let sets = split(&rows, SplitBy::Random, 7);
        assert!(!users(&sets.train).is_disjoint(&users(&sets.held_out)));
    }

    #[test]
    fn further_rows_tell_nothing_of_those_held_out() {
        let rows = rows();
        let (own, also) = rows.split_at(10_000);
        for by in [SplitBy::User, SplitBy::Time] {
            let (alone, sets) = (split(own, by, 7), split_with_further_rows(own, also, by, 7));
            assert_eq!((&alone.validation, &alone.held_out), (&sets.validation, &sets.held_out));
            let added = sets.train.len() - alone.train.len();
            assert!(added > 1_000 && added < also.len(), "{by:?}: {added}");
            match by {
                SplitBy::User => {
                    assert!(users(&sets.train).is_disjoint(&users(&sets.held_out)));
                }
                _ => {
                    let latest = sets.train.iter().filter_map(|row| row.created_at).max();
                    assert!(latest < sets.held_out.iter().filter_map(|row| row.created_at).min());
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
        let sets = split(&rows, SplitBy::Time, 7);
        let dates =
            |rows: &[&Row]| -> Vec<_> { rows.iter().filter_map(|r| r.created_at).collect() };
        let (train, validation, held) =
            (dates(&sets.train), dates(&sets.validation), dates(&sets.held_out));
        assert!(train.iter().max() < validation.iter().min());
        assert!(validation.iter().max() < held.iter().min());
        assert_eq!(held.len(), sets.held_out.len(), "rows without a date are in the training set");
    }
}
