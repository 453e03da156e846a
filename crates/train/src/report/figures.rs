//! All figures of a model on one data set, by the names that manifests use.
//!
//! On rows of two classes they are those of [`Metrics`]. On rows of three classes, macro recall
//! is the measure of SemEval and TweetEval, macro F1 that of UMSAB (Barbieri, Espinosa Anke and
//! Camacho-Collados 2022), `f1_pn` (the mean F1 of negative and positive) that
//! of SemEval before 2017 (Rosenthal, Farra and Nakov 2017); ROC AUC is negative against the rest.
//!
//! **Invariant.** The names of two-class figures mean the same with three classes. Deliberately
//! absent: intervals by resampling.

use std::collections::BTreeMap;

use monitor_core::domain::{Classes, Interval, Label, LabelThresholds, Probability};

use super::{ClassificationReport, Metrics, intervals};
use crate::fit::{Prediction, classes_of};

/// The report of the predicted labels.
pub fn classification(
    rows: &[Prediction],
    thresholds: LabelThresholds,
    classes: Classes,
) -> ClassificationReport {
    let labels = classes.labels();
    let names: Vec<&str> = labels.iter().map(|label| label.word()).collect();
    let index = |label: Label| labels.iter().position(|it| *it == label).unwrap_or(0);
    let truth: Vec<usize> = rows.iter().map(|row| index(row.label)).collect();
    let predicted: Vec<usize> =
        rows.iter().map(|row| index(row.predicted(thresholds, classes))).collect();
    ClassificationReport::of(&names, &truth, &predicted)
}

/// The figures, rounded to four decimals; undefined ones are absent.
pub fn figures(rows: &[Prediction], thresholds: LabelThresholds) -> BTreeMap<String, f64> {
    let classes = classes_of(rows);
    let pairs: Vec<(Probability, bool)> =
        rows.iter().map(|row| row.negative_or_not(classes)).collect();
    if classes == Classes::Two {
        let of_three = rows.iter().any(|row| row.probabilities.neutral() > Probability::ZERO);
        let threshold = if of_three { Probability::HALF } else { thresholds.negative };
        return Metrics::of(&pairs, threshold).figures();
    }
    let binary = Metrics::of(&pairs, thresholds.negative);
    let report = classification(rows, thresholds, classes);
    let right = (0..classes.count()).map(|at| report.confusion[at][at]).sum();
    let accuracy = intervals::of_share(right, rows.len());
    let recalls: Vec<(f64, usize)> =
        report.classes.iter().map(|class| (class.figures.recall, class.support)).collect();
    let macro_recall = intervals::of_macro_recall(&recalls);
    let share = |at: usize, of: usize| {
        let all: usize = report.confusion[at].iter().sum();
        (all > 0).then(|| report.confusion[at][of] as f64 / all as f64)
    };
    let mut found = BTreeMap::new();
    let mut add = |name: &str, value: Option<f64>| {
        let rounded = value.map(|value| (value * 1e4).round() / 1e4);
        rounded.into_iter().for_each(|value| {
            found.insert(name.to_owned(), value);
        });
    };
    let mut add_interval = |name: &str, value: Option<f64>, interval: Option<Interval>| {
        add(name, value);
        add(&format!("{name}_low"), interval.map(|it| it.low));
        add(&format!("{name}_high"), interval.map(|it| it.high));
    };
    add_interval("accuracy", Some(report.accuracy), accuracy);
    add_interval("macro_recall", Some(report.macro_average.recall), macro_recall);
    add_interval("roc_auc", binary.auc, binary.auc_interval);
    add("rows", Some(rows.len() as f64));
    add("average_precision", binary.average_precision);
    let reliability = binary.reliability;
    add("calibration_error", reliability.map(|it| it.error));
    add("brier", reliability.map(|it| it.brier));
    add("log_loss", reliability.map(|it| it.log_loss));
    add("macro_f1", Some(report.macro_average.f1));
    let f1 = |at: usize| report.classes[at].figures.f1;
    add("f1_pn", Some((f1(0) + f1(2)) / 2.0));
    add("neutral_called_negative", share(1, 0));
    add("positive_called_negative", share(2, 0));
    let negatives = rows.iter().filter(|row| row.label == Label::Negative).count();
    let called = pairs.iter().filter(|(score, _)| *score >= thresholds.negative).count();
    let all = rows.len().max(1) as f64;
    add("negative_share", Some(negatives as f64 / all));
    add("negative_share_called", Some(called as f64 / all));
    for (at, class) in report.classes.iter().enumerate() {
        let name = &class.class;
        add(&format!("{name}_precision"), Some(class.figures.precision));
        add(&format!("{name}_recall"), Some(class.figures.recall));
        add(&format!("{name}_f1"), Some(class.figures.f1));
        let right = report.confusion[at][at];
        add(&format!("{name}_found"), Some(right as f64));
        add(&format!("{name}_missed"), Some((class.support - right) as f64));
    }
    found
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Probabilities;

    use super::*;

    fn rows(rows: &[(f32, f32, Label)]) -> Vec<Prediction> {
        let row = |(negative, neutral, label): &(f32, f32, Label)| Prediction {
            probabilities: Probabilities::new(*negative, *neutral).unwrap(),
            label: *label,
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn three_classes_by_hand() {
        use Label::*;
        let rows = rows(&[
            (0.8, 0.1, Negative), // right
            (0.2, 0.7, Negative), // neutral
            (0.6, 0.3, Neutral),  // negative
            (0.1, 0.8, Neutral),  // right
            (0.1, 0.7, Neutral),  // right
            (0.1, 0.2, Positive), // right
        ]);
        let found = figures(&rows, Probability::HALF.into());
        let check = |name: &str, expected: f64| {
            assert!((found[name] - expected).abs() < 1e-4, "{name}: {}", found[name]);
        };
        check("rows", 6.0);
        check("accuracy", 4.0 / 6.0);
        check("macro_recall", (0.5 + 2.0 / 3.0 + 1.0) / 3.0);
        check("macro_f1", (0.5 + 2.0 / 3.0 + 1.0) / 3.0);
        check("f1_pn", (0.5 + 1.0) / 2.0);
        check("neutral_called_negative", 1.0 / 3.0);
        check("positive_called_negative", 0.0);
        check("negative_share", 2.0 / 6.0);
        check("negative_share_called", 2.0 / 6.0);
        check("roc_auc", 7.0 / 8.0);
        check("neutral_recall", 2.0 / 3.0);
        assert!(found["macro_recall_low"] < 0.7222 && found["macro_recall_high"] > 0.7222);
    }

    #[test]
    fn two_classes_leave_neutral_aside() {
        use Label::*;
        let rows = rows(&[(0.3, 0.6, Negative), (0.05, 0.8, Positive), (0.1, 0.6, Positive)]);
        let found = figures(&rows, Probability::HALF.into());
        assert_eq!((found["accuracy"], found["roc_auc"]), (1.0, 1.0));
        assert!(!found.contains_key("macro_recall"));
    }
}
