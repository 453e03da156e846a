//! Links of notifications with which people act (`monitor_core::links`): a page that asks, and the act.
//!
//! **Invariant.** GET and HEAD change nothing, so a program that opens every link of a mail does no harm. A link is
//! itself the right to its one act, and needs no token; a page shows nothing but what the link's own mail shows, and
//! what has become of it. An act is stored with the use of its link, so it happens once. Requests are limited in
//! rate, body and time as everywhere; one with a wrong signature counts as a wrong token.
//! Deliberately absent: scripts; and a check of the request's origin, since nobody without the link can send it.

mod words;

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::TimeDelta;
use maud::{DOCTYPE, Markup, html};
use tokio::time::timeout;

use crate::access::{Rule, peer};
use crate::api::silences::starting;
use crate::{Server, assets};
use monitor_core::domain::{Acknowledgement, IncidentId, Label};
use monitor_core::links::{Link, LinkAct, LinkProblem};
use monitor_core::words::marked_line;
use monitor_store::{Correction, LinkOutcome, LinkUse, LinkedAct, StoreError};
use words::Words;

/// Longest form, in bytes.
const FORM_BYTES_MAX: usize = 4096;
/// Characters shown of a tweet, at most.
const TWEET_CHARS_MAX: usize = 1000;

/// The page that asks.
pub(crate) async fn ask(
    State(server): State<Arc<Server>>,
    Path(link): Path<String>,
    request: Request,
) -> Response {
    let words = Words::of(request.headers());
    let link = match open(&server, &link, &request, words) {
        Ok(link) => link,
        Err(refused) => return *refused,
    };
    in_time(words, server.question(&link, words)).await
}

/// The act.
pub(crate) async fn act(
    State(server): State<Arc<Server>>,
    Path(link): Path<String>,
    request: Request,
) -> Response {
    let words = Words::of(request.headers());
    let link = match open(&server, &link, &request, words) {
        Ok(link) => link,
        Err(refused) => return *refused,
    };
    let acted = async {
        let Ok(body) = to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
            return Ok(words.page(StatusCode::PAYLOAD_TOO_LARGE, words.too_long(), html! {}));
        };
        let chosen = url::form_urlencoded::parse(&body).find(|(key, _)| key == "label");
        let chosen = chosen.map(|(_, label)| label.into_owned());
        server.carry_out(&link, chosen.as_deref(), words).await
    };
    in_time(words, acted).await
}

/// The link, if it is one of ours and still works.
fn open(
    server: &Server,
    text: &str,
    request: &Request,
    words: Words,
) -> Result<Link, Box<Response>> {
    let peer = peer(request);
    server.access.count(peer).map_err(|failure| Box::new(failure.into_response()))?;
    let Some(key) = &server.context.links else {
        return Err(Box::new(words.page(StatusCode::NOT_FOUND, words.no_links(), html! {})));
    };
    key.open(text, server.context.clock.now()).map_err(|problem| {
        Box::new(match problem {
            LinkProblem::Invalid => match server.access.failed(peer) {
                Ok(()) => words.page(StatusCode::FORBIDDEN, words.invalid(), html! {}),
                Err(failure) => failure.into_response(),
            },
            LinkProblem::Expired(link) => {
                let until = html! { p { (words.expired_at(link.until)) } };
                words.page(StatusCode::GONE, words.expired(), until)
            }
        })
    })
}

/// The answer, or a page that says why there is none.
async fn in_time(
    words: Words,
    answer: impl Future<Output = Result<Response, StoreError>>,
) -> Response {
    match timeout(Rule::default().time_max, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) | Err(_) => words.page(StatusCode::SERVICE_UNAVAILABLE, words.away(), html! {}),
    }
}

impl Server {
    /// What a link would do, with a button.
    async fn question(&self, link: &Link, words: Words) -> Result<Response, StoreError> {
        let store = &*self.context.store;
        if let Some(used) = store.used_link(&link.once()).await? {
            return Ok(words.outcome(&LinkOutcome::Used(used)));
        }
        let (title, about) = match &link.act {
            LinkAct::Acknowledge { incident } => {
                let Some(incident) = store.incident(IncidentId(*incident)).await? else {
                    return Ok(words.outcome(&LinkOutcome::Missing));
                };
                if incident.resolved.is_some() {
                    return Ok(words.outcome(&LinkOutcome::Over));
                }
                (words.acknowledge(), words.acknowledge_hint(&incident))
            }
            LinkAct::Silence { brand, hours, .. } => {
                if self.knows(brand).is_err() {
                    return Ok(words.page(StatusCode::NOT_FOUND, words.no_brand(), html! {}));
                }
                (words.silence(brand, *hours), words.silence_hint())
            }
            LinkAct::NotNegative { tweet } => {
                let Some(tweet) = store.tweet(tweet).await? else {
                    return Ok(words.outcome(&LinkOutcome::Missing));
                };
                let line = marked_line(&tweet.text, &[], TWEET_CHARS_MAX).into_iter();
                let line: String = line.map(|piece| piece.text).collect();
                (words.not_negative().to_owned(), words.not_negative_hint(&line))
            }
        };
        let form = html! {
            (about)
            p { (words.in_the_name(&by(link))) }
            form method="post" {
                @if matches!(link.act, LinkAct::NotNegative { .. }) {
                    @for (label, checked) in [(Label::Neutral, true), (Label::Positive, false)] {
                        label {
                            input type="radio" name="label" value=(label.as_str()) checked[checked];
                            (words.label(label))
                        }
                    }
                    br;
                }
                button type="submit" class="primary" { (words.button(&link.act)) }
            }
            p class="quiet" { (words.works_once(link.until)) }
        };
        Ok(words.page(StatusCode::OK, &title, form))
    }

    /// Does what a link says; `label` is what a person has chosen.
    async fn carry_out(
        &self,
        link: &Link,
        label: Option<&str>,
        words: Words,
    ) -> Result<Response, StoreError> {
        let (at, by) = (self.context.clock.now(), by(link));
        let act = match &link.act {
            LinkAct::Acknowledge { incident } => LinkedAct::Acknowledge(
                IncidentId(*incident),
                Acknowledgement { at, by: by.clone(), note: String::new() },
            ),
            LinkAct::Silence { brand, hours, incident } => {
                if self.knows(brand).is_err() {
                    return Ok(words.page(StatusCode::NOT_FOUND, words.no_brand(), html! {}));
                }
                let time = TimeDelta::hours(i64::from(*hours));
                let reason = format!("by the link of incident {incident}");
                LinkedAct::Silence(starting(at, Some(brand.clone()), time, reason, by.clone()))
            }
            LinkAct::NotNegative { tweet } => {
                let label = label.and_then(Label::of_word).filter(|it| *it != Label::Negative);
                let Some(label) = label else {
                    return Ok(words.page(StatusCode::BAD_REQUEST, words.no_label(), html! {}));
                };
                let (tweet_id, by) = (tweet.clone(), by.clone());
                LinkedAct::Correct(Correction { tweet_id, label, by, at, text: String::new() })
            }
        };
        let using = LinkUse { link: link.once(), by, at, expires: link.until, act };
        let outcome = self.context.store.use_link(&using).await?;
        self.changed().await;
        Ok(words.outcome(&outcome))
    }
}

/// Who acts, for a history: by a link, which whoever holds it may use.
fn by(link: &Link) -> String {
    format!("{} (link)", link.who)
}

impl Words {
    /// What became of an act.
    fn outcome(self, outcome: &LinkOutcome) -> Response {
        let (status, title) = match outcome {
            LinkOutcome::Done => (StatusCode::OK, self.done()),
            LinkOutcome::Used(_) => (StatusCode::CONFLICT, self.used()),
            LinkOutcome::Over => (StatusCode::CONFLICT, self.over()),
            LinkOutcome::Missing => (StatusCode::NOT_FOUND, self.missing()),
        };
        let detail = match outcome {
            LinkOutcome::Used(used) => html! { p { (self.used_by(&used.by, used.at)) } },
            _ => html! {},
        };
        self.page(status, title, detail)
    }

    fn page(self, status: StatusCode, title: &str, body: Markup) -> Response {
        let assets = assets::folder();
        let page = html! {
            (DOCTYPE)
            html lang=(self.code()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex, nofollow";
                    title { "Monitor" }
                    link rel="icon" href={ (assets) "/icon.svg" };
                    link rel="stylesheet" href={ (assets) "/page.css" };
                }
                body { main class="act" { h1 { (title) } (body) } }
            }
        };
        let headers = [(header::CACHE_CONTROL, "no-store")];
        (status, headers, Html(page.into_string())).into_response()
    }
}
