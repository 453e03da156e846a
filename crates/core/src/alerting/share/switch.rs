//! Carries a brand's detector over to the counts of another model.
//!
//! **Invariant.** After the switch the detector decides as if the new model had scored the stream
//! all along: its evidence, and the periods that its baselines leave out, are those of the new
//! model's own counts of the time before. An incident that is open stays the same incident; what
//! it is compared with is learned from the new model's counts. A rise that only the new model has
//! seen opens nothing at the switch: its evidence is gathered anew.

use crate::alerting::Series;
use crate::domain::Minute;

use super::evaluate::Expectation;
use super::{Baseline, SharePolicy, ShareState};

impl SharePolicy {
    /// The state with which another model goes on. `replay` is the state after the minutes before by its
    /// own counts: which periods baselines leave out is taken from there.
    ///
    /// `series` has the new model's counts and starts [`SharePolicy::history_minutes`] before the
    /// hour in which the open incident of `old`, if any, opened. `baseline` was learned from them
    /// as of that hour; without one, the old baseline stays.
    pub fn change_model(
        &self,
        old: ShareState,
        replay: ShareState,
        series: &Series,
        baseline: Option<Baseline>,
    ) -> ShareState {
        match (old.open, replay) {
            (None, new) => new.closed(),
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
                let ShareState { excluded, settled, .. } = new;
                ShareState { open: Some(open), excluded, settled, ..ShareState::default() }
            }
        }
    }
}
