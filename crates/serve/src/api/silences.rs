//! Silences: times in which nobody is told of a brand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, Path, text_of};
use crate::Server;
use crate::access::Caller;
use crate::answer::Failure;
use monitor_core::domain::Silence as Stored;

/// Longest silence, in minutes: four weeks. A brand that should never be heard of has no route.
const MINUTES_MAX: u32 = 28 * 1440;

/// The silences.
#[derive(Debug, Serialize, ToSchema)]
pub struct Silences {
    /// Those that have not ended, by number.
    silences: Vec<Silence>,
}

/// One silence.
#[derive(Debug, Serialize, ToSchema)]
pub struct Silence {
    /// Its number.
    id: i64,
    /// The brand; null: all brands and the stream.
    brand: Option<String>,
    /// Start.
    starts_at: DateTime<Utc>,
    /// End.
    ends_at: DateTime<Utc>,
    /// Why.
    reason: String,
    /// Who asked for it.
    by: String,
}

impl From<Stored> for Silence {
    fn from(it: Stored) -> Self {
        Self {
            id: it.id,
            brand: it.brand,
            starts_at: it.starts_at,
            ends_at: it.ends_at,
            reason: it.reason,
            by: it.who,
        }
    }
}

/// The silences that have not ended
#[utoipa::path(
    get,
    path = "/v1/silences",
    operation_id = "silences",
    responses((status = 200, body = Silences))
)]
pub(crate) async fn list(State(server): State<Arc<Server>>) -> Result<Json<Silences>, Failure> {
    let silences = server.context.store.silences(server.context.clock.now()).await?;
    Ok(Json(Silences { silences: silences.into_iter().map(Silence::from).collect() }))
}

/// A silence to begin now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// The brand; null or missing: all brands and the stream.
    #[serde(default)]
    brand: Option<String>,
    /// How long, 1 to 40320.
    minutes: u32,
    /// Why.
    reason: String,
    /// Who asks for it. With a token, its name is added.
    #[serde(default)]
    by: Option<String>,
}

/// Silences a brand, or everything, from now on
#[utoipa::path(
    post,
    path = "/v1/silences",
    request_body = NewSilence,
    responses((status = 201, body = Silence))
)]
pub(crate) async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(new): Body<NewSilence>,
) -> Result<(StatusCode, Json<Silence>), Failure> {
    if !(1..=MINUTES_MAX).contains(&new.minutes) {
        return Err(Failure::bad(format!("minutes: choose between 1 and {MINUTES_MAX}")));
    }
    if let Some(brand) = &new.brand {
        server.knows(brand)?;
    }
    let mut silence = starting(
        server.context.clock.now(),
        new.brand,
        TimeDelta::minutes(i64::from(new.minutes)),
        text_of("reason", &new.reason, true)?,
        caller.by(Some(&text_of("by", new.by.as_deref().unwrap_or(""), false)?)),
    );
    silence.id = server.context.store.silence(&silence).await?;
    server.changed().await;
    Ok((StatusCode::CREATED, Json(Silence::from(silence))))
}

/// A silence that begins at `now`, not yet stored.
pub(crate) fn starting(
    now: DateTime<Utc>,
    brand: Option<String>,
    time: TimeDelta,
    reason: String,
    who: String,
) -> Stored {
    Stored { id: 0, brand, starts_at: now, ends_at: now + time, reason, who }
}

/// Ends a silence now
#[utoipa::path(
    delete,
    path = "/v1/silences/{id}",
    params(("id" = i64, Path, description = "Its number")),
    responses((status = 204), (status = 404, description = "No such silence, or it has ended"))
)]
pub(crate) async fn end(
    State(server): State<Arc<Server>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Failure> {
    let ended = server.context.store.end_silence(id, server.context.clock.now()).await?;
    server.changed().await;
    if ended {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::missing(format!("there is no silence {id}, or it has ended")))
    }
}
