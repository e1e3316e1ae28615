//! Ops on names.

use std::sync::Arc;

use super::{Decider, Decision, done, nothing};
use crate::apply::is_symlink_target;
use crate::resolve::{Last, Resolved, Walk};
use crate::tree::Entry;
use crate::{
    Access, At, Body, Change, Errno, Ino, Inode, Kind, LINK_MAX, Name, Node, OpenFlags, Outcome, PATH_MAX,
    Replaced, Target,
};

const SET_GROUP_ID: u32 = 0o2000;

impl<'a> Decider<'a> {
    pub(super) fn open(
        &self,
        at: &At,
        access: Access,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<Decision, Errno> {
        if flags.create && flags.directory || !access.read && !access.write {
            return Err(Errno::Invalid);
        }
        let exclusive = flags.create && flags.exclusive;
        let mut follow = !flags.no_follow && !exclusive;
        let mut directory = flags.directory;
        let (mut walk, mut path) = Walk::start(self.tree, self.context.credential, at)?;
        let (ino, kind) = loop {
            walk.reach_last(path)?;
            let Last::Normal(name) = walk.last else {
                break (walk.dots()?, Kind::Directory);
            };
            if walk.trailing_slash {
                if flags.create {
                    return Err(Errno::IsADirectory);
                }
                follow = true;
                directory = true;
            }
            match self.tree.child(walk.ino, name)? {
                None if flags.create => return self.create_file(walk.ino, name, mode),
                None => return Err(Errno::NotFound),
                Some((_, entry)) if entry.kind == Kind::Symlink && follow => {
                    path = walk.follow(entry.ino)?;
                    if path.is_empty() {
                        break (walk.ino, Kind::Directory);
                    }
                }
                Some((_, entry)) => break (entry.ino, entry.kind),
            }
        };
        if exclusive {
            return Err(Errno::Exists);
        }
        match kind {
            Kind::Directory if flags.create || access.write || flags.truncate => {
                return Err(Errno::IsADirectory);
            }
            _ if kind != Kind::Directory && directory => return Err(Errno::NotADirectory),
            Kind::Symlink => return Err(Errno::TooManySymlinks),
            Kind::File | Kind::Directory => {}
            _ => return Err(Errno::NoDevice),
        }
        let changes = if flags.truncate {
            vec![Change::Truncate { ino, size: 0, time: self.context.now }]
        } else {
            Vec::new()
        };
        Ok(Decision { changes, outcome: Outcome::Opened { ino, kind, created: false } })
    }

    pub(super) fn create_file(&self, parent: Ino, name: &[u8], mode: u32) -> Result<Decision, Errno> {
        let change = self.create(parent, name, Node::File, mode & 0o7777)?;
        let outcome = Outcome::Opened { ino: self.tree.next_ino, kind: Kind::File, created: true };
        Ok(Decision { changes: vec![change], outcome })
    }

    pub(super) fn mkdir(&self, at: &At, mode: u32) -> Result<Decision, Errno> {
        let (parent, name) = self.new_name(at, true)?;
        // As in Linux: neither set-user-id nor set-group-id can be asked for here.
        self.make(parent, name, Node::Directory, mode & 0o1777)
    }

    pub(super) fn symlink(&self, target: &[u8], at: &At) -> Result<Decision, Errno> {
        if target.is_empty() {
            return Err(Errno::NotFound);
        }
        if target.len() >= PATH_MAX {
            return Err(Errno::NameTooLong);
        }
        if !is_symlink_target(target) {
            return Err(Errno::Invalid);
        }
        let (parent, name) = self.new_name(at, false)?;
        self.make(parent, name, Node::Symlink(Arc::from(target)), 0o777)
    }

    pub(super) fn make(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Decision, Errno> {
        let change = self.create(parent, name, node, mode)?;
        Ok(Decision { changes: vec![change], outcome: Outcome::Made { ino: self.tree.next_ino } })
    }

    /// A new inode with a name that is known to be free.
    pub(super) fn create(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Change, Errno> {
        let dir = self.room(parent)?;
        let ino = self.tree.next_ino;
        if ino.0 == u64::MAX {
            return Err(Errno::NoSpace);
        }
        let (mut mode, mut gid) = (mode, self.context.credential.gid);
        if node == Node::Directory && dir.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks);
        }
        if dir.mode & SET_GROUP_ID != 0 {
            gid = dir.gid;
            if node == Node::Directory {
                mode |= SET_GROUP_ID;
            }
        }
        let (name, uid, time) = (Name::new(name)?, self.context.credential.uid, self.context.now);
        Ok(Change::Create { parent, name, ino, node, mode, uid, gid, time })
    }

    pub(super) fn link(&self, from: &Target, to: &At) -> Result<Decision, Errno> {
        let ino = self.target(from)?;
        let (parent, name) = self.new_name(to, false)?;
        self.room(parent)?;
        let inode = self.inode(ino)?;
        if inode.is_dir() {
            return Err(Errno::NotPermitted);
        }
        if inode.nlink == 0 {
            return Err(Errno::NotFound);
        }
        if inode.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks);
        }
        Ok(done(Change::Link { parent, name: Name::new(name)?, ino, time: self.context.now }))
    }

    pub(super) fn unlink(&self, at: &At) -> Result<Decision, Errno> {
        let resolved = self.resolve_parent(at)?;
        let Last::Normal(name) = resolved.last else {
            return Err(Errno::IsADirectory);
        };
        let (name, entry) = self.tree.child(resolved.parent, name)?.ok_or(Errno::NotFound)?;
        if entry.kind == Kind::Directory {
            return Err(Errno::IsADirectory);
        }
        if resolved.trailing_slash {
            return Err(Errno::NotADirectory);
        }
        let Replaced { ino, reap } = self.unnamed(entry)?;
        let (parent, name, time) = (resolved.parent, name.clone(), self.context.now);
        Ok(done(Change::Unlink { parent, name, ino, reap, time }))
    }

    pub(super) fn rmdir(&self, at: &At) -> Result<Decision, Errno> {
        let resolved = self.resolve_parent(at)?;
        let name = match resolved.last {
            Last::Normal(name) => name,
            Last::Dot => return Err(Errno::Invalid),
            Last::DotDot => return Err(Errno::NotEmpty),
            Last::Root => return Err(Errno::Busy),
        };
        let (name, entry) = self.tree.child(resolved.parent, name)?.ok_or(Errno::NotFound)?;
        if entry.kind != Kind::Directory {
            return Err(Errno::NotADirectory);
        }
        self.empty(entry)?;
        let Replaced { ino, reap } = self.unnamed(entry)?;
        let (parent, name, time) = (resolved.parent, name.clone(), self.context.now);
        Ok(done(Change::Rmdir { parent, name, ino, reap, time }))
    }

    pub(super) fn rename(&self, from: &At, to: &At) -> Result<Decision, Errno> {
        let from = self.resolve_parent(from)?;
        let to = self.resolve_parent(to)?;
        let (Last::Normal(old_name), Last::Normal(new_name)) = (from.last, to.last) else {
            return Err(Errno::Busy);
        };
        let (old_name, old) = self.tree.child(from.parent, old_name)?.ok_or(Errno::NotFound)?;
        let new = self.tree.child(to.parent, new_name)?;
        let to_dir = self.inode(to.parent)?;
        if to_dir.nlink == 0 {
            return Err(Errno::NotFound);
        }
        let is_dir = old.kind == Kind::Directory;
        if !is_dir && (from.trailing_slash || to.trailing_slash) {
            return Err(Errno::NotADirectory);
        }
        if is_dir && self.tree.is_within(to.parent, old.ino) {
            return Err(Errno::Invalid);
        }
        if let Some((_, new)) = new
            && new.kind == Kind::Directory
            && self.tree.is_within(from.parent, new.ino)
        {
            return Err(Errno::NotEmpty);
        }
        if new.is_some_and(|(_, new)| new.ino == old.ino) {
            return Ok(nothing());
        }
        let replaced = new.map(|(_, new)| self.replaceable(new, is_dir)).transpose()?;
        if is_dir && replaced.is_none() && from.parent != to.parent && to_dir.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks);
        }
        let to_name = if let Some((name, _)) = new {
            name.clone()
        } else {
            self.room(to.parent)?;
            Name::new(new_name)?
        };
        Ok(done(Change::Rename {
            from_parent: from.parent,
            from_name: old_name.clone(),
            to_parent: to.parent,
            to_name,
            ino: old.ino,
            replaced,
            time: self.context.now,
        }))
    }

    pub(super) fn replaceable(&self, new: Entry, by_directory: bool) -> Result<Replaced, Errno> {
        match (by_directory, new.kind == Kind::Directory) {
            (true, false) => return Err(Errno::NotADirectory),
            (false, true) => return Err(Errno::IsADirectory),
            (true, true) => self.empty(new)?,
            (false, false) => {}
        }
        self.unnamed(new)
    }

    fn resolve_parent<'b>(&self, at: &'b At) -> Result<Resolved<'b>, Errno>
    where
        'a: 'b,
    {
        self.tree.resolve_parent(self.context.credential, at)
    }

    /// Where a new name is to be put: the directory and the name, which it does not have yet.
    pub(super) fn new_name<'b>(&self, at: &'b At, directory: bool) -> Result<(Ino, &'b [u8]), Errno>
    where
        'a: 'b,
    {
        let Resolved { parent, last, trailing_slash } = self.resolve_parent(at)?;
        let Last::Normal(name) = last else {
            return Err(Errno::Exists);
        };
        match self.tree.child(parent, name)? {
            Some(_) => Err(Errno::Exists),
            None if trailing_slash && !directory => Err(Errno::NotFound),
            None => Ok((parent, name)),
        }
    }

    /// A directory that can get one entry more.
    pub(super) fn room(&self, ino: Ino) -> Result<&'a Inode, Errno> {
        let dir = self.inode(ino)?;
        match dir.body {
            _ if dir.nlink == 0 => Err(Errno::NotFound),
            Body::Directory { next_cookie: u64::MAX, .. } => Err(Errno::NoSpace),
            Body::Directory { .. } => Ok(dir),
            _ => Err(Errno::NotADirectory),
        }
    }

    pub(super) fn empty(&self, entry: Entry) -> Result<(), Errno> {
        match self.inode(entry.ino)?.body {
            Body::Directory { entries: 0, .. } => Ok(()),
            _ => Err(Errno::NotEmpty),
        }
    }

    /// What becomes of an inode that loses this name.
    pub(super) fn unnamed(&self, entry: Entry) -> Result<Replaced, Errno> {
        let last = entry.kind == Kind::Directory || self.inode(entry.ino)?.nlink == 1;
        Ok(Replaced { ino: entry.ino, reap: last && (self.context.holders)(entry.ino).is_empty() })
    }
}
