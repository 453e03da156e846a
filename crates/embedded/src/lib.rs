//! Services that run on this machine without Docker, for the demo and the tests: brokers, a
//! Postgres server, a mail server.
//!
//! **Invariant.** Each service ends when its guard is dropped, and when this process ends,
//! `kill -9` included. Everything listens on 127.0.0.1 and on a free port.
//! Deliberately absent: anything that the daemon needs; `monitor run` does not use this crate.

mod broker;
mod child;
mod kafka;
mod mail;
mod nisshi;
mod postgres;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

pub use broker::MockBroker;
pub use child::Child;
pub use kafka::{Kafka, KafkaOptions};
pub use mail::{Mail, MailOptions, MailServer};
pub use nisshi::{Nisshi, Storage};
pub use postgres::{Postgres, PostgresOptions, with_database};

/// Why a service did not start, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The program is missing or cannot be run; the message contains the remedy.
    #[error("{0}")]
    Missing(String),
    /// An operation on a file or process failed.
    #[error("could not {doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The service ended, or did not become ready.
    #[error("{what}{}{log}", if .log.is_empty() { "" } else { "; it logged:\n" })]
    Failed {
        /// What happened.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// A statement of the embedded Postgres failed.
    #[error("embedded Postgres: {0}")]
    Sql(#[from] sqlx::Error),
    /// librdkafka returned an error.
    #[error("librdkafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// Adds the operation to an [`io::Error`].
trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, EmbeddedError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { doing: what.into(), source })
    }
}

/// A port that was free a moment ago; another process may bind it first.
fn free_port() -> Result<u16, EmbeddedError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .doing("find a free port")
}

/// The folder for the downloads of `scripts/setup`; the same rule as in `scripts/lib.sh`.
fn cache() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = var("MONITOR_CACHE") {
        return Some(dir.into());
    }
    if child::is_root() {
        return Some("/var/cache/monitor".into());
    }
    let base = var("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| var("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(base.join("monitor"))
}

/// The last lines of a log file, for an error message.
fn log_tail(path: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
