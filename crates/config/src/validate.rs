//! Validates settings, each value alone and together with others.
//!
//! **Invariant.** All problems are found, not only the first; each names key, value and
//! remedy, and shows no secret.

mod alerting;
mod delivery;
mod digest;
mod http;
mod links;
mod retrain;
mod traces;

use std::fmt;

use super::{ConfigError, Owner, Problem, Settings};

/// Records a problem (key, value, remedy) unless the first argument is true.
type Check<'a> = dyn FnMut(bool, &str, &dyn fmt::Display, &str) + 'a;

impl Settings {
    /// Checks every value, alone and together with others, then calls the `owners`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems found, not only the first.
    pub fn validate(&self, owners: &[Owner]) -> Result<(), ConfigError> {
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
        for (key, days) in [
            ("store.keep_days", self.store.keep_days),
            ("store.keep_history_days", self.store.keep_history_days),
            ("store.keep_dead_letters_days", self.store.keep_dead_letters_days),
        ] {
            check(days <= 36_500, key, &days, "choose up to 36500 days; 0 keeps them for ever");
        }
        check(
            (1..=1_000_000).contains(&self.store.dead_letters_per_minute_max),
            "store.dead_letters_per_minute_max",
            &self.store.dead_letters_per_minute_max,
            "choose between 1 and 1000000",
        );

        check(
            !self.model.name.trim().is_empty(),
            "model.name",
            &quoted(&self.model.name),
            "name a model such as \"lstm\", or a version such as \"lstm@1\"",
        );
        for (language, name) in &self.model.by_language {
            check(
                !name.trim().is_empty(),
                &format!("model.by_language.{language}"),
                &quoted(name),
                "name a model, or remove the line: tweets of this language are not scored then",
            );
        }
        check(
            (1..=256).contains(&self.model.threads),
            "model.threads",
            &self.model.threads,
            "choose between 1 and 256",
        );
        if let Some(tokens_max) = self.model.tokens_max {
            check(
                (256..=4_194_304).contains(&tokens_max),
                "model.tokens_max",
                &tokens_max,
                "choose between 256 and 4194304 tokens, or leave it to the device",
            );
        }
        check(
            self.model.reload_s <= 86_400,
            "model.reload_s",
            &self.model.reload_s,
            "choose at most 86400 s; 0 is only when it must",
        );
        let p = &self.promotion;
        check(
            (0.0..=1.0).contains(&p.jump_max),
            "promotion.jump_max",
            &p.jump_max,
            "choose between 0 and 1, such as 0.1 for 10 points",
        );
        check(
            (8..=365).contains(&p.history_days),
            "promotion.history_days",
            &p.history_days,
            "choose between 8 (what a baseline needs) and 365 days",
        );
        let d = &self.drift;
        check(
            d.tweets_per_day == 0 || (100..=10_000).contains(&d.tweets_per_day),
            "drift.tweets_per_day",
            &d.tweets_per_day,
            "choose between 100 and 10000 tweets, or 0 to compare nothing",
        );
        check(
            (7..=90).contains(&d.reference_days),
            "drift.reference_days",
            &d.reference_days,
            "choose between 7 and 90 days",
        );
        check(
            d.false_alarms_per_month > 0.0 && d.false_alarms_per_month <= 30.0,
            "drift.false_alarms_per_month",
            &d.false_alarms_per_month,
            "choose a number above 0 and up to 30, such as 1",
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

        alerting::check(self, &mut check);
        retrain::check(self, &mut check);
        delivery::check(self, &mut check);
        digest::check(self, &mut check);
        http::check(self, &mut check);
        links::check(self, &mut check);
        self.serve.check(&mut check);
        traces::check(self, &mut check);

        found.extend(owners.iter().flat_map(|owner| owner(self)));
        if found.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(found)) }
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn is_topic(text: &str) -> bool {
    // librdkafka would read a leading '^' as a pattern.
    (1..=249).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count())
        && !text.trim().is_empty()
        && !text.chars().any(char::is_control)
}

fn is_web_url(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}
