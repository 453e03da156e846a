//! `[alerting]`, `[stream]`, `[routes.*]` and `[heartbeat]`: when to notify, and whom.

use std::fmt;

use chrono::NaiveTime;
use monitor_core::alerting::Voice;
use monitor_core::domain::Severity;
use serde::Deserialize;

use super::receivers::origin;

/// `[alerting]`: when a share of negative tweets is a bad buzz.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    /// The rule that evaluates shares.
    pub rule: Rule,
    /// What is counted: tweets, authors, or original texts.
    pub count: Voice,
    /// Authors whose tweets are stored and shown, and not counted.
    pub ignore_authors: Vec<String>,
    /// Most false alarms per brand and 30 days, over all causes together; a rule other than `e-detector` keeps none.
    pub false_alarms_per_month: f64,
    /// Of the rule `share-above`: the share, in 0..1.
    pub share_above: f64,
    /// Of the rule `times-previous`: the factor over the share of the previous window.
    pub times_previous: f64,
    /// Of the rules `share-above` and `times-previous`: their window, in minutes.
    pub window_minutes: u32,
    /// Fewest tweets since the rise began.
    pub tweets_min: u64,
    /// Smallest rise of the share above the expected share, in 0..1.
    pub rise_min: f64,
    /// Fewest tweets in the baseline.
    pub baseline_tweets_min: u64,
    /// The short window, which must show the rise too, in minutes of event time.
    pub short_window_minutes: u32,
    /// For how many consecutive minutes the conditions must hold.
    pub for_minutes: u32,
    /// An incident resolves when its rise has been over for this long.
    pub resolve_minutes: u32,
    /// A share that has been high and stable for this long is the new normal, in minutes; more than a day.
    pub new_normal_minutes: u32,
    /// A brand that alarms again within this time after the end of an incident opens it again, in minutes.
    pub reopen_minutes: u32,
    /// How often the notification of an open incident is repeated; 0 is never.
    pub repeat_minutes: u32,
    /// While the daemon catches up, incidents that opened longer ago than this are told when it has caught up, those that
    /// are over in one digest; 0 tells each step.
    pub catch_up_minutes: u32,
    /// An incident is a warning from this rise on, in 0..1.
    pub warning_rise: f64,
    /// An incident is critical from this rise on, in 0..1.
    pub critical_rise: f64,
    /// Fewest people who are negative beyond the expected number, for a warning.
    pub warning_people: u64,
    /// The same for a critical incident.
    pub critical_people: u64,
    /// The severity is one step higher if the negative tweets reach this many followers.
    pub reach_followers: u64,
    /// Whether many more negative tweets than usual alarm too.
    pub negative_volume: bool,
    /// Negative volume is an incident from this multiple of the usual number on.
    pub negative_volume_times_min: f64,
    /// Whether a surge of tweets alarms too.
    pub surge: bool,
    /// A surge is at least this many times the usual volume.
    pub surge_times_min: f64,
    /// A brand is quiet after this many minutes without a tweet while others come; 0 is never.
    pub brand_quiet_minutes_max: u32,
    /// Time zone of the seasons of brands without one of their own, such as `Europe/Paris`.
    pub time_zone: String,
    /// How late a tweet may arrive after newer tweets of its partition.
    pub lateness_s: u64,
    /// How often closed minutes are evaluated.
    pub tick_ms: u64,
}

/// A rule that evaluates shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Rule {
    /// A rise beyond chance, within a budget of false alarms.
    EDetector,
    /// A fixed share.
    ShareAbove,
    /// A multiple of the share of the previous window.
    TimesPrevious,
}

/// `[stream]`: when the stream itself has a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// The stream is quiet after this many minutes without a record; 0 is never.
    pub quiet_minutes_max: u32,
    /// Reading lags if the oldest unread record is older than this, in minutes; 0 is never.
    pub lag_minutes_max: u32,
}

/// `[heartbeat]`: notifies a watchdog that the daemon runs and is ready.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// The URL to request; its path, which may be a secret, is never printed.
    pub url: Option<String>,
    /// How often.
    pub every_s: u64,
}

impl Heartbeat {
    /// Scheme, host and port of the URL: the part that may be printed.
    pub fn origin(&self) -> Option<String> {
        self.url.as_deref().map(origin)
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("url", &self.origin())
            .field("every_s", &self.every_s)
            .finish()
    }
}

/// `[routes.<name>]`: which receivers are notified of what. Without routes every receiver is
/// notified of everything.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Brands, or `(stream)`; empty is all, and the stream.
    pub brands: Vec<String>,
    /// Causes (`share`, `negative-volume`, `surge`, `quiet`, `lag`); empty is all.
    pub causes: Vec<String>,
    /// The lowest severity that is notified.
    pub severity_min: Severity,
    /// Names of receivers.
    pub receivers: Vec<String>,
    /// Hours in which notifications wait, such as `22:00-07:00`.
    pub quiet_hours: Option<String>,
    /// Time zone of the quiet hours, such as `Europe/Paris`.
    pub time_zone: String,
    /// The lowest severity that does not wait.
    pub quiet_hours_severity: Severity,
    /// How long a notification waits to be grouped with those of other brands; 0 is no grouping.
    pub group_wait_s: u64,
}

/// Parses quiet hours such as `22:00-07:00`; `None` if the text is invalid or both times are the
/// same.
pub fn parse_quiet_hours(text: &str) -> Option<(NaiveTime, NaiveTime)> {
    let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
    let (from, to) = text.split_once('-')?;
    let (from, to) = (time(from)?, time(to)?);
    (from != to).then_some((from, to))
}
