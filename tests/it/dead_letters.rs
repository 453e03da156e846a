//! `monitor dead-letters`, called as a program, on a real Postgres and librdkafka's mock broker.

use monitor_embedded::MockBroker;
use monitor_store::PostgresStore;
use serde_json::Value;
use sqlx::PgPool;

use crate::incidents::{call, settings};
use crate::support::{consume, fresh_database};

const SOUND: &str = r#"{"id":"7","text":"caf\ud83d","created_at":"2015-02-24T19:35:52Z"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn lists_shows_retries_and_prunes() {
    let broker =
        tokio::task::spawn_blocking(|| MockBroker::start("tweets", 1)).await.unwrap().unwrap();
    let url = fresh_database().await;
    let mut settings = settings(&url);
    settings.push(format!("kafka.brokers={}", broker.brokers()));
    let store = PostgresStore::connect(&monitor_config::Store {
        url: url.clone(),
        ..monitor_config::Store::default()
    });
    store.unwrap().migrate().await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let long = "x".repeat(5000);
    for (offset, reason, payload, bytes, day) in [
        (1_i64, "a field has the wrong type: serde's words", SOUND, SOUND.len(), 1),
        (2, "not JSON: byte 1 begins \"hello\"", "hello", 5, 2),
        (3, "not JSON: byte 1 begins \"hello\"", "hello", 5, 3),
        (4, "the record has 5000 bytes", &long[..4096], 5000, 4),
        // The topic was recreated.
        (1, "the record is empty", "", 0, 5),
    ] {
        sqlx::query(
            r#"INSERT INTO dead_letters (topic, "partition", "offset", reason, payload, payload_bytes, seen_at)
               VALUES ('tweets', 0, $1, $2, $3, $4, make_timestamptz(2026, 1, $5, 12, 0, 0, 'UTC'))"#,
        )
        .bind(offset)
        .bind(reason)
        .bind(payload.as_bytes())
        .bind(bytes as i64)
        .bind(day)
        .execute(&pool)
        .await
        .unwrap();
    }
    let left = async || -> Vec<i64> {
        sqlx::query_scalar(r#"SELECT "offset" FROM dead_letters ORDER BY 1"#)
            .fetch_all(&pool)
            .await
            .unwrap()
    };
    let run = |arguments: &[&str], expected: &[&str]| {
        let (ok, out) = call(&settings, &[&["dead-letters"][..], arguments].concat());
        for part in expected {
            assert!(ok && out.contains(part), "{arguments:?}: {part:?} is not in {out}");
        }
        out
    };

    let out = run(&["list"], &["2        not JSON: byte 1 begins", "2026-01-04 12:00", "5000"]);
    assert_eq!(out.matches("tweets").count(), 5, "{out}");
    let out = run(&["list", "--json", "--reason", "NOT json", "--since", "2026-01-03"], &[]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["reasons"][0]["letters"], 1, "{found}");
    assert_eq!(found["letters"][0]["offset"], 3, "{found}");
    run(&["list", "--reason", "nothing such"], &["no dead letters"]);

    run(&["show", "tweets", "0", "2"], &["reason: not JSON: byte 1 begins \"hello\"", "\nhello\n"]);
    run(&["show", "tweets", "0", "4"], &["(904 more bytes are not kept)"]);
    let out = run(&["show", "tweets", "0", "2", "--json"], &[]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found[0]["payload"], &found[0]["payload_bytes"]), (&"hello".into(), &5.into()));
    run(&["show", "tweets", "0", "1"], &["reason: the record is empty", "reason: a field has"]);
    let (ok, error) = call(&settings, &["dead-letters", "show", "tweets", "0", "9"]);
    assert!(!ok && error.contains("no dead letter of tweets, partition 0, offset 9"), "{error}");

    run(&["retry", "--dry-run"], &["1 dead letters would be sent again, 4 would stay"]);
    assert_eq!(left().await, [1, 1, 2, 3, 4]);
    run(&["retry"], &["1 dead letters sent again, 4 stay"]);
    assert_eq!(left().await, [1, 2, 3, 4], "the other one of offset 1 stays");
    assert_eq!(consume(broker.brokers(), "tweets", 1).await, [SOUND]);

    run(
        &["prune", "--before", "2026-01-03", "--reason", "5000 bytes"],
        &["0 dead letters deleted"],
    );
    run(&["prune", "--before", "2026-01-03"], &["1 dead letters deleted"]);
    assert_eq!(left().await, [1, 3, 4]);
}
