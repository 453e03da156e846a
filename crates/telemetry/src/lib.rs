//! Logging, traces, the names of all metrics, and the readiness of the daemon.
//!
//! **Invariant.** Each metric's name occurs once, here.
//! Deliberately absent: decisions based on the numbers.

mod traces;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use traces::{Traces, TracesError, continue_trace};

/// Kafka records taken from the broker.
pub const RECORDS: &str = "monitor_records_total";
/// Tweets stored for the first time, with a score.
pub const SCORES_NEW: &str = "monitor_scores_new_total";
/// Tweets stored for the first time, by brand, model and language.
pub const TWEETS: &str = "monitor_tweets_total";
/// Tweets stored without a score, because no model knows their language.
pub const NOT_JUDGED: &str = "monitor_not_judged_total";
/// Stored tweets that the detector does not count: repeats, and those of authors that are left out.
pub const ECHOES: &str = "monitor_echoes_total";
/// Stored tweets that were removed because they were edited, deleted or withheld.
pub const REMOVED: &str = "monitor_tweets_removed_total";
/// Tweets that were already stored.
pub const SCORES_DUPLICATE: &str = "monitor_scores_duplicate_total";
/// Records that are not tweets, by reason (empty, not-json, field, ...).
pub const DEAD_LETTERS: &str = "monitor_dead_letters_total";
/// Records that are no tweets and no faults, by reason (keep-alive, deleted, no-text, ...).
pub const NOTICES: &str = "monitor_notices_total";
/// Tweets whose text the platform cut, without the rest of it.
pub const CUT: &str = "monitor_cut_texts_total";
/// Offsets that the broker deleted before they were read.
pub const OFFSETS_LOST: &str = "monitor_offsets_lost_total";
/// Batches rejected because another reader had moved the checkpoint.
pub const FENCED: &str = "monitor_batches_fenced_total";
/// Records fetched and not yet in a batch.
pub const QUEUE_ROWS: &str = "monitor_queue_rows";
/// 1 while the partitions are paused because the queue is full.
pub const PAUSED: &str = "monitor_partitions_paused";
/// Rows of a batch to be stored.
pub const BATCH_ROWS: &str = "monitor_batch_rows";
/// Rows that wait for the model.
pub const MODEL_QUEUE_ROWS: &str = "monitor_model_queue_rows";
/// Rows that the model computed together.
pub const MODEL_BATCH_ROWS: &str = "monitor_model_batch_rows";
/// Tokens that the model computes at once, at most; halved when memory runs out.
pub const MODEL_TOKENS_MAX: &str = "monitor_model_tokens_max";
/// Tokens computed, by kind (text, padding).
pub const TOKENS: &str = "monitor_tokens_total";
/// Tweets truncated to the model's input length.
pub const TRUNCATED: &str = "monitor_truncated_total";
/// Seconds that the oldest row of a batch waited for the model.
pub const MODEL_WAIT_SECONDS: &str = "monitor_model_wait_seconds";
/// Seconds that the model took for a batch.
pub const CLASSIFY_SECONDS: &str = "monitor_classify_seconds";
/// Rows scored by a cascade, by the last model that they reached (cheap, costly).
pub const CASCADE_ROWS: &str = "monitor_cascade_rows_total";
/// Seconds that a model of a cascade took for its part of a batch, by model (cheap, costly).
pub const CASCADE_SECONDS: &str = "monitor_cascade_seconds";
/// Texts scored for callers of the API.
pub const ANSWERED_ROWS: &str = "monitor_answered_rows_total";
/// Requests refused because too many texts waited for the model.
pub const ANSWERS_REFUSED: &str = "monitor_answers_refused_total";
/// Seconds from letting a request in to its scores.
pub const ANSWER_SECONDS: &str = "monitor_answer_seconds";
/// Records that are in a partition and not yet read, by partition of this daemon.
pub const LAG: &str = "monitor_partition_lag_records";
/// Seconds from a record's timestamp to the commit of its row.
pub const RECORD_DELAY_SECONDS: &str = "monitor_record_delay_seconds";
/// Notifications that wait or are being sent.
pub const OUTBOX_PENDING: &str = "monitor_outbox_pending";
/// Notifications that were given up.
pub const OUTBOX_DEAD: &str = "monitor_outbox_dead";
/// 1, with the program's version and commit.
pub const BUILD: &str = "monitor_build_info";
/// Seconds that the transaction of a batch took.
pub const COMMIT_SECONDS: &str = "monitor_commit_seconds";
/// Writes that failed because Postgres was not available.
pub const STORE_RETRIES: &str = "monitor_store_retries_total";
/// Event time up to which minutes are closed, in seconds since 1970.
pub const WATERMARK: &str = "monitor_watermark_timestamp_seconds";
/// Tweets counted in minutes of a brand that had been judged.
pub const LATE_TWEETS: &str = "monitor_late_tweets_total";
/// 1 for the model that scores, 0 for earlier models.
pub const MODEL: &str = "monitor_model_info";
/// Models reloaded while the daemon runs, by outcome (loaded, failed).
pub const MODEL_RELOADS: &str = "monitor_model_reloads_total";
/// Stored tweets that another model has scored again.
pub const RESCORED: &str = "monitor_rescored_total";
/// How much the last whole day of tweets differs from those before, by measure.
pub const DRIFT: &str = "monitor_drift";
/// The value of [`DRIFT`] above which a measure has drifted, by measure.
pub const DRIFT_LIMIT: &str = "monitor_drift_limit";
/// 1 if a measure is above its limit, else 0, by measure.
pub const DRIFTED: &str = "monitor_drifted";
/// Start of the day that was compared, in seconds since 1970.
pub const DRIFT_DAY: &str = "monitor_drift_day_timestamp_seconds";
/// Retrainings that have ended, by outcome (promoted, kept, failed).
pub const RETRAININGS: &str = "monitor_retrainings_total";
/// 1 if a part of the daemon can do its work, else 0, by part.
pub const READY: &str = "monitor_ready";
/// 1 while this daemon is the leader, which evaluates the minutes, else 0.
pub const LEADER: &str = "monitor_leader";
/// Incidents that are open, by brand of this daemon's settings, as the store has it.
pub const OPEN_INCIDENTS: &str = "monitor_open_incidents";
/// Transitions of incidents, by brand, cause and transition.
pub const INCIDENTS: &str = "monitor_incidents_total";
/// Notifications by receiver and outcome (sent, retry, dead).
pub const NOTIFICATIONS: &str = "monitor_notifications_total";
/// Notifications that were not written, by receiver and reason (`SuppressReason`).
pub const NOTIFICATIONS_SUPPRESSED: &str = "monitor_notifications_suppressed_total";
/// 1 while nothing is sent to a receiver because it keeps failing, else 0, by receiver.
pub const RECEIVER_CIRCUIT_OPEN: &str = "monitor_receiver_circuit_open";
/// Heartbeats to the watchdog, by outcome (sent, failed, held).
pub const HEARTBEATS: &str = "monitor_heartbeats_total";
/// Finished spans, by outcome (sent, failed, dropped); there only where traces are sent.
pub const SPANS: &str = "monitor_spans_total";

/// Silences verbose libraries unless the filter overrides it: librdkafka reports each failure
/// several times, and `monitor-ingest` logs it once.
const QUIET: &str = "librdkafka=off,rdkafka=off,sqlx=warn,mailin_embedded=warn,tiny_skia=error";

/// Whether the filter is valid for [`init_logging`].
///
/// A single word must be a level: `EnvFilter` reads any other word as a module name, and then
/// nothing would be logged.
pub fn is_filter(filter: &str) -> bool {
    let word = filter.trim();
    let bare = !word.is_empty() && word.chars().all(char::is_alphanumeric);
    let level = word.parse::<LevelFilter>().is_ok();
    (!bare || level) && EnvFilter::try_new(filter).is_ok()
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Spans cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// Sets up logging to standard error. Later calls have no effect.
///
/// # Errors
/// The filter cannot be parsed; the message names it.
pub fn init_logging(filter: &str, format: Format) -> Result<(), TelemetryError> {
    subscribe(filter, format, None::<tracing_subscriber::layer::Identity>)
}

/// Sets up logging to standard error, and traces to the collector at `collector` or of OpenTelemetry's
/// environment variables, if there is one. Later calls have no effect.
///
/// # Errors
/// [`TelemetryError`]: the filter or the collector's address is invalid.
pub fn init_logging_and_traces(
    filter: &str,
    format: Format,
    collector: Option<&str>,
) -> Result<Traces, TelemetryError> {
    let (layer, traces) = traces::layer(collector)?;
    subscribe(filter, format, layer)?;
    if traces.are_sent() {
        describe_counter!(SPANS, "Finished spans, by outcome; dropped where too many waited");
        for outcome in ["sent", "failed", "dropped"] {
            counter!(SPANS, "outcome" => outcome).absolute(0);
        }
    }
    Ok(traces)
}

fn subscribe(
    filter: &str,
    format: Format,
    spans: Option<impl Layer<tracing_subscriber::Registry> + Send + Sync>,
) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{filter}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let outcome =
        tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
    if outcome.is_err() {
        tracing::debug!("logging was already set up");
    }
    Ok(())
}

/// The metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Says which program this is, and the commit that it was built from, if known.
    pub fn build(&self, version: &'static str, commit: Option<&'static str>) {
        gauge!(BUILD, "version" => version, "commit" => commit.unwrap_or("unknown")).set(1.0);
    }

    /// All of them in Prometheus' text format, with those of the process (`process_*`).
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }
}

/// Installs the process-wide metrics recorder; later calls return the same one.
pub fn init_metrics() -> &'static Metrics {
    static METRICS: std::sync::OnceLock<Metrics> = std::sync::OnceLock::new();
    METRICS.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Suffix("_seconds".into()),
                &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            )
            .and_then(|b| {
                b.set_buckets_for_metric(
                    Matcher::Suffix("_batch_rows".into()),
                    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
                )
            })
            .and_then(|b| {
                b.set_buckets_for_metric(
                    Matcher::Full(RECORD_DELAY_SECONDS.into()),
                    &[0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0],
                )
            })
            .expect("the bucket lists are not empty")
            .install_recorder()
            .expect("no other recorder is installed");
        describe();
        // An alert rule needs the series to exist from the start.
        for name in [
            RECORDS,
            SCORES_NEW,
            NOT_JUDGED,
            ECHOES,
            REMOVED,
            SCORES_DUPLICATE,
            OFFSETS_LOST,
            FENCED,
            STORE_RETRIES,
            TRUNCATED,
            CUT,
            RESCORED,
            ANSWERED_ROWS,
            ANSWERS_REFUSED,
        ] {
            counter!(name).absolute(0);
        }
        for kind in ["text", "padding"] {
            counter!(TOKENS, "kind" => kind).absolute(0);
        }
        for outcome in ["loaded", "failed"] {
            counter!(MODEL_RELOADS, "outcome" => outcome).absolute(0);
        }
        for outcome in ["promoted", "kept", "failed"] {
            counter!(RETRAININGS, "outcome" => outcome).absolute(0);
        }
        let process = Collector::default();
        process.describe();
        Metrics { handle, process }
    })
}

fn describe() {
    describe_counter!(RECORDS, "Kafka records taken from the broker");
    describe_counter!(SCORES_NEW, "Tweets stored for the first time, with a score");
    describe_counter!(
        TWEETS,
        "Tweets stored for the first time by brand, model and language; one about two brands counts for each"
    );
    describe_counter!(
        NOT_JUDGED,
        "Tweets stored for the first time without a score: no model knows their language"
    );
    describe_counter!(
        ECHOES,
        "Tweets that repeat what their hour has heard (alerting.count) or whose authors are left out (alerting.ignore_authors); stored, not counted by the detector"
    );
    describe_counter!(REMOVED, "Stored tweets that were edited, deleted or withheld");
    describe_counter!(SCORES_DUPLICATE, "Tweets that were already stored");
    describe_counter!(DEAD_LETTERS, "Records that are not tweets, by reason");
    describe_counter!(NOTICES, "Records that are no tweets and no faults, by reason");
    describe_counter!(CUT, "Tweets whose text the platform cut, without the rest of it");
    describe_counter!(OFFSETS_LOST, "Offsets the broker deleted before they were read");
    describe_counter!(FENCED, "Batches rejected because another reader moved the checkpoint");
    describe_gauge!(QUEUE_ROWS, "Records fetched and not yet in a batch");
    describe_gauge!(PAUSED, "1 while partitions are paused because the queue is full");
    describe_histogram!(BATCH_ROWS, "Rows of a batch to be stored");
    describe_gauge!(MODEL_QUEUE_ROWS, "Rows that wait for the model");
    describe_histogram!(MODEL_BATCH_ROWS, "Rows that the model computed together");
    describe_gauge!(MODEL_TOKENS_MAX, "Most tokens computed at once; halved when memory runs out");
    describe_counter!(TOKENS, "Tokens computed, by kind; padding is wasted work");
    describe_counter!(TRUNCATED, "Tweets truncated to the model's input length");
    describe_histogram!(
        MODEL_WAIT_SECONDS,
        Unit::Seconds,
        "Time that the oldest row of a batch waited for the model"
    );
    describe_histogram!(CLASSIFY_SECONDS, Unit::Seconds, "Time that the model took for a batch");
    describe_counter!(
        CASCADE_ROWS,
        "Rows scored by a cascade, by the last model that they reached"
    );
    describe_histogram!(
        CASCADE_SECONDS,
        Unit::Seconds,
        "Time that a model of a cascade took for its part of a batch"
    );
    describe_counter!(ANSWERED_ROWS, "Texts scored for callers of the API");
    describe_counter!(ANSWERS_REFUSED, "Requests refused because too many texts waited");
    describe_histogram!(
        ANSWER_SECONDS,
        Unit::Seconds,
        "Time from letting a request of the API in to its scores"
    );
    describe_gauge!(LAG, "Records of a partition that are not yet read");
    describe_histogram!(
        RECORD_DELAY_SECONDS,
        Unit::Seconds,
        "Time from a record's timestamp to the commit of its row"
    );
    describe_gauge!(OUTBOX_PENDING, "Notifications that wait or are being sent");
    describe_gauge!(OUTBOX_DEAD, "Notifications that were given up");
    describe_gauge!(BUILD, "1, with the program's version and commit");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time the transaction of a batch took");
    describe_counter!(STORE_RETRIES, "Writes repeated because Postgres was not available");
    describe_gauge!(WATERMARK, Unit::Seconds, "Event time up to which minutes are closed");
    describe_counter!(LATE_TWEETS, "Tweets counted in minutes that had been judged, by brand");
    describe_gauge!(MODEL, "1 for the model that scores, 0 for earlier models");
    describe_counter!(MODEL_RELOADS, "Models reloaded while the daemon runs, by outcome");
    describe_counter!(RESCORED, "Stored tweets that another model has scored again");
    describe_gauge!(DRIFT, "How much the last whole day of tweets differs from those before");
    describe_gauge!(DRIFT_LIMIT, "Value of monitor_drift above which a measure has drifted");
    describe_gauge!(DRIFTED, "1 if a measure is above its limit, else 0");
    describe_gauge!(DRIFT_DAY, Unit::Seconds, "Start of the day that was compared");
    describe_counter!(RETRAININGS, "Retrainings that have ended, by outcome");
    describe_gauge!(READY, "1 for each part of the daemon that can do its work, else 0");
    describe_gauge!(
        LEADER,
        "1 while this daemon is the leader, which evaluates the minutes, else 0"
    );
    describe_gauge!(
        OPEN_INCIDENTS,
        "Incidents that are open, by brand; each daemon has them from the store, and says NaN while it is away"
    );
    describe_counter!(INCIDENTS, "Transitions of incidents by brand, cause and transition");
    describe_counter!(NOTIFICATIONS, "Notifications by receiver and outcome");
    describe_counter!(
        NOTIFICATIONS_SUPPRESSED,
        "Notifications that were not written, by receiver and reason"
    );
    describe_gauge!(
        RECEIVER_CIRCUIT_OPEN,
        "1 while nothing is sent to a receiver because it keeps failing, else 0"
    );
    describe_counter!(HEARTBEATS, "Heartbeats by outcome; held while the daemon is not ready");
}

/// Which parts of the daemon can do their work; shown by `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness {
    parts: Mutex<BTreeMap<&'static str, Result<(), String>>>,
}

impl Readiness {
    /// Sets that a part is ready, or why it is not.
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        gauge!(READY, "part" => part).set(if state.is_ok() { 1.0 } else { 0.0 });
        self.parts.lock().expect("no holder of this lock panics").insert(part, state);
    }

    /// All parts, by name; the daemon is ready when each is.
    pub fn parts(&self) -> BTreeMap<&'static str, Result<(), String>> {
        self.parts.lock().expect("no holder of this lock panics").clone()
    }
}
