//! A backtest as a picture (SVG): share, expected share and volume of each brand, and alerts.
//!
//! **Invariant.** A pure function of the outcome. Deliberately absent: fonts; the viewer
//! uses its own.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use monitor_core::alerting::Hour;
use monitor_core::domain::{Cause, Counts, Interval, Minute};
use monitor_core::format::percent;

use super::report::{BrandOutcome, Trial};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

const NEGATIVE: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const EXPECTED: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const SURGE: RGBColor = RGBColor(0xe6, 0x7e, 0x22);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x88, 0x88, 0x88);
const PALE: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FONT: &str = "sans-serif";
/// Font size of small labels, in plotters' unit.
const SMALL: i32 = 14;

const WIDTH: u32 = 1260;
const HEAD: u32 = 44;
/// Heights of a brand's share and of its volume.
const SHARE: u32 = 190;
const VOLUME: u32 = 86;
/// Width of the axis numbers to the left of the charts.
const LEFT: u32 = 62;
/// Most points of a curve; more would not be visible.
const POINTS_MAX: usize = 400;
/// Possible lengths of a point in hours; longer ones are whole days.
const POINT_HOURS: [usize; 6] = [1, 2, 3, 6, 12, 24];
/// Fewest tweets of a point; with fewer, its share would be mostly chance.
const POINT_TWEETS_MIN: u64 = 10;
/// Most labels on the time axis.
const TIMES_MAX: i64 = 12;

/// Some hours of a brand.
struct Point {
    start: Minute,
    counts: Counts,
    expected: Option<(f64, Interval)>,
}

/// Draws each brand, under each rule.
pub fn picture(trials: &[Trial]) -> String {
    let panels: Vec<(&Trial, &BrandOutcome)> =
        trials.iter().flat_map(|trial| trial.brands.iter().map(move |b| (trial, b))).collect();
    let from = panels.iter().map(|(_, result)| result.from.0).min().unwrap_or(0);
    let to = panels.iter().map(|(_, result)| result.to.0 + 1).max().unwrap_or(0).max(from + 60);
    let height = HEAD + u32::try_from(panels.len()).unwrap_or(u32::MAX / 1000) * (SHARE + VOLUME);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let drawn = root.fill(&WHITE).and_then(|()| {
            let (head, mut rest) = root.split_vertically(HEAD);
            legend(&head)?;
            for (trial, result) in panels {
                let (panel, below) = rest.split_vertically(SHARE + VOLUME);
                let rule = (trials.len() > 1).then_some(trial.rule.as_str());
                draw(&panel, rule, result, from as f64..to as f64)?;
                rest = below;
            }
            root.present()
        });
        drawn.expect("drawing to memory cannot fail");
    }
    text
}

/// Draws the legend.
fn legend(area: &Area<'_>) -> Drawn {
    let style = (FONT, SMALL).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    let y = 24;
    area.draw(&PathElement::new([(62, y), (86, y)], NEGATIVE.stroke_width(2)))?;
    area.draw(&Text::new("share of negative tweets", (92, y), style.clone()))?;
    area.draw(&Rectangle::new([(270, y - 7), (294, y + 7)], EXPECTED.mix(0.15).filled()))?;
    area.draw(&PathElement::new([(270, y), (294, y)], EXPECTED))?;
    let expected = "expected share, and its range on 95 of 100 days";
    area.draw(&Text::new(expected, (300, y), style.clone()))?;
    area.draw(&Rectangle::new([(620, y - 7), (644, y + 7)], NEGATIVE.mix(0.25).filled()))?;
    area.draw(&Text::new("alert", (650, y), style.clone()))?;
    area.draw(&Rectangle::new([(710, y - 7), (734, y + 7)], SURGE.mix(0.35).filled()))?;
    area.draw(&Text::new("alert that began with the volume", (740, y), style.clone()))?;
    area.draw(&Rectangle::new([(980, y - 7), (1004, y + 7)], GREY.mix(0.5).filled()))?;
    area.draw(&Rectangle::new([(980, y), (1004, y + 7)], NEGATIVE.mix(0.6).filled()))?;
    area.draw(&Text::new("tweets, negative ones in red", (1010, y), style))
}

fn draw(
    area: &Area<'_>,
    rule: Option<&str>,
    result: &BrandOutcome,
    x: std::ops::Range<f64>,
) -> Drawn {
    let hours = &result.outcome.hours;
    let step = step(hours.len(), result.outcome.tweets.total);
    let points = points(hours, step);
    let (above, below) = area.split_vertically(SHARE);
    let span = match step {
        1 => "an hour".to_owned(),
        24 => "a day".to_owned(),
        hours if hours > 24 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    };
    let rule = rule.map_or(String::new(), |rule| format!(", by {rule}"));
    let caption = format!("{}{rule}; a point is {span}", result.brand);
    share_chart(&above, &caption, &points, step, result, x.clone())?;
    volume_chart(&below, &points, step, x)
}

fn share_chart(
    area: &Area<'_>,
    caption: &str,
    points: &[Point],
    step: usize,
    result: &BrandOutcome,
    x: std::ops::Range<f64>,
) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 17).into_font().color(&INK))
        .margin_right(16)
        .margin_top(6)
        .x_label_area_size(4)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.clone(), 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(GREY)
        .label_style((FONT, SMALL).into_font().color(&INK))
        .y_label_formatter(&|share| percent(*share))
        .draw()?;
    // An alert of a few minutes must be visible in a picture of months.
    let least = (x.end - x.start) / 400.0;
    let spans = result.outcome.alerts.iter().flat_map(|alert| {
        let spans = alert.spans.iter();
        spans.map(move |(from, to)| (alert.opening.cause(), from.0 as f64, *to))
    });
    let bands = spans.map(|(cause, from, to)| {
        let to = to.map_or(x.end, |at| at.0 as f64).max(from + least);
        let colour = match cause {
            Cause::Share => NEGATIVE.mix(0.25),
            _ => SURGE.mix(0.35),
        };
        Rectangle::new([(from, 0.0), (to.min(x.end), 1.0)], colour.filled())
    });
    chart.draw_series(bands.collect::<Vec<_>>())?;
    let middle = |point: &Point| (point.start.0 + 30 * step as i64) as f64;
    let middle = |point: &Point| middle(point).clamp(x.start, x.end);
    for run in points.split(|point| point.expected.is_none()) {
        let edge = |end: fn(Interval) -> f64| {
            run.iter().filter_map(move |p| Some((middle(p), end(p.expected?.1))))
        };
        let band: Vec<_> =
            edge(|i| i.low).chain(edge(|i| i.high).collect::<Vec<_>>().into_iter().rev()).collect();
        if !band.is_empty() {
            chart.draw_series([Polygon::new(band, EXPECTED.mix(0.15))])?;
        }
        let expected = run.iter().filter_map(|p| Some((middle(p), p.expected?.0)));
        chart.draw_series(LineSeries::new(expected, EXPECTED))?;
    }
    let share = |point: &Point| {
        let share = point.counts.share()?;
        (point.counts.total >= POINT_TWEETS_MIN).then(|| (middle(point), share))
    };
    for run in points.split(|point| share(point).is_none()) {
        let run: Vec<_> = run.iter().filter_map(share).collect();
        if let [alone] = run[..] {
            chart.draw_series([Circle::new(alone, 2, NEGATIVE.filled())])?;
        }
        chart.draw_series(LineSeries::new(run, NEGATIVE.stroke_width(2)))?;
    }
    Ok(())
}

fn volume_chart(area: &Area<'_>, points: &[Point], step: usize, x: std::ops::Range<f64>) -> Drawn {
    let most = points.iter().map(|point| point.counts.total).max().unwrap_or(0).max(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_right(16)
        .margin_bottom(12)
        .x_label_area_size(24)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.clone(), 0.0..most)?;
    let times = times(&x);
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(0)
        .y_labels(3)
        .axis_style(GREY)
        .label_style((FONT, SMALL).into_font().color(&INK))
        .y_label_formatter(&|tweets| format!("{tweets:.0}"))
        .draw()?;
    let half = 30.0 * step as f64;
    let bar = |point: &Point, tweets: u64, colour: RGBAColor| {
        let left = (point.start.0 as f64 + 0.06 * half).clamp(x.start, x.end);
        let right = (point.start.0 as f64 + 1.94 * half).clamp(x.start, x.end);
        Rectangle::new([(left, 0.0), (right, tweets as f64)], colour.filled())
    };
    let seen = || points.iter().filter(|point| point.counts.total > 0);
    chart.draw_series(seen().map(|point| bar(point, point.counts.total, GREY.mix(0.5))))?;
    chart.draw_series(seen().map(|point| bar(point, point.counts.negative, NEGATIVE.mix(0.6))))?;
    let style = (FONT, SMALL).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Top));
    for (at, label) in times {
        let (across, down) = chart.backend_coord(&(at, 0.0));
        let (origin_x, origin_y) = area.get_base_pixel();
        let place = (across - origin_x, down - origin_y);
        area.draw(&PathElement::new([place, (place.0, place.1 + 5)], GREY))?;
        area.draw(&Text::new(label, (place.0 + 2, place.1 + 5), style.clone()))?;
    }
    Ok(())
}

/// Labels on the time axis: at midnight UTC, or at full hours if these are too few.
fn times(x: &std::ops::Range<f64>) -> Vec<(f64, String)> {
    let (from, to) = (x.start as i64, x.end as i64);
    let hours = [1, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 28 * 24, 91 * 24, 364 * 24];
    let every =
        hours.into_iter().find(|h| (to - from) / (h * 60) <= TIMES_MAX).unwrap_or(3640 * 24);
    let form = match every {
        h if h < 24 => "%-d %b %H:%M",
        h if h < 91 * 24 => "%-d %b",
        _ => "%b %Y",
    };
    let first = from.div_euclid(every * 60) * every * 60;
    // Only where a label fits before the right edge.
    let last = to - (to - from) / 20;
    (first..=last)
        .step_by(usize::try_from(every * 60).expect("hours are positive"))
        .filter(|at| *at >= from)
        .map(|at| (at as f64, Minute(at).start().format(form).to_string()))
        .collect()
}

/// Hours of a point, such that the points are not too many and most have enough tweets.
fn step(hours: usize, tweets: u64) -> usize {
    let few = |step: &usize| hours.div_ceil(*step) <= POINTS_MAX;
    let full = |step: &usize| tweets * *step as u64 >= 2 * POINT_TWEETS_MIN * hours as u64;
    let longest = hours.div_ceil(POINTS_MAX).next_multiple_of(24);
    POINT_HOURS.into_iter().find(|step| few(step) && full(step)).unwrap_or(longest)
}

fn points(hours: &[Hour], step: usize) -> Vec<Point> {
    let slot = |hour: &Hour| hour.start.0.div_euclid(60 * step as i64);
    let point = |hours: &[Hour]| {
        let expected: Vec<_> = hours.iter().filter_map(|hour| hour.expected).collect();
        let mean = |value: fn(&(f64, Interval)) -> f64| {
            expected.iter().map(value).sum::<f64>() / expected.len() as f64
        };
        let interval = || Interval { low: mean(|e| e.1.low), high: mean(|e| e.1.high) };
        Point {
            start: Minute(slot(&hours[0]) * 60 * step as i64),
            counts: hours.iter().fold(Counts::default(), |sum, hour| sum + hour.counts),
            expected: (!expected.is_empty()).then(|| (mean(|e| e.0), interval())),
        }
    };
    hours.chunk_by(|a, b| slot(a) == slot(b)).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_number_of_points() {
        let check = |hours: usize, an_hour: u64, expected| {
            let found = step(hours, an_hour * hours as u64);
            assert_eq!(found, expected, "{hours} hours, {an_hour} tweets each");
        };
        check(1, 100, 1);
        check(168, 20, 1);
        check(168, 8, 3);
        check(168, 0, 24);
        check(720, 100, 2);
        check(90 * 24, 6000, 6);
        check(365 * 24, 100, 24);
        check(5 * 365 * 24, 100, 120);
    }

    #[test]
    fn points_cover_whole_hours() {
        let hour = |start: i64, total, expected: Option<f64>| Hour {
            start: Minute(start * 60),
            counts: Counts { total, negative: 1 },
            expected: expected.map(|share| (share, Interval { low: 0.0, high: 2.0 * share })),
        };
        let hours = [hour(5, 4, None), hour(6, 2, Some(0.2)), hour(7, 3, Some(0.4))];
        let found = points(&hours, 3);
        assert_eq!((found[0].start, found[1].start), (Minute(180), Minute(360)));
        assert_eq!(found[0].expected, None);
        assert_eq!(found[1].counts, Counts { total: 5, negative: 2 });
        let (share, interval) = found[1].expected.unwrap();
        assert!((share - 0.3).abs() < 1e-9 && (interval.high - 0.6).abs() < 1e-9);
    }

    #[test]
    fn time_labels_are_round_and_few() {
        let check = |days: f64, first: &str, count: usize| {
            // 2015-02-17 07:36
            let from = 1_424_158_560.0 / 60.0;
            let found = times(&(from..from + days * 1440.0));
            assert_eq!((found[0].1.as_str(), found.len()), (first, count), "{days} days");
        };
        check(0.2, "17 Feb 08:00", 5);
        check(7.5, "18 Feb", 7);
        check(90.0, "19 Feb", 12);
    }
}
