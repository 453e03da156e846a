//! All figures of one model on one file, as text and as JSON.
//!
//! **Invariant.** Text and JSON contain the same figures. Deliberately absent: several models;
//! see `comparison.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use monitor_core::domain::{Classes, Interval, LabelThresholds, Probability};
use monitor_model::Manifest;

use super::{
    ByColumn, Cascaded, ClassificationReport, NegativeShare, PrecisionRecall, Scored, Slice, Speed,
    classification, figures, slices,
};
use crate::data::{Dataset, Part, ReadReport, Selection};
use crate::fit::{Prediction, classes_of};

/// One model, measured on one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// `name@version`
    pub model: String,
    /// Its family.
    pub family: String,
    /// A row is predicted negative from this probability upwards.
    pub threshold: f32,
    /// Among the other rows, positive from this probability upwards; with three classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive_threshold: Option<f32>,
    /// The evaluated rows.
    pub data: Measured,
    /// All figures, by the names that manifests use.
    pub figures: BTreeMap<String, f64>,
    /// The share of negative rows, raw and corrected; for data of three classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_share: Option<NegativeShare>,
    /// Precision and recall of "negative" at each threshold; absent without a negative row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision_recall: Option<PrecisionRecall>,
    /// Figures of each class.
    pub report: ClassificationReport,
    /// Accuracy by kind of tweet.
    pub slices: Vec<Slice>,
    /// Figures by the values of columns, as asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<ByColumn>,
    /// Its speed.
    pub speed: Speed,
    /// Comparison with its two models, if it is a cascade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Cascaded>,
}

/// The source of the evaluated rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The file's name, without folders.
    pub file: String,
    /// The file's SHA-256.
    pub sha256: String,
    /// Number of evaluated rows.
    pub rows: usize,
    /// Which part of the file is evaluated.
    pub part: Part,
    /// Why this part.
    pub note: String,
    /// Rows in the file.
    pub read: usize,
    /// Rows left out, by reason.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Rows of the file that a model is known to have learned from, by the lists of the versions.
    pub learned_from: usize,
    /// How many rows are expected to be among those by mistake.
    pub learned_by_mistake: f64,
}

impl Measured {
    /// Describes `data` and the selected part.
    pub fn of(data: &Dataset, selection: &Selection<'_>) -> Self {
        let ReadReport { read, malformed, neutral, duplicate, conflicting, .. } = data.report;
        Self {
            file: data.file.clone(),
            sha256: data.sha256.clone(),
            rows: selection.rows.len(),
            part: selection.part,
            note: selection.note.clone(),
            read,
            left_out: BTreeMap::from([
                ("malformed", malformed),
                ("neutral", neutral),
                ("duplicate", duplicate),
                ("conflicting", conflicting),
                ("not held out", data.rows.len() - selection.rows.len()),
            ]),
            learned_from: selection.learned,
            learned_by_mistake: (selection.mistaken * 1e4).round() / 1e4,
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} rows measured", self.file, self.rows, self.read)?;
        let left_out = self.left_out.iter().filter(|(_, count)| **count > 0);
        let left_out: Vec<String> =
            left_out.map(|(reason, count)| format!("{count} {reason}")).collect();
        if !left_out.is_empty() {
            write!(f, ", left out {}", left_out.join(", "))?;
        }
        writeln!(f, "\n{}", self.note)
    }
}

impl Evaluation {
    /// Computes all figures from the scores.
    pub fn of(
        model: &Manifest,
        data: Measured,
        scored: &[Scored<'_>],
        thresholds: LabelThresholds,
        speed: Speed,
    ) -> Self {
        let rows = predictions(scored);
        let classes = classes_of(&rows);
        Self {
            model: model.id().to_string(),
            family: model.architecture.family().to_owned(),
            threshold: thresholds.negative.get(),
            positive_threshold: (model.classes == Classes::Three)
                .then_some(thresholds.positive.get()),
            data,
            figures: figures(&rows, thresholds),
            precision_recall: PrecisionRecall::of(&pairs(scored)),
            negative_share: NegativeShare::of(model, &rows, thresholds),
            report: classification(&rows, thresholds, classes),
            slices: slices(scored, thresholds, classes),
            by: Vec::new(),
            speed,
            cascade: None,
        }
    }
}

/// What the model says of each row, and what is true.
pub fn predictions(scored: &[Scored<'_>]) -> Vec<Prediction> {
    scored.iter().map(|row| row.prediction).collect()
}

/// The score of "negative" against the other classes of the data, and whether it is true; for
/// [`Metrics::of`](super::Metrics::of).
pub fn pairs(scored: &[Scored<'_>]) -> Vec<(Probability, bool)> {
    let rows = predictions(scored);
    let classes = classes_of(&rows);
    rows.into_iter().map(|row| row.negative_or_not(classes)).collect()
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.model, self.data)?;
        writeln!(f, "{}", self.report)?;
        if !self.report.undefined.is_empty() {
            writeln!(f, "0.0000 stands for: {} (not defined)\n", self.report.undefined.join(", "))?;
        }
        writeln!(f, "{}", self.report.confusion_table())?;
        for (name, key, method) in [
            ("accuracy", "accuracy", "Wilson"),
            ("macro recall", "macro_recall", "normal approximation"),
            ("F1 of neg. and pos.", "f1_pn", ""),
            ("neutral called neg.", "neutral_called_negative", ""),
            ("positive called neg.", "positive_called_negative", ""),
            ("ROC AUC", "roc_auc", "DeLong"),
            ("average precision", "average_precision", ""),
            ("calibration error", "calibration_error", ""),
            ("Brier score", "brier", ""),
            ("log loss", "log_loss", ""),
        ] {
            let figure = |end: &str| self.figures.get(&format!("{key}{end}"));
            let of_three = matches!(
                key,
                "macro_recall"
                    | "f1_pn"
                    | "neutral_called_negative"
                    | "positive_called_negative"
                    | "average_precision"
            );
            match figure("") {
                None if of_three => continue,
                None => write!(f, "{name:<20} not defined: there is one class only")?,
                Some(value) => write!(f, "{name:<20} {value:.4}")?,
            }
            match figure("_low").zip(figure("_high")) {
                None => writeln!(f)?,
                Some((low, high)) => writeln!(f, "  95 % {low:.4} to {high:.4} ({method})")?,
            }
        }
        if let Some(share) = &self.negative_share {
            writeln!(f, "{:<20} {share}", "share of negative")?;
        }
        writeln!(f, "{:<20} {:.2} upwards", "negative from", self.threshold)?;
        let Speed { tweets_per_s, threads, rounds } = self.speed;
        writeln!(
            f,
            "{:<20} {tweets_per_s:.0} tweets/s (libtorch threads: {threads}; median of {rounds} rounds)",
            "speed"
        )?;
        if let Some(cascade) = &self.cascade {
            writeln!(f, "{:<20} {cascade}", "cascade")?;
        }
        writeln!(f)?;
        let columns = ["rows", "negative", "accuracy", "95 %"];
        let [rows, negative, accuracy, interval] = columns;
        writeln!(f, "{:<17} {rows:>7} {negative:>9} {accuracy:>9}  {interval}", "slice")?;
        let mut before = "";
        for slice in &self.slices {
            let Slice { by, slice, rows, negative_share, accuracy, accuracy_95 } = slice;
            let Interval { low, high } = accuracy_95;
            let by_once = if *by == before { "" } else { by };
            writeln!(
                f,
                "{by_once:<8} {slice:<8} {rows:>7} {negative_share:>9.4} {accuracy:>9.4}  {low:.4} to {high:.4}"
            )?;
            before = by;
        }
        self.by.iter().try_for_each(|by| write!(f, "\n{by}"))
    }
}
