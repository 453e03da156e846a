//! The page that asks a browser for a token, and the cookie that remembers it.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{DOCTYPE, html};

use crate::Server;
use crate::access::{self, cookie, peer, same_origin};
use crate::answer::Failure;
use crate::assets;

/// Longest form, in bytes.
const FORM_BYTES_MAX: usize = 4096;

/// The form; `is_wrong` after a token that is not known.
pub fn form(is_wrong: bool) -> Response {
    let assets = assets::folder();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Monitor" }
                link rel="icon" href={ (assets) "/icon.svg" };
                link rel="stylesheet" href={ (assets) "/page.css" };
                script src={ (assets) "/login.js" } defer {}
            }
            body {
                main class="login" {
                    h1 { "Monitor" }
                    form method="post" action="/login" {
                        label for="token" { "Access token " span lang="fr" { "/ Jeton d’accès" } }
                        input id="token" name="token" type="password" required
                            autocomplete="current-password" autofocus;
                        @if is_wrong {
                            p role="alert" class="wrong" {
                                "This token is not known. "
                                span lang="fr" { "Ce jeton est inconnu." }
                            }
                        }
                        button type="submit" { "Sign in " span lang="fr" { "/ Se connecter" } }
                    }
                }
            }
        }
    };
    (StatusCode::UNAUTHORIZED, Html(page.into_string())).into_response()
}

/// Takes the token of the form.
pub(crate) async fn login(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (peer, headers) = (peer(&request), request.headers().clone());
    if let Err(failure) = same_origin(&headers, server.access.public_hosts()) {
        return failure.into_response();
    }
    let Ok(body) = to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "this is no token").into_response();
    };
    let token = url::form_urlencoded::parse(&body).find(|(key, _)| key == "token");
    let token = token.map_or(String::new(), |(_, value)| value.trim().to_owned());
    let known = server.access.token(&token).is_some();
    // The browser sends the cookie over https only, if that is how people come.
    let is_secure = server.context.public_url.as_deref().is_some_and(|it| it.starts_with("https:"));
    match cookie(&token, is_secure).filter(|_| known) {
        Some(cookie) => signed(cookie),
        None => match server.access.failed(peer) {
            Ok(()) => form(true),
            Err(failure) => failure.into_response(),
        },
    }
}

/// Forgets the token.
pub(crate) async fn logout(State(server): State<Arc<Server>>, request: Request) -> Response {
    if let Err(failure) = same_origin(request.headers(), server.access.public_hosts()) {
        return failure.into_response();
    }
    signed(access::cookie("", false).expect("an empty token fits a cookie"))
}

fn signed(cookie: HeaderValue) -> Response {
    let mut response = Redirect::to("/").into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}
