//! Requests to the hub.
//!
//! **Invariant.** The token is sent to the hub's own host alone, wherever the hub redirects to; hf-hub's own
//! requests send it on (0.5.0). Deliberately absent: checks of what came.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;

use ureq::http::Response;
use ureq::{Agent, Body};

/// Redirects followed at most.
const REDIRECTS_MAX: usize = 5;
/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 16;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("{0}")]
    Request(#[from] ureq::Error),
    #[error("the header {0} is missing or invalid")]
    Header(&'static str),
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    Redirects,
    #[error("another process downloads it")]
    Locked,
    #[error("{0}")]
    Connection(#[source] io::Error),
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl TransferError {
    /// The HTTP status, if it is an error.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Request(ureq::Error::StatusCode(status)) => Some(*status),
            _ => None,
        }
    }
}

/// What the hub says of a file, as its headers have it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) commit: String,
    pub(super) etag: String,
    pub(super) bytes: u64,
}

/// Asks the hub with the token, and others without it.
#[derive(Clone)]
pub(super) struct Transfer {
    agent: Agent,
    token: Option<String>,
    /// `scheme://host:port` of the hub.
    origin: String,
}

impl Transfer {
    /// For the hub at `endpoint`.
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Self {
        let agent = concat!("monitor/", env!("CARGO_PKG_VERSION"));
        let agent = Agent::config_builder().max_redirects(0).user_agent(agent).build();
        Self { agent: agent.into(), token, origin: origin(endpoint).to_owned() }
    }

    /// What the hub says of the file at `url`: the headers of its first answer that has them, as
    /// the place it redirects to knows less.
    ///
    /// # Errors
    /// The hub cannot be reached, answers with an error, or lacks a header.
    pub(super) fn metadata(&self, url: &str) -> Result<Found, TransferError> {
        let (mut url, mut commit, mut etag) = (url.to_owned(), None, None);
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.get(&url, "bytes=0-0")?;
            let header = |name: &str| {
                let value = answer.headers().get(name)?;
                Some(value.to_str().ok()?.trim_matches('"').to_owned())
            };
            commit = commit.or_else(|| header("x-repo-commit"));
            etag = etag.or_else(|| header("x-linked-etag"));
            let size = match answer.status().is_redirection() {
                true => header("x-linked-size"),
                false => {
                    etag = etag.or_else(|| header("etag"));
                    let range = header("content-range");
                    Some(range.ok_or(TransferError::Header("content-range"))?)
                }
            };
            if let (Some(size), Some(commit), Some(etag)) = (&size, &commit, &etag) {
                let all = size.rsplit('/').next().unwrap_or_default();
                let bytes = all.parse().map_err(|_| TransferError::Header("content-range"))?;
                let etag = etag.replace('"', "");
                return Ok(Found { commit: commit.clone(), etag, bytes });
            }
            if !answer.status().is_redirection() {
                let missing = if commit.is_none() { "x-repo-commit" } else { "etag" };
                return Err(TransferError::Header(missing));
            }
            url = redirected(&url, &header("location").ok_or(TransferError::Header("location"))?);
        }
        Err(TransferError::Redirects)
    }

    /// Appends to the file `part` what is missing, and reports the bytes that are there.
    ///
    /// # Errors
    /// The connection or the disk fails, or the hub answers with an error.
    pub(super) fn download(
        &self,
        url: &str,
        part: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<(), TransferError> {
        let mut file = OpenOptions::new().append(true).create(true).open(part)?;
        if file.try_lock().is_err() {
            return Err(TransferError::Locked);
        }
        let mut done = file.metadata()?.len();
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.get(&url, &format!("bytes={done}-"))?;
            if answer.status().is_redirection() {
                let location = answer.headers().get("location").and_then(|it| it.to_str().ok());
                url = redirected(&url, location.ok_or(TransferError::Header("location"))?);
                continue;
            }
            // Asked for a part, some servers send the whole.
            if answer.status().as_u16() != 206 {
                file.set_len(0)?;
                done = 0;
            }
            let (mut body, mut piece) = (answer.into_body().into_reader(), vec![0; PIECE_BYTES]);
            loop {
                match body.read(&mut piece).map_err(TransferError::Connection)? {
                    0 => return Ok(file.sync_all()?),
                    read => {
                        file.write_all(&piece[..read])?;
                        done += read as u64;
                        progress(done);
                    }
                }
            }
        }
        Err(TransferError::Redirects)
    }

    /// The answer of one server, which may be a redirection. The token goes to the hub alone.
    fn get(&self, url: &str, range: &str) -> Result<Response<Body>, TransferError> {
        let mut request = self.agent.get(url).header("range", range);
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == self.origin) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Ok(request.call()?)
    }
}

/// The place that `location` names, as seen from `url`.
fn redirected(url: &str, location: &str) -> String {
    match location.starts_with('/') {
        true => format!("{}{location}", origin(url)),
        false => location.to_owned(),
    }
}

/// `scheme://host:port` of a URL.
fn origin(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find(['/', '?', '#']).map_or(url.len(), |at| from + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |url: &str, location: &str, expected: &str| {
            assert_eq!(redirected(url, location), expected, "{url} {location}");
        };
        check("https://hub.org/a/b?c", "/x/y", "https://hub.org/x/y");
        check("http://hub.org:8080", "/x", "http://hub.org:8080/x");
        check("https://hub.org/a", "https://cdn.net/x", "https://cdn.net/x");
        assert_eq!(origin("https://hub.org.evil.net/a"), "https://hub.org.evil.net");
        assert_eq!(origin("https://hub.org@evil.net/a"), "https://hub.org@evil.net");
    }
}
