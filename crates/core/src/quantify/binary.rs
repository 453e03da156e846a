use super::{AMPLIFICATION_MAX, Estimate, Method, Rates, effective};
use crate::domain::Counts;
use crate::stats::Z_95;

/// T - F must be at least this many of its standard errors. Nearer to zero, the delta method
/// does not hold: the true interval may be unbounded (Fieller's condition).
const STANDARD_ERRORS_MIN: f64 = 4.0;

/// The corrected share by "adjusted classify and count": `(q - F) / (T - F)`, kept in 0..=1,
/// where `q` is the share of `raw` and T and F are the true and false positive rate.
///
/// The interval is that of the delta method,
///
/// ```text
/// Var = (q (1 - q) / n  +  p² T (1 - T) / negatives  +  (1 - p)² F (1 - F) / others) / (T - F)²
/// ```
///
/// but with pseudo-observations added to q, T and F, and a shift of the middle. The plain delta
/// method gives intervals that are too short if a rate or the share is near 0 or 1, and one of
/// length 0 if all three are 0 or 1. With many rows the two agree.
///
/// `design_effect`, at least 1, is the variance of the count divided by that of independent
/// tweets; 1 says that tweets are independent. Tweets of one minute agree: with `m` tweets a
/// minute and correlation `rho` it is `1 + (m - 1) rho`.
///
/// `None`
/// - without tweets,
/// - if T - F is less than 1 / [`AMPLIFICATION_MAX`], or less than four standard errors above 0:
///   the model does not separate the classes, or too few rows show that it does,
/// - if `q` is outside F..=T by more than chance explains: then T and F are not those of this
///   stream.
///
/// Sources: Rogan and Gladen, "Estimating prevalence from the results of a screening test",
/// American Journal of Epidemiology 107 (1978); Forman, "Quantifying counts and costs via
/// classification", Data Mining and Knowledge Discovery 17 (2008). Interval: Lang and Reiczigel,
/// "Confidence limits for prevalence of disease adjusted for estimated sensitivity and
/// specificity", Preventive Veterinary Medicine 113 (2014).
pub fn adjusted_count(raw: Counts, rates: &Rates, design_effect: f64) -> Option<Estimate> {
    let observed = raw.share()?;
    let n = effective(raw.total, design_effect);
    let (t, f) = (rates.true_positive(), rates.false_positive());
    if t - f < 1.0 / AMPLIFICATION_MAX {
        return None;
    }
    let share = (observed - f) / (t - f);

    let z2 = Z_95 * Z_95;
    let q = (observed * n + z2 / 2.0) / (n + z2);
    let (negatives, others) = (rates.negatives() as f64 + 2.0, rates.others() as f64 + 2.0);
    let t = (t * rates.negatives() as f64 + 1.0) / negatives;
    let f = (f * rates.others() as f64 + 1.0) / others;
    let (t_variance, f_variance) = (t * (1.0 - t) / negatives, f * (1.0 - f) / others);
    if t - f < STANDARD_ERRORS_MIN * (t_variance + f_variance).sqrt() {
        return None;
    }
    let p = (q - f) / (t - f);
    let shift = 2.0 * z2 * (p * t_variance - (1.0 - p) * f_variance);
    let variance = q * (1.0 - q) / (n + z2) + p * p * t_variance + (1.0 - p).powi(2) * f_variance;
    let half = Z_95 * variance.sqrt() / (t - f);
    Estimate::new(share, p + shift - half, p + shift + half, Method::AdjustedCount)
}
