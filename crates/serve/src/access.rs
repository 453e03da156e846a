//! Who may do what: tokens, same-origin checks, and limits on requests.
//!
//! Without tokens, only this machine reaches the server (`http.listen` is checked at start), and
//! everybody on it may do everything. With tokens, a request names one: in the header
//! `Authorization: Bearer ...`, or in the cookie that `POST /login` sets for browsers.
//!
//! **Invariant.** Of a token only the SHA-256 is known, and it is compared in constant time.
//! A browser acts only from this server's own pages: a request that changes something and names
//! another origin is refused, and so is one to a host name that is not ours, or a page elsewhere
//! could reach this machine through a name of its own (DNS rebinding). Every request is limited
//! in body and time, and in rate, unless its route has a limit of its own ([`Rule::rated`]);
//! [`listen`](crate::listen) limits connections.
//! A signed link of a notification is a right of its own ([`act`](crate::act)).
//! Deliberately absent: users and passwords; a token's name says who acts.

mod rate;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use monitor_core::clock::Clock;

use crate::answer::Failure;
use crate::listen::Peer;
pub(crate) use rate::Rates;

/// The cookie that holds a browser's token.
pub(crate) const COOKIE: &str = "monitor_token";

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read pages, data and metrics; have texts scored.
    Read,
    /// Also acknowledge, silence, resolve and label.
    Act,
}

impl Right {
    /// The right that a method needs: reading methods change nothing.
    pub fn of(method: &Method) -> Self {
        if method.is_safe() { Self::Read } else { Self::Act }
    }
}

/// A token as the settings have it.
#[derive(Debug, Clone)]
pub struct Token {
    /// Whose it is; shown where its holder acts.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it allows.
    pub right: Right,
}

/// Who sends a request; an extension of each request behind [`Access::guard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token; `None` where no token is needed.
    pub token: Option<String>,
    /// What the caller may do.
    pub right: Right,
}

impl Caller {
    /// Who acts, for a history: the given name, with the token that vouches for it.
    pub fn by(&self, name: Option<&str>) -> String {
        let name = name.map(str::trim).filter(|name| !name.is_empty());
        match (name, &self.token) {
            (Some(name), Some(token)) if name != token => format!("{name} ({token})"),
            (Some(name), _) => name.to_owned(),
            (None, Some(token)) => token.clone(),
            (None, None) => "somebody on this machine".to_owned(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Failure::unauthorized("no caller"))
    }
}

/// What a group of routes asks of its callers.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The right needed; `None`: by method, see [`Right::of`].
    pub right: Option<Right>,
    /// Longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Longest time until a response begins.
    pub time_max: Duration,
    /// Whether requests of known callers count against the rate of their address; those of others
    /// always do.
    pub rated: bool,
}

impl Default for Rule {
    fn default() -> Self {
        let time_max = Duration::from_secs(30);
        Self { right: None, body_bytes_max: 64 << 10, time_max, rated: true }
    }
}

/// Checks requests. One for the whole server, shared by all its routers.
pub struct Access {
    tokens: Vec<Token>,
    /// Host names of `http.public_url`, which a reverse proxy passes on.
    public_hosts: Vec<String>,
    rates: Rates,
    clock: Arc<dyn Clock>,
}

struct Guard {
    access: Arc<Access>,
    rule: Rule,
}

impl Access {
    /// `public_url` is the address under which people reach the page, if not the one it listens on.
    pub fn new(tokens: Vec<Token>, public_url: Option<&str>, clock: Arc<dyn Clock>) -> Self {
        let public_hosts = public_url.and_then(host_of_url).into_iter().collect();
        Self { tokens, public_hosts, rates: Rates::default(), clock }
    }

    /// Puts the checks before all routes of `routes`; those behind it may extract a [`Caller`].
    pub fn guard<S: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        routes: Router<S>,
        rule: Rule,
    ) -> Router<S> {
        let guard = Arc::new(Guard { access: Arc::clone(self), rule });
        routes
            .layer(DefaultBodyLimit::max(rule.body_bytes_max))
            .layer(from_fn_with_state(guard, check))
    }

    /// Whether requests need a token.
    pub fn needs_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Host names under which a reverse proxy passes requests on.
    pub(crate) fn public_hosts(&self) -> &[String] {
        &self.public_hosts
    }

    /// The token that `text` is, if it is one.
    pub(crate) fn token(&self, text: &str) -> Option<&Token> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        // Looks at all of them, so that the time does not tell which one matched.
        self.tokens.iter().fold(None, |found, token| {
            if bool::from(token.sha256.ct_eq(&digest)) { Some(token) } else { found }
        })
    }

    /// Who sends a request with these headers; an error if nobody we know.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        if !self.needs_token() {
            if !self.is_our_host(headers) {
                return Err(Failure::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    "this host name is not served here: use 127.0.0.1 or localhost, or set \
                     http.public_url",
                ));
            }
            return Ok(Caller { token: None, right: Right::Act });
        }
        let Some(presented) = presented(headers) else {
            return Err(Failure::unauthorized(
                "a token is needed: send it as \"Authorization: Bearer ...\"",
            ));
        };
        match self.token(&presented) {
            Some(token) => Ok(Caller { token: Some(token.name.clone()), right: token.right }),
            None => Err(Failure::unauthorized("this token is not known")),
        }
    }

    /// Counts a failed attempt to present a token; an error after too many.
    pub(crate) fn failed(&self, peer: IpAddr) -> Result<(), Failure> {
        self.rates.failure(peer, self.clock.elapsed()).map_err(Failure::too_many)
    }

    /// Counts a request that needs no token; an error after too many.
    pub(crate) fn count(&self, peer: IpAddr) -> Result<(), Failure> {
        self.rates.request(peer, self.clock.elapsed()).map_err(Failure::too_many)
    }

    fn is_our_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = host(headers) else { return false };
        let name = name_of(host);
        let is_local = name == "localhost"
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_local || self.public_hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// The checks before a route.
async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let Guard { access, rule } = &*guard;
    let peer = peer(&request);
    match access.admit(rule, peer, request.method(), request.headers()) {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(failure) => return failure.into_response(),
    };
    match tokio::time::timeout(rule.time_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("no answer within {} s", rule.time_max.as_secs()),
        )
        .into_response(),
    }
}

impl Access {
    /// Who sends a request, if it may be sent; counts it, and wrong tokens.
    pub(crate) fn admit(
        &self,
        rule: &Rule,
        peer: IpAddr,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Caller, Failure> {
        let rate = || self.count(peer);
        if rule.rated {
            rate()?;
        }
        let caller = match self.caller(headers) {
            Ok(caller) => caller,
            Err(failure) => {
                if !rule.rated {
                    rate()?;
                }
                if presented(headers).is_some() {
                    self.failed(peer)?;
                }
                return Err(failure);
            }
        };
        if !method.is_safe() {
            same_origin(headers, &self.public_hosts)?;
        }
        if caller.right < rule.right.unwrap_or_else(|| Right::of(method)) {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "this token may only read; set its rights to \"act\"",
            ));
        }
        Ok(caller)
    }
}

/// The sender's address; unspecified in tests without a socket.
pub(crate) fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<Peer>>();
    info.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(Peer(at))| SocketAddr::ip(at))
}

/// Refuses a browser's request that comes from another site's page. Programs send neither header.
pub(crate) fn same_origin(headers: &HeaderMap, public_hosts: &[String]) -> Result<(), Failure> {
    let refused = || Failure::new(StatusCode::FORBIDDEN, "a page of another site may not act here");
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
    {
        return Err(refused());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let ours = host(headers).is_some_and(|host| authority_of(origin) == Some(host))
            || host_of_url(origin).is_some_and(|name| public_hosts.contains(&name));
        if !ours {
            return Err(refused());
        }
    }
    Ok(())
}

/// The token of a request: of the header, else of the cookie.
fn presented(headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        cookies.flat_map(|line| line.split(';')).find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then(|| value.to_owned())
        })
    })
}

/// The cookie that holds `token`; an empty token ends it. `None` if it has characters that a cookie
/// cannot hold.
pub(crate) fn cookie(token: &str, is_secure: bool) -> Option<HeaderValue> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\";,\\".contains(&b);
    let age = if token.is_empty() { 0 } else { 30 * 86_400 };
    let secure = if is_secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    if token.bytes().all(plain) { HeaderValue::from_str(&text).ok() } else { None }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// `host:port` of an URL.
fn authority_of(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', '?', '#']).next()
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn host_of_url(url: &str) -> Option<String> {
    let authority = authority_of(url)?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(name_of(host).to_ascii_lowercase()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
