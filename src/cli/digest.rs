use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use super::output::{print, print_json};
use super::times::time;
use super::with_store;
use crate::digest::gather;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_notify::{Mail, digest_page};

/// Write the weekly digest of all brands
///
/// What `[digest]` of the settings sends by mail: shares and tweets against the period before, alerts, tweets to read. Sends
/// nothing. Without --from, the seven whole days before today.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start: RFC 3339, or "2026-01-05 21:00" in UTC
    #[arg(long, value_name = "TIME", value_parser = time, requires = "to")]
    from: Option<DateTime<Utc>>,

    /// End, exclusive; the period before is as long
    #[arg(long, value_name = "TIME", value_parser = time, requires = "from")]
    to: Option<DateTime<Utc>>,

    /// Write an HTML page with its pictures inside [default: text on standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print JSON: an object with digest (the figures of each brand) and examples (the tweets that it names)
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    super::run::require_brands(&settings)?;
    let last = || settings.digest.week(SystemClock::new().now());
    let (from, to) = args.from.zip(args.to).or_else(last).context("digest.time_zone is no zone")?;
    ensure!(from < to, "--from {from} is not before --to {to}");
    ensure!(to - from <= TimeDelta::days(366), "--from and --to are more than 366 days apart");
    let brands: Vec<String> = settings.brands.keys().cloned().collect();
    let url = settings.http.public_url.clone();
    let (digest, tweets) =
        with_store(&settings, async |store| gather(store, &brands, (from, to), url).await)?;
    if args.json {
        return print_json(&serde_json::json!({ "digest": digest, "examples": tweets }));
    }
    let Some(file) = args.output else { return print(&Mail::of_digest(&digest, &tweets).text) };
    let page = digest_page(&digest, &tweets);
    fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
    print(&format!("wrote {}\n", file.display()))
}
