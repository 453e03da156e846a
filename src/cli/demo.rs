use std::io::Stdout;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use tokio_util::sync::CancellationToken;

use super::output::Progress;
use super::run::require_brands;
use super::signals::stop_on_signals;
use super::{one_line, telemetry, warn_of_hashes};
use crate::demo::{DemoEvent, DemoRequest, STOP_MAX, demo};
use crate::settings;
use monitor_core::domain::{Counts, Evidence, Incident, Minute};
use monitor_core::format::percent;

/// Run everything embedded on a week of real airline tweets
///
/// Starts a broker (librdkafka's in-process cluster), Postgres, a mail server and a webhook
/// receiver, runs the daemon on them, and replays 14,640 tweets that people wrote to six US
/// airlines from 17 to 24 February 2015, some thousand times as fast as they were written.
/// Shows progress, then the alerts that fired and the mails as files to open.
///
/// MONITOR_KAFKA__BROKERS and DATABASE_URL name a broker and a Postgres to use instead; the
/// demo creates a topic and a database of its own there, and removes them at its end.
///
/// With --tweets and a settings file it shows your own tweets: brands, model, alerting and
/// kafka.format are those of the file, and all else stays embedded, so nobody is notified. Without --tweets no settings file is read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many times faster than the tweets were written; 0 is as fast as possible
    #[arg(long, default_value_t = 8000.0, value_name = "FACTOR")]
    speed: f64,

    /// Your own tweets, about the brands of the settings [default: the week of the airlines]
    #[arg(long, value_name = "FILE")]
    tweets: Option<PathBuf>,

    /// Folder for the mails
    #[arg(long, default_value = "target/demo", value_name = "DIR")]
    output: PathBuf,

    /// At the end, keep Postgres and the page up until Ctrl-C, and after that the database's
    /// folder (or the database and the topic, if they are on your servers)
    #[arg(long)]
    keep: bool,
}

pub fn run(
    args: Args,
    config: Option<&Path>,
    overrides: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let mut settings = settings::load(None, &overrides)?;
    if args.tweets.is_some() {
        let own = settings::load(config, &overrides)?;
        require_brands(&own)?;
        (settings.brands, settings.model) = (own.brands, own.model);
        settings.alerting = own.alerting;
        settings.kafka.format = own.kafka.format;
        warn_of_hashes(&settings.alerting);
    }
    if !overrides.iter().any(|(key, _)| key == "log.filter") {
        settings.log.filter = "error".into();
    }
    let _traces = telemetry::start(&settings)?;
    let Args { speed, tweets, output, keep } = args;
    let what = match &tweets {
        Some(file) => format!("The tweets of {}", file.display()),
        None => "A week of tweets to six US airlines (17 to 24 February 2015)".to_owned(),
    };
    let pace = match speed {
        0.0 => "as fast as possible".to_owned(),
        _ => format!("{speed} times as fast"),
    };
    let request = DemoRequest { speed, tweets, output, keep };
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        println!("{what}, {pace}.\n");
        let mut line = Progress::stdout();
        demo(&request, settings, &stop, &mut |event| show(event, &mut line))
            .await
            .map_err(|error| anyhow!(error))
    });
    runtime.shutdown_timeout(STOP_MAX);
    outcome
}

/// What an analyst may ask first.
const FIRST_QUERY: &str =
    "SELECT day, brand, tweets, share FROM share_per_day ORDER BY brand, day;";

/// Prints one event.
fn show(event: DemoEvent<'_>, line: &mut Progress<Stdout>) {
    match event {
        DemoEvent::Progress { sent, totals, mails } => {
            let at = sent.at.map_or(String::new(), |at| at.format("%a %d %b %H:%M").to_string());
            line.show(&format!(
                "  {at}  {} tweets sent, {} distinct scored, {mails} mails",
                sent.sent, totals.scores
            ));
        }
        DemoEvent::Ready { name, place } => println!("  {name:<9} {place}"),
        DemoEvent::ReplayStarts => println!(),
        DemoEvent::Mail { subject } => {
            line.clear();
            println!("  mail: {subject}");
        }
        DemoEvent::CaughtUp { sent, totals, elapsed, incidents, has_authors } => {
            line.clear();
            println!(
                "  {} tweets sent; {} distinct scored, {} in other languages, {} dead letters, in {:.0} s",
                sent.sent,
                totals.scores,
                totals.not_judged,
                totals.dead_letters,
                elapsed.as_secs_f64()
            );
            if !has_authors {
                println!(
                    "  None names its author, so no alert tells reach, accounts or how many people."
                );
            }
            println!("\nAlerts: {}", incidents.len());
            println!(
                "  {:<18} {:<15} {:>9} {:>9} {:>11}  resolved",
                "opened (UTC)", "brand", "negative", "expected", "tweets"
            );
            for incident in incidents {
                println!("  {}", alert_line(incident));
            }
        }
        DemoEvent::Saved { folder, mails, webhooks } => {
            println!("\nMails, as files to open:");
            for (file, subject) in mails {
                println!("  {}  {subject}", file.display());
            }
            let files = folder.join("webhook-*.json");
            println!("Webhooks: {webhooks} received, as {}", files.display());
        }
        DemoEvent::StillUp { page, database } => {
            println!("\nStill up, until Ctrl-C: {page}");
            println!(
                "  Click the alert on top (why, who was told, its tweets), or a point of a chart to read its tweets."
            );
            println!("  {database}");
            println!("  A first query: {FIRST_QUERY}");
        }
        DemoEvent::Ends => {
            println!("To look around in the database and at the page: scripts/demo --keep");
        }
        DemoEvent::FolderKept(folder) => {
            println!("Postgres is stopped; its folder stays: {}", folder.display());
        }
        DemoEvent::CleanUpFailed { what, error } => {
            eprintln!("{what}: {}", one_line(&anyhow!(error)));
        }
    }
}

fn alert_line(incident: &Incident) -> String {
    let time = |minute: Minute| minute.start().format("%a %d %b %H:%M");
    let until = incident.resolved.map_or("still open".to_owned(), |m| time(m).to_string());
    let (negative, expected, tweets) = match incident.evidence {
        Evidence::Share(e) => (percent(e.observed_share()), percent(e.expected_share), e.observed),
        // How many, not which part.
        Evidence::NegativeVolume(e) | Evidence::Surge(e) => {
            (e.observed.to_string(), format!("{:.0}", e.expected), e.tweets)
        }
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => {
            (incident.cause().as_str().to_owned(), String::new(), Counts::default())
        }
    };
    let what = format!("{negative:>9} {expected:>9} {:>4} of {:>4}", tweets.negative, tweets.total);
    format!("{:<18} {:<15} {what}  {until}", time(incident.opened).to_string(), incident.brand)
}
