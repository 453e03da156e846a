//! Numbers and times as people read them in mails, pages, reports and logs.

use chrono::{DateTime, Utc};

/// A share in 0..=1 as a percentage without decimals, such as `12 %`.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A share in 0..=1 as a percentage with one decimal, such as `12.3 %`.
pub fn percent_tenths(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// An interval of shares in 0..=1 as percentages without decimals, such as `10 to 14 %`.
pub fn percent_interval(low: f64, high: f64) -> String {
    format!("{:.0} to {}", low * 100.0, percent(high))
}

/// A time in UTC to the minute, such as `2026-01-05 21:00`.
pub fn utc_minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

/// A number with a comma between groups of three digits, such as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_shares() {
        let check = |share, expected| assert_eq!(percent(share), expected);
        check(0.0, "0 %");
        check(0.124, "12 %");
        check(0.126, "13 %");
        check(1.0, "100 %");
        assert_eq!(percent_tenths(0.1234), "12.3 %");
        assert_eq!(percent_interval(0.1, 0.14), "10 to 14 %");
    }

    #[test]
    fn separates_thousands() {
        let check = |number, expected| assert_eq!(thousands(number), expected);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(1_234_567, "1,234,567");
    }
}
