//! A volume without a journal, and a source of arbitrary numbers.

use std::collections::BTreeSet;

use rfs_core::{
    Access, At, AtimePolicy, Attr, Context, Credential, Decision, Errno, Fault, Ino, Item, LockOwner,
    Missing, Op, OpenFlags, Outcome, OwnerId, Place, RenameMode, SegmentId, SetTime, StateHash, Target,
    Timestamp, Tree, WriteAt, XattrMode, decide,
};

/// The owner that opens everything here.
pub(crate) const OWNER: OwnerId = OwnerId(7);

/// A tree with all that surrounds it: who asks, a clock that ticks with each Op, open inodes, and a journal's end.
pub(crate) struct Fs {
    pub(crate) tree: Tree,
    pub(crate) credential: Credential,
    pub(crate) open: BTreeSet<Ino>,
    pub(crate) now: i64,
    pub(crate) atime: AtimePolicy,
    pub(crate) place: Place,
}

impl Fs {
    pub(crate) fn new() -> Self {
        let tree = Tree::new(Timestamp::from_nanos(0));
        Self {
            tree,
            credential: Credential::root(),
            open: BTreeSet::new(),
            now: 0,
            atime: AtimePolicy::Never,
            place: Place { segment: SegmentId(1), position: 64 },
        }
    }

    pub(crate) fn decide(&mut self, op: &Op) -> Result<Decision, Errno> {
        self.now += 1;
        posix(self.in_context(|context| decide(&self.tree, context, op)))
    }

    /// Does something in the context of the Op that was decided last.
    pub(crate) fn in_context<T>(&self, then: impl FnOnce(&Context<'_>) -> T) -> T {
        let holders = |ino| if self.open.contains(&ino) { vec![OWNER] } else { Vec::new() };
        then(&Context {
            credential: &self.credential,
            owner: OWNER,
            holders: &holders,
            atime: self.atime,
            ..Context::new(Timestamp::from_nanos(self.now))
        })
    }

    /// Decides and applies an Op.
    pub(crate) fn run(&mut self, op: &Op) -> Result<Outcome, Errno> {
        let decision = self.decide(op)?;
        for change in &decision.changes {
            self.tree.apply(change, self.place).expect("what was decided on this tree fits it");
            self.place.position += change.payload_len();
        }
        Ok(decision.outcome)
    }

    /// Decides and applies an Op for another caller.
    pub(crate) fn run_as(&mut self, credential: &Credential, op: &Op) -> Result<Outcome, Errno> {
        let own = std::mem::replace(&mut self.credential, credential.clone());
        let outcome = self.run(op);
        self.credential = own;
        outcome
    }

    pub(crate) fn mkdir(&mut self, path: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Mkdir { at: At::root(path), mode: 0o755 })
    }

    pub(crate) fn create(&mut self, path: &str) -> Result<Outcome, Errno> {
        self.open(path, OpenFlags { create: true, ..OpenFlags::default() })
    }

    pub(crate) fn open(&mut self, path: &str, flags: OpenFlags) -> Result<Outcome, Errno> {
        let access = Access { read: true, write: false };
        self.run(&Op::Open { at: At::root(path), access, flags, mode: 0o644 })
    }

    pub(crate) fn symlink(&mut self, target: &str, path: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Symlink { target: target.into(), at: At::root(path) })
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Link { from: path(from, false), to: At::root(to) })
    }

    pub(crate) fn unlink(&mut self, path: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Unlink { at: At::root(path) })
    }

    pub(crate) fn rmdir(&mut self, path: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Rmdir { at: At::root(path) })
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<Outcome, Errno> {
        self.run(&Op::Rename { from: At::root(from), to: At::root(to), mode: RenameMode::Replace })
    }

    pub(crate) fn write(&mut self, path_: &str, at: WriteAt, len: u64) -> Result<Outcome, Errno> {
        self.run(&Op::Write { target: path(path_, true), at, len })
    }

    pub(crate) fn truncate(&mut self, path_: &str, size: u64) -> Result<Outcome, Errno> {
        self.run(&Op::Truncate { target: path(path_, true), size })
    }

    pub(crate) fn chmod(&mut self, path_: &str, mode: u32) -> Result<Outcome, Errno> {
        self.run(&Op::SetMode { target: path(path_, true), mode })
    }

    pub(crate) fn chown(&mut self, path_: &str, uid: u32, gid: u32) -> Result<Outcome, Errno> {
        self.run(&Op::SetOwner { target: path(path_, false), uid: Some(uid), gid: Some(gid) })
    }

    pub(crate) fn set_xattr(&mut self, path_: &str, name: &str, value: &[u8]) -> Result<Outcome, Errno> {
        let (target, name) = (path(path_, false), name.as_bytes().to_vec());
        self.run(&Op::SetXattr { target, name, value: value.to_vec(), mode: XattrMode::Set })
    }

    pub(crate) fn xattr(&self, path: &str, name: &str) -> Result<Vec<u8>, Errno> {
        let value = posix(self.tree.xattr(&self.credential, self.ino(path), name.as_bytes()))?;
        Ok(value.as_bytes().to_vec())
    }

    pub(crate) fn set_times(
        &mut self,
        path_: &str,
        accessed: SetTime,
        modified: SetTime,
    ) -> Result<Outcome, Errno> {
        self.run(&Op::SetTimes { target: path(path_, true), accessed, modified })
    }

    pub(crate) fn stat(&self, path: &str) -> Result<Attr, Errno> {
        posix(self.tree.lookup(&self.credential, &At::root(path), true).and_then(|ino| self.tree.attr(ino)))
    }

    pub(crate) fn lstat(&self, path: &str) -> Result<Attr, Errno> {
        posix(self.tree.lookup(&self.credential, &At::root(path), false).and_then(|ino| self.tree.attr(ino)))
    }

    pub(crate) fn ino(&self, path: &str) -> Ino {
        self.lstat(path).expect("the path exists").ino
    }
}

/// The lock owner with this key.
pub(crate) const fn locker(key: u64) -> LockOwner {
    LockOwner { owner: OWNER, key }
}

pub(crate) fn path(path: &str, follow: bool) -> Target {
    Target::Path { at: At::root(path), follow }
}

/// What a tree that is wholly loaded answers.
pub(crate) fn posix<T>(answer: Result<T, Fault>) -> Result<T, Errno> {
    answer.map_err(|fault| fault.errno().expect("the tree is wholly loaded"))
}

/// What a tree that is wholly loaded holds.
pub(crate) fn loaded<T>(answer: Result<T, Missing>) -> T {
    answer.expect("the tree is wholly loaded")
}

/// How many bytes of all segments are live.
pub(crate) fn live_bytes(tree: &Tree) -> u64 {
    tree.segments().iter().map(|pair| *loaded(pair).1).sum()
}

/// The items of a tree that is wholly loaded.
pub(crate) fn items(tree: &Tree) -> impl Iterator<Item = Item> + '_ {
    loaded(tree.items())
}

/// The state hash of a tree that is wholly loaded.
pub(crate) fn state_hash(tree: &Tree) -> StateHash {
    loaded(StateHash::of(tree))
}

/// What an Op came to, but for its outcome.
pub(crate) fn answer(result: Result<Outcome, Errno>) -> Result<(), Errno> {
    result.map(|_| ())
}

/// A POSIX ACL in Linux's binary form: tag, permissions and id of each entry.
pub(crate) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The tags of a POSIX ACL, and the id of entries that name nobody.
pub(crate) const USER_OBJ: u16 = 0x01;
pub(crate) const USER: u16 = 0x02;
pub(crate) const GROUP_OBJ: u16 = 0x04;
pub(crate) const GROUP: u16 = 0x08;
pub(crate) const MASK: u16 = 0x10;
pub(crate) const OTHER: u16 = 0x20;
pub(crate) const NOBODY: u32 = u32::MAX;

/// Numbers that follow from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    /// Mostly small, sometimes at the very end of the range.
    pub(crate) fn extreme(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::MAX - self.below(3),
            1 => (1 << 63) - 2 + self.below(4),
            2 => self.next(),
            _ => self.below(6),
        }
    }
}
