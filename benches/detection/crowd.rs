//! How many incidents does chance open where the model is switched every week, or where one tweet in twenty is part of a
//! cascade of retweets?
//!
//! Share and negative volume are evaluated together as the daemon does, with one budget, and are one incident.

use std::f64::consts::TAU;

use monitor_core::alerting::{Backtest, BuzzPolicy, Stretch, Volume, backtest, backtest_switched};
use monitor_core::domain::{Counts, Minute};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Pareto, Poisson};
use serde_json::json;

use super::streams::{DAY, SHARE, Scenario, Source};
use super::{QUIET_DAYS, Rate, SHIFT_MINUTES, brand, common::Report, each_seed};

/// Days between two switches of the model.
const SWITCH_DAYS: i64 = 7;
/// The other model calls this part of the negative tweets not negative, and this part of the others negative.
const LOST: f64 = 0.03;
const GAINED: f64 = 0.08;
/// The part of the tweets that is in cascades.
const IN_CASCADES: f64 = 0.05;
/// Sizes of cascades follow a Pareto law: the smallest and the exponent, for a mean of 15; none is larger than the last.
const SIZE_MIN: f64 = 5.0;
const SIZE_EXPONENT: f64 = 1.5;
const SIZE_MAX: f64 = 2000.0;
/// Mean delay of a retweet, in minutes.
const SPREAD_MINUTES: f64 = 30.0;
/// How many times as many tweets come in the rises, and how many rises there are in a seed.
const TIMES: f64 = 3.0;
const RISES: i64 = 4;
/// Days of counts before a rise.
const LEARNED_DAYS: i64 = 8;

const KINDS: [&str; 4] = [
    "steady",
    "model switched every week",
    "cascades, counted as tweets",
    "cascades, counted as originals",
];

/// Of one seed: by kind, the incidents of the quiet days, and minutes to the alarm of each rise.
#[derive(Default)]
struct Outcome {
    incidents: [usize; KINDS.len()],
    delays: [Vec<Option<i64>>; KINDS.len()],
}

/// Prints the table and adds it to the report.
pub fn run(seeds: u64, budget: f64, report: &mut Report) {
    println!(
        "\nIncidents a month of share and negative volume together, and {TIMES} times as many tweets:\n"
    );
    println!(
        "| tweets a minute | stream | incidents a month | found in 15 min | in 24 h | median delay |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: |");
    for a_minute in [2.0, 20.0, 100.0] {
        let outcomes = each_seed(seeds, |seed| measure(a_minute, seed, budget));
        for (kind, name) in KINDS.iter().enumerate() {
            let all: usize = outcomes.iter().map(|outcome| outcome.incidents[kind]).sum();
            let a_month = Rate::new(all, seeds);
            let mut delays: Vec<i64> = (outcomes.iter().flat_map(|outcome| &outcome.delays[kind]))
                .map(|delay| delay.unwrap_or(i64::MAX))
                .collect();
            delays.sort_unstable();
            let within = |minutes| {
                100.0 * delays.partition_point(|it| *it <= minutes) as f64 / delays.len() as f64
            };
            let median = delays.get(delays.len() / 2).copied().filter(|it| *it < i64::MAX);
            let (soon, ever) = (within(15), within(DAY));
            let words = median.map_or_else(|| "-".to_owned(), |minutes| format!("{minutes} min"));
            println!("| {a_minute} | {name} | {a_month} | {soon:.0} % | {ever:.0} % | {words} |");
            report.row(
                "crowd",
                json!({
                    "tweets_a_minute": a_minute,
                    "stream": name,
                    "incidents_a_month": a_month.mean,
                    "incidents_a_month_interval": a_month.interval,
                    "rises": delays.len(),
                    "within_15_min_percent": soon,
                    "within_24_h_percent": ever,
                    "median_minutes": median,
                }),
            );
        }
    }
}

fn policy(budget: f64) -> BuzzPolicy {
    brand(budget, &[Volume::Negative])
}

/// Minutes of counts.
type ByMinute = Vec<(Minute, Counts)>;

fn measure(a_minute: f64, seed: u64, budget: f64) -> Outcome {
    let scenario = Scenario::steady(a_minute, 0.02);
    let (first, last) =
        (scenario.warm_up_days() * DAY, (scenario.warm_up_days() + QUIET_DAYS) * DAY);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut starts: Vec<i64> =
        (0..RISES).map(|_| random.random_range(first..last - SHIFT_MINUTES)).collect();
    starts.sort_unstable();
    let mut outcome = Outcome::default();

    let mut source = Source::new(scenario, seed);
    let mut calm: ByMinute = Vec::new();
    let mut rises = Vec::new();
    for m in 0..last {
        for (i, start) in starts.iter().enumerate().filter(|(_, start)| **start == m) {
            let mut source = source.branch(seed * 1000 + i as u64 + 1);
            let risen = (m..m + SHIFT_MINUTES).map(Minute);
            let risen: ByMinute = risen.map(|at| (at, source.counts_of(at, 0.0, TIMES))).collect();
            rises.push((*start, risen));
        }
        calm.push((Minute(m), source.counts(Minute(m), 0.0)));
    }
    outcome.incidents[0] =
        backtest(&policy(budget), &calm, Minute(first), Minute(last - 1)).alerts.len();
    for (start, risen) in &rises {
        outcome.delays[0].push(delay(*start, &calm, risen, budget));
    }

    let models = [calm.clone(), as_other_model(&calm, seed)];
    outcome.incidents[1] = switched(&models, first, last - 1, first, budget).alerts.len();
    for (start, risen) in &rises {
        let both = [0, 1].map(|model| {
            let risen = if model == 0 { risen.clone() } else { as_other_model(risen, seed + 1) };
            [history(*start, &models[model]), &risen].concat()
        });
        let found = switched(&both, first, start + SHIFT_MINUTES - 1, *start, budget);
        outcome.delays[1].push(first_alarm(&found, *start));
    }

    let mut crowd = Crowd::new(scenario, seed);
    let (mut counted, mut rises) = ([Vec::new(), Vec::new()], Vec::new());
    for m in 0..last {
        for (i, start) in starts.iter().enumerate().filter(|(_, start)| **start == m) {
            let mut crowd = crowd.branch(seed * 1000 + i as u64 + 1);
            let risen: Vec<_> = (m..m + SHIFT_MINUTES)
                .map(|m| (Minute(m), crowd.minute(Minute(m), TIMES)))
                .collect();
            rises.push((*start, risen));
        }
        let of = crowd.minute(Minute(m), 1.0);
        for (counted, counts) in counted.iter_mut().zip(of) {
            counted.push((Minute(m), counts));
        }
    }
    for (place, counts) in counted.iter().enumerate() {
        let found = backtest(&policy(budget), counts, Minute(first), Minute(last - 1));
        outcome.incidents[2 + place] = found.alerts.len();
        for (start, risen) in &rises {
            let risen: ByMinute = risen.iter().map(|(at, of)| (*at, of[place])).collect();
            outcome.delays[2 + place].push(delay(*start, counts, &risen, budget));
        }
    }
    outcome
}

/// Minutes from `start` to the alarm about a rise that follows the calm counts.
fn delay(start: i64, calm: &ByMinute, risen: &[(Minute, Counts)], budget: f64) -> Option<i64> {
    let counts = [history(start, calm), risen].concat();
    let found =
        backtest(&policy(budget), &counts, Minute(start), Minute(start + SHIFT_MINUTES - 1));
    first_alarm(&found, start)
}

/// The counts of the days before a rise that detectors learn from.
fn history(start: i64, calm: &ByMinute) -> &[(Minute, Counts)] {
    let place = |m: i64| usize::try_from(m).expect("minutes count from 0");
    &calm[place(start - LEARNED_DAYS * DAY)..place(start)]
}

/// Minutes from `start` to the first phase that begins after it. A rise in an open incident may join as a phase.
fn first_alarm(found: &Backtest, start: i64) -> Option<i64> {
    let opened =
        found.alerts.iter().flat_map(|alert| alert.spans.iter().map(|(opened, _)| *opened));
    let joined = found.alerts.iter().flat_map(|alert| alert.phases.iter().map(|phase| phase.began));
    opened.chain(joined).filter(|at| at.0 >= start).min().map(|at| at.0 - start + 1)
}

/// What the stream of two models that take turns every week opens from `from` on.
fn switched(models: &[ByMinute; 2], first: i64, last: i64, from: i64, budget: f64) -> Backtest {
    let mut stretches = vec![Stretch { from: Minute(i64::MIN), counts: &models[0] }];
    for (week, at) in (first..last).step_by((SWITCH_DAYS * DAY) as usize).enumerate() {
        stretches.push(Stretch { from: Minute(at), counts: &models[(week + 1) % 2] });
    }
    backtest_switched(&policy(budget), &stretches, Minute(from), Minute(last))
}

/// The same tweets by a model that calls more of them negative.
fn as_other_model(counts: &ByMinute, seed: u64) -> ByMinute {
    let mut random = ChaCha8Rng::seed_from_u64((1 << 62) + seed);
    let mut draw = |n, p| Binomial::new(n, p).expect("a probability").sample(&mut random);
    let mut other = |c: &Counts| {
        let negative = c.negative - draw(c.negative, LOST) + draw(c.total - c.negative, GAINED);
        Counts { total: c.total, negative }
    };
    counts.iter().map(|(at, counts)| (*at, other(counts))).collect()
}

/// A stream some of whose tweets are retweets.
#[derive(Clone)]
struct Crowd {
    scenario: Scenario,
    source: Source,
    random: ChaCha8Rng,
    cascades: Vec<Cascade>,
}

#[derive(Clone)]
struct Cascade {
    /// Retweets expected in the next minute.
    rate: f64,
    is_negative: bool,
    /// The hour in which it was last heard.
    heard: i64,
}

impl Crowd {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64((3 << 60) + seed);
        let others = Scenario { a_minute: scenario.a_minute * (1.0 - IN_CASCADES), ..scenario };
        Self { scenario, source: Source::new(others, seed), random, cascades: Vec::new() }
    }

    fn branch(&self, seed: u64) -> Self {
        Self {
            source: self.source.branch(seed),
            random: ChaCha8Rng::seed_from_u64((3 << 61) + seed),
            ..self.clone()
        }
    }

    /// The counts of a minute: all tweets, and each text once an hour.
    fn minute(&mut self, minute: Minute, times: f64) -> [Counts; 2] {
        let mut counts = [self.source.counts_of(minute, 0.0, times); 2];
        let day = (TAU * (minute.0 as f64 / DAY as f64 - 0.375)).sin();
        let mean = SIZE_MIN * SIZE_EXPONENT / (SIZE_EXPONENT - 1.0);
        let starts = times * self.scenario.a_minute * (1.0 + 0.6 * day) * IN_CASCADES / mean;
        for _ in 0..poisson(starts, &mut self.random) {
            let size =
                Pareto::new(SIZE_MIN, SIZE_EXPONENT).expect("a law").sample(&mut self.random);
            let rate = f64::min(size, SIZE_MAX) / SPREAD_MINUTES;
            let is_negative = self.random.random_bool(SHARE);
            self.cascades.push(Cascade { rate, is_negative, heard: -1 });
        }
        for cascade in &mut self.cascades {
            let tweets = poisson(cascade.rate, &mut self.random);
            cascade.rate *= (-1.0 / SPREAD_MINUTES).exp();
            let is_new = tweets > 0 && cascade.heard != minute.hour();
            if is_new {
                cascade.heard = minute.hour();
            }
            for (counts, tweets) in counts.iter_mut().zip([tweets, u64::from(is_new)]) {
                counts.total += tweets;
                counts.negative += if cascade.is_negative { tweets } else { 0 };
            }
        }
        self.cascades.retain(|cascade| cascade.rate > 1e-3);
        counts
    }
}

fn poisson(mean: f64, random: &mut ChaCha8Rng) -> u64 {
    Poisson::new(mean).expect("a mean is positive").sample(random) as u64
}
