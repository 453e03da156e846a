use serde::{Deserialize, Serialize};

use crate::domain::Counts;

/// How often a model calls tweets negative, measured on labelled rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Rates {
    true_positive: f64,
    false_positive: f64,
    negatives: u64,
    others: u64,
}

/// Why [`Rates`] cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRates {
    /// One of the two classes has no labelled row, so its rate is unknown.
    #[error("rates need at least one labelled negative row and one other row")]
    NoRows,
    /// A rate is not a number from 0 to 1.
    #[error("a rate must lie between 0 and 1")]
    OutOfRange,
}

impl Rates {
    /// The rates of a model on labelled rows: `negatives` counts the rows that people labelled
    /// negative, `others` all other rows. In both, `negative` is the number of rows that the
    /// model calls negative.
    pub fn measured(negatives: Counts, others: Counts) -> Result<Self, InvalidRates> {
        let (Some(true_positive), Some(false_positive)) = (negatives.share(), others.share())
        else {
            return Err(InvalidRates::NoRows);
        };
        Unchecked {
            true_positive,
            false_positive,
            negatives: negatives.total,
            others: others.total,
        }
        .try_into()
    }

    /// Share of the negative rows that the model calls negative (T, or recall), in 0..=1.
    pub fn true_positive(&self) -> f64 {
        self.true_positive
    }

    /// Share of the other rows that the model calls negative (F), in 0..=1.
    pub fn false_positive(&self) -> f64 {
        self.false_positive
    }

    /// The labelled negative rows, and those of them that the model calls negative.
    pub fn negative_rows(&self) -> Counts {
        counts(self.negatives, self.true_positive)
    }

    /// The other labelled rows, and those of them that the model calls negative.
    pub fn other_rows(&self) -> Counts {
        counts(self.others, self.false_positive)
    }

    /// Number of negative rows behind T; at least 1.
    pub fn negatives(&self) -> u64 {
        self.negatives
    }

    /// Number of other rows behind F; at least 1.
    pub fn others(&self) -> u64 {
        self.others
    }
}

fn counts(total: u64, rate: f64) -> Counts {
    Counts { total, negative: (total as f64 * rate).round() as u64 }
}

/// The JSON of [`Rates`], not checked yet.
#[derive(Deserialize)]
struct Unchecked {
    true_positive: f64,
    false_positive: f64,
    negatives: u64,
    others: u64,
}

impl TryFrom<Unchecked> for Rates {
    type Error = InvalidRates;

    fn try_from(unchecked: Unchecked) -> Result<Self, InvalidRates> {
        let Unchecked { true_positive, false_positive, negatives, others } = unchecked;
        if negatives == 0 || others == 0 {
            return Err(InvalidRates::NoRows);
        }
        if ![true_positive, false_positive].iter().all(|rate| (0.0..=1.0).contains(rate)) {
            return Err(InvalidRates::OutOfRange);
        }
        Ok(Self { true_positive, false_positive, negatives, others })
    }
}
