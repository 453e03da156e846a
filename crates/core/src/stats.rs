//! Statistics that more than one part of the monitor uses.
//!
//! **Invariant.** Closed formulas: no resampling and no random numbers. Deliberately absent:
//! intervals of other confidence levels than 95 %.

use crate::domain::Interval;

/// The standard normal quantile of 97.5 %: 95 % of a normal distribution lie within this many
/// standard deviations of its mean.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % confidence interval of a proportion. `share` is the observed proportion, in
/// 0..=1. `n` is the number of observations; it may be fractional, such as an effective sample
/// size. Without observations the interval is 0 to 1.
///
/// Source: Wilson, "Probable inference, the law of succession, and statistical inference",
/// Journal of the American Statistical Association 22 (1927).
pub fn wilson(share: f64, n: f64) -> Interval {
    wilson_with(share, n, Z_95)
}

/// [`wilson`] with another normal quantile than [`Z_95`].
pub fn wilson_with(share: f64, n: f64, z: f64) -> Interval {
    if n <= 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let z2 = z * z;
    let scale = 1.0 / (1.0 + z2 / n);
    let middle = scale * (share + z2 / (2.0 * n));
    let half = scale * z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// The difference of two proportions of the same `n` observations, and its 95 % confidence
/// interval: `gained` observations are in the second proportion only, `lost` in the first only.
/// Without observations the difference is 0 and the interval -1 to 1.
///
/// Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
/// proportions", Statistics in Medicine 24 (2005): Wald's interval after half an observation is
/// added to each cell of the table.
pub fn paired_difference(n: u64, gained: u64, lost: u64) -> (f64, Interval) {
    if n == 0 {
        return (0.0, Interval { low: -1.0, high: 1.0 });
    }
    let (gained, lost) = (gained as f64, lost as f64);
    let (b, c, all) = (gained + 0.5, lost + 0.5, n as f64 + 2.0);
    let middle = (b - c) / all;
    let half = Z_95 * (b + c - (b - c).powi(2) / all).sqrt() / all;
    let interval = Interval { low: (middle - half).max(-1.0), high: (middle + half).min(1.0) };
    ((gained - lost) / n as f64, interval)
}

/// The `probability` quantile of Student's t distribution, `probability` in 0..1, with at least one
/// degree of freedom.
///
/// Source: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4, which
/// is exact for whole degrees of freedom, inverted by bisection.
pub fn student_quantile(probability: f64, freedom: u32) -> f64 {
    /// Beyond this the terms of the sum are the same to the last digit, and the sum takes long.
    const FREEDOM_MAX: u32 = 10_000;
    let freedom = freedom.clamp(1, FREEDOM_MAX);
    if probability < 0.5 {
        return -student_quantile(1.0 - probability, freedom);
    }
    // Probability of -t..t, where t = sqrt(freedom) tan(angle).
    let within = |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let is_odd = freedom % 2 == 1;
        let first = if is_odd { cos } else { 1.0 };
        let (mut term, mut sum) = (first, 0.0);
        let terms = if is_odd { (freedom - 1) / 2 } else { freedom / 2 };
        for n in 0..terms {
            sum += term;
            let from = f64::from(2 * n + 1 + u32::from(is_odd));
            term *= cos * cos * from / (from + 1.0);
        }
        if is_odd { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
    };
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = f64::midpoint(low, high);
        if within(middle) < 2.0 * probability - 1.0 { low = middle } else { high = middle }
    }
    f64::from(freedom).sqrt() * low.tan()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn student_quantiles_agree_with_tables() {
        // R: qt(p, df)
        for (probability, freedom, expected) in [
            (0.975, 1, 12.706_205),
            (0.95, 2, 2.919_986),
            (0.95, 4, 2.131_847),
            (0.99, 7, 2.997_952),
            (0.995, 27, 2.770_683),
            (0.975, 10_000, 1.960_201),
            (0.025, 10, -2.228_139),
            (0.5, 5, 0.0),
        ] {
            let found = student_quantile(probability, freedom);
            assert!((found - expected).abs() < 1e-5, "{probability} {freedom}: {found}");
        }
    }

    #[test]
    fn a_paired_difference_has_the_interval_of_agresti_and_min() {
        // Agresti, "Categorical Data Analysis": of 1600 people, 150 changed their mind one way and
        // 86 the other; 0.04 with a standard error of 0.0095.
        let (difference, interval) = paired_difference(1600, 150, 86);
        assert!((difference - 0.04).abs() < 1e-12, "{difference}");
        let close = |found: f64, expected: f64| (found - expected).abs() < 5e-4;
        assert!(close(interval.low, 0.04 - Z_95 * 0.0095), "{interval:?}");
        assert!(close(interval.high, 0.04 + Z_95 * 0.0095), "{interval:?}");
        assert_eq!(paired_difference(0, 0, 0).1, Interval { low: -1.0, high: 1.0 });
        let (none, interval) = paired_difference(100, 0, 0);
        assert_eq!(none, 0.0);
        assert!(interval.low < 0.0 && interval.high > 0.0 && interval.high < 0.03, "{interval:?}");
    }

    #[test]
    fn wilson_agrees_with_r() {
        // prop.test(part, whole, correct = FALSE)
        for (part, whole, low, high) in
            [(40.0, 50.0, 0.669_637, 0.887_567), (0.0, 10.0, 0.0, 0.277_533)]
        {
            let found = wilson(part / whole, whole);
            assert!((found.low - low).abs() < 1e-5, "{part} of {whole}: {found:?}");
            assert!((found.high - high).abs() < 1e-5, "{part} of {whole}: {found:?}");
        }
        assert_eq!(wilson(0.0, 0.0), Interval { low: 0.0, high: 1.0 }, "no observations");
    }
}
