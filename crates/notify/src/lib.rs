//! From outbox rows to mails, webhooks and chats.
//!
//! **Invariant.** Every attempt on a row goes out under the row's own key: as the mail's
//! Message-ID, as the webhook's id. A row is recorded as sent only once a receiver has
//! taken it, so a sender that dies in between is followed by another: at least once, and
//! a receiver can tell repeats by the key. Whether a failure may pass is the notifier's
//! word ([`Outcome`]); when to try again is [`backoff`]'s, when to leave a receiver alone
//! [`circuit`]'s.
//! Deliberately absent: order among notifications, and grouping of several into one; the
//! store leases an end after what it ends, and joins what is to be told together.

mod alertmanager;
pub mod backoff;
pub mod circuit;
mod curve;
mod dispatcher;
mod email;
pub mod heartbeat;
mod http;
mod mail;
mod slack;
mod teams;
mod webhook;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use monitor_config::{self as config, Delivery};

use monitor_core::Secret;
use monitor_store::OutboxRow;

pub use alertmanager::AlertmanagerNotifier;
pub use dispatcher::Dispatcher;
pub use email::{EmailNotifier, is_address};
pub use mail::Mail;
pub use slack::SlackNotifier;
pub use teams::TeamsNotifier;
pub use webhook::WebhookNotifier;

/// How an attempt to tell a receiver ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Sent,
    /// Some of the receiver's people took it, others did not.
    Partly {
        /// Who did not, and why; for people.
        reason: String,
        /// How long to wait before these are tried again; `None`: they never will take it.
        after: Option<Duration>,
    },
    /// It did not, but may later.
    Retry {
        /// What went wrong, for people.
        reason: String,
        /// The wait that the receiver asked for, if it did.
        after: Option<Duration>,
    },
    /// It did not and never will.
    Permanent {
        /// What went wrong, for people.
        reason: String,
    },
}

/// Tells one receiver.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Makes one attempt, at the wall-clock time `now`. May be cancelled at any point,
    /// and called again with the same row.
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome;
}

/// The notifiers of all receivers, by name: what the dispatcher sends by, and what tries a
/// receiver out.
///
/// # Errors
/// A receiver's settings cannot be used, or a file that holds a secret cannot be read; the
/// message names it.
pub fn notifiers(
    receivers: &BTreeMap<String, config::Receiver>,
    delivery: Delivery,
) -> Result<BTreeMap<String, Arc<dyn Notifier>>, NotifyError> {
    let timeout = Duration::from_millis(delivery.timeout_ms);
    let notifier = |name: &str, receiver: &config::Receiver| {
        Ok::<Arc<dyn Notifier>, NotifyError>(match receiver {
            config::Receiver::Email(s) => Arc::new(EmailNotifier::new(name, s, timeout)?),
            config::Receiver::Webhook(s) => Arc::new(WebhookNotifier::new(name, s, timeout)?),
            config::Receiver::Slack(s) => Arc::new(SlackNotifier::new(name, s, timeout)?),
            config::Receiver::Teams(s) => Arc::new(TeamsNotifier::new(name, s, timeout)?),
            config::Receiver::Alertmanager(s) => {
                Arc::new(AlertmanagerNotifier::new(name, s, timeout)?)
            }
        })
    };
    receivers.iter().map(|(name, r)| Ok((name.clone(), notifier(name, r)?))).collect()
}

/// Why a receiver's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A mail address does not parse.
    #[error("receivers.{receiver}: {address:?} is no mail address: {problem}")]
    Address {
        /// The receiver.
        receiver: String,
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The mail server's name cannot be used for TLS.
    #[error("receivers.{receiver}.host: {problem}")]
    Host {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The webhook's URL does not parse, or is neither http nor https. The URL itself is
    /// not shown: some carry a token.
    #[error("receivers.{receiver}.url: {problem}")]
    Url {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The secret is missing or malformed; it is not shown.
    #[error("receivers.{receiver}: {problem}")]
    Secret {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file that should hold the secret cannot be read.
    #[error("receivers.{receiver}: cannot read {path}: {source}", path = path.display())]
    SecretFile {
        /// The receiver.
        receiver: String,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file that should hold certificates cannot be used.
    #[error("receivers.{receiver}.ca_file: {path}: {problem}", path = path.display())]
    Certificates {
        /// The receiver.
        receiver: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No HTTP client can be made.
    #[error("receivers.{receiver}: cannot make an HTTP client: {problem}")]
    Client {
        /// The receiver.
        receiver: String,
        /// What went wrong.
        problem: String,
    },
    /// The heartbeat's URL cannot be used; it is not shown.
    #[error("heartbeat.url: {0}")]
    Heartbeat(String),
}

/// The secret given in the settings, or else in a file (without the line's end).
fn read_secret(
    receiver: &str,
    given: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, NotifyError> {
    match (given, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map(|text| Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
            .map_err(|source| NotifyError::SecretFile {
                receiver: receiver.to_owned(),
                path: path.clone(),
                source,
            }),
        (None, None) => Ok(None),
    }
}

/// A key as it may stand in mail and HTTP headers: letters, digits, `-` and `_` as they
/// are, all else as `%XX`. Standard Webhooks forbids the full stop in an id.
fn wire_key(key: &str) -> String {
    let mut wire = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            wire.push(char::from(byte));
        } else {
            wire.push_str(&format!("%{byte:02X}"));
        }
    }
    wire
}

/// An error and what lies beneath it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line.push_str(": ");
            line.push_str(&cause_text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_into_headers() {
        let check = |name, key, expected| assert_eq!(wire_key(key), expected, "{name}");
        check("plain", "incident-7-opened-comms", "incident-7-opened-comms");
        check("full stop and space", "incident-7-opened-a.b c", "incident-7-opened-a%2Eb%20c");
        check("no line gets in", "x\r\nBcc: y", "x%0D%0ABcc%3A%20y");
        check("beyond ASCII", "équipe", "%C3%A9quipe");
    }
}
