//! A sign of life to a watchdog: while the daemon is ready a URL is asked for at each interval,
//! and the watchdog tells people when it stays away. Nobody else can tell that this machine is
//! gone.
//!
//! **Invariant.** No sign is given while a part of the daemon is not ready. A failure is told
//! once, and so is its end. The address may be a private one: watchdogs often stand in the
//! house, and neither data goes there nor is an answer kept.
//! Deliberately absent: trying again before the next interval; watchdogs allow for one that is
//! missed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{NotifyError, chain, http};
use monitor_config as config;
use monitor_telemetry::{self as telemetry, Readiness};

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Gives the signs of life.
pub struct Heartbeat {
    url: Url,
    every: Duration,
    client: Client,
}

impl Heartbeat {
    /// A heartbeat, if the settings ask for one.
    ///
    /// # Errors
    /// The URL cannot be used; the message does not show it.
    pub fn new(settings: &config::Heartbeat) -> Result<Option<Self>, NotifyError> {
        let Some(url) = &settings.url else { return Ok(None) };
        let url = http::parse(url).map_err(NotifyError::Heartbeat)?;
        let client = http::client(TIMEOUT, None, Vec::new()).map_err(NotifyError::Heartbeat)?;
        Ok(Some(Self { url, every: Duration::from_secs(settings.every_s), client }))
    }

    /// Gives signs until told to stop.
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
                        tracing::warn!(error, "the heartbeat does not get through");
                    }
                    "failed"
                }
            };
            if failing && word == "sent" {
                tracing::info!("the heartbeat gets through again");
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
