//! A letter as HTML that mail clients can set: tables, and styles in the tags.
//!
//! **Invariant.** Every string of the letter passes [`text`] or [`attribute`] on its way in.

use html_escape::{encode_double_quoted_attribute as attribute, encode_text};

use super::words::{grouped, percents};
use super::{Driver, Figure, Letter, Mail, Mood, Quote};
use crate::curve::{self, Curve, Shows};
use crate::words::{moment, percent};
use monitor_core::domain::Counts;

const INK: &str = "#212121";
const SOFT: &str = "#5f6b73";
const TABLE: &str =
    "<table role=\"presentation\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\"";

impl Mood {
    fn colour(self) -> &'static str {
        match self {
            Self::Critical => "#c62828",
            Self::Warning => "#b45309",
            Self::Notice => "#1f5f99",
            Self::Over => "#2e7d32",
        }
    }
}

/// Sets a letter.
pub fn set(letter: &Letter<'_>) -> String {
    let colour = letter.mood.colour();
    let mut out = String::with_capacity(8 * 1024);
    let mut add = |part: &str| out.push_str(part);
    add("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light\">");
    add(&format!(
        "<title>{}</title></head>\n<body style=\"margin:0;padding:0;background:#eceff1;\
         color:{INK};font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;\
         font-size:16px;line-height:1.45\">\n\
         <div style=\"display:none;max-height:0;overflow:hidden\">{}</div>\n\
         {TABLE}><tr><td align=\"center\" style=\"padding:16px 8px\">\n\
         {TABLE} style=\"max-width:600px;background:#ffffff;border-top:6px solid {colour};\
         text-align:left\">\n",
        text(&letter.headline),
        text(&letter.preview)
    ));
    if let Some(test) = letter.test {
        add(&row(
            "0",
            &format!(
                "<div style=\"background:#fff3c4;color:#5c4400;padding:12px 24px\">\
                 <b>TEST</b> &nbsp;{}</div>",
                text(test)
            ),
        ));
    }
    add(&row(
        "24px 24px 0",
        &format!(
            "<span style=\"display:inline-block;background:{colour};color:#ffffff;\
             font-size:12px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;\
             padding:2px 8px;border-radius:3px\">{}</span>\
             <h1 style=\"margin:0;font-size:24px;font-weight:600;line-height:1.25;\
             padding-top:10px\">{}</h1><div style=\"color:{SOFT};padding-top:6px\">{}</div>",
            text(&letter.badge),
            text(&letter.headline),
            text(&letter.period),
        ),
    ));
    add(&row("20px 24px 0", &figures(&letter.figures, colour)));
    if let Some(curve) = &letter.curve {
        add(&row(
            "20px 0 0",
            &format!(
                "<img src=\"cid:{}\" width=\"{}\" alt=\"{}\" style=\"display:block;width:100%;\
                 max-width:{}px;height:auto;border:0;color:{SOFT};font-size:14px\">",
                Mail::CURVE,
                curve::WIDTH,
                attribute(&spoken(curve)),
                curve::WIDTH,
            ),
        ));
    }
    let small = letter.measure.as_ref().map_or_else(String::new, |measure| {
        format!(
            "<div style=\"color:{SOFT};font-size:13px;padding-top:4px\">{}</div>",
            text(measure)
        )
    });
    add(&section("Why", &format!("<div>{}</div>{small}", text(&letter.why))));
    if !letter.drivers.is_empty() || letter.repeats.is_some() {
        add(&section("What the negative tweets have in common", &drivers(letter)));
    }
    if !letter.examples.is_empty() {
        let quotes: String = letter.examples.iter().map(quote).collect();
        add(&section("Tweets to read", &quotes));
    }
    if !letter.also.is_empty() {
        let also: String = letter
            .also
            .iter()
            .map(|also| format!("<div style=\"padding-top:4px\">{}</div>", text(also)))
            .collect();
        add(&section("At the same time", &also));
    }
    if let Some(link) = &letter.link {
        add(&row(
            "28px 24px 0",
            &format!(
                "<a href=\"{}\" style=\"background:#263238;color:#ffffff;text-decoration:none;\
                 padding:12px 22px;border-radius:4px;display:inline-block;font-weight:600\">\
                 Look closer</a>",
                attribute(link)
            ),
        ));
    }
    if let Some(hint) = &letter.hint {
        add(&row(
            "20px 24px 0",
            &format!(
                "On it? Say so, and it is repeated only if it gets worse:\
                 <div style=\"background:#eceff1;border-radius:4px;padding:8px 12px;\
                 margin-top:6px;font-family:Menlo,Consolas,monospace;font-size:14px\">{}</div>",
                text(hint)
            ),
        ));
    }
    add(&row(
        "24px",
        &format!("<span style=\"color:{SOFT};font-size:13px\">{}</span>", text(&letter.note)),
    ));
    add("</table>\n</td></tr></table></body></html>\n");
    out
}

fn row(padding: &str, content: &str) -> String {
    format!("<tr><td style=\"padding:{padding}\">{content}</td></tr>\n")
}

fn section(title: &str, content: &str) -> String {
    row(
        "24px 24px 0",
        &format!(
            "<h2 style=\"margin:0;font-size:16px;font-weight:600;padding-bottom:4px\">{}</h2>{content}",
            text(title)
        ),
    )
}

/// One cell a figure, so that a screen reader reads its title, number and detail together.
fn figures(figures: &[Figure], colour: &str) -> String {
    let width = 100 / figures.len().max(1);
    let cell = |figure: &Figure| {
        format!(
            "<td width=\"{width}%\" valign=\"top\" style=\"padding-right:10px;color:{SOFT};\
             font-size:13px\">{}<div style=\"color:{};font-size:32px;font-weight:600;\
             line-height:1.25;white-space:nowrap\">{}</div>{}</td>\n",
            text(&figure.title),
            if figure.main { colour } else { INK },
            text(&figure.number),
            text(&figure.detail),
        )
    };
    let cells: String = figures.iter().map(cell).collect();
    format!("{TABLE}>\n<tr>{cells}</tr>\n</table>")
}

fn drivers(letter: &Letter<'_>) -> String {
    let repeats = letter
        .repeats
        .as_ref()
        .map_or_else(String::new, |repeats| format!("<div>{}</div>", text(repeats)));
    let rows: String = letter.drivers.iter().map(driver).collect();
    match rows.is_empty() {
        true => repeats,
        false => format!("{repeats}{TABLE} style=\"padding-top:4px\">\n{rows}</table>"),
    }
}

fn driver(driver: &Driver) -> String {
    format!(
        "<tr><td width=\"42%\" style=\"padding:3px 12px 3px 0;word-break:break-word\">{}</td>\
         <td><div style=\"background:#c98a85;height:10px;width:{:.0}%;font-size:0;\
         line-height:0\">&nbsp;</div></td>\
         <td width=\"22%\" align=\"right\" style=\"color:{SOFT};font-size:13px;\
         white-space:nowrap\">{}</td></tr>\n",
        text(&driver.term),
        driver.share * 100.0,
        text(&driver.detail),
    )
}

fn quote(quote: &Quote) -> String {
    format!(
        "<div style=\"border-left:3px solid #b0bec5;margin-top:12px;padding:0 0 0 12px;\
         word-break:break-word\">{}<div style=\"color:{SOFT};font-size:13px;padding-top:2px\">{}\
         </div></div>\n",
        text(&quote.text),
        text(&quote.caption),
    )
}

/// Escapes; a percentage is not broken off its number.
fn text(words: &str) -> String {
    encode_text(words).replace(" %", "&nbsp;%")
}

/// The picture in words, for those who do not see it.
fn spoken(curve: &Curve<'_>) -> String {
    let bars = curve.bars(curve::BARS_MAX);
    let sum = |within: bool| {
        let bars = bars.iter().filter(|bar| curve.holds(bar) == within);
        bars.fold(Counts::default(), |sum, bar| sum + bar.counts)
    };
    let (before, within, since) = (sum(false), sum(true), moment(curve.since));
    match curve.shows {
        Shows::Share { expected, band, now } => {
            let share = |counts: Counts| counts.share().map_or("no tweets".into(), percent);
            format!(
                "Share of negative tweets, as a curve: {} before {since}, {} from then on, {} \
                 now; expected {} ({}).",
                share(before),
                share(within),
                percent(now),
                percent(expected),
                percents(band.low, band.high),
            )
        }
        Shows::Volume { expected } => format!(
            "Number of tweets, as bars: {} before {since}, {} from then on; {} an hour expected.",
            grouped(before.total),
            grouped(within.total),
            grouped((expected * 60.0).round() as u64),
        ),
    }
}
