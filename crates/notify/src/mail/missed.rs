//! The digest of incidents that were over when they were found, as a mail; pure.
//!
//! **Invariant.** As for other mails: text and HTML say the same, and strings from settings are escaped in HTML and
//! cannot add a line to the text.

use chrono::{DateTime, Utc};
use maud::html;

use super::Mail;
use super::html::{self, BUTTON, CALM, Text, row, small};
use super::words::length;
use crate::missed;
use crate::words::line;
use monitor_store::{Missed, Notification};

/// Incidents shown, at most.
const SHOWN_MAX: usize = 50;
const INTRODUCTION: &str = "They began and ended before Monitor read their tweets, because it was away or was started later. \
    So nobody was told of them at that time, and there is nothing to do about them now.";
const NOTE: &str = "Alerts that are not over have mails of their own. All times are in UTC.";

/// An incident of the mail. Strings have no line breaks.
struct Entry {
    title: String,
    lines: [String; 3],
}

impl Entry {
    fn of(it: &Missed) -> Self {
        let minutes = (it.resolved_at - it.opened_at).num_minutes().unsigned_abs();
        Self {
            title: format!("{} ({})", line(&it.brand, 64), line(&it.severity, 64)),
            lines: [
                format!("{} ({})", missed::period(it), length(minutes)),
                format!("{}; {}", super::sentence(&missed::peaks(it)), missed::negative(it)),
                format!("monitor incidents show {}", it.incident_id),
            ],
        }
    }
}

impl Mail {
    /// Renders the digest of [`Notification::missed`].
    pub fn of_missed(n: &Notification) -> Self {
        let headline = missed::headline(n);
        let entries: Vec<_> = n.missed.iter().take(SHOWN_MAX).map(Entry::of).collect();
        let left = n.missed.len() - entries.len();
        let more = (left > 0).then(|| format!("{left} more: monitor incidents list"));
        let link = n.url.as_deref().map(|url| line(url, super::URL_CHARS_MAX));
        Self {
            subject: subject(n),
            text: text(&headline, &entries, more.as_deref(), link.as_deref()),
            html: page(&headline, &entries, more.as_deref(), link.as_deref()),
            pictures: Vec::new(),
            urgent: false,
        }
    }
}

fn subject(n: &Notification) -> String {
    let who = if missed::is_of_one_brand(n) { super::word(&n.brand) } else { "Monitor".into() };
    let alerts = if n.missed.len() == 1 { "alert" } else { "alerts" };
    let day = |at: DateTime<Utc>| at.format("%-d %b").to_string();
    let from = n.missed.iter().map(|it| it.opened_at).min().unwrap_or(n.opened_at);
    let to = n.missed.iter().map(|it| it.resolved_at).max().unwrap_or(n.at);
    let days = if day(from) == day(to) { day(to) } else { format!("{} to {}", day(from), day(to)) };
    format!("{who}: {} {alerts} already over, {days}", n.missed.len())
}

fn text(headline: &str, entries: &[Entry], more: Option<&str>, link: Option<&str>) -> String {
    let mut lines = vec![format!("{headline}."), INTRODUCTION.to_owned()];
    for entry in entries {
        lines.push(String::new());
        lines.push(entry.title.clone());
        lines.extend(entry.lines.iter().map(|line| format!("  {line}")));
    }
    if let Some(more) = more {
        lines.extend([String::new(), more.to_owned()]);
    }
    lines.push(String::new());
    lines.extend(link.map(|link| format!("See details: {link}")));
    lines.push(NOTE.to_owned());
    lines.join("\n") + "\n"
}

fn page(headline: &str, entries: &[Entry], more: Option<&str>, link: Option<&str>) -> String {
    let rows = html! {
        (row("24px 24px 0", html! {
            h1 style="margin:0;font-size:24px;font-weight:600;line-height:1.25" { (Text(headline)) }
            div style="padding-top:8px" { (INTRODUCTION) }
        }))
        @for entry in entries {
            (row("20px 24px 0", html! {
                div style="border-top:1px solid #e3e7ea;padding-top:12px;font-weight:600" { (Text(&entry.title)) }
                @for line in &entry.lines[..2] { div { (Text(line)) } }
                div style=(small()) { (Text(&entry.lines[2])) }
            }))
        }
        @if let Some(more) = more { (row("20px 24px 0", html! { (Text(more)) })) }
        @if let Some(link) = link {
            (row("28px 24px 0", html! { a href=(link) style=(BUTTON) { "See details" } }))
        }
        (row("24px", html! { span style=(small()) { (NOTE) } }))
    };
    html::page(headline, None, CALM, &rows)
}
