use std::path::PathBuf;

use anyhow::ensure;
use monitor_config::Settings;
use tokio_util::sync::CancellationToken;

use super::output::{Progress, print, print_json};
use super::signals::stop_on_signals;
use crate::replay::{self, ReplayRequest, check, replay};

/// Send a file of tweets to Kafka, at the pace they were written or faster
///
/// FILE is CSV with a header (columns id, created_at and text, and optionally author, followers,
/// retweets and retweet_of, in any order; other columns are ignored) or JSON lines (in any format
/// of kafka.format, sent unchanged), plain, .xz, .gz or .zip, ordered by time. Each record's
/// key is the tweet's id. Invalid rows of a CSV are counted and skipped, and the first few are
/// named.
///
///   monitor replay tests/fixtures/airline-week.csv.xz --speed 8000
///
/// With --check nothing is sent. It prints what the daemon would make of the file: tweets by
/// format, notices (deletions, keep-alives, posts without a text) and dead letters by reason, with
/// the first line of each.
///
///   monitor replay --check tests/fixtures/formats/x-compliance.jsonl
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// CSV or JSON lines, plain, .xz, .gz or .zip
    file: PathBuf,

    /// How many times faster than the tweets were written; 0 is as fast as the broker accepts
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    speed: f64,

    /// Event times: as in the file, or the moment at which each record is sent
    #[arg(long, value_enum, default_value_t = Times::Keep)]
    times: Times,

    /// Stop after this many tweets
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Send nothing; say what would become of each row
    #[arg(long, conflicts_with_all = ["speed", "times", "limit"])]
    check: bool,

    /// With --check, print JSON: an object with tweets, notices and dead_letters (lists of objects with reason, format,
    /// rows, first_line, first_problem and first_record), unreadable (rows and first: line, reason), wrapped,
    /// edits and cut
    #[arg(long, requires = "check")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Times {
    /// Keep them.
    Keep,
    /// Replace each by the moment at which its record is sent.
    Now,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    if args.check {
        let checked = check(&args.file, &settings.kafka)?;
        if args.json {
            print_json(&checked)?;
        } else {
            print(&checked.to_string())?;
        }
        ensure!(checked.readable() > 0, "{}: no row is readable", args.file.display());
        return Ok(());
    }
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Runtime::new()?;
    let _entered = runtime.enter();
    stop_on_signals(stop.clone())?;
    let request = ReplayRequest {
        file: args.file,
        speed: args.speed,
        times: match args.times {
            Times::Keep => replay::Times::Keep,
            Times::Now => replay::Times::Now,
        },
        limit: args.limit,
    };
    let mut progress = Progress::stderr();
    let sent = replay(&request, &settings.kafka, &stop, &mut |sent| {
        progress.show(&sent.to_string());
    })?;
    progress.end(&sent.to_string());
    ensure!(sent.failed == 0, "the broker did not accept {} records", sent.failed);
    Ok(())
}
