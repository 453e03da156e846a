//! Figures of a model on rows, and how a manifest records them.

use monitor_core::domain::Probability;
use monitor_model::{Calibration, ClassifyError, Manifest, Model};

use super::Metrics;
use crate::data::Row;
use crate::fit::{Pair, apply, scores};

/// Calibrates raw scores and writes their figures into the manifest.
pub(crate) fn record(
    manifest: &mut Manifest,
    name: &str,
    pairs: &[Pair],
    calibration: Calibration,
    sha256: String,
) {
    let threshold =
        Probability::new(calibration.threshold).expect("thresholds are hundredths below one");
    let figures = Metrics::of(&apply(pairs, calibration), threshold).figures();
    manifest.metrics.insert(name.to_owned(), figures);
    manifest.rows_sha256.insert(name.to_owned(), sha256);
}

/// Scores the rows and pairs each score with its label.
///
/// # Errors
/// The model failed on a row.
pub fn measure(model: &mut Model, rows: &[&Row]) -> Result<Metrics, ClassifyError> {
    Ok(Metrics::of(&scores(model, rows)?, model.threshold))
}
