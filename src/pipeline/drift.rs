//! Once a day of event time, the leader compares the last whole day of tweets with those before.
//!
//! **Invariant.** Only the leader compares, at most once a day, unless it starts again: the same tweets
//! are drawn then, with the same result. An error is tried again and stops nothing else. Deliberately
//! absent: notifications; drift is no incident, and people look at it when they choose to.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::gauge;
use tokio::sync::watch;

use super::lineup::Lineup;
use crate::drift::{DriftError, InForce, Window, of_store};
use monitor_config as config;
use monitor_core::clock::Clock;
use monitor_core::drift::{Report, Verdict};
use monitor_store::{DriftDay, Store, event_time};
use monitor_telemetry as telemetry;

/// Time between two looks at event time.
const LOOK_WAIT: Duration = Duration::from_secs(60);
/// The same after an error.
const RETRY_WAIT: Duration = Duration::from_secs(600);

/// Compares each day with those before.
pub struct DriftWatch {
    store: Arc<dyn Store>,
    models: watch::Receiver<Lineup>,
    settings: config::Drift,
    topic: String,
    lateness: TimeDelta,
    clock: Arc<dyn Clock>,
    judged: Option<Window>,
    drifted: watch::Sender<Option<DateTime<Utc>>>,
}

impl DriftWatch {
    /// Compares stored tweets, with the words of the current model of `models`.
    pub fn new(
        store: Arc<dyn Store>,
        models: watch::Receiver<Lineup>,
        settings: &config::Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            models,
            settings: settings.drift,
            topic: settings.kafka.topic.clone(),
            lateness: super::daemon::lateness(settings),
            clock,
            judged: None,
            drifted: watch::Sender::new(None),
        }
    }

    /// The end of the last whole day if it has drifted.
    pub fn drifted(&self) -> watch::Receiver<Option<DateTime<Utc>>> {
        self.drifted.subscribe()
    }

    /// Looks now and then whether a day has ended; never returns unless comparing is turned off.
    pub async fn run(mut self) {
        if self.settings.tweets_per_day == 0 {
            return;
        }
        let mut failing = false;
        loop {
            let wait = match self.look().await {
                Ok(_) => {
                    failing = false;
                    LOOK_WAIT
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot compare the tweets of a day with those before; trying again");
                    }
                    RETRY_WAIT
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Compares the last whole day of event time, if that was not done before; sets the metrics and
    /// writes to the log. Does nothing while another daemon leads.
    ///
    /// # Errors
    /// [`DriftError`]; the next call tries again.
    pub async fn look(&mut self) -> Result<Option<Report>, DriftError> {
        if !self.store.lead().await? {
            self.judged = None;
            return Ok(None);
        }
        let partitions = self.store.progress(&self.topic).await?;
        let Some(time) = event_time(&partitions, self.lateness, self.clock.now()) else {
            return Ok(None);
        };
        let window = Window::last_day(time);
        let Some(model) = self.in_force(window) else { return Ok(None) };
        if self.judged == Some(window) {
            return Ok(None);
        }
        let report = of_store(&*self.store, None, window, self.settings, &model).await?;
        let day = window.from.start();
        let found = DriftDay { day, model: model.id.clone(), report: report.clone() };
        self.store.record_drift(&found).await?;
        self.judged = Some(window);
        gauge!(telemetry::DRIFT_DAY).set(window.from.start().timestamp() as f64);
        publish(&report);
        let has_drifted = report.drifted().next().is_some();
        self.drifted.send_replace(has_drifted.then(|| window.to.start()));
        Ok(Some(report))
    }

    /// The model whose scores the day has, and its words, or those of its successor.
    fn in_force(&self, window: Window) -> Option<InForce> {
        let models = self.models.borrow();
        let last = window.to.plus(-1);
        let current = models.main_for(last)?;
        let id = match models.switches().at(last) {
            Some(switch) => switch.model.clone(),
            None => current.id().to_string(),
        };
        let of = models.loaded(&id).unwrap_or(current);
        Some(InForce { id, encoder: of.encoder() })
    }
}

fn publish(report: &Report) {
    for it in &report.measures {
        let measure = it.measure.as_str();
        let or_none = |value: Option<f64>| value.unwrap_or(f64::NAN);
        gauge!(telemetry::DRIFT, "measure" => measure).set(or_none(it.value));
        gauge!(telemetry::DRIFT_LIMIT, "measure" => measure).set(or_none(it.limit));
        let drifted = f64::from(u8::from(it.verdict == Verdict::Drifted));
        gauge!(telemetry::DRIFTED, "measure" => measure).set(drifted);
    }
    let day = &report.recent;
    for it in report.drifted() {
        let what: Vec<&str> = it.changes.iter().map(|change| change.what.as_str()).collect();
        tracing::warn!(
            day,
            measure = it.measure.as_str(),
            value = it.value,
            limit = it.limit,
            changes = what.join(", "),
            "tweets have drifted; `monitor drift` shows how"
        );
    }
    if report.drifted().next().is_none() {
        let measured = report.measures.iter().filter(|it| it.value.is_some()).count();
        tracing::info!(day, tweets = report.tweets, measured, "no drift of tweets");
    }
}
