//! The stream itself: does anything come, and is it read?

use chrono::{DateTime, Utc};

use super::{Judge, Judged, Look, state, stored};
use monitor_core::alerting::{StreamLook, StreamState, StreamVerdict, expected_tweets};
use monitor_core::domain::{Cause, Evidence, Minute, STREAM};
use monitor_store::{Decision, PartitionProgress, StoreError};

/// How far back the hours reach that tell how many tweets are to be expected.
const PAST_MINUTES: i64 = 4 * 7 * 1440;

impl Judge {
    /// Judges the stream, once a minute of the clock.
    pub(super) async fn judge_stream(
        &self,
        partitions: &[PartitionProgress],
        look: &Look,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        for &cause in &self.stream_causes {
            if let Err(error) = self.judge_stream_for(cause, partitions, look).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn judge_stream_for(
        &self,
        cause: Cause,
        partitions: &[PartitionProgress],
        look: &Look,
    ) -> Result<(), StoreError> {
        let minute = Minute::of(look.now);
        let watch = self.store.watch(STREAM, cause).await?;
        if watch.as_ref().is_some_and(|watch| watch.judged >= minute) {
            return Ok(());
        }
        let mut remembered: StreamState = state(STREAM, cause, watch.as_ref());
        match (watch.as_ref().and_then(|watch| watch.open.as_ref()), remembered.is_open()) {
            (Some(incident), false) => return self.give_up(incident, look).await,
            (None, true) => remembered = StreamState::default(),
            _ => {}
        }
        let seen = self.stream_look(partitions, look.now, cause).await?;
        let (after, said) = match cause {
            Cause::Quiet => {
                let (after, verdict) = self.stream.judge_quiet(&seen, remembered);
                (after, judged(verdict, Evidence::Quiet))
            }
            _ => {
                let (after, verdict) = self.stream.judge_lag(&seen, remembered);
                (after, judged(verdict, Evidence::Lag))
            }
        };
        let step = self.step(STREAM, minute, &said, watch.as_ref(), look, minute).await?;
        self.decide(&Decision {
            brand: STREAM.to_owned(),
            cause,
            judged_before: watch.map(|watch| watch.judged),
            judged: minute,
            state: stored(&after),
            step,
        })
        .await?;
        Ok(())
    }

    async fn stream_look(
        &self,
        partitions: &[PartitionProgress],
        now: DateTime<Utc>,
        cause: Cause,
    ) -> Result<StreamLook, StoreError> {
        let last_record_at = partitions.iter().filter_map(|p| p.record_time_max).max();
        let gap = i64::from(self.stream.quiet_minutes_max);
        let expected = match last_record_at {
            // Adding up weeks of counts is worth it only where a gap might alarm.
            Some(last) if cause == Cause::Quiet && (now - last).num_minutes() >= gap => {
                // Event time, which is that of the counts, stands where the stream does.
                let to = Minute::of(last);
                let hours = self.store.hour_counts(None, to.plus(-PAST_MINUTES), to).await?;
                let hours: Vec<_> = hours.iter().map(|(start, c)| (*start, c.total)).collect();
                expected_tweets(&hours, last, now)
            }
            _ => None,
        };
        Ok(StreamLook {
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

fn judged<E>(verdict: StreamVerdict<E>, evidence: impl FnOnce(E) -> Evidence) -> Judged {
    match verdict {
        StreamVerdict::Well(_) => Judged::Quiet,
        StreamVerdict::Open(e) => Judged::Open(evidence(e)),
        StreamVerdict::Firing(e) => Judged::Firing(evidence(e)),
        StreamVerdict::Resolve(e) => Judged::Resolve(evidence(e), None),
    }
}
