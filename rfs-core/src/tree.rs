//! The tree: the whole logical state of a volume, in persistent maps.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use equivalent::{Comparable, Equivalent};
use serde::{Deserialize, Serialize};

use crate::name::NameRef;
use crate::{
    Attr, Body, CommitId, Cookie, Errno, Extent, Fault, HeldRange, Ino, Inode, Kind, Limits, LockMode,
    LockOwner, LockRange, Map, Missing, Name, OwnerId, Place, Quota, QuotaSubject, Resident, SegmentId,
    Times, Timestamp, Usage, XattrName, XattrValue,
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
    parent: Ino,
    name: NameRef<'a>,
}

impl<'a> EntryRef<'a> {
    pub(crate) fn new(parent: Ino, name: &'a [u8]) -> Self {
        Self { parent, name: NameRef::new(name) }
    }
}

impl Equivalent<EntryKey> for EntryRef<'_> {
    fn equivalent(&self, key: &EntryKey) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<EntryKey> for EntryRef<'_> {
    fn compare(&self, key: &EntryKey) -> Ordering {
        self.parent.cmp(&key.parent).then_with(|| self.name.compare(&key.name))
    }
}

/// The inode that an entry leads to, the entry's directory, and its cookie there.
pub(crate) type LinkKey = (Ino, Ino, Cookie);

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
    /// The entries again, by what they lead to: inode, directory, cookie.
    pub(crate) links: Map<LinkKey, ()>,
    pub(crate) extents: Map<(Ino, u64), Extent>,
    pub(crate) xattrs: Map<(Ino, XattrName), XattrValue>,
    /// Inodes without a name, kept for the handles that hold them.
    pub(crate) orphans: Resident<Ino, ()>,
    /// Which owners hold an inode without a name open.
    pub(crate) holds: Resident<(Ino, OwnerId), ()>,
    /// Inodes that never had a name, and may get one.
    pub(crate) linkable: Resident<Ino, ()>,
    pub(crate) file_locks: Resident<(Ino, LockOwner), LockMode>,
    /// By the first byte of the range. The ranges of one owner on one file do not overlap, and are merged as far as
    /// possible.
    pub(crate) range_locks: Resident<(Ino, LockOwner, u64), RangeLock>,
    /// For each segment that content lies in, how many of its bytes are live.
    pub(crate) segments: Map<SegmentId, u64>,
    pub(crate) checkpoints: Resident<String, Checkpoint>,
    /// The quotas that are set.
    pub(crate) quotas: Resident<QuotaSubject, Limits>,
    /// What each user owns; it follows from the inodes. Who owns nothing is not in it.
    pub(crate) users: Resident<u32, Usage>,
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
        let mut users = Resident::default();
        users.insert(root.uid, Usage { bytes: 0, inodes: 1 });
        Self {
            inodes: Map::from_ascending([(Ino::ROOT, root)]),
            entries: Map::default(),
            listing: Map::default(),
            links: Map::default(),
            extents: Map::default(),
            xattrs: Map::default(),
            orphans: Resident::default(),
            holds: Resident::default(),
            linkable: Resident::default(),
            file_locks: Resident::default(),
            range_locks: Resident::default(),
            segments: Map::default(),
            checkpoints: Resident::default(),
            quotas: Resident::default(),
            users,
            allocated: 0,
            next_ino: Ino(2),
        }
    }

    /// The inode with this number.
    ///
    /// # Errors
    /// A page is missing.
    pub fn inode(&self, ino: Ino) -> Result<Option<&Inode>, Missing> {
        self.inodes.get(&ino)
    }

    /// The inode with this number, which a handle or an entry leads to.
    pub(crate) fn existing(&self, ino: Ino) -> Result<&Inode, Fault> {
        Ok(self.inode(ino)?.ok_or(Errno::Stale)?)
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// `ESTALE` when there is no such inode (any more); or a page is missing, as everywhere here.
    pub fn attr(&self, ino: Ino) -> Result<Attr, Fault> {
        Ok(self.existing(ino)?.attr(ino))
    }

    /// The entry `name` of a directory.
    ///
    /// # Errors
    /// A page is missing.
    pub fn entry(&self, parent: Ino, name: &Name) -> Result<Option<Entry>, Missing> {
        Ok(self.find_entry(parent, name.as_bytes())?.map(|(_, entry)| entry))
    }

    /// The entry with these bytes as its name, and the name as it is kept: it can be shared.
    pub(crate) fn find_entry(&self, parent: Ino, name: &[u8]) -> Result<Option<(&Name, Entry)>, Missing> {
        Ok(self.entries.find(&EntryRef::new(parent, name))?.map(|(key, entry)| (&key.name, *entry)))
    }

    /// At most `limit` entries of a directory, from the one after `after`, in a stable order. `.` and `..` are
    /// not among them. An entry that is there during the whole of a listing is seen exactly once, whatever comes
    /// and goes meanwhile.
    ///
    /// # Errors
    /// `ENOTDIR`, `ESTALE`.
    pub fn read_dir(&self, dir: Ino, after: Cookie, limit: usize) -> Result<Vec<DirEntry>, Fault> {
        if !self.existing(dir)?.is_dir() {
            return Err(Errno::NotADirectory.into());
        }
        let after = Bound::Excluded((dir, after));
        let listed = self.listing.range((after, Bound::Included((dir, Cookie(u64::MAX))))).take(limit);
        let mut entries = Vec::new();
        for pair in listed {
            let ((_, cookie), name) = pair?;
            if let Some(entry) = self.entry(dir, name)? {
                let Entry { ino, kind, .. } = entry;
                entries.push(DirEntry { name: name.clone(), ino, kind, cookie: *cookie });
            }
        }
        Ok(entries)
    }

    /// The names of an inode, each with its directory; a directory has one, the root none. The order is stable: by the
    /// numbers of the directories, and then as they are listed.
    ///
    /// ```
    /// use rfs_core::{Ino, Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// assert_eq!(tree.names(Ino::ROOT, None, 10), Ok(vec![]));
    /// ```
    ///
    /// At most `limit` of them, from the one after `after` on.
    ///
    /// # Errors
    /// A page is missing.
    pub fn names(
        &self,
        ino: Ino,
        after: Option<(Ino, Cookie)>,
        limit: usize,
    ) -> Result<Vec<(Ino, Cookie, Name)>, Missing> {
        let after = match after {
            Some((parent, cookie)) => Bound::Excluded((ino, parent, cookie)),
            None => Bound::Included((ino, Ino(0), Cookie(0))),
        };
        let last = Bound::Included((ino, Ino(u64::MAX), Cookie(u64::MAX)));
        let mut names = Vec::new();
        for link in self.links.range((after, last)).take(limit) {
            let (&(_, parent, cookie), ()) = link?;
            if let Some(name) = self.listing.get(&(parent, cookie))? {
                names.push((parent, cookie, name.clone()));
            }
        }
        Ok(names)
    }

    /// Where the bytes of a file's range are: runs in order, without a gap, clipped to the file's size.
    ///
    /// # Errors
    /// `EISDIR` for a directory, `EINVAL` for what else is no file, `ESTALE`.
    pub fn file_ranges(&self, ino: Ino, range: Range<u64>) -> Result<Vec<FileRange>, Fault> {
        let end = range.end.min(self.regular_file(ino)?.size);
        let mut at = range.start;
        let mut ranges = Vec::new();
        while at < end {
            let (next, place) = self.run_at(ino, at, end)?;
            ranges.push(FileRange { range: at..next, place });
            at = next;
        }
        Ok(ranges)
    }

    /// The first byte at or behind `offset` that is stored, as `lseek(2)` with `SEEK_DATA` finds it.
    ///
    /// # Errors
    /// `ENXIO` when there is none before the end of the file; else as [`Tree::file_ranges`].
    pub fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64, Fault> {
        let size = self.regular_file(ino)?.size;
        if offset >= size {
            return Err(Errno::NoSuchData.into());
        }
        match self.run_at(ino, offset, size)? {
            (_, Some(_)) => Ok(offset),
            (end, None) if end < size => Ok(end),
            _ => Err(Errno::NoSuchData.into()),
        }
    }

    /// The first byte at or behind `offset` that is in a hole, as `lseek(2)` with `SEEK_HOLE` finds it: the end of
    /// the file counts as one.
    ///
    /// # Errors
    /// `ENXIO` at or past the end of the file; else as [`Tree::file_ranges`].
    pub fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64, Fault> {
        let size = self.regular_file(ino)?.size;
        if offset >= size {
            return Err(Errno::NoSuchData.into());
        }
        let mut at = offset;
        while at < size {
            match self.run_at(ino, at, size)? {
                (end, Some(_)) => at = end,
                (_, None) => break,
            }
        }
        Ok(at)
    }

    fn regular_file(&self, ino: Ino) -> Result<&Inode, Fault> {
        let inode = self.existing(ino)?;
        match inode.kind() {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::IsADirectory.into()),
            _ => Err(Errno::Invalid.into()),
        }
    }

    /// Where a symlink points.
    ///
    /// # Errors
    /// `EINVAL` when it is not a symlink, `ESTALE`.
    pub fn read_link(&self, ino: Ino) -> Result<&[u8], Fault> {
        match &self.existing(ino)?.body {
            Body::Symlink { target } => Ok(target),
            _ => Err(Errno::Invalid.into()),
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

    /// Whether an inode is there without a name.
    #[must_use]
    pub fn is_nameless(&self, ino: Ino) -> bool {
        self.orphans.contains_key(&ino)
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
        self.quotas
            .iter()
            .map(|(subject, limits)| (*subject, Quota { limits: *limits, used: self.usage_of(*subject) }))
    }

    /// What the whole volume holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.allocated, inodes: self.inodes.len() }
    }

    /// The named commits.
    #[must_use]
    pub const fn checkpoints(&self) -> &Resident<String, Checkpoint> {
        &self.checkpoints
    }

    /// For each segment that content lies in, how many of its bytes are live.
    #[must_use]
    pub const fn segments(&self) -> &Map<SegmentId, u64> {
        &self.segments
    }

    /// How many inodes there are.
    #[must_use]
    pub const fn inode_count(&self) -> u64 {
        self.inodes.len()
    }

    /// Whether all of it is loaded.
    ///
    /// # Errors
    /// A page is missing.
    pub fn whole(&self) -> Result<(), Missing> {
        self.missing_pages(1).pop().map_or(Ok(()), Err)
    }

    /// Pages that are missing, at most so many: those that can be known of, as pages that only missing ones lead to
    /// cannot.
    #[must_use]
    pub fn missing_pages(&self, most: usize) -> Vec<Missing> {
        let mut missing = Vec::new();
        self.inodes.missing(most, &mut missing);
        self.entries.missing(most, &mut missing);
        self.listing.missing(most, &mut missing);
        self.links.missing(most, &mut missing);
        self.extents.missing(most, &mut missing);
        self.xattrs.missing(most, &mut missing);
        self.segments.missing(most, &mut missing);
        missing
    }

    /// The end of the run of like bytes at `at`, and where its first byte is.
    fn run_at(&self, ino: Ino, at: u64, end: u64) -> Result<(u64, Option<Place>), Missing> {
        if let Some((&(holder, start), extent)) = self.extents.at_or_before(&(ino, at))?
            && holder == ino
            && start + extent.len > at
        {
            let position = extent.place.position + (at - start);
            let place = Place { segment: extent.place.segment, position };
            return Ok(((start + extent.len).min(end), Some(place)));
        }
        let next = self.extents.range((ino, at)..(ino, end)).next().transpose()?;
        Ok((next.map_or(end, |(&(_, start), _)| start), None))
    }
}
