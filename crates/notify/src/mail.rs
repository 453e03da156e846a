//! The content of a mail, worded for a communications team; pure.
//!
//! **Invariant.** The mail depends only on the notification, so it is the same in every attempt, but for the
//! links with which its recipient acts.
//! Text and HTML say the same, because both are rendered from one [`Content`]. Strings from
//! tweets and settings are escaped in HTML and cannot add a line to the text or the subject.
//! All mails of an incident have the same subject, because some clients group threads by
//! subject. The mail loads nothing: styles are inline and the picture is attached; its content
//! is also given in words.
//! Deliberately absent: a template language.

mod digest;
mod figures;
mod headline;
mod html;
mod missed;
mod text;
mod words;

use std::fmt::Write;

use chrono::{DateTime, Utc};

use monitor_core::alerting::Volume;
use monitor_core::domain::{Cause, Counts, Evidence, ShareEvidence, VolumeEvidence};
use monitor_core::format::{percent, thousands};
use monitor_core::words::Piece;
use monitor_store::{Also, Drivers, Example, Notification};

use super::curve::{self, Curve, Shows};
use super::links::Links;
use super::words::{line, marked_text, moment};
use super::{phases, themes};
pub use digest::digest_page;
use figures::figures;
use headline::{headline, is_still_high, period};
use words::{count, sentence};

/// A rendered mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject: begins with the brand, short enough for a phone's list of mails.
    pub subject: String,
    /// The plain-text body.
    pub text: String,
    /// The HTML body; it refers to the pictures by their Content-IDs.
    pub html: String,
    /// What the HTML body shows, if there is something to draw.
    pub pictures: Vec<Picture>,
    /// Whether the mail is marked as urgent.
    pub urgent: bool,
}

/// A picture of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its Content-ID, by which the HTML body refers to it.
    pub id: String,
    /// A PNG file.
    pub png: Vec<u8>,
}

impl Mail {
    /// The Content-ID of the picture.
    pub const CURVE: &str = "curve@monitor";

    /// Renders a notification.
    pub fn of(n: &Notification) -> Self {
        let content = Content::of(n);
        Self::rendered(n, &content, pictures(&content))
    }

    /// Renders a notification for several people, each with links in their name.
    pub(crate) fn personal(n: &Notification, links: &[Links]) -> Vec<Self> {
        let mut content = Content::of(n);
        let pictures = pictures(&content);
        let mail = |links| {
            content.link(links);
            Self::rendered(n, &content, pictures.clone())
        };
        links.iter().map(mail).collect()
    }

    fn rendered(n: &Notification, content: &Content<'_>, pictures: Vec<Picture>) -> Self {
        Self {
            subject: subject(n),
            text: text::render(content),
            html: html::render(content),
            pictures,
            urgent: n.severity == "critical" && n.transition != "resolved" && !n.test,
        }
    }
}

fn pictures(content: &Content<'_>) -> Vec<Picture> {
    let picture = |curve| Picture { id: Mail::CURVE.to_owned(), png: curve::png(curve) };
    content.curve.as_ref().map(picture).into_iter().collect()
}

/// The parts of a mail, in order, before they are rendered as text or HTML. Strings may contain
/// any character except line breaks.
struct Content<'a> {
    /// Selects the colour.
    level: Level,
    /// The level in a word or two: "critical", "update: warning", "ended".
    badge: String,
    /// A warning at the top that this is a test.
    test: Option<&'static str>,
    /// What happened, in one sentence.
    headline: String,
    /// Since when and for how long.
    period: String,
    /// What a client shows next to the subject in its list of mails.
    preview: String,
    /// The numbers, most important first.
    figures: Vec<Figure>,
    /// The picture.
    curve: Option<Curve<'a>>,
    /// The reason, in one sentence.
    why: String,
    /// What has happened so far, if there is more to tell.
    course: Vec<String>,
    /// The statistic and its threshold; in small print.
    measure: Option<String>,
    /// Terms that are typical of the negative tweets.
    drivers: Vec<Driver>,
    /// The groups of tweets among them: what each is about, and who began it when.
    themes: Vec<(String, String)>,
    /// What is repeated or shared, one sentence each.
    repeats: Vec<String>,
    /// Tweets to read.
    examples: Vec<Quote>,
    /// What the marks in them mean; absent without marks.
    legend: Option<&'static str>,
    /// Incidents of other brands.
    also: Vec<String>,
    /// The command that acknowledges the incident.
    hint: Option<String>,
    /// A link to the incident on the page.
    link: Option<String>,
    /// Links with which the recipient acts: what each does, and its address.
    acts: Vec<(String, String)>,
    /// What to know before using one.
    acts_note: Option<String>,
    /// Small print.
    note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Critical,
    Warning,
    Notice,
    Ended,
}

struct Figure {
    title: String,
    number: String,
    detail: String,
    /// Whether this number caused the alert.
    main: bool,
}

struct Driver {
    term: String,
    /// The share of the negative tweets that contain it, in 0..=1.
    share: f64,
    detail: String,
}

struct Quote {
    /// The words that made the tweet negative are marked.
    text: Vec<Piece>,
    caption: String,
    /// The address at which the recipient says that it is not negative.
    not_negative: Option<String>,
}

/// Terms shown, at most.
const TERMS_MAX: usize = 8;
/// Tweets shown, at most.
const EXAMPLES_MAX: usize = 5;
/// Other incidents shown, at most.
const ALSO_MAX: usize = 10;
/// Characters shown of a brand, a severity or a name, at most.
const WORD_CHARS_MAX: usize = 64;
/// Characters shown of a term, at most; links are long.
const TERM_CHARS_MAX: usize = 80;
/// Characters shown of a tweet, at most.
const TWEET_CHARS_MAX: usize = 400;
/// Characters shown of a reason, at most.
const REASON_CHARS_MAX: usize = 600;
/// Characters of a link, at most.
const URL_CHARS_MAX: usize = 2000;
/// Repetitions of one tweet are mentioned from this share on.
const REPEATS_MIN: f64 = 0.1;

const LEGEND: &str = "Marked: the words that made the model call the tweet negative.";
const ACTS_NOTE: &str =
    "Each link asks before it acts, and acts once, in your name: do not forward this mail.";
const TEST: &str = "This is a test of the receiver. Nothing has happened.";
const MODEL_NOTE: &str =
    "A model classified each tweet and makes mistakes, so read some tweets before you act.";

/// The same in all mails of an incident: it must not contain a number that changes.
fn subject(n: &Notification) -> String {
    let brand = word(&n.brand);
    // By what it opened with: a phase that joins must not change the subject.
    let what = match n.cause() {
        Cause::Share | Cause::NegativeVolume => format!("{brand}: bad buzz"),
        Cause::Surge => format!("{brand}: surge of tweets"),
        Cause::Quiet => "Monitor: no tweets arrive".to_owned(),
        Cause::BrandQuiet => format!("{brand}: no tweets arrive"),
        Cause::Lag => "Monitor: reading lags behind".to_owned(),
    };
    let test = if n.test { "[TEST] " } else { "" };
    let reply = if n.transition == "opened" { "" } else { "Re: " };
    let at = n.opened_at.format("%-d %b, %H:%M UTC");
    format!("{reply}{test}{what}, {at} (incident {})", n.incident_id)
}

impl<'a> Content<'a> {
    fn of(n: &'a Notification) -> Self {
        let over = n.transition == "resolved";
        let new_normal = over && is_still_high(n);
        let level = match (over, n.severity.as_str()) {
            // Nothing is over for those who are still angry.
            (true, _) if new_normal => Level::Notice,
            (true, _) => Level::Ended,
            (_, "critical") => Level::Critical,
            (_, "warning") => Level::Warning,
            _ => Level::Notice,
        };
        let badge = match n.transition.as_str() {
            "resolved" if new_normal => "the new normal".to_owned(),
            "resolved" => "ended".to_owned(),
            "updated" => format!("update: {}", word(&n.severity)),
            "reopened" => format!("back: {}", word(&n.severity)),
            _ => word(&n.severity),
        };
        let figures = figures(n);
        let numbers: Vec<_> =
            figures.iter().map(|f| format!("{}: {} ({})", f.title, f.number, f.detail)).collect();
        let headline = headline(n);
        let examples: Vec<Quote> = n.examples.iter().take(EXAMPLES_MAX).map(quote).collect();
        let is_marked = examples.iter().flat_map(|quote| &quote.text).any(|piece| piece.marked);
        Self {
            level,
            preview: format!("{}. {}.", sentence(&badge), numbers.join(", ")),
            badge,
            test: n.test.then_some(TEST),
            period: period(n),
            headline,
            curve: curve(n),
            figures,
            why: line(&n.reason, REASON_CHARS_MAX),
            course: phases::course(n),
            measure: measure(&n.evidence),
            drivers: drivers(&n.drivers),
            themes: themes_of(&n.drivers),
            repeats: repeats(&n.drivers),
            examples,
            legend: is_marked.then_some(LEGEND),
            also: n.also.iter().take(ALSO_MAX).map(also).collect(),
            hint: (!over && !n.test).then(|| format!("monitor incidents ack {}", n.incident_id)),
            link: n.url.as_deref().map(|url| line(url, URL_CHARS_MAX)),
            acts: Vec::new(),
            acts_note: None,
            note: note(n),
        }
    }

    /// Puts links in place of the command that acknowledges, and beside each tweet.
    fn link(&mut self, links: &Links) {
        self.acts.clone_from(&links.acts);
        for (quote, url) in self.examples.iter_mut().zip(&links.not_negative) {
            quote.not_negative = Some(url.clone());
        }
        if !self.acts.is_empty() {
            self.hint = None;
        }
        let any = !self.acts.is_empty() || !links.not_negative.is_empty();
        self.acts_note =
            any.then(|| format!("{ACTS_NOTE} Links expire on {}.", moment(links.until)));
    }
}

/// The picture: a brand's share or volume.
fn curve(n: &Notification) -> Option<Curve<'_>> {
    let (since, shows) = match &n.evidence {
        Evidence::Share(ShareEvidence {
            since, expected_share, expected_interval, recent, ..
        }) => (
            since.start(),
            Shows::Share {
                expected: *expected_share,
                band: *expected_interval,
                now: recent.share().unwrap_or(0.0),
            },
        ),
        Evidence::NegativeVolume(VolumeEvidence { since, expected, .. })
        | Evidence::Surge(VolumeEvidence { since, expected, .. }) => {
            let is_negative = matches!(n.evidence, Evidence::NegativeVolume(_));
            let of = if is_negative { Volume::Negative } else { Volume::All };
            let minutes = ((n.at - since.start()).num_minutes() + 1).max(1);
            (since.start(), Shows::Volume { of, expected: expected / minutes as f64 })
        }
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => return None,
    };
    let ended = (n.transition == "resolved").then_some(n.at);
    // After a resolve the detector already looks for the next rise; the picture shows this one.
    Curve::new(&n.curve, n.curve_minutes, since.min(n.opened_at), ended, shows)
}

fn measure(evidence: &Evidence) -> Option<String> {
    match evidence {
        Evidence::Share(ShareEvidence { rule, statistic, threshold, dispersion, .. }) => {
            Some(format!(
                "Rule {}: statistic {statistic:.1}, alert from {threshold:.1}; the counts vary \
                 {dispersion:.1} times as much as those of independent tweets. \
                 “Likely” is a 95 % confidence interval.",
                word(rule)
            ))
        }
        Evidence::NegativeVolume(VolumeEvidence { statistic, threshold, .. })
        | Evidence::Surge(VolumeEvidence { statistic, threshold, .. }) => {
            Some(format!("Statistic {statistic:.1}, alert from {threshold:.1}."))
        }
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => None,
    }
}

fn drivers(drivers: &Drivers) -> Vec<Driver> {
    let all = drivers.tweets.max(1);
    drivers
        .terms
        .iter()
        .take(TERMS_MAX)
        .map(|driver| Driver {
            term: line(&driver.term, TERM_CHARS_MAX),
            share: (driver.tweets as f64 / all as f64).min(1.0),
            detail: format!("{} of {}", thousands(driver.tweets), thousands(all)),
        })
        .collect()
}

/// The themes; none if there is only one, which the drivers already name.
fn themes_of(drivers: &Drivers) -> Vec<(String, String)> {
    let shown = if drivers.themes.len() > 1 { drivers.themes.as_slice() } else { &[] };
    shown.iter().map(|theme| (themes::title(theme), themes::beginning(theme))).collect()
}

fn repeats(drivers: &Drivers) -> Vec<String> {
    let one = (drivers.one_tweet_share >= REPEATS_MIN).then(|| {
        format!(
            "One tweet and its repetitions make up {} of the negative tweets.",
            percent(drivers.one_tweet_share)
        )
    });
    one.into_iter().chain(themes::repeats(drivers)).collect()
}

fn quote(example: &Example) -> Quote {
    let mut caption = String::new();
    if let Some(author) = &example.author {
        let author = word(author);
        let _ = write!(caption, "@{}, ", author.trim_start_matches('@'));
    }
    caption.push_str(&moment(example.created_at));
    if let Some(reach) = example.reach {
        let _ = write!(caption, ", {}", count(reach, "follower"));
    }
    if example.alike > 1 {
        let _ = write!(caption, ", posted {} times", thousands(example.alike));
    }
    Quote { text: marked_text(example, TWEET_CHARS_MAX), caption, not_negative: None }
}

fn also(also: &Also) -> String {
    format!(
        "{} ({}, {} {}): {} Incident {}.",
        word(&also.brand),
        word(&also.severity),
        word(&also.transition),
        time(also.at),
        line(&also.reason, REASON_CHARS_MAX),
        also.incident_id
    )
}

fn word(text: &str) -> String {
    line(text, WORD_CHARS_MAX)
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%H:%M UTC").to_string()
}

fn note(n: &Notification) -> String {
    let incident = format!("Incident {}.", n.incident_id);
    match n.evidence {
        Evidence::Share(_) | Evidence::NegativeVolume(_) => {
            format!("{incident} All times are the tweets' own, in UTC. {MODEL_NOTE}")
        }
        Evidence::Surge(_) => format!("{incident} All times are the tweets' own, in UTC."),
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => {
            format!("{incident} All times are in UTC.")
        }
    }
}

fn of_tweets(counts: Counts) -> String {
    format!("{} of {}", thousands(counts.negative), count(counts.total, "tweet"))
}

#[cfg(test)]
pub(super) mod fixtures;
#[cfg(test)]
mod tests;
