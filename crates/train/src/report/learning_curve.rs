//! How a model improves with more training rows.
//!
//! **Invariant.** All points were measured on the same held-out rows, and the rows of a smaller
//! training set are among those of a larger one. Deliberately absent: a fitted law, which a few
//! points do not support.

use std::fmt;

use serde::Serialize;

use monitor_core::domain::{Classes, Interval};
use monitor_model::{HELD_OUT, Manifest};

use crate::progress::training_time;

/// Figures of one family at several sizes of the training set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearningCurve {
    /// The family.
    pub family: String,
    /// The training file.
    pub file: String,
    /// The figure of the curve: macro recall with three classes, else ROC AUC.
    pub figure: &'static str,
    /// Number of held-out rows.
    pub held_out: usize,
    /// Fewest rows first.
    pub points: Vec<CurvePoint>,
}

/// One size of the training set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Share of the training set.
    pub fraction: f64,
    /// Rows of it.
    pub rows: usize,
    /// The figure of the curve on the held-out rows.
    pub value: f64,
    /// Its 95 % interval; absent if the scores separate all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Accuracy on the held-out rows.
    pub accuracy: f64,
    /// Minutes of training.
    pub minutes: f64,
}

impl LearningCurve {
    /// Of the fractions and the manifests of the models trained on them; `None` without one that
    /// was measured.
    pub fn of(trained: &[(f64, Manifest)]) -> Option<Self> {
        let (_, first) = trained.first()?;
        let (figure, key) = match first.classes {
            Classes::Two => ("ROC AUC", "roc_auc"),
            Classes::Three => ("macro recall", "macro_recall"),
        };
        let point = |(fraction, manifest): &(f64, Manifest)| {
            let figures = manifest.metrics.get(HELD_OUT)?;
            let figure = |name: &str| figures.get(name).copied();
            let low = figure(&format!("{key}_low"));
            let interval = low.zip(figure(&format!("{key}_high")));
            Some(CurvePoint {
                fraction: *fraction,
                rows: manifest.data.rows_train,
                value: figure(key)?,
                interval: interval.map(|(low, high)| Interval { low, high }),
                accuracy: figure("accuracy")?,
                minutes: manifest.minutes,
            })
        };
        let mut points: Vec<CurvePoint> = trained.iter().filter_map(point).collect();
        points.sort_by_key(|point| point.rows);
        (!points.is_empty()).then(|| Self {
            family: first.architecture.family().to_owned(),
            file: first.data.file.clone(),
            figure,
            held_out: first.data.rows_held_out,
            points,
        })
    }
}

impl fmt::Display for LearningCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, file, figure, held_out, points } = self;
        writeln!(f, "{family} trained on parts of {file}, measured on {held_out} rows held out")?;
        let columns = ["rows", figure, "accuracy", "training"];
        let [rows, figure, accuracy, training] = columns;
        writeln!(f, "{rows:>9} {figure:>13}  {:<16} {accuracy:>9} {training:>10}", "95 %")?;
        for CurvePoint { rows, value, interval, accuracy, minutes, .. } in points {
            let interval = interval
                .map_or(String::new(), |Interval { low, high }| format!("{low:.4} to {high:.4}"));
            writeln!(
                f,
                "{rows:>9} {value:>13.4}  {interval:<16} {accuracy:>9.4} {:>10}",
                training_time(*minutes)
            )?;
        }
        Ok(())
    }
}
