//! All kinds of bad records through a running daemon, in each compression.

use rdkafka::message::{Header, OwnedHeaders};

use super::*;
use crate::bad_records::{Becomes, id, kinds};

/// The codecs of Kafka; records take turns.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nisshi"]
async fn each_bad_record_is_a_tweet_a_dead_letter_or_a_notice() {
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run();
    let producers = CODECS.map(|codec| -> FutureProducer {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", rig.broker.brokers()).set("compression.codec", codec);
        client.create().unwrap_or_else(|error| panic!("{codec}: {error}"))
    });
    let kinds = kinds();
    for (number, kind) in kinds.iter().enumerate() {
        let mut record =
            FutureRecord::<(), [u8]>::to(TOPIC).partition(1).payload(kind.payload.as_slice());
        if let Some((key, value)) = kind.header {
            record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        }
        let sent = producers[number % CODECS.len()].send(record, SOON).await;
        assert_eq!(sent.unwrap().offset, number as i64, "{}", kind.name);
    }
    let last = kinds.len() as i64;
    rig.until("all are read", SOON, async || rig.read().await == last).await;

    let scores: Vec<(String, String)> =
        sqlx::query_as("SELECT tweet_id, text FROM scores").fetch_all(&rig.pool).await.unwrap();
    let scores: BTreeMap<String, String> = scores.into_iter().collect();
    let letters: Vec<(i64, String, i64, Vec<u8>)> =
        sqlx::query_as(r#"SELECT "offset", reason, payload_bytes, payload FROM dead_letters"#)
            .fetch_all(&rig.pool)
            .await
            .unwrap();
    let mut letters: BTreeMap<i64, _> =
        letters.into_iter().map(|(at, reason, bytes, copy)| (at, (reason, bytes, copy))).collect();
    let (mut tweets, mut notices) = (0, BTreeMap::<&str, u32>::new());
    for (number, kind) in kinds.iter().enumerate() {
        let letter = letters.remove(&(number as i64));
        match kind.becomes {
            Becomes::Tweet(text) => {
                tweets += 1;
                assert_eq!(
                    scores.get(&id(number)).map(String::as_str),
                    Some(text),
                    "{}",
                    kind.name
                );
                assert_eq!(letter, None, "{}", kind.name);
            }
            Becomes::Letter(part) => {
                let (reason, bytes, copy) = letter.unwrap_or_else(|| panic!("{}", kind.name));
                assert!(reason.contains(part), "{}: {reason}", kind.name);
                assert_eq!(bytes, kind.payload.len() as i64, "{}", kind.name);
                assert!(copy == kind.payload, "{}: the copy is the record", kind.name);
            }
            Becomes::Notice(reason) => {
                *notices.entry(reason).or_default() += 1;
                assert_eq!(letter, None, "{}", kind.name);
            }
        }
    }
    assert_eq!((scores.len(), letters.len()), (tweets, 0), "nothing else is stored");
    for (reason, count) in notices {
        let line = format!("monitor_notices_total{{reason=\"{reason}\"}} {count}");
        rig.assert_metrics(&[&line]).await;
    }
    assert!(rig.terminate(), "exits with success on SIGTERM");
}
