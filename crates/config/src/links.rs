//! `[links]`: links in notifications with which people act.

use std::path::PathBuf;

use serde::Deserialize;

use super::Secret;

/// `[links]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Signs the links; without a key there are none.
    pub key: Option<Secret>,
    /// File that contains the key, as an alternative.
    pub key_file: Option<PathBuf>,
    /// How long a link works after it was sent.
    pub valid_hours: u32,
    /// How long "Silence this brand" silences it.
    pub silence_hours: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self { key: None, key_file: None, valid_hours: 72, silence_hours: 2 }
    }
}

impl Links {
    /// Whether notifications have links.
    pub fn is_on(&self) -> bool {
        self.key.is_some() || self.key_file.is_some()
    }
}
