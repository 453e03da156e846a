//! The results of a backtest, as text and as JSON.
//!
//! **Invariant.** Both are pure functions of the outcome and contain the same figures.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;

use monitor_config::{self as config, Rule};
use monitor_core::alerting::{Alert, Backtest, ResolveReason};
use monitor_core::domain::{Cause, Evidence, Interval, Minute, Phase, Transition};
use monitor_core::format::{percent, percent_interval, utc_minute};

use super::episodes::{Detection, Episode, detect};
use crate::pipeline::{policy, reason};

const DAY_MINUTES: f64 = 1440.0;
const MONTH_DAYS: f64 = 30.0;
/// Shortest time for which a monthly rate is shown, in days.
const RATE_DAYS_MIN: f64 = 1.0;

/// Where the counts come from.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    Store,
    File(FileRead),
}

/// What was read from a file.
#[derive(Debug, Clone, Serialize)]
pub struct FileRead {
    pub file: String,
    /// The model, or the name of the column of labels.
    pub scored_by: String,
    pub rows: u64,
    pub bad_rows: u64,
    /// Distinct tweets about the brands, in the requested time range.
    pub tweets: u64,
    /// Those of them in a language that the model does not know: they are not counted.
    pub not_judged: u64,
    pub duplicates: u64,
}

impl Source {
    /// Its name in a sentence.
    pub fn place(&self) -> &str {
        match self {
            Self::Store => "the store",
            Self::File(read) => &read.file,
        }
    }
}

/// A rule, and its outcome for each brand.
pub struct Trial {
    pub rule: String,
    pub alerting: config::Alerting,
    pub brands: Vec<BrandOutcome>,
}

/// The outcome of a rule on a brand's past.
pub struct BrandOutcome {
    pub brand: String,
    pub from: Minute,
    /// The last minute, included.
    pub to: Minute,
    pub outcome: Backtest,
}

impl Trial {
    /// The false alarms per brand in 30 days that the rule allows, if it has such a limit.
    fn budget(&self) -> Option<f64> {
        (self.alerting.rule == Rule::EDetector).then_some(self.alerting.false_alarms_per_month)
    }

    fn alerts(&self) -> usize {
        self.brands.iter().map(|result| result.outcome.alerts.len()).sum()
    }

    /// Days on which an alert was possible, summed over all brands.
    pub(super) fn watched_days(&self) -> f64 {
        self.brands.iter().map(|result| days(result.outcome.minutes_watched())).sum()
    }

    fn open_hours(&self) -> f64 {
        self.brands.iter().map(hours_open).sum()
    }
}

/// Hours in which an incident of the brand was open.
fn hours_open(result: &BrandOutcome) -> f64 {
    let spans = result.outcome.alerts.iter().flat_map(|alert| &alert.spans);
    let minutes =
        spans.map(|(from, to)| (to.unwrap_or(result.to).0 - from.0.max(result.from.0) + 1).max(0));
    minutes.sum::<i64>() as f64 / 60.0
}

fn days(minutes: u64) -> f64 {
    minutes as f64 / DAY_MINUTES
}

/// Alerts in 30 days; `None` if the time is too short.
pub(super) fn rate(alerts: usize, days: f64) -> Option<f64> {
    (days >= RATE_DAYS_MIN).then(|| alerts as f64 * MONTH_DAYS / days)
}

/// The report as text.
pub fn text(source: &Source, trials: &[Trial], episodes: &[Episode]) -> String {
    let mut out = String::new();
    if let Source::File(read) = source {
        let _ = writeln!(
            out,
            "{}: {} rows, {} tweets about these brands ({} in other languages, not judged), {} \
             duplicates, {} bad rows left out; scored by {}\n",
            read.file,
            read.rows,
            read.tweets,
            read.not_judged,
            read.duplicates,
            read.bad_rows,
            read.scored_by
        );
    }
    for trial in trials {
        let _ = writeln!(out, "Rule: {} ({})\n", trial.rule, rule_name(&trial.alerting));
        alerts(&mut out, trial);
        brands(&mut out, trial);
        let _ = writeln!(out, "\n{}\n", verdict(trial));
        if !episodes.is_empty() {
            detection(&mut out, &detect(trial, episodes));
        }
    }
    if trials.len() > 1 {
        compare(&mut out, trials);
    } else {
        out.pop();
    }
    out
}

fn alerts(out: &mut String, trial: &Trial) {
    let mut lines: Vec<(Minute, String)> = Vec::new();
    for result in &trial.brands {
        for alert in &result.outcome.alerts {
            lines.push((alert.opened, alert_line(&result.brand, alert)));
        }
    }
    if lines.is_empty() {
        out.push_str("No alert would have fired.\n\n");
        return;
    }
    lines.sort();
    let _ = writeln!(
        out,
        "{:<16}  {:<16}  {:<16}  {:<8}  {:<19}  {:<19}  {:>6}  {:<11}  statistic >= threshold",
        "opened (UTC)", "resolved", "brand", "severity", "negative", "expected", "tweets", "since"
    );
    for (_, line) in lines {
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
}

fn alert_line(brand: &str, alert: &Alert) -> String {
    let resolved = alert.resolved.map_or("still open".to_owned(), |(at, _)| utc_minute(at.start()));
    let severe = alert.severity.as_str();
    let (negative, expected, tweets, since) = match alert.worst() {
        Evidence::Share(e) => {
            let observed = share(e.observed_share(), e.observed_interval);
            (observed, share(e.expected_share, e.expected_interval), e.observed.total, e.since)
        }
        Evidence::NegativeVolume(e) => {
            let observed = format!("{} ({:.1} times)", e.observed, e.times());
            (observed, format!("{:.0} negative", e.expected), e.tweets.total, e.since)
        }
        Evidence::Surge(e) => {
            ("surge".to_owned(), format!("{:.0} tweets", e.expected), e.observed, e.since)
        }
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => {
            (String::new(), String::new(), 0, alert.opened)
        }
    };
    let numbers = match &alert.opening {
        Evidence::Share(e) => format!("{} {:.3} >= {:.3}", e.rule, e.statistic, e.threshold),
        Evidence::NegativeVolume(e) => {
            format!("negative-volume {:.1} >= {:.1}", e.statistic, e.threshold)
        }
        Evidence::Surge(e) => format!("volume {:.1} >= {:.1}", e.statistic, e.threshold),
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => String::new(),
    };
    let mut numbers = numbers;
    for phase in alert.phases.iter().skip(1) {
        let at = phase.began.start().format("%m-%d %H:%M");
        let _ = write!(numbers, "; {} joined {at}", phase.cause().as_str());
    }
    match alert.spans.len() {
        0 | 1 => {}
        2 => numbers += "; opened again once",
        n => {
            let _ = write!(numbers, "; opened again {} times", n - 1);
        }
    }
    let ended = match alert.resolved {
        Some((_, ResolveReason::NewNormal)) => "; ended as the new normal",
        _ => "",
    };
    format!(
        "{}  {resolved:<16}  {brand:<16}  {severe:<8}  {negative:<19}  {expected:<19}  {tweets:>6}  \
         {}  {numbers}{ended}",
        utc_minute(alert.opened.start()),
        since.start().format("%m-%d %H:%M"),
    )
}

/// The causes of a brand's buzz.
const CAUSES: [Cause; 3] = [Cause::Share, Cause::NegativeVolume, Cause::Surge];

/// How many alerts have a phase of this cause.
fn with_phase(outcome: &Backtest, cause: Cause) -> usize {
    let has_phase = |alert: &&Alert| alert.phases.iter().any(|phase| phase.cause() == cause);
    outcome.alerts.iter().filter(has_phase).count()
}

fn detection(out: &mut String, detection: &Detection) {
    let _ = writeln!(
        out,
        "{:<16}  {:<16}  {:>9}  {:<15}  episode",
        "began (UTC)", "alert", "delay", "cause"
    );
    for found in &detection.episodes {
        let opened = found.opened.map_or("missed".to_owned(), utc_minute);
        let delay = found.delay_minutes.map_or("-".to_owned(), |minutes| format!("{minutes} min"));
        let cause = found.cause.unwrap_or("-");
        let _ = writeln!(
            out,
            "{}  {opened:<16}  {delay:>9}  {cause:<15}  {}",
            utc_minute(found.start),
            found.name
        );
    }
    let found = detection.episodes.iter().filter(|found| found.opened.is_some()).count();
    let _ = writeln!(
        out,
        "\n{found} of {} episodes found; {} alerts outside of them, {} per brand in 30 days.\n",
        detection.episodes.len(),
        detection.false_alarms,
        rate_text(detection.false_alarms_per_30_days),
    );
}

fn brands(out: &mut String, trial: &Trial) {
    let _ = writeln!(
        out,
        "{:<16}  {:>5}  {:>9}  {:>8}  {:>6}  {:>8}  {:>15}  {:>8}  {:>9}  {:>10}  no baseline yet",
        "brand",
        "days",
        "tweets",
        "negative",
        "alerts",
        "by share",
        "negative volume",
        "by surge",
        "a 30 days",
        "hours open"
    );
    for result in &trial.brands {
        let BrandOutcome { brand, outcome, .. } = result;
        let watched = days(outcome.minutes_watched());
        let _ = writeln!(
            out,
            "{brand:<16}  {:>5.1}  {:>9}  {:>8}  {:>6}  {:>8}  {:>15}  {:>8}  {:>9}  {:>10.1}  {:.1} days",
            days(outcome.minutes),
            outcome.tweets.total,
            outcome.tweets.share().map_or("-".to_owned(), percent),
            outcome.alerts.len(),
            with_phase(outcome, CAUSES[0]),
            with_phase(outcome, CAUSES[1]),
            with_phase(outcome, CAUSES[2]),
            rate_text(rate(outcome.alerts.len(), watched)),
            hours_open(result),
            days(outcome.minutes - outcome.minutes_watched()),
        );
    }
}

/// The interpretation of the figures.
fn verdict(trial: &Trial) -> String {
    let (alerts, watched) = (trial.alerts(), trial.watched_days());
    let Some(rate) = rate(alerts, watched) else {
        return format!(
            "The history is too short to assess the rule: only {watched:.1} days had a baseline."
        );
    };
    let alarms = if alerts == 1 { "1 alert".to_owned() } else { format!("{alerts} alerts") };
    let seen = format!(
        "{alarms} in {watched:.1} brand days that could be evaluated: {rate:.1} per brand in 30 days."
    );
    match trial.budget() {
        Some(budget) => format!(
            "{seen}\nWith false_alarms_per_month = {budget}, chance alone causes at most {:.1} of them on \
             average; the others are real rises, or changes that the baseline does not cover. Read \
             them: those that are not worth your time are the false alarms of this rule on your \
             history.",
            budget * watched / MONTH_DAYS
        ),
        None => format!(
            "{seen}\nThis rule has no limit of false alarms: read the alerts; those that are not worth \
             your time are the false alarms of this rule on your history."
        ),
    }
}

fn compare(out: &mut String, trials: &[Trial]) {
    let width = trials.iter().map(|trial| trial.rule.chars().count()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        out,
        "{:<width$}  {:<14}  {:>6}  {:>17}  {:>10}",
        "rule", "kind", "alerts", "a brand, 30 days", "hours open"
    );
    for trial in trials {
        let _ = writeln!(
            out,
            "{:<width$}  {:<14}  {:>6}  {:>17}  {:>10.1}",
            trial.rule,
            rule_name(&trial.alerting),
            trial.alerts(),
            rate_text(rate(trial.alerts(), trial.watched_days())),
            trial.open_hours(),
        );
    }
}

fn rule_name(alerting: &config::Alerting) -> &'static str {
    policy(alerting).rule.name()
}

fn rate_text(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"))
}

/// A share with its interval.
fn share(share: f64, Interval { low, high }: Interval) -> String {
    format!("{} ({})", percent(share), percent_interval(low, high))
}

/// The report as JSON; `--help` describes the fields.
pub fn json(source: &Source, trials: &[Trial], episodes: &[Episode]) -> impl Serialize {
    let trial = |trial| TrialJson {
        detection: (!episodes.is_empty()).then(|| detect(trial, episodes)),
        ..TrialJson::of(trial)
    };
    Json { version: 1, source: source.clone(), trials: trials.iter().map(trial).collect() }
}

#[derive(Serialize)]
struct Json {
    version: u32,
    source: Source,
    trials: Vec<TrialJson>,
}

#[derive(Serialize)]
struct TrialJson {
    rule: String,
    kind: &'static str,
    false_alarms_per_month: Option<f64>,
    brands: Vec<BrandJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detection: Option<Detection>,
}

#[derive(Serialize)]
struct BrandJson {
    brand: String,
    from: DateTime<Utc>,
    /// Not included.
    to: DateTime<Utc>,
    tweets: u64,
    negative: u64,
    minutes: MinutesJson,
    /// How many alerts have a phase of each cause.
    alerts_by_cause: std::collections::BTreeMap<&'static str, usize>,
    alerts_per_30_days: Option<f64>,
    alerts: Vec<AlertJson>,
}

#[derive(Serialize)]
struct MinutesJson {
    judged: u64,
    watched: u64,
    open: u64,
    quiet: std::collections::BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct AlertJson {
    cause: &'static str,
    severity: &'static str,
    opened: DateTime<Utc>,
    resolved: Option<DateTime<Utc>>,
    ended: Option<&'static str>,
    reason: String,
    opening: Evidence,
    worst: Evidence,
    /// When it opened again.
    reopened: Vec<DateTime<Utc>>,
    phases: Vec<Phase>,
}

impl TrialJson {
    fn of(trial: &Trial) -> Self {
        let alert = |result: &BrandOutcome, alert: &Alert| AlertJson {
            cause: alert.opening.cause().as_str(),
            severity: alert.severity.as_str(),
            opened: alert.opened.start(),
            resolved: alert.resolved.map(|(at, _)| at.start()),
            ended: alert.resolved.map(|(_, why)| why.as_str()),
            reason: reason(&result.brand, &alert.opening, Transition::Opened, None, alert.opened),
            opening: alert.opening,
            worst: *alert.worst(),
            reopened: alert.spans.iter().skip(1).map(|(from, _)| from.start()).collect(),
            phases: alert.phases.clone(),
        };
        let brand = |result: &BrandOutcome| {
            let outcome = &result.outcome;
            BrandJson {
                brand: result.brand.clone(),
                from: result.from.start(),
                to: result.to.plus(1).start(),
                tweets: outcome.tweets.total,
                negative: outcome.tweets.negative,
                minutes: MinutesJson {
                    judged: outcome.minutes,
                    watched: outcome.minutes_watched(),
                    open: outcome.minutes_open,
                    quiet: outcome.minutes_quiet.iter().map(|(r, n)| (r.as_str(), *n)).collect(),
                },
                alerts_by_cause: CAUSES.map(|c| (c.as_str(), with_phase(outcome, c))).into(),
                alerts_per_30_days: rate(outcome.alerts.len(), days(outcome.minutes_watched())),
                alerts: outcome.alerts.iter().map(|found| alert(result, found)).collect(),
            }
        };
        Self {
            rule: trial.rule.clone(),
            kind: rule_name(&trial.alerting),
            false_alarms_per_month: trial.budget(),
            brands: trial.brands.iter().map(brand).collect(),
            detection: None,
        }
    }
}
