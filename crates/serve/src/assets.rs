//! The page's files, inside the binary.
//!
//! **Invariant.** Their address holds a hash of all of them, so a browser may keep them for ever,
//! and never mixes those of two versions.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const JS: &str = "text/javascript; charset=utf-8";

/// Name, type and content of each file.
const FILES: &[(&str, &str, &[u8])] = &[
    ("page.css", "text/css; charset=utf-8", include_bytes!("assets/page.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("early.js", JS, include_bytes!("assets/early.js")),
    ("login.js", JS, include_bytes!("assets/login.js")),
    ("app.js", JS, include_bytes!("assets/app.js")),
    ("api.js", JS, include_bytes!("assets/api.js")),
    ("chart.js", JS, include_bytes!("assets/chart.js")),
    ("dialogs.js", JS, include_bytes!("assets/dialogs.js")),
    ("dom.js", JS, include_bytes!("assets/dom.js")),
    ("drift.js", JS, include_bytes!("assets/drift.js")),
    ("incident.js", JS, include_bytes!("assets/incident.js")),
    ("overview.js", JS, include_bytes!("assets/overview.js")),
    ("tweets.js", JS, include_bytes!("assets/tweets.js")),
    ("voice.js", JS, include_bytes!("assets/voice.js")),
    ("words.js", JS, include_bytes!("assets/words.js")),
    ("words_fr.js", JS, include_bytes!("assets/words_fr.js")),
    ("uPlot.js", JS, include_bytes!("assets/vendor/uPlot.iife.min.js")),
    ("uPlot.css", "text/css; charset=utf-8", include_bytes!("assets/vendor/uPlot.min.css")),
];

/// The folder in the address of all files: a hash of their content.
pub fn folder() -> String {
    let mut hash = Sha256::new();
    for (name, _, content) in FILES {
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    format!("/assets/{}", &BASE64_URL_SAFE_NO_PAD.encode(hash.finalize())[..16])
}

/// The modules that `app.js` imports, so that a browser need not read one to learn of the next.
pub fn modules() -> impl Iterator<Item = &'static str> {
    let others = ["early.js", "login.js", "app.js", "uPlot.js"];
    FILES
        .iter()
        .map(|(name, ..)| *name)
        .filter(move |it| it.ends_with(".js") && !others.contains(it))
}

/// Answers with a file. One of another version is not there any more.
pub async fn file(Path((hash, name)): Path<(String, String)>) -> Response {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    match found {
        Some((_, kind, content)) if format!("/assets/{hash}") == folder() => {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, *content).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "there is no such file").into_response(),
    }
}
