//! Server-sent events: tells pages when something has changed.
//!
//! **Invariant.** An event says only that there is something new, so a client that missed some
//! has missed nothing: it reads what it shows again. However many clients wait, the store is
//! queried as often as for one ([`Server::view`]); at most [`CLIENTS_MAX`] wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Server;
use crate::answer::Failure;
use crate::view::View;
use monitor_core::domain::Minute;

/// Clients that wait for events, at most.
const CLIENTS_MAX: usize = 100;
/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon a client that has lost its connection tries again.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// The clients that wait.
#[derive(Debug)]
pub struct Clients(Arc<Semaphore>);

impl Default for Clients {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CLIENTS_MAX)))
    }
}

/// The data of a `change`.
#[derive(Debug, Serialize)]
struct Change<'a> {
    open_incidents: usize,
    tweets_scored: u64,
    newest_minute: Option<chrono::DateTime<chrono::Utc>>,
    model: Option<&'a str>,
}

/// What a client has seen.
struct Waiting {
    server: Arc<Server>,
    seen: Option<String>,
    is_first: bool,
    _permit: OwnedSemaphorePermit,
}

/// Server-sent events: `change` when there is something new to read
///
/// The id of an event is the state it tells of; a client that connects again with
/// `Last-Event-ID` gets an event at once if that is not the state any more. `away` says that
/// the store cannot be read.
#[utoipa::path(
    get,
    path = "/v1/events",
    responses(
        (status = 200, description = "A stream of events", content_type = "text/event-stream"),
        (status = 503, description = "Too many clients wait already")
    )
)]
pub(crate) async fn events(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let permit = Arc::clone(&server.clients.0).try_acquire_owned().map_err(|_| {
        let error = format!("{CLIENTS_MAX} clients wait for events already: try again later");
        Failure::busy(error, Duration::from_secs(30))
    })?;
    let seen = headers.get("last-event-id").and_then(|it| it.to_str().ok()).map(str::to_owned);
    let waiting = Waiting { server, seen, is_first: true, _permit: permit };
    let stream = unfold(waiting, |mut waiting| async move {
        let event = waiting.next().await?;
        Some((Ok(event), waiting))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

impl Waiting {
    /// The next event; `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::replace(&mut self.is_first, false) {
                tokio::select! {
                    () = self.server.stopping.cancelled() => return None,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = self.server.news.notified() => {}
                }
            }
            let (id, event) = match self.server.view().await {
                Ok(view) => {
                    let id = state_of(&view);
                    let change = Change {
                        open_incidents: view.open().count(),
                        tweets_scored: view.totals.scores,
                        newest_minute: view
                            .brands
                            .iter()
                            .filter_map(|brand| brand.newest)
                            .max()
                            .map(Minute::start),
                        model: view.model.as_deref(),
                    };
                    let event = Event::default().event("change").json_data(change);
                    (id, event.expect("numbers and text are JSON"))
                }
                Err(error) => {
                    ("away".to_owned(), Event::default().event("away").data(one_line(&error)))
                }
            };
            if self.seen.as_ref() != Some(&id) {
                self.seen = Some(id.clone());
                return Some(event.id(id).retry(RETRY_AFTER));
            }
        }
    }
}

/// A short text that changes when the page has something else to show.
fn state_of(view: &View) -> String {
    let totals = view.totals;
    let acknowledged = view.latest.iter().filter_map(|it| Some(it.acknowledged.as_ref()?.at)).max();
    let acknowledged = acknowledged.map_or(0, |at| at.timestamp_millis());
    let ended = view.latest.iter().filter(|it| it.resolved.is_some()).count();
    let newest = view.latest.first().map_or(0, |it| it.id.0);
    format!(
        "{}.{}.{}.{}.{}.{newest}.{ended}.{acknowledged}.{}",
        totals.scores,
        totals.not_judged,
        totals.dead_letters,
        totals.outbox_pending,
        totals.outbox_dead,
        view.silences,
    )
}

/// Data of an event cannot have a carriage return.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
