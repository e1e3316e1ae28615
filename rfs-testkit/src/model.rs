//! The reference: a tree in memory, as plain as can be, written from what POSIX and Linux say.
//!
//! It shares no code with rfs, so that a mistake would have to be made twice to go unseen. It stands for a tmpfs
//! used by root, without permission checks: of those, of ACLs and of set-id rules real Linux is the only judge.

mod content;
mod locks;
mod walk;
mod xattr;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rfs_core::{Access, Errno, Kind, LINK_MAX, LockMode, NAME_MAX, OpenFlags, RenameMode, SetTime};

use self::locks::RangeLock;
use self::walk::{Last, Walked, check_path};
use crate::target::{Identities, set_time};
use crate::{
    Answer, Attr, Condition, Content, Dump, Node, Path, Slot, Target, TestOp, Value, What, XattrText,
};

/// Where rfs decides otherwise than Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A change of a lock's mode that meets a conflict loses the lock that was held (Linux), or keeps it (rfs).
    pub failed_lock_change_loses_lock: bool,
    /// `..` of a directory that was removed with its parent leads to the parent always (Linux), or only while a
    /// handle holds the parent open (rfs).
    pub removed_parent_stays: bool,
}

impl Rules {
    /// As Linux does it.
    #[must_use]
    pub const fn linux() -> Self {
        Self { failed_lock_change_loses_lock: true, removed_parent_stays: true }
    }

    /// As rfs does it.
    #[must_use]
    pub const fn rfs() -> Self {
        Self { failed_lock_change_loses_lock: false, removed_parent_stays: false }
    }
}

/// The reference model.
///
/// ```
/// use rfs_testkit::{Data, ModelFs, Path, Rules, Target, TestOp, Value, What};
/// use rfs_core::WriteAt;
///
/// let mut model = ModelFs::new(Rules::rfs());
/// model.run(&TestOp::Create { path: Path::new("/f"), mode: 0o644 })?;
/// let data = Data { seed: 1, len: 3 };
/// model.run(&TestOp::Write { what: What::path("/f"), at: WriteAt::End, data })?;
/// let read = model.run(&TestOp::Read { what: What::path("/f"), offset: 1, len: 9 })?;
/// assert_eq!(read, Value::Bytes(data.bytes()[1..].to_vec()));
/// # Ok::<(), i32>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelFs {
    rules: Rules,
    nodes: HashMap<NodeId, ModelNode>,
    handles: BTreeMap<Slot, Handle>,
    next_id: u64,
}

type NodeId = u64;
type Outcome = Result<Value, Errno>;

const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
struct ModelNode {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    accessed: Option<i64>,
    modified: Option<i64>,
    /// Of a file.
    content: Content,
    /// Of a symlink.
    link: Vec<u8>,
    /// Of a directory.
    entries: BTreeMap<Vec<u8>, NodeId>,
    parent: NodeId,
    /// Of a device.
    device: u64,
    xattrs: BTreeMap<XattrText, XattrText>,
    /// Without a name from the start; it may get one.
    linkable: bool,
    /// By the handle that holds it.
    locks: BTreeMap<u64, LockMode>,
    range_locks: Vec<RangeLock>,
}

#[derive(Clone, Copy, Debug)]
struct Handle {
    /// Tells it from every other handle that there ever was.
    id: u64,
    node: NodeId,
    access: Access,
}

impl ModelFs {
    /// An empty tree: a root directory of mode 755.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let root = ModelNode::new(Kind::Directory, 0o755, ROOT);
        Self { rules, nodes: HashMap::from([(ROOT, root)]), handles: BTreeMap::new(), next_id: 1 }
    }

    /// Every path, and what is there; the root's is `/`.
    #[must_use]
    pub fn paths(&self) -> Vec<(Vec<u8>, Kind)> {
        let mut paths = vec![(b"/".to_vec(), Kind::Directory)];
        self.collect_paths(ROOT, b"", &mut paths);
        paths
    }

    /// The open handles: what they hold, and what they are open for.
    pub fn handles(&self) -> impl Iterator<Item = (Slot, Kind, Access)> + '_ {
        self.handles.iter().map(|(slot, handle)| (*slot, self.node(handle.node).kind, handle.access))
    }

    /// What handles hold that has no name any more, or yet: each once, with its content.
    #[must_use]
    pub fn nameless(&self) -> Vec<Node> {
        let held: BTreeSet<NodeId> = self.handles.values().map(|handle| handle.node).collect();
        let nodes = held.into_iter().map(|id| self.node(id)).filter(|node| node.nlink == 0);
        nodes.map(|node| node.dump(0)).collect()
    }

    /// On what the handles have locks: once for each handle that has any.
    #[must_use]
    pub fn locked(&self) -> Vec<Attr> {
        let has_locks = |handle: &&Handle| {
            let node = self.node(handle.node);
            node.locks.contains_key(&handle.id)
                || node.range_locks.iter().any(|lock| lock.handle == handle.id)
        };
        self.handles.values().filter(has_locks).map(|handle| self.node(handle.node).attr()).collect()
    }

    /// Performs an operation; [`Target::run`] with rfs's type of error.
    ///
    /// # Errors
    /// As Linux's.
    pub fn do_op(&mut self, op: &TestOp) -> Result<Value, Errno> {
        match op {
            TestOp::Open { slot, path, access, flags, mode } => {
                self.open(*slot, path, *access, *flags, *mode)
            }
            TestOp::Close { slot } => self.close(*slot),
            TestOp::Read { what, offset, len } => self.read(what, *offset, *len),
            TestOp::Write { what, at, data } => self.write(what, *at, &data.bytes()),
            TestOp::Truncate { what, size } => self.truncate(what, *size),
            TestOp::Allocate { what, mode, offset, len } => self.allocate(what, *mode, *offset, *len),
            TestOp::Copy { from, from_offset, to, to_offset, len } => {
                self.copy((from, *from_offset), (to, *to_offset), *len)
            }
            TestOp::SeekData { what, offset } => self.seek(what, *offset, true),
            TestOp::SeekHole { what, offset } => self.seek(what, *offset, false),
            TestOp::Mkdir { path, mode } => self.mkdir(path, *mode),
            TestOp::Mknod { path, node, mode } => self.mknod(path, node, *mode),
            TestOp::OpenNameless { slot, path, access, linkable, mode } => {
                self.open_nameless(*slot, path, *access, *linkable, *mode)
            }
            TestOp::Symlink { target, path } => self.symlink(&target.0, path),
            TestOp::Link { from, to } => self.link(from, to),
            TestOp::Unlink { path } => self.unlink(path),
            TestOp::Rmdir { path } => self.rmdir(path),
            TestOp::Rename { from, to, mode } => self.rename(from, to, *mode),
            TestOp::Access { what, access } => self.access(what, *access),
            TestOp::StatFs => Ok(Value::Number(NAME_MAX as u64)),
            TestOp::SetXattr { what, name, value, mode } => self.set_xattr(what, name, value, *mode),
            TestOp::GetXattr { what, name } => self.get_xattr(what, name),
            TestOp::ListXattr { what } => Ok(Value::Names(
                self.node(self.find(what)?).xattrs.keys().map(|name| name.0.clone()).collect(),
            )),
            TestOp::RemoveXattr { what, name } => self.remove_xattr(what, name),
            TestOp::SetMode { what, mode } => self.set_mode(what, *mode),
            TestOp::SetOwner { what, uid, gid } => self.set_owner(what, *uid, *gid),
            TestOp::SetTimes { what, accessed, modified } => self.set_times(what, *accessed, *modified),
            TestOp::Stat { what } => Ok(Value::Attr(self.node(self.find(what)?).attr())),
            TestOp::ReadLink { path } => self.read_link(path),
            TestOp::ReadDir { what } => self.read_dir(what),
            TestOp::LockFile { slot, mode } => self.lock_file(*slot, *mode),
            TestOp::UnlockFile { slot } => self.unlock_file(*slot),
            TestOp::LockRange { slot, range, mode } => self.lock_range(*slot, *range, *mode),
            TestOp::UnlockRange { slot, range } => self.unlock_range(*slot, *range),
            TestOp::GetLock { slot, range, mode } => self.get_lock(*slot, *range, *mode),
            TestOp::Create { path, mode } => {
                let flags = OpenFlags { create: true, exclusive: true, ..OpenFlags::default() };
                let access = Access { read: false, write: true };
                self.open_node(path, access, flags, *mode).map(|_| Value::Unit)
            }
            TestOp::Require(condition) => self.require(condition),
            TestOp::Batch(ops) => self.batch(ops),
            TestOp::As { caller: 0, op } => self.do_op(op),
            TestOp::As { .. } => panic!("the model knows no caller but root"),
        }
    }

    fn open(&mut self, slot: Slot, path: &Path, access: Access, flags: OpenFlags, mode: u32) -> Outcome {
        let node = self.open_node(path, access, flags, mode)?;
        self.keep(slot, node, access)
    }

    fn open_nameless(
        &mut self,
        slot: Slot,
        path: &Path,
        access: Access,
        linkable: bool,
        mode: u32,
    ) -> Outcome {
        if !access.write {
            return Err(Errno::Invalid);
        }
        let dir = self.follow(path, true)?;
        if self.node(dir).kind != Kind::Directory {
            return Err(Errno::NotADirectory);
        }
        let mut node = ModelNode::new(Kind::File, mode & 0o7777, ROOT);
        self.inherit(dir, &mut node);
        (node.nlink, node.linkable) = (0, linkable);
        let id = self.fresh_id();
        self.nodes.insert(id, node);
        self.keep(slot, id, access)
    }

    fn keep(&mut self, slot: Slot, node: NodeId, access: Access) -> Outcome {
        // The new handle is there before the old one goes, so that a file without a name can't go between them.
        if self.handles.contains_key(&slot) {
            self.close(slot)?;
        }
        let id = self.fresh_id();
        self.handles.insert(slot, Handle { id, node, access });
        Ok(Value::Unit)
    }

    fn open_node(
        &mut self,
        path: &Path,
        access: Access,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<NodeId, Errno> {
        if flags.create && flags.directory || !access.read && !access.write {
            return Err(Errno::Invalid);
        }
        let follow = !(flags.no_follow || flags.create && flags.exclusive);
        let mut links = 0;
        let mut at = self.walk(path, &mut links)?;
        let node = loop {
            let Last::Name(name) = &at.last else { break self.step_to_special(&at)? };
            if flags.create && at.slash {
                return Err(Errno::IsADirectory);
            }
            let node = match self.look_up(at.dir, name) {
                Ok(node) => node,
                Err(Errno::NotFound) if flags.create && !self.is_removed(at.dir) => {
                    let name = name.clone();
                    return Ok(self.make(at.dir, name, ModelNode::new(Kind::File, mode & 0o7777, ROOT)));
                }
                Err(errno) => return Err(errno),
            };
            if self.node(node).kind != Kind::Symlink || !(follow || at.slash) {
                break node;
            }
            at = self.walk_link(at.dir, node, if at.slash { b"/" } else { b"" }, &mut links)?;
        };
        let kind = self.node(node).kind;
        if flags.create && flags.exclusive {
            return Err(Errno::Exists);
        }
        if flags.create && kind == Kind::Directory {
            return Err(Errno::IsADirectory);
        }
        if flags.create && self.is_planted(at.dir, node) {
            return Err(Errno::AccessDenied);
        }
        if (flags.directory || at.slash) && kind != Kind::Directory {
            return Err(Errno::NotADirectory);
        }
        if kind == Kind::Symlink {
            return Err(Errno::TooManySymlinks);
        }
        if kind == Kind::Directory && (access.write || flags.truncate) {
            return Err(Errno::IsADirectory);
        }
        if !matches!(kind, Kind::File | Kind::Directory) {
            return Err(Errno::NoSuchData);
        }
        if flags.truncate {
            self.change_content(node, |content| content.set_len(0));
        }
        Ok(node)
    }

    /// What Linux does not open to create in a shared directory with the sticky bit, since somebody else put it there:
    /// `may_create_in_sticky`, with `fs.protected_regular` and `fs.protected_fifos` 0.
    fn is_planted(&self, dir: NodeId, node: NodeId) -> bool {
        let (dir, node) = (self.node(dir), self.node(node));
        let guarded = !matches!(node.kind, Kind::File | Kind::Fifo | Kind::Directory);
        guarded && dir.mode & 0o1002 == 0o1002 && node.uid != dir.uid && node.uid != 0
    }

    fn close(&mut self, slot: Slot) -> Outcome {
        let handle = self.handles.remove(&slot).ok_or(Errno::BadHandle)?;
        let node = self.node_mut(handle.node);
        node.locks.remove(&handle.id);
        node.range_locks.retain(|lock| lock.handle != handle.id);
        Ok(Value::Unit)
    }

    fn mkdir(&mut self, path: &Path, mode: u32) -> Outcome {
        let (dir, name) = self.place_for(path, true)?;
        if self.node(dir).nlink >= LINK_MAX {
            return Err(Errno::TooManyLinks);
        }
        self.make(dir, name, ModelNode::new(Kind::Directory, mode & 0o1777, dir));
        self.node_mut(dir).nlink += 1;
        Ok(Value::Unit)
    }

    fn mknod(&mut self, path: &Path, node: &rfs_core::Node, mode: u32) -> Outcome {
        let (kind, device) = match node {
            rfs_core::Node::Directory => return Err(Errno::NotPermitted),
            rfs_core::Node::CharDevice(device) | rfs_core::Node::BlockDevice(device) => {
                (node.kind(), *device)
            }
            rfs_core::Node::Symlink(_) => return Err(Errno::Invalid),
            _ => (node.kind(), 0),
        };
        let (dir, name) = self.place_for(path, false)?;
        self.make(dir, name, ModelNode { device, ..ModelNode::new(kind, mode & 0o7777, ROOT) });
        Ok(Value::Unit)
    }

    fn symlink(&mut self, target: &[u8], path: &Path) -> Outcome {
        check_path(target)?;
        let (dir, name) = self.place_for(path, false)?;
        let mut node = ModelNode::new(Kind::Symlink, 0o777, ROOT);
        node.link = target.to_vec();
        self.make(dir, name, node);
        Ok(Value::Unit)
    }

    fn link(&mut self, from: &What, to: &Path) -> Outcome {
        let node = self.find(from)?;
        let (dir, name) = self.place_for(to, false)?;
        match self.node(node) {
            ModelNode { kind: Kind::Directory, .. } => return Err(Errno::NotPermitted),
            ModelNode { nlink: 0, linkable: false, .. } => return Err(Errno::NotFound),
            ModelNode { nlink, .. } if *nlink >= LINK_MAX => return Err(Errno::TooManyLinks),
            _ => {}
        }
        self.node_mut(node).nlink += 1;
        self.node_mut(node).linkable = false;
        self.enter(dir, name, node);
        Ok(Value::Unit)
    }

    fn unlink(&mut self, path: &Path) -> Outcome {
        let at = self.walk(path, &mut 0)?;
        let Last::Name(name) = &at.last else { return Err(Errno::IsADirectory) };
        let node = self.look_up(at.dir, name)?;
        match self.node(node).kind {
            Kind::Directory => return Err(Errno::IsADirectory),
            _ if at.slash => return Err(Errno::NotADirectory),
            _ => {}
        }
        self.remove_entry(at.dir, name);
        self.node_mut(node).nlink -= 1;
        Ok(Value::Unit)
    }

    fn rmdir(&mut self, path: &Path) -> Outcome {
        let at = self.walk(path, &mut 0)?;
        let name = match &at.last {
            Last::Name(name) => name,
            Last::Dot => return Err(Errno::Invalid),
            Last::DotDot => return Err(Errno::NotEmpty),
            Last::Root => return Err(Errno::Busy),
        };
        let node = self.look_up(at.dir, name)?;
        match self.node(node) {
            ModelNode { kind: Kind::Directory, entries, .. } if entries.is_empty() => {}
            ModelNode { kind: Kind::Directory, .. } => return Err(Errno::NotEmpty),
            _ => return Err(Errno::NotADirectory),
        }
        self.remove_entry(at.dir, name);
        self.node_mut(at.dir).nlink -= 1;
        self.node_mut(node).nlink = 0;
        Ok(Value::Unit)
    }

    fn rename(&mut self, from: &Path, to: &Path, mode: RenameMode) -> Outcome {
        if mode == RenameMode::Whiteout {
            return Err(Errno::Invalid);
        }
        let from = self.walk(from, &mut 0)?;
        let to = self.walk(to, &mut 0)?;
        let Last::Name(from_name) = &from.last else { return Err(Errno::Busy) };
        let Last::Name(to_name) = &to.last else {
            return Err(if mode == RenameMode::NoReplace { Errno::Exists } else { Errno::Busy });
        };
        let node = self.look_up(from.dir, from_name)?;
        let replaced = match self.look_up(to.dir, to_name) {
            Ok(_) if mode == RenameMode::NoReplace => return Err(Errno::Exists),
            Ok(replaced) => Some(replaced),
            Err(Errno::NotFound) if mode != RenameMode::Exchange && !self.is_removed(to.dir) => None,
            Err(errno) => return Err(errno),
        };
        let is_dir = |node: NodeId| self.node(node).kind == Kind::Directory;
        let moves_dir = is_dir(node);
        match (mode, replaced) {
            (RenameMode::Exchange, Some(other)) if to.slash && !is_dir(other) => {
                return Err(Errno::NotADirectory);
            }
            (RenameMode::Exchange, _) if from.slash && !moves_dir => return Err(Errno::NotADirectory),
            (RenameMode::Exchange, _) => {}
            _ if !moves_dir && (from.slash || to.slash) => return Err(Errno::NotADirectory),
            _ => {}
        }
        if moves_dir && self.is_inside(to.dir, node) {
            return Err(Errno::Invalid);
        }
        let Some(replaced) = replaced else {
            if moves_dir && from.dir != to.dir && self.node(to.dir).nlink >= LINK_MAX {
                return Err(Errno::TooManyLinks);
            }
            self.move_entry((&from, from_name), (&to, to_name), node);
            return Ok(Value::Unit);
        };
        if is_dir(replaced) && self.is_inside(from.dir, replaced) {
            return Err(if mode == RenameMode::Exchange { Errno::Invalid } else { Errno::NotEmpty });
        }
        if replaced == node {
            return Ok(Value::Unit);
        }
        if mode == RenameMode::Exchange {
            self.exchange((&from, from_name, node), (&to, to_name, replaced));
            return Ok(Value::Unit);
        }
        match (moves_dir, is_dir(replaced)) {
            (true, false) => return Err(Errno::NotADirectory),
            (false, true) => return Err(Errno::IsADirectory),
            _ if !self.node(replaced).entries.is_empty() => return Err(Errno::NotEmpty),
            _ => {}
        }
        self.remove_entry(to.dir, to_name);
        let gone = self.node_mut(replaced);
        gone.nlink = if moves_dir { 0 } else { gone.nlink - 1 };
        self.node_mut(to.dir).nlink -= u32::from(moves_dir);
        self.move_entry((&from, from_name), (&to, to_name), node);
        Ok(Value::Unit)
    }

    fn move_entry(
        &mut self,
        (from, from_name): (&Walked, &[u8]),
        (to, to_name): (&Walked, &[u8]),
        node: NodeId,
    ) {
        self.remove_entry(from.dir, from_name);
        self.enter(to.dir, to_name.to_vec(), node);
        self.move_parent(node, from.dir, to.dir);
    }

    fn exchange(
        &mut self,
        (one, one_name, one_node): (&Walked, &[u8], NodeId),
        (other, other_name, other_node): (&Walked, &[u8], NodeId),
    ) {
        self.enter(one.dir, one_name.to_vec(), other_node);
        self.enter(other.dir, other_name.to_vec(), one_node);
        self.move_parent(one_node, one.dir, other.dir);
        self.move_parent(other_node, other.dir, one.dir);
    }

    /// A directory counts in the links of the one that holds it.
    fn move_parent(&mut self, node: NodeId, from: NodeId, to: NodeId) {
        if self.node(node).kind == Kind::Directory {
            self.node_mut(node).parent = to;
            self.node_mut(from).nlink -= 1;
            self.node_mut(to).nlink += 1;
        }
    }

    /// Root may do anything but execute what nobody may.
    fn access(&self, what: &What, access: u32) -> Outcome {
        let node = self.node(self.find(what)?);
        let executes = access & 1 != 0;
        let never = node.kind != Kind::Directory && node.mode & 0o111 == 0;
        if executes && never { Err(Errno::AccessDenied) } else { Ok(Value::Unit) }
    }

    fn set_mode(&mut self, what: &What, mode: u32) -> Outcome {
        let node = self.find(what)?;
        if self.node(node).kind == Kind::Symlink {
            return Err(Errno::NotSupported);
        }
        self.node_mut(node).mode = mode & 0o7777;
        Ok(Value::Unit)
    }

    fn set_owner(&mut self, what: &What, uid: Option<u32>, gid: Option<u32>) -> Outcome {
        let node = self.find(what)?;
        let node = self.node_mut(node);
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if node.kind != Kind::Directory {
            // A new owner must not inherit the powers that the mode gave the old one's program. Without the
            // group's execute bit, set-group-ID means something else.
            let set_gid = if node.mode & 0o010 == 0 { 0 } else { 0o2000 };
            node.mode &= !(0o4000 | set_gid);
        }
        Ok(Value::Unit)
    }

    fn set_times(&mut self, what: &What, accessed: SetTime, modified: SetTime) -> Outcome {
        let node = self.find(what)?;
        let node = self.node_mut(node);
        for (time, set) in [(&mut node.accessed, accessed), (&mut node.modified, modified)] {
            match set {
                SetTime::Keep => {}
                SetTime::Now => *time = None,
                SetTime::At(at) => *time = set_time(at.as_nanos()),
            }
        }
        Ok(Value::Unit)
    }

    fn read_link(&self, path: &Path) -> Outcome {
        let node = self.node(self.follow(path, false)?);
        if node.kind == Kind::Symlink { Ok(Value::Link(node.link.clone())) } else { Err(Errno::Invalid) }
    }

    fn read_dir(&self, what: &What) -> Outcome {
        let node = self.node(self.find(what)?);
        match node.kind {
            Kind::Directory => Ok(Value::Names(node.entries.keys().cloned().collect())),
            _ => Err(Errno::NotADirectory),
        }
    }

    fn require(&self, condition: &Condition) -> Outcome {
        let holds = match condition {
            Condition::Exists(what) => self.find(what).is_ok(),
            Condition::Missing(what) => {
                matches!(self.find(what), Err(Errno::NotFound | Errno::NotADirectory))
            }
            Condition::Size(what, size) => self.find(what).is_ok_and(|node| {
                self.node(node).kind == Kind::File && self.node(node).content.len() == *size
            }),
        };
        if holds { Ok(Value::Unit) } else { Err(Errno::Canceled) }
    }

    fn batch(&mut self, ops: &[TestOp]) -> Outcome {
        let before = self.clone();
        for op in ops {
            if let Err(errno) = self.do_op(op) {
                *self = before;
                return Err(errno);
            }
        }
        Ok(Value::Unit)
    }

    /// The file that is read or written; a path is opened for it as `open(2)` does.
    fn file(&mut self, what: &What, access: Access) -> Result<NodeId, Errno> {
        match what {
            What::Path { path, follow } => {
                let flags = OpenFlags { no_follow: !follow, ..OpenFlags::default() };
                self.open_node(path, access, flags, 0)
            }
            What::Handle(slot) => {
                let handle = self.handle(*slot)?;
                let open_for = handle.access;
                let allowed = (open_for.read || !access.read) && (open_for.write || !access.write);
                if allowed { Ok(handle.node) } else { Err(Errno::BadHandle) }
            }
        }
    }

    fn find(&self, what: &What) -> Result<NodeId, Errno> {
        match what {
            What::Path { path, follow } => self.follow(path, *follow),
            What::Handle(slot) => Ok(self.handle(*slot)?.node),
        }
    }

    fn make(&mut self, dir: NodeId, name: Vec<u8>, mut node: ModelNode) -> NodeId {
        self.inherit(dir, &mut node);
        let id = self.fresh_id();
        self.nodes.insert(id, node);
        self.enter(dir, name, id);
        id
    }

    /// A set-group-ID directory hands its group down, and to directories the bit as well.
    fn inherit(&self, dir: NodeId, node: &mut ModelNode) {
        if self.node(dir).mode & 0o2000 != 0 {
            node.gid = self.node(dir).gid;
            node.mode |= if node.kind == Kind::Directory { 0o2000 } else { 0 };
        }
    }

    fn enter(&mut self, dir: NodeId, name: Vec<u8>, node: NodeId) {
        let dir = self.node_mut(dir);
        dir.entries.insert(name, node);
        dir.modified = None;
    }

    fn remove_entry(&mut self, dir: NodeId, name: &[u8]) {
        let dir = self.node_mut(dir);
        dir.entries.remove(name);
        dir.modified = None;
    }

    fn change_content(&mut self, node: NodeId, change: impl FnOnce(&mut Content)) {
        let node = self.node_mut(node);
        change(&mut node.content);
        node.modified = None;
    }

    fn handle(&self, slot: Slot) -> Result<&Handle, Errno> {
        self.handles.get(&slot).ok_or(Errno::BadHandle)
    }

    fn node(&self, id: NodeId) -> &ModelNode {
        &self.nodes[&id]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut ModelNode {
        self.nodes.get_mut(&id).expect("nodes are never removed")
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn collect_paths(&self, dir: NodeId, prefix: &[u8], paths: &mut Vec<(Vec<u8>, Kind)>) {
        for (name, id) in &self.node(dir).entries {
            let path = [prefix, b"/", name].concat();
            let kind = self.node(*id).kind;
            paths.push((path.clone(), kind));
            if kind == Kind::Directory {
                self.collect_paths(*id, &path, paths);
            }
        }
    }

    fn dump_dir(&self, dir: NodeId, path: &[u8], seen: &mut Identities, dump: &mut Dump) {
        dump.tree.insert(path.to_vec(), self.node(dir).dump(seen.of(dir)));
        for (name, id) in &self.node(dir).entries {
            let path = [path, b"/", name].concat();
            if self.node(*id).kind == Kind::Directory {
                self.dump_dir(*id, &path, seen, dump);
            } else {
                dump.tree.insert(path, self.node(*id).dump(seen.of(*id)));
            }
        }
    }
}

impl Target for ModelFs {
    fn run(&mut self, op: &TestOp) -> Answer {
        self.do_op(op).map_err(Errno::raw)
    }

    fn dump(&mut self) -> Dump {
        let mut dump = Dump::default();
        let mut seen = Identities::default();
        self.dump_dir(ROOT, b"", &mut seen, &mut dump);
        for (slot, handle) in &self.handles {
            let mut node = self.node(handle.node).dump(seen.of(handle.node));
            if !handle.access.read {
                node.content = Content::default();
            }
            dump.handles.insert(*slot, node);
        }
        dump
    }
}

impl ModelNode {
    fn new(kind: Kind, mode: u32, parent: NodeId) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            nlink: if kind == Kind::Directory { 2 } else { 1 },
            accessed: None,
            modified: None,
            content: Content::default(),
            link: Vec::new(),
            entries: BTreeMap::new(),
            parent,
            device: 0,
            xattrs: BTreeMap::new(),
            linkable: false,
            locks: BTreeMap::new(),
            range_locks: Vec::new(),
        }
    }

    fn attr(&self) -> Attr {
        Attr {
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            size: match self.kind {
                Kind::File => self.content.len(),
                Kind::Symlink => self.link.len() as u64,
                _ => 0,
            },
            device: self.device,
            accessed: if self.kind == Kind::File { self.accessed } else { None },
            modified: self.modified,
        }
    }

    fn dump(&self, identity: usize) -> Node {
        let (content, link, xattrs) = (self.content.clone(), self.link.clone(), self.xattrs.clone());
        Node { attr: self.attr(), content, link, xattrs, identity }
    }
}
