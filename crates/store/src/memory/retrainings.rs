//! Trainings that the settings ask for.

use chrono::{DateTime, Utc};

use super::Tables;
use crate::{RetrainReason, Retraining, StoreError};

impl Tables {
    pub(super) fn retrainings(&self, limit: u32) -> Result<Vec<Retraining>, StoreError> {
        Ok(self.retrainings.iter().rev().take(limit as usize).cloned().collect())
    }

    pub(super) fn begin_retraining(
        &mut self,
        reason: RetrainReason,
        due_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<Retraining>, StoreError> {
        if self.retrainings.iter().any(|it| it.reason == reason && it.due_at == due_at) {
            return Ok(None);
        }
        let retraining = Retraining {
            id: self.retrainings.len() as i64 + 1,
            reason,
            due_at,
            started_at: now,
            attempts: 0,
            model: None,
            ended: None,
            note: String::new(),
        };
        self.retrainings.push(retraining.clone());
        Ok(Some(retraining))
    }

    pub(super) fn put_retraining(&mut self, retraining: &Retraining) -> Result<(), StoreError> {
        let known = self.retrainings.iter_mut().find(|it| it.id == retraining.id);
        if let Some(known) = known {
            let Retraining { attempts, model, ended, note, .. } = retraining.clone();
            *known = Retraining { attempts, model, ended, note, ..known.clone() };
        }
        Ok(())
    }
}
