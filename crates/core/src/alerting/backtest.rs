//! What the detectors would have said of a brand's past.
//!
//! **Invariant.** The past is evaluated minute by minute, by the calls that the daemon makes
//! (`pipeline/judge/brand.rs`) on the same stretches of counts, so the alerts are those it
//! would have raised at the same minutes, had every tweet come in time; a test in
//! `tests/it/backtest.rs` holds the two together. Deliberately absent: severity by reach,
//! silences, and the stream's own alerts, which go by the clock.

use std::collections::BTreeMap;

use super::{
    Baseline, QuietReason, ResolveReason, Series, SharePolicy, ShareState, ShareVerdict, VolumeEnd,
    VolumePolicy, VolumeState, VolumeVerdict,
};
use crate::domain::{Counts, Evidence, Interval, Minute};

/// A series is cut for so many minutes at a time: it is made anew after each incident, which
/// must not cost as much as the whole past.
const STRETCH_MINUTES: i64 = 2 * 1440;

/// What came of judging a brand's past.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backtest {
    /// The alerts that would have opened, by their minute.
    pub alerts: Vec<Alert>,
    /// All tweets of the minutes evaluated.
    pub tweets: Counts,
    /// Minutes evaluated.
    pub minutes: u64,
    /// Of these, minutes in which an incident about the share was open.
    pub minutes_open: u64,
    /// The others, by why the share did not alarm.
    pub minutes_quiet: BTreeMap<QuietReason, u64>,
    /// What was seen and expected, hour by hour; hours without tweets are among them.
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
    /// The minute at whose end it opened.
    pub opened: Minute,
    /// The minute at whose end it was resolved, and why; `None` where it was still open.
    pub resolved: Option<(Minute, ResolveReason)>,
    /// What it opened on.
    pub opening: Evidence,
    /// The minute in which it was largest ...
    pub worst_at: Minute,
    /// ... and what was known then.
    pub worst: Evidence,
}

/// An hour of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// Its first minute.
    pub start: Minute,
    /// Its tweets.
    pub counts: Counts,
    /// The share that was expected in it and where 95 of 100 normal days lie, where there was
    /// a baseline; while an incident is open, its frozen one.
    pub expected: Option<(f64, Interval)>,
}

/// Evaluates the minutes up to `to`, from the first of `counts` on, as a daemon that began there
/// would have; answers for `from..=to` only. `counts` is ascending; minutes not in it have
/// no tweets. For what is expected at `from` to be what a daemon of old age would expect, it
/// reaches [`SharePolicy::season_minutes`] further back.
pub fn backtest(
    policy: &SharePolicy,
    surge: Option<&VolumePolicy>,
    counts: &[(Minute, Counts)],
    from: Minute,
    to: Minute,
) -> Backtest {
    let Some((first, _)) = counts.first() else { return Backtest::default() };
    let mut found = shares(policy, counts, *first, from, to);
    found.tweets = between(counts, from, to).iter().fold(Counts::default(), |sum, (_, c)| sum + *c);
    if let Some(surge) = surge {
        found.alerts.extend(surges(surge, counts, *first, to));
    }
    found.alerts.retain(|alert| alert.opened >= from);
    found.alerts.sort_by_key(|alert| alert.opened);
    found
}

fn shares(
    policy: &SharePolicy,
    counts: &[(Minute, Counts)],
    first: Minute,
    from: Minute,
    to: Minute,
) -> Backtest {
    let mut found = Backtest::default();
    let hours = hourly(counts);
    let mut calm_hours = hours.clone();
    let mut excluded = Vec::new();
    let mut state = ShareState::default();
    let mut known: Option<(Minute, Option<Baseline>)> = None;
    let mut stretch: Option<(Minute, Series)> = None;
    for minute in (first.0..=to.0).map(Minute) {
        let hour = minute.hour_start();
        if stretch.as_ref().is_none_or(|(last, _)| *last < minute) {
            let last = to.min(minute.plus(STRETCH_MINUTES - 1));
            let history = hour.plus(-policy.history_minutes());
            let counts = between(counts, history, last);
            stretch = Some((last, Series::new(history, last, counts, &excluded)));
        }
        let (_, series) = stretch.as_ref().expect("it was made above");
        // What an open incident is measured against is frozen.
        if state.open().is_none() && known.as_ref().is_none_or(|(of, _)| *of != hour) {
            let hours = between(&calm_hours, hour.plus(-policy.season_minutes()), hour);
            known = Some((hour, Baseline::learn(policy, hours, &[], series, hour)));
        }
        let baseline = known.as_ref().and_then(|(_, baseline)| baseline.as_ref());
        if minute >= from && (minute == hour || found.hours.is_empty()) {
            let middle = hour.plus(30);
            found.hours.push(Hour {
                start: hour,
                counts: between(&hours, hour, hour).first().map_or(Counts::default(), |h| h.1),
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
                grow(&mut found.alerts, minute, Evidence::Share(evidence));
            }
            ShareVerdict::Resolve(_, why) => {
                resolve(&mut found.alerts, minute, why);
                let alert = found.alerts.last().expect("what is resolved was opened");
                let since = alert.opening.share().map_or(alert.opened, |opening| opening.since);
                let gone = policy.excluded(since, alert.opened, minute);
                calm_hours.retain(|(start, _)| gone.0 > start.plus(59) || *start > gone.1);
                excluded.push(gone);
                (known, stretch) = (None, None);
            }
        }
    }
    found
}

fn surges(
    policy: &VolumePolicy,
    counts: &[(Minute, Counts)],
    first: Minute,
    to: Minute,
) -> Vec<Alert> {
    let series = Series::new(first.plus(-policy.history_minutes()), to, counts, &[]);
    let mut alerts = Vec::new();
    let mut state = VolumeState::default();
    for minute in (first.0..=to.0).map(Minute) {
        let verdict;
        (state, verdict) = policy.evaluate(&series, state, minute);
        match verdict {
            VolumeVerdict::Wait | VolumeVerdict::Quiet(_) => {}
            VolumeVerdict::Open(evidence) => {
                alerts.push(Alert::new(minute, Evidence::Surge(evidence)));
            }
            VolumeVerdict::Firing(evidence) => {
                grow(&mut alerts, minute, Evidence::Surge(evidence));
            }
            VolumeVerdict::Resolve(_, end) => {
                let why = match end {
                    VolumeEnd::Calm => ResolveReason::Calm,
                    VolumeEnd::NewNormal => ResolveReason::NewNormal,
                };
                resolve(&mut alerts, minute, why);
            }
        }
    }
    alerts
}

impl Alert {
    fn new(opened: Minute, opening: Evidence) -> Self {
        Self { opened, resolved: None, opening, worst_at: opened, worst: opening }
    }
}

fn grow(alerts: &mut [Alert], minute: Minute, evidence: Evidence) {
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

/// What severity goes by.
fn size(evidence: &Evidence) -> f64 {
    match evidence {
        Evidence::Share(share) => share.observed_share() - share.expected_share,
        Evidence::Surge(surge) => surge.observed as f64 / surge.expected.max(1e-9),
        Evidence::Quiet(_) | Evidence::Lag(_) => 0.0,
    }
}

/// Counts by hour, each under its first minute.
fn hourly(counts: &[(Minute, Counts)]) -> Vec<(Minute, Counts)> {
    let same_hour =
        |a: &(Minute, Counts), b: &(Minute, Counts)| a.0.hour_start() == b.0.hour_start();
    let summed = |hour: &[(Minute, Counts)]| {
        (hour[0].0.hour_start(), hour.iter().fold(Counts::default(), |sum, (_, c)| sum + *c))
    };
    counts.chunk_by(same_hour).map(summed).collect()
}

/// Those of `from..=to`.
fn between(counts: &[(Minute, Counts)], from: Minute, to: Minute) -> &[(Minute, Counts)] {
    let start = counts.partition_point(|(minute, _)| *minute < from);
    let end = counts.partition_point(|(minute, _)| *minute <= to).max(start);
    &counts[start..end]
}

#[cfg(test)]
mod tests;
