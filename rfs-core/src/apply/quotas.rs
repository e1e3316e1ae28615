//! Changes of quotas.

use super::Misfit;
use crate::{Limits, QuotaSubject, Tree};

impl Tree {
    pub(super) fn set_quota(&mut self, subject: QuotaSubject, limits: Limits) -> Result<(), Misfit> {
        if limits.are_none() {
            return self.quotas.remove(&subject).map(|_| ()).ok_or(Misfit::NoQuota(subject));
        }
        self.quotas.insert(subject, limits);
        Ok(())
    }
}
