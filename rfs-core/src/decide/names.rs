//! Ops on the names of inodes that there are: given, taken away, moved.

use super::{Decider, Decision, done, nothing};
use crate::fault::refused;
use crate::permission::{GROUP_EXECUTE, SET_GROUP_ID, SET_USER_ID};
use crate::resolve::{Last, Resolved};
use crate::tree::Entry;
use crate::{
    At, Body, Capabilities, Change, Errno, Fault, Ino, Inode, Kind, LINK_MAX, Name, Outcome, Permission,
    RenameMode, Replaced, Target,
};

impl<'a> Decider<'a> {
    pub(super) fn link(&self, from: &Target, to: &At) -> Result<Decision, Fault> {
        let ino = self.target(from)?;
        let (parent, name) = self.new_name(to, false)?;
        if self.inode(parent)?.nlink == 0 {
            return Err(Errno::NotFound.into());
        }
        let inode = self.inode(ino)?;
        self.may_link(ino, inode)?;
        self.room(parent)?;
        if inode.is_dir() {
            return Err(Errno::NotPermitted.into());
        }
        if inode.nlink == 0 && !self.tree.linkable.contains_key(&ino) {
            return Err(Errno::NotFound.into());
        }
        if inode.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks.into());
        }
        Ok(done(Change::Link { parent, name: Name::new(name)?, ino, time: self.context.now }))
    }

    pub(super) fn unlink(&self, at: &At) -> Result<Decision, Fault> {
        let resolved = self.resolve_parent(at)?;
        let Last::Normal(name) = resolved.last else {
            return Err(Errno::IsADirectory.into());
        };
        let (name, entry) = self.tree.child(resolved.parent, name)?.ok_or(Errno::NotFound)?;
        let is_dir = entry.kind == Kind::Directory;
        if resolved.trailing_slash {
            return Err(if is_dir { Errno::IsADirectory } else { Errno::NotADirectory }.into());
        }
        self.may_remove(resolved.parent, entry)?;
        if is_dir {
            return Err(Errno::IsADirectory.into());
        }
        let (Replaced { ino, reap }, holds) = self.unnamed(entry)?;
        let (parent, name, time) = (resolved.parent, name.clone(), self.context.now);
        Ok(followed_by(Change::Unlink { parent, name, ino, reap, time }, holds))
    }

    pub(super) fn rmdir(&self, at: &At) -> Result<Decision, Fault> {
        let resolved = self.resolve_parent(at)?;
        let name = match resolved.last {
            Last::Normal(name) => name,
            Last::Dot => return Err(Errno::Invalid.into()),
            Last::DotDot => return Err(Errno::NotEmpty.into()),
            Last::Root => return Err(Errno::Busy.into()),
        };
        let (name, entry) = self.tree.child(resolved.parent, name)?.ok_or(Errno::NotFound)?;
        self.may_remove(resolved.parent, entry)?;
        if entry.kind != Kind::Directory {
            return Err(Errno::NotADirectory.into());
        }
        self.empty(entry)?;
        let (Replaced { ino, reap }, holds) = self.unnamed(entry)?;
        let (parent, name, time) = (resolved.parent, name.clone(), self.context.now);
        Ok(followed_by(Change::Rmdir { parent, name, ino, reap, time }, holds))
    }

    pub(super) fn rename(&self, from: &At, to: &At, mode: RenameMode) -> Result<Decision, Fault> {
        if mode == RenameMode::Whiteout {
            return Err(Errno::Invalid.into());
        }
        let exchange = mode == RenameMode::Exchange;
        let (from, to) = self.tree.resolve_parents(self.context.credential, from, to)?;
        let Last::Normal(old_name) = from.last else {
            return Err(Errno::Busy.into());
        };
        let Last::Normal(new_name) = to.last else {
            return Err(if mode == RenameMode::NoReplace { Errno::Exists } else { Errno::Busy }.into());
        };
        let (old_name, old) = self.tree.child(from.parent, old_name)?.ok_or(Errno::NotFound)?;
        let new = self.tree.child(to.parent, new_name)?;
        if self.inode(to.parent)?.nlink == 0 {
            return Err(Errno::NotFound.into());
        }
        let is_dir = old.kind == Kind::Directory;
        match new {
            Some(_) if mode == RenameMode::NoReplace => return Err(Errno::Exists.into()),
            None if exchange => return Err(Errno::NotFound.into()),
            Some((_, new)) if exchange && to.trailing_slash && new.kind != Kind::Directory => {
                return Err(Errno::NotADirectory.into());
            }
            _ if !is_dir && (from.trailing_slash || to.trailing_slash && !exchange) => {
                return Err(Errno::NotADirectory.into());
            }
            _ => {}
        }
        if is_dir && self.tree.is_within(to.parent, old.ino)? {
            return Err(Errno::Invalid.into());
        }
        if let Some((_, new)) = new
            && new.kind == Kind::Directory
            && self.tree.is_within(from.parent, new.ino)?
        {
            return Err(if exchange { Errno::Invalid } else { Errno::NotEmpty }.into());
        }
        if new.is_some_and(|(_, new)| new.ino == old.ino) {
            return Ok(nothing());
        }

        let new_entry = new.map(|(_, entry)| entry);
        self.may_move(from.parent, old, to.parent, new_entry, exchange)?;
        let time = self.context.now;
        if let Some((new_name, new)) = new.filter(|_| exchange) {
            return Ok(done(Change::Exchange {
                first_parent: from.parent,
                first_name: old_name.clone(),
                first: old.ino,
                second_parent: to.parent,
                second_name: new_name.clone(),
                second: new.ino,
                time,
            }));
        }
        let (to_name, replaced, holds) = if let Some((name, new)) = new {
            if is_dir {
                self.empty(new)?;
            }
            let (replaced, holds) = self.unnamed(new)?;
            (name.clone(), Some(replaced), holds)
        } else {
            (Name::new(new_name)?, None, Vec::new())
        };
        let change = Change::Rename {
            from_parent: from.parent,
            from_name: old_name.clone(),
            to_parent: to.parent,
            to_name,
            ino: old.ino,
            replaced,
            time,
        };
        Ok(followed_by(change, holds))
    }

    /// Whether the caller may move an entry to another directory or name, and what has that name out of the way.
    fn may_move(
        &self,
        from: Ino,
        old: Entry,
        to: Ino,
        new: Option<Entry>,
        exchange: bool,
    ) -> Result<(), Fault> {
        let is_dir = old.kind == Kind::Directory;
        let new_is_dir = new.is_some_and(|new| new.kind == Kind::Directory);
        self.may_remove(from, old)?;
        match new {
            Some(new) => self.may_remove(to, new)?,
            None => drop(self.room(to)?),
        }
        if new.is_some() && !exchange && is_dir != new_is_dir {
            return Err(if is_dir { Errno::NotADirectory } else { Errno::IsADirectory }.into());
        }
        if from == to {
            return Ok(());
        }
        // The `..` of a directory that moves changes.
        if is_dir {
            self.permits(old.ino, Permission::WRITE)?;
        }
        if let Some(new) = new.filter(|_| exchange && new_is_dir) {
            self.permits(new.ino, Permission::WRITE)?;
        }
        let is_full = |dir| Ok::<_, Fault>(self.inode(dir)?.nlink >= LINK_MAX);
        if is_dir && !new_is_dir && is_full(to)? || exchange && !is_dir && new_is_dir && is_full(from)? {
            return Err(Errno::TooManyLinks.into());
        }
        Ok(())
    }

    /// Whether the caller may give an inode another name, as Linux has it with `fs.protected_hardlinks`: nobody
    /// keeps what belongs to others beyond its time, unless it is harmless.
    fn may_link(&self, ino: Ino, inode: &Inode) -> Result<(), Fault> {
        const GROUP_RUNS: u32 = SET_GROUP_ID | GROUP_EXECUTE;
        let credential = self.context.credential;
        let harmless = || {
            inode.kind() == Kind::File
                && inode.mode & SET_USER_ID == 0
                && inode.mode & GROUP_RUNS != GROUP_RUNS
        };
        let permitted = || refused(self.permits(ino, Permission::READ | Permission::WRITE));
        if credential.owns(inode) || harmless() && permitted()?.is_ok() {
            Ok(())
        } else {
            Err(Errno::NotPermitted.into())
        }
    }

    /// Whether the caller may take a name away from a directory.
    fn may_remove(&self, dir: Ino, entry: Entry) -> Result<(), Fault> {
        self.permits_entries(dir)?;
        if self.context.credential.has(Capabilities::FOWNER) {
            return Ok(());
        }
        let (dir, inode) = (self.inode(dir)?, self.inode(entry.ino)?);
        if self.context.credential.may_unstick(dir, inode) { Ok(()) } else { Err(Errno::NotPermitted.into()) }
    }

    fn resolve_parent<'b>(&self, at: &'b At) -> Result<Resolved<'b>, Fault>
    where
        'a: 'b,
    {
        self.tree.resolve_parent(self.context.credential, at)
    }

    /// Where a new name is to be put: the directory and the name, which it does not have yet.
    pub(super) fn new_name<'b>(&self, at: &'b At, directory: bool) -> Result<(Ino, &'b [u8]), Fault>
    where
        'a: 'b,
    {
        let Resolved { parent, last, trailing_slash } = self.resolve_parent(at)?;
        let Last::Normal(name) = last else {
            return Err(Errno::Exists.into());
        };
        match self.tree.child(parent, name)? {
            Some(_) => Err(Errno::Exists.into()),
            None if trailing_slash && !directory => Err(Errno::NotFound.into()),
            None => Ok((parent, name)),
        }
    }

    /// A directory that can get one entry more, from this caller.
    pub(super) fn room(&self, ino: Ino) -> Result<&'a Inode, Fault> {
        let dir = self.inode(ino)?;
        let Body::Directory { next_cookie, .. } = dir.body else {
            return Err(Errno::NotADirectory.into());
        };
        if dir.nlink == 0 {
            return Err(Errno::NotFound.into());
        }
        self.permits_entries(ino)?;
        if next_cookie == u64::MAX { Err(Errno::NoSpace.into()) } else { Ok(dir) }
    }

    fn empty(&self, entry: Entry) -> Result<(), Fault> {
        match self.inode(entry.ino)?.body {
            Body::Directory { entries: 0, .. } => Ok(()),
            _ => Err(Errno::NotEmpty.into()),
        }
    }

    /// What becomes of an inode that loses this name, and who holds it from then on.
    fn unnamed(&self, entry: Entry) -> Result<(Replaced, Vec<Change>), Fault> {
        let ino = entry.ino;
        if entry.kind != Kind::Directory && self.inode(ino)?.nlink > 1 {
            return Ok((Replaced { ino, reap: false }, Vec::new()));
        }
        let holders = (self.context.holders)(ino);
        let reap = holders.is_empty();
        let holds = holders.into_iter().map(|owner| Change::Hold { ino, owner });
        Ok((Replaced { ino, reap }, holds.collect()))
    }
}

fn followed_by(change: Change, more: Vec<Change>) -> Decision {
    let mut changes = vec![change];
    changes.extend(more);
    Decision { changes, outcome: Outcome::Done }
}
