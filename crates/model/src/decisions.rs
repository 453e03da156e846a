//! The linear decisions of the logistic families: negative or not; with three classes also
//! positive or neutral, for texts that are not negative.
//!
//! **Invariant.** Both decisions see the same features. Deliberately absent: a softmax over
//! three classes; two binary decisions are fitted by the same convex solver, and the weights of
//! the first say directly what makes a text negative.

use monitor_core::domain::{Classes, Probabilities, Probability};
use monitor_core::logit::sigmoid_f32;

use super::weights::WeightsError;
use super::{ClassifyError, Linear, Weights};

/// One binary decision: its logit is the bias plus the sum of weights times features.
#[derive(Debug)]
pub(super) struct Decision {
    /// One per feature.
    pub(super) weight: Vec<f32>,
    pub(super) bias: f32,
}

/// The decisions of a model.
#[derive(Debug)]
pub(super) struct Decisions {
    pub(super) negative: Decision,
    /// Positive against neutral; `None` with two classes.
    pub(super) positive: Option<Decision>,
}

impl Decisions {
    /// Takes `weight` [features] and `bias` [1] out of the file, with three classes also
    /// `positive.weight` and `positive.bias`.
    ///
    /// # Errors
    /// An array is missing or has another shape.
    pub(super) fn load(
        features: usize,
        classes: Classes,
        weights: &mut Weights,
    ) -> Result<Self, WeightsError> {
        let mut decision = |prefix: &str| {
            let weight = weights.take(&format!("{prefix}weight"), &[features])?;
            let bias = weights.take(&format!("{prefix}bias"), &[1])?[0];
            Ok(Decision { weight, bias })
        };
        let negative = decision("")?;
        let positive = (classes == Classes::Three).then(|| decision("positive.")).transpose()?;
        Ok(Self { negative, positive })
    }

    /// Number of features.
    pub(super) fn features(&self) -> usize {
        self.negative.weight.len()
    }

    /// The log-odds of negative as a sum; `row` gives ids and values of its features.
    pub(super) fn linear(&self, row: impl Iterator<Item = (u32, f64)>) -> Linear {
        let Decision { weight, bias } = &self.negative;
        let term = |(id, value): (u32, f64)| (id, f64::from(weight[id as usize]) * value);
        Linear { bias: f64::from(*bias), terms: row.map(term).collect() }
    }

    /// Probabilities of a row; `sum` gives the sum of weights times features of a decision.
    ///
    /// # Errors
    /// A logit is not a number.
    pub(super) fn classify(
        &self,
        sum: impl Fn(&[f32]) -> f32,
    ) -> Result<Probabilities, ClassifyError> {
        let probability = |decision: &Decision| {
            Probability::new(sigmoid_f32(decision.bias + sum(&decision.weight)))
                .map_err(|error| ClassifyError::new(1, error.to_string()))
        };
        let negative = probability(&self.negative)?;
        Ok(match &self.positive {
            None => Probabilities::two(negative),
            Some(positive) => Probabilities::three(negative, probability(positive)?),
        })
    }
}
