//! Alerts to Prometheus Alertmanager, `POST /api/v2/alerts`.
//!
//! Format: Alertmanager's OpenAPI document (`api/v2/openapi.yaml`, `postableAlerts`). Answers:
//! 200 when accepted, 400 for an invalid alert, 5xx when it fails.
//!
//! **Invariant.** The labels identify an alert. It fires while `endsAt` is in the future of
//! Alertmanager's clock; the daemon does not repeat it each minute, as Prometheus does. So:
//! - An open alert ends far in the future ([`FIRES_MAX`], longer than any incident may last),
//!   not after Alertmanager's `resolve_timeout`; the resolve notification ends it.
//! - A resolved alert ends at the evaluated minute, which is in the distant past in a replay,
//!   and never in the future. It starts with the incident, in event time, and never after its end.
//! - The severity is a label, so that Alertmanager can route by it. When the severity rises, the
//!   alerts of the lower severities of the incident end.
//! - A test ends by itself after [`TEST_FIRES`].
//!
//! Alertmanager keeps alerts in memory. After a restart it has forgotten the open ones and
//! receives each again with its next update, after `alerting.repeat_minutes` at the latest; an
//! acknowledged one only if it gets worse.
//!
//! Deliberately absent: grouping, silences, and integrations such as PagerDuty or Opsgenie;
//! Alertmanager provides them.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::http::Target;
use super::words::{self, line};
use super::{Notifier, NotifyError, Outcome, read_secret};
use monitor_config::{self as config};
use monitor_core::Secret;
use monitor_core::domain::{Cause, Severity};
use monitor_store::{Notification, OutboxRow};

/// How long an alert fires at most: longer than `alerting.new_normal_minutes` can be.
const FIRES_MAX: TimeDelta = TimeDelta::days(61);
/// How long a test fires.
const TEST_FIRES: TimeDelta = TimeDelta::minutes(5);
/// Characters of an annotation, at most.
const ANNOTATION_CHARS_MAX: usize = 4000;

/// Posts to one Alertmanager.
pub struct AlertmanagerNotifier {
    receiver: String,
    settings: config::Alertmanager,
    target: Target,
}

impl AlertmanagerNotifier {
    /// Creates the notifier of the receiver `name`; one attempt takes at most `timeout`. A
    /// token in a file is read again at each attempt.
    ///
    /// # Errors
    /// The URL or the token is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Alertmanager,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let target = Target::new(name, &settings.endpoint, "/api/v2/alerts", timeout)?;
        let notifier = Self { receiver: name.to_owned(), settings: settings.clone(), target };
        notifier.token()?;
        Ok(notifier)
    }

    /// The token, and the header that contains it.
    fn token(&self) -> Result<Option<(Secret, HeaderValue)>, NotifyError> {
        let config::Alertmanager { token, token_file, .. } = &self.settings;
        let Some(token) = read_secret(&self.receiver, token.as_ref(), token_file.as_ref())? else {
            return Ok(None);
        };
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                let problem = "the token must be one line of letters and digits".into();
                NotifyError::Secret { receiver: self.receiver.clone(), problem }
            })?;
        value.set_sensitive(true);
        Ok(Some((token, value)))
    }
}

#[async_trait]
impl Notifier for AlertmanagerNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let token = match self.token() {
            Ok(token) => token,
            Err(error) => return Outcome::Retry { reason: error.to_string(), after: None },
        };
        let mut headers = HeaderMap::new();
        let mut secrets = Vec::new();
        if let Some((token, value)) = &token {
            headers.insert(header::AUTHORIZATION, value.clone());
            secrets.push(token.expose());
        }
        let body = Value::from(alerts(&row.notification, now)).to_string();
        self.target.post(headers, body, &secrets, now).await
    }
}

/// The alert of a notification, and the alerts of the lower severities, which may be firing;
/// none of these if the incident has just opened.
fn alerts(n: &Notification, now: DateTime<Utc>) -> Vec<Value> {
    let present = Severity::parse(&n.severity);
    let milder = |severity: &Severity| {
        n.transition != "opened" && present.is_some_and(|present| *severity < present)
    };
    let over = n.transition == "resolved";
    let mut alerts = vec![alert(n, &n.severity, over, now)];
    alerts
        .extend(Severity::ALL.into_iter().filter(milder).map(|s| alert(n, s.as_str(), true, now)));
    alerts
}

fn alert(n: &Notification, severity: &str, over: bool, now: DateTime<Utc>) -> Value {
    let ends_at = match (over, n.test) {
        (true, _) => n.at.min(now),
        (false, true) => now + TEST_FIRES,
        (false, false) => now + FIRES_MAX,
    };
    let name = match n.cause() {
        Cause::Share => "BadBuzz",
        Cause::NegativeVolume => "NegativeVolume",
        Cause::Surge => "TweetSurge",
        Cause::Quiet => "StreamQuiet",
        Cause::BrandQuiet => "BrandQuiet",
        Cause::Lag => "StreamLag",
    };
    let mut alert = json!({
        "labels": {
            "alertname": name,
            "brand": line(&n.brand, 64),
            "severity": severity,
            "cause": n.cause().as_str(),
            "incident": n.incident_id.to_string(),
        },
        "annotations": {
            "summary": words::headline(n),
            "description": description(n),
        },
        "startsAt": time(n.opened_at.min(now).min(ends_at)),
        "endsAt": time(ends_at),
    });
    if n.test {
        alert["labels"]["test"] = "true".into();
    }
    if let Some(url) = &n.url {
        alert["generatorURL"] = url.as_str().into();
    }
    alert
}

fn description(n: &Notification) -> String {
    let mut lines = vec![line(&n.reason, ANNOTATION_CHARS_MAX)];
    lines.extend(words::facts(n).iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(words::drivers(n));
    for example in n.examples.iter().take(words::EXAMPLES_MAX) {
        let (text, byline) = words::example(example);
        lines.push(format!("“{text}” ({byline})"));
    }
    lines.extend(words::also(n));
    lines.join("\n").chars().take(ANNOTATION_CHARS_MAX).collect()
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::fixtures;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn alerts_are_as_documented() {
        // A digest of what is over is never sent here.
        let samples = words::samples().into_iter().filter(|(name, _)| *name != "missed");
        for (name, row) in samples {
            let alerts = Value::from(alerts(&row.notification, at("2026-01-01T12:00:00Z")));
            let shown = serde_json::to_string_pretty(&alerts).expect("JSON");
            insta::assert_snapshot!(format!("{name}_alertmanager"), shown);
        }
    }

    #[test]
    fn alerts_are_firing_or_resolved() {
        // As Alertmanager does: an alert is resolved if it ends no later than now, and invalid if
        // it ends before it starts.
        let check = |name, transition: &str, now: &str, firing: &[&str], resolved: &[&str]| {
            let now = at(now);
            let of = |severity: &str| severity.to_owned();
            let mut found = (Vec::new(), Vec::new());
            for alert in alerts(&fixtures::row(transition).notification, now) {
                let time = |key: &str| at(alert[key].as_str().expect("a time"));
                assert!(time("startsAt") <= time("endsAt"), "{name}: {alert}");
                assert!(time("startsAt") <= now, "{name}: {alert}");
                let severity = of(alert["labels"]["severity"].as_str().expect("a severity"));
                let list = if time("endsAt") > now { &mut found.0 } else { &mut found.1 };
                list.push(severity);
            }
            let expected = (firing, resolved);
            assert_eq!(
                (&found.0[..], &found.1[..]),
                (
                    &expected.0.iter().map(|s| of(s)).collect::<Vec<_>>()[..],
                    &expected.1.iter().map(|s| of(s)).collect::<Vec<_>>()[..]
                ),
                "{name}"
            );
        };
        let all = ["critical", "notice", "warning"];
        let (one, milder) = (&all[..1], &all[1..]);
        let (live, replay) = ("2015-02-23T14:06:00Z", "2026-01-01T12:00:00Z");
        check("opened", "opened", live, one, &[]);
        check("opened in a replay", "opened", replay, one, &[]);
        check("opened, our clock behind the tweets'", "opened", "2015-02-23T13:00:00Z", one, &[]);
        check("worse", "updated", "2015-02-23T20:00:00Z", one, milder);
        check("ended", "resolved", "2015-02-23T17:26:00Z", &[], &all);
        check("ended in a replay", "resolved", replay, &[], &all);
        check("ended, our clock behind the tweets'", "resolved", "2015-02-23T13:00:00Z", &[], &all);
    }

    #[test]
    fn long_notifications_stay_within_the_limits() {
        let alert = alerts(&words::monster().notification, at("2026-01-01T12:00:00Z")).remove(0);
        let chars = |value: &Value| value.as_str().expect("a text").chars().count();
        assert!(chars(&alert["annotations"]["description"]) <= ANNOTATION_CHARS_MAX);
        assert!(chars(&alert["annotations"]["summary"]) <= 200);
        assert!(chars(&alert["labels"]["brand"]) <= 64);
    }
}
