//! How often does the default rule cry wolf?
//!
//! Judges simulated quiet streams minute by minute, as the daemon does: tweets come
//! independently at an even rate (Poisson), each negative with an even probability. Every
//! incident that opens is a false alarm. Real tweets hang together more than that, so these
//! are figures of the rule, not promises.
//!
//! `scripts/bench false_alarms [--days 400]`

use clap::Parser;
use monitor::alerting::{Rule, Series, State, Verdict};
use monitor::config::Alerting;
use monitor::domain::{Counts, Minute};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DAY: i64 = 1440;
/// Length of one simulated stream, in days.
const STREAM_DAYS: i64 = 10;

#[derive(Parser)]
struct Args {
    /// Days simulated for each volume and share, in streams of ten
    #[arg(long, default_value_t = 400)]
    days: u32,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let streams = u64::from(args.days).div_ceil(STREAM_DAYS.unsigned_abs());
    let days = streams as f64 * STREAM_DAYS as f64;
    println!("Default rule, {days} days each; false alarms per 30 days\n");
    println!("| tweets a minute | share | z_min = 4.0 | 4.5 (default) | 5.0 |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let mut all = [0; 3];
    for a_minute in [0.5, 2.0, 20.0] {
        for share in [0.1, 0.2, 0.4, 0.6, 0.8] {
            let alarms = [4.0, 4.5, 5.0].map(|z_min| {
                let rule = monitor::pipeline::rule(&Alerting { z_min, ..Alerting::default() });
                (0..streams).map(|seed| alarms(&rule, &stream(a_minute, share, seed))).sum::<u32>()
            });
            let [a, b, c] = alarms.map(|n| f64::from(n) / days * 30.0);
            println!("| {a_minute} | {share} | {a:.2} | {b:.2} | {c:.2} |");
            for (all, alarms) in all.iter_mut().zip(alarms) {
                *all += alarms;
            }
        }
    }
    let [a, b, c] = all;
    println!("\nAlarms in all {} days: {a} at 4.0, {b} at 4.5, {c} at 5.0", days * 15.0);
}

fn stream(a_minute: f64, share: f64, seed: u64) -> Vec<(Minute, Counts)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..STREAM_DAYS * DAY)
        .map(|minute| {
            let total = poisson(a_minute, &mut random);
            let negative = (0..total).filter(|_| random.random_bool(share)).count() as u64;
            (Minute(minute), Counts { total, negative })
        })
        .collect()
}

/// Knuth, "The Art of Computer Programming", volume 2, section 3.4.1.
fn poisson(mean: f64, random: &mut ChaCha8Rng) -> u64 {
    let (limit, mut product, mut count) = ((-mean).exp(), random.random::<f64>(), 0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}

fn alarms(rule: &Rule, counts: &[(Minute, Counts)]) -> u32 {
    let last = counts[counts.len() - 1].0;
    let mut left_out = Vec::new();
    let mut series = Series::new(Minute(0), last, counts, &left_out);
    let (mut state, mut opened) = (State::default(), 0);
    for minute in (0..=last.0).map(Minute) {
        let verdict = rule.judge(&series, &state, minute);
        match (verdict, state.open) {
            (Verdict::Open(_), _) => opened += 1,
            (Verdict::Resolve(..), Some(open)) => {
                left_out.push(rule.left_out(open.opened, minute));
                series = Series::new(Minute(0), last, counts, &left_out);
            }
            _ => {}
        }
        state = state.after(&verdict, minute);
    }
    opened
}
