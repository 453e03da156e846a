//! A store in memory, a clock that is told the time, and receivers that answer as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use monitor::clock::{Clock, SimulatedClock};
use monitor::config::{self, Delivery, Receiver, Secret, SmtpTls};
use monitor::domain::{Counts, Evidence, Minute, Transition};
use monitor::embedded::MailServer;
use monitor::notify::Dispatcher;
use monitor::store::{
    CurvePoint, Decision, Example, MemoryStore, Notification, OutboxRow, Step, Store,
};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

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
    }
}

pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What most tests need.
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
        let before = self.store.brand_state("united").await.expect("state").map(|s| s.judged);
        let opened_at: DateTime<Utc> = "2015-02-23T14:05:00Z".parse().expect("a time");
        let at = match transition {
            Transition::Opened => opened_at,
            Transition::Resolved => opened_at + TimeDelta::hours(3),
        };
        let evidence = Evidence {
            window_minutes: 60,
            observed: Counts { total: 120, negative: 94 },
            baseline: Counts { total: 800, negative: 440 },
            expected_share: 0.55,
            z: 5.25,
            z_min: 4.5,
        };
        let example = Example {
            tweet_id: "1".into(),
            text: "<script>alert('lost my bag')</script>".into(),
            created_at: at,
            negative: 0.98,
        };
        let notification = Notification {
            incident_id: 0,
            transition: transition.as_str().into(),
            brand: "united".into(),
            at,
            opened_at,
            window_minutes: 60,
            observed: evidence.observed.into(),
            baseline: evidence.baseline.into(),
            expected_share: evidence.expected_share,
            z: evidence.z,
            z_min: evidence.z_min,
            reason: "chance does not explain it".into(),
            examples: vec![example],
            curve: vec![CurvePoint { at, total: 120, negative: 94 }],
        };
        let decision = Decision {
            brand: "united".into(),
            judged_before: before,
            judged: Minute::of(at),
            calm_since: None,
            step: Some(Step { transition, minute: Minute::of(at), evidence, notification }),
            receivers: receivers.iter().map(|&r| r.to_owned()).collect(),
        };
        self.store.decide(&decision).await.expect("decided");
    }

    pub async fn lease(&self) -> Vec<OutboxRow> {
        let lease = Duration::from_millis(delivery().lease_ms);
        self.store.outbox_lease(self.clock.now(), lease, 99).await.expect("leased")
    }

    pub fn start(&self, receivers: BTreeMap<String, Receiver>) -> Running {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let url = Some("https://monitor.example.com".to_owned());
        let dispatcher = Dispatcher::new(store, &receivers, delivery(), url, clock);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(dispatcher.expect("good settings").run(shutdown.clone()));
        Running { shutdown, task }
    }

    /// Waits until so many rows wait, and so many are dead.
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

/// Waits for something that sockets bring about, 10 seconds at most.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about: {what}");
}

pub fn email(server: &MailServer) -> config::Email {
    config::Email {
        host: server.address().ip().to_string(),
        port: server.address().port(),
        tls: SmtpTls::None,
        username: None,
        password: None,
        password_file: None,
        from: "Monitor <monitor@example.com>".into(),
        to: vec!["Comms Team <comms@example.com>".into(), "boss@example.com".into()],
    }
}

pub fn webhook(receiver: &HttpReceiver) -> config::Webhook {
    let secret = Some(Secret::new(format!("whsec_{SECRET}")));
    config::Webhook { url: format!("{}/hook", receiver.url), secret, secret_file: None }
}

/// One answer of an [`HttpReceiver`].
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    after: Duration,
}

impl Answer {
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), after: Duration::ZERO }
    }

    /// 200, after a while.
    pub fn stall(after: Duration) -> Self {
        Self { after, ..Self::status(StatusCode::OK) }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }
}

type Requests = Vec<(HeaderMap, String)>;
/// What came, and what to answer next.
type Seen = (Requests, VecDeque<Answer>);

/// A web server that keeps what it is sent and answers as told, then with 200.
pub struct HttpReceiver {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

impl HttpReceiver {
    pub async fn start(answers: Vec<Answer>) -> Self {
        install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new((Vec::new(), VecDeque::from(answers))));
        let routes = Router::new().fallback(receive).with_state(seen.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        Self { url, seen }
    }

    pub fn requests(&self) -> Requests {
        self.seen.lock().expect("no panic").0.clone()
    }
}

async fn receive(
    State(seen): State<Arc<Mutex<Seen>>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let answer = {
        let mut seen = seen.lock().expect("no panic");
        seen.0.push((headers, body));
        seen.1.pop_front().unwrap_or(Answer::status(StatusCode::OK))
    };
    tokio::time::sleep(answer.after).await;
    (answer.status, answer.headers, "some body").into_response()
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("ASCII")
}

/// Checks a signature as a receiver would, with an HMAC spelled out from its definition
/// (RFC 2104), so that it shares no code with the sender.
pub fn verify(headers: &HeaderMap, body: &str) {
    let mut key = BASE64_STANDARD.decode(SECRET).expect("base64");
    key.resize(64, 0);
    let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<_>>();
    let (id, at) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let signed = format!("{id}.{at}.{body}");
    let inner = Sha256::digest([pad(0x36), signed.into_bytes()].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(outer));
    assert_eq!(header(headers, "webhook-signature"), expected);
    assert!(at.parse::<i64>().is_ok_and(|at| at >= now().timestamp()), "{at}");
}
