//! Tests the web page, the API, the health checks and the metrics over a real socket.

mod access;
mod api;
mod browser;
mod events;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::policy;
use monitor_config::Alerting;
use monitor_core::Secret;
use monitor_core::alerting::SuppressReason;
use monitor_core::clock::SimulatedClock;
use monitor_core::domain::{
    Counts, Evidence, Interval, Minute, Offset, Severity, ShareEvidence, StartAt, TopicPartition,
    Transition, Watch,
};
use monitor_core::drift::{Change, Measure, Measured, Report, Verdict};
use monitor_core::links::LinkKey;
use monitor_core::words::word_weights;
use monitor_serve::{Access, Inference, ServeContext, Token, serve};
use monitor_store::{
    Advance, Batch, Claim, Decision, Delivery, DriftDay, Driver, Drivers, Example, MemoryStore,
    Notification, ScoredTweet, Step, Store, Suppressed,
};
use monitor_telemetry::{self as telemetry, Readiness};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store_contract::fixtures::scored;

pub const NASTY: &str = "<script>alert('brand')</script>";

/// Signs the links of notifications to every site.
pub fn links() -> LinkKey {
    LinkKey::new(&Secret::new("an example key of thirty-two byte")).expect("long enough")
}

pub struct Site {
    pub url: String,
    pub store: Arc<MemoryStore>,
    readiness: Arc<Readiness>,
    clock: Arc<SimulatedClock>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

pub fn start_of_week() -> DateTime<Utc> {
    "2015-02-17T00:00:00Z".parse().expect("a time")
}

impl Site {
    pub async fn start(store: MemoryStore, brands: &[&str]) -> Self {
        Self::with_tokens(store, brands, Vec::new()).await
    }

    pub async fn with_tokens(store: MemoryStore, brands: &[&str], tokens: Vec<Token>) -> Self {
        Self::around(Arc::new(store), brands, tokens).await
    }

    pub async fn around(store: Arc<MemoryStore>, brands: &[&str], tokens: Vec<Token>) -> Self {
        Self::answering(store, brands, tokens, None).await
    }

    pub async fn answering(
        store: Arc<MemoryStore>,
        brands: &[&str],
        tokens: Vec<Token>,
        inference: Option<Inference>,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let readiness = Arc::new(Readiness::default());
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let clock = Arc::new(SimulatedClock::at(now));
        let brands = brands.iter().map(|&b| b.to_owned()).collect();
        let policy = policy(&Alerting::default());
        let context = ServeContext {
            readiness: readiness.clone(),
            access: Arc::new(Access::new(tokens, None, clock.clone())),
            links: Some(links()),
            inference,
            ..ServeContext::new(store.clone(), clock.clone(), brands, policy)
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, context, shutdown.clone()));
        Self { url, store, readiness, clock, shutdown, task }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    pub async fn json(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }
}

/// A small random number generator with a fixed seed, so that the page is the same in every run.
fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as f64 / (1_u64 << 31) as f64
}

/// Stores a week of tweets about a brand: `per_hour` by day and fewer at night, with the given
/// share of negative tweets. `storm` is (first hour, end hour, share) of a storm.
pub async fn week(
    store: &MemoryStore,
    brand: &str,
    per_hour: f64,
    share: f64,
    storm: (i64, i64, f64),
) {
    let mut seed = brand.len() as u64;
    let mut scores = Vec::new();
    for hour in 0..8 * 24 {
        let stormy = (storm.0..storm.1).contains(&hour);
        let day = if (6..23).contains(&(hour % 24)) { 1.0 } else { 0.2 };
        let tweets =
            per_hour * day * (0.6 + 0.8 * noise(&mut seed)) * if stormy { 2.5 } else { 1.0 };
        for n in 0..tweets as i64 {
            let negative = noise(&mut seed) < if stormy { storm.2 } else { share };
            let created = start_of_week()
                + TimeDelta::hours(hour)
                + TimeDelta::seconds((noise(&mut seed) * 3599.0) as i64);
            let (id, p) = (format!("{brand}-{hour}-{n}"), if negative { 0.9 } else { 0.1 });
            scores.push(scored(&id, "a tweet", created, &[brand], p));
        }
    }
    put(store, brand, scores).await;
}

/// Stores what a topic of this name has.
pub async fn put(store: &MemoryStore, topic: &str, scores: Vec<ScoredTweet>) {
    let partition = TopicPartition::new(topic, 0);
    let claim = Claim { partition: partition.clone(), seen: None, low: Offset(0), high: Offset(0) };
    store.claim(&[claim], StartAt::Earliest).await.expect("claimed");
    let advance = Advance {
        partition,
        from: Offset(0),
        to: Offset(1),
        event_time_max: None,
        record_time_max: None,
    };
    let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
    store.commit(&batch).await.expect("committed");
}

pub async fn step(store: &MemoryStore, brand: &str, transition: Transition, hour: i64, seen: u64) {
    let minute = Minute::of(start_of_week() + TimeDelta::hours(hour));
    let evidence = Evidence::Share(ShareEvidence {
        rule: "e-detector",
        since: minute.plus(-59),
        window_minutes: 60,
        observed: Counts { total: 120, negative: seen },
        observed_interval: Interval { low: 0.7, high: 0.85 },
        recent_minutes: 15,
        recent: Counts { total: 30, negative: 25 },
        baseline: Counts { total: 1_980, negative: 1_089 },
        expected_share: 0.55,
        expected_interval: Interval { low: 0.53, high: 0.57 },
        statistic: 90_000.0,
        threshold: 43_200.0,
        dispersion: 1.2,
    });
    let notification = Notification {
        incident_id: 0,
        transition: transition.as_str().into(),
        test: false,
        brand: brand.into(),
        severity: "warning".into(),
        at: minute.start(),
        opened_at: minute.start(),
        reason: "because".into(),
        evidence,
        phases: Vec::new(),
        corrected: None,
        drivers: Drivers {
            terms: vec![Driver {
                term: "cancelled".into(),
                kind: "word".into(),
                tweets: 40,
                baseline_tweets: 2,
                z: 6.5,
            }],
            one_tweet_share: 0.1,
            tweets: 90,
            ..Drivers::default()
        },
        examples: hostile().into_iter().take(3).map(example).collect(),
        curve: Vec::new(),
        curve_minutes: 60,
        echoes: 0,
        also: Vec::new(),
        thread: String::new(),
        url: None,
        digest: None,
        missed: Vec::new(),
    };
    let before = store
        .detector_state(brand, Watch::Buzz)
        .await
        .expect("a detector state")
        .map(|w| w.evaluated);
    let decision = Decision {
        brand: brand.into(),
        watch: Watch::Buzz,
        evaluated_before: before,
        evaluated: minute,
        state: serde_json::Value::Null,
        step: Some(Step {
            transition,
            minute,
            severity: Severity::Warning,
            evidence,
            phases: Vec::new(),
            notification,
            deliveries: vec![Delivery { receiver: "comms".into(), not_before: None, group: false }],
            suppressed: vec![Suppressed {
                receiver: "desk".into(),
                reason: SuppressReason::QuietHours,
                detail: "route night".into(),
            }],
            missed: false,
        }),
    };
    store.decide(&decision).await.expect("decided");
}

/// Tweets that try to be more than text.
pub fn hostile() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hostile.json");
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("a list of texts")
}

fn example(text: String) -> Example {
    Example {
        tweet_id: "example".into(),
        words: word_weights(&text, [(0..1, 1.0)]),
        text,
        created_at: start_of_week(),
        negative: 0.95,
        author: Some(NASTY.into()),
        reach: Some(1_200),
        alike: 3,
    }
}

/// A comparison of the last day: one measure has drifted, by a word that is more than text.
pub fn drift() -> DriftDay {
    let change = |what: &str, before, now| Change { what: what.into(), before, now };
    let of = |measure, verdict, value, changes| Measured {
        measure,
        verdict,
        value,
        limit: Some(0.1),
        usual: vec![(0, 0.05)],
        false_alarms_per_month: 0.2,
        changes,
    };
    let languages = vec![change("fr", 0.01, 0.3)];
    let measures = vec![
        of(Measure::Languages, Verdict::Drifted, Some(0.4), languages),
        of(Measure::Lengths, Verdict::Usual, Some(0.02), Vec::new()),
        of(Measure::Domain, Verdict::Drifted, Some(0.9), vec![change(NASTY, 0.0, 0.25)]),
        of(Measure::UnknownWords, Verdict::NoVocabulary, None, Vec::new()),
    ];
    let report = Report {
        recent: "2015-02-24".into(),
        tweets: 1985,
        reference: (17..24).map(|day| format!("2015-02-{day}")).collect(),
        reference_tweets: 13_895,
        measures,
    };
    DriftDay { day: start_of_week() + TimeDelta::days(7), model: "test@1".into(), report }
}

pub async fn full_store() -> MemoryStore {
    let store = MemoryStore::new();
    week(&store, "united", 60.0, 0.55, (150, 156, 0.85)).await;
    week(&store, "jetblue", 25.0, 0.35, (70, 76, 0.8)).await;
    week(&store, "virgin america", 6.0, 0.3, (0, 0, 0.0)).await;
    week(&store, NASTY, 15.0, 0.6, (185, 192, 0.95)).await;
    use Transition::{Opened, Resolved};
    step(&store, "jetblue", Opened, 71, 86).await;
    step(&store, "jetblue", Resolved, 77, 60).await;
    step(&store, "united", Opened, 151, 94).await;
    step(&store, "united", Resolved, 158, 70).await;
    step(&store, NASTY, Opened, 187, 108).await;
    store
}

pub const BRANDS: &[&str] = &["united", "jetblue", "virgin america", NASTY, "delta"];

#[tokio::test]
async fn the_page_shows_brands_and_incidents() {
    let site = Site::start(full_store().await, BRANDS).await;
    let answer = reqwest::get(&site.url).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().expect("ASCII").to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = answer.text().await.expect("a page");

    assert!(!page.contains("<script>alert"), "not escaped");
    assert!(page.contains("&lt;script&gt;alert"), "escaped");
    assert_eq!(page.matches("<script>").count(), 0, "no script but the page's own files");
    for external in ["http://", "https://", "src=\"//", "@import", "url("] {
        assert!(!page.contains(external), "{external}");
    }
    assert_eq!(page.matches("<svg viewBox").count(), 4, "a chart for each brand with tweets");
    assert_eq!(page.matches("class=\"alarm\"").count(), 1, "one open incident");
    for part in
        ["id=\"incident-1\"", "id=\"incident-3\"", "No tweet yet.", "store: ready", "still open"]
    {
        assert!(page.contains(part), "{part}");
    }
    if let Some(path) = std::env::var_os("MONITOR_PAGE_TO") {
        std::fs::write(path, page).expect("written");
    }
}

#[tokio::test]
async fn the_api_returns_the_same_data() {
    let site = Site::start(full_store().await, BRANDS).await;
    let (status, answer) = site.json("/api/status").await;
    assert_eq!(status, 200);
    assert_eq!(answer["totals"]["outbox_pending"], 5);
    assert_eq!(answer["open_incidents"].as_array().expect("a list").len(), 1);
    assert_eq!(answer["open_incidents"][0]["brand"], NASTY);
    let ids: Vec<_> = answer["latest_incidents"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|i| i["id"].as_i64().expect("a number"))
        .collect();
    assert_eq!(ids, [3, 2, 1], "newest first");
    let brands = answer["brands"].as_array().expect("a list");
    assert_eq!(brands[0]["name"], NASTY, "the brand with an open incident first");
    let delta = brands.iter().find(|b| b["name"] == "delta").expect("delta");
    assert_eq!(delta["last_24_hours"]["total"], 0);
    assert!(delta["last_24_hours"]["share"].is_null() && delta["newest_minute"].is_null());

    // The counts of the last 24 hours of event time equal those of the store.
    let newest = site.store.last_minute("united").await.expect("last").expect("a minute");
    let counts = site.store.minute_counts("united", newest.plus(-1439), newest).await;
    let expected: Counts =
        counts.expect("counts").into_iter().fold(Counts::default(), |a, (_, c)| a + c);
    let united = brands.iter().find(|b| b["name"] == "united").expect("united");
    assert_eq!(united["last_24_hours"]["total"], expected.total);
    assert_eq!(united["last_24_hours"]["negative"], expected.negative);
}

#[tokio::test]
async fn many_requests_query_the_store_once() {
    let site = Site::start(MemoryStore::new(), &["united"]).await;
    let scores = async || site.json("/api/status").await.1["totals"]["scores"].clone();
    assert_eq!(scores().await, 0);
    week(&site.store, "united", 10.0, 0.5, (0, 0, 0.0)).await;
    assert_eq!(scores().await, 0, "still the cached answer");
    site.clock.advance(std::time::Duration::from_secs(3));
    assert_ne!(scores().await, 0, "queried again");
}

#[tokio::test]
async fn readiness_names_the_parts_that_are_not_ready() {
    let site = Site::start(MemoryStore::new(), &[]).await;
    assert_eq!(site.get("/healthz").await, (200, "ok".to_owned()));
    let check = async |name, status, expected: serde_json::Value| {
        assert_eq!(site.json("/readyz").await, (status, expected), "{name}");
    };
    use serde_json::json;
    check("store only", 200, json!({"ready": true, "parts": {"store": "ready"}})).await;
    site.readiness.set("kafka", Err("no partition assigned".into()));
    check(
        "kafka is not",
        503,
        json!({
            "ready": false, "parts": {"kafka": "no partition assigned", "store": "ready"}
        }),
    )
    .await;
    site.readiness.set("kafka", Ok(()));
    check("all are", 200, json!({"ready": true, "parts": {"kafka": "ready", "store": "ready"}}))
        .await;
    site.store.set_away(true);
    let (status, answer) = site.json("/readyz").await;
    assert_eq!(status, 503);
    let reason = answer["parts"]["store"].as_str().expect("a reason");
    assert!(reason.starts_with("Postgres is not available"), "{reason}");
    assert_eq!(site.get("/healthz").await.0, 200, "the process is alive");

    let (status, page) = site.get("/").await;
    assert_eq!(status, 503);
    assert!(page.contains("The store cannot be read"), "{page}");
    assert_eq!(site.get("/api/status").await.0, 503);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let site = Site::start(MemoryStore::new(), &[]).await;
    metrics::counter!(telemetry::NOTIFICATIONS, "receiver" => "comms", "outcome" => "sent")
        .increment(1);
    let (status, text) = site.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("# TYPE monitor_notifications_total counter"), "{text}");
    assert!(text.contains("receiver=\"comms\""), "{text}");
}

#[tokio::test]
async fn every_daemon_says_which_incidents_the_store_has_open() {
    // Brands of their own, as the metrics are those of the whole process.
    let site = Site::start(MemoryStore::new(), &["stormy", "calm"]).await;
    let check = async |when: &str, stormy: u32| {
        let text = site.get("/metrics").await.1;
        for (brand, open) in [("stormy", stormy), ("calm", 0), ("(stream)", 0)] {
            let line = format!("monitor_open_incidents{{brand=\"{brand}\"}} {open}\n");
            assert!(text.contains(&line), "{when}: {line} is not in {text}");
        }
    };
    check("at first", 0).await;
    // Another daemon leads, and opens it.
    step(&site.store, "stormy", Transition::Opened, 71, 86).await;
    check("opened", 1).await;
    step(&site.store, "stormy", Transition::Resolved, 77, 60).await;
    check("resolved", 0).await;
    step(&site.store, "stormy", Transition::Opened, 80, 86).await;
    site.store.set_away(true);
    let text = site.get("/metrics").await.1;
    for brand in ["stormy", "calm"] {
        let line = format!("monitor_open_incidents{{brand=\"{brand}\"}} NaN\n");
        assert!(text.contains(&line), "while Postgres is away: {line} is not in {text}");
    }
    site.store.set_away(false);
    check("opened again", 1).await;
}

#[tokio::test]
async fn stops_on_shutdown() {
    let site = Site::start(MemoryStore::new(), &[]).await;
    site.shutdown.cancel();
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(10), site.task).await;
    stopped.expect("in time").expect("no panic").expect("no error");
    assert!(reqwest::get(&site.url).await.is_err());
}
