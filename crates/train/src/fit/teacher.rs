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

use monitor_core::domain::{Classes, Label, Precision};
use monitor_model::{self as classifier, OpenOptions, Source};

use super::{FitError, TrainingRequest, scores};
use crate::data::{HELD_OUT, Row, Split, rows_sha256};

/// Share of the teacher's score in a target; the rest is the label.
const SHARE: f32 = 0.8;

/// What a row teaches: the probability of each class, in the order of [`Label::ALL`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// They sum to 1.
    pub classes: [f32; 3],
    /// Whether the row says nothing of "neutral": then the loss compares negative and positive
    /// alone.
    pub masked: bool,
}

impl Target {
    /// What the row's label teaches a model of `classes`.
    pub(crate) fn of(row: &Row, classes: Classes) -> Self {
        let class = |label: Label| f32::from(u8::from(row.label == label));
        Self {
            classes: Label::ALL.map(class),
            masked: classes == Classes::Three && row.classes == Classes::Two,
        }
    }
}

/// Targets of the training set, in its order.
pub(crate) struct TrainingTargets {
    pub(crate) values: Vec<Target>,
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
    let labels = split.train.iter().map(|row| Target::of(row, request.classes));
    let Some(name) = &request.teacher else {
        return Ok(TrainingTargets { values: labels.collect(), teacher: None });
    };
    let member = classifier::member(&request.output, name)?;
    let id = member.model.to_string();
    let manifest = classifier::read_manifest(&request.output, &id)?;
    let files = |sources: &[Source]| -> BTreeSet<String> {
        sources.iter().map(|source| source.sha256.clone()).collect()
    };
    let same_rows = manifest.rows_sha256.get(HELD_OUT) == Some(&rows_sha256(&split.held_out_of(0)));
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
    let three = model.classes == Classes::Three;
    let targets = labels.zip(taught).map(|(label, taught)| {
        let taught = Label::ALL.map(|label| taught.probabilities.of(label).get());
        let mix = |at: usize| SHARE * taught[at] + (1.0 - SHARE) * label.classes[at];
        // A teacher of three classes also says how neutral a row is whose label does not.
        Target { classes: [mix(0), mix(1), mix(2)], masked: label.masked && !three }
    });
    let about = format!("its scores make up {SHARE} of what is taught");
    Ok(TrainingTargets {
        values: targets.collect(),
        teacher: Some(Source { file: id, sha256: member.sha256, about }),
    })
}
