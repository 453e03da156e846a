//! Training targets: the labels, or a mix of labels and a teacher model's scores.
//!
//! A small network learns more from a large one's scores than from labels alone, because the
//! scores show how certain each row is. Method: knowledge distillation (Hinton, Vinyals and
//! Dean 2015); from BERT to an LSTM: Tang et al. 2019.
//!
//! **Invariant.** Teacher and student have the same held-out set and the same further training
//! files, so that the student is measured on rows that neither has seen. Deliberately absent:
//! rows without a label.

use std::collections::BTreeSet;

use monitor_core::domain::Precision;
use monitor_model::{self as classifier, OpenOptions, Source};

use super::{FitError, TrainingRequest, scores};
use crate::data::{HELD_OUT, Split, rows_sha256};

/// Share of the teacher's score in a target; the rest is the label.
const SHARE: f32 = 0.8;

/// Targets of the training set, in its order.
pub(crate) struct TrainingTargets {
    /// Probability of "negative".
    pub(crate) values: Vec<f32>,
    /// The teacher, if any, for the manifest.
    pub(crate) teacher: Option<Source>,
}

/// Computes the targets, with the scores of the teacher if one is given.
///
/// # Errors
/// The teacher does not exist, fails on a row, or was trained on other rows.
pub(crate) fn training_targets(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    also: &[Source],
) -> Result<TrainingTargets, FitError> {
    let labels = split.train.iter().map(|row| f32::from(u8::from(row.negative)));
    let Some(name) = &request.teacher else {
        return Ok(TrainingTargets { values: labels.collect(), teacher: None });
    };
    let member = classifier::member(&request.output, name)?;
    let id = member.model.to_string();
    let manifest = classifier::read_manifest(&request.output, &id)?;
    let files = |sources: &[Source]| -> BTreeSet<String> {
        sources.iter().map(|source| source.sha256.clone()).collect()
    };
    let same_rows = manifest.rows_sha256.get(HELD_OUT) == Some(&rows_sha256(&split.held_out));
    if !same_rows || files(&manifest.data.also) != files(also) {
        return Err(FitError::OtherTeacher { teacher: id });
    }
    let options = OpenOptions {
        directory: request.output.clone(),
        threads: request.threads,
        device: request.device_name.clone(),
        precision: if request.half { Precision::Bf16 } else { Precision::Single },
        tokens_max: None,
    };
    let mut model = classifier::open(&options, &id)?;
    let taught = scores(&mut model, &split.train)?;
    let targets =
        labels.zip(taught).map(|(label, (score, _))| SHARE * score.get() + (1.0 - SHARE) * label);
    let about = format!("its scores make up {SHARE} of what is taught");
    Ok(TrainingTargets {
        values: targets.collect(),
        teacher: Some(Source { file: id, sha256: member.sha256, about }),
    })
}
