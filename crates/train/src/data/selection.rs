//! Selects the rows of a file on which models may be evaluated.
//!
//! **Invariant.** Models are evaluated on rows of their training only on request, and then the
//! note says so. The held-out rows of a model's own file are reconstructed from its manifest; a
//! file is recognised by its checksum, its name, or its held-out rows. Deliberately absent: a
//! search for single training texts in other files; a manifest names files, not texts.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use monitor_model::{Manifest, Source};

use super::{Dataset, HELD_OUT, Row, Split, SplitBy, halves, rows_sha256, split};

/// A part of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Rows that were held out when the model was trained.
    HeldOut,
    /// All of them.
    All,
}

/// The selected rows.
#[derive(Debug)]
pub struct Selection<'a> {
    /// The rows, in the order of the file.
    pub rows: Vec<&'a Row>,
    /// Which part of the file they are.
    pub part: Part,
    /// Why these rows, as a sentence for the reader.
    pub note: String,
}

/// No rows can be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Held-out rows were requested, but the file has none.
    #[error(
        "no rows of {file} were held out: {models}; leave --split out, or give the file it was \
         trained on"
    )]
    OtherFile {
        /// The file.
        file: String,
        /// The files on which the models were trained.
        models: String,
    },
    /// The rows held out by time cannot be identified.
    #[error(
        "which rows of {file} were held out from {model} cannot be identified: it was split by \
         time, which depends on all rows, and these are not all the rows of its training; give \
         a file that it does not know, or have all rows evaluated (monitor evaluate --split all), \
         those it learned from too"
    )]
    Lost {
        /// The file.
        file: String,
        /// Which model.
        model: String,
    },
    /// No row remains.
    #[error("{file} has no row to measure on: {reason}")]
    NoRows {
        /// The file.
        file: String,
        /// How its rows were used.
        reason: String,
    },
}

/// Selects the rows on which all `models` are evaluated: the part that is `asked` for, if any;
/// else the rows held out by every model trained on this file; else all rows.
///
/// # Errors
/// [`SelectionError`]
pub fn select<'a>(
    data: &'a Dataset,
    models: &[&Manifest],
    asked: Option<Part>,
) -> Result<Selection<'a>, SelectionError> {
    let mut learned = Vec::new();
    for model in models {
        if let Some(unseen) = unseen(model, data, asked)? {
            learned.push((model, unseen.held_out));
        }
    }
    let ids = |models: &[&Manifest]| -> String {
        models.iter().map(|model| model.id().to_string()).collect::<Vec<_>>().join(", ")
    };
    let learners = ids(&learned.iter().map(|(model, _)| **model).collect::<Vec<_>>());
    let file = &data.file;
    let others = || -> String {
        let mut by_file: BTreeMap<&str, Vec<&Manifest>> = BTreeMap::new();
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
                "CAUTION: {learners} learned from rows of this file, and all are measured, as asked \
                 for: the figures flatter"
            ),
        ),
        (false, _) => (
            Part::HeldOut,
            format!(
                "{learners} learned from rows of this file: only rows that were held out are measured"
            ),
        ),
    };
    let mut rows: Vec<&Row> = data.rows.iter().collect();
    if part == Part::HeldOut {
        for (_, unseen) in &learned {
            rows.retain(|row| unseen.contains(row.text.as_str()));
        }
    }
    if rows.is_empty() {
        let reason = if data.rows.is_empty() {
            format!(
                "of {} rows, {} are neutral and left out, {} have conflicting labels, {} are malformed",
                data.report.read,
                data.report.neutral,
                data.report.conflicting,
                data.report.malformed
            )
        } else {
            format!("none of its {} rows was held out from {learners}", data.rows.len())
        };
        return Err(SelectionError::NoRows { file: file.clone(), reason });
    }
    Ok(Selection { rows, part, note })
}

/// Rows to fit and rows to evaluate a combination of `models`. Neither contains training rows of
/// any of them, and the evaluation rows contain no validation rows, either. If none of the models
/// was trained on the file, each part is half of it.
///
/// # Errors
/// [`SelectionError`]
pub(crate) fn select_to_fit<'a>(
    data: &'a Dataset,
    models: &[&Manifest],
) -> Result<(Vec<&'a Row>, Vec<&'a Row>), SelectionError> {
    let mut known = Vec::new();
    for model in models {
        known.extend(unseen(model, data, None)?);
    }
    if known.is_empty() {
        return Ok(halves(&data.rows));
    }
    let (validation, held_out): (Vec<_>, Vec<_>) =
        known.iter().map(|unseen| (&unseen.validation, &unseen.held_out)).unzip();
    let in_all = |sides: Vec<&HashSet<&str>>| -> Vec<&'a Row> {
        let is_in_all = |row: &&Row| sides.iter().all(|side| side.contains(row.text.as_str()));
        data.rows.iter().filter(is_in_all).collect()
    };
    Ok((in_all(validation), in_all(held_out)))
}

/// How a model used texts that it was not trained on.
struct Unseen<'a> {
    /// For early stopping or calibration.
    validation: HashSet<&'a str>,
    /// Not at all.
    held_out: HashSet<&'a str>,
}

/// Texts of `data` on which the model was not trained; `None` if it was trained on none of them.
fn unseen<'a>(
    model: &Manifest,
    data: &'a Dataset,
    asked: Option<Part>,
) -> Result<Option<Unseen<'a>>, SelectionError> {
    let named = |name: &str| without_packing(name) == without_packing(&data.file);
    let by = [SplitBy::User, SplitBy::Random, SplitBy::Time];
    let by = by.into_iter().find(|by| by.as_str() == model.data.split).unwrap_or(SplitBy::User);
    let Split { validation, held_out, .. } = split(&data.rows, by, model.seed);
    let same_rows = model.rows_sha256.get(HELD_OUT) == Some(&rows_sha256(&held_out));

    let same = |source: &Source| source.sha256 == data.sha256 || named(&source.file);
    let (validation, held_out) = if model.data.also.iter().any(same) {
        (Vec::new(), Vec::new())
    } else if model.data.sha256 == data.sha256
        || named(&model.data.file)
        || model.data.more.iter().any(same)
        || same_rows
    {
        if by == SplitBy::Time && !same_rows && asked != Some(Part::All) {
            return Err(SelectionError::Lost {
                file: data.file.clone(),
                model: model.id().to_string(),
            });
        }
        (validation, held_out)
    } else if model.data.calibrate.iter().any(same) {
        halves(&data.rows)
    } else {
        return Ok(None);
    };
    let texts = |rows: Vec<&'a Row>| rows.into_iter().map(|row| row.text.as_str()).collect();
    Ok(Some(Unseen { validation: texts(validation), held_out: texts(held_out) }))
}

fn without_packing(name: &str) -> &str {
    let packings = [".xz", ".gz", ".zip"];
    packings.iter().find_map(|packing| name.strip_suffix(packing)).unwrap_or(name)
}
