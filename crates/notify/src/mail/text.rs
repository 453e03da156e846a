//! Renders a mail as plain text.

use std::fmt::Write;

use monitor_core::format::{percent, thousands};

use super::Content;
use super::words::sentence;
use crate::curve::{Bar, Curve, Shows};

/// Bars of the curve, at most.
const BARS_MAX: usize = 24;
/// Characters of the longest bar.
const BAR_CHARS: usize = 20;

/// Renders the content of a mail.
pub fn render(content: &Content<'_>) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    if let Some(test) = content.test {
        line(&format!("*** TEST *** {test}"));
        line("");
    }
    line(&format!("{}: {}.", content.badge.to_uppercase(), content.headline));
    line(&content.period);
    line("");
    let title = content.figures.iter().map(|f| f.title.chars().count()).max().unwrap_or(0);
    let number = content.figures.iter().map(|f| f.number.chars().count()).max().unwrap_or(0);
    for figure in &content.figures {
        line(&format!(
            "  {:<title$}  {:>number$}   {}",
            figure.title, figure.number, figure.detail
        ));
    }
    line("");
    line(&format!("Why: {}", content.why));
    if let Some(measure) = &content.measure {
        line(measure);
    }
    if !content.course.is_empty() {
        line("");
        line("What has happened so far");
        for phase in &content.course {
            line(&format!("  {phase}"));
        }
    }
    if let Some(curve) = &content.curve {
        line("");
        bars(curve, &mut line);
    }
    if !content.themes.is_empty() {
        line("");
        line("What they write about");
        for (theme, beginning) in &content.themes {
            line(&format!("  {theme}"));
            line(&format!("    {beginning}"));
        }
    }
    if !content.drivers.is_empty() || !content.repeats.is_empty() {
        line("");
        line("What the negative tweets have in common");
        for repeats in &content.repeats {
            line(&format!("  {repeats}"));
        }
        let width = content.drivers.iter().map(|d| d.term.chars().count()).max().unwrap_or(0);
        for driver in &content.drivers {
            let (term, share) = (&driver.term, percent(driver.share));
            line(&format!("  {term:<width$}  {share:>5}   {}", driver.detail));
        }
    }
    if !content.examples.is_empty() {
        line("");
        line("Tweets to read");
    }
    for quote in &content.examples {
        line("");
        let pieces = quote.text.iter().map(|piece| match piece.marked {
            true => format!("*{}*", piece.text),
            false => piece.text.clone(),
        });
        line(&format!("  “{}”", pieces.collect::<String>()));
        line(&format!("  {}", quote.caption));
        if let Some(url) = &quote.not_negative {
            line(&format!("  Not negative? {url}"));
        }
    }
    if let Some(legend) = content.legend {
        line("");
        line(&format!("  {legend}"));
    }
    if !content.also.is_empty() {
        line("");
        line("At the same time");
        for also in &content.also {
            line(&format!("  {also}"));
        }
    }
    line("");
    if let Some(link) = &content.link {
        line(&format!("See details: {link}"));
    }
    for (label, url) in &content.acts {
        line(&format!("{label}: {url}"));
    }
    if let Some(note) = &content.acts_note {
        line(note);
    }
    if let Some(hint) = &content.hint {
        line(&format!(
            "To be notified again only if it gets worse, acknowledge the incident: {hint}"
        ));
    }
    line(&content.note);
    out
}

/// The curve, one line per bar; `|` marks the expected value, `>` the incident.
fn bars(curve: &Curve<'_>, line: &mut impl FnMut(&str)) {
    let bars = curve.bars(BARS_MAX);
    let counted = |bar: &Bar| match curve.shows {
        Shows::Share { .. } | Shows::Week { .. } => bar.counts.total,
        Shows::Volume { of, .. } => of.of(bar.counts),
    };
    let most = bars.iter().map(counted).max().unwrap_or(0).max(1) as f64;
    let (what, expected): (_, &dyn Fn(&Bar) -> f64) = match &curve.shows {
        Shows::Share { expected: usual, .. } | Shows::Week { before: usual, .. } => {
            ("share of negative tweets", &|_| *usual)
        }
        Shows::Volume { of, expected } => (of.noun(), &move |bar| expected * bar.minutes() / most),
    };
    line(&format!("{} over time (UTC; | expected, > incident)", sentence(what)));
    for bar in &bars {
        let part = match curve.shows {
            Shows::Share { .. } | Shows::Week { .. } => bar.counts.share().unwrap_or(0.0),
            Shows::Volume { .. } => counted(bar) as f64 / most,
        };
        let place = |part: f64| (part * BAR_CHARS as f64).round() as usize;
        let (filled, mark) = (place(part), place(expected(bar)));
        let mut picture = String::new();
        for at in 0..=BAR_CHARS {
            picture.push(match at {
                _ if at == mark => '|',
                _ if at < filled => '█',
                _ => ' ',
            });
        }
        let within = curve.holds(bar);
        let sign = if within { '>' } else { ' ' };
        let mut row = format!("{sign} {}  {picture}", bar.from.format("%H:%M"));
        let _ = match (curve.shows, bar.counts.share()) {
            (_, None) => write!(row, " no tweets"),
            (Shows::Share { .. } | Shows::Week { .. }, Some(share)) => write!(
                row,
                " {:>5}  {} of {} tweets",
                percent(share),
                thousands(bar.counts.negative),
                thousands(bar.counts.total)
            ),
            (Shows::Volume { of, .. }, _) => {
                write!(row, " {} {}", thousands(counted(bar)), of.noun())
            }
        };
        line(&row);
    }
}
