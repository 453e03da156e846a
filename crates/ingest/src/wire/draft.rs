use std::borrow::Cow;

use chrono::{DateTime, Utc};
use monitor_core::domain::{Language, Reach, TweetId};

use super::notice::Notice;

/// A post as its platform sent it, before the checks that all formats share.
#[derive(Debug)]
pub(super) struct Draft<'j> {
    pub id: TweetId,
    pub text: Cow<'j, str>,
    /// The field of the text, for errors.
    pub text_field: &'static str,
    /// Whether posts without a text are usual on the platform, such as pictures alone.
    pub may_be_empty: bool,
    pub created_at: Option<DateTime<Utc>>,
    /// The field of the time, for errors.
    pub time_field: &'static str,
    pub rule_tags: Vec<String>,
    pub reach: Reach,
    pub language: Option<Language>,
    pub edit_of: Vec<TweetId>,
    pub is_cut: bool,
}

/// What a record holds.
#[derive(Debug)]
pub(super) enum Found<'j> {
    Post(Draft<'j>),
    Notice(Notice),
}
