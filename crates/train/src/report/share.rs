//! The share of negative rows: by their labels, as the model calls them, and corrected for the
//! model's errors.
//!
//! **Invariant.** The rates of the correction come from the held-out rows of the manifest, never
//! from the rows whose share is corrected. Deliberately absent: two-class data, whose rows are
//! not a sample of any stream.

use std::fmt;

use serde::Serialize;

use monitor_core::domain::{Classes, Counts, Label, LabelThresholds};
use monitor_core::format::percent_tenths;
use monitor_core::quantify::{Estimate, Rates, adjusted_count};
use monitor_model::Manifest;

use crate::data::HELD_OUT;
use crate::fit::{Prediction, classes_of};

/// Shares of negative rows, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NegativeShare {
    /// By the labels.
    pub labelled: f64,
    /// As the model calls the rows.
    pub called: f64,
    /// The same, corrected; absent if the model's errors say too little or do not fit these rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Estimate>,
}

impl NegativeShare {
    /// `None` unless the rows have three classes.
    pub fn of(
        manifest: &Manifest,
        rows: &[Prediction],
        thresholds: LabelThresholds,
    ) -> Option<Self> {
        (classes_of(rows) == Classes::Three).then(|| Self::of_part(manifest, rows, thresholds))
    }

    /// Of some rows of data of three classes.
    pub(super) fn of_part(
        manifest: &Manifest,
        rows: &[Prediction],
        thresholds: LabelThresholds,
    ) -> Self {
        let count = |is_it: &dyn Fn(&Prediction) -> bool| {
            rows.iter().filter(|row| is_it(row)).count() as u64
        };
        let total = rows.len() as u64;
        let labelled = count(&|row| row.label == Label::Negative);
        let negative = count(&|row| row.probabilities.negative() >= thresholds.negative);
        let share = |part: u64| part as f64 / total.max(1) as f64;
        let rates = rates(manifest);
        let corrected = rates.and_then(|it| adjusted_count(Counts { total, negative }, &it, 1.0));
        Self { labelled: share(labelled), called: share(negative), corrected }
    }
}

/// The model's true and false positive rates on its held-out rows; `None` if they have no neutral
/// rows.
pub fn rates(manifest: &Manifest) -> Option<Rates> {
    let figures = manifest.metrics.get(HELD_OUT)?;
    let figure = |name: &str| figures.get(name).copied();
    let rows = |class: &str| {
        Some(figure(&format!("{class}_found"))? + figure(&format!("{class}_missed"))?)
    };
    let (neutral, positive) = (rows("neutral")?, rows("positive")?);
    let called = neutral * figure("neutral_called_negative")?
        + positive * figure("positive_called_negative")?;
    let counts = |total: f64, negative: f64| Counts {
        total: total.round() as u64,
        negative: negative.round() as u64,
    };
    let negatives = counts(rows("negative")?, figure("negative_found")?);
    Rates::measured(negatives, counts(neutral + positive, called)).ok()
}

impl fmt::Display for NegativeShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = percent_tenths;
        write!(f, "{} by the labels, {} called so", percent(self.labelled), percent(self.called))?;
        match self.corrected {
            None => f.write_str("; it cannot be corrected for the model's errors"),
            Some(Estimate { share, interval, .. }) => write!(
                f,
                "; corrected {} (95 % {} to {})",
                percent(share),
                percent(interval.low),
                percent(interval.high)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use monitor_core::domain::{Probabilities, Probability};

    use super::*;

    /// The manifest that ships with the model `name`.
    fn shipped(name: &str) -> Manifest {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        monitor_model::read_manifest(&models, name).unwrap()
    }

    #[test]
    fn corrects_by_the_rates_of_the_held_out_rows() {
        let manifest = shipped("lstm");
        let rates = rates(&manifest).unwrap();
        // 1,000 rows, 300 of them negative, called as the rates say.
        let found = (rates.true_positive() * 300.0).round() as usize;
        let wrong = (rates.false_positive() * 700.0).round() as usize;
        let row = |label, called: bool| {
            let negative = Probability::new(if called { 0.9 } else { 0.1 }).unwrap();
            Prediction { probabilities: Probabilities::three(negative, Probability::HALF), label }
        };
        let rows: Vec<Prediction> = (0..300)
            .map(|n| row(Label::Negative, n < found))
            .chain((0..700).map(|n| row(Label::Neutral, n < wrong)))
            .collect();
        let share = NegativeShare::of(&manifest, &rows, Probability::HALF.into()).unwrap();
        assert_eq!(share.labelled, 0.3);
        assert_eq!(share.called, (found + wrong) as f64 / 1000.0);
        let corrected = share.corrected.unwrap();
        assert!((corrected.share - 0.3).abs() < 0.01, "{corrected:?}");
        assert!(corrected.interval.low < 0.3 && corrected.interval.high > 0.3, "{corrected:?}");
        assert!(share.to_string().starts_with("30.0 % by the labels"), "{share}");

        let two: Vec<Prediction> =
            rows.iter().filter(|row| row.label == Label::Negative).copied().collect();
        assert_eq!(NegativeShare::of(&manifest, &two, Probability::HALF.into()), None);
    }
}
