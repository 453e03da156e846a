//! A comparison as a picture (SVG): each measure of each period, and its limit.
//!
//! **Invariant.** A pure function of the report. Deliberately absent: fonts; the viewer uses its own.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;

use monitor_core::drift::{Measure, Measured, Report, Verdict};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

const DRIFTED: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const USUAL: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GREY: RGBColor = RGBColor(0x88, 0x88, 0x88);
const PALE: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
const FONT: &str = "sans-serif";
const SIZE: (u32, u32) = (1000, 44 + 5 * 190);
/// Font size of small labels, in plotters' unit.
const SMALL: i32 = 14;

/// What the values of a measure are.
pub fn about(measure: Measure) -> &'static str {
    match measure {
        Measure::UnknownWords => "share of words that the model does not know",
        Measure::Languages => "distance of the mix of languages, 0 to 1",
        Measure::Lengths => "distance of the lengths, 0 to 1",
        Measure::Scores => "distance of the scores, 0 to 1",
        Measure::Domain => "how well a classifier tells the tweets from others, 0.5 is not at all",
    }
}

/// Draws a panel for each measure: the periods of the reference, the recent one, and the limit.
pub fn picture(report: &Report) -> String {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let drawn = root.fill(&WHITE).and_then(|()| {
            let (head, body) = root.split_vertically(44);
            let title = format!(
                "{} compared with {} periods before",
                report.recent,
                report.reference.len()
            );
            head.draw(&Text::new(title, (14, 12), (FONT, 20).into_font().color(&INK)))?;
            for (area, measured) in body.split_evenly((5, 1)).iter().zip(&report.measures) {
                panel(area, report, measured)?;
            }
            root.present()
        });
        drawn.expect("drawing to memory cannot fail");
    }
    text
}

fn panel(area: &Area<'_>, report: &Report, measured: &Measured) -> Drawn {
    let caption = format!("{}: {}", about(measured.measure), measured.verdict);
    let (Some(value), Some(limit)) = (measured.value, measured.limit) else {
        return area.draw(&Text::new(caption, (70, 20), (FONT, 17).into_font().color(&GREY)));
    };
    let values = || measured.usual.iter().map(|(_, value)| *value).chain([value, limit]);
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let margin = (high - low).max(1e-6) * 0.15;
    let last = report.reference.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 17).into_font().color(&INK))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..last + 0.5, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(GREY)
        .label_style((FONT, SMALL).into_font().color(&INK))
        .x_labels(8)
        .y_labels(4)
        .x_label_formatter(&|x: &f64| {
            let place = if x.fract() == 0.0 && *x >= 0.0 { *x as usize } else { usize::MAX };
            report.reference.get(place).cloned().unwrap_or_default()
        })
        .y_label_formatter(&|y: &f64| format!("{y:.3}"))
        .draw()?;
    chart.draw_series(DashedLineSeries::new(
        [(-0.5, limit), (last + 0.5, limit)],
        6,
        4,
        GREY.into(),
    ))?;
    let usual = measured.usual.iter();
    chart.draw_series(usual.map(|(at, it)| Circle::new((*at as f64, *it), 4, USUAL.filled())))?;
    let colour = if measured.verdict == Verdict::Drifted { DRIFTED } else { INK };
    chart.draw_series([Circle::new((last, value), 6, colour.filled())])?;
    Ok(())
}
