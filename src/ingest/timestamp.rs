//! Times in the forms that tweets carry them.

use chrono::{DateTime, Utc};

/// Reads RFC 3339 (X API v2), `Mon May 11 03:17:40 +0000 2009` (X API v1.1) or
/// `2015-02-24 11:35:52 -0800`.
pub fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%a %b %d %H:%M:%S %z %Y"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S %z"))
        .ok()
        .map(|at| at.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_forms() {
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
}
