//! Tests each embedded service with a real client.

use std::fs;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use monitor_embedded::{MailOptions, MailServer, MockBroker, Postgres, PostgresOptions, Storage};
use sqlx::{Connection, PgConnection, Row};

use crate::support;

const SOON: Duration = Duration::from_secs(10);

// --- Postgres -------------------------------------------------------------------------

async fn one(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs initdb"]
async fn postgres_keeps_its_data_and_port_through_stop_and_kill() {
    let options = PostgresOptions { durable: true, dir: None };
    let mut postgres = Postgres::start_with(&options).unwrap();
    let url = postgres.create_database("bad-buzz \"x\"").await.unwrap();
    let url = url.replace(' ', "%20").replace('"', "%22");
    let port = postgres.port();

    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SHOW fsync").await, "on");
    assert_eq!(one(&mut connection, "SHOW listen_addresses").await, "127.0.0.1");
    assert_eq!(one(&mut connection, "SHOW unix_socket_directories").await, "");
    assert_eq!(one(&mut connection, "SHOW server_encoding").await, "UTF8");
    sqlx::raw_sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();

    postgres.stop_server();
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
    assert!(PgConnection::connect(&url).await.is_err(), "the port is closed");
    postgres.start_server().unwrap();
    assert_eq!(postgres.port(), port);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SELECT count(*)::text FROM t").await, "1");

    sqlx::query("INSERT INTO t VALUES (2)").execute(&mut connection).await.unwrap();
    postgres.kill_server();
    postgres.start_server().unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SELECT count(*)::text FROM t").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs initdb"]
async fn postgres_requires_its_password_and_removes_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(dir.path(), mode).unwrap();
    let options = PostgresOptions { durable: false, dir: Some(dir.path().to_owned()) };
    let postgres = Postgres::start_with(&options).unwrap();
    let url = postgres.url("postgres");
    let (user, host) = (url.find("//").unwrap() + 2, url.find('@').unwrap());
    let wrong_password = format!("{}monitor:wrong{}", &url[..user], &url[host..]);
    let error = PgConnection::connect(&wrong_password).await.unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");
    assert!(postgres.psql_line("postgres").contains(&url));

    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert_eq!(one(&mut connection, "SHOW fsync").await, "off");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    postgres.stop();
    assert!(PgConnection::connect(&url).await.is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn each_test_has_its_own_database() {
    let (one, other) = (support::fresh_database().await, support::fresh_database().await);
    for url in [&one, &other] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE t ()").execute(&mut connection).await.unwrap();
    }
}

// --- Brokers --------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_broker_stores_records() {
    let broker = MockBroker::start("tweets", 3).unwrap();
    for (offset, text) in ["one", "two"].into_iter().enumerate() {
        assert_eq!(support::produce(broker.brokers(), "tweets", text).await, offset as i64);
    }
    broker.create_topic("other", 1).unwrap();
    assert_eq!(support::produce(broker.brokers(), "other", "three").await, 0);
    assert_eq!(support::consume(broker.brokers(), "tweets", 2).await, ["one", "two"]);

    broker.down().unwrap();
    broker.up().unwrap();
    assert_eq!(support::consume(broker.brokers(), "other", 1).await, ["three"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nisshi"]
async fn a_broker_on_disk_survives_a_kill() {
    let mut broker = support::nisshi(Storage::Disk);
    let brokers = broker.brokers();
    assert_eq!(support::produce(&brokers, "tweets", "one").await, 0);
    broker.kill();
    assert!(std::net::TcpStream::connect(&brokers).is_err(), "the port is closed");
    broker.start_again().unwrap();
    assert_eq!(broker.brokers(), brokers);
    assert_eq!(support::produce(&brokers, "tweets", "two").await, 1);
    broker.stop();
    broker.start_again().unwrap();
    assert_eq!(support::consume(&brokers, "tweets", 2).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nisshi"]
async fn a_broker_in_memory_can_be_paused() {
    let broker = support::nisshi(Storage::Memory);
    let brokers = broker.brokers();
    assert_eq!(support::produce(&brokers, "tweets", "one").await, 0);
    broker.pause();
    let reader = tokio::spawn({
        let brokers = brokers.clone();
        async move { support::consume(&brokers, "tweets", 1).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!reader.is_finished(), "a paused broker does not answer");
    broker.resume();
    assert_eq!(reader.await.unwrap(), ["one"]);
}

// --- Mail -----------------------------------------------------------------------------

type Transport = AsyncSmtpTransport<Tokio1Executor>;

fn plain(server: &MailServer) -> Transport {
    Transport::builder_dangerous("127.0.0.1").port(server.address().port()).build()
}

fn message(to: &str) -> Message {
    Message::builder()
        .from("Monitor <monitor@example.com>".parse::<Mailbox>().unwrap())
        .to(to.parse().unwrap())
        .subject("Bad buzz")
        .body("First line.\n.A line that begins with a dot.\n".to_owned())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_arrives_with_its_envelope() {
    let server = MailServer::start().unwrap();
    assert!(server.mails().is_empty());
    plain(&server).send(message("comms@example.com")).await.unwrap();
    let mails = server.wait_for(1, SOON);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "monitor@example.com");
    assert_eq!(mails[0].to, ["comms@example.com"]);
    let text = mails[0].text();
    assert!(text.contains("Subject: Bad buzz\r\n"), "{text}");
    assert!(text.contains("\r\nFirst line.\r\n.A line that begins with a dot.\r\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_server_can_reject_mails_be_busy_and_close() {
    let server = MailServer::start_with(MailOptions {
        refuse: vec!["nobody@example.com".into()],
        busy_times: 1,
        ..MailOptions::default()
    })
    .unwrap();
    let transport = plain(&server);

    let error = transport.send(message("nobody@example.com")).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    let error = transport.send(message("comms@example.com")).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    transport.send(message("comms@example.com")).await.unwrap();
    assert_eq!(server.wait_for(1, SOON).len(), 1);

    server.close(true);
    assert!(plain(&server).send(message("comms@example.com")).await.is_err());
    server.close(false);
    plain(&server).send(message("comms@example.com")).await.unwrap();
    assert_eq!(server.wait_for(2, SOON).len(), 2);
}

/// A self-signed certificate for `localhost`, and its key, as PEM.
pub fn certificate() -> (Vec<u8>, Vec<u8>) {
    use openssl::{asn1::Asn1Time, bn::BigNum, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509};
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = x509::X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut cert = x509::X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(&name).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    let san = x509::extension::SubjectAlternativeName::new()
        .dns("localhost")
        .build(&cert.x509v3_context(None, None))
        .unwrap();
    cert.append_extension(san).unwrap();
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    (cert.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_accepted_over_starttls_after_login() {
    // Another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate();
    let (cert_path, key_path) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert_path, &cert).unwrap();
    fs::write(&key_path, key).unwrap();
    let server = MailServer::start_with(MailOptions {
        login: Some(("monitor".into(), "right".into())),
        tls: Some((cert_path, key_path)),
        ..MailOptions::default()
    })
    .unwrap();
    let transport = |password: Option<&str>| {
        let tls = TlsParameters::builder("localhost".into())
            .add_root_certificate(Certificate::from_pem(&cert).unwrap())
            .build()
            .unwrap();
        let builder = Transport::builder_dangerous("127.0.0.1")
            .port(server.address().port())
            .tls(Tls::Required(tls));
        match password {
            Some(p) => builder.credentials(Credentials::new("monitor".into(), p.into())).build(),
            None => builder.build(),
        }
    };
    assert!(transport(None).send(message("comms@example.com")).await.is_err(), "no login");
    let error = transport(Some("wrong")).send(message("comms@example.com")).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    transport(Some("right")).send(message("comms@example.com")).await.unwrap();
    assert_eq!(server.wait_for(1, SOON).len(), 1);
}
