//! Whether a caller may: permission bits, POSIX ACLs, and the capabilities that stand above both.

use std::ops::BitOr;

use crate::acl::{self, ACCESS_ACL};
use crate::{Capabilities, Credential, Errno, Fault, Ino, Inode, Missing, Tree};

pub(crate) const SET_USER_ID: u32 = 0o4000;
pub(crate) const SET_GROUP_ID: u32 = 0o2000;
pub(crate) const STICKY: u32 = 0o1000;
pub(crate) const GROUP_EXECUTE: u32 = 0o0010;

/// What a caller wants to do with an inode, as the bits of `access(2)`. Of a directory, reading is listing it,
/// writing is changing its entries, and executing is looking names up in it.
///
/// ```
/// use rfs_core::Permission;
/// let both = Permission::READ | Permission::WRITE;
/// assert!(both.contains(Permission::READ) && !both.contains(Permission::EXECUTE));
/// assert_eq!(Permission::from_bits(6), Some(both));
/// assert_eq!(Permission::from_bits(8), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permission(u32);

impl Permission {
    /// Nothing: that it is there (`F_OK`).
    pub const NONE: Self = Self(0);
    /// `X_OK`
    pub const EXECUTE: Self = Self(1);
    /// `W_OK`
    pub const WRITE: Self = Self(2);
    /// `R_OK`
    pub const READ: Self = Self(4);

    /// The bits of `access(2)`; none for other bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits > 7 { None } else { Some(Self(bits)) }
    }

    /// The bits of `access(2)`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether permission bits of one class (the last three of `bits`) give them.
    pub(crate) const fn is_given_by(self, bits: u32) -> bool {
        self.0 & !bits == 0
    }
}

impl BitOr for Permission {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Tree {
    /// Whether a caller may read, write and execute (or search) an inode, as `access(2)` says it.
    ///
    /// ```
    /// use rfs_core::{Credential, Errno, Ino, Permission, Timestamp, Tree};
    /// let tree = Tree::new(Timestamp::from_nanos(0));
    /// let user = Credential::user(1000, 1000, &[]);
    /// assert_eq!(tree.permits(&user, Ino::ROOT, Permission::READ), Ok(()));
    /// assert_eq!(tree.permits(&user, Ino::ROOT, Permission::WRITE), Err(Errno::AccessDenied.into()));
    /// ```
    ///
    /// # Errors
    /// `EACCES` when it may not; `ESTALE` when the inode is gone.
    pub fn permits(&self, credential: &Credential, ino: Ino, access: Permission) -> Result<(), Fault> {
        let inode = self.existing(ino)?;
        self.permits_inode(credential, ino, inode, access)
    }

    pub(crate) fn permits_inode(
        &self,
        credential: &Credential,
        ino: Ino,
        inode: &Inode,
        access: Permission,
    ) -> Result<(), Fault> {
        if overrides(credential, inode, access) || self.is_given(credential, ino, inode, access)? {
            Ok(())
        } else {
            Err(Errno::AccessDenied.into())
        }
    }

    /// Whether names may be looked up in a directory: asked for every step of every path.
    pub(crate) fn permits_search(&self, credential: &Credential, dir: Ino) -> Result<(), Fault> {
        if credential.has(Capabilities::DAC_OVERRIDE) || credential.has(Capabilities::DAC_READ_SEARCH) {
            return Ok(());
        }
        self.permits(credential, dir, Permission::EXECUTE)
    }

    /// Whether the inode's own permissions give it: those of the first class that the caller is in.
    fn is_given(
        &self,
        credential: &Credential,
        ino: Ino,
        inode: &Inode,
        access: Permission,
    ) -> Result<bool, Missing> {
        let mode = inode.mode;
        if credential.uid == inode.uid {
            return Ok(access.is_given_by(mode >> 6));
        }
        // A list whose mask gives nothing is not looked at, as in Linux: who it names is in the last class then.
        if mode & 0o070 != 0
            && let Some(value) = self.find_xattr(ino, ACCESS_ACL)?
        {
            return Ok(acl::permits(value.as_bytes(), credential, inode, access));
        }
        let class = if credential.is_in_group(inode.gid) { mode >> 3 } else { mode };
        Ok(access.is_given_by(class))
    }
}

/// Whether capabilities give what permission bits do not.
fn overrides(credential: &Credential, inode: &Inode, access: Permission) -> bool {
    if credential.has(Capabilities::DAC_OVERRIDE) {
        // Even root cannot execute what nobody can.
        let executable = inode.is_dir() || inode.mode & 0o111 != 0;
        if executable || !access.contains(Permission::EXECUTE) {
            return true;
        }
    }
    if !credential.has(Capabilities::DAC_READ_SEARCH) {
        return false;
    }
    if inode.is_dir() { !access.contains(Permission::WRITE) } else { access == Permission::READ }
}

impl Credential {
    /// Whether it may do what only the owner of an inode may.
    pub(crate) const fn owns(&self, inode: &Inode) -> bool {
        self.uid == inode.uid || self.has(Capabilities::FOWNER)
    }

    /// Whether it may leave set-group-id on what belongs to this group.
    pub(crate) fn may_set_group_id(&self, gid: u32) -> bool {
        self.has(Capabilities::FSETID) || self.is_in_group(gid)
    }

    /// Whether a sticky directory lets it take this inode's name away.
    pub(crate) const fn may_unstick(&self, dir: &Inode, inode: &Inode) -> bool {
        dir.mode & STICKY == 0 || self.uid == dir.uid || self.owns(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Credential, Permission};
    use crate::{Body, Errno, Ino, Timestamp, Tree};

    const USER: u32 = 10;
    const GROUP: u32 = 20;

    fn tree(mode: u32, body: Body) -> Tree {
        let mut tree = Tree::new(Timestamp::default());
        let root = tree.inode(Ino::ROOT).expect("it is loaded").expect("a tree has one").clone();
        let inode = crate::Inode { mode, uid: USER, gid: GROUP, nlink: 1, body, ..root };
        tree.inodes.insert(Ino(2), inode).expect("it is loaded");
        tree
    }

    fn given(tree: &Tree, credential: &Credential) -> u32 {
        let one = |access| {
            let answer = tree.permits(credential, Ino(2), access);
            assert!(answer.as_ref().map_or_else(|fault| *fault == Errno::AccessDenied, |()| true));
            if answer.is_ok() { access.bits() } else { 0 }
        };
        one(Permission::READ) | one(Permission::WRITE) | one(Permission::EXECUTE)
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let owner = Credential::user(USER, 1, &[GROUP]);
        let member = Credential::user(11, GROUP, &[]);
        let further = Credential::user(11, 1, &[3, GROUP]);
        let other = Credential::user(11, 1, &[3]);
        for mode in 0..=0o777 {
            let tree = tree(mode, Body::File);
            assert_eq!(given(&tree, &owner), mode >> 6, "{mode:o}");
            assert_eq!(given(&tree, &member), mode >> 3 & 7, "{mode:o}");
            assert_eq!(given(&tree, &further), mode >> 3 & 7, "{mode:o}");
            assert_eq!(given(&tree, &other), mode & 7, "{mode:o}");
        }
    }

    #[test]
    fn capabilities_stand_above_permission_bits() {
        let able = |capabilities| Credential { capabilities, ..Credential::user(11, 1, &[]) };
        let directory = || Body::Directory { parent: Ino::ROOT, entries: 0, next_cookie: 1 };
        for (body, mode, capabilities, expected) in [
            (Body::File, 0, Capabilities::DAC_OVERRIDE, 6),
            (Body::File, 0o100, Capabilities::DAC_OVERRIDE, 7),
            (Body::File, 0o010, Capabilities::DAC_OVERRIDE, 7),
            (Body::File, 0o700, Capabilities::DAC_READ_SEARCH, 4),
            (Body::File, 0o002, Capabilities::DAC_READ_SEARCH, 6),
            (Body::File, 0, Capabilities::ALL.without(Capabilities::DAC_OVERRIDE), 4),
            (directory(), 0, Capabilities::DAC_OVERRIDE, 7),
            (directory(), 0, Capabilities::DAC_READ_SEARCH, 5),
            (directory(), 0, Capabilities::FOWNER, 0),
        ] {
            assert_eq!(given(&tree(mode, body), &able(capabilities)), expected, "{mode:o} {capabilities:?}");
        }
        // All at once is as each by itself, but for reading and writing together.
        let reader = able(Capabilities::DAC_READ_SEARCH);
        let tree = tree(0o002, Body::File);
        let both = Permission::READ | Permission::WRITE;
        assert_eq!(tree.permits(&reader, Ino(2), both), Err(Errno::AccessDenied.into()));
        assert_eq!(tree.permits(&reader, Ino(2), Permission::NONE), Ok(()));
        assert_eq!(tree.permits(&reader, Ino(3), Permission::NONE), Err(Errno::Stale.into()));
    }
}
