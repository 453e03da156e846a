mod test_notification;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::models::aligned;
use super::output::{print, print_json};
use super::times::{show as when, time};
use super::{causes, known_brands, require_brand, with_store};
use crate::pipeline;
use monitor_config::Settings;
use monitor_core::alerting::{self, Route};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Cause, STREAM, Severity, Transition};
use monitor_notify::{self as notify, Outcome};
use monitor_store::{OutboxRow, Store};

/// Show who is notified, test a receiver, and requeue dead notifications
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show who would be notified, when, by which route, and why the others would not
    ///
    /// Sends nothing, and reads only the settings, so silences are not considered.
    Route(RouteArgs),
    /// Send a receiver a notification that is marked as a test
    ///
    /// Uses the code of real notifications. Prints the result, and ends with status 1 if the
    /// receiver, or one of its addresses, did not accept it.
    Test(Test),
    /// List the dead notifications, oldest first
    ///
    /// A notification is dead when its receiver has rejected it permanently, or after
    /// delivery.attempts_max attempts.
    Dead(Dead),
    /// Requeue dead notifications
    ///
    /// They keep their keys, so that a receiver that already has one can drop the repeat. This
    /// puts them back into the outbox; `monitor run` sends them.
    Retry(Retry),
}

#[derive(Debug, clap::Args)]
struct RouteArgs {
    /// The brand, or "(stream)" [default: all brands, or "(stream)" if the cause is about it]
    #[arg(long)]
    brand: Option<String>,

    /// The cause; quiet and lag are about "(stream)" [default: share, for the stream quiet]
    #[arg(long, value_parser = causes())]
    cause: Option<Cause>,

    /// The severity [default: warning, for the stream critical]
    #[arg(long, value_parser = severities())]
    severity: Option<Severity>,

    /// The step of the incident
    #[arg(long, default_value = "opened", value_parser = transitions())]
    transition: Transition,

    /// The time: RFC 3339, or "2026-01-05 21:00" in UTC [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<DateTime<Utc>>,

    /// Print JSON: a list of objects with brand, cause, severity, transition, at, receiver,
    /// hears, route, not_before and why
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Test {
    /// The receiver
    #[arg(long, value_name = "NAME")]
    receiver: String,
}

#[derive(Debug, clap::Args)]
struct Dead {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,

    /// Print JSON: a list of objects with id, key, receiver, attempts, error and ended_at
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Retry {
    /// One notification, by its number
    #[arg(long, value_name = "N")]
    id: Option<i64>,

    /// All dead notifications of a receiver
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,

    /// All dead notifications
    #[arg(long)]
    all: bool,
}

fn severities() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.map(Severity::as_str))
        .map(|word| Severity::parse(&word).expect("clap lets only these words through"))
}

fn transitions() -> impl TypedValueParser<Value = Transition> {
    PossibleValuesParser::new(Transition::ALL.map(Transition::as_str))
        .map(|word| Transition::parse(&word).expect("clap lets only these words through"))
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    match args.command {
        Command::Route(args) => route(&args, &settings),
        Command::Test(Test { receiver }) => test(&receiver, &settings),
        Command::Dead(args) => dead(&args, &settings),
        Command::Retry(args) => retry(&args, &settings),
    }
}

/// Whether a receiver is notified of a step, and why.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    brand: &'a str,
    cause: &'static str,
    severity: &'static str,
    transition: &'static str,
    at: DateTime<Utc>,
    receiver: &'a str,
    hears: bool,
    route: Option<String>,
    not_before: Option<DateTime<Utc>>,
    why: String,
}

fn route(args: &RouteArgs, settings: &Settings) -> anyhow::Result<()> {
    let at = args.at.unwrap_or_else(|| SystemClock::new().now());
    let about_the_stream = |cause| matches!(cause, Cause::Quiet | Cause::Lag);
    let brands: Vec<&str> = match (&args.brand, args.cause) {
        (Some(brand), cause) => {
            require_brand(brand, &known_brands(settings))?;
            ensure!(
                cause.is_none_or(|cause| about_the_stream(cause) == (brand == STREAM)),
                "quiet and lag are about {STREAM:?}, the other causes about brands: change --brand or --cause"
            );
            vec![brand]
        }
        (None, Some(cause)) if about_the_stream(cause) => vec![STREAM],
        (None, _) => settings.brands.keys().map(String::as_str).collect(),
    };
    ensure!(!brands.is_empty(), "no brands are configured: add [brands.<name>] to the settings");
    ensure!(
        !settings.receivers.is_empty(),
        "no receivers are configured, so nobody is notified: add [receivers.<name>] to the settings"
    );
    let routes = pipeline::routes(settings);
    let mut blocks = Vec::new();
    for brand in brands {
        let stream = brand == STREAM;
        let cause = args.cause.unwrap_or(if stream { Cause::Quiet } else { Cause::Share });
        let usual = if stream { Severity::Critical } else { Severity::Warning };
        let step = (brand, cause, args.severity.unwrap_or(usual), args.transition);
        blocks.push(answers(&routes, settings, step, at));
    }
    if args.json {
        return print_json(&blocks.iter().flatten().collect::<Vec<_>>());
    }
    let mut out = String::new();
    for block in &blocks {
        let separator = if out.is_empty() { "" } else { "\n" };
        let Answer { brand, cause, severity, transition, .. } = &block[0];
        let at = when(at);
        writeln!(out, "{separator}{brand}: {cause}, {severity}, {transition} at {at}")?;
        let rows = block.iter().map(|answer| {
            let verb = if answer.hears { "notified" } else { "not notified" };
            vec![answer.receiver.to_owned(), verb.to_owned(), answer.why.clone()]
        });
        out.push_str(&aligned(&rows.collect::<Vec<_>>()));
    }
    print(&out)
}

/// Whether each receiver is notified of a step, by receiver.
fn answers<'a>(
    routes: &[Route],
    settings: &'a Settings,
    (brand, cause, severity, transition): (&'a str, Cause, Severity, Transition),
    at: DateTime<Utc>,
) -> Vec<Answer<'a>> {
    let receivers: Vec<_> = settings.receivers.keys().cloned().collect();
    let recipients = alerting::route(routes, &receivers, brand, &[cause], severity, transition, at);
    let answer = |receiver: &'a String| {
        let recipient = recipients.iter().find(|recipient| recipient.receiver == *receiver);
        let why = match recipient {
            Some(recipient) => match &recipient.route {
                Some(route) => format!("{}; route {route}", recipient.when),
                None => format!("{}; there are no routes", recipient.when),
            },
            None => why_not(routes, receiver, |route| {
                route.evaluate(brand, &[cause], severity, transition, at).err()
            }),
        };
        Answer {
            brand,
            cause: cause.as_str(),
            severity: severity.as_str(),
            transition: transition.as_str(),
            at,
            receiver,
            hears: recipient.is_some(),
            route: recipient.and_then(|recipient| recipient.route.clone()),
            not_before: recipient.and_then(|recipient| recipient.when.not_before()),
            why,
        }
    };
    settings.receivers.keys().map(answer).collect()
}

fn why_not(
    routes: &[Route],
    receiver: &String,
    mismatch: impl Fn(&Route) -> Option<alerting::RouteMismatch>,
) -> String {
    let named = routes.iter().filter(|route| route.receivers.contains(receiver));
    let reasons: Vec<_> =
        named.filter_map(|r| Some(format!("route {}: {}", r.name, mismatch(r)?))).collect();
    if reasons.is_empty() { "no route names it".into() } else { reasons.join("; ") }
}

fn test(name: &str, settings: &Settings) -> anyhow::Result<()> {
    let receiver =
        settings.receivers.get(name).with_context(|| unknown_receiver(name, settings))?;
    let now = SystemClock::new().now();
    let public_url = settings.http.public_url.as_deref();
    let only = BTreeMap::from([(name.to_owned(), receiver.clone())]);
    let notifiers = notify::notifiers(&only, settings.delivery, None)?;
    let notifier = notifiers.get(name).expect("each receiver has a notifier");
    // Unique, or the receiver would drop this test as a repeat of an earlier one.
    let key = format!("test-{}-{name}", now.timestamp_millis());
    let brand = settings.brands.keys().next().map_or("acme", String::as_str);
    let row = OutboxRow {
        id: 0,
        notification: test_notification::build(name, brand, &key, public_url, now),
        key,
        receiver: name.to_owned(),
        attempts: 1,
    };
    let limit = Duration::from_millis(settings.delivery.timeout_ms);
    let outcome = tokio::runtime::Runtime::new()?
        .block_on(async { tokio::time::timeout(limit, notifier.notify(&row, now)).await });
    match outcome {
        Ok(Outcome::Sent) => print(&format!("{name} accepted the test notification {}\n", row.key)),
        Ok(Outcome::Partly { reason, .. }) => {
            bail!(
                "{name} accepted the test notification {}, but not for all addresses: {reason}",
                row.key
            )
        }
        Ok(Outcome::Permanent { reason }) => bail!("{name} rejected it permanently: {reason}"),
        Ok(Outcome::Retry { reason, .. }) => {
            bail!("{name} did not accept it (a real one would be retried): {reason}")
        }
        Err(_) => bail!(
            "{name} did not answer within {} ms (delivery.timeout_ms); a real one would be \
             retried",
            limit.as_millis()
        ),
    }
}

fn unknown_receiver(name: &str, settings: &Settings) -> String {
    let known: Vec<_> = settings.receivers.keys().map(|name| format!("{name:?}")).collect();
    if known.is_empty() {
        format!("there is no receiver {name:?}: add [receivers.{name}] to the settings")
    } else {
        format!("there is no receiver {name:?}; there are {}", known.join(", "))
    }
}

fn dead(args: &Dead, settings: &Settings) -> anyhow::Result<()> {
    let dead = with_store(settings, async |store| store.dead_notifications(args.limit).await)?;
    if args.json {
        let json = dead.iter().map(|dead| {
            serde_json::json!({
                "id": dead.id,
                "key": dead.key,
                "receiver": dead.receiver,
                "attempts": dead.attempts,
                "error": dead.error,
                "ended_at": dead.ended_at,
            })
        });
        return print_json(&json.collect::<Vec<_>>());
    }
    if dead.is_empty() {
        return print("no dead notifications\n");
    }
    let header = ["id", "receiver", "dead since", "attempts", "key", "last error"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(dead.into_iter().map(|dead| {
        let attempts = dead.attempts.to_string();
        let (id, ended) = (dead.id.to_string(), when(dead.ended_at));
        vec![id, dead.receiver, ended, attempts, dead.key, dead.error]
    }));
    print(&aligned(&rows))
}

fn retry(args: &Retry, settings: &Settings) -> anyhow::Result<()> {
    let requeued =
        with_store(settings, async |store| store.requeue(args.id, args.receiver.as_deref()).await)?;
    ensure!(requeued > 0, "no such dead notification: `monitor alert dead` lists them");
    let them =
        if requeued == 1 { "1 notification".into() } else { format!("{requeued} notifications") };
    print(&format!("{them} will be sent again by `monitor run`\n"))
}
