//! The page, its API, health and metrics over HTTP.
//!
//! **Invariant.** Nothing here changes anything. Whatever number of people look, the store
//! is asked at most once every [`VIEW_AGE_MAX`] for the page and the API together, and no
//! answer waits for it longer than a bound. Brands and other words from outside are
//! escaped; the page fetches nothing from elsewhere, and its headers forbid it to.
//! Deliberately absent: logins and TLS; both are a reverse proxy's work.

mod chart;
mod page;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
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

/// How old the page's numbers may be before the store is asked again.
const VIEW_AGE_MAX: Duration = Duration::from_secs(2);
/// How long the page waits for the store.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the readiness check waits for the store.
const PING_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the page and its neighbours show.
pub struct State {
    /// Where scores, counts and incidents are.
    pub store: Arc<dyn Store>,
    /// Which parts of the daemon can do their work.
    pub readiness: Arc<Readiness>,
    /// The metrics of this process.
    pub metrics: PrometheusHandle,
    /// The brands to show.
    pub brands: Vec<String>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

struct Served {
    state: State,
    /// The last view, and [`Clock::elapsed`] when it was made. The lock is held while a
    /// new one is made, so that only one request asks the store.
    view: Mutex<Option<(Duration, Arc<View>)>>,
    policy: String,
}

/// Serves until told to stop, then lets running answers come to their end.
///
/// # Errors
/// The listener breaks.
pub async fn serve(
    listener: TcpListener,
    state: State,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let script = BASE64_STANDARD.encode(Sha256::digest(page::SCRIPT));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let served = Arc::new(Served { state, view: Mutex::new(None), policy });
    let routes = Router::new()
        .route("/", get(index))
        .route("/api/status", get(status))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Which parts are ready, as `/readyz` tells it.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// By part: "ready", or the reason why not.
    parts: BTreeMap<&'static str, String>,
}

impl Served {
    async fn ready(&self) -> Ready {
        let mut parts = self.state.readiness.parts();
        let ping = match tokio::time::timeout(PING_WAIT_MAX, self.state.store.ping()).await {
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

    /// What there is to see, at most [`VIEW_AGE_MAX`] old, or why it cannot be seen.
    async fn view(&self) -> Result<Arc<View>, String> {
        tokio::time::timeout(VIEW_WAIT_MAX, async {
            let mut kept = self.view.lock().await;
            let now = self.state.clock.elapsed();
            if let Some((made, view)) = &*kept
                && now.saturating_sub(*made) < VIEW_AGE_MAX
            {
                return Ok(Arc::clone(view));
            }
            let view = View::gather(&*self.state.store, &self.state.brands).await;
            let view = Arc::new(view.map_err(|error| error.to_string())?);
            *kept = Some((now, Arc::clone(&view)));
            Ok(view)
        })
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", VIEW_WAIT_MAX.as_secs())))
    }
}

async fn ready(Shared(served): Shared<Arc<Served>>) -> Response {
    let ready = served.ready().await;
    let code = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ready)).into_response()
}

async fn metrics(Shared(served): Shared<Arc<Served>>) -> Response {
    let form = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (form, served.state.metrics.render()).into_response()
}

async fn status(Shared(served): Shared<Arc<Served>>) -> Response {
    match served.view().await {
        Ok(view) => Json(view.status()).into_response(),
        Err(error) => {
            let answer = Json(BTreeMap::from([("error", error)]));
            (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
        }
    }
}

async fn index(Shared(served): Shared<Arc<Served>>) -> Response {
    let (view, ready) = tokio::join!(served.view(), served.ready());
    let code = if view.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page =
        page::render(view.as_deref().map_err(String::as_str), &ready, served.state.clock.now());
    let headers = [
        (header::CONTENT_SECURITY_POLICY, served.policy.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (code, headers, Html(page)).into_response()
}
