//! How well are surges in volume found?
//!
//! The detector of `alerting/volume.rs`, with its defaults, on the tweet counts of the Numenta
//! Anomaly Benchmark: tweets about companies in five minutes, with anomalies labelled by
//! people, scored by that benchmark's rules. An alarm is an incident that opens. No parameter
//! was chosen by the labels; the benchmark itself allows a detector the threshold that scores
//! best on them. The rivals alarm in every row beyond their threshold, or, as incidents, in
//! the first row of each run.
//!
//! `scripts/bench nab [--data ../shared/data/nab] [--json FILE]`

mod common;

#[path = "nab/rivals.rs"]
mod rivals;
#[path = "nab/scoring.rs"]
mod scoring;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use chrono::NaiveDateTime;
use clap::Parser;
use common::{Output, Report};
use liblzma::read::XzDecoder;
use monitor_core::alerting::{
    Series, StreamPolicy, StreamSnapshot, StreamState, StreamVerdict, Volume, VolumePolicy,
    VolumeState, VolumeVerdict, expected_tweets,
};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Counts, Minute};
use serde_json::{Value, json};

use scoring::{Labels, PROFILES, normalised};

/// Minutes of a row.
const STEP: i64 = 5;
const RANDOM_SEEDS: u64 = 100;

/// Scores the volume detector by the rules of the Numenta Anomaly Benchmark
///
/// Compares it with simple thresholds on the benchmark's series of tweets about companies.
/// Prints alarms, labelled windows found, false alarms a brand and month, and the scores; and which gaps
/// without a tweet alarm as a brand that went quiet.
#[derive(Parser)]
struct Args {
    /// Folder with the benchmark's realTweets series (.csv.xz) and labels.json
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/nab"))]
    data: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// One of the benchmark's series.
struct Company {
    name: String,
    first: Minute,
    values: Vec<f64>,
    labels: Labels,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let labels = args.data.join("labels.json");
    if !labels.exists() {
        eprintln!(
            "{} does not exist: give the folder of NAB's tweet series with --data",
            labels.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    let companies = read(&labels)?;
    let windows: usize = companies.iter().map(|c| c.labels.counted().count()).sum();
    let days = companies.iter().map(|c| c.values.len()).sum::<usize>() as f64 / 288.0;
    println!("{} series, {days:.0} days, {windows} labelled windows\n", companies.len());

    let mut report = Report::new(
        "nab",
        json!({"series": companies.len(), "days": days, "labelled_windows": windows}),
    );
    let clock = SystemClock::new();
    let surges: Vec<_> = companies.iter().map(surges).collect();
    let ours: Vec<Vec<usize>> =
        surges.iter().map(|surges| surges.iter().map(|surge| surge.0).collect()).collect();
    let took = clock.elapsed().as_secs_f64() / days * 90.0;
    println!("| detector | alarms | windows found | false, a brand and month | {} |", {
        PROFILES.map(|profile| profile.name).join(" | ")
    });
    println!("| :--- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut row = |name: &str, alarms: &[Vec<usize>]| {
        let one = |(c, alarms): (&Company, &Vec<usize>)| c.labels.tally(alarms, &PROFILES[0]);
        let tallies: Vec<_> = companies.iter().zip(alarms).map(one).collect();
        let found: usize = tallies.iter().map(|tally| tally.found).sum();
        let wrong: usize = tallies.iter().map(|tally| tally.false_alarms).sum();
        let all: usize = alarms.iter().map(Vec::len).sum();
        let scores = PROFILES.map(|profile| {
            let pairs = companies.iter().zip(alarms).map(|(c, a)| (&c.labels, a.as_slice()));
            normalised(pairs, &profile)
        });
        let a_month = wrong as f64 / days * 30.0;
        println!("| {name} | {all} | {found} | {a_month:.1} | {} |", joined(scores));
        report.row(
            "detectors",
            json!({
                "detector": name,
                "alarms": all,
                "windows_found": found,
                "false_alarms_a_brand_and_month": a_month,
                "scores": by_profile(scores),
            }),
        );
    };
    row("ours", &ours);
    let apart: Vec<_> = surges.iter().map(|surges| a_day_apart(surges)).collect();
    row("ours, within a day of the end of one as one", &apart);
    type Rival = fn(&[f64]) -> Vec<usize>;
    let named: [(&str, Rival); 3] = [
        ("mean + 3 sigma of two days", rivals::mean_3_sigma),
        ("median + 3 MAD of two days", rivals::median_3_mad),
        ("seasonal median + 3 MAD", rivals::seasonal_3_mad),
    ];
    for (name, rival) in named {
        let rows: Vec<_> = companies.iter().map(|c| rival(&c.values)).collect();
        row(&format!("{name}, each row"), &rows);
        let incidents: Vec<_> = rows.iter().map(|rows| rivals::incidents(rows)).collect();
        row(&format!("{name}, incidents"), &incidents);
    }
    let random = random(&companies, &ours);
    println!("| random, as many as ours | | | | {} |", joined(random));
    row("none (must be 0)", &vec![Vec::new(); companies.len()]);
    let firsts = |c: &Company| c.labels.windows.iter().map(|window| window.0).collect();
    row("perfect (must be 100)", &companies.iter().map(firsts).collect::<Vec<_>>());

    report.value("random_scores", by_profile(random));
    println!("\nOurs by series:\n");
    for (company, alarms) in companies.iter().zip(&ours) {
        let tally = company.labels.tally(alarms, &PROFILES[0]);
        println!(
            "{}: {} of {} windows, {} false alarms",
            company.name,
            tally.found,
            company.labels.counted().count(),
            tally.false_alarms
        );
        report.row(
            "series",
            json!({
                "series": company.name,
                "windows_found": tally.found,
                "windows": company.labels.counted().count(),
                "false_alarms": tally.false_alarms,
            }),
        );
    }
    println!("\nA brand that went quiet, by series:\n");
    for company in &companies {
        let gaps = gaps(company);
        let named: Vec<_> =
            gaps.iter().map(|(at, m)| format!("{m} minutes from {}", at.start())).collect();
        println!("{}: {}", company.name, named.join(", "));
        report.row(
            "quiet",
            json!({
                "series": company.name,
                "alarms": gaps.len(),
                "minutes_of_gaps": gaps.iter().map(|(_, minutes)| minutes).collect::<Vec<_>>(),
            }),
        );
    }
    println!("\n90 days of one brand take {took:.2} s");
    report.value("seconds_for_90_days_of_a_brand", took.into());
    report.write(&args.output)?;
    Ok(ExitCode::SUCCESS)
}

/// The scores of all profiles, as cells of a table.
fn joined(scores: [f64; PROFILES.len()]) -> String {
    scores.map(|score| format!("{score:.1}")).join(" | ")
}

/// The scores of all profiles by name.
fn by_profile(scores: [f64; PROFILES.len()]) -> Value {
    PROFILES
        .iter()
        .zip(scores)
        .map(|(profile, score)| (profile.name.to_owned(), Value::from(score)))
        .collect()
}

/// The gaps without a tweet that alarm as those of a brand that went quiet: their first minutes and their lengths.
fn gaps(company: &Company) -> Vec<(Minute, i64)> {
    let limit = monitor_config::Settings::default().alerting.brand_quiet_minutes_max;
    let policy = StreamPolicy { quiet_minutes_max: limit, ..StreamPolicy::default() };
    let (mut state, mut hours) = (StreamState::default(), Vec::<(Minute, u64)>::new());
    let (mut newest, mut gaps) = (company.first, Vec::<(Minute, i64)>::new());
    for (row, value) in (0..).zip(&company.values) {
        let end = company.first.plus((row + 1) * STEP);
        if *value > 0.0 {
            // One that has alarmed ends here.
            if let Some((from, 0)) = gaps.last().copied() {
                gaps.pop();
                gaps.push((from, end.plus(-STEP).0 - from.0));
            }
            newest = end;
            let hour = end.plus(-1).hour_start();
            match hours.last_mut() {
                Some((last, tweets)) if *last == hour => *tweets += *value as u64,
                _ => hours.push((hour, *value as u64)),
            }
        }
        let (now, last) = (end.start(), newest.start());
        let may_alarm = end.0 - newest.0 >= i64::from(limit);
        let seen = StreamSnapshot {
            now,
            last_record_at: Some(last),
            at_end: true,
            oldest_unread_at: None,
            expected: may_alarm.then(|| expected_tweets(&hours, last, now)).flatten(),
        };
        let (after, verdict) = policy.evaluate_quiet(&seen, state);
        state = after;
        if matches!(verdict, StreamVerdict::Open(_)) {
            gaps.push((newest, 0));
        }
    }
    gaps
}

/// The rows in which our detector opens an incident, and resolves it.
fn surges(company: &Company) -> Vec<(usize, usize)> {
    let counts: Vec<_> = (0..)
        .zip(&company.values)
        .map(|(row, value)| {
            (company.first.plus(row * STEP), Counts { total: *value as u64, negative: 0 })
        })
        .collect();
    let first = company.first.plus(-company.first.0.rem_euclid(STEP));
    let last = first.plus(company.values.len() as i64 * STEP - 1);
    let series = Series::new(first, last, &counts, &[]);
    let policy = VolumePolicy::of(Volume::All);
    let (mut state, mut rows) = (VolumeState::default(), Vec::new());
    for minute in (first.0..=last.0).map(Minute) {
        let (after, verdict) = policy.evaluate(&series, state, minute);
        let row = ((minute.0 - first.0) / STEP) as usize;
        match verdict {
            VolumeVerdict::Open(_) => rows.push((row, company.values.len())),
            VolumeVerdict::Resolve(..) => {
                rows.last_mut().expect("only an open incident resolves").1 = row;
            }
            _ => {}
        }
        state = after;
    }
    rows
}

/// The rows in which an incident opens that begins more than a day after the end of the one before.
fn a_day_apart(surges: &[(usize, usize)]) -> Vec<usize> {
    let day = (1440 / STEP) as usize;
    let first = |at: &usize| *at == 0 || surges[*at].0 - surges[at - 1].1 > day;
    (0..surges.len()).filter(first).map(|at| surges[at].0).collect()
}

/// Scores of random alarms, on average as many as ours; the mean of many seeds.
fn random(companies: &[Company], ours: &[Vec<usize>]) -> [f64; PROFILES.len()] {
    let alarms = |seed| {
        companies.iter().zip(ours).zip(0..).map(move |((company, ours), n)| {
            rivals::random(company.values.len(), ours.len() as f64, seed * 1000 + n)
        })
    };
    PROFILES.map(|profile| {
        let one = |seed| {
            let alarms: Vec<_> = alarms(seed).collect();
            let pairs = companies.iter().zip(&alarms).map(|(c, a)| (&c.labels, a.as_slice()));
            normalised(pairs, &profile)
        };
        (0..RANDOM_SEEDS).map(one).sum::<f64>() / RANDOM_SEEDS as f64
    })
}

fn read(labels: &Path) -> anyhow::Result<Vec<Company>> {
    let text = fs::read_to_string(labels).with_context(|| labels.display().to_string())?;
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).with_context(|| labels.display().to_string())?;
    windows
        .iter()
        .map(|(path, windows)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let path = labels.with_file_name(format!("{name}.xz"));
            company(name, &path, windows).with_context(|| path.display().to_string())
        })
        .collect()
}

fn company(name: &str, path: &Path, windows: &[[String; 2]]) -> anyhow::Result<Company> {
    let mut text = String::new();
    XzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let (at, value) = line.split_once(',').with_context(|| format!("no comma in {line}"))?;
        times.push(minute(at)?);
        values.push(value.parse()?);
    }
    ensure!(
        times.windows(2).all(|pair| pair[1].0 - pair[0].0 == STEP),
        "its rows are not five minutes apart"
    );
    let row = |at: &String| -> anyhow::Result<usize> {
        times.binary_search(&minute(at)?).ok().with_context(|| format!("no row at {at}"))
    };
    let windows = windows
        .iter()
        .map(|[first, last]| Ok((row(first)?, row(last)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let first = *times.first().context("it has no rows")?;
    let labels = Labels { rows: values.len(), windows };
    Ok(Company { name: name.to_owned(), first, values, labels })
}

fn minute(at: &str) -> anyhow::Result<Minute> {
    Ok(Minute::of(NaiveDateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S%.f")?.and_utc()))
}
