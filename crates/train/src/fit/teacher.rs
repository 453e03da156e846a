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

use super::{FitError, TrainingRequest, scores};
use crate::data::{HELD_OUT, Row, Split, rows_sha256};

/// Share of the teachers' mean score in a target; the rest is the label.
const SHARE: f32 = 0.8;
/// The same for negative against positive where a label of two classes says nothing of neutral. Such
/// labels come from emoticons: they know more of the words in tweets like these than a teacher
/// that learned from people, and the teacher knows how neutral a tweet is.
const SHARE_OF_TWO: f32 = 0.2;

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

    /// This label and `scores`, the teachers' mean, in the order of [`Label::ALL`]. Teachers that
    /// `know_neutral` also say how neutral a row is whose label does not.
    fn taught(self, scores: [f32; 3], know_neutral: bool) -> Self {
        let mix = |share: f32, label: f32, score: f32| (1.0 - share) * label + share * score;
        let [negative, neutral, positive] = scores;
        if self.masked && know_neutral {
            let either = negative + positive;
            let score = if either > 0.0 { negative / either } else { self.classes[0] };
            let negative = (1.0 - neutral) * mix(SHARE_OF_TWO, self.classes[0], score);
            return Self { classes: [negative, neutral, 1.0 - neutral - negative], masked: false };
        }
        let mut classes = self.classes;
        for (class, score) in classes.iter_mut().zip(scores) {
            *class = mix(SHARE, *class, score);
        }
        Self { classes, ..self }
    }
}

/// Targets of the training set, in its order.
pub(crate) struct TrainingTargets {
    pub(crate) values: Vec<Target>,
    /// The teachers, if any, for the manifest.
    pub(crate) teachers: Vec<Source>,
}

/// Computes the targets, with the mean scores of the teachers if any are given.
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
    let mut teachers = Vec::new();
    let mut means = vec![[0.0; 3]; values.len()];
    let mut know_neutral = false;
    for name in &request.teachers {
        let (mut model, source) = teacher(request, split, also, name)?;
        know_neutral |= model.classes == Classes::Three;
        for (mean, taught) in means.iter_mut().zip(scores(&mut model, &split.train)?) {
            for (class, label) in mean.iter_mut().zip(Label::ALL) {
                *class += taught.probabilities.of(label).get() / request.teachers.len() as f32;
            }
        }
        teachers.push(source);
    }
    if !teachers.is_empty() {
        for (value, mean) in values.iter_mut().zip(means) {
            *value = value.taught(mean, know_neutral);
        }
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
    let whose = match request.teachers.len() {
        1 => "its scores".to_owned(),
        several => format!("the mean scores of {several} models"),
    };
    let about = format!(
        "{whose} make up {SHARE} of what is taught; of negative against positive, where the labels know no neutral, {SHARE_OF_TWO}"
    );
    Ok((classifier::open(&options, &id)?, Source { file: id, sha256: member.sha256, about }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teachers_say_how_neutral_a_row_of_two_classes_is() {
        let check =
            |name: &str, label: [f32; 3], masked, scores, know_neutral, expected: Target| {
                let found = Target { classes: label, masked }.taught(scores, know_neutral);
                assert_eq!(found.masked, expected.masked, "{name}");
                for (found, expected) in found.classes.into_iter().zip(expected.classes) {
                    assert!((found - expected).abs() < 1e-6, "{name}: {found}, not {expected}");
                }
            };
        let open = |classes| Target { classes, masked: false };
        let negative = [1.0, 0.0, 0.0];
        check("labels of three", negative, false, [0.5, 0.5, 0.0], true, open([0.6, 0.4, 0.0]));
        check("of two", negative, true, [0.1, 0.6, 0.3], true, open([0.34, 0.6, 0.06]));
        check("surely neutral", negative, true, [0.0, 1.0, 0.0], true, open([0.0, 1.0, 0.0]));
        let closed = Target { classes: [0.36, 0.0, 0.64], masked: true };
        check("a teacher of two", negative, true, [0.2, 0.0, 0.8], false, closed);
    }
}
