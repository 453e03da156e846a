//! `[traces]`: where the daemon's spans are sent.

use serde::Deserialize;

/// `[traces]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP; without one, what the standard
    /// environment variables say, and nothing without them.
    pub otlp_endpoint: Option<String>,
}
