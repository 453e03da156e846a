//! Settings in layers: defaults, file, environment, flags; later layers win.
//!
//! **Invariant.** [`Settings`] that [`load_from`] returns are validated: every value is in
//! range, values that depend on one another agree, every file they name exists.
//! Unknown keys are errors. No secret is ever printed, by `Debug` or in an error.
//! Deliberately absent: reloading while running; a daemon
//! restarts in a second and loses nothing.

mod address;
mod alerting;
mod defaults;
mod layers;
mod receivers;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use monitor_core::Secret;
use monitor_core::domain::{Precision, StartAt};
use serde::Deserialize;

pub use address::is_public;
pub use alerting::{Alerting, Heartbeat, Route, Rule, Stream, parse_quiet_hours};
pub use layers::{Owner, load_from};
pub use receivers::{Alertmanager, Chat, Email, Endpoint, Receiver, SmtpTls, Webhook};

/// All settings. `config/monitor.example.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct Settings {
    /// Where tweets come from.
    pub kafka: Kafka,
    /// Where scores go.
    pub store: Store,
    /// What scores them.
    pub model: Model,
    /// When a batch closes.
    pub batching: Batching,
    /// Whom the tweets are about, by brand name.
    pub brands: BTreeMap<String, Brand>,
    /// What counts as a bad buzz.
    pub alerting: Alerting,
    /// When the stream itself is in trouble.
    pub stream: Stream,
    /// Who hears of what, by route name.
    pub routes: BTreeMap<String, Route>,
    /// How they hear of it, by receiver name.
    pub receivers: BTreeMap<String, Receiver>,
    /// How notifications are retried.
    pub delivery: Delivery,
    /// The sign of life.
    pub heartbeat: Heartbeat,
    /// The page, health and metrics.
    pub http: Http,
    /// What is logged.
    pub log: Log,
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
    /// Where a partition without a checkpoint begins.
    pub start_at: StartAt,
    /// How partitions are shared among daemons.
    pub assignment: Assignment,
    /// Larger records become dead letters, in bytes.
    pub record_bytes_max: usize,
    /// Records fetched but not yet batched; a full queue pauses the partitions.
    pub queue_rows_max: usize,
    /// Bytes fetched but not yet stored; more pauses the partitions too.
    pub queue_bytes_max: usize,
    /// How long a partition must stand at its end before it stops holding event time back.
    pub idle_after_ms: u64,
    /// A tweet dated further ahead of the machine's clock is a dead letter.
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

/// Partition assignment strategy, in Kafka's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Assignment {
    /// Incremental: a rebalance moves only the partitions it must.
    CooperativeSticky,
    /// Eager, by range.
    Range,
    /// Eager, in turn.
    RoundRobin,
}

/// `[store]`
#[derive(Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `postgres://user:password@host:port/database`; never printed.
    pub url: String,
    /// Most connections held open.
    pub connections_max: u32,
    /// A statement that runs longer is cancelled and tried again.
    pub statement_timeout_ms: u64,
    /// Longest wait between two tries while Postgres is away.
    pub retry_wait_ms_max: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &"(hidden)")
            .field("connections_max", &self.connections_max)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("retry_wait_ms_max", &self.retry_wait_ms_max)
            .finish()
    }
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// A model's name (its promoted version), or `name@version`.
    pub name: String,
    /// Folder of the model registry.
    pub directory: PathBuf,
    /// Threads that libtorch may use.
    pub threads: usize,
    /// `auto` (the first GPU, where there is one), `cpu`, `cuda:0`.
    pub device: String,
    /// How finely transformers compute.
    pub precision: Precision,
    /// Tokens of one pass at most, padding counted; `None` is by the device.
    pub tokens_max: Option<usize>,
    /// How often the daemon looks whether another version was promoted; 0 is never.
    pub reload_s: u64,
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
    /// Tags of the stream's own rules, exact.
    pub rule_tags: Vec<String>,
}

/// `[delivery]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How often the outbox is looked at.
    pub poll_ms: u64,
    /// One attempt takes at most this long.
    pub timeout_ms: u64,
    /// A row leased by a sender that died is free again after this long.
    pub lease_ms: u64,
    /// Wait before the second attempt; doubles from there, with jitter.
    pub retry_wait_ms: u64,
    /// Longest wait between two attempts.
    pub retry_wait_ms_max: u64,
    /// After this many attempts a notification is given up, and kept as dead.
    pub attempts_max: u32,
    /// After this many failures on end a receiver rests ...
    pub circuit_failures: u32,
    /// ... for this long; then one notification tries it out.
    pub circuit_rest_ms: u64,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port of the page, health and metrics; port 0 takes a free one.
    pub listen: String,
    /// Address under which people reach the page; links in mails begin with it.
    pub public_url: Option<String>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `tracing` filter, such as `info` or `monitor=debug`.
    pub filter: String,
    /// Lines for people, or JSON for machines.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is wrong with the settings, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer could not be read, or has a key or type that does not exist.
    #[error("cannot read the settings: {0}")]
    Read(config::ConfigError),
    /// The file is not there or is not to be read.
    #[error("cannot read the settings file {}: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file is not TOML. The line itself is not shown: it may hold a password.
    #[error("{}, line {line}: {problem}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where reading ended, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// Values that are out of range or at odds with one another; all of them.
    #[error("{} in the settings:{}", count(.0.len(), "problem"), lines(.0))]
    Invalid(Vec<Problem>),
}

// No `#[from]`: that would make it the source too, and its words would be printed twice.
impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        Self::Read(error)
    }
}

/// One value that will not do.
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
