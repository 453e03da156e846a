use std::collections::BTreeMap;

use super::{Estimate, Method, effective};
use crate::domain::Counts;
use crate::stats::Z_95;

/// If the sample's share of tweets called negative differs from the stream's by more than this
/// many standard errors, it is not a random sample of this stream.
const STANDARD_ERRORS_MAX: f64 = 4.0;

/// A tweet of a random sample, labelled by a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// The model calls it negative.
    pub called_negative: bool,
    /// The person calls it negative.
    pub negative: bool,
    /// The probability with which it was drawn, above 0 and at most 1.
    pub inclusion: f64,
    /// The part of the stream that it was drawn from, if parts were drawn separately, such as one
    /// for each range of the score. 0 for all tweets if they were not.
    pub stratum: u32,
}

/// How much weight the model's labels get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// All: the weight `lambda` is 1.
    Plain,
    /// The weight in 0..=1 that gives the smallest variance. A model that says little about the
    /// labels then costs nothing.
    Power,
}

/// The corrected share by prediction-powered inference: `lambda` times the share that the model
/// calls negative, plus the mean of `y - lambda f` over the sample, where `y` is a person's label
/// and `f` the model's (1 for negative). It holds for any model, and also when the words change.
///
/// `stream` counts all tweets of a brand and period by what the model calls them, those in
/// `labelled` included. `labelled` is a random sample of them. Corrections that users volunteer
/// are none: people correct the tweets that annoy them. Rows are weighted by `1 / inclusion`
/// (Hájek). `design_effect`: see [`super::adjusted_count`].
///
/// The variance is that of sampling the labels from the stream, plus `p (1 - p) / n` for the
/// stream itself. PPI++ divides `lambda` by `1 + labels / tweets`, as its labels are not among the
/// other tweets. Ours are, and then the regression coefficient itself is best. To the variance
/// come two made-up labels, one error in each direction, so that a small sample without errors
/// does not claim that there are none.
///
/// `None` without tweets; with fewer than two labels, more labels than tweets, or an inclusion
/// outside 0..=1; and if the sample visibly comes from another stream: its share of tweets called
/// negative differs from the stream's by more than four standard errors.
///
/// Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, "Prediction-powered inference",
/// Science 382 (2023); Angelopoulos, Duchi and Zrnic, "PPI++: efficient prediction-powered
/// inference", arXiv 2311.01453; the difference and regression estimators: Särndal, Swensson and
/// Wretman, "Model assisted survey sampling" (1992), chapter 6.
pub fn prediction_powered(
    stream: Counts,
    labelled: &[Labelled],
    tuning: Tuning,
    design_effect: f64,
) -> Option<Estimate> {
    let raw = stream.share()?;
    let valid = |row: &Labelled| row.inclusion > 0.0 && row.inclusion <= 1.0;
    if labelled.len() < 2 || labelled.len() as u64 > stream.total || !labelled.iter().all(valid) {
        return None;
    }
    let sample = Sample::of(labelled);
    if (sample.called - raw).abs() > STANDARD_ERRORS_MAX * (sample.ff + sample.made_up).sqrt() {
        return None;
    }
    let lambda = match tuning {
        Tuning::Power if sample.ff > 0.0 => (sample.fy / sample.ff).clamp(0.0, 1.0),
        _ => 1.0,
    };
    let share = lambda * raw + sample.negative - lambda * sample.called;
    let labels = sample.yy - 2.0 * lambda * sample.fy + lambda * lambda * sample.ff;
    let within = share.clamp(0.0, 1.0);
    let own = within * (1.0 - within) / effective(stream.total, design_effect);
    let half = Z_95 * (labels.max(0.0) + sample.made_up + own).sqrt();
    Estimate::new(share, share - half, share + half, Method::PredictionPowered)
}

/// Weighted means over the labelled tweets, and the variances of these means around those of the
/// stream.
struct Sample {
    /// Share of tweets that the model calls negative.
    called: f64,
    /// Share of tweets that people call negative.
    negative: f64,
    /// Variance of `called`.
    ff: f64,
    /// Covariance of `called` and `negative`.
    fy: f64,
    /// Variance of `negative`.
    yy: f64,
    /// Variance that two made-up errors add.
    made_up: f64,
}

/// Sums over rows: count, weight, weighted labels of the model and of people.
#[derive(Clone, Copy, Default)]
struct Sums {
    rows: f64,
    weight: f64,
    called: f64,
    negative: f64,
}

impl Sums {
    fn add(&mut self, row: &Labelled) {
        let weight = 1.0 / row.inclusion;
        self.rows += 1.0;
        self.weight += weight;
        self.called += weight * number(row.called_negative);
        self.negative += weight * number(row.negative);
    }

    fn means(&self) -> (f64, f64) {
        (self.called / self.weight, self.negative / self.weight)
    }
}

impl Sample {
    /// The variances are those of Hájek's estimator: within strata, with `n / (n - 1)` for the
    /// means that were estimated, and without what a full inclusion leaves to chance. A tweet that
    /// is alone in its stratum is compared with the mean of all.
    fn of(labelled: &[Labelled]) -> Self {
        let (mut all, mut strata) = (Sums::default(), BTreeMap::<u32, Sums>::new());
        let mut squares = 0.0;
        for row in labelled {
            all.add(row);
            strata.entry(row.stratum).or_default().add(row);
            squares += row.inclusion.powi(-2);
        }
        let (called, negative) = all.means();
        let made_up = 2.0 * (squares / (all.weight * all.weight)).powi(2);
        let mut sample = Self { called, negative, ff: 0.0, fy: 0.0, yy: 0.0, made_up };
        for row in labelled {
            let own = strata[&row.stratum];
            let alone = own.rows < 2.0;
            let ((f_mean, y_mean), factor) =
                if alone { (all.means(), 1.0) } else { (own.means(), own.rows / (own.rows - 1.0)) };
            let weight = 1.0 / (row.inclusion * all.weight);
            let k = factor * (1.0 - row.inclusion) * weight * weight;
            let f = number(row.called_negative) - f_mean;
            let y = number(row.negative) - y_mean;
            sample.ff += k * f * f;
            sample.fy += k * f * y;
            sample.yy += k * y * y;
        }
        sample
    }
}

fn number(negative: bool) -> f64 {
    if negative { 1.0 } else { 0.0 }
}
