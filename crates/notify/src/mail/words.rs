//! Counts and lengths of time in words; pure.

use monitor_core::format::thousands;

pub use crate::phases::times;

/// A count with its noun: "1 tweet", "1,204 tweets".
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", thousands(number)) }
}

/// A length of time: "1 day 2 hours".
pub fn length(minutes: u64) -> String {
    let parts = [(minutes / 1440, "day"), (minutes / 60 % 24, "hour"), (minutes % 60, "minute")];
    let words: Vec<_> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, noun)| count(n, noun)).collect();
    if words.is_empty() { "less than a minute".into() } else { words.join(" ") }
}

/// A window that ends now: "the last hour", "the last 90 minutes".
pub fn last(minutes: u32) -> String {
    let (n, noun) = match minutes {
        m if m % 1440 == 0 => (m / 1440, "day"),
        m if m % 60 == 0 => (m / 60, "hour"),
        m => (m, "minute"),
    };
    if n == 1 { format!("the last {noun}") } else { format!("the last {n} {noun}s") }
}

/// Capitalizes the first letter.
pub fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let check = |name, found: String, expected: &str| assert_eq!(found, expected, "{name}");
        check("window of an hour", last(60), "the last hour");
        check("window of 90 minutes", last(90), "the last 90 minutes");
        check("window of 2 days", last(2880), "the last 2 days");
        check("length", length(1440 + 61), "1 day 1 hour 1 minute");
        check("round length", length(120), "2 hours");
        check("no length", length(0), "less than a minute");
        check("one", count(1, "tweet"), "1 tweet");
        check("many", count(1204, "tweet"), "1,204 tweets");
        check("few times", times(4.06), "4.1 times");
        check("many times", times(12.4), "12 times");
        check("sentence", sentence("the last hour"), "The last hour");
    }
}
