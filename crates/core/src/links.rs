//! Links that act: each is the right to do one thing, for whoever holds it.
//!
//! **Invariant.** A link says what it does, to what, in whose name, for which notification, and until when. All
//! of it is signed (HMAC-SHA256, RFC 2104), so a link that somebody has changed is refused. Signatures are
//! compared in constant time.
//! Deliberately absent: whether a link was used, which the store knows ([`Link::once`]); and anything that reads.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::Secret;

/// Fewest bytes of a key: as many as the signature has.
pub const KEY_BYTES_MIN: usize = 32;
/// Longest link that is read, in bytes.
const LINK_BYTES_MAX: usize = 2000;
/// What is signed begins with this, so that a signature of something else with the same key is none of a link.
const PURPOSE: &[u8] = b"monitor link 1\n";

/// What a link does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum LinkAct {
    /// Acknowledges an incident.
    Acknowledge {
        /// Its number.
        incident: i64,
    },
    /// Silences a brand from now on.
    Silence {
        /// The brand.
        brand: String,
        /// For how long.
        hours: u32,
        /// The incident whose notification has the link.
        incident: i64,
    },
    /// Says that a tweet is not negative.
    NotNegative {
        /// Its id.
        tweet: String,
    },
}

/// A link, as it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it does.
    #[serde(flatten)]
    pub act: LinkAct,
    /// In whose name: a mail's recipient, or a receiver.
    pub who: String,
    /// The notification that has it: its number in the outbox.
    pub of: i64,
    /// The first moment at which it no longer works, to the second.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub until: DateTime<Utc>,
}

impl Link {
    /// Names the act of the notification. It works once, whoever does it and however often the notification
    /// was sent.
    pub fn once(&self) -> String {
        match &self.act {
            LinkAct::Acknowledge { .. } => format!("{}-acknowledge", self.of),
            LinkAct::Silence { .. } => format!("{}-silence", self.of),
            LinkAct::NotNegative { tweet } => format!("{}-not-negative-{tweet}", self.of),
        }
    }
}

/// Why a link does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkProblem {
    /// It is cut off or changed, or another key has signed it.
    Invalid,
    /// Its time is over.
    Expired(Link),
}

/// The key that signs links.
#[derive(Clone)]
pub struct LinkKey(Secret);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(hidden)")
    }
}

impl LinkKey {
    /// The bytes of the text are the key; `None` if there are fewer than [`KEY_BYTES_MIN`].
    pub fn new(secret: &Secret) -> Option<Self> {
        (secret.expose().len() >= KEY_BYTES_MIN).then(|| Self(secret.clone()))
    }

    /// The link as a part of a URL: content and signature in base64url, with a full stop between them.
    pub fn sign(&self, link: &Link) -> String {
        let content = serde_json::to_vec(link).expect("a link has string keys only");
        let signature = self.mac(&content).finalize().into_bytes();
        let [content, signature] =
            [&content[..], &signature[..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{content}.{signature}")
    }

    /// Reads a link that [`LinkKey::sign`] has made, at the wall-clock time `now`.
    ///
    /// # Errors
    /// [`LinkProblem`]; nothing of a link is read before its signature is right.
    pub fn open(&self, text: &str, now: DateTime<Utc>) -> Result<Link, LinkProblem> {
        let opened = || {
            let (content, signature) =
                text.split_once('.').filter(|_| text.len() <= LINK_BYTES_MAX)?;
            let content = BASE64_URL_SAFE_NO_PAD.decode(content).ok()?;
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
            self.mac(&content).verify_slice(&signature).ok()?;
            serde_json::from_slice(&content).ok()
        };
        let link: Link = opened().ok_or(LinkProblem::Invalid)?;
        if now < link.until { Ok(link) } else { Err(LinkProblem::Expired(link)) }
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let key = self.0.expose().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(PURPOSE);
        mac.update(content);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: &str = "2026-01-04T12:00:00Z";

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn key(text: &str) -> LinkKey {
        LinkKey::new(&Secret::new(text)).expect("long enough")
    }

    fn ours() -> LinkKey {
        key("an example key of thirty-two byte")
    }

    fn link(act: LinkAct) -> Link {
        Link { act, who: "anna@example.com".into(), of: 12, until: at(UNTIL) }
    }

    fn acts() -> [LinkAct; 3] {
        [
            LinkAct::Acknowledge { incident: 7 },
            LinkAct::Silence { brand: "acmé \"air\"".into(), hours: 2, incident: 7 },
            LinkAct::NotNegative { tweet: "569587686496825344".into() },
        ]
    }

    #[test]
    fn what_was_signed_is_read_until_it_expires() {
        for act in acts() {
            let link = link(act);
            let text = ours().sign(&link);
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            assert!(text.bytes().all(is_plain), "needs no escaping in a URL: {text}");
            assert_eq!(ours().open(&text, at("2026-01-04T11:59:59Z")), Ok(link.clone()));
            let expired = ours().open(&text, at(UNTIL));
            assert_eq!(expired, Err(LinkProblem::Expired(link)), "{text}");
        }
    }

    /// Signs nothing anew: puts other content before a signature that was made for `link`.
    #[test]
    fn a_change_of_any_field_is_refused() {
        let now = at("2026-01-01T12:00:00Z");
        let link = link(LinkAct::Silence { brand: "acme".into(), hours: 2, incident: 7 });
        let text = ours().sign(&link);
        let (_, signature) = text.split_once('.').expect("two parts");
        let content = serde_json::to_value(&link).expect("JSON");
        let fields: Vec<_> = content.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(fields.len(), 7, "{fields:?}");
        for field in fields {
            let mut changed = content.clone();
            let new = match &changed[&field] {
                serde_json::Value::Number(n) => (n.as_i64().expect("whole") + 1).into(),
                serde_json::Value::String(_) if field == "do" => "acknowledge".into(),
                other => serde_json::Value::from(format!("{other}x")),
            };
            changed[&field] = new;
            let changed = BASE64_URL_SAFE_NO_PAD.encode(changed.to_string());
            let opened = ours().open(&format!("{changed}.{signature}"), now);
            assert_eq!(opened, Err(LinkProblem::Invalid), "{field}");
        }
    }

    #[test]
    fn refuses_what_is_no_link_of_ours() {
        let now = at("2026-01-01T12:00:00Z");
        let link = link(LinkAct::Acknowledge { incident: 7 });
        let text = ours().sign(&link);
        let (content, signature) = text.split_once('.').expect("two parts");
        let raw = BASE64_URL_SAFE_NO_PAD.decode(content).expect("base64");
        // The same content and key, signed for another purpose.
        let mut mac = Hmac::<Sha256>::new_from_slice(ours().0.expose().as_bytes()).expect("a key");
        mac.update(&raw);
        let other = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        for (name, text) in [
            ("nothing", String::new()),
            ("no signature", content.to_owned()),
            ("an empty signature", format!("{content}.")),
            ("a shorter signature", text[..text.len() - 4].to_owned()),
            ("an unknown character", format!("{content}.{signature}=")),
            ("another purpose", format!("{content}.{other}")),
            ("too long", format!("{}.{signature}", content.repeat(50))),
            ("another key", key("another key of thirty-two bytes !").sign(&link)),
        ] {
            assert_eq!(ours().open(&text, now), Err(LinkProblem::Invalid), "{name}");
        }
    }

    #[test]
    fn a_short_key_is_none() {
        assert!(LinkKey::new(&Secret::new("x".repeat(KEY_BYTES_MIN - 1))).is_none());
        assert_eq!(format!("{:?}", ours()), "LinkKey(hidden)");
    }

    #[test]
    fn each_act_of_a_notification_counts_once() {
        let once = |act| link(act).once();
        let names: Vec<_> = acts().into_iter().map(once).collect();
        assert_eq!(names, ["12-acknowledge", "12-silence", "12-not-negative-569587686496825344"]);
        let mut later = link(LinkAct::Acknowledge { incident: 7 });
        (later.who, later.until) = ("boss@example.com".into(), at("2027-01-01T00:00:00Z"));
        assert_eq!(later.once(), names[0], "whoever does it, in whichever attempt");
    }
}
