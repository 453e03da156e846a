//! Accumulates evidence that the share of negatives has risen, minute by minute.
//!
//! Each minute has a likelihood ratio: the likelihood of its negatives under a rise, divided
//! by their likelihood under the expected share. Both are beta-binomial with the correlation
//! measured on the brand. While the share is normal, the ratio's mean is at most one, at any
//! volume. The Shiryaev-Roberts statistic `R <- (1 + R) ratio` sums the products of the ratios
//! over all minutes in which the rise could have begun, for three sizes of rise together.
//! Without a rise, `R` therefore grows by at most one per minute on average. After an alarm at
//! the threshold `A`, `R` restarts at zero, so `E[A alarms] <= minutes`. A threshold of
//! `minutes of a month / budget` thus keeps the expected false alarms of every period within
//! the budget, without a simulation and at any volume. This holds as far as the model is
//! right: minutes are independent except for the wander that [`Model::new`] allows for, and
//! the baseline is close to the truth.
//!
//! A ratio that exceeds the threshold brings no benefit. It is cut off at the threshold, and
//! the ratios are scaled up until their mean is one again, which saves about a minute.
//!
//! Sources: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
//! change detection", New England Journal of Statistics in Data Science 2 (2024); Shiryaev,
//! "On optimum methods in quickest detection problems" (1963); Roberts, "A comparison of some
//! control chart procedures", Technometrics 8 (1966); Fischer and Ramdas, "Improving the
//! (approximate) sequential probability ratio test by avoiding overshoot" (2024).

use serde::{Deserialize, Serialize};

use crate::domain::{Counts, Minute};

/// The sizes of rise to detect, as multiples of `rise_min`, with their weights.
const RISES: [(f64, f64); 3] = [(1.0, 0.2), (3.0, 0.6), (6.0, 0.2)];
/// Largest number of tweets of a minute; larger counts are scaled down to it. This bounds the
/// work and, by convexity, keeps the mean of the ratio at most one.
const MINUTE_TWEETS_MAX: u64 = 500;
/// A share up to this many standard deviations of the hourly wander higher is still normal.
const WANDER_DEVIATIONS: f64 = 2.0;
/// Shares are kept this far from zero and one.
const SHARE_MIN: f64 = 1e-3;
/// The scaling factor is computed only for a minute within this factor of the threshold.
const NEAR: f64 = 100.0;

/// The accumulated evidence.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EDetector {
    rises: [Rise; RISES.len()],
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Rise {
    /// ln(1 + R).
    evidence: f64,
    /// Sum of the log ratios since this sum was last zero. The rise most likely began when the
    /// sum left zero (Page, "Continuous inspection schemes", Biometrika 41, 1954).
    cusum: f64,
    /// The minute in which `cusum` left zero.
    since: i64,
}

/// The distribution of a brand's minute without a rise.
#[derive(Debug, Clone, Copy)]
pub struct Normal {
    /// The expected share.
    pub share: f64,
    /// Correlation between two tweets of the minute.
    pub correlation: f64,
    /// Standard deviation of the share from hour to hour.
    pub wander: f64,
    /// Tweets of the preceding time in which the share is assumed to stay on one side of
    /// `share`.
    pub wander_tweets: u64,
    /// The smallest rise that matters.
    pub rise_min: f64,
}

impl EDetector {
    /// Adds the counts of `minute`. Returns whether the statistic reaches `threshold`, which
    /// it never exceeds.
    pub fn step(&mut self, normal: Normal, counts: Counts, minute: Minute, threshold: f64) -> bool {
        let counts = scaled_down(counts);
        if counts.total == 0 {
            return false;
        }
        let model = Model::new(normal);
        let plain = model.log_ratios(counts);
        let mut logs = plain;
        let before = 1.0 + self.statistic();
        let ratio = self.mixed(&logs) / before;
        let room = threshold / before;
        if room > 1.0 && ratio * NEAR >= room {
            let boost = self.boost(&model, counts.total, before, room).ln();
            logs.iter_mut().for_each(|log| *log += boost);
        }
        let after = self.mixed(&logs);
        let excess = (after / threshold).max(1.0).ln();
        for (rise, (log, plain)) in self.rises.iter_mut().zip(logs.iter().zip(plain)) {
            rise.evidence = ln_1p_exp(rise.evidence + log - excess);
            if rise.cusum <= 0.0 {
                rise.since = minute.0;
            }
            rise.cusum = (rise.cusum + plain).max(0.0);
        }
        after >= threshold
    }

    /// `R`. By chance it reaches a value `r` at most once in `r` minutes on average.
    pub fn statistic(&self) -> f64 {
        self.mixed(&[0.0; RISES.len()]) - 1.0
    }

    /// The most likely first minute of the rise.
    pub fn since(&self) -> Minute {
        let weighed = |j: &usize| RISES[*j].1.ln() + self.rises[*j].evidence;
        let likeliest = (0..RISES.len())
            .max_by(|a, b| weighed(a).total_cmp(&weighed(b)))
            .expect("there are rises");
        Minute(self.rises[likeliest].since)
    }

    /// The weighted sum of `(1 + R) ratio`.
    fn mixed(&self, logs: &[f64; RISES.len()]) -> f64 {
        let terms = RISES.iter().zip(&self.rises).zip(logs);
        terms.map(|(((_, weight), rise), log)| weight * (rise.evidence + log).exp()).sum()
    }

    /// The factor by which the ratios of a minute of `tweets`, cut off at `room`, can be
    /// scaled up until their mean is one.
    fn boost(&self, model: &Model, tweets: u64, before: f64, room: f64) -> f64 {
        // (probability, ratio) by the number of negatives; the ratio increases.
        let outcomes: Vec<(f64, f64)> = model
            .outcomes(tweets)
            .into_iter()
            .map(|(log_probability, logs)| (log_probability.exp(), self.mixed(&logs) / before))
            .collect();
        // One, or less if the evidence is discounted because of the wander.
        let mean: f64 = outcomes.iter().map(|(probability, ratio)| probability * ratio).sum();
        let mut body = mean;
        let mut tail = 0.0;
        let mut boost = 1.0_f64;
        for (probability, ratio) in outcomes.iter().rev() {
            if boost * ratio <= room {
                break;
            }
            body -= probability * ratio;
            tail += probability;
            let left = (mean - room * tail) / body;
            if !(left.is_finite() && left > boost) {
                break;
            }
            boost = left;
        }
        boost
    }
}

/// The beta-binomial distributions of a minute, with and without a rise. With
/// `theta = rho / (1 - rho)` the probabilities are `C(n, k)` times the product of `p + i theta`
/// over `i < k` and of `1 - p + i theta` over `i < n - k`, divided by the product of
/// `1 + i theta` over `i < n`.
struct Model {
    theta: f64,
    /// The expected share.
    expected: f64,
    rises: [Alternative; RISES.len()],
}

/// A risen share and the normal share that it is compared with.
#[derive(Clone, Copy)]
struct Alternative {
    normal: f64,
    risen: f64,
    /// Exponent of the likelihood ratio; at most one.
    power: f64,
}

impl Alternative {
    fn new(normal: f64, rise: f64, power: f64) -> Self {
        // The rise covers at most half of the distance to one.
        Self { normal, risen: normal + rise.min((1.0 - normal) / 2.0), power }
    }

    /// How much the evidence grows per tweet if the true share is `share`.
    fn growth(&self, share: f64) -> f64 {
        let others = (1.0 - self.risen) / (1.0 - self.normal);
        self.power * (share * (self.risen / self.normal).ln() + (1.0 - share) * others.ln())
    }
}

impl Model {
    /// There are two ways to avoid false alarms from a wandering share: to treat a share
    /// [`WANDER_DEVIATIONS`] higher as normal, or to discount the evidence by what the wander
    /// adds to the variance of the count. The first is better with many tweets, the second
    /// with few. Each size of rise uses the way that would detect it sooner.
    fn new(normal: Normal) -> Self {
        let between = |share: f64| share.clamp(SHARE_MIN, 1.0 - SHARE_MIN);
        let expected = between(normal.share);
        let higher = between(expected + WANDER_DEVIATIONS * normal.wander);
        let inflation = 1.0
            + normal.wander_tweets as f64 * normal.wander.powi(2) / (expected * (1.0 - expected));
        let rises = RISES.map(|(times, _)| {
            let rise = times * normal.rise_min;
            let shifted = Alternative::new(higher, rise, 1.0);
            let discounted = Alternative::new(expected, rise, 1.0 / inflation);
            let share = discounted.risen;
            if shifted.growth(share) > discounted.growth(share) { shifted } else { discounted }
        });
        Self { theta: normal.correlation / (1.0 - normal.correlation), expected, rises }
    }

    /// ln of the likelihood ratio of `counts` for each size of rise.
    fn log_ratios(&self, counts: Counts) -> [f64; RISES.len()] {
        let (negative, other) = (counts.negative, counts.total - counts.negative);
        self.rises.map(|Alternative { normal, risen, power }| {
            power
                * (self.log_product(risen, normal, negative)
                    + self.log_product(1.0 - risen, 1.0 - normal, other))
        })
    }

    /// ln of the product of `(a + i theta) / (b + i theta)` over `i < n`.
    fn log_product(&self, a: f64, b: f64, n: u64) -> f64 {
        if self.theta == 0.0 {
            return n as f64 * (a / b).ln();
        }
        // A logarithm costs more than a division, so eight factors share one.
        let (mut sum, mut product) = (0.0, 1.0);
        for i in 0..n {
            let step = i as f64 * self.theta;
            product *= (a + step) / (b + step);
            if i % 8 == 7 {
                sum += f64::ln(product);
                product = 1.0;
            }
        }
        sum + product.ln()
    }

    /// For each number of negatives among `tweets`: ln of its probability without a rise, and
    /// ln of its likelihood ratio for each size of rise.
    fn outcomes(&self, tweets: u64) -> Vec<(f64, [f64; RISES.len()])> {
        let (p, q, theta, n) = (self.expected, 1.0 - self.expected, self.theta, tweets as f64);
        let none = self.log_product(q, 1.0, tweets);
        let mut outcome = (none, self.log_ratios(Counts { total: tweets, negative: 0 }));
        let mut outcomes = vec![outcome];
        for k in 0..tweets {
            let k = k as f64;
            let (up, down) = (k * theta, (n - k - 1.0) * theta);
            outcome.0 += ((n - k) / (k + 1.0) * (p + up) / (q + down)).ln();
            for (log, Alternative { normal, risen, power }) in outcome.1.iter_mut().zip(self.rises)
            {
                let more = (risen + up) / (normal + up);
                let fewer = (1.0 - normal + down) / (1.0 - risen + down);
                *log += power * (more * fewer).ln();
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

fn scaled_down(counts: Counts) -> Counts {
    if counts.total <= MINUTE_TWEETS_MAX {
        return counts;
    }
    let share = counts.negative as f64 / counts.total as f64;
    Counts { total: MINUTE_TWEETS_MAX, negative: (share * MINUTE_TWEETS_MAX as f64).floor() as u64 }
}

/// ln(1 + exp(x)) without overflow.
fn ln_1p_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NORMAL: Normal =
        Normal { share: 0.2, correlation: 0.02, wander: 0.0, wander_tweets: 600, rise_min: 0.05 };
    const MONTH: f64 = 43_200.0;

    #[test]
    fn the_mean_ratio_is_one_without_a_rise_and_at_most_one_at_a_lower_share() {
        let check = |name: &str, normal: Normal, tweets: u64, true_share: f64, least: f64| {
            let model = Model::new(normal);
            let truth = Model::new(Normal { share: true_share, ..normal });
            let outcomes = model.outcomes(tweets).into_iter().zip(truth.outcomes(tweets));
            let mut means = [0.0; RISES.len()];
            let mut probability = 0.0;
            for ((_, logs), (log_probability, _)) in outcomes {
                probability += log_probability.exp();
                for (mean, log) in means.iter_mut().zip(logs) {
                    *mean += (log_probability + log).exp();
                }
            }
            assert!((probability - 1.0).abs() < 1e-9, "{name}: {probability}");
            for mean in means {
                assert!((least..1.0 + 1e-9).contains(&mean), "{name}: {means:?}");
            }
        };
        check("as expected", NORMAL, 20, 0.2, 1.0 - 1e-9);
        check("binomial", Normal { correlation: 0.0, ..NORMAL }, 20, 0.2, 1.0 - 1e-9);
        check("one tweet", NORMAL, 1, 0.2, 1.0 - 1e-9);
        check("near zero", Normal { share: 0.0, ..NORMAL }, 30, 0.0, 1.0 - 1e-9);
        check("near one", Normal { share: 1.0, ..NORMAL }, 30, 1.0, 1.0 - 1e-9);
        check("lower", NORMAL, 20, 0.15, 0.1);
        check("discounted", Normal { wander: 0.05, ..NORMAL }, 20, 0.2, 0.1);
        check(
            "large wander on many tweets",
            Normal { wander: 0.02, wander_tweets: 6000, ..NORMAL },
            100,
            0.2,
            0.0,
        );
    }

    #[test]
    fn outcomes_agree_with_the_ratios() {
        let model = Model::new(Normal { wander: 0.03, ..NORMAL });
        for (negative, (_, logs)) in (0..).zip(model.outcomes(30)) {
            for (found, expected) in
                logs.iter().zip(model.log_ratios(Counts { total: 30, negative }))
            {
                assert!((found - expected).abs() < 1e-9, "{negative}: {logs:?}");
            }
        }
    }

    #[test]
    fn scaling_up_compensates_for_the_cut_off() {
        // (1 + R) is one; a limit of four cuts off much of the ratio.
        let (detector, model) = (EDetector::default(), Model::new(NORMAL));
        let boost = detector.boost(&model, 50, 1.0, 4.0);
        let mean: f64 = model
            .outcomes(50)
            .into_iter()
            .map(|(log, logs)| log.exp() * (boost * detector.mixed(&logs)).min(4.0))
            .sum();
        assert!(boost > 1.01, "{boost}");
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn finds_the_first_minute_of_a_rise() {
        let mut detector = EDetector::default();
        for m in 0..100 {
            let negative = if m < 90 { 3 } else { 9 };
            detector.step(NORMAL, Counts { total: 20, negative }, Minute(m), MONTH);
        }
        assert_eq!(detector.since(), Minute(90));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn stays_finite(
            share in 0.0..=1.0, correlation in 0.0..0.5, wander in 0.0..0.5, budget in 0.01..100.0,
            minutes in prop::collection::vec(
                prop_oneof![
                    Just((0, 0)),
                    (0_u64..60, 0_u64..60),
                    (0..u64::MAX / 2, 0..u64::MAX / 2),
                ],
                1..30,
            ),
        ) {
            let normal = Normal { share, correlation, wander, wander_tweets: 100, rise_min: 0.05 };
            let (mut detector, threshold) = (EDetector::default(), MONTH / budget);
            for (m, (negative, others)) in (0..).zip(minutes) {
                let counts = Counts { total: negative + others, negative };
                detector.step(normal, counts, Minute(m), threshold);
                let statistic = detector.statistic();
                prop_assert!(statistic.is_finite() && statistic >= -1e-9, "{}", statistic);
                prop_assert!(statistic <= threshold + 1.0, "{}", statistic);
                prop_assert!(detector.since() <= Minute(m));
            }
        }
    }
}
