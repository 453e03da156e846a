//! An in-memory store, a simulated clock, and receivers with scripted responses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use monitor_config::{self as config, Delivery, Receiver, SmtpTls};
use monitor_core::Secret;
use monitor_core::clock::{Clock, SimulatedClock};
use monitor_core::domain::{
    Counts, Evidence, Interval, Minute, Severity, ShareEvidence, Transition, Watch, window_minutes,
};
use monitor_embedded::MailServer;
use monitor_notify::Dispatcher;
use monitor_store::{
    CurvePoint, Decision, Delivery as Notified, Drivers, Example, MemoryStore, Notification,
    OutboxRow, Step, Store,
};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub fn now() -> DateTime<Utc> {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

pub fn delivery() -> Delivery {
    Delivery {
        poll_ms: 10,
        timeout_ms: 5_000,
        lease_ms: 60_000,
        retry_wait_ms: 1_000,
        retry_wait_ms_max: 10_000,
        attempts_max: 5,
        circuit_failures: 100,
        circuit_rest_ms: 60_000,
    }
}

pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The store and the clock that most tests need.
pub struct Rig {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<SimulatedClock>,
}

impl Rig {
    pub fn new() -> Self {
        install_tls();
        Self { store: Arc::new(MemoryStore::new()), clock: Arc::new(SimulatedClock::at(now())) }
    }

    /// Opens or resolves an incident of the brand "united".
    pub async fn step(&self, transition: Transition, receivers: &[&str]) {
        self.step_of("united", transition, receivers).await;
    }

    /// Opens or resolves an incident of the given brand.
    pub async fn step_of(&self, brand: &str, transition: Transition, receivers: &[&str]) {
        self.step_as(brand, transition, Severity::Warning, receivers).await;
    }

    /// The same with a severity.
    pub async fn step_as(
        &self,
        brand: &str,
        transition: Transition,
        severity: Severity,
        receivers: &[&str],
    ) {
        let previous =
            self.store.detector_state(brand, Watch::Buzz).await.expect("a detector state");
        let opened_at: DateTime<Utc> = "2015-02-23T14:05:00Z".parse().expect("a time");
        let at = match transition {
            Transition::Opened => opened_at,
            Transition::Updated | Transition::Reopened => opened_at + TimeDelta::hours(1),
            Transition::Resolved => opened_at + TimeDelta::hours(3),
        };
        let evidence = Evidence::Share(ShareEvidence {
            rule: "e-detector",
            since: Minute::of(opened_at - TimeDelta::hours(1)),
            window_minutes: window_minutes(
                Minute::of(opened_at - TimeDelta::hours(1)),
                Minute::of(at),
            ),
            observed: Counts { total: 120, negative: 94 },
            observed_interval: Interval { low: 0.7, high: 0.85 },
            recent_minutes: 15,
            recent: Counts { total: 30, negative: 25 },
            baseline: Counts { total: 800, negative: 440 },
            expected_share: 0.55,
            expected_interval: Interval { low: 0.5, high: 0.6 },
            statistic: 25.5,
            threshold: 20.0,
            dispersion: 1.5,
        });
        let example = Example {
            tweet_id: "1".into(),
            text: "<script>alert('lost my bag')</script>".into(),
            created_at: at,
            negative: 0.98,
            author: None,
            reach: None,
            alike: 1,
            words: Vec::new(),
        };
        let notification = Notification {
            incident_id: 0,
            transition: transition.as_str().into(),
            test: false,
            brand: brand.into(),
            severity: severity.as_str().into(),
            at,
            opened_at,
            reason: "chance does not explain it".into(),
            evidence,
            phases: Vec::new(),
            corrected: None,
            drivers: Drivers::default(),
            examples: vec![example],
            curve: vec![CurvePoint { at, total: 120, negative: 94 }],
            curve_minutes: 60,
            echoes: 0,
            also: Vec::new(),
            thread: String::new(),
            url: Some("https://monitor.example.com/#incident-1".into()),
            digest: None,
            missed: Vec::new(),
        };
        let delivery_to = |receiver: &&str| Notified {
            receiver: (*receiver).to_owned(),
            not_before: None,
            group: false,
        };
        let decision = Decision {
            brand: brand.into(),
            watch: Watch::Buzz,
            evaluated_before: previous.map(|previous| previous.evaluated),
            evaluated: Minute::of(at),
            state: serde_json::json!({}),
            step: Some(Step {
                transition,
                minute: Minute::of(at),
                severity,
                evidence,
                phases: Vec::new(),
                notification,
                deliveries: receivers.iter().map(delivery_to).collect(),
                suppressed: Vec::new(),
                missed: false,
            }),
        };
        self.store.decide(&decision).await.expect("decided");
    }

    pub async fn lease(&self) -> Vec<OutboxRow> {
        let lease = Duration::from_millis(delivery().lease_ms);
        self.store.outbox_lease(self.clock.now(), lease, 99, &[], &[]).await.expect("leased")
    }

    pub fn start(&self, receivers: BTreeMap<String, Receiver>) -> Running {
        self.start_with(receivers, delivery())
    }

    pub fn start_with(&self, receivers: BTreeMap<String, Receiver>, delivery: Delivery) -> Running {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let dispatcher = Dispatcher::new(store, &receivers, delivery, None, clock);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(dispatcher.expect("good settings").run(shutdown.clone()));
        Running { shutdown, task }
    }

    /// Waits until `pending` rows are pending and `dead` rows are dead.
    pub async fn settled(&self, pending: u64, dead: u64) {
        let mut last = None;
        for _ in 0..1000 {
            let totals = self.store.totals().await.expect("totals");
            if (totals.outbox_pending, totals.outbox_dead) == (pending, dead) {
                return;
            }
            last = Some(totals);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the outbox did not settle: {last:?}");
    }
}

pub struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        stopped.expect("it stops").expect("it did not panic");
    }
}

/// Waits until `done` is true, 10 seconds at most.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 seconds: {what}");
}

pub fn email(server: &MailServer) -> config::Email {
    config::Email {
        host: server.address().ip().to_string(),
        port: server.address().port(),
        tls: SmtpTls::None,
        username: None,
        password: None,
        password_file: None,
        ca_file: None,
        from: "Monitor <monitor@example.com>".into(),
        to: vec!["Comms Team <comms@example.com>".into(), "boss@example.com".into()],
    }
}

/// An endpoint on this machine, which the settings must allow.
pub fn endpoint(url: String) -> config::Endpoint {
    config::Endpoint {
        url: Some(Secret::new(url)),
        url_file: None,
        allow_private: true,
        ca_file: None,
    }
}

pub fn webhook(receiver: &HttpReceiver) -> config::Webhook {
    webhook_at(format!("{}/hook", receiver.url))
}

pub fn webhook_at(url: String) -> config::Webhook {
    config::Webhook {
        endpoint: endpoint(url),
        secret: Some(Secret::new(format!("whsec_{SECRET}"))),
        secret_file: None,
        previous_secret: None,
        previous_secret_file: None,
    }
}

/// One response of an [`HttpReceiver`].
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    after: Duration,
    body: &'static str,
}

impl Answer {
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), after: Duration::ZERO, body: "" }
    }

    /// 200 after a delay.
    pub fn stall(after: Duration) -> Self {
        Self { after, ..Self::status(StatusCode::OK) }
    }

    pub fn saying(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }
}

type Requests = Vec<(HeaderMap, String)>;

/// The requests received, and the next responses.
#[derive(Default)]
struct Seen {
    requests: Requests,
    paths: Vec<String>,
    answers: VecDeque<Answer>,
}

/// A web server that records its requests and sends the given responses, then 200.
pub struct HttpReceiver {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

impl HttpReceiver {
    pub async fn start(answers: Vec<Answer>) -> Self {
        install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Seen { answers: answers.into(), ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let routes = Router::new().fallback(receive).with_state(seen.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        Self { url, seen }
    }

    pub fn requests(&self) -> Requests {
        self.seen.lock().expect("no panic").requests.clone()
    }

    /// Path and query of each request.
    pub fn paths(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").paths.clone()
    }
}

async fn receive(
    State(seen): State<Arc<Mutex<Seen>>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let answer = {
        let mut seen = seen.lock().expect("no panic");
        seen.requests.push((headers, body));
        seen.paths.push(uri.to_string());
        seen.answers.pop_front().unwrap_or(Answer::status(StatusCode::OK))
    };
    tokio::time::sleep(answer.after).await;
    (answer.status, answer.headers, answer.body).into_response()
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("ASCII")
}

/// Verifies the signature and the timestamp as a receiver does.
pub fn verify(headers: &HeaderMap, body: &str) {
    assert!(is_signed(headers, body, SECRET), "{headers:?}");
    let at = header(headers, "webhook-timestamp");
    assert!(at.parse::<i64>().is_ok_and(|at| at >= now().timestamp()), "{at}");
}

/// Whether one of the signatures was made with `secret`. Computes the HMAC by its definition
/// (RFC 2104), so that the test shares no code with the sender.
pub fn is_signed(headers: &HeaderMap, body: &str, secret: &str) -> bool {
    let mut key = BASE64_STANDARD.decode(secret).expect("base64");
    key.resize(64, 0);
    let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<_>>();
    let (id, at) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let signed = format!("{id}.{at}.{body}");
    let inner = Sha256::digest([pad(0x36), signed.into_bytes()].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(outer));
    header(headers, "webhook-signature").split(' ').any(|signature| signature == expected)
}
