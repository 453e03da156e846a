//! What only Apache Kafka itself can do: transactions, compaction, retention, new partitions, leaders that
//! move, the newer group protocol, logins.

use monitor_embedded::{Kafka, KafkaOptions};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::mail::server::Certificates;
use crate::support::consume;

/// A rig on a cluster of its own.
async fn rig(options: KafkaOptions, setup: Setup) -> Rig {
    let kafka = tokio::task::spawn_blocking(move || Kafka::start_with(&options).unwrap());
    Rig::start_on(Broker::Kafka(kafka.await.unwrap()), setup).await
}

async fn plain() -> Rig {
    rig(KafkaOptions::default(), Setup::new(Storage::Memory)).await
}

fn tweet(id: u32) -> String {
    format!(r#"{{"id":"{id}","text":"@united thank you","created_at":"2015-02-20T10:00:00Z"}}"#)
}

impl Rig {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.broker.internal()).create().unwrap()
    }

    fn producer(&self, properties: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.internal());
        for (key, value) in properties {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// Sends these tweets to a partition, and waits until they are stored in Kafka.
    fn send(&self, partition: i32, ids: impl Iterator<Item = u32>) {
        let producer = self.producer(&[]);
        for id in ids {
            let (key, payload) = (id.to_string(), tweet(id));
            let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SOON).unwrap();
    }

    async fn scores(&self) -> i64 {
        self.count("SELECT count(*) FROM scores").await
    }

    /// Waits until so many tweets are stored and every partition is read to its end.
    async fn until_scores(&self, expected: i64) {
        self.until(&format!("{expected} tweets are stored"), SOON, async || {
            self.scores().await == expected
        })
        .await;
        self.until("all partitions are at their end", SOON, async || {
            self.count("SELECT count(*) FROM checkpoints WHERE NOT at_end").await == 0
        })
        .await;
        assert_eq!(self.scores().await, expected);
        assert_eq!(self.count("SELECT count(*) FROM dead_letters").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn aborted_records_are_never_seen() {
    let mut rig = plain().await;
    rig.run();
    let producer = rig.producer(&[("transactional.id", "tweets")]);
    producer.init_transactions(SOON).unwrap();
    for (round, commits) in [true, false, true, false].into_iter().enumerate() {
        producer.begin_transaction().unwrap();
        for n in 0..50 {
            let payload = tweet(round as u32 * 50 + n);
            let record = BaseRecord::<(), _>::to(TOPIC).partition(1).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SOON).unwrap();
        match commits {
            true => producer.commit_transaction(SOON).unwrap(),
            false => producer.abort_transaction(SOON).unwrap(),
        }
        if round == 1 {
            // The next daemon resumes before or behind the gap.
            rig.kill();
            rig.run();
        }
    }
    rig.until_scores(100).await;
    let aborted = "SELECT count(*) FROM scores WHERE tweet_id::int / 50 IN (1, 3)";
    assert_eq!(rig.count(aborted).await, 0);
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn gaps_from_compaction_are_no_loss() {
    let properties = vec!["log.cleaner.backoff.ms=100".to_owned()];
    let mut rig =
        rig(KafkaOptions { properties, ..KafkaOptions::default() }, Setup::new(Storage::Memory))
            .await;
    rig.admin().delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "100")
        .set("min.cleanable.dirty.ratio", "0.01")
        .set("max.compaction.lag.ms", "100");
    rig.until("the topic is made anew", SOON, async || {
        let made = rig.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
        made.iter().all(Result::is_ok)
    })
    .await;
    // Forty versions of each of ten keys; compaction keeps the newest.
    let producer = rig.producer(&[]);
    for round in 0..40 {
        for key in 0..10 {
            let (key, payload) = (key.to_string(), tweet(round * 10 + key));
            let record = BaseRecord::to(TOPIC).partition(0).key(&key).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SOON).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let brokers = rig.broker.internal();
    rig.until("most records are compacted away", SOON, async || {
        // The newest segment is never compacted, so write into it until the older ones are.
        rig.send(0, 1000..1001);
        consume(&brokers, TOPIC, 200).await.len() < 100
    })
    .await;
    rig.run();
    rig.until("it reads", SOON, async || rig.scores().await > 0).await;
    rig.kill();
    rig.run();
    rig.send(0, 2000..2010);
    rig.until("the last one is stored", SOON, async || {
        rig.count("SELECT count(*) FROM scores WHERE tweet_id = '2009'").await == 1
    })
    .await;
    // Compaction goes on meanwhile: what is left now was there all the time.
    let left = consume(&brokers, TOPIC, 200).await;
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT tweet_id FROM scores").fetch_all(&rig.pool).await.unwrap();
    for record in &left {
        let id = serde_json::from_str::<serde_json::Value>(record).unwrap()["id"].clone();
        assert!(stored.iter().any(|stored| *stored == id), "{id} is not among {stored:?}");
    }
    assert!(left.len() >= 20, "{left:?}");
    assert_eq!(rig.count("SELECT count(*) FROM dead_letters").await, 0);
    rig.assert_metrics(&["monitor_offsets_lost_total 0"]).await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn says_how_many_records_retention_took() {
    let mut rig = plain().await;
    rig.run();
    rig.send(0, 0..100);
    rig.until_scores(100).await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
    rig.send(0, 100..300);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(TOPIC, 0, rdkafka::Offset::Offset(250)).unwrap();
    rig.admin().delete_records(&before, &AdminOptions::new()).await.unwrap();
    rig.run();
    rig.until_scores(150).await;
    rig.assert_metrics(&["monitor_offsets_lost_total 150"]).await;

    // It also happens to a reader that runs: its position is gone when it reads on.
    rig.send(0, 300..310);
    rig.until_scores(160).await;
    let log = std::fs::read_to_string(rig.log()).unwrap();
    assert!(log.contains("the broker deleted records before they were read"), "{log}");
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn partitions_added_later_are_read_from_their_beginning() {
    let mut rig = plain().await;
    // By default librdkafka looks for new partitions every five minutes.
    rig.run_with(&["--set", "kafka.properties.topic.metadata.refresh.interval.ms=500"]);
    rig.send(0, 0..50);
    rig.until_scores(50).await;
    let added = NewPartitions::new(TOPIC, 7);
    let made = rig.admin().create_partitions([&added], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    for partition in 4..7_i32 {
        let first = 100 * partition.cast_unsigned();
        rig.until("the partition is there", SOON, async || {
            let producer = rig.producer(&[]);
            let found = producer.client().fetch_metadata(Some(TOPIC), SOON).unwrap();
            found.topics()[0].partitions().len() == 7
        })
        .await;
        rig.send(partition, first..first + 50);
    }
    rig.until_scores(200).await;
    assert_eq!(rig.count("SELECT count(*) FROM checkpoints").await, 7);
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn leaders_may_move_and_nodes_may_die() {
    let options = KafkaOptions { nodes: 3, ..KafkaOptions::default() };
    let mut rig = rig(options, Setup::new(Storage::Memory)).await;
    rig.admin().delete_topics(&[TOPIC], &AdminOptions::new()).await.unwrap();
    let topic = NewTopic::new(TOPIC, 4, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
    rig.until("the topic is made anew", SOON, async || {
        let made = rig.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
        made.iter().all(Result::is_ok)
    })
    .await;
    rig.run();
    let replay = rig.replay(14_000.0);
    for node in 0..3 {
        let before = rig.read().await.max(0);
        rig.until("it stores records", SOON, async || {
            rig.read().await > before + 300 || replay.is_finished()
        })
        .await;
        println!("node {node} dies after {} records read", rig.read().await);
        let Broker::Kafka(kafka) = &mut rig.broker else { unreachable!("made of Kafka") };
        kafka.kill(node);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let Broker::Kafka(kafka) = &mut rig.broker else { unreachable!("made of Kafka") };
        tokio::task::block_in_place(|| kafka.start_again(node).unwrap());
    }
    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    rig.until("all tweets are stored", 3 * SOON, async || rig.scores().await == WEEK_TWEETS).await;
    rig.assert_week_is_complete().await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

/// KIP-848: the broker assigns the partitions.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn a_static_member_that_is_fenced_joins_again() {
    let mut rig = plain().await;
    rig.run();
    rig.send(0, 1..=20);
    rig.until_scores(20).await;
    // Another member with its name, as the broker sees a join whose answer was lost.
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", rig.broker.internal())
        .set("group.id", "monitor")
        .set("group.instance.id", "one")
        .set("partition.assignment.strategy", "cooperative-sticky");
    let joins = tokio::task::spawn_blocking(move || {
        let other: BaseConsumer = config.create().unwrap();
        other.subscribe(&[TOPIC]).unwrap();
        // Ten polls a second.
        let polls = 10 * SOON.as_secs();
        let joined = (0..polls).any(|_| {
            drop(other.poll(Duration::from_millis(100)));
            other.assignment().unwrap().count() > 0
        });
        assert!(joined, "the other member gets no partition");
    });
    joins.await.unwrap();
    rig.until("it joins again", SOON, async || {
        std::fs::read_to_string(rig.log()).unwrap().contains("joining the group again")
    })
    .await;
    rig.send(1, 21..=40);
    rig.until_scores(40).await;
    assert!(rig.terminate(), "{}", super::log_end(&rig.log()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn daemons_join_and_leave_with_the_newer_group_protocol() {
    let setup = Setup { static_member: false, ..Setup::new(Storage::Memory) };
    let rig = rig(KafkaOptions::default(), setup).await;
    let file = rig.folder.path().join("monitor.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let newer =
        text.replace(r#""session.timeout.ms" = "6000""#, r#""group.protocol" = "consumer""#);
    assert_ne!(text, newer);
    std::fs::write(file, newer).unwrap();
    join_and_leave(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kafka"]
async fn logs_in_over_tls_and_reads_every_codec() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::new(folder.path(), "localhost");
    let key = std::fs::read_to_string(&certificates.key).unwrap();
    let chain = std::fs::read_to_string(&certificates.server).unwrap();
    let store = folder.path().join("keystore.pem");
    std::fs::write(&store, key + &chain).unwrap();
    let properties = [
        "listener.security.protocol.map=CLIENTS:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "advertised.listeners=CLIENTS://localhost:{port},INTERNAL://127.0.0.1:{internal}",
        "sasl.enabled.mechanisms=SCRAM-SHA-512",
        "listener.name.clients.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "ssl.keystore.type=PEM",
        &format!("ssl.keystore.location={}", store.display()),
        "message.max.bytes=6000000",
        "replica.fetch.max.bytes=6000000",
    ];
    let scram = "SCRAM-SHA-512=[name=monitor,password=a secret]".to_owned();
    let options = KafkaOptions {
        properties: properties.map(str::to_owned).into(),
        format: vec!["--add-scram".into(), scram],
        ..KafkaOptions::default()
    };
    let mut rig = rig(options, Setup::new(Storage::Memory)).await;
    let login = |password: &str, authority: &Path| {
        let brokers = rig.broker.brokers().replace("127.0.0.1", "localhost");
        let settings = [
            format!("kafka.brokers={brokers}"),
            "kafka.record_bytes_max=6000000".to_owned(),
            "kafka.properties.security.protocol=SASL_SSL".to_owned(),
            "kafka.properties.sasl.mechanism=SCRAM-SHA-512".to_owned(),
            "kafka.properties.sasl.username=monitor".to_owned(),
            format!("kafka.properties.sasl.password={password}"),
            format!("kafka.properties.ssl.ca.location={}", authority.display()),
        ];
        settings.into_iter().flat_map(|set| ["--set".to_owned(), set]).collect::<Vec<_>>()
    };
    let run = |rig: &mut Rig, arguments: &[String]| {
        rig.run_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    };

    // A wrong password, and another authority: it says so, and is not ready.
    let other = TempDir::new().unwrap();
    let other = Certificates::new(other.path(), "localhost");
    let wrong = [
        (login("another", &certificates.authority), "Authentication failed"),
        (login("a secret", &other.authority), "certificate verify failed"),
    ];
    let right = login("a secret", &certificates.authority);
    for (arguments, reason) in wrong {
        run(&mut rig, &arguments);
        rig.until(reason, SOON, async || {
            let log = std::fs::read_to_string(rig.log()).unwrap();
            log.contains(reason) && rig.ready().await.is_some_and(|(ready, _)| !ready)
        })
        .await;
        rig.kill();
    }
    let log = std::fs::read_to_string(rig.log()).unwrap();
    assert!(!log.contains("a secret") && !log.contains("another"), "passwords are not logged");

    run(&mut rig, &right);
    for (place, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let producer =
            rig.producer(&[("compression.codec", codec), ("message.max.bytes", "6000000")]);
        // 5 MB that hardly compress, in a field that nobody reads.
        let random = ChaCha8Rng::seed_from_u64(place as u64);
        let noise: String =
            random.random_iter::<u64>().take(310_000).map(|n| format!("{n:016x}")).collect();
        let large = format!(
            r#"{{"id":"{place}","text":"@united thank you","created_at":"2015-02-20T10:00:00Z","noise":"{noise}"}}"#
        );
        for payload in [tweet(100 + place as u32), large] {
            let record = BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(SOON).unwrap();
    }
    rig.until_scores(10).await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}
