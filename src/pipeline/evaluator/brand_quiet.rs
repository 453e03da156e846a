//! Evaluates whether a brand's own stream has stopped, while the stream of all brands goes on.
//!
//! **Invariant.** Time is event time, which moves only while records come. Where it jumps, the stream itself was quiet, or
//! this daemon was not there: what came before is not held against a brand, so an alert may be late, and an outage of the
//! whole stream gives none. Only tweets end an incident, or a person; after that nothing opens before a tweet has come. One
//! statement reads the newest minute of all brands, and only those without a tweet for long are looked at.

use std::collections::HashMap;
use std::sync::MutexGuard;

use super::stream::{PAST_MINUTES, to_finding};
use super::{Evaluator, Pass, state};
use monitor_core::alerting::{StreamSnapshot, StreamState, expected_tweets};
use monitor_core::domain::{Cause, Evidence, Minute, QuietEvidence, Watch};
use monitor_store::StoreError;

/// How often a brand without a tweet for long is looked at, in minutes: at night many have none.
const LOOK_EVERY_MINUTES: i64 = 5;

/// A step of event time that is longer than this is a jump, in minutes.
const STEP_MINUTES_MAX: i64 = 10;

/// What this leader knows of the brands; the next one begins anew.
#[derive(Default)]
pub(super) struct QuietBrands {
    /// The last minute evaluated, and that of the last jump.
    evaluated: Option<(Minute, Minute)>,
    looked: HashMap<String, Looked>,
}

#[derive(Clone, Copy)]
struct Looked {
    at: Minute,
    /// Whether the detector has nothing in mind.
    is_idle: bool,
}

impl Evaluator {
    /// Evaluates the brands at the end of minute `closed`, once.
    pub(super) async fn evaluate_quiet_brands(
        &self,
        closed: Minute,
        pass: &Pass,
    ) -> Result<(), StoreError> {
        let limit = i64::from(self.quiet_brand.quiet_minutes_max);
        let known = self.quiet_brands().evaluated;
        if limit == 0 || known.is_some_and(|(last, _)| closed <= last) {
            return Ok(());
        }
        let jumped = match known {
            Some((last, jumped)) if closed.0 - last.0 <= STEP_MINUTES_MAX => jumped,
            _ => closed,
        };
        self.quiet_brands().evaluated = Some((closed, jumped));
        let brands: Vec<_> = self.brands.keys().cloned().collect();
        let newest: HashMap<_, _> = self.store.newest(&brands).await?.into_iter().collect();
        let mut failed = None;
        for (place, brand) in (0..).zip(brands) {
            let newest = newest.get(&brand).copied();
            let comes = newest.is_none_or(|newest| closed.0 - newest.0 < limit);
            let looked = self.quiet_brands().looked.get(&brand).copied();
            let is_due = looked.is_none_or(|looked| {
                let wait = if comes && looked.is_idle { limit } else { LOOK_EVERY_MINUTES };
                closed.0 - looked.at.0 >= wait
            });
            if !is_due {
                continue;
            }
            match self.evaluate_quiet_brand(&brand, (newest, jumped), closed, pass).await {
                Ok(is_idle) => {
                    // Not all in the same minute.
                    let first = if looked.is_none() { place % LOOK_EVERY_MINUTES } else { 0 };
                    let looked = Looked { at: closed.plus(-first), is_idle };
                    self.quiet_brands().looked.insert(brand, looked);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Returns whether the detector has nothing in mind.
    async fn evaluate_quiet_brand(
        &self,
        brand: &str,
        (newest, jumped): (Option<Minute>, Minute),
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let of = (brand, Cause::BrandQuiet);
        let stored = self.store.detector_state(brand, Watch::BrandQuiet).await?;
        if stored.as_ref().is_some_and(|stored| stored.evaluated >= closed) {
            return Ok(false);
        }
        let limit = i64::from(self.quiet_brand.quiet_minutes_max);
        let now = closed.plus(1);
        let gap = newest.map(|newest| now.0 - newest.0);
        let before: StreamState = state(brand, Watch::BrandQuiet, stored.as_ref());
        let is_ended = before.is_open() && stored.as_ref().is_some_and(|it| it.open.is_none());
        if is_ended && gap.is_none_or(|gap| gap >= limit) {
            return Ok(false);
        }
        let Some(detector) = self.detector(of, stored.as_ref(), pass).await? else {
            return Ok(false);
        };
        let begins =
            newest.map(|newest| if detector.is_open() { newest } else { newest.max(jumped) });
        let may_alarm = begins.is_some_and(|begins| now.0 - begins.0 >= limit);
        let expected = match newest.zip(begins).filter(|_| may_alarm || detector.is_open()) {
            // Summing weeks of counts is costly: only where it matters.
            Some((newest, begins)) => {
                let from = newest.plus(-PAST_MINUTES);
                let hours = self.store.hour_counts(Some(brand), from, newest).await?;
                let hours: Vec<_> = hours.iter().map(|(start, c)| (*start, c.total)).collect();
                expected_tweets(&hours, begins.start(), now.start())
            }
            None => None,
        };
        let seen = StreamSnapshot {
            now: now.start(),
            last_record_at: begins.map(Minute::start),
            at_end: true,
            oldest_unread_at: None,
            // Of a brand without a past nothing is expected.
            expected: expected.or(Some(0.0)),
        };
        let (after, verdict) = self.quiet_brand.evaluate_quiet(&seen, detector);
        let evidence = |quiet: QuietEvidence| {
            let minutes = gap.map_or(quiet.minutes, |gap| u32::try_from(gap).unwrap_or(u32::MAX));
            let last = newest.map(Minute::start);
            Evidence::BrandQuiet(QuietEvidence { last, minutes, ..quiet })
        };
        let finding = to_finding(brand, verdict, evidence, closed);
        if !after.is_idle() || !before.is_idle() || finding.is_some() {
            self.conclude(of, closed, stored, (after, finding), pass).await?;
        }
        Ok(after.is_idle())
    }

    pub(super) fn quiet_brands(&self) -> MutexGuard<'_, QuietBrands> {
        self.quiet_brands.lock().expect("no holder of this lock panics")
    }
}
