//! Who is learned from, who decides when to stop, who is held out.
//!
//! **Invariant.** A side depends on the seed and the author alone (on the text where the
//! author is unknown), so nobody stands on two sides, and adding rows moves nobody.
//! Deliberately absent: stratification; with thousands of authors the shares agree anyway.

use super::Row;
use crate::text::unit_interval;

/// Share of authors held out.
const HELD_OUT: f64 = 0.2;
/// Share of authors to validate on, out of the others.
const VALIDATION: f64 = 0.05;

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

/// Parts rows by author: 20 % held out, 5 % of the rest to validate.
pub fn split(rows: &[Row], seed: u64) -> Split<'_> {
    let mut sides = Split::default();
    for row in rows {
        let key = if row.user.is_empty() {
            format!("text {}", row.text)
        } else {
            format!("user {}", row.user.to_lowercase())
        };
        let place = unit_interval(seed, &key);
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_stands_on_two_sides() {
        let rows: Vec<Row> = (0..20_000)
            .map(|n| Row {
                user: if n % 3 == 0 { String::new() } else { format!("user{}", n % 4_000) },
                ..Row::new(n % 2 == 0, format!("text {n}"))
            })
            .collect();
        let sides = split(&rows, 7);
        let users = |rows: &[&Row]| -> HashSet<String> {
            rows.iter().filter(|r| !r.user.is_empty()).map(|r| r.user.clone()).collect()
        };
        let (train, validation, held) =
            (users(&sides.train), users(&sides.validation), users(&sides.held_out));
        assert!(train.is_disjoint(&held) && train.is_disjoint(&validation));
        assert!(validation.is_disjoint(&held));
        let share = sides.held_out.len() as f64 / rows.len() as f64;
        assert!((share - 0.2).abs() < 0.02, "{share}");
        assert_eq!(sides.train.len() + sides.validation.len() + sides.held_out.len(), rows.len());
        assert_eq!(split(&rows, 7), sides, "same seed, same sides");
        assert_ne!(split(&rows, 8), sides);
    }
}
