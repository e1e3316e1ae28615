//! The tree: the whole logical state of a volume, in persistent maps.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use equivalent::{Comparable, Equivalent};
use serde::{Deserialize, Serialize};

use crate::{
    Attr, Body, CommitId, Cookie, Errno, Extent, HeldRange, Ino, Inode, Kind, LockMode, LockOwner, LockRange,
    Map, Name, OwnerId, Place, Quota, QuotaSubject, SegmentId, Times, Timestamp, Usage, XattrName,
    XattrValue,
};

/// The key of a directory entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryKey {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Name,
}

/// [`EntryKey`] with the name borrowed, so that a lookup allocates nothing.
pub(crate) struct EntryRef<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
}

impl Equivalent<EntryKey> for EntryRef<'_> {
    fn equivalent(&self, key: &EntryKey) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<EntryKey> for EntryRef<'_> {
    fn compare(&self, key: &EntryKey) -> Ordering {
        self.parent.cmp(&key.parent).then_with(|| self.name.cmp(key.name.as_bytes()))
    }
}

/// What a directory entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Its position in listings of the directory.
    pub cookie: Cookie,
}

/// One line of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Name,
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Give this to [`Tree::read_dir`] to go on after this entry.
    pub cookie: Cookie,
}

/// A named commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The commit.
    pub commit: CommitId,
    /// When it was named.
    pub time: Timestamp,
}

/// A run of a file: bytes in the journal, or a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Offsets in the file.
    pub range: Range<u64>,
    /// Where its first byte is; `None` is a hole, which reads as zeros.
    pub place: Option<Place>,
}

/// A byte-range lock, but for its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeLock {
    pub(crate) end: u64,
    pub(crate) mode: LockMode,
}

/// The logical state of a volume. Cloning is O(1): a clone is a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub(crate) inodes: Map<Ino, Inode>,
    pub(crate) entries: Map<EntryKey, Entry>,
    /// The entries again, in order of their cookies.
    pub(crate) listing: Map<(Ino, Cookie), Name>,
    pub(crate) extents: Map<(Ino, u64), Extent>,
    pub(crate) xattrs: Map<(Ino, XattrName), XattrValue>,
    /// Inodes without a name, kept for the handles that hold them.
    pub(crate) orphans: Map<Ino, ()>,
    /// Which owners hold an inode without a name open.
    pub(crate) holds: Map<(Ino, OwnerId), ()>,
    /// Inodes that never had a name, and may get one.
    pub(crate) linkable: Map<Ino, ()>,
    pub(crate) file_locks: Map<(Ino, LockOwner), LockMode>,
    /// By the first byte of the range. The ranges of one owner on one file do not overlap, and are merged as far as
    /// possible.
    pub(crate) range_locks: Map<(Ino, LockOwner, u64), RangeLock>,
    /// For each segment that content lies in, how many of its bytes are live.
    pub(crate) segments: Map<SegmentId, u64>,
    pub(crate) checkpoints: Map<String, Checkpoint>,
    /// The quotas that are set; what is used of each follows from the inodes.
    pub(crate) quotas: Map<QuotaSubject, Quota>,
    /// Bytes of all extents; it follows from them.
    pub(crate) allocated: u64,
    pub(crate) next_ino: Ino,
}

impl Tree {
    /// An empty volume: a root directory with mode 755, owned by user and group 0.
    #[must_use]
    pub fn new(time: Timestamp) -> Self {
        let times = Times { accessed: time, modified: time, changed: time, born: time };
        let body = Body::Directory { parent: Ino::ROOT, entries: 0, next_cookie: 1 };
        let root = Inode { mode: 0o755, uid: 0, gid: 0, nlink: 2, size: 0, times, body, allocated: 0 };
        let mut inodes = Map::default();
        inodes.insert(Ino::ROOT, root);
        Self {
            inodes,
            entries: Map::default(),
            listing: Map::default(),
            extents: Map::default(),
            xattrs: Map::default(),
            orphans: Map::default(),
            holds: Map::default(),
            linkable: Map::default(),
            file_locks: Map::default(),
            range_locks: Map::default(),
            segments: Map::default(),
            checkpoints: Map::default(),
            quotas: Map::default(),
            allocated: 0,
            next_ino: Ino(2),
        }
    }

    /// The inode with this number.
    #[must_use]
    pub fn inode(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// `ESTALE` when there is no such inode (any more).
    pub fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        let inode = self.inode(ino).ok_or(Errno::Stale)?;
        Ok(Attr {
            ino,
            kind: inode.kind(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            size: inode.size,
            allocated: inode.allocated,
            device: inode.device(),
            times: inode.times,
        })
    }

    /// The entry `name` of a directory.
    #[must_use]
    pub fn entry(&self, parent: Ino, name: &Name) -> Option<Entry> {
        self.find_entry(parent, name.as_bytes()).map(|(_, entry)| entry)
    }

    /// The entry with these bytes as its name, and the name as it is kept: it can be shared.
    pub(crate) fn find_entry(&self, parent: Ino, name: &[u8]) -> Option<(&Name, Entry)> {
        let (key, entry) = self.entries.find(&EntryRef { parent, name })?;
        Some((&key.name, *entry))
    }

    /// At most `limit` entries of a directory, from the one after `after`, in a stable order. `.` and `..` are
    /// not among them. An entry that is there during the whole of a listing is seen exactly once, whatever comes
    /// and goes meanwhile.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`.
    pub fn read_dir(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<DirEntry>, Errno> {
        if !self.inode(dir).ok_or(Errno::Stale)?.is_dir() {
            return Err(Errno::NotADirectory);
        }
        let after = Bound::Excluded((dir, after));
        let listed = self.listing.range((after, Bound::Included((dir, Cookie(u64::MAX))))).take(limit);
        let entries = listed.filter_map(|((_, cookie), name)| {
            let entry = self.entry(dir, name)?;
            Some(DirEntry { name: name.clone(), ino: entry.ino, kind: entry.kind, cookie: *cookie })
        });
        Ok(entries.collect())
    }

    /// Where the bytes of a file's range are: runs in order, without a gap, clipped to the file's size.
    ///
    /// # Errors
    /// `EISDIR` for a directory, `EINVAL` for what else is no file, `ESTALE`.
    pub fn file_ranges(&self, ino: Ino, range: Range<u64>) -> Result<Vec<FileRange>, Errno> {
        let end = range.end.min(self.regular_file(ino)?.size);
        let mut at = range.start;
        let mut ranges = Vec::new();
        while at < end {
            let (next, place) = self.run_at(ino, at, end);
            ranges.push(FileRange { range: at..next, place });
            at = next;
        }
        Ok(ranges)
    }

    /// The first byte at or behind `offset` that is stored, as `lseek(2)` with `SEEK_DATA` finds it.
    ///
    /// # Errors
    /// `ENXIO` when there is none before the end of the file; else as [`Tree::file_ranges`].
    pub fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64, Errno> {
        let size = self.regular_file(ino)?.size;
        if offset >= size {
            return Err(Errno::NoSuchData);
        }
        match self.run_at(ino, offset, size) {
            (_, Some(_)) => Ok(offset),
            (end, None) if end < size => Ok(end),
            _ => Err(Errno::NoSuchData),
        }
    }

    /// The first byte at or behind `offset` that is in a hole, as `lseek(2)` with `SEEK_HOLE` finds it: the end of
    /// the file counts as one.
    ///
    /// # Errors
    /// `ENXIO` at or past the end of the file; else as [`Tree::file_ranges`].
    pub fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64, Errno> {
        let size = self.regular_file(ino)?.size;
        if offset >= size {
            return Err(Errno::NoSuchData);
        }
        let mut at = offset;
        while at < size {
            match self.run_at(ino, at, size) {
                (end, Some(_)) => at = end,
                (_, None) => break,
            }
        }
        Ok(at)
    }

    fn regular_file(&self, ino: Ino) -> Result<&Inode, Errno> {
        let inode = self.inode(ino).ok_or(Errno::Stale)?;
        match inode.kind() {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::IsADirectory),
            _ => Err(Errno::Invalid),
        }
    }

    /// Where a symlink points.
    ///
    /// # Errors
    /// `EINVAL` when it is not a symlink, `ESTALE`.
    pub fn read_link(&self, ino: Ino) -> Result<&[u8], Errno> {
        match &self.inode(ino).ok_or(Errno::Stale)?.body {
            Body::Symlink { target } => Ok(target),
            _ => Err(Errno::Invalid),
        }
    }

    /// The whole-file locks on a file and who holds them.
    pub fn file_locks(&self, ino: Ino) -> impl Iterator<Item = (LockOwner, LockMode)> {
        let held = self.file_locks.range((ino, LockOwner::MIN)..=(ino, LockOwner::MAX));
        held.map(|((_, owner), mode)| (*owner, *mode))
    }

    /// The byte-range locks on a file, by owner and then in order.
    pub fn range_locks(&self, ino: Ino) -> impl Iterator<Item = HeldRange> {
        let held = self.range_locks.range((ino, LockOwner::MIN, 0)..=(ino, LockOwner::MAX, u64::MAX));
        held.map(|(&(_, owner, start), lock)| HeldRange {
            range: LockRange { start, end: lock.end },
            owner,
            mode: lock.mode,
        })
    }

    /// Whether a writer's death left locks or nameless inodes behind.
    #[must_use]
    pub fn needs_new_session(&self) -> bool {
        !self.file_locks.is_empty() || !self.range_locks.is_empty() || !self.orphans.is_empty()
    }

    /// Which owners hold an inode without a name open.
    pub fn holders(&self, ino: Ino) -> impl Iterator<Item = OwnerId> {
        self.holds.range((ino, OwnerId(0))..=(ino, OwnerId(u64::MAX))).map(|((_, owner), ())| *owner)
    }

    /// The inodes without a name that an owner holds open.
    pub fn held_by(&self, owner: OwnerId) -> impl Iterator<Item = Ino> {
        self.holds.iter().filter(move |((_, holder), ())| *holder == owner).map(|((ino, _), ())| *ino)
    }

    /// The locks of an owner: on which inode, and under which key; one for each range that is locked.
    pub fn locks_of(&self, owner: OwnerId) -> impl Iterator<Item = (Ino, LockOwner)> {
        let files = self.file_locks.iter().map(|(&held, _)| held);
        let ranges = self.range_locks.iter().map(|(&(ino, owner, _), _)| (ino, owner));
        files.chain(ranges).filter(move |(_, holder)| holder.owner == owner)
    }

    /// The owners that hold locks, or inodes without a name.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<OwnerId> {
        let files = self.file_locks.iter().map(|((_, holder), _)| holder.owner);
        let ranges = self.range_locks.iter().map(|((_, holder, _), _)| holder.owner);
        let held = self.holds.iter().map(|((_, owner), ())| *owner);
        files.chain(ranges).chain(held).collect()
    }

    /// The quotas that are set, and how much of each is used.
    pub fn quotas(&self) -> impl Iterator<Item = (QuotaSubject, Quota)> {
        self.quotas.iter().map(|(subject, quota)| (*subject, *quota))
    }

    /// What the whole volume holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.allocated, inodes: self.inodes.len() as u64 }
    }

    /// The named commits.
    #[must_use]
    pub const fn checkpoints(&self) -> &Map<String, Checkpoint> {
        &self.checkpoints
    }

    /// For each segment that content lies in, how many of its bytes are live.
    #[must_use]
    pub const fn segments(&self) -> &Map<SegmentId, u64> {
        &self.segments
    }

    /// How many inodes there are.
    #[must_use]
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The end of the run of like bytes at `at`, and where its first byte is.
    fn run_at(&self, ino: Ino, at: u64, end: u64) -> (u64, Option<Place>) {
        if let Some((&(holder, start), extent)) = self.extents.at_or_before(&(ino, at))
            && holder == ino
            && start + extent.len > at
        {
            let position = extent.place.position + (at - start);
            let place = Place { segment: extent.place.segment, position };
            return ((start + extent.len).min(end), Some(place));
        }
        let next = self.extents.range((ino, at)..(ino, end)).next();
        (next.map_or(end, |(&(_, start), _)| start), None)
    }
}
