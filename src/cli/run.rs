use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use monitor_config::Settings;
use monitor_core::clock::SystemClock;

use super::signals::stop_on_signals;
use crate::pipeline::Daemon;
use crate::settings::log_format;

/// Read tweets from Kafka, score and store them, and alert; until SIGTERM
///
/// Offsets are stored in Postgres, in the same transaction as the scores: however this process
/// ends, the next one resumes without losing or double-counting a tweet. Several processes may
/// share one consumer group.
///
/// If the broker, the database or the mail server is unavailable, the daemon waits for it.
/// http.listen serves /healthz (the process is alive), /readyz (every part works, or why not),
/// /metrics (Prometheus), / (a status page), and the model for other programs (POST /predict and
/// others; see docs/api.md).
///
/// A wrong password, or a database or model that does not exist, ends it immediately with
/// status 1.
///
/// SIGTERM and Ctrl-C stop reading, store the batches in flight (waiting up to 20 seconds if
/// Postgres is unavailable) and exit. The next run reads again what was not stored.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, settings: Settings, commit: Option<&'static str>) -> anyhow::Result<()> {
    monitor_telemetry::init_logging(&settings.log.filter, log_format(settings.log.format))
        .context("log.filter")?;
    require_brands(&settings)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let listener = TcpListener::bind(&settings.http.listen).await.with_context(|| {
            format!(
                "cannot listen on http.listen = {:?}; is another daemon running?",
                settings.http.listen
            )
        })?;
        tracing::info!(address = %listener.local_addr()?, "answering HTTP");
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        let daemon = Daemon::new(settings, Arc::new(SystemClock::new())).built_from(commit);
        daemon.run(listener, shutdown).await?;
        Ok(())
    });
    // Dropping the runtime would wait for a model that is still being read.
    runtime.shutdown_background();
    outcome
}

/// Rejects settings without brands: the daemon would never open an incident.
pub fn require_brands(settings: &Settings) -> anyhow::Result<()> {
    anyhow::ensure!(
        !settings.brands.is_empty(),
        "no brands are configured: no tweet would be about anything; add a [brands.<name>] table \
         (config/monitor.example.toml shows one)"
    );
    Ok(())
}
