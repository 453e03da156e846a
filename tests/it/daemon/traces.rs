//! Spans of a daemon, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use monitor_embedded::Storage;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Rig, SOON, Setup, WEEK_ROWS, WEEK_TWEETS};

/// All attributes that spans have.
const KEYS: [&str; 19] = [
    "rows",
    "partitions",
    "model",
    "new",
    "duplicate",
    "not_judged",
    "dead_letters",
    "brand",
    "from",
    "to",
    "transition",
    "key",
    "receiver",
    "attempt",
    "outcome",
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "otel.name",
];

/// A collector that takes spans by OTLP over HTTP.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let take = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            kept.lock().unwrap().push(body);
            ExportTraceServiceResponse::default().encode_to_vec()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, bodies }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().map(|body| ExportTraceServiceRequest::decode(&body[..]).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The attributes of whoever sent the spans.
    fn resource(&self) -> BTreeMap<String, Value> {
        let request = self.requests().swap_remove(0);
        attributes(&request.resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

fn attributes(found: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |value: &AnyValue| match value.value.clone().unwrap() {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::IntValue(number) => json!(number),
        other => panic!("{other:?}"),
    };
    found.iter().map(|it| (it.key.clone(), value(it.value.as_ref().unwrap()))).collect()
}

fn of<'a>(span: &'a Span, key: &str) -> Option<&'a any_value::Value> {
    span.attributes.iter().find(|it| it.key == key)?.value.as_ref()?.value.as_ref()
}

/// The sum of an attribute over the spans of a name.
fn sum(spans: &[Span], name: &str, key: &str) -> i64 {
    let named = spans.iter().filter(|span| span.name == name);
    let numbers = named.filter_map(|span| match of(span, key)? {
        any_value::Value::IntValue(number) => Some(*number),
        _ => None,
    });
    numbers.sum()
}

/// The spans of a week of tweets, of the mails about it and of requests: each has its place, the rows add up,
/// and none has a word of a tweet.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn a_collector_gets_spans_of_all_work_and_no_text() {
    let collector = Collector::start().await;
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    let endpoint = format!("traces.otlp_endpoint={}/", collector.url);
    // The filter of log lines decides nothing about spans.
    rig.run_with(&["--set", &endpoint, "--set", "log.filter=info"]);
    let sent = rig.replay(0.0);
    rig.until("the week is stored", SOON, async || rig.read().await == WEEK_ROWS.cast_signed())
        .await;
    sent.await.unwrap();
    rig.until("a mail arrives", SOON, async || !rig.mail.mails().is_empty()).await;
    // Its span ends once its outcome is stored.
    rig.until("its outcome is stored", SOON, async || {
        let sent = "SELECT count(*) FROM outbox WHERE state = 'sent'";
        let sent: i64 = sqlx::query_scalar(sent).fetch_one(&rig.pool).await.unwrap();
        sent > 0
    })
    .await;
    let page = format!("http://{}", rig.page().unwrap());
    let client = reqwest::Client::new();
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let scored = client
        .post(format!("{page}/predict"))
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .json(&json!({"inputs": "zzqxtext flight cancelled"}))
        .send();
    assert_eq!(scored.await.unwrap().status(), 200);
    for (path, status) in [
        ("/v1/tweets?brand=United&q=zzqxsearch", 200),
        ("/act/zzqxlink", 404),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/zzqxnowhere", 404),
    ] {
        let answer = client.get(format!("{page}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}: {}", answer.text().await.unwrap());
    }
    let texts: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT text, author FROM scores").fetch_all(&rig.pool).await.unwrap();
    assert!(rig.terminate(), "{}", super::log_end(&rig.log()));

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "monitor");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    let spans = collector.spans();
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|it| (&it.span_id[..], it)).collect();
    let mut places = BTreeSet::new();
    for span in &spans {
        let above = by_id.get(&span.parent_span_id[..]);
        if let Some(above) = above {
            assert_eq!(above.trace_id, span.trace_id);
            assert!(above.start_time_unix_nano <= span.start_time_unix_nano);
        }
        let above = above.map_or("", |above| above.name.as_str());
        places.insert((above.to_owned(), span.name.clone()));
        assert!(span.events.is_empty(), "{span:?}");
        for attribute in &span.attributes {
            assert!(KEYS.contains(&attribute.key.as_str()), "{attribute:?}");
        }
    }
    let expected = [
        ("", "GET /act/{link}"),
        ("", "GET /v1/tweets"),
        ("", "POST /predict"),
        ("", "batch"),
        ("", "evaluate"),
        ("", "notify"),
        ("POST /predict", "score"),
        ("batch", "commit"),
        ("batch", "decode"),
        ("batch", "score"),
    ];
    let expected = expected.map(|(above, name)| (above.to_owned(), name.to_owned()));
    assert_eq!(places, BTreeSet::from(expected));

    let predict = spans.iter().find(|span| span.name == "POST /predict").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|it| format!("{it:02x}")).collect::<String>();
    assert_eq!(
        (hex(&predict.trace_id).as_str(), hex(&predict.parent_span_id).as_str()),
        (trace, parent)
    );
    assert_eq!(
        attributes(&predict.attributes),
        BTreeMap::from([
            ("http.request.method".to_owned(), json!("POST")),
            ("http.response.status_code".to_owned(), json!(200)),
            ("http.route".to_owned(), json!("/predict")),
        ])
    );
    let rows = WEEK_ROWS.cast_signed();
    assert_eq!(sum(&spans, "batch", "rows"), rows);
    assert_eq!(sum(&spans, "commit", "rows"), rows);
    assert_eq!(sum(&spans, "commit", "new") + sum(&spans, "commit", "not_judged"), WEEK_TWEETS);
    for batch in spans.iter().filter(|span| span.name == "batch") {
        let Some(any_value::Value::StringValue(partitions)) = of(batch, "partitions") else {
            panic!("{batch:?}");
        };
        assert!(partitions.starts_with("tweets/"), "{partitions}");
    }
    let notify = spans.iter().find(|span| span.name == "notify").unwrap();
    assert_eq!(attributes(&notify.attributes)["receiver"], "comms");
    assert_eq!(attributes(&notify.attributes)["outcome"], "sent");
    let opened = |span: &&Span| {
        attributes(&span.attributes).get("transition").is_some_and(|it| it == "opened")
    };
    assert!(spans.iter().any(|span| span.name == "evaluate" && opened(&span)));

    let bodies = collector.bodies.lock().unwrap().concat();
    let bodies = String::from_utf8_lossy(&bodies);
    assert!(!bodies.contains("zzqx"));
    assert_eq!(texts.len().cast_signed() as i64, WEEK_TWEETS);
    for (text, author) in &texts {
        // Shorter ones may be found in anything by chance.
        if text.chars().count() >= 12 {
            assert!(!bodies.contains(text), "{text}");
        }
        assert!(author.as_ref().is_none_or(|author| !bodies.contains(author)), "{author:?}");
    }
}

/// A collector that takes connections and never answers costs spans, and nothing else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn a_collector_that_never_answers_changes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run_with(&["--set", &format!("traces.otlp_endpoint=http://secret:word@{address}")]);
    let sent = rig.replay(0.0);
    rig.until("the week is stored", SOON, async || rig.read().await == WEEK_ROWS.cast_signed())
        .await;
    sent.await.unwrap();
    rig.assert_week_is_complete().await;
    let incidents = rig.incidents_of_one_evaluator().await;
    assert!(!incidents.is_empty());
    rig.until("all incidents are found", SOON, async || rig.incidents().await == incidents).await;
    rig.until("spans are lost", SOON, async || {
        let metrics = rig.metrics().await.unwrap_or_default();
        let failed = metrics
            .lines()
            .find_map(|it| it.strip_prefix("monitor_spans_total{outcome=\"failed\"} "));
        failed.is_some_and(|failed| failed != "0")
    })
    .await;
    assert_eq!(rig.ready().await.map(|(ready, _)| ready), Some(true));
    assert!(rig.terminate(), "{}", super::log_end(&rig.log()));
    let log = std::fs::read_to_string(rig.log()).unwrap();
    assert_eq!(log.matches("the collector does not take spans").count(), 1, "{log}");
    assert!(log.contains(&address.to_string()) && !log.contains("secret:word"), "{log}");
    silent.abort();
}
