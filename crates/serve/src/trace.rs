//! A span for each request.
//!
//! **Invariant.** A span has the route's pattern, never the path or the query: these hold links that are
//! rights, and what people search for. Deliberately absent: spans of health checks, metrics and assets,
//! which are asked for all the time, and of the stream of events, which never ends.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;

/// Routes without spans.
const QUIET: [&str; 6] =
    ["/healthz", "/readyz", "/metrics", "/favicon.ico", "/assets/{hash}/{name}", "/v1/events"];

/// Answers within a span, which is part of the caller's trace if it names one.
pub async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| !QUIET.contains(route)) else {
        return next.run(request).await;
    };
    // Routes match only the methods of the standard.
    let method = request.method().as_str();
    let span = tracing::debug_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    monitor_telemetry::continue_trace(&span, |name| request.headers().get(name)?.to_str().ok());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}
