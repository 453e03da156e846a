use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use super::models::aligned;
use super::output::{print, print_json, svg_file, write_whole};
use super::times::{show as when, time};
use super::{require_brand, with_store};
use crate::drift::{InForce, Window, about, of_files, of_store, picture};
use crate::settings::open_options;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Minute, Switches};
use monitor_core::drift::{Change, Measure, Measured, Report};
use monitor_core::format::{percent_tenths, thousands};
use monitor_model as classifier;
use monitor_store::Store as _;

/// Longest period, in days.
const DAYS_MAX: i64 = 31;

/// Show whether recent tweets differ from those before
///
/// Compares the stored tweets of a period, the newest whole day by default, with the periods of the same
/// length before it: words that the model does not know, languages, lengths, scores, and whether a
/// classifier can tell the tweets from others. Days always differ; the limit of each measure follows from
/// how much the periods before differ from each other and from drift.false_alarms_per_month.
///
/// With --reference and --data it compares two files instead, such as the tweets that a model was
/// trained on with those of today. A file has text and time (as for `monitor backtest`) or text and label
/// (as for `monitor retrain`).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tweets about this brand [default: tweets about any brand]
    #[arg(long)]
    brand: Option<String>,

    /// Start of the period, by the tweets' own time, in UTC [default: --days before its end]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "days")]
    from: Option<DateTime<Utc>>,

    /// Its end [default: the start of the day of the newest tweet]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,

    /// Its length in days
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=31))]
    days: u32,

    /// The file to compare with
    #[arg(long, value_name = "FILE", requires = "data", conflicts_with_all = ["brand", "from", "to", "days"])]
    reference: Option<PathBuf>,

    /// The file that is judged
    #[arg(long, value_name = "FILE", requires = "reference")]
    data: Option<PathBuf>,

    /// The model whose words and scores are compared [default: the one that scores the stream; for files
    /// model.name of the settings]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw each measure of each period into this SVG file
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    picture: Option<PathBuf>,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    ensure!(
        settings.drift.tweets_per_day > 0,
        "drift.tweets_per_day is 0, so there is nothing to compare; give another value: \
         --set drift.tweets_per_day=1000"
    );
    let (report, model) = match (&args.reference, &args.data) {
        (Some(reference), Some(data)) => {
            let name = args.model.as_deref().unwrap_or(&settings.model.name);
            let mut model = classifier::open(&open_options(&settings.model), name)?;
            let now = SystemClock::new().now();
            let (report, notes) = of_files(reference, data, settings.drift, &mut model, now)?;
            notes.iter().for_each(|note| eprintln!("{note}"));
            (report, model.id.to_string())
        }
        _ => of_stored(&args, &settings)?,
    };
    if let Some(path) = &args.picture {
        write_whole(path, &picture(&report))?;
    }
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["model"] = model.into();
        return print_json(&json);
    }
    print(&text(&report, &model, settings.drift.false_alarms_per_month))
}

fn of_stored(args: &Args, settings: &Settings) -> anyhow::Result<(Report, String)> {
    if let Some(brand) = &args.brand {
        let brands: Vec<&str> = settings.brands.keys().map(String::as_str).collect();
        require_brand(brand, &brands)?;
    }
    let (progress, switches) = with_store(settings, async |store| {
        Ok((store.progress(&settings.kafka.topic).await?, store.switches().await?))
    })?;
    let newest = progress.iter().filter_map(|partition| partition.event_time_max).max();
    let newest = newest.context("there is no tweet in the database yet")?;
    let to = args.to.unwrap_or_else(|| Window::last_day(newest).to.start());
    let from = args.from.unwrap_or(to - TimeDelta::days(i64::from(args.days)));
    ensure!(from < to, "--from {} is not before --to {}", when(from), when(to));
    ensure!(to - from <= TimeDelta::days(DAYS_MAX), "the period is longer than {DAYS_MAX} days");
    let window = Window { from: Minute::of(from), to: Minute::of(to) };
    let name = args.model.clone().unwrap_or_else(|| in_force(&switches, window, settings));
    let opened = classifier::open(&open_options(&settings.model), &name)?;
    let model = InForce { id: opened.id.to_string(), encoder: Arc::clone(&opened.encoder) };
    let report = with_store(settings, async |store| {
        Ok(of_store(store, args.brand.as_deref(), window, settings.drift, &model).await)
    })??;
    Ok((report, model.id))
}

/// The model that scores at the end of the period.
fn in_force(switches: &Switches, window: Window, settings: &Settings) -> String {
    let switch = switches.at(window.to.plus(-1));
    switch.map_or_else(|| settings.model.name.clone(), |switch| switch.model.clone())
}

/// A value of a measure, for people.
fn value(measure: Measure, value: f64) -> String {
    if measure == Measure::UnknownWords { percent_tenths(value) } else { format!("{value:.3}") }
}

fn text(report: &Report, model: &str, false_alarms_per_month: f64) -> String {
    let mut out = format!(
        "{}: {} tweets, compared with {} of {} periods before; words and scores by {model}\n\n",
        report.recent,
        thousands(report.tweets as u64),
        thousands(report.reference_tweets as u64),
        report.reference.len(),
    );
    let header = ["measure", "value", "usual", "limit", "verdict"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for it in &report.measures {
        let show =
            |number: Option<f64>| number.map_or("-".into(), |it_is| value(it.measure, it_is));
        let usual = it.usual_range().map_or("-".into(), |(low, high)| {
            format!("{} to {}", value(it.measure, low), value(it.measure, high))
        });
        let name = it.measure.as_str().replace('_', " ");
        rows.push(vec![name, show(it.value), usual, show(it.limit), it.verdict.to_string()]);
    }
    out.push_str(&aligned(&rows));
    writeln!(
        out,
        "\nChance alone is expected to call {false_alarms_per_month} days of 30 drifted, over all measures."
    )
    .expect("writing to a string cannot fail");
    for drifted in report.drifted() {
        writeln!(out, "{}", changed(drifted)).expect("writing to a string cannot fail");
    }
    out
}

/// What has changed, in one line.
fn changed(drifted: &Measured) -> String {
    let figure = |number: f64| match drifted.measure {
        Measure::Lengths => format!("{number:.0}"),
        Measure::Scores => format!("{number:.2}"),
        _ => percent_tenths(number),
    };
    let change = |change: &Change| {
        format!("{} {} -> {}", change.what, figure(change.before), figure(change.now))
    };
    let (of, are_shares) = match drifted.measure {
        Measure::UnknownWords | Measure::Languages | Measure::Domain => {
            (" (share of tweets)", true)
        }
        Measure::Lengths | Measure::Scores => ("", false),
    };
    // A share that has fallen says no more than those that have risen.
    let shown = drifted.changes.iter().filter(|it| !are_shares || it.now > it.before);
    let changes: Vec<String> = shown.map(change).collect();
    format!("{}{of}: {}", about(drifted.measure), changes.join(", "))
}
