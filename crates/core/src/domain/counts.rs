use std::ops::{Add, AddAssign, Sub};

use chrono::{DateTime, Utc};

/// Hours in a week.
pub const HOURS_PER_WEEK: usize = 168;

/// A minute of event time: minutes since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute that holds `at`.
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

    /// The hour of the week in UTC, in 0..[`HOURS_PER_WEEK`]. Hour 0 begins on Thursday at
    /// 00:00, because the Unix epoch does.
    pub fn hour_of_week(self) -> usize {
        usize::try_from(self.hour().rem_euclid(HOURS_PER_WEEK as i64))
            .expect("a Euclidean remainder is not negative")
    }

    /// This many minutes later (earlier where negative).
    pub fn plus(self, minutes: i64) -> Self {
        Self(self.0 + minutes)
    }
}

/// Tweets and negative tweets of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All tweets.
    pub total: u64,
    /// The negative ones; never more than `total`.
    pub negative: u64,
}

impl Counts {
    /// Share of negative tweets, or `None` where there is no tweet.
    pub fn share(self) -> Option<f64> {
        (self.total > 0).then(|| self.negative as f64 / self.total as f64)
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
