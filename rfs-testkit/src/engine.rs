//! rfs without its outer layers as a target: Ops and Changes on a tree, with a handle table on top.
//!
//! [`TreeEngine`] is the core alone. A journal under test is another [`Engine`].

use std::collections::BTreeMap;

use rfs_core::{
    Access, At, Change, Context, Cookie, Errno, Ino, Kind, LockOwner, Op, OpenFlags, Outcome, OwnerId, Place,
    Precondition, RenameMode, SegmentId, Timestamp, Tree, decide, decide_batch,
};

use crate::target::{Identities, set_time};
use crate::{
    Answer, Attr, Condition, Content, Dump, ManualClock, Node, Path, Slot, Target, TestOp, Value, What,
};

/// What performs Ops and keeps content.
pub trait Engine {
    /// The tree as it stands.
    fn tree(&self) -> Tree;

    /// Performs one Op; `payload` is what it writes. Of the context the time does not count: the engine has a clock.
    ///
    /// # Errors
    /// Why it was refused.
    fn submit(&mut self, context: &Context<'_>, op: &Op, payload: &[u8]) -> Result<Outcome, Errno>;

    /// Performs several Ops, all or none; the payload holds what they write, in their order.
    ///
    /// # Errors
    /// Why one of them was refused.
    fn submit_batch(&mut self, context: &Context<'_>, ops: &[Op], payload: &[u8]) -> Result<(), Errno>;

    /// Content bytes from a place.
    fn read(&self, place: Place, len: u64) -> Vec<u8>;
}

/// The core alone: payload lies in one endless segment in memory.
#[derive(Debug)]
pub struct TreeEngine {
    tree: Tree,
    payload: Vec<u8>,
    clock: ManualClock,
    history: Vec<(Change, Place)>,
}

const START: Timestamp = Timestamp::from_nanos(1_577_836_800_000_000_000);

impl TreeEngine {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        let clock = ManualClock::ticking(START.as_nanos());
        Self { tree: Tree::new(START), payload: Vec::new(), clock, history: Vec::new() }
    }

    /// The tree that comes of all Changes so far, applied to an empty one.
    #[must_use]
    pub fn replayed(&self) -> Tree {
        let mut tree = Tree::new(START);
        for (change, place) in &self.history {
            tree.apply(change, *place)
                .expect("a Change that was applied once applies in the same order again");
        }
        tree
    }

    /// Every Change so far, and where its payload is.
    #[must_use]
    pub fn history(&self) -> &[(Change, Place)] {
        &self.history
    }

    fn end(&self) -> Place {
        Place { segment: SegmentId(0), position: self.payload.len() as u64 }
    }

    fn now<'a>(&self, context: &Context<'a>) -> Context<'a> {
        Context { now: Timestamp::from_nanos(self.clock.now_nanos()), ..*context }
    }

    fn remember(&mut self, changes: Vec<Change>, payload: &[u8]) {
        let mut place = self.end();
        for change in changes {
            let len = change.payload_len();
            self.history.push((change, place));
            place.position += len;
        }
        self.payload.extend_from_slice(payload);
        assert_eq!(place, self.end(), "the Changes of an Op carry exactly its payload");
    }
}

impl Default for TreeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for TreeEngine {
    fn tree(&self) -> Tree {
        self.tree.clone()
    }

    fn submit(&mut self, context: &Context<'_>, op: &Op, payload: &[u8]) -> Result<Outcome, Errno> {
        let decision = decide(&self.tree, &self.now(context), op)?;
        for change in &decision.changes {
            self.tree.apply(change, self.end()).expect("what was decided on a tree applies to it");
        }
        self.remember(decision.changes, payload);
        Ok(decision.outcome)
    }

    fn submit_batch(&mut self, context: &Context<'_>, ops: &[Op], payload: &[u8]) -> Result<(), Errno> {
        let batch = decide_batch(&self.tree, &self.now(context), ops, self.end());
        let batch = batch.map_err(|error| error.errno)?;
        self.tree = batch.tree;
        self.remember(batch.changes, payload);
        Ok(())
    }

    fn read(&self, place: Place, len: u64) -> Vec<u8> {
        let start = place.position as usize;
        self.payload[start..start + len as usize].to_vec()
    }
}

/// An [`Engine`] with handles, as a [`Target`].
#[derive(Debug, Default)]
pub struct EngineTarget<E> {
    /// What is under test.
    pub engine: E,
    owner: OwnerId,
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
        Self { engine, owner: OwnerId(1), handles: BTreeMap::new(), keys: 0 }
    }

    fn do_op(&mut self, op: &TestOp) -> Result<Value, Errno> {
        match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                let op = Op::Open { at: self.at(path)?, access: *access, flags: *flags, mode: *mode };
                let ino = self.open(&op)?;
                if self.handles.contains_key(slot) {
                    // The new handle already counts, so that closing the old one removes nothing that it holds.
                    self.close(*slot, Some(ino))?;
                }
                self.keys += 1;
                self.handles.insert(*slot, Handle { ino, access: *access, key: self.keys });
                Ok(Value::Unit)
            }
            TestOp::Close { slot } => self.close(*slot, None).map(|()| Value::Unit),
            TestOp::Read { what, offset, len } => self.read(what, *offset, *len).map(Value::Bytes),
            TestOp::Write { what: What::Handle(slot), .. } if !self.handle(*slot)?.access.write => {
                Err(Errno::BadHandle)
            }
            TestOp::Truncate { what: What::Handle(slot), .. } if !self.may_truncate(*slot)? => {
                Err(Errno::Invalid)
            }
            TestOp::Stat { what } => {
                let tree = self.engine.tree();
                attr(&tree, tree.target(&self.target(what)?)?).map(Value::Attr)
            }
            TestOp::ReadLink { path } => {
                let tree = self.engine.tree();
                let ino = tree.lookup(&self.at(path)?, false)?;
                Ok(Value::Link(tree.read_link(ino)?.to_vec()))
            }
            TestOp::ReadDir { what } => {
                let tree = self.engine.tree();
                let mut names = names(&tree, tree.target(&self.target(what)?)?)?;
                names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
                Ok(Value::Names(names.into_iter().map(|(name, _)| name).collect()))
            }
            TestOp::Lock { slot, mode } => {
                let (ino, owner) = self.locker(*slot)?;
                self.submit(&Op::LockFile { ino, owner, mode: *mode }, &[]).map(|_| Value::Unit)
            }
            TestOp::Unlock { slot } => {
                let (ino, owner) = self.locker(*slot)?;
                self.submit(&Op::UnlockFile { ino, owner }, &[]).map(|_| Value::Unit)
            }
            TestOp::Batch(parts) => self.batch(parts),
            _ => {
                let (op, payload) = self.op(op)?;
                match self.submit(&op, &payload)? {
                    Outcome::Written { offset } => Ok(Value::Number(offset)),
                    _ => Ok(Value::Unit),
                }
            }
        }
    }

    fn batch(&mut self, parts: &[TestOp]) -> Result<Value, Errno> {
        let mut ops = Vec::new();
        let mut payload = Vec::new();
        for part in parts {
            let refused_by_handle = match part {
                TestOp::Write { what: What::Handle(slot), .. } if !self.handle(*slot)?.access.write => {
                    Some(Errno::BadHandle)
                }
                TestOp::Truncate { what: What::Handle(slot), .. } if !self.may_truncate(*slot)? => {
                    Some(Errno::Invalid)
                }
                _ => None,
            };
            let translated = refused_by_handle.map_or_else(|| self.op(part), Err);
            match translated {
                Ok((op, bytes)) => {
                    ops.push(op);
                    payload.extend(bytes);
                }
                // An Op before it may be refused for a reason of its own, which then counts.
                Err(errno) => {
                    let tree = self.engine.tree();
                    let holders = holders(&self.handles, self.owner);
                    let before = decide_batch(&tree, &context(self.owner, &holders), &ops, Place::default());
                    return Err(before.err().map_or(errno, |error| error.errno));
                }
            }
        }
        let holders = holders(&self.handles, self.owner);
        self.engine.submit_batch(&context(self.owner, &holders), &ops, &payload).map(|()| Value::Unit)
    }

    /// The Op of an operation that is one, and its payload.
    fn op(&self, op: &TestOp) -> Result<(Op, Vec<u8>), Errno> {
        let op = match op {
            TestOp::Write { what, at, data } => {
                let op = Op::Write { target: self.target(what)?, at: *at, len: data.len as u64 };
                return Ok((op, data.bytes()));
            }
            TestOp::Truncate { what, size } => Op::Truncate { target: self.target(what)?, size: *size },
            TestOp::Mkdir { path, mode } => Op::Mkdir { at: self.at(path)?, mode: *mode },
            TestOp::Symlink { target, path } => Op::Symlink { target: target.0.clone(), at: self.at(path)? },
            TestOp::Link { from, to } => Op::Link { from: self.target(from)?, to: self.at(to)? },
            TestOp::Unlink { path } => Op::Unlink { at: self.at(path)? },
            TestOp::Rmdir { path } => Op::Rmdir { at: self.at(path)? },
            TestOp::Rename { from, to } => {
                Op::Rename { from: self.at(from)?, to: self.at(to)?, mode: RenameMode::Replace }
            }
            TestOp::SetMode { what, mode } => Op::SetMode { target: self.target(what)?, mode: *mode },
            TestOp::SetOwner { what, uid, gid } => {
                Op::SetOwner { target: self.target(what)?, uid: *uid, gid: *gid }
            }
            TestOp::SetTimes { what, accessed, modified } => {
                Op::SetTimes { target: self.target(what)?, accessed: *accessed, modified: *modified }
            }
            TestOp::Create { path, mode } => Op::Open {
                at: self.at(path)?,
                access: Access { read: false, write: true },
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

    fn open(&mut self, op: &Op) -> Result<Ino, Errno> {
        match self.submit(op, &[])? {
            Outcome::Opened { ino, .. } => Ok(ino),
            other => panic!("an open is answered by {other:?}"),
        }
    }

    fn close(&mut self, slot: Slot, also_held: Option<Ino>) -> Result<(), Errno> {
        let (ino, owner) = self.locker(slot)?;
        self.handles.remove(&slot);
        self.submit(&Op::UnlockFile { ino, owner }, &[])?;
        if also_held != Some(ino) && !self.handles.values().any(|handle| handle.ino == ino) {
            self.submit(&Op::Release { ino }, &[])?;
        }
        Ok(())
    }

    fn read(&mut self, what: &What, offset: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let ino = match what {
            What::Handle(slot) => {
                let handle = self.handle(*slot)?;
                if !handle.access.read {
                    return Err(Errno::BadHandle);
                }
                handle.ino
            }
            What::Path { path, follow } => {
                let access = Access { read: true, write: false };
                let flags = OpenFlags { no_follow: !follow, ..OpenFlags::default() };
                self.open(&Op::Open { at: self.at(path)?, access, flags, mode: 0 })?
            }
        };
        let tree = self.engine.tree();
        let mut bytes = Vec::new();
        for run in tree.file_ranges(ino, offset..offset.saturating_add(len))? {
            assert_eq!(run.range.start, offset + bytes.len() as u64, "runs follow each other without a gap");
            let len = run.range.end - run.range.start;
            bytes.extend(match run.place {
                Some(place) => self.engine.read(place, len),
                None => vec![0; len as usize],
            });
        }
        Ok(bytes)
    }

    fn may_truncate(&self, slot: Slot) -> Result<bool, Errno> {
        let handle = self.handle(slot)?;
        let tree = self.engine.tree();
        Ok(handle.access.write && tree.inode(handle.ino).is_some_and(|inode| inode.kind() == Kind::File))
    }

    fn submit(&mut self, op: &Op, payload: &[u8]) -> Result<Outcome, Errno> {
        let holders = holders(&self.handles, self.owner);
        self.engine.submit(&context(self.owner, &holders), op, payload)
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

fn holders(handles: &BTreeMap<Slot, Handle>, owner: OwnerId) -> impl Fn(Ino) -> Vec<OwnerId> + '_ {
    move |ino| if handles.values().any(|handle| handle.ino == ino) { vec![owner] } else { Vec::new() }
}

fn context(owner: OwnerId, holders: &dyn Fn(Ino) -> Vec<OwnerId>) -> Context<'_> {
    Context { owner, holders, ..Context::new(START) }
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

/// The whole of a tree; `read` fetches content from its place. A tree knows of no handles.
pub fn dump_tree(tree: &Tree, mut read: impl FnMut(Place, u64) -> Vec<u8>) -> Dump {
    let mut dump = Dump::default();
    dump_dir(tree, Ino::ROOT, b"", &mut read, &mut Identities::default(), &mut dump);
    dump
}

type Fetch<'a> = dyn FnMut(Place, u64) -> Vec<u8> + 'a;

fn dump_dir(
    tree: &Tree,
    dir: Ino,
    path: &[u8],
    read: &mut Fetch<'_>,
    seen: &mut Identities,
    dump: &mut Dump,
) {
    dump.tree.insert(path.to_vec(), node(tree, dir, read, seen));
    let mut names = names(tree, dir).expect("a directory in the tree can be listed");
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    for (name, ino) in names {
        let path = [path, b"/", &name].concat();
        if tree.inode(ino).is_some_and(rfs_core::Inode::is_dir) {
            dump_dir(tree, ino, &path, read, seen, dump);
        } else {
            dump.tree.insert(path, node(tree, ino, read, seen));
        }
    }
}

fn node(tree: &Tree, ino: Ino, read: &mut Fetch<'_>, seen: &mut Identities) -> Node {
    let attr = attr(tree, ino).expect("an entry or a handle leads to an inode");
    let mut content = Content::default();
    let mut link = Vec::new();
    if attr.kind == Kind::File {
        content.set_len(attr.size);
        for run in tree.file_ranges(ino, 0..attr.size).expect("a file has ranges") {
            if let Some(place) = run.place {
                content.write(run.range.start, &read(place, run.range.end - run.range.start));
            }
        }
    } else if attr.kind == Kind::Symlink {
        link = tree.read_link(ino).expect("a symlink has a target").to_vec();
    }
    Node { attr, content, link, identity: seen.of(ino.0) }
}

/// The names in a directory, in small steps so that cookies have work to do.
fn names(tree: &Tree, dir: Ino) -> Result<Vec<(Vec<u8>, Ino)>, Errno> {
    let mut names = Vec::new();
    let mut after = Cookie(0);
    loop {
        let step = match tree.read_dir(dir, after, 3) {
            // A removed directory: what the kernel says, and libraries hide, as POSIX asks.
            Err(Errno::NotFound) => return Ok(names),
            step => step?,
        };
        let Some(last) = step.last() else { return Ok(names) };
        after = last.cookie;
        names.extend(step.iter().map(|entry| (entry.name.as_bytes().to_vec(), entry.ino)));
    }
}

fn attr(tree: &Tree, ino: Ino) -> Result<Attr, Errno> {
    let attr = tree.attr(ino)?;
    let of_file = attr.kind == Kind::File;
    Ok(Attr {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: attr.size,
        accessed: if of_file { set_time(attr.times.accessed.as_nanos()) } else { None },
        modified: set_time(attr.times.modified.as_nanos()),
    })
}
