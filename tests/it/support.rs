//! Helpers for tests that use real services.

#![allow(dead_code)]

pub mod proxy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use monitor::settings::open_options;
use monitor_config as config;
use monitor_core::domain::Precision;
use monitor_core::text::Analyzer;
use monitor_embedded::{Kafka, Nisshi, Postgres, PostgresOptions, Storage, with_database};
use monitor_model::{
    self as classifier, ArtifactError, GENERATOR, Manifest, Model, ModelId, Network, NewArtifact,
    OpenOptions, StoredPrecision, Transformer, TransformerConfig, Weights, WordPieces,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};
use tch::Device;

/// The Postgres server of this test run, and what to remove from it at the end if it is not ours.
struct Server {
    embedded: Option<Postgres>,
    given_url: Option<String>,
    databases: Vec<String>,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// Registered with `atexit`, because statics are not dropped when a process ends.
extern "C" fn clean_up() {
    let Some(server) = SERVER.lock().unwrap_or_else(|e| e.into_inner()).take() else { return };
    if let Some(url) = server.given_url {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Ok(mut connection) = PgConnection::connect(&url).await else { return };
            for name in server.databases {
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await;
            }
        });
    }
}

/// Creates an empty database for one test: on the server at `$DATABASE_URL`, else on the embedded
/// server that all tests of this process share.
pub async fn fresh_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    let name = format!("monitor_test_{}_{count}", std::process::id());
    // Starting the server blocks; the lock makes the other tests wait for it.
    let admin = tokio::task::spawn_blocking({
        let name = name.clone();
        move || {
            let mut server = SERVER.lock().unwrap_or_else(|e| e.into_inner());
            let server = server.get_or_insert_with(|| {
                // SAFETY: the handler is a plain function that does not unwind into libc.
                unsafe { libc::atexit(clean_up) };
                let given_url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
                let embedded = given_url.is_none().then(|| {
                    Postgres::start_with(&PostgresOptions { durable: false, dir: None })
                        .unwrap_or_else(|error| panic!("{error}"))
                });
                Server { embedded, given_url, databases: vec![] }
            });
            server.databases.push(name);
            match (&server.embedded, &server.given_url) {
                (Some(embedded), _) => embedded.url("postgres"),
                (None, Some(url)) => url.clone(),
                (None, None) => unreachable!("one of the two is set above"),
            }
        }
    })
    .await
    .unwrap();
    let mut connection = PgConnection::connect(&admin).await.unwrap();
    let sql = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    with_database(&admin, &name).unwrap()
}

/// The number in a variable of the environment, if it is set.
pub fn from_environment(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Random numbers by a new seed, which is printed, or by `MONITOR_SEED`, which repeats a run.
pub fn seeded() -> ChaCha8Rng {
    let seed = from_environment("MONITOR_SEED").unwrap_or_else(|| rand::rng().random());
    println!("MONITOR_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// A real broker. Tests that start one are `#[ignore = "needs broker"]`; scripts/test runs them if
/// Apache Kafka or nisshi is installed.
#[derive(Debug)]
pub enum Broker {
    Kafka(Kafka),
    Nisshi(Nisshi),
}

impl Broker {
    /// Apache Kafka if it is installed, else nisshi with this storage.
    pub fn start(storage: Storage) -> Self {
        match Kafka::find() {
            Some(_) => Self::Kafka(Kafka::start().unwrap_or_else(|error| panic!("{error}"))),
            None => Self::Nisshi(nisshi(storage)),
        }
    }

    pub fn brokers(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.brokers(),
            Self::Nisshi(nisshi) => nisshi.brokers(),
        }
    }

    /// The address at which no login is needed.
    pub fn internal(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.internal_brokers(),
            Self::Nisshi(nisshi) => nisshi.brokers(),
        }
    }

    /// Kills the first node as `kill -9` does.
    pub fn kill(&mut self) {
        match self {
            Self::Kafka(kafka) => kafka.kill(0),
            Self::Nisshi(nisshi) => nisshi.kill(),
        }
    }

    pub fn start_again(&mut self) {
        let started = match self {
            Self::Kafka(kafka) => kafka.start_again(0),
            Self::Nisshi(nisshi) => nisshi.start_again(),
        };
        started.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Starts a real broker. Tests that call this are `#[ignore = "needs nisshi"]`; scripts/test runs them
/// if nisshi is installed.
pub fn nisshi(storage: Storage) -> Nisshi {
    Nisshi::start(storage).unwrap_or_else(|error| panic!("{error}"))
}

/// A path in the folder of large files next to the repository. Tests that call this are
/// `#[ignore = "needs ../shared"]`; scripts/test runs them if the folder exists.
pub fn shared(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Sends one record, waits until the broker has stored it, and returns its offset.
pub async fn produce(brokers: &str, topic: &str, payload: &str) -> i64 {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.timeout.ms", "20000")
        .create()
        .unwrap();
    let record = FutureRecord::<(), _>::to(topic).payload(payload).partition(0);
    producer.send(record, Duration::from_secs(20)).await.map_err(|(error, _)| error).unwrap().offset
}

/// Reads up to `n` records of partition 0 from the beginning.
pub async fn consume(brokers: &str, topic: &str, n: usize) -> Vec<String> {
    use rdkafka::Message;
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut partitions = rdkafka::TopicPartitionList::new();
        partitions.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let mut found = Vec::new();
        // Each wait is short, so this gives up after 20 seconds without a record.
        let mut waits_left = 200;
        while found.len() < n && waits_left > 0 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    found.push(String::from_utf8_lossy(payload).into_owned());
                }
                Some(Err(_)) | None => waits_left -= 1,
            }
        }
        found
    })
    .await
    .unwrap()
}

/// Creates a topic.
pub async fn create_topic(brokers: &str, topic: &str, partitions: i32) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    // A broker that has just started on a busy machine may not answer yet.
    for left in (0..10).rev() {
        match admin.create_topics([&topic], &AdminOptions::new()).await {
            Ok(created) => {
                assert!(created.iter().all(Result::is_ok), "{created:?}");
                return;
            }
            Err(error) if left == 0 => panic!("{topic:?}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// The default settings for a folder of models, in single precision.
pub fn models_in(directory: &Path) -> OpenOptions {
    let model = config::Model { directory: directory.to_owned(), ..config::Model::default() };
    // The default depends on the processor.
    OpenOptions { precision: Precision::Single, ..open_options(&model) }
}

/// Registers a tiny logistic model as the next version of `name`, with the given weights of words
/// and bias. `figures` are its invented metrics: data set, rows, ROC AUC.
pub fn tiny_model(
    directory: &Path,
    name: &str,
    words: &[(&str, f32)],
    bias: f32,
    figures: &[(&str, u32, f64)],
) -> ModelId {
    let mut weight = vec![0.0; 1 << 18];
    for (word, value) in words {
        for id in Model::null().encoder.encode(word).ids {
            weight[id as usize] = *value;
        }
    }
    let metrics: BTreeMap<_, _> = figures
        .iter()
        .map(|(data, rows, auc)| {
            (*data, serde_json::json!({"rows": rows, "accuracy": 0.5, "roc_auc": auc}))
        })
        .collect();
    let rows_sha256: BTreeMap<_, _> =
        figures.iter().map(|(data, rows, _)| (*data, format!("{data} {rows}"))).collect();
    let manifest = serde_json::from_value(serde_json::json!({
        "name": name,
        "version": 1,
        "family": "logistic-hash",
        "architecture": {"buckets_log2": 18, "words_max": 64},
        "preset": "tweet",
        "calibration": {"temperature": 1.0, "threshold": 0.5},
        "parameters": weight.len() + 1,
        "trainable": weight.len() + 1,
        "seed": 1,
        "command": "monitor retrain logistic-hash --data made-up.csv",
        "data": {
            "file": "made-up.csv", "sha256": "0", "rows_train": 8, "rows_validation": 1,
            "rows_held_out": 1, "split": "user"
        },
        "libraries": {"monitor": "0.1.0"},
        "machine": "none",
        "trained_at": "2026-01-01T00:00:00Z",
        "minutes": 0.1,
        "metrics": metrics,
        "rows_sha256": rows_sha256,
        "files": {},
    }));
    let mut weights = Weights::default();
    weights.insert("weight", &[weight.len()], weight);
    weights.insert("bias", &[1], vec![bias]);
    let artifact = NewArtifact {
        manifest: manifest.unwrap(),
        weights,
        vocabulary: None,
        ngrams: None,
        transformer: None,
        analyzer: Analyzer::tweet(),
        extra: BTreeMap::new(),
    };
    let card = |_: Model, manifest: &mut Manifest| {
        Ok::<_, ArtifactError>(format!("# {}\n", manifest.id()))
    };
    classifier::register(directory, artifact, tch::Device::Cpu, card).unwrap().id()
}

/// The lines of a `vocab.txt`: the special tokens and single letters.
fn tiny_vocabulary() -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = ('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    special.into_iter().chain(letters).collect()
}

/// Writes a DistilBERT with about 35,000 random parameters, in the files of Hugging Face.
pub fn tiny_distilbert(folder: &Path) {
    let vocabulary = tiny_vocabulary();
    let config = serde_json::json!({
        "model_type": "distilbert", "dim": 64, "n_layers": 1, "n_heads": 2, "hidden_dim": 96,
        "max_position_embeddings": 64, "vocab_size": vocabulary.len(),
    });
    let config = serde_json::to_vec_pretty(&config).unwrap();
    let parsed = TransformerConfig::parse(&config).unwrap();
    // A training in another test draws from the same generator.
    let alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let weights = Transformer::new(&parsed, 64, Device::Cpu).weights();
    drop(alone);
    std::fs::write(folder.join("config.json"), config).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights.to_bytes(StoredPrecision::Single))
        .unwrap();
    std::fs::write(folder.join("vocab.txt"), vocabulary.join("\n") + "\n").unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
}

/// The `tokenizer.json` for the same vocabulary.
pub fn tiny_tokenizer() -> Vec<u8> {
    let vocabulary = tiny_vocabulary().join("\n") + "\n";
    WordPieces::of_vocabulary(&vocabulary, true, 64).unwrap().to_json()
}

/// Runs the program in the project's folder.
pub fn monitor(arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command.output().unwrap()
}

/// What the program prints; it must succeed.
pub fn printed(arguments: &[&str]) -> String {
    let output = monitor(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `monitor serve` as a process, stopped when dropped.
pub struct Served {
    /// Its address.
    pub url: String,
    child: std::process::Child,
}

impl Served {
    /// Starts it with these arguments on a free port; returns once it answers.
    pub fn start(arguments: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_monitor"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("serve").args(arguments);
        command.args(["--set", "http.listen=127.0.0.1:0", "--set", "log.format=json"]);
        command.stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        let address = loop {
            let before = lines.len();
            assert!(log.read_line(&mut lines).unwrap() > 0, "monitor serve ended: {lines}");
            let line = serde_json::from_str::<serde_json::Value>(&lines[before..]);
            if let Some(address) = line.ok().as_ref().and_then(|line| line["address"].as_str()) {
                break address.to_owned();
            }
        };
        // Otherwise a full pipe would stop the program.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { url: format!("http://{address}"), child }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
