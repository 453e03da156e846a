//! `[retrain]`, and its schedule.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde::Deserialize;

/// `[retrain]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrain {
    /// When, as a cron expression of five fields.
    pub schedule: Option<String>,
    /// Zone of the schedule, as a name of the IANA database.
    pub time_zone: String,
    /// Whether drift of a day is a reason too.
    pub on_drift: bool,
    /// The family to train, as `monitor retrain` takes it.
    pub family: String,
    /// The files to train on, each `FILE` or `FILE=WEIGHT`.
    pub data: Vec<String>,
    /// Weight of the labels that people gave to stored tweets; 0 leaves them out.
    pub labels_weight: f32,
    /// Threads of the training.
    pub threads: usize,
    /// Further arguments of `monitor retrain`.
    pub arguments: Vec<String>,
}

impl Default for Retrain {
    fn default() -> Self {
        Self {
            schedule: None,
            time_zone: "UTC".into(),
            on_drift: false,
            family: "lstm".into(),
            data: Vec::new(),
            labels_weight: 1.0,
            threads: 1,
            arguments: Vec::new(),
        }
    }
}

impl Retrain {
    /// Whether the daemon trains by itself.
    pub fn is_on(&self) -> bool {
        self.schedule.is_some() || self.on_drift
    }

    /// The schedule; `None` if there is none, or it is invalid.
    pub fn parsed_schedule(&self) -> Option<Schedule> {
        Schedule::parse(self.schedule.as_deref()?, &self.time_zone)
    }
}

/// Times that a cron expression matches in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// Reads an expression such as "0 3 * * 0" and the name of a zone; `None` if one is invalid.
    pub fn parse(expression: &str, zone: &str) -> Option<Self> {
        Some(Self { cron: expression.parse().ok()?, zone: zone.parse().ok()? })
    }

    /// The latest time after `after`, up to and including `now`.
    pub fn latest(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let latest =
            self.cron.find_previous_occurrence(&now.with_timezone(&self.zone), true).ok()?;
        Some(latest.with_timezone(&Utc)).filter(|latest| *latest > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_latest_time_of_a_schedule() {
        let check = |name: &str, zone: &str, after: &str, now: &str, expected: Option<&str>| {
            let schedule = Schedule::parse("30 3 * * 0", zone).unwrap();
            assert_eq!(schedule.latest(at(after), at(now)), expected.map(at), "{name}");
        };
        // 8 and 15 March 2026 are Sundays; on the 29th, clocks change in Paris.
        let monday = "2026-03-09T00:00:00Z";
        check("not yet", "UTC", monday, "2026-03-15T03:29:59Z", None);
        check("now", "UTC", monday, "2026-03-15T03:30:00Z", Some("2026-03-15T03:30:00Z"));
        check("later", "UTC", monday, "2026-03-20T00:00:00Z", Some("2026-03-15T03:30:00Z"));
        check("two missed", "UTC", monday, "2026-03-23T00:00:00Z", Some("2026-03-22T03:30:00Z"));
        check("done", "UTC", "2026-03-15T03:30:00Z", "2026-03-15T03:30:30Z", None);
        check(
            "winter",
            "Europe/Paris",
            monday,
            "2026-03-15T04:00:00Z",
            Some("2026-03-15T02:30:00Z"),
        );
        check(
            "summer",
            "Europe/Paris",
            monday,
            "2026-04-05T04:00:00Z",
            Some("2026-04-05T01:30:00Z"),
        );
        for (expression, zone) in
            [("every day", "UTC"), ("61 * * * *", "UTC"), ("0 3 * * *", "Mars")]
        {
            assert!(Schedule::parse(expression, zone).is_none(), "{expression} {zone}");
        }
    }
}
