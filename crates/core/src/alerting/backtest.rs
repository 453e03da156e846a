//! Evaluates a brand's past with the detectors.
//!
//! **Invariant.** The past is evaluated minute by minute, with the same calls as in the daemon
//! (`pipeline/evaluator/brand.rs`) and with counts of the same periods. The alerts are therefore
//! those that the daemon would have raised at the same minutes, if every tweet had been on time;
//! a test in `tests/it/backtest.rs` checks this. Deliberately absent: severity by reach,
//! silences, and alerts about the stream itself, which depend on the wall clock.

use std::collections::BTreeMap;

use super::{
    Baseline, QuietReason, Replay, ResolveReason, Series, SharePolicy, ShareState, ShareVerdict,
    Volume, VolumeEnd, VolumePolicy, VolumeState, VolumeVerdict,
};
use crate::domain::{Counts, Evidence, Interval, Minute};

/// Minutes that one series covers. A new series is made after each incident, and it must not
/// cost as much as a series of the whole past.
const SERIES_MINUTES: i64 = 2 * 1440;

/// The result of a backtest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backtest {
    /// The alerts that would have opened, in order of time.
    pub alerts: Vec<Alert>,
    /// All tweets of the evaluated minutes.
    pub tweets: Counts,
    /// Number of evaluated minutes.
    pub minutes: u64,
    /// Evaluated minutes in which an incident about the share was open.
    pub minutes_open: u64,
    /// The other evaluated minutes, by the reason why the share did not alarm.
    pub minutes_quiet: BTreeMap<QuietReason, u64>,
    /// Observed and expected shares of each hour, including hours without tweets.
    pub hours: Vec<Hour>,
}

impl Backtest {
    /// Minutes in which an alert about the share was possible.
    pub fn minutes_watched(&self) -> u64 {
        self.minutes - self.minutes_quiet.get(&QuietReason::NoBaseline).unwrap_or(&0)
    }
}

/// An alert that would have opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alert {
    /// The minute at whose end the alert opened.
    pub opened: Minute,
    /// The minute at whose end the alert resolved, and why; `None` if it was still open.
    pub resolved: Option<(Minute, ResolveReason)>,
    /// The evidence when it opened.
    pub opening: Evidence,
    /// The minute in which the rise was largest.
    pub worst_at: Minute,
    /// The evidence of that minute.
    pub worst: Evidence,
}

/// An hour of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// The hour's first minute.
    pub start: Minute,
    /// The hour's tweets.
    pub counts: Counts,
    /// The expected share, and the interval of the share on 95 of 100 normal days; `None` without
    /// a baseline. While an incident is open, they come from its frozen baseline.
    pub expected: Option<(f64, Interval)>,
}

/// Evaluates the minutes from the first of `counts` to `to`, as a daemon that started there would
/// have done, and returns the results of `from..=to`. `counts` is in ascending order; missing
/// minutes have no tweets. If `counts` starts [`SharePolicy::season_minutes`] before `from`, the
/// expected share at `from` is that of a daemon that has run for long.
pub fn backtest(
    policy: &SharePolicy,
    volumes: &[VolumePolicy],
    counts: &[(Minute, Counts)],
    from: Minute,
    to: Minute,
) -> Backtest {
    let stretch = Stretch { from: Minute(i64::MIN), counts };
    backtest_switched(policy, volumes, &[stretch], from, to)
}

/// One model's counts of a brand, and the minute from which that model scored the stream.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The first minute that is evaluated on these counts.
    pub from: Minute,
    /// The model's counts, in ascending order, also of the time before `from`, which the model
    /// was given to score again.
    pub counts: &'a [(Minute, Counts)],
}

/// As [`backtest`], of a stream that several models scored one after the other. `stretches` is in
/// ascending order; the first one begins at or before the first minute of its counts.
pub fn backtest_switched(
    policy: &SharePolicy,
    volumes: &[VolumePolicy],
    stretches: &[Stretch],
    from: Minute,
    to: Minute,
) -> Backtest {
    let Some((first, _)) = stretches.first().and_then(|s| s.counts.first()) else {
        return Backtest::default();
    };
    let live = live_counts(stretches, to);
    let (mut found, _) = shares(policy, stretches, *first, from, to);
    found.tweets = between(&live, from, to).iter().fold(Counts::default(), |sum, (_, c)| sum + *c);
    for volume in volumes {
        let all = [Stretch { from: *first, counts: &live }];
        // All tweets are the same for every model.
        let stretches = if volume.counted == Volume::All { &all[..] } else { stretches };
        found.alerts.extend(surges(volume, stretches, *first, to));
    }
    found.alerts.retain(|alert| alert.opened >= from);
    found.alerts.sort_by_key(|alert| alert.opened);
    found
}

/// What a detector remembers that has seen these counts up to and including `to`.
pub fn replay(policy: &SharePolicy, counts: &[(Minute, Counts)], to: Minute) -> Replay {
    let Some((first, _)) = counts.first() else { return Replay::default() };
    let stretch = Stretch { from: Minute(i64::MIN), counts };
    shares(policy, &[stretch], *first, to.plus(1), to).1
}

/// The counts of each minute by the model that scored it.
fn live_counts(stretches: &[Stretch], to: Minute) -> Vec<(Minute, Counts)> {
    let ends = stretches.iter().skip(1).map(|next| next.from.plus(-1)).chain([to]);
    stretches
        .iter()
        .zip(ends)
        .flat_map(|(s, end)| between(s.counts, s.from, end))
        .copied()
        .collect()
}

/// A model's counts by minute and hour.
struct Known<'a> {
    counts: &'a [(Minute, Counts)],
    hours: Vec<(Minute, Counts)>,
    /// The hours that overlap no past incident.
    calm_hours: Vec<(Minute, Counts)>,
}

impl<'a> Known<'a> {
    fn new(counts: &'a [(Minute, Counts)], excluded: &[(Minute, Minute)]) -> Self {
        let hours = hourly(counts);
        let mut known = Self { counts, calm_hours: hours.clone(), hours };
        excluded.iter().for_each(|period| known.exclude(*period));
        known
    }

    fn exclude(&mut self, (from, to): (Minute, Minute)) {
        self.calm_hours.retain(|(start, _)| from > start.plus(59) || *start > to);
    }

    fn series(
        &self,
        policy: &SharePolicy,
        hour: Minute,
        last: Minute,
        excluded: &[(Minute, Minute)],
    ) -> Series {
        let history = hour.plus(-policy.history_minutes());
        Series::new(history, last, between(self.counts, history, last), excluded)
    }

    fn baseline(&self, policy: &SharePolicy, series: &Series, hour: Minute) -> Option<Baseline> {
        let hours = between(&self.calm_hours, hour.plus(-policy.season_minutes()), hour);
        Baseline::learn(policy, hours, &[], series, hour)
    }
}

fn shares(
    policy: &SharePolicy,
    stretches: &[Stretch],
    first: Minute,
    from: Minute,
    to: Minute,
) -> (Backtest, Replay) {
    let mut found = Backtest::default();
    let mut excluded = Vec::new();
    let mut model = Known::new(stretches[0].counts, &excluded);
    let mut later = stretches[1..].iter().peekable();
    let mut state = ShareState::default();
    let mut known: Option<(Minute, Option<Baseline>)> = None;
    let mut current: Option<(Minute, Series)> = None;
    for minute in (first.0..=to.0).map(Minute) {
        let hour = minute.hour_start();
        if let Some(next) = later.next_if(|next| next.from <= minute) {
            let replay = replay(policy, next.counts, minute.plus(-1));
            excluded.clone_from(&replay.excluded);
            model = Known::new(next.counts, &excluded);
            (known, current) = (None, None);
            let opened = state.open().map_or(minute, |open| open.opened()).hour_start();
            let series = model.series(policy, opened, minute, &excluded);
            let baseline = model.baseline(policy, &series, opened);
            state = policy.change_model(state, replay, minute, &series, baseline);
        }
        if current.as_ref().is_none_or(|(last, _)| *last < minute) {
            let last = to.min(minute.plus(SERIES_MINUTES - 1));
            current = Some((last, model.series(policy, hour, last, &excluded)));
        }
        let (_, series) = current.as_ref().expect("set above");
        // The baseline of an open incident is frozen.
        if state.open().is_none() && known.as_ref().is_none_or(|(of, _)| *of != hour) {
            known = Some((hour, model.baseline(policy, series, hour)));
        }
        let baseline = known.as_ref().and_then(|(_, baseline)| baseline.as_ref());
        if minute >= from && (minute == hour || found.hours.is_empty()) {
            let middle = hour.plus(30);
            found.hours.push(Hour {
                start: hour,
                counts: between(&model.hours, hour, hour)
                    .first()
                    .map_or(Counts::default(), |h| h.1),
                expected: baseline.map(|b| (b.expected(middle), b.interval(middle))),
            });
        }
        let (after, verdict) = policy.evaluate(series, baseline, &state, minute);
        state = after;
        if minute >= from {
            found.minutes += 1;
            match verdict {
                ShareVerdict::Quiet(reason) => *found.minutes_quiet.entry(reason).or_default() += 1,
                _ => found.minutes_open += 1,
            }
        }
        match verdict {
            ShareVerdict::Quiet(_) => {}
            ShareVerdict::Open(evidence) => {
                found.alerts.push(Alert::new(minute, Evidence::Share(evidence)));
            }
            ShareVerdict::Firing(evidence, _) => {
                update_worst(&mut found.alerts, minute, Evidence::Share(evidence));
            }
            ShareVerdict::Resolve(_, why) => {
                resolve(&mut found.alerts, minute, why);
                let alert = found.alerts.last().expect("only an open alert resolves");
                let since = alert.opening.share().map_or(alert.opened, |opening| opening.since);
                let period = policy.excluded(since, alert.opened, minute);
                model.exclude(period);
                excluded.push(period);
                (known, current) = (None, None);
            }
        }
    }
    (found, Replay { state, excluded })
}

fn surges(policy: &VolumePolicy, stretches: &[Stretch], first: Minute, to: Minute) -> Vec<Alert> {
    let (mut alerts, mut state) = (Vec::new(), VolumeState::default());
    let ends = stretches.iter().skip(1).map(|next| next.from.plus(-1).min(to)).chain([to]);
    let mut start = first;
    for (at, (stretch, end)) in stretches.iter().zip(ends).enumerate() {
        if at > 0 && start <= end {
            state = policy.change_model(&state, between(stretch.counts, first, end), start);
        }
        surges_of(policy, stretch.counts, start, end, &mut state, &mut alerts);
        start = start.max(end.plus(1));
    }
    alerts
}

/// Evaluates the minutes `first..=to` on the counts of one model.
fn surges_of(
    policy: &VolumePolicy,
    counts: &[(Minute, Counts)],
    first: Minute,
    to: Minute,
    state: &mut VolumeState,
    alerts: &mut Vec<Alert>,
) {
    let counted = policy.counted;
    let series = Series::new(first.plus(-policy.history_minutes()), to, counts, &[]);
    for minute in (first.0..=to.0).map(Minute) {
        let verdict;
        (*state, verdict) = policy.evaluate(&series, std::mem::take(state), minute);
        match verdict {
            VolumeVerdict::Wait | VolumeVerdict::Quiet(_) => {}
            VolumeVerdict::Open(evidence) => {
                alerts.push(Alert::new(minute, counted.evidence(evidence)));
            }
            VolumeVerdict::Firing(evidence) => {
                update_worst(alerts, minute, counted.evidence(evidence));
            }
            VolumeVerdict::Resolve(_, end) => {
                let why = match end {
                    VolumeEnd::Calm => ResolveReason::Calm,
                    VolumeEnd::NewNormal => ResolveReason::NewNormal,
                };
                resolve(alerts, minute, why);
            }
        }
    }
}

impl Alert {
    fn new(opened: Minute, opening: Evidence) -> Self {
        Self { opened, resolved: None, opening, worst_at: opened, worst: opening }
    }
}

fn update_worst(alerts: &mut [Alert], minute: Minute, evidence: Evidence) {
    if let Some(alert) = alerts.last_mut()
        && size(&evidence) > size(&alert.worst)
    {
        (alert.worst_at, alert.worst) = (minute, evidence);
    }
}

fn resolve(alerts: &mut [Alert], minute: Minute, why: ResolveReason) {
    if let Some(alert) = alerts.last_mut() {
        alert.resolved = Some((minute, why));
    }
}

/// The size of the rise, on which the severity depends.
fn size(evidence: &Evidence) -> f64 {
    match evidence {
        Evidence::Share(share) => share.observed_share() - share.expected_share,
        Evidence::NegativeVolume(volume) | Evidence::Surge(volume) => volume.times(),
        Evidence::Quiet(_) | Evidence::Lag(_) => 0.0,
    }
}

/// Counts by hour, with the first minute of each hour.
fn hourly(counts: &[(Minute, Counts)]) -> Vec<(Minute, Counts)> {
    let same_hour =
        |a: &(Minute, Counts), b: &(Minute, Counts)| a.0.hour_start() == b.0.hour_start();
    let summed = |hour: &[(Minute, Counts)]| {
        (hour[0].0.hour_start(), hour.iter().fold(Counts::default(), |sum, (_, c)| sum + *c))
    };
    counts.chunk_by(same_hour).map(summed).collect()
}

/// The counts of `from..=to`.
fn between(counts: &[(Minute, Counts)], from: Minute, to: Minute) -> &[(Minute, Counts)] {
    let start = counts.partition_point(|(minute, _)| *minute < from);
    let end = counts.partition_point(|(minute, _)| *minute <= to).max(start);
    &counts[start..end]
}

#[cfg(test)]
mod tests;
