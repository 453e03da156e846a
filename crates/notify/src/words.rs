//! The texts for chat services and Alertmanager, and helpers that mails share; pure.
//!
//! **Invariant.** The texts depend only on the notification. Strings from tweets and settings
//! contain no line break and have a maximum length. Each service does its own escaping.
//! Deliberately absent: the curve; the mail and the page show it.

use chrono::{DateTime, Utc};

use super::{missed, phases, themes};
use monitor_core::domain::{
    Counts, Evidence, LagEvidence, QuietEvidence, ShareEvidence, VolumeEvidence,
};
use monitor_core::format::percent;
use monitor_core::quantify::Estimate;
use monitor_core::words::{Piece, marked, marked_line};
use monitor_store::{Also, Example, Notification};

/// Example tweets, at most.
pub const EXAMPLES_MAX: usize = 3;
/// Drivers, at most.
const DRIVERS_MAX: usize = 8;
/// Characters of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;
/// Characters of a term, at most; links are long.
pub const TERM_CHARS_MAX: usize = 80;
/// Other incidents, at most.
const ALSO_MAX: usize = 10;
/// Incidents of a digest of missed ones, at most.
const MISSED_MAX: usize = 10;

/// What happened, in one line; it begins with the brand.
pub fn headline(n: &Notification) -> String {
    if !n.missed.is_empty() {
        return missed::headline(n);
    }
    let brand = line(&n.brand, 64);
    let over = n.transition == "resolved";
    let news = match &n.evidence {
        Evidence::Share(_) | Evidence::NegativeVolume(_) | Evidence::Surge(_) => {
            match phases::now(n).filter(|_| !over) {
                Some(now) => format!("{brand}: {now}"),
                None if phases::is_new_normal(n) => format!("{brand}: the new normal"),
                None => format!("{brand}: the alert has ended"),
            }
        }
        Evidence::Quiet(_) if over => "Tweets arrive again".to_owned(),
        Evidence::Quiet(QuietEvidence { minutes, .. }) => {
            format!("No tweets for {minutes} minutes")
        }
        Evidence::BrandQuiet(_) if over => format!("{brand}: tweets arrive again"),
        Evidence::BrandQuiet(QuietEvidence { minutes, .. }) => {
            format!("{brand}: no tweets for {minutes} minutes")
        }
        Evidence::Lag(_) if over => "Reading has caught up".to_owned(),
        Evidence::Lag(LagEvidence { behind_minutes, .. }) => {
            format!("Reading is {behind_minutes} minutes behind")
        }
    };
    let still = match n.transition.as_str() {
        "updated" => "Still: ",
        "reopened" => "Again: ",
        _ => "",
    };
    let test = if n.test { "Test, nothing has happened: " } else { "" };
    format!("{test}{still}{news}")
}

/// The numbers of the incident: name and value.
pub fn facts(n: &Notification) -> Vec<(&'static str, String)> {
    if !n.missed.is_empty() {
        return vec![("Severity", line(&n.severity, 64))];
    }
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
            (
                "Statistic",
                format!("{statistic:.1}, alert from {threshold:.1} ({})", line(rule, 64)),
            ),
        ]),
        Evidence::NegativeVolume(e) => facts.extend([
            ("Negative", of_tweets(e.tweets)),
            ("Expected", format!("{:.0} negative tweets", e.expected)),
            ("Usual share", percent(e.usual_share)),
            ("Statistic", format!("{:.1}, alert from {:.1}", e.statistic, e.threshold)),
        ]),
        Evidence::Surge(VolumeEvidence { observed, expected, statistic, threshold, .. }) => facts
            .extend([
                ("Tweets", observed.to_string()),
                ("Expected", format!("{expected:.0}")),
                ("Statistic", format!("{statistic:.1}, alert from {threshold:.1}")),
            ]),
        Evidence::Quiet(e) | Evidence::BrandQuiet(e) => {
            let QuietEvidence { last, minutes, expected_tweets, limit_minutes } = e;
            if let Some(last) = last {
                let is_of_brand = matches!(n.evidence, Evidence::BrandQuiet(_));
                let name = if is_of_brand { "Last tweet" } else { "Last record" };
                facts.push((name, moment(*last)));
            }
            facts.push(("Gap", format!("{minutes} minutes, alert from {limit_minutes}")));
            facts.push(("Expected", format!("{expected_tweets:.0} tweets")));
        }
        Evidence::Lag(LagEvidence { behind_minutes, limit_minutes }) => facts.push((
            "Oldest unread",
            format!("{behind_minutes} minutes, alert from {limit_minutes}"),
        )),
    }
    facts.extend(phases::course(n).into_iter().map(|phase| ("So far", phase)));
    facts.extend(n.corrected.map(|Estimate { share, interval, .. }| {
        let [share, low, high] = [share, interval.low, interval.high].map(percent);
        ("Corrected", format!("{share} ({low} to {high}): what people would call negative"))
    }));
    if n.echoes > 0 {
        facts.push(("Not counted", format!("{} repeats, or of accounts left out", n.echoes)));
    }
    facts
}

/// Terms that are typical of the negative tweets, one line each.
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
        lines.push(format!("{share} of the negative tweets repeat one tweet"));
    }
    lines.extend(themes::repeats(&n.drivers));
    lines
}

/// A tweet, and a line with its author, time and reach.
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
        byline.push(format!("{} identical tweets", example.alike));
    }
    (line(&example.text, TWEET_CHARS_MAX), byline.join(", "))
}

/// Incidents that were over when they were found, one line each.
pub fn missed(n: &Notification) -> Vec<String> {
    let mut lines: Vec<_> = n.missed.iter().take(MISSED_MAX).map(missed::entry).collect();
    if n.missed.len() > MISSED_MAX {
        lines.push(format!("and {} more", n.missed.len() - MISSED_MAX));
    }
    lines
}

/// Incidents of other brands at the same time, one line each.
pub fn also(n: &Notification) -> Vec<String> {
    let describe = |also: &Also| {
        let (brand, severity) = (line(&also.brand, 64), line(&also.severity, 64));
        format!("{brand} ({}, {severity}): {}", line(&also.transition, 64), line(&also.reason, 300))
    };
    let mut lines: Vec<_> = n.also.iter().take(ALSO_MAX).map(describe).collect();
    if n.also.len() > ALSO_MAX {
        lines.push(format!("and {} more", n.also.len() - ALSO_MAX));
    }
    lines
}

/// One line of at most `max` characters; control and direction characters become blanks.
pub fn line(text: &str, max: usize) -> String {
    marked_line(text, &[], max).into_iter().map(|piece| piece.text).collect()
}

/// The text of an example as [`line`], in pieces: the words that made it negative are marked.
pub fn marked_text(example: &Example, max: usize) -> Vec<Piece> {
    marked_line(&example.text, &marked(&example.text, &example.words), max)
}

/// A date and time: "23 Feb 2015, 14:05 UTC".
pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %b %Y, %H:%M UTC").to_string()
}

fn of_tweets(counts: Counts) -> String {
    format!("{} of {} tweets", counts.negative, counts.total)
}

/// Each kind of notification, with a name, for the tests of all services.
#[cfg(test)]
pub(super) fn samples() -> Vec<(&'static str, monitor_store::OutboxRow)> {
    use super::mail::fixtures;
    use monitor_core::domain::Cause;
    let of = |cause, transition: &str| monitor_store::OutboxRow {
        notification: fixtures::notification(cause, transition),
        ..fixtures::row(transition)
    };
    let crisis = |transition: &str| monitor_store::OutboxRow {
        notification: fixtures::crisis(transition),
        ..fixtures::row(transition)
    };
    let mut grouped = fixtures::row("opened");
    grouped.notification.also = fixtures::also();
    let mut test = fixtures::row("opened");
    test.notification.test = true;
    test.key = "test-1".into();
    let mut missed = fixtures::row("missed");
    missed.notification = fixtures::missed();
    missed.key = missed.notification.thread.clone();
    let mut bare = of(Cause::Quiet, "opened");
    bare.notification.url = None;
    if let Evidence::Quiet(QuietEvidence { last, .. }) = &mut bare.notification.evidence {
        *last = None;
    }
    vec![
        ("share_opened", fixtures::row("opened")),
        ("share_updated", fixtures::row("updated")),
        ("share_resolved", fixtures::row("resolved")),
        ("negative_volume_opened", of(Cause::NegativeVolume, "opened")),
        ("surge_opened", of(Cause::Surge, "opened")),
        ("crisis_updated", crisis("updated")),
        ("crisis_resolved", crisis("resolved")),
        ("crisis_reopened", crisis("reopened")),
        ("quiet_opened", of(Cause::Quiet, "opened")),
        ("quiet_bare", bare),
        ("lag_opened", of(Cause::Lag, "opened")),
        ("lag_resolved", of(Cause::Lag, "resolved")),
        ("missed", missed),
        ("grouped", grouped),
        ("test", test),
    ]
}

/// A notification with far too many and too long strings, full of markup.
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
    fn limits_text_to_one_short_line() {
        let check =
            |name, text: &str, max, expected| assert_eq!(line(text, max), expected, "{name}");
        check("plain", "lost bag", 20, "lost bag");
        check("line ends", " a\r\nb\tc ", 20, "a b c");
        check("direction override", "a\u{202e}b", 20, "a b");
        check("too long", "abcdef", 4, "abc…");
        check("exactly the maximum", "abcd", 4, "abcd");
        check("not ASCII", "éééé", 3, "éé…");
    }

    #[test]
    fn headlines_tell_what_happened() {
        let headlines: Vec<_> = samples()
            .iter()
            .map(|(name, row)| format!("{name}: {}", headline(&row.notification)))
            .collect();
        insta::assert_snapshot!(headlines.join("\n"));
    }
}
