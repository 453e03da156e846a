//! HTTP receivers that are faulty, use a private certificate authority, or have a private
//! address; the request of each service; and that no secret is logged.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use monitor_config::{self as config, Endpoint, Receiver};
use monitor_core::Secret;
use monitor_core::domain::Transition;
use monitor_notify::{
    AlertmanagerNotifier, Notifier, Outcome, SlackNotifier, TeamsNotifier, WebhookNotifier,
};
use monitor_store::OutboxRow;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tracing_subscriber::util::SubscriberInitExt;

use super::rig::{self, Answer, HttpReceiver, Rig, endpoint, header, webhook_at};
use crate::mail::server::Certificates;

const TIMEOUT: Duration = Duration::from_secs(5);

async fn row() -> OutboxRow {
    let rig = Rig::new();
    rig.step(Transition::Opened, &["hook"]).await;
    rig.lease().await.remove(0)
}

fn describe(outcome: Outcome) -> String {
    match outcome {
        Outcome::Sent => "sent".into(),
        Outcome::Retry { reason, .. } => format!("retry: {reason}"),
        Outcome::Permanent { reason } => format!("permanent: {reason}"),
        partly @ Outcome::Partly { .. } => format!("{partly:?}"),
    }
}

async fn post(settings: &config::Webhook) -> String {
    let notifier = WebhookNotifier::new("hook", settings, TIMEOUT).expect("good settings");
    describe(notifier.notify(&row().await, rig::now()).await)
}

/// What a [`FaultyServer`] does after it has read a request: it sends bytes, and then repeats a
/// text forever, stalls, or closes the connection.
#[derive(Clone, Copy)]
struct Fault {
    first: &'static str,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Stall,
    Repeat(&'static str),
}

/// A server that sends arbitrary bytes; counts the connections.
struct FaultyServer {
    url: String,
    connections: Arc<AtomicUsize>,
    /// Bytes sent after the first part of the response.
    sent_bytes: Arc<AtomicUsize>,
}

impl FaultyServer {
    async fn start(fault: Fault) -> Self {
        rig::install_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (connections, sent_bytes) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = (connections.clone(), sent_bytes.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.0.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream, fault, seen.1.clone()));
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/hook-hidden"), connections, sent_bytes }
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    fault: Fault,
    sent_bytes: Arc<AtomicUsize>,
) -> io::Result<()> {
    // Read the whole request: closing a socket with unread data discards the response.
    let mut request = Vec::new();
    while !request.ends_with(b"}}") && stream.read_buf(&mut request).await? > 0 {}
    stream.write_all(fault.first.as_bytes()).await?;
    match fault.then {
        Then::Close => stream.shutdown().await,
        Then::Stall => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            Ok(())
        }
        Then::Repeat(text) => loop {
            stream.write_all(text.as_bytes()).await?;
            sent_bytes.fetch_add(text.len(), Ordering::Relaxed);
        },
    }
}

#[tokio::test]
async fn faulty_servers_do_no_harm() {
    let check = async |name, first, then, expected: &str| {
        let server = FaultyServer::start(Fault { first, then }).await;
        let found = post(&webhook_at(server.url.clone())).await;
        assert!(found.starts_with(expected), "{name}: {found}");
        assert!(found.len() < 500, "{name}: {found}");
        assert!(!found.contains("hidden"), "{name}: {found}");
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "{name}");
        // The sockets buffer some bytes, but the client has stopped to read.
        assert!(server.sent_bytes.load(Ordering::Relaxed) < 64 << 20, "{name}");
    };
    use Then::{Close, Repeat, Stall};
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    check("200 with an endless body", "HTTP/1.1 200 OK\r\n\r\n", Repeat("yes and "), "sent").await;
    check("200 with a short body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Close, "sent")
        .await;
    check("200 without its body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Stall, "sent")
        .await;
    let no = "permanent: the receiver answered 400 Bad Request: no, no,";
    check("400 with an endless body", "HTTP/1.1 400 Bad Request\r\n\r\n", Repeat("no, "), no).await;
    let short = "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nno, no,";
    check("400 with a short body", short, Close, no).await;
    check("400, then a stall", short, Stall, no).await;
    check("endless headers", OK, Repeat("x-more: and more\r\n"), "retry: ").await;
    check("another protocol", "220 mail.example.com ESMTP\r\n", Stall, "retry: ").await;
    check("a closed connection", "", Close, "retry: ").await;
    check("half a status line", "HTTP/1.1 2", Close, "retry: ").await;
    let echo = "HTTP/1.1 404 Not Found\r\n\r\nCannot POST /hook-hidden";
    check(
        "a body that repeats the path",
        echo,
        Close,
        "retry: the receiver answered 404 Not Found",
    )
    .await;
}

async fn tls_server(certificates: &Certificates) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let acceptor = certificates.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                let first = "HTTP/1.1 204 No Content\r\n\r\n";
                answer(stream, Fault { first, then: Then::Close }, Arc::default()).await
            });
        }
    });
    format!("https://localhost:{port}/hook")
}

#[tokio::test]
async fn certificates_are_verified() {
    rig::install_tls();
    let check = async |name, host: &str, trusted: bool, expected: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::new(folder.path(), host);
        let mut settings = webhook_at(tls_server(&certificates).await);
        settings.endpoint.ca_file = trusted.then(|| certificates.authority.clone());
        let found = post(&settings).await;
        assert!(found.starts_with(expected), "{name}: {found}");
    };
    check("the configured authority", "localhost", true, "sent").await;
    check("an unknown authority", "localhost", false, "retry: ").await;
    check("a certificate for another host", "elsewhere.example", true, "retry: ").await;
}

#[test]
fn errors_name_an_unreadable_ca_file() {
    rig::install_tls();
    let mut settings = webhook_at("https://hooks.example.com/hidden".into());
    settings.endpoint.ca_file = Some("no/such.pem".into());
    let message = WebhookNotifier::new("hook", &settings, TIMEOUT).err().expect("an error");
    let message = message.to_string();
    assert!(message.starts_with("receivers.hook.ca_file: no/such.pem: "), "{message}");
}

#[tokio::test]
async fn private_addresses_are_rejected_in_every_notation() {
    let server =
        FaultyServer::start(Fault { first: "HTTP/1.1 200 OK\r\n\r\n", then: Then::Close }).await;
    let refused = "is an address of this machine or of a private network; to allow it, set \
                   receivers.hook.allow_private = true";
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0x7f.1", "0.0.0.0", "localhost"] {
        let mut settings = webhook_at(server.url.replace("127.0.0.1", host));
        settings.endpoint.allow_private = false;
        let found = match WebhookNotifier::new("hook", &settings, TIMEOUT) {
            Ok(notifier) => describe(notifier.notify(&row().await, rig::now()).await),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(refused), "{host}: {found}");
        assert!(!found.contains("hidden"), "{host}: {found}");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0, "no connection was made");
    assert_eq!(post(&webhook_at(server.url.replace("127.0.0.1", "localhost"))).await, "sent");
}

/// A key other than [`rig::SECRET`].
const NEXT: &str = "bm90IGEgc2VjcmV0OiBtYWtlIG9uZSBvZiB5b3VyIG93bg==";

#[tokio::test]
async fn secrets_are_replaced_without_a_gap() {
    let receiver = HttpReceiver::start(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let write = |secret: &str| std::fs::write(&file, format!("whsec_{secret}\n")).expect("written");
    write(rig::SECRET);
    let mut settings = rig::webhook(&receiver);
    settings.secret = None;
    settings.secret_file = Some(file.clone());
    let check = async |name, notifier: &WebhookNotifier, old: bool, new: bool| {
        let outcome = notifier.notify(&row().await, rig::now()).await;
        assert_eq!(outcome, Outcome::Sent, "{name}");
        let (headers, body) = receiver.requests().pop().expect("a request");
        assert_eq!(rig::is_signed(&headers, &body, rig::SECRET), old, "{name}: the old secret");
        assert_eq!(rig::is_signed(&headers, &body, NEXT), new, "{name}: the new secret");
    };
    let notifier = WebhookNotifier::new("hook", &settings, TIMEOUT).expect("good settings");
    check("before", &notifier, true, false).await;
    write(NEXT);
    check("the file was replaced; no restart", &notifier, false, true).await;
    settings.previous_secret = Some(Secret::new(format!("whsec_{}", rig::SECRET)));
    let notifier = WebhookNotifier::new("hook", &settings, TIMEOUT).expect("good settings");
    check("while receivers change to the new secret", &notifier, true, true).await;
    write("hidden");
    let found = describe(notifier.notify(&row().await, rig::now()).await);
    assert!(found.starts_with("retry: receivers.hook: the secret must be whsec_"), "{found}");
    std::fs::remove_file(&file).expect("removed");
    let found = describe(notifier.notify(&row().await, rig::now()).await);
    assert!(found.starts_with("retry: receivers.hook: cannot read "), "{found}");
}

#[tokio::test]
async fn a_url_in_a_file_is_read_at_each_attempt() {
    let (first, second) =
        (HttpReceiver::start(Vec::new()).await, HttpReceiver::start(Vec::new()).await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    let url_file = Some(file.clone());
    let endpoint = Endpoint { url: None, url_file, allow_private: true, ca_file: None };
    let write = |url: &str| std::fs::write(&file, format!("{url}/services/T0\n")).expect("written");
    write(&first.url);
    let notifier = SlackNotifier::new("chat", &config::Chat { endpoint }, TIMEOUT).expect("good");
    assert_eq!(notifier.notify(&row().await, rig::now()).await, Outcome::Sent);
    write(&second.url);
    assert_eq!(notifier.notify(&row().await, rig::now()).await, Outcome::Sent);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

/// A notifier of this kind for this URL.
fn service(kind: &str, url: &str) -> Box<dyn Notifier> {
    let endpoint = endpoint(url.to_owned());
    let chat = config::Chat { endpoint: endpoint.clone() };
    match kind {
        "slack" => Box::new(SlackNotifier::new("x", &chat, TIMEOUT).expect("good")),
        "teams" => Box::new(TeamsNotifier::new("x", &chat, TIMEOUT).expect("good")),
        _ => {
            let token = Some(Secret::new("token-hidden"));
            let settings = config::Alertmanager { endpoint, token, token_file: None };
            Box::new(AlertmanagerNotifier::new("x", &settings, TIMEOUT).expect("good"))
        }
    }
}

#[tokio::test]
async fn each_service_gets_its_own_request() {
    let check = async |kind, below: &str, expected: &str, inside: &str| {
        let receiver = HttpReceiver::start(Vec::new()).await;
        let notifier = service(kind, &format!("{}{below}", receiver.url));
        assert_eq!(notifier.notify(&row().await, rig::now()).await, Outcome::Sent, "{kind}");
        assert_eq!(receiver.paths(), [expected], "{kind}");
        let (headers, body) = receiver.requests().remove(0);
        assert_eq!(header(&headers, "content-type"), "application/json; charset=utf-8");
        let bearer = headers.get("authorization").map(|value| value.to_str().expect("ASCII"));
        assert_eq!(bearer, (kind == "alertmanager").then_some("Bearer token-hidden"), "{kind}");
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let text = value.pointer(inside).and_then(|value| value.as_str()).expect("a text");
        assert!(
            text.starts_with("united: 78 % of the tweets are negative, usually 55 %"),
            "{kind}: {text}"
        );
    };
    let hook = "/services/T0/B0/x?y=z";
    check("slack", hook, hook, "/text").await;
    check("teams", hook, hook, "/attachments/0/content/body/0/inlines/0/text").await;
    let summary = "/0/annotations/summary";
    check("alertmanager", "", "/api/v2/alerts", summary).await;
    check("alertmanager", "/", "/api/v2/alerts", summary).await;
    check("alertmanager", "/prefix/", "/prefix/api/v2/alerts", summary).await;
}

#[tokio::test]
async fn errors_of_each_service_are_interpreted() {
    let check = async |kind, status, body: &'static str, expected: &str| {
        let receiver = HttpReceiver::start(vec![Answer::status(status).saying(body)]).await;
        let found = describe(service(kind, &receiver.url).notify(&row().await, rig::now()).await);
        assert_eq!(found, expected, "{kind}: {body}");
    };
    check(
        "slack",
        StatusCode::BAD_REQUEST,
        "invalid_payload",
        "permanent: the receiver answered 400 Bad Request: invalid_payload",
    )
    .await;
    check(
        "slack",
        StatusCode::FORBIDDEN,
        "action_prohibited",
        "retry: the receiver answered 403 Forbidden: action_prohibited",
    )
    .await;
    check(
        "slack",
        StatusCode::NOT_FOUND,
        "no_service",
        "retry: the receiver answered 404 Not Found: no_service",
    )
    .await;
    check(
        "slack",
        StatusCode::GONE,
        "channel_is_archived",
        "permanent: the receiver answered 410 Gone: channel_is_archived",
    )
    .await;
    check("teams", StatusCode::ACCEPTED, "", "sent").await;
    check(
        "teams",
        StatusCode::TOO_MANY_REQUESTS,
        "{\"error\":\n{\"code\":\"TooMany\"}}",
        "retry: the receiver answered 429 Too Many Requests: {\"error\": {\"code\":\"TooMany\"}}",
    )
    .await;
    check(
        "alertmanager",
        StatusCode::BAD_REQUEST,
        "\"start time must be before end time\"",
        "permanent: the receiver answered 400 Bad Request: \"start time must be before end time\"",
    )
    .await;
    check(
        "alertmanager",
        StatusCode::UNAUTHORIZED,
        "token-hidden is not known",
        "retry: the receiver answered 401 Unauthorized",
    )
    .await;
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = subscriber.set_default();

    let rig = Rig::new();
    let echo = "you sent /services/hidden-path?sig=hidden-query with token-hidden";
    let failing = |status| Answer::status(status).saying(echo);
    let kinds = ["webhook", "slack", "teams", "alertmanager"];
    rig.step(Transition::Opened, &kinds).await;
    let mut receivers = std::collections::BTreeMap::new();
    let mut servers = Vec::new();
    for kind in kinds {
        let answers = vec![
            failing(StatusCode::FOUND),
            failing(StatusCode::NOT_FOUND),
            failing(StatusCode::GONE),
        ];
        let server = HttpReceiver::start(answers).await;
        let endpoint = endpoint(format!("{}/services/hidden-path?sig=hidden-query", server.url));
        let receiver = match kind {
            "webhook" => Receiver::Webhook(config::Webhook { endpoint, ..rig::webhook(&server) }),
            "slack" => Receiver::Slack(config::Chat { endpoint }),
            "teams" => Receiver::Teams(config::Chat { endpoint }),
            _ => Receiver::Alertmanager(config::Alertmanager {
                endpoint,
                token: Some(Secret::new("token-hidden")),
                token_file: None,
            }),
        };
        lines.0.lock().expect("no panic").extend_from_slice(format!("{receiver:?}").as_bytes());
        receivers.insert(kind.to_owned(), receiver);
        servers.push(server);
    }
    let running = rig.start(receivers);
    rig::eventually("all notifications are dead", || {
        rig.clock.advance(Duration::from_millis(300));
        servers.iter().all(|server| server.requests().len() == 3)
    })
    .await;
    rig.settled(0, 4).await;
    running.stop().await;
    for dead in monitor_store::Store::dead_notifications(&*rig.store, 9).await.expect("dead") {
        let expected = "the receiver answered 410 Gone (it would fail again)";
        assert_eq!(dead.error, expected, "{}", dead.receiver);
    }

    let logged = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("UTF-8");
    assert!(logged.contains("monitor alert retry"), "the log names the remedy: {logged}");
    assert!(logged.contains("notification not sent; will retry"), "failures are logged: {logged}");
    for line in logged.lines() {
        // The form in which a secret is printed.
        let line = line.replace("(hidden)", "");
        assert!(!line.contains("hidden"), "{line}");
        assert!(!line.contains(rig::SECRET), "{line}");
    }
}

#[tokio::test]
async fn every_kind_rejects_a_private_address() {
    rig::install_tls();
    let receivers = |allow_private| {
        let endpoint =
            Endpoint { allow_private, ..endpoint("http://169.254.169.254/latest".into()) };
        let chat = config::Chat { endpoint: endpoint.clone() };
        let webhook = config::Webhook { endpoint: endpoint.clone(), ..webhook_at(String::new()) };
        [
            ("webhook", Receiver::Webhook(webhook)),
            ("slack", Receiver::Slack(chat.clone())),
            ("teams", Receiver::Teams(chat)),
            (
                "alertmanager",
                Receiver::Alertmanager(config::Alertmanager {
                    endpoint,
                    token: None,
                    token_file: Some(Path::new("/dev/null").into()),
                }),
            ),
        ]
    };
    for allow_private in [false, true] {
        for (name, receiver) in receivers(allow_private) {
            let all = [(name.to_owned(), receiver)].into();
            let created = monitor_notify::notifiers(&all, rig::delivery(), None);
            let message = created.err().map(|error| error.to_string()).unwrap_or_default();
            let expected = format!("receivers.{name}.url: 169.254.169.254 is an address of this");
            assert_eq!(message.starts_with(&expected), !allow_private, "{name}: {message}");
        }
    }
}
