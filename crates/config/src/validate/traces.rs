//! Checks `[traces]`.

use super::{Check, is_web_url};
use crate::Settings;

pub(super) fn check(settings: &Settings, check: &mut Check<'_>) {
    check(
        settings.traces.otlp_endpoint.as_deref().is_none_or(is_web_url),
        "traces.otlp_endpoint",
        // It may have a password.
        &"(hidden)",
        "give the http:// or https:// address of a collector, such as http://collector:4318",
    );
}
