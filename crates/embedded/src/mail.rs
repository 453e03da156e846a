//! A mail server in this process, which keeps the mails that it receives.
//!
//! **Invariant.** [`MailServer::mails`] contains exactly the mails that were answered with 250.
//! Deliberately absent: relaying, and stopping before the process ends. The library cannot stop,
//! so its threads stay; after the guard is dropped the server answers 421.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use mailin_embedded::response::{AUTH_OK, INVALID_CREDENTIALS, NO_MAILBOX, NO_SERVICE, OK};
use mailin_embedded::{Action, AuthMechanism, Handler, Response, Server, SslConfig};

use super::{Doing, EmbeddedError};

/// Larger mails are rejected.
const MAIL_BYTES_MAX: usize = 10 << 20;

/// A received mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Sender of the envelope.
    pub from: String,
    /// Recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and body, unparsed.
    pub raw: Vec<u8>,
}

impl Mail {
    /// Headers and body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

/// How the server behaves; by default it accepts everything.
#[derive(Debug, Clone, Default)]
pub struct MailOptions {
    /// Recipients that it rejects permanently, with 550.
    pub refuse: Vec<String>,
    /// How many mails it rejects temporarily, with 451, before it accepts any.
    pub busy_times: u32,
    /// User and password that it requires. Offered only with `tls`, after STARTTLS.
    pub login: Option<(String, String)>,
    /// Certificate and key (PEM files) for STARTTLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The address to listen on; a free port by default.
    pub address: Option<SocketAddr>,
}

/// A running mail server.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    inbox: Arc<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    options: MailOptions,
    mails: Mutex<Vec<Mail>>,
    arrived: Condvar,
    busy_times_left: AtomicU32,
    closed: AtomicBool,
}

impl MailServer {
    /// Starts a server that accepts everything.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self, EmbeddedError> {
        Self::start_with(MailOptions::default())
    }

    /// Starts a server with options.
    ///
    /// # Errors
    /// The port is not free, or certificate and key do not match.
    pub fn start_with(options: MailOptions) -> Result<Self, EmbeddedError> {
        let address = options.address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let listener = TcpListener::bind(address).doing(format!("listen on {address}"))?;
        let address = listener.local_addr().doing("read the mail server's address")?;
        let inbox = Arc::new(Inbox {
            busy_times_left: AtomicU32::new(options.busy_times),
            options,
            ..Inbox::default()
        });
        let failed = |error: mailin_embedded::err::Error| EmbeddedError::Failed {
            what: format!("the mail server does not start: {error}"),
            log: String::new(),
        };
        let mut server = Server::new(Session::new(Arc::clone(&inbox)));
        server.with_name("localhost").with_tcp_listener(listener);
        if let Some((cert, key)) = &inbox.options.tls {
            let ssl = SslConfig::SelfSigned {
                cert_path: cert.display().to_string(),
                key_path: key.display().to_string(),
            };
            server.with_ssl(ssl).map_err(failed)?;
        }
        if inbox.options.login.is_some() {
            server.with_auth(AuthMechanism::Plain).with_auth(AuthMechanism::Login);
        }
        std::thread::Builder::new()
            .name("mail-server".into())
            .spawn(move || {
                if let Err(error) = server.serve() {
                    tracing::warn!(%error, "the embedded mail server ended");
                }
            })
            .doing("start the mail server's thread")?;
        Ok(Self { address, inbox })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All mails received so far, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        self.inbox.lock().clone()
    }

    /// Waits until `n` mails have arrived, at most `timeout`; returns all mails so far, which may
    /// be fewer. Blocks.
    pub fn wait_for(&self, n: usize, timeout: Duration) -> Vec<Mail> {
        let mails = self.inbox.lock();
        self.inbox
            .arrived
            .wait_timeout_while(mails, timeout, |mails| mails.len() < n)
            .expect("no holder of this lock panics")
            .0
            .clone()
    }

    /// Answers all clients with 421 (not available) until called with `false`.
    pub fn close(&self, closed: bool) {
        self.inbox.closed.store(closed, Ordering::SeqCst);
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.close(true);
    }
}

impl Inbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Mail>> {
        self.mails.lock().expect("no holder of this lock panics")
    }
}

/// Rejects a mail and closes the connection: after an error response the library would read the
/// client's next command as data.
fn refusal(code: u16, message: &str) -> Response {
    let mut response = Response::custom(code, message.into());
    response.action = Action::Close;
    response
}

/// The session of one client; the library clones a new one for each client.
#[derive(Debug, Clone)]
struct Session {
    inbox: Arc<Inbox>,
    mail: Mail,
    too_large: bool,
}

impl Session {
    fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            mail: Mail { from: String::new(), to: vec![], raw: vec![] },
            too_large: false,
        }
    }

    fn login(&self, user: &str, password: &str) -> Response {
        let known = self.inbox.options.login.as_ref();
        if known.is_some_and(|(u, p)| u == user && p == password) {
            AUTH_OK
        } else {
            INVALID_CREDENTIALS
        }
    }

    fn open(&self) -> Response {
        if self.inbox.closed.load(Ordering::SeqCst) { NO_SERVICE } else { OK }
    }
}

impl Handler for Session {
    fn helo(&mut self, _ip: IpAddr, _domain: &str) -> Response {
        self.open()
    }

    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        self.mail = Mail { from: from.into(), to: vec![], raw: vec![] };
        self.too_large = false;
        self.open()
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if self.inbox.options.refuse.iter().any(|refused| refused == to) {
            return NO_MAILBOX;
        }
        self.mail.to.push(to.into());
        OK
    }

    /// Rejects a mail temporarily here, before its content: after an error at the end of the
    /// content, the library would read the client's QUIT as content.
    fn data_start(
        &mut self,
        _domain: &str,
        _from: &str,
        _is8bit: bool,
        _to: &[String],
    ) -> Response {
        let busy = &self.inbox.busy_times_left;
        let was_busy =
            busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if was_busy.is_ok() { refusal(451, "Busy, try again") } else { OK }
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        if self.mail.raw.len() + line.len() > MAIL_BYTES_MAX {
            self.too_large = true;
        } else {
            self.mail.raw.extend_from_slice(line);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.too_large {
            return refusal(552, "Too large");
        }
        self.inbox.lock().push(self.mail.clone());
        self.inbox.arrived.notify_all();
        OK
    }

    fn auth_plain(&mut self, _authorization: &str, user: &str, password: &str) -> Response {
        self.login(user, password)
    }

    fn auth_login(&mut self, user: &str, password: &str) -> Response {
        self.login(user, password)
    }
}
