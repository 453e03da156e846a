//! The default of each setting.
//!
//! **Invariant.** The defaults are valid, and `config/monitor.example.toml` states them.

use std::collections::BTreeMap;

use monitor_core::alerting::Voice;
use monitor_core::domain::{Precision, Severity, StartAt, StreamFormat};

use super::{
    Alerting, Assignment, Authors, Batching, Delivery, Drift, Heartbeat, Http, Kafka, Log,
    LogFormat, Model, Promotion, Route, Rule, Store, Stream,
};

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic: "tweets".into(),
            group: "monitor".into(),
            format: StreamFormat::Auto,
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
            keep_days: 0,
            keep_history_days: 0,
            keep_dead_letters_days: 90,
            dead_letters_per_minute_max: 600,
            authors: Authors::Hashed,
            count_deleted: true,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            name: "lstm".into(),
            by_language: BTreeMap::new(),
            directory: "models".into(),
            threads: 2,
            device: "auto".into(),
            precision: Precision::Auto,
            tokens_max: None,
            reload_s: 5,
        }
    }
}

impl Default for Promotion {
    fn default() -> Self {
        Self { jump_max: 0.1, history_days: 57, rows_per_s_max: 2000 }
    }
}

impl Default for Drift {
    fn default() -> Self {
        Self { tweets_per_day: 1000, reference_days: 28, false_alarms_per_month: 1.0 }
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
            rule: Rule::EDetector,
            count: Voice::default(),
            ignore_authors: Vec::new(),
            false_alarms_per_month: 2.0,
            share_above: 0.5,
            times_previous: 2.0,
            window_minutes: 60,
            tweets_min: 30,
            rise_min: 0.05,
            baseline_tweets_min: 100,
            short_window_minutes: 15,
            for_minutes: 0,
            resolve_minutes: 30,
            new_normal_minutes: 2 * 24 * 60,
            reopen_minutes: 24 * 60,
            repeat_minutes: 4 * 60,
            catch_up_minutes: 60,
            warning_rise: 0.1,
            critical_rise: 0.25,
            warning_people: 10,
            critical_people: 50,
            reach_followers: 1_000_000,
            negative_volume: true,
            negative_volume_times_min: 2.0,
            surge: false,
            surge_times_min: 2.0,
            brand_quiet_minutes_max: 60,
            time_zone: "UTC".into(),
            lateness_s: 60,
            tick_ms: 1000,
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self { quiet_minutes_max: 30, lag_minutes_max: 15 }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { url: None, every_s: 60 }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            brands: Vec::new(),
            causes: Vec::new(),
            severity_min: Severity::Notice,
            receivers: Vec::new(),
            quiet_hours: None,
            time_zone: "UTC".into(),
            quiet_hours_severity: Severity::Critical,
            group_wait_s: 0,
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
            circuit_failures: 5,
            circuit_rest_ms: 60_000,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".into(), public_url: None, tokens: BTreeMap::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}
