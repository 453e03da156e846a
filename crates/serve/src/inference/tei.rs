//! The shape of text-embeddings-inference 1.9, and of the study's service.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::error::{ApiError, Body, ErrorBody};
use super::{Cut, Inference, Numbers, Prediction, ServedModel, predictions};

/// A request of `/predict`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PredictRequest {
    inputs: PredictInput,
    /// Whether the end of a text that is longer than the model reads may be left out.
    #[serde(default)]
    #[schema(default = true)]
    truncate: Option<bool>,
    /// Which end is left out. Only `Right` is supported.
    #[serde(default)]
    truncation_direction: Direction,
    /// Logits in place of probabilities.
    #[serde(default)]
    raw_scores: bool,
}

/// A text, or a batch: a list of lists of one text each.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "give a text, or a batch such as [[\"a\"], [\"b\"]]")]
pub(super) enum PredictInput {
    /// One text.
    #[schema(example = "we love you")]
    One(String),
    /// One text in a list. Two are a pair of sequences, which our models do not read.
    Sequence(Vec<String>),
    /// A batch.
    Batch(Vec<Vec<String>>),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub(super) enum Direction {
    #[serde(alias = "left")]
    Left,
    #[default]
    #[serde(alias = "right")]
    Right,
}

/// The labels of one text, or of each text of a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PredictResponse {
    /// Of one text.
    One(Vec<Prediction>),
    /// Of a batch.
    Batch(Vec<Vec<Prediction>>),
}

/// "Any of", which the derive cannot say: an empty list is both.
impl PartialSchema for PredictResponse {
    fn schema() -> RefOr<Schema> {
        let one = Vec::<Prediction>::schema();
        let batch = Vec::<Vec<Prediction>>::schema();
        AnyOfBuilder::new().item(one).item(batch).into()
    }
}

impl ToSchema for PredictResponse {}

impl PredictInput {
    /// The texts, and whether they are a batch.
    fn texts(self) -> Result<(Vec<String>, bool), ApiError> {
        match self {
            Self::One(text) => Ok((vec![text], false)),
            Self::Sequence(sequence) => Ok((one_of(sequence)?.into_iter().collect(), false)),
            Self::Batch(rows) => {
                let texts: Result<Vec<_>, _> = rows.into_iter().map(one_of).collect();
                Ok((texts?.into_iter().flatten().collect(), true))
            }
        }
    }
}

/// The text of a sequence.
fn one_of(mut sequence: Vec<String>) -> Result<Option<String>, ApiError> {
    match sequence.len() {
        0 => Err(ApiError::Empty("`inputs` cannot be empty".into())),
        1 => Ok(sequence.pop()),
        2 => Err(ApiError::Validation(
            "[\"a\", \"b\"] is one pair of sequences, and these models read single texts; a batch is a \
             list of lists: [[\"a\"], [\"b\"]]"
                .into(),
        )),
        texts => Err(ApiError::Validation(format!(
            "a list of {texts} texts is neither a text nor a batch; a batch is a list of lists: \
             [[\"a\"], [\"b\"]]"
        ))),
    }
}

/// Scores a text or a batch.
///
/// Of each text, the label that the stream would store comes first; the others follow, highest
/// score first. A text in a language that the model does not know has no label: its list is empty.
#[utoipa::path(
    post, path = "/predict", tag = "text-embeddings-inference", request_body = PredictRequest,
    responses(
        (status = 200, description = "The labels and their scores", body = PredictResponse),
        (status = 400, description = "No text, or no JSON", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "Not application/json", body = ErrorBody),
        (status = 422, description = "Not what the models read", body = ErrorBody),
        (status = 424, description = "The model failed on a text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn predict(
    State(inference): State<Arc<Inference>>,
    Body(request): Body<PredictRequest>,
) -> Result<Response, ApiError> {
    let (texts, batch) = request.inputs.texts()?;
    let cut = Cut {
        allowed: request.truncate.unwrap_or(true),
        at_the_beginning: request.truncation_direction == Direction::Left,
    };
    let scores = inference.score(None, texts, cut).await?;
    let numbers = if request.raw_scores { Numbers::Logits } else { Numbers::Probabilities };
    let headers = scores.headers();
    let mut all: Vec<_> = scores.texts.iter().map(|text| predictions(text, numbers)).collect();
    let response = match (batch, all.pop()) {
        (false, Some(one)) => PredictResponse::One(one),
        (_, last) => PredictResponse::Batch(all.into_iter().chain(last).collect()),
    };
    Ok((headers, Json(response)).into_response())
}

/// Scores one text, which is the whole body, and answers one label, as the study's service did.
///
/// The body is the text itself, or a JSON string.
#[utoipa::path(
    post, path = "/score", tag = "study",
    request_body(content = String, content_type = "text/plain", example = json!("we love you")),
    responses(
        (status = 200, description = "The label in a list; empty if the text is not judged", body = Vec<Prediction>),
        (status = 400, description = "No text, or not UTF-8", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 424, description = "The model failed on the text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn score(
    State(inference): State<Arc<Inference>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body?;
    let text = match serde_json::from_slice(&body) {
        Ok(text) => text,
        Err(_) => String::from_utf8(body.to_vec())
            .map_err(|_| ApiError::Empty("the body is not UTF-8".into()))?,
    };
    let scores = inference.score(None, vec![text], Cut::END).await?;
    let headers = scores.headers();
    let found = scores.texts.iter().flat_map(|text| predictions(text, Numbers::Probabilities));
    Ok((headers, Json(found.take(1).collect::<Vec<_>>())).into_response())
}

/// The model that scores the stream, and the limits of this server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    #[schema(example = "lstm@4")]
    model_id: String,
    /// The version.
    #[schema(example = "3")]
    model_sha: String,
    #[schema(example = "float32")]
    model_dtype: &'static str,
    #[schema(example = "lstm")]
    served_model_name: String,
    model_type: ModelType,
    /// The languages that it knows; none: any language.
    languages: Vec<String>,
    max_concurrent_requests: usize,
    /// Longest text that it reads whole, in its own tokens; null: any.
    max_input_length: Option<usize>,
    max_client_batch_size: usize,
    auto_truncate: bool,
    /// Of this program.
    version: &'static str,
    /// The commit that it was built from.
    sha: Option<&'static str>,
    docker_label: Option<&'static str>,
}

/// What the model does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelType {
    classifier: Classifier,
}

/// The labels, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Classifier {
    id2label: BTreeMap<String, &'static str>,
    label2id: BTreeMap<&'static str, usize>,
}

impl Classifier {
    fn of(model: &ServedModel) -> Self {
        let labels = || model.labels.iter().map(|label| label.as_str()).enumerate();
        Self {
            id2label: labels().map(|(id, label)| (id.to_string(), label)).collect(),
            label2id: labels().map(|(id, label)| (label, id)).collect(),
        }
    }
}

/// Describes the model that scores the stream, and the limits of this server.
#[utoipa::path(
    get, path = "/info", tag = "text-embeddings-inference",
    responses(
        (status = 200, description = "The model and the limits", body = Info),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn info(State(inference): State<Arc<Inference>>) -> Result<Json<Info>, ApiError> {
    let model = main_model(&inference)?;
    let limits = inference.limits;
    Ok(Json(Info {
        model_id: model.id(),
        model_sha: model.version.to_string(),
        model_dtype: "float32",
        model_type: ModelType { classifier: Classifier::of(&model) },
        languages: model.languages.iter().map(ToString::to_string).collect(),
        max_concurrent_requests: limits.rows_waiting_max,
        max_input_length: model.tokens_max,
        max_client_batch_size: limits.batch_rows_max,
        auto_truncate: true,
        version: env!("CARGO_PKG_VERSION"),
        sha: inference.commit,
        docker_label: None,
        served_model_name: model.name,
    }))
}

/// Whether a model answers.
#[utoipa::path(
    get, path = "/health", tag = "text-embeddings-inference",
    responses(
        (status = 200, description = "A model answers"),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn health(State(inference): State<Arc<Inference>>) -> Result<(), ApiError> {
    main_model(&inference).map(drop)
}

pub(super) fn main_model(inference: &Inference) -> Result<ServedModel, ApiError> {
    let model = inference.scorer.models().into_iter().next();
    model.ok_or_else(|| super::ScorerError::Loading.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_texts_and_batches() {
        let check = |name: &str, json: &str, expected: Result<(&[&str], bool), &str>| {
            let input: PredictInput = serde_json::from_str(json).unwrap();
            match (input.texts(), expected) {
                (Ok((texts, batch)), Ok((wanted, is_batch))) => {
                    assert_eq!(
                        (texts.as_slice(), batch),
                        (&wanted.map_owned()[..], is_batch),
                        "{name}"
                    );
                }
                (Err(error), Err(part)) => {
                    assert!(format!("{error:?}").contains(part), "{name}: {error:?}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        check("a text", r#""a""#, Ok((&["a"], false)));
        check("a sequence", r#"["a"]"#, Ok((&["a"], false)));
        check("a batch", r#"[["a"],["b"]]"#, Ok((&["a", "b"], true)));
        check("a batch of one", r#"[["a"]]"#, Ok((&["a"], true)));
        check("a pair", r#"["a","b"]"#, Err("pair of sequences"));
        check("a pair in a batch", r#"[["a"],["b","c"]]"#, Err("pair of sequences"));
        check("three", r#"["a","b","c"]"#, Err("neither a text nor a batch"));
        check("nothing", "[]", Err("Empty"));
        check("an empty row", r#"[["a"],[]]"#, Err("Empty"));
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }
}
