//! Figures as SVG pictures, which stay sharp and can be read as text.
//!
//! **Invariant.** Pictures show only what the tables contain. Deliberately absent:
//! writing files.

mod tuning;

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::comparison::thousands;
use super::reliability::{Reliability, bins};
use super::{
    Comparison, CurvePoint, Evaluation, LearningCurve, Metrics, PrecisionRecall,
    PrecisionRecallPoint, Scored, intervals, pairs,
};
use crate::progress::training_time;
use monitor_core::domain::{Interval, Probability};

pub use tuning::tuning_svg;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

const NEGATIVE: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const POSITIVE: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x88, 0x88, 0x88);
const PALE: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FONT: &str = "sans-serif";
/// Bars of the histogram of scores.
const SCORE_BINS: usize = 25;
/// Most points of the ROC curve; more would not be visible.
const ROC_POINTS_MAX: usize = 500;
/// Font size of small labels, in plotters' unit.
const SMALL: i32 = 14;
/// Smallest distance between two labels, in pixels.
const LABEL_GAP: i32 = 16;

/// ROC curve, precision-recall curve, reliability diagram, and scores by class.
pub fn evaluation_svg(
    evaluation: &Evaluation,
    scored: &[Scored<'_>],
    threshold: Probability,
) -> String {
    let pairs = pairs(scored);
    let title = format!(
        "{} on {} ({} rows)",
        evaluation.model,
        evaluation.data.file,
        thousands(evaluation.data.rows as f64)
    );
    svg((1680, 460), &title, |area| {
        let panels = area.split_evenly((1, 4));
        roc_panel(&panels[0], &pairs, threshold)?;
        precision_recall_panel(&panels[1], evaluation.precision_recall.as_ref(), threshold)?;
        reliability_panel(&panels[2], &pairs)?;
        scores_panel(&panels[3], &pairs, threshold)
    })
}

/// A picture with a title; drawing to memory cannot fail.
fn svg(size: (u32, u32), title: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root.fill(&WHITE).and_then(|()| {
            let (head, body) = root.split_vertically(36);
            head.draw(&Text::new(title.to_owned(), (14, 12), (FONT, 20).into_font().color(&INK)))?;
            draw(&body)
        });
        drawn.and_then(|()| root.present()).expect("drawing to memory cannot fail");
    }
    text
}

/// A chart whose axes both go from about 0 to 1.
macro_rules! unit_chart {
    ($area:expr, $caption:expr, $x:expr, $y:expr, $y_max:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .caption($caption, (FONT, 17).into_font().color(&INK))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..1.0, 0.0..$y_max)?;
        chart
            .configure_mesh()
            .x_labels(6)
            .y_labels(6)
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, SMALL).into_font().color(&INK))
            .x_label_formatter(&|value| format!("{value:.1}"))
            .y_label_formatter(&|value| {
                if $y_max < 0.5 { format!("{value:.2}") } else { format!("{value:.1}") }
            })
            .x_desc($x)
            .y_desc($y)
            .draw()?;
        chart
    }};
}

fn roc_panel(area: &Area<'_>, pairs: &[(Probability, bool)], threshold: Probability) -> Drawn {
    let metrics = Metrics::of(pairs, threshold);
    let caption = match metrics.auc {
        Some(auc) => format!("ROC curve, area {auc:.4}"),
        None => "ROC curve: one class only".to_owned(),
    };
    let mut chart =
        unit_chart!(area, caption, "positives found negative", "negatives found negative", 1.0);
    chart.draw_series(DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 4, 4, GREY.into()))?;
    if metrics.auc.is_none() {
        return Ok(());
    }
    let points = roc(pairs);
    let step = points.len().div_ceil(ROC_POINTS_MAX).max(1);
    let last = points.len() - 1;
    let kept = points.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last);
    chart.draw_series(LineSeries::new(kept.map(|(_, point)| *point), NEGATIVE.stroke_width(2)))?;
    let c = metrics.confusion;
    let share = |part: usize, other: usize| part as f64 / (part + other) as f64;
    let at =
        (share(c.positive_missed, c.positive_found), share(c.negative_found, c.negative_missed));
    chart.draw_series([Circle::new(at, 5, NEGATIVE.filled())])?;
    // Below the curve, where the panel is empty.
    let side = if at.0 < 0.6 { HPos::Left } else { HPos::Right };
    let style = (FONT, SMALL).into_font().color(&INK).pos(Pos::new(side, VPos::Top));
    let label = format!("negative from {:.2}", threshold.get());
    chart.draw_series([Text::new(label, (at.0 + 0.02, at.1 - 0.03), style)])?;
    Ok(())
}

/// Shares of positives and of negatives that score at or above each threshold.
fn roc(pairs: &[(Probability, bool)]) -> Vec<(f64, f64)> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.get().total_cmp(&a.0.get()));
    let negatives = sorted.iter().filter(|(_, negative)| *negative).count() as f64;
    let positives = sorted.len() as f64 - negatives;
    let (mut found, mut wrong) = (0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let of_tie = tie.iter().filter(|(_, negative)| *negative).count() as f64;
        found += of_tie;
        wrong += tie.len() as f64 - of_tie;
        points.push((wrong / positives, found / negatives));
    }
    points
}

fn precision_recall_panel(
    area: &Area<'_>,
    curve: Option<&PrecisionRecall>,
    threshold: Probability,
) -> Drawn {
    let caption = match curve {
        Some(curve) => format!("Precision and recall, average {:.4}", curve.average_precision),
        None => "Precision and recall: no negative row".to_owned(),
    };
    let mut chart = unit_chart!(area, caption, "recall of negative", "precision of negative", 1.0);
    let Some(PrecisionRecall { points, .. }) = curve else { return Ok(()) };
    let all = points[points.len() - 1].precision;
    chart.draw_series(DashedLineSeries::new([(0.0, all), (1.0, all)], 4, 4, GREY.into()))?;
    let line = points.iter().map(|point| (point.recall, point.precision));
    chart.draw_series(LineSeries::new(line, NEGATIVE.stroke_width(2)))?;
    let called = |point: &&PrecisionRecallPoint| point.threshold >= f64::from(threshold.get());
    if let Some(point) = points.iter().rev().find(called) {
        let at = (point.recall, point.precision);
        chart.draw_series([Circle::new(at, 5, NEGATIVE.filled())])?;
    }
    Ok(())
}

fn reliability_panel(area: &Area<'_>, pairs: &[(Probability, bool)]) -> Drawn {
    let error = Reliability::of(pairs).map_or(0.0, |reliability| reliability.error);
    let caption = format!("Reliability, calibration error {error:.4}");
    let mut chart =
        unit_chart!(area, caption, "mean score of a bin", "share that is negative", 1.0);
    chart.draw_series(DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 4, 4, GREY.into()))?;
    let bins = bins(pairs);
    chart.draw_series(LineSeries::new(
        bins.iter().map(|bin| (bin.score_mean, bin.negative_share)),
        NEGATIVE.stroke_width(1),
    ))?;
    chart.draw_series(bins.iter().filter_map(|bin| {
        let Interval { low, high } = intervals::of_share(bin.negatives, bin.rows)?;
        let (x, y) = (bin.score_mean, bin.negative_share);
        Some(ErrorBar::new_vertical(x, low, y, high, NEGATIVE.filled(), 7))
    }))?;
    Ok(())
}

fn scores_panel(area: &Area<'_>, pairs: &[(Probability, bool)], threshold: Probability) -> Drawn {
    let threshold = f64::from(threshold.get());
    let of_class = |class: bool| -> Vec<f64> {
        let mut shares = vec![0.0; SCORE_BINS];
        let scores = pairs.iter().filter(|(_, negative)| *negative == class);
        let rows = scores.clone().count().max(1) as f64;
        for (score, _) in scores {
            let bin = (f64::from(score.get()) * SCORE_BINS as f64) as usize;
            shares[bin.min(SCORE_BINS - 1)] += 1.0 / rows;
        }
        shares
    };
    let classes = [("negative", NEGATIVE, of_class(true)), ("positive", POSITIVE, of_class(false))];
    let most = classes.iter().flat_map(|(.., shares)| shares).copied().fold(0.01, f64::max);
    // Room for the legend above the bars.
    let top = most * 1.35;
    let mut chart = unit_chart!(
        area,
        "Scores of each class",
        "probability of negative",
        "share of the class",
        top
    );
    for (name, colour, shares) in classes {
        let edge = |bin: usize| bin as f64 / SCORE_BINS as f64;
        let bars = shares.iter().enumerate().map(|(bin, share)| {
            Rectangle::new([(edge(bin), 0.0), (edge(bin + 1), *share)], colour.mix(0.45).filled())
        });
        chart.draw_series(bars)?.label(name).legend(move |(x, y)| {
            Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.mix(0.45).filled())
        });
    }
    let line = [(threshold, 0.0), (threshold, top)];
    chart
        .draw_series(DashedLineSeries::new(line, 4, 4, INK.into()))?
        .label(format!("negative from {threshold:.2}"))
        .legend(|(x, y)| PathElement::new([(x + 5, y - 5), (x + 5, y + 5)], INK));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .label_font((FONT, SMALL).into_font().color(&INK))
        .background_style(WHITE.mix(0.8))
        .draw()
}

/// The figure of a learning curve with its interval, against the rows learned from.
pub fn learning_curve_svg(curve: &LearningCurve) -> String {
    let title = format!(
        "{} on {} rows held out of {}",
        curve.family,
        thousands(curve.held_out as f64),
        curve.file
    );
    svg((820, 520), &title, |area| {
        let points = &curve.points;
        let ends = |point: &CurvePoint| {
            point.interval.unwrap_or(Interval { low: point.value, high: point.value })
        };
        let low = points.iter().map(|point| ends(point).low).fold(1.0, f64::min);
        let high = points.iter().map(|point| ends(point).high).fold(0.0, f64::max);
        let rows = |point: &CurvePoint| point.rows.max(1) as f64;
        let fewest = points.iter().map(rows).fold(f64::INFINITY, f64::min);
        let most = points.iter().map(rows).fold(1.0, f64::max);
        let x = 10_f64.powf(fewest.log10().floor())..10_f64.powf((most * 1.1).log10().ceil());
        let mut chart = ChartBuilder::on(area)
            .caption(
                format!("{} with its 95 % interval", curve.figure),
                (FONT, 17).into_font().color(&INK),
            )
            .margin(12)
            .margin_right(44)
            .x_label_area_size(44)
            .y_label_area_size(58)
            .build_cartesian_2d(x.log_scale(), low - 0.02..(high + 0.02).min(1.0))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, SMALL).into_font().color(&INK))
            .x_label_formatter(&|value| thousands(*value))
            .y_label_formatter(&|value| format!("{value:.2}"))
            .x_desc("rows learned from")
            .y_desc(curve.figure)
            .draw()?;
        let line = points.iter().map(|point| (rows(point), point.value));
        chart.draw_series(LineSeries::new(line, NEGATIVE.stroke_width(1)))?;
        chart.draw_series(points.iter().map(|point| {
            let (Interval { low, high }, x) = (ends(point), rows(point));
            ErrorBar::new_vertical(x, low, point.value, high, NEGATIVE.filled(), 9)
        }))?;
        Ok(())
    })
}

/// Accuracy against speed, and training times.
pub fn comparison_svg(comparison: &Comparison) -> String {
    let title = format!(
        "{} models on the same {} rows of {}",
        comparison.models.len(),
        thousands(comparison.data.rows as f64),
        comparison.data.file
    );
    svg((1260, 640), &title, |area| {
        let (left, right) = area.split_horizontally(820);
        scatter_panel(&left, comparison)?;
        let panels = right.split_evenly((2, 1));
        let bars = |value: &dyn Fn(&super::Compared) -> f64| -> Vec<(String, f64)> {
            comparison.models.iter().map(|model| (model.model.clone(), value(model))).collect()
        };
        bars_panel(&panels[0], "training", &bars(&|model| model.training_minutes), training_time)?;
        let megabytes = bars(&|model| model.bytes as f64 / 1e6);
        bars_panel(&panels[1], "size, MB", &megabytes, |value| format!("{value:.1}"))
    })
}

fn scatter_panel(area: &Area<'_>, comparison: &Comparison) -> Drawn {
    let models = &comparison.models;
    let figure = |model: &super::Compared, name| model.figure(name).unwrap_or(0.0);
    let speeds = || models.iter().map(|model| model.speed.tweets_per_s);
    let slowest = speeds().fold(f64::INFINITY, f64::min).min(1e6);
    let fastest = speeds().fold(1.0, f64::max);
    let published = || comparison.published.iter();
    let low = models.iter().map(|model| figure(model, "accuracy_low"));
    let low = low.chain(published().map(|row| row.accuracy.0)).fold(1.0, f64::min);
    let high = models.iter().map(|model| figure(model, "accuracy_high"));
    let high = high.chain(published().map(|row| row.accuracy.1)).fold(0.0, f64::max);
    // Whole powers of ten, so that the axis has tick marks.
    let x = 10_f64.powf(slowest.log10().floor())..10_f64.powf((fastest * 1.5).log10().ceil());
    let y = low - 0.02..(high + 0.02).min(1.0);

    let mut chart = ChartBuilder::on(area)
        .caption(
            "accuracy with its 95 % interval, against speed",
            (FONT, 17).into_font().color(&INK),
        )
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .build_cartesian_2d(x.clone().log_scale(), y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(GREY)
        .label_style((FONT, SMALL).into_font().color(&INK))
        .axis_desc_style((FONT, SMALL).into_font().color(&INK))
        .x_label_formatter(&|value| thousands(*value))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .x_desc("tweets a second")
        .y_desc("accuracy")
        .draw()?;

    let mut labels = Vec::new();
    for row in published() {
        let (from, to) = row.accuracy;
        chart.draw_series([Rectangle::new(
            [(x.start, from), (x.end, to)],
            GREY.mix(0.15).filled(),
        )])?;
        for edge in [from, to] {
            let line = [(x.start, edge), (x.end, edge)];
            chart.draw_series(DashedLineSeries::new(line, 5, 4, GREY.mix(0.6).into()))?;
        }
        let (_, place) = chart.backend_coord(&(x.start, (from + to) / 2.0));
        labels.push((place, format!("{}, as published", row.model)));
    }
    let left = chart.backend_coord(&(x.start, high)).0 + 8;
    let grey = (FONT, SMALL).into_font().color(&GREY).pos(Pos::new(HPos::Left, VPos::Bottom));
    for (place, label) in apart(labels) {
        area.draw(&Text::new(label, area_place(area, (left, place - 2)), grey.clone()))?;
    }

    for model in models {
        let at = (model.speed.tweets_per_s, figure(model, "accuracy"));
        let (low, high) = (figure(model, "accuracy_low"), figure(model, "accuracy_high"));
        chart.draw_series([ErrorBar::new_vertical(
            at.0,
            low,
            at.1,
            high,
            NEGATIVE.filled(),
            10,
        )])?;
        chart.draw_series([Circle::new(at, 5, NEGATIVE.filled())])?;
    }
    let labels = models.iter().map(|model| {
        let at = chart.backend_coord(&(model.speed.tweets_per_s, figure(model, "accuracy")));
        (at.1, (at, format!("{}, {:.1} MB", model.model, model.bytes as f64 / 1e6)))
    });
    let ink = (FONT, SMALL).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (y, (at, label)) in apart(labels.collect()) {
        let place = area_place(area, (at.0 + 18, y));
        area.draw(&PathElement::new([area_place(area, at), (place.0 - 3, place.1)], GREY))?;
        area.draw(&Text::new(label, place, ink.clone()))?;
    }
    Ok(())
}

/// Converts a position in the picture to a position in `area`.
fn area_place(area: &Area<'_>, (x, y): (i32, i32)) -> (i32, i32) {
    let (origin_x, origin_y) = area.get_base_pixel();
    (x - origin_x, y - origin_y)
}

/// Heights of labels, moved down where labels would overlap.
fn apart<T>(mut labels: Vec<(i32, T)>) -> Vec<(i32, T)> {
    labels.sort_by_key(|(y, _)| *y);
    for at in 1..labels.len() {
        labels[at].0 = labels[at].0.max(labels[at - 1].0 + LABEL_GAP);
    }
    labels
}

/// Horizontal bars with their values, the first on top.
fn bars_panel(
    area: &Area<'_>,
    caption: &str,
    bars: &[(String, f64)],
    label: fn(f64) -> String,
) -> Drawn {
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max).max(1e-9);
    let (width, height) = area.dim_in_pixel();
    let style = |size: i32| (FONT, size).into_font().color(&INK);
    area.draw(&Text::new(caption.to_owned(), (12, 14), style(17)))?;
    let row = ((height as i32 - 50) / bars.len().max(1) as i32).min(34);
    let (left, longest) = (140, width as i32 - 140 - 70);
    for (at, (name, value)) in bars.iter().enumerate() {
        let top = 40 + at as i32 * row;
        let middle = top + row / 2;
        let right = left + (longest as f64 * value / most).round().max(1.0) as i32;
        let centred = |size, side| style(size).pos(Pos::new(side, VPos::Center));
        area.draw(&Text::new(name.clone(), (left - 8, middle), centred(SMALL, HPos::Right)))?;
        let bar = [(left, top + 3), (right, top + row - 3)];
        area.draw(&Rectangle::new(bar, POSITIVE.mix(0.7).filled()))?;
        area.draw(&Text::new(label(*value), (right + 6, middle), centred(SMALL, HPos::Left)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::scored;
    use super::*;

    #[test]
    fn labels_do_not_overlap() {
        let check = |name: &str, heights: &[i32], expected: &[i32]| {
            let labels = heights.iter().map(|height| (*height, ())).collect();
            let found: Vec<i32> = apart(labels).into_iter().map(|(height, ())| height).collect();
            assert_eq!(found, expected, "{name}");
        };
        check("none", &[], &[]);
        check("far", &[100, 10], &[10, 100]);
        check("near", &[12, 10, 11, 90], &[10, 26, 42, 90]);
    }

    #[test]
    fn roc_curve_goes_from_corner_to_corner() {
        let points = roc(&scored());
        assert_eq!((points[0], points[points.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        // The trapezoids below it have the area computed from ranks.
        let area: f64 =
            points.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum();
        assert!(
            (area - Metrics::of(&scored(), Probability::new(0.5).unwrap()).auc.unwrap()).abs()
                < 1e-9
        );
    }
}
