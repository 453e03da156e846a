//! Evaluates the stream itself: whether records come, and whether they are read in time.

use chrono::{DateTime, Utc};

use super::{Evaluator, Finding, Pass, state, to_json, words};
use monitor_core::alerting::{StreamSnapshot, StreamState, StreamVerdict, expected_tweets};
use monitor_core::domain::{Cause, Evidence, Minute, STREAM, Transition};
use monitor_store::{Decision, DetectorState, PartitionProgress, StoreError};

/// How far back the hourly counts reach from which the expected tweets are computed.
pub(super) const PAST_MINUTES: i64 = 4 * 7 * 1440;

/// A minute that was evaluated further ahead of the clock than this was evaluated by a leader whose
/// clock was wrong, and must not silence the next one until then.
const CLOCK_AHEAD_MINUTES: i64 = 5;

impl Evaluator {
    /// Evaluates the stream, once per clock minute.
    pub(super) async fn evaluate_stream(
        &self,
        partitions: &[PartitionProgress],
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        for &cause in &self.stream_causes {
            if let Err(error) = self.evaluate_stream_for(cause, partitions, pass).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn evaluate_stream_for(
        &self,
        cause: Cause,
        partitions: &[PartitionProgress],
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let minute = Minute::of(pass.now);
        let stored = self.store.detector_state(STREAM, cause.watch()).await?;
        if stored.as_ref().is_some_and(|stored| {
            (minute.0..minute.0 + CLOCK_AHEAD_MINUTES).contains(&stored.evaluated.0)
        }) {
            return Ok(());
        }
        let Some(detector) = self.detector((STREAM, cause), stored.as_ref(), pass).await? else {
            return Ok(());
        };
        let seen = self.stream_snapshot(partitions, pass.now, cause).await?;
        let (after, finding) = match cause {
            Cause::Quiet => {
                let (after, verdict) = self.stream.evaluate_quiet(&seen, detector);
                (after, to_finding(STREAM, verdict, Evidence::Quiet, minute))
            }
            _ => {
                let (after, verdict) = self.stream.evaluate_lag(&seen, detector);
                (after, to_finding(STREAM, verdict, Evidence::Lag, minute))
            }
        };
        self.conclude((STREAM, cause), minute, stored, (after, finding), pass).await
    }

    /// The state of a detector; `None` if an incident that it knows nothing of had to be closed first.
    pub(super) async fn detector(
        &self,
        (brand, cause): (&str, Cause),
        stored: Option<&DetectorState>,
        pass: &Pass,
    ) -> Result<Option<StreamState>, StoreError> {
        let detector: StreamState = state(brand, cause.watch(), stored);
        match (stored.and_then(|stored| stored.open.as_ref()), detector.is_open()) {
            (Some(incident), false) => {
                self.close_unwatched(incident, serde_json::Value::Null, pass).await?;
                Ok(None)
            }
            (None, true) => Ok(Some(StreamState::default())),
            _ => Ok(Some(detector)),
        }
    }

    /// Stores a detector's new state, and the step of its incident, if any.
    pub(super) async fn conclude(
        &self,
        (brand, cause): (&str, Cause),
        minute: Minute,
        stored: Option<DetectorState>,
        (after, finding): (StreamState, Option<Finding>),
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let step = match &finding {
            Some(finding) => {
                self.step(brand, minute, finding, stored.as_ref(), pass, minute).await?
            }
            None => None,
        };
        self.decide(&Decision {
            brand: brand.to_owned(),
            watch: cause.watch(),
            evaluated_before: stored.map(|stored| stored.evaluated),
            evaluated: minute,
            state: to_json(&after),
            step,
        })
        .await
    }

    async fn stream_snapshot(
        &self,
        partitions: &[PartitionProgress],
        now: DateTime<Utc>,
        cause: Cause,
    ) -> Result<StreamSnapshot, StoreError> {
        let last_record_at = partitions.iter().filter_map(|p| p.record_time_max).max();
        let gap = i64::from(self.stream.quiet_minutes_max);
        let expected = match last_record_at {
            // Summing weeks of counts is costly: only if the gap may alert.
            Some(last) if cause == Cause::Quiet && (now - last).num_minutes() >= gap => {
                // Counts are in event time, which does not advance while no record comes.
                let to = Minute::of(last);
                let hours = self.store.hour_counts(None, to.plus(-PAST_MINUTES), to).await?;
                let hours: Vec<_> = hours.iter().map(|(start, c)| (*start, c.total)).collect();
                expected_tweets(&hours, last, now)
            }
            _ => None,
        };
        Ok(StreamSnapshot {
            now,
            last_record_at,
            at_end: partitions.iter().all(|p| p.at_end),
            oldest_unread_at: partitions
                .iter()
                .filter(|p| !p.at_end)
                .filter_map(|p| p.record_time_max)
                .min(),
            expected,
        })
    }
}

pub(super) fn to_finding<E>(
    brand: &str,
    verdict: StreamVerdict<E>,
    evidence: impl FnOnce(E) -> Evidence,
    minute: Minute,
) -> Option<Finding> {
    let (transition, evidence) = match verdict {
        StreamVerdict::Healthy(_) => return None,
        StreamVerdict::Open(e) => (Transition::Opened, evidence(e)),
        StreamVerdict::Firing(e) => (Transition::Updated, evidence(e)),
        StreamVerdict::Resolve(e) => (Transition::Resolved, evidence(e)),
    };
    let reason = words::reason(brand, &evidence, transition, None, minute);
    Some(Finding::of(transition, evidence, reason))
}
