//! Heartbeats to an external watchdog: while the daemon is ready it requests a URL at each
//! interval. When the heartbeats stop, the watchdog notifies people. Only an external service
//! can notice that this machine is down.
//!
//! **Invariant.** The daemon sends no heartbeat while one of its parts is not ready. A failure
//! is logged once, and so is its end. The address may be private: a watchdog is often in the
//! same network, no data is sent to it, and its answer is not kept.
//! Deliberately absent: retries before the next interval; watchdogs tolerate a missed heartbeat.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use monitor_config as config;
use monitor_telemetry::{self as telemetry, Readiness};

use super::{NotifyError, chain, http};

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the heartbeats.
pub struct Heartbeat {
    url: Url,
    every: Duration,
    client: Client,
}

impl Heartbeat {
    /// Creates the heartbeat if the settings contain a URL.
    ///
    /// # Errors
    /// The URL is invalid; the message does not show it.
    pub fn new(settings: &config::Heartbeat) -> Result<Option<Self>, NotifyError> {
        let Some(url) = &settings.url else { return Ok(None) };
        let url = http::parse(url).map_err(NotifyError::Heartbeat)?;
        let client = http::client(TIMEOUT, None, Vec::new()).map_err(NotifyError::Heartbeat)?;
        Ok(Some(Self { url, every: Duration::from_secs(settings.every_s), client }))
    }

    /// Sends heartbeats until `shutdown`.
    pub async fn run(self, readiness: Arc<Readiness>, shutdown: CancellationToken) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let outcome = if is_ready(&readiness) {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    outcome = self.beat() => outcome.map(|()| "sent"),
                }
            } else {
                Ok("held")
            };
            let word = match &outcome {
                Ok(word) => word,
                Err(error) => {
                    if !failing {
                        tracing::warn!(error, "the heartbeat failed");
                    }
                    "failed"
                }
            };
            if failing && word == "sent" {
                tracing::info!("the heartbeat works again");
            }
            failing = word == "failed" || (failing && word == "held");
            metrics::counter!(telemetry::HEARTBEATS, "outcome" => word).increment(1);
        }
    }

    async fn beat(&self) -> Result<(), String> {
        let answer = self.client.get(self.url.clone()).send().await;
        let status = answer.map_err(|error| chain(&error.without_url()))?.status();
        if status.is_success() { Ok(()) } else { Err(format!("the watchdog answered {status}")) }
    }
}

fn is_ready(readiness: &Readiness) -> bool {
    let parts = readiness.parts();
    !parts.is_empty() && parts.values().all(Result::is_ok)
}
