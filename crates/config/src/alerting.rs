//! `[alerting]`, `[stream]`, `[routes.*]` and `[heartbeat]`: what people are told, and who.

use std::fmt;

use chrono::NaiveTime;
use monitor_core::domain::Severity;
use serde::Deserialize;

use super::receivers::origin;

/// `[alerting]`: what counts as a bad buzz.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerting {
    /// How shares are judged.
    pub rule: Rule,
    /// Of the rule `e-detector`: how often chance alone may alarm, a brand and 30 days.
    pub false_alarms_per_month: f64,
    /// Of the rule `share-above`: the share, in 0..1.
    pub share_above: f64,
    /// Of the rule `times-previous`: how many times the share of the window before.
    pub times_previous: f64,
    /// Of the rules `share-above` and `times-previous`: their window, in minutes.
    pub window_minutes: u32,
    /// Fewest tweets since the rise began.
    pub tweets_min: u64,
    /// Least rise of the share over the expected one, in 0..1.
    pub rise_min: f64,
    /// Fewest tweets in the baseline.
    pub baseline_tweets_min: u64,
    /// The short window, which must show the rise too, in minutes of event time.
    pub short_window_minutes: u32,
    /// For how many minutes on end all that must hold.
    pub for_minutes: u32,
    /// An incident resolves once its rise has been gone this long.
    pub resolve_minutes: u32,
    /// A share that stays up this long is the new normal: the incident is closed and
    /// the baseline learns it.
    pub incident_minutes_max: u32,
    /// How often people are told again of an incident that goes on; 0 is never.
    pub repeat_minutes: u32,
    /// A rise from which an incident is a warning, in 0..1.
    pub warning_rise: f64,
    /// A rise from which it is critical, in 0..1.
    pub critical_rise: f64,
    /// Followers reached by its negative tweets from which it counts one step worse.
    pub reach_followers: u64,
    /// Whether many more tweets than usual are an incident too.
    pub surge: bool,
    /// How many times the usual volume.
    pub surge_times_min: f64,
    /// How far event time may run behind the newest tweet of a partition.
    pub lateness_s: u64,
    /// How often closed minutes are looked at.
    pub tick_ms: u64,
}

/// How shares are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Rule {
    /// By what chance explains, within a budget of false alarms.
    EDetector,
    /// By a fixed share.
    ShareAbove,
    /// By the share of the window before.
    TimesPrevious,
}

/// `[stream]`: when the stream itself is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Minutes without a record from which the stream has gone quiet; 0 is never.
    pub quiet_minutes_max: u32,
    /// Age of the oldest record not yet read from which reading lags, in minutes; 0 is never.
    pub lag_minutes_max: u32,
}

/// `[heartbeat]`: tells a watchdog that the daemon lives and can work.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// What is asked for; the path, which may be a secret, is never printed.
    pub url: Option<String>,
    /// How often.
    pub every_s: u64,
}

impl Heartbeat {
    /// Scheme, host and port of the URL: what of it may be printed.
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

/// `[routes.<name>]`: who hears of what. Without any route every receiver hears of all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Brands, or `(stream)`; empty is all, and the stream.
    pub brands: Vec<String>,
    /// Causes (`share`, `surge`, `quiet`, `lag`); empty is all.
    pub causes: Vec<String>,
    /// The mildest severity told.
    pub severity_min: Severity,
    /// Names of receivers.
    pub receivers: Vec<String>,
    /// Hours in which notifications wait, such as `22:00-07:00`.
    pub quiet_hours: Option<String>,
    /// Time zone of the quiet hours, such as `Europe/Paris`.
    pub time_zone: String,
    /// The mildest severity that does not wait.
    pub quiet_hours_severity: Severity,
    /// How long a first notification waits for other brands to join it; 0 is no grouping.
    pub group_wait_s: u64,
}

/// The ends of quiet hours such as `22:00-07:00`; `None` where the text is no such thing, or
/// where both ends are the same.
pub fn parse_quiet_hours(text: &str) -> Option<(NaiveTime, NaiveTime)> {
    let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
    let (from, to) = text.split_once('-')?;
    let (from, to) = (time(from)?, time(to)?);
    (from != to).then_some((from, to))
}
