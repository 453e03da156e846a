use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::models::aligned;
use super::output::{print, print_json};
use super::times::{show as when, time};
use super::with_store;
use crate::replay::resend;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Offset, TopicPartition};
use monitor_ingest::{Content, Headers, Raw, WireLimits, decode};
use monitor_store::{LetterFilter, StoredLetter};

/// Most dead letters that one `retry` reads.
const RETRY_MAX: u32 = 10_000;
/// Dead letters at one place that are shown: more than one only if the topic was recreated.
const SHOWN_MAX: u32 = 10;
/// Reasons that a list begins with.
const REASONS_MAX: u32 = 20;
/// Characters of a payload in a list.
const SHOWN_CHARS_MAX: usize = 60;

/// List, show, retry and delete dead letters: records that are not tweets
///
/// A record becomes a dead letter with a reason and a copy of its first 4 KB.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Count the reasons, and list the newest dead letters
    List(List),
    /// Show one with its copy; more than one if the topic was recreated
    Show(Place),
    /// Send those again that can be read now, and delete them
    ///
    /// Each copy is decoded first, with this version and these settings. What would be a dead letter
    /// again stays, and so does a record of which the copy is only the beginning. Headers and keys are not
    /// stored, and not sent. The record's time is that at which it became a dead letter.
    Retry(Retry),
    /// Delete them
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only those whose reason contains this, in any case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only those stored from here on, such as 2026-01-31 or 2026-01-31T12:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: Filter,

    /// How many to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,

    /// Print JSON: an object with reasons (reason, letters) and letters (topic, partition, offset,
    /// seen_at, payload_bytes, reason)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The record's topic
    topic: String,
    /// Its partition
    partition: i32,
    /// Its offset
    offset: i64,

    /// Print JSON: a list of objects as in `list --json`, with payload, the copy as text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Retry {
    #[command(flatten)]
    filter: Filter,

    /// Send and delete nothing; say what would be
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct Prune {
    /// Those stored before this, such as 2026-01-31
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: DateTime<Utc>,

    /// Only those whose reason contains this, in any case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Filter {
    fn of_store(self) -> LetterFilter {
        LetterFilter { reason: self.reason, since: self.since, ..LetterFilter::default() }
    }
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(args, &settings),
        Command::Show(place) => show(place, &settings),
        Command::Retry(args) => retry(args, &settings),
        Command::Prune(Prune { before, reason }) => {
            let filter = LetterFilter { before: Some(before), reason, ..LetterFilter::default() };
            let deleted =
                with_store(&settings, async |store| store.delete_dead_letters(&filter).await)?;
            print(&format!("{deleted} dead letters deleted\n"))
        }
    }
}

fn list(args: List, settings: &Settings) -> anyhow::Result<()> {
    let filter = args.filter.of_store();
    let (reasons, letters) = with_store(settings, async |store| {
        let reasons = store.dead_letter_reasons(&filter, REASONS_MAX).await?;
        Ok((reasons, store.dead_letters(&filter, args.limit).await?))
    })?;
    if args.json {
        let reason = |(reason, letters): &(String, u64)| serde_json::json!({ "reason": reason, "letters": letters });
        return print_json(&serde_json::json!({
            "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
            "letters": letters.iter().map(json).collect::<Vec<_>>(),
        }));
    }
    if letters.is_empty() {
        return print("no dead letters\n");
    }
    let mut rows = vec![["letters", "reason"].map(str::to_owned).to_vec()];
    rows.extend(reasons.into_iter().map(|(reason, letters)| vec![letters.to_string(), reason]));
    let reasons = aligned(&rows);
    let header = ["stored", "topic", "partition", "offset", "bytes", "begins"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for letter in letters {
        let begins: String = text(&letter.payload).chars().take(SHOWN_CHARS_MAX).collect();
        rows.push(vec![
            when(letter.seen_at),
            letter.partition.topic.to_string(),
            letter.partition.partition.to_string(),
            letter.offset.0.to_string(),
            letter.payload_bytes.to_string(),
            begins.replace(char::is_control, " "),
        ]);
    }
    print(&format!("{reasons}\n{}", aligned(&rows)))
}

fn json(letter: &StoredLetter) -> Value {
    serde_json::json!({
        "topic": &*letter.partition.topic,
        "partition": letter.partition.partition,
        "offset": letter.offset.0,
        "seen_at": letter.seen_at,
        "payload_bytes": letter.payload_bytes,
        "reason": letter.reason,
    })
}

fn show(place: Place, settings: &Settings) -> anyhow::Result<()> {
    let Place { topic, partition, offset, json: as_json } = place;
    let filter = LetterFilter {
        place: Some((TopicPartition::new(topic.as_str(), partition), Offset(offset))),
        ..LetterFilter::default()
    };
    let letters = with_store(settings, async |store| store.dead_letters(&filter, SHOWN_MAX).await)?;
    ensure!(
        !letters.is_empty(),
        "there is no dead letter of {topic}, partition {partition}, offset {offset}"
    );
    if as_json {
        let with_copy = |letter: &StoredLetter| {
            let mut shown = json(letter);
            shown["payload"] = String::from_utf8_lossy(&letter.payload).into();
            shown
        };
        return print_json(&letters.iter().map(with_copy).collect::<Vec<_>>());
    }
    print(&letters.iter().map(whole).collect::<Vec<_>>().join("\n"))
}

fn whole(letter: &StoredLetter) -> String {
    let kept = letter.payload.len() as u64;
    let rest = match letter.payload_bytes.saturating_sub(kept) {
        0 => String::new(),
        rest => format!("({rest} more bytes are not kept)\n"),
    };
    let (reason, copy) = (&letter.reason, text(&letter.payload));
    format!(
        "reason: {reason}\nstored: {}\nbytes: {}\n\n{copy}\n{rest}",
        when(letter.seen_at),
        letter.payload_bytes
    )
}

/// A payload for people.
fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace(|c: char| c.is_control() && c != '\n', "\u{FFFD}")
}

fn retry(args: Retry, settings: &Settings) -> anyhow::Result<()> {
    let filter = args.filter.of_store();
    let letters = with_store(settings, async |store| store.dead_letters(&filter, RETRY_MAX).await)?;
    let found = letters.len();
    let (limits, now) = (WireLimits::of(&settings.kafka), SystemClock::new().now());
    // Oldest first, as they came.
    let can_be_read: Vec<&StoredLetter> =
        letters.iter().rev().filter(|letter| is_tweet(letter, &limits, now)).collect();
    let stay = found - can_be_read.len();
    if args.dry_run {
        let would = can_be_read.len();
        return print(&format!("{would} dead letters would be sent again, {stay} would stay\n"));
    }
    let records: Vec<_> =
        can_be_read.iter().map(|letter| (letter.payload.as_slice(), letter.seen_at)).collect();
    if !records.is_empty() {
        resend(&settings.kafka, &records)?;
        with_store(settings, async |store| {
            for letter in &can_be_read {
                let place = Some((letter.partition.clone(), letter.offset));
                // Not another at the same place, from before the topic was recreated.
                let only = LetterFilter {
                    place,
                    since: Some(letter.seen_at),
                    before: Some(letter.seen_at + TimeDelta::microseconds(1)),
                    ..LetterFilter::default()
                };
                store.delete_dead_letters(&only).await?;
            }
            Ok(())
        })
        .context("the records were sent, but stay in dead_letters")?;
    }
    print(&format!("{} dead letters sent again, {stay} stay\n", records.len()))?;
    ensure!(
        found < RETRY_MAX as usize,
        "only the newest {RETRY_MAX} were read; run this again, or with --reason"
    );
    Ok(())
}

/// Whether the copy is whole, and would be read as a tweet.
fn is_tweet(letter: &StoredLetter, limits: &WireLimits, now: DateTime<Utc>) -> bool {
    let headers = Headers::default();
    let raw = Raw {
        payload: &letter.payload,
        payload_bytes: letter.payload.len(),
        headers: &headers,
        timestamp: Some(letter.seen_at),
    };
    letter.payload.len() as u64 == letter.payload_bytes
        && matches!(decode(&raw, limits, now).content, Ok(Content::Tweet(_)))
}
