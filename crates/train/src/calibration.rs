//! Chooses the threshold of a new model, and its temperature if there are human labels.
//!
//! **Invariant.** Figures "after calibration" come from rows that were not fitted on.

use std::collections::HashSet;

use monitor_model::{BEFORE_CALIBRATION, Calibration, ClassifyError, Manifest, Model};

use crate::data::{Dataset, Row, halves, rows_sha256, text_hash};
use crate::fit::{Goal, apply, scores, temperature, threshold};
use crate::report::record;

/// Rows of each class that each half needs at least to calibrate.
const CALIBRATION_ROWS_MIN: usize = 20;

/// Appended to the name of human-labelled rows: figures with the fitted calibration.
const AFTER: &str = ", after calibration";

/// Too few human-labelled rows to calibrate with.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: {left} of {rows} rows are not in the training data; that is too few to calibrate \
     with: each half needs {CALIBRATION_ROWS_MIN} negative and {CALIBRATION_ROWS_MIN} positive \
     rows (texts of --test are left out)"
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
    /// Splits the rows of `human` whose text is not in `learned` into two halves.
    ///
    /// # Errors
    /// Too few rows are left.
    pub(crate) fn new(human: &'a Dataset, learned: &Dataset) -> Result<Self, TooFewToCalibrate> {
        let known: HashSet<u64> = learned.rows.iter().map(|row| text_hash(&row.text)).collect();
        let unknown = |row: &&Row| !known.contains(&text_hash(&row.text));
        let rows: Vec<&Row> = human.rows.iter().filter(unknown).collect();
        let left = rows.len();
        let (fit, report) = halves(rows);
        let class = |rows: &[&Row], class| rows.iter().filter(|row| row.negative == class).count();
        let enough =
            |rows: &&Vec<&Row>| class(rows, true).min(class(rows, false)) >= CALIBRATION_ROWS_MIN;
        if [&fit, &report].iter().all(enough) {
            return Ok(Self { file: &human.file, fit, report });
        }
        let (file, rows) = (human.file.clone(), human.rows.len());
        Err(TooFewToCalibrate { file, rows, left })
    }
}

/// Sets the manifest's calibration and returns the one fitted on validation rows, which
/// maximises accuracy. With human-labelled rows, it fits temperature and threshold (for
/// balanced accuracy) on one half and records figures before and after on the other half.
pub(crate) fn choose_threshold(
    model: &mut Model,
    manifest: &mut Manifest,
    validation: &[&Row],
    human: Option<&HumanLabelled<'_>>,
) -> Result<Calibration, ClassifyError> {
    let found = threshold(&scores(model, validation)?, Goal::Accuracy);
    let validated = Calibration { threshold: found, ..Calibration::NONE };
    manifest.calibration = validated;
    let Some(HumanLabelled { file, fit, report }) = human else { return Ok(validated) };
    let pairs = scores(model, fit)?;
    manifest.calibration.temperature = temperature(&pairs);
    let pairs = apply(&pairs, manifest.calibration);
    manifest.calibration.threshold = threshold(&pairs, Goal::BalancedAccuracy);
    let pairs = scores(model, report)?;
    for (when, calibration) in [(BEFORE_CALIBRATION, validated), (AFTER, manifest.calibration)] {
        record(manifest, &format!("{file}{when}"), &pairs, calibration, rows_sha256(report));
    }
    Ok(validated)
}
