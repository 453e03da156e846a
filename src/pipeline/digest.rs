//! Sends the weekly digest: puts one notification for each receiver into the outbox.
//!
//! **Invariant.** Only the leader does it, and the key of a notification names the week and the receiver, so a digest is sent
//! once, whoever leads and however often daemons restart. A digest that was missed is made up for within
//! [`LATE_MAX`]. An error delays it to the next look.
//! Deliberately absent: what it says ([`crate::digest`]), and delivery, which is that of all notifications.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::digest::gather;
use monitor_config::{self as config, Schedule};
use monitor_core::clock::Clock;
use monitor_core::domain::{Evidence, LagEvidence, Severity};
use monitor_store::{Notification, PostgresStore, Store, StoreError};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Longest delay. Shorter than notifications are kept at least: what was removed would be sent again.
const LATE_MAX: TimeDelta = TimeDelta::hours(24);

/// Sends digests.
pub struct Weekly {
    store: PostgresStore,
    settings: config::Digest,
    schedule: Schedule,
    brands: Vec<String>,
    url: Option<String>,
    clock: Arc<dyn Clock>,
}

impl Weekly {
    /// `None` if the settings name no receiver.
    pub fn new(
        store: PostgresStore,
        settings: &config::Settings,
        clock: Arc<dyn Clock>,
    ) -> Option<Self> {
        let digest = settings.digest.clone();
        let schedule = digest.schedule().filter(|_| !digest.receivers.is_empty())?;
        Some(Self {
            store,
            settings: digest,
            schedule,
            brands: settings.brands.keys().cloned().collect(),
            url: settings.http.public_url.clone(),
            clock,
        })
    }

    /// Looks every minute, until it is dropped.
    pub async fn run(self) {
        let mut done = None;
        loop {
            match self.look(&mut done).await {
                Ok(0) => {}
                Ok(receivers) => tracing::info!(receivers, "the weekly digest is in the outbox"),
                Err(error) => {
                    tracing::warn!(%error, "cannot write the weekly digest; trying again in a minute");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Writes the digest that is due, unless it is `done`, the one of the last call; returns how many notifications are
    /// new.
    ///
    /// # Errors
    /// [`StoreError`]; a later call goes on.
    pub async fn look(&self, done: &mut Option<DateTime<Utc>>) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let due = self.schedule.latest(now - LATE_MAX, now).filter(|due| Some(*due) != *done);
        let Some((due, week)) = due.and_then(|due| Some((due, self.settings.week(due)?))) else {
            return Ok(0);
        };
        if !self.store.lead().await? {
            return Ok(0);
        }
        let (digest, tweets) = gather(&self.store, &self.brands, week, self.url.clone()).await?;
        let mut written = 0;
        for receiver in &self.settings.receivers {
            let nothing = Evidence::Lag(LagEvidence { behind_minutes: 0, limit_minutes: 0 });
            let (severity, none) = (Severity::Notice, String::new());
            let notification = Notification {
                opened_at: week.0,
                examples: tweets.clone(),
                // The same if the hour of the settings is changed on that day.
                thread: format!("digest-{}-{receiver}", week.1.format("%Y-%m-%d-%H%M")),
                url: self.url.clone(),
                digest: Some(Box::new(digest.clone())),
                ..Notification::bare("digest", "(all)", severity, week.1, none, nothing)
            };
            written += usize::from(self.store.put_notification(receiver, &notification).await?);
        }
        *done = Some(due);
        Ok(written)
    }
}
