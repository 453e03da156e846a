//! Evaluates every closed minute of every brand, and the stream itself, and stores the decisions.
//!
//! **Invariant.** Only the leader evaluates. Each minute is evaluated once (but see `late.rs`), in order, on the
//! content of Postgres when the minute is closed. A decision names the minute it started from, so
//! if two daemons believe they lead, one of them is refused. The detector's state is stored with
//! its decision, so the next leader resumes where the last one stopped. Time is that of Postgres: a leader whose clock
//! is ahead would judge minutes whose tweets are still to come, and one whose clock is behind would judge late.
//! Deliberately absent: statistics and the incident's states (`alerting`), sending (`notify`).

mod brand;
mod brand_quiet;
mod explain;
mod late;
mod missed;
mod report;
mod step;
mod stream;
mod words;

pub(super) use explain::Explainer;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::words::reason;

use self::brand_quiet::QuietBrands;
use self::late::Judged;
use self::report::Reporter;
use self::step::Finding;
use super::daemon::lateness;
use super::lineup::Lineup;
use super::routes::{brand_policy, buzz_policy};
use monitor_config as config;
use monitor_core::alerting::{
    Audience, Backlog, Baseline, BuzzPolicy, CatchUp, StreamPolicy, Thresholds,
};
use monitor_core::clock::Clock;
use monitor_core::domain::{Cause, Incident, Minute, Silence, Switches, Watch};
use monitor_store::{
    Decision, DetectorState, PartitionProgress, Store, StoreError, event_time, progress_of,
};
use monitor_telemetry::{self as telemetry, Readiness};

/// Evaluates the brands and the stream.
pub struct Evaluator {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    topic: String,
    lateness: TimeDelta,
    tick: Duration,
    /// By brand, how it is evaluated.
    brands: BTreeMap<String, BuzzPolicy>,
    thresholds: Thresholds,
    stream: StreamPolicy,
    stream_causes: Vec<Cause>,
    /// When a brand is quiet.
    quiet_brand: StreamPolicy,
    quiet_brands: Mutex<QuietBrands>,
    audience: Audience,
    reporter: Reporter,
    baselines: Mutex<HashMap<String, LearnedBaseline>>,
    /// By brand, what was counted when its latest minutes were judged.
    judged: Mutex<HashMap<String, Judged>>,
    /// The latest switch of the model that evaluation has come to.
    gate: Mutex<Option<Gate>>,
    /// Whether the incidents without a detector have been closed.
    unwatched_closed: AtomicBool,
    catch_up: Mutex<CatchUp>,
    /// Whether there may be missed incidents that nobody has been told of.
    any_missed: AtomicBool,
    /// The receivers of digests of missed incidents.
    takes_missed: Vec<String>,
}

/// Longest wait, by the clock, for the tweets before a switch to be scored by the new model. They
/// matter little: a baseline leaves out the last hours.
const GAP_WAIT_MAX: Duration = Duration::from_secs(60);

/// Number of the latest incidents searched for open ones without a detector.
const INCIDENTS_MAX: u32 = 1000;

/// Values shared by all evaluations of one pass.
struct Pass {
    now: DateTime<Utc>,
    silences: Vec<Silence>,
    switches: Switches,
    backlog: Backlog,
}

/// The baseline of a brand for an hour of event time.
#[derive(Clone)]
struct LearnedBaseline {
    hour: i64,
    /// The switch of the model whose counts it was learned from.
    switch: Option<Minute>,
    baseline: Option<Baseline>,
}

/// A switch of the model: the minutes from it on are evaluated when the new model has counted all
/// minutes before it, or after [`GAP_WAIT_MAX`].
#[derive(Clone, Copy)]
struct Gate {
    switch: Minute,
    since: Duration,
    open: bool,
}

impl Evaluator {
    /// An evaluator of the brands and rules of `settings`.
    pub fn new(store: Arc<dyn Store>, settings: &config::Settings, clock: Arc<dyn Clock>) -> Self {
        let a = &settings.alerting;
        let stream = &settings.stream;
        let policy_of =
            |(name, brand): (&String, &config::Brand)| (name.clone(), brand_policy(a, Some(brand)));
        let stream_causes =
            [(Cause::Quiet, stream.quiet_minutes_max), (Cause::Lag, stream.lag_minutes_max)];
        Self {
            topic: settings.kafka.topic.clone(),
            lateness: lateness(settings),
            tick: Duration::from_millis(a.tick_ms),
            brands: settings.brands.iter().map(policy_of).collect(),
            thresholds: buzz_policy(a).thresholds,
            stream: StreamPolicy {
                quiet_minutes_max: stream.quiet_minutes_max,
                lag_minutes_max: stream.lag_minutes_max,
                ..StreamPolicy::default()
            },
            stream_causes: stream_causes
                .into_iter()
                .filter_map(|(cause, limit)| (limit > 0).then_some(cause))
                .collect(),
            quiet_brand: StreamPolicy {
                quiet_minutes_max: a.brand_quiet_minutes_max,
                ..StreamPolicy::default()
            },
            quiet_brands: Mutex::default(),
            audience: audience(settings),
            reporter: Reporter::new(store.clone(), settings),
            baselines: Mutex::default(),
            judged: Mutex::default(),
            gate: Mutex::default(),
            unwatched_closed: AtomicBool::new(false),
            catch_up: Mutex::new(CatchUp::new(a.catch_up_minutes)),
            any_missed: AtomicBool::new(true),
            takes_missed: missed::receivers(settings),
            store,
            clock,
        }
    }

    /// Lets notifications say which words made their example tweets negative, as the current
    /// model of `models` has it.
    pub fn explaining(mut self, models: watch::Receiver<Lineup>) -> Self {
        self.reporter.explain_with(models);
        self
    }

    /// Evaluates every tick until `shutdown`, and once more then; sets `readiness`.
    pub async fn run(self, readiness: Arc<Readiness>, shutdown: CancellationToken) {
        let mut failing = false;
        loop {
            match self.evaluate().await {
                Ok(_) => {
                    failing = false;
                    readiness.set("alerting", Ok(()));
                }
                Err(StoreError::Overtaken { brand }) => {
                    tracing::debug!(brand, "another daemon has evaluated this minute");
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot evaluate; trying again every tick");
                    }
                    readiness.set("alerting", Err(error.to_string()));
                }
            }
            if shutdown.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(self.tick) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Evaluates all minutes closed by now, and the stream; returns the last closed minute.
    /// Does nothing while another daemon leads.
    ///
    /// # Errors
    /// [`StoreError`]; decisions made before the error stay.
    pub async fn evaluate(&self) -> Result<Option<Minute>, StoreError> {
        let leads = self.store.lead().await;
        if !matches!(leads, Ok(true)) {
            *self.quiet_brands() = QuietBrands::default();
        }
        let leads = leads?;
        gauge!(telemetry::LEADER).set(f64::from(u8::from(leads)));
        if !leads {
            // The leader of meanwhile may have left some.
            self.any_missed.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let now = self.store.time(self.clock.now()).await?;
        let (silences, switches) = (self.store.silences(now).await?, self.store.switches().await?);
        let partitions = self.store.progress(&self.topic).await?;
        let backlog = {
            let mut catch_up = self.catch_up.lock().expect("no holder of this lock panics");
            catch_up.look(&progress_of(&partitions), now, self.clock.elapsed())
        };
        let pass = Pass { now, silences, switches, backlog };
        self.close_all_unwatched(&pass).await?;
        // The stream comes first: brands may have much to catch up on.
        let mut failed = self.evaluate_stream(&partitions, &pass).await.err();
        let closed = match self.closed(&partitions, now) {
            Some(closed) => Some(self.gated(closed, &pass).await?),
            None => None,
        };
        if let Some(closed) = closed {
            for (brand, policy) in &self.brands {
                // An error of one brand must not stop the brands after it.
                let evaluated = async {
                    while self.evaluate_brand((brand, policy), closed, &pass).await? {}
                    Ok::<_, StoreError>(())
                };
                if let Err(error) = evaluated.await {
                    failed = failed.or(Some(error));
                }
            }
        }
        if pass.backlog.is_read {
            if let Some(closed) = closed
                && let Err(error) = self.evaluate_quiet_brands(closed, &pass).await
            {
                failed = failed.or(Some(error));
            }
            if let Err(error) = self.tell_missed(&pass).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(closed), Err)
    }

    /// Closes, once per evaluator, the open incidents that no detector watches any more, because
    /// their brand or cause is no longer in the settings.
    async fn close_all_unwatched(&self, pass: &Pass) -> Result<(), StoreError> {
        if self.unwatched_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        for incident in self.store.incidents(INCIDENTS_MAX).await? {
            let watched = match incident.cause() {
                // A brand's phases are compared with the settings when it is evaluated.
                cause if cause.watch() == Watch::Buzz => self.brands.contains_key(&incident.brand),
                Cause::BrandQuiet => {
                    self.brands.contains_key(&incident.brand)
                        && self.quiet_brand.quiet_minutes_max > 0
                }
                cause => self.stream_causes.contains(&cause),
            };
            if incident.resolved.is_none() && !watched {
                self.close_unwatched(&incident, serde_json::Value::Null, pass).await?;
            }
        }
        self.unwatched_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Closes an incident that no detector knows; the detectors go on with `state`.
    async fn close_unwatched(
        &self,
        incident: &Incident,
        state: serde_json::Value,
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let (brand, watch) = (&incident.brand, incident.cause().watch());
        let Some(stored) = self.store.detector_state(brand, watch).await? else { return Ok(()) };
        let minute = stored.evaluated;
        let finding = Finding::unwatched(incident, minute);
        let step = self.step(brand, minute, &finding, Some(&stored), pass, minute).await?;
        self.decide(&Decision {
            brand: brand.clone(),
            watch,
            evaluated_before: Some(minute),
            evaluated: minute,
            state,
            step,
        })
        .await
    }

    /// The last closed minute.
    fn closed(&self, partitions: &[PartitionProgress], now: DateTime<Utc>) -> Option<Minute> {
        let time = event_time(partitions, self.lateness, now)?;
        gauge!(telemetry::WATERMARK).set(time.timestamp() as f64);
        Some(Minute::of(time).plus(-1))
    }

    /// `closed`, or the last minute before a switch of the model that is not ready yet.
    async fn gated(&self, closed: Minute, pass: &Pass) -> Result<Minute, StoreError> {
        let Some(switch) = pass.switches.at(closed).filter(|s| s.gap_from < s.from) else {
            return Ok(closed);
        };
        let known = *self.gate.lock().expect("no holder of this lock panics");
        let mut gate = known.filter(|gate| gate.switch == switch.from).unwrap_or(Gate {
            switch: switch.from,
            since: self.clock.elapsed(),
            open: false,
        });
        if !gate.open {
            let last = switch.from.plus(-1);
            let left = self.store.unscored(&switch.model, switch.gap_from, last).await?;
            let waited = self.clock.elapsed().saturating_sub(gate.since);
            gate.open = left.is_empty() || waited >= GAP_WAIT_MAX;
            *self.gate.lock().expect("no holder of this lock panics") = Some(gate);
        }
        Ok(if gate.open { closed } else { switch.from.plus(-1).min(closed) })
    }

    /// Writes a decision and logs it.
    async fn decide(&self, decision: &Decision) -> Result<(), StoreError> {
        let id = self.store.decide(decision).await?;
        if let (Some(step), Some(id)) = (&decision.step, id) {
            self.count_suppressed(&decision.brand, &step.suppressed);
            let (brand, cause) = (&decision.brand, step.evidence.cause().as_str());
            let transition = step.transition.as_str();
            counter!(
                telemetry::INCIDENTS,
                "brand" => brand.clone(), "cause" => cause, "transition" => transition
            )
            .increment(1);
            let receivers: Vec<_> = step.deliveries.iter().map(|d| d.receiver.as_str()).collect();
            tracing::info!(
                %id, brand, cause, transition, severity = step.severity.as_str(),
                at = %step.notification.at, receivers = receivers.join(", "),
                reason = step.notification.reason, "incident"
            );
        }
        Ok(())
    }
}

/// Who is notified of what, from the settings.
pub fn audience(settings: &config::Settings) -> Audience {
    Audience {
        routes: super::routes::routes(settings),
        receivers: settings.receivers.keys().cloned().collect(),
        repeat_minutes: settings.alerting.repeat_minutes,
    }
}

/// The stored state of a detector; the initial state if it cannot be read.
fn state<T: DeserializeOwned + Default>(
    brand: &str,
    watch: Watch,
    stored: Option<&DetectorState>,
) -> T {
    let Some(stored) = stored.filter(|stored| !stored.state.is_null()) else { return T::default() };
    serde_json::from_value(stored.state.clone()).unwrap_or_else(|error| {
        let watch = watch.as_str();
        tracing::warn!(brand, watch, %error, "the stored detector state is unreadable; starting from the initial state");
        T::default()
    })
}

/// A detector's state as stored JSON.
fn to_json(state: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(state).expect("a state has only numbers and lists of numbers")
}
