mod counting;
mod picture;
mod report;
mod tweets;

use crate::settings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use self::counting::{Counted, Scorer};
use self::report::{Judged, Source, Trial};
use super::evaluate::{print, print_json, write_whole};
use super::run::require_brands;
use super::times::{show, time};
use super::{require_brand, with_store};
use crate::pipeline::{policy, surge_policy};
use monitor_config::{self as config, Settings};
use monitor_core::alerting::{SharePolicy, backtest};
use monitor_core::domain::{Counts, Minute};
use monitor_store::Store;

/// Try the alerts out on the past, before they are trusted
///
/// Judges the scores stored in Postgres, or a file of tweets scored on the fly (--file), minute
/// by minute as `monitor run` does, and prints each alert that would have fired: opened,
/// resolved, brand, severity, share of negatives and expected share at its worst, tweets, since
/// when, and why. The summary says how often the rule alarms on your own history.
///
///   monitor backtest --brand United --from 2026-01-01
///
///   monitor backtest --file tweets.csv.xz --rule strict.toml --rule mild.toml --picture a.svg
///
/// A rule is a TOML file with an [alerting] table, whose keys are laid over the settings' own;
/// several are compared on the same tweets.
///
/// --file reads CSV with a header (columns created_at and text, and id where there is one, by
/// which a tweet that comes twice counts once) or JSON lines (X API v2 or flat), plain, .xz,
/// .gz or .zip. created_at may be RFC 3339, X's own form, date and time with or without an
/// offset (without is UTC), or seconds or milliseconds since 1970. Rows that are no tweets are
/// counted, the first few named, and left out. Which tweet is about which brand is decided by
/// the settings, as for the stream.
///
/// The weeks before --from (eight, where there are as many) are judged too, so that baselines
/// are those of a daemon that was there, but not reported. What differs from a daemon: late
/// tweets count in their minute, severity does not know of followers, nobody is silenced.
///
/// --json prints one object: version (1), source (kind, file, scored_by and what was read, or
/// store), and trials, one a rule: rule, false_alarms_per_month (null where the rule keeps no
/// budget), and brands, each with brand, from, to, tweets, negative, minutes (judged, watched:
/// with a baseline, open: in an incident, quiet: by reason), alerts_per_30_days and alerts
/// (cause, severity, opened, resolved or null, ended, reason, and as opening and worst the
/// evidence as in webhooks). Fields are only ever added.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A brand of the settings; may be repeated [default: all]
    #[arg(long, value_name = "BRAND")]
    brand: Vec<String>,

    /// Report from here, such as 2026-01-31 or 2026-01-31T12:00Z [default: the first tweet]
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,

    /// Report up to here, itself not included [default: the last tweet]
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

    /// Take the word of people instead of a model: a column of the CSV with negative, neutral
    /// or positive (or 0 for negative and 1, 2 or 4 for what is not)
    #[arg(long, value_name = "COLUMN", requires = "file", conflicts_with = "model")]
    labels: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw share, expected share, volume and alerts of each brand
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

/// Counts by minute, ascending, by brand.
type ByBrand = BTreeMap<String, Vec<(Minute, Counts)>>;

/// The minutes to report, as far as they were given.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Option<Minute>,
    /// The last one, included.
    to: Option<Minute>,
}

impl Range {
    /// The first minute that has a bearing on what is reported.
    fn first(&self, policy: &SharePolicy) -> Option<Minute> {
        self.from.map(|from| from.plus(-policy.season_minutes()))
    }
}

/// Reads what there is, judges it by each rule, and prints.
pub fn run(args: &Args, config: Option<&Path>, set: &[(String, String)]) -> anyhow::Result<()> {
    let settings = settings::load(config, set)?;
    require_brands(&settings)?;
    let brands = brands(&args.brand, &settings)?;
    let range = Range {
        from: args.from.map(Minute::of),
        to: args.to.map(|to| Minute::of(to - TimeDelta::nanoseconds(1))),
    };
    if let (Some(from), Some(to)) = (args.from, args.to) {
        ensure!(from < to, "--from {} does not lie before --to {}", show(from), show(to));
    }
    // Before a file is scored, which may take minutes.
    let rules = rules(&args.rule, &settings, config, set)?;
    let reach = policy(&settings.alerting);
    let counted = match &args.file {
        Some(file) => {
            let scorer = Scorer::new(args.labels.as_deref(), args.model.as_deref(), &settings)?;
            counting::count(file, scorer, &settings, &brands, range.first(&reach), range.to)?
        }
        None => stored(&settings, &brands, range.first(&reach), range.to)?,
    };
    let span = span(&counted, range, !args.brand.is_empty())?;
    let trials: Vec<Trial> = rules
        .iter()
        .map(|(name, alerting)| Trial {
            rule: name.clone(),
            alerting: alerting.clone(),
            brands: judged(&counted.by_brand, alerting, &span),
        })
        .collect();
    if let Some(path) = &args.picture {
        write_whole(path, &picture::picture(&trials))?;
    }
    if args.json {
        print_json(&report::json(&counted.source, &trials))
    } else {
        print(&report::text(&counted.source, &trials))
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

/// The rules to try by name: those of the files, or else the settings' own.
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

/// The keys of a rule's file as `--set` would give them.
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
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Table(_) | toml::Value::Array(_) | toml::Value::Datetime(_) => {
                    bail!("alerting.{key} is no number, word, or true or false")
                }
                plain => plain.to_string(),
            };
            Ok((format!("alerting.{key}"), value))
        })
        .collect()
}

/// What Postgres has counted of the brands.
fn stored(
    settings: &Settings,
    brands: &[String],
    from: Option<Minute>,
    to: Option<Minute>,
) -> anyhow::Result<Counted> {
    let by_brand = with_store(settings, async |store| {
        let mut by_brand = ByBrand::new();
        for brand in brands {
            let bounds = (store.first_minute(brand).await?, store.last_minute(brand).await?);
            let counts = match bounds {
                (Some(first), Some(last)) => {
                    let first = from.map_or(first, |from| from.max(first));
                    let last = to.map_or(last, |to| to.min(last));
                    store.minute_counts(brand, first, last).await?
                }
                _ => Vec::new(),
            };
            by_brand.insert(brand.clone(), counts);
        }
        Ok(by_brand)
    })
    .context("cannot read the stored scores (--file needs none)")?;
    Ok(Counted { by_brand, source: Source::Store })
}

/// The minutes to report of each brand, first and last: the last is the same for all, for
/// event time goes on while any brand has tweets.
fn span(
    counted: &Counted,
    range: Range,
    asked: bool,
) -> anyhow::Result<BTreeMap<String, (Minute, Minute)>> {
    let within = |counts: &Vec<(Minute, Counts)>| {
        counts.iter().map(|(minute, _)| *minute).find(|m| range.from.is_none_or(|from| *m >= from))
    };
    let last = counted.by_brand.values().filter_map(|counts| counts.last()).map(|(m, _)| *m).max();
    let place = counted.source.place();
    let from = range.from.map_or(String::new(), |m| format!(" from {} on", show(m.start())));
    let to = range.to.map_or(String::new(), |m| format!(" before {}", show(m.plus(1).start())));
    let when = from + &to;
    let mut span = BTreeMap::new();
    for (brand, counts) in &counted.by_brand {
        match (within(counts), last) {
            (Some(first), Some(last)) => {
                let from = range.from.unwrap_or(first).max(counts[0].0);
                span.insert(brand.clone(), (from, last));
            }
            _ if asked => bail!("{place} has no tweet about {brand}{when}"),
            _ => eprintln!("{place} has no tweet about {brand}{when}"),
        }
    }
    ensure!(!span.is_empty(), "{place} has no tweet about any brand of the settings{when}");
    Ok(span)
}

fn judged(
    by_brand: &ByBrand,
    alerting: &config::Alerting,
    span: &BTreeMap<String, (Minute, Minute)>,
) -> Vec<Judged> {
    let (policy, surge) = (policy(alerting), surge_policy(alerting));
    span.iter()
        .map(|(brand, (from, to))| Judged {
            brand: brand.clone(),
            from: *from,
            to: *to,
            outcome: backtest(&policy, surge.as_ref(), &by_brand[brand], *from, *to),
        })
        .collect()
}
