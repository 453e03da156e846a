//! Postgres loses transactions that it said it had stored, as where a standby takes over without them.

use monitor_embedded::Postgres;

use super::*;

const SOON: Duration = Duration::from_secs(60);

/// A server that writes its log late, and lets no transaction wait for it.
struct Server {
    postgres: Postgres,
    store: Arc<PostgresStore>,
}

impl Server {
    async fn start() -> Self {
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(None)).await;
        let postgres = postgres.unwrap().unwrap();
        let url = postgres.create_database("monitor").await.unwrap();
        let store = PostgresStore::connect(&config::Store { url, ..config::Store::default() });
        let store = Arc::new(store.unwrap());
        store.migrate().await.unwrap();
        for sql in [
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "ALTER SYSTEM SET synchronous_commit = off",
            "SELECT pg_reload_conf()",
        ] {
            sqlx::raw_sql(sql).execute(store.pool()).await.unwrap();
        }
        Self { postgres, store }
    }

    fn crash(&mut self) {
        tokio::task::block_in_place(|| {
            self.postgres.kill_server();
            self.postgres.start_server().unwrap();
        });
    }

    /// How many records are stored; 0 while the server does not answer.
    async fn read(&self) -> i64 {
        let progress = self.store.progress("tweets").await.unwrap_or_default();
        progress.iter().map(|read| read.position.0).sum()
    }

    async fn until_read(&self, records: i64) {
        let all = async {
            while self.read().await < records {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(SOON, all).await;
        assert!(in_time.is_ok(), "{} of {records} records are stored", self.read().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_has_lost_is_read_again() {
    const ROUNDS: i64 = 10;
    const TWEETS: i64 = 40;
    let mut server = Server::start().await;
    let broker = MockBroker::start("tweets", 2).unwrap();
    let kafka = config::Kafka {
        brokers: broker.brokers().into(),
        topic: "tweets".into(),
        idle_after_ms: 500,
        ..config::Kafka::default()
    };
    let clock = Arc::new(SystemClock::new());
    let store = server.store.clone();
    let positions = Arc::new(StoredPositions::new(store.clone(), StartAt::Earliest));
    let source = KafkaSource::start(&kafka, positions, Arc::default(), clock.clone()).unwrap();
    let model = watch::Sender::new(Lineup::of(ModelHandle::spawn(Model::null())));
    let settings = Settings { retry_wait_max: Duration::from_millis(100), ..settings() };
    let pipeline = Pipeline::new(settings, store.clone(), model, brands(), clock);
    let stop = CancellationToken::new();
    let running = tokio::spawn(pipeline.run(source, stop.clone().cancelled_owned()));
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().unwrap();
    let mut lost = Vec::new();
    for round in 1..=ROUNDS {
        for n in (round - 1) * TWEETS..round * TWEETS {
            let tweet = serde_json::json!({
                "id": n.to_string(), "text": "air fine", "created_at": "2015-02-20T10:00:00Z"
            });
            let payload = tweet.to_string();
            let record =
                FutureRecord::<(), _>::to("tweets").partition(n as i32 % 2).payload(&payload);
            producer.send(record, SOON).await.unwrap();
        }
        server.until_read(round * TWEETS).await;
        server.crash();
        lost.push(round * TWEETS - server.read().await);
        // In other rounds the next records come at once. In these nothing more comes.
        if round % 2 == 0 {
            server.until_read(round * TWEETS).await;
        }
    }
    println!("records lost by each crash: {lost:?}");
    assert!(lost.iter().any(|lost| *lost > 0), "no crash lost anything");
    stop.cancel();
    running.await.unwrap().unwrap();
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.scores, totals.dead_letters), ((ROUNDS * TWEETS) as u64, 0));
    let rows = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM scores");
    assert_eq!(rows.fetch_one(store.pool()).await.unwrap(), ROUNDS * TWEETS);
    let minute = Minute::of("2015-02-20T10:00:00Z".parse().unwrap());
    let counts = store.minute_counts("air", minute, minute).await.unwrap();
    assert_eq!(counts[0].1.total, (ROUNDS * TWEETS) as u64);
}
