//! Sends outbox rows as mails, webhooks, chat messages and Alertmanager alerts.
//!
//! **Invariant.** Every attempt to send a row uses the row's key as idempotency key: as the
//! mail's Message-ID, as the webhook's id. A row is recorded as sent only after a receiver has
//! accepted it. So delivery is at least once, and a receiver can deduplicate by the key. The
//! notifier decides whether a failure is temporary ([`Outcome`]), [`backoff`] when to retry,
//! [`circuit`] when to pause a receiver.
//! Deliberately absent: the order of notifications, and grouping. The store leases a resolve
//! only after the notification that opened the incident, and joins grouped notifications.

mod alertmanager;
pub mod backoff;
pub mod circuit;
mod curve;
mod dispatcher;
mod email;
pub mod heartbeat;
mod http;
mod links;
mod mail;
mod missed;
mod phases;
mod slack;
mod teams;
mod themes;
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
pub use email::{EmailNotifier, is_address, needs_smtputf8, reach_mail_server};
pub use links::Linker;
pub use mail::{Mail, Picture, digest_page};
pub use slack::SlackNotifier;
pub use teams::TeamsNotifier;
pub use webhook::WebhookNotifier;

/// The outcome of an attempt to notify a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver accepted the notification.
    Sent,
    /// Some recipients of the receiver accepted it, others did not.
    Partly {
        /// Which recipients did not, and why; a message for people.
        reason: String,
        /// How long to wait before those are tried again; `None` if their refusal is permanent.
        after: Option<Duration>,
    },
    /// The attempt failed, but a later one may succeed.
    Retry {
        /// What went wrong; a message for people.
        reason: String,
        /// The wait that the receiver asked for, if any.
        after: Option<Duration>,
    },
    /// The receiver refused it permanently.
    Permanent {
        /// What went wrong; a message for people.
        reason: String,
    },
}

/// Sends notifications to one receiver.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Makes one attempt, at the wall-clock time `now`. May be cancelled at any point,
    /// and called again with the same row.
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome;

    /// Whether it can send the weekly digest.
    fn takes_digests(&self) -> bool {
        false
    }
}

/// Creates the notifiers of all receivers, by name; mails and Slack messages get links of `linker`.
///
/// # Errors
/// A receiver's settings are invalid, or a file that contains a secret cannot be read; the
/// message names it.
pub fn notifiers(
    receivers: &BTreeMap<String, config::Receiver>,
    delivery: Delivery,
    linker: Option<&Arc<Linker>>,
) -> Result<BTreeMap<String, Arc<dyn Notifier>>, NotifyError> {
    let timeout = Duration::from_millis(delivery.timeout_ms);
    let notifier = |name: &str, receiver: &config::Receiver| {
        Ok::<Arc<dyn Notifier>, NotifyError>(match receiver {
            config::Receiver::Email(s) => {
                Arc::new(EmailNotifier::new(name, s, timeout)?.with_links(linker.cloned()))
            }
            config::Receiver::Webhook(s) => Arc::new(WebhookNotifier::new(name, s, timeout)?),
            config::Receiver::Slack(s) => {
                Arc::new(SlackNotifier::new(name, s, timeout)?.with_links(linker.cloned()))
            }
            config::Receiver::Teams(s) => Arc::new(TeamsNotifier::new(name, s, timeout)?),
            config::Receiver::Alertmanager(s) => {
                Arc::new(AlertmanagerNotifier::new(name, s, timeout)?)
            }
        })
    };
    receivers.iter().map(|(name, r)| Ok((name.clone(), notifier(name, r)?))).collect()
}

/// Why a receiver's settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A mail address is invalid.
    #[error("receivers.{receiver}: {address:?} is not a mail address: {problem}")]
    Address {
        /// The receiver.
        receiver: String,
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The mail server's name is invalid for TLS.
    #[error("receivers.{receiver}.host: {problem}")]
    Host {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The URL is invalid, or its scheme is neither http nor https. The URL itself is not
    /// shown: it may contain a token.
    #[error("receivers.{receiver}.url: {problem}")]
    Url {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The secret is missing or malformed. It is not shown.
    #[error("receivers.{receiver}: {problem}")]
    Secret {
        /// The receiver.
        receiver: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file with the secret cannot be read.
    #[error("receivers.{receiver}: cannot read {path}: {source}", path = path.display())]
    SecretFile {
        /// The receiver.
        receiver: String,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file with certificates is invalid.
    #[error("receivers.{receiver}.ca_file: {path}: {problem}", path = path.display())]
    Certificates {
        /// The receiver.
        receiver: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client cannot be created.
    #[error("receivers.{receiver}: cannot create an HTTP client: {problem}")]
    Client {
        /// The receiver.
        receiver: String,
        /// What went wrong.
        problem: String,
    },
    /// The key of the links cannot be used. It is not shown.
    #[error("{0}")]
    Links(String),
    /// The heartbeat's URL is invalid. It is not shown.
    #[error("heartbeat.url: {0}")]
    Heartbeat(String),
}

/// Returns the secret of the settings, or else of the file (without the line break at the end).
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

/// Encodes a key for mail and HTTP headers: letters, digits, `-` and `_` stay, every other
/// byte becomes `%XX`. Standard Webhooks forbids the full stop in an id.
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

/// An error and its causes, in one line.
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
    fn encodes_keys_for_headers() {
        let check = |name, key, expected| assert_eq!(wire_key(key), expected, "{name}");
        check("plain", "incident-7-opened-comms", "incident-7-opened-comms");
        check("full stop and space", "incident-7-opened-a.b c", "incident-7-opened-a%2Eb%20c");
        check("line breaks", "x\r\nBcc: y", "x%0D%0ABcc%3A%20y");
        check("not ASCII", "équipe", "%C3%A9quipe");
    }
}
