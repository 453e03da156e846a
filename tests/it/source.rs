//! The Kafka source while the store does not say where to resume, over the real protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use monitor_config as config;
use monitor_core::clock::SystemClock;
use monitor_core::domain::{Offset, TopicPartition};
use monitor_embedded::MockBroker;
use monitor_ingest::{Bounds, Event, KafkaSource, Positions, Source};
use monitor_telemetry::Readiness;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::{sleep, timeout};

use crate::support::produce;

/// librdkafka leaves the group after this long without a poll; it allows no less.
const POLL_INTERVAL: Duration = Duration::from_secs(6);

/// A store that is away until it is not; then all partitions resume at offset 2.
struct Away(AtomicBool);

impl Positions for Away {
    fn claim(
        &self,
        partitions: &[TopicPartition],
        bounds: &dyn Fn(&TopicPartition) -> Option<Bounds>,
    ) -> Option<Vec<Offset>> {
        if self.0.load(Ordering::SeqCst) {
            return None;
        }
        partitions.iter().map(|name| bounds(name).map(|_| Offset(2))).collect()
    }
}

/// Joins the group; `properties` of librdkafka are set to [`POLL_INTERVAL`].
fn start(
    broker: &MockBroker,
    positions: Arc<Away>,
    assignment: config::Assignment,
    properties: &[&str],
) -> Source {
    let interval = POLL_INTERVAL.as_millis().to_string();
    let properties = properties.iter().map(|key| ((*key).to_owned(), interval.clone()));
    let settings = config::Kafka {
        brokers: broker.brokers().into(),
        assignment,
        queue_rows_max: 128,
        properties: properties.collect(),
        ..config::Kafka::default()
    };
    let (readiness, clock) = (Arc::new(Readiness::default()), Arc::new(SystemClock::new()));
    KafkaSource::start(&settings, positions, readiness, clock).unwrap()
}

/// Every event for a while, in words.
async fn events(source: &mut Source, wait: Duration) -> Vec<String> {
    let mut found = Vec::new();
    let collect = async {
        while let Some(event) = source.events.recv().await {
            found.push(match event {
                Event::Assigned(partitions) => format!("assigned at {}", partitions[0].1.0),
                Event::Revoked { done, .. } => {
                    let _ = done.send(());
                    "revoked".to_owned()
                }
                Event::Record(record) => format!("record {}", record.offset.0),
                Event::AtEnd(_) => continue,
            });
        }
    };
    let _ = timeout(wait, collect).await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn stays_in_its_group_while_the_store_is_away() {
    for assignment in [config::Assignment::CooperativeSticky, config::Assignment::Range] {
        let broker = MockBroker::start("tweets", 1).unwrap();
        for n in 0..4 {
            produce(broker.brokers(), "tweets", &n.to_string()).await;
        }
        let store = Arc::new(Away(AtomicBool::new(true)));
        let limits = ["session.timeout.ms", "max.poll.interval.ms"];
        let mut source = start(&broker, store.clone(), assignment, &limits);
        let meanwhile = events(&mut source, 2 * POLL_INTERVAL).await;
        assert_eq!(meanwhile, [""; 0], "{assignment:?}: nothing before it is known from where");
        store.0.store(false, Ordering::SeqCst);
        let found = events(&mut source, Duration::from_secs(4)).await;
        let expected = ["assigned at 2", "record 2", "record 3"];
        assert_eq!(found, expected, "{assignment:?}: it was never expelled");

        // A partition that is claimed again goes on from where the store says.
        source.control.reclaim(&TopicPartition::new("tweets", 0));
        let found = events(&mut source, Duration::from_secs(4)).await;
        assert_eq!(found, expected, "{assignment:?}: claimed again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_partitions_away_while_nothing_is_stored() {
    let broker = MockBroker::start("tweets", 2).unwrap();
    let store = Arc::new(Away(AtomicBool::new(false)));
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().unwrap();
    let sends = (0..400).map(|n| {
        let (producer, payload) = (producer.clone(), n.to_string());
        async move {
            let record = FutureRecord::<(), _>::to("tweets").partition(n % 2).payload(&payload);
            producer.send(record, POLL_INTERVAL).await.map_err(|(error, _)| error).unwrap()
        }
    });
    futures_util::future::join_all(sends).await;
    // Nobody takes from its queue, as if Postgres were away: it fills up.
    let full = start(&broker, store.clone(), config::Assignment::CooperativeSticky, &[]);
    while full.events.len() < 64 {
        sleep(Duration::from_millis(20)).await;
    }
    let mut other = start(&broker, store, config::Assignment::CooperativeSticky, &[]);
    let assigned = timeout(10 * POLL_INTERVAL, other.events.recv()).await.expect("gets one of two");
    assert!(matches!(assigned, Some(Event::Assigned(names)) if names.len() == 1));
}
