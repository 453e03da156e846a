//! A session with a mail server: connect, secure, log in, deliver one mail.
//!
//! **Invariant.** With STARTTLS or TLS nothing but the greeting goes in the clear, and the
//! server's certificate must be good for its name. Only what a server says about the mail or
//! its recipient can be final; whatever goes wrong before that is about the server or the
//! settings, and may pass. What a server says is shown in one short line without the login's
//! secrets, should it repeat them.
//! Deliberately absent: a way to switch the check of certificates off; `ca_file` is there for
//! a company's own.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Category, Severity};

use crate::{NotifyError, chain, read_secret};
use monitor_config::{self as config, SmtpTls};

/// Characters shown of what a server says, at most.
const WORDS_MAX: usize = 300;
/// How long a server may take to say goodbye once it has taken the mail.
const FAREWELL: Duration = Duration::from_secs(1);

/// A mail server, and how to speak to it.
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
    /// The password in each form in which it travels, such as contain others first.
    secrets: [String; 3],
}

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refuses it to this recipient for good.
    Final(String),
    /// The server answers, but does not take it for this recipient now.
    Busy(String),
    /// It may be taken later.
    Passing(String),
}

impl Server {
    /// Prepares to speak to the server of the receiver called `name`, connecting within
    /// `timeout`; reads the files that hold its password and its certificates.
    ///
    /// # Errors
    /// The host, the login or a file cannot be used; the message names the receiver.
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

    /// Delivers one mail in a session of its own.
    pub async fn deliver(&self, envelope: &Envelope, content: &[u8]) -> Result<(), Failure> {
        let mut session = self.open().await.map_err(Failure::Passing)?;
        match session.send(envelope, content).await {
            Ok(_) => {
                // The mail is taken, whatever becomes of the farewell, which nobody waits for.
                tokio::spawn(async move { tokio::time::timeout(FAREWELL, session.quit()).await });
                Ok(())
            }
            // RFC 5321, 4.2.1: x5x is about the mail; x0x and x3x are about how we spoke.
            Err(error) => Err(match error.status().map(|code| (code.severity, code.category)) {
                Some((Severity::PermanentNegativeCompletion, Category::MailSystem)) => {
                    Failure::Final(self.told(&error))
                }
                Some((Severity::TransientNegativeCompletion, Category::MailSystem)) => {
                    Failure::Busy(self.told(&error))
                }
                _ => Failure::Passing(self.told(&error)),
            }),
        }
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
        .map_err(|error| format!("cannot connect to {name}: {}", self.told(&error)))?;
        if let Security::Starttls(tls) = &self.security {
            if !session.can_starttls() {
                session.abort().await;
                return Err(format!(
                    "{name} offers no STARTTLS, and mail must not travel in the clear; \
                     set tls = \"tls\" if it speaks TLS from the first byte"
                ));
            }
            session.starttls(tls.clone(), &hello).await.map_err(|error| {
                format!("cannot secure the way to {name}: {}", self.told(&error))
            })?;
        }
        if let Some(Login { user, credentials, .. }) = &self.login
            && let Err(error) = session.auth(DEFAULT_MECHANISMS, credentials).await
        {
            session.abort().await;
            return Err(format!("{name} refuses the login of {user:?}: {}", self.told(&error)));
        }
        Ok(session)
    }

    /// An error in one short line, without secrets.
    fn told(&self, error: &lettre::transport::smtp::Error) -> String {
        let mut words = chain(error);
        let secrets = self.login.iter().flat_map(|login| &login.secrets);
        for secret in secrets.filter(|secret| !secret.is_empty()) {
            words = words.replace(secret, "(hidden)");
        }
        let line = words.split(|c: char| c.is_whitespace() || c.is_control());
        let line = line.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(WORDS_MAX) {
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

/// What of TLS the settings ask for. The certificates of `ca_file` are trusted besides the
/// public ones.
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
            return Err(bad("it holds no certificate in PEM form".into()));
        }
        let certificate = Certificate::from_pem(pem.as_bytes()).map_err(|e| bad(chain(&e)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|e| NotifyError::Host { receiver: name.to_owned(), problem: chain(&e) })
}
