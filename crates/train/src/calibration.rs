//! Chooses the thresholds of a new model, and its temperatures if there are human labels.
//!
//! **Invariant.** Figures "after calibration" come from rows that were not fitted on.

use std::collections::HashSet;

use monitor_core::domain::Classes;
use monitor_core::text::identity_key;
use monitor_model::{BEFORE_CALIBRATION, Calibration, ClassifyError, Manifest, Model};

use crate::data::{Dataset, NearRows, Row, halves, rows_sha256};
use crate::fit::{Goal, Pair, Prediction, binary, scores, three_classes, threshold};
use crate::report::record;

/// Rows of each class that each half needs at least to calibrate.
const CALIBRATION_ROWS_MIN: usize = 20;

/// Appended to the name of human-labelled rows: figures with the fitted calibration.
const AFTER: &str = ", after calibration";

/// Too few human-labelled rows to calibrate with.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {left} of {rows} rows are not in the training data; that is too few to calibrate \
     with: each half needs {CALIBRATION_ROWS_MIN} rows of each class (texts of --test are left out)"
)]
pub struct TooFewToCalibrate {
    /// Name of the file.
    pub file: String,
    /// Rows in it.
    pub rows: usize,
    /// Rows whose text is not in the training data.
    pub left: usize,
}

/// Human-labelled rows to calibrate with, none of them in the training data.
pub(crate) struct HumanLabelled<'a> {
    file: &'a str,
    /// Rows to fit temperature and threshold on.
    pub(crate) fit: Vec<&'a Row>,
    /// Rows for the figures "after calibration".
    report: Vec<&'a Row>,
}

impl<'a> HumanLabelled<'a> {
    /// Splits the rows of `human` whose text is not in `learned` into two halves; `tests` and what
    /// is near to them is not fitted on.
    ///
    /// # Errors
    /// Too few rows are left.
    pub(crate) fn new(
        human: &'a Dataset,
        learned: &Dataset,
        tests: &NearRows,
        classes: Classes,
    ) -> Result<Self, TooFewToCalibrate> {
        let known: HashSet<u64> = learned.rows.iter().map(|row| identity_key(&row.text)).collect();
        let unknown = |row: &&Row| !known.contains(&identity_key(&row.text));
        let rows: Vec<&Row> = human.rows.iter().filter(unknown).collect();
        let left = rows.len();
        let (mut fit, report) = halves(rows);
        tests.leave_out_of(&mut fit);
        let class = |rows: &[&Row], class| rows.iter().filter(|row| row.label == class).count();
        let enough = |rows: &&Vec<&Row>| {
            classes.labels().iter().all(|label| class(rows, *label) >= CALIBRATION_ROWS_MIN)
        };
        if [&fit, &report].iter().all(enough) {
            return Ok(Self { file: &human.file, fit, report });
        }
        let (file, rows) = (human.file.clone(), human.rows.len());
        Err(TooFewToCalibrate { file, rows, left })
    }
}

/// The validation rows that decide: those of the first file with the classes of the model.
pub(crate) fn deciding<'a>(validation: &[&'a Row], classes: Classes) -> Vec<&'a Row> {
    let fits = |row: &&&Row| row.classes == classes;
    let source = validation.iter().find(fits).map(|row| row.source);
    let of_source = |row: &&Row| fits(&row) && Some(row.source) == source;
    validation.iter().copied().filter(of_source).collect()
}

/// Sets the manifest's calibration and returns the one fitted on validation rows. With two
/// classes it maximises accuracy; with three, it calls as many rows negative as are negative, on
/// the rows of the first file that people labelled. With further human-labelled rows, the
/// manifest's is fitted on one half of them (with two classes for balanced accuracy), and figures
/// before and after are recorded on the other half.
pub(crate) fn calibrate(
    model: &mut Model,
    manifest: &mut Manifest,
    validation: &[&Row],
    human: Option<&HumanLabelled<'_>>,
) -> Result<Calibration, ClassifyError> {
    let classes = manifest.classes;
    let pairs = |rows: &[Prediction]| -> Vec<Pair> {
        rows.iter().map(|row| row.negative_or_not(classes)).collect()
    };
    let rows = scores(model, &deciding(validation, classes))?;
    let validated = match classes {
        Classes::Two => {
            let threshold = threshold(&pairs(&rows), Goal::Accuracy);
            Calibration { threshold, ..Calibration::NONE }
        }
        Classes::Three => three_classes(&rows),
    };
    manifest.calibration = validated;
    let Some(HumanLabelled { file, fit, report }) = human else { return Ok(validated) };
    let rows = scores(model, fit)?;
    manifest.calibration = match classes {
        Classes::Two => {
            let fitted = binary(&pairs(&rows), Goal::BalancedAccuracy);
            let (temperature, threshold) = (fitted.temperature, fitted.threshold);
            Calibration { temperature, threshold, positive: None }
        }
        Classes::Three => three_classes(&rows),
    };
    let rows = scores(model, report)?;
    for (when, calibration) in [(BEFORE_CALIBRATION, validated), (AFTER, manifest.calibration)] {
        record(manifest, &format!("{file}{when}"), &rows, calibration, rows_sha256(report));
    }
    Ok(validated)
}
