//! Times and durations, as users type and read them.

pub(super) use monitor_core::format::utc_minute as show;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// A time: RFC 3339, or a date with or without a time of day, in UTC.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let local = text.strip_suffix('Z').unwrap_or(text);
    let naive = |form| NaiveDateTime::parse_from_str(local, form).ok();
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).into();
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"];
    text.parse()
        .ok()
        .or_else(|| forms.into_iter().find_map(naive).or_else(day).map(|local| local.and_utc()))
        .ok_or_else(|| {
            "give a time such as 2026-01-05T22:00:00+01:00, or \"2026-01-05 21:00\" in UTC".into()
        })
}

/// A length of time: a whole number and its unit.
pub(super) fn length(text: &str) -> Result<TimeDelta, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let whole = || number.parse::<i64>().ok()?.checked_mul(seconds?);
    whole()
        .filter(|seconds| (1..=LENGTH_DAYS_MAX * 86_400).contains(seconds))
        .map(TimeDelta::seconds)
        .ok_or_else(|| {
            format!("give a length of time such as 30m, 2h or 1d, at most {LENGTH_DAYS_MAX}d")
        })
}

/// Longest accepted length of time, in days, so that a typing error has limited effect.
const LENGTH_DAYS_MAX: i64 = 366;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_times() {
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(time(text).ok(), expected, "{text}");
        };
        check("2026-01-05T22:00:00+01:00", Some("2026-01-05T21:00:00Z"));
        check("2026-01-05T22:00:00Z", Some("2026-01-05T22:00:00Z"));
        check("2026-01-05 22:10", Some("2026-01-05T22:10:00Z"));
        check("2026-01-05T22:10Z", Some("2026-01-05T22:10:00Z"));
        check("2026-01-05T22:10", Some("2026-01-05T22:10:00Z"));
        check("2026-01-05 22:10:30", Some("2026-01-05T22:10:30Z"));
        check("2026-01-05", Some("2026-01-05T00:00:00Z"));
        check("tomorrow", None);
        check("22:10", None);
        check("2026-02-30", None);

        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(length(text).ok().map(|found| found.num_seconds()), expected, "{text}");
        };
        check("90s", Some(90));
        check("30m", Some(1800));
        check("2h", Some(7200));
        check("1d", Some(86_400));
        check("366d", Some(366 * 86_400));
        check("367d", None);
        check("0h", None);
        check("2", None);
        check("h", None);
        check("-1h", None);
        check("1.5h", None);
        check("2 h", None);
        check("99999999999999999999h", None);
        check("9223372036854775807d", None);
    }
}
