//! A session with a mail server: connect, secure, log in, deliver one mail.
//!
//! **Invariant.** With STARTTLS or TLS only the greeting is sent unencrypted, and the server's
//! certificate must be valid for its name. Only a response about the mail or its recipient can
//! be permanent; a failure before that concerns the server or the settings, and is temporary.
//! Server messages are shown in one short line, without the login's secrets if they repeat them.
//! Deliberately absent: a way to disable certificate verification; use `ca_file` for a private
//! certificate authority.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Severity};

use monitor_config::{self as config, SmtpTls};

use crate::{NotifyError, chain, read_secret};

/// Characters shown of a server message, at most.
const MESSAGE_CHARS_MAX: usize = 300;
/// Timeout of the QUIT command after the mail was accepted.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// A mail server and how to connect to it.
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    login: Option<Login>,
    timeout: Duration,
}

enum Security {
    None,
    Starttls(TlsParameters),
    Tls(TlsParameters),
}

struct Login {
    user: String,
    credentials: Credentials,
    /// The password in each encoding that is sent; one that contains another comes first.
    secrets: [String; 3],
}

/// Why a mail was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refuses it permanently for this recipient.
    Permanent(String),
    /// The server responds, but does not accept it for this recipient now.
    Busy(String),
    /// The server cannot be used now.
    Temporary(String),
}

impl Server {
    /// Reads the settings of the receiver `name`, and the files with its password and its
    /// certificates. `timeout` limits connecting.
    ///
    /// # Errors
    /// The host, the login or a file is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Email,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let security = match settings.tls {
            SmtpTls::None => Security::None,
            SmtpTls::Starttls => Security::Starttls(tls(name, settings)?),
            SmtpTls::Tls => Security::Tls(tls(name, settings)?),
        };
        let password =
            read_secret(name, settings.password.as_ref(), settings.password_file.as_ref())?;
        let login = match (&settings.username, password) {
            (Some(user), Some(password)) => Some(Login::new(user, password.expose())),
            (None, None) => None,
            _ => {
                return Err(NotifyError::Secret {
                    receiver: name.to_owned(),
                    problem: "give username and password (or password_file) together".into(),
                });
            }
        };
        Ok(Self { host: settings.host.clone(), port: settings.port, security, login, timeout })
    }

    /// Delivers one mail in its own session.
    pub async fn deliver(&self, envelope: &Envelope, content: &[u8]) -> Result<(), Failure> {
        let mut session = self.open().await.map_err(Failure::Temporary)?;
        match session.send(envelope, content).await {
            Ok(_) => {
                // The mail is accepted, whatever QUIT returns; do not wait for it.
                tokio::spawn(
                    async move { tokio::time::timeout(QUIT_TIMEOUT, session.quit()).await },
                );
                Ok(())
            }
            // RFC 5321, 4.2.1: x5x is about the mail system; x0x and x3x are about the protocol.
            Err(error) => Err(match error.status().map(|code| (code.severity, code.category)) {
                Some((Severity::PermanentNegativeCompletion, Category::MailSystem)) => {
                    Failure::Permanent(self.message(&error))
                }
                Some((Severity::TransientNegativeCompletion, Category::MailSystem)) => {
                    Failure::Busy(self.message(&error))
                }
                _ => Failure::Temporary(self.message(&error)),
            }),
        }
    }

    /// Opens a session and ends it.
    pub async fn reach(&self) -> Result<(), String> {
        let mut session = self.open().await?;
        // The server let us in, whatever QUIT returns.
        let _ = tokio::time::timeout(QUIT_TIMEOUT, session.quit()).await;
        Ok(())
    }

    /// Connects, secures the connection, logs in.
    async fn open(&self) -> Result<AsyncSmtpConnection, String> {
        let (name, hello) = (format!("{}:{}", self.host, self.port), ClientId::default());
        let wrapper = match &self.security {
            Security::Tls(tls) => Some(tls.clone()),
            Security::None | Security::Starttls(_) => None,
        };
        let mut session = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(self.timeout),
            &hello,
            wrapper,
            None,
        )
        .await
        .map_err(|error| format!("cannot connect to {name}: {}", self.message(&error)))?;
        if let Security::Starttls(tls) = &self.security {
            if !session.can_starttls() {
                session.abort().await;
                return Err(format!(
                    "{name} offers no STARTTLS, and mail must not be sent unencrypted; \
                     set tls = \"tls\" if it speaks TLS from the first byte"
                ));
            }
            session.starttls(tls.clone(), &hello).await.map_err(|error| {
                format!("cannot secure the connection to {name}: {}", self.message(&error))
            })?;
        }
        if let Some(Login { user, credentials, .. }) = &self.login
            && let Err(error) = session.auth(DEFAULT_MECHANISMS, credentials).await
        {
            session.abort().await;
            return Err(format!("{name} rejects the login of {user:?}: {}", self.message(&error)));
        }
        Ok(session)
    }

    /// An error in one short line, without secrets.
    fn message(&self, error: &lettre::transport::smtp::Error) -> String {
        let mut text = chain(error);
        let secrets = self.login.iter().flat_map(|login| &login.secrets);
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "(hidden)");
        }
        let line = text.split(|c: char| c.is_whitespace() || c.is_control());
        let line = line.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(MESSAGE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

impl Login {
    fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            credentials: Credentials::new(user.to_owned(), password.to_owned()),
            secrets: [
                BASE64_STANDARD.encode(format!("\0{user}\0{password}")),
                BASE64_STANDARD.encode(password),
                password.to_owned(),
            ],
        }
    }
}

/// The TLS parameters. The certificates of `ca_file` are trusted in addition to the public
/// ones.
fn tls(name: &str, settings: &config::Email) -> Result<TlsParameters, NotifyError> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let bad = |problem: String| NotifyError::Certificates {
            receiver: name.to_owned(),
            path: path.clone(),
            problem,
        };
        let pem = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(bad("it contains no certificate in PEM form".into()));
        }
        let certificate = Certificate::from_pem(pem.as_bytes()).map_err(|e| bad(chain(&e)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|e| NotifyError::Host { receiver: name.to_owned(), problem: chain(&e) })
}
