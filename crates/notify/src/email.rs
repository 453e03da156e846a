//! Mail over SMTP.
//!
//! **Invariant.** The Message-ID depends only on the row's key, so a client that receives a
//! mail twice shows it once. Later mails of an incident reply to the first one with the same
//! subject, so that all are in one thread.
//! Each recipient gets a separate delivery: an invalid address or a slow delivery does not
//! block the others. The notifier remembers who has the mail of a row until the row is done,
//! so a retry goes only to the others. A restarted daemon has forgotten, and repeats the mail
//! with the same Message-ID. Once one recipient has the mail, a full mailbox delays the row for
//! only a few attempts, because later mails of the thread wait for the row.
//! Deliberately absent: a connection pool. Alerts are rare, and a new connection cannot be
//! stale.

mod address;
mod smtp;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, MultiPart, SinglePart};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use monitor_config as config;
use monitor_store::OutboxRow;

use super::{Linker, Mail, Notifier, NotifyError, Outcome, chain, wire_key};
pub use address::{is_address, needs_smtputf8};
use smtp::{Failure, Server};

/// Rows whose recipients are remembered, at most. Beyond that all are forgotten, which can
/// repeat a mail.
const REMEMBERED_ROWS_MAX: usize = 1024;
/// Simultaneous SMTP sessions, at most: servers limit the sessions of one client.
const SESSIONS_MAX: usize = 5;
/// Attempts for recipients with a temporary failure, once other recipients have the mail.
const STRAGGLER_ATTEMPTS_MAX: u32 = 3;
/// The wait between these attempts. All attempts together take longer than the usual
/// greylisting of five minutes.
const STRAGGLER_WAIT: Duration = Duration::from_secs(180);

/// Connects to the mail server of the receiver `name` as for a mail, logs in, and sends none.
///
/// # Errors
/// The settings are invalid, or the server cannot be used; a message for people.
pub async fn reach_mail_server(
    name: &str,
    settings: &config::Email,
    timeout: Duration,
) -> Result<(), String> {
    let server = Server::new(name, settings, timeout).map_err(|error| error.to_string())?;
    let reached = tokio::time::timeout(timeout, server.reach()).await;
    reached.unwrap_or_else(|_| Err(format!("no answer within {} ms", timeout.as_millis())))
}

/// Sends mails to a list of recipients through one server.
pub struct EmailNotifier {
    receiver: String,
    from: Mailbox,
    to: Vec<Mailbox>,
    server: Arc<Server>,
    sessions: Arc<Semaphore>,
    timeout: Duration,
    linker: Option<Arc<Linker>>,
    progress: Mutex<ProgressByKey>,
}

/// The progress of rows, by key.
type ProgressByKey = HashMap<String, Progress>;

/// The progress of a row's mail.
#[derive(Default)]
struct Progress {
    /// The recipients (by index) that need no further attempt, and whether they have the mail.
    ended: HashMap<usize, Result<(), String>>,
    /// Attempts after which some recipients had the mail and others failed temporarily.
    straggling: u32,
}

impl EmailNotifier {
    /// Creates the notifier of the receiver `name`. A delivery takes at most nine tenths of
    /// `timeout`, so that its outcome is known before the whole attempt times out.
    ///
    /// # Errors
    /// An address, the host or a file is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Email,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let mailbox = |address: &String| {
            address::mailbox(address).map_err(|e| NotifyError::Address {
                receiver: name.to_owned(),
                address: address.clone(),
                problem: e.to_string(),
            })
        };
        Ok(Self {
            receiver: name.to_owned(),
            from: mailbox(&settings.from)?,
            to: settings.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            server: Arc::new(Server::new(name, settings, timeout)?),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            timeout: timeout * 9 / 10,
            linker: None,
            progress: Mutex::default(),
        })
    }

    /// Puts links with which people act into mails, each recipient's in their own name.
    #[must_use]
    pub fn with_links(self, linker: Option<Arc<Linker>>) -> Self {
        Self { linker, ..self }
    }

    /// The mail of a row for each recipient, in their order; a single one for all without links.
    async fn contents(
        &self,
        row: &OutboxRow,
        now: DateTime<Utc>,
    ) -> Result<Vec<Arc<Vec<u8>>>, Outcome> {
        let linker = self
            .linker
            .iter()
            .filter(|_| row.notification.digest.is_none() && row.notification.missed.is_empty());
        let recipients = linker.flat_map(|linker| {
            self.to.iter().map(move |to| linker.links(row, to.email.as_ref(), now))
        });
        let (links, notification) = (recipients.collect::<Vec<_>>(), row.notification.clone());
        let render = move || match &notification.digest {
            Some(digest) => vec![Mail::of_digest(digest, &notification.examples)],
            None if !notification.missed.is_empty() => vec![Mail::of_missed(&notification)],
            None if links.is_empty() => vec![Mail::of(&notification)],
            None => Mail::personal(&notification, &links),
        };
        // Drawing the picture takes a thread for a while.
        let mails = tokio::task::spawn_blocking(render).await;
        let mails =
            mails.map_err(|error| Outcome::Retry { reason: error.to_string(), after: None })?;
        let content = |mail| match self.message(row, mail, now) {
            Ok(message) => Ok(Arc::new(message.formatted())),
            Err(error) => Err(Outcome::Permanent { reason: chain(&error) }),
        };
        mails.into_iter().map(content).collect()
    }

    /// The Message-ID of the mail with this key. It depends on the key alone, because a reply
    /// knows only the key of the first mail.
    fn message_id(&self, key: &str) -> String {
        format!("<{}@{}>", wire_key(key), self.from.email.domain())
    }

    /// The mail of a row, addressed to all recipients.
    fn message(
        &self,
        row: &OutboxRow,
        mail: Mail,
        now: DateTime<Utc>,
    ) -> Result<Message, lettre::error::Error> {
        let n = &row.notification;
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(mail.subject)
            .date(now.into())
            .message_id(Some(self.message_id(&row.key)))
            .raw_header(raw("Auto-Submitted", "auto-generated".into()))
            .raw_header(raw("X-Monitor-Key", wire_key(&row.key)));
        if mail.urgent {
            builder = builder
                .raw_header(raw("Importance", "high".into()))
                .raw_header(raw("X-Priority", "1".into()));
        }
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if n.thread != row.key {
            let thread = self.message_id(&n.thread);
            builder = builder.in_reply_to(thread.clone()).references(thread);
        }
        // "=_" occurs neither in quoted-printable nor in base64, so the boundaries cannot occur
        // in the parts.
        let boundary = |part| format!("=_{part}_{}", n.opened_at.timestamp());
        let html = SinglePart::html(mail.html);
        let body = MultiPart::alternative()
            .boundary(boundary("bodies"))
            .singlepart(SinglePart::plain(mail.text));
        if mail.pictures.is_empty() {
            return builder.multipart(body.singlepart(html));
        }
        let related = MultiPart::related().boundary(boundary("picture")).singlepart(html);
        let related = mail.pictures.into_iter().fold(related, |related, picture| {
            let png = "image/png".parse().expect("a media type");
            related.singlepart(Attachment::new_inline(picture.id).body(Body::new(picture.png), png))
        });
        builder.multipart(body.multipart(related))
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, ProgressByKey> {
        self.progress.lock().expect("no holder of this lock panics")
    }

    fn finish(&self, key: &str, place: usize, outcome: Result<(), String>) {
        let mut rows = self.progress();
        if rows.len() >= REMEMBERED_ROWS_MAX && !rows.contains_key(key) {
            rows.clear();
        }
        rows.entry(key.to_owned()).or_default().ended.insert(place, outcome);
    }

    /// Whether the recipients with a temporary failure are tried again; `None` if no recipient
    /// has the mail yet: then the whole row is retried.
    fn stragglers(&self, key: &str) -> Option<bool> {
        let mut rows = self.progress();
        let progress = rows.get_mut(key)?;
        progress.ended.values().any(Result::is_ok).then(|| {
            progress.straggling += 1;
            progress.straggling < STRAGGLER_ATTEMPTS_MAX
        })
    }
}

fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

#[async_trait]
impl Notifier for EmailNotifier {
    fn takes_digests(&self) -> bool {
        true
    }

    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let contents = match self.contents(row, now).await {
            Ok(contents) => contents,
            Err(outcome) => return outcome,
        };
        let done: HashSet<usize> = self
            .progress()
            .get(&row.key)
            .map_or_else(HashSet::new, |progress| progress.ended.keys().copied().collect());
        // If the attempt is cancelled this is dropped, which cancels the deliveries.
        let mut deliveries = JoinSet::new();
        for (place, to) in self.to.iter().enumerate().filter(|(place, _)| !done.contains(place)) {
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]);
            let content = &contents[if contents.len() == 1 { 0 } else { place }];
            let (server, content) = (Arc::clone(&self.server), Arc::clone(content));
            let sessions = Arc::clone(&self.sessions);
            let limit = self.timeout;
            deliveries.spawn(async move {
                let envelope = envelope.expect("one recipient is enough for an envelope");
                let delivery = async {
                    let _session = sessions.acquire().await.expect("the semaphore is never closed");
                    server.deliver(&envelope, &content).await
                };
                let ended = tokio::time::timeout(limit, delivery).await;
                let cut_off = format!("no result within {} ms", limit.as_millis());
                (place, ended.unwrap_or(Err(Failure::Temporary(cut_off))))
            });
        }
        let mut busy = Vec::new();
        let mut server_answers = true;
        // The recipients, by what went wrong.
        let mut waiting: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        while let Some(delivery) = deliveries.join_next().await {
            match delivery {
                Ok((place, Ok(()))) => self.finish(&row.key, place, Ok(())),
                Ok((place, Err(Failure::Busy(reason)))) => {
                    busy.push((place, format!("{}: {reason}", self.to[place].email)));
                    waiting.entry(reason).or_default().insert(self.to[place].email.to_string());
                }
                Ok((place, Err(Failure::Temporary(reason)))) => {
                    server_answers = false;
                    waiting.entry(reason).or_default().insert(self.to[place].email.to_string());
                }
                Ok((place, Err(Failure::Permanent(reason)))) => {
                    let reason = format!("{}: {reason}", self.to[place].email);
                    let receiver = &self.receiver;
                    tracing::warn!(receiver, reason, "the server refused a recipient permanently");
                    self.finish(&row.key, place, Err(reason));
                }
                Err(error) => {
                    server_answers = false;
                    waiting.entry(error.to_string()).or_default().insert("a recipient".into());
                }
            }
        }
        if !waiting.is_empty() {
            let describe = |(reason, recipients): (String, BTreeSet<String>)| {
                format!("{}: {reason}", recipients.into_iter().collect::<Vec<_>>().join(", "))
            };
            let reasons: Vec<_> = waiting.into_iter().map(describe).collect();
            let reason = reasons.join("; ");
            let again = if server_answers { self.stragglers(&row.key) } else { None };
            match again {
                None => return Outcome::Retry { reason, after: None },
                Some(true) => return Outcome::Partly { reason, after: Some(STRAGGLER_WAIT) },
                Some(false) => {}
            }
            for (place, reason) in busy {
                self.finish(&row.key, place, Err(reason));
            }
        }
        let ended = self.progress().remove(&row.key).unwrap_or_default().ended;
        let mut refused: Vec<_> = ended.into_values().filter_map(Result::err).collect();
        refused.sort_unstable();
        let reason = refused.join("; ");
        match refused.len() {
            0 => Outcome::Sent,
            some if some < self.to.len() => Outcome::Partly { reason, after: None },
            _ => Outcome::Permanent { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::fixtures;

    fn settings() -> config::Email {
        config::Email {
            host: "mail.example.com".into(),
            port: 587,
            tls: config::SmtpTls::Starttls,
            username: None,
            password: None,
            password_file: None,
            ca_file: None,
            from: "Monitor <monitor@example.com>".into(),
            to: vec!["Comms Team <comms@example.com>".into(), "boss@example.com".into()],
        }
    }

    fn notifier(settings: &config::Email) -> Result<EmailNotifier, NotifyError> {
        EmailNotifier::new("comms", settings, Duration::from_secs(1))
    }

    #[test]
    fn headers_are_as_documented() {
        let notifier = notifier(&settings()).expect("valid settings");
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        for transition in ["opened", "updated", "resolved"] {
            let row = fixtures::row(transition);
            let mail = Mail::of(&row.notification);
            let message = notifier.message(&row, mail, now).expect("a message");
            let formatted = String::from_utf8(message.formatted()).expect("ASCII");
            let (head, _) = formatted.split_once("\r\n\r\n").expect("a head");
            insta::assert_snapshot!(format!("{transition}_headers"), head.replace("\r\n", "\n"));
        }
    }

    #[test]
    fn rejects_invalid_settings() {
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
        check("no such certificate", &|s| s.ca_file = Some("no/such".into()), "ca_file: no/such");
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        check("no certificate in the file", &|s| s.ca_file = Some(readme.into()), "no certificate");
    }
}
