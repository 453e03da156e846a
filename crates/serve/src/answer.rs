//! Answers of the API: failures as JSON, and entity tags.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use monitor_store::StoreError;

/// Answers up to this size get an entity tag.
const TAGGED_BYTES_MAX: usize = 8 << 20;

/// A request that failed: `{"error": "..."}` with a status.
#[derive(Debug, Clone)]
pub struct Failure {
    status: StatusCode,
    error: String,
    retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of this status.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after: None }
    }

    /// 400: the request says something that makes no sense.
    pub fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 404: `what` does not exist.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what)
    }

    /// 401: who are you?
    pub fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    /// 503, with a hint when to try again.
    pub fn busy(error: impl Into<String>, retry_after: Duration) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, error);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// 429, with a hint when to try again.
    pub fn too_many(retry_after: Duration) -> Self {
        let error = "too many requests from this address: send fewer";
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, error);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// 503: the store cannot be read.
    pub fn away(error: String) -> Self {
        Self::busy(error, Duration::from_secs(2))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::busy(error.to_string(), Duration::from_secs(2))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(BTreeMap::from([("error", self.error)]));
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Gives successful answers to GET an entity tag made of their content, and answers 304 to a client
/// that has the same already.
pub async fn tagged(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if !is_get || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, TAGGED_BYTES_MAX).await else {
        return Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer is too long: ask for less",
        )
        .into_response();
    };
    let tag = format!("W/\"{}\"", &BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&body))[..22]);
    parts.headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("base64 is ASCII"));
    parts
        .headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    if known.is_some_and(|known| matches(&known, &tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

fn matches(known: &HeaderValue, tag: &str) -> bool {
    known.to_str().is_ok_and(|known| known.split(',').any(|one| one.trim() == tag))
}

/// The headers of every answer: nothing is loaded from elsewhere, nothing is framed.
pub fn safe_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
