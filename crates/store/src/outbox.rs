//! Notifications that wait for delivery.
//!
//! **Invariant.** A row is written in the transaction of the incident it tells of, under
//! a key that never changes, and leaves the state `Pending` only once a receiver has
//! taken it or it was given up. Hence at least once, and receivers can drop repeats by key.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Step;
use monitor_core::domain::{
    Cause, Counts, Evidence, IncidentId, Interval, LagEvidence, Minute, QuietEvidence,
    ShareEvidence, SurgeEvidence, Transition,
};

/// Other incidents in one notification, at most.
pub(super) const ALSO_MAX: usize = 20;

/// What people are told about an incident; stored as JSON in the outbox, and the `data` of
/// the webhook (`docs/webhook.schema.json`). Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The incident's number; the store fills it in.
    pub incident_id: i64,
    /// `opened`, `updated` or `resolved`.
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
    /// What the verdict rests on; its `kind` is the cause.
    pub evidence: EvidenceJson,
    /// What marks the incident's negative tweets off.
    pub drivers: Drivers,
    /// Negative tweets to read, widest reach and most typical first.
    pub examples: Vec<Example>,
    /// The counts over time, oldest first.
    pub curve: Vec<CurvePoint>,
    /// Length of each point of the curve, in minutes.
    pub curve_minutes: u32,
    /// What happened to other brands at the same time.
    pub also: Vec<Also>,
    /// Key of the first notification of this incident to this receiver: all that follow
    /// belong to its thread. The store fills it in.
    pub thread: String,
    /// Where to look closer: the address of the page, to which the store adds the incident.
    pub url: Option<String>,
}

impl Notification {
    /// What it is about.
    pub fn cause(&self) -> Cause {
        self.evidence.cause()
    }
}

/// What another incident says in a notification that it has joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Also {
    /// The incident's number.
    pub incident_id: i64,
    /// `opened`, `updated` or `resolved`.
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
    pub(super) fn of(notification: &Notification) -> Self {
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

/// [`Evidence`] as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EvidenceJson {
    /// The share of negative tweets has risen.
    Share {
        /// `e-detector`, `share-above` or `times-previous`.
        rule: String,
        /// First minute of the rise: the long window runs from here.
        since: DateTime<Utc>,
        /// Length of the long window, in minutes.
        window_minutes: u32,
        /// What the long window holds.
        observed: Tally,
        /// Where its true share lies, with 95 % confidence.
        observed_interval: IntervalJson,
        /// Length of the short window, in minutes.
        recent_minutes: u32,
        /// What the short window holds.
        recent: Tally,
        /// What the baseline holds.
        baseline: Tally,
        /// Share expected now, in 0..=1.
        expected_share: f64,
        /// Where that share lies, with 95 % confidence.
        expected_interval: IntervalJson,
        /// The rule's statistic.
        statistic: f64,
        /// The value of it that alarms.
        threshold: f64,
        /// Variance of the brand's counts over that of independent tweets.
        dispersion: f64,
    },
    /// There are many more tweets than usual.
    Surge {
        /// First minute of the surge.
        since: DateTime<Utc>,
        /// Tweets since then.
        observed: u64,
        /// Tweets expected in as long a time.
        expected: f64,
        /// The test statistic.
        statistic: f64,
        /// The value of it that alarms.
        threshold: f64,
    },
    /// No tweets come.
    Quiet {
        /// When the last record arrived.
        last: Option<DateTime<Utc>>,
        /// Minutes since then.
        minutes: u32,
        /// Tweets expected in that time.
        expected_tweets: f64,
        /// Minutes from which a gap alarms.
        limit_minutes: u32,
    },
    /// Tweets are not read as fast as they come.
    Lag {
        /// Age of the oldest record not yet read, in minutes.
        behind_minutes: u32,
        /// Minutes from which it alarms.
        limit_minutes: u32,
    },
}

/// An interval of 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalJson {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// JSON has no infinities and no NaN, and its readers may round the largest numbers up to
/// one; a row that held such could not be read again.
fn finite(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(-1e300, 1e300) }
}

impl From<Interval> for IntervalJson {
    fn from(interval: Interval) -> Self {
        Self { low: finite(interval.low), high: finite(interval.high) }
    }
}

impl From<IntervalJson> for Interval {
    fn from(json: IntervalJson) -> Self {
        Self { low: json.low, high: json.high }
    }
}

impl EvidenceJson {
    /// What it is evidence of.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Share { .. } => Cause::Share,
            Self::Surge { .. } => Cause::Surge,
            Self::Quiet { .. } => Cause::Quiet,
            Self::Lag { .. } => Cause::Lag,
        }
    }

    /// The evidence of a evaluation of `minute`.
    pub fn of(evidence: &Evidence, minute: Minute) -> Self {
        match evidence {
            Evidence::Share(e) => Self::Share {
                rule: e.rule.to_owned(),
                since: e.since.start(),
                window_minutes: u32::try_from(minute.0 - e.since.0 + 1).unwrap_or(0),
                observed: e.observed.into(),
                observed_interval: e.observed_interval.into(),
                recent_minutes: e.recent_minutes,
                recent: e.recent.into(),
                baseline: e.baseline.into(),
                expected_share: finite(e.expected_share),
                expected_interval: e.expected_interval.into(),
                statistic: finite(e.statistic),
                threshold: finite(e.threshold),
                dispersion: finite(e.dispersion),
            },
            Evidence::Surge(e) => Self::Surge {
                since: e.since.start(),
                observed: e.observed,
                expected: finite(e.expected),
                statistic: finite(e.statistic),
                threshold: finite(e.threshold),
            },
            Evidence::Quiet(e) => Self::Quiet {
                last: e.last,
                minutes: e.minutes,
                expected_tweets: finite(e.expected_tweets),
                limit_minutes: e.limit_minutes,
            },
            Evidence::Lag(e) => {
                Self::Lag { behind_minutes: e.behind_minutes, limit_minutes: e.limit_minutes }
            }
        }
    }
}

impl From<EvidenceJson> for Evidence {
    fn from(json: EvidenceJson) -> Self {
        match json {
            EvidenceJson::Share {
                rule,
                since,
                window_minutes: _,
                observed,
                observed_interval,
                recent_minutes,
                recent,
                baseline,
                expected_share,
                expected_interval,
                statistic,
                threshold,
                dispersion,
            } => Self::Share(ShareEvidence {
                rule: ["e-detector", "share-above", "times-previous"]
                    .into_iter()
                    .find(|known| *known == rule)
                    .unwrap_or("another"),
                since: Minute::of(since),
                observed: observed.into(),
                observed_interval: observed_interval.into(),
                recent_minutes,
                recent: recent.into(),
                baseline: baseline.into(),
                expected_share,
                expected_interval: expected_interval.into(),
                statistic,
                threshold,
                dispersion,
            }),
            EvidenceJson::Surge { since, observed, expected, statistic, threshold } => {
                Self::Surge(SurgeEvidence {
                    since: Minute::of(since),
                    observed,
                    expected,
                    statistic,
                    threshold,
                })
            }
            EvidenceJson::Quiet { last, minutes, expected_tweets, limit_minutes } => {
                Self::Quiet(QuietEvidence { last, minutes, expected_tweets, limit_minutes })
            }
            EvidenceJson::Lag { behind_minutes, limit_minutes } => {
                Self::Lag(LagEvidence { behind_minutes, limit_minutes })
            }
        }
    }
}

/// Tweets, negative tweets, and their share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// All tweets.
    pub total: u64,
    /// Negative tweets.
    pub negative: u64,
    /// Share of negatives, in 0..=1; 0 where there is no tweet.
    pub share: f64,
}

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        Self { total: tally.total, negative: tally.negative }
    }
}

impl From<Counts> for Tally {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total,
            negative: counts.negative,
            share: counts.share().unwrap_or(0.0),
        }
    }
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

/// A notification for one receiver, leased for sending.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Its number.
    pub id: i64,
    /// Idempotency key; the same in every attempt.
    pub key: String,
    /// Name of the receiver.
    pub receiver: String,
    /// What to tell.
    pub notification: Notification,
    /// Attempts made, this one included.
    pub attempts: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxState {
    /// The receiver took it.
    Sent,
    /// It failed, and is due again at `at`.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// What went wrong.
        error: String,
    },
    /// It was given up.
    Dead {
        /// What went wrong.
        error: String,
    },
}

/// A step as one receiver is told of it, with its key. `thread` is the key of the first
/// notification of this incident to the receiver; without one the receiver hears of the
/// incident for the first time, so unless it is over by now it has opened.
pub(super) fn addressed(
    step: &Step,
    incident: IncidentId,
    receiver: &str,
    thread: Option<&str>,
) -> (String, Notification) {
    let transition = match (thread, step.transition) {
        (None, Transition::Updated) => Transition::Opened,
        (_, transition) => transition,
    };
    let key = key(incident, transition, step.minute, receiver);
    let page = step.notification.url.as_deref();
    let notification = Notification {
        incident_id: incident.0,
        transition: transition.as_str().into(),
        thread: thread.unwrap_or(&key).into(),
        url: page.map(|page| format!("{}/#incident-{incident}", page.trim_end_matches('/'))),
        ..step.notification.clone()
    };
    (key, notification)
}

/// The key under which every attempt to tell one receiver of one step is made. The step's
/// minute is part of it: an incident may have several updates, and a database that is begun
/// anew, whose incidents count from 1 again, does not repeat the keys of the one before.
fn key(incident: IncidentId, transition: Transition, minute: Minute, receiver: &str) -> String {
    format!("incident-{incident}-{}-{}-{receiver}", transition.as_str(), minute.0)
}
