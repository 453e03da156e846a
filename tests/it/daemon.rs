//! `monitor run` as a process, with a real broker, Postgres and mail server: kills, outages,
//! invalid records.

mod disk;
mod kafka;
mod network;
mod predict;
mod records;
mod storm;
mod switch;
mod torture;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use monitor::pipeline::Evaluator;
use monitor::replay::{ReplayRequest, Sent, Times, replay};
use monitor_core::alerting::Heard;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{
    Label, Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet, TweetId,
};
use monitor_embedded::{MailServer, Postgres, Storage};
use monitor_store::{Advance, Batch, Claim, MemoryStore, ModelScore, ScoredTweet, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, create_topic, from_environment, seeded, tiny_model};

const TOPIC: &str = "tweets";
const WEEK: &str = "tests/fixtures/airline-week.csv.xz";
const WEEK_ROWS: u64 = 14_640;
const WEEK_TWEETS: i64 = 14_485;

/// How the rigs of the tests differ.
#[derive(Clone, Copy)]
struct Setup {
    storage: Storage,
    /// `kafka.assignment`
    assignment: &'static str,
    /// Whether the daemon is a static member of its group, so that it gets its partitions back
    /// at once after a crash. Only one daemon can have the member's name.
    static_member: bool,
}

impl Setup {
    fn new(storage: Storage) -> Self {
        Self { storage, assignment: "cooperative-sticky", static_member: true }
    }
}

/// Daemons, and the services that they use.
struct Rig {
    broker: Broker,
    postgres: Postgres,
    mail: MailServer,
    pool: PgPool,
    folder: TempDir,
    /// The daemons that run, oldest first.
    daemons: Vec<Child>,
    /// How many daemons were started, including those that ended.
    started: usize,
}

impl Rig {
    async fn start(setup: Setup) -> Self {
        let broker = tokio::task::spawn_blocking(move || Broker::start(setup.storage));
        Self::start_on(broker.await.unwrap(), setup).await
    }

    async fn start_on(broker: Broker, setup: Setup) -> Self {
        Self::start_in(None, broker, setup).await
    }

    /// With the data of Postgres below `dir`.
    async fn start_in(dir: Option<PathBuf>, broker: Broker, setup: Setup) -> Self {
        // For reqwest; another test may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        create_topic(&broker.internal(), TOPIC, 4).await;
        let (postgres, mail) = tokio::task::spawn_blocking(move || {
            (Postgres::start(dir.as_deref()).unwrap(), MailServer::start().unwrap())
        })
        .await
        .unwrap();
        let url = postgres.create_database("monitor").await.unwrap();
        let folder = TempDir::new().unwrap();
        let settings = format!(
            r#"
            [kafka]
            brokers = "{}"
            assignment = "{}"
            properties = {{ {} "session.timeout.ms" = "6000" }}
            [store]
            url = "{url}"
            retry_wait_ms_max = 500
            [model]
            name = "lstm"
            directory = "{}/models"
            [alerting]
            tick_ms = 100
            # Of copies in two partitions the one stored first counts: kills would move it.
            count = "tweets"
            [delivery]
            poll_ms = 100
            timeout_ms = 2000
            lease_ms = 3000
            [http]
            listen = "127.0.0.1:0"
            [receivers.comms]
            kind = "email"
            host = "127.0.0.1"
            port = {}
            tls = "none"
            from = "monitor@airparadis.example"
            to = ["comms@airparadis.example"]
            [brands]
            American = {{ handles = ["AmericanAir"] }}
            JetBlue = {{ handles = ["JetBlue"] }}
            Southwest = {{ handles = ["SouthwestAir"] }}
            "US Airways" = {{ handles = ["USAirways"] }}
            United = {{ handles = ["united"] }}
            Virgin = {{ handles = ["VirginAmerica"] }}
            "#,
            broker.brokers(),
            setup.assignment,
            if setup.static_member { r#""group.instance.id" = "one","# } else { "" },
            env!("CARGO_MANIFEST_DIR"),
            mail.address().port(),
        );
        std::fs::write(folder.path().join("monitor.toml"), settings).unwrap();
        let pool = PgPool::connect_lazy(&url).unwrap();
        Self { broker, postgres, mail, pool, folder, daemons: vec![], started: 0 }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn run(&mut self) {
        self.run_with(&[]);
    }

    /// Replaces parts of the settings, each of which must be there.
    fn change_settings(&self, changes: &[(&str, &str)]) {
        let file = self.folder.path().join("monitor.toml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        for (old, new) in changes {
            assert!(text.contains(old), "{old} is not in {text}");
            text = text.replace(old, new);
        }
        std::fs::write(file, text).unwrap();
    }

    /// Starts a daemon with further arguments.
    fn run_with(&mut self, arguments: &[&str]) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .args(["--set", "log.filter=info"])
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path().join("monitor.toml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push(child);
        self.started += 1;
    }

    /// The metrics of the daemon that was started last, once it answers.
    async fn metrics(&self) -> Option<String> {
        let answer = reqwest::get(format!("http://{}/metrics", self.page()?)).await.ok()?;
        answer.text().await.ok()
    }

    /// Whether the daemon that was started last has read a record.
    async fn newest_reads(&self) -> bool {
        let metrics = self.metrics().await.unwrap_or_default();
        metrics
            .lines()
            .filter_map(|line| line.strip_prefix("monitor_records_total "))
            .any(|records| records != "0")
    }

    async fn assert_metrics(&self, lines: &[&str]) {
        let metrics = self.metrics().await.unwrap();
        for line in lines {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
    }

    /// Gives the daemon its own folder of models: three versions of "lstm". The first is
    /// promoted, the last is damaged.
    fn use_own_models(&self) -> PathBuf {
        let models = self.folder.path().join("models");
        for _ in 0..3 {
            tiny_model(&models, "lstm", &[], 0.0, &[("test rows", 100, 0.9)]);
        }
        std::fs::write(models.join("lstm/3/weights.safetensors"), "half").unwrap();
        let file = self.folder.path().join("monitor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let shipped = format!(r#"directory = "{}/models""#, env!("CARGO_MANIFEST_DIR"));
        let own = format!("directory = {models:?}\n            reload_s = 1");
        assert!(text.contains(&shipped), "{text}");
        std::fs::write(file, text.replace(&shipped, &own)).unwrap();
        self.models(&["promote", "lstm@1"]);
        models
    }

    /// Runs `monitor models ...` while the daemon runs.
    fn models(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
            .arg("--config")
            .arg(self.folder.path().join("monitor.toml"))
            .arg("models")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sends SIGKILL to the oldest daemon.
    fn kill(&mut self) {
        let mut child = self.daemons.remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGTERM to the oldest daemon; returns whether it exited with success.
    fn terminate(&mut self) -> bool {
        let mut child = self.daemons.remove(0);
        // SAFETY: the child has not been waited for, so its id is still its own.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        child.wait().unwrap().success()
    }

    /// Sends the airline week to the topic in the background, `speed` times faster than real time.
    fn replay(&self, speed: f64) -> JoinHandle<Sent> {
        let kafka = monitor_config::Kafka {
            brokers: self.broker.internal(),
            topic: TOPIC.into(),
            ..monitor_config::Kafka::default()
        };
        let request = ReplayRequest {
            file: Path::new(env!("CARGO_MANIFEST_DIR")).join(WEEK),
            speed,
            times: Times::Keep,
            limit: None,
        };
        tokio::task::spawn_blocking(move || {
            replay(&request, &kafka, &CancellationToken::new(), &mut |_| {}).unwrap()
        })
    }

    /// Waits until the condition holds, or fails with the end of the daemons' log.
    async fn until(&self, what: &str, wait_max: Duration, ok: impl AsyncFnMut() -> bool) {
        assert!(
            within(wait_max, ok).await,
            "{what}: not within {wait_max:?}; the daemons' log ends with:\n{}",
            log_end(&self.log())
        );
    }

    /// The number that a query returns, or -1 while there is no server or no schema.
    async fn count(&self, sql: &'static str) -> i64 {
        let found = sqlx::query_scalar(sql).fetch_one(&self.pool).await;
        if let Err(sqlx::Error::Database(error)) = &found {
            let code = error.code().unwrap_or_default();
            // Class 42 is a mistake in the query. A table is undefined until the daemon migrates.
            assert!(!code.starts_with("42") || code == "42P01", "{error}: {sql}");
        }
        found.unwrap_or(-1)
    }

    /// Records that are read and stored, by the checkpoints.
    async fn read(&self) -> i64 {
        self.count("SELECT coalesce(sum(position), 0)::bigint FROM checkpoints").await
    }

    /// Asserts that each tweet of the week is stored once, and that the counts agree with the scores.
    async fn assert_week_is_complete(&self) {
        assert_eq!(self.count("SELECT count(*) FROM scores").await, WEEK_TWEETS);
        assert_eq!(self.count("SELECT count(*) FROM dead_letters").await, 0);
        let differing = self
            .count(
                "SELECT count(*) FROM (
                     SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute, model,
                            count(*) AS total, count(*) FILTER (WHERE label = 'NEGATIVE') AS negative
                     FROM scores, unnest(brands) AS brand
                     WHERE label IS NOT NULL GROUP BY 1, 2, 3
                 ) AS fold
                 FULL JOIN minute_counts AS m USING (brand, minute, model, total, negative)
                 WHERE fold.total IS NULL OR m.brand IS NULL",
            )
            .await;
        assert_eq!(differing, 0, "minute counts differ from the counts of the scores");
    }

    /// Brand, opening and phases of each incident.
    async fn incidents(&self) -> Vec<(String, String, Value)> {
        let found: Vec<(String, String, Value)> = sqlx::query_as(
            "SELECT brand, opened_at::text, phases FROM incidents ORDER BY opened_at, brand",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        found.into_iter().map(|(brand, opened, phases)| (brand, opened, fixed(phases))).collect()
    }

    /// The incidents that one evaluator opens which reads the week day by day and is never killed.
    async fn incidents_of_one_evaluator(&self) -> Vec<(String, String, Value)> {
        type Row = (String, DateTime<Utc>, Vec<String>, String, f32, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tweet_id, created_at, brands, text, negative, label FROM scores
             WHERE label IS NOT NULL ORDER BY created_at",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let scored = |(id, at, brands, text, negative, label): Row| {
            let tweet = Tweet::new(TweetId::new(id).unwrap(), text, at, vec![]).unwrap();
            let label = if label == "NEGATIVE" { Label::Negative } else { Label::Positive };
            let score = Score {
                probabilities: Probabilities::two(Probability::new(negative).unwrap()),
                label,
            };
            ScoredTweet {
                tweet,
                brands,
                score: Some(ModelScore::new(score, "any@1")),
                heard: Heard::Always,
            }
        };
        let store = Arc::new(MemoryStore::new());
        let partition = TopicPartition::new(TOPIC, 0);
        let high = Offset(rows.len() as i64);
        let claim = Claim { partition: partition.clone(), seen: None, low: Offset(0), high };
        store.claim(&[claim], StartAt::Earliest).await.unwrap();
        let settings =
            monitor::settings::load(Some(&self.folder.path().join("monitor.toml")), &[]).unwrap();
        let evaluator = Evaluator::new(store.clone(), &settings, Arc::new(SystemClock::new()));
        let mut from = Offset(0);
        for day in rows.chunk_by(|a, b| a.1.date_naive() == b.1.date_naive()) {
            let to = Offset(from.0 + day.len() as i64);
            let advance = Advance {
                partition: partition.clone(),
                from,
                to,
                event_time_max: day.last().map(|row| row.1),
                record_time_max: None,
            };
            let scores = day.iter().cloned().map(scored).collect();
            let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
            store.commit(&batch).await.unwrap();
            store.mark_at_end(&partition, to, true).await.unwrap();
            evaluator.evaluate().await.unwrap();
            from = to;
        }
        let mut incidents: Vec<_> = store.incidents(100).await.unwrap();
        incidents.sort_by(|a, b| (a.opened, &a.brand).cmp(&(b.opened, &b.brand)));
        incidents
            .into_iter()
            .map(|incident| {
                let opened = incident.opened.start().format("%Y-%m-%d %H:%M:%S+00").to_string();
                let phases = serde_json::to_value(&incident.phases).unwrap();
                (incident.brand, opened, fixed(phases))
            })
            .collect()
    }

    /// The idempotency keys of the mails received, and how often each arrived.
    fn mail_keys(&self) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for mail in self.mail.mails() {
            let text = mail.text();
            let key = text
                .lines()
                .find_map(|line| line.strip_prefix("X-Monitor-Key: "))
                .expect("each mail contains its key");
            *keys.entry(key.trim().to_owned()).or_default() += 1;
        }
        keys
    }

    /// The HTTP address of the daemon that was started last, once every daemon has logged its own.
    fn page(&self) -> Option<String> {
        let log = std::fs::read_to_string(self.log()).ok()?;
        if log.matches("answering HTTP").count() < self.started {
            return None;
        }
        let line = log.lines().rev().find(|line| line.contains("answering HTTP"))?;
        let at = line.rfind("127.0.0.1:")?;
        Some(line[at..].chars().take_while(|c| !c.is_whitespace() && *c != '\u{1b}').collect())
    }

    async fn ready(&self) -> Option<(bool, String)> {
        let answer = reqwest::get(format!("http://{}/readyz", self.page()?)).await.ok()?;
        Some((answer.status().is_success(), answer.text().await.ok()?))
    }

    /// Resident memory of the oldest daemon, in MB.
    fn memory_mb(&self) -> u64 {
        let id = self.daemons[0].id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        // A process that has ended has no memory.
        let Some(line) = status.lines().find(|line| line.starts_with("VmRSS:")) else {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            panic!("the daemon has ended; its log ends with:\n{last}");
        };
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.daemons {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until the condition holds; `false` if it does not within `wait_max`.
async fn within(wait_max: Duration, mut ok: impl AsyncFnMut() -> bool) -> bool {
    let clock = SystemClock::new();
    while !ok().await {
        if clock.elapsed() >= wait_max {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

fn log_end(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

const SOON: Duration = Duration::from_secs(60);

/// Longer than the session timeout (6 s), the wait for a database connection (5 s) and
/// librdkafka's longest wait between connects (10 s), so that each of them expires.
const OUTAGE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn ten_kills_lose_and_duplicate_nothing() {
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let replay = rig.replay(14_000.0);
    for kill in 0..10 {
        // Every other kill waits until the daemon has stored records; the rest hit its start.
        if kill % 2 == 1 {
            let before = rig.read().await.max(0);
            rig.until("it stores records", SOON, async || {
                rig.read().await > before || before == WEEK_ROWS as i64
            })
            .await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(100..2000))).await;
        println!("kill {kill} after {} records read", rig.read().await);
        rig.kill();
        rig.run();
    }
    assert_eq!(replay.await.unwrap().sent, WEEK_ROWS);
    rig.until("all records are read", 3 * SOON, async || rig.read().await == WEEK_ROWS as i64)
        .await;
    rig.until("all partitions are at their end", SOON, async || {
        rig.count("SELECT count(*) FROM checkpoints WHERE at_end").await == 4
    })
    .await;
    rig.assert_week_is_complete().await;
    rig.until("every minute is evaluated", 3 * SOON, async || {
        rig.count(
            "SELECT count(*) FROM watches WHERE cause = 'buzz' AND judged >= (
                 SELECT max(event_time_max) - interval '3 minutes' FROM checkpoints)",
        )
        .await
            == 6
    })
    .await;
    rig.until("every notification is sent", SOON, async || {
        rig.count("SELECT count(*) FROM outbox WHERE state <> 'sent'").await == 0
    })
    .await;
    let incidents = rig.incidents().await;
    assert!(!incidents.is_empty(), "the week has incidents");
    assert_eq!(incidents, rig.incidents_of_one_evaluator().await, "kills change no incident");
    let notified: Vec<String> =
        sqlx::query_scalar("SELECT key FROM outbox").fetch_all(&rig.pool).await.unwrap();
    let received = rig.mail_keys();
    println!("mails: {received:?}");
    let explained = "SELECT count(*) FROM outbox,
                         jsonb_array_elements(notification -> 'examples') AS example
                     WHERE jsonb_array_length(example -> 'words') > 0";
    assert!(rig.count(explained).await > 0, "example tweets have their words");
    assert_eq!(
        received.keys().cloned().collect::<BTreeSet<_>>(),
        notified.into_iter().collect::<BTreeSet<_>>(),
        "each notification arrives under its key"
    );
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn waits_for_postgres_and_for_the_broker() {
    let mut rig = Rig::start(Setup::new(Storage::Disk)).await;
    rig.run();
    let replay = rig.replay(12_000.0);
    rig.until("it reads", SOON, async || rig.read().await > 500).await;
    let ready = async |rig: &Rig| rig.ready().await.is_some_and(|(ready, _)| ready);
    rig.until("it is ready", SOON, async || ready(&rig).await).await;

    rig.postgres.stop_server();
    rig.until("it reports that Postgres is not available", SOON, async || {
        rig.ready().await.is_some_and(|(ready, text)| !ready && text.contains("store"))
    })
    .await;
    tokio::time::sleep(OUTAGE).await;
    rig.postgres.start_server().unwrap();
    rig.until("it is ready again", SOON, async || ready(&rig).await).await;
    let resumed_at = rig.read().await;
    rig.until("it continues to read", SOON, async || rig.read().await > resumed_at).await;

    rig.broker.kill();
    rig.until("it reports that the broker is not available", SOON, async || {
        rig.ready().await.is_some_and(|(ready, text)| !ready && text.contains("broker"))
    })
    .await;
    tokio::time::sleep(OUTAGE).await;
    rig.broker.start_again();
    rig.until("it is ready again", 2 * SOON, async || ready(&rig).await).await;

    let sent = replay.await.unwrap();
    assert_eq!((sent.sent, sent.failed), (WEEK_ROWS, 0));
    rig.until("all tweets are stored", 3 * SOON, async || {
        rig.count("SELECT count(*) FROM scores").await == WEEK_TWEETS
    })
    .await;
    rig.assert_week_is_complete().await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn loads_promoted_models_and_loses_no_tweet() {
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    let models = rig.use_own_models();
    rig.run();
    let replay = rig.replay(30_000.0);
    let scored = "SELECT count(*) FROM scores WHERE model = 'lstm@2'";
    rig.until("it reads", SOON, async || rig.read().await > 1000).await;
    assert_eq!(rig.count(scored).await, 0);
    rig.models(&["promote", "lstm@2"]);
    rig.until("the second model scores", SOON, async || rig.count(scored).await > 500).await;
    std::fs::write(models.join("promoted.json"), r#"{"lstm": "lstm@3"}"#).unwrap();
    rig.until("it reports that the folder has another version", SOON, async || {
        let log = std::fs::read_to_string(rig.log()).unwrap();
        log.contains("lstm@3 is opened by model.name, but lstm@2 scores the stream")
    })
    .await;
    assert!(rig.ready().await.is_some_and(|(ready, _)| ready), "it continues with the second");
    assert_eq!(replay.await.unwrap().sent, WEEK_ROWS);
    rig.until("all records are read", 3 * SOON, async || rig.read().await == WEEK_ROWS as i64)
        .await;
    rig.assert_week_is_complete().await;
    let versions: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT model FROM scores WHERE model IS NOT NULL ORDER BY 1")
            .fetch_all(&rig.pool)
            .await
            .unwrap();
    assert_eq!(versions, ["lstm@1", "lstm@2"]);
    rig.assert_metrics(&[
        r#"monitor_model_info{model="lstm@1"} 0"#,
        r#"monitor_model_info{model="lstm@2"} 1"#,
        r#"monitor_model_reloads_total{outcome="loaded"} 1"#,
        r#"monitor_model_reloads_total{outcome="failed"} 0"#,
    ])
    .await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn invalid_records_become_dead_letters_and_reading_continues() {
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", rig.broker.brokers())
        // A record of 5 MB is below the broker's limit of 1 MB when it is compressed.
        .set("message.max.bytes", "10000000")
        .set("compression.codec", "zstd")
        .create()
        .unwrap();
    let large = format!(r#"{{"id":"3","text":"{}"}}"#, "x".repeat(5_000_000));
    let tweet = |id: u32| {
        format!(r#"{{"id":"{id}","text":"@united thank you","created_at":"2015-02-20T10:00:00Z"}}"#)
    };
    for payload in
        [tweet(1), "{oops".into(), r#"{"id":"2"}"#.into(), large, String::new(), tweet(4)]
    {
        let record = FutureRecord::<(), _>::to(TOPIC).partition(1).payload(&payload);
        producer.send(record, Duration::from_secs(30)).await.unwrap();
    }
    rig.until("all are read", SOON, async || rig.read().await == 6).await;
    assert_eq!(rig.count("SELECT count(*) FROM scores").await, 2);
    let letters: Vec<(i64, String, i64, i32)> = sqlx::query_as(
        r#"SELECT "offset", reason, payload_bytes, length(payload) FROM dead_letters ORDER BY 1"#,
    )
    .fetch_all(&rig.pool)
    .await
    .unwrap();
    let expected = [
        (1, "not JSON", 5, 5),
        (2, r#""text" is missing"#, 10, 10),
        (3, "more than kafka.record_bytes_max = 1048576", 5_000_020, 4096),
        (4, "the record is empty", 0, 0),
    ];
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for (letter, (offset, reason, bytes, kept)) in letters.iter().zip(expected) {
        assert_eq!((letter.0, letter.2, letter.3), (offset, bytes, kept), "{letter:?}");
        assert!(letter.1.contains(reason), "{letter:?}");
    }
    rig.assert_metrics(&[
        "monitor_model_queue_rows 0",
        "monitor_model_tokens_max 8192",
        "monitor_model_batch_rows_sum 2",
        "monitor_model_wait_seconds_count ",
        r#"monitor_tokens_total{kind="text"} 6"#,
        r#"monitor_tokens_total{kind="padding"} 0"#,
        "monitor_truncated_total 0",
        r#"monitor_dead_letters_total{reason="not-json"} 1"#,
        r#"monitor_dead_letters_total{reason="field"} 1"#,
        r#"monitor_dead_letters_total{reason="too-large"} 1"#,
        r#"monitor_dead_letters_total{reason="empty"} 1"#,
        r#"monitor_dead_letters_total{reason="model"} 0"#,
        r#"monitor_tweets_total{brand="United",model="lstm@"#,
        r#"monitor_open_incidents{brand="United"} 0"#,
    ])
    .await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn memory_stays_bounded_while_postgres_is_away() {
    const RECORDS: usize = 4000;
    let mut rig = Rig::start(Setup::new(Storage::Memory)).await;
    rig.run();
    rig.until("it is ready", SOON, async || rig.ready().await.is_some_and(|r| r.0)).await;
    let before_mb = rig.memory_mb();
    rig.postgres.stop_server();
    // 400 MB wait in Kafka. The queue may hold 64 MiB, librdkafka 16 MiB, the stages some batches.
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", rig.broker.brokers())
        .set("queue.buffering.max.kbytes", "65536")
        // Each record is sent alone, so waiting for more of them only takes time.
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let payload = "no tweet ".repeat(11_000);
    for n in 0..RECORDS {
        let partition = i32::try_from(n % 4).unwrap();
        let record = FutureRecord::<(), _>::to(TOPIC).partition(partition).payload(&payload);
        producer.send(record, SOON).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let during_mb = rig.memory_mb();
    println!(
        "memory: {before_mb} MB before, {during_mb} MB while Postgres is stopped and 400 MB wait"
    );
    assert!(
        during_mb < before_mb + 250,
        "{before_mb} MB before, {during_mb} MB while Postgres is stopped"
    );
    rig.postgres.start_server().unwrap();
    rig.until("all are read", 2 * SOON, async || rig.read().await == RECORDS as i64).await;
    // Of so many in a minute only a sample is kept.
    let counted = "SELECT sum(records)::bigint FROM dead_letter_counts";
    assert_eq!(rig.count(counted).await, RECORDS as i64);
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

/// Phases without what is stored of open ones only now and then: when somebody is notified.
fn fixed(mut phases: Value) -> Value {
    for phase in phases.as_array_mut().unwrap() {
        if phase["ended"].is_null() {
            let phase = phase.as_object_mut().unwrap();
            phase.retain(|key, _| !["latest", "peak", "peak_at"].contains(&key.as_str()));
        }
    }
    phases
}

/// Twice the session timeout, after which the group gives up a daemon that was killed.
const JOIN_MAX: Duration = Duration::from_secs(12);

async fn daemons_join_and_leave(assignment: &'static str) {
    let setup = Setup { assignment, static_member: false, ..Setup::new(Storage::Memory) };
    join_and_leave(Rig::start(setup).await).await;
}

/// A daemon runs, a second one joins, the first is killed, a third joins, the second is stopped.
async fn join_and_leave(mut rig: Rig) {
    rig.run();
    let replay = rig.replay(18_000.0);
    rig.until("the first reads", SOON, async || rig.read().await > 300).await;
    // What follows must hold whether or not the group has given the new daemon partitions.
    for daemon in ["second", "third"] {
        rig.run();
        let reads = within(JOIN_MAX, async || rig.newest_reads().await).await;
        println!("the {daemon} daemon reads: {reads}");
        if daemon == "second" {
            rig.kill();
        }
    }
    assert!(rig.terminate(), "the second exits with success on SIGTERM");
    assert_eq!(replay.await.unwrap().sent, WEEK_ROWS);
    rig.until("all records are read", 3 * SOON, async || rig.read().await == WEEK_ROWS as i64)
        .await;
    rig.assert_week_is_complete().await;
    assert!(rig.terminate(), "exits with success on SIGTERM");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn daemons_join_and_leave_with_cooperative_assignment() {
    daemons_join_and_leave("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs broker"]
async fn daemons_join_and_leave_with_eager_assignment() {
    daemons_join_and_leave("range").await;
}

/// A read of a pipe without a writer blocks like a read of a disk that hangs.
#[test]
fn ends_on_sigterm_while_a_model_is_read() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("lstm/1/manifest.json");
    std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .args(["run", "--set", "http.listen=127.0.0.1:0", "--set", "model.name=lstm@1"])
        .args(["--set", &format!("model.directory={}", folder.path().display())])
        .args(["--set", "brands.acme.handles=[\"acme\"]"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &str, daemon: &mut Child, done: &dyn Fn(&mut Child) -> bool| {
        for _ in 0..600 {
            if done(daemon) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = daemon.kill();
        panic!("not within a minute: {what}");
    };
    // A pipe can be opened for writing without blocking only while the daemon reads it.
    let writer = std::cell::OnceCell::new();
    until("it reads", &mut daemon, &|_| {
        let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe);
        opened.is_ok_and(|file| writer.set(file).is_ok())
    });
    // SAFETY: the child has not been waited for, so its id is still its own.
    unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) };
    until("it ends", &mut daemon, &|daemon| daemon.try_wait().unwrap().is_some());
    assert!(daemon.wait().unwrap().success());
}
