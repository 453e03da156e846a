//! Messages to a Microsoft Teams workflow ("When a Teams webhook request is received").
//!
//! Format: Microsoft's "Create incoming webhooks with Workflows" and the schema of Adaptive
//! Cards, version 1.4; a message may have 28 KB. Answers: 202 when accepted, 400 for an invalid
//! card, 401 and 404 for a URL that is no longer valid, 429 when there are too many requests.
//!
//! **Invariant.** Strings from tweets are in text runs, in which Teams interprets no markup. No
//! message is larger than Teams allows.
//! Deliberately absent: the retired Office 365 connectors and their message cards.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::Target;
use super::words::{self, line};
use super::{Notifier, NotifyError, Outcome};
use monitor_config as config;
use monitor_store::{Notification, OutboxRow};

/// The limit of Teams, minus a reserve for what Teams adds.
const MESSAGE_BYTES_MAX: usize = 27 * 1024;
/// Characters of the reason, at most.
const REASON_CHARS_MAX: usize = 1000;

/// Posts to one channel or chat.
pub struct TeamsNotifier {
    target: Target,
}

impl TeamsNotifier {
    /// Creates the notifier of the receiver `name`; one attempt takes at most `timeout`.
    ///
    /// # Errors
    /// The URL is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Chat,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        Ok(Self { target: Target::new(name, &settings.endpoint, "", timeout)? })
    }
}

#[async_trait]
impl Notifier for TeamsNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        self.target.post(HeaderMap::new(), message(&row.notification), &[], now).await
    }
}

/// The message as JSON; drops the least important parts until it is small enough.
fn message(n: &Notification) -> String {
    let mut optional = optional(n);
    loop {
        let message = card(n, &optional).to_string();
        if message.len() <= MESSAGE_BYTES_MAX || optional.pop().is_none() {
            return message;
        }
    }
}

fn card(n: &Notification, optional: &[Value]) -> Value {
    let colour = match (n.transition.as_str(), n.severity.as_str()) {
        ("resolved", _) => "good",
        (_, "critical") => "attention",
        (_, "warning") => "warning",
        _ => "accent",
    };
    let facts: Vec<_> = words::facts(n)
        .into_iter()
        .map(|(title, value)| json!({"title": title, "value": value}))
        .collect();
    let headline =
        json!({"text": words::headline(n), "weight": "bolder", "size": "large", "color": colour});
    let mut body = vec![
        paragraph(headline),
        paragraph(json!({"text": line(&n.reason, REASON_CHARS_MAX)})),
        json!({"type": "FactSet", "facts": facts}),
    ];
    body.extend_from_slice(optional);
    let mut content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    });
    if let Some(url) = &n.url {
        content["actions"] =
            json!([{"type": "Action.OpenUrl", "title": "See details", "url": url}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": content,
        }],
    })
}

/// The optional parts of a card, the most important first.
fn optional(n: &Notification) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            parts.push(paragraph(json!({"text": title, "weight": "bolder"})));
            parts.extend(lines.iter().map(|line| paragraph(json!({"text": format!("• {line}")}))));
        }
    };
    list("What was missed", words::missed(n));
    list("Typical of these tweets", words::drivers(n));
    list("At the same time", words::also(n));
    for example in n.examples.iter().take(words::EXAMPLES_MAX) {
        let (text, byline) = words::example(example);
        parts.push(json!({
            "type": "Container",
            "style": "emphasis",
            "items": [
                paragraph(json!({"text": text})),
                paragraph(json!({"text": byline, "size": "small", "isSubtle": true})),
            ],
        }));
    }
    parts
}

/// A paragraph of one text run, without markup.
fn paragraph(mut run: Value) -> Value {
    run["type"] = "TextRun".into();
    json!({"type": "RichTextBlock", "inlines": [run]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_as_documented() {
        for (name, row) in words::samples() {
            let message: Value = serde_json::from_str(&message(&row.notification)).expect("JSON");
            let shown = serde_json::to_string_pretty(&message).expect("JSON");
            insta::assert_snapshot!(format!("{name}_teams"), shown);
        }
    }

    #[test]
    fn long_notifications_stay_within_the_limits() {
        let mut n = words::monster().notification;
        n.reason = "\"".repeat(100_000);
        n.drivers.terms[0].term = "💥".repeat(100_000);
        n.also.iter_mut().for_each(|also| also.reason = "\"💥".repeat(10_000));
        n.examples.iter_mut().for_each(|example| example.text = "\"💥".repeat(10_000));
        let message = message(&n);
        assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
        let value: Value = serde_json::from_str(&message).expect("JSON");
        let content = &value["attachments"][0]["content"];
        assert!(content["body"].as_array().expect("a body").len() > 3, "{content}");
        assert_eq!(content["actions"][0]["url"], n.url.expect("a URL"), "the link stays");
    }
}
