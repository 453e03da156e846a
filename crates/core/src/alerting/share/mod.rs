//! Is a brand's share of negative tweets higher than its own past explains?
//!
//! [`Baseline::learn`] says what share to expect, and how far the brand's counts scatter
//! around it. [`SharePolicy::evaluate`] then looks at one closed minute after the other, by the
//! e-detector (which keeps to a budget of false alarms), or by one of two simple rules. An
//! incident opens once the rise is beyond chance, large enough, on enough tweets, and still
//! there in the last minutes; its baseline is frozen, and it resolves when the share has
//! been calm for a while.
//!
//! **Invariant.** A verdict depends on the counts, the baseline, the brand's state and the
//! minute alone, and every verdict says why. Deliberately absent: volume (a brand of which
//! more is said than usual), severity, wording.

mod baseline;
mod e_detector;
mod evaluate;
mod season;
#[cfg(test)]
mod tests;

pub use baseline::Baseline;
pub use evaluate::{Calm, Open, QuietReason, ResolveReason, ShareState, ShareVerdict};

use crate::domain::{Counts, Interval, Minute};
use crate::stats::wilson_with;

/// Minutes in the 30 days that a month counts.
const MONTH_MINUTES: f64 = 30.0 * 1440.0;
/// The rounded normal quantile of the 95 % intervals in evidence, kept so that stored figures
/// and new ones agree.
const Z: f64 = 1.96;
/// The longest stretch an incident's evidence looks back, in minutes.
const SINCE_MINUTES_MAX: i64 = 1440;

/// What counts as a bad buzz. `config/monitor.example.toml` explains each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharePolicy {
    /// How a rise is told from chance.
    pub rule: ShareRule,
    /// Fewest tweets since the rise began.
    pub tweets_min: u64,
    /// Least rise of the share over the expected one, in 0..1.
    pub rise_min: f64,
    /// Fewest tweets a baseline is learned from.
    pub baseline_tweets_min: u64,
    /// Length of the short window, which must show the rise too, in minutes; up to four times
    /// as long while it holds fewer than `tweets_min` tweets.
    pub short_minutes: u32,
    /// For how many minutes on end all that must hold.
    pub for_minutes: u32,
    /// How long the share must be calm for an incident to be resolved, in minutes.
    pub resolve_minutes: u32,
    /// How long an incident lasts before its share is the new normal, in minutes.
    pub incident_minutes_max: u32,
}

/// How a rise is told from chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ShareRule {
    /// By evidence against the baseline, gathered tweet by tweet.
    EDetector {
        /// How many incidents a brand may open in 30 days by chance alone, on average.
        false_alarms_per_month: f64,
    },
    /// The share of a window is above a fixed one.
    ShareAbove {
        /// The share, in 0..1.
        share: f64,
        /// The window, in minutes.
        window_minutes: u32,
    },
    /// The share of a window is a multiple of that of the window before it.
    TimesPrevious {
        /// The multiple, above one.
        times: f64,
        /// Either window, in minutes.
        window_minutes: u32,
    },
}

impl ShareRule {
    /// Its name in settings, evidence and tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::EDetector { .. } => "e-detector",
            Self::ShareAbove { .. } => "share-above",
            Self::TimesPrevious { .. } => "times-previous",
        }
    }
}

impl SharePolicy {
    /// Minutes before a evaluated minute that the [`Series`](super::Series) of
    /// [`SharePolicy::evaluate`] must cover.
    pub fn evaluation_minutes(&self) -> i64 {
        let window = match self.rule {
            ShareRule::EDetector { .. } => 0,
            ShareRule::ShareAbove { window_minutes, .. }
            | ShareRule::TimesPrevious { window_minutes, .. } => window_minutes,
        };
        SINCE_MINUTES_MAX.max(4 * i64::from(self.short_minutes)).max(2 * i64::from(window))
    }

    /// Minutes before a minute that the series of [`Baseline::learn`] must cover; enough for
    /// [`SharePolicy::evaluate`] too.
    pub fn history_minutes(&self) -> i64 {
        self.evaluation_minutes().max(baseline::LEARN_MINUTES)
    }

    /// Minutes before a minute that the hourly counts of [`Baseline::learn`] reach back.
    pub fn season_minutes(&self) -> i64 {
        baseline::SEASON_REACH_MINUTES
    }

    /// The stretch that later baselines leave out because of a past incident, first and
    /// last minute: the incident itself, `since` its rise began; or, where it became the new
    /// normal, everything before it, for that is the old normal and would alarm again at
    /// once.
    pub fn left_out(&self, since: Minute, opened: Minute, resolved: Minute) -> (Minute, Minute) {
        if resolved.0 - opened.0 < i64::from(self.incident_minutes_max) {
            (since, resolved)
        } else {
            (Minute(i64::MIN), since.plus(-1))
        }
    }
}

/// The 95 % confidence interval of the true share behind `counts`; 0 to 1 without tweets.
/// `dispersion` is their variance divided by the variance of independent tweets.
fn share_interval(counts: Counts, dispersion: f64) -> Interval {
    wilson_with(counts.share().unwrap_or(0.0), counts.total as f64 / dispersion, Z)
}
