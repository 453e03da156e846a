//! The scores of a model for labelled rows.

use monitor_core::domain::Probability;
use monitor_model::{ClassifyError, Model};

use super::Pair;
use crate::data::Row;
use crate::progress::Progress;

/// Texts scored at once.
const BATCH_ROWS: usize = 2048;

/// Scores of the rows beside their labels; shows progress.
///
/// # Errors
/// The model failed on a row.
pub fn scores(model: &mut Model, rows: &[&Row]) -> Result<Vec<(Probability, bool)>, ClassifyError> {
    let mut pairs: Vec<Pair> = Vec::with_capacity(rows.len());
    let mut progress = Progress::new(format!("{} scores", model.id), rows.len());
    for chunk in rows.chunks(BATCH_ROWS) {
        let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
        let scores = model.score(&texts)?;
        pairs.extend(scores.into_iter().zip(chunk.iter().map(|row| row.negative)));
        progress.rows(pairs.len(), None);
    }
    Ok(pairs)
}
