//! How many false alarms does a detector raise, and how soon does it find a rise?
//!
//! Every detector evaluates the same simulated streams, minute by minute like the daemon.
//! Tweets follow a Poisson law whose rate depends on the time of day (1 + 0.6 sin); negative
//! ones follow a beta-binomial law. A stream is quiet for 30 days after its warm-up: an alarm
//! in that time is a false one. From each stream 12 others branch off, each at a random
//! minute, from which the share rises for 24 hours; the delay counts up to the end of the
//! minute that alarms, so the minimum is one minute.
//!
//! In addition, the streams that wander have a share that depends on the time of day (by
//! 0.04) and wanders around that (an AR(1) process, standard deviation 0.02, time constant
//! six hours).
//!
//! A second table is about the number of negative tweets: three times as many tweets of all kinds, so
//! that the share stays; and false alarms of both causes together, also where the volume wanders
//! (standard deviation of its logarithm 0.25).
//!
//! In the second and third table, share and negative volume have a budget together, as in the daemon. Numbers of false
//! alarms have a 95 % interval of their mean by Poisson's law.
//!
//! A third table is about a model that is switched every week, and about cascades of retweets.
//!
//! `scripts/bench detection [--seeds 20] [--budget 2] [--part NAME]... [--json FILE]`

mod common;

#[path = "detection/crowd.rs"]
mod crowd;
#[path = "detection/rivals.rs"]
mod rivals;
#[path = "detection/streams.rs"]
mod streams;
#[path = "detection/volume.rs"]
mod volume;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use common::{Output, Report};
use monitor_config as config;
use monitor_core::alerting::{BuzzPolicy, Thresholds, Volume, VolumePolicy};
use monitor_core::domain::Minute;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use rivals::{Detector, Ours, Rival, Test};
use streams::{DAY, Scenario, Source, Stream};

/// Quiet days that are evaluated, after the warm-up.
const QUIET_DAYS: i64 = 30;
const SHIFTS: u64 = 12;
const SHIFT_MINUTES: i64 = DAY;
const RISES: [f64; 2] = [0.15, 0.05];
const BUDGETS: [f64; 3] = [0.1, 1.0, 10.0];
/// What comes back within this time opens the same incident, in minutes.
const REOPEN_MINUTES: u32 = 1440;

/// Counts false alarms and detection delays on simulated streams
///
/// Compares the detector, at three budgets of false alarms, with common statistical tests on
/// the same streams. Prints false alarms a month, and the share and median delay of the rises
/// that were found.
#[derive(Parser)]
struct Args {
    /// Streams of each kind
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// False alarms of share and negative volume together, in 30 days [default: that of the settings]
    #[arg(long, default_value_t = config::Alerting::default().false_alarms_per_month, hide_default_value = true)]
    budget: f64,
    /// Only this table: share, volume or crowd; all without it
    #[arg(long, value_parser = ["share", "volume", "crowd"])]
    part: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Alarms a month: their mean, and its 95 % interval if alarms follow Poisson's law (Byar's approximation: Breslow, Day,
/// "Statistical methods in cancer research", volume 2, 1987, section 2.3).
struct Rate {
    mean: f64,
    interval: [f64; 2],
}

impl Rate {
    fn new(alarms: usize, months: u64) -> Self {
        let bound = |n: f64, z: f64| n * (1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt())).powi(3);
        let alarms = alarms as f64;
        let low = if alarms > 0.0 { bound(alarms, -1.96) } else { 0.0 };
        let a_month = |alarms: f64| alarms / months as f64;
        Self { mean: a_month(alarms), interval: [low, bound(alarms + 1.0, 1.96)].map(a_month) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, interval: [low, high] } = self;
        write!(f, "{mean:.2} ({low:.2} to {high:.2})")
    }
}

/// The alarms of one detector on one stream, or on several.
#[derive(Clone, Default)]
struct Outcome {
    false_alarms: usize,
    /// Minutes to the alarm for each shift, by rise.
    delays: [Vec<Option<i64>>; RISES.len()],
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut report = Report::new(
        "detection",
        json!({"seeds": args.seeds, "budget": args.budget, "parts": args.part, "quiet_days": QUIET_DAYS, "shifts": SHIFTS, "rises": RISES}),
    );
    let is_wanted = |part: &str| args.part.is_empty() || args.part.iter().any(|it| it == part);
    if is_wanted("share") {
        share(args.seeds, &mut report);
    }
    if is_wanted("volume") {
        volume::run(args.seeds, args.budget, &mut report);
    }
    if is_wanted("crowd") {
        crowd::run(args.seeds, args.budget, &mut report);
    }
    report.write(&args.output)
}

/// Prints the tables about rises of the share and adds them to the report.
fn share(seeds: u64, report: &mut Report) {
    println!("{seeds} seeds; 30 quiet days and 12 shifts of each size a seed\n");
    let protocol = [2.0, 20.0, 100.0]
        .into_iter()
        .flat_map(|a_minute| [0.0, 0.02].map(|rho| Scenario::steady(a_minute, rho)));
    let wandering = [2.0, 20.0, 100.0]
        .into_iter()
        .map(|a_minute| Scenario { wanders: true, ..Scenario::steady(a_minute, 0.02) });
    println!(
        "| tweets a minute | rho | detector | false alarms a month | 0.20 to 0.35: within 15 min | within 24 h | median delay | 0.20 to 0.25: within 15 min | within 24 h | median delay |"
    );
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut calibration = Vec::new();
    for scenario in protocol.chain(wandering) {
        let detectors = detectors();
        let outcomes = measure(scenario, seeds);
        for ((name, _), outcome) in detectors.iter().zip(&outcomes) {
            if !name.starts_with("budget") {
                report.row("detectors", print_row(scenario, name, outcome, seeds));
            }
        }
        let ours = &outcomes[..BUDGETS.len()];
        calibration.push((scenario, [0, 1, 2].map(|i| Rate::new(ours[i].false_alarms, seeds))));
    }
    println!("\nFalse alarms a month by budget:\n");
    println!("| tweets a minute | rho | 0.1 | 1 | 10 |\n| ---: | ---: | ---: | ---: | ---: |");
    for (scenario, alarms) in calibration {
        let [a, b, c] = &alarms;
        println!("| {} | {} | {a} | {b} | {c} |", scenario.a_minute, scenario.words());
        for (budget, alarms) in BUDGETS.iter().zip(alarms) {
            report.row(
                "budgets",
                json!({
                    "tweets_a_minute": scenario.a_minute,
                    "rho": scenario.words(),
                    "budget": budget,
                    "false_alarms_a_month": alarms.mean,
                    "false_alarms_a_month_interval": alarms.interval,
                }),
            );
        }
    }
}

/// The policy of a brand whose share and volumes have a budget together.
fn brand(budget: f64, volumes: &[Volume]) -> BuzzPolicy {
    let policy = BuzzPolicy {
        share: Ours::policy(1.0),
        volumes: volumes.iter().map(|counted| VolumePolicy::of(*counted)).collect(),
        reopen_minutes: REOPEN_MINUTES,
        thresholds: Thresholds::default(),
    };
    policy.with_budget(budget)
}

/// Our detector at each budget comes first.
fn detectors() -> Vec<(&'static str, Box<dyn Detector>)> {
    let ours = |budget| Box::new(Ours::new(budget)) as Box<dyn Detector>;
    let rival = |test| Box::new(Rival::new(test)) as Box<dyn Detector>;
    vec![
        ("budget 0.1", ours(BUDGETS[0])),
        ("**e-detector, budget 1**", ours(BUDGETS[1])),
        ("budget 10", ours(BUDGETS[2])),
        ("mean + 3 sigma", rival(Test::Sigmas)),
        ("binomial test, p < 0.001", rival(Test::Binomial)),
        ("two-proportion z > 3.09", rival(Test::TwoProportions)),
        ("CUSUM, h = ln 43200", rival(Test::Cusum { corrected: false })),
        ("CUSUM / dispersion, h = ln 43200", rival(Test::Cusum { corrected: true })),
    ]
}

fn measure(scenario: Scenario, seeds: u64) -> Vec<Outcome> {
    let mut all = vec![Outcome::default(); detectors().len()];
    for outcomes in each_seed(seeds, |seed| measure_seed(scenario, seed)) {
        for (all, one) in all.iter_mut().zip(outcomes) {
            all.false_alarms += one.false_alarms;
            for (all, one) in all.delays.iter_mut().zip(one.delays) {
                all.extend(one);
            }
        }
    }
    all
}

/// The results of all seeds, computed on all processors; in no particular order.
fn each_seed<T: Send>(seeds: u64, measure: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut found = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return found;
            }
            found.push(measure(seed));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let found = workers.into_iter().map(|it| it.join().expect("a worker does not panic"));
        found.flatten().collect()
    })
}

fn measure_seed(scenario: Scenario, seed: u64) -> Vec<Outcome> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (first, last) =
        (scenario.warm_up_days() * DAY, scenario.warm_up_days() * DAY + QUIET_DAYS * DAY);
    let mut source = Source::new(scenario, seed);
    let mut branches: Vec<_> =
        (0..SHIFTS).map(|_| random.random_range(first..last - SHIFT_MINUTES)).collect();
    branches.sort_unstable();
    let mut counts = Vec::new();
    // Each shift continues from the source's current state, with its own random numbers.
    let mut shifted = Vec::new();
    for m in 0..last {
        for (i, _) in branches.iter().enumerate().filter(|(_, branch)| **branch == m) {
            for (r, rise) in RISES.iter().enumerate() {
                let mut source = source.branch(seed * 1000 + (i * RISES.len() + r) as u64 + 1);
                let counts: Vec<_> = (m..m + SHIFT_MINUTES)
                    .map(|m| (Minute(m), source.counts(Minute(m), *rise)))
                    .collect();
                shifted.push((m, r, counts));
            }
        }
        counts.push((Minute(m), source.counts(Minute(m), 0.0)));
    }
    let quiet = Stream::new(&counts);
    let shifted: Vec<_> = shifted
        .into_iter()
        .map(|(from, r, shift)| {
            let history = &counts[usize::try_from(from - scenario.warm_up_days() * DAY)
                .expect("branches come after the warm-up")
                ..usize::try_from(from).expect("branches come after the warm-up")];
            (from, r, Stream::new(&[history, &shift[..]].concat()))
        })
        .collect();
    detectors()
        .into_iter()
        .map(|(name, mut detector)| {
            let mut outcome = Outcome::default();
            let mut shifts = shifted.iter().peekable();
            for m in first..last {
                while let Some((_, r, stream)) = shifts.next_if(|(from, ..)| *from == m) {
                    if name.starts_with("budget") {
                        continue;
                    }
                    let mut detector = detector.closed();
                    let found = (m..m + SHIFT_MINUTES).find(|m| detector.opens(stream, Minute(*m)));
                    outcome.delays[*r].push(found.map(|at| at - m + 1));
                }
                outcome.false_alarms += usize::from(detector.opens(&quiet, Minute(m)));
            }
            outcome
        })
        .collect()
}

/// Prints a row of the table, and returns it.
fn print_row(scenario: Scenario, name: &str, outcome: &Outcome, seeds: u64) -> Value {
    let Scenario { a_minute, .. } = scenario;
    let mut found = Vec::new();
    let alarms = Rate::new(outcome.false_alarms, seeds);
    print!("| {a_minute} | {} | {name} | {alarms} |", scenario.words());
    for delays in &outcome.delays {
        let mut delays = delays.clone();
        delays.sort_unstable_by_key(|delay| delay.unwrap_or(i64::MAX));
        let within = |minutes| {
            let count = delays.iter().flatten().filter(|delay| **delay <= minutes).count();
            100.0 * count as f64 / delays.len() as f64
        };
        let median_minutes = delays[delays.len() / 2];
        let median = median_minutes
            .map_or_else(|| "over 24 h".to_owned(), |minutes| format!("{minutes} min"));
        print!(" {:.0} % | {:.0} % | {median} |", within(15), within(DAY));
        found.push(json!({
            "within_15_min_percent": within(15),
            "within_24_h_percent": within(DAY),
            "median_minutes": median_minutes,
        }));
    }
    println!();
    json!({
        "tweets_a_minute": a_minute,
        "rho": scenario.words(),
        "detector": name.trim_matches('*'),
        "false_alarms_a_month": alarms.mean,
        "false_alarms_a_month_interval": alarms.interval,
        "rises": found,
    })
}
