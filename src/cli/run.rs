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
/// Offsets are kept in Postgres, in the transaction of the scores: however this process
/// ends, the next one reads on without losing or double-counting a tweet. Several may run
/// side by side in one consumer group.
///
/// A broker, database or mail server that is away is waited for; http.listen answers
/// /healthz (the process lives), /readyz (every part can work, or why not), /metrics
/// (Prometheus) and / (a page to look at).
///
/// A wrong password, a database or a model that does not exist end it at once, with status 1.
///
/// SIGTERM and Ctrl-C stop reading, store the batches in flight, for up to 20 seconds while
/// Postgres is away, and exit. Whatever was not stored is read again by the next run.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, settings: Settings) -> anyhow::Result<()> {
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
        Daemon::new(settings, Arc::new(SystemClock::new())).run(listener, shutdown).await?;
        Ok(())
    });
    // Dropping it would wait for a model that a disk does not give.
    runtime.shutdown_background();
    outcome
}

/// A daemon without brands would never alarm.
pub fn require_brands(settings: &Settings) -> anyhow::Result<()> {
    anyhow::ensure!(
        !settings.brands.is_empty(),
        "no brands are configured: no tweet would be about anything; add a [brands.<name>] table \
         (config/monitor.example.toml shows one)"
    );
    Ok(())
}
