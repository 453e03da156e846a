//! What makes settings valid, each alone and against the others.
//!
//! **Invariant.** All problems are found, not only the first; each names key, value and
//! remedy, and shows no secret.

use std::fmt;
use std::path::Path;

use base64::Engine;

use super::{ConfigError, Problem, Receiver, Settings, SmtpTls};

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
            k.brokers.split(',').all(|broker| !broker.trim().is_empty()),
            "kafka.brokers",
            &quoted(&k.brokers),
            "name at least one host:port, separated by commas",
        );
        check(
            is_topic(&k.topic),
            "kafka.topic",
            &quoted(&k.topic),
            "name one topic: up to 249 letters, digits, '.', '_' and '-'",
        );
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
        check(
            k.queue_bytes_max <= 16 << 30,
            "kafka.queue_bytes_max",
            &k.queue_bytes_max,
            "choose at most 17179869184 bytes",
        );
        check(
            (100..=3_600_000).contains(&k.idle_after_ms),
            "kafka.idle_after_ms",
            &k.idle_after_ms,
            "choose between 100 and 3600000 ms",
        );
        check(
            k.future_s_max <= 86_400,
            "kafka.future_s_max",
            &k.future_s_max,
            "choose at most 86400 s",
        );
        for (key, reason) in [
            ("enable.auto.commit", "offsets are kept in Postgres"),
            ("enable.auto.offset.store", "offsets are kept in Postgres"),
            ("enable.partition.eof", "event time needs to know where partitions end"),
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
            is_postgres_url(&self.store.url),
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
            (100..=3_600_000).contains(&self.store.statement_timeout_ms),
            "store.statement_timeout_ms",
            &self.store.statement_timeout_ms,
            "choose between 100 and 3600000 ms",
        );
        check(
            (50..=600_000).contains(&self.store.retry_wait_ms_max),
            "store.retry_wait_ms_max",
            &self.store.retry_wait_ms_max,
            "choose between 50 and 600000 ms",
        );

        check(
            !self.model.name.trim().is_empty(),
            "model.name",
            &quoted(&self.model.name),
            "name a model such as \"lstm\", or a version such as \"lstm@1\"",
        );
        check(
            (1..=256).contains(&self.model.threads),
            "model.threads",
            &self.model.threads,
            "choose between 1 and 256",
        );
        check(
            self.model.reload_s <= 86_400,
            "model.reload_s",
            &self.model.reload_s,
            "choose at most 86400 s; 0 is never",
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
            check(
                is_name(name),
                &format!("brands.{name:?}"),
                &"a brand",
                "give it a name of 1 to 64 characters, none of them a control character",
            );
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
            (1..=7 * 1440).contains(&a.resolve_minutes),
            "alerting.resolve_minutes",
            &a.resolve_minutes,
            "choose between 1 and 10080 minutes",
        );
        check(
            a.incident_minutes_max > a.resolve_minutes && a.incident_minutes_max <= 60 * 1440,
            "alerting.incident_minutes_max",
            &a.incident_minutes_max,
            &format!(
                "choose more than alerting.resolve_minutes ({}), at most 86400",
                a.resolve_minutes
            ),
        );
        check(
            a.lateness_s <= 86_400,
            "alerting.lateness_s",
            &a.lateness_s,
            "choose at most 86400 s",
        );
        check(
            (10..=60_000).contains(&a.tick_ms),
            "alerting.tick_ms",
            &a.tick_ms,
            "choose between 10 and 60000 ms",
        );

        let d = &self.delivery;
        check(
            (100..=300_000).contains(&d.timeout_ms),
            "delivery.timeout_ms",
            &d.timeout_ms,
            "choose between 100 and 300000 ms",
        );
        check(
            d.lease_ms <= 3_600_000,
            "delivery.lease_ms",
            &d.lease_ms,
            "choose at most 3600000 ms",
        );
        check(
            d.retry_wait_ms >= 10,
            "delivery.retry_wait_ms",
            &d.retry_wait_ms,
            "choose at least 10 ms",
        );
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
            d.retry_wait_ms_max >= d.retry_wait_ms && d.retry_wait_ms_max <= 86_400_000,
            "delivery.retry_wait_ms_max",
            &d.retry_wait_ms_max,
            &format!(
                "choose at least delivery.retry_wait_ms ({}), at most 86400000",
                d.retry_wait_ms
            ),
        );
        check(
            (1..=1000).contains(&d.attempts_max),
            "delivery.attempts_max",
            &d.attempts_max,
            "choose between 1 and 1000",
        );
        check(
            (10..=60_000).contains(&d.poll_ms),
            "delivery.poll_ms",
            &d.poll_ms,
            "choose between 10 and 60000 ms",
        );

        check(
            self.http.listen.parse::<std::net::SocketAddr>().is_ok(),
            "http.listen",
            &quoted(&self.http.listen),
            "give address and port, such as 127.0.0.1:8080",
        );

        if let Some(url) = &self.http.public_url {
            check(
                is_web_url(url),
                "http.public_url",
                &quoted(url),
                "give an http:// or https:// URL, such as https://monitor.example.com",
            );
        }
        check(
            is_filter(&self.log.filter),
            "log.filter",
            &quoted(&self.log.filter),
            "give a level such as \"info\", or levels by module such as \"warn,monitor=debug\"",
        );

        for (name, receiver) in &self.receivers {
            check(
                is_name(name),
                &format!("receivers.{name:?}"),
                &"a receiver",
                "give it a name of 1 to 64 characters, none of them a control character",
            );
            let key = |field: &str| format!("receivers.{name}.{field}");
            match receiver {
                Receiver::Email(e) => {
                    check(
                        !e.host.trim().is_empty(),
                        &key("host"),
                        &quoted(&e.host),
                        "name the mail server",
                    );
                    check(e.port > 0, &key("port"), &e.port, "choose between 1 and 65535");
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
                        e.password.is_none() || e.password_file.is_none(),
                        &key("password"),
                        &"(hidden)",
                        "give either password or password_file",
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
                        is_web_url(&w.url),
                        &key("url"),
                        &"(hidden)",
                        "give an http:// or https:// URL",
                    );
                    check(
                        w.secret.is_some() != w.secret_file.is_some(),
                        &key("secret"),
                        &"(hidden)",
                        "give either secret or secret_file: receivers verify the signature",
                    );
                    check(
                        w.secret.as_ref().is_none_or(|secret| is_webhook_secret(secret.expose())),
                        &key("secret"),
                        &"(hidden)",
                        "give whsec_ and the base64 of 24 to 64 random bytes, such as \
                         `echo whsec_$(openssl rand -base64 32)` makes",
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

fn is_topic(text: &str) -> bool {
    // A leading '^' would be a pattern to librdkafka.
    (1..=249).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count())
        && !text.trim().is_empty()
        && !text.chars().any(char::is_control)
}

fn is_postgres_url(text: &str) -> bool {
    (text.starts_with("postgres://") || text.starts_with("postgresql://"))
        && text.parse::<sqlx::postgres::PgConnectOptions>().is_ok()
}

fn is_web_url(text: &str) -> bool {
    reqwest::Url::parse(text)
        .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}

fn is_webhook_secret(text: &str) -> bool {
    let key = text.strip_prefix("whsec_").map(|key| base64::prelude::BASE64_STANDARD.decode(key));
    matches!(key, Some(Ok(key)) if (24..=64).contains(&key.len()))
}

/// A bare word is a level: `EnvFilter` would take any other for the name of a module, and
/// nothing would be logged.
fn is_filter(filter: &str) -> bool {
    let word = filter.trim();
    let bare = !word.is_empty() && word.chars().all(char::is_alphanumeric);
    let level = word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    (!bare || level) && tracing_subscriber::EnvFilter::try_new(filter).is_ok()
}
