use monitor_config::Settings;
use monitor_telemetry::{TelemetryError, Traces};

use crate::settings::log_format;

/// Sets up logging and traces by the settings; spans are sent as long as the returned value lives.
pub fn start(settings: &Settings) -> Result<Traces, TelemetryError> {
    monitor_telemetry::init_logging_and_traces(
        &settings.log.filter,
        log_format(settings.log.format),
        settings.traces.otlp_endpoint.as_deref(),
    )
}
