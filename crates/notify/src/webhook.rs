//! Signed JSON over HTTP, after the Standard Webhooks specification
//! (standardwebhooks.com); `docs/webhook.schema.json` describes the JSON.
//!
//! **Invariant.** The body of a row is the same bytes in every attempt; each signature covers
//! the id (the row's key), the time of the attempt and the body. While a secret is being
//! replaced there are two signatures, the current secret's first, so a receiver with either
//! secret accepts the request. Files with secrets are read again at each attempt: a secret can
//! be replaced without a restart.
//! Deliberately absent: asymmetric signatures (`v1a`); a shared secret is enough for a
//! receiver of the same organization.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use sha2::Sha256;

use super::http::Target;
use super::{Notifier, NotifyError, Outcome, read_secret, wire_key};
use monitor_config as config;
use monitor_store::{Notification, OutboxRow};

/// Fewest and most bytes of a signing key, according to the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Posts to one URL.
pub struct WebhookNotifier {
    receiver: String,
    settings: config::Webhook,
    target: Target,
}

/// The JSON that is posted.
#[derive(Serialize)]
struct Event<'a> {
    r#type: String,
    version: u32,
    timestamp: String,
    key: &'a str,
    data: &'a Notification,
}

impl WebhookNotifier {
    /// Creates the notifier of the receiver `name`; one attempt takes at most `timeout`.
    ///
    /// # Errors
    /// The URL or a secret is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Webhook,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let target = Target::new(name, &settings.endpoint, "", timeout)?;
        let notifier = Self { receiver: name.to_owned(), settings: settings.clone(), target };
        notifier.keys()?;
        Ok(notifier)
    }

    /// The signing keys: the current one, then the previous one, if any.
    fn keys(&self) -> Result<Vec<Vec<u8>>, NotifyError> {
        let s = &self.settings;
        let present = read_secret(&self.receiver, s.secret.as_ref(), s.secret_file.as_ref())?;
        let (previous, file) = (s.previous_secret.as_ref(), s.previous_secret_file.as_ref());
        let previous = read_secret(&self.receiver, previous, file)?;
        let bad = |which: &str| NotifyError::Secret {
            receiver: self.receiver.clone(),
            problem: format!(
                "{which} must be whsec_ and the base64 of 24 to 64 random bytes; `echo \
                 whsec_$(openssl rand -base64 32)` makes one"
            ),
        };
        let mut keys = vec![present.as_ref().and_then(key).ok_or_else(|| bad("the secret"))?];
        if let Some(previous) = previous {
            keys.push(key(&previous).ok_or_else(|| bad("the previous secret"))?);
        }
        Ok(keys)
    }
}

fn key(secret: &monitor_core::Secret) -> Option<Vec<u8>> {
    let text = secret.expose().strip_prefix("whsec_")?;
    BASE64_STANDARD.decode(text).ok().filter(|key| SECRET_BYTES.contains(&key.len()))
}

/// The body of a row; the same in every attempt.
fn body(row: &OutboxRow) -> String {
    let event = Event {
        r#type: format!("incident.{}", row.notification.transition),
        version: 1,
        timestamp: row.notification.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        key: &wire_key(&row.key),
        data: &row.notification,
    };
    serde_json::to_string(&event).expect("a notification has string keys only")
}

/// The signature of Standard Webhooks, version 1.
fn signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let keys = match self.keys() {
            Ok(keys) => keys,
            Err(error) => return Outcome::Retry { reason: error.to_string(), after: None },
        };
        let id = wire_key(&row.key);
        let body = body(row);
        let timestamp = now.timestamp();
        let signatures: Vec<_> =
            keys.iter().map(|key| signature(key, &id, timestamp, &body)).collect();
        let id = HeaderValue::from_str(&id).expect("a wire key has only letters that headers take");
        let signatures = HeaderValue::from_str(&signatures.join(" "));
        let headers = HeaderMap::from_iter(
            [
                ("webhook-id", id.clone()),
                ("idempotency-key", id),
                ("webhook-timestamp", timestamp.into()),
                ("webhook-signature", signatures.expect("base64, commas and blanks")),
            ]
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value)),
        );
        self.target.post(headers, body, &[], now).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::words;
    use monitor_config::Endpoint;
    use monitor_core::Secret;

    const GOOD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_as_in_the_specification() {
        // The specification's own example.
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let found = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(found, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn rejects_invalid_secrets() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let check = |name, secret: Option<&str>, previous: Option<&str>, expected: &str| {
            let settings = config::Webhook {
                endpoint: Endpoint {
                    url: Some(Secret::new("https://example.com/hidden")),
                    url_file: None,
                    allow_private: false,
                    ca_file: None,
                },
                secret: secret.map(Secret::new),
                secret_file: None,
                previous_secret: previous.map(Secret::new),
                previous_secret_file: None,
            };
            let made = WebhookNotifier::new("hook", &settings, Duration::from_secs(1));
            let message = made.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.starts_with(expected), "{name}: {message}");
            assert_eq!(message.is_empty(), expected.is_empty(), "{name}: {message}");
            assert!(!message.contains("hidden"), "{name}: {message}");
        };
        let present = "receivers.hook: the secret must be whsec_";
        let previous = "receivers.hook: the previous secret must be whsec_";
        check("good", Some(GOOD), None, "");
        check("two", Some(GOOD), Some(GOOD), "");
        check("none", None, None, present);
        check("only the previous one", None, Some(GOOD), present);
        check("bare", Some("hiddenhiddenhiddenhiddenhiddenhi"), None, present);
        check("not base64", Some("whsec_hidden!"), None, present);
        check("too short", Some("whsec_aGlkZGVu"), None, present);
        check("the previous one too short", Some(GOOD), Some("whsec_aGlkZGVu"), previous);
    }

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../docs/webhook.schema.json")).expect("JSON")
    }

    fn bodies() -> Vec<(&'static str, Value)> {
        let json = |row: OutboxRow| -> Value { serde_json::from_str(&body(&row)).expect("JSON") };
        words::samples().into_iter().map(|(name, row)| (name, json(row))).collect()
    }

    #[test]
    fn json_is_as_documented() {
        // The schema allows unknown fields; here each field must be in the schema.
        let mut strict = schema();
        close(&mut strict);
        let strict = jsonschema::validator_for(&strict).expect("a schema");
        for (name, body) in bodies() {
            let problems: Vec<_> = strict.iter_errors(&body).map(|e| e.to_string()).collect();
            assert!(problems.is_empty(), "{name}: {problems:?}");
            let shown = serde_json::to_string_pretty(&body).expect("JSON");
            insta::assert_snapshot!(format!("{name}_webhook"), shown);
        }
    }

    /// Forbids fields that are not in the schema.
    fn close(schema: &mut Value) {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = false.into();
        }
        match schema {
            Value::Object(fields) => fields.values_mut().for_each(close),
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }

    #[test]
    fn the_schema_rejects_a_missing_field_or_a_wrong_type() {
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        for (name, body) in bodies() {
            assert!(validator.is_valid(&body), "{name}");
            for pointer in fields("", &body) {
                let (parent, field) = pointer.rsplit_once('/').expect("a pointer has a slash");
                let mut lacking = body.clone();
                let object = lacking.pointer_mut(parent).and_then(Value::as_object_mut);
                object.expect("an object").remove(field);
                assert!(!validator.is_valid(&lacking), "{name} without {pointer}");
                let mut wrong = body.clone();
                let value = wrong.pointer_mut(&pointer).expect("a field");
                *value = if value.is_array() { "text".into() } else { Value::Array(Vec::new()) };
                assert!(!validator.is_valid(&wrong), "{name} with another type of {pointer}");
            }
        }
    }

    /// Pointers to all fields of all objects.
    fn fields(at: &str, value: &Value) -> Vec<String> {
        let below: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (format!("{at}/{name}"), value)).collect()
            }
            Value::Array(items) => {
                items.iter().zip(0..).map(|(item, i)| (format!("{at}/{i}"), item)).collect()
            }
            _ => Vec::new(),
        };
        let own = below.iter().filter(|_| value.is_object()).map(|(pointer, _)| pointer.clone());
        own.chain(below.iter().flat_map(|(pointer, value)| fields(pointer, value))).collect()
    }
}
