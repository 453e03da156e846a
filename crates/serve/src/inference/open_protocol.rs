//! The Open Inference Protocol, version 2, over HTTP and JSON: one input of texts (BYTES), two
//! outputs, `label` (BYTES) and `probability` (FP32).
//!
//! Deliberately absent: the binary extension, in which tensors follow the JSON.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, Body, ErrorBody, Segments};
use super::{Cut, Inference, ScoredText, ScorerError, ServedModel};

/// The names of the outputs.
const LABEL: &str = "label";
const PROBABILITY: &str = "probability";
/// In place of a label, of a text in a language that the model does not know.
const NOT_JUDGED: &str = "NOT_JUDGED";

/// This server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerMetadata {
    #[schema(example = "monitor")]
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 0],
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    live: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelReady {
    name: String,
    ready: bool,
}

/// A model, its input and its outputs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelMetadata {
    #[schema(example = "lstm")]
    name: String,
    versions: Vec<String>,
    #[schema(example = "monitor")]
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    /// -1 stands for the number of texts.
    shape: Vec<i64>,
}

/// A request of `infer`.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct InferRequest {
    /// Comes back in the answer.
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<InputTensor>,
    /// The outputs wanted; all if none are named.
    #[serde(default)]
    outputs: Option<Vec<WantedOutput>>,
}

/// Texts.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct InputTensor {
    /// Any name.
    #[schema(example = "text")]
    name: String,
    /// The number of texts, or that number and 1.
    shape: Vec<u64>,
    /// BYTES.
    #[schema(example = "BYTES")]
    datatype: String,
    data: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct WantedOutput {
    /// `label` or `probability`.
    #[schema(example = "label")]
    name: String,
}

/// The answer of `infer`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InferResponse {
    #[schema(example = "lstm")]
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutputTensor {
    name: &'static str,
    shape: Vec<usize>,
    datatype: &'static str,
    data: OutputData,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
}

/// Row by row.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OutputData {
    /// Labels.
    Bytes(Vec<&'static str>),
    /// Probabilities.
    Fp32(Vec<f32>),
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutputParameters {
    /// The label of each column, separated by commas.
    #[schema(example = "NEGATIVE,NEUTRAL,POSITIVE")]
    labels: String,
}

/// Describes this server.
#[utoipa::path(get, path = "/v2", tag = "open-inference-protocol",
    responses((status = 200, description = "This server", body = ServerMetadata)))]
pub(super) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata { name: "monitor", version: env!("CARGO_PKG_VERSION"), extensions: [] })
}

/// Whether the process answers.
#[utoipa::path(get, path = "/v2/health/live", tag = "open-inference-protocol",
    responses((status = 200, description = "It does", body = Live)))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/health/ready", tag = "open-inference-protocol",
    responses(
        (status = 200, description = "It does", body = Ready),
        (status = 503, description = "It does not yet", body = Ready),
    ))]
pub(super) async fn ready(State(inference): State<Arc<Inference>>) -> (StatusCode, Json<Ready>) {
    let ready = !inference.scorer.models().is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready }))
}

/// Describes a model.
#[utoipa::path(get, path = "/v2/models/{name}", tag = "open-inference-protocol",
    params(("name" = String, Path, description = "A model's name, such as lstm", example = "lstm")),
    responses(
        (status = 200, description = "The model", body = ModelMetadata),
        (status = 404, description = "No loaded model has this name", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn model(
    State(inference): State<Arc<Inference>>,
    Segments(name): Segments<String>,
) -> Result<Json<ModelMetadata>, ApiError> {
    find(&inference, &name, None).map(metadata)
}

/// Describes a version of a model.
#[utoipa::path(get, path = "/v2/models/{name}/versions/{version}", tag = "open-inference-protocol",
    params(
        ("name" = String, Path, description = "A model's name, such as lstm", example = "lstm"),
        ("version" = String, Path, description = "A version", example = "3"),
    ),
    responses(
        (status = 200, description = "The model", body = ModelMetadata),
        (status = 404, description = "This version is not loaded", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn model_version(
    State(inference): State<Arc<Inference>>,
    Segments((name, version)): Segments<(String, String)>,
) -> Result<Json<ModelMetadata>, ApiError> {
    find(&inference, &name, Some(&version)).map(metadata)
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "open-inference-protocol",
    params(("name" = String, Path, description = "A model's name, such as lstm", example = "lstm")),
    responses(
        (status = 200, description = "It does", body = ModelReady),
        (status = 404, description = "No loaded model has this name", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn model_ready(
    State(inference): State<Arc<Inference>>,
    Segments(name): Segments<String>,
) -> Result<Json<ModelReady>, ApiError> {
    let model = find(&inference, &name, None)?;
    Ok(Json(ModelReady { name: model.name, ready: true }))
}

/// Whether a version of a model answers.
#[utoipa::path(get, path = "/v2/models/{name}/versions/{version}/ready", tag = "open-inference-protocol",
    params(
        ("name" = String, Path, description = "A model's name, such as lstm", example = "lstm"),
        ("version" = String, Path, description = "A version", example = "3"),
    ),
    responses(
        (status = 200, description = "It does", body = ModelReady),
        (status = 404, description = "This version is not loaded", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn model_version_ready(
    State(inference): State<Arc<Inference>>,
    Segments((name, version)): Segments<(String, String)>,
) -> Result<Json<ModelReady>, ApiError> {
    let model = find(&inference, &name, Some(&version))?;
    Ok(Json(ModelReady { name: model.name, ready: true }))
}

/// Scores texts with a model.
///
/// `label` has the label of each text, or NOT_JUDGED for a text in a language that the model does not
/// know; `probability` has a row for each text and a column for each class, all 0 if not judged.
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "open-inference-protocol",
    request_body = InferRequest,
    params(("name" = String, Path, description = "A model's name, such as lstm", example = "lstm")),
    responses(
        (status = 200, description = "The outputs", body = InferResponse),
        (status = 400, description = "No text, or no JSON", body = ErrorBody),
        (status = 404, description = "No loaded model has this name", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "Not application/json", body = ErrorBody),
        (status = 422, description = "Not what the models read", body = ErrorBody),
        (status = 424, description = "The model failed on a text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn infer(
    State(inference): State<Arc<Inference>>,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    Body(request): Body<InferRequest>,
) -> Result<Response, ApiError> {
    refuse_binary(&headers)?;
    answer(&inference, find(&inference, &name, None)?, request).await
}

/// Scores texts with a version of a model; otherwise as without it.
#[utoipa::path(post, path = "/v2/models/{name}/versions/{version}/infer", tag = "open-inference-protocol",
    request_body = InferRequest,
    params(
        ("name" = String, Path, description = "A model's name, such as lstm", example = "lstm"),
        ("version" = String, Path, description = "A version", example = "3"),
    ),
    responses(
        (status = 200, description = "The outputs", body = InferResponse),
        (status = 400, description = "No text, or no JSON", body = ErrorBody),
        (status = 404, description = "This version is not loaded", body = ErrorBody),
        (status = 413, description = "The body is too long", body = ErrorBody),
        (status = 415, description = "Not application/json", body = ErrorBody),
        (status = 422, description = "Not what the models read", body = ErrorBody),
        (status = 424, description = "The model failed on a text", body = ErrorBody),
        (status = 429, description = "Overloaded; the header Retry-After says when to try again", body = ErrorBody),
        (status = 503, description = "No model is loaded", body = ErrorBody),
    ))]
pub(super) async fn infer_version(
    State(inference): State<Arc<Inference>>,
    Segments((name, version)): Segments<(String, String)>,
    headers: HeaderMap,
    Body(request): Body<InferRequest>,
) -> Result<Response, ApiError> {
    refuse_binary(&headers)?;
    answer(&inference, find(&inference, &name, Some(&version))?, request).await
}

/// The loaded model of this name (also `name@version`), and of this version if one is given.
fn find(inference: &Inference, name: &str, version: Option<&str>) -> Result<ServedModel, ApiError> {
    let models = inference.scorer.models();
    if models.is_empty() {
        return Err(ScorerError::Loading.into());
    }
    let known = models.iter().map(ServedModel::id).collect();
    let is = |model: &ServedModel| {
        let named = model.name == name || version.is_none() && model.id() == name;
        named && version.is_none_or(|version| model.version.to_string() == version)
    };
    models.into_iter().find(is).ok_or_else(|| {
        let name = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
        ScorerError::Unknown { name, known }.into()
    })
}

fn metadata(model: ServedModel) -> Json<ModelMetadata> {
    let classes = i64::try_from(model.labels.len()).unwrap_or(i64::MAX);
    let tensor = |name, datatype, shape| TensorMetadata { name, datatype, shape };
    Json(ModelMetadata {
        versions: vec![model.version.to_string()],
        name: model.name,
        platform: "monitor",
        inputs: vec![tensor("text", "BYTES", vec![-1])],
        outputs: vec![
            tensor(LABEL, "BYTES", vec![-1]),
            tensor(PROBABILITY, "FP32", vec![-1, classes]),
        ],
    })
}

fn refuse_binary(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.contains_key("inference-header-content-length") {
        true => Err(ApiError::Validation(
            "binary tensors are not supported: send `data` as JSON (tritonclient: binary_data=False)"
                .into(),
        )),
        false => Ok(()),
    }
}

/// The texts of a request.
fn texts(inputs: Vec<InputTensor>) -> Result<Vec<String>, ApiError> {
    let count = inputs.len();
    let Ok([input]) = <[InputTensor; 1]>::try_from(inputs) else {
        return Err(ApiError::Validation(format!("{count} inputs: give one, of datatype BYTES")));
    };
    let InputTensor { name, shape, datatype, data } = input;
    if datatype != "BYTES" {
        return Err(ApiError::Validation(format!(
            "input {name:?} has datatype {datatype:?}: texts are BYTES"
        )));
    }
    let texts = data.len() as u64;
    if shape != [texts] && shape != [texts, 1] {
        return Err(ApiError::Validation(format!(
            "input {name:?} has shape {shape:?} and {texts} texts: give shape [{texts}]"
        )));
    }
    Ok(data)
}

async fn answer(
    inference: &Inference,
    model: ServedModel,
    request: InferRequest,
) -> Result<Response, ApiError> {
    let InferRequest { id, inputs, outputs } = request;
    let wanted: BTreeSet<String> = outputs.into_iter().flatten().map(|it| it.name).collect();
    if let Some(unknown) = wanted.iter().find(|name| ![LABEL, PROBABILITY].contains(&name.as_str()))
    {
        return Err(ApiError::Validation(format!(
            "there is no output {unknown:?}; there are \"{LABEL}\" and \"{PROBABILITY}\""
        )));
    }
    let texts = texts(inputs)?;
    let scores = inference.score(Some(&model.id()), texts, Cut::END).await?;
    let outputs = [label(&scores.texts), probability(&scores.texts, &model)];
    let is_wanted = |output: &OutputTensor| wanted.is_empty() || wanted.contains(output.name);
    let response = InferResponse {
        model_version: model.version.to_string(),
        model_name: model.name,
        id,
        outputs: outputs.into_iter().filter(is_wanted).collect(),
    };
    Ok((scores.headers(), Json(response)).into_response())
}

fn label(texts: &[ScoredText]) -> OutputTensor {
    let of = |text: &ScoredText| text.score.map_or(NOT_JUDGED, |score| score.label.as_str());
    OutputTensor {
        name: LABEL,
        shape: vec![texts.len()],
        datatype: "BYTES",
        data: OutputData::Bytes(texts.iter().map(of).collect()),
        parameters: None,
    }
}

fn probability(texts: &[ScoredText], model: &ServedModel) -> OutputTensor {
    let of = |text: &ScoredText| {
        let score = text.score;
        let p = move |label| score.map_or(0.0, |score| score.probabilities.of(label).get());
        model.labels.iter().map(move |label| p(*label))
    };
    let labels: Vec<_> = model.labels.iter().map(|label| label.as_str()).collect();
    OutputTensor {
        name: PROBABILITY,
        shape: vec![texts.len(), labels.len()],
        datatype: "FP32",
        data: OutputData::Fp32(texts.iter().flat_map(of).collect()),
        parameters: Some(OutputParameters { labels: labels.join(",") }),
    }
}
