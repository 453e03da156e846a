//! Evaluates the closed minutes of a brand: its negative share and its volumes, together.

use std::collections::BTreeMap;

use super::{Evaluator, Finding, LearnedBaseline, Pass, late, state, to_json, words};
use monitor_core::alerting::{
    Baseline, BuzzPolicy, BuzzState, BuzzVerdict, Course, Seen, Series, ShareState, Volume,
    VolumeState, replay,
};
use monitor_core::domain::{Cause, Counts, Minute, Phase, Transition, Watch};
use monitor_store::{Decision, DetectorState, Store, StoreError};
use tracing::Instrument;

/// Minutes evaluated at once, at most; bounds memory after a long absence.
const MINUTES_AT_ONCE: i64 = 2 * 1440;
/// How far back evaluation of a brand begins, at most: one tweet with a wrong date must not
/// cause an evaluation of centuries.
const LOOK_BACK_MINUTES_MAX: i64 = 60 * 1440;
/// The same for volumes: of the time before, they only learn, so that switching them on does not
/// notify of old surges.
const VOLUME_LOOK_BACK_MINUTES: i64 = 2 * 1440;

/// Counts by minute, in ascending order.
type ByMinute = Vec<(Minute, Counts)>;

impl Evaluator {
    /// Evaluates a brand up to its next step, or the most minutes at once; returns whether closed
    /// minutes are left.
    pub(super) async fn evaluate_brand(
        &self,
        (brand, policy): (&str, &BuzzPolicy),
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let stored = self.store.detector_state(brand, Watch::Buzz).await?;
        let Some((first, last)) = self.range(brand, stored.as_ref(), closed).await? else {
            return Ok(false);
        };
        let span = tracing::debug_span!(
            "evaluate",
            brand,
            from = %first.start(),
            to = %last.start(),
            transition = tracing::field::Empty
        );
        self.evaluate_minutes((brand, policy), stored, (first, last), closed, pass)
            .instrument(span)
            .await
    }

    /// Evaluates the minutes `first..=last` of a brand up to its next step; returns whether minutes up to
    /// `closed` are left.
    async fn evaluate_minutes(
        &self,
        (brand, policy): (&str, &BuzzPolicy),
        stored: Option<DetectorState>,
        (first, last): (Minute, Minute),
        closed: Minute,
        pass: &Pass,
    ) -> Result<bool, StoreError> {
        let mut buzz: BuzzState = state(brand, Watch::Buzz, stored.as_ref());
        let open = stored.as_ref().and_then(|stored| stored.open.as_ref());
        let reopens = stored.as_ref().is_some_and(|stored| stored.last.is_some());
        let must_close = policy.reconcile(&mut buzz, first.plus(-1), open.is_some(), reopens);
        if let Some(incident) = open.filter(|_| must_close) {
            self.close_unwatched(incident, to_json(&buzz), pass).await?;
            return Ok(true);
        }
        // All minutes at once are of one model.
        let switch = pass.switches.at(first);
        let model = switch.map(|switch| switch.model.as_str());
        let last = pass.switches.after(first).map_or(last, |next| last.min(next.from.plus(-1)));
        let switch = switch.map(|switch| switch.from);
        let before = stored.as_ref().and_then(|stored| pass.switches.at(stored.evaluated));
        if before.map(|before| before.from) != switch && stored.is_some() {
            buzz = self.change_model((brand, policy), model, buzz, first).await?;
        }
        let mut beginning =
            self.beginning((brand, policy), model, &buzz, first, (last, closed)).await?;
        let mut known = self.baseline(brand).filter(|known| known.switch == switch);
        // A baseline is learned from the data before its hour, even if it is learned later. Until the next one, the
        // minutes that it was learned from are not read again.
        let hour = first.hour_start();
        let is_learned = known.as_ref().is_some_and(|known| known.hour == first.hour())
            && first.hour() == last.hour();
        let history = match is_learned {
            true => first.plus(-policy.needed_minutes(&buzz)),
            false => hour.plus(-policy.history_minutes()),
        };
        let season = hour.plus(-policy.season_minutes());
        let excluded = buzz.share.excluded();
        let counts = counts_of(&*self.store, model, brand, history, last).await?;
        let series = Series::new(history, last, &counts, &excluded);
        let baseline = known.as_ref().and_then(|known| known.baseline.as_ref());
        let rejudged = self
            .rejudge((brand, policy), (switch, model), &series, history, first, baseline)
            .await?;
        let came_late = rejudged.is_some() && open.is_none();
        buzz = rejudged.filter(|_| open.is_none()).unwrap_or(buzz);
        // All tweets are the same for every model.
        let all = match model {
            Some(_) if policy.volumes.iter().any(|v| v.counted == Volume::All) => {
                let counts = self.store.minute_counts(brand, history, last).await?;
                Some(Series::new(history, last, &counts, &[]))
            }
            _ => None,
        };
        let mut hours: Option<ByMinute> = None;
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
                let baseline = Baseline::learn(&policy.share, hours, &excluded, &series, start);
                known = Some(LearnedBaseline { hour, switch, baseline });
            }
            buzz.volumes.extend(beginning.remove(&minute).unwrap_or_default());
            let baseline = known.as_ref().and_then(|known| known.baseline.as_ref());
            let seen = Seen { counts: &series, all: all.as_ref().unwrap_or(&series), baseline };
            let (after, _, verdict) = policy.evaluate(seen, buzz, minute);
            buzz = after;
            let verdict = match came_late && minute == first {
                true => late::told(verdict, &mut buzz, minute, stored.as_ref()),
                false => verdict,
            };
            let Some(finding) = finding(brand, &verdict, buzz.course.as_ref(), minute) else {
                continue;
            };
            step = self.step(brand, minute, &finding, stored.as_ref(), pass, closed).await?;
            if step.is_some() {
                tracing::Span::current().record("transition", finding.transition.as_str());
                evaluated = minute;
                break;
            }
        }
        let decision = Decision {
            brand: brand.to_owned(),
            watch: Watch::Buzz,
            evaluated_before: stored.map(|stored| stored.evaluated),
            evaluated,
            state: to_json(&buzz),
            step,
        };
        self.decide(&decision).await?;
        self.remember(brand, switch, &series, history, evaluated, &buzz);
        // The baseline is valid for its hour, unless a step changed which minutes are left out.
        self.keep_baseline(brand, known.filter(|_| decision.step.is_none()));
        Ok(evaluated < closed)
    }

    /// The volume detectors that begin in `first..=last`, by the minute of their beginning, with what they
    /// have learned from the time before.
    async fn beginning(
        &self,
        (brand, policy): (&str, &BuzzPolicy),
        model: Option<&str>,
        buzz: &BuzzState,
        first: Minute,
        (last, closed): (Minute, Minute),
    ) -> Result<BTreeMap<Minute, Vec<(Cause, VolumeState)>>, StoreError> {
        let mut found: BTreeMap<Minute, Vec<(Cause, VolumeState)>> = BTreeMap::new();
        let start = first.max(closed.plus(-VOLUME_LOOK_BACK_MINUTES));
        if start > last {
            return Ok(found);
        }
        let season = policy.season_minutes();
        for policy in &policy.volumes {
            let cause = policy.counted.cause();
            if buzz.volumes.contains_key(&cause) {
                continue;
            }
            let model = model.filter(|_| policy.counted == Volume::Negative);
            let from = start.plus(-season);
            let counts = counts_of(&*self.store, model, brand, from, start.plus(-1)).await?;
            let policy = *policy;
            // Evaluates weeks of minutes, which takes a moment.
            let work = move || policy.learn(&counts, start.plus(-1));
            let learned =
                tokio::task::spawn_blocking(work).await.expect("the replay does not panic");
            found.entry(start).or_default().push((cause, learned));
        }
        Ok(found)
    }

    /// The first and last minute to evaluate now; `None` if there is none.
    async fn range(
        &self,
        brand: &str,
        stored: Option<&DetectorState>,
        closed: Minute,
    ) -> Result<Option<(Minute, Minute)>, StoreError> {
        let first = match stored {
            Some(stored) => stored.evaluated.plus(1).max(closed.plus(-LOOK_BACK_MINUTES_MAX)),
            None => match self.store.first_minute(brand).await? {
                Some(first) => first.max(closed.plus(-LOOK_BACK_MINUTES_MAX)),
                None => return Ok(None),
            },
        };
        let last = closed.min(first.plus(MINUTES_AT_ONCE - 1));
        Ok((first <= closed).then_some((first, last)))
    }

    /// The state with which the detectors go on at `minute` on the counts of another model; see
    /// [`SharePolicy::change_model`](monitor_core::alerting::SharePolicy::change_model).
    async fn change_model(
        &self,
        (brand, policy): (&str, &BuzzPolicy),
        model: Option<&str>,
        buzz: BuzzState,
        minute: Minute,
    ) -> Result<BuzzState, StoreError> {
        let season = policy.season_minutes();
        let hour = buzz.share.open().map_or(minute, |open| open.opened()).hour_start();
        let counts = counts_of(&*self.store, model, brand, hour.plus(-season), minute).await?;
        let hours = hours_of(&*self.store, model, brand, hour.plus(-season), hour).await?;
        let policy = policy.clone();
        // Evaluates weeks of minutes, which takes a moment.
        let work = move || change_model(&policy, buzz, &counts, &hours, hour, minute);
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

/// The detectors as if a model had scored all along: `counts` are its counts by minute before `minute`, `hours`
/// those by hour before `hour`, that of the open phase of the share.
fn change_model(
    policy: &BuzzPolicy,
    mut buzz: BuzzState,
    counts: &[(Minute, Counts)],
    hours: &[(Minute, Counts)],
    hour: Minute,
    minute: Minute,
) -> BuzzState {
    let (share, from) = (&policy.share, minute.plus(-policy.season_minutes()));
    let replayed: ShareState = replay(share, counts, minute.plus(-1));
    let excluded = replayed.excluded();
    let series = Series::new(hour.plus(-policy.history_minutes()), minute, counts, &excluded);
    let baseline = Baseline::learn(share, hours, &excluded, &series, hour);
    buzz.share = share.change_model(buzz.share, replayed, &series, baseline);
    // All tweets are the same for every model.
    let negative = policy.volumes.iter().find(|volume| volume.counted == Volume::Negative);
    if let Some(policy) = negative
        && let Some(volume) = buzz.volumes.get_mut(&Cause::NegativeVolume)
    {
        // As many counts as if no phase of the share were open.
        let known = counts.partition_point(|(at, _)| *at < from);
        *volume = policy.change_model(volume, &counts[known..], minute);
    }
    buzz
}

/// What there is to tell of a verdict; `None` if there is nothing.
fn finding(
    brand: &str,
    verdict: &BuzzVerdict,
    course: Option<&Course>,
    minute: Minute,
) -> Option<Finding> {
    let course = course?;
    let (transition, is_news) = match verdict {
        BuzzVerdict::Quiet => return None,
        BuzzVerdict::Open => (Transition::Opened, true),
        BuzzVerdict::Reopen => (Transition::Reopened, true),
        BuzzVerdict::Firing(news) => (Transition::Updated, !news.is_empty()),
        BuzzVerdict::Resolve(_) => (Transition::Resolved, true),
    };
    let evidence = course.leading()?.latest;
    let lasting = course.phases.iter().filter(|phase| phase.is_open());
    Some(Finding {
        transition,
        evidence,
        lasting: lasting.map(|phase: &Phase| phase.latest).collect(),
        phases: course.phases.clone(),
        is_news,
        reason: words::told(brand, verdict, course, minute),
    })
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
