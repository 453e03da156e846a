//! Which rows of a file may be measured on.
//!
//! **Invariant.** Rows that a model learned from are measured on only when asked for, and
//! then the note says so. Of its own training file, held-out rows are found again from the
//! seed in its manifest. Deliberately absent: looking for single texts a model learned from
//! in other files; a manifest names files, not texts.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::classifier::Manifest;
use crate::training::{Dataset, Row, split};

/// A part of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Rows that were held out when the model was trained.
    HeldOut,
    /// All of them.
    All,
}

/// Rows to measure on.
#[derive(Debug)]
pub struct Selection<'a> {
    /// In the order of the file.
    pub rows: Vec<&'a Row>,
    /// Which part of the file they are.
    pub part: Part,
    /// Why these, in a sentence for the reader.
    pub note: String,
}

/// There is nothing to measure on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Held-out rows were asked for in a file that nothing was held out of.
    #[error(
        "no rows of {file} were held out: {models}; leave --split out, or give the file it was \
         trained on"
    )]
    OtherFile {
        /// The file at hand.
        file: String,
        /// What the models learned from.
        models: String,
    },
    /// Nothing is left to measure on.
    #[error("{file} has no row to measure on: {reason}")]
    NoRows {
        /// The file at hand.
        file: String,
        /// Where its rows went.
        reason: String,
    },
}

/// Chooses rows for `models`, which are to be measured on the same ones: where one or more
/// of them learned from this file, what was held out of each, else all rows; or what is
/// `asked` for.
///
/// # Errors
/// [`SelectionError`]
pub fn select<'a>(
    data: &'a Dataset,
    models: &[&Manifest],
    asked: Option<Part>,
) -> Result<Selection<'a>, SelectionError> {
    let learned: Vec<&&Manifest> =
        models.iter().filter(|model| learned_from(model, data)).collect();
    let ids = |models: &[&&Manifest]| -> String {
        models.iter().map(|model| model.id().to_string()).collect::<Vec<_>>().join(", ")
    };
    let file = &data.file;
    let others = || -> String {
        let mut by_file: BTreeMap<&str, Vec<&&Manifest>> = BTreeMap::new();
        models.iter().for_each(|model| by_file.entry(&model.data.file).or_default().push(model));
        let each =
            by_file.iter().map(|(file, models)| format!("{} learned from {file}", ids(models)));
        each.collect::<Vec<_>>().join(", ")
    };
    let (part, note) = match (learned.is_empty(), asked) {
        (true, Some(Part::HeldOut)) => {
            return Err(SelectionError::OtherFile { file: file.clone(), models: others() });
        }
        (true, _) => {
            (Part::All, format!("{}, not from this file: all rows are measured", others()))
        }
        (false, Some(Part::All)) => (
            Part::All,
            format!(
                "CAUTION: {} learned from this very file, and all of its rows are measured, as \
                 asked for: the figures flatter",
                ids(&learned)
            ),
        ),
        (false, _) => (
            Part::HeldOut,
            format!(
                "{} learned from this very file: only rows that were held out are measured",
                ids(&learned)
            ),
        ),
    };
    let mut rows: Vec<&Row> = data.rows.iter().collect();
    if part == Part::HeldOut {
        for model in learned {
            let held_out: HashSet<&str> = split(&data.rows, model.seed)
                .held_out
                .iter()
                .map(|row| row.text.as_str())
                .collect();
            rows.retain(|row| held_out.contains(row.text.as_str()));
        }
    }
    if rows.is_empty() {
        let reason = if data.rows.is_empty() {
            format!(
                "of {} rows, {} are neutral, {} have conflicting labels, {} are malformed",
                data.report.read,
                data.report.neutral,
                data.report.conflicting,
                data.report.malformed
            )
        } else {
            format!("of {} rows, none was held out of each of the models", data.rows.len())
        };
        return Err(SelectionError::NoRows { file: file.clone(), reason });
    }
    Ok(Selection { rows, part, note })
}

/// Whether the model was trained on this file, packed in this way or another.
fn learned_from(model: &Manifest, data: &Dataset) -> bool {
    let plain = |name: &str| -> String {
        let packings = [".xz", ".gz", ".zip"];
        let packed = packings.iter().find_map(|packing| name.strip_suffix(packing));
        packed.unwrap_or(name).to_owned()
    };
    model.data.sha256 == data.sha256 || plain(&model.data.file) == plain(&data.file)
}
