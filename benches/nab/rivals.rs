//! Rival detectors, each in a few lines. All use the past only.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of two days.
const WINDOW: usize = 576;
const DAY: usize = 288;
/// Rows of two weeks.
const FORTNIGHT: usize = 14 * DAY;
/// Makes the median of absolute deviations comparable with a standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Rows above the mean of the last two days by more than three standard deviations.
pub fn mean_3_sigma(values: &[f64]) -> Vec<usize> {
    above(values, |i| {
        let past = &values[i - WINDOW..i];
        let mean = past.iter().sum::<f64>() / WINDOW as f64;
        let variance = past.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / WINDOW as f64;
        mean + 3.0 * variance.sqrt()
    })
}

/// Rows above the median of the last two days by more than three times the MAD.
pub fn median_3_mad(values: &[f64]) -> Vec<usize> {
    above(values, |i| {
        let past = &values[i - WINDOW..i];
        let centre = median(past.to_vec());
        centre + 3.0 * sigma(past.iter().map(|v| v - centre).collect())
    })
}

/// After Twitter's seasonal hybrid ESD (Hochenbaum, Vallis and Kejariwal, "Automatic
/// Anomaly Detection in the Cloud Via Statistical Learning", 2017), adapted to
/// streams: the season is the median of the last two weeks at this time of day, plus or minus
/// a quarter of an hour; rows above it by more than three times the MAD of the residuals.
pub fn seasonal_3_mad(values: &[f64]) -> Vec<usize> {
    let season: Vec<f64> = (0..values.len())
        .map(|i| {
            let days = (1..=14).filter_map(|d| i.checked_sub(d * DAY));
            let near = days.flat_map(|at| at.saturating_sub(3)..=at + 3);
            median(near.map(|row| values[row]).collect())
        })
        .collect();
    let rest = |i: usize| values[i] - season[i];
    // The scale changes slowly, so it is measured once an hour.
    let mut scale = 0.0;
    above(values, |i| {
        if i % 12 == 0 || scale == 0.0 {
            scale = sigma((i.saturating_sub(FORTNIGHT).max(DAY)..i).map(rest).collect());
        }
        season[i] + 3.0 * scale
    })
}

/// Random rows, on average as many as requested.
pub fn random(rows: usize, alarms: f64, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..rows).filter(|_| random.random::<f64>() < alarms / rows as f64).collect()
}

/// The first row of each incident: a row within half an hour of another belongs to the same
/// incident.
pub fn incidents(alarms: &[usize]) -> Vec<usize> {
    let first = |n: &usize| *n == 0 || alarms[*n] - alarms[n - 1] > 6;
    (0..alarms.len()).filter(first).map(|n| alarms[n]).collect()
}

/// Rows above a threshold of their past.
fn above(values: &[f64], mut threshold: impl FnMut(usize) -> f64) -> Vec<usize> {
    (WINDOW..values.len()).filter(|i| values[*i] > threshold(*i)).collect()
}

/// A robust standard deviation of values around zero; at least one tweet, as most values
/// of a small brand are equal.
fn sigma(values: Vec<f64>) -> f64 {
    (MAD_TO_SIGMA * median(values.into_iter().map(f64::abs).collect())).max(1.0)
}

/// The upper median; zero of an empty list.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
