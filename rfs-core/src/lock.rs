//! Locks: whole-file (`flock(2)`) and byte-range (`fcntl(2)`), with owners.
//!
//! The two kinds do not see each other, as on a local Linux file system.

use serde::{Deserialize, Serialize};

use crate::tree::RangeLock;
use crate::{Ino, OwnerId, Tree};

/// How a lock is held. The order of the variants is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// Who holds a lock: an owner, and which of its handles or processes.
///
/// For `flock(2)` and open-file-description locks the key stands for one open file; for POSIX process locks, for one
/// process. Two locks of one `LockOwner` never conflict. The order of the fields is part of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockOwner {
    /// The owner: its death releases the lock.
    pub owner: OwnerId,
    /// Which of the owner's handles or processes; the owner gives these numbers out.
    pub key: u64,
}

impl LockOwner {
    pub(crate) const MIN: Self = Self { owner: OwnerId(0), key: 0 };
    pub(crate) const MAX: Self = Self { owner: OwnerId(u64::MAX), key: u64::MAX };
}

/// A byte range that is locked: from `start` up to `end`, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// First byte after it; [`LockRange::END`] means however far the file grows.
    pub end: u64,
}

impl LockMode {
    /// Whether locks of two owners cannot be held at once.
    pub(crate) fn excludes(self, other: Self) -> bool {
        self == Self::Exclusive || other == Self::Exclusive
    }
}

impl LockRange {
    /// Past the last byte that a file can have.
    pub const END: u64 = 1 << 63;
    /// The whole file, however far it grows.
    pub const ALL: Self = Self { start: 0, end: Self::END };

    /// The range, if there is one: not empty, and not past [`LockRange::END`].
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        let range = Self { start, end };
        if range.is_valid() { Some(range) } else { None }
    }

    pub(crate) const fn is_valid(&self) -> bool {
        self.start < self.end && self.end <= Self::END
    }

    /// Whether the two have a byte in common.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A byte-range lock that is held, as `F_GETLK` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldRange {
    /// Which bytes.
    pub range: LockRange,
    /// By whom.
    pub owner: LockOwner,
    /// How.
    pub mode: LockMode,
}

impl Tree {
    /// Who holds a whole-file lock that keeps this one from being taken, if anybody does.
    pub fn file_lock_conflict(&self, ino: Ino, owner: LockOwner, mode: LockMode) -> Option<LockOwner> {
        let mut held = self.file_locks(ino);
        held.find(|(holder, held)| *holder != owner && mode.excludes(*held)).map(|(holder, _)| holder)
    }

    /// A byte-range lock that keeps this one from being taken, as `F_GETLK` tells it: the one that begins first.
    pub fn range_lock_conflict(
        &self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
        mode: LockMode,
    ) -> Option<HeldRange> {
        let excludes =
            |held: &HeldRange| held.owner != owner && held.range.overlaps(&range) && mode.excludes(held.mode);
        self.range_locks(ino).filter(excludes).min_by_key(|held| (held.range.start, held.owner))
    }

    /// The locks of one owner that have a byte in common with a range, the last one first.
    fn own_range_locks(
        &self,
        ino: Ino,
        owner: LockOwner,
        range: LockRange,
    ) -> impl Iterator<Item = (LockRange, LockMode)> {
        let at_or_before = move |last: u64| {
            let (&(of, by, start), lock) = self.range_locks.at_or_before(&(ino, owner, last))?;
            let held = LockRange { start, end: lock.end };
            ((of, by) == (ino, owner) && held.end > range.start).then_some((held, lock.mode))
        };
        let last = range.end.checked_sub(1).and_then(at_or_before);
        std::iter::successors(last, move |(held, _)| held.start.checked_sub(1).and_then(at_or_before))
    }

    /// Whether an owner has locked any byte of a range.
    pub(crate) fn has_range_lock(&self, ino: Ino, owner: LockOwner, range: LockRange) -> bool {
        self.own_range_locks(ino, owner, range).next().is_some()
    }

    /// Whether an owner has locked all of a range in this mode.
    pub(crate) fn covers_range(&self, ino: Ino, owner: LockOwner, range: LockRange, mode: LockMode) -> bool {
        // Locks of one mode that touch are one lock.
        let mut held = self.own_range_locks(ino, owner, range);
        held.next().is_some_and(|(held, held_mode)| {
            held_mode == mode && held.start <= range.start && range.end <= held.end
        })
    }

    /// Locks a range for an owner, whatever it holds of it. The caller has checked the range, and that nobody else
    /// has a lock that excludes this one.
    pub(crate) fn put_range_lock(&mut self, ino: Ino, owner: LockOwner, range: LockRange, mode: LockMode) {
        self.cut_range_locks(ino, owner, range);
        let LockRange { mut start, mut end } = range;
        if let Some(next) = self.range_locks.get(&(ino, owner, end)).copied()
            && next.mode == mode
        {
            self.range_locks.remove(&(ino, owner, end));
            end = next.end;
        }
        if let Some((&(holder, of, before), lock)) = self.range_locks.at_or_before(&(ino, owner, start))
            && (holder, of) == (ino, owner)
            && lock.end == start
            && lock.mode == mode
        {
            start = before;
        }
        self.range_locks.insert((ino, owner, start), RangeLock { end, mode });
    }

    /// Unlocks what an owner holds of a range.
    pub(crate) fn cut_range_locks(&mut self, ino: Ino, owner: LockOwner, range: LockRange) {
        let held: Vec<_> = self.own_range_locks(ino, owner, range).collect();
        for (held, mode) in held {
            self.range_locks.remove(&(ino, owner, held.start));
            if held.start < range.start {
                self.range_locks.insert((ino, owner, held.start), RangeLock { end: range.start, mode });
            }
            if held.end > range.end {
                self.range_locks.insert((ino, owner, range.end), RangeLock { end: held.end, mode });
            }
        }
    }
}
