//! The state hash: 32 bytes that stand for a whole tree.
//!
//! It is the sum of the BLAKE3 hashes of the tree's items, each taken as four little-endian 64-bit lanes that wrap
//! by themselves (AdHash: Bellare and Micciancio, 1997). A sum can be updated: taking an item away subtracts its
//! hash. So bringing it up to date costs what changed, not what is there.
//!
//! The maps that follow from others (listing, orphans, segments, users) are not in it. An extent is hashed by its place in
//! the journal, not by the bytes there: equal hashes mean the same tree over the same journal.
//!
//! It finds damage and drift. It is no defence against somebody who makes up items to reach a given sum: four lanes
//! are too few for that.
//!
//! An item's encoding is a tag byte and then its fields in order, each number little-endian, each run of bytes
//! after its length as a 64-bit number.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tree::RangeLock;
use crate::{
    Body, Checkpoint, Difference, Entry, EntryKey, Extent, Ino, Inode, Key, Kind, Limits, LockMode,
    LockOwner, Map, Missing, OwnerId, QuotaSubject, Times, Tree, Value, XattrName, XattrValue,
};

const TAG_NEXT_INO: u8 = 1;
const TAG_INODE: u8 = 2;
const TAG_ENTRY: u8 = 3;
const TAG_EXTENT: u8 = 4;
const TAG_FILE_LOCK: u8 = 5;
const TAG_CHECKPOINT: u8 = 6;
const TAG_XATTR: u8 = 7;
const TAG_HOLD: u8 = 8;
const TAG_LINKABLE: u8 = 9;
const TAG_RANGE_LOCK: u8 = 10;
const TAG_QUOTA: u8 = 11;

/// The hash of a tree. Shown in hexadecimal; encoded as 32 raw bytes.
///
/// ```
/// use rfs_core::{StateHash, Timestamp, Tree};
/// let tree = Tree::new(Timestamp::from_nanos(7));
/// assert_eq!(StateHash::of(&tree)?, StateHash::of(&tree.clone())?);
/// assert_ne!(StateHash::of(&tree)?, StateHash::of(&Tree::new(Timestamp::from_nanos(8)))?);
/// # Ok::<(), rfs_core::Missing>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateHash([u8; 32]);

impl StateHash {
    /// The hash of a tree, computed from all of it.
    ///
    /// # Errors
    /// A page is missing.
    pub fn of(tree: &Tree) -> Result<Self, Missing> {
        let mut sum = Sum::default();
        sum.add(&tree.next_ino);
        sum.add_all(&tree.inodes)?;
        sum.add_all(&tree.entries)?;
        sum.add_all(&tree.extents)?;
        sum.add_all(&tree.xattrs)?;
        sum.add_all(tree.holds.as_map())?;
        sum.add_all(tree.linkable.as_map())?;
        sum.add_all(tree.file_locks.as_map())?;
        sum.add_all(tree.range_locks.as_map())?;
        sum.add_all(tree.checkpoints.as_map())?;
        sum.add_all(tree.quotas.as_map())?;
        Ok(sum.into())
    }

    /// The hash of `new`, where `self` is the hash of `old`. It costs the difference between the two, if one was
    /// made from the other.
    ///
    /// # Errors
    /// A page is missing of what differs.
    pub fn update(self, old: &Tree, new: &Tree) -> Result<Self, Missing> {
        let mut sum = Sum::from(self);
        if old.next_ino != new.next_ino {
            sum.subtract(&old.next_ino);
            sum.add(&new.next_ino);
        }
        sum.differ(&old.inodes, &new.inodes)?;
        sum.differ(&old.entries, &new.entries)?;
        sum.differ(&old.extents, &new.extents)?;
        sum.differ(&old.xattrs, &new.xattrs)?;
        sum.differ(old.holds.as_map(), new.holds.as_map())?;
        sum.differ(old.linkable.as_map(), new.linkable.as_map())?;
        sum.differ(old.file_locks.as_map(), new.file_locks.as_map())?;
        sum.differ(old.range_locks.as_map(), new.range_locks.as_map())?;
        sum.differ(old.checkpoints.as_map(), new.checkpoints.as_map())?;
        sum.differ(old.quotas.as_map(), new.quotas.as_map())?;
        Ok(sum.into())
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

/// A sum of hashes on its way.
#[derive(Default)]
struct Sum {
    lanes: [u64; 4],
    bytes: Vec<u8>,
}

impl Sum {
    fn add(&mut self, item: &impl Encode) {
        let lanes = self.hash(item);
        for (sum, lane) in self.lanes.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(lane);
        }
    }

    fn subtract(&mut self, item: &impl Encode) {
        let lanes = self.hash(item);
        for (sum, lane) in self.lanes.iter_mut().zip(lanes) {
            *sum = sum.wrapping_sub(lane);
        }
    }

    fn add_all<'a, K: Key, V: Value>(&mut self, map: &'a Map<K, V>) -> Result<(), Missing>
    where
        (&'a K, &'a V): Encode,
    {
        for pair in map {
            self.add(&pair?);
        }
        Ok(())
    }

    fn differ<'a, K: Key, V: Value>(&mut self, old: &'a Map<K, V>, new: &'a Map<K, V>) -> Result<(), Missing>
    where
        (&'a K, &'a V): Encode,
    {
        for difference in new.since(old) {
            let Difference { key, old, new } = difference?;
            if let Some(old) = old {
                self.subtract(&(key, old));
            }
            if let Some(new) = new {
                self.add(&(key, new));
            }
        }
        Ok(())
    }

    fn hash(&mut self, item: &impl Encode) -> [u64; 4] {
        self.bytes.clear();
        item.encode(&mut self.bytes);
        lanes(blake3::hash(&self.bytes).as_bytes())
    }
}

impl From<StateHash> for Sum {
    fn from(hash: StateHash) -> Self {
        Self { lanes: lanes(&hash.0), bytes: Vec::new() }
    }
}

impl From<Sum> for StateHash {
    fn from(sum: Sum) -> Self {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(sum.lanes) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        Self(bytes)
    }
}

fn lanes(bytes: &[u8; 32]) -> [u64; 4] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|lane| u64::from_le_bytes(chunks[lane]))
}

/// What has a canonical encoding.
trait Encode {
    fn encode(&self, out: &mut Vec<u8>);
}

impl Encode for Ino {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_NEXT_INO);
        number(out, self.0);
    }
}

impl Encode for (&Ino, &Inode) {
    fn encode(&self, out: &mut Vec<u8>) {
        let (ino, inode) = self;
        // What is allocated follows from the extents.
        let Inode { mode, uid, gid, nlink, size, times, body, allocated: _ } = inode;
        let Times { accessed, modified, changed, born } = times;
        out.push(TAG_INODE);
        number(out, ino.0);
        for part in [mode, uid, gid, nlink] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        number(out, *size);
        for time in [accessed, modified, changed, born] {
            out.extend_from_slice(&time.as_nanos().to_le_bytes());
        }
        out.push(kind(inode.kind()));
        match body {
            Body::File | Body::Fifo | Body::Socket => {}
            Body::CharDevice { device } | Body::BlockDevice { device } => number(out, *device),
            Body::Directory { parent, entries, next_cookie } => {
                number(out, parent.0);
                number(out, *entries);
                number(out, *next_cookie);
            }
            Body::Symlink { target } => run(out, target),
        }
    }
}

impl Encode for (&EntryKey, &Entry) {
    fn encode(&self, out: &mut Vec<u8>) {
        let (key, entry) = self;
        out.push(TAG_ENTRY);
        number(out, key.parent.0);
        run(out, key.name.as_bytes());
        number(out, entry.ino.0);
        out.push(kind(entry.kind));
        number(out, entry.cookie.0);
    }
}

impl Encode for (&(Ino, u64), &Extent) {
    fn encode(&self, out: &mut Vec<u8>) {
        let ((ino, offset), Extent { place, len }) = self;
        out.push(TAG_EXTENT);
        number(out, ino.0);
        number(out, *offset);
        number(out, place.segment.0);
        number(out, place.position);
        number(out, *len);
    }
}

impl Encode for (&(Ino, XattrName), &XattrValue) {
    fn encode(&self, out: &mut Vec<u8>) {
        let ((ino, name), value) = self;
        out.push(TAG_XATTR);
        number(out, ino.0);
        run(out, name.as_bytes());
        run(out, value.as_bytes());
    }
}

impl Encode for (&(Ino, OwnerId), &()) {
    fn encode(&self, out: &mut Vec<u8>) {
        let ((ino, owner), ()) = self;
        out.push(TAG_HOLD);
        number(out, ino.0);
        number(out, owner.0);
    }
}

impl Encode for (&Ino, &()) {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_LINKABLE);
        number(out, self.0.0);
    }
}

impl Encode for (&(Ino, LockOwner), &LockMode) {
    fn encode(&self, out: &mut Vec<u8>) {
        let ((ino, LockOwner { owner, key }), mode) = self;
        out.push(TAG_FILE_LOCK);
        number(out, ino.0);
        // A lock of owner 0 hashes as it did in format version 1, where locks had a key only.
        if owner.0 != 0 {
            number(out, owner.0);
        }
        number(out, *key);
        out.push(lock_mode(**mode));
    }
}

impl Encode for (&(Ino, LockOwner, u64), &RangeLock) {
    fn encode(&self, out: &mut Vec<u8>) {
        let ((ino, LockOwner { owner, key }, start), RangeLock { end, mode }) = self;
        out.push(TAG_RANGE_LOCK);
        for part in [ino.0, owner.0, *key, *start, *end] {
            number(out, part);
        }
        out.push(lock_mode(*mode));
    }
}

impl Encode for (&QuotaSubject, &Limits) {
    fn encode(&self, out: &mut Vec<u8>) {
        let (subject, limits) = self;
        out.push(TAG_QUOTA);
        match subject {
            QuotaSubject::Volume => out.push(0),
            QuotaSubject::User(uid) => {
                out.push(1);
                number(out, u64::from(*uid));
            }
        }
        for limit in [limits.bytes, limits.inodes] {
            out.push(u8::from(limit.is_some()));
            number(out, limit.unwrap_or(0));
        }
    }
}

impl Encode for (&String, &Checkpoint) {
    fn encode(&self, out: &mut Vec<u8>) {
        let (name, Checkpoint { commit, time }) = self;
        out.push(TAG_CHECKPOINT);
        run(out, name.as_bytes());
        number(out, commit.epoch);
        number(out, commit.number);
        out.extend_from_slice(&time.as_nanos().to_le_bytes());
    }
}

const fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::CharDevice => 5,
        Kind::BlockDevice => 6,
    }
}

const fn lock_mode(mode: LockMode) -> u8 {
    match mode {
        LockMode::Shared => 0,
        LockMode::Exclusive => 1,
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn run(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
