use std::ops::{Add, AddAssign, Sub};

use chrono::{DateTime, Utc};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hours in a week.
pub const HOURS_PER_WEEK: usize = 168;

/// A minute of event time: minutes since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute that contains `at`.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self(at.timestamp().div_euclid(60))
    }

    /// When it starts.
    pub fn start(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0 * 60, 0)
            .expect("minutes come from valid times, so they convert back")
    }

    /// The first minute of its hour of UTC.
    pub fn hour_start(self) -> Self {
        Self(self.hour() * 60)
    }

    /// Hours of UTC since the Unix epoch.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(60)
    }

    /// This many minutes later (earlier where negative).
    pub fn plus(self, minutes: i64) -> Self {
        Self(self.0 + minutes)
    }
}

/// In JSON a minute is the time at which it starts, in RFC 3339.
impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.start().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::deserialize(deserializer).map(Self::of)
    }
}

/// Tweets and negative tweets of a period. JSON also has their `share`, which is 0 without
/// tweets; it is ignored when JSON is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Counts {
    /// All tweets.
    pub total: u64,
    /// The negative ones; never more than `total`.
    pub negative: u64,
}

impl Counts {
    /// Share of negative tweets, in 0..=1; `None` without tweets.
    pub fn share(self) -> Option<f64> {
        (self.total > 0).then(|| self.negative as f64 / self.total as f64)
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut counts = serializer.serialize_struct("Counts", 3)?;
        counts.serialize_field("total", &self.total)?;
        counts.serialize_field("negative", &self.negative)?;
        counts.serialize_field("share", &self.share().unwrap_or(0.0))?;
        counts.end()
    }
}

impl Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { total: self.total + other.total, negative: self.negative + other.negative }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Counts {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { total: self.total - other.total, negative: self.negative - other.negative }
    }
}
