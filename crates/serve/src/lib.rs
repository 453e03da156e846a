//! The status page, the JSON API, the model for callers (`inference`), health checks and metrics
//! over HTTP.
//!
//! **Invariant.** This crate only reads. However many requests arrive, the store is queried at
//! most once every [`VIEW_AGE_MAX`] for the page and the API together, and no response waits
//! longer than a limit for it. Strings from outside are escaped. The page loads nothing from
//! elsewhere, and its headers forbid it.
//! Deliberately absent: logins and TLS; use a reverse proxy.

mod chart;
mod inference;
mod page;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use monitor_core::clock::Clock;
use monitor_store::Store;
use monitor_telemetry::Readiness;
use view::View;

pub use inference::{
    Inference, InferenceLimits, Scored, ScoredText, Scorer, ScorerError, ServedModel, openapi,
};

/// The store is queried again when the last view is older than this.
const VIEW_AGE_MAX: Duration = Duration::from_secs(2);
/// How long the page waits for the store.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the readiness check waits for the store.
const PING_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the server shows.
pub struct ServeContext {
    /// Scores, counts and incidents.
    pub store: Arc<dyn Store>,
    /// The readiness of the daemon's parts.
    pub readiness: Arc<Readiness>,
    /// The metrics of this process.
    pub metrics: PrometheusHandle,
    /// The brands shown.
    pub brands: Vec<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The model, for callers; `None` leaves its routes out.
    pub inference: Option<Inference>,
}

struct Server {
    context: ServeContext,
    /// The last view, with [`Clock::elapsed`] of its creation. The lock is held while a new view
    /// is gathered, so that only one request queries the store.
    view: Mutex<Option<(Duration, Arc<View>)>>,
    /// The content security policy of the page.
    policy: String,
}

/// Serves until `shutdown`, then finishes the responses in progress.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    mut context: ServeContext,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let inference = context.inference.take().map_or_else(Router::new, Inference::into_router);
    let script = BASE64_STANDARD.encode(Sha256::digest(page::SCRIPT));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let server = Arc::new(Server { context, view: Mutex::new(None), policy });
    let routes = Router::new()
        .route("/", get(index))
        .route("/api/status", get(status))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(server)
        .merge(inference);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Serves the model alone, with `/healthz` and `/metrics`, until `shutdown`; then finishes the
/// responses in progress.
///
/// # Errors
/// The listener fails.
pub async fn serve_inference(
    listener: TcpListener,
    inference: Inference,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let render = move || std::future::ready(prometheus_text(&metrics));
    let routes = inference
        .into_router()
        .route("/healthz", get(async || "ok"))
        .route("/metrics", get(render));
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The response of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// By part: "ready", or the reason why not.
    parts: BTreeMap<&'static str, String>,
}

impl Server {
    async fn ready(&self) -> Ready {
        let mut parts = self.context.readiness.parts();
        let ping = match tokio::time::timeout(PING_WAIT_MAX, self.context.store.ping()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PING_WAIT_MAX.as_secs())),
        };
        let store = parts.entry("store").or_insert(Ok(()));
        if store.is_ok() {
            *store = ping;
        }
        Ready {
            ready: parts.values().all(Result::is_ok),
            parts: parts
                .into_iter()
                .map(|(part, state)| (part, state.err().unwrap_or_else(|| "ready".into())))
                .collect(),
        }
    }

    /// Returns a view that is at most [`VIEW_AGE_MAX`] old, or the reason why there is none.
    async fn view(&self) -> Result<Arc<View>, String> {
        tokio::time::timeout(VIEW_WAIT_MAX, async {
            let mut kept = self.view.lock().await;
            let now = self.context.clock.elapsed();
            if let Some((created, view)) = &*kept
                && now.saturating_sub(*created) < VIEW_AGE_MAX
            {
                return Ok(Arc::clone(view));
            }
            let view = View::gather(&*self.context.store, &self.context.brands).await;
            let view = Arc::new(view.map_err(|error| error.to_string())?);
            *kept = Some((now, Arc::clone(&view)));
            Ok(view)
        })
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", VIEW_WAIT_MAX.as_secs())))
    }
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let ready = server.ready().await;
    let code = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ready)).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    prometheus_text(&server.context.metrics)
}

fn prometheus_text(metrics: &PrometheusHandle) -> Response {
    let form = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (form, metrics.render()).into_response()
}

async fn status(State(server): State<Arc<Server>>) -> Response {
    match server.view().await {
        Ok(view) => Json(view.status()).into_response(),
        Err(error) => {
            let answer = Json(BTreeMap::from([("error", error)]));
            (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
        }
    }
}

async fn index(State(server): State<Arc<Server>>) -> Response {
    let (view, ready) = tokio::join!(server.view(), server.ready());
    let code = if view.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page =
        page::render(view.as_deref().map_err(String::as_str), &ready, server.context.clock.now());
    let headers = [
        (header::CONTENT_SECURITY_POLICY, server.policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (code, headers, Html(page)).into_response()
}
