//! Mails over real SMTP: a server library that requires STARTTLS and a login, and a scripted
//! server that stalls, closes connections, rejects mails and misbehaves.

pub mod server;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mail_parser::{MessageParser, MimeHeaders};
use monitor_config::{self as config, SmtpTls};
use monitor_core::Secret;
use monitor_core::domain::{Counts, Evidence, Interval, Minute, ShareEvidence};
use monitor_embedded::{MailOptions, MailServer};
use monitor_notify::{EmailNotifier, Notifier, Outcome};
use monitor_store::{CurvePoint, Drivers, Example, Notification, OutboxRow};

use server::{Certificates, Reaction, Scripted, say};

const COMMS: &str = "comms@example.com";
const BOSS: &str = "boss@example.com";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn now() -> DateTime<Utc> {
    at("2026-01-01T12:00:00Z")
}

/// Settings for a server on this machine, unencrypted.
fn settings(port: u16) -> config::Email {
    config::Email {
        host: "localhost".into(),
        port,
        tls: SmtpTls::None,
        username: None,
        password: None,
        password_file: None,
        ca_file: None,
        from: "Monitor <monitor@example.com>".into(),
        to: vec![format!("Comms Team <{COMMS}>"), BOSS.into()],
    }
}

fn notifier(settings: &config::Email) -> EmailNotifier {
    let _ = rustls::crypto::ring::default_provider().install_default();
    EmailNotifier::new("comms", settings, Duration::from_secs(5)).expect("good settings")
}

/// An outbox row of an incident for the receiver "comms".
fn row(transition: &str) -> OutboxRow {
    let (since, opened_at) = (at("2015-02-23T13:20:00Z"), at("2015-02-23T14:05:00Z"));
    let interval = |low, high| Interval { low, high };
    let counts = |total, negative| Counts { total, negative };
    let example = Example {
        tweet_id: "1".into(),
        text: "<script>alert('lost my bag')</script>".into(),
        created_at: opened_at,
        negative: 0.98,
        author: None,
        reach: None,
        alike: 1,
        words: Vec::new(),
    };
    OutboxRow {
        id: 1,
        key: format!("incident-1-{transition}-comms"),
        receiver: "comms".into(),
        notification: Notification {
            incident_id: 1,
            transition: transition.split('-').next().expect("a word").into(),
            test: false,
            brand: "united".into(),
            severity: "critical".into(),
            at: opened_at,
            opened_at,
            reason: "chance does not explain it".into(),
            evidence: Evidence::Share(ShareEvidence {
                rule: "e-detector",
                since: Minute::of(since),
                window_minutes: 46,
                observed: counts(120, 94),
                observed_interval: interval(0.7, 0.85),
                recent_minutes: 15,
                recent: counts(44, 37),
                baseline: counts(800, 440),
                expected_share: 0.55,
                expected_interval: interval(0.51, 0.59),
                statistic: 27.0,
                threshold: 20.0,
                dispersion: 1.0,
            }),
            phases: Vec::new(),
            corrected: None,
            drivers: Drivers::default(),
            examples: vec![example],
            curve: vec![CurvePoint { at: since, total: 120, negative: 94 }],
            curve_minutes: 60,
            echoes: 0,
            also: Vec::new(),
            thread: "incident-1-opened-comms".into(),
            url: Some("https://monitor.example.com/#incident-1".into()),
            digest: None,
            missed: Vec::new(),
        },
        attempts: 1,
    }
}

fn describe(outcome: Outcome) -> String {
    match outcome {
        Outcome::Sent => "sent".into(),
        Outcome::Partly { reason, after: None } => format!("partly: {reason}"),
        Outcome::Partly { reason, after: Some(_) } => format!("partly, retry: {reason}"),
        Outcome::Retry { reason, .. } => format!("retry: {reason}"),
        Outcome::Permanent { reason } => format!("permanent: {reason}"),
    }
}

// --- A real server ----------------------------------------------------------------------

/// A mail server that requires STARTTLS and a login, its certificates, and valid settings.
fn secured_server(folder: &tempfile::TempDir) -> (MailServer, Certificates, config::Email) {
    let certificates = Certificates::new(folder.path(), "localhost");
    let server = MailServer::start_with(MailOptions {
        login: Some(("monitor".into(), "right horse".into())),
        tls: Some((certificates.server.clone(), certificates.key.clone())),
        ..MailOptions::default()
    })
    .expect("a mail server");
    let settings = config::Email {
        tls: SmtpTls::Starttls,
        username: Some("monitor".into()),
        password: Some(Secret::new("right horse")),
        ca_file: Some(certificates.authority.clone()),
        ..settings(server.address().port())
    };
    (server, certificates, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_over_starttls_after_a_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _, settings) = secured_server(&folder);
    assert_eq!(notifier(&settings).notify(&row("opened"), now()).await, Outcome::Sent);
    let mut to: Vec<_> = server.mails().into_iter().flat_map(|mail| mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, [BOSS, COMMS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_over_an_insecure_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _, good) = secured_server(&folder);
    let others = tempfile::tempdir().expect("a folder");
    let other_authority = Certificates::new(others.path(), "localhost").authority;
    let check = async |name, change: &dyn Fn(&mut config::Email), expected: &[&str]| {
        let mut settings = good.clone();
        change(&mut settings);
        let found = describe(notifier(&settings).notify(&row("opened"), now()).await);
        assert!(found.starts_with("retry: "), "{name}: {found}");
        for words in expected {
            assert!(found.contains(words), "{name}: {found}");
        }
        for secret in ["right", "wrong", "cmlnaHQ", "d3Jvbmc"] {
            assert!(!found.contains(secret), "{name} shows a secret: {found}");
        }
        assert!(server.mails().is_empty(), "{name}: nothing was sent");
    };
    let wrong = |s: &mut config::Email| s.password = Some(Secret::new("wrong horse"));
    let both = "boss@example.com, comms@example.com: localhost:";
    let refused = "rejects the login of \"monitor\": permanent error (535)";
    check("wrong password", &wrong, &[both, refused]).await;
    let no_login = |s: &mut config::Email| (s.username, s.password) = (None, None);
    check("no login", &no_login, &[BOSS]).await;
    let public = |s: &mut config::Email| s.ca_file = None;
    check("an unknown authority", &public, &["cannot secure", "UnknownIssuer"]).await;
    let strange = |s: &mut config::Email| s.ca_file = Some(other_authority.clone());
    check("another authority", &strange, &["cannot secure", "BadSignature"]).await;
    let address = |s: &mut config::Email| s.host = "127.0.0.1".into();
    check("another name", &address, &["cannot secure", "not valid for name"]).await;
    let implicit = |s: &mut config::Email| s.tls = SmtpTls::Tls;
    check("TLS instead of STARTTLS", &implicit, &["cannot connect"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mail_is_sent_unencrypted_if_starttls_is_required() {
    let server = MailServer::start().expect("a mail server");
    let settings = config::Email { tls: SmtpTls::Starttls, ..settings(server.address().port()) };
    let found = describe(notifier(&settings).notify(&row("opened"), now()).await);
    assert!(found.starts_with("retry: ") && found.contains("offers no STARTTLS"), "{found}");
    assert!(server.mails().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mails_of_an_incident_are_in_one_thread() {
    let server = MailServer::start().expect("a mail server");
    let settings = config::Email { to: vec![COMMS.into()], ..settings(server.address().port()) };
    let notifier = notifier(&settings);
    let steps = ["opened", "updated-23745500", "resolved"];
    // The last step is sent twice, as after a daemon that was killed before it recorded the outcome.
    for step in steps.iter().chain(&steps[2..]) {
        assert_eq!(notifier.notify(&row(step), now()).await, Outcome::Sent);
    }
    let mails = server.mails();
    let parsed: Vec<_> =
        mails.iter().map(|m| MessageParser::default().parse(&m.raw).expect("a mail")).collect();
    let id = |step: &str| format!("incident-1-{step}-comms@example.com");
    for (mail, step) in parsed.iter().zip([steps[0], steps[1], steps[2], steps[2]]) {
        assert_eq!(mail.message_id(), Some(id(step).as_str()), "{step}");
        let root = id("opened");
        let answers = (mail.in_reply_to().as_text(), mail.references().as_text());
        let (subject, stem) = (mail.subject().expect("a subject"), "united: bad buzz");
        if step == "opened" {
            assert_eq!(answers, (None, None), "{step}");
            assert!(subject.starts_with(stem), "{step}: {subject}");
        } else {
            assert_eq!(answers, (Some(root.as_str()), Some(root.as_str())), "{step}");
            let opened = parsed[0].subject().expect("a subject");
            assert_eq!(subject, format!("Re: {opened}"), "{step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolve_of_a_grouped_incident_replies_to_the_grouped_mail() {
    let server = MailServer::start().expect("a mail server");
    let settings = config::Email { to: vec![COMMS.into()], ..settings(server.address().port()) };
    let notifier = notifier(&settings);
    // As in the store: the thread of a grouped notification is the key of the group's mail.
    let (host, end) = (row("opened-23745005"), row("resolved-23745185"));
    let joined = Notification {
        incident_id: 2,
        opened_at: at("2015-02-23T14:07:00Z"),
        thread: host.key.clone(),
        ..end.notification
    };
    let host_alone = Notification { thread: host.key.clone(), ..host.notification.clone() };
    let host = OutboxRow { notification: host_alone, ..host };
    let end =
        OutboxRow { key: "incident-2-resolved-23745185-comms".into(), notification: joined, ..end };
    for row in [&host, &end] {
        assert_eq!(notifier.notify(row, now()).await, Outcome::Sent);
    }
    let mails = server.mails();
    let parsed: Vec<_> =
        mails.iter().map(|m| MessageParser::default().parse(&m.raw).expect("a mail")).collect();
    let sent = parsed[0].message_id();
    assert!(sent.is_some());
    assert_eq!((parsed[1].references().as_text(), parsed[1].in_reply_to().as_text()), (sent, sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_text_and_html_with_its_picture() {
    let server = MailServer::start().expect("a mail server");
    let notifier = notifier(&settings(server.address().port()));
    assert_eq!(notifier.notify(&row("opened"), now()).await, Outcome::Sent);
    let raw = server.mails().remove(0).raw;
    let mail = MessageParser::default().parse(&raw).expect("a mail");
    let kinds: Vec<_> = mail
        .parts
        .iter()
        .filter_map(|part| part.content_type())
        .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()))
        .collect();
    assert_eq!(
        kinds,
        ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    );
    let picture = mail.parts.last().expect("five parts");
    let html = mail.body_html(0).expect("an HTML part");
    let id = picture.content_id().expect("a Content-ID");
    assert!(html.contains(&format!("src=\"cid:{id}\"")), "{id}: {html}");
    assert!(picture.contents().starts_with(b"\x89PNG\r\n\x1a\n"));
    for (name, expected) in [("Auto-Submitted", "auto-generated"), ("Importance", "high")] {
        assert_eq!(mail.header_raw(name).map(str::trim), Some(expected), "{name}");
    }
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    let text = mail.body_text(0).expect("a text part");
    assert!(text.contains("united: 78 % of the tweets are negative"), "{text}");
    assert!(raw.is_ascii(), "8BITMIME is not needed");
    assert!(
        raw.split(|b| *b == b'\n').all(|line| line.len() <= 998),
        "the line length of RFC 5322"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invalid_address_does_not_block_the_others() {
    let options = |refuse: &[&str]| MailOptions {
        refuse: refuse.iter().map(|&to| to.to_owned()).collect(),
        ..MailOptions::default()
    };
    let check = async |name, refuse: &[&str], sent: &[&str], expected: &str| {
        let server = MailServer::start_with(options(refuse)).expect("a mail server");
        let notifier = notifier(&settings(server.address().port()));
        let found = describe(notifier.notify(&row("opened"), now()).await);
        assert!(found.starts_with(expected), "{name}: {found}");
        let mut to: Vec<_> = server.mails().into_iter().flat_map(|m| m.to).collect();
        to.sort_unstable();
        assert_eq!(to, sent, "{name}");
    };
    check("none", &[], &[BOSS, COMMS], "sent").await;
    let partly = format!("partly: {BOSS}: permanent error (550)");
    check("one", &[BOSS], &[COMMS], &partly).await;
    check("all", &[BOSS, COMMS], &[], &format!("permanent: {BOSS}: permanent error (550)")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_only_to_recipients_without_the_mail() {
    let options = MailOptions { busy_times: 1, ..MailOptions::default() };
    let server = MailServer::start_with(options).expect("a mail server");
    let notifier = notifier(&settings(server.address().port()));
    let row = row("opened");
    let first = notifier.notify(&row, now()).await;
    assert!(matches!(first, Outcome::Partly { after: Some(_), .. }), "{first:?}");
    assert_eq!(server.mails().len(), 1, "one of two");
    assert_eq!(notifier.notify(&row, now()).await, Outcome::Sent);
    let mut to: Vec<_> = server.mails().into_iter().flat_map(|m| m.to).collect();
    to.sort_unstable();
    assert_eq!(to, [BOSS, COMMS], "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_mail_server_is_retried() {
    let server = MailServer::start().expect("a mail server");
    let notifier = notifier(&settings(server.address().port()));
    let row = row("opened");
    server.close(true);
    let away = notifier.notify(&row, now()).await;
    assert!(matches!(away, Outcome::Retry { .. }), "{away:?}");
    server.close(false);
    assert_eq!(notifier.notify(&row, now()).await, Outcome::Sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_delays_the_notification_only_briefly() {
    let row = row("opened");
    let check = async |name, full: &'static [&str], expected: [&str; 4]| {
        let script = |line: &str| {
            full.iter().any(|to| line == format!("RCPT TO:<{to}>")).then(|| say("452 full"))?
        };
        let server = Scripted::start(None, script).await;
        let notifier = notifier(&settings(server.port));
        for (attempt, expected) in expected.into_iter().enumerate() {
            let found = describe(notifier.notify(&row, now()).await);
            assert!(found.starts_with(expected), "{name}, attempt {attempt}: {found}");
        }
    };
    let again = "partly, retry: boss@example.com: transient error (452)";
    let over = "partly: boss@example.com: transient error (452)";
    // The dispatcher makes no fourth attempt; by then the notifier has forgotten the row.
    check("one", &[BOSS], [again, again, over, again]).await;
    check("all", &[BOSS, COMMS], ["retry: "; 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_sessions_is_limited() {
    let script = |line: &str| line.starts_with("RCPT").then_some(Reaction::Stall);
    let server = Scripted::start(None, script).await;
    let to = (0..12).map(|n| format!("n{n}@example.com")).collect();
    let settings = config::Email { to, ..settings(server.port) };
    let notifier = EmailNotifier::new("comms", &settings, Duration::from_secs(60));
    let notifier = notifier.expect("good settings");
    let recipients = || server.lines().iter().filter(|line| line.starts_with("RCPT")).count();
    let five = async {
        while recipients() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // All five sessions stall now. A sixth session would start at once.
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Counted here: once the attempt is cancelled, an ended session makes room for a moment.
        recipients()
    };
    let row = row("opened");
    tokio::select! {
        outcome = notifier.notify(&row, now()) => panic!("{}", describe(outcome)),
        started = five => assert_eq!(started, 5, "of twelve: {:?}", server.lines()),
    }
}

// --- A server that misbehaves -----------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_classified_by_phase_and_code() {
    type Script = fn(&str) -> Option<Reaction>;
    let check = async |name, script: Script, expected: &str| {
        let server = Scripted::start(None, script).await;
        let settings = config::Email { to: vec![COMMS.into()], ..settings(server.port) };
        // Only the stalled ones need the timeout.
        let limit = if expected.contains("no result") { 500 } else { 20_000 };
        let notifier = EmailNotifier::new("comms", &settings, Duration::from_millis(limit));
        let notifier = notifier.expect("good settings");
        let found = describe(notifier.notify(&row("opened"), now()).await);
        assert!(found.starts_with(expected), "{name}: {found}");
        assert!(found.chars().count() < 500 && !found.contains('\n'), "{name}: {found}");
        if expected != "sent" {
            assert!(found.contains(COMMS), "{name}: {found}");
        }
    };
    fn on(line: &str, word: &str, act: Reaction) -> Option<Reaction> {
        (line.split(' ').next() == Some(word)).then_some(act)
    }
    let cut_off = format!("retry: {COMMS}: no result within 450 ms");
    let later = format!("retry: {COMMS}: transient error ");
    let never = format!("permanent: {COMMS}: permanent error ");
    let connect = format!("retry: {COMMS}: cannot connect to localhost:");

    check("accepts the mail", |_| None, "sent").await;
    check("never greets", |l| on(l, "", Reaction::Stall), &cut_off).await;
    check("stalls after the sender", |l| on(l, "MAIL", Reaction::Stall), &cut_off).await;
    check("stalls after the content", |l| on(l, ".", Reaction::Stall), &cut_off).await;
    check("closes the connection at once", |l| on(l, "", Reaction::Close), &connect).await;
    check(
        "closes the connection before the content",
        |l| on(l, "DATA", Reaction::Close),
        "retry: ",
    )
    .await;
    check("closes the connection after the content", |l| on(l, ".", Reaction::Close), "retry: ")
        .await;
    check("is closing", |l| on(l, "", Reaction::Say("421 closing".into())), &connect).await;
    check("rejects the connection", |l| on(l, "", Reaction::Say("554 go away".into())), &connect)
        .await;
    check("does not know EHLO", |l| on(l, "EHLO", Reaction::Say("502 what".into())), &connect)
        .await;
    check("closes in the middle", |l| on(l, "MAIL", Reaction::Say("421 closing".into())), &later)
        .await;
    check("is greylisting", |l| on(l, "RCPT", Reaction::Say("451 later".into())), &later).await;
    check("is full", |l| on(l, ".", Reaction::Say("452 disk full".into())), &later).await;
    check("does not know the user", |l| on(l, "RCPT", Reaction::Say("550 who".into())), &never)
        .await;
    check("rejects the content", |l| on(l, ".", Reaction::Say("554 spam".into())), &never).await;
    let login = format!("retry: {COMMS}: permanent error (530)");
    check("requires a login", |l| on(l, "MAIL", Reaction::Say("530 who".into())), &login).await;
    let order = format!("retry: {COMMS}: permanent error (503)");
    check(
        "rejects the order of commands",
        |l| on(l, "RCPT", Reaction::Say("503 what".into())),
        &order,
    )
    .await;
    check(
        "is not a mail server",
        |l| on(l, "", Reaction::Say("SSH-2.0-OpenSSH_9.2".into())),
        &connect,
    )
    .await;
    check(
        "sends invalid bytes",
        |l| on(l, "RCPT", Reaction::Say("\u{1}\u{2} maybe".into())),
        "retry: ",
    )
    .await;
    let long: Script = |l| on(l, "RCPT", Reaction::Say(format!("550 {}", "no ".repeat(300))));
    check("sends a long line", long, &never).await;
    check(
        "sends an endless line",
        |l| on(l, "RCPT", Reaction::Say("5".repeat(1 << 20))),
        "retry: ",
    )
    .await;
    // The server has accepted the mail: sending it again would be a duplicate.
    check("stalls on QUIT", |l| on(l, "QUIT", Reaction::Stall), "sent").await;
    check("closes the connection on QUIT", |l| on(l, "QUIT", Reaction::Close), "sent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_tls_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::new(folder.path(), "localhost");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Scripted::start(Some(certificates.acceptor()), |_| None).await;
    let check = async |name, ca_file: Option<PathBuf>, expected: &str| {
        let settings = config::Email {
            tls: SmtpTls::Tls,
            username: Some("monitor".into()),
            password: Some(Secret::new("right horse")),
            ca_file,
            to: vec![COMMS.into()],
            ..settings(server.port)
        };
        let found = describe(notifier(&settings).notify(&row("opened"), now()).await);
        assert!(found.starts_with(expected), "{name}: {found}");
    };
    let refused = format!("retry: {COMMS}: cannot connect to localhost:");
    check("an unknown authority", None, &refused).await;
    assert_eq!(server.lines(), Vec::<String>::new(), "nothing was sent");
    check("the configured authority", Some(certificates.authority.clone()), "sent").await;
    // "\0monitor\0right horse"
    let login = "AUTH PLAIN AG1vbml0b3IAcmlnaHQgaG9yc2U=";
    assert!(server.lines().iter().any(|line| line == login), "{:?}", server.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_hide_a_password_that_the_server_repeats() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::new(folder.path(), "localhost");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let echo = |line: &str| {
        let said = line.strip_prefix("AUTH PLAIN ")?;
        say(format!("535 I do not know {said}, which has right horse in it"))
    };
    let server = Scripted::start(Some(certificates.acceptor()), echo).await;
    let settings = config::Email {
        tls: SmtpTls::Tls,
        username: Some("monitor".into()),
        password: Some(Secret::new("right horse")),
        ca_file: Some(certificates.authority.clone()),
        ..settings(server.port)
    };
    let found = describe(notifier(&settings).notify(&row("opened"), now()).await);
    assert!(found.contains("I do not know (hidden), which has (hidden) in it"), "{found}");
    assert!(!found.contains("horse") && !found.contains("AG1vb"), "{found}");
}
