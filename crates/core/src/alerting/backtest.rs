//! Evaluates a brand's past with the detectors.
//!
//! **Invariant.** The past is evaluated minute by minute, with the same calls as in the daemon
//! (`pipeline/evaluator/brand.rs`) and with counts of the same periods. The alerts are therefore
//! those that the daemon would have raised at the same minutes, if every tweet had been on time;
//! a test in `tests/it/backtest.rs` checks this. Deliberately absent: severity by reach,
//! silences, and alerts about the stream itself, which depend on the wall clock.

use std::collections::BTreeMap;

use super::buzz::{BuzzPolicy, BuzzState, BuzzVerdict, Seen};
use super::{
    Baseline, People, QuietReason, ResolveReason, Series, SharePolicy, ShareState, ShareVerdict,
    Thresholds, Volume, VolumeState,
};
use crate::domain::{Cause, Counts, Evidence, Interval, Minute, Phase, Severity};

/// Minutes that one series covers. A new series is made after each incident, and it must not
/// cost as much as a series of the whole past.
const SERIES_MINUTES: i64 = 2 * 1440;

/// The result of a backtest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backtest {
    /// The alerts that would have opened, or opened again, in order of time.
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

/// An alert that would have opened: an incident with all its phases.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The minute at whose end the alert opened.
    pub opened: Minute,
    /// The minute at whose end the alert resolved for the last time, and why; `None` if it was still
    /// open.
    pub resolved: Option<(Minute, ResolveReason)>,
    /// The evidence when it opened.
    pub opening: Evidence,
    /// Its highest severity.
    pub severity: Severity,
    /// Its phases, in the order in which they joined.
    pub phases: Vec<Phase>,
    /// From when to when it was open: it may have been resolved and have opened again.
    pub spans: Vec<(Minute, Option<Minute>)>,
}

impl Alert {
    /// The largest evidence of the view that it opened with.
    pub fn worst(&self) -> &Evidence {
        self.phases.first().map_or(&self.opening, |phase| &phase.peak)
    }
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
    policy: &BuzzPolicy,
    counts: &[(Minute, Counts)],
    from: Minute,
    to: Minute,
) -> Backtest {
    let stretch = Stretch { from: Minute(i64::MIN), counts };
    backtest_switched(policy, &[stretch], from, to)
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
    policy: &BuzzPolicy,
    stretches: &[Stretch],
    from: Minute,
    to: Minute,
) -> Backtest {
    let Some((first, _)) = stretches.first().and_then(|s| s.counts.first()) else {
        return Backtest::default();
    };
    let live = live_counts(stretches, to);
    let tweets = between(&live, from, to).iter().fold(Counts::default(), |sum, (_, c)| sum + *c);
    let mut found = Backtest { tweets, ..Backtest::default() };
    let mut run = Run::new(policy, stretches, &live, to);
    for minute in (first.0..=to.0).map(Minute) {
        run.step(minute, (minute >= from).then_some(&mut found));
    }
    found.alerts = run.alerts;
    found.alerts.retain(|alert| alert.spans.iter().any(|(opened, _)| *opened >= from));
    found
}

/// What the detector of the share remembers that has seen these counts up to and including `to`.
pub fn replay(policy: &SharePolicy, counts: &[(Minute, Counts)], to: Minute) -> ShareState {
    let Some((first, _)) = counts.first() else { return ShareState::default() };
    let thresholds = Thresholds::default();
    let policy = BuzzPolicy { share: *policy, volumes: Vec::new(), reopen_minutes: 0, thresholds };
    let stretch = [Stretch { from: Minute(i64::MIN), counts }];
    let mut run = Run::new(&policy, &stretch, counts, to);
    for minute in (first.0..=to.0).map(Minute) {
        run.step(minute, None);
    }
    run.state.share
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
}

impl<'a> Known<'a> {
    fn new(counts: &'a [(Minute, Counts)]) -> Self {
        Self { counts, hours: hourly(counts) }
    }

    fn series(
        &self,
        policy: &BuzzPolicy,
        hour: Minute,
        last: Minute,
        excluded: &[(Minute, Minute)],
    ) -> Series {
        let history = hour.plus(-policy.history_minutes());
        Series::new(history, last, between(self.counts, history, last), excluded)
    }

    fn baseline(
        &self,
        policy: &SharePolicy,
        excluded: &[(Minute, Minute)],
        series: &Series,
        hour: Minute,
    ) -> Option<Baseline> {
        let hours = between(&self.hours, hour.plus(-policy.season_minutes()), hour);
        Baseline::learn(policy, hours, excluded, series, hour)
    }
}

/// The evaluation of a brand's minutes, in order.
struct Run<'a> {
    policy: &'a BuzzPolicy,
    /// The models that take over later.
    later: &'a [Stretch<'a>],
    /// The counts of each minute by the model that scored it.
    live: &'a [(Minute, Counts)],
    to: Minute,
    model: Known<'a>,
    state: BuzzState,
    /// The baseline, with its hour.
    baseline: Option<(Minute, Option<Baseline>)>,
    /// The counts of the model in force and of all models, with the last minute that they cover.
    series: Option<(Minute, Series, Series)>,
    alerts: Vec<Alert>,
}

impl<'a> Run<'a> {
    fn new(
        policy: &'a BuzzPolicy,
        stretches: &'a [Stretch<'a>],
        live: &'a [(Minute, Counts)],
        to: Minute,
    ) -> Self {
        let causes = policy.volumes.iter().map(|volume| volume.counted.cause());
        let volumes = causes.map(|cause| (cause, VolumeState::default())).collect();
        Self {
            policy,
            later: &stretches[1..],
            live,
            to,
            model: Known::new(stretches[0].counts),
            state: BuzzState { volumes, ..BuzzState::default() },
            baseline: None,
            series: None,
            alerts: Vec::new(),
        }
    }

    /// Evaluates a minute, and adds what there is to report of it to `found`.
    fn step(&mut self, minute: Minute, found: Option<&mut Backtest>) {
        let hour = minute.hour_start();
        if let Some((next, later)) = self.later.split_first()
            && next.from <= minute
        {
            self.later = later;
            self.change_model(next, minute);
        }
        if self.series.as_ref().is_none_or(|(last, ..)| *last < minute) {
            let last = self.to.min(minute.plus(SERIES_MINUTES - 1));
            let excluded = self.state.share.excluded();
            let counts = self.model.series(self.policy, hour, last, &excluded);
            let from = hour.plus(-self.policy.history_minutes());
            let all = Series::new(from, last, between(self.live, from, last), &[]);
            self.series = Some((last, counts, all));
        }
        let (_, counts, all) = self.series.as_ref().expect("set above");
        // The baseline of an open incident is frozen.
        if self.state.share.open().is_none()
            && self.baseline.as_ref().is_none_or(|(of, _)| *of != hour)
        {
            let excluded = self.state.share.excluded();
            let baseline = self.model.baseline(&self.policy.share, &excluded, counts, hour);
            self.baseline = Some((hour, baseline));
        }
        let baseline = self.baseline.as_ref().and_then(|(_, baseline)| baseline.as_ref());
        let expected = baseline.map(|b| (b.expected(hour.plus(30)), b.interval(hour.plus(30))));
        let state = std::mem::take(&mut self.state);
        let seen = Seen { counts, all, baseline };
        let (after, share, verdict) = self.policy.evaluate(seen, state, minute);
        self.state = after;
        if let Some(found) = found {
            if minute == hour || found.hours.is_empty() {
                let counts = between(&self.model.hours, hour, hour);
                let counts = counts.first().map_or(Counts::default(), |hour| hour.1);
                found.hours.push(Hour { start: hour, counts, expected });
            }
            found.minutes += 1;
            match share {
                ShareVerdict::Quiet(reason) => *found.minutes_quiet.entry(reason).or_default() += 1,
                _ => found.minutes_open += 1,
            }
        }
        if let ShareVerdict::Resolve(..) = share {
            (self.baseline, self.series) = (None, None);
        }
        self.record(minute, &verdict);
    }

    fn record(&mut self, minute: Minute, verdict: &BuzzVerdict) {
        let Some(course) = &self.state.course else { return };
        match verdict {
            BuzzVerdict::Quiet => return,
            BuzzVerdict::Open => self.alerts.push(Alert {
                opened: minute,
                resolved: None,
                opening: course.phases[0].opening,
                severity: Severity::Notice,
                phases: Vec::new(),
                spans: vec![(minute, None)],
            }),
            BuzzVerdict::Reopen | BuzzVerdict::Firing(_) | BuzzVerdict::Resolve(_) => {}
        }
        let Some(alert) = self.alerts.last_mut() else { return };
        alert.phases.clone_from(&course.phases);
        alert.severity = alert.severity.max(self.policy.severity(course, People::default()));
        match verdict {
            BuzzVerdict::Reopen => {
                alert.resolved = None;
                alert.spans.push((minute, None));
            }
            BuzzVerdict::Resolve(why) => {
                alert.resolved = Some((minute, *why));
                if let Some((_, end)) = alert.spans.last_mut() {
                    *end = Some(minute);
                }
            }
            BuzzVerdict::Quiet | BuzzVerdict::Open | BuzzVerdict::Firing(_) => {}
        }
    }

    /// Goes on with the counts of another model, as the daemon does.
    fn change_model(&mut self, next: &'a Stretch<'a>, minute: Minute) {
        let policy = &self.policy.share;
        let replay = replay(policy, next.counts, minute.plus(-1));
        let excluded = replay.excluded();
        self.model = Known::new(next.counts);
        (self.baseline, self.series) = (None, None);
        let share = std::mem::take(&mut self.state.share);
        let opened = share.open().map_or(minute, |open| open.opened()).hour_start();
        let series = self.model.series(self.policy, opened, minute, &excluded);
        let baseline = self.model.baseline(policy, &excluded, &series, opened);
        self.state.share = policy.change_model(share, replay, &series, baseline);
        // All tweets are the same for every model.
        let negative = self.policy.volumes.iter().find(|v| v.counted == Volume::Negative);
        if let Some(policy) = negative
            && let Some(state) = self.state.volumes.get_mut(&Cause::NegativeVolume)
        {
            let first = minute.plus(-self.policy.season_minutes());
            let counts = between(next.counts, first, minute.plus(-1));
            *state = policy.change_model(state, counts, minute);
        }
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
#[cfg(test)]
mod zones;
