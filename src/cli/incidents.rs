mod evidence;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::models::aligned;
use super::output::{print, print_json};
use super::times::show as when;
use super::{causes, with_store};
use crate::pipeline;
use monitor_config::Settings;
use monitor_core::alerting::{Audience, Occasion};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Acknowledgement, Cause, Evidence, Incident, IncidentId, Minute, Notified, Phase, Transition,
    silenced,
};
use monitor_store::{DeadNotification, Event, Silence, Store, Suppressed};

/// List, show and acknowledge incidents
///
/// A brand has at most one open incident, with a phase for each cause that sees it; the stream has one for each
/// cause. It opens, is updated while it lasts or gets worse, is resolved, and may open again; its history is
/// stored in Postgres. Times are UTC. Times of brands are
/// event time: when the tweets were written.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List incidents, newest first
    List(List),
    /// Show an incident: its evidence, its history, and who was notified and who was not
    Show(Show),
    /// Acknowledge an incident
    ///
    /// It is not repeated, unless it gets worse. Its end is still notified. A later
    /// acknowledgement replaces an earlier one.
    Ack(Ack),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only open incidents
    #[arg(long)]
    open: bool,

    /// All incidents, without a limit
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Only this brand, or "(stream)"
    #[arg(long)]
    brand: Option<String>,

    /// Only incidents with this cause among their phases
    #[arg(long, value_parser = causes())]
    cause: Option<Cause>,

    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,

    /// Print JSON: a list of objects with id, brand, cause (that opened it), severity, state,
    /// opened_at, resolved_at, acknowledged, evidence and phases
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The incident's number
    id: i64,

    /// Print JSON: the object of `list --json` with history, silences, undelivered and now (for
    /// each receiver whether it is notified next, and why not)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Ack {
    /// The incident's number
    id: i64,

    /// Who acknowledges it
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true)]
    by: String,

    /// A note for the others
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(&args, &settings),
        Command::Show(args) => show(&args, &settings),
        Command::Ack(args) => ack(args, &settings),
    }
}

/// An incident as JSON.
#[derive(Debug, Serialize)]
struct IncidentJson<'a> {
    id: i64,
    brand: &'a str,
    cause: &'static str,
    severity: &'static str,
    state: &'static str,
    opened_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    acknowledged: Option<AcknowledgedJson<'a>>,
    evidence: Evidence,
    phases: &'a [Phase],
}

#[derive(Debug, Serialize)]
struct AcknowledgedJson<'a> {
    at: DateTime<Utc>,
    by: &'a str,
    note: &'a str,
}

impl<'a> IncidentJson<'a> {
    fn of(incident: &'a Incident) -> Self {
        Self {
            id: incident.id.0,
            brand: &incident.brand,
            cause: incident.cause().as_str(),
            severity: incident.severity.as_str(),
            state: state(incident),
            opened_at: incident.opened.start(),
            resolved_at: incident.resolved.map(|minute| minute.start()),
            acknowledged: incident.acknowledged.as_ref().map(|acknowledged| AcknowledgedJson {
                at: acknowledged.at,
                by: &acknowledged.by,
                note: &acknowledged.note,
            }),
            evidence: incident.evidence,
            phases: &incident.phases,
        }
    }
}

/// The causes of an incident, in the order in which they joined.
fn causes_of(incident: &Incident) -> String {
    incident.causes().into_iter().map(Cause::as_str).collect::<Vec<_>>().join(", ")
}

fn state(incident: &Incident) -> &'static str {
    match (incident.resolved, &incident.acknowledged) {
        (Some(_), _) => "resolved",
        (None, Some(_)) => "acknowledged",
        (None, None) => "open",
    }
}

/// Incidents that are read for a list, at most.
const READ_MAX: u32 = 10_000;

fn list(args: &List, settings: &Settings) -> anyhow::Result<()> {
    let mut incidents = with_store(settings, async |store| store.incidents(READ_MAX).await)?;
    if let Some(brand) = &args.brand {
        // Also brands of past incidents that the settings no longer have.
        let mut known = super::known_brands(settings);
        known.extend(incidents.iter().map(|incident| incident.brand.as_str()));
        known.sort_unstable();
        known.dedup();
        super::require_brand(brand, &known)?;
    }
    incidents.retain(|incident| {
        (!args.open || incident.resolved.is_none())
            && args.brand.as_ref().is_none_or(|brand| *brand == incident.brand)
            && args.cause.is_none_or(|cause| incident.causes().contains(&cause))
    });
    let left_out = if args.all { 0 } else { incidents.len().saturating_sub(args.limit as usize) };
    incidents.truncate(incidents.len() - left_out);
    if args.json {
        return print_json(&incidents.iter().map(IncidentJson::of).collect::<Vec<_>>());
    }
    if incidents.is_empty() {
        return print("no incidents found\n");
    }
    let header =
        ["id", "brand", "cause", "severity", "state", "opened", "resolved", "acknowledged by"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for incident in &incidents {
        let by = incident.acknowledged.as_ref().map(|acknowledged| acknowledged.by.clone());
        rows.push(vec![
            incident.id.to_string(),
            incident.brand.clone(),
            causes_of(incident),
            incident.severity.as_str().into(),
            state(incident).into(),
            when(incident.opened.start()),
            incident.resolved.map_or("-".into(), |minute| when(minute.start())),
            by.unwrap_or_default(),
        ]);
    }
    let mut out = aligned(&rows);
    if left_out > 0 {
        writeln!(out, "{left_out} older incidents: list them with --all")?;
    }
    print(&out)
}

/// What `show` prints.
struct Shown {
    incident: Incident,
    history: Vec<Event>,
    silences: Vec<Silence>,
    undelivered: Vec<DeadNotification>,
    /// For each receiver, whether it is notified next; empty once the incident is resolved.
    now: Vec<ReceiverNow>,
}

/// Whether a receiver is notified if the incident goes on unchanged.
#[derive(Debug, Serialize)]
struct ReceiverNow {
    receiver: String,
    /// Whether the next evaluation notifies it.
    notified: bool,
    /// Why it is not notified, or `due`.
    reason: String,
    detail: String,
}

/// Whether each receiver of an open incident is notified next, and why not.
fn receivers_now(
    audience: &Audience,
    incident: &Incident,
    notified: &[Notified],
    evaluated: Minute,
    silences: &[Silence],
    now: DateTime<Utc>,
) -> Vec<ReceiverNow> {
    let occasion = Occasion {
        brand: &incident.brand,
        causes: &incident.causes(),
        transition: Transition::Updated,
        severity: incident.severity,
        incident: Some(incident),
        notified,
        joined: incident.phases.iter().map(|phase| phase.began).max(),
        minute: evaluated,
        now,
        silence: silenced(silences, &incident.brand, now),
        stale: false,
    };
    let recipients = audience.recipients(&occasion);
    let suppressed = audience.suppressed(&occasion, &recipients);
    let due = recipients.into_iter().map(|recipient| ReceiverNow {
        detail: recipient.route.map(|route| format!("route {route}")).unwrap_or_default(),
        receiver: recipient.receiver,
        notified: true,
        reason: "due".into(),
    });
    let not_due = suppressed.into_iter().map(|suppressed| ReceiverNow {
        receiver: suppressed.receiver,
        notified: false,
        reason: suppressed.reason.as_str().into(),
        detail: suppressed.detail,
    });
    let mut all: Vec<_> = due.chain(not_due).collect();
    all.sort_by(|a, b| a.receiver.cmp(&b.receiver));
    all
}

/// Dead notifications that are searched, at most.
const DEAD_MAX: u32 = 10_000;

fn show(args: &Show, settings: &Settings) -> anyhow::Result<()> {
    let id = IncidentId(args.id);
    let now = SystemClock::new().now();
    let audience = pipeline::audience(settings);
    let shown = with_store(settings, async |store| {
        let Some(incident) = store.incident(id).await? else { return Ok(None) };
        let history = store.events(id).await?;
        let mut silences = store.silences(now).await?;
        silences.retain(|silence| silence.brand.as_ref().is_none_or(|b| *b == incident.brand));
        let mut undelivered = store.dead_notifications(DEAD_MAX).await?;
        undelivered.retain(|dead| dead.key.starts_with(&format!("incident-{id}-")));
        let mut receivers = Vec::new();
        if incident.resolved.is_none()
            && let Some(state) =
                store.detector_state(&incident.brand, incident.cause().watch()).await?
        {
            let (notified, evaluated) = (&state.notified, state.evaluated);
            receivers = receivers_now(&audience, &incident, notified, evaluated, &silences, now);
        }
        Ok(Some(Shown { incident, history, silences, undelivered, now: receivers }))
    })?;
    let shown = shown.with_context(|| unknown(id))?;
    if args.json { print_json(&json(&shown)) } else { print(&text(&shown)) }
}

fn unknown(id: IncidentId) -> String {
    format!("there is no incident {id}: `monitor incidents list --all` lists all incidents")
}

fn json(shown: &Shown) -> serde_json::Value {
    let event = |event: &Event| {
        serde_json::json!({
            "kind": event.kind,
            "at": event.at,
            "severity": event.severity.as_str(),
            "who": event.who,
            "note": event.note,
            "told": event.notified,
            "suppressed": event.suppressed,
        })
    };
    let undelivered = |dead: &DeadNotification| {
        serde_json::json!({
            "id": dead.id,
            "receiver": dead.receiver,
            "error": dead.error,
            "ended_at": dead.ended_at,
        })
    };
    let mut object = serde_json::json!(IncidentJson::of(&shown.incident));
    object["history"] = shown.history.iter().map(event).collect();
    object["silences"] = shown.silences.iter().map(super::silence::json).collect();
    object["now"] = serde_json::json!(shown.now);
    object["undelivered"] = shown.undelivered.iter().map(undelivered).collect();
    object
}

fn text(shown: &Shown) -> String {
    let incident = &shown.incident;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let line = format!("{name:<13}{text}");
        writeln!(out, "{}", line.trim_end()).expect("writing to a string cannot fail");
    };
    line("incident", incident.id.to_string());
    line("brand", incident.brand.clone());
    line("cause", causes_of(incident));
    line("severity", incident.severity.as_str().into());
    line("state", state(incident).into());
    line("opened", when(incident.opened.start()));
    if let Some(resolved) = incident.resolved {
        line("resolved", when(resolved.start()));
    }
    if let Some(Acknowledgement { at, by, note }) = &incident.acknowledged {
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        line("acknowledged", format!("by {by}, {}{note}", when(*at)));
    }
    for (name, text) in evidence::lines(&incident.evidence) {
        line(name, text);
    }
    for phase in &incident.phases {
        line("phase", evidence::phase(phase));
    }
    for silence in &shown.silences {
        line("silence", super::silence::text(silence));
    }
    for dead in &shown.undelivered {
        let text = format!("{} (notification {}): {}", dead.receiver, dead.id, dead.error);
        line("undelivered", text);
    }
    for now in &shown.now {
        let detail =
            if now.detail.is_empty() { String::new() } else { format!(" ({})", now.detail) };
        let state = if now.notified { "is notified next" } else { "gets nothing" };
        let reason = now.reason.replace('_', " ");
        line("now", format!("{} {state}: {reason}{detail}", now.receiver));
    }
    let history: Vec<_> = shown
        .history
        .iter()
        .map(|event| {
            let notified = match (&event.who, event.notified.is_empty()) {
                (Some(who), _) => format!("by {who}"),
                (None, true) => "notified nobody".into(),
                (None, false) => format!("notified {}", event.notified.join(", ")),
            };
            let severity = event.severity.as_str().to_owned();
            // One line per entry, so that the reasons can follow it.
            vec![
                when(event.at),
                event.kind.clone(),
                severity,
                in_one_line(&notified),
                in_one_line(&event.note),
            ]
        })
        .collect();
    out.push_str("\nhistory\n");
    for (line, event) in aligned(&history).lines().zip(&shown.history) {
        writeln!(out, "{line}").expect("writing to a string cannot fail");
        for (reason, receivers) in by_reason(&event.suppressed) {
            let reason = in_one_line(&reason);
            writeln!(out, "    {} not notified: {reason}", receivers.join(", "))
                .expect("writing to a string cannot fail");
        }
    }
    out
}

/// The text without its line breaks.
fn in_one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

/// The receivers that were not notified, grouped by the reason.
fn by_reason(suppressed: &[Suppressed]) -> BTreeMap<String, Vec<&str>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for one in suppressed {
        groups.entry(one.to_string()).or_default().push(one.receiver.as_str());
    }
    groups
}

fn ack(args: Ack, settings: &Settings) -> anyhow::Result<()> {
    let id = IncidentId(args.id);
    let acknowledgement =
        Acknowledgement { at: SystemClock::new().now(), by: args.by, note: args.note };
    let incident = with_store(settings, async |store| {
        match store.acknowledge(id, &acknowledgement).await? {
            true => store.incident(id).await,
            false => Ok(None),
        }
    })?;
    let incident = incident.with_context(|| unknown(id))?;
    let (cause, brand, by) = (incident.cause().as_str(), &incident.brand, &acknowledgement.by);
    print(&match incident.resolved {
        None => format!(
            "{by} acknowledged incident {id} ({cause}, {brand}): it is not repeated unless it gets \
             worse\n"
        ),
        Some(_) => {
            format!("incident {id} ({cause}, {brand}) is already resolved; the note is stored\n")
        }
    })
}
