//! Which operations a target has.

use std::fmt;
use std::ops::BitOr;

/// A set of classes of operations: what a file system can do, or a workload contains, beside what all can.
///
/// ```
/// use rfs_testkit::Abilities;
/// assert!(Abilities::ALL.contains(Abilities::PUNCH | Abilities::ACL));
/// assert!(!Abilities::PUNCH.contains(Abilities::ALL));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Abilities(u32);

macro_rules! abilities {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Abilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            /// Every class.
            pub const ALL: Self = Self($(1 << $bit |)* 0);
            const NAMES: &[(&str, Self)] = &[$((stringify!($name), Self::$name),)*];
        }
    };
}

abilities! {
    /// Fifos, sockets and devices.
    SPECIAL_NODES = 0;
    /// Renames that exchange, or must not replace.
    RENAME_MODES = 1;
    /// `O_TMPFILE`
    NAMELESS = 2;
    /// Extended attributes `user.*`.
    USER_XATTRS = 3;
    /// Extended attributes `trusted.*` and `security.*`.
    SYSTEM_XATTRS = 4;
    /// POSIX ACLs.
    ACL = 5;
    /// `fallocate(2)` that lengthens, or keeps the size.
    PREALLOCATE = 6;
    /// `FALLOC_FL_PUNCH_HOLE`
    PUNCH = 7;
    /// `FALLOC_FL_ZERO_RANGE`
    ZERO_RANGE = 8;
    /// `FALLOC_FL_COLLAPSE_RANGE` and `FALLOC_FL_INSERT_RANGE`, on whole blocks.
    SHIFT_RANGES = 9;
    /// `copy_file_range(2)`
    COPY = 10;
    /// `SEEK_DATA` and `SEEK_HOLE`
    SEEK = 11;
    /// Byte-range locks of open files.
    RANGE_LOCKS = 12;
    /// Files of up to 2^63-1 bytes.
    HUGE_FILES = 13;
    /// The kernel forbids nothing in sticky directories that POSIX allows (`fs.protected_regular` and its like).
    PLAIN_STICKY = 14;
    /// `fs.protected_hardlinks`
    PROTECTED_LINKS = 15;
}

impl Abilities {
    /// No class.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not among `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Abilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(Self::NAMES.iter().filter(|(_, class)| self.contains(*class)).map(|(name, _)| name))
            .finish()
    }
}
