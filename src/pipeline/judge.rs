//! Judges every closed minute of every brand, and writes what follows.
//!
//! **Invariant.** Each minute is judged in order, once, on what Postgres holds when it is
//! closed; the decision names the minute it started from, so of several daemons one wins
//! and the others look again. Deliberately absent: statistics (`alerting`), sending (`notify`).

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use crate::alerting::{Open, Progress, ResolveReason, Rule, Series, State, Verdict, watermark};
use crate::config;
use crate::domain::{Evidence, Minute, Transition};
use crate::store::{CurvePoint, Decision, Notification, Step, Store, StoreError};
use crate::telemetry::{self, Readiness};

/// Most minutes judged in one go; bounds memory after a long absence.
const MINUTES_AT_ONCE: i64 = 2 * 1440;
/// How far back a brand's first judgement begins at most: one tweet with an absurd date
/// must not have us judge centuries.
const LOOK_BACK_MINUTES_MAX: i64 = 60 * 1440;
/// Example tweets in a notification.
const EXAMPLES_MAX: u32 = 5;
/// Hours that the curve of a notification looks back.
const CURVE_HOURS: i64 = 24;

/// Watches the brands.
pub struct Judge {
    store: Arc<dyn Store>,
    topic: String,
    rule: Rule,
    lateness: TimeDelta,
    tick: Duration,
    brands: Vec<String>,
    receivers: Vec<String>,
}

impl Judge {
    /// A judge of the brands and by the rule of `settings`.
    pub fn new(store: Arc<dyn Store>, settings: &config::Settings) -> Self {
        let a = &settings.alerting;
        Self {
            store,
            topic: settings.kafka.topic.clone(),
            rule: rule(a),
            lateness: TimeDelta::seconds(i64::try_from(a.lateness_s).unwrap_or(i64::MAX / 1000)),
            tick: Duration::from_millis(a.tick_ms),
            brands: settings.brands.keys().cloned().collect(),
            receivers: settings.receivers.keys().cloned().collect(),
        }
    }

    /// Looks every tick until `shutdown`, and once more then; `readiness` tells whether it
    /// can.
    pub async fn run(self, readiness: Arc<Readiness>, shutdown: CancellationToken) {
        let mut away = false;
        loop {
            match self.look().await {
                Ok(_) => {
                    away = false;
                    readiness.set("alerting", Ok(()));
                }
                Err(StoreError::Overtaken { brand }) => {
                    tracing::debug!(brand, "another daemon has judged this minute");
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%error, "cannot judge now; trying again every tick");
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

    /// Judges all minutes closed by now; answers with the last of them.
    ///
    /// # Errors
    /// [`StoreError`]; what was decided before stays decided.
    pub async fn look(&self) -> Result<Option<Minute>, StoreError> {
        let progress = self.store.progress(&self.topic).await?;
        let progress: Vec<_> = progress
            .iter()
            .map(|p| Progress { event_time_max: p.event_time_max, at_end: p.at_end })
            .collect();
        let Some(time) = watermark(&progress, self.lateness) else { return Ok(None) };
        gauge!(telemetry::WATERMARK).set(time.timestamp() as f64);
        let closed = Minute::of(time).plus(-1);
        // A brand that cannot be judged must not silence those after it.
        let mut failed = None;
        for brand in &self.brands {
            let judged = async {
                while self.judge_some(brand, closed).await? {}
                Ok::<_, StoreError>(())
            };
            if let Err(error) = judged.await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(Some(closed)), Err)
    }

    /// Judges a brand up to its next step, or for a while; answers whether more is left.
    async fn judge_some(&self, brand: &str, closed: Minute) -> Result<bool, StoreError> {
        let known = self.store.brand_state(brand).await?;
        let first = match &known {
            Some(known) => known.judged.plus(1),
            None => match self.store.first_minute(brand).await? {
                Some(first) => first.max(closed.plus(-LOOK_BACK_MINUTES_MAX)),
                None => return Ok(false),
            },
        };
        if first > closed {
            return Ok(false);
        }
        let last = closed.min(first.plus(MINUTES_AT_ONCE - 1));
        let history = first.plus(-self.rule.history_minutes().max(CURVE_HOURS * 60));
        let counts = self.store.minute_counts(brand, history, last).await?;
        let past = self.store.incidents_since(brand, history).await?;
        let left_out: Vec<_> = past
            .iter()
            .filter_map(|incident| Some(self.rule.left_out(incident.opened, incident.resolved?)))
            .collect();
        let series = Series::new(history, last, &counts, &left_out);
        let mut state = State {
            open: known.as_ref().and_then(|k| k.open.as_ref()).map(|incident| Open {
                opened: incident.opened,
                baseline: incident.evidence.baseline,
            }),
            calm_since: known.as_ref().and_then(|k| k.calm_since),
        };
        let mut decision = Decision {
            brand: brand.to_owned(),
            judged_before: known.as_ref().map(|k| k.judged),
            judged: last,
            calm_since: None,
            step: None,
            receivers: self.receivers.clone(),
        };
        for minute in (first.0..=last.0).map(Minute) {
            let verdict = self.rule.judge(&series, &state, minute);
            let opened = state.open.map(|open| open.opened);
            state = state.after(&verdict, minute);
            let (transition, evidence, why) = match verdict {
                Verdict::Quiet(_) | Verdict::Firing(_) => continue,
                Verdict::Open(evidence) => (Transition::Opened, evidence, None),
                Verdict::Resolve(evidence, why) => (Transition::Resolved, evidence, Some(why)),
            };
            decision.judged = minute;
            decision.step = Some(Step {
                transition,
                minute,
                evidence,
                notification: Notification {
                    incident_id: 0,
                    transition: transition.as_str().into(),
                    brand: brand.to_owned(),
                    at: minute.start(),
                    opened_at: opened.unwrap_or(minute).start(),
                    window_minutes: evidence.window_minutes,
                    observed: evidence.observed.into(),
                    baseline: evidence.baseline.into(),
                    expected_share: evidence.expected_share,
                    z: evidence.z,
                    z_min: evidence.z_min,
                    reason: reason(brand, &evidence, why, self.rule.baseline_minutes),
                    examples: self
                        .store
                        .examples(
                            brand,
                            minute.plus(1 - i64::from(self.rule.window_minutes)),
                            minute,
                            EXAMPLES_MAX,
                        )
                        .await?,
                    curve: curve(&series, minute),
                },
            });
            break;
        }
        decision.calm_since = state.calm_since;
        let more = decision.judged < closed;
        let id = self.store.decide(&decision).await?;
        if let (Some(step), Some(id)) = (&decision.step, id) {
            let transition = step.transition.as_str();
            counter!(telemetry::INCIDENTS, "brand" => brand.to_owned(), "transition" => transition)
                .increment(1);
            tracing::info!(%id, brand, transition, at = %step.notification.at, reason = step.notification.reason, "incident");
        }
        Ok(more)
    }
}

/// The detector's rule, as the settings have it.
pub fn rule(settings: &config::Alerting) -> Rule {
    Rule {
        window_minutes: settings.window_minutes,
        baseline_minutes: settings.baseline_minutes,
        window_tweets_min: settings.window_tweets_min,
        baseline_tweets_min: settings.baseline_tweets_min,
        rise_min: settings.rise_min,
        z_min: settings.z_min,
        resolve_minutes: settings.resolve_minutes,
        incident_minutes_max: settings.incident_minutes_max,
    }
}

/// Hourly counts up to and including `minute`.
fn curve(series: &Series, minute: Minute) -> Vec<CurvePoint> {
    (0..CURVE_HOURS)
        .rev()
        .map(|hours| {
            let last = minute.plus(-60 * hours);
            let first = last.plus(-59);
            let counts = series.sum(first, last);
            CurvePoint { at: first.start(), total: counts.total, negative: counts.negative }
        })
        .collect()
}

/// The reason in one sentence.
fn reason(
    brand: &str,
    evidence: &Evidence,
    resolved: Option<ResolveReason>,
    baseline_minutes: u32,
) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let observed = percent(evidence.observed_share());
    let expected = percent(evidence.expected_share);
    let window = span(evidence.window_minutes);
    match resolved {
        None => format!(
            "{observed} of the {} tweets about {brand} in the last {window} were negative, \
             where the {} before lead us to expect {expected} ({} of {}); the rise is {:.2} \
             standard errors, and from {:.2} on it is more than chance.",
            evidence.observed.total,
            span(baseline_minutes),
            evidence.baseline.negative,
            evidence.baseline.total,
            evidence.z,
            evidence.z_min,
        ),
        Some(ResolveReason::Calm) => format!(
            "{observed} of the {} tweets about {brand} in the last {window} were negative, \
             back near the {expected} expected.",
            evidence.observed.total,
        ),
        Some(ResolveReason::NewNormal) => format!(
            "The share for {brand} has stayed up ({observed} now, {expected} before) for so \
             long that it is taken as the new normal.",
        ),
    }
}

fn span(minutes: u32) -> String {
    match minutes {
        60 => "hour".to_owned(),
        m if m.is_multiple_of(60) => format!("{} hours", m / 60),
        m => format!("{m} minutes"),
    }
}
