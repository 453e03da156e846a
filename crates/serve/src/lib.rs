//! The page for people, the API, the model for callers (`inference`), health checks and metrics over
//! HTTP.
//!
//! **Invariant.** However many requests arrive, the store is queried at most once every
//! [`VIEW_AGE_MAX`] for the page and the list of brands, and no response waits longer than a limit
//! for it. Strings from outside are escaped, or sent as JSON and shown as text. The page loads
//! nothing from elsewhere, and its headers forbid it. [`access`] decides who may do what.
//! Deliberately absent: TLS; use a reverse proxy.

pub mod access;
mod act;
mod ahead;
mod answer;
mod api;
mod assets;
mod chart;
mod inference;
mod listen;
mod login;
mod page;
mod trace;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics::gauge;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

use monitor_core::alerting::SharePolicy;
use monitor_core::clock::Clock;
use monitor_core::domain::{Incident, STREAM, Zone};
use monitor_core::links::LinkKey;
use monitor_core::words::WordWeight;
use monitor_store::{Store, StoredTweet};
use monitor_telemetry::{self as telemetry, Metrics, Readiness};

pub use access::{Access, Caller, Right, Rule, Token};
pub use answer::Failure;
pub use inference::{
    Inference, InferenceLimits, Scored, ScoredText, Scorer, ScorerError, ServedModel,
};
use view::View;

/// The store is queried again when the last view is older than this.
const VIEW_AGE_MAX: Duration = Duration::from_secs(2);
/// How long the page waits for the store.
const VIEW_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the readiness check waits for the store.
const PING_WAIT_MAX: Duration = Duration::from_secs(2);

/// The state of a part that can work.
const IS_READY: &str = "ready";

/// Says which words made a tweet negative.
#[async_trait]
pub trait Explain: Send + Sync {
    /// The words of a tweet with what each adds to the log-odds of negative; `None` if the model
    /// that scored it is not loaded, or takes too long.
    async fn explain(&self, tweet: &StoredTweet) -> Option<Vec<WordWeight>>;
}

/// What the server shows.
pub struct ServeContext {
    /// Scores, counts and incidents.
    pub store: Arc<dyn Store>,
    /// The readiness of the daemon's parts.
    pub readiness: Arc<Readiness>,
    /// The metrics of this process.
    pub metrics: &'static Metrics,
    /// The brands shown.
    pub brands: Vec<String>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How shares are judged, for the band of expected shares.
    pub policy: SharePolicy,
    /// The brands whose seasons are in another time zone than the policy's.
    pub zones: BTreeMap<String, Zone>,
    /// Explains tweets, once the models are loaded.
    pub explainer: Arc<OnceLock<Box<dyn Explain>>>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Address at which people reach the page, if it is not the one that is listened on.
    pub public_url: Option<String>,
    /// Checks the links of notifications with which people act; `None`: there are none.
    pub links: Option<LinkKey>,
    /// The model, for callers; `None` leaves its routes out.
    pub inference: Option<Inference>,
    /// Whether to learn what is expected of the brands before somebody opens the page.
    pub learns_ahead: bool,
}

impl ServeContext {
    /// For tests and benchmarks: everybody who asks sees these brands; no links, no model, no time zones.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        brands: Vec<String>,
        policy: SharePolicy,
    ) -> Self {
        Self {
            store,
            readiness: Arc::default(),
            metrics: telemetry::init_metrics(),
            brands,
            access: Arc::new(Access::new(Vec::new(), None, Arc::clone(&clock))),
            clock,
            policy,
            zones: BTreeMap::new(),
            explainer: Arc::default(),
            public_url: None,
            links: None,
            inference: None,
            learns_ahead: false,
        }
    }

    /// How the shares of a brand are judged.
    fn policy_of(&self, brand: &str) -> SharePolicy {
        let zone = self.zones.get(brand).copied().unwrap_or(self.policy.zone);
        SharePolicy { zone, ..self.policy }
    }
}

struct Server {
    context: ServeContext,
    access: Arc<Access>,
    /// The last view, with [`Clock::elapsed`] of its creation. The lock is held while a new view
    /// is gathered, so that only one request queries the store.
    view: Mutex<Option<(Duration, Arc<View>)>>,
    baselines: api::Baselines,
    clients: api::Clients,
    /// Wakes those who wait for events.
    news: Notify,
    stopping: CancellationToken,
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
    let inference = context.inference.take();
    let description = api::description(inference.is_some());
    let access = Arc::clone(&context.access);
    let learns_ahead = context.learns_ahead;
    let server = Arc::new(Server::new(context, &shutdown));
    if learns_ahead {
        tokio::spawn(ahead::keep(Arc::clone(&server)));
    }
    let guarded = Router::new()
        .route("/api/status", get(status).layer(from_fn(answer::tagged)))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async move || Json(description)).layer(from_fn(answer::tagged)))
        .merge(api::routes());
    let routes = access
        .guard(guarded, Rule::default())
        .route("/", get(index))
        .route("/login", post(login::login))
        .route("/logout", post(login::logout))
        .route("/act/{link}", get(act::ask).post(act::act))
        .route("/assets/{hash}/{name}", get(assets::file))
        .route(
            "/favicon.ico",
            get(async || {
                axum::response::Redirect::permanent(&format!("{}/icon.svg", assets::folder()))
            }),
        )
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .with_state(server);
    let routes = match inference {
        Some(inference) => routes.merge(inference.routes(&access)),
        None => routes,
    };
    answer_with(listener, routes, shutdown).await
}

/// Serves the model alone, with `/openapi.json`, `/metrics` and `/healthz`, until `shutdown`; then
/// finishes the responses in progress.
///
/// # Errors
/// The listener fails.
pub async fn serve_inference(
    listener: TcpListener,
    inference: Inference,
    access: &Arc<Access>,
    metrics: &'static Metrics,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let description = inference::openapi();
    let guarded = Router::new()
        .route("/openapi.json", get(async move || Json(description)))
        .route("/metrics", get(async || prometheus_text(metrics)));
    let routes = access
        .guard(guarded, Rule::default())
        .route("/healthz", get(async || "ok"))
        .merge(inference.routes(access));
    answer_with(listener, routes, shutdown).await
}

/// Answers with `routes`, within the limits of [`listen`].
async fn answer_with(
    listener: TcpListener,
    routes: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let routes = routes
        .layer(map_response(async |mut response: Response| {
            answer::safe_headers(response.headers_mut());
            response
        }))
        .layer(CompressionLayer::new())
        .layer(from_fn(trace::traced))
        .into_make_service_with_connect_info::<listen::Peer>();
    axum::serve(listen::Limited::new(listener), routes)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// The response of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// By part: "ready", or the reason why not.
    parts: BTreeMap<&'static str, String>,
}

impl Server {
    fn new(context: ServeContext, shutdown: &CancellationToken) -> Self {
        Self {
            access: Arc::clone(&context.access),
            context,
            view: Mutex::new(None),
            baselines: api::Baselines::default(),
            clients: api::Clients::default(),
            news: Notify::new(),
            stopping: shutdown.clone(),
        }
    }

    async fn ready(&self) -> Ready {
        let mut parts = self.context.readiness.parts();
        let ping = match timeout(PING_WAIT_MAX, self.context.store.ping()).await {
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
                .map(|(part, state)| (part, state.err().unwrap_or_else(|| IS_READY.into())))
                .collect(),
        }
    }

    /// Returns a view that is at most [`VIEW_AGE_MAX`] old, or the reason why there is none.
    async fn view(&self) -> Result<Arc<View>, String> {
        timeout(VIEW_WAIT_MAX, async {
            let mut kept = self.view.lock().await;
            let now = self.context.clock.elapsed();
            if let Some((created, view)) = &*kept
                && now.saturating_sub(*created) < VIEW_AGE_MAX
            {
                return Ok(Arc::clone(view));
            }
            let wall = self.context.clock.now();
            let view = View::gather(&*self.context.store, &self.context.brands, wall).await;
            let view = Arc::new(view.map_err(|error| error.to_string())?);
            *kept = Some((now, Arc::clone(&view)));
            Ok(view)
        })
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", VIEW_WAIT_MAX.as_secs())))
    }

    /// Who sends a request that is not behind the guard.
    fn admit(&self, request: &Request) -> Result<Caller, Failure> {
        let (method, headers) = (request.method(), request.headers());
        self.access.admit(&Rule::default(), access::peer(request), method, headers)
    }

    /// Forgets the view after somebody has changed something, and tells those who wait.
    async fn changed(&self) {
        *self.view.lock().await = None;
        self.news.notify_waiters();
    }

    /// A failure unless the brand is in the settings.
    fn knows(&self, brand: &str) -> Result<(), Failure> {
        if self.context.brands.iter().any(|known| known == brand) {
            Ok(())
        } else {
            Err(Failure::missing(format!("there is no brand {brand:?} in the settings")))
        }
    }
}

/// Reasons may name hosts, so whoever needs a token and has none learns only whether it is ready.
async fn ready(State(server): State<Arc<Server>>, request: Request) -> Response {
    let mut ready = server.ready().await;
    let code = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if server.access.needs_token() && server.admit(&request).is_err() {
        ready.parts.clear();
    }
    (code, Json(ready)).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let ready = server.ready().await;
    let is_ready = ready.parts.get("store").is_some_and(|state| state == IS_READY);
    gauge!(telemetry::READY, "part" => "store").set(if is_ready { 1.0 } else { 0.0 });
    if let Ok(Ok(totals)) = timeout(PING_WAIT_MAX, server.context.store.totals()).await {
        gauge!(telemetry::OUTBOX_PENDING).set(totals.outbox_pending as f64);
        gauge!(telemetry::OUTBOX_DEAD).set(totals.outbox_dead as f64);
    }
    // Those that are open, and no others. Every daemon says it: one that led has nothing stale to say.
    let open = timeout(PING_WAIT_MAX, server.context.store.incidents(0)).await;
    let open = open.ok().and_then(Result::ok);
    for brand in server.context.brands.iter().map(String::as_str).chain([STREAM]) {
        let of_brand = |open: &Vec<Incident>| open.iter().filter(|it| it.brand == brand).count();
        // Nobody knows while the store is away: an incident may have ended or begun.
        let incidents = open.as_ref().map_or(f64::NAN, |open| of_brand(open) as f64);
        gauge!(telemetry::OPEN_INCIDENTS, "brand" => brand.to_owned()).set(incidents);
    }
    prometheus_text(server.context.metrics)
}

fn prometheus_text(metrics: &Metrics) -> Response {
    let form = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (form, metrics.render()).into_response()
}

async fn status(State(server): State<Arc<Server>>) -> Result<Response, Failure> {
    let view = server.view().await.map_err(Failure::away)?;
    Ok(Json(view.status()).into_response())
}

async fn index(State(server): State<Arc<Server>>, request: Request) -> Response {
    if let Err(failure) = server.admit(&request) {
        return match failure.status() {
            StatusCode::UNAUTHORIZED => login::form(false),
            _ => failure.into_response(),
        };
    }
    let (view, ready) = tokio::join!(server.view(), server.ready());
    let code = if view.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page =
        page::render(view.as_deref().map_err(String::as_str), &ready, server.context.clock.now());
    (code, [(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}
