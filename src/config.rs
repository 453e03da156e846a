//! Settings in layers: defaults, file, environment, flags; later layers win.
//!
//! **Invariant.** A [`Settings`] that [`load`] returns has been validated: every value
//! is in range, values that depend on one another agree, every file it names is there.
//! Unknown keys are errors. Deliberately absent: reloading while running; a daemon
//! restarts in a second and loses nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

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
    /// Who hears of it, by receiver name.
    pub receivers: BTreeMap<String, Receiver>,
    /// How notifications are retried.
    pub delivery: Delivery,
    /// The page, health and metrics.
    pub http: Http,
    /// What is logged.
    pub log: Log,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// Further librdkafka properties, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
}

/// Where a partition without a checkpoint begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartAt {
    /// The oldest record.
    Earliest,
    /// After the newest.
    Latest,
}

/// Partition assignment strategy, in Kafka's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignment {
    /// Incremental: a rebalance moves only the partitions it must.
    CooperativeSticky,
    /// Eager, by range.
    Range,
    /// Eager, in turn.
    #[serde(rename = "roundrobin")]
    RoundRobin,
}

impl Assignment {
    /// librdkafka's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }
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
    /// A family (its promoted version), or `name@version`.
    pub name: String,
    /// Folder of the model registry.
    pub directory: PathBuf,
    /// Threads that libtorch may use.
    pub threads: usize,
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

/// `[alerting]`: a share of negatives alarms when it stands on enough tweets, lies
/// enough above the brand's baseline, and chance does not explain it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    /// Rolling window, in minutes of event time.
    pub window_minutes: u32,
    /// Baseline before the window, in minutes.
    pub baseline_minutes: u32,
    /// Fewest tweets in the window.
    pub window_tweets_min: u64,
    /// Fewest tweets in the baseline.
    pub baseline_tweets_min: u64,
    /// Least rise of the share over the expected one, in 0..1.
    pub rise_min: f64,
    /// Standard errors from which chance no longer explains the rise.
    pub z_min: f64,
    /// An incident resolves once the rise has stayed below half of `rise_min` this long.
    pub resolve_minutes: u32,
    /// A share that stays up this long is the new normal: the incident is closed and
    /// the baseline learns it.
    pub incident_minutes_max: u32,
    /// How far event time may run behind the newest tweet of a partition.
    pub lateness_s: u64,
    /// How often closed minutes are looked at.
    pub tick_ms: u64,
}

/// `[receivers.<name>]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Receiver {
    /// Mail over SMTP.
    Email(Email),
    /// Signed JSON over HTTP.
    Webhook(Webhook),
}

/// `kind = "email"`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Email {
    /// Mail server.
    pub host: String,
    /// Its port.
    #[serde(default = "smtp_port")]
    pub port: u16,
    /// How the connection is secured.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Login, if the server asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// The login's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// File that holds the password, instead.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Sender address.
    pub from: String,
    /// Recipient addresses.
    pub to: Vec<String>,
}

/// How an SMTP connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Plain first, then STARTTLS, or no mail.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// In the clear; for a relay on this machine.
    None,
}

/// `kind = "webhook"`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Webhook {
    /// Where the JSON is posted.
    pub url: String,
    /// Standard Webhooks secret, `whsec_` and base64.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// File that holds the secret, instead.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
}

fn smtp_port() -> u16 {
    587
}

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself; keep it out of logs and errors.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
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
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic: "tweets".into(),
            group: "monitor".into(),
            start_at: StartAt::Earliest,
            assignment: Assignment::CooperativeSticky,
            record_bytes_max: 1 << 20,
            queue_rows_max: 4096,
            queue_bytes_max: 64 << 20,
            idle_after_ms: 2000,
            future_s_max: 600,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "postgres://monitor@127.0.0.1:5432/monitor".into(),
            connections_max: 8,
            statement_timeout_ms: 30_000,
            retry_wait_ms_max: 5_000,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self { name: "lstm".into(), directory: "models".into(), threads: 2 }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self { rows_max: 512, wait_ms_max: 100 }
    }
}

impl Default for Alerting {
    fn default() -> Self {
        Self {
            window_minutes: 60,
            baseline_minutes: 24 * 60,
            window_tweets_min: 30,
            baseline_tweets_min: 100,
            rise_min: 0.15,
            z_min: 4.5,
            resolve_minutes: 30,
            incident_minutes_max: 24 * 60,
            lateness_s: 60,
            tick_ms: 1000,
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            poll_ms: 1000,
            timeout_ms: 10_000,
            lease_ms: 60_000,
            retry_wait_ms: 1000,
            retry_wait_ms_max: 300_000,
            attempts_max: 20,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".into(), public_url: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// What is wrong with the settings, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer could not be read, or has a key or type that does not exist.
    #[error("cannot read the settings: {0}")]
    Read(#[from] config::ConfigError),
    /// Values that are out of range or at odds with one another; all of them.
    #[error("{} in the settings:{}", count(.0.len(), "problem"), lines(.0))]
    Invalid(Vec<Problem>),
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

/// Reads defaults, then `file`, then `MONITOR_...` from the environment
/// (`MONITOR_KAFKA__BROKERS` sets `kafka.brokers`), then `overrides` (dotted key and
/// value), and validates the outcome.
///
/// # Errors
/// A file that cannot be read, a key that does not exist, a value of the wrong type or
/// out of range. The message names key, value and remedy.
pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Settings, ConfigError> {
    let mut layers = config::Config::builder();
    if let Some(path) = file {
        layers = layers.add_source(config::File::from(path).format(config::FileFormat::Toml));
    }
    layers = layers.add_source(
        config::Environment::with_prefix("MONITOR").prefix_separator("_").separator("__"),
    );
    for (key, value) in overrides {
        layers = layers.set_override(key, value.as_str())?;
    }
    let settings: Settings = layers.build()?.try_deserialize()?;
    settings.validate()?;
    Ok(settings)
}

impl Settings {
    /// Checks every value, alone and against the others.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems found, not only the first.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        let mut check = |ok: bool, key: &str, value: &dyn fmt::Display, remedy: &str| {
            if !ok {
                found.push(Problem {
                    key: key.into(),
                    value: value.to_string(),
                    remedy: remedy.into(),
                });
            }
        };
        let quoted = |s: &str| format!("{s:?}");

        let k = &self.kafka;
        check(
            !k.brokers.trim().is_empty(),
            "kafka.brokers",
            &quoted(&k.brokers),
            "name at least one host:port",
        );
        check(!k.topic.trim().is_empty(), "kafka.topic", &quoted(&k.topic), "name the topic");
        check(
            !k.group.trim().is_empty(),
            "kafka.group",
            &quoted(&k.group),
            "name the consumer group",
        );
        check(
            (1024..=64 << 20).contains(&k.record_bytes_max),
            "kafka.record_bytes_max",
            &k.record_bytes_max,
            "choose between 1024 and 67108864 bytes",
        );
        check(
            k.queue_rows_max >= self.batching.rows_max,
            "kafka.queue_rows_max",
            &k.queue_rows_max,
            &format!(
                "choose at least batching.rows_max ({}), or no batch ever fills",
                self.batching.rows_max
            ),
        );
        check(
            k.queue_rows_max <= 1_000_000,
            "kafka.queue_rows_max",
            &k.queue_rows_max,
            "choose at most 1000000 rows",
        );
        check(
            k.queue_bytes_max >= k.record_bytes_max,
            "kafka.queue_bytes_max",
            &k.queue_bytes_max,
            &format!("choose at least kafka.record_bytes_max ({})", k.record_bytes_max),
        );
        for (key, reason) in [
            ("enable.auto.commit", "offsets are kept in Postgres"),
            ("enable.auto.offset.store", "offsets are kept in Postgres"),
            ("auto.offset.reset", "use kafka.start_at"),
            ("partition.assignment.strategy", "use kafka.assignment"),
            ("bootstrap.servers", "use kafka.brokers"),
            ("group.id", "use kafka.group"),
        ] {
            if let Some(value) = k.properties.get(key) {
                check(
                    false,
                    &format!("kafka.properties.\"{key}\""),
                    &quoted(value),
                    &format!("remove it: {reason}"),
                );
            }
        }

        check(
            self.store.url.starts_with("postgres://")
                || self.store.url.starts_with("postgresql://"),
            "store.url",
            &"(hidden)",
            "give a URL such as postgres://user:password@host:5432/database",
        );
        check(
            (2..=100).contains(&self.store.connections_max),
            "store.connections_max",
            &self.store.connections_max,
            "choose between 2 and 100",
        );
        check(
            self.store.statement_timeout_ms >= 100,
            "store.statement_timeout_ms",
            &self.store.statement_timeout_ms,
            "choose at least 100 ms",
        );
        check(
            self.store.retry_wait_ms_max >= 50,
            "store.retry_wait_ms_max",
            &self.store.retry_wait_ms_max,
            "choose at least 50 ms",
        );

        check(
            !self.model.name.trim().is_empty(),
            "model.name",
            &quoted(&self.model.name),
            "name a family such as \"lstm\", or \"name@version\"",
        );
        check(
            (1..=256).contains(&self.model.threads),
            "model.threads",
            &self.model.threads,
            "choose between 1 and 256",
        );
        check(
            (1..=65_536).contains(&self.batching.rows_max),
            "batching.rows_max",
            &self.batching.rows_max,
            "choose between 1 and 65536 rows",
        );
        check(
            (1..=60_000).contains(&self.batching.wait_ms_max),
            "batching.wait_ms_max",
            &self.batching.wait_ms_max,
            "choose between 1 and 60000 ms",
        );

        for (name, brand) in &self.brands {
            let empty = brand.keywords.is_empty()
                && brand.handles.is_empty()
                && brand.hashtags.is_empty()
                && brand.rule_tags.is_empty();
            check(
                !empty,
                &format!("brands.{name}"),
                &"(nothing)",
                "give it keywords, handles, hashtags or rule_tags, or no tweet is ever about it",
            );
            let blank = [&brand.keywords, &brand.handles, &brand.hashtags, &brand.rule_tags]
                .into_iter()
                .flatten()
                .any(|s| s.trim_matches(['@', '#', ' ']).is_empty());
            check(
                !blank,
                &format!("brands.{name}"),
                &"an empty term",
                "remove it, or every tweet would be about the brand",
            );
        }

        let a = &self.alerting;
        check(
            (1..=7 * 1440).contains(&a.window_minutes),
            "alerting.window_minutes",
            &a.window_minutes,
            "choose between 1 and 10080 minutes",
        );
        check(
            a.baseline_minutes >= a.window_minutes && a.baseline_minutes <= 60 * 1440,
            "alerting.baseline_minutes",
            &a.baseline_minutes,
            &format!("choose between alerting.window_minutes ({}) and 86400", a.window_minutes),
        );
        check(
            a.window_tweets_min >= 1,
            "alerting.window_tweets_min",
            &a.window_tweets_min,
            "choose at least 1",
        );
        check(
            a.baseline_tweets_min >= 1,
            "alerting.baseline_tweets_min",
            &a.baseline_tweets_min,
            "choose at least 1",
        );
        check(
            a.rise_min > 0.0 && a.rise_min < 1.0,
            "alerting.rise_min",
            &a.rise_min,
            "choose a share between 0 and 1, such as 0.15",
        );
        check(
            a.z_min > 0.0 && a.z_min.is_finite(),
            "alerting.z_min",
            &a.z_min,
            "choose a positive number, such as 4.5",
        );
        check(
            a.incident_minutes_max > a.resolve_minutes,
            "alerting.incident_minutes_max",
            &a.incident_minutes_max,
            &format!("choose more than alerting.resolve_minutes ({})", a.resolve_minutes),
        );
        check(
            (10..=60_000).contains(&a.tick_ms),
            "alerting.tick_ms",
            &a.tick_ms,
            "choose between 10 and 60000 ms",
        );

        let d = &self.delivery;
        check(
            d.lease_ms > d.timeout_ms,
            "delivery.lease_ms",
            &d.lease_ms,
            &format!(
                "choose more than delivery.timeout_ms ({}), or a slow send is repeated",
                d.timeout_ms
            ),
        );
        check(
            d.retry_wait_ms_max >= d.retry_wait_ms,
            "delivery.retry_wait_ms_max",
            &d.retry_wait_ms_max,
            "choose at least delivery.retry_wait_ms",
        );
        check(d.attempts_max >= 1, "delivery.attempts_max", &d.attempts_max, "choose at least 1");
        check(d.poll_ms >= 10, "delivery.poll_ms", &d.poll_ms, "choose at least 10 ms");

        check(
            self.http.listen.parse::<std::net::SocketAddr>().is_ok(),
            "http.listen",
            &quoted(&self.http.listen),
            "give address and port, such as 127.0.0.1:8080",
        );

        for (name, receiver) in &self.receivers {
            let key = |field: &str| format!("receivers.{name}.{field}");
            match receiver {
                Receiver::Email(e) => {
                    check(
                        !e.host.trim().is_empty(),
                        &key("host"),
                        &quoted(&e.host),
                        "name the mail server",
                    );
                    check(
                        is_address(&e.from),
                        &key("from"),
                        &quoted(&e.from),
                        "give an address such as monitor@example.com",
                    );
                    check(!e.to.is_empty(), &key("to"), &"[]", "name at least one recipient");
                    for to in &e.to {
                        check(
                            is_address(to),
                            &key("to"),
                            &quoted(to),
                            "give an address such as comms@example.com",
                        );
                    }
                    check(
                        e.username.is_some() == (e.password.is_some() || e.password_file.is_some()),
                        &key("username"),
                        &quoted(e.username.as_deref().unwrap_or("")),
                        "give username and password (or password_file) together, or neither",
                    );
                    check(
                        e.username.is_none() || e.tls != SmtpTls::None,
                        &key("tls"),
                        &"\"none\"",
                        "use \"starttls\" or \"tls\": a password must not travel in the clear",
                    );
                    check_file(&mut check, &key("password_file"), e.password_file.as_deref());
                }
                Receiver::Webhook(w) => {
                    check(
                        w.url.starts_with("https://") || w.url.starts_with("http://"),
                        &key("url"),
                        &quoted(&w.url),
                        "give an http:// or https:// URL",
                    );
                    check(
                        w.secret.is_some() != w.secret_file.is_some(),
                        &key("secret"),
                        &"(hidden)",
                        "give either secret or secret_file: receivers verify the signature",
                    );
                    check_file(&mut check, &key("secret_file"), w.secret_file.as_deref());
                }
            }
        }

        if found.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(found)) }
    }
}

fn check_file(
    check: &mut impl FnMut(bool, &str, &dyn fmt::Display, &str),
    key: &str,
    path: Option<&Path>,
) {
    if let Some(path) = path {
        check(
            path.is_file(),
            key,
            &format!("{:?}", path.display().to_string()),
            "there is no such file; create it, readable by the daemon alone",
        );
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<lettre::message::Mailbox>().is_ok()
}
