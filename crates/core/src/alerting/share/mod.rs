//! Detects that a brand's share of negative tweets is higher than its past explains.
//!
//! [`Baseline::learn`] estimates the expected share, and how far the brand's counts scatter
//! around it. [`SharePolicy::evaluate`] then evaluates the closed minutes in order, with the
//! e-detector (which keeps to a budget of false alarms) or with one of two simple rules. An
//! incident opens if the rise is unlikely to be chance, large enough, on enough tweets, and
//! still visible in the last minutes. The incident's baseline is frozen. The incident resolves
//! when the share has been back to normal for a while.
//!
//! **Invariant.** A verdict depends only on the counts, the baseline, the brand's state and
//! the minute, and every verdict contains its reason. Deliberately absent: volume (more tweets
//! than usual), severity, wording.

mod baseline;
mod e_detector;
mod evaluate;
mod season;
mod switch;
#[cfg(test)]
mod tests;

pub use crate::domain::ResolveReason;
pub use baseline::Baseline;
pub use evaluate::{OpenRise, QuietReason, RiseStatus, ShareState, ShareVerdict};

use crate::domain::{Counts, Interval, Zone};
use crate::stats::wilson_with;

/// Minutes in a month of 30 days.
const MONTH_MINUTES: f64 = 30.0 * 1440.0;
/// The normal quantile of the 95 % intervals in evidence. It stays rounded so that stored and
/// new figures agree.
const Z: f64 = 1.96;
/// Longest period that an incident's evidence covers, in minutes.
const SINCE_MINUTES_MAX: i64 = 1440;

/// When a rise of the share opens and resolves an incident. `config/monitor.example.toml`
/// explains each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharePolicy {
    /// How a rise is distinguished from chance.
    pub rule: ShareRule,
    /// Minimum number of tweets since the rise began.
    pub tweets_min: u64,
    /// Minimum rise of the share above the expected share, in 0..1.
    pub rise_min: f64,
    /// Minimum number of tweets that a baseline is learned from.
    pub baseline_tweets_min: u64,
    /// Length of the short window, which must also show the rise, in minutes. With fewer than
    /// `tweets_min` tweets in it, the window becomes up to four times as long.
    pub short_minutes: u32,
    /// How many consecutive minutes these conditions must hold.
    pub for_minutes: u32,
    /// How long the share must be back to normal before an incident resolves, in minutes.
    pub resolve_minutes: u32,
    /// How long a share must have been high and stable to become the new normal, in minutes; more than
    /// a day.
    pub new_normal_minutes: u32,
    /// The time zone of the brand's season.
    pub zone: Zone,
}

/// How a rise is distinguished from chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ShareRule {
    /// By evidence against the baseline, accumulated minute by minute.
    EDetector {
        /// How many incidents a brand may open by chance in 30 days, on average.
        false_alarms_per_month: f64,
    },
    /// The share of a window is above a fixed share.
    ShareAbove {
        /// The share, in 0..1.
        share: f64,
        /// The window, in minutes.
        window_minutes: u32,
    },
    /// The share of a window is a multiple of the share of the window before it.
    TimesPrevious {
        /// The multiple; greater than one.
        times: f64,
        /// The length of each window, in minutes.
        window_minutes: u32,
    },
}

impl ShareRule {
    /// The rule's name in settings, evidence and tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::EDetector { .. } => "e-detector",
            Self::ShareAbove { .. } => "share-above",
            Self::TimesPrevious { .. } => "times-previous",
        }
    }
}

impl SharePolicy {
    /// How many minutes before an evaluated minute the [`Series`](super::Series) of
    /// [`SharePolicy::evaluate`] must start.
    pub fn evaluation_minutes(&self) -> i64 {
        self.calm_minutes().max(i64::from(self.new_normal_minutes))
    }

    /// The same while no incident is open: nothing asks yet whether its share is the new normal.
    pub fn calm_minutes(&self) -> i64 {
        let window = match self.rule {
            ShareRule::EDetector { .. } => 0,
            ShareRule::ShareAbove { window_minutes, .. }
            | ShareRule::TimesPrevious { window_minutes, .. } => window_minutes,
        };
        // The recent minutes may lie before the rise began.
        SINCE_MINUTES_MAX.max(2 * i64::from(window)) + 4 * i64::from(self.short_minutes)
    }

    /// How many minutes before a minute the series of [`Baseline::learn`] must start; enough
    /// for [`SharePolicy::evaluate`] too.
    pub fn history_minutes(&self) -> i64 {
        self.evaluation_minutes().max(baseline::LEARN_MINUTES)
    }

    /// How many minutes before a minute the hourly counts of [`Baseline::learn`] start.
    pub fn season_minutes(&self) -> i64 {
        baseline::SEASON_REACH_MINUTES
    }
}

/// The 95 % confidence interval of the true share behind `counts`; 0 to 1 without tweets.
/// `dispersion` is the variance of the counts divided by the variance of independent tweets.
fn share_interval(counts: Counts, dispersion: f64) -> Interval {
    wilson_with(counts.share().unwrap_or(0.0), counts.total as f64 / dispersion, Z)
}
