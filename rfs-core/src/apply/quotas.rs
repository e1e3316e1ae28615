//! Changes of quotas. What they count is kept up to date where inodes are put in place.

use super::Misfit;
use crate::{Limits, Quota, QuotaSubject, Tree};

impl Tree {
    pub(super) fn set_quota(&mut self, subject: QuotaSubject, limits: Limits) -> Result<(), Misfit> {
        if limits.are_none() {
            return self.quotas.remove(&subject).map(|_| ()).ok_or(Misfit::NoQuota(subject));
        }
        let used = match self.quotas.get(&subject) {
            Some(quota) => quota.used,
            None => self.usage_of(subject),
        };
        self.quotas.insert(subject, Quota { limits, used });
        Ok(())
    }
}
