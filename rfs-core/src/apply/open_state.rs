//! Changes of what is held: locks, and inodes that are open without a name.

use super::Misfit;
use crate::{Ino, Kind, LockMode, LockOwner, OwnerId, Tree};

impl Tree {
    pub(super) fn lock_file(&mut self, ino: Ino, owner: LockOwner, mode: LockMode) -> Result<(), Misfit> {
        if self.get(ino)?.kind() == Kind::Symlink {
            return Err(Misfit::NotAFile(ino));
        }
        if self.file_lock_conflicts(ino, owner, mode) {
            return Err(Misfit::Locked);
        }
        self.file_locks.insert((ino, owner), mode);
        Ok(())
    }

    pub(super) fn unlock_file(&mut self, ino: Ino, owner: LockOwner) -> Result<(), Misfit> {
        self.file_locks.remove(&(ino, owner)).map(|_| ()).ok_or(Misfit::NoLock)
    }

    pub(super) fn hold(&mut self, ino: Ino, owner: OwnerId) -> Result<(), Misfit> {
        if !self.orphans.contains_key(&ino) {
            return Err(Misfit::StillNamed(ino));
        }
        self.holds.insert((ino, owner), ());
        Ok(())
    }

    pub(super) fn new_session(&mut self) {
        self.file_locks = crate::Map::default();
        let orphans = std::mem::take(&mut self.orphans);
        for (ino, ()) in orphans.iter() {
            self.reap(*ino);
        }
    }

    /// Removes an inode that has no name, with all that hangs on it.
    pub(super) fn reap(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.remove(&ino) {
            self.cut_extents(ino, 0, inode.size);
        }
        self.orphans.remove(&ino);
        self.linkable.remove(&ino);
        let held = self.holds.range((ino, OwnerId(0))..(ino.next(), OwnerId(0)));
        for key in held.map(|(key, ())| *key).collect::<Vec<_>>() {
            self.holds.remove(&key);
        }
        for name in self.xattrs_of(ino).map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.xattrs.remove(&(ino, name));
        }
        let owners: Vec<LockOwner> = self.file_locks(ino).map(|(owner, _)| owner).collect();
        for owner in owners {
            self.file_locks.remove(&(ino, owner));
        }
    }

    /// Whether a lock would conflict with what other owners hold.
    pub(crate) fn file_lock_conflicts(&self, ino: Ino, owner: LockOwner, mode: LockMode) -> bool {
        self.file_locks(ino).any(|(holder, held)| {
            holder != owner && (held == LockMode::Exclusive || mode == LockMode::Exclusive)
        })
    }

}
