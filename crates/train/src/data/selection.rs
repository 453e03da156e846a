//! Selects the rows of a file on which models may be evaluated.
//!
//! **Invariant.** Models are evaluated on rows that they learned from only on request, and then
//! the note says so. Such a row is recognised by the list that the version keeps
//! ([`LearnedRows`](monitor_model::LearnedRows)), in any file. The rows held out from a model's own
//! training file are reconstructed from its manifest, so that its figures are those of the
//! manifest; a version without a list is protected by that alone, and its files are recognised by
//! checksum, name, or held-out rows. Deliberately absent: similar texts.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use monitor_model::{Known, Manifest, Source};

use super::{Dataset, HELD_OUT, Row, Split, SplitBy, halves, rows_sha256, split};

/// A part of a file's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Rows that no model learned from.
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
    /// Rows of the file that a model is known to have learned from, by the lists of the versions.
    pub learned: usize,
    /// How many rows are expected to be among those by mistake.
    pub mistaken: f64,
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
/// else the rows that none of them learned from.
///
/// # Errors
/// [`SelectionError`]
pub fn select<'a>(
    data: &'a Dataset,
    models: &[Known],
    asked: Option<Part>,
) -> Result<Selection<'a>, SelectionError> {
    let mut learners = Vec::new();
    for model in models {
        if let Some(unseen) = unseen(model, data, asked)? {
            learners.push((&model.manifest, unseen.held_out));
        }
    }
    let recognised = Recognised::of(data, models);
    let file = &data.file;
    let all = || models.iter().map(|model| &model.manifest);
    let others = || -> String {
        let mut by_file: BTreeMap<&str, Vec<&Manifest>> = BTreeMap::new();
        all().for_each(|model| by_file.entry(&model.data.file).or_default().push(model));
        let each = (by_file.into_iter())
            .map(|(file, models)| format!("{} learned from {file}", ids(models)));
        each.collect::<Vec<_>>().join(", ")
    };
    let of_file = ids(learners.iter().map(|(model, _)| *model));
    let from_rows = if of_file.is_empty() { &recognised.models } else { &of_file };
    let learned = recognised.rows.len();
    let none_known = learners.is_empty() && learned == 0;
    let (part, mut note) = match asked {
        Some(Part::HeldOut) if none_known => {
            return Err(SelectionError::OtherFile { file: file.clone(), models: others() });
        }
        _ if none_known => {
            (Part::All, format!("{}, not from this file: all rows are measured", others()))
        }
        Some(Part::All) => (
            Part::All,
            format!(
                "CAUTION: {from_rows} learned from rows of this file, and all are measured, as asked \
                 for: the figures flatter"
            ),
        ),
        _ => (
            Part::HeldOut,
            format!(
                "{from_rows} learned from rows of this file: only rows that were held out are measured"
            ),
        ),
    };
    if learned > 0 {
        note.push_str(&recognised.words(part));
    }
    let without = ids(models.iter().filter(|it| it.learned.is_none()).map(|it| &it.manifest));
    if !without.is_empty() {
        note.push_str(&format!(
            "; {without} keeps no list of the rows it learned from (trained before lists were kept): \
             a copy of its training file under another name is not recognised"
        ));
    }
    let mut rows: Vec<&Row> = data.rows.iter().collect();
    if part == Part::HeldOut {
        for (_, unseen) in &learners {
            rows.retain(|row| unseen.contains(row.text.as_str()));
        }
        rows.retain(|row| !recognised.rows.contains(row.text.as_str()));
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
            format!("none of its {} rows was held out from {from_rows}", data.rows.len())
        };
        return Err(SelectionError::NoRows { file: file.clone(), reason });
    }
    Ok(Selection { rows, part, learned, mistaken: recognised.mistaken, note })
}

/// `name@version` of each, with commas.
fn ids<'m>(models: impl IntoIterator<Item = &'m Manifest>) -> String {
    models.into_iter().map(|model| model.id().to_string()).collect::<Vec<_>>().join(", ")
}

/// Rows that models are known to have learned from, by their lists.
struct Recognised<'a> {
    rows: HashSet<&'a str>,
    /// Those models.
    models: String,
    /// Rows expected to be recognised by mistake.
    mistaken: f64,
}

impl<'a> Recognised<'a> {
    fn of(data: &'a Dataset, models: &[Known]) -> Self {
        let (mut rows, mut learners, mut unmistaken) = (HashSet::new(), Vec::new(), 1.0);
        for Known { manifest, learned } in models {
            let Some(learned) = learned else { continue };
            let texts = data.rows.iter().map(|row| row.text.as_str());
            let found: Vec<&str> = texts.filter(|text| learned.contains(text)).collect();
            if !found.is_empty() {
                learners.push(manifest);
            }
            rows.extend(found);
            unmistaken *= 1.0 - learned.mistake();
        }
        let mistaken = (data.rows.len() - rows.len()) as f64 * (1.0 - unmistaken);
        Self { rows, models: ids(learners), mistaken }
    }

    fn words(&self, part: Part) -> String {
        let (rows, mistaken) = (self.rows.len(), self.mistaken);
        let verb = if part == Part::All { "measured" } else { "left out" };
        format!(
            "; {rows} rows are {verb} that the lists of {} contain, {mistaken:.1} of them expected \
             by mistake",
            self.models
        )
    }
}

/// Rows to fit and rows to evaluate a combination of `models`. Neither contains training rows of
/// any of them, and the evaluation rows contain no validation rows, either. If none of the models
/// was trained on the file, each part is half of the rows that none of them learned from.
///
/// # Errors
/// [`SelectionError`]
pub(crate) fn select_to_fit<'a>(
    data: &'a Dataset,
    models: &[Known],
) -> Result<(Vec<&'a Row>, Vec<&'a Row>), SelectionError> {
    let (mut of_file, mut by_list_alone) = (Vec::new(), Vec::new());
    for model in models {
        match unseen(model, data, None)? {
            Some(unseen) => of_file.push(unseen),
            None => by_list_alone.extend(&model.learned),
        }
    }
    let unknown = |row: &&Row| !by_list_alone.iter().any(|list| list.contains(&row.text));
    if of_file.is_empty() {
        return Ok(halves(data.rows.iter().filter(unknown)));
    }
    let (validation, held_out): (Vec<_>, Vec<_>) =
        of_file.iter().map(|unseen| (&unseen.validation, &unseen.held_out)).unzip();
    let in_all = |sides: Vec<&HashSet<&str>>| -> Vec<&'a Row> {
        let is_in_all = |row: &&Row| sides.iter().all(|side| side.contains(row.text.as_str()));
        data.rows.iter().filter(is_in_all).filter(unknown).collect()
    };
    // The lists have validation rows too, which the first part was made to use.
    let learned = Recognised::of(data, models).rows;
    let held_out = in_all(held_out).into_iter();
    Ok((in_all(validation), held_out.filter(|row| !learned.contains(row.text.as_str())).collect()))
}

/// How a model used texts that it was not trained on.
struct Unseen<'a> {
    /// For early stopping or calibration.
    validation: HashSet<&'a str>,
    /// Not at all.
    held_out: HashSet<&'a str>,
}

/// Texts of `data` on which the model was not trained, as its manifest says; `None` if it was
/// trained on none of them, or only its list can tell.
fn unseen<'a>(
    Known { manifest: model, learned }: &Known,
    data: &'a Dataset,
    asked: Option<Part>,
) -> Result<Option<Unseen<'a>>, SelectionError> {
    let named = |name: &str| without_packing(name) == without_packing(&data.file);
    let by = SplitBy::ALL.into_iter().find(|by| by.as_str() == model.data.split);
    let by = by.unwrap_or(SplitBy::User);
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
        if by == SplitBy::Time && !same_rows && learned.is_some() {
            return Ok(None);
        }
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
