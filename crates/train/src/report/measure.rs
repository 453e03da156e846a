//! Figures of a model on rows, and how a manifest records them.

use std::collections::BTreeMap;

use monitor_model::{Calibration, ClassifyError, Manifest, Model};

use super::figures;
use crate::data::Row;
use crate::fit::{Prediction, scores};

/// Calibrates raw scores and writes their figures into the manifest.
pub(crate) fn record(
    manifest: &mut Manifest,
    name: &str,
    rows: &[Prediction],
    calibration: Calibration,
    sha256: String,
) {
    let thresholds = calibration.thresholds().expect("thresholds are hundredths below one");
    let calibrated: Vec<Prediction> = (rows.iter())
        .map(|row| Prediction { probabilities: calibration.apply(row.probabilities), ..*row })
        .collect();
    manifest.metrics.insert(name.to_owned(), figures(&calibrated, thresholds));
    manifest.rows_sha256.insert(name.to_owned(), sha256);
}

/// Figures of the model on labelled rows.
///
/// # Errors
/// The model failed on a row.
pub fn measure(model: &mut Model, rows: &[&Row]) -> Result<BTreeMap<String, f64>, ClassifyError> {
    Ok(figures(&scores(model, rows)?, model.thresholds))
}
