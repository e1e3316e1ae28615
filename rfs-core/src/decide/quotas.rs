//! Quotas: who sets them, and what they refuse.

use super::{Decider, Decision, done, nothing};
use crate::{Capabilities, Change, Errno, Fault, Limits, Place, QuotaSubject, SegmentId};

impl Decider<'_> {
    pub(super) fn set_quota(&self, subject: QuotaSubject, limits: Limits) -> Result<Decision, Fault> {
        if !self.context.credential.has(Capabilities::SYS_RESOURCE) {
            return Err(Errno::NotPermitted.into());
        }
        let now = self.tree.quotas.get(&subject).copied().unwrap_or_default();
        Ok(if now == limits { nothing() } else { done(Change::SetQuota { subject, limits }) })
    }

    /// Refuses a decision that would bring something over its quota. What it would come to is tried on a copy of the
    /// tree, so that what is refused and what is counted cannot differ.
    pub(super) fn within_quotas(&self, decision: Decision) -> Result<Decision, Fault> {
        if self.tree.quotas.is_empty() || !decision.changes.iter().any(may_grow) {
            return Ok(decision);
        }
        let mut after = self.tree.clone();
        // Only how much is stored matters here, not where.
        let place = Place { segment: SegmentId(u64::MAX), position: 0 };
        for change in &decision.changes {
            // What does not fit for another reason is for the caller to find out.
            if let Err(misfit) = after.apply(change, place) {
                return misfit.missing().map_or(Ok(decision), |missing| Err(missing.clone().into()));
            }
        }
        for (subject, quota) in self.tree.quotas() {
            match subject {
                _ if quota.allows(after.usage_of(subject)) => {}
                QuotaSubject::Volume => return Err(Errno::NoSpace.into()),
                QuotaSubject::User(_) if self.context.credential.has(Capabilities::SYS_RESOURCE) => {}
                QuotaSubject::User(_) => return Err(Errno::QuotaExceeded.into()),
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
