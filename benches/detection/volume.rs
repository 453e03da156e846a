//! How soon are three times as many negative tweets found, and how many incidents do all views of a
//! brand open by chance?

use monitor_core::alerting::{
    BuzzPolicy, Volume, VolumePolicy, VolumeState, VolumeVerdict, backtest,
};
use monitor_core::domain::{Counts, Minute};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::rivals::{Detector, Ours};
use super::streams::{DAY, Scenario, Source, Stream};
use super::{QUIET_DAYS, Rate, SHIFT_MINUTES, SHIFTS, brand, common::Report, each_seed};

/// How many times as many tweets come.
const TIMES: f64 = 3.0;

/// The result of one seed.
struct Outcome {
    share: Vec<i64>,
    volume: Vec<i64>,
    /// Incidents of share and negative volume together, and with surges.
    incidents: [usize; 2],
    /// Minutes to the alarm about negative volume, for each rise.
    delays: Vec<Option<i64>>,
}

/// Prints the table and adds it to the report.
pub fn run(seeds: u64, budget: f64, report: &mut Report) {
    println!(
        "\n{TIMES} times as many tweets at the same share, found as negative volume; false alarms a month:\n"
    );
    println!(
        "| tweets a minute | rho | share alone | negative volume alone | incidents of both | and of surges | within 15 min | within 24 h | median delay |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let rates = [2.0, 20.0, 100.0];
    let steady = rates.map(|a_minute| Scenario::steady(a_minute, 0.02));
    let wandering =
        steady.map(|scenario| Scenario { wanders: true, volume_wanders: true, ..scenario });
    for scenario in steady.into_iter().chain(wandering) {
        let outcomes = each_seed(seeds, |seed| measure(scenario, seed, budget));
        let a_month =
            |count: &dyn Fn(&Outcome) -> usize| Rate::new(outcomes.iter().map(count).sum(), seeds);
        let share = a_month(&|outcome| outcome.share.len());
        let volume = a_month(&|outcome| outcome.volume.len());
        let [both, all] = [0, 1].map(|of| a_month(&|outcome| outcome.incidents[of]));
        let mut delays: Vec<i64> = (outcomes.iter().flat_map(|outcome| &outcome.delays))
            .map(|delay| delay.unwrap_or(i64::MAX))
            .collect();
        delays.sort_unstable();
        let within = |minutes| {
            100.0 * delays.partition_point(|delay| *delay <= minutes) as f64 / delays.len() as f64
        };
        let median = delays[delays.len() / 2];
        println!(
            "| {} | {} | {share} | {volume} | {both} | {all} | {:.0} % | {:.0} % | {median} min |",
            scenario.a_minute,
            scenario.words(),
            within(15),
            within(DAY),
        );
        report.row(
            "negative_volume",
            json!({
                "tweets_a_minute": scenario.a_minute,
                "rho": scenario.words(),
                "false_alarms_a_month": {"share": share.mean, "negative_volume": volume.mean, "both": both.mean, "all": all.mean},
                "false_alarms_a_month_interval": {"share": share.interval, "negative_volume": volume.interval, "both": both.interval, "all": all.interval},
                "within_15_min_percent": within(15),
                "within_24_h_percent": within(DAY),
                "median_minutes": median,
            }),
        );
    }
}

/// The incidents that these views open by chance from `first` on.
fn incidents(counts: &[(Minute, Counts)], first: i64, policy: &BuzzPolicy) -> usize {
    backtest(policy, counts, Minute(first), counts[counts.len() - 1].0).alerts.len()
}

fn measure(scenario: Scenario, seed: u64, budget: f64) -> Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let first = scenario.warm_up_days() * DAY;
    let last = first + QUIET_DAYS * DAY;
    let mut branches: Vec<i64> =
        (0..SHIFTS).map(|_| random.random_range(first..last - SHIFT_MINUTES)).collect();
    branches.sort_unstable();
    let mut source = Source::new(scenario, seed);
    let mut counts: Vec<(Minute, Counts)> = Vec::new();
    let mut risen = Vec::new();
    for m in 0..last {
        for (i, _) in branches.iter().enumerate().filter(|(_, branch)| **branch == m) {
            let mut source = source.branch(seed * 1000 + i as u64 + 1);
            let minutes = (m..m + SHIFT_MINUTES).map(Minute);
            let rise: Vec<_> = minutes.map(|at| (at, source.counts_of(at, 0.0, TIMES))).collect();
            risen.push((m, rise));
        }
        counts.push((Minute(m), source.counts(Minute(m), 0.0)));
    }
    let quiet = Stream::new(&counts);
    let daemon = brand(budget, &[Volume::Negative]);
    let mut share = Ours::of(daemon.share);
    let all = brand(budget, &[Volume::Negative, Volume::All]);
    let mut outcome = Outcome {
        share: Vec::new(),
        volume: Vec::new(),
        incidents: [&daemon, &all].map(|policy| incidents(&counts, first, policy)),
        delays: Vec::new(),
    };
    let policy = daemon.volumes[0];
    let mut state = VolumeState::default();
    let mut risen = risen.into_iter().peekable();
    for m in 0..last {
        while let Some((_, rise)) = risen.next_if(|(at, _)| *at == m) {
            let before = usize::try_from(m).expect("minutes count from 0");
            let history = before.saturating_sub(policy.history_minutes() as usize);
            let stream = Stream::new(&[&counts[history..before], &rise].concat());
            // An incident that is open is left out: nothing could open.
            if state.opened().is_none() {
                outcome.delays.push(delay(&policy, &stream, state.clone(), m));
            }
        }
        let minute = Minute(m);
        let (after, verdict) = policy.evaluate(&quiet.series, state, minute);
        state = after;
        if m >= first {
            if matches!(verdict, VolumeVerdict::Open(_)) {
                outcome.volume.push(m);
            }
            if share.opens(&quiet, minute) {
                outcome.share.push(m);
            }
        }
    }
    outcome
}

/// Minutes from `start` to the alarm.
fn delay(
    policy: &VolumePolicy,
    stream: &Stream,
    mut state: VolumeState,
    start: i64,
) -> Option<i64> {
    (start..start + SHIFT_MINUTES).find_map(|m| {
        let (after, verdict) =
            policy.evaluate(&stream.series, std::mem::take(&mut state), Minute(m));
        state = after;
        matches!(verdict, VolumeVerdict::Open(_)).then_some(m - start + 1)
    })
}
