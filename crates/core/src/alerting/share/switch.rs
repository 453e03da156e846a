//! Carries a brand's detector over to the counts of another model.
//!
//! **Invariant.** After the switch the detector decides as if the new model had scored the stream
//! all along: its evidence, and the periods that its baselines leave out, are those of the new
//! model's own counts of the time before. An incident that is open stays the same incident; what
//! it is compared with is learned from the new model's counts. A rise that only the new model has
//! seen opens nothing at the switch: its evidence is gathered anew.

use serde::{Deserialize, Serialize};

use crate::alerting::Series;
use crate::domain::Minute;

use super::evaluate::Expectation;
use super::{Baseline, SharePolicy, ShareState};

/// What a model makes of the time before it took over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    /// The first minute of the model.
    until: i64,
    /// First and last minute of the periods before that which baselines leave out.
    excluded: Vec<(i64, i64)>,
}

/// What a detector remembers that has seen only the counts of one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replay {
    /// Its state.
    pub state: ShareState,
    /// The periods that its baselines leave out; see [`SharePolicy::excluded`].
    pub excluded: Vec<(Minute, Minute)>,
}

impl ShareState {
    /// The periods that baselines leave out, given those of the brand's resolved incidents, each
    /// with the minute in which it was resolved. Of the time before a switch, only those count
    /// that the model of now would have found.
    pub fn excluded(
        &self,
        incidents: impl Iterator<Item = (Minute, (Minute, Minute))>,
    ) -> Vec<(Minute, Minute)> {
        let Some(past) = &self.past else { return incidents.map(|(_, period)| period).collect() };
        let later = incidents.filter(|(resolved, _)| resolved.0 >= past.until);
        let before = past.excluded.iter().map(|(from, to)| (Minute(*from), Minute(*to)));
        before.chain(later.map(|(_, period)| period)).collect()
    }
}

impl SharePolicy {
    /// The state with which another model goes on at `minute`, its first one. `replay` is what its
    /// own counts of the minutes before give.
    ///
    /// `series` has the new model's counts and starts [`SharePolicy::history_minutes`] before the
    /// hour in which the open incident of `old`, if any, opened. `baseline` was learned from them
    /// as of that hour; without one, the old baseline stays.
    pub fn change_model(
        &self,
        old: ShareState,
        replay: Replay,
        minute: Minute,
        series: &Series,
        baseline: Option<Baseline>,
    ) -> ShareState {
        let periods = replay.excluded.iter();
        let excluded = periods.map(|(from, to)| (from.0, to.0)).collect();
        let mut state = match (old.open, replay.state) {
            (None, ShareState { open: Some(_), .. }) => ShareState::default(),
            (None, new) => new,
            (Some(mut open), new) => {
                match (&mut open.expectation, new.open) {
                    (_, Some(new)) => {
                        open.expectation = new.expectation;
                        open.calm_since = new.calm_since;
                    }
                    (Expectation::Baseline(known), None) => {
                        if let Some(baseline) = baseline {
                            *known = baseline;
                        }
                    }
                    (Expectation::Share(_), None) => {}
                    (Expectation::Previous { total, negative }, None) => {
                        let last = Minute(open.since).plus(-1);
                        let before = series.sum(self.recent_first(series, last), last);
                        if before.total > 0 {
                            (*total, *negative) = (before.total, before.negative);
                        }
                    }
                }
                ShareState { open: Some(open), ..ShareState::default() }
            }
        };
        state.past = Some(Past { until: minute.0, excluded });
        state
    }
}
