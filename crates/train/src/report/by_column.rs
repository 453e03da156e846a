//! Figures for each value of a column of the file, such as an airline or a topic; and how well the
//! share of negative rows is measured for them.
//!
//! **Invariant.** Every row is in exactly one value. Values with few rows are put together, and
//! only the others say something of the errors of shares. Deliberately absent: several columns at
//! once.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use monitor_core::domain::{Classes, Interval, LabelThresholds};
use monitor_model::Manifest;

use super::{NegativeShare, classification, intervals};
use crate::fit::{Prediction, classes_of};

/// Values with fewer rows are put together.
const VALUE_ROWS_MIN: usize = 50;
/// Characters of a value that are printed.
const SHOWN_CHARS_MAX: usize = 28;

/// Figures for each value of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByColumn {
    /// The column's name.
    pub column: String,
    /// Values of at least 50 rows, most rows first; then the others together.
    pub values: Vec<OfValue>,
    /// Number of values that are put together because they have fewer rows.
    pub values_together: usize,
    /// Errors of the share of negative rows over the values of at least 50 rows; for data of three
    /// classes with at least two such values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_errors: Option<ShareErrors>,
}

/// Figures of the rows with one value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfValue {
    /// The value; `None` for those put together.
    pub value: Option<String>,
    /// Number of rows.
    pub rows: usize,
    /// Share of negative rows: by the labels, as called, and corrected.
    pub negative_share: NegativeShare,
    /// Accuracy.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub accuracy_95: Interval,
    /// Mean of the classes' recalls; absent if a class has no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_recall: Option<f64>,
    /// Area under the ROC curve of negative; absent if it has only one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roc_auc: Option<f64>,
}

/// How far the measured shares of negative rows are from the shares by the labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShareErrors {
    /// Number of values.
    pub values: usize,
    /// Mean absolute error of the share as called.
    pub called: f64,
    /// The same figures on the values whose share can be corrected; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<CorrectedErrors>,
    /// Pearson's correlation over the values between the share as called and the labelled one;
    /// absent if one of them does not vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<f64>,
}

/// Errors of corrected shares, beside those of the shares as called of the same values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CorrectedErrors {
    /// Number of values whose share can be corrected.
    pub values: usize,
    /// Mean absolute error of the corrected share.
    pub corrected: f64,
    /// Mean absolute error of the share as called.
    pub called: f64,
}

impl ByColumn {
    /// Of rows with their values of `column`.
    pub fn of(
        column: &str,
        manifest: &Manifest,
        rows: &[(Prediction, &str)],
        thresholds: LabelThresholds,
    ) -> Self {
        let all: Vec<Prediction> = rows.iter().map(|(row, _)| *row).collect();
        let classes = classes_of(&all);
        let mut by_value: BTreeMap<&str, Vec<Prediction>> = BTreeMap::new();
        for (row, value) in rows {
            by_value.entry(value).or_default().push(*row);
        }
        let (large, small): (Vec<_>, Vec<_>) =
            by_value.into_iter().partition(|(_, rows)| rows.len() >= VALUE_ROWS_MIN);
        let values_together = small.len();
        let together: Vec<Prediction> = small.into_iter().flat_map(|(_, rows)| rows).collect();
        let figures = |value: Option<&str>, rows: &[Prediction]| {
            OfValue::of(value, manifest, rows, thresholds, classes)
        };
        let mut values: Vec<OfValue> =
            large.iter().filter_map(|(value, rows)| figures(Some(value), rows)).collect();
        values.sort_by_key(|value| Reverse(value.rows));
        let share_errors = (classes == Classes::Three).then(|| ShareErrors::of(&values)).flatten();
        values.extend(figures(None, &together));
        Self { column: column.to_owned(), values, values_together, share_errors }
    }
}

impl OfValue {
    fn of(
        value: Option<&str>,
        manifest: &Manifest,
        rows: &[Prediction],
        thresholds: LabelThresholds,
        classes: Classes,
    ) -> Option<Self> {
        let report = classification(rows, thresholds, classes);
        let right = (0..classes.count()).map(|at| report.confusion[at][at]).sum();
        let pairs: Vec<_> = rows.iter().map(|row| row.negative_or_not(classes)).collect();
        let complete = report.classes.iter().all(|class| class.support > 0);
        Some(Self {
            value: value.map(str::to_owned),
            rows: rows.len(),
            negative_share: NegativeShare::of_part(manifest, rows, thresholds),
            accuracy: report.accuracy,
            accuracy_95: intervals::of_share(right, rows.len())?,
            macro_recall: complete.then_some(report.macro_average.recall),
            roc_auc: intervals::auc(&pairs).map(|(area, _)| area),
        })
    }
}

impl ShareErrors {
    /// `None` for fewer than two values.
    fn of(values: &[OfValue]) -> Option<Self> {
        let shares: Vec<&NegativeShare> = values.iter().map(|it| &it.negative_share).collect();
        let error = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        let called: Vec<f64> = shares.iter().map(|it| (it.called - it.labelled).abs()).collect();
        let (corrected, called_there): (Vec<f64>, Vec<f64>) = shares
            .iter()
            .zip(&called)
            .filter_map(|(it, called)| Some(((it.corrected?.share - it.labelled).abs(), *called)))
            .unzip();
        let corrected = (!corrected.is_empty()).then(|| CorrectedErrors {
            values: corrected.len(),
            corrected: error(&corrected),
            called: error(&called_there),
        });
        let [measured, labelled]: [Vec<f64>; 2] = [
            shares.iter().map(|share| share.called).collect(),
            shares.iter().map(|share| share.labelled).collect(),
        ];
        (shares.len() > 1).then(|| Self {
            values: shares.len(),
            called: error(&called),
            corrected,
            correlation: correlation(&measured, &labelled),
        })
    }
}

/// Pearson's correlation of two lists of equal length.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += (a - mean_a) * (b - mean_b);
        of_a += (a - mean_a).powi(2);
        of_b += (b - mean_b).powi(2);
    }
    let spread = (of_a * of_b).sqrt();
    (spread > 0.0).then(|| both / spread)
}

impl fmt::Display for ByColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, values, values_together, share_errors } = self;
        let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let width = SHOWN_CHARS_MAX;
        let [rows, negative, called, corrected, accuracy, auc] =
            ["rows", "negative", "called", "corrected", "accuracy", "ROC AUC"];
        writeln!(
            f,
            "{:<width$} {rows:>7} {negative:>9} {called:>9} {corrected:>9} {accuracy:>9}  {:<16} \
             {auc:>7}",
            shown(column),
            "95 %"
        )?;
        for value in values {
            let name = match &value.value {
                Some(value) if value.is_empty() => "(empty)".to_owned(),
                Some(value) => shown(value),
                None => format!("({values_together} smaller ones)"),
            };
            let OfValue { rows, accuracy, accuracy_95: Interval { low, high }, .. } = value;
            let NegativeShare { labelled, called, corrected } = value.negative_share;
            let figure = |value: Option<f64>| value.map_or("-".into(), |it| format!("{it:.4}"));
            let corrected = figure(corrected.map(|it| it.share));
            writeln!(
                f,
                "{name:<width$} {rows:>7} {labelled:>9.4} {called:>9.4} {corrected:>9} \
                 {accuracy:>9.4}  {low:.4} to {high:.4} {:>7}",
                figure(value.roc_auc)
            )?;
        }
        let Some(ShareErrors { values, called, corrected, correlation }) = share_errors else {
            return Ok(());
        };
        write!(
            f,
            "share of negative over {values} values of at least {VALUE_ROWS_MIN} rows: mean absolute \
             error {called:.4} as called"
        )?;
        if let Some(CorrectedErrors { values, corrected, called }) = corrected {
            write!(f, "; {corrected:.4} corrected, where {values} can be ({called:.4} as called)")?;
        }
        if let Some(correlation) = correlation {
            write!(f, "; correlation with the labels {correlation:.3}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use monitor_core::domain::{Label, Probabilities, Probability};

    use super::*;

    fn row(label: Label, negative: f32) -> Prediction {
        let negative = Probability::new(negative).unwrap();
        Prediction { probabilities: Probabilities::three(negative, Probability::HALF), label }
    }

    #[test]
    fn figures_of_each_value() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let manifest = monitor_model::read_manifest(&models, "lstm").unwrap();
        use Label::*;
        // Of 100 rows of "a", 40 are negative and 50 called so; of 50 of "b", 10 and 5.
        let mut rows: Vec<(Prediction, &str)> = Vec::new();
        rows.extend((0..100).map(|n| {
            (row(if n < 40 { Negative } else { Neutral }, if n < 50 { 0.9 } else { 0.1 }), "a")
        }));
        rows.extend((0..50).map(|n| {
            (row(if n < 10 { Negative } else { Positive }, if n < 5 { 0.9 } else { 0.1 }), "b")
        }));
        rows.extend((0..49).map(|_| (row(Neutral, 0.9), "c")));
        rows.push((row(Negative, 0.9), ""));
        let found = ByColumn::of("topic", &manifest, &rows, Probability::HALF.into());
        let names: Vec<_> = found.values.iter().map(|it| (it.value.as_deref(), it.rows)).collect();
        assert_eq!(names, [(Some("a"), 100), (Some("b"), 50), (None, 50)]);
        assert_eq!(found.values_together, 2);
        let a = &found.values[0];
        assert_eq!((a.negative_share.labelled, a.negative_share.called), (0.4, 0.5));
        // What is not negative is called positive here.
        assert_eq!((a.accuracy, a.macro_recall), (0.4, None), "no positive row");
        let errors = found.share_errors.unwrap();
        assert_eq!(errors.values, 2);
        assert!((errors.called - 0.1).abs() < 1e-12, "{errors:?}");
        assert!((errors.correlation.unwrap() - 1.0).abs() < 1e-9, "{errors:?}");
        let by_hand: f64 = found.values[..2]
            .iter()
            .map(|it| {
                (it.negative_share.corrected.unwrap().share - it.negative_share.labelled).abs()
            })
            .sum();
        let corrected = errors.corrected.unwrap();
        assert!((corrected.corrected - by_hand / 2.0).abs() < 1e-12, "{errors:?}");
        assert_eq!((corrected.values, corrected.called), (2, errors.called));
        let text = found.to_string();
        for part in ["(2 smaller ones)", "over 2 values of at least 50 rows", "0.1000 as called"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn correlations() {
        let check = |a: &[f64], b: &[f64], expected: Option<f64>| {
            let found = correlation(a, b);
            let close = found.zip(expected).is_none_or(|(a, b)| (a - b).abs() < 1e-12);
            assert!(found.is_some() == expected.is_some() && close, "{found:?}, not {expected:?}");
        };
        check(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0], Some(1.0));
        check(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], Some(-1.0));
        check(&[1.0, 2.0, 3.0], &[1.0, 3.0, 1.0], Some(0.0));
        check(&[1.0, 1.0], &[1.0, 2.0], None);
    }
}
