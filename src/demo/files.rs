//! The folder to which the demo writes mails and webhooks.

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mail_parser::MimeHeaders;

use monitor_embedded::Mail;

use super::{DemoError, Doing};

/// Marks a folder as one that the demo may empty.
const MARKER: &str = ".monitor-demo";

/// Empties the folder for the mails, which must be new, empty, or an earlier demo's.
///
/// # Errors
/// It holds other files, or cannot be emptied.
pub(super) fn prepare(folder: &Path) -> Result<(), DemoError> {
    let doing = || format!("cannot write to --output {}", folder.display());
    std::fs::create_dir_all(folder).doing(doing)?;
    let marker = folder.join(MARKER);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).doing(doing)? {
        files.push(entry.doing(doing)?.path());
    }
    if !files.is_empty() && !marker.exists() {
        return Err(format!(
            "--output {} holds files that are not the demo's; name a new or empty folder",
            folder.display()
        )
        .into());
    }
    for file in files {
        std::fs::remove_file(file).doing(doing)?;
    }
    std::fs::write(marker, "The demo wrote these files; the next demo removes them.\n").doing(doing)
}

/// Writes each mail as it arrived and its HTML for a browser, and each webhook. Returns the HTML
/// files with the subjects of their mails.
///
/// # Errors
/// A file cannot be written, or a mail cannot be read.
pub(super) fn save(
    folder: &Path,
    mails: &[Mail],
    webhooks: &[Bytes],
) -> Result<Vec<(PathBuf, String)>, DemoError> {
    let doing = || format!("cannot write to {}", folder.display());
    let mut files = Vec::new();
    for (number, mail) in mails.iter().enumerate() {
        let name = folder.join(format!("mail-{:02}", number + 1));
        std::fs::write(name.with_extension("eml"), &mail.raw).doing(doing)?;
        let parsed = mail_parser::MessageParser::default().parse(&mail.raw);
        let parsed = parsed.ok_or("a mail cannot be read")?;
        let mut html = parsed.body_html(0).ok_or("a mail has no HTML part")?.into_owned();
        // A browser does not know the parts of a mail, so the picture is moved into the page.
        for part in &parsed.parts {
            if let Some(id) = part.content_id() {
                let picture = BASE64_STANDARD.encode(part.contents());
                let data = format!("data:image/png;base64,{picture}");
                html = html.replace(&format!("cid:{id}"), &data);
            }
        }
        let html_file = name.with_extension("html");
        std::fs::write(&html_file, html.as_bytes()).doing(doing)?;
        files.push((html_file, subject(mail)));
    }
    for (number, body) in webhooks.iter().enumerate() {
        let name = folder.join(format!("webhook-{:02}.json", number + 1));
        std::fs::write(name, body).doing(doing)?;
    }
    Ok(files)
}

/// The subject of a mail; empty if it has none.
pub(super) fn subject(mail: &Mail) -> String {
    mail_parser::MessageParser::default()
        .parse_headers(&mail.raw)
        .and_then(|m| m.subject().map(str::to_owned))
        .unwrap_or_default()
}
