//! `monitor doctor` on working and on missing services.

use std::net::TcpListener;

use monitor_embedded::{MailServer, MockBroker};
use serde_json::Value;

use crate::support::{fresh_database, monitor};

/// Runs it with these settings, and a mail receiver.
async fn doctor(brokers: &str, topic: &str, store: &str, mail: u16) -> (bool, Vec<Value>, String) {
    let set = [
        format!("kafka.brokers={brokers}"),
        format!("kafka.topic={topic}"),
        format!("store.url={store}"),
        "receivers.comms.kind=email".to_owned(),
        "receivers.comms.host=127.0.0.1".to_owned(),
        format!("receivers.comms.port={mail}"),
        "receivers.comms.tls=none".to_owned(),
        "receivers.comms.from=monitor@example.com".to_owned(),
        "receivers.comms.to=[\"comms@example.com\"]".to_owned(),
        "receivers.chat.kind=webhook".to_owned(),
        "receivers.chat.url=https://chat.example.com".to_owned(),
        "receivers.chat.secret=whsec_bm90IGEgc2VjcmV0OiBtYWtlIG9uZSBvZiB5b3VyIG93bg==".to_owned(),
    ];
    let run = move || {
        let set = set.iter().flat_map(|it| ["--set", it]);
        monitor(&["doctor", "--json"].into_iter().chain(set).collect::<Vec<_>>())
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    (output.status.success(), found, error)
}

/// What it says of a part, and what to do.
fn of<'a>(found: &'a [Value], part: &str) -> (&'a str, &'a str, &'a str) {
    let finding = found.iter().find(|it| it["part"] == part);
    let finding = finding.unwrap_or_else(|| panic!("no {part}: {found:?}"));
    let text = |key: &str| finding[key].as_str().unwrap();
    (text("state"), text("found"), text("remedy"))
}

#[tokio::test]
async fn says_what_works_and_what_to_mend() {
    let broker = MockBroker::start("tweets", 3).unwrap();
    let mail = MailServer::start().unwrap();
    let store = fresh_database().await;
    let (good, found, error) =
        doctor(broker.brokers(), "tweets", &store, mail.address().port()).await;
    assert!(good, "a schema that is not there yet is no problem: {error} {found:?}");
    let (state, text, _) = of(&found, "broker");
    assert!(state == "ok" && text.contains("topic tweets with 3 partitions"), "{text}");
    let (state, text, remedy) = of(&found, "store");
    assert!(state == "warning" && text.contains("no schema yet"), "{text}");
    assert!(remedy.contains("monitor migrate"), "{remedy}");
    assert_eq!(of(&found, "clock").0, "ok");
    assert_eq!((of(&found, "model").0, of(&found, "model").1), ("ok", "lstm@4"));
    assert_eq!(of(&found, "receiver comms").0, "ok");
    assert!(of(&found, "receiver chat").1.contains("monitor alert test chat"));
    assert!(mail.mails().is_empty(), "no mail was sent");

    let migrate = ["migrate".to_owned(), "--set".to_owned(), format!("store.url={store}")];
    let migrate = tokio::task::spawn_blocking(move || {
        monitor(&migrate.iter().map(String::as_str).collect::<Vec<_>>())
    });
    assert!(migrate.await.unwrap().status.success());
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (brokers, port) = (free(), free().port());
    let (good, found, error) = doctor(&brokers.to_string(), "tweets", &store, port).await;
    assert!(!good && error.contains("2 of "), "{error}");
    let (state, text, remedy) = of(&found, "broker");
    assert!(state == "problem" && text.contains(&brokers.to_string()), "{text}");
    assert!(remedy.contains("kafka.brokers"), "{remedy}");
    let (state, text, _) = of(&found, "store");
    assert!(state == "ok" && text.contains("Postgres 1"), "{text}");
    let (state, text, remedy) = of(&found, "receiver comms");
    assert!(state == "problem" && text.contains("cannot connect"), "{text}");
    assert!(remedy.contains("receivers.comms"), "{remedy}");

    let nowhere = format!("postgres://monitor:hunter2@{}/monitor", free());
    let (good, found, error) =
        doctor(broker.brokers(), "other", &nowhere, mail.address().port()).await;
    assert!(!good, "{found:?}");
    let (state, text, _) = of(&found, "store");
    assert!(state == "problem" && text.contains("Postgres at 127.0.0.1:"), "{text}");
    assert!(!text.contains("hunter2") && !error.contains("hunter2"), "{text} {error}");
}
