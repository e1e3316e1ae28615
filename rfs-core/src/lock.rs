//! Locks: whole-file (`flock(2)`) and byte-range (`fcntl(2)`), with owners.
//!
//! The two kinds do not see each other, as on a local Linux file system.

use serde::{Deserialize, Serialize};

use crate::OwnerId;

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

/// A byte range that is locked: from `start` up to `end`, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// First byte after it; [`LockRange::END`] means however far the file grows.
    pub end: u64,
}

impl LockRange {
    /// Past the last byte that a file can have.
    pub const END: u64 = 1 << 63;
    /// The whole file, however far it grows.
    pub const ALL: Self = Self { start: 0, end: Self::END };

    /// The range, if there is one: not empty, and not past [`LockRange::END`].
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end && end <= Self::END { Some(Self { start, end }) } else { None }
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
