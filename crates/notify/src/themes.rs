//! The words for what groups of tweets are about, and for what is repeated; pure.
//!
//! **Invariant.** As in [`words`](super::words): no line break, a maximum length.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::format::thousands;
use monitor_core::notification::{FirstAuthor, Theme};
use monitor_store::Drivers;

use super::words::{TERM_CHARS_MAX, line, moment};

/// What a theme is about, and its tweets: `lost bag, baggage claim: 43 tweets`.
pub fn title(theme: &Theme) -> String {
    let terms: Vec<_> = theme.terms.iter().map(|term| line(term, TERM_CHARS_MAX)).collect();
    format!("{}: {} tweets", terms.join(", "), thousands(theme.tweets))
}

/// When a theme began, when most was written, and by whom first.
pub fn beginning(theme: &Theme) -> String {
    let mut words = format!("since {}", moment(theme.began));
    let most = theme.hours.iter().zip(0_i64..).max_by_key(|(tweets, hour)| (**tweets, -hour));
    if let Some((tweets, hour)) = most.filter(|_| theme.hours.len() > 1) {
        let _ =
            write!(words, "; most, {tweets}, {}", hour_of(theme.began + TimeDelta::hours(hour)));
    }
    let first: Vec<String> = theme.first.iter().map(first_author).collect();
    if !first.is_empty() {
        let _ = write!(words, "; first by {}", first.join(", "));
    }
    words
}

/// The hour of `at`: `from 13:00 to 14:00`.
fn hour_of(at: DateTime<Utc>) -> String {
    let end = at + TimeDelta::hours(1);
    format!("from {} to {}", at.format("%H:00"), end.format("%H:00"))
}

fn first_author(first: &FirstAuthor) -> String {
    let name = format!("@{}", line(first.author.trim_start_matches('@'), 64));
    match first.followers {
        Some(followers) => format!("{name} ({} followers)", thousands(followers)),
        None => name,
    }
}

/// The link that many share, and who repeats themselves; one sentence each.
pub fn repeats(drivers: &Drivers) -> Vec<String> {
    let link = drivers.shared_link.as_ref().map(|shared| {
        let link = line(&shared.link, TERM_CHARS_MAX);
        format!("Most shared link: {link}, in {} tweets.", thousands(shared.tweets))
    });
    let repeaters = drivers.repeaters.iter().map(|repeater| {
        let author = line(&repeater.author, 64);
        let who = if author.starts_with('#') { "An account".into() } else { format!("@{author}") };
        format!("{who} posted nearly the same tweet {} times.", thousands(repeater.tweets))
    });
    link.into_iter().chain(repeaters).collect()
}
