//! All figures of one model on one file, as text and as JSON.
//!
//! **Invariant.** Text and JSON contain the same figures. Deliberately absent: several models;
//! see `comparison.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use monitor_core::domain::{Interval, Probability};
use monitor_model::Manifest;

use super::{Cascaded, ClassificationReport, Metrics, Scored, Slice, Speed, slices};
use crate::data::{Dataset, Part, ReadReport, Selection};

/// One model, measured on one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// `name@version`
    pub model: String,
    /// Its family.
    pub family: String,
    /// Threshold: a row is predicted negative from this probability upwards.
    pub threshold: f32,
    /// The evaluated rows.
    pub data: Measured,
    /// Figures of the binary summary, by the names that manifests use.
    pub figures: BTreeMap<String, f64>,
    /// Figures of both classes.
    pub report: ClassificationReport,
    /// Accuracy by kind of tweet.
    pub slices: Vec<Slice>,
    /// Its speed.
    pub speed: Speed,
    /// Comparison with its two models, if it is a cascade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Cascaded>,
}

/// The source of the evaluated rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Computes all figures from the scores; a row is negative from `threshold` upwards.
    pub fn of(
        model: &Manifest,
        data: Measured,
        scored: &[Scored<'_>],
        threshold: Probability,
        speed: Speed,
    ) -> Self {
        let class = |negative: bool| usize::from(!negative);
        let truth: Vec<usize> = scored.iter().map(|row| class(row.negative)).collect();
        let found: Vec<usize> = scored.iter().map(|row| class(row.score >= threshold)).collect();
        Self {
            model: model.id().to_string(),
            family: model.architecture.family().to_owned(),
            threshold: threshold.get(),
            data,
            figures: Metrics::of(&pairs(scored), threshold).figures(),
            report: ClassificationReport::of(&["negative", "positive"], &truth, &found),
            slices: slices(scored, threshold),
            speed,
            cascade: None,
        }
    }
}

/// The pairs of score and label for [`Metrics::of`].
pub fn pairs(scored: &[Scored<'_>]) -> Vec<(Probability, bool)> {
    scored.iter().map(|row| (row.score, row.negative)).collect()
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
            ("ROC AUC", "roc_auc", "DeLong"),
            ("calibration error", "calibration_error", ""),
            ("Brier score", "brier", ""),
            ("log loss", "log_loss", ""),
        ] {
            let figure = |end: &str| self.figures.get(&format!("{key}{end}"));
            match figure("") {
                None => write!(f, "{name:<18} not defined: there is one class only")?,
                Some(value) => write!(f, "{name:<18} {value:.4}")?,
            }
            match figure("_low").zip(figure("_high")) {
                None => writeln!(f)?,
                Some((low, high)) => writeln!(f, "  95 % {low:.4} to {high:.4} ({method})")?,
            }
        }
        writeln!(f, "{:<18} {:.2} upwards", "negative from", self.threshold)?;
        let Speed { tweets_per_s, threads, rounds } = self.speed;
        writeln!(
            f,
            "{:<18} {tweets_per_s:.0} tweets/s (libtorch threads: {threads}; median of {rounds} rounds)",
            "speed"
        )?;
        if let Some(cascade) = &self.cascade {
            writeln!(f, "{:<18} {cascade}", "cascade")?;
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
        Ok(())
    }
}
