//! The page as HTML; pure.
//!
//! **Invariant.** Loads nothing from elsewhere; `maud` escapes every string that is not a literal.
//! What is drawn here is for readers without scripts, and refreshes itself; with scripts
//! `assets/app.js` puts the living page in its place.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use monitor_core::domain::{Cause, Evidence, Incident, Minute, Phase};
use monitor_core::format::{percent, percent_interval, thousands};
use monitor_core::quantify::Estimate;
use monitor_core::text::language::name;
use monitor_core::words::{marked, marked_line};
use monitor_store::Example;

use super::view::{BrandView, View};
use super::{Ready, assets, chart};

/// Languages without a model that a brand's card names.
const LANGUAGES_NAMED_MAX: usize = 3;
/// Tweets shown of an open incident, at most.
const EXAMPLES_MAX: usize = 3;
/// Characters shown of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;

/// Renders the page from what the store returned, or the reason why the store cannot be read.
pub fn render(view: Result<&View, &str>, ready: &Ready, now: DateTime<Utc>) -> String {
    let files = assets::folder();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title(view)) }
                noscript { meta http-equiv="refresh" content="10"; }
                link rel="icon" href={ (files) "/icon.svg" };
                link rel="stylesheet" href={ (files) "/uPlot.css" };
                link rel="stylesheet" href={ (files) "/page.css" };
                script src={ (files) "/early.js" } {}
                @for name in assets::modules() {
                    link rel="modulepreload" href={ (files) "/" (name) };
                }
                script src={ (files) "/uPlot.js" } defer {}
                script src={ (files) "/app.js" } type="module" {}
            }
            body {
                main id="plain" {
                    (header(ready, now))
                    @match view {
                        Ok(view) => (body(view)),
                        Err(error) => section class="alarm" {
                            h2 { "The store cannot be read" }
                            p { (error) }
                            p class="quiet" { "This page tries again by itself." }
                        },
                    }
                }
            }
        }
    };
    page.into_string()
}

fn title(view: Result<&View, &str>) -> String {
    match view.map(|v| v.open().count()) {
        Ok(0) | Err(_) => "Monitor".to_owned(),
        Ok(open) => format!("({open}) Monitor"),
    }
}

fn header(ready: &Ready, now: DateTime<Utc>) -> Markup {
    html! {
        header {
            h1 { "Monitor" }
            span id="age" class="quiet" { "as of " (now.format("%H:%M:%S UTC")) }
            ul class="parts" {
                @for (part, state) in &ready.parts {
                    li class=(if state == "ready" { "good" } else { "bad" }) { (part) ": " (state) }
                }
            }
        }
    }
}

fn body(view: &View) -> Markup {
    let t = view.totals;
    let totals = [
        (t.scores, "tweets scored"),
        (t.not_judged, "tweets in other languages"),
        (t.dead_letters, "records that are not tweets"),
        (t.outbox_pending, "notifications waiting"),
        (t.outbox_dead, "dead notifications"),
    ];
    html! {
        @for incident in view.open() { (open_incident(incident, view.examples.get(&incident.id.0))) }
        section class="totals" {
            @for (number, label) in totals {
                div { b { (thousands(number)) } (label) }
            }
        }
        section class="brands" {
            @for brand in &view.brands { (brand_card(brand)) }
        }
        p class="quiet" {
            @if view.brands.is_empty() {
                "No brand is configured."
            } @else {
                "Curve: share of negative tweets over " (chart::POINT_HOURS) " hours (if there are "
                (chart::POINT_TWEETS_MIN) " tweets or more). Bars: tweets per hour, negative ones "
                "in red. Red bands: alerts, with the expected share as a dashed line. All times "
                "are the tweets' own, in UTC."
            }
        }
        (incident_list(&view.latest))
    }
}

fn open_incident(incident: &Incident, examples: Option<&Vec<Example>>) -> Markup {
    let examples = examples.map_or(&[][..], Vec::as_slice);
    html! {
        section class="alarm" {
            h2 { (incident.brand) ": " (headline(&incident.evidence)) }
            (bullet(incident))
            p {
                "Since " (moment(incident.opened)) ", " (incident.severity.as_str()) "; "
                (detail(incident)) "."
                @if let Some(a) = &incident.acknowledged {
                    " Acknowledged by " (a.by) " at " (a.at.format("%H:%M UTC")) "."
                }
            }
            @if !examples.is_empty() {
                h3 { "Tweets when it opened" }
                @for example in examples.iter().take(EXAMPLES_MAX) { (tweet(example)) }
                @if examples.iter().any(|it| !marked(&it.text, &it.words).is_empty()) {
                    p class="quiet" {
                        "Marked: the words that made the model call the tweet negative."
                    }
                }
            }
        }
    }
}

/// A tweet in which the words that made it negative are marked.
fn tweet(example: &Example) -> Markup {
    let marks = marked(&example.text, &example.words);
    html! {
        blockquote {
            @for piece in marked_line(&example.text, &marks, TWEET_CHARS_MAX) {
                @if piece.marked { mark { (piece.text) } } @else { (piece.text) }
            }
            span class="quiet" {
                @if let Some(author) = &example.author { "@" (author.trim_start_matches('@')) ", " }
                (example.created_at.format("%-d %b %Y, %H:%M"))
                @if example.alike > 1 { ", posted " (thousands(example.alike)) " times" }
            }
        }
    }
}

/// The incident in a few words.
fn headline(evidence: &Evidence) -> Markup {
    html! {
        @match evidence {
            Evidence::Share(e) => {
                b { (percent(e.observed_share())) } " negative, expected " (percent(e.expected_share))
            },
            Evidence::NegativeVolume(e) => {
                b { (thousands(e.observed)) } " negative tweets, expected "
                (format!("{:.0}", e.expected))
            },
            Evidence::Surge(e) => {
                b { (thousands(e.observed)) } " tweets, expected " (format!("{:.0}", e.expected))
            },
            Evidence::Quiet(e) | Evidence::BrandQuiet(e) => { b { "no tweets" } " for " (e.minutes) " minutes" },
            Evidence::Lag(e) => { b { (e.behind_minutes) " minutes" } " behind the stream" },
        }
    }
}

/// The numbers behind the headline.
fn detail(incident: &Incident) -> String {
    match &incident.evidence {
        Evidence::Share(e) => format!(
            "{} of {} tweets in {} minutes, baseline {} of {}",
            thousands(e.observed.negative),
            thousands(e.observed.total),
            incident.opened.0 - e.since.0 + 1,
            thousands(e.baseline.negative),
            thousands(e.baseline.total),
        ),
        Evidence::NegativeVolume(e) => format!(
            "{} of {} tweets in {} minutes",
            thousands(e.tweets.negative),
            thousands(e.tweets.total),
            incident.opened.0 - e.since.0 + 1,
        ),
        Evidence::Surge(e) => {
            format!("in {} minutes", incident.opened.0 - e.since.0 + 1)
        }
        Evidence::Quiet(e) | Evidence::BrandQuiet(e) => {
            format!("{:.0} tweets expected in that time", e.expected_tweets)
        }
        Evidence::Lag(e) => format!("alert from {} minutes", e.limit_minutes),
    }
}

fn brand_card(brand: &BrandView) -> Markup {
    html! {
        article.card.open[brand.open().is_some()] {
            h2 { (brand.name) }
            @if let (Some(share), Some(newest)) = (brand.day.share(), brand.newest) {
                p {
                    b { (percent(share)) } " negative of " (thousands(brand.day.total))
                    " tweets in the 24 hours to " (moment(newest))
                }
                @if let Some(Estimate { share, interval, .. }) = brand.corrected {
                    p class="quiet" {
                        "Corrected for the model's errors: " b { (percent(share)) } " (likely "
                        (percent_interval(interval.low, interval.high)) ")"
                    }
                }
                @if let Some(not_judged) = not_judged(brand) { p class="quiet" { (not_judged) } }
                (chart::draw(brand))
            } @else {
                p class="quiet" { "No tweet yet." }
            }
        }
    }
}

/// How many tweets of the day have no score, and their languages.
fn not_judged(brand: &BrandView) -> Option<String> {
    let total: u64 = brand.not_judged.iter().map(|(_, tweets)| tweets).sum();
    let named: Vec<String> = (brand.not_judged.iter().take(LANGUAGES_NAMED_MAX))
        .map(|(language, tweets)| format!("{} {}", thousands(*tweets), name(language)))
        .collect();
    let others = if brand.not_judged.len() > LANGUAGES_NAMED_MAX { " and others" } else { "" };
    (total > 0).then(|| {
        format!("Not judged, no model for it: {} ({}{others})", thousands(total), named.join(", "))
    })
}

fn incident_list(latest: &[Incident]) -> Markup {
    html! {
        section class="card list" {
            h2 { "Alerts" }
            @if latest.is_empty() {
                p class="quiet" { "None so far." }
            }
            @for incident in latest { (incident_row(incident)) }
        }
    }
}

fn incident_row(incident: &Incident) -> Markup {
    html! {
        div.row.open[incident.resolved.is_none()] id={ "incident-" (incident.id) } {
            div class="who" {
                b { (incident.brand) }
                span class="quiet" {
                    (moment(incident.opened))
                    br;
                    @match incident.resolved {
                        Some(resolved) => { "ended " (moment(resolved)) },
                        None => "still open",
                    }
                }
            }
            (bullet(incident))
            div class="what" {
                (headline(&incident.evidence))
                span class="quiet" { (incident.severity.as_str()) "; " (detail(incident)) }
                @if let [_, joined @ ..] = &incident.phases[..] && !joined.is_empty() {
                    span class="quiet" { (joined_by(joined)) }
                }
            }
        }
    }
}

/// The phases that joined an incident after the first one.
fn joined_by(phases: &[Phase]) -> String {
    let of = |phase: &Phase| {
        let what = match phase.cause() {
            Cause::Share => "a higher share of negative tweets",
            Cause::NegativeVolume => "more negative tweets",
            _ => "more tweets",
        };
        let end = phase.ended.map_or(String::new(), |at| format!(" until {}", moment(at)));
        format!("{what} from {}{end}", moment(phase.began))
    };
    format!("joined by {}", phases.iter().map(of).collect::<Vec<_>>().join("; "))
}

/// Observed against expected share, as one bar from 0 to 100 %; empty for other causes.
fn bullet(incident: &Incident) -> Markup {
    let Some(e) = incident.evidence.share() else {
        return html! { span class="bullet" {} };
    };
    let (seen, expected) = (e.observed_share() * 100.0, e.expected_share * 100.0);
    let label = format!("{seen:.0} percent observed, {expected:.0} percent expected");
    let unit = |length: f64| format!("{length:.1}");
    html! {
        svg class="bullet" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"
            aria-label=(label) {
            rect class="track" width="100" height="10" {}
            rect class="negative" width=(unit(seen)) height="10" {}
            rect class="all" width=(unit(expected.min(seen))) height="10" {}
            rect class="mark" x=(unit(expected - 0.2)) width="0.4" height="10" {}
        }
    }
}

fn moment(minute: Minute) -> String {
    minute.start().format("%-d %b %Y, %H:%M").to_string()
}

#[cfg(test)]
mod tests;
