//! Messages to a Slack incoming webhook.
//!
//! Format and limits: Slack's "Sending messages using incoming webhooks" and Block Kit
//! reference (50 blocks; 150 characters in a header, 3,000 in a text, 2,000 in a field, 10
//! fields). Answers: 400 `invalid_payload`, 403 `action_prohibited`, 404 `no_service` or
//! `channel_not_found`, 410 `channel_is_archived`, 429 with Retry-After; the error message
//! contains this word.
//!
//! **Invariant.** The text of a tweet cannot mention people or disguise a link: `&`, `<` and `>`
//! are escaped, and Slack is asked not to parse texts. A tweet's own `*bold*` may still format.
//! No text is longer than Slack allows.
//! Deliberately absent: threads, which an incoming webhook cannot start; and buttons, which
//! Slack marks with a warning unless an application handles them. Links are enough.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::Target;
use super::links::Links;
use super::words::{self, line};
use super::{Linker, Notifier, NotifyError, Outcome};
use monitor_config as config;
use monitor_store::{Notification, OutboxRow};

const HEADER_CHARS_MAX: usize = 150;
const TEXT_CHARS_MAX: usize = 3000;
const FIELD_CHARS_MAX: usize = 2000;

/// Posts to one channel.
pub struct SlackNotifier {
    receiver: String,
    target: Target,
    linker: Option<Arc<Linker>>,
}

impl SlackNotifier {
    /// Creates the notifier of the receiver `name`; one attempt takes at most `timeout`.
    ///
    /// # Errors
    /// The URL is invalid; the message names the receiver.
    pub fn new(
        name: &str,
        settings: &config::Chat,
        timeout: Duration,
    ) -> Result<Self, NotifyError> {
        let target = Target::new(name, &settings.endpoint, "", timeout)?;
        Ok(Self { receiver: name.to_owned(), target, linker: None })
    }

    /// Puts links with which people act into messages, in the name of the receiver.
    #[must_use]
    pub fn with_links(self, linker: Option<Arc<Linker>>) -> Self {
        Self { linker, ..self }
    }
}

#[async_trait]
impl Notifier for SlackNotifier {
    async fn notify(&self, row: &OutboxRow, now: DateTime<Utc>) -> Outcome {
        let links = self.linker.as_ref().map(|linker| linker.links(row, &self.receiver, now));
        let body = message(&row.notification, links.as_ref()).to_string();
        self.target.post(HeaderMap::new(), body, &[], now).await
    }
}

fn message(n: &Notification, links: Option<&Links>) -> Value {
    let headline = words::headline(n);
    let reason = line(&n.reason, TEXT_CHARS_MAX);
    let mut blocks = vec![
        json!({
            "type": "header",
            "text": {"type": "plain_text", "text": line(&headline, HEADER_CHARS_MAX), "emoji": false},
        }),
        section(&escape(&reason, TEXT_CHARS_MAX)),
    ];
    let fields: Vec<_> = words::facts(n)
        .iter()
        .map(|(name, value)| mrkdwn(&format!("*{name}*\n{}", escape(value, FIELD_CHARS_MAX / 2))))
        .collect();
    blocks.push(json!({"type": "section", "fields": fields}));
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let lines: String = lines.iter().map(|line| format!("\n• {line}")).collect();
            let room = TEXT_CHARS_MAX - title.len() - 2;
            blocks.push(section(&format!("*{title}*{}", escape(&lines, room))));
        }
    };
    list("What was missed", words::missed(n));
    list("Typical of these tweets", words::drivers(n));
    list("At the same time", words::also(n));
    for example in n.examples.iter().take(words::EXAMPLES_MAX) {
        let (text, byline) = words::example(example);
        blocks.push(section(&format!("> {}", escape(&text, TEXT_CHARS_MAX - 2))));
        let byline = mrkdwn(&escape(&byline, FIELD_CHARS_MAX));
        blocks.push(json!({"type": "context", "elements": [byline]}));
    }
    let link = |label: &str, url: &str| {
        let url = escape(&url.replace('|', "%7C"), TEXT_CHARS_MAX - 500);
        format!("<{url}|{}>", escape(&label.replace('|', " "), 400))
    };
    if let Some(url) = &n.url {
        blocks.push(section(&link("See details", url)));
    }
    for (label, url) in links.iter().flat_map(|links| &links.acts) {
        blocks.push(section(&link(label, url)));
    }
    json!({
        "text": escape(&format!("{headline}. {reason}"), TEXT_CHARS_MAX),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// A text in Slack's markup; names and addresses do not become links.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Escapes Slack's three control characters; returns at most `max` characters.
fn escape(text: &str, max: usize) -> String {
    let mut escaped = String::new();
    let mut chars = 0;
    for c in text.chars() {
        let piece = match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            other => other.to_string(),
        };
        chars += piece.chars().count();
        if chars > max {
            break;
        }
        escaped.push_str(&piece);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks each text of the message against the limit of its place.
    fn check_limits(name: &str, message: &Value) {
        let blocks = message["blocks"].as_array().expect("blocks");
        assert!(blocks.len() <= 50, "{name}: {} blocks", blocks.len());
        let check = |text: &Value, max: usize| {
            let text = text["text"].as_str().expect("a text");
            assert!(!text.is_empty() && text.chars().count() <= max, "{name}: {text}");
        };
        for block in blocks {
            match block["type"].as_str().expect("a type") {
                "header" => check(&block["text"], HEADER_CHARS_MAX),
                "section" if block.get("fields").is_some() => {
                    let fields = block["fields"].as_array().expect("fields");
                    assert!((1..=10).contains(&fields.len()), "{name}: {} fields", fields.len());
                    fields.iter().for_each(|field| check(field, FIELD_CHARS_MAX));
                }
                "section" => check(&block["text"], TEXT_CHARS_MAX),
                "context" => check(&block["elements"][0], FIELD_CHARS_MAX),
                other => panic!("{name}: a block of type {other}"),
            }
        }
    }

    #[test]
    fn messages_are_as_documented() {
        for (name, row) in words::samples() {
            let message = message(&row.notification, None);
            check_limits(name, &message);
            let shown = serde_json::to_string_pretty(&message).expect("JSON");
            insta::assert_snapshot!(format!("{name}_slack"), shown);
        }
    }

    #[test]
    fn long_notifications_stay_within_the_limits() {
        let message = message(&words::monster().notification, None);
        check_limits("monster", &message);
        // The header is plain text without markup.
        let mut marked_up = message.clone();
        marked_up["blocks"][0].take();
        let shown = marked_up.to_string();
        for active in ["<!channel>", "\u{202e}", "\n💥"] {
            assert!(!shown.contains(active), "{active}: {shown}");
        }
        assert!(shown.contains("<https://monitor.example.com/a%7C&lt;&gt;&amp;"), "{shown}");
    }

    #[test]
    fn links_act_in_the_name_of_the_receiver() {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        for row in [words::monster(), crate::mail::fixtures::row("opened")] {
            let links = crate::links::linker().links(&row, "comms", now);
            let (without, with) =
                (message(&row.notification, None), message(&row.notification, Some(&links)));
            check_limits("links", &with);
            let blocks = |message: &Value| message["blocks"].as_array().expect("blocks").len();
            assert_eq!(
                blocks(&with),
                blocks(&without) + links.acts.len(),
                "none for single tweets"
            );
            let shown = with.to_string();
            assert!(shown.contains(&format!("<{}|Acknowledge>", links.acts[0].1)), "{shown}");
            assert!(!shown.contains("<!channel>|"), "{shown}");
        }
    }

    #[test]
    fn escapes_control_characters() {
        let check =
            |name, text: &str, max, expected| assert_eq!(escape(text, max), expected, "{name}");
        check("plain", "lost bag", 99, "lost bag");
        check("control characters", "<@U1> & co", 99, "&lt;@U1&gt; &amp; co");
        check("no truncated escape", "ab&", 4, "ab");
        check("fits", "ab&", 7, "ab&amp;");
    }
}
