//! The content of a notification, as it is stored in the outbox and sent to receivers.
//!
//! **Invariant.** Plain data whose JSON is stored and sent: fields may be added, but not
//! renamed or removed. Deliberately absent: wording and layout (`monitor-notify`).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::domain::{Cause, Counts, Evidence, Phase, Severity};
use crate::quantify::Estimate;
use crate::words::WordWeight;

/// A notification about an incident; stored as JSON in the outbox, and the `data` of
/// the webhook (`docs/webhook.schema.json`). Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The incident's number; the store fills it in.
    pub incident_id: i64,
    /// `opened`, `updated`, `resolved` or `reopened`; `missed` or `digest` if it is about no single incident.
    pub transition: String,
    /// Whether somebody tries a receiver out: nothing has happened.
    pub test: bool,
    /// The brand, or `(stream)`.
    pub brand: String,
    /// `notice`, `warning` or `critical`.
    pub severity: String,
    /// Start of the minute whose evaluation this step is; in event time for brands.
    pub at: DateTime<Utc>,
    /// Start of the minute whose evaluation opened the incident.
    pub opened_at: DateTime<Utc>,
    /// The reason in one sentence.
    pub reason: String,
    /// What the verdict rests on; its `kind` is the cause. With several phases, that of the phase that
    /// has lasted longest.
    pub evidence: Evidence,
    /// The phases of the incident, in the order in which they joined; none for the stream.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// The observed share of a share incident, corrected for the model's errors: what people would
    /// call negative. `None` if the brand has too few labels to say how often the model errs.
    #[serde(default)]
    pub corrected: Option<Estimate>,
    /// What marks the incident's negative tweets off.
    pub drivers: Drivers,
    /// Negative tweets to read, widest reach and most typical first.
    pub examples: Vec<Example>,
    /// The counts over time, oldest first.
    pub curve: Vec<CurvePoint>,
    /// Length of each point of the curve, in minutes.
    pub curve_minutes: u32,
    /// Tweets since the rise began that are not counted: they repeat what their hour has heard, or their authors are
    /// left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub echoes: u64,
    /// What happened to other brands at the same time.
    pub also: Vec<Also>,
    /// Key of the first notification of this incident to this receiver: all that follow
    /// belong to its thread. The store fills it in.
    pub thread: String,
    /// Where to look closer: the address of the page, to which the store adds the incident.
    pub url: Option<String>,
    /// What the weekly digest tells; then the other fields, but for the examples, say nothing. Mails only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Box<Digest>>,
    /// The incidents that were over when they were found, oldest first; then the other fields, but for the severity,
    /// say nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<Missed>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Notification {
    /// A notification without anything that has to be looked up; `opened_at` is `at` too.
    pub fn bare(
        transition: &str,
        brand: &str,
        severity: Severity,
        at: DateTime<Utc>,
        reason: String,
        evidence: Evidence,
    ) -> Self {
        Self {
            incident_id: 0,
            transition: transition.to_owned(),
            test: false,
            brand: brand.to_owned(),
            severity: severity.as_str().to_owned(),
            at,
            opened_at: at,
            reason,
            evidence,
            phases: Vec::new(),
            corrected: None,
            drivers: Drivers::default(),
            examples: Vec::new(),
            curve: Vec::new(),
            curve_minutes: 0,
            echoes: 0,
            also: Vec::new(),
            thread: String::new(),
            url: None,
            digest: None,
            missed: Vec::new(),
        }
    }

    /// The cause that opened the incident.
    pub fn cause(&self) -> Cause {
        self.phases.first().map_or(self.evidence.cause(), Phase::cause)
    }
}

/// An incident that was over when it was found, because the daemon was away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missed {
    /// The incident's number.
    pub incident_id: i64,
    /// The brand.
    pub brand: String,
    /// `notice`, `warning` or `critical`: the highest one.
    pub severity: String,
    /// Start of the minute whose evaluation opened it, in event time.
    pub opened_at: DateTime<Utc>,
    /// Start of the minute whose evaluation resolved it.
    pub resolved_at: DateTime<Utc>,
    /// The phases, in the order in which they joined, each with its peak.
    pub phases: Vec<Phase>,
    /// The tweets from the beginning of the rise to the end.
    pub tweets: Counts,
}

/// What another incident says in a notification that it has joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Also {
    /// The incident's number.
    pub incident_id: i64,
    /// `opened`, `updated`, `resolved` or `reopened`.
    pub transition: String,
    /// The brand.
    pub brand: String,
    /// `notice`, `warning` or `critical`.
    pub severity: String,
    /// Start of the minute whose evaluation it is.
    pub at: DateTime<Utc>,
    /// The reason in one sentence.
    pub reason: String,
}

impl Also {
    /// What a notification says where it joins another.
    pub fn of(notification: &Notification) -> Self {
        Self {
            incident_id: notification.incident_id,
            transition: notification.transition.clone(),
            brand: notification.brand.clone(),
            severity: notification.severity.clone(),
            at: notification.at,
            reason: notification.reason.clone(),
        }
    }
}

/// What marks the incident's negative tweets off against the baseline's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drivers {
    /// Words, phrases, hashtags and links, strongest first.
    pub terms: Vec<Driver>,
    /// Share of the incident's negative tweets that repeat the most repeated one, in 0..=1.
    pub one_tweet_share: f64,
    /// Negative tweets that were looked at.
    pub tweets: u64,
    /// What its groups of tweets are about, the largest first.
    #[serde(default)]
    pub themes: Vec<Theme>,
    /// The link that most of the negative tweets have, if several share one.
    #[serde(default)]
    pub shared_link: Option<SharedLink>,
    /// Accounts that posted nearly the same tweet many times, most often first.
    #[serde(default)]
    pub repeaters: Vec<Repeater>,
}

/// What a group of the negative tweets is about. A tweet is in one theme at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Theme {
    /// Terms that its tweets have in common, the most frequent first; at least one.
    pub terms: Vec<String>,
    /// Negative tweets of it that were looked at.
    pub tweets: u64,
    /// When the first of them was written.
    pub began: DateTime<Utc>,
    /// Its first authors, each with his or her first tweet, earliest first; none if the store keeps no names.
    pub first: Vec<FirstAuthor>,
    /// Tweets in each hour, from the hour of `began` on.
    pub hours: Vec<u32>,
    /// Id of a typical tweet: one of the examples, if there are as many.
    pub tweet_id: String,
}

/// Somebody who began a theme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstAuthor {
    /// Who.
    pub author: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Followers, where the stream tells.
    pub followers: Option<u64>,
    /// Id of the tweet.
    pub tweet_id: String,
}

/// A link in many tweets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedLink {
    /// The link, without scheme and tracking parameters.
    pub link: String,
    /// Negative tweets with it.
    pub tweets: u64,
}

/// An account that repeats itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeater {
    /// Who, as stored: a name, or `#` and a hash.
    pub author: String,
    /// How many of its negative tweets are nearly the same.
    pub tweets: u64,
}

/// A term that marks them off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// The term.
    pub term: String,
    /// `word`, `phrase`, `hashtag`, `mention` or `link`.
    pub kind: String,
    /// Negative tweets of the incident that have it.
    pub tweets: u64,
    /// Negative tweets of the two days before that have it.
    pub baseline_tweets: u64,
    /// Standard errors of its log-odds above those of the baseline.
    pub z: f64,
}

/// A tweet shown as an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its id.
    pub tweet_id: String,
    /// Its text.
    pub text: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Probability that it is negative.
    pub negative: f32,
    /// Who wrote it, where the stream tells.
    pub author: Option<String>,
    /// Followers of those who wrote or repeated it, where the stream tells.
    pub reach: Option<u64>,
    /// Tweets of the window that say the same, this one included.
    pub alike: u64,
    /// What each word of the text added to the log-odds of negative, in their order. Empty if it
    /// is not known: the model that scored the tweet is gone, or took too long.
    #[serde(default)]
    pub words: Vec<WordWeight>,
}

/// Counts of a stretch of time, for the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Start of the stretch.
    pub at: DateTime<Utc>,
    /// All tweets.
    pub total: u64,
    /// Negative tweets.
    pub negative: u64,
}
