//! `monitor incidents`, `monitor silence` and `monitor alert`, called as programs, on a real
//! Postgres and with receivers that answer over the network.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use monitor_config as config;
use monitor_core::alerting::SuppressReason;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Counts, Evidence, IncidentId, Interval, LagEvidence, Minute, QuietEvidence, STREAM, Severity,
    ShareEvidence, Transition, VolumeEvidence,
};
use monitor_embedded::{MailOptions, MailServer};
use monitor_store::{
    Decision, Delivery, Drivers, Notification, OutboxState, PostgresStore, Step, Store, Suppressed,
};
use serde_json::Value;

use crate::support::fresh_database;

fn now() -> DateTime<Utc> {
    SystemClock::new().now()
}

/// Whether the program succeeded, and its output: standard output, or standard error if it failed.
fn monitor(settings: &[String], arguments: &str) -> (bool, String) {
    let arguments: Vec<_> = arguments.split(' ').collect();
    call(settings, &arguments)
}

pub fn call(settings: &[String], arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]))
        .args(arguments)
        .env("USER", "ada")
        // Without this the program restarts itself to set it, which takes twice as long.
        .env("OMP_WAIT_POLICY", "PASSIVE")
        .env_remove("MONITOR_CONFIG")
        .output()
        .unwrap();
    let printed = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(printed).unwrap())
}

pub fn settings(url: &str) -> Vec<String> {
    let brand = |name: &str| format!("brands.{name}.keywords=[\"{name}\"]");
    vec![format!("store.url={url}"), brand("acme"), brand("globex")]
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A minute of the day of these tests.
fn minute(n: i64) -> Minute {
    Minute::of(at("2026-01-05T12:00:00Z")).plus(n)
}

fn share() -> Evidence {
    Evidence::Share(ShareEvidence {
        rule: "e-detector",
        since: minute(-40),
        window_minutes: 41,
        observed: Counts { total: 120, negative: 90 },
        observed_interval: Interval { low: 0.665, high: 0.819 },
        recent_minutes: 15,
        recent: Counts { total: 30, negative: 25 },
        baseline: Counts { total: 800, negative: 200 },
        expected_share: 0.25,
        expected_interval: Interval { low: 0.22, high: 0.28 },
        statistic: 21.5,
        threshold: 9.125,
        dispersion: 1.25,
    })
}

fn surge() -> Evidence {
    Evidence::Surge(VolumeEvidence {
        since: minute(-30),
        observed: 900,
        expected: 220.4,
        tweets: Counts { total: 900, negative: 300 },
        usual_share: 0.3,
        statistic: 12.0,
        threshold: 8.0,
    })
}

fn quiet() -> Evidence {
    Evidence::Quiet(QuietEvidence {
        last: Some(at("2026-01-05T11:20:00Z")),
        minutes: 45,
        expected_tweets: 130.0,
        limit_minutes: 30,
    })
}

/// Decides a step of an incident that notifies `receivers`.
async fn decide(
    store: &PostgresStore,
    brand: &str,
    evidence: Evidence,
    severity: Severity,
    (transition, n): (Transition, i64),
    receivers: &[&str],
) -> IncidentId {
    let cause = evidence.cause();
    let state = store.detector_state(brand, cause.watch()).await.unwrap();
    let opened =
        state.as_ref().and_then(|state| state.open.as_ref()).map_or(minute(n), |open| open.opened);
    let notification = Notification {
        incident_id: 0,
        transition: transition.as_str().into(),
        test: false,
        brand: brand.into(),
        severity: severity.as_str().into(),
        at: minute(n).start(),
        opened_at: opened.start(),
        reason: format!("{} of {brand} has {}", cause.as_str(), transition.as_str()),
        evidence,
        phases: Vec::new(),
        corrected: None,
        drivers: Drivers::default(),
        examples: Vec::new(),
        curve: Vec::new(),
        curve_minutes: 60,
        echoes: 0,
        also: Vec::new(),
        thread: String::new(),
        url: None,
        digest: None,
        missed: Vec::new(),
    };
    let deliveries = receivers
        .iter()
        .map(|&r| Delivery { receiver: r.into(), not_before: None, group: false })
        .collect();
    // `desk` is never notified in these tests.
    let silenced = Suppressed {
        receiver: "desk".into(),
        reason: SuppressReason::Silenced,
        detail: "silence 4 by ada: release".into(),
    };
    let suppressed = if transition == Transition::Opened { vec![silenced] } else { Vec::new() };
    let decision = Decision {
        brand: brand.into(),
        watch: cause.watch(),
        evaluated_before: state.map(|state| state.evaluated),
        evaluated: minute(n),
        state: Value::Null,
        step: Some(Step {
            transition,
            minute: minute(n),
            severity,
            evidence,
            phases: Vec::new(),
            notification,
            deliveries,
            suppressed,
            missed: false,
        }),
    };
    store.decide(&decision).await.unwrap().expect("a step has an incident")
}

async fn empty() -> (PostgresStore, Vec<String>) {
    let url = fresh_database().await;
    let settings = settings(&url);
    let store = PostgresStore::connect(&config::Store { url, ..config::Store::default() }).unwrap();
    store.migrate().await.unwrap();
    (store, settings)
}

/// Three incidents: 1 of acme's share, resolved; 2 of globex' volume; 3 of the stream.
async fn three() -> (PostgresStore, Vec<String>) {
    use Transition::*;
    let (store, settings) = empty().await;
    let both = ["chat", "comms"];
    decide(&store, "acme", share(), Severity::Warning, (Opened, 0), &both).await;
    decide(&store, "acme", share(), Severity::Critical, (Updated, 10), &["comms"]).await;
    decide(&store, "acme", share(), Severity::Critical, (Resolved, 95), &both).await;
    decide(&store, "globex", surge(), Severity::Notice, (Opened, 100), &[]).await;
    decide(&store, STREAM, quiet(), Severity::Critical, (Opened, 120), &["comms"]).await;
    (store, settings)
}

/// Runs the commands in order; each must succeed or fail as given, and print these parts.
fn check_all(settings: &[String], table: &[(&str, bool, &[&str])]) {
    for (command, ok, parts) in table {
        let (succeeded, output) = monitor(settings, command);
        assert_eq!(succeeded, *ok, "{command}: {output}");
        for part in *parts {
            assert!(output.contains(part), "{command}: {part:?} is not in: {output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_incidents() {
    let (_store, settings) = three().await;
    let (_, output) = monitor(&settings, "incidents list");
    insta::assert_snapshot!(output, @r"
    id  brand     cause  severity  state     opened            resolved          acknowledged by
    3   (stream)  quiet  critical  open      2026-01-05 14:00  -
    2   globex    surge  notice    open      2026-01-05 13:40  -
    1   acme      share  critical  resolved  2026-01-05 12:00  2026-01-05 13:35
    ");

    let ids = |arguments: &str| {
        let (ok, output) = monitor(&settings, &format!("incidents list --json {arguments}"));
        assert!(ok, "{arguments}: {output}");
        let list: Value = serde_json::from_str(&output).unwrap();
        let ids = list.as_array().unwrap().iter().map(|incident| incident["id"].as_i64().unwrap());
        ids.collect::<Vec<_>>()
    };
    let check =
        |arguments: &str, expected: &[i64]| assert_eq!(ids(arguments), expected, "{arguments}");
    check("--all", &[3, 2, 1]);
    check("--limit 2", &[3, 2]);
    check("--open", &[3, 2]);
    check("--brand acme", &[1]);
    check("--brand (stream)", &[3]);
    check("--cause surge", &[2]);
    check("--cause surge --brand acme", &[]);
    check("--open --limit 1", &[3]);

    check_all(
        &settings,
        &[
            ("incidents list --limit 1", true, &["2 older incidents: list them with --all"]),
            ("incidents list --cause lag", true, &["no incidents found"]),
            (
                "incidents list --brand acne",
                false,
                &["there is no brand \"acne\"; there are \"(stream)\", \"acme\", \"globex\""],
            ),
            (
                "incidents list --cause anger",
                false,
                &["possible values: share, negative-volume, surge, quiet, brand-quiet, lag"],
            ),
        ],
    );
    // Incidents of a brand that the settings no longer have can still be listed.
    let renamed = [settings[0].clone(), "brands.initech.keywords=[\"initech\"]".into()];
    let (_, output) = monitor(&renamed, "incidents list --brand globex");
    assert!(output.contains("globex"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_an_incident() {
    let (store, settings) = three().await;
    let (_, output) = monitor(&settings, "incidents show 1");
    insta::assert_snapshot!(output, @r"
    incident     1
    brand        acme
    cause        share
    severity     critical
    state        resolved
    opened       2026-01-05 12:00
    resolved     2026-01-05 13:35
    observed     75.0 % negative: 90 of 120 tweets since 2026-01-05 11:20; between 66.5 % and 81.9 %
    recently     83.3 % negative: 25 of 30 tweets of 15 minutes
    expected     25.0 % negative; between 22.0 % and 28.0 %
    baseline     25.0 % negative: 200 of 800 tweets
    statistic    21.50, alerts from 9.12 (rule e-detector, dispersion 1.25)

    history
    2026-01-05 12:00  opened    warning   notified chat, comms  share of acme has opened
        desk not notified: silenced (silence 4 by ada: release)
    2026-01-05 12:10  updated   critical  notified comms        share of acme has updated
    2026-01-05 13:35  resolved  critical  notified chat, comms  share of acme has resolved
    ");

    let leased = store.outbox_lease(now(), Duration::from_secs(60), 99, &[], &[]).await.unwrap();
    let row = leased
        .iter()
        .find(|row| row.key.starts_with("incident-3-opened-") && row.receiver == "comms")
        .unwrap();
    let dead = OutboxState::Dead { error: "the receiver answered 410".into() };
    store.outbox_record(row.id, row.attempts, now(), &dead).await.unwrap();
    let quoted =
        ["silence", "add", "--for", "1d", "--from", "2100-01-01", "--reason", "moving house"];
    assert!(call(&settings, &quoted).0);
    assert!(monitor(&settings, "silence add --for 1d --brand acme --reason other").0);
    assert!(call(&settings, &["incidents", "ack", "3", "--note", "the feed is down"]).0);
    let (_, mut output) = monitor(&settings, "incidents show 3");
    // Acknowledgements have clock time.
    let today = now().format("%Y-%m-%d").to_string();
    while let Some(at) = output.find(&today) {
        output.replace_range(at..at + "2026-01-05 12:00".len(), "(today)");
    }
    insta::assert_snapshot!(output, @r"
    incident     3
    brand        (stream)
    cause        quiet
    severity     critical
    state        acknowledged
    opened       2026-01-05 14:00
    acknowledged by ada, (today): the feed is down
    observed     no tweet in 45 minutes, last one 2026-01-05 11:20
    expected     130 tweets in that time
    alerts from  30 minutes
    silence      1: no notifications about anything from 2100-01-01 00:00 to 2100-01-02 00:00, by ada: moving house
    undelivered  comms (notification 6): the receiver answered 410

    history
    2026-01-05 14:00  opened        critical  notified comms  quiet of (stream) has opened
        desk not notified: silenced (silence 4 by ada: release)
    (today)  acknowledged  critical  by ada          the feed is down
    ");

    let (_, output) = monitor(&settings, "incidents show 3 --json");
    let shown: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(shown["state"], "acknowledged");
    assert_eq!(shown["opened_at"], "2026-01-05T14:00:00Z");
    assert_eq!(shown["resolved_at"], Value::Null);
    assert_eq!(shown["acknowledged"]["by"], "ada");
    assert_eq!(shown["evidence"]["kind"], "quiet");
    assert_eq!(shown["evidence"]["limit_minutes"], 30);
    assert_eq!(shown["history"][0]["told"], serde_json::json!(["comms"]));
    let reason = &shown["history"][0]["suppressed"][0];
    assert_eq!((&reason["receiver"], &reason["reason"]), (&"desk".into(), &"silenced".into()));
    assert_eq!(reason["detail"], "silence 4 by ada: release");
    assert_eq!(shown["history"][1]["suppressed"], serde_json::json!([]));
    assert_eq!(shown["history"][1]["kind"], "acknowledged");
    assert_eq!(shown["history"][1]["note"], "the feed is down");
    assert_eq!(shown["silences"].as_array().unwrap().len(), 1, "not the silence of another brand");
    assert_eq!(shown["silences"][0]["ends_at"], "2100-01-02T00:00:00Z");
    assert_eq!(shown["undelivered"][0]["error"], "the receiver answered 410");

    let lag = Evidence::Lag(LagEvidence { behind_minutes: 20, limit_minutes: 15 });
    decide(&store, STREAM, lag, Severity::Critical, (Transition::Opened, 121), &[]).await;
    check_all(
        &settings,
        &[
            ("incidents show 2", true, &["900 tweets since 2026-01-05 11:30", "notified nobody"]),
            ("incidents show 4", true, &["20 minutes behind the stream", "from  15 minutes"]),
            (
                "incidents show 5",
                false,
                &["there is no incident 5", "monitor incidents list --all"],
            ),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_incidents() {
    let (store, settings) = three().await;
    check_all(
        &settings,
        &[
            (
                "incidents ack 2",
                true,
                &[
                    "ada acknowledged incident 2 (surge, globex): it is not repeated unless it gets worse",
                ],
            ),
            ("incidents ack 2 --by bob --note mine", true, &["bob acknowledged incident 2"]),
            (
                "incidents ack 1",
                true,
                &["incident 1 (share, acme) is already resolved; the note is stored"],
            ),
            ("incidents ack 9", false, &["there is no incident 9", "monitor incidents list --all"]),
            ("incidents list --open", true, &["acknowledged", "bob"]),
        ],
    );
    let events = store.events(IncidentId(2)).await.unwrap();
    let who: Vec<_> = events.iter().map(|e| (e.who.as_deref(), e.note.as_str())).collect();
    let opened = (None, "surge of globex has opened");
    assert_eq!(who, [opened, (Some("ada"), ""), (Some("bob"), "mine")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn adds_lists_and_ends_silences() {
    let (store, settings) = empty().await;
    check_all(
        &settings,
        &[
            ("silence list", true, &["no silences"]),
            ("silence list --json", true, &["[]"]),
            (
                "silence add --brand acme --for 2h --from 2100-01-01T21:00:00+01:00 --reason launch",
                true,
                &[
                    "silence 1: no notifications about acme from 2100-01-01 20:00 to 2100-01-01 22:00, by ada: launch",
                ],
            ),
            (
                "silence add --for 30m --from 2100-01-01 --reason move --by bob",
                true,
                &[
                    "silence 2: no notifications about anything from 2100-01-01 00:00 to 2100-01-01 00:30, by bob",
                ],
            ),
            (
                "silence add --brand (stream) --for 1d --reason upgrade",
                true,
                &["silence 3", "(stream)"],
            ),
            (
                "silence add --brand acne --for 1h --reason x",
                false,
                &["\"acme\", \"globex\", \"(stream)\""],
            ),
            ("silence add --for 2 --reason x", false, &["such as 30m, 2h or 1d, at most 366d"]),
            (
                "silence add --for 1h --from 2020-01-01 --reason x",
                false,
                &["would have ended already", "--from"],
            ),
            ("silence add --for 1h --from soon --reason x", false, &["2026-01-05T22:00:00+01:00"]),
            (
                "silence list",
                true,
                &["1   acme      2100-01-01 20:00  2100-01-01 22:00  ada  launch"],
            ),
            ("silence end 3", true, &["silence 3 has ended"]),
            (
                "silence end 3",
                false,
                &["silence 3 does not exist or has ended", "monitor silence list"],
            ),
        ],
    );
    let kept = store.silences(now()).await.unwrap();
    assert_eq!(kept.iter().map(|silence| silence.id).collect::<Vec<_>>(), [1, 2]);
    let list: Value = serde_json::from_str(&monitor(&settings, "silence list --json").1).unwrap();
    assert_eq!(list[0]["brand"], "acme");
    assert_eq!(list[1]["brand"], Value::Null);
    assert_eq!((&list[1]["who"], &list[1]["reason"]), (&"bob".into(), &"move".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requeues_dead_notifications() {
    let (store, settings) = empty().await;
    let receivers = ["chat", "comms", "pager"];
    decide(&store, "acme", share(), Severity::Warning, (Transition::Opened, 0), &receivers).await;
    let make_dead = async || {
        let rows = store.outbox_lease(now(), Duration::from_secs(60), 99, &[], &[]).await.unwrap();
        for row in &rows {
            let error = format!("{} is full", row.receiver);
            let state = OutboxState::Dead { error };
            store.outbox_record(row.id, row.attempts, now(), &state).await.unwrap();
        }
        rows.len()
    };
    check_all(
        &settings,
        &[
            ("alert dead", true, &["no dead notifications"]),
            ("alert dead --json", true, &["[]"]),
            ("alert retry --all", false, &["no such dead notification", "monitor alert dead"]),
        ],
    );
    assert_eq!(make_dead().await, 3);
    let dead: Value = serde_json::from_str(&monitor(&settings, "alert dead --json").1).unwrap();
    let key = dead[0]["key"].as_str().unwrap();
    assert!(key.starts_with("incident-1-opened-") && key.ends_with("-chat"), "{key}");
    assert_eq!(dead[2]["error"], "pager is full");
    assert_eq!(dead[0]["attempts"], 1);
    let one = format!("alert retry --id {}", dead[1]["id"]);
    check_all(
        &settings,
        &[
            ("alert dead", true, &["incident-1-opened-", "-comms  comms is full"]),
            (&one, true, &["1 notification will be sent again"]),
            (&one, false, &["no such dead notification"]),
            ("alert retry --receiver pager", true, &["1 notification will be sent again"]),
            ("alert retry --receiver nobody", false, &["no such dead notification"]),
            ("alert retry", false, &["<--id <N>|--receiver <NAME>|--all>"]),
        ],
    );
    assert_eq!(make_dead().await, 2);
    check_all(&settings, &[("alert retry --all", true, &["3 notifications will be sent again"])]);
    let rows = store.outbox_lease(now(), Duration::from_secs(60), 99, &[], &[]).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().any(|row| row.key == key), "under the old keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_for_a_migration_without_a_schema() {
    let url = fresh_database().await;
    let settings = settings(&url);
    for command in ["incidents list", "silence list", "alert dead"] {
        let (ok, output) = monitor(&settings, command);
        assert!(!ok && output.contains("is not up to date: run `monitor migrate`"), "{output}");
    }
}

const ROUTES: &str = r#"
    [brands.acme]
    keywords = ["acme"]
    [brands.globex]
    keywords = ["globex"]
    [receivers.chat]
    kind = "slack"
    url = "https://hooks.slack.example.com/hunter2"
    [receivers.comms]
    kind = "slack"
    url = "https://hooks.slack.example.com/hunter2"
    [receivers.pager]
    kind = "slack"
    url = "https://hooks.slack.example.com/hunter2"
    [receivers.spare]
    kind = "slack"
    url = "https://hooks.slack.example.com/hunter2"
    [routes.acme]
    brands = ["acme"]
    receivers = ["chat", "comms"]
    quiet_hours = "22:00-07:00"
    time_zone = "Europe/Paris"
    group_wait_s = 60
    [routes.bad]
    severity_min = "critical"
    receivers = ["pager", "comms"]
    [routes.feed]
    brands = ["(stream)"]
    causes = ["lag"]
    receivers = ["chat"]
"#;

#[test]
fn shows_who_would_be_notified() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(&file, ROUTES).unwrap();
    let config = file.path().to_str().unwrap();
    let route = |arguments: &str| {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let day = ["alert", "route", "--config", config, "--at", "2026-01-05T12:00Z"];
        let night = ["alert", "route", "--config", config, "--at", "2026-01-05T23:30Z"];
        match arguments.split_first() {
            Some((&"day", rest)) => call(&[], &[&day, rest].concat()),
            Some((&"night", rest)) => call(&[], &[&night, rest].concat()),
            _ => unreachable!("each begins with day or night"),
        }
    };
    insta::assert_snapshot!(route("day").1, @r"
    acme: share, warning, opened at 2026-01-05 12:00
    chat   notified      at 2026-01-05 12:01:00 UTC, so that others can join it; route acme
    comms  notified      at 2026-01-05 12:01:00 UTC, so that others can join it; route acme
    pager  not notified  route bad: it is for worse incidents
    spare  not notified  no route names it

    globex: share, warning, opened at 2026-01-05 12:00
    chat   not notified  route acme: it is for other brands; route feed: it is for other brands
    comms  not notified  route acme: it is for other brands; route bad: it is for worse incidents
    pager  not notified  route bad: it is for worse incidents
    spare  not notified  no route names it
    ");
    insta::assert_snapshot!(route("night --brand acme").1, @r"
    acme: share, warning, opened at 2026-01-05 23:30
    chat   notified      at 2026-01-06 06:00:00 UTC, after the quiet hours; route acme
    comms  notified      at 2026-01-06 06:00:00 UTC, after the quiet hours; route acme
    pager  not notified  route bad: it is for worse incidents
    spare  not notified  no route names it
    ");
    insta::assert_snapshot!(route("night --brand acme --transition updated").1, @r"
    acme: share, warning, updated at 2026-01-05 23:30
    chat   not notified  route acme: updates are dropped in its quiet hours; route feed: it is for other brands
    comms  not notified  route acme: updates are dropped in its quiet hours; route bad: it is for worse incidents
    pager  not notified  route bad: it is for worse incidents
    spare  not notified  no route names it
    ");
    insta::assert_snapshot!(route("night --brand acme --severity critical").1, @r"
    acme: share, critical, opened at 2026-01-05 23:30
    chat   notified      at 2026-01-05 23:31:00 UTC, so that others can join it; route acme
    comms  notified      at once; route bad
    pager  notified      at once; route bad
    spare  not notified  no route names it
    ");
    insta::assert_snapshot!(route("day --cause lag --severity warning").1, @r"
    (stream): lag, warning, opened at 2026-01-05 12:00
    chat   notified      at once; route feed
    comms  not notified  route acme: it is for other brands; route bad: it is for worse incidents
    pager  not notified  route bad: it is for worse incidents
    spare  not notified  no route names it
    ");
    insta::assert_snapshot!(route("day --brand (stream)").1, @r"
    (stream): quiet, critical, opened at 2026-01-05 12:00
    chat   not notified  route acme: it is for other brands; route feed: it is for other causes
    comms  notified      at once; route bad
    pager  notified      at once; route bad
    spare  not notified  no route names it
    ");

    let found: Value = serde_json::from_str(&route("night --json --brand acme").1).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 4);
    assert_eq!(found[0]["not_before"], "2026-01-06T06:00:00Z");
    assert_eq!((&found[0]["route"], &found[0]["hears"]), (&"acme".into(), &true.into()));
    assert_eq!((&found[2]["route"], &found[2]["hears"]), (&Value::Null, &false.into()));
    assert_eq!(found[2]["why"], "route bad: it is for worse incidents");

    let refused = |arguments: &str, part: &str| {
        let (ok, output) = route(arguments);
        assert!(!ok && output.contains(part), "{arguments}: {output}");
    };
    refused("day --brand acne", "there is no brand \"acne\"; there are \"acme\", \"globex\"");
    refused("day --brand acme --cause lag", "quiet and lag are about \"(stream)\"");
    refused("day --severity mild", "possible values: notice, warning, critical");
    let (ok, output) = monitor(&[], "alert route");
    assert!(!ok && output.contains("no brands are configured"), "{output}");
    let (ok, output) = monitor(&["brands.acme.keywords=[\"acme\"]".into()], "alert route");
    assert!(!ok && output.contains("no receivers are configured"), "{output}");
}

/// The requests that a web server got, and its answer.
#[derive(Clone)]
struct Web {
    seen: Arc<Mutex<Vec<Value>>>,
    status: StatusCode,
}

impl Web {
    async fn start(status: StatusCode) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hunter2", listener.local_addr().unwrap());
        let web = Self { seen: Arc::default(), status };
        let answer = async |State(web): State<Self>, body: String| {
            web.seen.lock().unwrap().push(serde_json::from_str(&body).unwrap());
            web.status
        };
        let router = Router::new().fallback(answer).with_state(web.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        (web, url)
    }
}

const SECRET: &str = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==";

fn hook(url: &str) -> Vec<String> {
    let set = |key: &str, value: &str| format!("receivers.hook.{key}={value}");
    let private = set("allow_private", "true");
    vec![set("kind", "webhook"), set("url", url), set("secret", SECRET), private]
}

/// Tries the receiver "hook"; what it says must show no secret.
fn try_hook(settings: &[String]) -> (bool, String) {
    let (ok, output) = monitor(settings, "alert test --receiver hook");
    assert!(!output.contains("hunter2") && !output.contains("aHVudGVyMm"), "{output}");
    (ok, output)
}

/// The variables from which HTTP clients take a proxy by default.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

#[tokio::test(flavor = "multi_thread")]
async fn tests_a_webhook() {
    let (web, url) = Web::start(StatusCode::OK).await;
    for _ in 0..2 {
        let (ok, output) = try_hook(&hook(&url));
        assert!(ok && output.contains("hook accepted the test notification test-"), "{output}");
    }
    let seen = web.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    for body in &seen {
        assert_eq!(body["data"]["test"], true);
        let reason = body["data"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("This is a test of the receiver hook"), "{reason}");
    }
    assert_ne!(seen[0]["key"], seen[1]["key"], "each test has its own key");

    // Nothing listens at the proxy address: proxies from the environment are not used.
    let status = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(hook(&url).iter().flat_map(|setting| ["--set", setting.as_str()]))
        .args(["alert", "test", "--receiver", "hook"])
        .envs(PROXIES.map(|name| (name, "http://127.0.0.1:1")))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env_remove("MONITOR_CONFIG")
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(web.seen.lock().unwrap().len(), 3);

    let (_, url) = Web::start(StatusCode::GONE).await;
    let (ok, output) = try_hook(&hook(&url));
    assert!(
        !ok && output.contains("hook rejected it permanently") && output.contains("410"),
        "{output}"
    );
    let (_, url) = Web::start(StatusCode::SERVICE_UNAVAILABLE).await;
    let (ok, output) = try_hook(&hook(&url));
    assert!(!ok && output.contains("a real one would be retried") && output.contains("503"));
    // Nothing listens on port 1.
    let (ok, output) = try_hook(&hook("http://127.0.0.1:1/hunter2"));
    assert!(!ok && output.contains("hook did not accept it"), "{output}");

    let (ok, output) = monitor(&hook(&url), "alert test --receiver hoek");
    assert!(
        !ok && output.contains("there is no receiver \"hoek\"; there are \"hook\""),
        "{output}"
    );
    let (ok, output) = monitor(&[], "alert test --receiver hook");
    assert!(!ok && output.contains("add [receivers.hook] to the settings"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_a_mail_receiver() {
    let refuse = vec!["nobody@example.com".to_owned()];
    let server = MailServer::start_with(MailOptions { refuse, ..MailOptions::default() }).unwrap();
    let mail = |to: &str| {
        let set = |key: &str, value: &str| format!("receivers.comms.{key}={value}");
        vec![
            set("kind", "email"),
            set("host", &server.address().ip().to_string()),
            set("port", &server.address().port().to_string()),
            set("tls", "none"),
            set("from", "monitor@example.com"),
            set("to", &format!("[\"{to}\"]")),
        ]
    };
    let (ok, output) = monitor(&mail("comms@example.com"), "alert test --receiver comms");
    assert!(ok && output.contains("comms accepted the test notification"), "{output}");
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["comms@example.com"]);
    assert!(mails[0].text().contains("test"), "{}", mails[0].text());

    let (ok, output) = monitor(&mail("nobody@example.com"), "alert test --receiver comms");
    assert!(!ok && output.contains("comms rejected it permanently"), "{output}");
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn prints_help() {
    let help = |command: &str| {
        let (ok, output) = monitor(&[], &format!("{command} --help"));
        assert!(ok, "{command}");
        output
    };
    insta::assert_snapshot!(help("incidents list"), @r#"
    List incidents, newest first

    Usage: monitor incidents list [OPTIONS]

    Options:
      -c, --config <FILE>    Settings file (TOML) [env: MONITOR_CONFIG=]
          --open             Only open incidents
          --all              All incidents, without a limit
          --set <KEY=VALUE>  Set one value, such as `kafka.topic=tweets`; may be repeated
          --brand <BRAND>    Only this brand, or "(stream)"
          --cause <CAUSE>    Only incidents with this cause among their phases [possible values: share,
                             negative-volume, surge, quiet, brand-quiet, lag]
          --limit <N>        At most this many [default: 20]
          --json             Print JSON: a list of objects with id, brand, cause (that opened it),
                             severity, state, opened_at, resolved_at, acknowledged, evidence and phases
      -h, --help             Print help
      -V, --version          Print version
    "#);
    insta::assert_snapshot!(help("silence add"), @r#"
    Add a silence, from now or from a later time

    Usage: monitor silence add [OPTIONS] --for <LENGTH> --reason <TEXT>

    Options:
          --brand <BRAND>    The brand, or "(stream)" [default: all brands and the stream]
      -c, --config <FILE>    Settings file (TOML) [env: MONITOR_CONFIG=]
          --for <LENGTH>     Its length, such as 30m, 2h or 1d; at most 366d
          --set <KEY=VALUE>  Set one value, such as `kafka.topic=tweets`; may be repeated
          --from <TIME>      Its start: RFC 3339, or "2026-01-05 21:00" in UTC [default: now]
          --reason <TEXT>    The reason, shown with the silence
          --by <WHO>         Who adds it [default: the user who runs this]
      -h, --help             Print help
      -V, --version          Print version
    "#);
    insta::assert_snapshot!(help("alert"), @r"
    Show who is notified, test a receiver, and requeue dead notifications

    Usage: monitor alert [OPTIONS] <COMMAND>

    Commands:
      route  Show who would be notified, when, by which route, and why the others would not
      test   Send a receiver a notification that is marked as a test
      dead   List the dead notifications, oldest first
      retry  Requeue dead notifications
      help   Print this message or the help of the given subcommand(s)

    Options:
      -c, --config <FILE>    Settings file (TOML) [env: MONITOR_CONFIG=]
          --set <KEY=VALUE>  Set one value, such as `kafka.topic=tweets`; may be repeated
      -h, --help             Print help
      -V, --version          Print version
    ");
}
