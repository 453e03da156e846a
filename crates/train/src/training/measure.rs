//! Scores of rows, figures of scores, and the threshold that follows from them.
//!
//! **Invariant.** What is recorded was measured on the files of the new version. Deliberately
//! absent: choosing rows; `train` hands them in.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::calibrate::{self, Goal, Pair};
use super::dataset::text_hash;
use super::progress::Progress;
use super::{Dataset, Metrics, Row, TrainingError, hex};
use monitor_core::domain::Probability;
use monitor_model::{BEFORE_CALIBRATION, Calibration, ClassifyError, Manifest, Model};

/// Texts scored at once when measuring.
const MEASURE_ROWS: usize = 2048;
/// Rows of each class and half that a calibration needs at least.
pub(super) const CALIBRATION_ROWS_MIN: usize = 20;
/// Name of the held-out rows in manifests.
pub const HELD_OUT: &str = "held out";

/// Behind the name of human-labelled rows: with what was fitted on others of them.
const AFTER: &str = ", after calibration";

/// Human-labelled rows to calibrate with.
pub(super) struct Human<'a> {
    file: &'a str,
    /// Fitted on.
    pub(super) fit: Vec<&'a Row>,
    /// Reported on.
    report: Vec<&'a Row>,
}

impl<'a> Human<'a> {
    /// Of the rows of `human` that the model does not learn from, halves.
    ///
    /// # Errors
    /// Too few of them.
    pub(super) fn new(human: &'a Dataset, learned: &Dataset) -> Result<Self, TrainingError> {
        let known: HashSet<u64> = learned.rows.iter().map(|row| text_hash(&row.text)).collect();
        let unknown = |row: &&Row| !known.contains(&text_hash(&row.text));
        let rows: Vec<&Row> = human.rows.iter().filter(unknown).collect();
        let left = rows.len();
        let (fit, report) = calibrate::halves(rows);
        let class = |rows: &[&Row], class| rows.iter().filter(|row| row.negative == class).count();
        let enough =
            |rows: &&Vec<&Row>| class(rows, true).min(class(rows, false)) >= CALIBRATION_ROWS_MIN;
        if [&fit, &report].iter().all(enough) {
            return Ok(Self { file: &human.file, fit, report });
        }
        let (file, rows) = (human.file.clone(), human.rows.len());
        Err(TrainingError::TooFewToCalibrate { file, rows, left })
    }
}

/// On validation rows for most right answers, which it answers; on human-labelled rows, where
/// there are any, a temperature too, and the threshold for both classes alike: half of them
/// to fit, half to report on, before and after.
pub(super) fn choose_threshold(
    model: &mut Model,
    manifest: &mut Manifest,
    validation: &[&Row],
    human: Option<&Human<'_>>,
) -> Result<Calibration, TrainingError> {
    let threshold = calibrate::threshold(&scores(model, validation)?, Goal::Accuracy);
    let validated = Calibration { threshold, ..Calibration::NONE };
    manifest.calibration = validated;
    let Some(Human { file, fit, report }) = human else { return Ok(validated) };
    let pairs = scores(model, fit)?;
    manifest.calibration.temperature = calibrate::temperature(&pairs);
    let pairs = calibrate::apply(&pairs, manifest.calibration);
    manifest.calibration.threshold = calibrate::threshold(&pairs, Goal::BalancedAccuracy);
    let pairs = scores(model, report)?;
    for (when, calibration) in [(BEFORE_CALIBRATION, validated), (AFTER, manifest.calibration)] {
        record(manifest, &format!("{file}{when}"), &pairs, calibration, rows_sha256(report));
    }
    Ok(validated)
}

/// Writes the figures of raw scores under that calibration into the manifest.
pub(super) fn record(
    manifest: &mut Manifest,
    name: &str,
    pairs: &[Pair],
    calibration: Calibration,
    sha256: String,
) {
    let threshold =
        Probability::new(calibration.threshold).expect("thresholds are hundredths below one");
    let figures = Metrics::of(&calibrate::apply(pairs, calibration), threshold).figures();
    manifest.metrics.insert(name.to_owned(), figures);
    manifest.rows_sha256.insert(name.to_owned(), sha256);
}

/// Scores of the rows beside their labels; shows progress.
///
/// # Errors
/// The model failed on a row.
pub fn scores(model: &mut Model, rows: &[&Row]) -> Result<Vec<(Probability, bool)>, ClassifyError> {
    let mut pairs: Vec<Pair> = Vec::with_capacity(rows.len());
    let mut progress = Progress::new(format!("{} scores", model.id), rows.len());
    for chunk in rows.chunks(MEASURE_ROWS) {
        let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
        let scores = model.score(&texts)?;
        pairs.extend(scores.into_iter().zip(chunk.iter().map(|row| row.negative)));
        progress.rows(pairs.len(), None);
    }
    Ok(pairs)
}

/// Scores the rows and compares with their labels.
///
/// # Errors
/// The model failed on a row.
pub fn measure(model: &mut Model, rows: &[&Row]) -> Result<Metrics, ClassifyError> {
    Ok(Metrics::of(&scores(model, rows)?, model.threshold))
}

/// SHA-256 over labels and texts, in their order.
pub fn rows_sha256(rows: &[&Row]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        hash.update([u8::from(row.negative)]);
        hash.update((row.text.len() as u64).to_le_bytes());
        hash.update(&row.text);
    }
    hex(&hash.finalize())
}
