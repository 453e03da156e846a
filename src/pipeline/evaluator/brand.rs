//! A brand's closed minutes: its share, and its volume.

use super::{Evaluator, Finding, Pass, state, to_json};
use monitor_core::alerting::{
    Baseline, Series, ShareState, ShareVerdict, VolumeState, VolumeVerdict,
};
use monitor_core::domain::{Cause, Counts, Evidence, Minute};
use monitor_store::{Decision, DetectorState, StoreError};

/// Most minutes evaluated in one go; bounds memory after a long absence.
const MINUTES_AT_ONCE: i64 = 2 * 1440;
/// How far back a brand's first evaluation begins at most: one tweet with an absurd date
/// must not have us judge centuries.
const LOOK_BACK_MINUTES_MAX: i64 = 60 * 1440;
/// The same for volumes: as long as they only learn, so that surges long past are not told of
/// when somebody asks for them for the first time.
const SURGE_LOOK_BACK_MINUTES: i64 = 2 * 1440;

impl Evaluator {
    /// Evaluates a brand's share up to its next step, or for a while; answers whether more is
    /// left.
    pub(super) async fn evaluate_share(
        &self,
        brand: &str,
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let stored = self.store.detector_state(brand, Cause::Share).await?;
        let Some((first, last)) =
            self.stretch(brand, stored.as_ref(), closed, LOOK_BACK_MINUTES_MAX).await?
        else {
            return Ok(false);
        };
        // A baseline is learned as of its hour's start, also where it is learned later.
        let hour = Minute(first.0.div_euclid(60) * 60);
        let history = hour.plus(-self.policy.history_minutes());
        let season = hour.plus(-self.policy.season_minutes());
        let counts = self.store.minute_counts(brand, history, last).await?;
        let excluded: Vec<_> = self
            .store
            .incidents_since(brand, Cause::Share, season)
            .await?
            .iter()
            .filter_map(|incident| {
                let since = incident.evidence.share()?.since;
                Some(self.policy.excluded(since, incident.opened, incident.resolved?))
            })
            .collect();
        let series = Series::new(history, last, &counts, &excluded);
        let mut remembered: ShareState = state(brand, Cause::Share, stored.as_ref());
        match (stored.as_ref().and_then(|stored| stored.open.as_ref()), remembered.open()) {
            (Some(incident), None) => {
                self.close_unwatched(incident, pass).await?;
                return Ok(true);
            }
            (None, Some(_)) => remembered = ShareState::default(),
            _ => {}
        }
        let mut known = self.baseline(brand);
        let mut hours: Option<Vec<(Minute, Counts)>> = None;
        let mut step = None;
        let mut evaluated = last;
        for minute in (first.0..=last.0).map(Minute) {
            let hour = minute.0.div_euclid(60);
            if known.as_ref().is_none_or(|(of, _)| *of != hour) {
                if hours.is_none() {
                    hours = Some(self.store.hour_counts(Some(brand), season, last).await?);
                }
                let hours = hours.as_deref().unwrap_or_default();
                let start = Minute(hour * 60);
                let learned = Baseline::learn(&self.policy, hours, &excluded, &series, start);
                known = Some((hour, learned));
            }
            let baseline = known.as_ref().and_then(|(_, baseline)| baseline.as_ref());
            let (after, verdict) = self.policy.evaluate(&series, baseline, &remembered, minute);
            remembered = after;
            let said = match verdict {
                ShareVerdict::Quiet(_) => continue,
                ShareVerdict::Open(evidence) => Finding::Open(Evidence::Share(evidence)),
                ShareVerdict::Firing(evidence, _) => Finding::Firing(Evidence::Share(evidence)),
                ShareVerdict::Resolve(evidence, why) => {
                    Finding::Resolve(Evidence::Share(evidence), Some(why))
                }
            };
            step = self.step(brand, minute, &said, stored.as_ref(), pass, closed).await?;
            if step.is_some() {
                evaluated = minute;
                break;
            }
        }
        let decision = Decision {
            brand: brand.to_owned(),
            cause: Cause::Share,
            evaluated_before: stored.map(|stored| stored.evaluated),
            evaluated,
            state: to_json(&remembered),
            step,
        };
        self.decide(&decision).await?;
        // What was learned holds for its hour, unless an incident now counts otherwise.
        self.keep_baseline(brand, known.filter(|_| decision.step.is_none()));
        Ok(evaluated < closed)
    }

    /// Evaluates a brand's volume, where that is asked for; answers whether more is left.
    pub(super) async fn evaluate_surge(
        &self,
        brand: &str,
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let Some(policy) = &self.surge else { return Ok(false) };
        let stored = self.store.detector_state(brand, Cause::Surge).await?;
        let Some((first, last)) =
            self.stretch(brand, stored.as_ref(), closed, SURGE_LOOK_BACK_MINUTES).await?
        else {
            return Ok(false);
        };
        let history = first.plus(-policy.history_minutes());
        let counts = self.store.minute_counts(brand, history, last).await?;
        let series = Series::new(history, last, &counts, &[]);
        let mut remembered: VolumeState = state(brand, Cause::Surge, stored.as_ref());
        match (stored.as_ref().and_then(|stored| stored.open.as_ref()), remembered.opened()) {
            (Some(incident), None) => {
                self.close_unwatched(incident, pass).await?;
                return Ok(true);
            }
            (None, Some(_)) => remembered = VolumeState::default(),
            _ => {}
        }
        let mut step = None;
        let mut evaluated = last;
        for minute in (first.0..=last.0).map(Minute) {
            let (after, verdict) = policy.evaluate(&series, remembered, minute);
            remembered = after;
            let said = match verdict {
                VolumeVerdict::Wait | VolumeVerdict::Quiet(_) => continue,
                VolumeVerdict::Open(evidence) => Finding::Open(Evidence::Surge(evidence)),
                VolumeVerdict::Firing(evidence) => Finding::Firing(Evidence::Surge(evidence)),
                VolumeVerdict::Resolve(evidence, _) => {
                    Finding::Resolve(Evidence::Surge(evidence), None)
                }
            };
            step = self.step(brand, minute, &said, stored.as_ref(), pass, closed).await?;
            if step.is_some() {
                evaluated = minute;
                break;
            }
        }
        let decision = Decision {
            brand: brand.to_owned(),
            cause: Cause::Surge,
            evaluated_before: stored.map(|stored| stored.evaluated),
            evaluated,
            state: to_json(&remembered),
            step,
        };
        self.decide(&decision).await?;
        Ok(evaluated < closed)
    }

    /// The first and last minute to judge now; `None` where there is none.
    async fn stretch(
        &self,
        brand: &str,
        stored: Option<&DetectorState>,
        closed: Minute,
        look_back: i64,
    ) -> Result<Option<(Minute, Minute)>, StoreError> {
        let first = match stored {
            Some(stored) => stored.evaluated.plus(1).max(closed.plus(-LOOK_BACK_MINUTES_MAX)),
            None => match self.store.first_minute(brand).await? {
                Some(first) => first.max(closed.plus(-look_back)),
                None => return Ok(None),
            },
        };
        let last = closed.min(first.plus(MINUTES_AT_ONCE - 1));
        Ok((first <= closed).then_some((first, last)))
    }

    fn baseline(&self, brand: &str) -> Option<(i64, Option<Baseline>)> {
        self.baselines.lock().expect("no holder of this lock panics").get(brand).cloned()
    }

    fn keep_baseline(&self, brand: &str, known: Option<(i64, Option<Baseline>)>) {
        let mut baselines = self.baselines.lock().expect("no holder of this lock panics");
        match known {
            Some(known) => baselines.insert(brand.to_owned(), known),
            None => baselines.remove(brand),
        };
    }
}
