//! Signed JSON over HTTP, after the Standard Webhooks specification.
//!
//! **Invariant.** The body of a row is the same bytes in every attempt; the signature
//! covers the id (the row's key), the time of the attempt and the body. Redirects are not
//! followed: a signed body goes where the settings say. No error shows URL or secret.
//! Deliberately absent: reading the answer's body. The status tells all that counts, and
//! a receiver cannot make us hold more than its headers.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{StatusCode, Url, header};
use serde::Serialize;
use sha2::Sha256;

use super::{Notifier, NotifyError, Outcome, chain, read_secret, wire_key};
use crate::config;
use crate::store::{Notification, OutboxRow};

/// Least and most bytes of a signing key, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Answers that would be the same again: the body is refused, or the receiver is gone and
/// says so. All others may pass, once a deploy is over or a token rotated.
const PERMANENT: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::GONE,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

/// Posts to one URL.
pub struct WebhookNotifier {
    url: Url,
    key: Vec<u8>,
    client: reqwest::Client,
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
    /// Prepares to post to the receiver called `name`; one attempt takes at most `timeout`.
    ///
    /// # Errors
    /// The URL or the secret cannot be used; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Webhook,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let receiver = || name.to_owned();
        let bad_url = |problem: String| NotifyError::Url { receiver: receiver(), problem };
        let url = Url::parse(&settings.url).map_err(|e| bad_url(e.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(bad_url("give an http:// or https:// URL".into()));
        }
        let secret = read_secret(name, settings.secret.as_ref(), settings.secret_file.as_ref())?;
        let key = secret
            .as_ref()
            .and_then(|secret| secret.expose().strip_prefix("whsec_"))
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .filter(|key| SECRET_BYTES.contains(&key.len()))
            .ok_or_else(|| NotifyError::Secret {
                receiver: receiver(),
                problem: "the secret must be whsec_ and the base64 of 24 to 64 random bytes; \
                          `echo whsec_$(openssl rand -base64 32)` makes one"
                    .into(),
            })?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("monitor/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| NotifyError::Client { receiver: receiver(), problem: chain(&e) })?;
        Ok(Self { url, key, client })
    }
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

/// What an answer means. `retry_after` is the header of that name, in seconds or as a date.
fn judge(status: StatusCode, retry_after: Option<&str>, now: DateTime<Utc>) -> Outcome {
    if status.is_success() {
        return Outcome::Sent;
    }
    let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let reason = format!("the receiver answered {status}{hint}");
    if PERMANENT.contains(&status) {
        Outcome::Permanent { reason }
    } else {
        Outcome::Retry { reason, after: retry_after.and_then(|text| wait(text, now)) }
    }
}

fn wait(retry_after: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = retry_after.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or_default())
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let id = wire_key(&row.key);
        let body = body(row);
        let timestamp = now.timestamp();
        let answer = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-signature", signature(&self.key, &id, timestamp, &body))
            .header("webhook-timestamp", timestamp)
            .header("idempotency-key", &id)
            .header("webhook-id", id)
            .body(body)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let retry_after = answer.headers().get(header::RETRY_AFTER);
                judge(answer.status(), retry_after.and_then(|v| v.to_str().ok()), now)
            }
            Err(error) => Outcome::Retry { reason: chain(&error.without_url()), after: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn signs_as_the_specification_does() {
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
    fn judges_answers() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().expect("a time");
        let check = |name, status: u16, retry_after, expected: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match judge(status, retry_after, now) {
                Outcome::Sent => "sent".into(),
                Outcome::Retry { after: None, .. } => "retry".into(),
                Outcome::Retry { after: Some(wait), .. } => format!("retry in {wait:?}"),
                Outcome::Permanent { .. } => "permanent".to_owned(),
            };
            assert_eq!(found, expected, "{name}");
        };
        check("ok", 200, None, "sent");
        check("no content", 204, None, "sent");
        check("moved", 301, None, "retry");
        check("not modified", 304, None, "retry");
        check("bad request", 400, None, "permanent");
        check("token rotated", 401, None, "retry");
        check("forbidden", 403, None, "retry");
        check("not there yet", 404, Some("60"), "retry in 60s");
        check("gone", 410, Some("5"), "permanent");
        check("too large", 413, None, "permanent");
        check("not understood", 422, None, "permanent");
        check("request timeout", 408, None, "retry");
        check("slow down", 429, None, "retry");
        check("slow down, seconds", 429, Some(" 120 "), "retry in 120s");
        check("away, date", 503, Some("Thu, 01 Jan 2026 12:00:30 GMT"), "retry in 30s");
        check("away, past date", 503, Some("Thu, 01 Jan 2026 11:00:00 GMT"), "retry in 0ns");
        check("away, nonsense", 503, Some("soon"), "retry");
        check("negative", 503, Some("-3"), "retry");
        check("server error", 500, None, "retry");
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let check = |name, url: &str, secret: Option<&str>, expected: Option<&str>| {
            let settings = config::Webhook {
                url: url.into(),
                secret: secret.map(Secret::new),
                secret_file: None,
            };
            let found = WebhookNotifier::new("hook", &settings, Duration::from_secs(1));
            let message = found.err().map(|e| e.to_string());
            match (&message, expected) {
                (None, None) => {}
                (Some(message), Some(part)) => {
                    assert!(message.starts_with("receivers.hook"), "{name}: {message}");
                    assert!(message.contains(part), "{name}: {message}");
                    assert!(!message.contains("hidden"), "{name}: {message}");
                }
                _ => panic!("{name}: {message:?}"),
            }
        };
        check("good", "https://example.com/hidden", Some(good), None);
        check("no URL", "hidden words", Some(good), Some("relative URL"));
        check("scheme", "ftp://example.com/hidden", Some(good), Some("http://"));
        check("no secret", "https://example.com", None, Some("whsec_"));
        check("no prefix", "https://example.com", Some("hidden"), Some("whsec_"));
        check("not base64", "https://example.com", Some("whsec_hidden!"), Some("whsec_"));
        check("too short", "https://example.com", Some("whsec_aGlkZGVu"), Some("whsec_"));
    }

    #[test]
    fn json_is_as_documented() {
        let row = super::super::mail::fixtures::row("opened");
        let value: serde_json::Value = serde_json::from_str(&body(&row)).expect("JSON");
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).expect("JSON"));
    }
}
