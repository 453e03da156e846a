//! The page as HTML; pure.
//!
//! **Invariant.** One document, no resource from elsewhere; every word from outside goes
//! through [`html_escape`]. It can be read without scripts; with them it renews itself.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use html_escape::encode_text as text;

use super::view::{BrandView, View};
use super::{Ready, chart};
use monitor_core::domain::{Evidence, Incident, Minute};

/// Renews the page's content every few seconds while it is looked at.
pub const SCRIPT: &str = "
setInterval(async () => {
  if (document.hidden || String(getSelection())) return;
  try {
    const answer = await fetch(location.pathname);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    document.querySelector('main').replaceWith(page.querySelector('main'));
  } catch { document.querySelector('#age').textContent = 'no answer from the daemon'; }
}, 5000);
";

const STYLE: &str = include_str!("page.css");

/// Draws the page from what the store told, or why it did not.
pub fn render(view: Result<&View, &str>, ready: &Ready, now: DateTime<Utc>) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let _ = writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title>\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\
         <style>{STYLE}</style></head>\n<body><main>",
        title(view),
    );
    header(&mut out, ready, now);
    match view {
        Ok(view) => body(&mut out, view),
        Err(error) => {
            let _ = write!(
                out,
                "<section class=\"alarm\"><h2>The store cannot be read</h2><p>{}</p>\
                 <p class=\"quiet\">This page looks again by itself.</p></section>",
                text(error),
            );
        }
    }
    let _ = writeln!(out, "</main>\n<script>{SCRIPT}</script></body></html>");
    out
}

fn title(view: Result<&View, &str>) -> String {
    match view.map(|v| v.open().count()) {
        Ok(0) | Err(_) => "Monitor".to_owned(),
        Ok(open) => format!("({open}) Monitor"),
    }
}

fn header(out: &mut String, ready: &Ready, now: DateTime<Utc>) {
    let _ = write!(
        out,
        "<header><h1>Monitor</h1><span id=\"age\" class=\"quiet\">as of {}</span>\
         <ul class=\"parts\">",
        now.format("%H:%M:%S UTC"),
    );
    for (part, state) in &ready.parts {
        let class = if state == "ready" { "good" } else { "bad" };
        let _ = write!(out, "<li class=\"{class}\">{}: {}</li>", text(part), text(state));
    }
    out.push_str("</ul></header>\n");
}

fn body(out: &mut String, view: &View) {
    for incident in view.open() {
        open_incident(out, incident);
    }
    out.push_str("<section class=\"totals\">");
    let t = view.totals;
    for (number, label) in [
        (t.scores, "tweets scored"),
        (t.dead_letters, "records that are no tweets"),
        (t.outbox_pending, "notifications waiting"),
        (t.outbox_dead, "notifications given up"),
    ] {
        let _ = write!(out, "<div><b>{}</b>{label}</div>", grouped(number));
    }
    out.push_str("</section>\n<section class=\"brands\">");
    for brand in &view.brands {
        brand_card(out, brand);
    }
    out.push_str("</section>\n");
    if view.brands.is_empty() {
        out.push_str("<p class=\"quiet\">No brand is configured.</p>");
    } else {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">Curve: share of negative tweets over {} hours (where there are {} \
             tweets or more). Bars: tweets by the hour, negative ones in red. Red bands: alerts, \
             with the expected share dashed. All times are the tweets' own, in UTC.</p>",
            chart::POINT_HOURS,
            chart::POINT_TWEETS_MIN,
        );
    }
    incident_list(out, &view.latest);
}

fn open_incident(out: &mut String, incident: &Incident) {
    let taken = incident.acknowledged.as_ref().map_or(String::new(), |a| {
        format!(" Taken on by {} at {}.", text(&a.by), a.at.format("%H:%M UTC"))
    });
    let _ = writeln!(
        out,
        "<section class=\"alarm\"><h2>{}: {}</h2>{}<p>Since {}, {}. {}.{taken}</p></section>",
        text(&incident.brand),
        headline(&incident.evidence),
        bullet(incident),
        moment(incident.opened),
        incident.severity.as_str(),
        detail(incident),
    );
}

/// What it is, in a few words.
fn headline(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Share(e) => format!(
            "<b>{}</b> negative, expected {}",
            percent(e.observed_share()),
            percent(e.expected_share)
        ),
        Evidence::Surge(e) => {
            format!("<b>{}</b> tweets, expected {:.0}", grouped(e.observed), e.expected)
        }
        Evidence::Quiet(e) => format!("<b>no tweets</b> for {} minutes", e.minutes),
        Evidence::Lag(e) => format!("<b>{} minutes</b> behind the stream", e.behind_minutes),
    }
}

/// What it stands on.
fn detail(incident: &Incident) -> String {
    match &incident.evidence {
        Evidence::Share(e) => format!(
            "{} of {} tweets in {} minutes, usual {} of {}",
            grouped(e.observed.negative),
            grouped(e.observed.total),
            incident.opened.0 - e.since.0 + 1,
            grouped(e.baseline.negative),
            grouped(e.baseline.total),
        ),
        Evidence::Surge(e) => {
            format!("in {} minutes", incident.opened.0 - e.since.0 + 1)
        }
        Evidence::Quiet(e) => format!("{:.0} were to be expected", e.expected_tweets),
        Evidence::Lag(e) => format!("more than {} minutes are an alert", e.limit_minutes),
    }
}

fn brand_card(out: &mut String, brand: &BrandView) {
    let class = if brand.open().is_some() { " open" } else { "" };
    let _ = write!(out, "<article class=\"card{class}\"><h2>{}</h2>", text(&brand.name));
    match (brand.day.share(), brand.newest) {
        (Some(share), Some(newest)) => {
            let _ = write!(
                out,
                "<p><b>{}</b> negative of {} tweets in the 24 hours to {}</p>{}",
                percent(share),
                grouped(brand.day.total),
                moment(newest),
                chart::draw(brand),
            );
        }
        _ => out.push_str("<p class=\"quiet\">No tweet yet.</p>"),
    }
    out.push_str("</article>\n");
}

fn incident_list(out: &mut String, latest: &[Incident]) {
    out.push_str("<section class=\"card list\"><h2>Alerts</h2>");
    if latest.is_empty() {
        out.push_str("<p class=\"quiet\">None so far.</p>");
    }
    for incident in latest {
        let (class, end) = match incident.resolved {
            Some(resolved) => ("", format!("ended {}", moment(resolved))),
            None => (" open", "still open".to_owned()),
        };
        let _ = writeln!(
            out,
            "<div class=\"row{class}\" id=\"incident-{}\"><div class=\"who\"><b>{}</b>\
             <span class=\"quiet\">{}<br>{end}</span></div>{}\
             <div class=\"what\">{}<span class=\"quiet\">{}; {}</span></div></div>",
            incident.id,
            text(&incident.brand),
            moment(incident.opened),
            bullet(incident),
            headline(&incident.evidence),
            incident.severity.as_str(),
            detail(incident),
        );
    }
    out.push_str("</section>\n");
}

/// Observed against expected share, as one bar from 0 to 100 %; none for other causes.
fn bullet(incident: &Incident) -> String {
    let Some(e) = incident.evidence.share() else {
        return "<span class=\"bullet\"></span>".into();
    };
    let (seen, usual) = (e.observed_share() * 100.0, e.expected_share * 100.0);
    format!(
        "<svg class=\"bullet\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{seen:.0} percent observed, {usual:.0} percent expected\">\
         <rect class=\"track\" width=\"100\" height=\"10\"/>\
         <rect class=\"negative\" width=\"{seen:.1}\" height=\"10\"/>\
         <rect class=\"all\" width=\"{:.1}\" height=\"10\"/>\
         <rect class=\"mark\" x=\"{:.1}\" width=\"0.4\" height=\"10\"/></svg>",
        usual.min(seen),
        usual - 0.2,
    )
}

/// A share in whole percent.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn moment(minute: Minute) -> String {
    minute.start().format("%-d %b %Y, %H:%M").to_string()
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    if head > 0 {
        groups.push(&digits[..head]);
    }
    let mut rest = &digits[head..];
    while !rest.is_empty() {
        let (group, after) = rest.split_at(3);
        groups.push(group);
        rest = after;
    }
    groups.join(",")
}
