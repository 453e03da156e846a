//! Two models as one: the cheap one answers where it is sure, the costly one the rest.
//!
//! A cascade has no weights of its own. Its manifest names two versions of the same folder
//! of models, and a band of the cheap model's probabilities: rows within it are escalated.
//! Method: Viola and Jones 2001; two bounds, since a model may err more on one side.
//!
//! **Invariant.** Either model's verdict is kept, whatever its own threshold:
//! probabilities of the cheap one move in log-odds until its threshold lies on the costly
//! one's, which is the cascade's. Both models are the very versions that the band was fitted
//! on. Deliberately absent: encoding all texts twice; only escalated ones are encoded for the
//! costly model, and [`Encoding::truncated`] tells of the cheap one's reading.

use std::sync::Arc;

use metrics::{counter, histogram};
use serde::{Deserialize, Serialize};

use super::{Classifier, ClassifyError, Encoder, Encoding, Model, ModelId};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Probability;
use monitor_telemetry::{CASCADE_ROWS, CASCADE_SECONDS};

/// What a manifest says of a cascade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeShape {
    /// Scores every row.
    pub cheap: Member,
    /// Scores the rows that are escalated.
    pub costly: Member,
    /// Rows are escalated from this probability of the cheap model...
    pub low: f32,
    /// ...up to this one, both included; below `low` where none is.
    pub high: f32,
}

/// A model of a cascade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Which version, in the same folder of models.
    pub model: ModelId,
    /// SHA-256 of its manifest, which has those of its files.
    pub sha256: String,
}

impl CascadeShape {
    /// Whether the costly model is asked about a row of that cheap probability.
    pub fn escalates(&self, cheap: Probability) -> bool {
        (self.low..=self.high).contains(&cheap.get())
    }
}

/// Two models in memory.
pub struct Cascade {
    shape: CascadeShape,
    cheap: Model,
    costly: Model,
}

impl Cascade {
    /// Puts two models together, under the name of `id`. Its threshold is the costly model's.
    pub(super) fn model(id: ModelId, shape: CascadeShape, cheap: Model, costly: Model) -> Model {
        Model {
            id,
            threshold: costly.threshold,
            encoder: Arc::new(WithText(Arc::clone(&cheap.encoder))),
            classifier: Box::new(Self { shape, cheap, costly }),
        }
    }
}

/// Encodes as the cheap model, and keeps the text for the costly one.
struct WithText(Arc<dyn Encoder>);

impl Encoder for WithText {
    fn encode(&self, text: &str) -> Encoding {
        Encoding { text: Some(text.into()), ..self.0.encode(text) }
    }
}

impl Classifier for Cascade {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
        let clock = SystemClock::new();
        let mut scores = self.cheap.classifier.classify(batch)?;
        let unsure: Vec<usize> =
            (0..batch.len()).filter(|row| self.shape.escalates(scores[*row])).collect();
        for score in &mut scores {
            *score = moved(*score, self.cheap.threshold, self.costly.threshold);
        }
        let cheap_seconds = clock.elapsed().as_secs_f64();
        if !unsure.is_empty() {
            let text = |row: &usize| batch[*row].text.as_deref();
            let texts: Option<Vec<&str>> = unsure.iter().map(text).collect();
            let reason = "a row to escalate came without its text";
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
        self.costly.classifier.tokens_max()
    }
}

/// Of a probability; 0 and 1 are taken for the nearest in single precision that are not.
fn log_odds(p: Probability) -> f64 {
    let p = f64::from(p.get()).clamp(1e-8, 1.0 - 6e-8);
    (p / (1.0 - p)).ln()
}

fn logistic(log_odds: f64) -> Probability {
    Probability::new((1.0 / (1.0 + (-log_odds).exp())) as f32)
        .expect("the logistic function stays between 0 and 1")
}

/// The probability with its log-odds moved by as much as lies between the two thresholds, so
/// that it stands to `to` as it stood to `from`.
pub fn moved(score: Probability, from: Probability, to: Probability) -> Probability {
    if from == to {
        return score;
    }
    let moved = logistic(log_odds(score) - log_odds(from) + log_odds(to)).get();
    // Rounding changes no verdict.
    let kept = if score >= from { moved.max(to.get()) } else { moved.min(to.get().next_down()) };
    Probability::new(kept.max(0.0)).expect("it lies between two probabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(value: f32) -> Probability {
        Probability::new(value).unwrap()
    }

    #[test]
    fn thresholds_meet_and_order_stays() {
        let check = |name: &str, score: f32, from: f32, to: f32, expected: f32| {
            let found = moved(p(score), p(from), p(to)).get();
            assert!((found - expected).abs() < 1e-6, "{name}: {found}");
        };
        check("as it was", 0.3, 0.37, 0.37, 0.3);
        check("threshold to threshold", 0.37, 0.37, 0.61, 0.61);
        check("odds of 1 times 4", 0.5, 0.2, 0.5, 0.8);
        check("odds of 1 by 4", 0.5, 0.5, 0.2, 0.2);
        for (from, to) in [(0.37, 0.5), (0.5, 0.37), (0.01, 0.99), (0.99, 0.01), (0.0, 0.5)] {
            let mut before = 0.0;
            for step in 0..=10_000u16 {
                let score = p(f32::from(step) / 10_000.0);
                let found = moved(score, p(from), p(to));
                assert_eq!(score.get() >= from, found.get() >= to, "{score:?} {from} {to}");
                assert!(found.get() >= before, "{score:?} {from} {to}");
                before = found.get();
            }
        }
    }

    /// Scores id / 100; the encoder counts letters.
    struct Fake;

    impl Classifier for Fake {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            Ok(batch.iter().map(|row| p(row.ids[0] as f32 / 100.0)).collect())
        }
    }

    impl Encoder for Fake {
        fn encode(&self, text: &str) -> Encoding {
            Encoding::new(vec![text.len() as u32])
        }
    }

    /// As sure of the contrary.
    struct Contrary;

    impl Classifier for Contrary {
        fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probability>, ClassifyError> {
            let scores = Fake.classify(batch)?;
            Ok(scores.into_iter().map(|score| p(1.0 - score.get())).collect())
        }
    }

    fn cascade(low: f32, high: f32, threshold: f32) -> Model {
        let id: ModelId = "cascade@1".parse().unwrap();
        let member = |threshold, classifier| Model {
            id: id.clone(),
            threshold: p(threshold),
            encoder: Arc::new(Fake),
            classifier,
        };
        let named = Member { model: id.clone(), sha256: String::new() };
        let shape = CascadeShape { cheap: named.clone(), costly: named, low, high };
        let (cheap, costly) = (
            member(threshold, Box::new(Fake) as Box<_>),
            member(0.5, Box::new(Contrary) as Box<_>),
        );
        Cascade::model(id.clone(), shape, cheap, costly)
    }

    #[test]
    fn who_answers() {
        let texts: Vec<String> = [10, 29, 30, 50, 60, 61, 90].map(|n| "x".repeat(n)).into();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let check = |name: &str, mut model: Model, expected: [f32; 7]| {
            let found = model.score(&texts).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found.get() - expected).abs() < 1e-6, "{name}: {found:?}");
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
        assert!(error.reason.contains("without its text"), "{error}");
    }
}
