//! The weekly digest as a mail and as a page of its own; pure.
//!
//! **Invariant.** As for other mails: text and HTML say the same, nothing is loaded from elsewhere, and strings from tweets and
//! settings are escaped in HTML and cannot add a line to the text.

mod html;

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};

use super::words::{count, length};
use super::{Mail, Picture};
use crate::curve::{self, Curve, Shows};
use crate::phases;
use crate::words::line;
use monitor_core::digest::{BrandWeek, Digest, WeekFigures, WeekIncident, WeekTweet};
use monitor_core::format::{percent, percent_interval, thousands};
use monitor_store::Example;

/// Brands shown, at most.
const BRANDS_MAX: usize = 20;
/// Incidents shown of a brand, at most.
const INCIDENTS_MAX: usize = 10;
/// Languages named, at most.
const LANGUAGES_MAX: usize = 4;
/// Characters shown of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;
/// Characters shown of a name, at most.
const WORD_CHARS_MAX: usize = 64;
/// Minutes of a point of the curve.
const POINT_MINUTES: u32 = 60;

const NOTE: &str = "The share is that of the tweets that a model calls negative; it makes mistakes. \u{201c}Corrected\u{201d} is \
    what people would call negative, once 200 tweets of a brand have labels, with a 95 % interval. All times are in UTC.";

/// What a digest says, in order. Strings have no line breaks.
struct Content<'a> {
    title: String,
    /// A row for each brand: name, share, change, tweets, change, share of voice.
    overview: Vec<[String; 6]>,
    brands: Vec<Section<'a>>,
    rest: Vec<String>,
    link: Option<String>,
}

/// One brand.
struct Section<'a> {
    brand: String,
    headline: String,
    corrected: Option<String>,
    curve: Option<Curve<'a>>,
    incidents: Vec<String>,
    negative: Vec<(String, String)>,
    positive: Vec<(String, String)>,
}

/// The columns of the overview.
const COLUMNS: [&str; 6] = ["Brand", "Negative", "Change", "Tweets", "Change", "Share of voice"];

impl Mail {
    /// Renders a digest; `tweets` have the texts of those that it names. A tweet without a text is left out.
    pub fn of_digest(digest: &Digest, tweets: &[Example]) -> Self {
        let content = Content::of(digest, tweets);
        let curves = content.brands.iter().filter_map(|brand| brand.curve.as_ref());
        let pictures = curves
            .enumerate()
            .map(|(place, curve)| Picture { id: picture_id(place), png: curve::png(curve) });
        Self {
            subject: format!("Monitor: {}", content.title),
            text: content.text(),
            html: html::render(&content, &|place| format!("cid:{}", picture_id(place))),
            pictures: pictures.collect(),
            urgent: false,
        }
    }
}

/// A digest as an HTML page that has its pictures inside; see [`Mail::of_digest`].
pub fn digest_page(digest: &Digest, tweets: &[Example]) -> String {
    let content = Content::of(digest, tweets);
    let curves = content.brands.iter().filter_map(|brand| brand.curve.as_ref());
    let pictures: Vec<String> = curves
        .map(|curve| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(curve::png(curve))))
        .collect();
    html::render(&content, &|place| pictures[place].clone())
}

fn picture_id(place: usize) -> String {
    format!("week-{place}@monitor")
}

impl<'a> Content<'a> {
    fn of(digest: &'a Digest, tweets: &[Example]) -> Self {
        let all: u64 = digest.brands.iter().map(|brand| brand.week.total).sum();
        let shown = &digest.brands[..digest.brands.len().min(BRANDS_MAX)];
        let day = |at: DateTime<Utc>| at.format("%-d %b %Y").to_string();
        // The last moment that belongs to it: a week that ends at midnight ends on the day before.
        let last = digest.to - TimeDelta::seconds(1);
        let mut rest = Vec::new();
        let mut not_judged: Vec<(String, u64)> = Vec::new();
        for (language, tweets) in digest.brands.iter().flat_map(|brand| &brand.not_judged) {
            let language = language.to_string();
            match not_judged.iter_mut().find(|(known, _)| *known == language) {
                Some((_, sum)) => *sum += tweets,
                None => not_judged.push((language, *tweets)),
            }
        }
        not_judged.sort_by_key(|(_, tweets)| std::cmp::Reverse(*tweets));
        let unjudged: u64 = not_judged.iter().map(|(_, tweets)| tweets).sum();
        if unjudged > 0 {
            let named: Vec<String> = not_judged
                .iter()
                .take(LANGUAGES_MAX)
                .map(|(language, tweets)| format!("{language} {}", thousands(*tweets)))
                .collect();
            let others = if not_judged.len() > LANGUAGES_MAX { ", others" } else { "" };
            rest.push(format!(
                "Not judged, because no model knows their language: {} ({}{others}).",
                count(unjudged, "tweet"),
                named.join(", ")
            ));
        }
        rest.push(format!(
            "Records that were no tweets: {} (before: {}).",
            thousands(digest.dead_letters),
            thousands(digest.dead_letters_before)
        ));
        if digest.brands.len() > BRANDS_MAX {
            rest.push(format!("{} more brands are on the page.", digest.brands.len() - BRANDS_MAX));
        }
        rest.push(NOTE.to_owned());
        Self {
            title: format!("{} to {}", day(digest.from), day(last)),
            overview: shown.iter().map(|brand| overview(brand, all)).collect(),
            brands: shown.iter().map(|brand| Section::of(brand, digest, tweets)).collect(),
            rest,
            link: digest.url.as_deref().map(|url| line(url, 2000)),
        }
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.title);
        let widths: Vec<usize> = (0..COLUMNS.len())
            .map(|column| {
                let cells = self.overview.iter().map(|row| row[column].chars().count());
                cells.chain([COLUMNS[column].len()]).max().unwrap_or(0)
            })
            .collect();
        let mut row = |cells: [&str; 6]| {
            let cells: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(out, "{}", cells.join("  ").trim_end());
        };
        row(COLUMNS);
        for cells in &self.overview {
            row(cells.each_ref().map(String::as_str));
        }
        for brand in &self.brands {
            let _ = writeln!(out, "\n== {}\n{}", brand.brand, brand.headline);
            if let Some(corrected) = &brand.corrected {
                let _ = writeln!(out, "{corrected}");
            }
            for incident in &brand.incidents {
                let _ = writeln!(out, "  Alert: {incident}");
            }
            for (title, tweets) in
                [("Negative tweets", &brand.negative), ("Positive tweets", &brand.positive)]
            {
                if !tweets.is_empty() {
                    let _ = writeln!(out, "\n{title} worth reading");
                }
                for (text, caption) in tweets {
                    let _ = writeln!(out, "  \u{201c}{text}\u{201d}\n  {caption}");
                }
            }
        }
        out.push('\n');
        for rest in &self.rest {
            let _ = writeln!(out, "{rest}");
        }
        if let Some(link) = &self.link {
            let _ = writeln!(out, "See details: {link}");
        }
        out
    }
}

fn overview(brand: &BrandWeek, all: u64) -> [String; 6] {
    let (week, before) = (&brand.week, &brand.before);
    let share = |figures: &WeekFigures| figures.share();
    let points = share(week).zip(share(before)).map(|(now, then)| {
        let points = (now * 100.0).round() - (then * 100.0).round();
        format!("{points:+.0} points")
    });
    let volume = (before.total > 0).then(|| {
        let change = (week.total as f64 / before.total as f64 - 1.0) * 100.0;
        // No "-0 %".
        format!("{:+.0} %", change.round() + 0.0)
    });
    let none = || "-".to_owned();
    [
        line(&brand.brand, WORD_CHARS_MAX),
        share(week).map_or_else(none, percent),
        points.unwrap_or_else(none),
        thousands(week.total),
        volume.unwrap_or_else(none),
        if all == 0 { none() } else { percent(week.total as f64 / all as f64) },
    ]
}

impl<'a> Section<'a> {
    fn of(brand: &'a BrandWeek, digest: &Digest, texts: &[Example]) -> Self {
        let (week, before) = (&brand.week, &brand.before);
        let headline = match (week.share(), before.share()) {
            (None, _) => "No tweet in this time.".to_owned(),
            (Some(now), None) => {
                format!(
                    "{} of {} negative; no tweet before.",
                    percent(now),
                    count(week.total, "tweet")
                )
            }
            (Some(now), Some(then)) => format!(
                "{} of {} negative, before {} of {}.",
                percent(now),
                count(week.total, "tweet"),
                percent(then),
                thousands(before.total)
            ),
        };
        let corrected = week.corrected.map(|now| {
            let of = |it: monitor_core::quantify::Estimate| {
                format!(
                    "{} ({})",
                    percent(it.share),
                    percent_interval(it.interval.low, it.interval.high)
                )
            };
            let before =
                before.corrected.map_or(String::new(), |it| format!(", before {}", of(it)));
            format!("Corrected: {}{before}.", of(now))
        });
        let usual = before.share().or(week.share()).unwrap_or(0.0);
        let last_day = digest.to - TimeDelta::days(1);
        let end = brand.curve.iter().filter(|point| point.at >= last_day);
        let (negative, total) =
            end.fold((0, 0), |sum, point| (sum.0 + point.negative, sum.1 + point.total));
        let now = if total > 0 { negative as f64 / total as f64 } else { usual };
        let shows = Shows::Week { before: usual, last_day: now };
        let mut incidents: Vec<String> =
            brand.incidents.iter().take(INCIDENTS_MAX).map(incident).collect();
        if brand.incidents.len() > INCIDENTS_MAX {
            incidents.push(format!("{} more", brand.incidents.len() - INCIDENTS_MAX));
        }
        Self {
            brand: line(&brand.brand, WORD_CHARS_MAX),
            headline,
            corrected,
            curve: Curve::new(&brand.curve, POINT_MINUTES, digest.to, None, shows),
            incidents,
            negative: brand.negative.iter().filter_map(|it| tweet(it, texts)).collect(),
            positive: brand.positive.iter().filter_map(|it| tweet(it, texts)).collect(),
        }
    }
}

fn incident(it: &WeekIncident) -> String {
    let opened = it.opened.format("%-d %b, %H:%M");
    let lasted = match it.resolved {
        Some(end) => format!("lasted {}", length((end - it.opened).num_minutes().unsigned_abs())),
        None => "still open".to_owned(),
    };
    let who = match &it.acknowledged {
        Some(who) => format!("acknowledged by {}", line(who, WORD_CHARS_MAX)),
        None => "acknowledged by nobody".to_owned(),
    };
    let severity = line(&it.severity, WORD_CHARS_MAX);
    format!(
        "{opened}: {}; {severity}, {lasted}, {who} (incident {})",
        phases::size(&it.evidence),
        it.id
    )
}

fn tweet(it: &WeekTweet, texts: &[Example]) -> Option<(String, String)> {
    let found = texts.iter().find(|text| text.tweet_id == it.tweet_id)?;
    let at = found.created_at.format("%-d %b, %H:%M");
    let sure = percent(f64::from(it.probability));
    Some((line(&found.text, TWEET_CHARS_MAX), format!("{at}, the model is {sure} sure")))
}
