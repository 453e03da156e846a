//! The model over HTTP, in the shapes that clients of other servers already speak.
//!
//! | path | shape of |
//! | --- | --- |
//! | `POST /predict`, `GET /info`, `GET /health` | Hugging Face's text-embeddings-inference 1.9 (`tei.rs`) |
//! | `POST /`, `POST /models/{name}` | Hugging Face's Inference API, task text-classification (`huggingface.rs`) |
//! | `/v2/...` | the Open Inference Protocol, version 2 (`open_protocol.rs`) |
//! | `POST /score` | the service of the study: a text in, one label out (`tei.rs`) |
//!
//! `openapi.rs` describes them.
//!
//! **Invariant.** A request is let in at once or refused at once ([`Admission`]), and answered within
//! [`ANSWER_MAX`]. Of each text, the first label is the one that the stream would store. A text that
//! the stream would not judge gets no label. Every error is JSON that names its kind.
//! Who may read may ask ([`Access::guard`]).
//! Deliberately absent: which model scores, and turns between requests and the stream: both belong to
//! the [`Scorer`]. A rate: a program may ask as often as there is room for its texts.

mod admission;
mod error;
mod huggingface;
mod open_protocol;
mod openapi;
mod tei;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::{get, post};
use metrics::{counter, histogram};
use serde::Serialize;
use utoipa::ToSchema;

use monitor_core::clock::Clock;
use monitor_core::domain::{Label, Language, Score};
use monitor_telemetry as telemetry;

use crate::access::{Access, Right, Rule};
use admission::{Admission, Entry};
use error::ApiError;

pub(crate) use openapi::openapi;

/// Longest time from a request to its answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How much longer a request may take as a whole, with its body.
const BODY_MAX: Duration = Duration::from_secs(5);

/// A model that answers.
#[derive(Debug, Clone)]
pub struct ServedModel {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The classes that it tells apart, from negative to positive.
    pub labels: &'static [Label],
    /// The languages that it knows; none: any language.
    pub languages: Vec<Language>,
    /// Longest text that it reads whole, in its own tokens; `None` if it reads any.
    pub tokens_max: Option<usize>,
}

impl ServedModel {
    /// `name@version`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// A text that a model has read.
#[derive(Debug, Clone)]
pub struct ScoredText {
    /// `name@version`.
    pub model: String,
    /// The classes of that model.
    pub labels: &'static [Label],
    /// `None` if the stream would not judge this text: the model does not know its language.
    pub score: Option<Score>,
    /// Tokens read.
    pub tokens: usize,
    /// Whether the text is longer than the model reads.
    pub truncated: bool,
}

/// The answer to one call of [`Scorer::score`].
#[derive(Debug, Clone)]
pub struct Scored {
    /// Each text in order, or why the model failed on it.
    pub texts: Vec<Result<ScoredText, String>>,
    /// Time to turn texts into tokens.
    pub tokenized: Duration,
    /// Time before the model took the first of them.
    pub queued: Duration,
    /// Time that the model then took.
    pub computed: Duration,
}

/// Why there are no scores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScorerError {
    /// No model is loaded yet.
    #[error("the model is being loaded; try again in a few seconds")]
    Loading,
    /// No loaded model has this name.
    #[error("there is no model {name:?}; there is {}", .known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The ids of the loaded models.
        known: Vec<String>,
    },
    /// The model's thread has ended.
    #[error("the model has ended; the log says why, and the program needs a restart")]
    Gone,
}

/// The models in memory; the binary implements this over the thread that owns each model.
#[async_trait]
pub trait Scorer: Send + Sync {
    /// The models that answer now, first the one that scores the stream; none while it is loaded.
    fn models(&self) -> Vec<ServedModel>;

    /// Where they compute, such as `cpu`.
    fn device(&self) -> &'static str;

    /// Scores texts with the model of this name (`lstm` or `lstm@4`), or with the models that score the
    /// stream now. Dropping the future cancels the work.
    ///
    /// # Errors
    /// [`ScorerError`]. A text on which the model fails is an error of its own in [`Scored::texts`].
    async fn score(&self, model: Option<&str>, texts: Vec<String>) -> Result<Scored, ScorerError>;
}

/// Limits of these routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceLimits {
    /// Texts that may wait for the model; a request beyond that is refused.
    pub rows_waiting_max: usize,
    /// Texts of one request.
    pub batch_rows_max: usize,
    /// Longest body of a request, in bytes.
    pub body_bytes_max: usize,
}

/// The routes, their limits and the models behind them.
pub struct Inference {
    scorer: Arc<dyn Scorer>,
    limits: InferenceLimits,
    clock: Arc<dyn Clock>,
    /// The commit that the program was built from.
    commit: Option<&'static str>,
    admission: Mutex<Admission>,
}

impl Inference {
    /// Serves `scorer` within `limits`.
    pub fn new(
        scorer: Arc<dyn Scorer>,
        limits: InferenceLimits,
        clock: Arc<dyn Clock>,
        commit: Option<&'static str>,
    ) -> Self {
        let admission = Mutex::new(Admission::new(limits.rows_waiting_max));
        Self { scorer, limits, clock, commit, admission }
    }

    /// The routes, for whoever may read.
    pub(crate) fn routes(self, access: &Arc<Access>) -> Router {
        let rule = Rule {
            right: Some(Right::Read),
            body_bytes_max: self.limits.body_bytes_max,
            time_max: ANSWER_MAX + BODY_MAX,
            rated: false,
        };
        let routes = Router::new()
            .route("/predict", post(tei::predict))
            .route("/info", get(tei::info))
            .route("/health", get(tei::health))
            .route("/score", post(tei::score))
            .route("/", post(huggingface::classify))
            .route("/models/{name}", post(huggingface::classify_with))
            .route("/v2", get(open_protocol::server))
            .route("/v2/health/live", get(open_protocol::live))
            .route("/v2/health/ready", get(open_protocol::ready))
            .route("/v2/models/{name}", get(open_protocol::model))
            .route("/v2/models/{name}/ready", get(open_protocol::model_ready))
            .route("/v2/models/{name}/infer", post(open_protocol::infer))
            .route("/v2/models/{name}/versions/{version}", get(open_protocol::model_version))
            .route(
                "/v2/models/{name}/versions/{version}/ready",
                get(open_protocol::model_version_ready),
            )
            .route("/v2/models/{name}/versions/{version}/infer", post(open_protocol::infer_version))
            .with_state(Arc::new(self));
        access.guard(routes, rule)
    }

    /// Scores the texts of one request.
    async fn score(
        &self,
        model: Option<&str>,
        texts: Vec<String>,
        cut: Cut,
    ) -> Result<Scores, ApiError> {
        self.check(&texts)?;
        let (rows, characters) = (texts.len(), texts.iter().map(|text| text.chars().count()).sum());
        let entry = self.enter(rows)?;
        let began = self.clock.elapsed();
        let answer = tokio::time::timeout(ANSWER_MAX, self.scorer.score(model, texts)).await;
        let took = self.clock.elapsed().saturating_sub(began);
        let scored = answer.map_err(|_| ApiError::late(ANSWER_MAX))??;
        entry.answered(took);
        counter!(telemetry::ANSWERED_ROWS).increment(rows as u64);
        histogram!(telemetry::ANSWER_SECONDS).record(took.as_secs_f64());
        let (tokenized, queued, computed) = (scored.tokenized, scored.queued, scored.computed);
        let texts: Result<Vec<_>, _> = scored.texts.into_iter().collect();
        let texts = texts.map_err(ApiError::Backend)?;
        if let Some(text) = texts.iter().find(|text| text.truncated) {
            cut.check(text)?;
        }
        let device = self.scorer.device();
        Ok(Scores { texts, characters, tokenized, queued, computed, took, device })
    }

    fn check(&self, texts: &[String]) -> Result<(), ApiError> {
        let max = self.limits.batch_rows_max;
        if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
            return Err(ApiError::Empty("`inputs` cannot be empty".into()));
        }
        if texts.len() > max {
            return Err(ApiError::Validation(format!(
                "batch size {} > maximum allowed batch size {max}: send several requests",
                texts.len()
            )));
        }
        Ok(())
    }

    /// Lets a request in, or refuses it at once.
    fn enter(&self, rows: usize) -> Result<Ticket<'_>, ApiError> {
        let entry = self.admission.lock().expect("no holder of this lock panics").enter(rows);
        match entry {
            Ok(entry) => Ok(Ticket { inference: self, entry }),
            Err(refused) => {
                counter!(telemetry::ANSWERS_REFUSED).increment(1);
                Err(ApiError::Overloaded(refused))
            }
        }
    }
}

/// The place of a request among those that wait; given back when it is answered or its client leaves.
struct Ticket<'a> {
    inference: &'a Inference,
    entry: Entry,
}

impl Ticket<'_> {
    fn answered(&self, took: Duration) {
        self.admission().answered(self.entry, took);
    }

    fn admission(&self) -> std::sync::MutexGuard<'_, Admission> {
        self.inference.admission.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.admission().leave(self.entry);
    }
}

/// What to do with a text that is longer than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Whether its end may be left out.
    allowed: bool,
    /// Whether its beginning should be left out instead.
    at_the_beginning: bool,
}

impl Cut {
    /// What the stream does.
    const END: Self = Self { allowed: true, at_the_beginning: false };

    fn check(self, text: &ScoredText) -> Result<(), ApiError> {
        if !self.allowed {
            return Err(ApiError::Validation(format!(
                "`inputs` must have at most {} tokens: shorten the text, or set `truncate` to true",
                text.tokens
            )));
        }
        if self.at_the_beginning {
            return Err(ApiError::Validation(
                "`truncation_direction` \"Left\" is not supported: the models read the beginning of a \
                 text; use \"Right\""
                    .into(),
            ));
        }
        Ok(())
    }
}

/// The scores of a request.
struct Scores {
    texts: Vec<ScoredText>,
    characters: usize,
    tokenized: Duration,
    queued: Duration,
    computed: Duration,
    took: Duration,
    device: &'static str,
}

impl Scores {
    /// What text-embeddings-inference tells of a request, with times in milliseconds; and the model:
    /// one for all texts, or one for each if they differ.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: String| {
            let value = HeaderValue::try_from(value).expect("numbers and names of models");
            headers.insert(HeaderName::from_static(name), value);
        };
        let ms = |time: Duration| time.as_millis().to_string();
        let tokens: usize = self.texts.iter().map(|text| text.tokens).sum();
        add("x-compute-type", self.device.into());
        add("x-compute-time", ms(self.tokenized + self.computed));
        add("x-compute-characters", self.characters.to_string());
        add("x-compute-tokens", tokens.to_string());
        add("x-total-time", ms(self.took));
        add("x-tokenization-time", ms(self.tokenized));
        add("x-queue-time", ms(self.queued));
        add("x-inference-time", ms(self.computed));
        let models: Vec<&str> = self.texts.iter().map(|text| text.model.as_str()).collect();
        let one = BTreeSet::from_iter(&models).len() == 1;
        add("x-model", if one { models[0].to_owned() } else { models.join(",") });
        headers
    }
}

/// How the numbers of a prediction are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Probabilities,
    /// Natural logarithms of the probabilities: their softmax is the probabilities again.
    Logits,
}

/// A label and its score.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct Prediction {
    /// Probability of the label, from 0 to 1; or its logit, if asked for.
    #[schema(example = 0.98)]
    score: f32,
    /// NEGATIVE, NEUTRAL or POSITIVE.
    #[schema(example = "POSITIVE")]
    label: &'static str,
}

/// The label that the model's thresholds choose first, then the others, highest score first. None if
/// the text is not judged.
fn predictions(text: &ScoredText, numbers: Numbers) -> Vec<Prediction> {
    let Some(score) = text.score else { return Vec::new() };
    let of = |label| score.probabilities.of(label).get();
    let mut labels = text.labels.to_vec();
    labels.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
    labels.sort_by_key(|label| *label != score.label);
    let number = |label| match numbers {
        Numbers::Probabilities => of(label),
        Numbers::Logits => of(label).max(f32::MIN_POSITIVE).ln(),
    };
    labels.into_iter().map(|it| Prediction { score: number(it), label: it.as_str() }).collect()
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Classes, LabelThresholds, Probabilities, Probability};

    use super::*;

    fn text(negative: f32, neutral: f32, thresholds: (f32, f32), classes: Classes) -> ScoredText {
        let p = |value| Probability::new(value).unwrap();
        let thresholds = LabelThresholds { negative: p(thresholds.0), positive: p(thresholds.1) };
        let probabilities = Probabilities::new(negative, neutral).unwrap();
        let score = Some(Score::new(probabilities, thresholds));
        ScoredText {
            model: "m@1".into(),
            labels: classes.labels(),
            score,
            tokens: 3,
            truncated: false,
        }
    }

    #[test]
    fn the_stored_label_comes_first() {
        let check = |name, text: ScoredText, expected: &[&str]| {
            let found = predictions(&text, Numbers::Probabilities);
            let labels: Vec<_> = found.iter().map(|prediction| prediction.label).collect();
            assert_eq!(labels, expected, "{name}");
            let rest = found.iter().skip(1).map(|prediction| prediction.score);
            assert!(rest.is_sorted_by(|a, b| a >= b), "{name}: highest first");
            let sum: f32 = found.iter().map(|prediction| prediction.score).sum();
            assert!(found.is_empty() || (sum - 1.0).abs() < 1e-6, "{name}");
        };
        let (two, three) = (Classes::Two, Classes::Three);
        check(
            "the most likely",
            text(0.1, 0.2, (0.5, 0.5), three),
            &["POSITIVE", "NEUTRAL", "NEGATIVE"],
        );
        check(
            "by the threshold",
            text(0.3, 0.2, (0.27, 0.5), three),
            &["NEGATIVE", "POSITIVE", "NEUTRAL"],
        );
        check("two classes", text(0.3, 0.0, (0.5, 0.5), two), &["POSITIVE", "NEGATIVE"]);
        check("not judged", ScoredText { score: None, ..text(0.3, 0.0, (0.5, 0.5), two) }, &[]);
    }

    #[test]
    fn the_softmax_of_logits_is_the_probabilities() {
        let text = text(0.0, 0.25, (0.5, 0.5), Classes::Three);
        let logits = predictions(&text, Numbers::Logits);
        let sum: f32 = logits.iter().map(|logit| logit.score.exp()).sum();
        for (logit, p) in logits.iter().zip(predictions(&text, Numbers::Probabilities)) {
            assert_eq!(logit.label, p.label);
            assert!(logit.score.is_finite());
            assert!((logit.score.exp() / sum - p.score).abs() < 1e-6, "{logit:?} {p:?}");
        }
    }
}
