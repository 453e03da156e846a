//! Traces: what the daemon did and for how long, as spans sent to an OpenTelemetry collector by OTLP
//! over HTTP with protobuf.
//!
//! **Invariant.** Nobody waits for the collector: a finished span is put into a queue of [`SPANS_MAX`],
//! or dropped and counted. A thread of its own sends them. Only the spans of our own crates are sent, and no
//! log lines: these may quote what came from outside, spans must not.
//! Deliberately absent: gRPC, which would bring another HTTP stack; metrics and log lines by OTLP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{Context as LayerContext, Filter};
use tracing_subscriber::registry::LookupSpan;

use crate::SPANS;

/// Spans that wait to be sent or are being sent, at most.
const SPANS_MAX: usize = 4096;
/// Spans of one request, at most.
const SPANS_SENT_MAX: usize = 512;
/// Longest wait for an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the last spans when the program ends.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);
/// The name of the service, unless the environment gives another one.
const SERVICE: &str = "monitor";
/// Where OTLP takes traces, below the address of a collector.
const PATH: &str = "/v1/traces";

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot send traces to {collector}: {problem}; correct traces.otlp_endpoint, or the variables OTEL_EXPORTER_OTLP_*"
)]
pub struct TracesError {
    collector: String,
    problem: String,
}

/// Sends spans as long as it lives. Dropping it sends the last ones, which takes two seconds at most.
#[derive(Debug, Default)]
#[must_use = "dropping it stops the sending"]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Whether spans are sent.
    pub fn are_sent(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|it| it.shutdown_with_timeout(FLUSH_WAIT_MAX)) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// The address of the collector: `configured`, else the one of OpenTelemetry's variables. `None` if there is
/// neither, or the variables turn traces off. With each whether `/v1/traces` is to be added.
fn collector(
    configured: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(String, bool)> {
    let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
    let is = |name, word| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    (configured.map(|address| (address.to_owned(), true)))
        .or_else(|| Some((variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")?, false)))
        .or_else(|| Some((variable("OTEL_EXPORTER_OTLP_ENDPOINT")?, true)))
}

/// The layer that makes spans, and what sends them to `configured`, the address of a collector, or to that of
/// OpenTelemetry's environment variables. Without either, no layer.
///
/// # Errors
/// [`TracesError`] if the address is not one of HTTP.
pub(crate) fn layer<S>(
    configured: Option<&str>,
) -> Result<(Option<impl Layer<S>>, Traces), TracesError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some((address, is_base)) = collector(configured, |name| std::env::var(name).ok()) else {
        return Ok((None, Traces::default()));
    };
    let endpoint = match is_base {
        true => format!("{}{PATH}", address.trim_end_matches('/')),
        false => address,
    };
    let failed = |problem: String| TracesError { collector: origin(&endpoint).to_owned(), problem };
    let client = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_WAIT_MAX)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&endpoint)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Counted {
        exporter,
        waiting: Arc::clone(&waiting),
        collector: origin(&endpoint).to_owned(),
        failing: AtomicBool::new(false),
    };
    // One more than ever wait, so that the queue inside is never full and `Bounded` counts what is dropped.
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_MAX + 1)
        .with_max_export_batch_size(SPANS_SENT_MAX)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(Bounded { processor, waiting })
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(of_ours());
    Ok((Some(layer), Traces(Some(provider))))
}

/// Lets spans of our crates through, whatever is logged. Asked for every one of them: a library that asks whether
/// a line would be logged and then logs none (`log_enabled!` in sqlx) leaves its answer behind on the thread, and
/// the next span that nobody asks about gets that answer instead of its own.
fn of_ours<S>() -> impl Filter<S> {
    dynamic_filter_fn(|metadata, _: &LayerContext<'_, S>| is_sent(metadata)).with_callsite_filter(
        |metadata| if is_sent(metadata) { Interest::sometimes() } else { Interest::never() },
    )
}

fn is_sent(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::DEBUG
        && metadata.target().split("::").next().is_some_and(|name| {
            name == "monitor" || name.strip_prefix("monitor").is_some_and(|it| it.starts_with('_'))
        })
}

/// Scheme, host and port of an address: the rest may hold a secret.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find(['/', '?']).map_or(address.len(), |at| host + at);
    let shown = &address[..end];
    shown.rsplit_once('@').map_or(shown, |(_, host)| host)
}

/// Who sends: `service.name` and whatever else the environment says.
fn resource() -> Resource {
    let given = Resource::builder();
    let is_named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|all| all.contains("service.name="));
    let named = if is_named { given } else { given.with_service_name(SERVICE) };
    named.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// Drops spans that would be too many.
#[derive(Debug)]
struct Bounded {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < SPANS_MAX {
            self.processor.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            counter!(SPANS, "outcome" => "dropped").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Counts what is sent, and warns once when the collector does not take it.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    collector: String,
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let count = spans.len();
        let outcome = self.exporter.export(spans).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let word = if outcome.is_ok() { "sent" } else { "failed" };
        counter!(SPANS, "outcome" => word).increment(count as u64);
        let collector = &self.collector;
        match (&outcome, self.failing.swap(outcome.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(
                collector,
                %error,
                "the collector does not take spans; they are lost until it does, and nothing waits for it"
            ),
            (Ok(()), true) => tracing::info!(collector, "the collector takes spans again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Makes `span` part of the caller's trace, if `header` has one: `traceparent` and `tracestate` of W3C's Trace
/// Context.
pub fn continue_trace<'a>(span: &tracing::Span, header: impl Fn(&str) -> Option<&'a str>) {
    const NAMES: [&str; 2] = ["traceparent", "tracestate"];
    if span.is_disabled() {
        return;
    }
    let given: HashMap<String, String> = NAMES
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), header(name)?.to_owned())))
        .collect();
    if given.contains_key(NAMES[0]) {
        // Fails where spans are not sent: then there is no trace to be part of.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&given));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::span::{Attributes, Id};
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_settings_name_the_collector_and_else_the_environment() {
        let check = |name: &str, configured, variables: &[(&str, &str)], expected| {
            let variable = |wanted: &str| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = collector(configured, variable);
            let found = found.as_ref().map(|(address, is_base)| (address.as_str(), *is_base));
            assert_eq!(found, expected, "{name}");
        };
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/x");
        check("neither", None, &[], None);
        check("the settings", Some("http://a:4318"), &[all], Some(("http://a:4318", true)));
        check("a variable", None, &[all], Some(("http://all:4318", true)));
        check("the exact variable", None, &[all, traces], Some(("http://traces:4318/x", false)));
        check("an empty variable", None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None);
        let (off, none) = (("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none"));
        check("all off", Some("http://a:4318"), &[off], None);
        check("traces off", None, &[all, none], None);
    }

    struct Names(Arc<Mutex<Vec<&'static str>>>);

    impl<S: Subscriber> Layer<S> for Names {
        fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: LayerContext<'_, S>) {
            self.0.lock().unwrap().push(span.metadata().name());
        }
    }

    #[test]
    fn a_line_that_is_asked_about_and_not_logged_hides_no_span() {
        let names = Arc::new(Mutex::new(Vec::new()));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let subscriber = tracing_subscriber::registry()
            .with(Names(Arc::clone(&names)).with_filter(of_ours()))
            .with(lines.with_filter(LevelFilter::INFO));
        tracing::subscriber::with_default(subscriber, || {
            let quiet = tracing::debug_span!(target: "elsewhere", "quiet");
            let quiet = quiet.metadata().unwrap();
            let _ = tracing::dispatcher::get_default(|it| it.enabled(quiet));
            drop(tracing::info_span!("notify"));
        });
        assert_eq!(*names.lock().unwrap(), ["notify"]);
    }

    #[test]
    fn only_the_origin_of_a_collector_is_shown() {
        for (address, expected) in [
            ("http://collector:4318/v1/traces", "http://collector:4318"),
            ("https://user:password@collector/v1/traces?key=1", "collector"),
            ("collector:4318", "collector:4318"),
        ] {
            assert_eq!(origin(address), expected);
        }
    }
}
