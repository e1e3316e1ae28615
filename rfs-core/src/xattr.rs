//! Names and values of extended attributes (`xattr(7)`).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::acl::{self, ACCESS_ACL, DEFAULT_ACL};
use crate::{
    Capabilities, Credential, Errno, Fault, Ino, Inode, Kind, Missing, Permission, Tree, XATTR_NAME_MAX,
    XATTR_VALUE_MAX,
};

/// Whether setting an extended attribute may make it, replace it, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// Makes or replaces it.
    #[default]
    Set,
    /// `XATTR_CREATE`: it must not be there.
    Create,
    /// `XATTR_REPLACE`: it must be there.
    Replace,
}

/// The name of an extended attribute: 1 to 255 bytes without NUL, namespace included, such as `user.origin`.
///
/// ```
/// use rfs_core::{Errno, XattrName};
/// assert_eq!(XattrName::new(b"user.origin")?.as_bytes(), b"user.origin");
/// assert_eq!(XattrName::new(&[b'x'; 256]).unwrap_err(), Errno::Range);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XattrName(Arc<[u8]>);

impl XattrName {
    /// Checks and keeps a name. Whether its namespace is one that can be used is for the operation to say.
    ///
    /// # Errors
    /// `ERANGE` for an empty name or one over 255 bytes, as Linux says; `EINVAL` for one with a NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        Self::check(bytes)?;
        Ok(Self(Arc::from(bytes)))
    }

    fn check(bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() || bytes.len() > XATTR_NAME_MAX {
            return Err(Errno::Range);
        }
        if bytes.contains(&0) { Err(Errno::Invalid) } else { Ok(()) }
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for XattrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for XattrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The value of an extended attribute: up to 64 KiB of any bytes. Cloning shares them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct XattrValue(Arc<[u8]>);

impl XattrValue {
    /// Checks and keeps a value.
    ///
    /// # Errors
    /// `E2BIG` over 65,536 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > XATTR_VALUE_MAX { Err(Errno::ListTooLong) } else { Ok(Self(Arc::from(bytes))) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for XattrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// The attribute that holds the capabilities of an executable.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// What the first part of a name says about who may use the attribute, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    User,
    Trusted,
    Security,
    /// One of the two POSIX ACLs.
    Acl,
    /// `system.` with anything else behind it.
    System,
    Unknown,
}

impl Namespace {
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            ACCESS_ACL | DEFAULT_ACL => Self::Acl,
            name if name.starts_with(b"user.") => Self::User,
            name if name.starts_with(b"trusted.") => Self::Trusted,
            name if name.starts_with(b"security.") => Self::Security,
            name if name.starts_with(b"system.") => Self::System,
            _ => Self::Unknown,
        }
    }

    /// Whether an attribute can have this name: its namespace is one, and something comes after it.
    pub(crate) fn check(self, name: &[u8]) -> Result<(), Errno> {
        match (self, name) {
            (Self::System | Self::Unknown, _) => Err(Errno::NotSupported),
            (_, b"user." | b"trusted." | b"security.") => Err(Errno::Invalid),
            _ => Ok(()),
        }
    }
}

/// A key of the tree's extended attributes with the name borrowed, so that a lookup allocates nothing.
struct XattrRef<'a> {
    ino: Ino,
    name: &'a [u8],
}

impl Equivalent<(Ino, XattrName)> for XattrRef<'_> {
    fn equivalent(&self, key: &(Ino, XattrName)) -> bool {
        self.compare(key) == Ordering::Equal
    }
}

impl Comparable<(Ino, XattrName)> for XattrRef<'_> {
    fn compare(&self, (ino, name): &(Ino, XattrName)) -> Ordering {
        self.ino.cmp(ino).then_with(|| self.name.cmp(name.as_bytes()))
    }
}

impl Tree {
    /// The value of an extended attribute, as `getxattr(2)` gives it to a caller.
    ///
    /// # Errors
    /// `ENODATA` when there is none, or the caller may not know of it; `EACCES`, `EOPNOTSUPP` for a namespace that
    /// there is not, `EINVAL` for a namespace without a name, `ERANGE`, `ESTALE`.
    pub fn xattr(&self, credential: &Credential, ino: Ino, name: &[u8]) -> Result<&XattrValue, Fault> {
        XattrName::check(name)?;
        let inode = self.existing(ino)?;
        let namespace = Namespace::of(name);
        match namespace {
            Namespace::Acl if inode.kind() == Kind::Symlink => return Err(Errno::NotSupported.into()),
            Namespace::Trusted if !credential.has(Capabilities::SYS_ADMIN) => {
                return Err(Errno::NoAttribute.into());
            }
            Namespace::User if !has_user_xattrs(inode) => return Err(Errno::NoAttribute.into()),
            Namespace::User | Namespace::Unknown => {
                self.permits_inode(credential, ino, inode, Permission::READ)?;
            }
            _ => {}
        }
        namespace.check(name)?;
        Ok(self.find_xattr(ino, name)?.ok_or(Errno::NoAttribute)?)
    }

    /// The names of an inode's extended attributes that a caller may know of, as `listxattr(2)`.
    ///
    /// # Errors
    /// `ESTALE`
    pub fn xattr_names(&self, credential: &Credential, ino: Ino) -> Result<Vec<XattrName>, Fault> {
        self.existing(ino)?;
        let shown = |name: &XattrName| {
            Namespace::of(name.as_bytes()) != Namespace::Trusted || credential.has(Capabilities::SYS_ADMIN)
        };
        let mut names = Vec::new();
        for attribute in self.xattrs_of(ino) {
            let (name, _) = attribute?;
            if shown(name) {
                names.push(name.clone());
            }
        }
        Ok(names)
    }

    /// All extended attributes of an inode with their values, in order: what root may see.
    ///
    /// # Errors
    /// A page is missing.
    pub fn all_xattrs(&self, ino: Ino) -> Result<Vec<(XattrName, XattrValue)>, Missing> {
        let attributes = self.xattrs_of(ino);
        attributes.map(|pair| pair.map(|(name, value)| (name.clone(), value.clone()))).collect()
    }

    /// The value of an attribute, whoever asks.
    pub(crate) fn find_xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<&XattrValue>, Missing> {
        if self.xattrs.is_empty() {
            return Ok(None);
        }
        Ok(self.xattrs.find(&XattrRef { ino, name })?.map(|(_, value)| value))
    }

    /// All attributes of an inode, in order of their names.
    pub(crate) fn xattrs_of(
        &self,
        ino: Ino,
    ) -> impl Iterator<Item = Result<(&XattrName, &XattrValue), Missing>> {
        let attributes = self.xattrs.range(least_xattr(ino)..least_xattr(ino.next()));
        attributes.map(|pair| pair.map(|((_, name), value)| (name, value)))
    }
}

/// Before every attribute of an inode.
pub(crate) fn least_xattr(ino: Ino) -> (Ino, XattrName) {
    (ino, XattrName(Arc::from([])))
}

/// Whether an inode can have this attribute, whoever sets it.
pub(crate) fn fits(inode: &Inode, name: &XattrName, value: &XattrValue) -> bool {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    let namespace = Namespace::of(name);
    let on_this = match namespace {
        Namespace::User => has_user_xattrs(inode),
        Namespace::Acl => {
            let holder = if name == DEFAULT_ACL { inode.is_dir() } else { inode.kind() != Kind::Symlink };
            holder && acl::is_stored_form(value)
        }
        _ => true,
    };
    on_this && namespace.check(name).is_ok()
}

/// Whether a value is of a form that Linux knows for [`CAPABILITY`]: version 2 or, with the user id of a namespace's
/// root behind it, version 3.
pub(crate) fn is_capability(value: &[u8]) -> bool {
    let version = value.first_chunk().map_or(0, |first| u32::from_le_bytes(*first) >> 24);
    matches!((version, value.len()), (2, 20) | (3, 24))
}

/// Whether an inode can have attributes of the user's namespace: those of others would be writable by everybody.
pub(crate) const fn has_user_xattrs(inode: &Inode) -> bool {
    matches!(inode.kind(), Kind::File | Kind::Directory)
}

macro_rules! as_bytes {
    ($type:ident, $what:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$type, E> {
                        $type::new(bytes).map_err(E::custom)
                    }
                }
                deserializer.deserialize_bytes(Visitor)
            }
        }
    };
}

as_bytes!(XattrName, "the name of an extended attribute");
as_bytes!(XattrValue, "the value of an extended attribute");
