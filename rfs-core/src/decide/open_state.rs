//! Ops on what is held: locks, and inodes that are open without a name.

use super::{Decider, Decision, done, nothing};
use crate::{Change, Errno, Ino, Kind, LockMode, LockOwner};

impl Decider<'_> {
    pub(super) fn lock_file(&self, ino: Ino, owner: LockOwner, mode: LockMode) -> Result<Decision, Errno> {
        if self.inode(ino)?.kind() == Kind::Symlink {
            return Err(Errno::Invalid);
        }
        if self.tree.file_lock_conflicts(ino, owner, mode) {
            return Err(Errno::WouldBlock);
        }
        if self.tree.file_locks.get(&(ino, owner)) == Some(&mode) {
            return Ok(nothing());
        }
        Ok(done(Change::LockFile { ino, owner, mode }))
    }

    pub(super) fn unlock_file(&self, ino: Ino, owner: LockOwner) -> Result<Decision, Errno> {
        self.inode(ino)?;
        let held = self.tree.file_locks.contains_key(&(ino, owner));
        Ok(if held { done(Change::UnlockFile { ino, owner }) } else { nothing() })
    }

    pub(super) fn release(&self, ino: Ino) -> Decision {
        let nameless = self.tree.orphans.contains_key(&ino);
        if nameless && (self.context.holders)(ino).is_empty() { done(Change::Reap { ino }) } else { nothing() }
    }
}
