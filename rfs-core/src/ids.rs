//! The numbers of a volume, each a type of its own so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number! {
    /// Inode number: names one file, directory or symlink for the life of the volume, and is never reused.
    Ino
}
number! {
    /// Log sequence number: how many Changes the history holds up to and with this one. 0 is the empty history.
    Lsn
}
number! {
    /// Number of a segment in the history of a volume. It grows along the history; two histories that part may
    /// both use a number.
    SegmentId
}
number! {
    /// Who holds inodes open and locks: one process of the application, or one of its remote sessions. What it holds
    /// lasts until it ends, and is found again by whoever opens the volume under the same number. Numbers below 2^63
    /// are the application's to choose; the others are given out by the volume.
    OwnerId
}
number! {
    /// Position in a directory listing: stays valid while entries come and go. 0 is the start.
    Cookie
}

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// Names one commit of a volume: the epoch of its writer, and its number in that epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommitId {
    /// Which writer's turn it was.
    pub epoch: u64,
    /// Number in the epoch, from 0.
    pub number: u64,
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// Where a byte of file content is in the journal: a segment, and a logical offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The segment.
    pub segment: SegmentId,
    /// Offset in the segment's uncompressed form, in bytes.
    pub position: u64,
}

/// A run of a file's bytes that is in the journal. The file offset is the extent's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Where the first byte is.
    pub place: Place,
    /// How many bytes.
    pub len: u64,
}

/// Nanoseconds since 1970-01-01 UTC, as a signed 64-bit number: from 1677 to 2262.
///
/// A time outside is clamped to the nearest that can be stored, as Linux does with the limits of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time `nanos` nanoseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The time of a Linux `timespec`, clamped to what can be stored.
    #[must_use]
    pub fn from_parts(seconds: i64, nanos: u32) -> Self {
        let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self(whole.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// Nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds (rounded down) and the nanoseconds beyond them.
    #[must_use]
    pub const fn to_parts(self) -> (i64, u32) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u32)
    }
}
