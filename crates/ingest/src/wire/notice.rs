//! Records that are no tweets and no faults.

use chrono::{DateTime, Utc};
use monitor_core::domain::{Removed, TweetId};

/// What a platform sends between posts, and posts without a text. A notice is counted by its
/// [reason](Notice::reason); its offset counts as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The connection is alive.
    KeepAlive,
    /// A post was deleted.
    Deleted(Subject),
    /// Something else happened that stores of posts have to honour: X's compliance event of this
    /// name, such as `withheld` or `user_suspend`.
    Compliance {
        /// The event's name at X.
        event: &'static str,
        /// What it is about.
        subject: Subject,
    },
    /// X left out this many tweets, because the stream's rules match more than it sends.
    Limit(Option<u64>),
    /// A post without a text, such as a repost or a picture alone.
    NoText,
    /// Something that is not a post, such as a like, or an account's new name.
    NoPost,
}

/// The post or the account that a notice is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// The post; `None` if all posts of the account are meant.
    pub tweet: Option<TweetId>,
    /// The account's id.
    pub user: Option<String>,
    /// When it happened.
    pub at: Option<DateTime<Utc>>,
}

impl Notice {
    /// The post whose text and author are to be removed, if there is one.
    pub fn removes(&self) -> Option<(&TweetId, Removed)> {
        let (subject, why) = match self {
            Self::Deleted(subject) => (subject, Removed::Deleted),
            Self::Compliance { event: "withheld" | "status_withheld" | "drop", subject } => {
                (subject, Removed::Withheld)
            }
            _ => return None,
        };
        Some((subject.tweet.as_ref()?, why))
    }

    /// The word for it in metrics and in `monitor replay --check`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Deleted(_) => "deleted",
            Self::Compliance { .. } => "compliance",
            Self::Limit(_) => "limit",
            Self::NoText => "no-text",
            Self::NoPost => "no-post",
        }
    }
}
