use anyhow::ensure;
use chrono::{DateTime, TimeDelta, Utc};

use super::models::aligned;
use super::output::{print, print_json};
use super::times::{length, show as when, time};
use super::who::me;
use super::{known_brands, require_brand, with_store};
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_store::{Silence, Store};

/// Stop notifications about a brand for some time
///
/// During a silence nobody is notified that an incident of the brand opens, goes on or gets worse.
/// Incidents are still recorded. One that is still open when the silence ends is notified then.
/// The end of an incident is notified at once to everyone who was notified of it. Times are UTC, by
/// the clock, not event time.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a silence, from now or from a later time
    Add(Add),
    /// List the silences that have not ended
    List(List),
    /// End a silence now
    End(End),
}

#[derive(Debug, clap::Args)]
struct Add {
    /// The brand, or "(stream)" [default: all brands and the stream]
    #[arg(long)]
    brand: Option<String>,

    /// Its length, such as 30m, 2h or 1d; at most 366d
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    length: TimeDelta,

    /// Its start: RFC 3339, or "2026-01-05 21:00" in UTC [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,

    /// The reason, shown with the silence
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// Who adds it [default: the user who runs this]
    #[arg(long, value_name = "WHO", default_value_t = me(), hide_default_value = true)]
    by: String,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print JSON: a list of objects with id, brand (null is all), starts_at, ends_at, reason
    /// and who
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct End {
    /// The silence's number
    id: i64,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let now = SystemClock::new().now();
    match args.command {
        Command::Add(args) => add(args, &settings, now),
        Command::List(args) => list(&args, &settings, now),
        Command::End(End { id }) => {
            let ended = with_store(&settings, async |store| store.end_silence(id, now).await)?;
            ensure!(
                ended,
                "silence {id} does not exist or has ended: `monitor silence list` lists those that \
                 have not ended"
            );
            print(&format!("silence {id} has ended\n"))
        }
    }
}

fn add(args: Add, settings: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    if let Some(brand) = &args.brand {
        require_brand(brand, &known_brands(settings))?;
    }
    let starts_at = args.from.unwrap_or(now);
    let ends_at = starts_at + args.length;
    ensure!(
        ends_at > now,
        "a silence from {} would have ended already: choose a later --from",
        when(starts_at)
    );
    let Add { brand, reason, by: who, .. } = args;
    let mut silence = Silence { id: 0, brand, starts_at, ends_at, reason, who };
    silence.id = with_store(settings, async |store| store.silence(&silence).await)?;
    print(&format!("silence {}\n", text(&silence)))
}

fn list(args: &List, settings: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    let silences = with_store(settings, async |store| store.silences(now).await)?;
    if args.json {
        return print_json(&silences.iter().map(json).collect::<Vec<_>>());
    }
    if silences.is_empty() {
        return print("no silences\n");
    }
    let header = ["id", "brand", "from", "to", "by", "reason"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for silence in silences {
        let Silence { id, brand, starts_at, ends_at, reason, who } = silence;
        let brand = brand.unwrap_or_else(|| "all".into());
        rows.push(vec![id.to_string(), brand, when(starts_at), when(ends_at), who, reason]);
    }
    print(&aligned(&rows))
}

/// A silence as JSON.
pub(super) fn json(silence: &Silence) -> serde_json::Value {
    serde_json::json!({
        "id": silence.id,
        "brand": silence.brand,
        "starts_at": silence.starts_at,
        "ends_at": silence.ends_at,
        "reason": silence.reason,
        "who": silence.who,
    })
}

/// A silence in one line.
pub(super) fn text(silence: &Silence) -> String {
    let Silence { id, brand, starts_at, ends_at, reason, who } = silence;
    let brand = brand.as_deref().unwrap_or("anything");
    let (from, to) = (when(*starts_at), when(*ends_at));
    format!("{id}: no notifications about {brand} from {from} to {to}, by {who}: {reason}")
}
