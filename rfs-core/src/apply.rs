//! The only function that changes a tree.
//!
//! Each Change is checked in full before the first map is touched: the new form of every inode is worked out on the
//! side, with checked arithmetic, every page is loaded that is going to be changed, and the new forms are put in place
//! when nothing can fail any more. So a Change that does not fit, or misses a page, leaves the tree as it was, whatever
//! it holds.

mod attributes;
mod content;
mod names;
mod open_state;
mod quotas;

use thiserror::Error;

use crate::{
    Body, Change, Checkpoint, CommitId, EntryKey, Ino, Inode, Kind, LockOwner, LockRange, Missing, NAME_MAX,
    Name, NotLoaded, OwnerId, PATH_MAX, Place, QuotaSubject, Times, Timestamp, Tree, XattrName,
};

/// A Change that does not fit the tree: the journal is damaged, or belongs to another tree. The tree is unchanged;
/// the caller must not apply later Changes of that journal either.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a Change does not fit the tree ({change}, about inodes {inodes:?}): {misfit}; the journal is damaged or of another volume"
)]
pub struct ApplyError {
    change: &'static str,
    inodes: Vec<u64>,
    misfit: Misfit,
}

/// Why a Change does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Misfit {
    #[error("inode {0} does not exist")]
    NoInode(Ino),
    #[error("inode {0} is not a directory")]
    NotADirectory(Ino),
    #[error("inode {0} is not a regular file")]
    NotAFile(Ino),
    #[error("inode {0} is a directory")]
    IsADirectory(Ino),
    #[error("inode {0} has no name any more")]
    Removed(Ino),
    #[error("inode {0} still has names")]
    StillNamed(Ino),
    #[error("directory {0} is not empty")]
    NotEmpty(Ino),
    #[error("the new inode is {got}, but the next one is {next}")]
    NotTheNext { got: Ino, next: Ino },
    #[error("directory {parent} already has the name {name}")]
    NameTaken { parent: Ino, name: Name },
    #[error("directory {parent} has no name {name} for inode {ino}")]
    NoSuchEntry { parent: Ino, name: Name, ino: Ino },
    #[error("directory {parent} does not hold at {name} what is to be replaced")]
    OtherReplaced { parent: Ino, name: Name },
    #[error("inode {0} cannot change places with itself")]
    SamePlace(Ino),
    #[error("directory {0} would get into itself")]
    Cycle(Ino),
    #[error("the mode {0:o} has unknown bits")]
    Mode(u32),
    #[error("a symlink's target has to have 1 to 4095 bytes, none of them NUL")]
    SymlinkTarget,
    #[error("inode {ino} cannot have this value of the extended attribute {name}")]
    Xattr { ino: Ino, name: XattrName },
    #[error("inode {ino} has no extended attribute {name}")]
    NoXattr { ino: Ino, name: XattrName },
    #[error("offset {offset} and length {len} are no range of a file")]
    Range { offset: u64, len: u64 },
    #[error("the payload at {place:?} with length {len} is no range of a segment")]
    Place { place: Place, len: u64 },
    #[error("the {len} bytes of inode {ino} from {offset} on are not at {from:?}")]
    Elsewhere { ino: Ino, offset: u64, len: u64, from: Place },
    #[error("another owner holds a conflicting lock")]
    Locked,
    #[error("there is no such lock")]
    NoLock,
    #[error("{0:?} is no range that can be locked")]
    LockRange(LockRange),
    #[error("nobody else holds inode {0}, or its holder is another")]
    NotHeld(Ino),
    #[error("a part of inode {0} would be shared with itself")]
    Overlap(Ino),
    #[error("there is no quota of {0:?}")]
    NoQuota(QuotaSubject),
    #[error("a checkpoint's name has to have 1 to 255 bytes")]
    CheckpointName,
    #[error("there is a checkpoint with this name")]
    CheckpointTaken,
    #[error("there is no checkpoint with this name")]
    NoCheckpoint,
    #[error("the state of commit {0} is needed for it")]
    Rewind(CommitId),
    #[error("a number is exhausted")]
    Exhausted,
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    NotLoaded(#[from] NotLoaded),
}

impl ApplyError {
    /// The page that has to be loaded before the Change can be applied; it may fit then.
    #[must_use]
    pub const fn missing(&self) -> Option<&Missing> {
        match &self.misfit {
            Misfit::Missing(missing) => Some(missing),
            _ => None,
        }
    }
}

impl Tree {
    /// Does what was decided. `place` is where the Change's payload is in the journal; a Change without payload
    /// ignores it.
    ///
    /// # Errors
    /// The Change does not fit this tree, or a page is missing ([`ApplyError::missing`]); then the tree is as it was.
    pub fn apply(&mut self, change: &Change, place: Place) -> Result<(), ApplyError> {
        self.apply_checked(change, place).map_err(|misfit| ApplyError {
            change: name_of(change),
            inodes: change.inodes().into_iter().map(|ino| ino.0).collect(),
            misfit,
        })
    }

    fn apply_checked(&mut self, change: &Change, place: Place) -> Result<(), Misfit> {
        match change {
            Change::Create { parent, name, ino, node, mode, uid, gid, time } => {
                let key = EntryKey { parent: *parent, name: name.clone() };
                self.create(key, *ino, node, fresh(*mode, *uid, *gid, *time)?)
            }
            Change::CreateNameless { ino, owner, linkable, mode, uid, gid, time } => {
                self.create_nameless(*ino, *owner, *linkable, fresh(*mode, *uid, *gid, *time)?)
            }
            Change::Link { parent, name, ino, time } => self.link(*parent, name, *ino, *time),
            Change::Unlink { parent, name, ino, reap, time } => {
                self.unlink(*parent, name, *ino, *reap, *time)
            }
            Change::Rmdir { parent, name, ino, reap, time } => self.rmdir(*parent, name, *ino, *reap, *time),
            Change::Rename { from_parent, from_name, to_parent, to_name, ino, replaced, time } => {
                let from = EntryKey { parent: *from_parent, name: from_name.clone() };
                let to = EntryKey { parent: *to_parent, name: to_name.clone() };
                self.rename(&from, to, *ino, *replaced, *time)
            }
            Change::Exchange {
                first_parent,
                first_name,
                first,
                second_parent,
                second_name,
                second,
                time,
            } => {
                let first_key = EntryKey { parent: *first_parent, name: first_name.clone() };
                let second_key = EntryKey { parent: *second_parent, name: second_name.clone() };
                self.exchange(&first_key, *first, &second_key, *second, *time)
            }
            Change::Write { ino, offset, len, time } => self.write(*ino, *offset, *len, *time, place),
            Change::Truncate { ino, size, time } => self.truncate(*ino, *size, *time),
            Change::SetAttr { ino, mode, uid, gid, accessed, modified, time } => {
                self.set_attr(*ino, *mode, (*uid, *gid), (*accessed, *modified), *time)
            }
            Change::SetXattr { ino, name, value, time } => self.set_xattr(*ino, name, value, *time),
            Change::RemoveXattr { ino, name, time } => self.remove_xattr(*ino, name, *time),
            Change::Access { ino, time } => self.access(*ino, *time),
            Change::Lock { ino, owner, mode } => self.lock_file(*ino, version_1(*owner), *mode),
            Change::Unlock { ino, owner } => self.unlock_file(*ino, version_1(*owner)),
            Change::Reap { ino } => self.reap_nameless(*ino),
            Change::NewSession => self.new_session(),
            Change::EndOwner { owner } => self.end_owner(*owner),
            Change::AddCheckpoint { name, commit, time } => self.add_checkpoint(name, *commit, *time),
            Change::DropCheckpoint { name } => {
                self.checkpoints.remove(name).map(|_| ()).ok_or(Misfit::NoCheckpoint)
            }
            Change::LockFile { ino, owner, mode } => self.lock_file(*ino, *owner, *mode),
            Change::UnlockFile { ino, owner } => self.unlock_file(*ino, *owner),
            Change::LockRange { ino, owner, range, mode } => self.lock_range(*ino, *owner, *range, *mode),
            Change::UnlockRange { ino, owner, range } => self.unlock_range(*ino, *owner, *range),
            Change::Hold { ino, owner } => self.hold(*ino, *owner),
            Change::LetGo { ino, owner } => self.let_go(*ino, *owner),
            Change::Punch { ino, offset, len, time } => self.punch(*ino, *offset, *len, *time),
            Change::Collapse { ino, offset, len, time } => self.collapse(*ino, *offset, *len, *time),
            Change::Insert { ino, offset, len, time } => self.insert(*ino, *offset, *len, *time),
            Change::Share { from, from_offset, to, to_offset, len, time } => {
                self.share((*from, *from_offset), (*to, *to_offset), *len, *time)
            }
            Change::SetQuota { subject, limits } => self.set_quota(*subject, *limits),
            Change::Relocate { ino, offset, len, from } => self.relocate(*ino, *offset, *len, *from, place),
            Change::Rewind { to } => Err(Misfit::Rewind(*to)),
            Change::Refer { ino, offset, len, to, time } => self.write(*ino, *offset, *len, *time, *to),
        }
    }

    fn add_checkpoint(&mut self, name: &str, commit: CommitId, time: Timestamp) -> Result<(), Misfit> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Misfit::CheckpointName);
        }
        let name = name.to_owned();
        if self.checkpoints.contains_key(&name) {
            return Err(Misfit::CheckpointTaken);
        }
        self.checkpoints.insert(name, Checkpoint { commit, time });
        Ok(())
    }

    fn get(&self, ino: Ino) -> Result<&Inode, Misfit> {
        self.inode(ino)?.ok_or(Misfit::NoInode(ino))
    }

    fn file(&self, ino: Ino) -> Result<&Inode, Misfit> {
        let inode = self.get(ino)?;
        if inode.kind() == Kind::File { Ok(inode) } else { Err(Misfit::NotAFile(ino)) }
    }
}

/// The owner of a lock of format version 1, where locks had a number only.
const fn version_1(number: OwnerId) -> LockOwner {
    LockOwner { owner: OwnerId(0), key: number.0 }
}

/// An empty regular file with one name.
fn fresh(mode: u32, uid: u32, gid: u32, time: Timestamp) -> Result<Inode, Misfit> {
    let times = Times { accessed: time, modified: time, changed: time, born: time };
    Ok(Inode { mode: permissions(mode)?, uid, gid, nlink: 1, size: 0, times, body: Body::File, allocated: 0 })
}

/// Permission bits, or why they are none.
const fn permissions(mode: u32) -> Result<u32, Misfit> {
    if mode > 0o7777 { Err(Misfit::Mode(mode)) } else { Ok(mode) }
}

pub(crate) fn is_symlink_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < PATH_MAX && !target.contains(&0)
}

const fn name_of(change: &Change) -> &'static str {
    match change {
        Change::Create { .. } => "Create",
        Change::Link { .. } => "Link",
        Change::Unlink { .. } => "Unlink",
        Change::Rmdir { .. } => "Rmdir",
        Change::Rename { .. } => "Rename",
        Change::Write { .. } => "Write",
        Change::Truncate { .. } => "Truncate",
        Change::SetAttr { .. } => "SetAttr",
        Change::Lock { .. } => "Lock",
        Change::Unlock { .. } => "Unlock",
        Change::Reap { .. } => "Reap",
        Change::NewSession => "NewSession",
        Change::AddCheckpoint { .. } => "AddCheckpoint",
        Change::DropCheckpoint { .. } => "DropCheckpoint",
        Change::CreateNameless { .. } => "CreateNameless",
        Change::Exchange { .. } => "Exchange",
        Change::SetXattr { .. } => "SetXattr",
        Change::RemoveXattr { .. } => "RemoveXattr",
        Change::Punch { .. } => "Punch",
        Change::Collapse { .. } => "Collapse",
        Change::Insert { .. } => "Insert",
        Change::Share { .. } => "Share",
        Change::Access { .. } => "Access",
        Change::LockFile { .. } => "LockFile",
        Change::UnlockFile { .. } => "UnlockFile",
        Change::LockRange { .. } => "LockRange",
        Change::UnlockRange { .. } => "UnlockRange",
        Change::Hold { .. } => "Hold",
        Change::LetGo { .. } => "LetGo",
        Change::EndOwner { .. } => "EndOwner",
        Change::SetQuota { .. } => "SetQuota",
        Change::Relocate { .. } => "Relocate",
        Change::Rewind { .. } => "Rewind",
        Change::Refer { .. } => "Refer",
    }
}
