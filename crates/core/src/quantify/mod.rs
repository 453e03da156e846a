//! The corrected share: which share of the tweets is negative, given that the model errs.
//!
//! A model misses negative tweets and calls others negative. The raw share of the tweets it
//! calls negative is therefore biased: with 76 % of the negatives found and 18 % of the others
//! called negative, a true share of 20 % shows as 29.6 %. Each method here takes out this bias:
//!
//! - [`adjusted_count`] needs the model's two [`Rates`], [`adjusted_shares`] its confusion
//!   counts over several classes. [`adjusted_probabilities`] and [`maximum_likelihood`] use
//!   probabilities instead of labels. All four assume *label shift*: the classes change their
//!   shares, but within a class the tweets stay as they were when the rates were measured.
//! - [`prediction_powered`] assumes nothing about the model, but needs a random sample of the
//!   same tweets that people labelled.
//!
//! [`corrected`] chooses.
//!
//! **Invariant.** A share lies in 0..=1 and in its interval; every [`Estimate`] names its method.
//! If the assumption of a method visibly fails, it returns nothing rather than a wrong number.
//! Deliberately absent: correcting what the detector sees. With constant rates the correction
//! adds no evidence, only variance.

mod binary;
mod classes;
mod error;
mod likelihood;
mod powered;
mod rates;

use serde::{Deserialize, Serialize};

pub use binary::adjusted_count;
pub use classes::{adjusted_probabilities, adjusted_shares};
pub use error::{absolute_error, kullback_leibler};
pub use likelihood::maximum_likelihood;
pub use powered::{Labelled, Tuning, prediction_powered};
pub use rates::{InvalidRates, Rates};

use crate::domain::{Counts, Interval};
use crate::keywords;

/// [`corrected`] uses [`prediction_powered`] from this many labelled tweets on. With fewer, its
/// interval is wider than that of [`adjusted_count`], and not yet reliable.
pub const LABELS_MIN: usize = 200;

/// No method multiplies an error of the raw share by more than this. A model that needs more
/// hardly separates the classes, and its share is not corrected.
pub const AMPLIFICATION_MAX: f64 = 10.0;

/// A corrected share with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimated true share, in 0..=1.
    pub share: f64,
    /// Where the true share lies with 95 % confidence; within 0..=1, and `share` is in it.
    pub interval: Interval,
    /// How it was estimated.
    pub method: Method,
}

impl Estimate {
    /// The estimate `share`, kept in 0..=1, with an interval from `low` to `high`. `None` if the
    /// interval lies outside 0..=1: then no true share agrees with what was observed.
    fn new(share: f64, low: f64, high: f64, method: Method) -> Option<Self> {
        // NaN fails this comparison as well.
        if !(low <= 1.0 && high >= 0.0 && share.is_finite()) {
            return None;
        }
        let share = share.clamp(0.0, 1.0);
        let interval = Interval { low: low.clamp(0.0, share), high: high.clamp(share, 1.0) };
        Some(Self { share, interval, method })
    }
}

/// How a share was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Method {
    /// From the rates at which the model errs.
    AdjustedCount,
    /// From a random sample of the tweets that people labelled.
    PredictionPowered,
}

keywords!(Method:
    "adjusted-count" => AdjustedCount,
    "prediction-powered" => PredictionPowered,
);

/// The share of negative tweets in `stream`, corrected by the best method for which there are
/// data: [`prediction_powered`] if at least [`LABELS_MIN`] of the tweets are `labelled` and the
/// sample agrees with the stream, else [`adjusted_count`] if there are `rates`. `None` if neither
/// works; then there is only the raw share.
///
/// `stream` counts the tweets of a brand and period by what the model calls them; `labelled` are
/// those of them that were drawn at random and labelled. `design_effect`: see
/// [`adjusted_count`].
pub fn corrected(
    stream: Counts,
    rates: Option<&Rates>,
    labelled: &[Labelled],
    design_effect: f64,
) -> Option<Estimate> {
    let powered = if labelled.len() >= LABELS_MIN {
        prediction_powered(stream, labelled, Tuning::Power, design_effect)
    } else {
        None
    };
    powered.or_else(|| adjusted_count(stream, rates?, design_effect))
}

/// The size of a sample of independent tweets with the same variance as `total` tweets of which
/// those of one minute agree.
fn effective(total: u64, design_effect: f64) -> f64 {
    // max() ignores NaN.
    total as f64 / design_effect.max(1.0)
}

#[cfg(test)]
mod tests;
