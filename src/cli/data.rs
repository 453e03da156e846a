use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Label;
use monitor_core::format::percent_tenths;
use monitor_train::data::{self, Place, Profile, Quantiles};

/// Seconds between progress lines.
const TELL_EVERY_S: f64 = 2.0;
/// More days than this are listed by month.
const DAYS_LISTED_MAX: usize = 31;

/// Inspect files of labelled tweets
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Profile(ProfileArgs),
}

/// Describe a file of labelled tweets
///
/// Prints rows, layout, balance, authors, duplicates, rows left out and why, lengths, dates. FILE
/// has the layout of sentiment140 (six quoted columns, Latin-1), is a CSV or TSV with a header (label
/// and text, also sentiment, target, airline_sentiment, polarity and tweet; optionally user or
/// name, date, created_at or tweet_created) or has SemEval's tab-separated lines; plain, .xz,
/// .gz or .zip. The layout is detected from its first lines.
///
/// Malformed rows are counted and named by line; more than one in a hundred are an error.
///
///   monitor data profile training.1600000.processed.noemoticon.csv.zip --picture profile.svg
#[derive(Debug, clap::Args)]
struct ProfileArgs {
    /// Labelled tweets
    file: PathBuf,

    /// Write JSON
    #[arg(long)]
    json: bool,

    /// Draw the distributions into this SVG file
    #[arg(long, value_name = "FILE.svg", value_parser = super::output::svg_file)]
    picture: Option<PathBuf>,
}

/// Profiles a file.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Command::Profile(args) = args.command;
    let clock = SystemClock::new();
    let mut told_s = 0.0;
    let profile = data::profile(&args.file, |place| {
        let now_s = clock.elapsed().as_secs_f64();
        if now_s - told_s >= TELL_EVERY_S {
            told_s = now_s;
            eprintln!("{}", progress(place, now_s));
        }
    })?;
    if let Some(path) = &args.picture {
        super::output::write_whole(path, &data::picture(&profile))
            .with_context(|| format!("cannot write the picture {}", path.display()))?;
    }
    let text =
        if args.json { serde_json::to_string_pretty(&profile)? + "\n" } else { text(&profile) };
    match io::stdout().write_all(text.as_bytes()) {
        // A closed pipe, as in `| head`, is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn progress(place: Place, now_s: f64) -> String {
    let share = place.bytes as f64 / place.bytes_total.max(1) as f64;
    let left_s = now_s * (1.0 - share) / share.max(1e-3);
    format!(
        "{:3.0} %, {} rows, {:.0} rows/s, {left_s:.0} s left",
        100.0 * share,
        place.rows,
        place.rows as f64 / now_s
    )
}

/// The profile as text.
fn text(profile: &Profile) -> String {
    let mut out = format!("{}\nSHA-256 {}\n", profile.file, profile.sha256);
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a String cannot fail");
    let sound = profile.balance.total();
    let percent = |rows: u64| format!("{:>7}", percent_tenths(rows as f64 / sound.max(1) as f64));
    let mut row = |name: &str, value: String| line(format!("  {name:<22} {value}"));

    row("layout", profile.layout.clone());
    row("rows", format!("{:>9}", profile.rows_read));
    for left in &profile.left_out {
        let lines: Vec<String> = left.first_lines.iter().map(u64::to_string).collect();
        let first = if left.rows > lines.len() { "first lines" } else { "lines" };
        row(
            "  left out",
            format!("{:>9}  {}, {first} {}", left.rows, left.reason, lines.join(", ")),
        );
    }
    for target in Label::ALL {
        let rows = profile.balance.of(target);
        row(&format!("  {}", target.word()), format!("{rows:>9}  {}", percent(rows)));
    }
    let d = profile.duplicates;
    row("distinct texts", format!("{:>9}", d.distinct_texts));
    row("  exact duplicates", format!("{:>9}  {}", d.duplicate_rows, percent(d.duplicate_rows)));
    row(
        "  conflicting targets",
        format!("{:>9}  texts, in {} rows", d.conflicting_texts, d.conflicting_rows),
    );
    let users = &profile.users;
    row("distinct users", format!("{:>9}", users.distinct));
    row(
        "  rows without one",
        format!("{:>9}  {}", users.rows_without, percent(users.rows_without)),
    );
    for author in &users.most_prolific {
        row("  most prolific", format!("{:>9}  {}", author.rows, author.user));
    }
    row("quantiles", "     50 %   75 %   90 %   95 %   99 %    max".into());
    let mut lengths = |name: &str, q: Quantiles| {
        let figures = [q.p50, q.p75, q.p90, q.p95, q.p99, q.max];
        row(name, figures.map(|figure| format!("{figure:>7}")).concat());
    };
    lengths("  words", profile.words);
    lengths("  words of `tweet`", profile.tweet_words);
    lengths("  characters", profile.characters);
    row("sequence length", format!("{:>9}  words hold 95 % of the texts whole", profile.words.p95));
    let dates = &profile.dates;
    if let (Some(from), Some(to)) = (dates.from, dates.to) {
        row("dates", format!("{} to {} UTC", from.format("%F %T"), to.format("%F %T")));
    }
    row(
        "  rows without one",
        format!("{:>9}  {}", dates.rows_without, percent(dates.rows_without)),
    );
    for (name, balance) in dates.listed(DAYS_LISTED_MAX) {
        let counts = Label::ALL.map(|target| format!("{} {}", balance.of(target), target.word()));
        row(&format!("  {name}"), format!("{:>9}  {}", balance.total(), counts.join(", ")));
    }
    out
}
