//! Settings in layers: defaults, file, environment, flags; later layers override earlier ones.
//!
//! **Invariant.** The [`Settings`] that [`load_from`] returns are validated: each value is in
//! range, values that depend on each other are consistent, each file that they name exists.
//! Unknown keys are errors. No secret is ever printed, by `Debug` or in an error.
//! Deliberately absent: reloading while the daemon runs; it restarts in a second and loses
//! nothing.

mod address;
mod alerting;
mod defaults;
mod digest;
mod http;
mod keys;
mod layers;
mod links;
mod receivers;
mod retrain;
mod serve;
mod traces;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use monitor_core::Secret;
use monitor_core::domain::{Language, Precision, StartAt, StreamFormat};
use serde::Deserialize;

pub use address::is_public;
pub use alerting::{Alerting, Heartbeat, Route, Rule, Stream, parse_quiet_hours};
pub use digest::{Digest, Weekday};
pub use http::{AccessToken, Http, Rights};
pub use keys::UnknownKey;
pub use layers::{Owner, load_from};
pub use links::Links;
pub use receivers::{Alertmanager, Chat, Email, Endpoint, Receiver, SmtpTls, Webhook};
pub use retrain::{Retrain, Schedule};
pub use serve::Serve;
pub use traces::Traces;

/// All settings. `config/monitor.example.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct Settings {
    /// The source of the tweets.
    pub kafka: Kafka,
    /// The database for scores and incidents.
    pub store: Store,
    /// The model that scores the tweets.
    pub model: Model,
    /// How another model takes over.
    pub promotion: Promotion,
    /// Whether tweets are compared with those before.
    pub drift: Drift,
    /// When a model is trained again.
    pub retrain: Retrain,
    /// When a batch closes.
    pub batching: Batching,
    /// The brands that tweets are about, by name.
    pub brands: BTreeMap<String, Brand>,
    /// When a share of negative tweets is a bad buzz.
    pub alerting: Alerting,
    /// When the stream itself has a problem.
    pub stream: Stream,
    /// Which receivers are notified of which incidents, by route name.
    pub routes: BTreeMap<String, Route>,
    /// Where notifications are sent, by receiver name.
    pub receivers: BTreeMap<String, Receiver>,
    /// How notifications are retried.
    pub delivery: Delivery,
    /// The weekly digest.
    pub digest: Digest,
    /// The heartbeat to a watchdog.
    pub heartbeat: Heartbeat,
    /// The page, health and metrics.
    pub http: Http,
    /// Links in notifications with which people act.
    pub links: Links,
    /// The model for other programs.
    pub serve: Serve,
    /// What is logged.
    pub log: Log,
    /// Where spans are sent.
    pub traces: Traces,
}

/// `[kafka]`
#[derive(Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Topic that carries the tweets.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// The form of the records.
    pub format: StreamFormat,
    /// Where to start a partition that has no checkpoint.
    pub start_at: StartAt,
    /// How partitions are assigned to daemons.
    pub assignment: Assignment,
    /// Longest record, in bytes; longer ones become dead letters.
    pub record_bytes_max: usize,
    /// Most records fetched and not yet in a batch; a full queue pauses the partitions.
    pub queue_rows_max: usize,
    /// Most bytes fetched and not yet stored; more pause the partitions too.
    pub queue_bytes_max: usize,
    /// After this long at its end, a partition no longer holds event time back.
    pub idle_after_ms: u64,
    /// How far in the future a tweet may be dated; beyond that it becomes a dead letter.
    pub future_s_max: u64,
    /// Further librdkafka properties, such as `security.protocol`; their values, which may
    /// be passwords, are never printed.
    #[serde(deserialize_with = "layers::dotted")]
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("format", &self.format)
            .field("start_at", &self.start_at)
            .field("assignment", &self.assignment)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("queue_rows_max", &self.queue_rows_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("idle_after_ms", &self.idle_after_ms)
            .field("future_s_max", &self.future_s_max)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// Partition assignment strategy, named as in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Assignment {
    /// Incremental: a rebalance moves as few partitions as possible.
    CooperativeSticky,
    /// Eager, by range.
    Range,
    /// Eager, round-robin.
    RoundRobin,
}

/// `[store]`
#[derive(Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `postgres://user:password@host:port/database`; never printed.
    pub url: String,
    /// Most open connections.
    pub connections_max: u32,
    /// A statement that takes longer is cancelled and retried.
    pub statement_timeout_ms: u64,
    /// Longest wait between two attempts while Postgres is not available.
    pub retry_wait_ms_max: u64,
    /// Days that tweets are kept, by event time; 0 is for ever.
    pub keep_days: u32,
    /// Days that resolved incidents and notifications are kept; 0 is for ever.
    pub keep_history_days: u32,
    /// Days that dead letters are kept; 0 is for ever.
    pub keep_dead_letters_days: u32,
    /// Dead letters kept of one minute; of more, one in a hundred is kept, and all are counted.
    pub dead_letters_per_minute_max: u32,
    /// How authors of tweets are stored.
    pub authors: Authors,
    /// Whether a tweet that was deleted or withheld later still counts.
    pub count_deleted: bool,
}

/// How authors of tweets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Authors {
    /// As keyed hashes: tweets of one author can be told from those of others, but not whose they are.
    Hashed,
    /// As the stream gives them.
    Plain,
    /// Not at all.
    None,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &"(hidden)")
            .field("connections_max", &self.connections_max)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("retry_wait_ms_max", &self.retry_wait_ms_max)
            .field("keep_days", &self.keep_days)
            .field("keep_history_days", &self.keep_history_days)
            .field("keep_dead_letters_days", &self.keep_dead_letters_days)
            .field("dead_letters_per_minute_max", &self.dead_letters_per_minute_max)
            .field("authors", &self.authors)
            .field("count_deleted", &self.count_deleted)
            .finish()
    }
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The name of a model (for its promoted version), or `name@version`.
    pub name: String,
    /// Further models, each for the tweets of one language.
    pub by_language: BTreeMap<Language, String>,
    /// Folder of the model registry.
    pub directory: PathBuf,
    /// Threads that libtorch may use.
    pub threads: usize,
    /// `auto` (the first GPU, if any), `cpu`, `cuda:0`.
    pub device: String,
    /// Numeric precision of LSTMs and transformers.
    pub precision: Precision,
    /// Most tokens of one forward pass, including padding; `None` depends on the device.
    pub tokens_max: Option<usize>,
    /// How often the daemon checks whether the stream's model was switched; 0 is only when it
    /// must.
    pub reload_s: u64,
}

/// `[promotion]`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Promotion {
    /// Largest jump of a brand's share that a promotion may cause, in 0..=1.
    pub jump_max: f64,
    /// Days of stored tweets that the new model scores before it takes over.
    pub history_days: u32,
    /// Most stored tweets scored in a second; 0 is no limit.
    pub rows_per_s_max: u32,
}

/// `[drift]`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drift {
    /// Tweets that are drawn of each day; 0 turns the daily comparison off.
    pub tweets_per_day: u32,
    /// Days that a day is compared with.
    pub reference_days: u32,
    /// Expected number of false alarms in 30 days, over all measures.
    pub false_alarms_per_month: f64,
}

/// `[batching]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// A batch closes at this many rows ...
    pub rows_max: usize,
    /// ... or when its oldest row has waited this long.
    pub wait_ms_max: u64,
}

/// `[brands.<name>]`: a tweet that matches any of these is about the brand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Brand {
    /// Whole words or phrases, any case.
    pub keywords: Vec<String>,
    /// `@handle`, any case, with or without the `@`.
    pub handles: Vec<String>,
    /// `#hashtag`, any case, with or without the `#`.
    pub hashtags: Vec<String>,
    /// Tags of the stream's rules, exact match.
    pub rule_tags: Vec<String>,
    /// Whether keywords are also found with an English plural ending.
    pub plurals: bool,
    /// Time zone of its seasons, such as `Europe/Paris`; without it `alerting.time_zone`.
    pub time_zone: Option<String>,
}

/// `[delivery]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How often the outbox is polled.
    pub poll_ms: u64,
    /// One attempt takes at most this long.
    pub timeout_ms: u64,
    /// The lease of a row; it expires if the daemon that leased it dies.
    pub lease_ms: u64,
    /// Wait before the second attempt; doubles with each attempt, with jitter.
    pub retry_wait_ms: u64,
    /// Longest wait between two attempts.
    pub retry_wait_ms_max: u64,
    /// After this many attempts a notification is dead: it is kept, but not sent again.
    pub attempts_max: u32,
    /// After this many consecutive failures nothing is sent to a receiver ...
    pub circuit_failures: u32,
    /// ... for this long; then one notification is sent as a probe.
    pub circuit_rest_ms: u64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `tracing` filter, such as `info` or `monitor=debug`.
    pub filter: String,
    /// Text for people, or JSON for machines.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is wrong with the settings, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer cannot be read, or has an unknown key or a value of the wrong type.
    #[error("cannot read the settings: {0}")]
    Read(config::ConfigError),
    /// The file does not exist or cannot be read.
    #[error("cannot read the settings file {}: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file is not TOML. The line itself is not shown: it may contain a password.
    #[error("{}, line {line}: {problem}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line of the error, from 1.
        line: usize,
        /// The parser's message.
        problem: String,
    },
    /// Keys that are no settings, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unknown(Vec<UnknownKey>),
    /// A value that cannot be read, and where it stands.
    #[error("{place}: {problem}")]
    Value {
        /// "monitor.toml, line 3".
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// All values that are out of range or inconsistent.
    #[error("{} in the settings:{}", count(.0.len(), "problem"), lines(.0))]
    Invalid(Vec<Problem>),
}

// Not `#[from]`: that would also make it the source, and its message would be printed twice.
impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        Self::Read(error)
    }
}

/// One invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, as in the file.
    pub key: String,
    /// The value found; secrets are hidden.
    pub value: String,
    /// What to set instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.remedy)
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}
