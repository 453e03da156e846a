//! What a mail says, as text and as HTML, in the words of a communications team; pure.
//!
//! **Invariant.** The mail is a function of the notification and the page's address: the
//! same in every attempt. Whatever comes from a tweet or the settings is escaped in HTML
//! and cannot break a line in the text or the subject. No image or style is fetched.
//! Deliberately absent: a template language, and pictures as attachments; the curve is a
//! table of bars, which shows in clients that block images.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use html_escape::{encode_double_quoted_attribute as attribute, encode_text as text};

use crate::store::{CurvePoint, Notification, Tally};

/// Bars in the picture, at most.
const BARS_MAX: usize = 24;
/// Height of the picture, in pixels.
const BARS_PX: f64 = 96.0;
/// Characters shown of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;

const RED: &str = "#c62828";
const GREEN: &str = "#2e7d32";
const GREY: &str = "#90a4ae";

/// A mail's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject: brand first, short enough for a phone's list.
    pub subject: String,
    /// The body for clients that show text.
    pub text: String,
    /// The body for clients that show HTML.
    pub html: String,
}

impl Mail {
    /// Words a notification; `public_url` is where the page is, without a slash at its end.
    pub fn of(n: &Notification, public_url: Option<&str>) -> Self {
        let link = public_url.map(|url| format!("{url}/#incident-{}", n.incident_id));
        Self {
            subject: subject(n),
            text: plain(n, link.as_deref()),
            html: html(n, link.as_deref()),
        }
    }
}

fn is_opened(n: &Notification) -> bool {
    n.transition == "opened"
}

fn subject(n: &Notification) -> String {
    let (brand, now, expected) =
        (one_line(&n.brand), percent(n.observed.share), percent(n.expected_share));
    if is_opened(n) {
        format!("{brand}: {now} negative, expected {expected}")
    } else {
        format!("{brand}: alert ended, {now} negative, expected {expected}")
    }
}

/// Says "ended", not "over": the share may have stayed up and become the new normal. The
/// reason sentence tells which.
fn headline(n: &Notification) -> String {
    let (brand, now) = (one_line(&n.brand), percent(n.observed.share));
    if is_opened(n) {
        format!("{now} of the tweets about {brand} are negative")
    } else {
        format!("{brand}: the alert has ended")
    }
}

/// When it began, and where it ended for how long it lasted.
fn period(n: &Notification) -> String {
    if is_opened(n) {
        format!("Bad buzz since {}.", moment(n.opened_at))
    } else {
        let minutes = (n.at - n.opened_at).num_minutes().unsigned_abs();
        format!("From {} to {}: {}.", moment(n.opened_at), moment(n.at), length(minutes))
    }
}

fn of_tweets(tally: Tally) -> String {
    format!("{} of {} tweets", grouped(tally.negative), grouped(tally.total))
}

/// A bar's share and counts.
fn detail(tally: Tally) -> String {
    match tally.total {
        0 => "no tweets".to_owned(),
        _ => format!("{:>5}  {}", percent(tally.share), of_tweets(tally)),
    }
}

fn plain(n: &Notification, link: Option<&str>) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("{}.", headline(n)));
    line(&period(n));
    line("");
    line(&format!("  Negative now  {:>5}   {}", percent(n.observed.share), of_window(n)));
    line(&format!("  Expected      {:>5}   {}", percent(n.expected_share), from_baseline(n)));
    line("");
    line(&format!("Why: {}", one_line(&n.reason)));
    if !n.curve.is_empty() {
        line("");
        line("Share of negative tweets over time (UTC)");
        for bar in bars(&n.curve, 12) {
            let share = bar.tally.share;
            let picture = "█".repeat((share * 20.0).round() as usize);
            let (at, detail) = (bar.at.format("%H:%M"), detail(bar.tally));
            line(&format!("  {at}  {picture:<20} {detail}"));
        }
    }
    if !n.examples.is_empty() {
        line("");
        line("Most negative tweets");
        for example in &n.examples {
            line("");
            line(&format!("  “{}”", tweet(&example.text)));
            line(&format!("  {}", caption(example.created_at, example.negative)));
        }
    }
    if let Some(link) = link {
        line("");
        line(&format!("Look closer: {link}"));
    }
    line("");
    line(&format!("Incident {}. {NOTE}", n.incident_id));
    out
}

const NOTE: &str = "All times are the tweets' own, in UTC. A model judged each tweet; \
                    it errs on some, so read a few before you act.";

fn of_window(n: &Notification) -> String {
    format!("{} in {}", of_tweets(n.observed), last(n.window_minutes))
}

fn from_baseline(n: &Notification) -> String {
    format!("from the brand's usual: {}", of_tweets(n.baseline))
}

fn caption(at: DateTime<Utc>, negative: f32) -> String {
    format!("{}, {} sure", moment(at), percent(f64::from(negative)))
}

fn html(n: &Notification, link: Option<&str>) -> String {
    let colour = if is_opened(n) { RED } else { GREEN };
    let mut out = String::with_capacity(8 * 1024);
    let mut add = |part: &str| out.push_str(part);
    add("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    add("<meta name=\"viewport\" content=\"width=device-width\">");
    add("<meta name=\"color-scheme\" content=\"light\"></head>\n");
    add("<body style=\"margin:0;background:#eceff1;color:#212121;\
         font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;\
         font-size:16px;line-height:1.45\">\n");
    add("<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\">\
         <tr><td align=\"center\" style=\"padding:16px 8px\">\n");
    add(&format!(
        "<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"max-width:600px;background:#ffffff;border-top:6px solid {colour}\">\n"
    ));
    add(&format!(
        "<tr><td style=\"padding:24px 24px 0\">\
         <div style=\"font-size:22px;font-weight:600;line-height:1.25\">{}</div>\
         <div style=\"color:#546e7a;padding-top:6px\">{}</div></td></tr>\n",
        text(&headline(n)),
        text(&period(n)),
    ));
    add("<tr><td style=\"padding:20px 24px 0\"><table role=\"presentation\" width=\"100%\" \
         cellpadding=\"0\" cellspacing=\"0\"><tr>\n");
    add(&figure("Negative now", n.observed.share, &of_window(n), colour));
    add(&figure("Expected", n.expected_share, &from_baseline(n), "#455a64"));
    add("</tr></table></td></tr>\n");
    if !n.curve.is_empty() {
        add(&picture(n));
    }
    add(&format!(
        "<tr><td style=\"padding:20px 24px 0\"><b>Why</b><br>{}</td></tr>\n",
        text(&one_line(&n.reason)),
    ));
    if !n.examples.is_empty() {
        add("<tr><td style=\"padding:20px 24px 0\"><b>Most negative tweets</b></td></tr>\n");
    }
    for example in &n.examples {
        add(&format!(
            "<tr><td style=\"padding:10px 24px 0\"><div style=\"border-left:3px solid {GREY};\
             padding:2px 0 2px 12px\">{}<div style=\"color:#78909c;font-size:13px\">{}</div>\
             </div></td></tr>\n",
            text(&tweet(&example.text)),
            text(&caption(example.created_at, example.negative)),
        ));
    }
    if let Some(link) = link {
        add(&format!(
            "<tr><td style=\"padding:24px 24px 0\"><a href=\"{}\" style=\"background:#37474f;\
             color:#ffffff;text-decoration:none;padding:10px 18px;border-radius:4px;\
             display:inline-block\">Look closer</a></td></tr>\n",
            attribute(link),
        ));
    }
    add(&format!(
        "<tr><td style=\"padding:24px;color:#78909c;font-size:13px\">Incident {}. {NOTE}</td>\
         </tr>\n</table>\n</td></tr></table></body></html>\n",
        n.incident_id,
    ));
    out
}

fn figure(title: &str, share: f64, detail: &str, colour: &str) -> String {
    format!(
        "<td width=\"50%\" valign=\"top\" style=\"padding-right:12px\">\
         <div style=\"color:#546e7a;font-size:13px\">{title}</div>\
         <div style=\"color:{colour};font-size:34px;font-weight:600;line-height:1.2\">{}</div>\
         <div style=\"color:#546e7a;font-size:13px\">{}</div></td>\n",
        percent(share).replace(' ', "&nbsp;"),
        text(detail),
    )
}

/// Bars of share over time: grey up to the expected share, red for what lies above.
fn picture(n: &Notification) -> String {
    let bars = bars(&n.curve, BARS_MAX);
    let (mut columns, mut labels) = (String::new(), String::new());
    for (place, bar) in bars.iter().enumerate() {
        let usual = (bar.tally.share.min(n.expected_share) * BARS_PX).round();
        let above = (bar.tally.share * BARS_PX).round() - usual;
        let _ = write!(
            columns,
            "<td valign=\"bottom\" height=\"{BARS_PX}\" title=\"{}  {}\" \
             style=\"vertical-align:bottom;padding:0 1px\">",
            bar.at.format("%H:%M"),
            detail(bar.tally),
        );
        for (height, colour) in [(above, RED), (usual, GREY)] {
            if height > 0.0 {
                let _ = write!(
                    columns,
                    "<div style=\"height:{height}px;background:{colour};font-size:0;\
                     line-height:0\">&nbsp;</div>",
                );
            }
        }
        columns.push_str("</td>\n");
        if place % 6 == 0 {
            let span = (bars.len() - place).min(6);
            let _ = write!(
                labels,
                "<td colspan=\"{span}\" style=\"color:#78909c;font-size:12px\">{}</td>",
                bar.at.format("%H:%M"),
            );
        }
    }
    format!(
        "<tr><td style=\"padding:24px 24px 0\"><b>Share of negative tweets over time</b>\
         <div style=\"color:#546e7a;font-size:13px;padding-bottom:8px\">\
         <span style=\"color:{RED}\">&#9632;</span> above the expected {} \
         <span style=\"color:{GREY}\">&#9632;</span> up to it</div>\
         <table role=\"img\" aria-label=\"{}\" width=\"100%\" cellpadding=\"0\" \
         cellspacing=\"0\" style=\"table-layout:fixed;border-bottom:1px solid #b0bec5\">\
         <tr>\n{columns}</tr></table>\
         <table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"table-layout:fixed\"><tr>{labels}</tr></table></td></tr>\n",
        percent(n.expected_share).replace(' ', "&nbsp;"),
        attribute(&spoken(&bars)),
    )
}

/// The picture in a sentence, for those who hear it.
fn spoken(bars: &[Bar]) -> String {
    let shares: Vec<_> =
        bars.iter().filter(|b| b.tally.total > 0).map(|b| percent(b.tally.share)).collect();
    match (shares.first(), shares.last()) {
        (Some(first), Some(last)) => {
            format!("The share of negative tweets went from {first} to {last}.")
        }
        _ => "There were no tweets.".to_owned(),
    }
}

struct Bar {
    at: DateTime<Utc>,
    tally: Tally,
}

/// The curve in at most `limit` bars of equally many points.
fn bars(curve: &[CurvePoint], limit: usize) -> Vec<Bar> {
    curve
        .chunks(curve.len().div_ceil(limit).max(1))
        .map(|points| {
            let counts = crate::domain::Counts {
                total: points.iter().map(|p| p.total).sum(),
                negative: points.iter().map(|p| p.negative).sum(),
            };
            Bar { at: points[0].at, tally: counts.into() }
        })
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A time for people, in UTC, to the minute.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%-d %b %Y, %H:%M UTC").to_string()
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
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

/// A length of time in words.
fn length(minutes: u64) -> String {
    let unit = |n: u64, noun: &str| match n {
        0 => None,
        1 => Some(format!("1 {noun}")),
        n => Some(format!("{n} {noun}s")),
    };
    let parts = [
        unit(minutes / 1440, "day"),
        unit(minutes / 60 % 24, "hour"),
        unit(minutes % 60, "minute"),
    ];
    let words: Vec<_> = parts.into_iter().flatten().collect();
    if words.is_empty() { "less than a minute".into() } else { words.join(" ") }
}

/// The window in words: "the last hour", "the last 90 minutes".
fn last(minutes: u32) -> String {
    let many = |n: u32, noun: &str| match n {
        1 => format!("the last {noun}"),
        n => format!("the last {n} {noun}s"),
    };
    match minutes {
        m if m % 1440 == 0 => many(m / 1440, "day"),
        m if m % 60 == 0 => many(m / 60, "hour"),
        m => many(m, "minute"),
    }
}

/// A text on one line: white space runs become one space; control characters and marks
/// that turn the direction of writing are left out.
fn one_line(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control() && !('\u{202A}'..='\u{202E}').contains(c))
        .filter(|c| !('\u{2066}'..='\u{2069}').contains(c))
        .collect();
    shown.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn tweet(text: &str) -> String {
    let line = one_line(text);
    if line.chars().count() <= TWEET_CHARS_MAX {
        return line;
    }
    let cut: String = line.chars().take(TWEET_CHARS_MAX).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
pub(super) mod fixtures;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_read_well() {
        for transition in ["opened", "resolved"] {
            let row = fixtures::row(transition);
            let mail = Mail::of(&row.notification, Some("https://monitor.example.com"));
            insta::assert_snapshot!(format!("{transition}_subject"), mail.subject);
            insta::assert_snapshot!(format!("{transition}_text"), mail.text);
            insta::assert_snapshot!(format!("{transition}_html"), mail.html);
        }
    }

    #[test]
    fn nothing_slips_in() {
        let mut n = fixtures::row("opened").notification;
        n.brand = "<script>alert(1)</script>\r\nBcc: all@example.com".into();
        n.reason = "a <b>bold</b> reason".into();
        n.examples[0].text = "<img src=x onerror=alert(1)>\u{202E}\n\n\"quoted\" & more".into();
        let mail = Mail::of(&n, Some("https://example.com/\"><script>"));
        for tag in ["<script", "<img", "<b>bold"] {
            assert!(!mail.html.contains(tag), "{tag}");
        }
        assert!(!mail.subject.contains(['\r', '\n']), "{:?}", mail.subject);
        assert!(mail.text.contains("“<img src=x onerror=alert(1)> \"quoted\" & more”"));
    }

    #[test]
    fn bare_notifications_have_mails_too() {
        let mut n = fixtures::row("opened").notification;
        n.examples.clear();
        n.curve.clear();
        let mail = Mail::of(&n, None);
        for heading in ["over time", "Most negative", "Look closer", "href"] {
            assert!(!mail.text.contains(heading) && !mail.html.contains(heading), "{heading}");
        }
    }

    #[test]
    fn words() {
        let check = |name, found: String, expected: &str| assert_eq!(found, expected, "{name}");
        check("window of an hour", last(60), "the last hour");
        check("window of 90 minutes", last(90), "the last 90 minutes");
        check("window of 2 days", last(2880), "the last 2 days");
        check("length", length(1440 + 61), "1 day 1 hour 1 minute");
        check("round length", length(120), "2 hours");
        check("no length", length(0), "less than a minute");
        check("small number", grouped(999), "999");
        check("large number", grouped(1_234_567), "1,234,567");
        check("share", percent(0.7849), "78 %");
        check("long tweet", tweet(&"word ".repeat(200)).chars().last().into_iter().collect(), "…");
    }

    #[test]
    fn a_long_curve_becomes_few_bars() {
        let check = |name, points: usize, limit, expected| {
            let point = fixtures::row("opened").notification.curve[0].clone();
            assert_eq!(bars(&vec![point; points], limit).len(), expected, "{name}");
        };
        check("none", 0, 24, 0);
        check("fewer", 5, 24, 5);
        check("as many", 24, 24, 24);
        check("more", 25, 24, 13);
        check("a day of minutes", 1440, 24, 24);
    }
}
