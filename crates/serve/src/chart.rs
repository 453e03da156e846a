//! A brand's hours as a picture (SVG): share of negatives above, volume below; pure.
//!
//! **Invariant.** The picture holds numbers only, no word from outside, so there is
//! nothing to escape. Colours come from the page's style, so it follows light and dark.

use std::fmt::Write;

use chrono::Timelike;

use super::page::percent;
use super::view::{BrandView, Hour};
use monitor_core::domain::{Counts, Minute};

/// A point of the curve holds the tweets of its hour and of those before, this many in
/// all: the share of one hour is mostly chance where tweets are few.
pub const POINT_HOURS: usize = 3;
/// With fewer tweets in those hours there is no point.
pub const POINT_TWEETS_MIN: u64 = 10;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 196.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 474.0;
/// Where the share is 1, and where it is 0.
const SHARE: (f64, f64) = (8.0, 118.0);
/// Where the volume is greatest, and where it is 0.
const VOLUME: (f64, f64) = (130.0, 174.0);

/// Draws a brand's hours; empty where it has none.
pub fn draw(brand: &BrandView) -> String {
    let (Some(first), Some(last)) = (brand.hours.first(), brand.hours.last()) else {
        return String::new();
    };
    let scale = Scale { from: first.start, to: last.start.plus(60) };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Share of negative \
         tweets and number of tweets by the hour, {} to {}\">",
        first.start.start().format("%-d %b"),
        last.start.start().format("%-d %b %Y"),
    );
    incidents(&mut svg, brand, &scale);
    grid(&mut svg, &brand.hours, &scale);
    volume(&mut svg, &brand.hours, &scale);
    curve(&mut svg, &brand.hours, &scale);
    svg.push_str("</svg>");
    svg
}

struct Scale {
    from: Minute,
    to: Minute,
}

impl Scale {
    fn x(&self, at: Minute) -> f64 {
        let at = at.0.clamp(self.from.0, self.to.0) - self.from.0;
        LEFT + (RIGHT - LEFT) * at as f64 / (self.to.0 - self.from.0).max(1) as f64
    }
}

fn share_y(share: f64) -> f64 {
    SHARE.1 + (SHARE.0 - SHARE.1) * share
}

/// A red band for each incident, with the share that was expected.
fn incidents(svg: &mut String, brand: &BrandView, scale: &Scale) {
    for incident in &brand.incidents {
        let from = scale.x(incident.opened);
        let to = scale.x(incident.resolved.unwrap_or(scale.to)).max(from + 2.0);
        let Some(evidence) = incident.evidence.share() else { continue };
        let y = share_y(evidence.expected_share);
        let _ = write!(
            svg,
            "<rect class=\"buzz\" x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"/>\
             <line class=\"expected\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y:.1}\" \
             y2=\"{y:.1}\"/>",
            SHARE.0,
            to - from,
            VOLUME.1 - SHARE.0,
        );
    }
}

fn grid(svg: &mut String, hours: &[Hour], scale: &Scale) {
    for share in [0.0, 0.5, 1.0] {
        let y = share_y(share);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            percent(share),
        );
    }
    let most = hours.iter().map(|h| h.counts.total).max().unwrap_or(0);
    let _ = write!(
        svg,
        "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0}\" y2=\"{0}\"/>\
         <text class=\"end\" x=\"{1}\" y=\"{2}\">{most}</text>",
        VOLUME.1,
        LEFT - 6.0,
        VOLUME.0 + 9.0,
    );
    // A mark at each midnight (at each sixth hour where there are at most two days), and a
    // label where there is room for one.
    let every = if hours.len() > 48 { 24 } else { 6 };
    let form = if every == 24 { "%-d %b" } else { "%H:%M" };
    let mut free_from = LEFT - 1.0;
    for hour in hours.iter().filter(|h| h.start.start().hour() % every == 0) {
        let x = scale.x(hour.start);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>",
            SHARE.0,
            VOLUME.1 + 4.0,
        );
        if x >= free_from && x <= RIGHT - 30.0 {
            free_from = x + 46.0;
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\">{}</text>",
                x + 3.0,
                HEIGHT - 6.0,
                hour.start.start().format(form),
            );
        }
    }
}

/// Bars of volume; the part that is negative in red.
fn volume(svg: &mut String, hours: &[Hour], scale: &Scale) {
    let most = hours.iter().map(|h| h.counts.total).max().unwrap_or(0).max(1) as f64;
    for hour in hours.iter().filter(|h| h.counts.total > 0) {
        let x = scale.x(hour.start);
        let width = (scale.x(hour.start.plus(60)) - x - 0.4).max(0.4);
        let height = |tweets: u64| (VOLUME.1 - VOLUME.0) * tweets as f64 / most;
        let (all, negative) = (height(hour.counts.total), height(hour.counts.negative));
        let _ = write!(
            svg,
            "<g><title>{}: {} of {} tweets negative</title>\
             <rect class=\"all\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
             height=\"{all:.1}\"/>",
            hour.start.start().format("%-d %b %H:%M"),
            hour.counts.negative,
            hour.counts.total,
            VOLUME.1 - all,
        );
        if hour.counts.negative > 0 {
            let _ = write!(
                svg,
                "<rect class=\"negative\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"{negative:.1}\"/>",
                VOLUME.1 - negative,
            );
        }
        svg.push_str("</g>");
    }
}

/// The rolling share, broken where there are too few tweets; a point that stands alone is
/// drawn as a dot.
fn curve(svg: &mut String, hours: &[Hour], scale: &Scale) {
    let points: Vec<Option<(f64, f64)>> = (0..hours.len())
        .map(|place| {
            let rolling = &hours[(place + 1).saturating_sub(POINT_HOURS)..=place];
            let counts = rolling.iter().fold(Counts::default(), |sum, hour| sum + hour.counts);
            let share = counts.share().filter(|_| counts.total >= POINT_TWEETS_MIN)?;
            Some((scale.x(hours[place].start.plus(30)), share_y(share)))
        })
        .collect();
    for run in points.split(Option::is_none) {
        match run {
            [] => {}
            [Some((x, y))] => {
                let _ =
                    write!(svg, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\"/>");
            }
            run => {
                let line: Vec<_> =
                    run.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let _ = write!(svg, "<polyline class=\"share\" points=\"{}\"/>", line.join(" "));
            }
        }
    }
}
