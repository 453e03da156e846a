//! What chat services and Alertmanager are told, in words, and words that mail shares; pure.
//!
//! **Invariant.** The words are a function of the notification. What comes from tweets and
//! settings cannot break a line, and is no longer than it may be. Escaping is each service's own.
//! Deliberately absent: the curve; mail has it as a picture, the page always.

use chrono::{DateTime, Utc};

use monitor_core::domain::{
    Counts, Evidence, LagEvidence, QuietEvidence, ShareEvidence, SurgeEvidence,
};
use monitor_core::format::percent;
use monitor_store::{Also, Example, Notification};

/// Examples told, at most.
pub const EXAMPLES_MAX: usize = 3;
/// Drivers told, at most.
const DRIVERS_MAX: usize = 8;
/// Characters of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;
/// Characters of a term, at most; links are long.
const TERM_CHARS_MAX: usize = 80;
/// Other incidents told, at most.
const ALSO_MAX: usize = 10;

/// What happened, in one line that begins with the brand.
pub fn headline(n: &Notification) -> String {
    let brand = line(&n.brand, 64);
    let over = n.transition == "resolved";
    let news = match &n.evidence {
        Evidence::Share(_) | Evidence::Surge(_) if over => {
            format!("{brand}: the alert has ended")
        }
        Evidence::Share(ShareEvidence { observed, expected_share, .. }) => format!(
            "{brand}: {} negative, expected {}",
            percent(observed.share().unwrap_or(0.0)),
            percent(*expected_share)
        ),
        Evidence::Surge(SurgeEvidence { observed, expected, .. }) => {
            format!("{brand}: {observed} tweets, expected {expected:.0}")
        }
        Evidence::Quiet(_) if over => "The stream flows again".to_owned(),
        Evidence::Quiet(QuietEvidence { minutes, .. }) => {
            format!("The stream has gone quiet: nothing for {minutes} minutes")
        }
        Evidence::Lag(_) if over => "Reading has caught up".to_owned(),
        Evidence::Lag(LagEvidence { behind_minutes, .. }) => {
            format!("Reading lags {behind_minutes} minutes behind")
        }
    };
    let still = if n.transition == "updated" { "Still: " } else { "" };
    let test = if n.test { "Test, nothing has happened: " } else { "" };
    format!("{test}{still}{news}")
}

/// The figures behind it: name and value.
pub fn facts(n: &Notification) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Severity", line(&n.severity, 64)), ("Since", moment(n.opened_at))];
    if n.transition == "resolved" {
        facts.push(("Until", moment(n.at)));
    }
    match &n.evidence {
        Evidence::Share(ShareEvidence {
            window_minutes,
            observed,
            observed_interval,
            baseline,
            expected_share,
            expected_interval,
            statistic,
            threshold,
            rule,
            ..
        }) => facts.extend([
            (
                "Negative",
                format!(
                    "{} ({} to {}), {} in {window_minutes} minutes",
                    percent(observed.share().unwrap_or(0.0)),
                    percent(observed_interval.low),
                    percent(observed_interval.high),
                    of_tweets(*observed),
                ),
            ),
            (
                "Expected",
                format!(
                    "{} ({} to {}), from {}",
                    percent(*expected_share),
                    percent(expected_interval.low),
                    percent(expected_interval.high),
                    of_tweets(*baseline),
                ),
            ),
            ("Statistic", format!("{statistic:.1}, alarms at {threshold:.1} ({})", line(rule, 64))),
        ]),
        Evidence::Surge(SurgeEvidence { observed, expected, statistic, threshold, .. }) => facts
            .extend([
                ("Tweets", observed.to_string()),
                ("Expected", format!("{expected:.0}")),
                ("Statistic", format!("{statistic:.1}, alarms at {threshold:.1}")),
            ]),
        Evidence::Quiet(QuietEvidence { last, minutes, expected_tweets, limit_minutes }) => {
            if let Some(last) = last {
                facts.push(("Last record", moment(*last)));
            }
            facts.push(("Gap", format!("{minutes} minutes, alarms at {limit_minutes}")));
            facts.push(("Expected", format!("{expected_tweets:.0} tweets")));
        }
        Evidence::Lag(LagEvidence { behind_minutes, limit_minutes }) => facts.push((
            "Oldest unread",
            format!("{behind_minutes} minutes, alarms at {limit_minutes}"),
        )),
    }
    facts
}

/// What marks the negative tweets off, one line each.
pub fn drivers(n: &Notification) -> Vec<String> {
    let mut lines: Vec<_> = n
        .drivers
        .terms
        .iter()
        .take(DRIVERS_MAX)
        .map(|driver| format!("{}: {} tweets", line(&driver.term, TERM_CHARS_MAX), driver.tweets))
        .collect();
    if n.drivers.one_tweet_share > 0.0 {
        let share = percent(n.drivers.one_tweet_share);
        lines.push(format!("{share} of them repeat one tweet"));
    }
    lines
}

/// A tweet to read, and what there is to know of it.
pub fn example(example: &Example) -> (String, String) {
    let mut byline = Vec::new();
    if let Some(author) = &example.author {
        byline.push(format!("@{}", line(author, 64)));
    }
    byline.push(moment(example.created_at));
    if let Some(reach) = example.reach {
        byline.push(format!("reach {reach}"));
    }
    if example.alike > 1 {
        byline.push(format!("{} say the same", example.alike));
    }
    (line(&example.text, TWEET_CHARS_MAX), byline.join(", "))
}

/// What happened to other brands at the same time, one line each.
pub fn also(n: &Notification) -> Vec<String> {
    let told = |also: &Also| {
        let (brand, severity) = (line(&also.brand, 64), line(&also.severity, 64));
        format!("{brand} ({}, {severity}): {}", line(&also.transition, 64), line(&also.reason, 300))
    };
    let mut lines: Vec<_> = n.also.iter().take(ALSO_MAX).map(told).collect();
    if n.also.len() > ALSO_MAX {
        lines.push(format!("and {} more", n.also.len() - ALSO_MAX));
    }
    lines
}

/// One line of at most `max` characters: what would break it or hide in it becomes a blank.
pub fn line(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean: String = text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    let words: Vec<_> = clean.split_whitespace().collect();
    let joined = words.join(" ");
    if joined.chars().count() <= max {
        return joined;
    }
    joined.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A time as people write it.
pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %b %Y, %H:%M UTC").to_string()
}

fn of_tweets(counts: Counts) -> String {
    format!("{} of {} tweets", counts.negative, counts.total)
}

/// Every kind of notification, named, for the tests of each service.
#[cfg(test)]
pub(super) fn samples() -> Vec<(&'static str, monitor_store::OutboxRow)> {
    use super::mail::fixtures;
    use monitor_core::domain::Cause;
    let of = |cause, transition: &str| monitor_store::OutboxRow {
        notification: fixtures::notification(cause, transition),
        ..fixtures::row(transition)
    };
    let mut grouped = fixtures::row("opened");
    grouped.notification.also = fixtures::also();
    let mut test = fixtures::row("opened");
    test.notification.test = true;
    test.key = "test-1".into();
    let mut bare = of(Cause::Quiet, "opened");
    bare.notification.url = None;
    if let Evidence::Quiet(QuietEvidence { last, .. }) = &mut bare.notification.evidence {
        *last = None;
    }
    vec![
        ("share_opened", fixtures::row("opened")),
        ("share_updated", fixtures::row("updated")),
        ("share_resolved", fixtures::row("resolved")),
        ("surge_opened", of(Cause::Surge, "opened")),
        ("quiet_opened", of(Cause::Quiet, "opened")),
        ("quiet_bare", bare),
        ("lag_opened", of(Cause::Lag, "opened")),
        ("lag_resolved", of(Cause::Lag, "resolved")),
        ("grouped", grouped),
        ("test", test),
    ]
}

/// A notification with more of everything, and worse, than there should be.
#[cfg(test)]
pub(super) fn monster() -> monitor_store::OutboxRow {
    let mut row = super::mail::fixtures::row("opened");
    let n = &mut row.notification;
    let nasty = "<!channel> & *bold* [link](https://evil.example) \u{202e}\n💥".repeat(500);
    n.brand = nasty.clone();
    n.reason = nasty.clone();
    n.also = vec![super::mail::fixtures::also().remove(0); 1000];
    for also in &mut n.also {
        also.reason = nasty.clone();
    }
    n.examples = vec![n.examples[0].clone(); 100];
    for example in &mut n.examples {
        example.text = nasty.clone();
        example.author = Some(nasty.clone());
    }
    n.drivers.terms = vec![n.drivers.terms[0].clone(); 100];
    for driver in &mut n.drivers.terms {
        driver.term = nasty.clone();
    }
    n.url = Some(format!("https://monitor.example.com/{}", "a|<>&".repeat(10)));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_one_line_and_bounded() {
        let check =
            |name, text: &str, max, expected| assert_eq!(line(text, max), expected, "{name}");
        check("plain", "lost bag", 20, "lost bag");
        check("line ends", " a\r\nb\tc ", 20, "a b c");
        check("turned around", "a\u{202e}b", 20, "a b");
        check("too long", "abcdef", 4, "abc…");
        check("as long as may be", "abcd", 4, "abcd");
        check("beyond ASCII", "éééé", 3, "éé…");
    }

    #[test]
    fn headlines_tell_what_happened() {
        let told: Vec<_> = samples()
            .iter()
            .map(|(name, row)| format!("{name}: {}", headline(&row.notification)))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
