//! The compared detectors.

use monitor_core::alerting::Series;
use monitor_core::alerting::{Baseline, SharePolicy, ShareRule, ShareState, ShareVerdict};
use monitor_core::domain::{Counts, Minute, Zone};

use super::streams::Stream;

const WINDOW: i64 = 15;
/// How long before the minute a baseline ends, and how long it is.
const LAG: i64 = 120;
const BASELINE: i64 = 2880;
/// The rise that the CUSUMs test for, and their threshold: if their law is right, the mean time
/// to a false alarm is at least 30 days.
const RISE: f64 = 0.15;
const MONTH_MINUTES: f64 = 43_200.0;

/// Evaluates minute after minute.
pub trait Detector {
    /// Whether an incident opens at the end of `minute`.
    fn opens(&mut self, stream: &Stream, minute: Minute) -> bool;
    /// A copy of the detector in its current state, without an open incident.
    fn closed(&self) -> Box<dyn Detector>;
}

/// The e-detector with its defaults.
#[derive(Clone)]
pub struct Ours {
    policy: SharePolicy,
    state: ShareState,
    baseline: Option<Baseline>,
    /// The stream's series without its incidents, after the first one.
    series: Option<Series>,
}

impl Ours {
    /// The defaults, with this budget.
    pub fn policy(false_alarms_per_month: f64) -> SharePolicy {
        SharePolicy {
            rule: ShareRule::EDetector { false_alarms_per_month },
            tweets_min: 30,
            rise_min: 0.05,
            baseline_tweets_min: 100,
            short_minutes: 15,
            for_minutes: 0,
            resolve_minutes: 30,
            new_normal_minutes: 2880,
            zone: Zone::UTC,
        }
    }

    pub fn new(false_alarms_per_month: f64) -> Self {
        Self::of(Self::policy(false_alarms_per_month))
    }

    pub fn of(policy: SharePolicy) -> Self {
        let state = ShareState::default();
        Self { policy, state, baseline: None, series: None }
    }
}

impl Detector for Ours {
    fn opens(&mut self, stream: &Stream, minute: Minute) -> bool {
        let series = self.series.as_ref().unwrap_or(&stream.series);
        if self.baseline.is_none() || minute.0 % 60 == 0 {
            let excluded = self.state.excluded();
            self.baseline = Baseline::learn(&self.policy, &stream.hours, &excluded, series, minute);
        }
        let (next, verdict) =
            self.policy.evaluate(series, self.baseline.as_ref(), &self.state, minute);
        if let ShareVerdict::Resolve(..) = verdict {
            let (first, last) = (stream.counts[0].0, stream.counts[stream.counts.len() - 1].0);
            self.series = Some(Series::new(first, last, &stream.counts, &next.excluded()));
        }
        self.state = next;
        matches!(verdict, ShareVerdict::Open(_))
    }

    fn closed(&self) -> Box<dyn Detector> {
        Box::new(Self { state: self.state.clone().closed(), series: None, ..self.clone() })
    }
}

/// A rival's test.
#[derive(Clone, Copy)]
pub enum Test {
    /// The 15-minute share is three standard deviations above the mean of those before.
    Sigmas,
    /// The 15-minute count is improbable (one-sided 0.001) under the baseline's share.
    Binomial,
    /// The 15-minute share differs from the baseline's (one-sided 0.001).
    TwoProportions,
    /// Page's CUSUM of Bernoulli log-likelihood ratios, divided by the measured dispersion.
    Cusum { corrected: bool },
}

/// A rival. Its incident opens on its test, and closes after 30 successive minutes in which the
/// 15-minute share is less than 0.025 above the baseline's.
#[derive(Clone)]
pub struct Rival {
    test: Test,
    open: bool,
    calm: u32,
    cusum: f64,
    baseline: Counts,
    deviation: f64,
    correlation: f64,
}

impl Rival {
    pub fn new(test: Test) -> Self {
        let baseline = Counts::default();
        Self { test, open: false, calm: 0, cusum: 0.0, baseline, deviation: 0.0, correlation: 0.0 }
    }

    fn learn(&mut self, series: &Series, minute: Minute) {
        let last = minute.plus(-LAG);
        self.baseline = series.sum(last.plus(1 - BASELINE), last);
        let share = self.baseline.share().unwrap_or(0.5);
        let windows: Vec<_> = (0..BASELINE / WINDOW)
            .map(|i| last.plus(-i * WINDOW))
            .filter_map(|end| series.sum(end.plus(1 - WINDOW), end).share())
            .collect();
        let mean = windows.iter().sum::<f64>() / windows.len() as f64;
        let squares: f64 = windows.iter().map(|share| (share - mean).powi(2)).sum();
        self.deviation = (squares / windows.len() as f64).sqrt();
        let (mut products, mut pairs) = (0.0, 0.0);
        for i in 0..BASELINE {
            let counts = series.sum(last.plus(-i), last.plus(-i));
            let (n, k) = (counts.total as f64, counts.negative as f64);
            products += (k - n * share).powi(2) - n * share * (1.0 - share);
            pairs += n * (n - 1.0);
        }
        self.correlation = (products / (pairs * share * (1.0 - share))).max(0.0);
    }

    fn positive(&mut self, series: &Series, minute: Minute) -> bool {
        let window = series.sum(minute.plus(1 - WINDOW), minute);
        let share = self.baseline.share().unwrap_or(0.5);
        let (n, k) = (window.total as f64, window.negative as f64);
        match self.test {
            Test::Sigmas => window.share().is_some_and(|w| w > share + 3.0 * self.deviation),
            Test::Binomial => upper_tail(window, share) < 0.001,
            Test::TwoProportions => {
                let all = window + self.baseline;
                let pooled = all.share().unwrap_or(0.5);
                let variance =
                    pooled * (1.0 - pooled) * (1.0 / n + 1.0 / self.baseline.total as f64);
                n > 0.0 && k / n - share > 3.09 * variance.sqrt()
            }
            Test::Cusum { corrected } => {
                let now = series.sum(minute, minute);
                let (n, k) = (now.total as f64, now.negative as f64);
                let dispersion =
                    if corrected { 1.0 + (n - 1.0).max(0.0) * self.correlation } else { 1.0 };
                let ratio = k * ((share + RISE) / share).ln()
                    + (n - k) * ((1.0 - share - RISE) / (1.0 - share)).ln();
                self.cusum = (self.cusum + ratio / dispersion).max(0.0);
                self.cusum >= MONTH_MINUTES.ln()
            }
        }
    }
}

impl Detector for Rival {
    fn opens(&mut self, stream: &Stream, minute: Minute) -> bool {
        if self.baseline.total == 0 || minute.0 % 60 == 0 {
            self.learn(&stream.series, minute);
        }
        if self.open {
            let window = stream.series.sum(minute.plus(1 - WINDOW), minute);
            let share = self.baseline.share().unwrap_or(0.5);
            let calm = window.share().is_none_or(|w| w < share + 0.025);
            self.calm = if calm { self.calm + 1 } else { 0 };
            if self.calm > 30 {
                *self = Self { open: false, calm: 0, cusum: 0.0, ..self.clone() };
            }
            return false;
        }
        self.open = self.positive(&stream.series, minute);
        self.open
    }

    fn closed(&self) -> Box<dyn Detector> {
        let cusum = if self.open { 0.0 } else { self.cusum };
        Box::new(Self { open: false, calm: 0, cusum, ..self.clone() })
    }
}

/// P(X >= k) of a binomial law, summed from its largest term outwards.
fn upper_tail(counts: Counts, share: f64) -> f64 {
    let (n, k) = (counts.total as f64, counts.negative as f64);
    if k <= n * share {
        return 1.0;
    }
    let mut log = 0.0;
    for i in 0..counts.negative {
        let i = i as f64;
        log += ((n - i) / (i + 1.0) * share).ln();
    }
    let mut term = (log + (n - k) * (1.0 - share).ln()).exp();
    let mut sum = 0.0;
    for i in counts.negative..=counts.total {
        sum += term;
        let i = i as f64;
        term *= (n - i) / (i + 1.0) * share / (1.0 - share);
        if term < sum * 1e-9 {
            break;
        }
    }
    sum
}
