//! Who asks: the identity that permissions are checked for.

use std::fmt;
use std::ops::BitOr;

/// Rights that stand above permission bits, as Linux's capabilities of the same names (`capabilities(7)`).
///
/// ```
/// use rfs_core::Capabilities;
/// let some = Capabilities::CHOWN | Capabilities::FOWNER;
/// assert!(some.contains(Capabilities::CHOWN) && !some.contains(Capabilities::ALL));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u32);

impl Capabilities {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Owner and group of a file may be set to anything.
    pub const CHOWN: Self = Self(1);
    /// Permission bits do not count for reading, writing and searching; for execution one execute bit is enough.
    pub const DAC_OVERRIDE: Self = Self(1 << 1);
    /// Permission bits do not count for reading, and for searching directories.
    pub const DAC_READ_SEARCH: Self = Self(1 << 2);
    /// What only a file's owner may do is allowed.
    pub const FOWNER: Self = Self(1 << 3);
    /// Set-user-id and set-group-id are not cleared by writes, and may be set for any group.
    pub const FSETID: Self = Self(1 << 4);
    /// Device nodes may be made.
    pub const MKNOD: Self = Self(1 << 5);
    /// Extended attributes `trusted.*` can be used, and `security.*` set.
    pub const SYS_ADMIN: Self = Self(1 << 6);
    /// The quota of a user is no limit; the quota of the volume is.
    pub const SYS_RESOURCE: Self = Self(1 << 7);
    /// The extended attribute `security.capability` may be set.
    pub const SETFCAP: Self = Self(1 << 8);
    /// All of them: what root has.
    pub const ALL: Self = Self((1 << 9) - 1);

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are not among `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The identity of a caller.
///
/// ```
/// use rfs_core::{Capabilities, Credential};
/// let user = Credential::user(1000, 1000, &[4, 27]);
/// assert!(user.is_in_group(27) && !user.is_in_group(0));
/// assert!(Credential::root().has(Capabilities::CHOWN));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User: owner of what is made.
    pub uid: u32,
    /// Group: group of what is made.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Permission bits that what is made does not get, unless its directory has a default ACL.
    pub umask: u32,
    /// Rights that stand above permission bits.
    pub capabilities: Capabilities,
}

impl Credential {
    /// User and group 0 with every capability and no umask.
    #[must_use]
    pub const fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), umask: 0, capabilities: Capabilities::ALL }
    }

    /// A user without capabilities, with the umask 022.
    #[must_use]
    pub fn user(uid: u32, gid: u32, groups: &[u32]) -> Self {
        Self { uid, gid, groups: groups.to_vec(), umask: 0o022, capabilities: Capabilities::NONE }
    }

    /// Whether it is of this group, by its own or by a further one.
    #[must_use]
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether it has these capabilities.
    #[must_use]
    pub const fn has(&self, capabilities: Capabilities) -> bool {
        self.capabilities.contains(capabilities)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, groups, umask, capabilities } = self;
        write!(f, "{uid}:{gid}")?;
        if !groups.is_empty() {
            write!(f, "+{groups:?}")?;
        }
        write!(f, " umask {umask:03o} capabilities {:#x}", capabilities.0)
    }
}
