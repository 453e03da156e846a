//! Comparisons of a day's tweets with those before, in memory.

use super::Tables;
use crate::{DriftDay, StoreError};

impl Tables {
    pub(super) fn record_drift(&mut self, drift: &DriftDay) -> Result<(), StoreError> {
        self.drift_days.insert(drift.day, drift.clone());
        Ok(())
    }

    pub(super) fn latest_drift(&self) -> Result<Option<DriftDay>, StoreError> {
        Ok(self.drift_days.values().next_back().cloned())
    }
}
