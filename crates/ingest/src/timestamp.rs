//! Parses the time formats of tweets and of tweet files.

use chrono::{DateTime, NaiveDateTime, Utc};

/// Parses RFC 3339 (X API v2), `Mon May 11 03:17:40 +0000 2009` (X API v1.1) or
/// `2015-02-24 11:35:52 -0800`.
pub fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%a %b %d %H:%M:%S %z %Y"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S %z"))
        .ok()
        .map(|at| at.with_timezone(&Utc))
}

/// Parses the formats of [`parse_timestamp`], and further formats that occur in files: date
/// and time without a zone, read as UTC (`2015-02-24 19:35:52`, with a `T` in between, without
/// seconds, with decimals), short offsets (`+00`), and seconds or milliseconds since 1970.
pub fn parse_file_timestamp(text: &str) -> Option<DateTime<Utc>> {
    /// A larger number (as seconds, after the year 5138) is in milliseconds.
    const SECONDS_MAX: f64 = 1e11;
    let text = text.trim().trim_end_matches(" UTC");
    if let Some(at) = parse_timestamp(text) {
        return Some(at);
    }
    if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
        let seconds = if number.abs() < SECONDS_MAX { number } else { number / 1e3 };
        return DateTime::from_timestamp_millis((seconds * 1e3).round() as i64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_tweet_formats() {
        let check = |name: &str, text: &str, expected: Option<&str>| {
            let found = parse_timestamp(text).map(|at| at.to_rfc3339());
            assert_eq!(found.as_deref(), expected, "{name}");
        };
        check("X API v2", "2015-02-24T19:35:52.000Z", Some("2015-02-24T19:35:52+00:00"));
        check("X API v1.1", "Mon May 11 03:17:40 +0000 2009", Some("2009-05-11T03:17:40+00:00"));
        check("with offset", "2015-02-24 11:35:52 -0800", Some("2015-02-24T19:35:52+00:00"));
        check("leap second", "2016-12-31T23:59:60Z", Some("2016-12-31T23:59:60+00:00"));
        check("no zone", "2015-02-24 11:35:52", None);
        check("no time", "2015-02-24", None);
        check("empty", "", None);
    }

    #[test]
    fn parses_file_formats() {
        let check = |text: &str, expected: Option<&str>| {
            let found = parse_file_timestamp(text)
                .map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        let at = Some("2015-02-24T19:35:52Z");
        check("2015-02-24T19:35:52Z", at);
        check("Tue Feb 24 19:35:52 +0000 2015", at);
        check("2015-02-24 11:35:52 -0800", at);
        check(" 2015-02-24 19:35:52 ", at);
        check("2015-02-24T19:35:52", at);
        check("2015-02-24 19:35:52 UTC", at);
        check("2015-02-24 19:35:52+00", at);
        check("2015-02-24 19:35:52+00:00", at);
        check("2015-02-24T11:35:52-0800", at);
        check("1424806552", at);
        check("1424806552.0", at);
        check("1424806552000", at);
        check("1424806552250", Some("2015-02-24T19:35:52.250Z"));
        check("2015-02-24 19:35:52.250", Some("2015-02-24T19:35:52.250Z"));
        check("2015-02-24 19:35", Some("2015-02-24T19:35:00Z"));
        check("2015-02-24", None);
        check("02/24/2015 19:35", None);
        check("yesterday", None);
        check("NaN", None);
        check("inf", None);
        check("", None);
    }
}
