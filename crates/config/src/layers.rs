//! Merges the layers of settings.
//!
//! **Invariant.** An environment variable is a setting only if its name begins with `MONITOR_`
//! and contains `__`, so variables such as `MONITOR_CACHE` are not; one that begins like a setting but has a
//! single `_` is an error, because it would be ignored. A value of the environment
//! or of a flag is text, and becomes a number only where a number is expected: a password of
//! digits stays text. A value in `[...]` is a TOML list.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use monitor_core::{Secret, keywords};
use serde::{Deserialize, Deserializer};

use super::{
    Alertmanager, Assignment, Authors, Chat, ConfigError, Email, Endpoint, LogFormat, Problem,
    Receiver, Rule, Settings, SmtpTls, Webhook,
};

/// A check by the crate that interprets a setting, such as whether the store's client can parse
/// the database URL. It returns all problems; each names key, value and remedy.
pub type Owner = fn(&Settings) -> Vec<Problem>;

/// Reads the defaults, then `file`, then the variables `MONITOR_...` of `environment`
/// (`MONITOR_KAFKA__BROKERS` sets `kafka.brokers`), then `overrides` (dotted key and value).
/// Validates the result, with the checks of this crate and of all `owners`.
///
/// # Errors
/// A file that cannot be read, an unknown key, a value of the wrong type or out of range. The
/// message names key, value and remedy.
pub fn load_from(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
    owners: &[Owner],
) -> Result<Settings, ConfigError> {
    let mut layers = Config::builder();
    if let Some(path) = file {
        check_syntax(path)?;
        layers = layers.add_source(File::from(path).format(FileFormat::Toml));
    }
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let misspelt: Vec<Problem> =
        environment.iter().filter_map(|(name, _)| single_underscore(name)).collect();
    if !misspelt.is_empty() {
        return Err(ConfigError::Invalid(misspelt));
    }
    let (lists, texts): (HashMap<_, _>, HashMap<_, _>) = environment
        .into_iter()
        .filter(|(name, _)| name.strip_prefix("MONITOR_").is_some_and(|key| key.contains("__")))
        .partition(|(_, value)| list(value).is_some());
    layers = layers.add_source(
        Environment::with_prefix("MONITOR")
            .prefix_separator("_")
            .separator("__")
            .source(Some(texts.into_iter().collect())),
    );
    for (name, value) in lists {
        let key = name["MONITOR_".len()..].to_lowercase().replace("__", ".");
        // Overrides win over all sources; the flags are set later and win over these.
        layers = layers.set_override(key, list(&value))?;
    }
    for (key, value) in overrides {
        layers = match list(value) {
            Some(values) => layers.set_override(key, values)?,
            None => layers.set_override(key, value.as_str())?,
        };
    }
    let settings: Settings = layers.build()?.try_deserialize()?;
    settings.validate(owners)?;
    Ok(settings)
}

/// The tables of the settings, as in the names of environment variables.
const TABLES: [&str; 14] = [
    "KAFKA",
    "STORE",
    "MODEL",
    "PROMOTION",
    "BATCHING",
    "BRANDS",
    "ALERTING",
    "STREAM",
    "ROUTES",
    "RECEIVERS",
    "DELIVERY",
    "HEARTBEAT",
    "HTTP",
    "LOG",
];

/// What is wrong with a name such as `MONITOR_KAFKA_BROKERS`, which means `MONITOR_KAFKA__BROKERS`.
fn single_underscore(name: &str) -> Option<Problem> {
    let rest = name.strip_prefix("MONITOR_").filter(|rest| !rest.contains("__"))?;
    let (table, key) = rest.split_once('_')?;
    (TABLES.contains(&table) && !key.is_empty()).then(|| Problem {
        key: name.to_owned(),
        value: "(hidden)".to_owned(),
        remedy: format!(
            "this variable is not a setting; did you mean MONITOR_{table}__{key}, with two underscores?"
        ),
    })
}

/// The elements of a list such as `["a", "b"]`; `None` if the text is not a list.
fn list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    let table: BTreeMap<String, Vec<String>> = toml::from_str(&format!("list = {text}")).ok()?;
    table.into_values().next()
}

/// Checks the syntax of the file first: the `config` crate's own syntax error shows the line,
/// which may contain a password.
fn check_syntax(path: &Path) -> Result<(), ConfigError> {
    let file = || path.to_owned();
    let text = std::fs::read_to_string(path)
        .map_err(|reason| ConfigError::File { file: file(), reason })?;
    text.parse::<toml::Table>().map(|_| ()).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        ConfigError::Syntax {
            file: file(),
            line: text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1,
            problem: error.message().into(),
        }
    })
}

/// Deserializes librdkafka properties. Their names contain dots, which the `config` crate reads
/// as levels: joins `{security: {protocol: "ssl"}}` to `security.protocol` again.
pub(super) fn dotted<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    fn flatten(prefix: &str, value: Value, out: &mut BTreeMap<String, String>) -> bool {
        match value.kind {
            ValueKind::Table(table) => table.into_iter().all(|(key, value)| {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&key, value, out)
            }),
            ValueKind::Array(_) | ValueKind::Nil => false,
            kind => {
                out.insert(prefix.into(), kind.to_string());
                true
            }
        }
    }
    let value = Value::deserialize(deserializer)?;
    let mut out = BTreeMap::new();
    if matches!(value.kind, ValueKind::Table(_)) && flatten("", value, &mut out) {
        Ok(out)
    } else {
        Err(serde::de::Error::custom(
            "kafka.properties needs a name and a value for each entry, such as \"security.protocol\" = \"ssl\"",
        ))
    }
}

/// The fields of all kinds of receivers. One struct for all makes an unknown key an error, and
/// allows a number in the environment; serde's tagged enums support neither.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnyReceiver {
    kind: Kind,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<SmtpTls>,
    username: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    from: Option<String>,
    to: Option<Vec<String>>,
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    allow_private: Option<bool>,
    ca_file: Option<PathBuf>,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    previous_secret: Option<Secret>,
    previous_secret_file: Option<PathBuf>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
enum Kind {
    Email,
    Webhook,
    Slack,
    Teams,
    Alertmanager,
}

keywords!(Assignment:
    "cooperative-sticky" => CooperativeSticky, "range" => Range, "roundrobin" => RoundRobin);
keywords!(SmtpTls: "starttls" => Starttls, "tls" => Tls, "none" => None);
keywords!(Authors: "hashed" => Hashed, "plain" => Plain, "none" => None);
keywords!(LogFormat: "text" => Text, "json" => Json);
keywords!(Kind: "email" => Email, "webhook" => Webhook, "slack" => Slack, "teams" => Teams,
    "alertmanager" => Alertmanager);
keywords!(Rule:
    "e-detector" => EDetector, "share-above" => ShareAbove, "times-previous" => TimesPrevious);

impl TryFrom<AnyReceiver> for Receiver {
    type Error = String;

    fn try_from(any: AnyReceiver) -> Result<Self, String> {
        let kind = any.kind.as_str();
        let mail: &[Kind] = &[Kind::Email];
        let http: &[Kind] = &[Kind::Webhook, Kind::Slack, Kind::Teams, Kind::Alertmanager];
        let fields: [(&str, bool, &[Kind]); 17] = [
            ("host", any.host.is_some(), mail),
            ("port", any.port.is_some(), mail),
            ("tls", any.tls.is_some(), mail),
            ("username", any.username.is_some(), mail),
            ("password", any.password.is_some(), mail),
            ("password_file", any.password_file.is_some(), mail),
            ("from", any.from.is_some(), mail),
            ("to", any.to.is_some(), mail),
            ("url", any.url.is_some(), http),
            ("url_file", any.url_file.is_some(), http),
            ("allow_private", any.allow_private.is_some(), http),
            ("secret", any.secret.is_some(), &[Kind::Webhook]),
            ("secret_file", any.secret_file.is_some(), &[Kind::Webhook]),
            ("previous_secret", any.previous_secret.is_some(), &[Kind::Webhook]),
            ("previous_secret_file", any.previous_secret_file.is_some(), &[Kind::Webhook]),
            ("token", any.token.is_some(), &[Kind::Alertmanager]),
            ("token_file", any.token_file.is_some(), &[Kind::Alertmanager]),
        ];
        if let Some((key, _, kinds)) =
            fields.into_iter().find(|(_, present, kinds)| *present && !kinds.contains(&any.kind))
        {
            let kinds: Vec<_> = kinds.iter().map(|k| format!("{:?}", k.as_str())).collect();
            return Err(format!(
                "a receiver of kind {kind:?} has no {key}, only {} has",
                kinds.join(", ")
            ));
        }
        let missing = |key| format!("a receiver of kind {kind:?} needs {key}");
        if any.kind == Kind::Email {
            return Ok(Self::Email(Email {
                host: any.host.ok_or_else(|| missing("host"))?,
                port: any.port.unwrap_or(587),
                tls: any.tls.unwrap_or_default(),
                username: any.username,
                password: any.password,
                password_file: any.password_file,
                ca_file: any.ca_file,
                from: any.from.ok_or_else(|| missing("from"))?,
                to: any.to.ok_or_else(|| missing("to"))?,
            }));
        }
        if any.url.is_none() && any.url_file.is_none() {
            return Err(missing("url (or url_file)"));
        }
        let endpoint = Endpoint {
            url: any.url,
            url_file: any.url_file,
            allow_private: any.allow_private.unwrap_or(false),
            ca_file: any.ca_file,
        };
        Ok(match any.kind {
            Kind::Slack => Self::Slack(Chat { endpoint }),
            Kind::Teams => Self::Teams(Chat { endpoint }),
            Kind::Alertmanager => Self::Alertmanager(Alertmanager {
                endpoint,
                token: any.token,
                token_file: any.token_file,
            }),
            _ => Self::Webhook(Webhook {
                endpoint,
                secret: any.secret,
                secret_file: any.secret_file,
                previous_secret: any.previous_secret,
                previous_secret_file: any.previous_secret_file,
            }),
        })
    }
}
