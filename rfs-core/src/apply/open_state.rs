//! Changes of what is held: locks, and inodes that are open without a name.

use super::Misfit;
use crate::xattr::least_xattr;
use crate::{Ino, Kind, LockMode, LockOwner, LockRange, NotLoaded, OwnerId, Resident, Tree};

impl Tree {
    pub(super) fn lock_file(&mut self, ino: Ino, owner: LockOwner, mode: LockMode) -> Result<(), Misfit> {
        self.lockable(ino)?;
        if self.file_lock_conflict(ino, owner, mode).is_some() {
            return Err(Misfit::Locked);
        }
        self.file_locks.insert((ino, owner), mode);
        Ok(())
    }

    pub(super) fn unlock_file(&mut self, ino: Ino, owner: LockOwner) -> Result<(), Misfit> {
        self.file_locks.remove(&(ino, owner)).map(|_| ()).ok_or(Misfit::NoLock)
    }

    pub(super) fn lock_range(
        &mut self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
        mode: LockMode,
    ) -> Result<(), Misfit> {
        self.lockable(ino)?;
        check_range(range)?;
        if self.range_lock_conflict(ino, owner, range, mode).is_some() {
            return Err(Misfit::Locked);
        }
        self.put_range_lock(ino, owner, range, mode);
        Ok(())
    }

    pub(super) fn unlock_range(
        &mut self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
    ) -> Result<(), Misfit> {
        check_range(range)?;
        if !self.has_range_lock(ino, owner, range) {
            return Err(Misfit::NoLock);
        }
        self.cut_range_locks(ino, owner, range);
        Ok(())
    }

    pub(super) fn hold(&mut self, ino: Ino, owner: OwnerId) -> Result<(), Misfit> {
        self.nameless(ino)?;
        self.holds.insert((ino, owner), ());
        Ok(())
    }

    pub(super) fn let_go(&mut self, ino: Ino, owner: OwnerId) -> Result<(), Misfit> {
        if !self.holds.contains_key(&(ino, owner)) || self.holders(ino).all(|holder| holder == owner) {
            return Err(Misfit::NotHeld(ino));
        }
        self.holds.remove(&(ino, owner));
        Ok(())
    }

    pub(super) fn end_owner(&mut self, owner: OwnerId) -> Result<(), Misfit> {
        let held: Vec<Ino> = self.held_by(owner).collect();
        for ino in &held {
            if self.holders(*ino).all(|holder| holder == owner) {
                self.load_reap(*ino)?;
            }
        }
        let files: Vec<_> =
            self.file_locks.iter().map(|(key, _)| *key).filter(|(_, holder)| holder.owner == owner).collect();
        for key in files {
            self.file_locks.remove(&key);
        }
        let ranges: Vec<_> = self
            .range_locks
            .iter()
            .map(|(key, _)| *key)
            .filter(|(_, holder, _)| holder.owner == owner)
            .collect();
        for key in ranges {
            self.range_locks.remove(&key);
        }
        for ino in held {
            self.holds.remove(&(ino, owner));
            if self.holders(ino).next().is_none() {
                self.reap(ino)?;
            }
        }
        Ok(())
    }

    pub(super) fn new_session(&mut self) -> Result<(), Misfit> {
        for (ino, ()) in self.orphans.iter() {
            self.load_reap(*ino)?;
        }
        self.file_locks = Resident::default();
        self.range_locks = Resident::default();
        let orphans = std::mem::take(&mut self.orphans);
        for (ino, ()) in orphans.iter() {
            self.reap(*ino)?;
        }
        Ok(())
    }

    pub(super) fn reap_nameless(&mut self, ino: Ino) -> Result<(), Misfit> {
        self.nameless(ino)?;
        self.load_reap(ino)?;
        Ok(self.reap(ino)?)
    }

    /// Loads what removing an inode touches.
    pub(super) fn load_reap(&self, ino: Ino) -> Result<(), Misfit> {
        if let Some(size) = self.inode(ino)?.map(|inode| inode.size) {
            self.load_extents(ino, 0, size)?;
        }
        if !self.xattrs.is_empty() {
            self.xattrs.load_range(least_xattr(ino)..least_xattr(ino.next()))?;
        }
        Ok(())
    }

    /// Removes an inode that has no name, with all that hangs on it.
    pub(super) fn reap(&mut self, ino: Ino) -> Result<(), NotLoaded> {
        if let Some(size) = self.inode(ino)?.map(|inode| inode.size) {
            self.cut_extents(ino, 0, size)?;
        }
        self.take_inode(ino)?;
        self.orphans.remove(&ino);
        self.linkable.remove(&ino);
        self.forget_holders(ino);
        if !self.xattrs.is_empty() {
            self.xattrs.remove_range(least_xattr(ino)..least_xattr(ino.next()))?;
        }
        let locked: Vec<LockOwner> = self.file_locks(ino).map(|(owner, _)| owner).collect();
        for owner in locked {
            self.file_locks.remove(&(ino, owner));
        }
        let ranges: Vec<_> = self.range_locks(ino).map(|held| (ino, held.owner, held.range.start)).collect();
        for key in ranges {
            self.range_locks.remove(&key);
        }
        Ok(())
    }

    pub(super) fn forget_holders(&mut self, ino: Ino) {
        let holders: Vec<OwnerId> = self.holders(ino).collect();
        for owner in holders {
            self.holds.remove(&(ino, owner));
        }
    }

    fn nameless(&self, ino: Ino) -> Result<(), Misfit> {
        if self.get(ino)?.nlink > 0 { Err(Misfit::StillNamed(ino)) } else { Ok(()) }
    }

    fn lockable(&self, ino: Ino) -> Result<(), Misfit> {
        if self.get(ino)?.kind() == Kind::Symlink { Err(Misfit::NotAFile(ino)) } else { Ok(()) }
    }
}

const fn check_range(range: LockRange) -> Result<(), Misfit> {
    if range.is_valid() { Ok(()) } else { Err(Misfit::LockRange(range)) }
}
