//! Acts by links of notifications.

use super::Tables;
use crate::{LinkOutcome, LinkUse, LinkedAct, StoreError, UsedLink};

impl Tables {
    pub(super) fn used_link(&self, link: &str) -> Result<Option<UsedLink>, StoreError> {
        Ok(self.used_links.get(link).cloned())
    }

    pub(super) fn use_link(&mut self, using: &LinkUse) -> Result<LinkOutcome, StoreError> {
        if let Some(used) = self.used_link(&using.link)? {
            return Ok(LinkOutcome::Used(used));
        }
        let known = match &using.act {
            LinkedAct::Acknowledge(id, acknowledgement) => {
                if self.incident(*id)?.is_some_and(|incident| incident.resolved.is_some()) {
                    return Ok(LinkOutcome::Over);
                }
                self.acknowledge(*id, acknowledgement)?
            }
            LinkedAct::Silence(silence) => self.silence(silence).map(|_| true)?,
            LinkedAct::Correct(correction) => self.correct(correction)?,
        };
        if !known {
            return Ok(LinkOutcome::Missing);
        }
        let used = UsedLink { by: using.by.clone(), at: using.at };
        self.used_links.insert(using.link.clone(), used);
        Ok(LinkOutcome::Done)
    }
}
