//! What each row teaches: its label, or what lies between the label and a teacher's score.
//!
//! A small network learns more from a large one's scores than from labels alone, since they
//! tell how sure one can be of each row. Method: Hinton, Vinyals and Dean 2015; from BERT to
//! an LSTM: Tang et al. 2019.
//!
//! **Invariant.** Teacher and pupil hold out the same rows and learn from the same further
//! files, so that the pupil is measured on rows that neither has seen. Deliberately absent: rows without a label.

use std::collections::BTreeSet;

use super::measure::scores;
use super::{HELD_OUT, Request, Split, TrainingError, rows_sha256};
use monitor_core::domain::Precision;
use monitor_model::{self as classifier, OpenOptions, Source};

/// Share of the teacher's score in what is taught.
const SHARE: f32 = 0.8;

/// What the rows to learn from teach, in their order: 1 is negative, 0 is not.
pub(super) struct Lessons {
    pub(super) targets: Vec<f32>,
    /// Who taught, where anybody did.
    pub(super) teacher: Option<Source>,
}

/// Asks the teacher, where there is one, for its scores.
///
/// # Errors
/// There is no such model, it failed on a row, or it learned from other rows.
pub(super) fn lessons(
    request: &Request<'_>,
    sides: &Split<'_>,
    also: &[Source],
) -> Result<Lessons, TrainingError> {
    let labels = sides.train.iter().map(|row| f32::from(u8::from(row.negative)));
    let Some(name) = &request.teacher else {
        return Ok(Lessons { targets: labels.collect(), teacher: None });
    };
    let member = classifier::member(&request.output, name)?;
    let id = member.model.to_string();
    let manifest = classifier::read_manifest(&request.output, &id)?;
    let files = |sources: &[Source]| -> BTreeSet<String> {
        sources.iter().map(|source| source.sha256.clone()).collect()
    };
    let same_rows = manifest.rows_sha256.get(HELD_OUT) == Some(&rows_sha256(&sides.held_out));
    if !same_rows || files(&manifest.data.also) != files(also) {
        return Err(TrainingError::OtherTeacher { teacher: id });
    }
    let options = OpenOptions {
        directory: request.output.clone(),
        threads: request.threads,
        device: request.device_name.clone(),
        precision: if request.half { Precision::Bf16 } else { Precision::Single },
        tokens_max: None,
    };
    let mut model = classifier::open(&options, &id)?;
    let taught = scores(&mut model, &sides.train)?;
    let targets =
        labels.zip(taught).map(|(label, (score, _))| SHARE * score.get() + (1.0 - SHARE) * label);
    let about = format!("its scores make up {SHARE} of what is taught");
    Ok(Lessons {
        targets: targets.collect(),
        teacher: Some(Source { file: id, sha256: member.sha256, about }),
    })
}
