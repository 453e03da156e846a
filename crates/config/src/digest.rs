//! `[digest]`: the weekly digest.

use chrono::{DateTime, Days, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use monitor_core::keywords;
use serde::Deserialize;

use super::Schedule;

/// `[digest]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Digest {
    /// Names of mail receivers; none: no digest is sent.
    pub receivers: Vec<String>,
    /// The day of the week.
    pub weekday: Weekday,
    /// The hour of the day.
    pub hour: u32,
    /// Whose clock, as a name of the IANA database.
    pub time_zone: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Weekday {
    /// The first day of the week by ISO 8601.
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The seventh.
    Sunday,
}

keywords!(Weekday:
    "monday" => Monday, "tuesday" => Tuesday, "wednesday" => Wednesday, "thursday" => Thursday,
    "friday" => Friday, "saturday" => Saturday, "sunday" => Sunday);

impl Default for Digest {
    fn default() -> Self {
        Self { receivers: Vec::new(), weekday: Weekday::Monday, hour: 8, time_zone: "UTC".into() }
    }
}

impl Digest {
    /// When it is sent; `None` if the hour or the zone is invalid.
    pub fn schedule(&self) -> Option<Schedule> {
        let day = match self.weekday {
            Weekday::Sunday => 0,
            Weekday::Monday => 1,
            Weekday::Tuesday => 2,
            Weekday::Wednesday => 3,
            Weekday::Thursday => 4,
            Weekday::Friday => 5,
            Weekday::Saturday => 6,
        };
        Schedule::parse(&format!("0 {} * * {day}", self.hour), &self.time_zone)
    }

    /// The week of a digest that is due at `due`: seven whole local days, up to the start of that day. `None` if the zone
    /// is invalid.
    pub fn week(&self, due: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let zone: Tz = self.time_zone.parse().ok()?;
        let day = due.with_timezone(&zone).date_naive();
        // Where midnight does not exist, because clocks change, the day begins an hour later.
        let start = |day: chrono::NaiveDate| {
            let midnight = day.and_time(NaiveTime::MIN);
            let local = zone.from_local_datetime(&midnight).earliest();
            let later =
                || zone.from_local_datetime(&(midnight + chrono::TimeDelta::hours(1))).earliest();
            local.or_else(later).map(|at| at.with_timezone(&Utc))
        };
        Some((start(day.checked_sub_days(Days::new(7))?)?, start(day)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_seven_local_days() {
        let check = |zone: &str, due: &str, from: &str, to: &str| {
            let digest = Digest { time_zone: zone.into(), ..Digest::default() };
            let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
            assert_eq!(digest.week(at(due)), Some((at(from), at(to))), "{zone}");
        };
        check("UTC", "2026-03-30T08:00:00Z", "2026-03-23T00:00:00Z", "2026-03-30T00:00:00Z");
        // On 29 March clocks change in Paris: that week is an hour shorter.
        check(
            "Europe/Paris",
            "2026-03-30T06:00:00Z",
            "2026-03-22T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        check(
            "Asia/Kolkata",
            "2026-03-30T02:30:00Z",
            "2026-03-22T18:30:00Z",
            "2026-03-29T18:30:00Z",
        );
        let mars = Digest { time_zone: "Mars".into(), ..Digest::default() };
        assert_eq!(mars.week("2026-03-30T08:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn is_due_on_its_day_and_hour() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (weekday, expected) in [
            (Weekday::Monday, "2026-03-30T06:00:00Z"),
            (Weekday::Saturday, "2026-03-28T07:00:00Z"),
            (Weekday::Sunday, "2026-03-29T06:00:00Z"),
        ] {
            let digest = Digest { weekday, time_zone: "Europe/Paris".into(), ..Digest::default() };
            let latest = digest
                .schedule()
                .unwrap()
                .latest(at("2026-03-20T00:00:00Z"), at("2026-03-30T12:00:00Z"));
            assert_eq!(latest, Some(at(expected)), "{weekday:?}");
        }
    }
}
