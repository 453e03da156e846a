//! Parses the time formats of posts, in streams and in files.

use chrono::{DateTime, NaiveDateTime, Utc};

/// Parses a time: RFC 3339 (X API v2), `Mon May 11 03:17:40 +0000 2009` (X API v1.1),
/// `2015-02-24 11:35:52 -0800`, date and time with a short offset (`+00`, `+0000`), without a zone, read as
/// UTC (`2015-02-24 19:35:52`, with a `T` in between, without seconds, with decimals, with ` UTC`), and a number
/// as [`timestamp_of_number`] reads it.
pub fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let usual = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%a %b %d %H:%M:%S %z %Y"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S %z"));
    if let Ok(at) = usual {
        return Some(at.with_timezone(&Utc));
    }
    let text = text.trim_end_matches(" UTC");
    if let Ok(number) = text.parse::<f64>() {
        return timestamp_of_number(number);
    }
    let zoned = |form: &&str| DateTime::parse_from_str(text, form).ok();
    let plain = |form: &&str| NaiveDateTime::parse_from_str(text, form).ok();
    ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"]
        .iter()
        .find_map(zoned)
        .map(|at| at.with_timezone(&Utc))
        .or_else(|| {
            let forms = [
                "%Y-%m-%d %H:%M:%S%.f",
                "%Y-%m-%dT%H:%M:%S%.f",
                "%Y-%m-%d %H:%M",
                "%Y-%m-%dT%H:%M",
            ];
            forms.iter().find_map(plain).map(|at| at.and_utc())
        })
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by the number's size: up to the year
/// 5138 each unit has numbers of its own from 1973 on.
pub(crate) fn timestamp_of_number(number: f64) -> Option<DateTime<Utc>> {
    /// A larger number is not in seconds; each unit has a thousand times as many.
    const SECONDS_MAX: f64 = 1e11;
    if !number.is_finite() {
        return None;
    }
    let mut seconds = number;
    for _ in 0..3 {
        if seconds.abs() >= SECONDS_MAX {
            seconds /= 1e3;
        }
    }
    DateTime::from_timestamp_millis((seconds * 1e3).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_form() {
        let check = |text: &str, expected: Option<&str>| {
            let found = parse_timestamp(text)
                .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        let at = Some("2015-02-24T19:35:52Z");
        check("2015-02-24T19:35:52Z", at);
        check("2015-02-24T19:35:52.000Z", at);
        check("Tue Feb 24 19:35:52 +0000 2015", at);
        check("2015-02-24 11:35:52 -0800", at);
        check(" 2015-02-24 19:35:52 ", at);
        check("2015-02-24T19:35:52", at);
        check("2015-02-24 19:35:52 UTC", at);
        check("2015-02-24 19:35:52+00", at);
        check("2015-02-24 19:35:52+00:00", at);
        check("2015-02-24T19:35:52+0000", at);
        check("2015-02-24T11:35:52-0800", at);
        check("1424806552", at);
        check("1424806552.0", at);
        check("1424806552000", at);
        check("1424806552000000", at);
        check("1424806552000000000", at);
        check("1424806552250", Some("2015-02-24T19:35:52.250Z"));
        check("2015-02-24 19:35:52.250", Some("2015-02-24T19:35:52.250Z"));
        check("2015-02-24 19:35", Some("2015-02-24T19:35:00Z"));
        check("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:60Z"));
        check("0", Some("1970-01-01T00:00:00Z"));
        check("1e300", None);
        check("2015-02-24", None);
        check("02/24/2015 19:35", None);
        check("2015-13-24T19:35:52Z", None);
        check("yesterday", None);
        check("NaN", None);
        check("inf", None);
        check("", None);
    }
}
