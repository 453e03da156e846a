//! Evaluates the closed minutes of a brand: its negative share and its volume.

use super::{Evaluator, Finding, LearnedBaseline, Pass, state, to_json};
use monitor_core::alerting::{
    Baseline, ResolveReason, Series, ShareState, ShareVerdict, Volume, VolumeEnd, VolumePolicy,
    VolumeState, VolumeVerdict, replay,
};
use monitor_core::domain::{Cause, Counts, Evidence, Minute};
use monitor_store::{Decision, DetectorState, Store, StoreError};

/// Minutes evaluated at once, at most; bounds memory after a long absence.
const MINUTES_AT_ONCE: i64 = 2 * 1440;
/// How far back evaluation of a brand begins, at most: one tweet with a wrong date must not
/// cause an evaluation of centuries.
const LOOK_BACK_MINUTES_MAX: i64 = 60 * 1440;
/// The same for volumes: of the time before, they only learn, so that switching them on does not
/// notify of old surges.
const VOLUME_LOOK_BACK_MINUTES: i64 = 2 * 1440;

impl Evaluator {
    /// Evaluates a brand's share up to its next step, or the most minutes at once; returns
    /// whether closed minutes are left.
    pub(super) async fn evaluate_share(
        &self,
        brand: &str,
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let stored = self.store.detector_state(brand, Cause::Share).await?;
        let Some((first, last)) =
            self.range(brand, stored.as_ref(), closed, LOOK_BACK_MINUTES_MAX).await?
        else {
            return Ok(false);
        };
        // All minutes at once are of one model.
        let switch = pass.switches.at(first);
        let model = switch.map(|switch| switch.model.as_str());
        let last = pass.switches.after(first).map_or(last, |next| last.min(next.from.plus(-1)));
        let switch = switch.map(|switch| switch.from);
        let mut known = self.baseline(brand).filter(|known| known.switch == switch);
        // A baseline is learned from the data before its hour, even if it is learned later. Until the next one, the
        // minutes that it was learned from are not read again.
        let hour = first.hour_start();
        let is_learned = known.as_ref().is_some_and(|known| known.hour == first.hour())
            && first.hour() == last.hour();
        let history = match is_learned {
            true => first.plus(-self.policy.evaluation_minutes()),
            false => hour.plus(-self.policy.history_minutes()),
        };
        let season = hour.plus(-self.policy.season_minutes());
        let mut detector: ShareState = state(brand, Cause::Share, stored.as_ref());
        match (stored.as_ref().and_then(|stored| stored.open.as_ref()), detector.open()) {
            (Some(incident), None) => {
                self.close_unwatched(incident, pass).await?;
                return Ok(true);
            }
            (None, Some(_)) => detector = ShareState::default(),
            _ => {}
        }
        let before = stored.as_ref().and_then(|stored| pass.switches.at(stored.evaluated));
        if before.map(|before| before.from) != switch && stored.is_some() {
            detector = self.change_model(brand, model, detector, first).await?;
        }
        let incidents = self.store.incidents_since(brand, Cause::Share, season).await?;
        let excluded = detector.excluded(incidents.iter().filter_map(|incident| {
            let (since, resolved) = (incident.evidence.share()?.since, incident.resolved?);
            Some((resolved, self.policy.excluded(since, incident.opened, resolved)))
        }));
        let counts = counts_of(&*self.store, model, brand, history, last).await?;
        let series = Series::new(history, last, &counts, &excluded);
        let mut hours: Option<Vec<(Minute, Counts)>> = None;
        let mut step = None;
        let mut evaluated = last;
        for minute in (first.0..=last.0).map(Minute) {
            let hour = minute.0.div_euclid(60);
            if known.as_ref().is_none_or(|known| known.hour != hour) {
                if hours.is_none() {
                    hours = Some(hours_of(&*self.store, model, brand, season, last).await?);
                }
                let hours = hours.as_deref().unwrap_or_default();
                let start = Minute(hour * 60);
                let baseline = Baseline::learn(&self.policy, hours, &excluded, &series, start);
                known = Some(LearnedBaseline { hour, switch, baseline });
            }
            let baseline = known.as_ref().and_then(|known| known.baseline.as_ref());
            let (after, verdict) = self.policy.evaluate(&series, baseline, &detector, minute);
            detector = after;
            let finding = match verdict {
                ShareVerdict::Quiet(_) => continue,
                ShareVerdict::Open(evidence) => Finding::Open(Evidence::Share(evidence)),
                ShareVerdict::Firing(evidence, _) => Finding::Firing(Evidence::Share(evidence)),
                ShareVerdict::Resolve(evidence, why) => {
                    Finding::Resolve(Evidence::Share(evidence), Some(why))
                }
            };
            step = self.step(brand, minute, &finding, stored.as_ref(), pass, closed).await?;
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
            state: to_json(&detector),
            step,
        };
        self.decide(&decision).await?;
        // The baseline is valid for its hour, unless a step changed which minutes are left out.
        self.keep_baseline(brand, known.filter(|_| decision.step.is_none()));
        Ok(evaluated < closed)
    }

    /// Evaluates a brand's volume by one policy, up to its next step or the most minutes at once;
    /// returns whether closed minutes are left.
    pub(super) async fn evaluate_volume(
        &self,
        policy: &VolumePolicy,
        brand: &str,
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let cause = policy.counted.cause();
        let stored = self.store.detector_state(brand, cause).await?;
        let Some((first, last)) =
            self.range(brand, stored.as_ref(), closed, VOLUME_LOOK_BACK_MINUTES).await?
        else {
            return Ok(false);
        };
        let mut detector: VolumeState = state(brand, cause, stored.as_ref());
        match (stored.as_ref().and_then(|stored| stored.open.as_ref()), detector.opened()) {
            (Some(incident), None) => {
                self.close_unwatched(incident, pass).await?;
                return Ok(true);
            }
            (None, Some(_)) => detector = VolumeState::default(),
            _ => {}
        }
        // All tweets are the same for every model.
        let by_model = policy.counted == Volume::Negative;
        let switch = pass.switches.at(first).filter(|_| by_model);
        let model = switch.map(|switch| switch.model.as_str());
        let next = pass.switches.after(first).filter(|_| by_model);
        let last = next.map_or(last, |next| last.min(next.from.plus(-1)));
        let before = stored.as_ref().and_then(|stored| pass.switches.at(stored.evaluated));
        let is_first = stored.is_none();
        let is_switched = by_model
            && !is_first
            && before.map(|before| before.from) != switch.map(|switch| switch.from);
        if is_first || is_switched {
            let from = first.plus(-self.policy.season_minutes());
            let counts = counts_of(&*self.store, model, brand, from, first.plus(-1)).await?;
            let policy = *policy;
            // Evaluates weeks of minutes, which takes a moment.
            let work = move || match is_first {
                true => policy.learn(&counts, first.plus(-1)),
                false => policy.change_model(&detector, &counts, first),
            };
            detector = tokio::task::spawn_blocking(work).await.expect("the replay does not panic");
        }
        let history = first.plus(-policy.history_minutes());
        let counts = counts_of(&*self.store, model, brand, history, last).await?;
        let series = Series::new(history, last, &counts, &[]);
        let mut step = None;
        let mut evaluated = last;
        for minute in (first.0..=last.0).map(Minute) {
            let (after, verdict) = policy.evaluate(&series, detector, minute);
            detector = after;
            let of = |evidence| policy.counted.evidence(evidence);
            let finding = match verdict {
                VolumeVerdict::Wait | VolumeVerdict::Quiet(_) => continue,
                VolumeVerdict::Open(evidence) => Finding::Open(of(evidence)),
                VolumeVerdict::Firing(evidence) => Finding::Firing(of(evidence)),
                VolumeVerdict::Resolve(evidence, end) => {
                    let why = match end {
                        VolumeEnd::Calm => ResolveReason::Calm,
                        VolumeEnd::NewNormal => ResolveReason::NewNormal,
                    };
                    Finding::Resolve(of(evidence), Some(why))
                }
            };
            step = self.step(brand, minute, &finding, stored.as_ref(), pass, closed).await?;
            if step.is_some() {
                evaluated = minute;
                break;
            }
        }
        let decision = Decision {
            brand: brand.to_owned(),
            cause,
            evaluated_before: stored.map(|stored| stored.evaluated),
            evaluated,
            state: to_json(&detector),
            step,
        };
        self.decide(&decision).await?;
        Ok(evaluated < closed)
    }

    /// The first and last minute to evaluate now; `None` if there is none.
    async fn range(
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

    /// The detector state with which another model goes on at `minute`; see
    /// [`SharePolicy::change_model`](monitor_core::alerting::SharePolicy::change_model).
    async fn change_model(
        &self,
        brand: &str,
        model: Option<&str>,
        detector: ShareState,
        minute: Minute,
    ) -> Result<ShareState, StoreError> {
        let season = self.policy.season_minutes();
        let hour = detector.open().map_or(minute, |open| open.opened()).hour_start();
        let counts = counts_of(&*self.store, model, brand, hour.plus(-season), minute).await?;
        let hours = hours_of(&*self.store, model, brand, hour.plus(-season), hour).await?;
        let policy = self.policy;
        // Evaluates weeks of minutes, which takes a moment.
        let work = move || {
            let replay = replay(&policy, &counts, minute.plus(-1));
            let history = hour.plus(-policy.history_minutes());
            let series = Series::new(history, minute, &counts, &replay.excluded);
            let baseline = Baseline::learn(&policy, &hours, &replay.excluded, &series, hour);
            policy.change_model(detector, replay, minute, &series, baseline)
        };
        let state = tokio::task::spawn_blocking(work).await.expect("the replay does not panic");
        tracing::info!(brand, model, from = %minute.start(), "the brand is evaluated on the counts of another model");
        Ok(state)
    }

    fn baseline(&self, brand: &str) -> Option<LearnedBaseline> {
        self.baselines.lock().expect("no holder of this lock panics").get(brand).cloned()
    }

    fn keep_baseline(&self, brand: &str, known: Option<LearnedBaseline>) {
        let mut baselines = self.baselines.lock().expect("no holder of this lock panics");
        match known {
            Some(known) => baselines.insert(brand.to_owned(), known),
            None => baselines.remove(brand),
        };
    }
}

/// Counts of a brand's minutes: those of `model`, or all if the stream has no switches.
pub(super) async fn counts_of(
    store: &dyn Store,
    model: Option<&str>,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    match model {
        Some(model) => store.model_counts(model, brand, from, to).await,
        None => store.minute_counts(brand, from, to).await,
    }
}

/// The same by hour.
async fn hours_of(
    store: &dyn Store,
    model: Option<&str>,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    match model {
        Some(model) => store.model_hour_counts(model, brand, from, to).await,
        None => store.hour_counts(Some(brand), from, to).await,
    }
}
