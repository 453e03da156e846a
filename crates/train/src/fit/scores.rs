//! The scores of a model for labelled rows.

use monitor_core::domain::{Classes, Label, LabelThresholds, Probabilities, Probability};
use monitor_model::{ClassifyError, Model};

use super::Pair;
use crate::data::Row;
use crate::progress::Progress;

/// Texts scored at once.
const BATCH_ROWS: usize = 2048;

/// What a model says of a row, and what is true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The model's probabilities.
    pub probabilities: Probabilities,
    /// The row's label.
    pub label: Label,
}

impl Prediction {
    /// The predicted label among `classes`, those of the data. On rows of two classes, a model
    /// of three decides between these two: it cannot know that none is neutral.
    pub fn predicted(self, thresholds: LabelThresholds, classes: Classes) -> Label {
        let of_three = self.probabilities.neutral() > Probability::ZERO;
        match classes {
            Classes::Two if of_three => {
                let negative = self.probabilities.negative_among_two() >= Probability::HALF;
                if negative { Label::Negative } else { Label::Positive }
            }
            _ => thresholds.label(self.probabilities),
        }
    }

    /// The score of "negative" against the other classes of the data, and whether it is true.
    pub fn negative_or_not(self, classes: Classes) -> Pair {
        let score = match classes {
            Classes::Two => self.probabilities.negative_among_two(),
            Classes::Three => self.probabilities.negative(),
        };
        (score, self.label == Label::Negative)
    }
}

/// Three if any row is neutral.
pub fn classes_of(predictions: &[Prediction]) -> Classes {
    let neutral = predictions.iter().any(|row| row.label == Label::Neutral);
    if neutral { Classes::Three } else { Classes::Two }
}

/// Scores of the rows beside their labels; shows progress.
///
/// # Errors
/// The model failed on a row.
pub fn scores(model: &mut Model, rows: &[&Row]) -> Result<Vec<Prediction>, ClassifyError> {
    let mut found: Vec<Prediction> = Vec::with_capacity(rows.len());
    let mut progress = Progress::new(format!("{} scores", model.id), rows.len());
    for chunk in rows.chunks(BATCH_ROWS) {
        let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
        let scores = model.score(&texts)?.into_iter().zip(chunk);
        found.extend(
            scores.map(|(probabilities, row)| Prediction { probabilities, label: row.label }),
        );
        progress.rows(found.len(), None);
    }
    Ok(found)
}
