use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use monitor_config::Settings;
use monitor_core::clock::SystemClock;

use super::retrain::check_scheduled;
use super::signals::stop_on_signals;
use super::telemetry;
use crate::pipeline::{Daemon, RetrainCommand};

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

/// `given` are the settings as they were given, a file and values; a child that trains gets the same.
pub fn run(
    _args: Args,
    settings: Settings,
    given: (Option<&Path>, &[(String, String)]),
    commit: Option<&'static str>,
) -> anyhow::Result<()> {
    let _traces = telemetry::start(&settings)?;
    require_brands(&settings)?;
    if settings.retrain.is_on() {
        check_scheduled(&settings.retrain)?;
    }
    forbid_core_dumps();
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
        let told = tokio::spawn(tell_systemd(shutdown.clone()));
        let retrain = retrain_command(given)?;
        let daemon = Daemon::new(settings, Arc::new(SystemClock::new()));
        let daemon = daemon.built_from(commit).retraining_with(retrain);
        let ended = daemon.run(listener, shutdown.clone()).await;
        if shutdown.is_cancelled() {
            let _ = told.await;
        }
        Ok(ended?)
    });
    // Dropping the runtime would wait for a model that is still being read.
    runtime.shutdown_background();
    outcome
}

/// Tells systemd that the daemon has started, that it is alive (`WatchdogSec`), and that it stops. Started
/// means that it answers HTTP: it waits for the broker and Postgres itself. Without effect elsewhere.
async fn tell_systemd(shutdown: CancellationToken) {
    let say = |state: NotifyState<'_>| {
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::debug!(%error, "systemd is not told");
        }
    };
    say(NotifyState::Ready);
    let every = sd_notify::watchdog_enabled().map_or(Duration::MAX, |limit| limit / 2);
    while timeout(every, shutdown.cancelled()).await.is_err() {
        say(NotifyState::Watchdog);
    }
    say(NotifyState::Stopping);
}

/// A core dump would have the secrets of the settings. This also keeps other processes of the same user
/// from reading this one's memory and environment. Without effect where it is not Linux.
fn forbid_core_dumps() {
    #[cfg(target_os = "linux")]
    // SAFETY: this call takes numbers only. If it fails, nothing changes.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
}

/// This program with the settings that it was given.
fn retrain_command(
    (file, set): (Option<&Path>, &[(String, String)]),
) -> anyhow::Result<RetrainCommand> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(file) = file {
        arguments.extend(["--config".into(), file.into()]);
    }
    for (key, value) in set {
        arguments.extend(["--set".into(), format!("{key}={value}").into()]);
    }
    Ok(RetrainCommand { program, arguments })
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
