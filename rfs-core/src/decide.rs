//! From what a caller asks to what happens: paths are resolved, everything is validated, nothing is changed.
//!
//! The order of the checks is Linux's, since it decides which of several possible errors a caller gets.

use std::sync::Arc;

use crate::apply::is_symlink_target;
use crate::resolve::{Last, Resolved, Walk};
use crate::tree::Entry;
use crate::{
    Access, At, Body, Change, CommitId, Context, Errno, FILE_SIZE_MAX, Ino, Inode, Kind, LINK_MAX, LockMode,
    NAME_MAX, Name, Node, Op, OpenFlags, Outcome, OwnerId, PATH_MAX, Precondition, Replaced, SetTime, Target,
    Timestamp, Tree, WriteAt,
};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// What an Op comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens; nothing or one Change. It is to be applied to the very tree that the decision was taken on.
    pub changes: Vec<Change>,
    /// What the caller is told.
    pub outcome: Outcome,
}

/// Decides an Op. The tree is only read.
///
/// ```
/// use rfs_core::{At, Context, Errno, Op, Timestamp, Tree, decide};
/// let tree = Tree::new(Timestamp::from_nanos(0));
/// let context = Context::new(Timestamp::from_nanos(1));
/// assert_eq!(decide(&tree, &context, &Op::Rmdir { at: At::root("/") }), Err(Errno::Busy));
/// ```
///
/// # Errors
/// What Linux's system call of the same name gives to root.
pub fn decide(tree: &Tree, context: &Context<'_>, op: &Op) -> Result<Decision, Errno> {
    let decider = Decider { tree, context };
    match op {
        Op::Open { at, access, flags, mode } => decider.open(at, *access, *flags, *mode),
        Op::Mkdir { at, mode } => decider.mkdir(at, *mode),
        Op::Symlink { target, at } => decider.symlink(target, at),
        Op::Link { from, to } => decider.link(from, to),
        Op::Unlink { at } => decider.unlink(at),
        Op::Rmdir { at } => decider.rmdir(at),
        Op::Rename { from, to } => decider.rename(from, to),
        Op::Write { target, at, len } => decider.write(target, *at, *len),
        Op::Truncate { target, size } => decider.truncate(target, *size),
        Op::SetMode { target, mode } => decider.set_mode(target, *mode),
        Op::SetOwner { target, uid, gid } => decider.set_owner(target, *uid, *gid),
        Op::SetTimes { target, accessed, modified } => decider.set_times(target, *accessed, *modified),
        Op::Lock { ino, owner, mode } => decider.lock(*ino, *owner, *mode),
        Op::Unlock { ino, owner } => decider.unlock(*ino, *owner),
        Op::Release { ino } => Ok(decider.release(*ino)),
        Op::NewSession if tree.needs_new_session() => Ok(done(Change::NewSession)),
        Op::NewSession => Ok(nothing()),
        Op::AddCheckpoint { name, commit } => decider.add_checkpoint(name, *commit),
        Op::DropCheckpoint { name } => decider.drop_checkpoint(name),
        Op::Require(condition) => decider.require(condition),
    }
}

fn done(change: Change) -> Decision {
    Decision { changes: vec![change], outcome: Outcome::Done }
}

fn nothing() -> Decision {
    Decision { changes: Vec::new(), outcome: Outcome::Done }
}

struct Decider<'a> {
    tree: &'a Tree,
    context: &'a Context<'a>,
}

impl<'a> Decider<'a> {
    fn open(&self, at: &At, access: Access, flags: OpenFlags, mode: u32) -> Result<Decision, Errno> {
        if flags.create && flags.directory || !access.read && !access.write {
            return Err(Errno::Invalid);
        }
        let exclusive = flags.create && flags.exclusive;
        let mut follow = !flags.no_follow && !exclusive;
        let mut directory = flags.directory;
        let (mut walk, mut path) = Walk::start(self.tree, at)?;
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
            Kind::File | Kind::Symlink if directory => return Err(Errno::NotADirectory),
            Kind::Symlink => return Err(Errno::TooManySymlinks),
            Kind::File | Kind::Directory => {}
        }
        let changes = if flags.truncate {
            vec![Change::Truncate { ino, size: 0, time: self.context.now }]
        } else {
            Vec::new()
        };
        Ok(Decision { changes, outcome: Outcome::Opened { ino, kind, created: false } })
    }

    fn create_file(&self, parent: Ino, name: &[u8], mode: u32) -> Result<Decision, Errno> {
        let change = self.create(parent, name, Node::File, mode & 0o7777)?;
        let outcome = Outcome::Opened { ino: self.tree.next_ino, kind: Kind::File, created: true };
        Ok(Decision { changes: vec![change], outcome })
    }

    fn mkdir(&self, at: &At, mode: u32) -> Result<Decision, Errno> {
        let (parent, name) = self.new_name(at, true)?;
        // As in Linux: neither set-user-id nor set-group-id can be asked for here.
        self.make(parent, name, Node::Directory, mode & 0o1777)
    }

    fn symlink(&self, target: &[u8], at: &At) -> Result<Decision, Errno> {
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

    fn make(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Decision, Errno> {
        let change = self.create(parent, name, node, mode)?;
        Ok(Decision { changes: vec![change], outcome: Outcome::Made { ino: self.tree.next_ino } })
    }

    /// A new inode with a name that is known to be free.
    fn create(&self, parent: Ino, name: &[u8], node: Node, mode: u32) -> Result<Change, Errno> {
        let dir = self.room(parent)?;
        let ino = self.tree.next_ino;
        if ino.0 == u64::MAX {
            return Err(Errno::NoSpace);
        }
        let (mut mode, mut gid) = (mode, self.context.gid);
        if node == Node::Directory && dir.nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks);
        }
        if dir.mode & SET_GROUP_ID != 0 {
            gid = dir.gid;
            if node == Node::Directory {
                mode |= SET_GROUP_ID;
            }
        }
        let (name, uid, time) = (Name::new(name)?, self.context.uid, self.context.now);
        Ok(Change::Create { parent, name, ino, node, mode, uid, gid, time })
    }

    fn link(&self, from: &Target, to: &At) -> Result<Decision, Errno> {
        let ino = self.tree.target(from)?;
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

    fn unlink(&self, at: &At) -> Result<Decision, Errno> {
        let resolved = self.tree.resolve_parent(at)?;
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

    fn rmdir(&self, at: &At) -> Result<Decision, Errno> {
        let resolved = self.tree.resolve_parent(at)?;
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

    fn rename(&self, from: &At, to: &At) -> Result<Decision, Errno> {
        let from = self.tree.resolve_parent(from)?;
        let to = self.tree.resolve_parent(to)?;
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

    fn replaceable(&self, new: Entry, by_directory: bool) -> Result<Replaced, Errno> {
        match (by_directory, new.kind == Kind::Directory) {
            (true, false) => return Err(Errno::NotADirectory),
            (false, true) => return Err(Errno::IsADirectory),
            (true, true) => self.empty(new)?,
            (false, false) => {}
        }
        self.unnamed(new)
    }

    fn write(&self, target: &Target, at: WriteAt, len: u64) -> Result<Decision, Errno> {
        let (ino, inode) = self.file(target)?;
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => inode.size,
        };
        let outcome = Outcome::Written { offset };
        if len == 0 {
            return Ok(Decision { changes: Vec::new(), outcome });
        }
        if offset.checked_add(len).is_none_or(|end| end > FILE_SIZE_MAX) {
            return Err(Errno::TooBig);
        }
        let change = Change::Write { ino, offset, len, time: self.context.now };
        Ok(Decision { changes: vec![change], outcome })
    }

    fn truncate(&self, target: &Target, size: u64) -> Result<Decision, Errno> {
        let (ino, _) = self.file(target)?;
        if size > FILE_SIZE_MAX {
            return Err(Errno::TooBig);
        }
        Ok(done(Change::Truncate { ino, size, time: self.context.now }))
    }

    fn set_mode(&self, target: &Target, mode: u32) -> Result<Decision, Errno> {
        let ino = self.tree.target(target)?;
        if self.inode(ino)?.kind() == Kind::Symlink {
            return Err(Errno::NotSupported);
        }
        Ok(done(Attributes { mode: Some(mode & 0o7777), ..Attributes::default() }.set(ino, self.context.now)))
    }

    fn set_owner(&self, target: &Target, uid: Option<u32>, gid: Option<u32>) -> Result<Decision, Errno> {
        let ino = self.tree.target(target)?;
        let inode = self.inode(ino)?;
        // A file that others own must not go on running with the rights of its old owner; as in Linux, this is
        // so for root too, and even when no new owner is given.
        let mut kept = inode.mode;
        if !inode.is_dir() {
            kept &= !SET_USER_ID;
            if kept & GROUP_EXECUTE != 0 {
                kept &= !SET_GROUP_ID;
            }
        }
        let mode = (kept != inode.mode).then_some(kept);
        Ok(done(Attributes { mode, uid, gid, ..Attributes::default() }.set(ino, self.context.now)))
    }

    fn set_times(&self, target: &Target, accessed: SetTime, modified: SetTime) -> Result<Decision, Errno> {
        // Linux does not even look at the path then.
        if accessed == SetTime::Keep && modified == SetTime::Keep {
            return Ok(nothing());
        }
        let ino = self.tree.target(target)?;
        let time = |set| match set {
            SetTime::Keep => None,
            SetTime::Now => Some(self.context.now),
            SetTime::At(time) => Some(time),
        };
        let times =
            Attributes { accessed: time(accessed), modified: time(modified), ..Attributes::default() };
        Ok(done(times.set(ino, self.context.now)))
    }

    fn lock(&self, ino: Ino, owner: OwnerId, mode: LockMode) -> Result<Decision, Errno> {
        if self.inode(ino)?.kind() == Kind::Symlink {
            return Err(Errno::Invalid);
        }
        if self.tree.conflicts(ino, owner, mode) {
            return Err(Errno::WouldBlock);
        }
        if self.tree.locks.get(&(ino, owner)) == Some(&mode) {
            return Ok(nothing());
        }
        Ok(done(Change::Lock { ino, owner, mode }))
    }

    fn unlock(&self, ino: Ino, owner: OwnerId) -> Result<Decision, Errno> {
        self.inode(ino)?;
        let held = self.tree.locks.contains_key(&(ino, owner));
        Ok(if held { done(Change::Unlock { ino, owner }) } else { nothing() })
    }

    fn release(&self, ino: Ino) -> Decision {
        let nameless = self.tree.orphans.contains_key(&ino);
        if nameless && !(self.context.is_open)(ino) { done(Change::Reap { ino }) } else { nothing() }
    }

    fn add_checkpoint(&self, name: &String, commit: CommitId) -> Result<Decision, Errno> {
        if name.is_empty() {
            return Err(Errno::Invalid);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        if self.tree.checkpoints.contains_key(name) {
            return Err(Errno::Exists);
        }
        Ok(done(Change::AddCheckpoint { name: name.clone(), commit, time: self.context.now }))
    }

    fn drop_checkpoint(&self, name: &String) -> Result<Decision, Errno> {
        if !self.tree.checkpoints.contains_key(name) {
            return Err(Errno::NotFound);
        }
        Ok(done(Change::DropCheckpoint { name: name.clone() }))
    }

    fn require(&self, condition: &Precondition) -> Result<Decision, Errno> {
        let found = |target| self.tree.target(target).and_then(|ino| self.inode(ino));
        let holds = match condition {
            Precondition::Exists(target) => found(target).is_ok(),
            // A path that cannot be resolved for another reason says nothing of what is there.
            Precondition::Missing(target) => {
                matches!(found(target), Err(Errno::NotFound | Errno::NotADirectory | Errno::Stale))
            }
            Precondition::Size(target, size) => {
                found(target).is_ok_and(|inode| inode.kind() == Kind::File && inode.size == *size)
            }
            Precondition::ChangedAt(target, time) => {
                found(target).is_ok_and(|inode| inode.times.changed == *time)
            }
        };
        if holds { Ok(nothing()) } else { Err(Errno::Canceled) }
    }

    /// Where a new name is to be put: the directory and the name, which it does not have yet.
    fn new_name<'b>(&self, at: &'b At, directory: bool) -> Result<(Ino, &'b [u8]), Errno>
    where
        'a: 'b,
    {
        let Resolved { parent, last, trailing_slash } = self.tree.resolve_parent(at)?;
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
    fn room(&self, ino: Ino) -> Result<&'a Inode, Errno> {
        let dir = self.inode(ino)?;
        match dir.body {
            _ if dir.nlink == 0 => Err(Errno::NotFound),
            Body::Directory { next_cookie: u64::MAX, .. } => Err(Errno::NoSpace),
            Body::Directory { .. } => Ok(dir),
            _ => Err(Errno::NotADirectory),
        }
    }

    fn empty(&self, entry: Entry) -> Result<(), Errno> {
        match self.inode(entry.ino)?.body {
            Body::Directory { entries: 0, .. } => Ok(()),
            _ => Err(Errno::NotEmpty),
        }
    }

    /// What becomes of an inode that loses this name.
    fn unnamed(&self, entry: Entry) -> Result<Replaced, Errno> {
        let last = entry.kind == Kind::Directory || self.inode(entry.ino)?.nlink == 1;
        Ok(Replaced { ino: entry.ino, reap: last && !(self.context.is_open)(entry.ino) })
    }

    fn file(&self, target: &Target) -> Result<(Ino, &'a Inode), Errno> {
        let ino = self.tree.target(target)?;
        let inode = self.inode(ino)?;
        match inode.kind() {
            Kind::File => Ok((ino, inode)),
            Kind::Directory => Err(Errno::IsADirectory),
            Kind::Symlink => Err(Errno::Invalid),
        }
    }

    fn inode(&self, ino: Ino) -> Result<&'a Inode, Errno> {
        self.tree.inode(ino).ok_or(Errno::Stale)
    }
}

/// The attributes that a Change sets.
#[derive(Default)]
struct Attributes {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    accessed: Option<Timestamp>,
    modified: Option<Timestamp>,
}

impl Attributes {
    const fn set(self, ino: Ino, time: Timestamp) -> Change {
        let Self { mode, uid, gid, accessed, modified } = self;
        Change::SetAttr { ino, mode, uid, gid, accessed, modified, time }
    }
}
