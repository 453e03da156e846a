//! The model over HTTP: shapes, errors and limits over a real socket, `monitor serve`, and `monitor
//! score --url`.

mod guarded;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use monitor_core::clock::SystemClock;
use monitor_core::domain::{Classes, LabelThresholds, Probabilities, Probability, Score};
use monitor_serve::{
    Access, Inference, InferenceLimits, Scored, ScoredText, Scorer, ScorerError, ServedModel,
    Token, serve_inference,
};
use monitor_telemetry as telemetry;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{Served, monitor};

/// Scores by the text itself: "fail" fails, "long" is cut, "bonjour" is not judged, "bad" is
/// negative, others are positive.
struct Fake {
    loaded: AtomicBool,
    gone: AtomicBool,
    /// Each call takes one.
    turns: Semaphore,
    calls: AtomicUsize,
}

const MODEL: &str = "fake@7";

#[async_trait]
impl Scorer for Fake {
    fn models(&self) -> Vec<ServedModel> {
        let model = ServedModel {
            name: "fake".into(),
            version: 7,
            labels: Classes::Three.labels(),
            languages: vec!["en".parse().unwrap()],
            tokens_max: Some(128),
        };
        if self.loaded.load(Ordering::SeqCst) { vec![model] } else { Vec::new() }
    }

    fn device(&self) -> &'static str {
        "cpu"
    }

    async fn score(&self, model: Option<&str>, texts: Vec<String>) -> Result<Scored, ScorerError> {
        if !self.loaded.load(Ordering::SeqCst) {
            return Err(ScorerError::Loading);
        }
        if self.gone.load(Ordering::SeqCst) {
            return Err(ScorerError::Gone);
        }
        if let Some(name) = model.filter(|name| !["fake", MODEL].contains(name)) {
            let known = vec![MODEL.to_owned()];
            return Err(ScorerError::Unknown { name: name.to_owned(), known });
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.turns.acquire().await.unwrap().forget();
        let ms = Duration::from_millis;
        let texts = texts.iter().map(|text| scored(text)).collect();
        Ok(Scored { texts, tokenized: ms(1), queued: ms(2), computed: ms(3) })
    }
}

fn scored(text: &str) -> Result<ScoredText, String> {
    if text == "fail" {
        return Err("the model failed on a batch of 1 rows: out of order".into());
    }
    let p = |value| Probability::new(value).unwrap();
    // Negative from 0.3 on: less likely than positive.
    let thresholds = LabelThresholds { negative: p(0.3), positive: p(0.5) };
    let negative = if text == "bad" { 0.4 } else { 0.1 };
    let probabilities = Probabilities::new(negative, 0.1).unwrap();
    Ok(ScoredText {
        model: MODEL.into(),
        labels: Classes::Three.labels(),
        score: (text != "bonjour").then(|| Score::new(probabilities, thresholds)),
        tokens: text.len(),
        truncated: text == "long",
    })
}

struct Site {
    url: String,
    fake: Arc<Fake>,
    client: Client,
    _stop: DropGuard,
}

/// A model, and its routes.
fn inference() -> (Arc<Fake>, Inference) {
    let fake = Arc::new(Fake {
        loaded: true.into(),
        gone: false.into(),
        turns: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        calls: 0.into(),
    });
    let limits = InferenceLimits { rows_waiting_max: 6, batch_rows_max: 4, body_bytes_max: 2_000 };
    let clock = Arc::new(SystemClock::new());
    let inference = Inference::new(fake.clone(), limits, clock, Some("0123456789ab"));
    (fake, inference)
}

impl Site {
    async fn start() -> Self {
        Self::with_tokens(Vec::new()).await
    }

    async fn with_tokens(tokens: Vec<Token>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (fake, inference) = inference();
        let access = Arc::new(Access::new(tokens, None, Arc::new(SystemClock::new())));
        let (stop, metrics) = (CancellationToken::new(), telemetry::init_metrics());
        let stopped = stop.clone();
        tokio::spawn(async move {
            serve_inference(listener, inference, &access, metrics, stopped).await
        });
        Self { url, fake, client: Client::new(), _stop: stop.drop_guard() }
    }

    async fn send(&self, path: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        request.send().await.unwrap()
    }

    /// Sends a request that must succeed.
    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.send(path, &body).await;
        assert_eq!(answer.status(), 200, "{path} {body}");
        answer.json().await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

/// The labels of one text, without the scores.
fn labels(predictions: &Value) -> Vec<&str> {
    let predictions = predictions.as_array().unwrap();
    predictions.iter().map(|prediction| prediction["label"].as_str().unwrap()).collect()
}

const BAD: [&str; 3] = ["NEGATIVE", "POSITIVE", "NEUTRAL"];

#[tokio::test]
async fn predict_has_the_shape_of_text_embeddings_inference() {
    let site = Site::start().await;
    let predict = async |body| site.post("/predict", body).await;
    let one = predict(json!({"inputs": "good"})).await;
    assert_eq!(labels(&one)[0], "POSITIVE");
    assert!((one[0]["score"].as_f64().unwrap() - 0.8).abs() < 1e-6, "{one}");
    assert_eq!(one, predict(json!({"inputs": ["good"]})).await, "one text in a list");
    let bad = predict(json!({"inputs": "bad"})).await;
    assert_eq!(labels(&bad), BAD, "the stored label first, then by score");
    let batch = predict(json!({"inputs": [["good"], ["bad"], ["bonjour"]]})).await;
    assert_eq!((&batch[0], &batch[1], &batch[2]), (&one, &bad, &json!([])));
    assert_eq!(predict(json!({"inputs": [["good"]]})).await, json!([one]), "a batch of one");
    assert_eq!(predict(json!({"inputs": "bonjour"})).await, json!([]), "not judged");
    let logits = predict(json!({"inputs": "good", "raw_scores": true})).await;
    assert!((logits[0]["score"].as_f64().unwrap() - 0.8_f64.ln()).abs() < 1e-6, "{logits}");
    for body in [
        json!({"inputs": "long"}),
        json!({"inputs": "long", "truncate": true, "truncation_direction": "Right"}),
        json!({"inputs": "long", "truncate": null}),
        json!({"inputs": "good", "truncate": false, "truncation_direction": "left"}),
        json!({"inputs": "good", "anything": "else"}),
    ] {
        assert_eq!(labels(&predict(body).await), labels(&one));
    }
}

#[tokio::test]
async fn headers_say_how_long_it_took() {
    let site = Site::start().await;
    let answer = site.send("/predict", &json!({"inputs": [["good"], ["äh"]]})).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    for (name, expected) in [
        ("x-compute-type", "cpu"),
        ("x-compute-characters", "6"),
        ("x-compute-tokens", "7"),
        ("x-compute-time", "4"),
        ("x-tokenization-time", "1"),
        ("x-queue-time", "2"),
        ("x-inference-time", "3"),
        ("x-model", MODEL),
    ] {
        assert_eq!(header(name), expected, "{name}");
    }
    assert!(header("x-total-time").parse::<u64>().is_ok());
}

#[tokio::test]
async fn every_error_names_its_kind() {
    let site = Site::start().await;
    let check = async |path: &str, body: Value, status: u16, kind: &str, part: &str| {
        let answer = site.send(path, &body).await;
        assert_eq!(answer.status(), status, "{path} {body}");
        let error: Value = answer.json().await.unwrap();
        assert_eq!(error["error_type"], kind, "{path} {body}");
        assert!(error["error"].as_str().unwrap().contains(part), "{path} {body}: {error}");
    };
    let texts = |count: usize| vec![["a"]; count];
    check("/predict", json!({"inputs": ["a", "b"]}), 422, "Validation", "[[\"a\"], [\"b\"]]").await;
    check("/predict", json!({"inputs": ["a", "b", "c"]}), 422, "Validation", "list of lists").await;
    check("/predict", json!({"inputs": ""}), 400, "Empty", "cannot be empty").await;
    check("/predict", json!({"inputs": []}), 400, "Empty", "cannot be empty").await;
    check("/predict", json!({"inputs": [["a"], [" "]]}), 400, "Empty", "cannot be empty").await;
    check("/predict", json!({"inputs": texts(5)}), 422, "Validation", "batch size 5 > maximum")
        .await;
    check("/predict", json!({"inputs": 5}), 422, "Validation", "give a text, or a batch").await;
    check("/predict", json!({}), 422, "Validation", "inputs").await;
    let cut = json!({"inputs": "long", "truncate": false});
    check("/predict", cut, 422, "Validation", "at most 4 tokens").await;
    let left = json!({"inputs": "long", "truncation_direction": "Left"});
    check("/predict", left, 422, "Validation", "not supported").await;
    check("/predict", json!({"inputs": "fail"}), 424, "Backend", "out of order").await;
    check("/predict", json!({"inputs": "a".repeat(2_000)}), 413, "Validation", "limit").await;
    let sigmoid = json!({"inputs": "a", "parameters": {"function_to_apply": "sigmoid"}});
    check("/", sigmoid, 422, "Validation", "softmax").await;
    check("/", json!({"inputs": "a", "parameters": {"top_k": 0}}), 422, "Validation", "top_k")
        .await;
    check("/models/bert", json!({"inputs": "a"}), 404, "Validation", "there is fake@7").await;
    let raw = async |kind: &str, body: &'static str| {
        let request = site.client.post(format!("{}/predict", site.url));
        let answer = request.header("content-type", kind).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(raw("application/json", "{\"inputs\":").await.0, 400);
    let (status, error) = raw("text/plain", "hello").await;
    assert!(status == 415 && error.contains("application/json"), "{error}");
}

#[tokio::test]
async fn a_list_is_a_batch_for_hugging_face() {
    let site = Site::start().await;
    let good = site.post("/predict", json!({"inputs": "good"})).await;
    for path in ["/", "/models/fake", "/models/fake@7"] {
        let one = site.post(path, json!({"inputs": "good", "parameters": {}})).await;
        assert_eq!(one, json!([good]), "{path}: nested");
        let two = site.post(path, json!({"inputs": ["good", "bad"]})).await;
        assert_eq!(two.as_array().unwrap().len(), 2, "{path}");
        assert_eq!(labels(&two[1]), BAD, "{path}");
        let first =
            json!({"inputs": "bad", "parameters": {"top_k": 1, "function_to_apply": "softmax"}});
        assert_eq!(labels(&site.post(path, first).await[0]), ["NEGATIVE"], "{path}");
    }
}

#[tokio::test]
async fn answers_the_studys_call() {
    let site = Site::start().await;
    let score = async |body: &'static str| {
        let request = site.client.post(format!("{}/score", site.url)).body(body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    for body in ["we love you", "\"we love you\""] {
        let found = score(body).await;
        assert_eq!(labels(&found), ["POSITIVE"], "{body}");
        assert!((found[0]["score"].as_f64().unwrap() - 0.8).abs() < 1e-6);
    }
    assert_eq!(labels(&score("bad").await), ["NEGATIVE"]);
    assert_eq!(score("bonjour").await, json!([]));
    assert_eq!(score("").await["error_type"], "Empty");
}

#[tokio::test]
async fn speaks_the_open_inference_protocol() {
    let site = Site::start().await;
    assert_eq!(site.get("/v2").await.1["name"], "monitor");
    assert_eq!(site.get("/v2/health/live").await, (200, json!({"live": true})));
    assert_eq!(site.get("/v2/health/ready").await, (200, json!({"ready": true})));
    for path in ["/v2/models/fake", "/v2/models/fake/versions/7", "/v2/models/fake@7"] {
        let (status, model) = site.get(path).await;
        assert_eq!((status, &model["name"]), (200, &"fake".into()), "{path}");
        assert_eq!(model["versions"], json!(["7"]));
        assert_eq!(model["inputs"][0], json!({"name": "text", "datatype": "BYTES", "shape": [-1]}));
        assert_eq!(model["outputs"][1]["shape"], json!([-1, 3]));
        if !path.contains('@') {
            let ready = (200, json!({"name": "fake", "ready": true}));
            assert_eq!(site.get(&format!("{path}/ready")).await, ready);
        }
    }
    for path in ["/v2/models/bert", "/v2/models/fake/versions/8", "/v2/models/%ff"] {
        assert_eq!(site.get(path).await.0, 404, "{path}");
    }
    let input = |texts: &[&str]| json!({"name": "text", "shape": [texts.len()], "datatype": "BYTES", "data": texts});
    let body = json!({"id": "7", "inputs": [input(&["good", "bad", "bonjour"])]});
    let found = site.post("/v2/models/fake/infer", body.clone()).await;
    assert_eq!(found, site.post("/v2/models/fake/versions/7/infer", body).await);
    assert_eq!((&found["id"], &found["model_version"]), (&"7".into(), &"7".into()));
    let [label, probability] = &found["outputs"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!(label["data"], json!(["POSITIVE", "NEGATIVE", "NOT_JUDGED"]));
    assert_eq!(probability["shape"], json!([3, 3]));
    assert_eq!(probability["parameters"]["labels"], "NEGATIVE,NEUTRAL,POSITIVE");
    let p: Vec<f64> =
        probability["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert!((p[2] - 0.8).abs() < 1e-6 && (p[3] - 0.4).abs() < 1e-6, "{p:?}");
    assert_eq!(p[6..], [0.0; 3], "not judged");
    let wanted = json!({"inputs": [input(&["good"])], "outputs": [{"name": "label"}]});
    let found = site.post("/v2/models/fake/infer", wanted).await;
    assert_eq!(found["outputs"].as_array().unwrap().len(), 1);
    assert!(found.get("id").is_none());
    let refused = async |body: Value, part: &str| {
        let answer = site.send("/v2/models/fake/infer", &body).await;
        assert_eq!(answer.status(), 422, "{body}");
        let error: Value = answer.json().await.unwrap();
        assert!(error["error"].as_str().unwrap().contains(part), "{error}");
    };
    let mut other = input(&["a"]);
    other["datatype"] = "FP32".into();
    refused(json!({"inputs": [other]}), "texts are BYTES").await;
    let mut other = input(&["a"]);
    other["shape"] = json!([2]);
    refused(json!({"inputs": [other]}), "give shape [1]").await;
    refused(json!({"inputs": []}), "give one").await;
    refused(json!({"inputs": [input(&["a"])], "outputs": [{"name": "x"}]}), "no output").await;
}

#[tokio::test]
async fn an_overload_is_refused_at_once() {
    let site = Arc::new(Site::start().await);
    site.fake.turns.forget_permits(Semaphore::MAX_PERMITS);
    let send = |texts: usize| {
        let site = site.clone();
        let body = json!({"inputs": vec![["good"]; texts]});
        tokio::spawn(async move { site.send("/predict", &body).await })
    };
    let calls = async |count: usize| {
        while site.fake.calls.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    };
    let first = send(4);
    calls(1).await;
    let second = send(2);
    calls(2).await;
    // No place is left, and nobody has been answered.
    let refused = send(1).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let error: Value = refused.json().await.unwrap();
    assert_eq!(error["error_type"], "Overloaded", "{error}");
    assert_eq!(site.fake.calls.load(Ordering::SeqCst), 2, "the model was not asked");
    let metrics = site.get("/metrics").await.1;
    assert!(metrics.as_str().unwrap().contains("monitor_answers_refused_total"), "{metrics}");

    // A client that leaves gives its place back.
    first.abort();
    let let_in = async || loop {
        let third = send(1);
        while !third.is_finished() && site.fake.calls.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        if site.fake.calls.load(Ordering::SeqCst) == 3 {
            break third;
        }
        assert_eq!(third.await.unwrap().status(), 429);
    };
    let third = tokio::time::timeout(Duration::from_secs(20), let_in()).await.expect("a place");
    site.fake.turns.add_permits(2);
    assert_eq!(second.await.unwrap().status(), 200);
    assert_eq!(third.await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_a_model_it_is_unhealthy() {
    let site = Site::start().await;
    assert_eq!(site.get("/health").await.0, 200);
    let (_, info) = site.get("/info").await;
    assert_eq!((&info["model_id"], &info["sha"]), (&MODEL.into(), &"0123456789ab".into()));
    assert_eq!(info["model_type"]["classifier"]["id2label"]["2"], "POSITIVE");
    assert_eq!(info["model_type"]["classifier"]["label2id"]["NEGATIVE"], 0);
    assert_eq!(
        (&info["max_client_batch_size"], &info["max_input_length"]),
        (&4.into(), &128.into())
    );
    let unhealthy = async |what: &str| {
        let answer = site.send("/predict", &json!({"inputs": "good"})).await;
        assert_eq!(answer.status(), 503, "{what}");
        assert!(answer.headers().contains_key("retry-after"), "{what}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error_type"], "Unhealthy", "{what}");
    };
    site.fake.gone.store(true, Ordering::SeqCst);
    unhealthy("the model's thread has ended").await;
    site.fake.loaded.store(false, Ordering::SeqCst);
    unhealthy("it is being loaded").await;
    for path in ["/health", "/info", "/v2/health/ready", "/v2/models/fake"] {
        assert_eq!(site.get(path).await.0, 503, "{path}");
    }
    assert_eq!(site.get("/healthz").await.0, 200, "the process is alive");
}

#[tokio::test]
async fn the_description_has_every_route() {
    let site = Site::start().await;
    let (status, description) = site.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{description}");
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 15, "{:?}", paths.keys());
    for (path, operations) in paths {
        let path = path.replace("{name}", "fake").replace("{version}", "7");
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let request = site.client.request(method, format!("{}{path}", site.url));
            let status = request.send().await.unwrap().status();
            assert!(![404, 405].contains(&status.as_u16()), "{path}: {status}");
        }
    }
}

/// The output of the program, which must succeed.
fn output(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Equal up to the last digits of the scores: rows of a pass may differ by 1e-5.
fn assert_same(name: &str, a: &str, b: &str) {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    assert_eq!(a.len(), b.len(), "{name}");
    for (a, b) in a.into_iter().zip(b) {
        let (a, b): (Value, Value) =
            (serde_json::from_str(a).unwrap(), serde_json::from_str(b).unwrap());
        for key in ["text", "label", "language"] {
            assert_eq!(a[key], b[key], "{name}: {a} {b}");
        }
        for key in ["score", "negative", "neutral", "positive"] {
            match (a[key].as_f64(), b[key].as_f64()) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-4, "{name}: {key}: {a} {b}"),
                (a, b) => assert_eq!(a, b, "{name}: {key}"),
            }
        }
    }
}

#[test]
fn score_at_a_server_is_as_score_here() {
    let served = Served::start(&["--model", "lstm"]);
    let at = |arguments: &[&str], input: &str| {
        let both = [arguments, &["--url", &served.url]].concat();
        output(&both, input)
    };
    let lstm = |arguments: &[&str], input: &str| {
        output(&[arguments, &["--model", "lstm"]].concat(), input)
    };
    for text in ["we love you", "worst airline ever, lost my bag", ""] {
        assert_eq!(at(&["score", text], ""), lstm(&["score", text], ""), "{text}");
    }
    let french = "encore un vol annulé, c'est vraiment la honte";
    assert!(at(&["score", french], "").starts_with("not judged: French, which no model of http"));
    let lines: String = (0..70)
        .map(|n| format!("flight {n} was {}\n", if n % 2 == 0 { "great" } else { "late again" }))
        .chain(["\n".to_owned(), format!("{french}\n")])
        .collect();
    let here = lstm(&["score", "-"], &lines);
    assert_eq!(here.lines().count(), 72);
    assert_same("more than one request", &at(&["score", "-"], &lines), &here);
    for name in ["lstm", "lstm@4"] {
        assert_same("by name", &at(&["score", "-", "--model", name], &lines), &here);
    }
    let one: Value = serde_json::from_str(&at(&["score", "we love you", "--json"], "")).unwrap();
    assert_eq!((&one["label"], &one["model"]), (&"POSITIVE".into(), &"lstm@4".into()));
    let unknown = monitor(&["score", "hello", "--url", &served.url, "--model", "bert"]);
    assert!(!unknown.status.success());
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.contains("there is no model \"bert\"; there is lstm@4"), "{error}");
}

/// A server that refuses some requests; returns its address and how many it got.
async fn refusing(times: usize, retry_after: &'static str) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let predict = move || {
        let refused = counted.fetch_add(1, Ordering::SeqCst) < times;
        async move {
            let mut headers = HeaderMap::new();
            if refused {
                headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
                let body = json!({"error": "the model is overloaded", "error_type": "Overloaded"});
                return (StatusCode::TOO_MANY_REQUESTS, headers, axum::Json(body));
            }
            let labels = [("POSITIVE", 0.98), ("NEGATIVE", 0.02)];
            let labels = labels.map(|(label, score)| json!({"label": label, "score": score}));
            (StatusCode::OK, headers, axum::Json(json!([labels])))
        }
    };
    let info = async || axum::Json(json!({"max_client_batch_size": 8}));
    let router = Router::new().route("/predict", post(predict)).route("/info", get(info));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (url, asked)
}

async fn score_at(url: &str) -> std::process::Output {
    let url = url.to_owned();
    let run = move || monitor(&["score", "we love you", "--url", &url]);
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn score_waits_for_an_overloaded_server() {
    let (url, asked) = refusing(1, "1").await;
    let output = score_at(&url).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "POSITIVE 0.98\n");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "refused once");

    let (url, asked) = refusing(usize::MAX, "86400").await;
    let output = score_at(&url).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("asks to wait 86400 s"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "not a day");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = score_at(&format!("http://{free}")).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&format!("cannot reach http://{free}/: ")), "{error}");
}
