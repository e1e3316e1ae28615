//! Quotas: who sets them, and what they refuse.

use super::{Decider, Decision, done, nothing};
use crate::{Capabilities, Change, Errno, Limits, Place, QuotaSubject, SegmentId};

impl Decider<'_> {
    pub(super) fn set_quota(&self, subject: QuotaSubject, limits: Limits) -> Result<Decision, Errno> {
        if !self.context.credential.has(Capabilities::SYS_RESOURCE) {
            return Err(Errno::NotPermitted);
        }
        let now = self.tree.quotas.get(&subject).map(|quota| quota.limits).unwrap_or_default();
        Ok(if now == limits { nothing() } else { done(Change::SetQuota { subject, limits }) })
    }

    /// Refuses a decision that would bring something over its quota. What it would come to is tried on a copy of the
    /// tree, so that what is refused and what is counted cannot differ.
    pub(super) fn within_quotas(&self, decision: Decision) -> Result<Decision, Errno> {
        if self.tree.quotas.is_empty() || !decision.changes.iter().any(may_grow) {
            return Ok(decision);
        }
        let mut after = self.tree.clone();
        // Only how much is stored matters here, not where.
        let place = Place { segment: SegmentId(u64::MAX), position: 0 };
        for change in &decision.changes {
            // What does not fit for another reason is for the caller to find out.
            if after.apply(change, place).is_err() {
                return Ok(decision);
            }
        }
        for counted in after.quotas.since(&self.tree.quotas) {
            let (Some(old), Some(new)) = (counted.old, counted.new) else { continue };
            match counted.key {
                _ if old.allows(new.used) => {}
                QuotaSubject::Volume => return Err(Errno::NoSpace),
                QuotaSubject::User(_) if self.context.credential.has(Capabilities::SYS_RESOURCE) => {}
                QuotaSubject::User(_) => return Err(Errno::QuotaExceeded),
            }
        }
        Ok(decision)
    }
}

/// Whether something may use more of a quota after this Change.
const fn may_grow(change: &Change) -> bool {
    matches!(
        change,
        Change::Create { .. }
            | Change::CreateNameless { .. }
            | Change::Write { .. }
            | Change::Share { .. }
            | Change::SetAttr { uid: Some(_), .. }
    )
}
