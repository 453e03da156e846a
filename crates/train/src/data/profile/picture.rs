//! The distributions of a profile, as SVG.
//!
//! **Invariant.** A pure function of the profile. Deliberately absent: fonts; the viewer
//! uses its own.

use chrono::{Datelike, NaiveDate};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use monitor_core::format::percent_tenths;

use super::{Balance, Profile};
use monitor_core::domain::Label;

const SIZE: (u32, u32) = (1000, 1080);
const PANEL: u32 = 330;
const HEAD: u32 = 60;
/// More days than this are drawn by month.
const DAYS_MAX: i64 = 120;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws the profile: rows by target, words of a text by target with the 95 % line, rows by
/// day or month.
pub fn picture(profile: &Profile) -> String {
    let mut svg = String::new();
    draw(profile, &mut svg).expect("a picture of this size can be drawn into a string");
    svg
}

fn draw(profile: &Profile, svg: &mut String) -> Drawn {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (head, panels) = area.split_vertically(HEAD);
    let title = ("sans-serif", 22).into_font().color(&BLACK);
    head.draw_text(&profile.file, &title, (20, 10))?;
    let left_out: usize = profile.left_out.iter().map(|left| left.rows).sum();
    let rows = format!("{} rows, {left_out} of them left out", profile.rows_read);
    head.draw_text(&rows, &("sans-serif", 15).into_font().color(&BLACK), (20, 38))?;
    let (top, rest) = panels.split_vertically(PANEL);
    let (middle, bottom) = rest.split_vertically(PANEL);
    balance(profile, &top)?;
    words(profile, &middle)?;
    dates(profile, &bottom)?;
    area.present()
}

fn colour(target: Label) -> RGBColor {
    match target {
        Label::Negative => RGBColor(192, 57, 43),
        Label::Neutral => RGBColor(127, 140, 141),
        Label::Positive => RGBColor(31, 119, 180),
    }
}

fn anchored(side: HPos) -> TextStyle<'static> {
    ("sans-serif", 14).into_font().into_text_style(&SIZE).pos(Pos::new(side, VPos::Center))
}

/// Rows by target; also the legend of the other panels.
fn balance(profile: &Profile, area: &Area<'_>) -> Drawn {
    let (balance, total) = (profile.balance, profile.balance.total().max(1));
    let highest = Label::ALL.map(|target| balance.of(target)).into_iter().max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption("Rows by target", ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(-0.5..2.5, 0.0..highest.max(1) as f64 * 1.15)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(3)
        .x_label_formatter(&|x: &f64| {
            let target = Label::ALL.get(x.round() as usize);
            target.map_or("", |target| target.word()).to_owned()
        })
        .y_label_formatter(&|y: &f64| format!("{y:.0}"))
        .draw()?;
    for (x, target) in Label::ALL.into_iter().enumerate() {
        let (x, rows) = (x as f64, balance.of(target));
        chart.draw_series([Rectangle::new(
            [(x - 0.3, 0.0), (x + 0.3, rows as f64)],
            colour(target).filled(),
        )])?;
        let share = format!("{rows} ({})", percent_tenths(rows as f64 / total as f64));
        let at = (x, rows as f64 + highest.max(1) as f64 * 0.05);
        chart.draw_series([Text::new(share, at, anchored(HPos::Center))])?;
    }
    Ok(())
}

fn words(profile: &Profile, area: &Area<'_>) -> Drawn {
    let shown = profile.words.p99 + profile.words.p99 / 4 + 2;
    let bars: Vec<Balance> = profile.words_histogram.iter().copied().take(shown).collect();
    let highest = bars.iter().map(|bar| bar.total()).max().unwrap_or(0).max(1) as f64;
    let caption = "Rows by words of their text";
    stacked(area, caption, &bars, highest, &|x| x.to_string(), Some(profile.words.p95))
}

fn dates(profile: &Profile, area: &Area<'_>) -> Drawn {
    let days = &profile.dates.days;
    let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value())
    else {
        let none = "No row says when it was written";
        return area.draw_text(none, &("sans-serif", 15).into_font().color(&BLACK), (20, 20));
    };
    let by_month = (*last - *first).num_days() >= DAYS_MAX;
    let place = |day: &NaiveDate| {
        let month = |day: &NaiveDate| i64::from(day.year()) * 12 + i64::from(day.month0());
        if by_month { month(day) - month(first) } else { (*day - *first).num_days() }
    };
    let mut bars = vec![Balance::default(); place(last) as usize + 1];
    for (day, balance) in days {
        bars[place(day) as usize].merge(*balance);
    }
    let highest = bars.iter().map(|bar| bar.total()).max().unwrap_or(0).max(1) as f64;
    let label = |x: usize| {
        if by_month {
            let month = first.checked_add_months(chrono::Months::new(x as u32));
            month.map_or(String::new(), |month| month.format("%b %Y").to_string())
        } else {
            let day = first.checked_add_days(chrono::Days::new(x as u64));
            day.map_or(String::new(), |day| day.format("%-d %b %Y").to_string())
        }
    };
    let caption = if by_month { "Rows by month (UTC)" } else { "Rows by day (UTC)" };
    stacked(area, caption, &bars, highest, &label, None)
}

/// Bars 0, 1, 2, ... stacked by target, and a dashed line at `mark`.
fn stacked(
    area: &Area<'_>,
    caption: &str,
    bars: &[Balance],
    highest: f64,
    label: &dyn Fn(usize) -> String,
    mark: Option<usize>,
) -> Drawn {
    let right = bars.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(-0.5..right, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(12)
        .x_label_formatter(&|x: &f64| {
            if *x < 0.0 || x.fract() != 0.0 { String::new() } else { label(*x as usize) }
        })
        .y_label_formatter(&|y: &f64| format!("{y:.0}"))
        .draw()?;
    let mut floor = vec![0; bars.len()];
    for target in Label::ALL {
        let drawn = bars.iter().zip(&mut floor).enumerate().filter_map(|(x, (bar, floor))| {
            let (x, from) = (x as f64, *floor);
            *floor += bar.of(target);
            let corners = [(x - 0.42, from as f64), (x + 0.42, *floor as f64)];
            (*floor > from).then(|| Rectangle::new(corners, colour(target).filled()))
        });
        chart.draw_series(drawn)?;
    }
    if let Some(mark) = mark {
        let x = mark as f64 + 0.5;
        let line = [(x, 0.0), (x, highest * 1.1)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, BLACK.into()))?;
        let words = format!("95 % have {mark} words or fewer");
        chart.draw_series([Text::new(words, (x - 0.2, highest * 1.05), anchored(HPos::Right))])?;
    }
    Ok(())
}
