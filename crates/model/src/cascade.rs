//! Two models as one: a cheap model scores every row, and a costly model scores the rows that
//! the cheap one is unsure of.
//!
//! A cascade has no weights. Its manifest names two models of the same folder, and a band of
//! the cheap model's probabilities: rows within the band are escalated. Method: Viola and
//! Jones 2001; two bounds, because a model may err more on one side.
//!
//! The rows of a pass are chosen for both models together (see [`Classifier::tokens_max`]).
//! The escalated rows are encoded again, have other lengths, and so get their own passes.
//!
//! **Invariant.** A row keeps the label of the model that scored it, although the thresholds
//! differ: probabilities of the cheap model are shifted in log-odds so that its threshold
//! becomes the costly model's, which is the cascade's. Both models are exactly the versions
//! that the band was fitted on. Deliberately absent: encoding all texts twice; only escalated
//! texts are encoded for the costly model, and [`Encoding::truncated`] is the cheap model's.

use std::sync::Arc;

use metrics::{counter, histogram};
use serde::{Deserialize, Serialize};

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{LabelThresholds, Probabilities, Probability};
use monitor_core::drift::KnownWords;
use monitor_core::logit::{logit_f32, sigmoid};
use monitor_core::text::SourceText;
use monitor_telemetry::{CASCADE_ROWS, CASCADE_SECONDS};

use super::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelId};

/// The cascade in a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeShape {
    /// Scores every row.
    pub cheap: Member,
    /// Scores the rows that are escalated.
    pub costly: Member,
    /// Rows are escalated from this probability of the cheap model...
    pub low: f32,
    /// ...up to this one, both included. If it is below `low`, no row is escalated.
    pub high: f32,
    /// With three classes, in place of the band: rows whose label the cheap model is at most so
    /// certain of are escalated; see [`certainty`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<f32>,
}

/// A model of a cascade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its id, in the same folder of models.
    pub model: ModelId,
    /// SHA-256 of its manifest, which contains the SHA-256 of its files.
    pub sha256: String,
}

impl CascadeShape {
    /// Whether a row with these probabilities of the cheap model, whose thresholds are given,
    /// goes to the costly model.
    pub fn escalates(&self, cheap: Probabilities, thresholds: LabelThresholds) -> bool {
        match self.certainty {
            Some(most) => certainty(cheap, thresholds) <= most,
            None => (self.low..=self.high).contains(&cheap.negative().get()),
        }
    }
}

/// How certain a model of three classes is of the label, in 0..=1: the distance in log-odds
/// between its probabilities and the thresholds that decide, d, as tanh(d / 2).
pub fn certainty(probabilities: Probabilities, thresholds: LabelThresholds) -> f32 {
    let distance = |score: Probability, threshold: Probability| {
        (logit_f32(score.get()) - logit_f32(threshold.get())).abs()
    };
    let mut least = distance(probabilities.negative(), thresholds.negative);
    if probabilities.negative() < thresholds.negative {
        let positive = probabilities.positive_among_others();
        least = least.min(distance(positive, thresholds.positive));
    }
    (least / 2.0).tanh() as f32
}

/// Two models in memory.
pub struct Cascade {
    shape: CascadeShape,
    cheap: Model,
    costly: Model,
}

impl Cascade {
    /// The cascade of two models, with the id `id` and the costly model's threshold.
    pub(super) fn model(id: ModelId, shape: CascadeShape, cheap: Model, costly: Model) -> Model {
        Model {
            id,
            classes: costly.classes,
            languages: costly.languages.clone(),
            thresholds: costly.thresholds,
            encoder: Arc::new(WithText(Arc::clone(&cheap.encoder))),
            classifier: Box::new(Self { shape, cheap, costly }),
        }
    }
}

/// Encodes for the cheap model, and keeps the text for the costly one.
struct WithText(Arc<dyn Encoder>);

impl Encoder for WithText {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        Encoding { text: Some(text.raw().into()), ..self.0.encode_text(text) }
    }

    fn known_words(&self, text: &str) -> Option<KnownWords> {
        self.0.known_words(text)
    }
}

impl Classifier for Cascade {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        let clock = SystemClock::new();
        let mut scores = self.cheap.classifier.classify(batch)?;
        let unsure: Vec<usize> = (0..batch.len())
            .filter(|row| self.shape.escalates(scores[*row], self.cheap.thresholds))
            .collect();
        for score in &mut scores {
            *score = moved(*score, self.cheap.thresholds, self.costly.thresholds);
        }
        let cheap_seconds = clock.elapsed().as_secs_f64();
        if !unsure.is_empty() {
            let text = |row: &usize| batch[*row].text.as_deref();
            let texts: Option<Vec<&str>> = unsure.iter().map(text).collect();
            let reason = "an escalated row has no text";
            let texts = texts.ok_or_else(|| ClassifyError::new(batch.len(), reason))?;
            for (row, score) in unsure.iter().zip(self.costly.score(&texts)?) {
                scores[*row] = score;
            }
            let costly_seconds = clock.elapsed().as_secs_f64() - cheap_seconds;
            histogram!(CASCADE_SECONDS, "by" => "costly").record(costly_seconds);
        }
        histogram!(CASCADE_SECONDS, "by" => "cheap").record(cheap_seconds);
        counter!(CASCADE_ROWS, "by" => "cheap").increment((batch.len() - unsure.len()) as u64);
        counter!(CASCADE_ROWS, "by" => "costly").increment(unsure.len() as u64);
        Ok(scores)
    }

    fn tokens_max(&self) -> Option<usize> {
        // The costly model's budget even if the cheap one does not pad: it limits the rows that
        // may be escalated together.
        let budgets = [&self.cheap, &self.costly].map(|model| model.classifier.tokens_max());
        budgets.into_iter().flatten().min()
    }

    fn member(&mut self, text: &str) -> Result<Option<(&mut Model, f64)>, ClassifyError> {
        let score = self.cheap.score(&[text])?[0];
        let (from, to) = (self.cheap.thresholds, self.costly.thresholds);
        if self.shape.escalates(score, from) {
            return Ok(Some((&mut self.costly, 0.0)));
        }
        let shift = logit_f32(to.negative.get()) - logit_f32(from.negative.get());
        Ok(Some((&mut self.cheap, shift)))
    }
}

/// The probabilities with the log-odds of both decisions shifted by the differences of the
/// thresholds: the label by `to` is the one that `score` has by `from`.
fn moved(score: Probabilities, from: LabelThresholds, to: LabelThresholds) -> Probabilities {
    let negative = shifted(score.negative(), from.negative, to.negative);
    if score.neutral() == Probability::ZERO {
        return Probabilities::two(negative);
    }
    let positive = shifted(score.positive_among_others(), from.positive, to.positive);
    Probabilities::three(negative, positive)
}

/// The probability with its log-odds shifted by the difference of the two thresholds: it lies
/// above `to` if and only if `score` lies above `from`.
fn shifted(score: Probability, from: Probability, to: Probability) -> Probability {
    if from == to {
        return score;
    }
    let logit = logit_f32(score.get()) - logit_f32(from.get()) + logit_f32(to.get());
    let moved = sigmoid(logit) as f32;
    // Rounding must not change the label.
    let kept = if score >= from { moved.max(to.get()) } else { moved.min(to.get().next_down()) };
    Probability::new(kept.max(0.0)).expect("it lies between two probabilities")
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Classes, Language};

    use super::*;

    fn p(value: f32) -> Probability {
        Probability::new(value).unwrap()
    }

    #[test]
    fn moving_keeps_labels_and_order() {
        let check = |name: &str, score: f32, from: f32, to: f32, expected: f32| {
            let found = shifted(p(score), p(from), p(to)).get();
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        };
        check("same threshold", 0.3, 0.37, 0.37, 0.3);
        check("threshold to threshold", 0.37, 0.37, 0.61, 0.61);
        check("odds of 1 times 4", 0.5, 0.2, 0.5, 0.8);
        check("odds of 1 by 4", 0.5, 0.5, 0.2, 0.2);
        for (from, to) in [(0.37, 0.5), (0.5, 0.37), (0.01, 0.99), (0.99, 0.01), (0.0, 0.5)] {
            let mut before = 0.0;
            for step in 0..=10_000u16 {
                let score = p(f32::from(step) / 10_000.0);
                let found = shifted(score, p(from), p(to));
                assert_eq!(score.get() >= from, found.get() >= to, "{score:?} {from} {to}");
                assert!(found.get() >= before, "{score:?} {from} {to}");
                before = found.get();
            }
        }
    }

    /// Scores id / 100; the encoder counts letters.
    struct Fake;

    impl Classifier for Fake {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
            Ok(batch.iter().map(|row| Probabilities::two(p(row.ids[0] as f32 / 100.0))).collect())
        }
    }

    impl Encoder for Fake {
        fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
            Encoding::new(vec![text.raw().len() as u32])
        }
    }

    /// Returns the opposite of [`Fake`].
    struct Contrary;

    impl Classifier for Contrary {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
            let scores = Fake.classify(batch)?;
            Ok(scores.into_iter().map(|score| Probabilities::two(score.positive())).collect())
        }
    }

    fn cascade(low: f32, high: f32, threshold: f32) -> Model {
        let id: ModelId = "cascade@1".parse().unwrap();
        let member = |threshold, classifier| Model {
            id: id.clone(),
            classes: Classes::Two,
            languages: vec![Language::ENGLISH],
            thresholds: p(threshold).into(),
            encoder: Arc::new(Fake),
            classifier,
        };
        let named = Member { model: id.clone(), sha256: String::new() };
        let shape =
            CascadeShape { cheap: named.clone(), costly: named, low, high, certainty: None };
        let (cheap, costly) = (
            member(threshold, Box::new(Fake) as Box<_>),
            member(0.5, Box::new(Contrary) as Box<_>),
        );
        Cascade::model(id.clone(), shape, cheap, costly)
    }

    #[test]
    fn certainty_is_that_of_the_decisions_taken() {
        let thresholds = LabelThresholds { negative: p(0.4), positive: p(0.5) };
        let check = |negative: f32, neutral: f32, expected: f32| {
            let found = certainty(Probabilities::new(negative, neutral).unwrap(), thresholds);
            assert!((found - expected).abs() < 1e-5, "{negative} {neutral}: {found}");
        };
        check(0.4, 0.3, 0.0);
        // Odds 4 times those of the threshold: (4 - 1) / (4 + 1).
        check(8.0 / 11.0, 0.0, 0.6);
        check(0.2, 0.4, 0.0);
        check(1.0 / 7.0, 6.0 / 28.0, 0.5); // odds 3 of positive, 4 against negative
    }

    #[test]
    fn escalates_rows_within_the_band() {
        let texts: Vec<String> = [10, 29, 30, 50, 60, 61, 90].map(|n| "x".repeat(n)).into();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let check = |name: &str, mut model: Model, expected: [f32; 7]| {
            let found = model.score(&texts).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found.negative().get() - expected).abs() < 1e-6, "{name}: {found:?}");
            }
            for (text, together) in texts.iter().zip(found) {
                assert_eq!(model.score(&[text]).unwrap(), [together], "{name}: alone");
            }
        };
        let cheap = [0.1, 0.29, 0.3, 0.5, 0.6, 0.61, 0.9];
        check("the cheap one", cascade(0.5, 0.4, 0.5), cheap);
        check("the costly one", cascade(0.0, 1.0, 0.2), cheap.map(|score| 1.0 - score));
        check(
            "the costly one within the band",
            cascade(0.3, 0.6, 0.5),
            [0.1, 0.29, 0.7, 0.5, 0.4, 0.61, 0.9],
        );
        let texts_lost = Encoding::new(vec![50]);
        let error = cascade(0.0, 1.0, 0.5).classifier.classify(&[&texts_lost]).unwrap_err();
        assert!(error.reason.contains("has no text"), "{error}");
    }
}
