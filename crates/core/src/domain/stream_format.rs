use serde::Deserialize;

use crate::keywords;

/// The form in which posts arrive, as the setting `kafka.format` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum StreamFormat {
    /// Each record tells its format by its fields.
    #[default]
    Auto,
    /// X API v2 and v1.1.
    X,
    /// Bluesky's Jetstream, v1 and v2.
    Bluesky,
    /// Mastodon's streaming API, and its statuses.
    Mastodon,
    /// Comments and posts of Reddit.
    Reddit,
    /// One object with named fields, such as a row of a table.
    Flat,
}

keywords!(StreamFormat: "auto" => Auto, "x" => X, "bluesky" => Bluesky, "mastodon" => Mastodon,
    "reddit" => Reddit, "flat" => Flat);
