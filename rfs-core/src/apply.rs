//! The only function that changes a tree.
//!
//! Each Change is checked in full before the first map is touched: the new form of every inode is worked out on the
//! side, with checked arithmetic, and put in place when nothing can fail any more. So a Change that does not fit
//! leaves the tree as it was, whatever it holds.

use thiserror::Error;

use crate::{
    Body, Change, Checkpoint, CommitId, Cookie, Entry, EntryKey, Extent, FILE_SIZE_MAX, Ino, Inode, Kind,
    LockMode, NAME_MAX, Name, Node, OwnerId, PATH_MAX, Place, Replaced, Times, Timestamp, Tree,
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
    #[error("directory {0} would get into itself")]
    Cycle(Ino),
    #[error("the mode {0:o} has unknown bits")]
    Mode(u32),
    #[error("a symlink's target has to have 1 to 4095 bytes, none of them NUL")]
    SymlinkTarget,
    #[error("offset {offset} and length {len} are no range of a file")]
    Range { offset: u64, len: u64 },
    #[error("the payload at {place:?} with length {len} is no range of a segment")]
    Place { place: Place, len: u64 },
    #[error("another owner holds a conflicting lock")]
    Locked,
    #[error("there is no such lock")]
    NoLock,
    #[error("a checkpoint's name has to have 1 to 255 bytes")]
    CheckpointName,
    #[error("there is a checkpoint with this name")]
    CheckpointTaken,
    #[error("there is no checkpoint with this name")]
    NoCheckpoint,
    #[error("a number is exhausted")]
    Exhausted,
}

impl Tree {
    /// Does what was decided. `place` is where the Change's payload is in the journal; a Change without payload
    /// ignores it.
    ///
    /// # Errors
    /// The Change does not fit this tree; then the tree is as it was.
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
                let times = Times { accessed: *time, modified: *time, changed: *time, born: *time };
                let inode = Inode {
                    mode: permissions(*mode)?,
                    uid: *uid,
                    gid: *gid,
                    nlink: if *node == Node::Directory { 2 } else { 1 },
                    size: 0,
                    times,
                    body: Body::File,
                };
                self.create(*parent, name, *ino, node, inode)
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
            Change::Write { ino, offset, len, time } => self.write(*ino, *offset, *len, *time, place),
            Change::Truncate { ino, size, time } => self.truncate(*ino, *size, *time),
            Change::SetAttr { ino, mode, uid, gid, accessed, modified, time } => {
                let mut inode = self.get(*ino)?.clone();
                if let Some(mode) = mode {
                    inode.mode = permissions(*mode)?;
                }
                inode.uid = uid.unwrap_or(inode.uid);
                inode.gid = gid.unwrap_or(inode.gid);
                inode.times.accessed = accessed.unwrap_or(inode.times.accessed);
                inode.times.modified = modified.unwrap_or(inode.times.modified);
                inode.times.changed = *time;
                self.inodes.insert(*ino, inode);
                Ok(())
            }
            Change::Lock { ino, owner, mode } => self.lock(*ino, *owner, *mode),
            Change::Unlock { ino, owner } => {
                self.locks.remove(&(*ino, *owner)).map(|_| ()).ok_or(Misfit::NoLock)
            }
            Change::Reap { ino } => {
                if self.get(*ino)?.nlink > 0 {
                    return Err(Misfit::StillNamed(*ino));
                }
                self.reap(*ino);
                Ok(())
            }
            Change::NewSession => {
                self.new_session();
                Ok(())
            }
            Change::AddCheckpoint { name, commit, time } => self.add_checkpoint(name, *commit, *time),
            Change::DropCheckpoint { name } => {
                self.checkpoints.remove(name).map(|_| ()).ok_or(Misfit::NoCheckpoint)
            }
        }
    }

    fn create(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        node: &Node,
        mut inode: Inode,
    ) -> Result<(), Misfit> {
        if ino != self.next_ino {
            return Err(Misfit::NotTheNext { got: ino, next: self.next_ino });
        }
        let next_ino = ino.0.checked_add(1).map(Ino).ok_or(Misfit::Exhausted)?;
        match node {
            Node::File => {}
            Node::Directory => inode.body = Body::Directory { parent, entries: 0, next_cookie: 1 },
            Node::Symlink(target) => {
                if !is_symlink_target(target) {
                    return Err(Misfit::SymlinkTarget);
                }
                inode.size = target.len() as u64;
                inode.body = Body::Symlink { target: target.clone() };
            }
        }
        let mut dir = Dir::living(self, parent)?;
        dir.touch(inode.times.changed);
        let key = EntryKey { parent, name: name.clone() };
        let entry = dir.gain(self, &key, ino, inode.kind())?;
        dir.store(self);
        self.add_entry(key, entry);
        self.inodes.insert(ino, inode);
        self.next_ino = next_ino;
        Ok(())
    }

    fn link(&mut self, parent: Ino, name: &Name, ino: Ino, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.get(ino)?.clone();
        if inode.is_dir() {
            return Err(Misfit::IsADirectory(ino));
        }
        if inode.nlink == 0 {
            return Err(Misfit::Removed(ino));
        }
        inode.nlink = inode.nlink.checked_add(1).ok_or(Misfit::Exhausted)?;
        inode.times.changed = time;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        let key = EntryKey { parent, name: name.clone() };
        let entry = dir.gain(self, &key, ino, inode.kind())?;
        dir.store(self);
        self.add_entry(key, entry);
        self.inodes.insert(ino, inode);
        Ok(())
    }

    fn unlink(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        reap: bool,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let key = EntryKey { parent, name: name.clone() };
        let entry = self.held_entry(&key, ino)?;
        if entry.kind == Kind::Directory {
            return Err(Misfit::IsADirectory(ino));
        }
        let unnamed = Unnamed::file(self, ino, reap, time)?;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        dir.lose(entry.kind)?;
        dir.store(self);
        self.remove_entry(&key, entry.cookie);
        unnamed.store(self);
        Ok(())
    }

    fn rmdir(
        &mut self,
        parent: Ino,
        name: &Name,
        ino: Ino,
        reap: bool,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let key = EntryKey { parent, name: name.clone() };
        let entry = self.held_entry(&key, ino)?;
        let unnamed = Unnamed::directory(self, ino, reap, time)?;
        let mut dir = Dir::living(self, parent)?;
        dir.touch(time);
        dir.lose(Kind::Directory)?;
        dir.store(self);
        self.remove_entry(&key, entry.cookie);
        unnamed.store(self);
        Ok(())
    }

    fn rename(
        &mut self,
        from: &EntryKey,
        to: EntryKey,
        ino: Ino,
        replaced: Option<Replaced>,
        time: Timestamp,
    ) -> Result<(), Misfit> {
        let moving = self.held_entry(from, ino)?;
        let taken = self.entries.get(&to).copied();
        if taken.map(|entry| entry.ino) != replaced.map(|replaced| replaced.ino) || *from == to {
            return Err(Misfit::OtherReplaced { parent: to.parent, name: to.name });
        }
        let is_dir = moving.kind == Kind::Directory;
        let unnamed = match (taken, replaced) {
            (Some(entry), Some(_)) if entry.ino == ino => {
                return Err(Misfit::OtherReplaced { parent: to.parent, name: to.name });
            }
            (Some(entry), Some(_)) if is_dir && entry.kind != Kind::Directory => {
                return Err(Misfit::NotADirectory(entry.ino));
            }
            (Some(_), Some(replaced)) if is_dir => {
                Some(Unnamed::directory(self, replaced.ino, replaced.reap, time)?)
            }
            (Some(_), Some(replaced)) => Some(Unnamed::file(self, replaced.ino, replaced.reap, time)?),
            _ => None,
        };

        let mut from_dir = Dir::living(self, from.parent)?;
        from_dir.touch(time);
        from_dir.lose(moving.kind)?;
        let mut to_dir = if from.parent == to.parent {
            None
        } else {
            if is_dir && self.is_within(to.parent, ino) {
                return Err(Misfit::Cycle(ino));
            }
            let mut to_dir = Dir::living(self, to.parent)?;
            to_dir.touch(time);
            Some(to_dir)
        };
        let target_dir = to_dir.as_mut().unwrap_or(&mut from_dir);
        let entry = match taken {
            // The name was there all the time, so a listing that goes on has to find it where it was.
            Some(taken) => {
                target_dir.swap(taken.kind, moving.kind)?;
                Entry { ino, kind: moving.kind, cookie: taken.cookie }
            }
            None => target_dir.gain(self, &to, ino, moving.kind)?,
        };
        let mut inode = self.get(ino)?.clone();
        inode.times.changed = time;
        if let Body::Directory { parent, .. } = &mut inode.body {
            *parent = to.parent;
        }

        from_dir.store(self);
        if let Some(to_dir) = to_dir {
            to_dir.store(self);
        }
        self.remove_entry(from, moving.cookie);
        self.add_entry(to, entry);
        self.inodes.insert(ino, inode);
        if let Some(unnamed) = unnamed {
            unnamed.store(self);
        }
        Ok(())
    }

    fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        time: Timestamp,
        place: Place,
    ) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        let end = offset.checked_add(len).filter(|end| len > 0 && *end <= FILE_SIZE_MAX);
        let end = end.ok_or(Misfit::Range { offset, len })?;
        if place.position.checked_add(len).is_none() {
            return Err(Misfit::Place { place, len });
        }
        if !self.can_refer(place.segment, len) {
            return Err(Misfit::Exhausted);
        }
        inode.size = inode.size.max(end);
        inode.times.modified = time;
        inode.times.changed = time;
        self.put_extent(ino, offset, Extent { place, len });
        self.inodes.insert(ino, inode);
        Ok(())
    }

    fn truncate(&mut self, ino: Ino, size: u64, time: Timestamp) -> Result<(), Misfit> {
        let mut inode = self.file(ino)?.clone();
        if size > FILE_SIZE_MAX {
            return Err(Misfit::Range { offset: 0, len: size });
        }
        self.cut_extents(ino, size, inode.size);
        inode.size = size;
        inode.times.modified = time;
        inode.times.changed = time;
        self.inodes.insert(ino, inode);
        Ok(())
    }

    fn lock(&mut self, ino: Ino, owner: OwnerId, mode: LockMode) -> Result<(), Misfit> {
        if self.get(ino)?.kind() == Kind::Symlink {
            return Err(Misfit::NotAFile(ino));
        }
        if self.conflicts(ino, owner, mode) {
            return Err(Misfit::Locked);
        }
        self.locks.insert((ino, owner), mode);
        Ok(())
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

    fn new_session(&mut self) {
        self.locks = crate::Map::default();
        let orphans = std::mem::take(&mut self.orphans);
        for (ino, ()) in orphans.iter() {
            self.reap(*ino);
        }
    }

    /// Removes an inode that has no name, with all that hangs on it.
    fn reap(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.remove(&ino) {
            self.cut_extents(ino, 0, inode.size);
        }
        self.orphans.remove(&ino);
        let owners: Vec<OwnerId> = self.locks(ino).map(|(owner, _)| owner).collect();
        for owner in owners {
            self.locks.remove(&(ino, owner));
        }
    }

    /// Whether a lock would conflict with what other owners hold.
    pub(crate) fn conflicts(&self, ino: Ino, owner: OwnerId, mode: LockMode) -> bool {
        self.locks(ino).any(|(holder, held)| {
            holder != owner && (held == LockMode::Exclusive || mode == LockMode::Exclusive)
        })
    }

    /// Whether a directory is `ancestor`, or below it.
    pub(crate) fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.inode(at).map(|inode| &inode.body) {
                Some(Body::Directory { parent, .. }) if *parent != at => at = *parent,
                _ => return false,
            }
        }
    }

    fn get(&self, ino: Ino) -> Result<&Inode, Misfit> {
        self.inode(ino).ok_or(Misfit::NoInode(ino))
    }

    fn file(&self, ino: Ino) -> Result<&Inode, Misfit> {
        let inode = self.get(ino)?;
        if inode.kind() == Kind::File { Ok(inode) } else { Err(Misfit::NotAFile(ino)) }
    }

    /// The entry, if it leads to this inode.
    fn held_entry(&self, key: &EntryKey, ino: Ino) -> Result<Entry, Misfit> {
        let entry = self.entries.get(key).copied().filter(|entry| entry.ino == ino);
        entry.ok_or_else(|| Misfit::NoSuchEntry { parent: key.parent, name: key.name.clone(), ino })
    }

    fn add_entry(&mut self, key: EntryKey, entry: Entry) {
        self.listing.insert((key.parent, entry.cookie), key.name.clone());
        self.entries.insert(key, entry);
    }

    fn remove_entry(&mut self, key: &EntryKey, cookie: Cookie) {
        self.entries.remove(key);
        self.listing.remove(&(key.parent, cookie));
    }
}

/// Permission bits, or why they are none.
const fn permissions(mode: u32) -> Result<u32, Misfit> {
    if mode > 0o7777 { Err(Misfit::Mode(mode)) } else { Ok(mode) }
}

pub(crate) fn is_symlink_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < PATH_MAX && !target.contains(&0)
}

/// The new form of a directory that a Change gives or takes an entry.
struct Dir {
    ino: Ino,
    inode: Inode,
    parent: Ino,
    entries: u64,
    next_cookie: u64,
}

impl Dir {
    /// A directory that has a name (or is the root): none other can get or lose entries.
    fn living(tree: &Tree, ino: Ino) -> Result<Self, Misfit> {
        let inode = tree.get(ino)?;
        let Body::Directory { parent, entries, next_cookie } = inode.body else {
            return Err(Misfit::NotADirectory(ino));
        };
        if inode.nlink == 0 {
            return Err(Misfit::Removed(ino));
        }
        Ok(Self { ino, inode: inode.clone(), parent, entries, next_cookie })
    }

    const fn touch(&mut self, time: Timestamp) {
        self.inode.times.modified = time;
        self.inode.times.changed = time;
    }

    /// A new entry, behind all others in the listing.
    fn gain(&mut self, tree: &Tree, key: &EntryKey, ino: Ino, kind: Kind) -> Result<Entry, Misfit> {
        if tree.entries.contains_key(key) {
            return Err(Misfit::NameTaken { parent: key.parent, name: key.name.clone() });
        }
        let cookie = Cookie(self.next_cookie);
        self.next_cookie = self.next_cookie.checked_add(1).ok_or(Misfit::Exhausted)?;
        self.entries = self.entries.checked_add(1).ok_or(Misfit::Exhausted)?;
        self.link(kind)?;
        Ok(Entry { ino, kind, cookie })
    }

    fn lose(&mut self, kind: Kind) -> Result<(), Misfit> {
        self.entries = self.entries.checked_sub(1).ok_or(Misfit::Exhausted)?;
        self.unlink(kind)
    }

    /// One entry leads to something else now.
    fn swap(&mut self, old: Kind, new: Kind) -> Result<(), Misfit> {
        self.unlink(old)?;
        self.link(new)
    }

    fn link(&mut self, kind: Kind) -> Result<(), Misfit> {
        let links = u32::from(kind == Kind::Directory);
        self.inode.nlink = self.inode.nlink.checked_add(links).ok_or(Misfit::Exhausted)?;
        Ok(())
    }

    fn unlink(&mut self, kind: Kind) -> Result<(), Misfit> {
        let links = u32::from(kind == Kind::Directory);
        self.inode.nlink = self.inode.nlink.checked_sub(links).ok_or(Misfit::Exhausted)?;
        Ok(())
    }

    fn store(mut self, tree: &mut Tree) {
        self.inode.body =
            Body::Directory { parent: self.parent, entries: self.entries, next_cookie: self.next_cookie };
        tree.inodes.insert(self.ino, self.inode);
    }
}

/// An inode after it lost a name.
struct Unnamed {
    ino: Ino,
    inode: Inode,
    reap: bool,
}

impl Unnamed {
    fn file(tree: &Tree, ino: Ino, reap: bool, time: Timestamp) -> Result<Self, Misfit> {
        let mut inode = tree.get(ino)?.clone();
        if inode.is_dir() {
            return Err(Misfit::IsADirectory(ino));
        }
        inode.nlink = inode.nlink.checked_sub(1).ok_or(Misfit::Removed(ino))?;
        if reap && inode.nlink > 0 {
            return Err(Misfit::StillNamed(ino));
        }
        inode.times.changed = time;
        Ok(Self { ino, inode, reap })
    }

    fn directory(tree: &Tree, ino: Ino, reap: bool, time: Timestamp) -> Result<Self, Misfit> {
        let mut inode = tree.get(ino)?.clone();
        let Body::Directory { entries, .. } = inode.body else {
            return Err(Misfit::NotADirectory(ino));
        };
        if entries > 0 {
            return Err(Misfit::NotEmpty(ino));
        }
        inode.nlink = 0;
        inode.times.changed = time;
        Ok(Self { ino, inode, reap })
    }

    fn store(self, tree: &mut Tree) {
        let nameless = self.inode.nlink == 0;
        tree.inodes.insert(self.ino, self.inode);
        if self.reap {
            tree.reap(self.ino);
        } else if nameless {
            tree.orphans.insert(self.ino, ());
        }
    }
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
    }
}
