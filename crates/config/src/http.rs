//! `[http]`: the page, the API, health and metrics, and who may use them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use monitor_core::keywords;
use serde::Deserialize;

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port of the page, health and metrics; port 0 selects a free one.
    pub listen: String,
    /// URL of the page for people; the start of the links in notifications.
    pub public_url: Option<String>,
    /// Who may use it, by name; nobody needs a token if there is none.
    pub tokens: BTreeMap<String, AccessToken>,
}

/// `[http.tokens.<name>]`
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessToken {
    /// SHA-256 of the token, in 64 hexadecimal digits.
    pub sha256: String,
    /// What it allows.
    #[serde(default)]
    pub rights: Rights,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl AccessToken {
    /// The 32 bytes of [`AccessToken::sha256`]; `None` if it is not 64 hexadecimal digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        if self.sha256.len() != 64 || !self.sha256.is_ascii() {
            return None;
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.sha256.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        // from_str_radix takes a sign.
        (!self.sha256.contains('+')).then_some(digest)
    }
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Rights {
    /// Read pages, data and metrics, and have texts scored.
    #[default]
    Read,
    /// Also acknowledge, silence, resolve and label.
    Act,
}

keywords!(Rights: "read" => Read, "act" => Act);

impl Http {
    /// Whether other machines can reach it: it does not listen on this machine's own address.
    pub fn is_exposed(&self) -> bool {
        self.listen.parse::<SocketAddr>().is_ok_and(|at| !at.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_digest() {
        let digest =
            |sha256: &str| AccessToken { sha256: sha256.into(), rights: Rights::Read }.digest();
        assert_eq!(
            digest(&"0aF".repeat(64)[..64]).map(|it| it[..3].to_vec()),
            Some(vec![0x0a, 0xf0, 0xaf])
        );
        for wrong in ["", "ab", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(digest(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn knows_what_other_machines_reach() {
        for (listen, expected) in [
            ("127.0.0.1:8080", false),
            ("127.0.0.2:0", false),
            ("[::1]:8080", false),
            ("0.0.0.0:8080", true),
            ("[::]:8080", true),
            ("10.0.0.1:8080", true),
        ] {
            let http = Http { listen: listen.into(), ..Http::default() };
            assert_eq!(http.is_exposed(), expected, "{listen}");
        }
    }
}
