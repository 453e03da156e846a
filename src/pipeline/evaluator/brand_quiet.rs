//! Evaluates whether a brand's own stream has stopped, while the stream of all brands goes on.
//!
//! **Invariant.** Time is event time, which moves only while records come, so that a stream that stops says nothing of
//! its brands. What the stream itself missed is not expected of a brand. Most brands cost nothing: one statement reads the
//! newest minute of all, and only a brand without a tweet for long, or whose detector has something in mind, is looked at.

use std::collections::HashMap;

use super::stream::{PAST_MINUTES, to_finding};
use super::{Evaluator, Pass};
use monitor_core::alerting::{StreamSnapshot, expected_tweets};
use monitor_core::domain::{Cause, Evidence, Minute, QuietEvidence, STREAM, Watch};
use monitor_store::StoreError;

/// How often a brand without a tweet for long is looked at, in minutes: at night many have none.
const LOOK_EVERY_MINUTES: i64 = 5;

/// What this leader knows of the brands; the next one begins anew.
#[derive(Default)]
pub(super) struct QuietBrands {
    /// The last minute evaluated.
    evaluated: Option<Minute>,
    /// The brands whose detector has nothing in mind, and when they were looked at.
    idle: HashMap<String, Minute>,
}

impl Evaluator {
    /// Evaluates the brands at the end of minute `closed`, once.
    pub(super) async fn evaluate_quiet_brands(
        &self,
        closed: Minute,
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let limit = self.quiet_brand.quiet_minutes_max;
        let is_done = |known: &QuietBrands| known.evaluated.is_some_and(|last| closed <= last);
        if limit == 0 || is_done(&self.quiet_brands()) {
            return Ok(());
        }
        let stream = self.store.detector_state(STREAM, Watch::Quiet).await?;
        if stream.as_ref().is_some_and(|stream| stream.open.is_some()) {
            return Ok(());
        }
        // Until it ended, the stream was quiet as a whole.
        let resumed = stream.and_then(|stream| stream.last).and_then(|last| last.resolved);
        let brands: Vec<_> = self.brands.keys().cloned().collect();
        let mut failed = None;
        for (brand, newest) in self.store.newest(&brands).await? {
            let looked = self.quiet_brands().idle.get(&brand).copied();
            let comes = closed.0 - newest.0 < i64::from(limit);
            if looked.is_some_and(|at| comes || closed.0 - at.0 < LOOK_EVERY_MINUTES) {
                continue;
            }
            match self.evaluate_quiet_brand(&brand, (newest, resumed), closed, pass).await {
                Ok(true) => drop(self.quiet_brands().idle.insert(brand, closed)),
                Ok(false) => drop(self.quiet_brands().idle.remove(&brand)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                self.quiet_brands().evaluated = Some(closed);
                Ok(())
            }
        }
    }

    /// Returns whether the detector has nothing in mind.
    async fn evaluate_quiet_brand(
        &self,
        brand: &str,
        (newest, resumed): (Minute, Option<Minute>),
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let of = (brand, Cause::BrandQuiet);
        let stored = self.store.detector_state(brand, Watch::BrandQuiet).await?;
        if stored.as_ref().is_some_and(|stored| stored.evaluated >= closed) {
            return Ok(false);
        }
        let Some(detector) = self.detector(of, stored.as_ref(), pass).await? else {
            return Ok(false);
        };
        let (last, now) = (newest.start(), closed.plus(1).start());
        let begins = resumed.map_or(last, |resumed| last.max(resumed.start())).min(now);
        let gap = (now - begins).num_minutes();
        // Summing weeks of counts is costly: only if the gap may alert.
        let expected = if gap >= i64::from(self.quiet_brand.quiet_minutes_max) {
            let from = newest.plus(-PAST_MINUTES);
            let hours = self.store.hour_counts(Some(brand), from, newest).await?;
            let hours: Vec<_> = hours.iter().map(|(start, c)| (*start, c.total)).collect();
            expected_tweets(&hours, begins, now)
        } else {
            None
        };
        let seen = StreamSnapshot {
            now,
            last_record_at: Some(begins),
            at_end: true,
            oldest_unread_at: None,
            expected,
        };
        let (after, verdict) = self.quiet_brand.evaluate_quiet(&seen, detector);
        let evidence = |quiet| Evidence::BrandQuiet(QuietEvidence { last: Some(last), ..quiet });
        let finding = to_finding(brand, verdict, evidence, closed);
        if !after.is_idle() || !detector.is_idle() || finding.is_some() {
            self.conclude(of, closed, stored, (after, finding), pass).await?;
        }
        Ok(after.is_idle())
    }

    pub(super) fn quiet_brands(&self) -> std::sync::MutexGuard<'_, QuietBrands> {
        self.quiet_brands.lock().expect("no holder of this lock panics")
    }
}
