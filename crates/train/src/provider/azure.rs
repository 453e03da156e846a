//! Azure Text Analytics, version 3.1: `POST {endpoint}/text/analytics/v3.1/sentiment`.
//!
//! Built from the service's public documents: the interface from `TextAnalytics.json`
//! (stable v3.1) in Azure/azure-rest-api-specs; ten documents a request and 5,120 text
//! elements a document from "Service limits for Azure AI Language"; text records of 1,000
//! characters from the same page; the bodies of 401, 403 and 429 from issues of the Azure
//! SDKs (azure-sdk-for-net 25014 and 34065, azure-sdk-for-python 25619).
//!
//! **Invariant.** A request that may be charged for is counted before it is sent, and no request
//! is sent that would exceed [`Limits::records_max`]. Redirects are not followed: text
//! and key are sent only to the endpoint. No error shows the endpoint or the key.
//! Deliberately absent: splitting of long documents; the service refuses a document that
//! is too long, and the run goes on.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::Serialize;

use monitor_core::Secret;
use monitor_core::backoff;
use monitor_core::clock::Clock;

use super::answer::{self, Batch};
use super::retry::{Next, Retry};

/// Documents of a request at most, for sentiment.
pub const BATCH_DOCUMENTS_MAX: usize = 10;
/// Characters of a text record, the unit of the bill; a started record counts whole.
const RECORD_CHARS: usize = 1_000;
/// Largest answer; ten documents of 5,120 characters with all their sentences need far less.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Shortest key. Real keys have 32 or 84 characters; a shorter one could occur in an answer by
/// chance and would be removed there.
const KEY_CHARS: std::ops::RangeInclusive<usize> = 16..=512;
/// The language of the texts; our own models know only English, too.
const LANGUAGE: &str = "en";

/// Limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Text records that may be charged for, over all requests.
    pub records_max: u64,
    /// One request takes at most this long.
    pub timeout: Duration,
    /// When to retry a failed request.
    pub retry: Retry,
}

/// What a run has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Requests sent.
    pub requests: u64,
    /// Requests that were retries.
    pub repeated: u64,
    /// Text records that may be charged for: those of every request except the
    /// rejected ones (redirected, 401, 403, 404, 429) and those that never reached the service.
    /// A request that failed halfway counts, although it may not be charged.
    #[serde(rename = "text_records_max")]
    pub records: u64,
    /// Time waited between attempts.
    #[serde(skip)]
    pub waited: Duration,
}

/// Why the service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The endpoint cannot be used; it is not shown.
    #[error(
        "the endpoint {0}; it should look like https://NAME.cognitiveservices.azure.com (the \
         resource's page \"Keys and Endpoint\" has it)"
    )]
    Endpoint(&'static str),
    /// The key cannot be used; it is not shown.
    #[error("the key does not look like one: it should be one word of 32 or 84 letters and digits")]
    Key,
    /// The HTTP client cannot be built.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// The batch has more documents than one request may have.
    #[error("{0} documents in one request; the service takes {BATCH_DOCUMENTS_MAX}")]
    TooMany(usize),
    /// The next request would exceed the limit.
    #[error(
        "the next request has {next} text records, {used} may have been charged for, and no more \
         than {max} are allowed{}", after(.last)
    )]
    Spent {
        /// Records of the request that was not sent.
        next: u64,
        /// Records sent before.
        used: u64,
        /// Records allowed.
        max: u64,
        /// Why this batch had to be sent again, if it was a retry.
        last: Option<String>,
    },
    /// 401 or 403.
    #[error(
        "the service denied access ({status}{complaint}); check that the key is one of the two on \
         the resource's page \"Keys and Endpoint\", that it belongs to this endpoint, and that the \
         resource's quota, network rules and subscription allow it"
    )]
    Denied {
        /// The status.
        status: StatusCode,
        /// The service's message.
        complaint: String,
    },
    /// Its certificate is not trusted; the endpoint's name is removed.
    #[error(
        "{0}; check the endpoint, this machine's clock and its certificates, and whether a proxy \
         intercepts the connection"
    )]
    Certificate(String),
    /// Another error that a retry would not change.
    #[error("the service refused the request ({status}{complaint}); {hint}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The service's message.
        complaint: String,
        /// What to do.
        hint: &'static str,
    },
    /// All attempts failed.
    #[error("the service failed {attempts} times, the last time so: {last}; try again later")]
    AttemptsSpent {
        /// Number of attempts.
        attempts: u32,
        /// The last error.
        last: String,
    },
    /// The service requests a longer wait than allowed.
    #[error(
        "the service asks to wait {} s, more than {} s; try again then: {last}",
        .asked.as_secs(), .max.as_secs()
    )]
    AskedTooLong {
        /// The requested wait.
        asked: Duration,
        /// The longest wait allowed.
        max: Duration,
        /// The error.
        last: String,
    },
    /// The answer does not have the documented form.
    #[error("the service's answer is invalid: {0}")]
    Answer(String),
}

fn after(last: &Option<String>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!("; it would be a repeat, after {last}"))
}

/// A client of one Azure resource; one batch at a time.
pub struct Azure {
    url: Url,
    key: Secret,
    client: reqwest::Client,
    limits: Limits,
    usage: Usage,
    clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct Input<'a> {
    documents: Vec<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    id: String,
    language: &'static str,
    text: &'a str,
}

/// How one attempt failed.
enum Failure {
    /// Temporary; `after` is the requested wait, `free` says that it is certainly not charged.
    Passing { reason: String, after: Option<Duration>, free: bool },
    /// A retry would fail in the same way.
    Final { error: ProviderError, free: bool },
}

/// Text records of a document on the bill: one per 1,000 characters started, at least one.
/// Characters are counted in UTF-16 units; a text has at least as many of these as of visible
/// characters, so the bill may be lower but not higher.
pub fn text_records(text: &str) -> u64 {
    text.encode_utf16().count().div_ceil(RECORD_CHARS).max(1) as u64
}

impl Azure {
    /// A client of the resource at `endpoint`, which must be https unless it is on this machine.
    ///
    /// # Errors
    /// Endpoint or key cannot be used; neither is shown.
    pub fn new(
        endpoint: &str,
        key: Secret,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ProviderError> {
        let graphic = |c: u8| c.is_ascii_graphic();
        if !KEY_CHARS.contains(&key.expose().len()) || !key.expose().bytes().all(graphic) {
            return Err(ProviderError::Key);
        }
        let (url, here) = address(endpoint)?;
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(limits.timeout)
            .user_agent(concat!("monitor/", env!("CARGO_PKG_VERSION")));
        if here {
            // Unencrypted requests must not go through a proxy.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| ProviderError::Client(chain(&error)))?;
        Ok(Self { url, key, client, limits, usage: Usage::default(), clock })
    }

    /// What the run has used so far, answered or not.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Sends at most ten texts, with retries. May be cancelled at any point; what was sent stays
    /// counted.
    ///
    /// # Errors
    /// [`ProviderError`]: there is no answer to any of the texts.
    pub async fn ask(&mut self, texts: &[&str]) -> Result<Batch, ProviderError> {
        if texts.len() > BATCH_DOCUMENTS_MAX {
            return Err(ProviderError::TooMany(texts.len()));
        }
        let documents = texts.iter().enumerate();
        let documents = documents
            .map(|(id, text)| Document { id: id.to_string(), language: LANGUAGE, text })
            .collect();
        let records = texts.iter().map(|text| text_records(text)).sum();
        let mut attempts = 0;
        let mut last = None;
        let input = Input { documents };
        loop {
            self.count(records, &last)?;
            let failure = match self.attempt(&input).await {
                Ok(body) => return answer::read(&body, texts.len()).map_err(ProviderError::Answer),
                Err(failure) => failure,
            };
            let free = match &failure {
                Failure::Passing { free, .. } | Failure::Final { free, .. } => *free,
            };
            if free {
                self.usage.records -= records;
            }
            let (reason, asked) = match failure {
                Failure::Final { error, .. } => return Err(error),
                Failure::Passing { reason, after, .. } => (reason, after),
            };
            attempts += 1;
            let wait = match self.limits.retry.next(attempts, asked, rand::random()) {
                Next::Wait(wait) => wait,
                Next::AttemptsSpent => {
                    return Err(ProviderError::AttemptsSpent { attempts, last: reason });
                }
                Next::AskedTooLong(asked) => {
                    let max = self.limits.retry.asked_max;
                    return Err(ProviderError::AskedTooLong { asked, max, last: reason });
                }
            };
            tracing::warn!(?wait, reason, "no answer; asking again");
            self.usage.waited += wait;
            last = Some(reason);
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts a request that is about to be sent, if the limit allows it.
    fn count(&mut self, records: u64, last: &Option<String>) -> Result<(), ProviderError> {
        let (used, max) = (self.usage.records, self.limits.records_max);
        if used + records > max {
            return Err(ProviderError::Spent { next: records, used, max, last: last.clone() });
        }
        self.usage.requests += 1;
        self.usage.repeated += u64::from(last.is_some());
        self.usage.records += records;
        Ok(())
    }

    /// Sends one request and reads its answer's body, with the key removed.
    async fn attempt(&self, input: &Input<'_>) -> Result<String, Failure> {
        let mut key = HeaderValue::from_str(self.key.expose()).expect("checked: visible ASCII");
        key.set_sensitive(true);
        let request = self.client.post(self.url.clone());
        let sent = request.header("ocp-apim-subscription-key", key).json(input).send().await;
        let answer = sent.map_err(|error| self.broken_off(error))?;
        let status = answer.status();
        if status.is_redirection() {
            let (complaint, hint) =
                (String::new(), "redirects are not followed: check the endpoint");
            return Err(refused(status, complaint, hint, true));
        }
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
        let after = after.and_then(|text| backoff::retry_after(text, self.clock.now()));
        let body = self.read_body(answer).await?.replace(self.key.expose(), "***");
        if status == StatusCode::OK {
            return Ok(body);
        }
        let complaint = answer::complaint(&body);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Final { error: ProviderError::Denied { status, complaint }, free: true }
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Failure::Passing { reason: format!("{status}{complaint}"), after, free: true }
            }
            StatusCode::REQUEST_TIMEOUT => {
                Failure::Passing { reason: format!("{status}{complaint}"), after, free: false }
            }
            _ if status.is_server_error() => {
                Failure::Passing { reason: format!("{status}{complaint}"), after, free: false }
            }
            StatusCode::NOT_FOUND => {
                let hint = "check that the endpoint is the resource's own, without a path, and \
                            that the resource is of the kind Language or Text Analytics";
                refused(status, complaint, hint, true)
            }
            _ => refused(status, complaint, "asking again would not help", false),
        })
    }

    /// Classifies a transport error.
    fn broken_off(&self, error: reqwest::Error) -> Failure {
        let free = error.is_connect();
        let error = error.without_url();
        let reason = without_host(&chain(&error), &self.url);
        if is_certificate(&error) {
            return Failure::Final { error: ProviderError::Certificate(reason), free };
        }
        Failure::Passing { reason, after: None, free }
    }

    async fn read_body(&self, mut answer: Response) -> Result<String, Failure> {
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| self.broken_off(error))? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                let problem = format!("it has more than {} MiB", ANSWER_BYTES_MAX / 1024 / 1024);
                return Err(Failure::Final { error: ProviderError::Answer(problem), free: false });
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

fn refused(status: StatusCode, complaint: String, hint: &'static str, free: bool) -> Failure {
    Failure::Final { error: ProviderError::Refused { status, complaint, hint }, free }
}

/// Removes the host name, which TLS errors about certificates contain.
fn without_host(text: &str, url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.is_empty() { text.to_owned() } else { text.replace(host, "***") }
}

/// Whether TLS rejects the server's certificate. An I/O error wraps its cause, and its `source`
/// is the cause's own source.
fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    let cause = match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|cause| cause as &(dyn Error + 'static)),
        None => error.source(),
    };
    matches!(error.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
        || cause.is_some_and(is_certificate)
}

/// The URL of the requests, and whether it is on this machine.
fn address(endpoint: &str) -> Result<(Url, bool), ProviderError> {
    let mut url =
        Url::parse(endpoint.trim()).map_err(|_| ProviderError::Endpoint("is not a URL"))?;
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    let here = host == "localhost" || ip.is_ok_and(|ip: IpAddr| ip.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && here) {
        return Err(ProviderError::Endpoint("must begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ProviderError::Endpoint("must not have a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ProviderError::Endpoint("must end with its name"));
    }
    let path = format!("{}/text/analytics/v3.1/sentiment", url.path().trim_end_matches('/'));
    url.set_path(&path);
    // Otherwise the service keeps the texts for 48 hours.
    url.set_query(Some("loggingOptOut=true"));
    Ok((url, here))
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::clock::SystemClock;

    #[test]
    fn checks_endpoints() {
        let check = |name, endpoint: &str, expected: Result<&str, &str>| {
            let found = address(endpoint);
            match (&found, expected) {
                (Ok((url, _)), Ok(expected)) => {
                    let all =
                        format!("{expected}/text/analytics/v3.1/sentiment?loggingOptOut=true");
                    assert_eq!(url.as_str(), all, "{name}");
                }
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part), "{name}: {error}");
                    assert!(!error.contains("hidden"), "{name} shows it: {error}");
                }
                _ => panic!("{name}: {found:?}"),
            }
        };
        let azure = "https://a.cognitiveservices.azure.com";
        check("plain", azure, Ok(azure));
        check("slash and space", " https://a.cognitiveservices.azure.com/ ", Ok(azure));
        check("behind a gateway", "https://g.example/ta/", Ok("https://g.example/ta"));
        check("on this machine", "http://127.0.0.1:5000", Ok("http://127.0.0.1:5000"));
        check("by name", "http://localhost:5000", Ok("http://localhost:5000"));
        check("version 6", "http://[::1]:5000/", Ok("http://[::1]:5000"));
        check("in the clear", "http://hidden.example", Err("https://"));
        check("nearly here", "http://localhost.hidden.example", Err("https://"));
        check("next door", "http://192.168.0.1/hidden", Err("https://"));
        check("another scheme", "ftp://localhost/hidden", Err("https://"));
        check("not a URL", "hidden", Err("is not a URL"));
        check("password", "https://u:hidden@a.example", Err("password"));
        check("query", "https://a.example/?key=hidden", Err("end with its name"));
    }

    #[test]
    fn checks_keys() {
        let limits =
            Limits { records_max: 1, timeout: Duration::from_secs(1), retry: Retry::default() };
        let check = |name, key: &str, good: bool| {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let endpoint = "https://a.example";
            let made = Azure::new(endpoint, Secret::new(key), limits, Arc::new(SystemClock::new()));
            assert_eq!(made.is_ok(), good, "{name}");
            if let Err(error) = made {
                let shown = format!("{error} {error:?}");
                assert!(key.is_empty() || !shown.contains(key), "{name}: {shown}");
            }
        };
        check("as they are", "0123456789abcdef0123456789abcdef", true);
        check("empty", "", false);
        check("short", "hidden", false);
        check("two words", "hidden-hidden-hidden hidden", false);
        check("two lines", "hidden-hidden-hidden\r\nX-Evil: 1", false);
        check("beyond ASCII", "hiddén-hidden-hidden-hidden", false);
        check("a whole file", &"hidden".repeat(1_000), false);
    }

    #[test]
    fn counts_text_records() {
        let check = |name, text: &str, expected| assert_eq!(text_records(text), expected, "{name}");
        check("empty", "", 1);
        check("a tweet", "we love you", 1);
        check("just one", &"a".repeat(1_000), 1);
        check("begun", &"a".repeat(1_001), 2);
        check("counts in UTF-16", &"😡".repeat(501), 2);
    }
}
