//! Mail over SMTP.
//!
//! **Invariant.** The Message-ID follows from the row's key, so a client that gets a mail
//! twice shows it once; the mail that resolves an incident answers the one that opened it.
//! Each recipient gets a delivery of their own: one bad address, or one slow exchange,
//! does not stop the others. Who has taken a row's mail is remembered until the row ends,
//! so a retry goes only to those who have not; a daemon that starts anew has forgotten, and
//! repeats under the same Message-ID.
//! Deliberately absent: a pool of connections. Alerts are few, and a fresh connection
//! cannot have gone stale.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{AsyncTransport, Message, Tokio1Executor};
use tokio::task::JoinSet;

use super::{Mail, Notifier, NotifyError, Outcome, chain, read_secret, wire_key};
use crate::config::{self, SmtpTls};
use crate::store::OutboxRow;

/// Rows whose recipients are remembered, at most; beyond that all are forgotten, which
/// costs a repeated mail.
const REMEMBERED_ROWS_MAX: usize = 1024;

/// Mails to a list of recipients through one server.
pub struct EmailNotifier {
    receiver: String,
    from: Mailbox,
    to: Vec<Mailbox>,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    public_url: Option<String>,
    timeout: Duration,
    settled: Mutex<Settled>,
}

/// By key, the recipients (by place) that need no further try, and whether they took it.
type Settled = HashMap<String, HashMap<usize, Result<(), String>>>;

impl EmailNotifier {
    /// Prepares to mail to the receiver called `name`. A delivery takes at most nine tenths
    /// of `timeout`, so that its outcome is known before the attempt is cut off at
    /// `timeout`. `public_url` is where the page is.
    ///
    /// # Errors
    /// An address, the host or the password file cannot be used; the message names the
    /// receiver.
    pub fn new(
        name: &str,
        settings: &config::Email,
        timeout: Duration,
        public_url: Option<&str>,
    ) -> Result<Self, NotifyError> {
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|e| NotifyError::Address {
                receiver: name.to_owned(),
                address: address.clone(),
                problem: e.to_string(),
            })
        };
        type Transport = AsyncSmtpTransport<Tokio1Executor>;
        let mut builder = match settings.tls {
            SmtpTls::Starttls => Transport::starttls_relay(&settings.host),
            SmtpTls::Tls => Transport::relay(&settings.host),
            SmtpTls::None => Ok(Transport::builder_dangerous(&settings.host)),
        }
        .map_err(|e| NotifyError::Host { receiver: name.to_owned(), problem: chain(&e) })?;
        builder = builder.port(settings.port).timeout(Some(timeout));
        let password =
            read_secret(name, settings.password.as_ref(), settings.password_file.as_ref())?;
        match (&settings.username, password) {
            (Some(user), Some(password)) => {
                let login = Credentials::new(user.clone(), password.expose().to_owned());
                builder = builder.credentials(login);
            }
            (None, None) => {}
            _ => {
                return Err(NotifyError::Secret {
                    receiver: name.to_owned(),
                    problem: "give username and password (or password_file) together".into(),
                });
            }
        }
        Ok(Self {
            receiver: name.to_owned(),
            from: mailbox(&settings.from)?,
            to: settings.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            transport: builder.build(),
            public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
            timeout: timeout * 9 / 10,
            settled: Mutex::default(),
        })
    }

    /// The Message-ID of a step's mail. The time at which the incident opened is part of
    /// it, so that incidents of two databases do not meet in one thread.
    fn message_id(&self, row: &OutboxRow, transition: &str) -> String {
        let n = &row.notification;
        let key = format!("incident-{}-{transition}-{}", n.incident_id, row.receiver);
        let domain = self.from.email.domain();
        format!("<{}.{}@{domain}>", wire_key(&key), n.opened_at.timestamp())
    }

    /// The mail of a row, addressed to all recipients.
    fn message(
        &self,
        row: &OutboxRow,
        now: DateTime<Utc>,
    ) -> Result<Message, lettre::error::Error> {
        let n = &row.notification;
        let key = wire_key(&row.key);
        let mail = Mail::of(n, self.public_url.as_deref());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(mail.subject)
            .date(now.into())
            .message_id(Some(self.message_id(row, &n.transition)))
            .raw_header(raw("Auto-Submitted", "auto-generated".into()))
            .raw_header(raw("X-Monitor-Key", key.clone()));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if n.transition != "opened" {
            let thread = self.message_id(row, "opened");
            builder = builder.in_reply_to(thread.clone()).references(thread);
        }
        // '=' and '_' together end no line of quoted-printable, so the boundary cannot
        // occur in the parts.
        let boundary = format!("=_{}", n.opened_at.timestamp());
        builder.multipart(
            MultiPart::alternative()
                .boundary(boundary)
                .singlepart(SinglePart::plain(mail.text))
                .singlepart(SinglePart::html(mail.html)),
        )
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, Settled> {
        self.settled.lock().expect("no holder of this lock panics")
    }

    fn settle(&self, key: &str, place: usize, how: Result<(), String>) {
        let mut settled = self.settled();
        if settled.len() >= REMEMBERED_ROWS_MAX && !settled.contains_key(key) {
            settled.clear();
        }
        settled.entry(key.to_owned()).or_default().insert(place, how);
    }
}

fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Whether an SMTP failure is about this recipient for good. A refused login or a refused
/// connection is about the settings or the server, and may pass.
fn is_final(error: &smtp::Error) -> bool {
    let login = ["530", "534", "535", "538"];
    error.status().is_some_and(|code| !login.contains(&code.to_string().as_str()))
        && error.is_permanent()
}

#[async_trait]
impl Notifier for EmailNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let message = match self.message(row, now) {
            Ok(message) => message,
            Err(error) => return Outcome::Permanent { reason: chain(&error) },
        };
        let content = message.formatted();
        let done: HashSet<usize> =
            self.settled().get(&row.key).into_iter().flat_map(HashMap::keys).copied().collect();
        // Dropped when the attempt is cancelled, and its deliveries with it.
        let mut deliveries = JoinSet::new();
        for (place, to) in self.to.iter().enumerate().filter(|(place, _)| !done.contains(place)) {
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]);
            let (transport, content) = (self.transport.clone(), content.clone());
            // lettre's own timeout ends with the connection's making.
            let limit = self.timeout;
            deliveries.spawn(async move {
                let envelope = envelope.expect("one recipient is enough for an envelope");
                let delivery = transport.send_raw(&envelope, &content);
                (place, tokio::time::timeout(limit, delivery).await)
            });
        }
        let mut waiting = Vec::new();
        while let Some(delivery) = deliveries.join_next().await {
            match delivery {
                Ok((place, Ok(Ok(_)))) => self.settle(&row.key, place, Ok(())),
                Ok((place, Err(_))) => {
                    let (to, ms) = (&self.to[place].email, self.timeout.as_millis());
                    waiting.push(format!("{to}: no end within {ms} ms"));
                }
                Ok((place, Ok(Err(error)))) => {
                    let reason = format!("{}: {}", self.to[place].email, chain(&error));
                    if is_final(&error) {
                        let receiver = &self.receiver;
                        tracing::warn!(receiver, reason, "a recipient was refused for good");
                        self.settle(&row.key, place, Err(reason));
                    } else {
                        waiting.push(reason);
                    }
                }
                Err(error) => waiting.push(error.to_string()),
            }
        }
        if !waiting.is_empty() {
            waiting.sort_unstable();
            return Outcome::Retry { reason: waiting.join("; "), after: None };
        }
        let ended = self.settled().remove(&row.key).unwrap_or_default();
        let mut refused: Vec<_> = ended.values().filter_map(|how| how.clone().err()).collect();
        if refused.len() < self.to.len() {
            Outcome::Sent
        } else {
            refused.sort_unstable();
            Outcome::Permanent { reason: refused.join("; ") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::mail::fixtures;

    fn settings() -> config::Email {
        config::Email {
            host: "mail.example.com".into(),
            port: 587,
            tls: SmtpTls::Starttls,
            username: None,
            password: None,
            password_file: None,
            from: "Monitor <monitor@example.com>".into(),
            to: vec!["Comms Team <comms@example.com>".into(), "boss@example.com".into()],
        }
    }

    fn notifier(settings: &config::Email) -> Result<EmailNotifier, NotifyError> {
        EmailNotifier::new("comms", settings, Duration::from_secs(1), None)
    }

    #[test]
    fn headers_are_as_documented() {
        let notifier = notifier(&settings()).expect("good settings");
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        for transition in ["opened", "resolved"] {
            let message = notifier.message(&fixtures::row(transition), now).expect("a message");
            let formatted = String::from_utf8(message.formatted()).expect("ASCII");
            let (head, _) = formatted.split_once("\r\n\r\n").expect("a head");
            insta::assert_snapshot!(format!("{transition}_headers"), head.replace("\r\n", "\n"));
        }
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let check = |name, change: &dyn Fn(&mut config::Email), expected: &str| {
            let mut settings = settings();
            change(&mut settings);
            let message = notifier(&settings).err().expect(name).to_string();
            assert!(message.starts_with("receivers.comms"), "{name}: {message}");
            assert!(message.contains(expected), "{name}: {message}");
        };
        check("sender", &|s| s.from = "nobody".into(), "\"nobody\"");
        check("recipient", &|s| s.to[1] = "a b@c".into(), "\"a b@c\"");
        check("half a login", &|s| s.username = Some("u".into()), "together");
        check("no such file", &|s| s.password_file = Some("no/such".into()), "no/such");
    }
}
