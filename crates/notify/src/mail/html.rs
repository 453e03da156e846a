//! Renders a mail as HTML for mail clients: tables for layout, inline styles.
//!
//! **Invariant.** `maud` escapes every string that is not a literal.
//! Each table row ends its line, so that lines stay short enough to read.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use monitor_core::domain::Counts;
use monitor_core::format::{percent, percent_interval, thousands};

use super::{Content, Driver, Figure, Level, Mail, Quote};
use crate::curve::{self, Curve, Shows};
use crate::words::moment;

const INK: &str = "#212121";
const SOFT: &str = "#5f6b73";
const BODY: &str = "margin:0;padding:0;background:#eceff1;color:#212121;\
    font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;\
    font-size:16px;line-height:1.45";
const BADGE: &str = "color:#ffffff;font-size:12px;font-weight:600;letter-spacing:.06em;\
    text-transform:uppercase;padding:2px 8px;border-radius:3px";
const COMMAND: &str = "background:#eceff1;border-radius:4px;padding:8px 12px;margin-top:6px;\
    font-family:Menlo,Consolas,monospace;font-size:14px";
/// Bold, underlined and shaded: visible without colour too. Contrast of the text 13 to 1.
const MARK: &str = "font-weight:600;background:#fde2df;color:#212121;text-decoration:underline;\
    border-radius:2px";
pub(super) const BUTTON: &str = "background:#263238;color:#ffffff;text-decoration:none;padding:12px 22px;\
    border-radius:4px;display:inline-block;font-weight:600";
/// A button for what is done less often than reading on.
const ACT: &str = "background:#ffffff;color:#263238;text-decoration:none;padding:9px 16px;\
    border:1px solid #78909c;border-radius:4px;display:inline-block;font-weight:600;margin:0 6px 8px 0";
/// The colour of what asks nobody to act.
pub(super) const CALM: &str = "#1f5f99";
const BESIDE: &str = "color:#1f5f99;white-space:nowrap";

impl Level {
    fn colour(self) -> &'static str {
        match self {
            Self::Critical => "#c62828",
            Self::Warning => "#b45309",
            Self::Notice => CALM,
            Self::Ended => "#2e7d32",
        }
    }
}

/// Renders the content of a mail.
pub fn render(content: &Content<'_>) -> String {
    let colour = content.level.colour();
    page(&content.headline, Some(&content.preview), colour, &rows(content, colour))
}

/// A whole page: `rows` in a white column under a line of this colour. Clients show `preview` beside the subject.
pub(super) fn page(title: &str, preview: Option<&str>, colour: &str, rows: &Markup) -> String {
    let style =
        format!("max-width:600px;background:#ffffff;border-top:6px solid {colour};text-align:left");
    let page = html! {
        (DOCTYPE) "\n"
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta name="color-scheme" content="light";
                title { (Text(title)) }
            }
            "\n"
            body style=(BODY) {
                "\n"
                @if let Some(preview) = preview {
                    div style="display:none;max-height:0;overflow:hidden" { (Text(preview)) }
                    "\n"
                }
                table role="presentation" width="100%" cellpadding="0" cellspacing="0" {
                    tr { td align="center" style="padding:16px 8px" {
                        "\n"
                        table role="presentation" width="100%" cellpadding="0" cellspacing="0" style=(style) {
                            "\n"
                            (rows)
                        }
                        "\n"
                    } }
                }
            }
        }
        "\n"
    };
    page.into_string()
}

/// Everything that is visible.
fn rows(content: &Content<'_>, colour: &str) -> Markup {
    html! {
        @if let Some(test) = content.test { (row("0", test_warning(test))) }
        (row("24px 24px 0", heading(content, colour)))
        (row("20px 24px 0", figures(&content.figures, colour)))
        @if let Some(curve) = &content.curve { (row("20px 0 0", picture(curve))) }
        (section("Why", html! {
            div { (Text(&content.why)) }
            @if let Some(measure) = &content.measure {
                div style={ (small()) ";padding-top:4px" } { (Text(measure)) }
            }
        }))
        @if !content.course.is_empty() {
            (section("What has happened so far", html! {
                @for phase in &content.course { div style="padding-top:4px" { (Text(phase)) } }
            }))
        }
        @if !content.themes.is_empty() {
            (section("What they write about", html! {
                @for (theme, beginning) in &content.themes {
                    div style="padding-top:4px" { (Text(theme)) }
                    div style=(small()) { (Text(beginning)) }
                }
            }))
        }
        @if !content.drivers.is_empty() || !content.repeats.is_empty() {
            (section("What the negative tweets have in common", drivers(content)))
        }
        @if !content.examples.is_empty() {
            (section("Tweets to read", html! {
                @for example in &content.examples { (quote(example)) }
                @if let Some(legend) = content.legend {
                    div style={ (small()) ";padding-top:10px" } { (Text(legend)) }
                }
            }))
        }
        @if !content.also.is_empty() {
            (section("At the same time", html! {
                @for also in &content.also { div style="padding-top:4px" { (Text(also)) } }
            }))
        }
        @if let Some(link) = &content.link {
            (row("28px 24px 0", html! { a href=(link) style=(BUTTON) { "See details" } }))
        }
        @if !content.acts.is_empty() {
            (row("16px 24px 0", html! {
                @for (label, url) in &content.acts {
                    a href=(url) style=(ACT) { (Text(label)) } " "
                }
            }))
        }
        @if let Some(note) = &content.acts_note {
            (row("8px 24px 0", html! { span style=(small()) { (Text(note)) } }))
        }
        @if let Some(hint) = &content.hint {
            (row("20px 24px 0", html! {
                "To be notified again only if it gets worse, acknowledge the incident:"
                div style=(COMMAND) { (Text(hint)) }
            }))
        }
        (row("24px", html! { span style=(small()) { (Text(&content.note)) } }))
    }
}

pub(super) fn small() -> String {
    format!("color:{SOFT};font-size:13px")
}

pub(super) fn row(padding: &str, cell: Markup) -> Markup {
    html! {
        tr { td style={ "padding:" (padding) } { (cell) } }
        "\n"
    }
}

pub(super) fn section(title: &str, body: Markup) -> Markup {
    let heading = html! {
        h2 style="margin:0;font-size:16px;font-weight:600;padding-bottom:4px" { (Text(title)) }
        (body)
    };
    row("24px 24px 0", heading)
}

fn test_warning(test: &str) -> Markup {
    html! {
        div style="background:#fff3c4;color:#5c4400;padding:12px 24px" {
            b { "TEST" } (PreEscaped(" &nbsp;")) (Text(test))
        }
    }
}

fn heading(content: &Content<'_>, colour: &str) -> Markup {
    html! {
        span style={ "display:inline-block;background:" (colour) ";" (BADGE) } {
            (Text(&content.badge))
        }
        h1 style="margin:0;font-size:24px;font-weight:600;line-height:1.25;padding-top:10px" {
            (Text(&content.headline))
        }
        div style={ "color:" (SOFT) ";padding-top:6px" } { (Text(&content.period)) }
    }
}

fn picture(curve: &Curve<'_>) -> Markup {
    let style = format!(
        "display:block;width:100%;max-width:{}px;height:auto;border:0;color:{SOFT};font-size:14px",
        curve::WIDTH,
    );
    html! {
        img src={ "cid:" (Mail::CURVE) } width=(curve::WIDTH) alt=(alt_text(curve)) style=(style);
    }
}

/// One cell per figure, so that a screen reader reads its title, number and detail together.
fn figures(figures: &[Figure], colour: &str) -> Markup {
    let width = 100 / figures.len().max(1);
    let number = |main: bool| {
        let colour = if main { colour } else { INK };
        format!("color:{colour};font-size:32px;font-weight:600;line-height:1.25;white-space:nowrap")
    };
    html! {
        table role="presentation" width="100%" cellpadding="0" cellspacing="0" {
            "\n"
            tr {
                @for figure in figures {
                    td width={ (width) "%" } valign="top" style={ "padding-right:10px;" (small()) } {
                        (Text(&figure.title))
                        div style=(number(figure.main)) { (Text(&figure.number)) }
                        (Text(&figure.detail))
                    }
                    "\n"
                }
            }
            "\n"
        }
    }
}

fn drivers(content: &Content<'_>) -> Markup {
    html! {
        @for repeats in &content.repeats { div { (Text(repeats)) } }
        @if !content.drivers.is_empty() {
            table role="presentation" width="100%" cellpadding="0" cellspacing="0"
                style="padding-top:4px" {
                "\n"
                @for term in &content.drivers { (driver(term)) }
            }
        }
    }
}

fn driver(driver: &Driver) -> Markup {
    let bar = format!(
        "background:#c98a85;height:10px;width:{:.0}%;font-size:0;line-height:0",
        driver.share * 100.0
    );
    html! {
        tr {
            td width="42%" style="padding:3px 12px 3px 0;word-break:break-word" {
                (Text(&driver.term))
            }
            td { div style=(bar) { (PreEscaped("&nbsp;")) } }
            td width="22%" align="right" style={ (small()) ";white-space:nowrap" } {
                (Text(&driver.detail))
            }
        }
        "\n"
    }
}

fn quote(quote: &Quote) -> Markup {
    let text = html! {
        @for piece in &quote.text {
            @if piece.marked { b style=(MARK) { (Text(&piece.text)) } }
            @else { (Text(&piece.text)) }
        }
    };
    let caption = html! {
        (Text(&quote.caption))
        @if let Some(url) = &quote.not_negative {
            " \u{b7} " a href=(url) style=(BESIDE) { "Not negative?" }
        }
    };
    quote_block(&text, &caption)
}

/// A tweet, with a line below it.
pub(super) fn quote_block(text: &Markup, caption: &Markup) -> Markup {
    html! {
        div style="border-left:3px solid #b0bec5;margin-top:12px;padding:0 0 0 12px;\
            word-break:break-word" {
            (text)
            div style={ (small()) ";padding-top:2px" } { (caption) }
        }
        "\n"
    }
}

/// Text in which no line breaks between a number and its percent sign.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Render for Text<'_> {
    fn render(&self) -> Markup {
        html! {
            @for (place, part) in self.0.split(" %").enumerate() {
                @if place > 0 { (PreEscaped("&nbsp;%")) }
                (part)
            }
        }
    }
}

/// The picture in words, for screen readers and clients that show no pictures.
pub(super) fn alt_text(curve: &Curve<'_>) -> String {
    let bars = curve.bars(curve::BARS_MAX);
    let sum = |within: bool| {
        let bars = bars.iter().filter(|bar| curve.holds(bar) == within);
        bars.fold(Counts::default(), |sum, bar| sum + bar.counts)
    };
    let (before, within, since) = (sum(false), sum(true), moment(curve.since));
    match curve.shows {
        Shows::Week { before: usual, last_day } => format!(
            "Share of negative tweets over the week, as a curve: {} before, {} on the last day; {} tweets.",
            percent(usual),
            percent(last_day),
            thousands(before.total)
        ),
        Shows::Share { expected, band, now } => {
            let share = |counts: Counts| counts.share().map_or("no tweets".into(), percent);
            format!(
                "Share of negative tweets, as a curve: {} before {since}, {} from then on, {} \
                 now; expected {} ({}).",
                share(before),
                share(within),
                percent(now),
                percent(expected),
                percent_interval(band.low, band.high),
            )
        }
        Shows::Volume { of, expected } => format!(
            "Number of {}, as bars: {} before {since}, {} from then on; {} an hour expected.",
            of.noun(),
            thousands(of.of(before)),
            thousands(of.of(within)),
            thousands((expected * 60.0).round() as u64),
        ),
    }
}
