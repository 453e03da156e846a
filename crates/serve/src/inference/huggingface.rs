//! The shape of Hugging Face's Inference API for text-classification, as `huggingface_hub` sends and
//! reads it. There a list of texts is a batch, and the answer is nested even for one text.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{ApiError, Body, ErrorBody, Segments};
use super::{Cut, Inference, Numbers, Prediction, predictions};

/// A request of `/` and `/models/{name}`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ClassifyRequest {
    inputs: ClassifyInput,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// A text, or a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "give a text, or a list of texts")]
pub(super) enum ClassifyInput {
    /// One text.
    #[schema(example = "we love you")]
    One(String),
    /// A batch.
    Batch(Vec<String>),
}

/// How the answer looks.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Parameters {
    /// Only the first labels of each text.
    #[serde(default)]
    #[schema(minimum = 1)]
    top_k: Option<usize>,
    /// Probabilities (`softmax`), or logits (`none`).
    #[serde(default)]
    function_to_apply: Option<Function>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    /// Probabilities.
    Softmax,
    /// Logits.
    None,
    /// Refused: a text has one label, so its classes exclude each other.
    Sigmoid,
}

/// Scores a text or a batch with the model that scores the stream.
///
/// The answer is a list for each text. Of each text, the label that the stream would store comes
/// first; the others follow, highest score first. A text in a language that the model does not know has no
/// label: its list is empty.
#[utoipa::path(
    post, path = "/", tag = "huggingface", request_body = ClassifyRequest,
    responses(
        (status = 200, description = "The labels of each text", body = Vec<Vec<Prediction>>),
        (status = 400, description = "No text, or no JSON", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "Not application/json", body = ErrorBody),
        (status = 422, description = "Not what the models read", body = ErrorBody),
        (status = 424, description = "The model failed on a text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn classify(
    State(inference): State<Arc<Inference>>,
    Body(request): Body<ClassifyRequest>,
) -> Result<Response, ApiError> {
    answer(&inference, None, request).await
}

/// Scores a text or a batch with the model of this name.
#[utoipa::path(
    post, path = "/models/{name}", tag = "huggingface", request_body = ClassifyRequest,
    params(("name" = String, Path, description = "A model's name, such as lstm, or name@version", example = "lstm")),
    responses(
        (status = 200, description = "The labels of each text", body = Vec<Vec<Prediction>>),
        (status = 400, description = "No text, or no JSON", body = ErrorBody),
        (status = 404, description = "No loaded model has this name", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "Not application/json", body = ErrorBody),
        (status = 422, description = "Not what the models read", body = ErrorBody),
        (status = 424, description = "The model failed on a text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    )
)]
pub(super) async fn classify_with(
    State(inference): State<Arc<Inference>>,
    Segments(name): Segments<String>,
    Body(request): Body<ClassifyRequest>,
) -> Result<Response, ApiError> {
    answer(&inference, Some(&name), request).await
}

async fn answer(
    inference: &Inference,
    model: Option<&str>,
    request: ClassifyRequest,
) -> Result<Response, ApiError> {
    let Parameters { top_k, function_to_apply } = request.parameters.unwrap_or_default();
    let numbers = match function_to_apply {
        None | Some(Function::Softmax) => Numbers::Probabilities,
        Some(Function::None) => Numbers::Logits,
        Some(Function::Sigmoid) => {
            return Err(ApiError::Validation(
                "`function_to_apply` \"sigmoid\" is for labels that do not exclude each other: use \
                 \"softmax\" or \"none\""
                    .into(),
            ));
        }
    };
    if top_k == Some(0) {
        return Err(ApiError::Validation("`top_k` must be at least 1".into()));
    }
    let texts = match request.inputs {
        ClassifyInput::One(text) => vec![text],
        ClassifyInput::Batch(texts) => texts,
    };
    let scores = inference.score(model, texts, Cut::END).await?;
    let headers = scores.headers();
    let first = |text| {
        let labels = predictions(text, numbers).into_iter();
        labels.take(top_k.unwrap_or(usize::MAX)).collect()
    };
    let all: Vec<Vec<Prediction>> = scores.texts.iter().map(first).collect();
    Ok((headers, Json(all)).into_response())
}
