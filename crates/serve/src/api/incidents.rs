//! Incidents: what happened, who was told and who was not, and what people do about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Action, Body, Path, Query, resolve, text_of};
use crate::Server;
use crate::access::Caller;
use crate::answer::Failure;
use monitor_core::domain::{Acknowledgement, Evidence, Incident as Stored, IncidentId, Minute};
use monitor_core::words::marked;
use monitor_store::{Drivers, Example};

/// Incidents of an answer, at most.
const LIMIT_MAX: u32 = 1000;

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IncidentsQuery {
    /// Only of this brand, or of `(stream)`.
    brand: Option<String>,
    /// Only open ones (true) or ended ones (false).
    open: Option<bool>,
    /// At most this many, up to 1000.
    limit: u32,
}

impl Default for IncidentsQuery {
    fn default() -> Self {
        Self { brand: None, open: None, limit: 50 }
    }
}

/// Incidents.
#[derive(Debug, Serialize, ToSchema)]
pub struct Incidents {
    /// Newest first.
    incidents: Vec<Incident>,
}

/// One incident.
#[derive(Debug, Serialize, ToSchema)]
pub struct Incident {
    /// Its number.
    id: i64,
    /// The brand, or `(stream)`.
    brand: String,
    /// `share`, `negative-volume`, `surge`, `quiet`, `brand-quiet` or `lag`.
    cause: &'static str,
    /// `notice`, `warning` or `critical`: the highest so far.
    severity: &'static str,
    /// When it opened: event time for brands.
    opened_at: DateTime<Utc>,
    /// First minute of the rise; null for incidents of the stream.
    since: Option<DateTime<Utc>>,
    /// When it ended; null while it is open.
    resolved_at: Option<DateTime<Utc>>,
    /// Who has taken it on; null if nobody has.
    acknowledged: Option<Acknowledged>,
    /// The numbers on which it opened; `kind` says which.
    #[schema(value_type = Object)]
    evidence: Evidence,
}

/// Somebody has taken it on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Acknowledged {
    /// Who.
    by: String,
    /// When.
    at: DateTime<Utc>,
    /// What for; may be empty.
    note: String,
}

impl From<&Stored> for Incident {
    fn from(it: &Stored) -> Self {
        let since = match &it.evidence {
            Evidence::Share(e) => Some(e.since),
            Evidence::NegativeVolume(e) | Evidence::Surge(e) => Some(e.since),
            Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => None,
        };
        Self {
            id: it.id.0,
            brand: it.brand.clone(),
            cause: it.cause().as_str(),
            severity: it.severity.as_str(),
            opened_at: it.opened.start(),
            since: since.map(Minute::start),
            resolved_at: it.resolved.map(Minute::start),
            acknowledged: it.acknowledged.as_ref().map(|it| Acknowledged {
                by: it.by.clone(),
                at: it.at,
                note: it.note.clone(),
            }),
            evidence: it.evidence,
        }
    }
}

/// The incidents, newest first
#[utoipa::path(
    get,
    path = "/v1/incidents",
    operation_id = "incidents",
    params(IncidentsQuery),
    responses((status = 200, body = Incidents))
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    Query(query): Query<IncidentsQuery>,
) -> Result<Json<Incidents>, Failure> {
    let stored = server.context.store.incidents(LIMIT_MAX).await?;
    let wanted = |it: &&Stored| {
        query.brand.as_ref().is_none_or(|brand| *brand == it.brand)
            && query.open.is_none_or(|open| open == it.resolved.is_none())
    };
    let limit = query.limit.min(LIMIT_MAX) as usize;
    let incidents = stored.iter().filter(wanted).take(limit).map(Incident::from).collect();
    Ok(Json(Incidents { incidents }))
}

/// An incident with its history.
#[derive(Debug, Serialize, ToSchema)]
pub struct Whole {
    /// The incident.
    incident: Incident,
    /// What has happened, in order.
    history: Vec<Event>,
    /// What its negative tweets have in common.
    #[schema(value_type = Object)]
    drivers: Drivers,
    /// Negative tweets, as in the first notification.
    examples: Vec<ExampleTweet>,
    /// What became of its notifications, oldest first.
    deliveries: Vec<Delivery>,
}

/// A step of the history.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// `opened`, `updated`, `resolved` or `acknowledged`.
    kind: String,
    /// The minute judged; clock time for what people do.
    at: DateTime<Utc>,
    /// Its severity then.
    severity: &'static str,
    /// Who did it, if a person did.
    who: Option<String>,
    /// The reason, or what the person said.
    note: String,
    /// The receivers that were notified.
    notified: Vec<String>,
    /// The others, each with the reason.
    not_notified: Vec<NotNotified>,
}

/// Why a receiver was not told.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotNotified {
    /// The receiver.
    receiver: String,
    /// One word: `silenced`, `acknowledged`, `catching_up`, `no_route`, `other_brand`,
    /// `other_cause`, `too_mild`, `quiet_hours`, `repeat_not_due`, `repeats_off` or
    /// `never_notified`.
    reason: &'static str,
    /// Which silence, route or person, or when the next one is due.
    detail: String,
}

/// A tweet that shows what it is about.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExampleTweet {
    /// Its id.
    tweet_id: String,
    /// Its text.
    text: String,
    /// When it was written.
    created_at: DateTime<Utc>,
    /// Probability that it is negative.
    negative: f32,
    /// Who wrote it, where the stream tells.
    author: Option<String>,
    /// People who may have seen it, where the stream tells.
    reach: Option<u64>,
    /// Tweets that say the same, with this one.
    alike: u64,
    /// Begin and end of the words that made it negative, in characters of the text.
    marks: Vec<[usize; 2]>,
}

impl From<Example> for ExampleTweet {
    fn from(it: Example) -> Self {
        Self {
            marks: char_marks(&it.text, &it.words),
            tweet_id: it.tweet_id,
            text: it.text,
            created_at: it.created_at,
            negative: it.negative,
            author: it.author,
            reach: it.reach,
            alike: it.alike,
        }
    }
}

/// The words to mark, in characters.
pub(super) fn char_marks(text: &str, words: &[monitor_core::words::WordWeight]) -> Vec<[usize; 2]> {
    let bytes = marked(text, words);
    let of = |range: &std::ops::Range<usize>| {
        words.iter().find(|word| word.bytes == [range.start, range.end]).map(|word| word.chars)
    };
    bytes.iter().filter_map(of).collect()
}

/// What became of a notification.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// The receiver.
    receiver: String,
    /// `opened`, `updated` or `resolved`.
    transition: String,
    /// `pending`, `sent` or `dead`.
    state: String,
    /// Attempts made.
    attempts: u32,
    /// The last error, if an attempt failed.
    error: Option<String>,
    /// When it was sent or given up, where that is known.
    ended_at: Option<DateTime<Utc>>,
}

/// An incident: its history, who was notified, who was not and why, and its tweets
#[utoipa::path(
    get,
    path = "/v1/incidents/{id}",
    params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, body = Whole), (status = 404, description = "No such incident"))
)]
pub(crate) async fn one(
    State(server): State<Arc<Server>>,
    Path(id): Path<i64>,
) -> Result<Json<Whole>, Failure> {
    let (store, id) = (&*server.context.store, IncidentId(id));
    let incident = store.incident(id).await?.ok_or_else(|| missing(id))?;
    let history = store.events(id).await?.into_iter().map(|it| Event {
        kind: it.kind,
        at: it.at,
        severity: it.severity.as_str(),
        who: it.who,
        note: it.note,
        notified: it.notified,
        not_notified: it
            .suppressed
            .into_iter()
            .map(|it| NotNotified {
                receiver: it.receiver,
                reason: it.reason.as_str(),
                detail: it.detail,
            })
            .collect(),
    });
    let mut drivers = Drivers::default();
    let mut deliveries = Vec::new();
    for it in store.notifications_of(id).await? {
        if drivers.terms.is_empty() {
            drivers = it.drivers;
        }
        deliveries.push(Delivery {
            receiver: it.receiver,
            transition: it.transition,
            state: it.state,
            attempts: it.attempts,
            error: it.error,
            ended_at: it.ended_at,
        });
    }
    let examples = store.examples(id).await?;
    Ok(Json(Whole {
        incident: Incident::from(&incident),
        history: history.collect(),
        drivers,
        examples: examples.into_iter().map(ExampleTweet::from).collect(),
        deliveries,
    }))
}

fn missing(id: IncidentId) -> Failure {
    Failure::missing(format!("there is no incident {id}"))
}

/// Takes an incident on: it is not repeated, unless it gets worse
#[utoipa::path(
    post,
    path = "/v1/incidents/{id}/acknowledge",
    params(("id" = i64, Path, description = "Its number")),
    request_body = Action,
    responses((status = 204), (status = 404, description = "No such incident"))
)]
pub(crate) async fn acknowledge(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(action): Body<Action>,
) -> Result<StatusCode, Failure> {
    let acknowledgement = Acknowledgement {
        at: server.context.clock.now(),
        by: caller.by(Some(&text_of("by", action.by.as_deref().unwrap_or(""), false)?)),
        note: text_of("note", &action.note, false)?,
    };
    let id = IncidentId(id);
    let known = server.context.store.acknowledge(id, &acknowledgement).await?;
    server.changed().await;
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(missing(id)) }
}

/// Ends an incident; whoever was told that it opened is told so
#[utoipa::path(
    post,
    path = "/v1/incidents/{id}/resolve",
    params(("id" = i64, Path, description = "Its number")),
    request_body = Action,
    responses(
        (status = 204),
        (status = 404, description = "No such incident"),
        (status = 409, description = "It has ended already")
    )
)]
pub(crate) async fn resolve(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(action): Body<Action>,
) -> Result<StatusCode, Failure> {
    let by = caller.by(Some(&text_of("by", action.by.as_deref().unwrap_or(""), false)?));
    let note = text_of("note", &action.note, false)?;
    let incident = server.context.store.incident(IncidentId(id)).await?;
    let incident = incident.ok_or_else(|| missing(IncidentId(id)))?;
    let resolved = resolve::resolve(
        &*server.context.store,
        &incident,
        server.context.public_url.as_deref(),
        &by,
        &note,
    )
    .await?;
    server.changed().await;
    if resolved {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::new(StatusCode::CONFLICT, format!("incident {id} has ended already")))
    }
}

/// The state of all notifications.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deliveries {
    /// How many wait for delivery.
    pending: u64,
    /// How many were given up.
    dead: u64,
    /// The oldest of them.
    given_up: Vec<GivenUp>,
    /// The parts of the daemon, each `ready` or why not.
    parts: BTreeMap<&'static str, String>,
}

/// A notification that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub struct GivenUp {
    /// Its number; `monitor alert retry` takes it.
    id: i64,
    /// The receiver.
    receiver: String,
    /// Attempts made.
    attempts: u32,
    /// The last error.
    error: String,
    /// When it was given up.
    at: DateTime<Utc>,
}

/// What waits for delivery, what was given up, and whether the daemon's parts work
#[utoipa::path(get, path = "/v1/deliveries", responses((status = 200, body = Deliveries)))]
pub(crate) async fn deliveries(
    State(server): State<Arc<Server>>,
) -> Result<Json<Deliveries>, Failure> {
    let view = server.view().await.map_err(Failure::away)?;
    let dead = server.context.store.dead_notifications(20).await?;
    Ok(Json(Deliveries {
        pending: view.totals.outbox_pending,
        dead: view.totals.outbox_dead,
        given_up: dead
            .into_iter()
            .map(|it| GivenUp {
                id: it.id,
                receiver: it.receiver,
                attempts: it.attempts,
                error: it.error,
                at: it.ended_at,
            })
            .collect(),
        parts: server.ready().await.parts,
    }))
}
