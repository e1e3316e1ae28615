//! Names and values of extended attributes (`xattr(7)`).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Errno, XATTR_NAME_MAX, XATTR_VALUE_MAX};

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
        if bytes.is_empty() || bytes.len() > XATTR_NAME_MAX {
            return Err(Errno::Range);
        }
        if bytes.contains(&0) { Err(Errno::Invalid) } else { Ok(Self(Arc::from(bytes))) }
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
