//! Loads the settings of the binary: each crate checks the values that it interprets.
//!
//! **Invariant.** The [`Settings`] that [`load`] returns passed the checks of `monitor-config`
//! and of all [`OWNERS`].

use std::path::Path;

use monitor_config::{ConfigError, LogFormat, Model, Owner, Problem, Receiver, Settings};
use monitor_model::OpenOptions;
use monitor_telemetry::Format;

/// The checks of the crates that interpret a setting.
pub const OWNERS: &[Owner] = &[store_url, mail_addresses, log_filter];

/// Reads defaults, `file`, the environment and `overrides` (later ones win), and validates them.
///
/// # Errors
/// As [`monitor_config::load_from`].
pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Settings, ConfigError> {
    // Variables that are not Unicode are ignored; no setting has such a value.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    monitor_config::load_from(file, environment, overrides, OWNERS)
}

/// The part of `[model]` that `monitor-model` needs to open a model.
pub fn open_options(model: &Model) -> OpenOptions {
    OpenOptions {
        directory: model.directory.clone(),
        threads: model.threads,
        device: model.device.clone(),
        precision: model.precision,
        tokens_max: model.tokens_max,
    }
}

/// The log format of the settings, for `monitor-telemetry`.
pub fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

fn store_url(settings: &Settings) -> Vec<Problem> {
    let remedy = monitor_store::postgres_url_problem(&settings.store.url);
    let problem = |remedy| Problem { key: "store.url".into(), value: "(hidden)".into(), remedy };
    remedy.map(problem).into_iter().collect()
}

fn mail_addresses(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, receiver) in &settings.receivers {
        let Receiver::Email(email) = receiver else { continue };
        let senders = [("from", &email.from, "monitor@example.com")];
        let recipients = email.to.iter().map(|to| ("to", to, "comms@example.com"));
        for (field, address, example) in senders.into_iter().chain(recipients) {
            found.extend(problem(
                monitor_notify::is_address(address),
                &format!("receivers.{name}.{field}"),
                &format!("{address:?}"),
                &format!("give an address such as {example}"),
            ));
        }
    }
    found
}

fn log_filter(settings: &Settings) -> Vec<Problem> {
    let remedy =
        "give a level such as \"info\", or levels by module such as \"warn,monitor=debug\"";
    let filter = &settings.log.filter;
    let valid = monitor_telemetry::is_filter(filter);
    problem(valid, "log.filter", &format!("{filter:?}"), remedy).into_iter().collect()
}

fn problem(valid: bool, key: &str, value: &str, remedy: &str) -> Option<Problem> {
    (!valid).then(|| Problem { key: key.into(), value: value.into(), remedy: remedy.into() })
}
