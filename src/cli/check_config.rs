use std::fmt::Write as _;

use chrono::DateTime;

use super::doctor::{Finding, State, bad, ok};
use super::output::{one_line, print, print_json};
use super::retrain::check_scheduled;
use crate::pipeline;
use monitor_config::{ConfigError, Endpoint, Receiver, Retrain, Settings};
use monitor_core::alerting::{self, QuietHours, Route, ShareRule};
use monitor_core::domain::{Cause, Language, STREAM, Severity, Transition};
use monitor_core::text::language;
use monitor_model::Model;
use monitor_notify::{self as notify, heartbeat::Heartbeat};
use monitor_store::PostgresStore;

/// Check the settings and print their problems
///
/// Reads all layers and files as `run` does, and opens the model. If the settings are valid, prints
/// a summary without secrets, with a warning for each receiver, brand or stream problem that no
/// route covers; if not, prints the problems with their solutions and exits with status 1. Does
/// not connect to the broker, the database or the receivers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON: a list of objects with part (such as "brand acme", or the setting that is wrong), state (ok, warning or
    /// problem), found and remedy, as `monitor doctor` prints it
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, settings: anyhow::Result<Settings>) -> anyhow::Result<()> {
    match (settings.and_then(|settings| check(&settings)), args.json) {
        (Ok(found), true) => print_json(&found),
        (Ok(found), false) => print(&text(&found)),
        (Err(error), true) => {
            print_json(&problems(&error))?;
            Err(error)
        }
        (Err(error), false) => Err(error),
    }
}

fn check(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    super::run::require_brands(settings)?;
    let models = pipeline::open_models(&settings.model)?;
    notify::notifiers(
        &settings.receivers,
        settings.delivery,
        notify::Linker::new(settings)?.as_ref(),
    )?;
    Heartbeat::new(&settings.heartbeat)?;
    if settings.retrain.is_on() {
        check_scheduled(&settings.retrain)?;
    }
    Ok(summary(settings, &models))
}

/// What is wrong, one finding for each setting.
fn problems(error: &anyhow::Error) -> Vec<Finding> {
    let problem = |part: &str, found: &str, remedy: &str| bad(part, State::Problem, found, remedy);
    match error.downcast_ref() {
        Some(ConfigError::Invalid(problems)) => {
            problems.iter().map(|it| problem(&it.key, &it.value, &it.remedy)).collect()
        }
        Some(ConfigError::Unknown(keys)) => {
            keys.iter().map(|it| problem(&it.key, &it.to_string(), "")).collect()
        }
        _ => vec![problem("settings", &one_line(error), "")],
    }
}

fn text(found: &[Finding]) -> String {
    let mut out = String::from("settings are valid\n");
    for Finding { part, state, found, .. } in found {
        let part = if *state == State::Warning { "warning" } else { part };
        writeln!(out, "{part}: {found}").expect("writing to a string cannot fail");
    }
    out
}

fn summary(settings: &Settings, models: &[(Model, Vec<Option<Language>>)]) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut add = |part: &str, found: String| out.push(ok(part, found));
    let s = settings;
    add(
        "kafka",
        format!("topic {} at {}, group {}", s.kafka.topic, s.kafka.brokers, s.kafka.group),
    );
    add("store", PostgresStore::place(&s.store));
    for (model, languages) in models {
        for language in languages {
            let scores = match language {
                Some(language) => language::name(language).to_owned(),
                None => {
                    let known: Vec<_> = model.languages.iter().map(language::name).collect();
                    format!("{} and unknown languages", known.join(", "))
                }
            };
            let (model, folder) = (&model.id, s.model.directory.display());
            add("model", format!("{model} from {folder}, for tweets in {scores}"));
        }
    }
    let tokens: Vec<_> = (s.http.tokens.iter())
        .map(|(name, token)| format!("{name} may {}", token.rights.as_str()))
        .collect();
    let tokens = if tokens.is_empty() { String::new() } else { format!(", {}", tokens.join(", ")) };
    add("http", format!("{}{tokens}", s.http.listen));
    for (name, brand) in &s.brands {
        let terms = [
            (brand.keywords.len(), "keyword"),
            (brand.handles.len(), "handle"),
            (brand.hashtags.len(), "hashtag"),
            (brand.rule_tags.len(), "rule tag"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") })
        .collect::<Vec<_>>();
        add(&format!("brand {name}"), terms.join(", "));
    }
    add("alerting", buzz(s));
    add("stream", stream(s));
    if s.retrain.is_on() {
        add("retrain", retrain(&s.retrain));
    }
    let heartbeat = match s.heartbeat.origin() {
        Some(origin) => format!("{origin} every {} s", s.heartbeat.every_s),
        None => "none, so nobody is notified when the daemon dies".into(),
    };
    add("heartbeat", heartbeat);
    if s.receivers.is_empty() {
        add("receivers", "none, so nobody will hear of an alarm".into());
    }
    for (name, receiver) in &s.receivers {
        let at = |kind: &str, endpoint: &Endpoint| format!("{kind} at {}", endpoint.origin());
        let how = match receiver {
            Receiver::Email(e) => format!("email to {} by {}:{}", e.to.join(", "), e.host, e.port),
            Receiver::Webhook(w) => at("webhook", &w.endpoint),
            Receiver::Slack(c) => at("slack", &c.endpoint),
            Receiver::Teams(c) => at("teams", &c.endpoint),
            Receiver::Alertmanager(a) => at("alertmanager", &a.endpoint),
        };
        add(&format!("receiver {name}"), how);
    }
    let routes = pipeline::routes(s);
    if routes.is_empty() {
        add("routes", "none, so every receiver is notified of everything at once".into());
    }
    for r in &routes {
        add(&format!("route {}", r.name), route(r));
    }
    let warning = |(part, found): (String, String)| bad(part, State::Warning, found, "");
    let forgotten = forgotten(s, &routes).into_iter().map(|found| ("routes".to_owned(), found));
    out.extend(forgotten.chain(smtputf8(s)).map(warning));
    out
}

fn retrain(retrain: &Retrain) -> String {
    let at = (retrain.schedule.as_ref()).map(|it| format!("at \"{it}\" {}", retrain.time_zone));
    let when = at.into_iter().chain(retrain.on_drift.then(|| "on drift".into()));
    format!(
        "{} from {}, {}",
        retrain.family,
        retrain.data.join(", "),
        when.collect::<Vec<_>>().join(" and ")
    )
}

/// Addresses that not every mail server accepts, with their receivers.
fn smtputf8(settings: &Settings) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, receiver) in &settings.receivers {
        let Receiver::Email(email) = receiver else { continue };
        let addresses = [&email.from].into_iter().chain(&email.to);
        for address in addresses.filter(|address| notify::needs_smtputf8(address)) {
            let receiver = format!("receiver {name}");
            let what = format!(
                "{receiver}: {address} has letters before the @ that only mail servers with SMTPUTF8 \
                 accept; {} may refuse it",
                email.host
            );
            found.push((receiver, what));
        }
    }
    found
}

/// What alarms about a brand, each with its part of the budget of false alarms.
fn buzz(settings: &Settings) -> String {
    let policy = pipeline::buzz_policy(&settings.alerting);
    let share = match policy.share.rule {
        ShareRule::EDetector { false_alarms_per_month } => Some(false_alarms_per_month),
        ShareRule::ShareAbove { .. } | ShareRule::TimesPrevious { .. } => None,
    };
    let volumes = policy.volumes.iter();
    let volumes = volumes.map(|v| (v.counted.cause(), Some(v.false_alarms_per_month)));
    let causes = [(Cause::Share, share)].into_iter().chain(volumes).map(|(cause, budget)| {
        let budget = budget.map_or("no budget".to_owned(), |n| format!("budget {n:.2}"));
        format!("{} ({budget})", cause.as_str())
    });
    let (causes, count) = (causes.collect::<Vec<_>>().join(", "), settings.alerting.count.as_str());
    format!("{causes}, in false alarms a brand and month; {count} are counted")
}

fn stream(settings: &Settings) -> String {
    let limit = |what: &str, minutes: u32| match minutes {
        0 => format!("{what} never alarms"),
        _ => format!("{what} alarms from {minutes} minutes"),
    };
    let (stream, alerting) = (&settings.stream, &settings.alerting);
    [
        limit("quiet", stream.quiet_minutes_max),
        limit("lag", stream.lag_minutes_max),
        limit("a quiet brand", alerting.brand_quiet_minutes_max),
    ]
    .join(", ")
}

/// A route in one line.
fn route(route: &Route) -> String {
    let all_or = |names: Vec<&str>, all: &str| match names.is_empty() {
        true => all.to_owned(),
        false => names.join(", "),
    };
    let mut line = format!(
        "{} of {}, {} or worse, to {}",
        all_or(route.causes.iter().map(|cause| cause.as_str()).collect(), "any cause"),
        all_or(route.brands.iter().map(String::as_str).collect(), "any brand and the stream"),
        route.severity_min.as_str(),
        route.receivers.join(", ")
    );
    if let Some(QuietHours { from, to, zone, severity }) = route.quiet {
        let (from, to) = (from.format("%H:%M"), to.format("%H:%M"));
        let severity = severity.as_str();
        write!(line, "; quiet from {from} to {to} {zone} unless {severity}")
            .expect("writing to a string cannot fail");
    }
    if !route.group_wait.is_zero() {
        write!(line, "; brands grouped within {} s", route.group_wait.num_seconds())
            .expect("writing to a string cannot fail");
    }
    line
}

/// Receivers that no route names, and incidents that no route notifies anybody of.
fn forgotten(settings: &Settings, routes: &[Route]) -> Vec<String> {
    if routes.is_empty() {
        return Vec::new();
    }
    let receivers: Vec<_> = settings.receivers.keys().cloned().collect();
    let unnamed = receivers
        .iter()
        .filter(|receiver| !routes.iter().any(|route| route.receivers.contains(receiver)))
        .map(|receiver| format!("no route names receiver {receiver}: it is never notified"));
    let brands = settings.brands.keys().map(|brand| (brand.as_str(), Cause::Share));
    let volumes = pipeline::volume_policies(&settings.alerting);
    let surges = volumes.iter().flat_map(|policy| {
        settings.brands.keys().map(|brand| (brand.as_str(), policy.counted.cause()))
    });
    let limits = settings.stream;
    let troubles = [(Cause::Quiet, limits.quiet_minutes_max), (Cause::Lag, limits.lag_minutes_max)];
    let troubles = troubles.into_iter().filter(|(_, limit)| *limit > 0);
    let is_watched = settings.alerting.brand_quiet_minutes_max > 0;
    let quiet = settings.brands.keys().filter(|_| is_watched);
    let unheard = brands
        .chain(surges)
        .chain(quiet.map(|brand| (brand.as_str(), Cause::BrandQuiet)))
        .chain(troubles.map(|(cause, _)| (STREAM, cause)))
        .filter(|(brand, cause)| {
            // The time does not matter: an opening is notified sooner or later.
            let (worst, opened) = (Severity::Critical, Transition::Opened);
            let now = DateTime::UNIX_EPOCH;
            alerting::route(routes, &receivers, brand, &[*cause], worst, opened, now).is_empty()
        })
        .map(|(brand, cause)| {
            format!("no route tells anybody of {} incidents of {brand}", cause.as_str())
        });
    unnamed.chain(unheard).collect()
}
