//! Errors in the shape of text-embeddings-inference: `{"error": "...", "error_type": "..."}`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::ScorerError;
use super::admission::Refused;

/// Why a request has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// 422: the request asks for something that is not there.
    Validation(String),
    /// 400: there is no text.
    Empty(String),
    /// 404: no model has this name.
    NotFound(String),
    /// 429: too many texts wait.
    Overloaded(Refused),
    /// 503: there is no model.
    Unhealthy(String),
    /// 424: the model failed on a text.
    Backend(String),
    /// Another 4xx: the body is too long, no JSON, or of another type.
    Body(StatusCode, String),
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What happened, and what to do.
    #[schema(example = "`inputs` cannot be empty")]
    error: String,
    /// Validation, Empty, Overloaded, Unhealthy or Backend.
    #[schema(example = "Empty")]
    error_type: &'static str,
}

impl ApiError {
    pub fn late(after: Duration) -> Self {
        Self::Unhealthy(format!("the model gave no answer within {} s; try again", after.as_secs()))
    }

    fn parts(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Validation(error) => (StatusCode::UNPROCESSABLE_ENTITY, "Validation", error),
            Self::Empty(error) => (StatusCode::BAD_REQUEST, "Empty", error),
            Self::NotFound(error) => (StatusCode::NOT_FOUND, "Validation", error),
            Self::Overloaded(Refused { rows, retry_after_s }) => {
                let error = format!(
                    "the model is overloaded: {rows} texts wait; try again in {retry_after_s} s"
                );
                (StatusCode::TOO_MANY_REQUESTS, "Overloaded", error)
            }
            Self::Unhealthy(error) => (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy", error),
            Self::Backend(error) => (StatusCode::FAILED_DEPENDENCY, "Backend", error),
            Self::Body(status, error) => (status, "Validation", error),
        }
    }
}

impl From<ScorerError> for ApiError {
    fn from(error: ScorerError) -> Self {
        let text = error.to_string();
        match error {
            ScorerError::Loading | ScorerError::Gone => Self::Unhealthy(text),
            ScorerError::Unknown { .. } => Self::NotFound(text),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = match &self {
            Self::Overloaded(refused) => Some(refused.retry_after_s),
            Self::Unhealthy(_) => Some(1),
            _ => None,
        };
        let (status, error_type, error) = self.parts();
        let mut response = (status, Json(ErrorBody { error, error_type })).into_response();
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body; what is wrong with another one is an [`ApiError`].
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::<T>::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(ApiError::from)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let text = match &rejection {
            JsonRejection::MissingJsonContentType(_) => {
                "send the header `Content-Type: application/json`".to_owned()
            }
            other => other.body_text(),
        };
        Self::Body(rejection.status(), text)
    }
}

/// The variable parts of a path; what is not UTF-8 is not the name of a model.
pub(super) struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments))
            .map_err(|rejection: PathRejection| ApiError::NotFound(rejection.body_text()))
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::Body(rejection.status(), rejection.body_text())
    }
}
