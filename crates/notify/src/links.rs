//! The links of a notification with which people act; pure.
//!
//! **Invariant.** A link is in the name of one recipient of a mail, or of a receiver, and works for
//! `links.valid_hours` after the attempt that sent it. Attempts of one notification differ in nothing else, and
//! share their uses ([`Link::once`]). A test has no links, and the end of an incident only those of its tweets.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use monitor_config::Settings;
use monitor_core::Secret;
use monitor_core::domain::STREAM;
use monitor_core::links::{KEY_BYTES_MIN, Link, LinkAct, LinkKey};
use monitor_store::{Notification, OutboxRow};

use super::NotifyError;
use super::words::line;

/// No brand of the settings has a longer name (64 characters).
const BRAND_BYTES_MAX: usize = 256;

/// Makes the links of notifications.
#[derive(Debug)]
pub struct Linker {
    key: LinkKey,
    /// Address of the page, without a slash at its end.
    page: String,
    valid: TimeDelta,
    silence_hours: u32,
}

/// The links of one notification to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Links {
    /// What each of them does, and its address.
    pub acts: Vec<(String, String)>,
    /// For each example tweet, in their order, the address at which a person says that it is not negative.
    pub not_negative: Vec<String>,
    /// When they expire.
    pub until: DateTime<Utc>,
}

impl Linker {
    /// Reads the key; `None` if the settings want no links.
    ///
    /// # Errors
    /// The file with the key cannot be read, or the key is too short.
    pub fn new(settings: &Settings) -> Result<Option<Arc<Self>>, NotifyError> {
        let links = &settings.links;
        let secret = match (&links.key, &links.key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
                .map_err(|error| {
                    NotifyError::Links(format!(
                        "links.key_file: cannot read {}: {error}",
                        path.display()
                    ))
                })?,
            (None, None) => return Ok(None),
        };
        let key = LinkKey::new(&secret).ok_or_else(|| {
            NotifyError::Links(format!(
                "links.key: give at least {KEY_BYTES_MIN} characters; `openssl rand -base64 32` makes a key"
            ))
        })?;
        // Validated when the settings were read: with a key there is an address.
        let Some(page) = &settings.http.public_url else { return Ok(None) };
        Ok(Some(Arc::new(Self {
            key,
            page: page.trim_end_matches('/').to_owned(),
            valid: TimeDelta::hours(i64::from(links.valid_hours)),
            silence_hours: links.silence_hours,
        })))
    }

    /// The key, for whoever checks the links.
    pub fn key(&self) -> LinkKey {
        self.key.clone()
    }

    /// The links of a row in the name of `who`, in an attempt at the wall-clock time `now`.
    pub(crate) fn links(&self, row: &OutboxRow, who: &str, now: DateTime<Utc>) -> Links {
        let n = &row.notification;
        let until = now + self.valid;
        let of = |act| {
            let link = Link { act, who: who.to_owned(), of: row.id, until };
            format!("{}/act/{}", self.page, self.key.sign(&link))
        };
        let tweets = n.examples.iter().filter(|_| !n.test);
        Links {
            acts: self.acts(n).into_iter().map(|(label, act)| (label, of(act))).collect(),
            not_negative: tweets
                .map(|it| of(LinkAct::NotNegative { tweet: it.tweet_id.clone() }))
                .collect(),
            until,
        }
    }

    fn acts(&self, n: &Notification) -> Vec<(String, LinkAct)> {
        let mut acts = Vec::new();
        if n.test || n.transition == "resolved" || !n.missed.is_empty() {
            return acts;
        }
        let (incident, hours) = (n.incident_id, self.silence_hours);
        acts.push(("Acknowledge".to_owned(), LinkAct::Acknowledge { incident }));
        if n.brand != STREAM && n.brand.len() <= BRAND_BYTES_MAX {
            let time = if hours == 1 { "1 hour".to_owned() } else { format!("{hours} hours") };
            let label = format!("Silence {} for {time}", line(&n.brand, 64));
            acts.push((label, LinkAct::Silence { brand: n.brand.clone(), hours, incident }));
        }
        acts
    }
}

/// Links for the tests of all services.
#[cfg(test)]
pub(crate) fn linker() -> Linker {
    Linker {
        key: LinkKey::new(&Secret::new("an example key of thirty-two byte")).expect("long enough"),
        page: "https://monitor.example.com".into(),
        valid: TimeDelta::hours(72),
        silence_hours: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::fixtures;
    use monitor_core::domain::Cause;

    fn now() -> DateTime<Utc> {
        "2026-01-01T12:00:00Z".parse().expect("a time")
    }

    fn labels(row: &OutboxRow) -> (Vec<String>, usize) {
        let links = linker().links(row, "anna@example.com", now());
        (links.acts.into_iter().map(|(label, _)| label).collect(), links.not_negative.len())
    }

    #[test]
    fn a_notification_has_the_links_that_make_sense() {
        let of = |cause, transition| OutboxRow {
            notification: fixtures::notification(cause, transition),
            ..fixtures::row(transition)
        };
        let acts = ["Acknowledge".to_owned(), "Silence united for 2 hours".to_owned()];
        assert_eq!(labels(&of(Cause::Share, "opened")), (acts.to_vec(), 2));
        assert_eq!(labels(&of(Cause::Surge, "updated")), (acts.to_vec(), 2));
        assert_eq!(
            labels(&of(Cause::Share, "resolved")),
            (Vec::new(), 2),
            "nothing to acknowledge"
        );
        assert_eq!(labels(&of(Cause::Lag, "opened")), (acts[..1].to_vec(), 0), "no brand");
        let mut test = of(Cause::Share, "opened");
        test.notification.test = true;
        assert_eq!(labels(&test), (Vec::new(), 0), "nothing has happened");
    }

    #[test]
    fn links_say_what_they_do_and_for_whom() {
        let linker = linker();
        let row = fixtures::row("opened");
        let links = linker.links(&row, "anna@example.com", now());
        let open = |url: &str| {
            let text = url.strip_prefix("https://monitor.example.com/act/").expect("our page");
            linker.key().open(text, now()).expect("a link")
        };
        let acknowledge = open(&links.acts[0].1);
        assert_eq!(acknowledge.act, LinkAct::Acknowledge { incident: 7 });
        assert_eq!((acknowledge.who.as_str(), acknowledge.of), ("anna@example.com", row.id));
        assert_eq!(acknowledge.until, now() + TimeDelta::hours(72));
        let silence = LinkAct::Silence { brand: "united".into(), hours: 2, incident: 7 };
        assert_eq!(open(&links.acts[1].1).act, silence);
        for (url, example) in links.not_negative.iter().zip(&row.notification.examples) {
            let tweet = example.tweet_id.clone();
            assert_eq!(open(url).act, LinkAct::NotNegative { tweet });
        }
        let later = linker.links(&row, "boss@example.com", now() + TimeDelta::hours(1));
        assert_ne!(later.acts, links.acts);
        assert_eq!(open(&later.acts[0].1).once(), acknowledge.once(), "one use for all of them");
    }
}
