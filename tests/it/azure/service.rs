//! A local service with Azure's documented answers and with faulty ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// 32 characters, like real keys.
pub const KEY: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e7aa";
pub const MODEL: &str = "2020-04-01";

/// One answer.
#[derive(Debug, Clone)]
pub enum Play {
    /// The documented answer.
    Good,
    /// The documents in another order.
    Backwards,
    /// A valid answer with these documents changed.
    Changed(fn(&mut Value)),
    /// A status with a body, and perhaps a header.
    Status(u16, String, Option<(&'static str, String)>),
    /// A valid answer, but too late.
    Late,
}

impl Play {
    /// A status with the body that Azure sends with it.
    pub fn error(status: u16, message: &str) -> Self {
        let body = json!({"error": {"code": status.to_string(), "message": message}});
        Self::Status(status, body.to_string(), None)
    }

    /// 429, with the message of the service.
    pub fn busy(retry_after: &str) -> Self {
        let message = "Requests to the Sentiment Operation under Text Analytics API (v3.1) have \
                       exceeded rate limit of your current TextAnalytics S pricing tier.";
        let body = json!({"error": {"code": "429", "message": message}}).to_string();
        Self::Status(429, body, Some(("retry-after", retry_after.to_owned())))
    }
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Request {
    pub fn texts(&self) -> Vec<&str> {
        let documents = self.body["documents"].as_array().unwrap();
        documents.iter().map(|document| document["text"].as_str().unwrap()).collect()
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    plays: VecDeque<Play>,
}

/// Sends the given answers, then documented ones.
pub struct Service {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Service {
    pub async fn start(plays: Vec<Play>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen { plays: plays.into(), ..Seen::default() }));
        let routes = Router::new().fallback(answer).with_state(seen.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        Self { url, seen }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }
}

async fn answer(
    State(seen): State<Arc<Mutex<Seen>>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let request = Request { uri, headers, body: serde_json::from_str(&body).unwrap_or_default() };
    let mut good = documented(&request.body);
    let play = {
        let mut seen = seen.lock().unwrap();
        seen.requests.push(request);
        seen.plays.pop_front().unwrap_or(Play::Good)
    };
    match play {
        Play::Good => {}
        Play::Backwards => good["documents"].as_array_mut().unwrap().reverse(),
        Play::Changed(change) => change(&mut good),
        Play::Late => tokio::time::sleep(Duration::from_secs(600)).await,
        Play::Status(status, body, with) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some((name, value)) = with {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            return response;
        }
    }
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], good.to_string()).into_response()
}

/// "love" is positive, "hate" negative, both are mixed, neither is neutral; an empty text is
/// rejected.
fn documented(input: &Value) -> Value {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for document in input["documents"].as_array().into_iter().flatten() {
        let (id, text) = (&document["id"], document["text"].as_str().unwrap());
        if text.trim().is_empty() {
            errors.push(json!({"id": id, "error": {
                "code": "InvalidArgument", "message": "Invalid document in request.",
                "innererror": {"code": "InvalidDocument", "message": "Document text is empty."},
            }}));
            continue;
        }
        let (sentiment, [positive, neutral, negative]) =
            match (text.contains("love"), text.contains("hate")) {
                (true, false) => ("positive", [0.98, 0.01, 0.01]),
                (false, true) => ("negative", [0.01, 0.09, 0.9]),
                (true, true) => ("mixed", [0.4, 0.1, 0.5]),
                (false, false) => ("neutral", [0.1, 0.8, 0.1]),
            };
        let scores = json!({"positive": positive, "neutral": neutral, "negative": negative});
        documents.push(json!({
            "id": id, "sentiment": sentiment, "confidenceScores": scores, "warnings": [],
            "sentences": [{
                "sentiment": sentiment, "confidenceScores": scores,
                "offset": 0, "length": text.chars().count(), "text": text,
            }],
        }));
    }
    json!({"documents": documents, "errors": errors, "modelVersion": MODEL})
}

/// Answers every connection with `head`, and if `endless` then with spaces until the client
/// disconnects; the task ends after the first such connection.
pub async fn raw(head: &'static str, endless: bool) -> (String, JoinHandle<()>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(head.as_bytes()).await;
            let spaces = [b' '; 4096];
            if endless {
                while socket.write_all(&spaces).await.is_ok() {}
                return;
            }
        }
    });
    (url, task)
}
