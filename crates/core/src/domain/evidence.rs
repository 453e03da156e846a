use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Counts, Minute};
use crate::keywords;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    #[serde(serialize_with = "finite")]
    pub low: f64,
    /// The upper end.
    #[serde(serialize_with = "finite")]
    pub high: f64,
}

/// The name of a share rule. The alias keeps serde from borrowing it from the input.
type RuleName = &'static str;

/// Evidence that a brand's share of negative tweets has risen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShareEvidence {
    /// Name of the rule: `e-detector`, `share-above` or `times-previous`. A stored row with
    /// another name is read as `another`.
    #[serde(deserialize_with = "rule_name")]
    pub rule: RuleName,
    /// First minute of the rise, and of the long window.
    pub since: Minute,
    /// Length of the long window, in minutes. It ends with the minute evaluated.
    pub window_minutes: u32,
    /// Counts of the long window.
    pub observed: Counts,
    /// Confidence interval of the true share in the long window.
    pub observed_interval: Interval,
    /// Length of the short window, in minutes.
    pub recent_minutes: u32,
    /// Counts of the short window.
    pub recent: Counts,
    /// Counts that the brand's baseline was learned from.
    pub baseline: Counts,
    /// Share of negatives expected now, in 0..=1.
    #[serde(serialize_with = "finite")]
    pub expected_share: f64,
    /// Interval that contains the share on 95 of 100 normal days.
    pub expected_interval: Interval,
    /// The rule's statistic.
    #[serde(serialize_with = "finite")]
    pub statistic: f64,
    /// The value of the statistic that raises an alert.
    #[serde(serialize_with = "finite")]
    pub threshold: f64,
    /// Variance of the brand's counts, divided by the variance of independent tweets.
    #[serde(serialize_with = "finite")]
    pub dispersion: f64,
}

impl ShareEvidence {
    /// The observed share; 0 in an empty window.
    pub fn observed_share(&self) -> f64 {
        self.observed.share().unwrap_or(0.0)
    }

    /// The share in the short window; 0 in an empty window.
    pub fn recent_share(&self) -> f64 {
        self.recent.share().unwrap_or(0.0)
    }
}

/// Length of the window from `since` to `last`, both included, in minutes.
pub fn window_minutes(since: Minute, last: Minute) -> u32 {
    u32::try_from(last.0 - since.0 + 1).unwrap_or(0)
}

/// Evidence that a brand has many more tweets than usual, or many more negative ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VolumeEvidence {
    /// First minute of the surge.
    pub since: Minute,
    /// Tweets since then; for negative volume the negative ones.
    pub observed: u64,
    /// Tweets expected in the same time, from the brand's past.
    #[serde(serialize_with = "finite")]
    pub expected: f64,
    /// All and negative tweets since then. None in rows stored before there was this field.
    #[serde(default)]
    pub tweets: Counts,
    /// The brand's usual share of negative tweets, in 0..=1.
    #[serde(default, serialize_with = "finite")]
    pub usual_share: f64,
    /// The test statistic.
    #[serde(serialize_with = "finite")]
    pub statistic: f64,
    /// The value of the statistic that raises an alert.
    #[serde(serialize_with = "finite")]
    pub threshold: f64,
}

impl VolumeEvidence {
    /// How many times the expected number was observed; at least one tweet is expected.
    pub fn times(&self) -> f64 {
        self.observed as f64 / self.expected.max(1.0)
    }
}

/// Evidence that no records arrive, or no tweets about a brand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuietEvidence {
    /// When the last record arrived; of a brand, the minute of its last tweet.
    pub last: Option<DateTime<Utc>>,
    /// Minutes since then.
    pub minutes: u32,
    /// Tweets expected in that time, from the past.
    #[serde(serialize_with = "finite")]
    pub expected_tweets: f64,
    /// Length of a gap that raises an alert, in minutes.
    pub limit_minutes: u32,
}

/// Evidence that reading lags behind the stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LagEvidence {
    /// Age of the oldest unread record, in minutes.
    pub behind_minutes: u32,
    /// Age that raises an alert, in minutes.
    pub limit_minutes: u32,
}

/// The measurements that an alert is based on. Its JSON is stored with incidents and
/// notifications, and is part of the webhook (`docs/webhook.schema.json`): fields may be
/// added, but not renamed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// The share of negative tweets has risen.
    Share(ShareEvidence),
    /// There are many more negative tweets than usual.
    NegativeVolume(VolumeEvidence),
    /// There are many more tweets than usual.
    Surge(VolumeEvidence),
    /// No tweets arrive.
    Quiet(QuietEvidence),
    /// No tweets about the brand arrive, while others do.
    BrandQuiet(QuietEvidence),
    /// Tweets arrive faster than they are read, or are not read at all.
    Lag(LagEvidence),
}

impl Evidence {
    /// The evidence about a share; `None` for other causes.
    pub fn share(&self) -> Option<&ShareEvidence> {
        match self {
            Self::Share(evidence) => Some(evidence),
            _ => None,
        }
    }

    /// The size of the rise: points of the share, in 0..=1, or the multiple of the usual number. Only
    /// evidence of one cause can be compared.
    pub fn size(&self) -> f64 {
        match self {
            Self::Share(share) => share.observed_share() - share.expected_share,
            Self::NegativeVolume(volume) | Self::Surge(volume) => volume.times(),
            Self::Quiet(_) | Self::BrandQuiet(_) | Self::Lag(_) => 0.0,
        }
    }

    /// The size that is certain, by which evidence of one cause is compared over time: a share of few
    /// tweets may be large by chance.
    pub fn certain_size(&self) -> f64 {
        match self {
            Self::Share(share) => share.observed_interval.low - share.expected_share,
            other => other.size(),
        }
    }

    /// Negative tweets beyond the expected ones; `None` for evidence about the stream.
    pub fn negative_excess(&self) -> Option<f64> {
        let (negative, expected) = match self {
            Self::Share(share) => {
                (share.observed.negative, share.expected_share * share.observed.total as f64)
            }
            Self::NegativeVolume(volume) => (volume.observed, volume.expected),
            Self::Surge(volume) => (volume.tweets.negative, volume.usual_share * volume.expected),
            Self::Quiet(_) | Self::BrandQuiet(_) | Self::Lag(_) => return None,
        };
        Some((negative as f64 - expected).max(0.0))
    }

    /// First minute of the rise; `None` for evidence about the stream.
    pub fn since(&self) -> Option<Minute> {
        match self {
            Self::Share(share) => Some(share.since),
            Self::NegativeVolume(volume) | Self::Surge(volume) => Some(volume.since),
            Self::Quiet(_) | Self::BrandQuiet(_) | Self::Lag(_) => None,
        }
    }

    /// The cause of an incident with this evidence.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Share(_) => Cause::Share,
            Self::NegativeVolume(_) => Cause::NegativeVolume,
            Self::Surge(_) => Cause::Surge,
            Self::Quiet(_) => Cause::Quiet,
            Self::BrandQuiet(_) => Cause::BrandQuiet,
            Self::Lag(_) => Cause::Lag,
        }
    }
}

/// Writes a number that every JSON parser can read. JSON has no infinity and no NaN, and some
/// parsers round the largest numbers up to infinity.
fn finite<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(if number.is_nan() { 0.0 } else { number.clamp(-1e300, 1e300) })
}

fn rule_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = ["e-detector", "share-above", "times-previous"];
    Ok(known.into_iter().find(|known| *known == name).unwrap_or("another"))
}

/// What an incident is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Cause {
    /// A brand's share of negative tweets has risen.
    Share,
    /// A brand has many more negative tweets than usual.
    NegativeVolume,
    /// A brand has many more tweets than usual.
    Surge,
    /// The stream has gone quiet.
    Quiet,
    /// A brand has gone quiet, while the stream has not.
    BrandQuiet,
    /// Reading lags behind the stream.
    Lag,
}

keywords!(Cause: "share" => Share, "negative-volume" => NegativeVolume, "surge" => Surge,
    "quiet" => Quiet, "brand-quiet" => BrandQuiet, "lag" => Lag);

impl Cause {
    /// The watch that finds it.
    pub fn watch(self) -> Watch {
        match self {
            Self::Share | Self::NegativeVolume | Self::Surge => Watch::Buzz,
            Self::Quiet => Watch::Quiet,
            Self::BrandQuiet => Watch::BrandQuiet,
            Self::Lag => Watch::Lag,
        }
    }
}

/// What is evaluated together and has at most one open incident for each brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Watch {
    /// What people say about a brand: the causes `share`, `negative-volume` and `surge` are views of it.
    Buzz,
    /// The stream has gone quiet.
    Quiet,
    /// A brand has gone quiet, while the stream has not.
    BrandQuiet,
    /// Reading lags behind the stream.
    Lag,
}

keywords!(Watch: "buzz" => Buzz, "quiet" => Quiet, "brand-quiet" => BrandQuiet, "lag" => Lag);

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Worth looking at today.
    Warning,
    /// Worth waking somebody.
    Critical,
}

keywords!(Severity: "notice" => Notice, "warning" => Warning, "critical" => Critical);

#[cfg(test)]
mod tests;
