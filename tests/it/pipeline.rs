//! The pipeline on a store that fails in every way a database can, over a source in memory.

mod lost;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use monitor::pipeline::{Lineup, Pipeline, Settings, StoredPositions};
use monitor_config as config;
use monitor_core::alerting::{Counting, Voice};
use monitor_core::batching::BatchPolicy;
use monitor_core::clock::SystemClock;
use monitor_core::domain::{
    Acknowledgement, Counts, Incident, IncidentId, Label, Language, Minute, Offset, Probabilities,
    Resume, StartAt, StreamFormat, TopicPartition, Watch,
};
use monitor_core::text::{BrandMatcher, BrandRule};
use monitor_embedded::MockBroker;
use monitor_ingest::{KafkaSource, MemorySource, WireLimits};
use monitor_model::{Classifier, ClassifyError, Encoding, Fault, Model, ModelHandle};
use monitor_store::{
    Batch, Claim, Committed, DeadNotification, Decision, DetectorState, Event, Example,
    MemoryStore, OutboxRow, OutboxState, PartitionProgress, PostgresStore, Silence, Store,
    StoreError, StoredTweet, Totals,
};
use monitor_telemetry::Readiness;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{fresh_database, seeded};

/// A store that loses its connection before or after a commit, or reports that another reader
/// was faster.
struct Flaky {
    inner: MemoryStore,
    random: Mutex<ChaCha8Rng>,
    failures: Mutex<BTreeMap<&'static str, u32>>,
    /// Most records that were to be stored together.
    most: AtomicUsize,
}

impl Flaky {
    fn fail(&self, how: &'static str) -> StoreError {
        *self.failures.lock().unwrap().entry(how).or_default() += 1;
        StoreError::Unavailable(sqlx::Error::PoolTimedOut)
    }

    async fn claim_or_fail(
        &self,
        claims: &[Claim],
        start_at: StartAt,
    ) -> Result<Vec<Resume>, StoreError> {
        if self.random.lock().unwrap().random_bool(0.3) {
            return Err(self.fail("claim"));
        }
        self.inner.claim(claims, start_at).await
    }

    async fn commit_or_fail(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let records = batch.scores.len() + batch.dead_letters.len();
        self.most.fetch_max(records, Ordering::Relaxed);
        let dice = self.random.lock().unwrap().random_range(0..100);
        match dice {
            0..15 => Err(self.fail("before the commit")),
            15..30 => {
                self.inner.commit(batch).await?;
                Err(self.fail("after the commit"))
            }
            30..40 => {
                // A reader that does not know of the rebalance stores the same batch first.
                let _ = self.inner.commit(batch).await;
                let answer = self.inner.commit(batch).await;
                assert!(matches!(answer, Err(StoreError::Fenced { .. })), "{answer:?}");
                *self.failures.lock().unwrap().entry("fenced").or_default() += 1;
                answer
            }
            _ => self.inner.commit(batch).await,
        }
    }
}

/// Forwards a call to the inner store, except the two calls that may fail.
macro_rules! forward {
    ($store:ident, claim($claims:ident, $start_at:ident)) => {
        $store.claim_or_fail($claims, $start_at)
    };
    ($store:ident, commit($batch:ident)) => {
        $store.commit_or_fail($batch)
    };
    ($store:ident, $call:ident($($argument:ident),*)) => {
        $store.inner.$call($($argument),*)
    };
}

macro_rules! flaky {
    ($($group:ident {
        $($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    })*) => {
        #[async_trait]
        impl Store for Flaky {
            $($(async fn $call(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                forward!(self, $call($($argument),*)).await
            })*)*
        }
    };
}

monitor_store::each_store_call!(flaky);

/// Fails on every batch that contains a certain word, with the given fault.
struct Superstitious {
    inner: Box<dyn Classifier>,
    word: u32,
    fault: Fault,
}

impl Superstitious {
    fn model(fault: Fault) -> Model {
        let Model { id, classes, languages, thresholds, encoder, classifier: inner } =
            Model::null();
        let word = encoder.encode("thirteen").ids[0];
        let classifier = Box::new(Self { inner, word, fault });
        Model { id, classes, languages, thresholds, encoder, classifier }
    }
}

impl Classifier for Superstitious {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        if batch.iter().any(|encoding| encoding.ids.contains(&self.word)) {
            let error = ClassifyError::new(batch.len(), "bad luck");
            return Err(ClassifyError { fault: self.fault, ..error });
        }
        self.inner.classify(batch)
    }
}

/// Partitions of tweets about "air", with gaps between the offsets. Some records are repeated,
/// some are not tweets, and some contain a word that the model fails on. Also returns the ids
/// of the tweets that can be scored, and the number of dead letters.
fn topic(random: &mut ChaCha8Rng) -> (MemorySource, BTreeSet<String>, usize) {
    let (mut ids, mut letters) = (BTreeSet::new(), 0);
    let partitions = (0..3)
        .map(|_| {
            let mut offset = random.random_range(0..5);
            (0..random.random_range(0..400))
                .map(|_| {
                    offset += if random.random_bool(0.1) { random.random_range(2..9) } else { 1 };
                    let id = random.random_range(0..900);
                    let tweet = |word| {
                        let minute = id % 50;
                        format!(r#"{{"id":"{id}","text":"Air {word}!","created_at":"2015-02-20T10:{minute:02}:00Z"}}"#)
                    };
                    let payload = if random.random_bool(0.05) {
                        letters += 1;
                        "no tweet".to_owned()
                    } else if id % 50 == 13 {
                        letters += 1;
                        tweet("thirteen")
                    } else {
                        ids.insert(id.to_string());
                        tweet("fine")
                    };
                    (Offset(offset), payload.into_bytes())
                })
                .collect()
        })
        .collect();
    (MemorySource::new("tweets", partitions), ids, letters)
}

fn settings() -> Settings {
    Settings {
        batching: BatchPolicy { rows_max: 17, wait_max: Duration::from_millis(5) },
        counting: Counting::new(Voice::Tweet, &[]),
        count_deleted: true,
        limits: WireLimits {
            record_bytes_max: 10_000,
            future_max: TimeDelta::hours(1),
            format: StreamFormat::Auto,
        },
        retry_wait_max: Duration::from_millis(1),
        drain_max: Duration::from_secs(30),
    }
}

/// Matches "air".
fn brands() -> BrandMatcher {
    let air =
        BrandRule { name: "air".into(), keywords: vec!["air".into()], ..BrandRule::default() };
    BrandMatcher::new([air]).unwrap()
}

#[tokio::test]
async fn marks_a_text_longer_than_the_model_reads() {
    let texts = ["Air fine!".to_owned(), "Air fine! ".repeat(100), "Air late!".to_owned()];
    let record = |(n, text): (usize, String)| {
        let tweet = serde_json::json!({
            "id": n.to_string(), "text": text, "created_at": "2015-02-20T10:00:00Z"
        });
        (Offset(n as i64), tweet.to_string().into_bytes())
    };
    let source =
        MemorySource::new("tweets", vec![texts.into_iter().enumerate().map(record).collect()]);
    let store = Arc::new(MemoryStore::default());
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(Model::null())));
    let clock = Arc::new(SystemClock::new());
    let pipeline = Pipeline::new(settings(), store.clone(), model, brands(), clock);
    pipeline.run(source.start(positions, 64), std::future::pending()).await.unwrap();
    let minute = Minute::of("2015-02-20T10:00:00Z".parse().unwrap());
    let found = store.window_tweets("air", minute, minute, 9).await.unwrap();
    let truncated: Vec<bool> = found.iter().map(|tweet| tweet.truncated).collect();
    assert_eq!(truncated, [false, true, false]);
}

#[tokio::test]
async fn counts_new_tweets_by_brand_model_and_language() {
    let metrics = monitor_telemetry::init_metrics();
    // Brands of their own, as the metrics are those of the whole process.
    let rule = |name: &str| BrandRule {
        name: name.into(),
        keywords: vec![name.into()],
        ..BrandRule::default()
    };
    let brands = BrandMatcher::new([rule("gull"), rule("heron")]).unwrap();
    let texts = [
        ("1", "The gull is late again", "en"),
        ("2", "The gull and the heron are late", "en"),
        ("1", "The gull is late again", "en"),
        ("3", "The gull is late", "fr"),
        ("4", "The rest is late", "en"),
    ];
    let record = |(n, (id, text, lang)): (usize, (&str, &str, &str))| {
        let tweet = serde_json::json!({
            "id": id, "text": text, "lang": lang, "created_at": "2015-02-20T10:00:00Z"
        });
        (Offset(n as i64), tweet.to_string().into_bytes())
    };
    let source =
        MemorySource::new("tweets", vec![texts.into_iter().enumerate().map(record).collect()]);
    let store = Arc::new(MemoryStore::default());
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let model = Model { languages: [Language::ENGLISH].into(), ..Model::null() };
    let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(model)));
    let pipeline = Pipeline::new(settings(), store, model, brands, Arc::new(SystemClock::new()));
    pipeline.run(source.start(positions, 64), std::future::pending()).await.unwrap();
    let text = metrics.render();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("brand=\"gull\"") || line.contains("brand=\"heron\""))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"monitor_tweets_total{brand="gull",model="none",language="fr"} 1"#,
            r#"monitor_tweets_total{brand="gull",model="null@1",language="en"} 2"#,
            r#"monitor_tweets_total{brand="heron",model="null@1",language="en"} 1"#,
        ]
    );
}

#[tokio::test]
async fn a_device_failure_dead_letters_no_tweet() {
    let record = |n: i64| {
        let word = if n == 40 { "thirteen" } else { "fine" };
        let tweet = serde_json::json!({
            "id": n.to_string(), "text": word, "created_at": "2015-02-20T10:00:00Z"
        });
        (Offset(n), tweet.to_string().into_bytes())
    };
    let store = Arc::new(MemoryStore::default());
    let run = async |model| {
        let source = MemorySource::new("tweets", vec![(0..60).map(record).collect()]);
        let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
        let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(model)));
        let clock = Arc::new(SystemClock::new());
        let pipeline = Pipeline::new(settings(), store.clone(), model, brands(), clock);
        pipeline.run(source.start(positions, 64), std::future::pending()).await
    };
    let error = run(Superstitious::model(Fault::Device)).await.unwrap_err().to_string();
    assert!(error.contains("the model's thread has ended"), "{error}");
    assert!(store.totals().await.unwrap().scores < 60);
    run(Model::null()).await.unwrap();
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.scores, totals.dead_letters), (60, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_takes_too_long_is_stored_in_parts() {
    let url = fresh_database().await;
    let settings_of = config::Store { url, statement_timeout_ms: 500, ..config::Store::default() };
    let store = Arc::new(PostgresStore::connect(&settings_of).unwrap());
    store.migrate().await.unwrap();
    // A tweet takes 0.1 s, so not more than a few can be stored in one statement.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
                CREATE TRIGGER slow BEFORE INSERT ON scores FOR EACH ROW EXECUTE FUNCTION slow()";
    sqlx::raw_sql(slow).execute(store.pool()).await.unwrap();
    let record = |n: i64| {
        let tweet =
            format!(r#"{{"id":"{n}","text":"Air fine","created_at":"2015-02-20T10:00:00Z"}}"#);
        (Offset(n), tweet.into_bytes())
    };
    let source = MemorySource::new("tweets", vec![(0..16).map(record).collect()]);
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(Model::null())));
    let clock = Arc::new(SystemClock::new());
    let pipeline = Pipeline::new(settings(), store.clone(), model, brands(), clock);
    pipeline.run(source.start(positions, 64), std::future::pending()).await.unwrap();
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.scores, totals.dead_letters), (16, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_every_tweet_once_under_all_store_failures() {
    let mut failures = BTreeMap::<&str, u32>::new();
    let mut most = 0;
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (source, ids, letters) = topic(&mut random);
        let store = Arc::new(Flaky {
            inner: MemoryStore::default(),
            random: Mutex::new(random),
            failures: Mutex::default(),
            most: AtomicUsize::default(),
        });
        let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
        let model = Superstitious::model(Fault::Row);
        let pipeline = Pipeline::new(
            settings(),
            store.clone(),
            watch::Sender::new(Lineup::of(ModelHandle::spawn(model))),
            brands(),
            Arc::new(SystemClock::new()),
        );
        pipeline
            .run(source.start(positions, 64), std::future::pending())
            .await
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));

        let totals = store.totals().await.unwrap();
        assert_eq!(totals.scores, ids.len() as u64, "seed {seed}: scores");
        assert_eq!(totals.dead_letters, letters as u64, "seed {seed}: dead letters");
        let counted: u64 = store
            .minute_counts("air", Minute(0), Minute(i64::from(u32::MAX)))
            .await
            .unwrap()
            .iter()
            .map(|(_, counts)| counts.total)
            .sum();
        assert_eq!(counted, totals.scores, "seed {seed}: counts are a fold over scores");
        most = most.max(store.most.load(Ordering::Relaxed));
        for (how, times) in &*store.failures.lock().unwrap() {
            *failures.entry(how).or_default() += times;
        }
    }
    for how in ["claim", "before the commit", "after the commit", "fenced"] {
        assert!(failures.get(how).is_some_and(|&times| times > 20), "{how}: {failures:?}");
    }
    let of_batches = settings().batching.rows_max;
    assert!(
        (of_batches + 1..=4 * of_batches).contains(&most),
        "batches that wait are stored together: {most}"
    );
}

/// What each request of a reader may be answered with by a broker that is in trouble.
const TROUBLE: [(RDKafkaApiKey, &[RDKafkaRespErr]); 8] = {
    use RDKafkaRespErr::*;
    [
        (
            RDKafkaApiKey::Fetch,
            &[
                RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
                RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
                RD_KAFKA_RESP_ERR_UNKNOWN,
            ],
        ),
        (
            RDKafkaApiKey::ListOffsets,
            &[RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT],
        ),
        (RDKafkaApiKey::Metadata, &[RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE]),
        (
            RDKafkaApiKey::FindCoordinator,
            &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT],
        ),
        (
            RDKafkaApiKey::JoinGroup,
            &[RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID],
        ),
        (
            RDKafkaApiKey::SyncGroup,
            &[RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS],
        ),
        (
            RDKafkaApiKey::Heartbeat,
            &[
                RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
                RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
                RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            ],
        ),
        (
            RDKafkaApiKey::OffsetCommit,
            &[RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION],
        ),
    ]
};

/// Errors that librdkafka's mock cluster answers with, slow answers, and connections that are closed.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_broker_lose_and_double_nothing() {
    const TWEETS: usize = 2_000;
    const ROUNDS: usize = 100;
    let mut random = seeded();
    let broker = MockBroker::start("tweets", 4).unwrap();
    let store = Arc::new(MemoryStore::default());
    let mut properties = BTreeMap::new();
    for (key, value) in [("heartbeat.interval.ms", "100"), ("session.timeout.ms", "6000")] {
        properties.insert(key.to_owned(), value.to_owned());
    }
    let settings_of_kafka = config::Kafka {
        brokers: broker.brokers().into(),
        topic: "tweets".into(),
        properties,
        ..config::Kafka::default()
    };
    let clock = Arc::new(SystemClock::new());
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let readiness = Arc::new(Readiness::default());
    let source =
        KafkaSource::start(&settings_of_kafka, positions, readiness, clock.clone()).unwrap();
    let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(Model::null())));
    let pipeline = Pipeline::new(settings(), store.clone(), model, brands(), clock);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(source, stop.clone().cancelled_owned()));
    let mut sent = 0..TWEETS;
    for _ in 0..ROUNDS {
        let (request, answers) = TROUBLE[random.random_range(0..TROUBLE.len())];
        let answer = answers[random.random_range(0..answers.len())];
        let (delay_ms, closes) = (random.random_range(0..40), random.random_ratio(1, 20));
        broker
            .ask(move |cluster| {
                cluster.request_errors(request, &[answer]);
                cluster.broker_round_trip_time(1, Duration::from_millis(delay_ms))
            })
            .unwrap();
        if closes {
            broker.down().unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            broker.up().unwrap();
        }
        let sends = sent.by_ref().take(TWEETS / ROUNDS).map(|n| {
            let tweet = serde_json::json!({
                "id": n.to_string(), "text": "air fine", "created_at": "2015-02-20T10:00:00Z"
            });
            let (producer, partition, payload) = (&producer, n as i32 % 4, tweet.to_string());
            async move {
                let record =
                    FutureRecord::<(), _>::to("tweets").partition(partition).payload(&payload);
                producer.send(record, Duration::from_secs(20)).await.map_err(|(error, _)| error)
            }
        });
        futures_util::future::try_join_all(sends).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (request, _) in TROUBLE {
        broker
            .ask(move |cluster| {
                cluster.clear_request_errors(request);
                Ok(())
            })
            .unwrap();
    }
    let stored = async || store.totals().await.unwrap().scores;
    let all = async {
        while stored().await < TWEETS as u64 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(in_time.is_ok(), "{} of {TWEETS} are stored", stored().await);
    stop.cancel();
    running.await.unwrap().unwrap();
    let minute = Minute::of("2015-02-20T10:00:00Z".parse().unwrap());
    let counts = store.minute_counts("air", minute, minute).await.unwrap();
    assert_eq!(counts[0].1.total, TWEETS as u64);
    assert_eq!(store.totals().await.unwrap().scores, TWEETS as u64);
}
