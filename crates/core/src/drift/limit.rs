//! The limit of a measure, from the values of the reference's periods.

use crate::logit::sigmoid;
use crate::stats::student_quantile;

/// How values are transformed, so that those of usual periods are roughly normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Shares: log-odds.
    Logit,
    /// Distances: square root. It suits both the Kolmogorov distribution and distances of two kinds.
    Root,
    /// As they are.
    Plain,
}

impl Scale {
    fn to(self, value: f64) -> f64 {
        match self {
            Self::Logit => (value / (1.0 - value)).ln(),
            Self::Root => value.max(0.0).sqrt(),
            Self::Plain => value,
        }
    }

    fn back(self, value: f64) -> f64 {
        match self {
            Self::Logit => sigmoid(value),
            Self::Root => value.max(0.0).powi(2),
            Self::Plain => value,
        }
    }
}

/// The value that one more period like those of `values` exceeds with this probability: the upper
/// prediction limit of a normal distribution (Hahn and Meeker, "Statistical Intervals", section 4.8),
/// mean + t s sqrt(1 + 1/k). Needs two values or more.
pub(super) fn upper_limit(values: &[f64], scale: Scale, probability: f64) -> f64 {
    let moved: Vec<f64> = values.iter().map(|value| scale.to(*value)).collect();
    let count = moved.len() as f64;
    let mean = moved.iter().sum::<f64>() / count;
    let variance = moved.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let freedom = u32::try_from(moved.len() - 1).unwrap_or(u32::MAX);
    let t = student_quantile(1.0 - probability, freedom);
    scale.back(mean + t * (variance * (1.0 + 1.0 / count)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_values() {
        let check = |name, values: &[f64], scale, probability, expected: f64| {
            let found = upper_limit(values, scale, probability);
            assert!((found - expected).abs() < 1e-3, "{name}: {found}");
        };
        // Mean 3, deviation 1.5811, t of 4 degrees of freedom 2.1318: 3 + 2.1318 * 1.7321.
        check("plain", &[1.0, 2.0, 3.0, 4.0, 5.0], Scale::Plain, 0.05, 6.6924);
        check("root", &[1.0, 4.0, 9.0, 16.0, 25.0], Scale::Root, 0.05, 6.6924_f64.powi(2));
        check("all the same", &[0.02; 9], Scale::Logit, 0.01, 0.02);
        check("in half of the cases", &[0.1, 0.2, 0.3], Scale::Plain, 0.5, 0.2);
    }
}
