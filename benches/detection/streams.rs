//! Simulated streams of counts.

use std::f64::consts::TAU;

use monitor_core::alerting::Series;
use monitor_core::domain::{Counts, Minute};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Binomial, Distribution, Poisson, StandardNormal};

pub const DAY: i64 = 1440;
pub const SHARE: f64 = 0.20;
/// A wandering share: the amplitude of its day, the standard deviation of the rest, and the
/// part of the rest that is left after a minute.
const DAILY: f64 = 0.04;
const WANDER: f64 = 0.02;
const WANDER_MINUTES: f64 = 360.0;
/// Standard deviation of the logarithm of a wandering volume.
const VOLUME_WANDER: f64 = 0.25;

/// A kind of stream.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub a_minute: f64,
    /// Correlation between two tweets of a minute.
    pub rho: f64,
    /// Whether the share wanders.
    pub wanders: bool,
    /// Whether the volume wanders too.
    pub volume_wanders: bool,
}

impl Scenario {
    /// A share and a volume that do not wander.
    pub fn steady(a_minute: f64, rho: f64) -> Self {
        Self { a_minute, rho, wanders: false, volume_wanders: false }
    }

    /// Days before the first evaluated one: the baseline's scatter is measured on them; four
    /// weeks if there is a season to learn.
    pub fn warm_up_days(self) -> i64 {
        if self.wanders { 29 } else { 8 }
    }

    pub fn words(self) -> String {
        let wanders = match (self.wanders, self.volume_wanders) {
            (false, _) => "",
            (true, false) => ", wanders",
            (true, true) => ", share and volume wander",
        };
        format!("{}{wanders}", self.rho)
    }
}

/// Simulates minute after minute.
#[derive(Clone)]
pub struct Source {
    scenario: Scenario,
    random: ChaCha8Rng,
    wander: f64,
    volume_wander: f64,
}

impl Source {
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let kind = (scenario.a_minute * 1000.0 + scenario.rho * 100.0) as u64;
        Self {
            scenario,
            random: ChaCha8Rng::seed_from_u64((kind << 32) + seed),
            wander: 0.0,
            volume_wander: 0.0,
        }
    }

    /// A copy that continues with its own random numbers.
    pub fn branch(&self, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64((1 << 63) + seed), ..self.clone() }
    }

    /// The counts of a minute whose share has risen by `rise`.
    pub fn counts(&mut self, minute: Minute, rise: f64) -> Counts {
        self.counts_of(minute, rise, 1.0)
    }

    /// The same with `times` as many tweets.
    pub fn counts_of(&mut self, minute: Minute, rise: f64, times: f64) -> Counts {
        let day = (TAU * (minute.0 as f64 / DAY as f64 - 0.375)).sin();
        let mut share = SHARE + rise;
        if self.scenario.wanders {
            let left = (-1.0 / WANDER_MINUTES).exp();
            let noise: f64 = StandardNormal.sample(&mut self.random);
            self.wander = left * self.wander + WANDER * (1.0 - left * left).sqrt() * noise;
            share = (share + DAILY * day + self.wander).clamp(0.01, 0.99);
        }
        let mut rate = times * self.scenario.a_minute * (1.0 + 0.6 * day);
        if self.scenario.volume_wanders {
            let left = (-1.0 / WANDER_MINUTES).exp();
            let noise: f64 = StandardNormal.sample(&mut self.random);
            self.volume_wander = left * self.volume_wander + (1.0 - left * left).sqrt() * noise;
            rate *= (VOLUME_WANDER * self.volume_wander - VOLUME_WANDER.powi(2) / 2.0).exp();
        }
        let total = Poisson::new(rate).expect("a rate is positive").sample(&mut self.random) as u64;
        let rho = self.scenario.rho;
        if rho > 0.0 {
            let size = (1.0 - rho) / rho;
            share = Beta::new(share * size, (1.0 - share) * size)
                .expect("shares are between zero and one")
                .sample(&mut self.random);
        }
        let negative =
            Binomial::new(total, share).expect("a share is a probability").sample(&mut self.random);
        Counts { total, negative }
    }
}

/// The input of the detectors.
pub struct Stream {
    pub counts: Vec<(Minute, Counts)>,
    pub hours: Vec<(Minute, Counts)>,
    pub series: Series,
}

impl Stream {
    pub fn new(counts: &[(Minute, Counts)]) -> Self {
        let (first, last) = (counts[0].0, counts[counts.len() - 1].0);
        let series = Series::new(first, last, counts, &[]);
        let hours = (first.0.div_euclid(60)..=last.0.div_euclid(60))
            .map(|hour| Minute(hour * 60))
            .map(|start| (start, series.sum(start, start.plus(59))))
            .collect();
        Self { counts: counts.to_vec(), hours, series }
    }
}
