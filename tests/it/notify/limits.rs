//! Receivers that fail while others work, what happens to undelivered notifications, and the
//! heartbeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use monitor_config::{self as config, Delivery, Receiver};
use monitor_core::domain::Transition;
use monitor_notify::heartbeat::Heartbeat;
use monitor_notify::{Dispatcher, Notifier, Outcome};
use monitor_store::{OutboxRow, Store};
use monitor_telemetry::Readiness;
use tokio_util::sync::CancellationToken;

use super::rig::{self, Answer, HttpReceiver, Rig, eventually, header, webhook};

/// Opens an incident for each of `brands` brands.
async fn storm(rig: &Rig, brands: usize, receivers: &[&str]) {
    for brand in 0..brands {
        rig.step_of(&format!("brand {brand}"), Transition::Opened, receivers).await;
    }
}

fn keys(receiver: &HttpReceiver) -> Vec<String> {
    receiver.requests().iter().map(|(h, _)| header(h, "webhook-id").to_owned()).collect()
}

#[tokio::test]
async fn a_stalled_receiver_does_not_use_all_send_slots() {
    let rig = Rig::new();
    let stalled = HttpReceiver::start(vec![Answer::stall(Duration::from_secs(600)); 999]).await;
    let working = HttpReceiver::start(Vec::new()).await;
    // The first hundred are for the stalled receiver.
    storm(&rig, 100, &["a-stalled"]).await;
    for brand in 0..20 {
        rig.step_of(&format!("late {brand}"), Transition::Opened, &["b-working"]).await;
    }
    let running = rig.start(BTreeMap::from([
        ("a-stalled".into(), Receiver::Webhook(webhook(&stalled))),
        ("b-working".into(), Receiver::Webhook(webhook(&working))),
    ]));
    eventually("the working receiver has all", || working.requests().len() == 20).await;
    let slots = stalled.requests().len();
    assert!(slots <= 15, "the stalled receiver uses {slots} slots");
    running.stop().await;
    assert_eq!(keys(&working).into_iter().collect::<BTreeSet<_>>().len(), 20, "each once");
}

/// Waits until no more requests arrive, and returns their number.
async fn settled_requests(receiver: &HttpReceiver) -> usize {
    let mut seen = receiver.requests().len();
    loop {
        // Ten polls of the dispatcher.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = receiver.requests().len();
        if now == seen && now > 0 {
            return now;
        }
        seen = now;
    }
}

#[tokio::test]
async fn the_circuit_of_a_failing_receiver_opens_and_others_get_each_notification_once() {
    const FAILURES: usize = 25;
    let rig = Rig::new();
    let away = Answer::status(StatusCode::SERVICE_UNAVAILABLE);
    let dead = HttpReceiver::start(vec![away; FAILURES]).await;
    let healthy = HttpReceiver::start(Vec::new()).await;
    storm(&rig, 30, &["dead", "healthy"]).await;
    // Few attempts: while the circuit is open, probes use up at most two attempts of a row.
    let delivery = Delivery { circuit_failures: 5, attempts_max: 3, ..rig::delivery() };
    let running = rig.start_with(
        BTreeMap::from([
            ("dead".into(), Receiver::Webhook(webhook(&dead))),
            ("healthy".into(), Receiver::Webhook(webhook(&healthy))),
        ]),
        delivery,
    );
    rig.settled(30, 0).await;
    let before = settled_requests(&dead).await;
    assert!(before < 20, "{before} before the circuit opens: four failures, and those in flight");

    // Each time the pause ends one row is sent as a probe, until the receiver works again.
    for seen in before..FAILURES {
        rig.clock.advance(Duration::from_secs(61));
        eventually("one probe is sent", || dead.requests().len() > seen).await;
        assert_eq!(settled_requests(&dead).await, seen + 1, "only one probe");
    }
    rig.clock.advance(Duration::from_secs(61));
    rig.settled(0, 0).await;
    running.stop().await;
    let taken: BTreeSet<_> = keys(&dead).into_iter().skip(FAILURES).collect();
    assert_eq!((dead.requests().len(), taken.len()), (FAILURES + 30, 30), "each accepted once");
    assert_eq!(healthy.requests().len(), 30, "nothing repeated");
    assert_eq!(keys(&healthy).into_iter().collect::<BTreeSet<_>>().len(), 30, "each once");
}

#[tokio::test]
async fn a_requested_wait_opens_the_circuit() {
    let rig = Rig::new();
    let slow = Answer::status(StatusCode::TOO_MANY_REQUESTS).with("retry-after", "30");
    let receiver = HttpReceiver::start(vec![slow]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&receiver)))]));
    eventually("the first request arrived", || receiver.requests().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.step_of("delta", Transition::Opened, &["hook"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.requests().len(), 1, "the second waits too");
    rig.clock.advance(Duration::from_secs(31));
    rig.settled(0, 0).await;
    running.stop().await;
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test]
async fn dead_notifications_can_be_requeued() {
    let rig = Rig::new();
    let gone = Answer::status(StatusCode::GONE).saying("channel_is_archived");
    let receiver = HttpReceiver::start(vec![gone]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&receiver)))]));
    rig.settled(0, 1).await;
    let dead = rig.store.dead_notifications(9).await.expect("dead").remove(0);
    let expected = "the receiver answered 410 Gone: channel_is_archived (it would fail again)";
    assert_eq!((dead.error.as_str(), dead.attempts), (expected, 1));
    assert_eq!(rig.store.requeue(Some(dead.id), None).await.expect("requeued"), 1);
    rig.settled(0, 0).await;
    running.stop().await;
    assert_eq!(keys(&receiver), ["incident-1-opened-23745005-hook"; 2], "with the same key");
}

/// Panics in the middle of each attempt.
struct Panics;

#[async_trait]
impl Notifier for Panics {
    async fn notify(&self, _row: &OutboxRow, _now: DateTime<Utc>) -> Outcome {
        panic!("this notifier panics");
    }
}

#[tokio::test]
async fn a_panicking_send_counts_as_a_failed_attempt() {
    let rig = Rig::new();
    rig.step(Transition::Opened, &["hook"]).await;
    let delivery = Delivery { attempts_max: 2, ..rig::delivery() };
    let notifiers = BTreeMap::from([("hook".into(), Arc::new(Panics) as Arc<dyn Notifier>)]);
    let (store, clock) = (rig.store.clone(), rig.clock.clone());
    let dispatcher = Dispatcher::with_notifiers(store, notifiers, delivery, clock);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(dispatcher.run(shutdown.clone()));
    for _ in 0..500 {
        rig.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(10)).await;
        if rig.store.totals().await.expect("totals").outbox_dead == 1 {
            break;
        }
    }
    shutdown.cancel();
    running.await.expect("it ends");
    let dead = rig.store.dead_notifications(9).await.expect("dead");
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));
    assert!(dead[0].error.ends_with("(2 attempts failed)"), "{}", dead[0].error);
}

#[tokio::test]
async fn heartbeats_are_sent_while_the_daemon_is_ready() {
    rig::install_tls();
    let away = Answer::status(StatusCode::BAD_GATEWAY);
    let watchdog = HttpReceiver::start(vec![away]).await;
    let settings =
        config::Heartbeat { url: Some(format!("{}/ping/hidden", watchdog.url)), every_s: 1 };
    let heartbeat = Heartbeat::new(&settings).expect("good settings").expect("a heartbeat");
    let readiness = Arc::new(Readiness::default());
    readiness.set("model", Err("is being loaded".into()));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(heartbeat.run(readiness.clone(), shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(watchdog.requests().len(), 0, "it is not ready");
    readiness.set("model", Ok(()));
    eventually("heartbeats continue after a failure", || watchdog.requests().len() >= 2).await;
    assert_eq!(watchdog.paths()[0], "/ping/hidden");
    shutdown.cancel();
    running.await.expect("it ends");
}

#[test]
fn a_heartbeat_needs_a_valid_url() {
    rig::install_tls();
    let heartbeat = |url: Option<&str>| {
        Heartbeat::new(&config::Heartbeat { url: url.map(str::to_owned), every_s: 60 })
    };
    assert!(heartbeat(None).expect("good settings").is_none());
    let message = heartbeat(Some("ftp://h.example/hidden")).err().expect("an error").to_string();
    assert_eq!(message, "heartbeat.url: give an http:// or https:// URL");
}
