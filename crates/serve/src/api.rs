//! The API `/v1/...`: what the page reads and does, for other programs too.
//!
//! **Invariant.** Fields are added, never changed or removed. Shares are in 0..=1. Times are in
//! UTC; of brands they are event times, of what people do clock times. Reading needs the right to
//! read, every other method the right to act. `/openapi.json` describes it all.

mod baseline;
pub(crate) mod brands;
mod drift;
mod events;
mod incidents;
mod labels;
mod resolve;
pub(crate) mod silences;
mod tweets;
mod voice;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::middleware::from_fn;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

use crate::Server;
use crate::answer::{Failure, tagged};
use crate::inference;

pub(crate) use baseline::Baselines;
pub(crate) use events::Clients;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Monitor",
        description = "Shares of negative tweets by brand, incidents, tweets, labels and silences. \
                       Unless the settings leave it out: the model that scores the stream, in the \
                       shapes of other servers' clients."
    ),
    paths(
        brands::list,
        brands::shares,
        brands::models,
        voice::voice,
        drift::latest,
        incidents::list,
        incidents::one,
        incidents::acknowledge,
        incidents::resolve,
        incidents::deliveries,
        silences::list,
        silences::create,
        silences::end,
        tweets::search,
        tweets::explain,
        labels::corrections,
        labels::correct,
        labels::samples,
        labels::draw,
        labels::sample,
        labels::label,
        events::events,
    )
)]
struct Api;

/// What `/openapi.json` says: these routes and, `with_inference`, those of the model.
pub(crate) fn description(with_inference: bool) -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    if with_inference {
        api.merge(inference::openapi());
    }
    api
}

/// The routes, without their guard.
pub(crate) fn routes() -> Router<Arc<Server>> {
    let tagged = Router::new()
        .route("/v1/brands", get(brands::list))
        .route("/v1/brands/{brand}/shares", get(brands::shares))
        .route("/v1/models", get(brands::models))
        .route("/v1/voice", get(voice::voice))
        .route("/v1/drift", get(drift::latest))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::one))
        .route("/v1/incidents/{id}/acknowledge", post(incidents::acknowledge))
        .route("/v1/incidents/{id}/resolve", post(incidents::resolve))
        .route("/v1/deliveries", get(incidents::deliveries))
        .route("/v1/silences", get(silences::list).post(silences::create))
        .route("/v1/silences/{id}", delete(silences::end))
        .route("/v1/tweets", get(tweets::search))
        .route("/v1/tweets/{id}/explain", get(tweets::explain))
        .route("/v1/labels", get(labels::corrections).post(labels::correct))
        .route("/v1/samples", get(labels::samples).post(labels::draw))
        .route("/v1/samples/{id}", get(labels::sample))
        .route("/v1/samples/{id}/labels", post(labels::label))
        .layer(from_fn(tagged));
    // A stream of events has no end, so nobody may wait for its whole body.
    tagged.route("/v1/events", get(events::events))
}

/// What an action says about itself.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Action {
    /// Who acts. With a token, its name is added.
    by: Option<String>,
    /// A note for the others.
    note: String,
}

/// As axum's `Json`, with our failures.
pub(crate) struct Body<T>(pub T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        let rejected = |it: JsonRejection| Failure::new(it.status(), it.body_text());
        Json::from_request(request, state).await.map(|Json(it)| Self(it)).map_err(rejected)
    }
}

/// As axum's `Query`, with our failures.
pub(crate) struct Query<T>(pub T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Failure> {
        let rejected = |it: QueryRejection| Failure::new(it.status(), it.body_text());
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(it)| Self(it)).map_err(rejected)
    }
}

/// As axum's `Path`, with our failures.
pub(crate) struct Path<T>(pub T);

impl<T: serde::de::DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Failure> {
        let rejected = |it: PathRejection| Failure::new(it.status(), it.body_text());
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(it)| Self(it)).map_err(rejected)
    }
}

/// The longest name or note that a person may give, in characters.
const TEXT_CHARS_MAX: usize = 1000;

/// `text` without its margins; a failure if it is too long, or (where `needed`) empty.
pub(crate) fn text_of(what: &str, text: &str, needed: bool) -> Result<String, Failure> {
    let text = text.trim();
    if needed && text.is_empty() {
        return Err(Failure::bad(format!("{what} is empty: say it in a few words")));
    }
    if text.chars().count() > TEXT_CHARS_MAX || text.contains('\0') {
        return Err(Failure::bad(format!("{what} is longer than {TEXT_CHARS_MAX} characters")));
    }
    Ok(text.to_owned())
}
