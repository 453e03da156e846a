//! A brand's hours as an SVG chart: share of negative tweets above, volume below; pure.
//!
//! **Invariant.** Colours come from the page's style sheet, so the chart follows the light and
//! the dark mode.

use chrono::Timelike;
use maud::{Markup, html};

use monitor_core::domain::{Counts, Minute};
use monitor_core::format::percent;

use super::view::{BrandView, Hour};

/// A point of the curve covers the tweets of its hour and of the hours before it, this many
/// hours in total: with few tweets, the share of a single hour is mostly noise.
pub const POINT_HOURS: usize = 3;
/// With fewer tweets in those hours there is no point.
pub const POINT_TWEETS_MIN: u64 = 10;

// In user units of the SVG.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 196.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 474.0;
/// The y coordinates of a share of 1 and of a share of 0.
const SHARE: (f64, f64) = (8.0, 118.0);
/// The y coordinates of the highest volume and of no volume.
const VOLUME: (f64, f64) = (130.0, 174.0);

/// Draws a brand's hours; nothing if it has none.
pub fn draw(brand: &BrandView) -> Markup {
    let (Some(first), Some(last)) = (brand.hours.first(), brand.hours.last()) else {
        return Markup::default();
    };
    let scale = Scale { from: first.start, to: last.start.plus(60) };
    let label = format!(
        "Share of negative tweets and number of tweets by the hour, {} to {}",
        first.start.start().format("%-d %b"),
        last.start.start().format("%-d %b %Y"),
    );
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(label) {
            (incidents(brand, &scale))
            (grid(&brand.hours, &scale))
            (volume(&brand.hours, &scale))
            (curve(&brand.hours, &scale))
        }
    }
}

/// The time axis.
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

/// A coordinate or a length, to a tenth of a unit.
fn unit(length: f64) -> String {
    format!("{length:.1}")
}

/// A red band for each incident, with the expected share as a line if one of its phases is about it.
fn incidents(brand: &BrandView, scale: &Scale) -> Markup {
    let bands = brand.incidents.iter().map(|incident| {
        let from = scale.x(incident.opened);
        let to = scale.x(incident.resolved.unwrap_or(scale.to)).max(from + 2.0);
        let phases = incident.phases.iter().map(|phase| &phase.opening);
        let share = [&incident.evidence].into_iter().chain(phases).find_map(|e| e.share());
        (from, to, share.map(|e| share_y(e.expected_share)))
    });
    html! {
        @for (from, to, y) in bands {
            rect class="buzz" x=(unit(from)) y=(SHARE.0) width=(unit(to - from))
                height=(VOLUME.1 - SHARE.0) {}
            @if let Some(y) = y {
                line class="expected" x1=(unit(from)) x2=(unit(to)) y1=(unit(y)) y2=(unit(y)) {}
            }
        }
    }
}

fn grid(hours: &[Hour], scale: &Scale) -> Markup {
    let most = hours.iter().map(|h| h.counts.total).max().unwrap_or(0);
    // A mark at each midnight, or at each sixth hour if there are at most two days.
    let every = if hours.len() > 48 { 24 } else { 6 };
    let form = if every == 24 { "%-d %b" } else { "%H:%M" };
    let marks = hours.iter().filter(|h| h.start.start().hour() % every == 0);
    // A label where it fits between the label before and the right edge.
    let mut free_from = LEFT - 1.0;
    let marks = marks.map(|hour| {
        let x = scale.x(hour.start);
        let fits = x >= free_from && x <= RIGHT - 30.0;
        if fits {
            free_from = x + 46.0;
        }
        (x, fits.then(|| hour.start.start().format(form)))
    });
    html! {
        @for (share, y) in [0.0, 0.5, 1.0].map(|share| (share, share_y(share))) {
            line class="grid" x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {}
            text class="end" x=(LEFT - 6.0) y=(y + 4.0) { (percent(share)) }
        }
        line class="grid" x1=(LEFT) x2=(RIGHT) y1=(VOLUME.1) y2=(VOLUME.1) {}
        text class="end" x=(LEFT - 6.0) y=(VOLUME.0 + 9.0) { (most) }
        @for (x, label) in marks {
            line class="grid" x1=(unit(x)) x2=(unit(x)) y1=(SHARE.0) y2=(VOLUME.1 + 4.0) {}
            @if let Some(label) = label {
                text x=(unit(x + 3.0)) y=(HEIGHT - 6.0) { (label) }
            }
        }
    }
}

/// Bars of volume; the negative part in red.
fn volume(hours: &[Hour], scale: &Scale) -> Markup {
    let most = hours.iter().map(|h| h.counts.total).max().unwrap_or(0).max(1) as f64;
    let bar = |hour: &Hour| {
        let x = scale.x(hour.start);
        let width = (scale.x(hour.start.plus(60)) - x - 0.4).max(0.4);
        let height = |tweets: u64| (VOLUME.1 - VOLUME.0) * tweets as f64 / most;
        let Counts { total, negative } = hour.counts;
        html! {
            g {
                title {
                    (hour.start.start().format("%-d %b %H:%M")) ": " (negative) " of " (total)
                    " tweets negative"
                }
                rect class="all" x=(unit(x)) y=(unit(VOLUME.1 - height(total)))
                    width=(unit(width)) height=(unit(height(total))) {}
                @if negative > 0 {
                    rect class="negative" x=(unit(x)) y=(unit(VOLUME.1 - height(negative)))
                        width=(unit(width)) height=(unit(height(negative))) {}
                }
            }
        }
    };
    html! {
        @for hour in hours.iter().filter(|h| h.counts.total > 0) { (bar(hour)) }
    }
}

/// The rolling share, interrupted where there are too few tweets; a single point between two
/// gaps becomes a dot.
fn curve(hours: &[Hour], scale: &Scale) -> Markup {
    let points: Vec<Option<(f64, f64)>> = (0..hours.len())
        .map(|place| {
            let rolling = &hours[(place + 1).saturating_sub(POINT_HOURS)..=place];
            let counts = rolling.iter().fold(Counts::default(), |sum, hour| sum + hour.counts);
            let share = counts.share().filter(|_| counts.total >= POINT_TWEETS_MIN)?;
            Some((scale.x(hours[place].start.plus(30)), share_y(share)))
        })
        .collect();
    let line = |run: &[Option<(f64, f64)>]| {
        let points: Vec<_> = run.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        points.join(" ")
    };
    html! {
        @for run in points.split(Option::is_none) {
            @match run {
                [] => {},
                [Some((x, y))] => circle class="dot" cx=(unit(*x)) cy=(unit(*y)) r="1.6" {},
                run => polyline class="share" points=(line(run)) {},
            }
        }
    }
}
