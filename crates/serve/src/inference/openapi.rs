//! The description of these routes as OpenAPI 3.1.

use utoipa::OpenApi;

use super::{huggingface, open_protocol, tei};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Monitor",
        description = "The model that scores the stream, in the shapes of other servers' clients."
    ),
    paths(
        tei::predict,
        tei::score,
        tei::info,
        tei::health,
        huggingface::classify,
        huggingface::classify_with,
        open_protocol::server,
        open_protocol::live,
        open_protocol::ready,
        open_protocol::model,
        open_protocol::model_version,
        open_protocol::model_ready,
        open_protocol::model_version_ready,
        open_protocol::infer,
        open_protocol::infer_version,
    )
)]
struct Document;

/// The description of the inference routes.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
