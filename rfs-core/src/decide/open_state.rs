//! Ops on what is held: locks, and inodes that are open without a name.

use super::{Decider, Decision, done, nothing};
use crate::{Change, Errno, Fault, Ino, Kind, LockMode, LockOwner, LockRange, Outcome, OwnerId};

/// Most Changes of one [`Op::NewSession`](crate::Op::NewSession): they have to fit into one frame of the journal.
const SESSION_CHANGES_MAX: usize = 10_000;

impl Decider<'_> {
    pub(super) fn lock_file(&self, ino: Ino, owner: LockOwner, mode: LockMode) -> Result<Decision, Fault> {
        self.lockable(ino)?;
        if self.tree.file_lock_conflict(ino, owner, mode).is_some() {
            return Err(Errno::WouldBlock.into());
        }
        if self.tree.file_locks.get(&(ino, owner)) == Some(&mode) {
            return Ok(nothing());
        }
        Ok(done(Change::LockFile { ino, owner, mode }))
    }

    pub(super) fn unlock_file(&self, ino: Ino, owner: LockOwner) -> Result<Decision, Fault> {
        // An inode that is locked is there: to let go of a lock no page is needed.
        if self.tree.file_locks.contains_key(&(ino, owner)) {
            return Ok(done(Change::UnlockFile { ino, owner }));
        }
        self.inode(ino)?;
        Ok(nothing())
    }

    pub(super) fn lock_range(
        &self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
        mode: LockMode,
    ) -> Result<Decision, Fault> {
        self.lockable(ino)?;
        if !range.is_valid() {
            return Err(Errno::Invalid.into());
        }
        if self.tree.range_lock_conflict(ino, owner, range, mode).is_some() {
            return Err(Errno::WouldBlock.into());
        }
        if self.tree.covers_range(ino, owner, range, mode) {
            return Ok(nothing());
        }
        Ok(done(Change::LockRange { ino, owner, range, mode }))
    }

    pub(super) fn unlock_range(
        &self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
    ) -> Result<Decision, Fault> {
        if range.is_valid() && self.tree.has_range_lock(ino, owner, range) {
            return Ok(done(Change::UnlockRange { ino, owner, range }));
        }
        self.inode(ino)?;
        if range.is_valid() { Ok(nothing()) } else { Err(Errno::Invalid.into()) }
    }

    pub(super) fn hold(&self, ino: Ino) -> Result<Decision, Fault> {
        let owner = self.context.owner;
        let named = self.inode(ino)?.nlink > 0;
        if named || self.tree.holds.contains_key(&(ino, owner)) {
            return Ok(nothing());
        }
        Ok(done(Change::Hold { ino, owner }))
    }

    pub(super) fn release(&self, ino: Ino) -> Decision {
        let owner = self.context.owner;
        // Handles that nothing is recorded of are those of a history that was made before holds were.
        let open = (self.context.holders)(ino);
        if !self.tree.orphans.contains_key(&ino) || open.contains(&owner) {
            return nothing();
        }
        let held_by_others = self.tree.holders(ino).any(|holder| holder != owner);
        if !held_by_others {
            return if open.is_empty() { done(Change::Reap { ino }) } else { nothing() };
        }
        let held = self.tree.holds.contains_key(&(ino, owner));
        if held { done(Change::LetGo { ino, owner }) } else { nothing() }
    }

    pub(super) fn end_owner(&self, owner: OwnerId) -> Decision {
        let holds = self.tree.locks_of(owner).next().is_some() || self.tree.held_by(owner).next().is_some();
        if holds { done(Change::EndOwner { owner }) } else { nothing() }
    }

    pub(super) fn new_session(&self, keep: &[OwnerId]) -> Decision {
        if !self.tree.needs_new_session() {
            return nothing();
        }
        let owners = self.tree.owners();
        if !owners.iter().any(|owner| keep.contains(owner)) {
            return done(Change::NewSession);
        }
        let ended = owners.into_iter().filter(|owner| !keep.contains(owner));
        // An inode that somebody held goes with its last holder; one that nobody is known to hold goes by itself.
        let orphans = self.tree.orphans.iter().map(|(ino, ())| *ino);
        let unheld = orphans.filter(|ino| self.tree.holders(*ino).next().is_none());
        let changes = ended.map(|owner| Change::EndOwner { owner });
        let changes =
            changes.chain(unheld.map(|ino| Change::Reap { ino })).take(SESSION_CHANGES_MAX).collect();
        Decision { changes, outcome: Outcome::Done }
    }

    fn lockable(&self, ino: Ino) -> Result<(), Fault> {
        if self.inode(ino)?.kind() == Kind::Symlink { Err(Errno::Invalid.into()) } else { Ok(()) }
    }
}
