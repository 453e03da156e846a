//! Notifications over real sockets: a web server that verifies signatures, a mail server that
//! rejects mails. Time is simulated, except for waits on sockets.

mod alertmanager;
mod http;
mod limits;
pub mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use monitor_config::Receiver;
use monitor_core::clock::Clock;
use monitor_core::domain::Transition;
use monitor_embedded::MailServer;
use monitor_notify::{EmailNotifier, Notifier, Outcome, WebhookNotifier, notifiers};
use monitor_store::{OutboxRow, Store};

use rig::{Answer, HttpReceiver, Rig, email, eventually, header, webhook, webhook_at};

async fn post(receiver: &HttpReceiver, row: &OutboxRow) -> Outcome {
    let settings = webhook(receiver);
    let notifier = WebhookNotifier::new("hook", &settings, Duration::from_millis(300));
    notifier.expect("good settings").notify(row, rig::now()).await
}

#[tokio::test]
async fn webhooks_interpret_the_response() {
    let rig = Rig::new();
    rig.step(Transition::Opened, &["hook"]).await;
    let row = &rig.lease().await[0];
    let check = async |name, answer, expected: &str| {
        let receiver = HttpReceiver::start(vec![answer]).await;
        let found = match post(&receiver, row).await {
            Outcome::Sent => "sent".to_owned(),
            Outcome::Retry { reason, after } => format!("retry after {after:?}: {reason}"),
            Outcome::Permanent { reason } => format!("permanent: {reason}"),
            partly @ Outcome::Partly { .. } => format!("{partly:?}"),
        };
        assert!(found.starts_with(expected), "{name}: {found}");
        assert!(!found.contains("/hook"), "{name} shows the URL: {found}");
        assert_eq!(receiver.requests().len(), 1, "{name}: one request, no redirect followed");
    };
    let status = Answer::status;
    let bad_gateway = status(StatusCode::BAD_GATEWAY);
    check("accepted", status(StatusCode::NO_CONTENT), "sent").await;
    check("unavailable", bad_gateway, "retry after None: the receiver answered 502").await;
    let slow = status(StatusCode::TOO_MANY_REQUESTS).with("retry-after", "120");
    check("too many", slow, "retry after Some(120s): the receiver answered 429").await;
    let moved = status(StatusCode::MOVED_PERMANENTLY).with("location", "/elsewhere");
    check("moved", moved, "retry after None: the receiver answered 301").await;
    check("rejected", status(StatusCode::BAD_REQUEST), "permanent: the receiver answered 400")
        .await;
    check("stalls", Answer::stall(Duration::from_secs(60)), "retry after None").await;
}

#[tokio::test]
async fn webhooks_without_a_listener_are_retried() {
    let rig = Rig::new();
    rig.step(Transition::Opened, &["hook"]).await;
    let row = &rig.lease().await[0];
    // Port 1 is reserved, and nothing listens there.
    let settings = webhook_at("http://127.0.0.1:1/hook?token=hidden".into());
    let notifier = WebhookNotifier::new("hook", &settings, Duration::from_secs(5)).expect("good");
    match notifier.notify(row, rig::now()).await {
        Outcome::Retry { reason, .. } => assert!(!reason.contains("hidden"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_webhook_is_retried_with_the_same_key_and_body() {
    let rig = Rig::new();
    let internal_error = Answer::status(StatusCode::INTERNAL_SERVER_ERROR);
    let receiver = HttpReceiver::start(vec![internal_error]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&receiver)))]));

    eventually("the first attempt", || receiver.requests().len() == 1).await;
    eventually("the second, as time goes by", || {
        rig.clock.advance(Duration::from_millis(100));
        receiver.requests().len() == 2
    })
    .await;
    rig.settled(0, 0).await;
    running.stop().await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2, "no third");
    for (headers, body) in &requests {
        rig::verify(headers, body);
        assert_eq!(header(headers, "webhook-id"), "incident-1-opened-23745005-hook");
        assert_eq!(header(headers, "idempotency-key"), "incident-1-opened-23745005-hook");
        assert_eq!(header(headers, "content-type"), "application/json; charset=utf-8");
    }
    assert_eq!(requests[0].1, requests[1].1, "the same bytes");
    let event: serde_json::Value = serde_json::from_str(&requests[0].1).expect("JSON");
    assert_eq!(event["type"], "incident.opened");
    assert_eq!(event["version"], 1);
    assert_eq!(event["key"], "incident-1-opened-23745005-hook");
    assert_eq!(event["data"]["incident_id"], 1);
}

#[tokio::test]
async fn a_stalled_receiver_does_not_delay_others() {
    let rig = Rig::new();
    let stalled = HttpReceiver::start(vec![Answer::stall(Duration::from_secs(600))]).await;
    let working = HttpReceiver::start(Vec::new()).await;
    rig.step(Transition::Opened, &["a-stalled", "b-working"]).await;
    rig.step(Transition::Resolved, &["a-stalled", "b-working"]).await;
    let running = rig.start(BTreeMap::from([
        ("a-stalled".into(), Receiver::Webhook(webhook(&stalled))),
        ("b-working".into(), Receiver::Webhook(webhook(&working))),
    ]));
    eventually("the working receiver has both", || working.requests().len() == 2).await;
    running.stop().await;
}

#[tokio::test]
async fn an_undeliverable_notification_is_kept_as_dead() {
    let rig = Rig::new();
    let refusing = HttpReceiver::start(vec![Answer::status(StatusCode::GONE)]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&refusing)))]));
    rig.settled(0, 1).await;
    running.stop().await;
    assert_eq!(refusing.requests().len(), 1);
}

#[tokio::test]
async fn a_receiver_unknown_to_one_daemon_is_served_by_another() {
    let rig = Rig::new();
    let refusing = HttpReceiver::start(vec![Answer::status(StatusCode::GONE)]).await;
    let added = HttpReceiver::start(Vec::new()).await;
    rig.step(Transition::Opened, &["added", "hook"]).await;
    let older = rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&refusing)))]));
    // Both rows are leased together: when one is dead, the other was tried too.
    rig.settled(1, 1).await;
    older.stop().await;
    rig.settled(1, 1).await;

    let newer = rig.start(BTreeMap::from([("added".into(), Receiver::Webhook(webhook(&added)))]));
    eventually("the row is due again", || {
        rig.clock.advance(Duration::from_millis(100));
        added.requests().len() == 1
    })
    .await;
    rig.settled(0, 1).await;
    newer.stop().await;
}

#[tokio::test]
async fn a_notification_is_dead_after_its_last_attempt() {
    let rig = Rig::new();
    let away = Answer::status(StatusCode::SERVICE_UNAVAILABLE);
    let receiver = HttpReceiver::start(vec![away; 100]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&receiver)))]));
    eventually("all attempts are made", || {
        rig.clock.advance(Duration::from_millis(300));
        receiver.requests().len() as u32 == rig::delivery().attempts_max
    })
    .await;
    rig.settled(0, 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_the_send_in_flight() {
    let rig = Rig::new();
    let slow = HttpReceiver::start(vec![Answer::stall(Duration::from_millis(300))]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running = rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&slow)))]));
    eventually("the send has begun", || slow.requests().len() == 1).await;
    running.stop().await;
    let totals = rig.store.totals().await.expect("totals");
    assert_eq!((totals.outbox_pending, totals.outbox_dead), (0, 0), "sent and recorded");
}

#[tokio::test]
async fn sending_survives_a_store_outage() {
    let rig = Rig::new();
    let receiver = HttpReceiver::start(vec![Answer::stall(Duration::from_millis(200))]).await;
    rig.step(Transition::Opened, &["hook"]).await;
    let running =
        rig.start(BTreeMap::from([("hook".into(), Receiver::Webhook(webhook(&receiver)))]));
    eventually("a send has begun", || receiver.requests().len() == 1).await;
    // The store is down during the send, for longer than the lease.
    rig.store.set_away(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.clock.advance(Duration::from_secs(600));
    rig.store.set_away(false);
    rig.settled(0, 0).await;
    rig.step(Transition::Resolved, &["hook"]).await;
    eventually("sending continues", || receiver.requests().len() == 2).await;
    rig.settled(0, 0).await;
    running.stop().await;
    let ids: Vec<_> =
        receiver.requests().iter().map(|(h, _)| header(h, "webhook-id").to_owned()).collect();
    assert_eq!(
        ids,
        ["incident-1-opened-23745005-hook", "incident-1-resolved-23745185-hook"],
        "each once"
    );
}

#[tokio::test]
async fn mails_of_an_incident_form_one_thread_on_a_real_server() {
    let rig = Rig::new();
    let server = MailServer::start().expect("a mail server");
    rig.step(Transition::Opened, &["comms"]).await;
    rig.step(Transition::Resolved, &["comms"]).await;
    let running = rig.start(BTreeMap::from([("comms".into(), Receiver::Email(email(&server)))]));
    rig.settled(0, 0).await;
    running.stop().await;

    let mails = server.mails();
    assert_eq!(mails.len(), 4, "two steps, two recipients");
    let of = |transition: &str, to: &str| {
        let key = format!("X-Monitor-Key: incident-1-{transition}-");
        let found = mails.iter().find(|m| m.to == [to] && m.text().contains(&key));
        found.unwrap_or_else(|| panic!("{transition} to {to}")).text()
    };
    for to in ["comms@example.com", "boss@example.com"] {
        let (opened, resolved) = (of("opened", to), of("resolved", to));
        let id = "<incident-1-opened-23745005-comms@example.com>";
        assert!(opened.contains(&format!("Message-ID: {id}")), "{opened}");
        assert!(resolved.contains(&format!("In-Reply-To: {id}")), "{resolved}");
        assert!(resolved.contains(&format!("References: {id}")), "{resolved}");
        let subject = "united: bad buzz, 23 Feb, 14:05 UTC (incident 1)";
        assert!(opened.contains(&format!("Subject: {subject}")), "{opened}");
        assert!(resolved.contains(&format!("Subject: Re: {subject}")), "{resolved}");
    }
}

#[tokio::test]
async fn a_notification_is_sent_again_if_the_sender_is_killed_before_it_records() {
    let rig = Rig::new();
    let server = MailServer::start().expect("a mail server");
    let hook = HttpReceiver::start(Vec::new()).await;
    rig.step(Transition::Opened, &["comms", "hook"]).await;
    // The first sender leases and sends, and is killed before it records the outcome.
    let rows = rig.lease().await;
    let mailer = EmailNotifier::new("comms", &email(&server), Duration::from_secs(5));
    assert_eq!(mailer.expect("good").notify(&rows[0], rig::now()).await, Outcome::Sent);
    assert_eq!(post(&hook, &rows[1]).await, Outcome::Sent);

    let running = rig.start(BTreeMap::from([
        ("comms".into(), Receiver::Email(email(&server))),
        ("hook".into(), Receiver::Webhook(webhook(&hook))),
    ]));
    eventually("the lease runs out, as time goes by", || {
        rig.clock.advance(Duration::from_secs(1));
        server.mails().len() == 4 && hook.requests().len() == 2
    })
    .await;
    rig.settled(0, 0).await;
    running.stop().await;
    let lease = Duration::from_millis(rig::delivery().lease_ms);
    assert!(rig.clock.elapsed() >= lease, "not before the lease ran out");

    let line = |text: &str, name: &str| {
        text.lines().find(|l| l.starts_with(name)).map(str::to_owned).expect("the header")
    };
    for name in ["Message-ID: ", "X-Monitor-Key: "] {
        let found: Vec<_> = server.mails().iter().map(|m| line(&m.text(), name)).collect();
        assert!(found.iter().all(|v| *v == found[0]), "{found:?}");
    }
    let requests = hook.requests();
    assert_eq!(header(&requests[0].0, "webhook-id"), header(&requests[1].0, "webhook-id"));
    assert_eq!(requests[0].1, requests[1].1);
}

#[test]
fn errors_name_the_invalid_receiver() {
    rig::install_tls();
    let settings = webhook_at("nowhere".into());
    let receivers = BTreeMap::from([("pager".to_owned(), Receiver::Webhook(settings))]);
    let message = notifiers(&receivers, rig::delivery(), None).err().expect("an error").to_string();
    assert!(message.starts_with("receivers.pager.url"), "{message}");
}
