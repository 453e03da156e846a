//! Evaluates what people say about a brand: its share of negative tweets and its volumes are views of
//! one thing.
//!
//! Each view has a detector of its own ([`SharePolicy`], [`VolumePolicy`]). What they find at the same
//! time, or one shortly after the other, is one incident: each view is a [`Phase`] of it. The incident opens
//! with the first phase, and is resolved when the last one has ended. If a view alarms again within
//! [`BuzzPolicy::reopen_minutes`], the same incident re-opens; later it is a new one. A phase that
//! comes back goes on as the same phase.
//!
//! **Invariant.** A verdict depends only on the counts, the state and the minute. A minute has one
//! verdict for all views together, so one step at most. The state holds everything that detectors
//! remember. A phase lasts exactly while its detector has an incident open.
//! Deliberately absent: wording, and incidents of the stream itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Baseline, People, Series, SharePolicy, ShareRule, ShareState, ShareVerdict, Thresholds,
    VolumePolicy, VolumeState, VolumeVerdict, severity,
};
use crate::domain::{Cause, Evidence, Minute, Phase, ResolveReason, Severity, Zone};

/// When a brand has an incident.
#[derive(Debug, Clone, PartialEq)]
pub struct BuzzPolicy {
    /// When its share of negative tweets is a phase of one.
    pub share: SharePolicy,
    /// When its volumes are; at most one policy for each cause.
    pub volumes: Vec<VolumePolicy>,
    /// How long after its end an incident re-opens instead of a new one opening, in minutes.
    pub reopen_minutes: u32,
    /// How severe it is.
    pub thresholds: Thresholds,
}

/// What the detectors of a brand remember between two minutes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuzzState {
    /// The detector of the share.
    pub share: ShareState,
    /// The detectors of the volumes. One without a state is not evaluated: it has to learn first.
    pub volumes: BTreeMap<Cause, VolumeState>,
    /// The latest incident.
    pub course: Option<Course>,
}

/// The course of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The minute at whose end it opened.
    pub opened: Minute,
    /// The minute at whose end it was resolved; `None` while it is open.
    pub resolved: Option<Minute>,
    /// Its phases, in the order in which they joined; one for each cause at most.
    pub phases: Vec<Phase>,
}

/// What is evaluated of a minute.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The counts, by the model in force; starts [`BuzzPolicy::history_minutes`] before the minute.
    pub counts: &'a Series,
    /// The counts of all models together, for the volume of all tweets; the same start.
    pub all: &'a Series,
    /// The baseline of the hour, if there is one.
    pub baseline: Option<&'a Baseline>,
}

/// What one view says of a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ViewVerdict {
    /// Nothing, or nothing new.
    Quiet,
    /// A phase begins.
    Open(Evidence),
    /// The phase goes on.
    Firing(Evidence),
    /// The phase ends.
    Resolve(Evidence, ResolveReason),
}

/// What to do about a brand in a minute.
#[derive(Debug, Clone, PartialEq)]
pub enum BuzzVerdict {
    /// Nothing.
    Quiet,
    /// An incident opens.
    Open,
    /// The last incident opens again.
    Reopen,
    /// The open incident goes on.
    Firing(News),
    /// The open incident is resolved.
    Resolve(ResolveReason),
}

/// What is new about an open incident.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The phases that have joined.
    pub joined: Vec<Cause>,
    /// The phases that have come back.
    pub relapsed: Vec<Cause>,
    /// The phases that have ended.
    pub ended: Vec<Cause>,
}

impl News {
    /// Whether nothing is new.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.relapsed.is_empty() && self.ended.is_empty()
    }
}

impl Course {
    fn new(opened: Minute) -> Self {
        Self { opened, resolved: None, phases: Vec::new() }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.resolved.is_none()
    }

    /// The phase of a cause.
    pub fn phase(&self, cause: Cause) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.cause() == cause)
    }

    /// The phase that speaks for the incident: the first one that lasts, else the one that ended last.
    pub fn leading(&self) -> Option<&Phase> {
        let open = self.phases.iter().find(|phase| phase.is_open());
        // Of several that ended in the same minute, the first.
        open.or_else(|| self.phases.iter().rev().max_by_key(|phase| phase.ended))
    }

    /// Whether what alarms at `minute` belongs to it.
    fn takes(&self, minute: Minute, reopen_minutes: u32) -> bool {
        self.resolved.is_none_or(|end| minute.0 - end.0 <= i64::from(reopen_minutes))
    }

    fn has_open_phase(&self) -> bool {
        self.phases.iter().any(Phase::is_open)
    }

    /// How it ends: as a new normal if a view has stayed there.
    fn end(&self) -> ResolveReason {
        let stayed = |phase: &Phase| phase.ended_as == Some(ResolveReason::NewNormal);
        match self.phases.iter().any(stayed) {
            true => ResolveReason::NewNormal,
            false => ResolveReason::Calm,
        }
    }
}

/// Takes in what the views say of a minute.
fn advance(
    course: &mut Option<Course>,
    minute: Minute,
    reopen_minutes: u32,
    views: &[(Cause, ViewVerdict)],
) -> BuzzVerdict {
    let was_open = course.as_ref().is_some_and(Course::is_open);
    let mut is_new = false;
    let mut news = News::default();
    for (cause, verdict) in views {
        let phase = course
            .as_mut()
            .and_then(|course| course.phases.iter_mut().find(|phase| phase.cause() == *cause));
        match (*verdict, phase) {
            (ViewVerdict::Quiet, _) => {}
            (ViewVerdict::Open(evidence), _) => {
                let known = course.take().filter(|course| course.takes(minute, reopen_minutes));
                is_new |= known.is_none();
                let mut taken = known.unwrap_or_else(|| Course::new(minute));
                match taken.phases.iter_mut().find(|phase| phase.cause() == *cause) {
                    Some(phase) => {
                        phase.see(minute, evidence);
                        (phase.ended, phase.ended_as) = (None, None);
                        phase.relapses += 1;
                        news.relapsed.push(*cause);
                    }
                    None => {
                        taken.phases.push(Phase::new(minute, evidence));
                        news.joined.push(*cause);
                    }
                }
                *course = Some(taken);
            }
            (ViewVerdict::Firing(evidence), Some(phase)) => phase.see(minute, evidence),
            (ViewVerdict::Resolve(evidence, why), Some(phase)) => {
                phase.latest = evidence;
                (phase.ended, phase.ended_as) = (Some(minute), Some(why));
                news.ended.push(*cause);
            }
            (ViewVerdict::Firing(_) | ViewVerdict::Resolve(..), None) => {
                unreachable!("a phase lasts exactly while its detector has an incident open")
            }
        }
    }
    let Some(course) = course else { return BuzzVerdict::Quiet };
    match (was_open, course.has_open_phase()) {
        (false, false) => BuzzVerdict::Quiet,
        (false, true) if is_new => BuzzVerdict::Open,
        (false, true) => {
            course.resolved = None;
            BuzzVerdict::Reopen
        }
        (true, true) => BuzzVerdict::Firing(news),
        (true, false) => {
            course.resolved = Some(minute);
            BuzzVerdict::Resolve(course.end())
        }
    }
}

impl BuzzPolicy {
    /// The same policy with seasons in this time zone.
    #[must_use]
    pub fn in_zone(mut self, zone: Zone) -> Self {
        self.share.zone = zone;
        for volume in &mut self.volumes {
            volume.zone = zone;
        }
        self
    }

    /// The same policy with a budget of incidents that chance may open in 30 days, over all its causes together: each has an
    /// equal part. A rule of the share that keeps no budget takes none.
    #[must_use]
    pub fn with_budget(mut self, false_alarms_per_month: f64) -> Self {
        let share = match &mut self.share.rule {
            ShareRule::EDetector { false_alarms_per_month } => Some(false_alarms_per_month),
            ShareRule::ShareAbove { .. } | ShareRule::TimesPrevious { .. } => None,
        };
        let causes = usize::from(share.is_some()) + self.volumes.len();
        let part = false_alarms_per_month / causes as f64;
        if let Some(of) = share {
            *of = part;
        }
        for volume in &mut self.volumes {
            volume.false_alarms_per_month = part;
        }
        self
    }

    /// How many minutes before an evaluated minute the [`Series`] must start; enough for
    /// [`Baseline::learn`] too.
    pub fn history_minutes(&self) -> i64 {
        self.evaluation_minutes().max(self.share.history_minutes())
    }

    /// How many minutes before an evaluated minute the [`Series`] must start if its baseline is known.
    pub fn evaluation_minutes(&self) -> i64 {
        let volumes = self.volumes.iter().map(VolumePolicy::history_minutes);
        volumes.fold(self.share.evaluation_minutes(), i64::max)
    }

    /// The same if evaluation stops where an incident opens: less while none is open.
    pub fn needed_minutes(&self, state: &BuzzState) -> i64 {
        let is_open = state.share.open().is_some()
            || state.volumes.values().any(|volume| volume.opened().is_some());
        if is_open { self.evaluation_minutes() } else { self.share.calm_minutes() }
    }

    /// How many minutes before a minute the counts start that detectors learn from.
    pub fn season_minutes(&self) -> i64 {
        self.share.season_minutes()
    }

    /// The severity of what lasts of an incident.
    pub fn severity(&self, course: &Course, people: People) -> Severity {
        let open = course.phases.iter().filter(|phase| phase.is_open());
        let severities = open.map(|phase| severity(&phase.latest, people, &self.thresholds));
        severities.max().unwrap_or(Severity::Notice)
    }

    /// Evaluates `minute` at its end. The caller passes each minute of a brand once, in order.
    pub fn evaluate(
        &self,
        seen: Seen,
        state: BuzzState,
        minute: Minute,
    ) -> (BuzzState, ShareVerdict, BuzzVerdict) {
        let BuzzState { share, mut volumes, mut course } = state;
        let (share, verdict) = self.share.evaluate(seen.counts, seen.baseline, &share, minute);
        let mut views = vec![(Cause::Share, ViewVerdict::from(&verdict))];
        for policy in &self.volumes {
            let cause = policy.counted.cause();
            let Some(volume) = volumes.get_mut(&cause) else { continue };
            let series = if cause == Cause::Surge { seen.all } else { seen.counts };
            let (after, verdict) = policy.evaluate(series, std::mem::take(volume), minute);
            *volume = after;
            views.push((cause, ViewVerdict::of(policy, verdict)));
        }
        let found = advance(&mut course, minute, self.reopen_minutes, &views);
        (BuzzState { share, volumes, course }, verdict, found)
    }

    /// Makes the detectors agree with the incident that is stored, after the settings or something
    /// stored has changed: `open` says whether one is open, `reopens` whether the last one is stored.
    /// Detectors that are no longer wanted are forgotten, and so are calm ones that have learned in another time zone: they
    /// learn again from the counts of the past. Returns whether the stored incident
    /// has no phase left and must be closed.
    pub fn reconcile(
        &self,
        state: &mut BuzzState,
        minute: Minute,
        open: bool,
        reopens: bool,
    ) -> bool {
        let is_stored = |course: &Course| if course.is_open() { open } else { reopens };
        state.course = state.course.take().filter(is_stored);
        let course = state.course.as_mut().filter(|course| course.is_open());
        let mut lasting = Vec::new();
        if let Some(course) = course {
            for phase in course.phases.iter_mut().filter(|phase| phase.is_open()) {
                let lasts = match phase.cause() {
                    Cause::Share => state.share.open().is_some(),
                    cause => {
                        self.volumes.iter().any(|policy| policy.counted.cause() == cause)
                            && state.volumes.get(&cause).is_some_and(|v| v.opened().is_some())
                    }
                };
                match lasts {
                    true => lasting.push(phase.cause()),
                    false => phase.ended = Some(minute),
                }
            }
            if lasting.is_empty() {
                course.resolved = Some(minute);
            }
        }
        if !lasting.contains(&Cause::Share) {
            state.share = std::mem::take(&mut state.share).closed();
        }
        for (cause, volume) in &mut state.volumes {
            if !lasting.contains(cause) {
                *volume = std::mem::take(volume).closed();
            }
        }
        state.volumes.retain(|cause, volume| {
            let policy = self.volumes.iter().find(|policy| policy.counted.cause() == *cause);
            policy.is_some_and(|policy| volume.fits(policy.zone))
        });
        open && lasting.is_empty()
    }
}

impl ViewVerdict {
    fn of(policy: &VolumePolicy, verdict: VolumeVerdict) -> Self {
        let of = |evidence| policy.counted.evidence(evidence);
        match verdict {
            VolumeVerdict::Wait | VolumeVerdict::Quiet(_) => Self::Quiet,
            VolumeVerdict::Open(evidence) => Self::Open(of(evidence)),
            VolumeVerdict::Firing(evidence) => Self::Firing(of(evidence)),
            VolumeVerdict::Resolve(evidence, why) => Self::Resolve(of(evidence), why),
        }
    }
}

impl From<&ShareVerdict> for ViewVerdict {
    fn from(verdict: &ShareVerdict) -> Self {
        match verdict {
            ShareVerdict::Quiet(_) => Self::Quiet,
            ShareVerdict::Open(evidence) => Self::Open(Evidence::Share(*evidence)),
            ShareVerdict::Firing(evidence, _) => Self::Firing(Evidence::Share(*evidence)),
            ShareVerdict::Resolve(evidence, why) => Self::Resolve(Evidence::Share(*evidence), *why),
        }
    }
}
