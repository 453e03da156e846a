mod episodes;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use monitor_config::{self as config, Settings};
use monitor_core::alerting::Voice;
use monitor_core::domain::Minute;

use super::output::{print, print_json, svg_file, write_whole};
use super::run::require_brands;
use super::times::{show, time};
use super::{require_brand, warn_of_hashes, with_store};
use crate::backtest::{Range, Scorer, Trial, count, evaluate, json, picture, spans, stored, text};
use crate::pipeline::{counting, policy};
use crate::settings;

/// Try alerting rules on past tweets
///
/// Evaluates the scores stored in Postgres, or a file of tweets scored on the fly (--file),
/// minute by minute as `monitor run` does, and prints each alert that would have fired: opened,
/// resolved, brand, severity, share of negatives and expected share at its worst, tweets, since
/// when, and why. The summary says how often the rule fires on your own history.
///
///   monitor backtest --brand United --from 2026-01-01
///
///   monitor backtest --file tweets.csv.xz --rule strict.toml --rule mild.toml --picture a.svg
///
/// A rule is a TOML file with an [alerting] table, whose keys override those of the settings.
/// Several rules are compared on the same tweets.
///
/// --file reads CSV with a header (columns created_at and text; with a column id, a repeated
/// tweet counts once) or JSON lines (X API v2 or flat), plain, .xz, .gz or .zip. created_at may
/// be RFC 3339, X's own format, date and time with or without an offset (default: UTC), or
/// seconds or milliseconds since 1970. Invalid rows are counted and skipped, and the first few
/// are named. The settings decide which tweet is about which brand, as for the stream.
///
/// The weeks before --from (up to eight) are evaluated too, to build the baselines, but not
/// reported. Differences from the daemon: late tweets count in their minute, severity ignores
/// followers, silences do not apply.
///
/// --json prints one object: version (1), source (kind, file, scored_by and what was read, or
/// store), and trials, one per rule: rule, false_alarms_per_month (null if the rule has no
/// budget), and brands, each with brand, from, to, tweets, negative, minutes (judged, watched:
/// with a baseline, open: in an incident, quiet: by reason), alerts_per_30_days and alerts
/// (cause, severity, opened, resolved or null, ended, reason, and opening and worst: the
/// evidence as in webhooks), and with --episodes detection (episodes, each with name, start, opened or
/// null, cause and delay_minutes; false_alarms; false_alarms_per_30_days). Later versions only add
/// fields.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A brand of the settings; may be repeated [default: all]
    #[arg(long, value_name = "BRAND")]
    brand: Vec<String>,

    /// Report from here, such as 2026-01-31 or 2026-01-31T12:00Z [default: the first tweet]
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,

    /// Report up to here, exclusive [default: the last tweet]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,

    /// A rule to try instead of the settings' own; may be repeated to compare
    #[arg(long, value_name = "FILE.toml")]
    rule: Vec<PathBuf>,

    /// Tweets to score on the fly, instead of those in Postgres
    #[arg(long, value_name = "TWEETS")]
    file: Option<PathBuf>,

    /// The model that scores them [default: model.name of the settings]
    #[arg(long, short, value_name = "NAME", requires = "file")]
    model: Option<String>,

    /// Use labels instead of a model: a column of the CSV with negative, neutral or positive
    /// (or 0 for negative and 1, 2 or 4 for the others)
    #[arg(long, value_name = "COLUMN", requires = "file", conflicts_with = "model")]
    labels: Option<String>,

    /// What counts as one voice: each tweet, each author once an hour, or each text once an hour,
    /// whoever repeats it; else as the setting alerting.count says
    #[arg(long, value_parser = voices(), requires = "file")]
    count: Option<Voice>,

    /// What really happened: a CSV file with the columns start, end and name, and possibly brand. The report
    /// then says which episodes were found and after how long, and how many alerts were false
    #[arg(long, value_name = "FILE.csv")]
    episodes: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw share, expected share, volume and alerts of each brand
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    picture: Option<PathBuf>,
}

fn voices() -> impl TypedValueParser<Value = Voice> {
    PossibleValuesParser::new(Voice::ALL.map(Voice::as_str))
        .map(|word| Voice::parse(&word).expect("clap lets only these words through"))
}

/// Counts the tweets, applies each rule, and prints the outcome.
pub fn run(args: &Args, config: Option<&Path>, set: &[(String, String)]) -> anyhow::Result<()> {
    let settings = settings::load(config, set)?;
    require_brands(&settings)?;
    let brands = brands(&args.brand, &settings)?;
    let range = Range {
        from: args.from.map(Minute::of),
        to: args.to.map(|to| Minute::of(to - TimeDelta::nanoseconds(1))),
    };
    if let (Some(from), Some(to)) = (args.from, args.to) {
        ensure!(from < to, "--from {} is not before --to {}", show(from), show(to));
    }
    // Scoring a file may take minutes: find errors in the rules first.
    let rules = rules(&args.rule, &settings, config, set)?;
    let episodes = match &args.episodes {
        Some(file) => episodes::read(file)?,
        None => Vec::new(),
    };
    let reach = policy(&settings.alerting);
    let counted = match &args.file {
        Some(file) => {
            warn_of_hashes(&settings.alerting);
            let scorer = Scorer::new(args.labels.as_deref(), args.model.as_deref(), &settings)?;
            let span = (range.first_needed(&reach), range.to);
            count(file, scorer, &settings, &brands, counting(&settings.alerting, args.count), span)?
        }
        None => with_store(&settings, async |store| {
            stored(store, &brands, range.first_needed(&reach), range.to).await
        })
        .context("cannot read the stored scores (--file needs none)")?,
    };
    let spans = spans(&counted, range);
    let place = counted.source.place();
    for brand in &spans.empty {
        let problem = format!("{place} has no tweet about {brand}{range}");
        ensure!(args.brand.is_empty(), "{problem}");
        eprintln!("{problem}");
    }
    ensure!(
        !spans.by_brand.is_empty(),
        "{place} has no tweet about any brand of the settings{range}"
    );
    let trials: Vec<Trial> = rules
        .iter()
        .map(|(name, alerting)| Trial {
            rule: name.clone(),
            alerting: alerting.clone(),
            brands: evaluate(&counted, alerting, &settings.brands, &spans),
        })
        .collect();
    if let Some(path) = &args.picture {
        write_whole(path, &picture(&trials))?;
    }
    if args.json {
        print_json(&json(&counted.source, &trials, &episodes))
    } else {
        print(&text(&counted.source, &trials, &episodes))
    }
}

fn brands(asked: &[String], settings: &Settings) -> anyhow::Result<Vec<String>> {
    let known: Vec<&str> = settings.brands.keys().map(String::as_str).collect();
    for brand in asked {
        require_brand(brand, &known)?;
    }
    let wanted = |brand: &&str| asked.is_empty() || asked.iter().any(|asked| asked == brand);
    Ok(known.into_iter().filter(wanted).map(str::to_owned).collect())
}

/// The rules to try by name: those of the files, or the settings' own.
fn rules(
    files: &[PathBuf],
    settings: &Settings,
    config: Option<&Path>,
    set: &[(String, String)],
) -> anyhow::Result<Vec<(String, config::Alerting)>> {
    if files.is_empty() {
        return Ok(vec![("the settings".to_owned(), settings.alerting.clone())]);
    }
    files
        .iter()
        .map(|file| {
            let name = file.display().to_string();
            let keys = rule_keys(file).with_context(|| name.clone())?;
            let set: Vec<_> = set.iter().cloned().chain(keys).collect();
            let settings = settings::load(config, &set).with_context(|| name.clone())?;
            Ok((name, settings.alerting))
        })
        .collect()
}

/// The keys of a rule's file, as for `--set`.
fn rule_keys(file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(file).context("cannot read the rule")?;
    let table: toml::Table = text.parse().context("the rule is not TOML")?;
    for key in table.keys() {
        ensure!(
            key == "alerting",
            "a rule has one table, [alerting]; {key:?} does not belong here"
        );
    }
    let Some(toml::Value::Table(alerting)) = table.get("alerting") else {
        bail!("a rule needs a table [alerting], with keys as in the settings")
    };
    alerting
        .iter()
        .map(|(key, value)| {
            ensure!(
                !["count", "ignore_authors"].contains(&key.as_str()),
                "the tweets are counted once for all rules, so alerting.{key} does not belong in one: \
                 use --count, or the settings file"
            );
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Table(_) | toml::Value::Array(_) | toml::Value::Datetime(_) => {
                    bail!("alerting.{key} must be a number, a string, true or false")
                }
                plain => plain.to_string(),
            };
            Ok((format!("alerting.{key}"), value))
        })
        .collect()
}
