//! When a model is trained again: by the schedule of the settings, or because tweets have drifted.
//!
//! **Invariant.** A pure decision. For one reason and time there is one retraining, whichever daemon
//! asks, because the store refuses a second one. Deliberately absent: training
//! (`monitor retrain --scheduled`) and starting it (`pipeline`).

use chrono::{DateTime, TimeDelta, Utc};
use monitor_config::Schedule;
use monitor_store::{RetrainReason, Retraining};

/// After a retraining, drift is no reason for another one in this time: the reference still has the
/// days before the drift.
const DRIFT_REST_DAYS: i64 = 7;

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Go on with one that was interrupted.
    Resume(Retraining),
    /// Begin one, which was due at this time.
    Begin(RetrainReason, DateTime<Utc>),
    /// Nothing is due.
    Nothing,
}

/// Decides from the latest retrainings, newest first. `since` is when this daemon began to look: without
/// any scheduled retraining before, the schedule counts from there. `drifted` is the end of the last
/// whole day if it has drifted and that is a reason.
pub fn next(
    known: &[Retraining],
    schedule: Option<&Schedule>,
    drifted: Option<DateTime<Utc>>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Next {
    let mut ours = known.iter().filter(|it| it.reason != RetrainReason::Request);
    if let Some(open) = ours.clone().find(|it| it.ended.is_none()) {
        return Next::Resume(open.clone());
    }
    let last = ours.clone().find(|it| it.reason == RetrainReason::Schedule);
    let after = last.map_or(since, |it| it.due_at);
    if let Some(due) = schedule.and_then(|schedule| schedule.latest(after, now)) {
        return Next::Begin(RetrainReason::Schedule, due);
    }
    let rested = |day: &DateTime<Utc>| {
        let from = *day - TimeDelta::days(DRIFT_REST_DAYS);
        ours.all(|it| it.due_at <= from)
    };
    drifted.filter(rested).map_or(Next::Nothing, |day| Next::Begin(RetrainReason::Drift, day))
}

#[cfg(test)]
mod tests {
    use monitor_store::RetrainOutcome;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn decides_what_is_due() {
        use RetrainReason::{Drift, Request, Schedule as Scheduled};
        let schedule = Schedule::parse("0 3 * * 0", "UTC").unwrap();
        let (sunday, before) = (at("2026-03-08T03:00:00Z"), at("2026-03-01T03:00:00Z"));
        let row = |id, reason, due_at: DateTime<Utc>, is_over: bool| Retraining {
            id,
            reason,
            due_at,
            started_at: due_at,
            attempts: 1,
            model: None,
            ended: is_over.then_some((RetrainOutcome::Kept, due_at)),
            note: String::new(),
        };
        let (since, now) = (at("2026-03-05T00:00:00Z"), at("2026-03-08T04:00:00Z"));
        let begin = |reason, due| Next::Begin(reason, due);
        let check = |name: &str, known: &[Retraining], scheduled, drifted, now, expected| {
            let schedule = Some(&schedule).filter(|_| scheduled);
            assert_eq!(next(known, schedule, drifted, since, now), expected, "{name}");
        };
        let none = |name, known: &[Retraining], drifted, now| {
            check(name, known, true, drifted, now, Next::Nothing);
        };
        none("nothing is due", &[], None, at("2026-03-07T00:00:00Z"));
        check("the schedule", &[], true, None, now, begin(Scheduled, sunday));
        none("it was done", &[row(1, Scheduled, sunday, true)], None, now);
        let earlier = [row(1, Scheduled, before, true)];
        let missed = at("2026-03-04T00:00:00Z");
        check("missed while no daemon ran", &earlier, true, None, now, begin(Scheduled, sunday));
        none("before it", &earlier, None, missed);
        let open = row(2, Drift, before, false);
        let interrupted = std::slice::from_ref(&open);
        check("one was interrupted", interrupted, true, None, now, Next::Resume(open.clone()));
        let by_hand = [row(3, Request, before, false)];
        check("another one by hand", &by_hand, true, None, now, begin(Scheduled, sunday));
        let ended = at("2026-03-08T00:00:00Z");
        let day = Some(ended);
        check("drift", &[], false, day, now, begin(Drift, ended));
        check("no drift", &[], false, None, now, Next::Nothing);
        let recent = [row(1, Drift, at("2026-03-02T00:00:00Z"), true)];
        check("drift soon after", &recent, false, day, now, Next::Nothing);
        let old = [row(1, Scheduled, at("2026-03-01T00:00:00Z"), true)];
        check("drift a week after", &old, false, day, now, begin(Drift, ended));
    }
}
