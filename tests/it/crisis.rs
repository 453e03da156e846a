//! A brand's crisis is one incident with one thread of notifications, whatever sees it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::Evaluator;
use monitor_config::{Brand, Receiver, Settings};
use monitor_core::clock::{Clock, SimulatedClock};
use monitor_core::domain::{Cause, Incident, Phase, Watch};
use monitor_store::{MemoryStore, Notification, OutboxState, Store};

use crate::notify::rig;
use crate::takeover::days_with_a_crisis;

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings
        .brands
        .insert("acme".into(), Brand { keywords: vec!["acme".into()], ..Brand::default() });
    let hook = rig::webhook_at("http://127.0.0.1:1/hook".into());
    settings.receivers.insert("hook".into(), Receiver::Webhook(hook));
    (settings.stream.quiet_minutes_max, settings.stream.lag_minutes_max) = (0, 0);
    settings
}

/// Evaluates the three days; returns what is sent, in order.
async fn run(store: &Arc<MemoryStore>, settings: &Settings) -> Vec<Notification> {
    let clock = Arc::new(SimulatedClock::at(start() + TimeDelta::days(3)));
    let evaluator = Evaluator::new(store.clone(), settings, clock.clone());
    evaluator.evaluate().await.expect("evaluated");
    let mut sent = Vec::new();
    loop {
        let rows = store.outbox_lease(clock.now(), Duration::from_secs(9), 99, &[], &[]).await;
        let rows = rows.expect("rows");
        if rows.is_empty() {
            return sent;
        }
        for row in rows {
            store
                .outbox_record(row.id, row.attempts, clock.now(), &OutboxState::Sent)
                .await
                .expect("recorded");
            sent.push(row.notification);
        }
    }
}

async fn incidents(store: &MemoryStore) -> Vec<Incident> {
    store.incidents_since("acme", Watch::Buzz, monitor_core::domain::Minute(0)).await.expect("read")
}

fn causes(phases: &[Phase]) -> Vec<Cause> {
    phases.iter().map(Phase::cause).collect()
}

#[tokio::test]
async fn share_and_volume_give_one_incident_and_one_thread() {
    let store = days_with_a_crisis().await;
    let sent = run(&store, &settings()).await;
    let [incident] = &incidents(&store).await[..] else { panic!("one incident") };
    let both = [Cause::NegativeVolume, Cause::Share];
    let mut found = causes(&incident.phases);
    found.sort();
    assert_eq!(found, [Cause::Share, Cause::NegativeVolume]);
    assert!(incident.resolved.is_some() && incident.phases.iter().all(|p| !p.is_open()));
    assert!(incident.phases.iter().any(|phase| phase.relapses > 0), "{:?}", incident.phases);

    assert!(sent.iter().all(|n| n.thread == sent[0].thread && n.incident_id == incident.id.0));
    let turns: Vec<_> = sent.iter().map(|n| n.transition.as_str()).collect();
    let mut other_turns = turns.clone();
    other_turns.retain(|turn| *turn != "updated");
    assert_eq!(other_turns, ["opened", "resolved", "reopened", "resolved"], "{turns:?}");
    let joined = &sent[1];
    assert_eq!((joined.transition.as_str(), joined.phases.len()), ("updated", 2), "{turns:?}");
    assert!(joined.reason.starts_with("New: "), "{}", joined.reason);
    assert!(both.contains(&joined.phases[1].cause()));
    assert!(sent.iter().all(|n| n.cause() == sent[0].cause()), "the cause that opened it");

    // Every step is in the history, told or not.
    let events = store.events(incident.id).await.expect("events");
    assert!(events.len() > sent.len(), "phases that end are recorded: {events:#?}");
    let end = events.iter().find(|event| event.note.contains("The incident goes on"));
    assert!(end.is_some_and(|event| event.suppressed.len() == 1), "and why nobody is told");
}

#[tokio::test]
async fn a_relapse_after_the_time_for_relapses_is_a_new_incident() {
    let store = days_with_a_crisis().await;
    let mut settings = settings();
    settings.alerting.reopen_minutes = 120;
    let sent = run(&store, &settings).await;
    let found = incidents(&store).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(sent.iter().all(|n| n.transition != "reopened"));
    // An end waits for what was sent before it in its thread, so the threads alternate.
    let threads: BTreeSet<_> = sent.iter().map(|n| n.thread.as_str()).collect();
    assert_eq!(threads.len(), 2, "a thread each");
}

#[tokio::test]
async fn a_cause_that_is_switched_off_ends_its_phase() {
    let store = days_with_a_crisis().await;
    let clock = Arc::new(SimulatedClock::at(start() + TimeDelta::hours(59)));
    let settings = settings();
    // The clock bounds event time: both phases are open.
    Evaluator::new(store.clone(), &settings, clock.clone()).evaluate().await.expect("evaluated");
    let [incident] = &incidents(&store).await[..] else { panic!("one incident") };
    assert_eq!((incident.resolved, incident.phases.len()), (None, 2), "{incident:#?}");
    let mut fewer = settings.clone();
    fewer.alerting.negative_volume = false;
    clock.advance(Duration::from_secs(5 * 3600));
    Evaluator::new(store.clone(), &fewer, clock).evaluate().await.expect("evaluated");
    let [incident] = &incidents(&store).await[..] else { panic!("the same one") };
    assert!(incident.resolved.is_some(), "the share ended it: {incident:#?}");
    let volume = incident.phases.iter().find(|p| p.cause() == Cause::NegativeVolume);
    let volume = volume.expect("its phase");
    assert!(volume.ended.is_some() && volume.ended_as.is_none(), "{volume:?}");
}
