//! A dashboard as a picture (SVG), drawn from the answers of its own SQL: stats, curves with their regions, tables.
//!
//! **Invariant.** Nothing is drawn that is not in the dashboard's JSON or in an answer. It is no picture of Grafana:
//! only what panels show is drawn, in our own way. Deliberately absent: Prometheus, labels of series.

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, Utc};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;

use super::expand::Range;
use super::queries::{Answer, seconds};
use super::{Dashboard, items, text};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

const INK: RGBColor = RGBColor(0x22, 0x26, 0x2e);
const GREY: RGBColor = RGBColor(0x7a, 0x80, 0x8c);
const PALE: RGBColor = RGBColor(0xe3, 0xe5, 0xe9);
const PAGE: RGBColor = RGBColor(0xf3, 0xf4, 0xf6);
const FONT: &str = "sans-serif";
/// Pixels of a column and of a unit of height; Grafana has 24 columns.
const COLUMN: u32 = 50;
const UNIT: u32 = 29;
const HEAD: u32 = 40;
const TITLE: u32 = 28;
/// Panels further down are left out.
const UNITS_MAX: u64 = 32;

/// The answers to the targets of each panel, by the panel's id.
pub type Answers = BTreeMap<u64, Vec<Answer>>;

struct Picture<'a> {
    range: Range,
    regions: &'a Answer,
}

/// Draws the upper panels of a dashboard.
pub fn picture(
    dashboard: &Dashboard,
    title: &str,
    answers: &Answers,
    regions: &Answer,
    range: Range,
) -> String {
    let cell =
        |panel: &Value, key: &str| u32::try_from(panel["gridPos"][key].as_u64().unwrap()).unwrap();
    let panels =
        || dashboard.panels().iter().filter(|it| it["gridPos"]["y"].as_u64() < Some(UNITS_MAX));
    let bottom = panels().map(|it| cell(it, "y") + cell(it, "h")).max().unwrap_or(0);
    let size = (24 * COLUMN + 8, HEAD + bottom * UNIT + 8);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let picture = Picture { range, regions };
        let drawn = root.fill(&PAGE).and_then(|()| {
            root.draw(&Text::new(title.to_owned(), (12, 12), (FONT, 22).into_font().color(&INK)))?;
            for panel in panels() {
                let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| cell(panel, key));
                let (left, top) = (4 + x * COLUMN + 4, HEAD + y * UNIT + 4);
                let area = root.clone().shrink((left, top), (w * COLUMN - 8, h * UNIT - 8));
                picture.panel(&area, panel, &answers[&panel["id"].as_u64().unwrap()])?;
            }
            root.present()
        });
        drawn.expect("drawing to memory cannot fail");
    }
    svg
}

fn unit<'a>(panel: &'a Value, column: &str) -> &'a str {
    let own = property(panel, column, "unit").and_then(Value::as_str);
    own.unwrap_or_else(|| text(&panel["fieldConfig"]["defaults"]["unit"]))
}

/// What is set for a single column.
fn property<'a>(panel: &'a Value, column: &str, id: &str) -> Option<&'a Value> {
    let overrides = items(&panel["fieldConfig"]["overrides"]).iter();
    let mut of_column = overrides.filter(|it| it["matcher"]["options"] == column);
    of_column
        .find_map(|it| items(&it["properties"]).iter().find(|it| it["id"] == id))
        .map(|it| &it["value"])
}

fn shown(value: &Value, unit: &str) -> String {
    match (value.as_f64(), unit) {
        (Some(share), "percentunit") => format!("{:.1} %", 100.0 * share),
        (Some(seconds), "dtdurations") => format!("{:.1} h", seconds / 3600.0),
        (Some(number), _) => format!("{number:.0}"),
        (None, _) => match value.as_str().map(|it| (it, it.parse::<DateTime<Utc>>())) {
            Some((_, Ok(at))) => at.format("%d %b %H:%M").to_string(),
            Some((text, Err(_))) => text.replace('\n', " "),
            None => String::new(),
        },
    }
}

fn color(panel: &Value, column: &str) -> RGBColor {
    let hex = property(panel, column, "color").and_then(|it| it["fixedColor"].as_str());
    let number = hex
        .and_then(|it| u32::from_str_radix(it.trim_start_matches('#'), 16).ok())
        .unwrap_or(0x0044_4444);
    let [_, red, green, blue] = number.to_be_bytes();
    RGBColor(red, green, blue)
}

fn hidden(panel: &Value, column: &str) -> bool {
    property(panel, column, "custom.hideFrom").is_some_and(|it| it["viz"] == true)
}

impl Picture<'_> {
    fn panel(&self, area: &Area<'_>, panel: &Value, answers: &[Answer]) -> Drawn {
        area.fill(&WHITE)?;
        let title = (FONT, 15).into_font().color(&INK);
        area.draw(&Text::new(text(&panel["title"]).to_owned(), (10, 8), title))?;
        let (_, inner) = area.split_vertically(TITLE);
        match text(&panel["type"]) {
            "stat" => stat(&inner, panel, &answers[0]),
            "timeseries" => self.series(&inner, panel, answers),
            _ => table(&inner, panel, &answers[0]),
        }
    }

    fn series(&self, area: &Area<'_>, panel: &Value, answers: &[Answer]) -> Drawn {
        let custom = &panel["fieldConfig"]["defaults"]["custom"];
        let bars = custom["drawStyle"] == "bars";
        let number = |row: &Value, column: &str| row[column].as_f64();
        let columns = |answer: &Answer| -> Vec<String> {
            answer.columns.iter().map(|it| it.0.clone()).filter(|it| it != "time").collect()
        };
        let total = |row: &Value, names: &[String]| {
            names.iter().filter_map(|it| number(row, it)).sum::<f64>()
        };
        let highest = answers.iter().flat_map(|answer| {
            let names = columns(answer);
            answer.rows.iter().map(move |row| total(row, &names))
        });
        let top = panel["fieldConfig"]["defaults"]["max"].as_f64();
        let top = top.unwrap_or_else(|| 1.05 * highest.fold(1.0, f64::max));
        let (first, last) = (self.range.from.timestamp() as f64, self.range.to.timestamp() as f64);
        let kind = unit(panel, "");
        let mut chart = ChartBuilder::on(area)
            .margin_right(14)
            .margin_bottom(24)
            .x_label_area_size(24)
            .y_label_area_size(54)
            .build_cartesian_2d(first..last, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(10)
            .y_labels(5)
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(PALE)
            .label_style((FONT, 13).into_font().color(&GREY))
            .x_label_formatter(&|at| {
                DateTime::from_timestamp(*at as i64, 0)
                    .map_or(String::new(), |at| at.format("%d %b").to_string())
            })
            .y_label_formatter(&|value| match kind {
                "percentunit" => format!("{:.0} %", 100.0 * value),
                _ => format!("{value:.0}"),
            })
            .draw()?;
        for row in &self.regions.rows {
            let at = |key: &str| seconds(&row[key]).expect("a time").clamp(first, last);
            let corners = [(at("time"), 0.0), (at("timeend"), top)];
            chart.draw_series([Rectangle::new(
                corners,
                RGBColor(0xd6, 0x45, 0x45).mix(0.16).filled(),
            )])?;
        }
        let mut legend = Vec::new();
        for answer in answers {
            let names = columns(answer);
            let point =
                |row: &Value, name: &str| Some((seconds(&row["time"])?, number(row, name)?));
            for (place, name) in names.iter().enumerate() {
                let shade = color(panel, name);
                if bars {
                    let step = answer
                        .rows
                        .windows(2)
                        .filter_map(|it| Some(seconds(&it[1]["time"])? - seconds(&it[0]["time"])?));
                    let width = 0.8 * step.fold(f64::INFINITY, f64::min).min(last - first);
                    chart.draw_series(answer.rows.iter().filter_map(|row| {
                        let (at, value) = point(row, name)?;
                        let below = total(row, &names[..place]);
                        let corners = [(at, below), (at + width, below + value)];
                        Some(Rectangle::new(corners, shade.mix(0.85).filled()))
                    }))?;
                } else if let Some(below) = property(panel, name, "custom.fillBelowTo") {
                    let upper = answer.rows.iter().filter_map(|row| point(row, name));
                    let lower = answer.rows.iter().rev().filter_map(|row| point(row, text(below)));
                    let outline: Vec<_> = upper.chain(lower).collect();
                    chart.draw_series([Polygon::new(outline, shade.mix(0.2).filled())])?;
                } else if property(panel, name, "custom.lineWidth").is_none() {
                    let points: Vec<_> =
                        answer.rows.iter().filter_map(|row| point(row, name)).collect();
                    match property(panel, name, "custom.lineStyle") {
                        Some(_) => chart.draw_series(DashedLineSeries::new(
                            points,
                            8,
                            6,
                            shade.stroke_width(2),
                        ))?,
                        None => {
                            chart.draw_series(LineSeries::new(points, shade.stroke_width(2)))?
                        }
                    };
                }
                let in_legend =
                    property(panel, name, "custom.hideFrom").is_none_or(|it| it["legend"] != true);
                legend.extend(in_legend.then(|| (name.clone(), shade)));
            }
        }
        let bottom = area.dim_in_pixel().1.cast_signed() - 12;
        let mut left = 60;
        let style = (FONT, 13).into_font().color(&GREY).pos(Pos::new(HPos::Left, VPos::Center));
        for (name, shade) in legend {
            area.draw(&Rectangle::new(
                [(left, bottom - 3), (left + 16, bottom + 3)],
                shade.filled(),
            ))?;
            let width = 34 + 8 * i32::try_from(name.chars().count()).unwrap();
            area.draw(&Text::new(name, (left + 22, bottom), style.clone()))?;
            left += width;
        }
        Ok(())
    }
}

fn stat(area: &Area<'_>, panel: &Value, answer: &Answer) -> Drawn {
    let columns = answer.columns.len().cast_signed() as i32;
    let (width, height) = area.dim_in_pixel();
    for (place, (name, _)) in (0..).zip(&answer.columns) {
        let value = answer.rows.first().map_or(&Value::Null, |row| &row[name]);
        let centre = (2 * place + 1) * width.cast_signed() / (2 * columns);
        let middle = height.cast_signed() / 2 - if columns > 1 { 12 } else { 4 };
        let style = |size: i32, shade: &RGBColor| {
            (FONT, size).into_font().color(shade).pos(Pos::new(HPos::Center, VPos::Center))
        };
        area.draw(&Text::new(shown(value, unit(panel, name)), (centre, middle), style(34, &INK)))?;
        if columns > 1 {
            area.draw(&Text::new(name.clone(), (centre, middle + 28), style(14, &GREY)))?;
        }
    }
    Ok(())
}

fn table(area: &Area<'_>, panel: &Value, answer: &Answer) -> Drawn {
    let columns: Vec<&str> =
        answer.columns.iter().map(|it| it.0.as_str()).filter(|it| !hidden(panel, it)).collect();
    let (width, height) = area.dim_in_pixel();
    // A column is as wide as its longest text, and what is left over or lacks is that of the widest.
    let cells = |row: Option<&Value>| -> Vec<String> {
        columns
            .iter()
            .map(|it| row.map_or((*it).to_owned(), |row| shown(&row[*it], unit(panel, it))))
            .collect()
    };
    let lines = usize::try_from(height / 21).unwrap().saturating_sub(1);
    let rows: Vec<Vec<String>> = [cells(None)]
        .into_iter()
        .chain(answer.rows.iter().take(lines).map(|it| cells(Some(it))))
        .collect();
    let length = |column: usize| {
        rows.iter().map(|row| 8 * row[column].chars().count() + 16).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(length).collect();
    if let Some(widest) = (0..widths.len()).max_by_key(|it| widths[*it]) {
        let others: usize = widths.iter().sum::<usize>() - widths[widest];
        widths[widest] = usize::try_from(width).unwrap().saturating_sub(others + 10);
    }
    for (line, row) in (0..).zip(&rows) {
        let mut left = 10;
        let shade = if line == 0 { GREY } else { INK };
        for (cell, width) in row.iter().zip(&widths) {
            let most = width.saturating_sub(10) / 7;
            let cut: String = cell.chars().take(most).collect();
            let style = (FONT, 13).into_font().color(&shade);
            area.draw(&Text::new(cut, (i32::try_from(left).unwrap(), 2 + 21 * line), style))?;
            left += width;
        }
    }
    Ok(())
}
