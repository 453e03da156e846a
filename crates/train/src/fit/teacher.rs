//! Training targets: the labels, or a mix of labels and the scores of teacher models.
//!
//! A small network learns more from a large one's scores than from labels alone, because the
//! scores show how certain each row is. Method: knowledge distillation (Hinton, Vinyals and
//! Dean 2015); from BERT to an LSTM: Tang et al. 2019. The mean of several teachers
//! errs less than each of them.
//!
//! **Invariant.** Each teacher and student have the same held-out set and the same further training
//! files, so that the student is measured on rows that neither has seen. Deliberately absent:
//! rows without a label.

use std::collections::BTreeSet;

use monitor_core::domain::{Classes, Label, Precision};
use monitor_model::{self as classifier, Model, OpenOptions, Source};

use super::{FitError, TrainingRequest, scores, weight_min};
use crate::data::{HELD_OUT, Row, Split, rows_sha256};

/// Share of the teachers' mean score in a target; the rest is the label.
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
    pub fn of(row: &Row, classes: Classes) -> Self {
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
    /// The teachers, if any, for the manifest.
    pub(crate) teachers: Vec<Source>,
}

/// Computes the targets, with the mean scores of the teachers if any are given. Rows of so small a
/// weight that only a part of them is drawn for an epoch keep their labels: scoring all of them
/// would cost more than learning from that part.
///
/// # Errors
/// A teacher does not exist, fails on a row, or was trained on other rows.
pub(crate) fn training_targets(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    also: &[Source],
) -> Result<TrainingTargets, FitError> {
    let mut values: Vec<Target> =
        split.train.iter().map(|row| Target::of(row, request.classes)).collect();
    let floor = weight_min(split.train.iter().map(|row| row.weight));
    let (taught, rows): (Vec<usize>, Vec<&Row>) =
        (0..).zip(split.train.iter().copied()).filter(|(_, row)| row.weight >= floor).unzip();
    let mut teachers = Vec::new();
    let share = SHARE / request.teachers.len().max(1) as f32;
    for (at, name) in request.teachers.iter().enumerate() {
        let (mut model, source) = teacher(request, split, also, name)?;
        if at == 0 {
            for at in &taught {
                values[*at].classes = values[*at].classes.map(|class| class * (1.0 - SHARE));
            }
        }
        // A teacher of three classes also says how neutral a row is whose label does not.
        let three = model.classes == Classes::Three;
        for (at, taught) in taught.iter().zip(scores(&mut model, &rows)?) {
            let target = &mut values[*at];
            for (class, label) in target.classes.iter_mut().zip(Label::ALL) {
                *class += share * taught.probabilities.of(label).get();
            }
            target.masked &= !three;
        }
        teachers.push(source);
    }
    Ok(TrainingTargets { values, teachers })
}

/// Opens a teacher, and says what the manifest keeps of it.
fn teacher(
    request: &TrainingRequest<'_>,
    split: &Split<'_>,
    also: &[Source],
    name: &str,
) -> Result<(Model, Source), FitError> {
    let member = classifier::member(&request.output, name)?;
    let id = member.model.to_string();
    let manifest = classifier::read_manifest(&request.output, &id)?;
    let files = |sources: &[Source]| -> BTreeSet<String> {
        sources.iter().map(|source| source.sha256.clone()).collect()
    };
    let same_rows = manifest.rows_sha256.get(HELD_OUT) == Some(&rows_sha256(&split.held_out_of(0)));
    if !same_rows || !files(&manifest.data.also).is_subset(&files(also)) {
        return Err(FitError::OtherTeacher { teacher: id });
    }
    let options = OpenOptions {
        directory: request.output.clone(),
        threads: request.threads,
        device: request.device_name.clone(),
        precision: if request.half { Precision::Bf16 } else { Precision::Single },
        tokens_max: None,
    };
    let about = match request.teachers.len() {
        1 => format!("its scores make up {SHARE} of what is taught"),
        several => format!("the mean scores of {several} models make up {SHARE} of what is taught"),
    };
    Ok((classifier::open(&options, &id)?, Source { file: id, sha256: member.sha256, about }))
}
