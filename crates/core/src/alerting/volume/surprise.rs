//! The evidence that counts have risen above their forecast, gathered bucket by bucket.
//!
//! For each size of rise, the Shiryaev-Roberts statistic `R <- (1 + R) ratio` sums the products of the
//! likelihood ratios over all buckets in which the rise could have begun. A ratio compares two negative
//! binomials of the same dispersion; its mean without a rise is one, so `R` grows by at most one a
//! bucket on average, and so does the weighted sum over the sizes.
//!
//! Sources: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
//! detection", New England Journal of Statistics in Data Science 2 (2024); Höhle and Paul, "Count
//! data regression charts for the monitoring of surveillance time series", Computational Statistics
//! & Data Analysis 52 (2008).

use serde::{Deserialize, Serialize};

/// The sizes of rise, as multiples of the forecast, with their weights.
const RISES: [(f64, f64); 3] = [(RISE_MIN, 0.4), (4.0, 0.4), (8.0, 0.2)];
/// The smallest of them.
pub(super) const RISE_MIN: f64 = 2.0;
/// The logarithm of the statistic is kept below this; a larger one says nothing more.
const LOG_MAX: f64 = 500.0;

/// The distribution of a count without a rise: a negative binomial with variance
/// `mean + dispersion * mean * mean`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normal {
    pub(super) mean: f64,
    pub(super) dispersion: f64,
}

/// The accumulated evidence: ln(1 + R) for each size of rise.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Surprise([f64; RISES.len()]);

impl Surprise {
    /// Adds a count; returns the logarithm of the statistic, at least 0.
    pub(super) fn step(&mut self, count: u64, normal: Normal) -> f64 {
        for (evidence, (times, _)) in self.0.iter_mut().zip(RISES) {
            let log = (*evidence + log_likelihood_ratio(count, normal, times)).min(LOG_MAX);
            // ln(1 + e^log), without overflow.
            *evidence = log.max(0.0) + (-log.abs()).exp().ln_1p();
        }
        let terms = self.0.iter().zip(RISES).map(|(evidence, (_, weight))| weight * evidence.exp());
        terms.sum::<f64>().ln()
    }
}

/// `ln(P(count | times * mean) / P(count | mean))`.
pub(super) fn log_likelihood_ratio(count: u64, normal: Normal, times: f64) -> f64 {
    let spread = normal.dispersion * normal.mean;
    let count = count as f64;
    count * times.ln()
        - (count + normal.dispersion.recip()) * ((1.0 + times * spread) / (1.0 + spread)).ln()
}
