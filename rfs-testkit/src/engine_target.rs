//! An [`Engine`] with a table of handles on top, as a [`Target`]: what stands between system calls and Ops.

use std::collections::BTreeMap;

use rfs_core::{
    Access, At, AtimePolicy, Context, Credential, Errno, Ino, Kind, LockMode, LockOwner, LockRange, NAME_MAX,
    Op, OpenFlags, Outcome, OwnerId, Permission, Place, Precondition, Timestamp, Tree, XATTR_NAME_MAX,
    XATTR_VALUE_MAX, decide_batch,
};

use crate::engine_dump::{attr, dump_dir, names, node};
use crate::target::Identities;
use crate::whole::{loaded, posix};
use crate::{
    Answer, Condition, Content, Dump, Engine, Path, Rules, Slot, Target, TestOp, Value, What, callers,
};

const READ: Access = Access { read: true, write: false };
const WRITE: Access = Access { read: false, write: true };

/// An [`Engine`] with handles, as a [`Target`]. All handles are of one owner.
#[derive(Clone, Debug)]
pub struct EngineTarget<E> {
    /// What is under test.
    pub engine: E,
    /// Whether it does what a caller of rfs can do to look like Linux where rfs decides otherwise.
    pub rules: Rules,
    /// Whether reading changes the time of last access.
    pub atime: AtimePolicy,
    owner: OwnerId,
    credential: Credential,
    callers: Vec<Credential>,
    handles: BTreeMap<Slot, Handle>,
    keys: u64,
}

#[derive(Clone, Copy, Debug)]
struct Handle {
    ino: Ino,
    access: Access,
    /// Tells it from every other handle that there ever was: the key of its locks.
    key: u64,
}

impl<E: Engine> EngineTarget<E> {
    /// No handle is open yet.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            rules: Rules::rfs(),
            atime: AtimePolicy::Never,
            owner: OwnerId(1),
            credential: Credential::root(),
            callers: callers(),
            handles: BTreeMap::new(),
            keys: 0,
        }
    }

    /// The same handles on another engine: what a process finds that opens the volume under its old owner id.
    #[must_use]
    pub fn moved_to<F: Engine>(self, engine: F) -> EngineTarget<F> {
        let Self { engine: _, rules, atime, owner, credential, callers, handles, keys } = self;
        EngineTarget { engine, rules, atime, owner, credential, callers, handles, keys }
    }

    /// For whom the handles are open.
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Every path, and what is there; the root's is `/`.
    #[must_use]
    pub fn paths(&self) -> Vec<(Vec<u8>, Kind)> {
        let tree = self.engine.tree();
        let mut paths = vec![(b"/".to_vec(), Kind::Directory)];
        collect_paths(&tree, Ino::ROOT, b"", &mut paths);
        paths
    }

    /// The open handles: what they hold, and what they are open for.
    pub fn handles(&self) -> impl Iterator<Item = (Slot, Kind, Access)> + '_ {
        let tree = self.engine.tree();
        self.handles.iter().filter_map(move |(slot, handle)| {
            loaded(tree.inode(handle.ino)).map(|inode| (*slot, inode.kind(), handle.access))
        })
    }

    /// Whether a handle holds a directory that was removed.
    #[must_use]
    pub fn holds_removed(&self, slot: Slot) -> bool {
        let tree = self.engine.tree();
        self.handles
            .get(&slot)
            .and_then(|handle| loaded(tree.inode(handle.ino)))
            .is_some_and(|inode| inode.nlink == 0)
    }

    /// Performs an operation; [`Target::run`] with rfs's type of error.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn do_op(&mut self, op: &TestOp) -> Result<Value, Errno> {
        let TestOp::As { caller, op } = op else { return self.as_caller(op) };
        let before = std::mem::replace(&mut self.credential, self.callers[*caller].clone());
        let answer = self.as_caller(op);
        self.credential = before;
        answer
    }

    fn as_caller(&mut self, op: &TestOp) -> Result<Value, Errno> {
        match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                let op = Op::Open { at: self.at(path)?, access: *access, flags: *flags, mode: *mode };
                self.open_into(*slot, &op, *access)
            }
            TestOp::OpenNameless { slot, path, access, linkable, mode } => {
                let dir = rfs_core::Target::Path { at: self.at(path)?, follow: true };
                let op = Op::OpenNameless { dir, access: *access, linkable: *linkable, mode: *mode };
                self.open_into(*slot, &op, *access)
            }
            TestOp::Close { slot } => self.close(*slot, None).map(|()| Value::Unit),
            TestOp::Read { what, offset, len } => self.read(what, *offset, *len).map(Value::Bytes),
            TestOp::ReadDir { what } => self.read_dir(what).map(Value::Names),
            TestOp::Stat { .. }
            | TestOp::ReadLink { .. }
            | TestOp::Access { .. }
            | TestOp::GetXattr { .. }
            | TestOp::ListXattr { .. }
            | TestOp::StatFs => self.query(op),
            TestOp::SeekData { what, offset } => self.seek_data(what, *offset).map(Value::Number),
            TestOp::SeekHole { what, offset } => self.seek_hole(what, *offset).map(Value::Truth),
            TestOp::LockFile { .. }
            | TestOp::UnlockFile { .. }
            | TestOp::LockRange { .. }
            | TestOp::UnlockRange { .. }
            | TestOp::GetLock { .. } => self.lock(op),
            TestOp::Batch(parts) => self.batch(parts),
            _ => {
                self.refused_by_handle(op)?;
                let (op, payload) = self.op(op)?;
                match self.submit(&op, &payload)? {
                    Outcome::Written { offset } => Ok(Value::Number(offset)),
                    Outcome::Copied { len } => Ok(Value::Number(len)),
                    _ => Ok(Value::Unit),
                }
            }
        }
    }

    /// What is asked without an Op.
    fn query(&self, op: &TestOp) -> Result<Value, Errno> {
        let tree = self.engine.tree();
        let find = |what: &What| posix(tree.target(&self.credential, &self.target(what)?));
        match op {
            TestOp::Stat { what } => attr(&tree, find(what)?).map(Value::Attr),
            TestOp::ReadLink { path } => {
                let ino = posix(tree.lookup(&self.credential, &self.at(path)?, false))?;
                Ok(Value::Link(posix(tree.read_link(ino))?.to_vec()))
            }
            TestOp::Access { what, access } => {
                let access = Permission::from_bits(*access).ok_or(Errno::Invalid)?;
                posix(tree.permits(&self.credential, find(what)?, access)).map(|()| Value::Unit)
            }
            TestOp::GetXattr { what, name } => {
                // A kernel looks at the name before the path.
                if let What::Handle(slot) = what {
                    self.handle(*slot)?;
                }
                if name.0.is_empty() || name.0.len() > XATTR_NAME_MAX {
                    return Err(Errno::Range);
                }
                let value = posix(tree.xattr(&self.credential, find(what)?, &name.0))?;
                Ok(Value::Bytes(value.as_bytes().to_vec()))
            }
            TestOp::ListXattr { what } => {
                let names = posix(tree.xattr_names(&self.credential, find(what)?))?;
                let mut names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
                names.sort_unstable();
                Ok(Value::Names(names))
            }
            TestOp::StatFs => Ok(Value::Number(NAME_MAX as u64)),
            _ => Err(Errno::NotSupported),
        }
    }

    fn lock(&mut self, op: &TestOp) -> Result<Value, Errno> {
        let unit = |_| Value::Unit;
        match op {
            TestOp::LockFile { slot, mode } => {
                let (ino, owner) = self.locker(*slot)?;
                let answer = self.submit(&Op::LockFile { ino, owner, mode: *mode }, &[]);
                if answer == Err(Errno::WouldBlock) && self.rules.failed_lock_change_loses_lock {
                    self.submit(&Op::UnlockFile { ino, owner }, &[])?;
                }
                answer.map(unit)
            }
            TestOp::UnlockFile { slot } => {
                let (ino, owner) = self.locker(*slot)?;
                self.submit(&Op::UnlockFile { ino, owner }, &[]).map(unit)
            }
            TestOp::LockRange { slot, range, mode } => {
                let Handle { access, .. } = *self.handle(*slot)?;
                let allowed = if *mode == LockMode::Shared { access.read } else { access.write };
                if !allowed {
                    return Err(Errno::BadHandle);
                }
                let (ino, owner) = self.locker(*slot)?;
                self.submit(&Op::LockRange { ino, owner, range: *range, mode: *mode }, &[]).map(unit)
            }
            TestOp::UnlockRange { slot, range } => {
                let (ino, owner) = self.locker(*slot)?;
                self.submit(&Op::UnlockRange { ino, owner, range: *range }, &[]).map(unit)
            }
            TestOp::GetLock { slot, range, mode } => {
                let (ino, owner) = self.locker(*slot)?;
                let conflict = self.engine.tree().range_lock_conflict(ino, owner, *range, *mode);
                if let Some(held) = conflict {
                    let one_is_exclusive = held.mode == LockMode::Exclusive || *mode == LockMode::Exclusive;
                    assert!(
                        held.range.overlaps(range) && held.owner != owner && one_is_exclusive,
                        "{held:?}"
                    );
                }
                Ok(Value::Truth(conflict.is_some()))
            }
            _ => Err(Errno::NotSupported),
        }
    }

    fn batch(&mut self, parts: &[TestOp]) -> Result<Value, Errno> {
        let mut ops = Vec::new();
        let mut payload = Vec::new();
        for part in parts {
            match self.refused_by_handle(part).and_then(|()| self.op(part)) {
                Ok((op, bytes)) => {
                    ops.push(op);
                    payload.extend(bytes);
                }
                // An Op before it may be refused for a reason of its own, which then counts.
                Err(errno) => {
                    let tree = self.engine.tree();
                    let holders = holders(&self.handles, self.owner);
                    let before = decide_batch(&tree, &self.context(&holders), &ops, Place::default());
                    return Err(before.err().map_or(errno, |error| error.fault.errno().unwrap_or(errno)));
                }
            }
        }
        let holders = holders(&self.handles, self.owner);
        let context = context(self.owner, &self.credential, self.atime, &holders);
        self.engine.submit_batch(&context, &ops, &payload).map(|()| Value::Unit)
    }

    /// What a handle is not open for.
    fn refused_by_handle(&mut self, op: &TestOp) -> Result<(), Errno> {
        match op {
            TestOp::Write { what: What::Handle(slot), .. } if !self.handle(*slot)?.access.write => {
                Err(Errno::BadHandle)
            }
            TestOp::Truncate { what: What::Handle(slot), .. } if !self.may_truncate(*slot)? => {
                Err(Errno::Invalid)
            }
            TestOp::Allocate { what: What::Handle(slot), len, .. } if !self.handle(*slot)?.access.write => {
                // As Linux: an empty range is refused before the handle is looked at.
                Err(if *len == 0 { Errno::Invalid } else { Errno::BadHandle })
            }
            TestOp::SetXattr { what: What::Path { .. }, name, value, .. } => {
                // A kernel looks at these before the path.
                match () {
                    () if name.0.is_empty() || name.0.len() > XATTR_NAME_MAX => Err(Errno::Range),
                    () if value.0.len() > XATTR_VALUE_MAX => Err(Errno::ListTooLong),
                    () => Ok(()),
                }
            }
            TestOp::RemoveXattr { what: What::Path { .. }, name } => {
                if name.0.is_empty() || name.0.len() > XATTR_NAME_MAX { Err(Errno::Range) } else { Ok(()) }
            }
            TestOp::Copy { from, to, .. } => {
                let fits = |what: &What, fits: fn(Access) -> bool| match what {
                    What::Handle(slot) => self.handles.get(slot).is_some_and(|handle| fits(handle.access)),
                    What::Path { .. } => true,
                };
                if fits(from, |access| access.read) && fits(to, |access| access.write) {
                    return Ok(());
                }
                // As Linux: first both are open, then they are files, then they are open for it.
                let kinds = [self.file_of(from, READ)?.1, self.file_of(to, WRITE)?.1];
                if kinds.contains(&Kind::Directory) {
                    return Err(Errno::IsADirectory);
                }
                Err(Errno::BadHandle)
            }
            _ => Ok(()),
        }
    }

    /// The Op of an operation that is one, and its payload.
    fn op(&self, op: &TestOp) -> Result<(Op, Vec<u8>), Errno> {
        let op = match op {
            TestOp::Write { what, at, data } => {
                let op = Op::Write { target: self.target(what)?, at: *at, len: data.len as u64 };
                return Ok((op, data.bytes()));
            }
            TestOp::Truncate { what, size } => Op::Truncate { target: self.target(what)?, size: *size },
            TestOp::Allocate { what, mode, offset, len } => {
                Op::Allocate { target: self.target(what)?, mode: *mode, offset: *offset, len: *len }
            }
            TestOp::Copy { from, from_offset, to, to_offset, len } => Op::Copy {
                from: self.target(from)?,
                from_offset: *from_offset,
                to: self.target(to)?,
                to_offset: *to_offset,
                len: *len,
            },
            TestOp::Mkdir { path, mode } => Op::Mkdir { at: self.at(path)?, mode: *mode },
            TestOp::Mknod { path, node, mode } => {
                Op::Mknod { at: self.at(path)?, node: node.clone(), mode: *mode }
            }
            TestOp::Symlink { target, path } => Op::Symlink { target: target.0.clone(), at: self.at(path)? },
            TestOp::Link { from, to } => Op::Link { from: self.target(from)?, to: self.at(to)? },
            TestOp::Unlink { path } => Op::Unlink { at: self.at(path)? },
            TestOp::Rmdir { path } => Op::Rmdir { at: self.at(path)? },
            TestOp::Rename { from, to, mode } => {
                Op::Rename { from: self.at(from)?, to: self.at(to)?, mode: *mode }
            }
            TestOp::SetMode { what, mode } => Op::SetMode { target: self.target(what)?, mode: *mode },
            TestOp::SetOwner { what, uid, gid } => {
                Op::SetOwner { target: self.target(what)?, uid: *uid, gid: *gid }
            }
            TestOp::SetTimes { what, accessed, modified } => {
                Op::SetTimes { target: self.target(what)?, accessed: *accessed, modified: *modified }
            }
            TestOp::SetXattr { what, name, value, mode } => Op::SetXattr {
                target: self.target(what)?,
                name: name.0.clone(),
                value: value.0.clone(),
                mode: *mode,
            },
            TestOp::RemoveXattr { what, name } => {
                Op::RemoveXattr { target: self.target(what)?, name: name.0.clone() }
            }
            TestOp::Create { path, mode } => Op::Open {
                at: self.at(path)?,
                access: WRITE,
                flags: OpenFlags { create: true, exclusive: true, ..OpenFlags::default() },
                mode: *mode,
            },
            TestOp::Require(condition) => Op::Require(match condition {
                Condition::Exists(what) => Precondition::Exists(self.target(what)?),
                Condition::Missing(what) => Precondition::Missing(self.target(what)?),
                Condition::Size(what, size) => Precondition::Size(self.target(what)?, *size),
            }),
            _ => return Err(Errno::NotSupported),
        };
        Ok((op, Vec::new()))
    }

    fn open_into(&mut self, slot: Slot, op: &Op, access: Access) -> Result<Value, Errno> {
        let (ino, _) = self.open(op)?;
        if self.handles.contains_key(&slot) {
            // The new handle already counts, so that closing the old one removes nothing that it holds.
            self.close(slot, Some(ino))?;
        }
        self.keys += 1;
        self.handles.insert(slot, Handle { ino, access, key: self.keys });
        Ok(Value::Unit)
    }

    fn open(&mut self, op: &Op) -> Result<(Ino, Kind), Errno> {
        match self.submit(op, &[])? {
            Outcome::Opened { ino, kind, .. } => Ok((ino, kind)),
            other => panic!("an open is answered by {other:?}"),
        }
    }

    /// Lets a handle go with its locks, which are the handle's.
    fn close(&mut self, slot: Slot, also_held: Option<Ino>) -> Result<(), Errno> {
        let (ino, owner) = self.locker(slot)?;
        self.submit(&Op::UnlockFile { ino, owner }, &[])?;
        if self.engine.tree().range_locks(ino).any(|held| held.owner == owner) {
            self.submit(&Op::UnlockRange { ino, owner, range: LockRange::ALL }, &[])?;
        }
        self.handles.remove(&slot);
        if also_held != Some(ino) && !self.handles.values().any(|handle| handle.ino == ino) {
            self.submit(&Op::Release { ino }, &[])?;
        }
        Ok(())
    }

    /// What is read or written: a path is opened for it.
    fn file_of(&mut self, what: &What, access: Access) -> Result<(Ino, Kind), Errno> {
        match what {
            What::Handle(slot) => {
                let ino = self.handle(*slot)?.ino;
                Ok((ino, posix(self.engine.tree().attr(ino))?.kind))
            }
            What::Path { path, follow } => {
                let flags = OpenFlags { no_follow: !follow, ..OpenFlags::default() };
                self.open(&Op::Open { at: self.at(path)?, access, flags, mode: 0 })
            }
        }
    }

    fn readable(&mut self, what: &What) -> Result<(Ino, Kind), Errno> {
        match what {
            What::Handle(slot) if !self.handle(*slot)?.access.read => Err(Errno::BadHandle),
            _ => self.file_of(what, READ),
        }
    }

    fn read(&mut self, what: &What, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let (ino, _) = self.readable(what)?;
        let tree = self.engine.tree();
        let mut bytes = Vec::new();
        for run in posix(tree.file_ranges(ino, offset..offset.saturating_add(len)))? {
            assert_eq!(run.range.start, offset + bytes.len() as u64, "runs follow each other without a gap");
            let len = run.range.end - run.range.start;
            bytes.extend(match run.place {
                Some(place) => self.engine.read(place, len),
                None => vec![0; len as usize],
            });
        }
        if self.atime != AtimePolicy::Never && len > 0 {
            self.submit(&Op::Accessed { ino }, &[])?;
        }
        Ok(bytes)
    }

    fn read_dir(&mut self, what: &What) -> Result<Vec<Vec<u8>>, Errno> {
        let ino = match what {
            What::Handle(slot) => self.handle(*slot)?.ino,
            What::Path { path, follow } => {
                let flags = OpenFlags { no_follow: !follow, directory: true, ..OpenFlags::default() };
                self.open(&Op::Open { at: self.at(path)?, access: READ, flags, mode: 0 })?.0
            }
        };
        let mut names = names(&self.engine.tree(), ino)?;
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }

    fn seek_data(&mut self, what: &What, offset: u64) -> Result<u64, Errno> {
        let (ino, content) = self.seekable(what)?;
        let at = match posix(self.engine.tree().seek_data(ino, offset)) {
            Err(Errno::NoSuchData) if offset < content.len() => return Ok(content.len()),
            at => at?,
        };
        assert!(content.first_nonzero(offset).is_none_or(|found| found >= at), "data before {at} is skipped");
        Ok(content.first_nonzero(at).unwrap_or(content.len()))
    }

    fn seek_hole(&mut self, what: &What, offset: u64) -> Result<bool, Errno> {
        let (ino, content) = self.seekable(what)?;
        let at = posix(self.engine.tree().seek_hole(ino, offset))?;
        assert!(at >= offset && at <= content.len(), "{at} is not in the file");
        Ok(content.first_nonzero(at) != Some(at))
    }

    fn seekable(&mut self, what: &What) -> Result<(Ino, Content), Errno> {
        let (ino, kind) = self.readable(what)?;
        if kind != Kind::File {
            return Err(Errno::Invalid);
        }
        let mut read = |place, len| self.engine.read(place, len);
        let node = node(&self.engine.tree(), ino, &mut read, &mut Identities::default());
        Ok((ino, node.content))
    }

    fn may_truncate(&self, slot: Slot) -> Result<bool, Errno> {
        let handle = self.handle(slot)?;
        let tree = self.engine.tree();
        Ok(handle.access.write
            && loaded(tree.inode(handle.ino)).is_some_and(|inode| inode.kind() == Kind::File))
    }

    fn submit(&mut self, op: &Op, payload: &[u8]) -> Result<Outcome, Errno> {
        let holders = holders(&self.handles, self.owner);
        let context = context(self.owner, &self.credential, self.atime, &holders);
        self.engine.submit(&context, op, payload)
    }

    fn context<'a>(&'a self, holders: &'a dyn Fn(Ino) -> Vec<OwnerId>) -> Context<'a> {
        context(self.owner, &self.credential, self.atime, holders)
    }

    /// Whose the locks of a handle are, and on what.
    fn locker(&self, slot: Slot) -> Result<(Ino, LockOwner), Errno> {
        let Handle { ino, key, .. } = *self.handle(slot)?;
        Ok((ino, LockOwner { owner: self.owner, key }))
    }

    fn at(&self, path: &Path) -> Result<At, Errno> {
        let base = match path.base {
            None => Ino::ROOT,
            Some(slot) => match self.handles.get(&slot) {
                Some(handle) => handle.ino,
                None => path.refused_without_base().map_or(Ok(Ino::ROOT), Err)?,
            },
        };
        Ok(At { base, path: path.bytes.clone() })
    }

    fn target(&self, what: &What) -> Result<rfs_core::Target, Errno> {
        Ok(match what {
            What::Handle(slot) => rfs_core::Target::Ino(self.handle(*slot)?.ino),
            What::Path { path, follow } => rfs_core::Target::Path { at: self.at(path)?, follow: *follow },
        })
    }

    fn handle(&self, slot: Slot) -> Result<&Handle, Errno> {
        self.handles.get(&slot).ok_or(Errno::BadHandle)
    }
}

impl<E: Engine + Default> Default for EngineTarget<E> {
    fn default() -> Self {
        Self::new(E::default())
    }
}

fn holders(handles: &BTreeMap<Slot, Handle>, owner: OwnerId) -> impl Fn(Ino) -> Vec<OwnerId> + '_ {
    move |ino| if handles.values().any(|handle| handle.ino == ino) { vec![owner] } else { Vec::new() }
}

fn context<'a>(
    owner: OwnerId,
    credential: &'a Credential,
    atime: AtimePolicy,
    holders: &'a dyn Fn(Ino) -> Vec<OwnerId>,
) -> Context<'a> {
    Context { owner, credential, atime, holders, ..Context::new(Timestamp::from_nanos(0)) }
}

fn collect_paths(tree: &Tree, dir: Ino, prefix: &[u8], paths: &mut Vec<(Vec<u8>, Kind)>) {
    let mut found = names(tree, dir).expect("a directory in the tree can be listed");
    found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    for (name, ino) in found {
        let path = [prefix, b"/", &name].concat();
        let kind = loaded(tree.inode(ino)).map_or(Kind::File, rfs_core::Inode::kind);
        paths.push((path.clone(), kind));
        if kind == Kind::Directory {
            collect_paths(tree, ino, &path, paths);
        }
    }
}

impl<E: Engine> Target for EngineTarget<E> {
    fn run(&mut self, op: &TestOp) -> Answer {
        self.do_op(op).map_err(Errno::raw)
    }

    fn dump(&mut self) -> Dump {
        let tree = self.engine.tree();
        let mut read = |place, len| self.engine.read(place, len);
        let mut seen = Identities::default();
        let mut dump = Dump::default();
        dump_dir(&tree, Ino::ROOT, b"", &mut read, &mut seen, &mut dump);
        for (slot, handle) in &self.handles {
            let mut node = node(&tree, handle.ino, &mut read, &mut seen);
            if !handle.access.read {
                node.content = Content::default();
            }
            dump.handles.insert(*slot, node);
        }
        dump
    }
}
