//! Time zones of seasons.

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{HOURS_PER_WEEK, Minute};

/// A time zone of the IANA database, in which the hours of a brand's week are counted. In JSON it is its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone of this name, such as `Europe/Paris`; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The hour of the local week in which the minute's hour of UTC begins, in 0..[`HOURS_PER_WEEK`]. Hour 0 begins on
    /// Thursday at 00:00, as the Unix epoch does. Tweets are stored by hours of UTC, so where clocks differ from
    /// UTC by half an hour, such an hour belongs as a whole to the one in which it begins. The hour that
    /// is skipped when clocks are put forward has no minutes; the one that comes twice has all of both.
    pub fn hour_of_week(self, minute: Minute) -> usize {
        let hour = minute.hour_start();
        let ahead = match self.0 {
            Tz::UTC => 0,
            zone => {
                let offset = zone.offset_from_utc_datetime(&hour.start().naive_utc());
                i64::from(offset.fix().local_minus_utc()).div_euclid(60)
            }
        };
        usize::try_from(hour.plus(ahead).hour().rem_euclid(HOURS_PER_WEEK as i64))
            .expect("a Euclidean remainder is not negative")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("{name:?} is no time zone"));
        Self::parse(&name).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_the_week_are_local() {
        let check = |name: &str, zone: &str, at: &str, day: usize, hour: usize| {
            let minute = Minute::of(at.parse().expect("a time"));
            let found = Zone::parse(zone).expect("a zone").hour_of_week(minute);
            assert_eq!((found / 24, found % 24), (day, hour), "{name}");
        };
        check("the epoch", "UTC", "1970-01-01T00:00:00Z", 0, 0);
        check("before the epoch", "UTC", "1969-12-31T23:59:00Z", 6, 23);
        check("a Wednesday in Paris", "Europe/Paris", "2026-01-07T23:30:00Z", 0, 0);
        check("before clocks go forward", "Europe/Paris", "2026-03-29T00:59:00Z", 3, 1);
        check("after: two o'clock is skipped", "Europe/Paris", "2026-03-29T01:00:00Z", 3, 3);
        check("before clocks go back", "Europe/Paris", "2026-10-25T00:30:00Z", 3, 2);
        check("after: two o'clock again", "Europe/Paris", "2026-10-25T01:30:00Z", 3, 2);
        check("west of Greenwich", "America/New_York", "2026-01-01T03:00:00Z", 6, 22);
        check("half an hour off", "Asia/Kolkata", "2026-01-01T00:45:00Z", 0, 5);
    }

    #[test]
    fn is_stored_by_its_name() {
        let zone = Zone::parse("Europe/Paris").expect("a zone");
        let json = serde_json::to_string(&zone).expect("JSON");
        assert_eq!(json, "\"Europe/Paris\"");
        assert_eq!(serde_json::from_str::<Zone>(&json).ok(), Some(zone));
        let error = serde_json::from_str::<Zone>("\"Mars\"").expect_err("no zone");
        assert!(error.to_string().contains("\"Mars\" is no time zone"), "{error}");
        assert_eq!(Zone::parse("Mars"), None);
    }
}
