//! The trials of a search as curves.

use super::*;
use crate::report::{Trial, Tuning};

/// Losses further above the best one than this many times the median are drawn at the upper edge.
const MEDIANS_MAX: f64 = 3.0;

/// The validation loss of each trial against the rows that it was trained on; the best trial and
/// that of the defaults are marked. Losses far above the others lie on the upper edge.
pub fn tuning_svg(tuning: &Tuning) -> String {
    let title = format!(
        "{} trials of {} on {}, by the loss on {} validation rows",
        tuning.trials.len(),
        tuning.family,
        tuning.file,
        thousands(tuning.validation as f64)
    );
    let points = |trial: &Trial| -> Vec<(f64, f64)> {
        trial.runs.iter().filter_map(|run| Some((run.rows.max(1) as f64, run.loss?))).collect()
    };
    let all: Vec<(f64, f64)> = tuning.trials.iter().flat_map(points).collect();
    let (low, high) = losses(&all.iter().map(|point| point.1).collect::<Vec<_>>());
    let most = all.iter().map(|point| point.0).fold(1.0, f64::max);
    let is = |of: Option<&Trial>, trial: &Trial| of.is_some_and(|of| of.trial == trial.trial);
    svg((900, 540), &title, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(130)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most * 1.04, low..high)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, SMALL).into_font().color(&INK))
            .x_label_formatter(&|value| thousands(value.round()))
            .y_label_formatter(&|value| format!("{value:.3}"))
            .x_desc("rows learned from")
            .y_desc("loss on the validation rows")
            .draw()?;
        // The marked ones last, so that they lie on top.
        let (best, defaults) = (tuning.best(), tuning.trials.iter().find(|it| it.trial == 1));
        let mark = |trial: &Trial| u8::from(is(defaults, trial)) + 2 * u8::from(is(best, trial));
        let mut order: Vec<&Trial> = tuning.trials.iter().collect();
        order.sort_by_key(|trial| mark(trial));
        let mut labels = Vec::new();
        for trial in order {
            let (colour, width, name) = match mark(trial) {
                0 => (GREY.mix(0.6), 1, None),
                1 => (POSITIVE.mix(1.0), 2, Some("defaults")),
                2 => (NEGATIVE.mix(1.0), 2, Some("best")),
                _ => (NEGATIVE.mix(1.0), 2, Some("best, and defaults")),
            };
            let line: Vec<(f64, f64)> =
                points(trial).into_iter().map(|(rows, loss)| (rows, loss.min(high))).collect();
            chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(width)))?;
            let dots = line.iter().map(|at| Circle::new(*at, 2 + width as i32, colour.filled()));
            chart.draw_series(dots)?;
            if let (Some(name), Some(end)) = (name, line.last()) {
                let (x, y) = chart.backend_coord(end);
                labels.push((y, (x, format!("{name}: trial {}", trial.trial))));
            }
        }
        let ink = (FONT, SMALL).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        for (y, (x, label)) in apart(labels) {
            area.draw(&Text::new(label, area_place(area, (x + 10, y)), ink.clone()))?;
        }
        Ok(())
    })
}

/// The range of the axis of losses.
fn losses(all: &[f64]) -> (f64, f64) {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some((low, most)) = sorted.first().zip(sorted.last()) else { return (0.0, 1.0) };
    let median = sorted[sorted.len() / 2];
    let high = most.min(low + MEDIANS_MAX * (median - low).max(0.01));
    let room = 0.05 * (high - low).max(0.01);
    (low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_loss_does_not_flatten_the_others() {
        let (low, high) = losses(&[0.5, 0.6, 0.55, 9.0, 0.7]);
        assert!(low < 0.5 && (0.7..1.0).contains(&high), "{low} {high}");
        let (low, high) = losses(&[0.5, 0.52, 0.54]);
        assert!(low < 0.5 && (0.54..0.56).contains(&high), "{low} {high}");
        let (low, high) = losses(&[0.5]);
        assert!(low < 0.5 && high > 0.5);
        assert_eq!(losses(&[]), (0.0, 1.0));
    }
}
