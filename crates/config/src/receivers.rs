//! `[receivers.*]`: where notifications are sent.
//!
//! **Invariant.** Secrets are never printed, nor the path of a URL, which may be a secret.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Secret, layers};

/// `[receivers.<name>]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "layers::AnyReceiver")]
pub enum Receiver {
    /// Mail over SMTP.
    Email(Email),
    /// Signed JSON over HTTP.
    Webhook(Webhook),
    /// A Slack incoming webhook.
    Slack(Chat),
    /// A Microsoft Teams workflow webhook.
    Teams(Chat),
    /// Prometheus Alertmanager, API v2.
    Alertmanager(Alertmanager),
}

/// `kind = "email"`
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    /// Mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: SmtpTls,
    /// User name, if the server requires a login.
    pub username: Option<String>,
    /// Password of the login.
    pub password: Option<Secret>,
    /// File that contains the password, as an alternative.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// Sender address.
    pub from: String,
    /// Recipient addresses.
    pub to: Vec<String>,
}

/// How an SMTP connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(try_from = "String")]
pub enum SmtpTls {
    /// Unencrypted at first, then STARTTLS, which is required.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// Unencrypted; for a relay on this machine.
    None,
}

/// `kind = "webhook"`
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Where the JSON is posted.
    pub endpoint: Endpoint,
    /// Standard Webhooks secret, `whsec_` and base64.
    pub secret: Option<Secret>,
    /// File that contains the secret, as an alternative.
    pub secret_file: Option<PathBuf>,
    /// The previous secret, while it is being replaced: requests are signed with both.
    pub previous_secret: Option<Secret>,
    /// File that contains it, as an alternative.
    pub previous_secret_file: Option<PathBuf>,
}

/// `kind = "slack"` and `kind = "teams"`: the URL is the secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// Where messages are posted.
    pub endpoint: Endpoint,
}

/// `kind = "alertmanager"`
#[derive(Debug, Clone, PartialEq)]
pub struct Alertmanager {
    /// Its URL, such as `http://alertmanager:9093`; the API's path is added.
    pub endpoint: Endpoint,
    /// Bearer token, if it requires one.
    pub token: Option<Secret>,
    /// File that contains the token, as an alternative.
    pub token_file: Option<PathBuf>,
}

/// The settings of all HTTP receivers.
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    /// The URL; its path, which may be a secret, is never printed.
    pub url: Option<Secret>,
    /// File that contains the URL, as an alternative.
    pub url_file: Option<PathBuf>,
    /// Whether the URL may lead to this machine or to a private network.
    pub allow_private: bool,
    /// Certificates (PEM) trusted in addition to the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// Scheme, host and port of the URL: the part that may be printed.
    pub fn origin(&self) -> String {
        match (&self.url, &self.url_file) {
            (Some(url), _) => origin(url.expose()),
            (None, Some(file)) => format!("(the URL in {})", file.display()),
            (None, None) => "(no URL)".into(),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.origin())
            .field("url_file", &self.url_file)
            .field("allow_private", &self.allow_private)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// Scheme, host and port.
pub(super) fn origin(url: &str) -> String {
    url::Url::parse(url)
        .map_or_else(|_| "(no URL)".into(), |url| url.origin().ascii_serialization())
}
