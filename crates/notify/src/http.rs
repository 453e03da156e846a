//! What all HTTP receivers share: sends one request and interprets the response.
//!
//! **Invariant.** A request goes only to the host of the settings: redirects are not followed,
//! proxies of the environment are not used, TLS certificates are verified, and unless
//! `allow_private` is set the connected address is public, whatever the name resolves to at
//! that time. At most [`DETAIL_BYTES_MAX`] bytes of an error response's body are read, and
//! nothing of a success response's. No error shows a URL's path or query, which may be a
//! secret, nor a response that repeats it.
//! Deliberately absent: a connection pool. Notifications are rare, and a new connection cannot
//! be stale.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, Url};

use monitor_config::{Endpoint, is_public};
use monitor_core::backoff::retry_after;

use super::words::line;
use super::{NotifyError, Outcome, chain, read_secret};

/// Bytes read of an error response's body, at most.
const DETAIL_BYTES_MAX: usize = 1024;
/// Characters shown of it, at most.
const DETAIL_CHARS_MAX: usize = 200;
/// How long to wait for the body: the status alone is enough to decide.
const DETAIL_WAIT_MAX: Duration = Duration::from_secs(1);
/// Shorter parts of a URL are not secrets, and may occur in a response by chance.
const SECRET_CHARS_MIN: usize = 8;

/// Permanent errors: the receiver rejects the body, or declares itself gone. All other errors
/// may pass, for example after a deployment, or with a new token or address.
const PERMANENT: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::GONE,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// Where one receiver's requests go.
pub(super) struct Target {
    receiver: String,
    endpoint: Endpoint,
    path: &'static str,
    client: Client,
}

impl Target {
    /// Prepares to post to `receiver`, with `path` appended to its URL; one attempt takes at
    /// most `timeout`. A URL in a file is read again at each attempt, so that it can be replaced
    /// while the daemon runs.
    ///
    /// # Errors
    /// The URL or the certificates are invalid; the message names the receiver.
    pub fn new(
        receiver: &str,
        endpoint: &Endpoint,
        path: &'static str,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let remedy = format!("set receivers.{receiver}.allow_private = true");
        let resolver = (!endpoint.allow_private).then_some(PublicOnly { remedy });
        let certificates = match &endpoint.ca_file {
            None => Vec::new(),
            Some(path) => certificates(path).map_err(|problem| NotifyError::Certificates {
                receiver: receiver.to_owned(),
                path: path.clone(),
                problem,
            })?,
        };
        let client = client(timeout, resolver, certificates)
            .map_err(|problem| NotifyError::Client { receiver: receiver.to_owned(), problem })?;
        let target =
            Self { receiver: receiver.to_owned(), endpoint: endpoint.clone(), path, client };
        target.url()?;
        Ok(target)
    }

    fn url(&self) -> Result<Url, NotifyError> {
        let bad = |problem: String| NotifyError::Url { receiver: self.receiver.clone(), problem };
        let Endpoint { url, url_file, allow_private, .. } = &self.endpoint;
        let text = read_secret(&self.receiver, url.as_ref(), url_file.as_ref())?
            .ok_or_else(|| bad("give it, or url_file".into()))?;
        let url = parse(text.expose()).map_err(bad)?;
        match literal(&url).filter(|address| !allow_private && !is_public(*address)) {
            Some(address) => Err(bad(private(&address.to_string(), &self.remedy()))),
            None => Ok(url),
        }
    }

    fn remedy(&self) -> String {
        format!("set receivers.{}.allow_private = true", self.receiver)
    }

    /// Posts JSON at the wall-clock time `now` and returns the outcome. If the response contains
    /// one of `secrets`, the outcome does not show it.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: String,
        secrets: &[&str],
        now: DateTime<Utc>,
    ) -> Outcome {
        let configured = match self.url() {
            Ok(url) => url,
            Err(error) => return Outcome::Retry { reason: error.to_string(), after: None },
        };
        let mut url = configured.clone();
        url.set_path(&format!("{}{}", configured.path().trim_end_matches('/'), self.path));
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let request = self.client.post(if self.path.is_empty() { configured.clone() } else { url });
        match request.header(header::CONTENT_TYPE, json).headers(headers).body(body).send().await {
            Ok(answer) => {
                let status = answer.status();
                let header = answer.headers().get(header::RETRY_AFTER).cloned();
                let body =
                    if status.is_success() { String::new() } else { beginning(answer).await };
                let detail = line(&without_secrets(body, &configured, secrets), DETAIL_CHARS_MAX);
                interpret(status, &detail, header.as_ref().and_then(|v| v.to_str().ok()), now)
            }
            Err(error) => Outcome::Retry { reason: chain(&error.without_url()), after: None },
        }
    }
}

/// An HTTP or HTTPS URL.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if ["http", "https"].contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        Err("give an http:// or https:// URL".into())
    }
}

/// The host of a URL if it is an IP address.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

fn private(what: &str, remedy: &str) -> String {
    format!("{what} is an address of this machine or of a private network; to allow it, {remedy}")
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| chain(&error))?;
    if found.is_empty() { Err("it contains no certificate (PEM)".into()) } else { Ok(found) }
}

/// Creates a client that follows the rules above; with `resolver`, it connects to public
/// addresses only. `certificates` are trusted in addition to the system's.
///
/// # Errors
/// TLS cannot be set up.
pub(super) fn client(
    timeout: Duration,
    resolver: Option<PublicOnly>,
    certificates: Vec<Certificate>,
) -> Result<Client, String> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .timeout(timeout)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("monitor/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(certificates);
    if let Some(resolver) = resolver {
        builder = builder.dns_resolver(resolver);
    }
    builder.build().map_err(|error| chain(&error))
}

/// Resolves names to public addresses only. The client connects to the addresses returned
/// here, so a name that resolves to another address a moment later (DNS rebinding) has no effect.
pub(super) struct PublicOnly {
    remedy: String,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let remedy = self.remedy.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<_> =
                found.iter().copied().filter(|address| is_public(address.ip())).collect();
            match found.first() {
                Some(address) if public.is_empty() => {
                    let what = format!("{}, {},", name.as_str(), address.ip());
                    Err(private(&what, &remedy).into())
                }
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// The beginning of a response's body.
async fn beginning(mut answer: Response) -> String {
    let mut read = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            read.extend_from_slice(&chunk[..chunk.len().min(DETAIL_BYTES_MAX - read.len())]);
            if read.len() == DETAIL_BYTES_MAX {
                break;
            }
        }
    };
    // After a timeout, the part read so far is enough.
    let _ = tokio::time::timeout(DETAIL_WAIT_MAX, reading).await;
    String::from_utf8_lossy(&read).into_owned()
}

/// Returns the body, or nothing if it repeats a secret or a part of the URL that may be one.
fn without_secrets(body: String, url: &Url, secrets: &[&str]) -> String {
    let path = url.path_segments().into_iter().flatten();
    let query = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    let login = [url.username(), url.password().unwrap_or("")];
    let repeats = path
        .chain(query)
        .chain(login)
        .filter(|part| part.chars().count() >= SECRET_CHARS_MIN)
        .chain(secrets.iter().copied())
        .any(|part| body.contains(part));
    if repeats { String::new() } else { body }
}

/// Interprets a response. `header` is the value of `Retry-After`, if any.
fn interpret(
    status: StatusCode,
    detail: &str,
    header: Option<&str>,
    now: DateTime<Utc>,
) -> Outcome {
    if status.is_success() {
        return Outcome::Sent;
    }
    let mut reason = format!("the receiver answered {status}");
    if status.is_redirection() {
        reason.push_str("; redirects are not followed");
    } else if !detail.is_empty() {
        reason.push_str(": ");
        reason.push_str(detail);
    }
    if PERMANENT.contains(&status) {
        Outcome::Permanent { reason }
    } else {
        Outcome::Retry { reason, after: header.and_then(|text| retry_after(text, now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::Secret;

    #[test]
    fn interprets_responses() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().expect("a time");
        let check = |name, status: u16, retry_after, expected: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match interpret(status, "words", retry_after, now) {
                Outcome::Sent => "sent".into(),
                Outcome::Retry { after: None, .. } => "retry".into(),
                Outcome::Retry { after: Some(wait), .. } => format!("retry in {wait:?}"),
                Outcome::Permanent { .. } => "permanent".to_owned(),
                Outcome::Partly { .. } => "partly".to_owned(),
            };
            assert_eq!(found, expected, "{name}");
        };
        check("ok", 200, None, "sent");
        check("accepted, as Teams says", 202, None, "sent");
        check("no content", 204, None, "sent");
        check("moved", 301, None, "retry");
        check("not modified", 304, None, "retry");
        check("bad request: Slack's invalid_payload, Alertmanager's 400", 400, None, "permanent");
        check("token rotated", 401, None, "retry");
        check("Slack's action_prohibited: an admin may lift it", 403, None, "retry");
        check("Slack's no_service: the URL may be replaced", 404, None, "retry");
        check("not there yet", 404, Some("60"), "retry in 60s");
        check("Slack's channel_is_archived", 410, Some("5"), "permanent");
        check("too large", 413, None, "permanent");
        check("not understood", 422, None, "permanent");
        check("request timeout", 408, None, "retry");
        check("slow down", 429, None, "retry");
        check("slow down, seconds", 429, Some(" 120 "), "retry in 120s");
        check("away, date", 503, Some("Thu, 01 Jan 2026 12:00:30 GMT"), "retry in 30s");
        check("away, past date", 503, Some("Thu, 01 Jan 2026 11:00:00 GMT"), "retry in 0ns");
        check("away, nonsense", 503, Some("soon"), "retry");
        check("negative", 503, Some("-3"), "retry");
        check("server error", 500, None, "retry");
    }

    #[test]
    fn drops_a_body_that_repeats_a_secret() {
        let url =
            Url::parse("https://u:password@h.example/services/T0/B0/hidden-part?sig=signature");
        let url = url.expect("a URL");
        let check = |name, words: &str, expected| {
            assert_eq!(without_secrets(words.into(), &url, &["token"]), expected, "{name}");
        };
        check("harmless", "no_service", "no_service");
        check("a part of the path", "Cannot POST /services/T0/B0/hidden-part", "");
        check("the query", "bad signature given", "");
        check("the login", "no such password", "");
        check("a token, however short", "token unknown", "");
        check("short parts of the path are not secrets", "T0 is away", "T0 is away");
    }

    #[test]
    fn rejects_invalid_urls() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let check = |name, url: Option<&str>, allow_private, expected: &str| {
            let endpoint = Endpoint {
                url: url.map(Secret::new),
                url_file: None,
                allow_private,
                ca_file: None,
            };
            let made = Target::new("hook", &endpoint, "", Duration::from_secs(1));
            let message = made.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(expected), "{name}: {message}");
            assert_eq!(message.is_empty(), expected.is_empty(), "{name}: {message}");
            assert!(!message.contains("hidden"), "{name}: {message}");
        };
        let remedy = "receivers.hook.url: 127.0.0.1 is an address of this machine or of a private \
                      network; to allow it, set receivers.hook.allow_private = true";
        check("good", Some("https://example.com/hidden"), false, "");
        check("none", None, false, "receivers.hook.url: give it, or url_file");
        check("no URL", Some("hidden"), false, "receivers.hook.url");
        check("not HTTP", Some("ftp://example.com/hidden"), false, "http:// or https://");
        check("this machine", Some("http://127.0.0.1/hidden"), false, remedy);
        check("this machine, allowed", Some("http://127.0.0.1/hidden"), true, "");
        check("this machine as a number", Some("http://2130706433/hidden"), false, remedy);
        check("mapped", Some("http://[::ffff:127.0.0.1]/hidden"), false, "allow_private");
        check("metadata", Some("http://169.254.169.254/hidden"), false, "allow_private");
    }

    #[test]
    fn resolves_names_to_public_addresses_only() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let resolver = PublicOnly { remedy: "set x".into() };
        let name: Name = "localhost".parse().expect("a name");
        let found = runtime.expect("a runtime").block_on(resolver.resolve(name));
        let message = found.err().expect("refused").to_string();
        assert!(message.starts_with("localhost, ") && message.ends_with("set x"), "{message}");
    }
}
