//! Names of directory entries.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Errno, NAME_MAX};

/// A name in a directory: 1 to 255 bytes, none of them `/` or NUL, and neither `.` nor `..`.
///
/// Up to 22 bytes lie in it, so that looking for a name in a large directory reads no memory but the keys. Clones of a longer
/// one share its bytes.
///
/// ```
/// use rfs_core::{Errno, Name};
/// assert_eq!(Name::new(b"a/b").unwrap_err(), Errno::Invalid);
/// assert_eq!(Name::new(&[b'x'; 256]).unwrap_err(), Errno::NameTooLong);
/// assert_eq!(Name::new(b"log")?.as_bytes(), b"log");
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone)]
pub struct Name(Bytes<Arc<[u8]>>);

/// Bytes that are looked for among names.
#[derive(Clone, Copy)]
pub(crate) struct NameRef<'a>(Bytes<&'a [u8]>);

/// So many bytes take no more room than a pointer to more would.
const SHORT_MAX: usize = 22;

/// Bytes of a name, `L` if they are too many to lie here.
#[derive(Clone, Copy)]
enum Bytes<L> {
    /// Behind `len` bytes there are zeros.
    Short {
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    Long(L),
}

impl Name {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// `ENAMETOOLONG` over 255 bytes; `EINVAL` for an empty name, `.`, `..`, or one with `/` or NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        let plain = !bytes.is_empty()
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if !plain {
            return Err(Errno::Invalid);
        }
        Ok(Self(Bytes::new(bytes, Arc::from)))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// How many bytes of it do not lie in it, if they do not.
    pub(crate) fn long_bytes(&self) -> Option<usize> {
        match &self.0 {
            Bytes::Short { .. } => None,
            Bytes::Long(bytes) => Some(bytes.len()),
        }
    }
}

impl<'a> NameRef<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Bytes::new(bytes, |bytes| bytes))
    }

    pub(crate) fn compare(&self, name: &Name) -> Ordering {
        self.0.compare(&name.0)
    }
}

impl<L: AsRef<[u8]>> Bytes<L> {
    fn new<'a>(bytes: &'a [u8], long: impl FnOnce(&'a [u8]) -> L) -> Self {
        let mut short = [0; SHORT_MAX];
        match short.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Self::Short { len: bytes.len() as u8, bytes: short }
            }
            None => Self::Long(long(bytes)),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes.as_ref(),
        }
    }

    /// In the order of the bytes. Short ones are compared as numbers, which a search does many times.
    fn compare<M: AsRef<[u8]>>(&self, other: &Bytes<M>) -> Ordering {
        let (Self::Short { len, bytes }, Bytes::Short { len: other_len, bytes: other_bytes }) = (self, other)
        else {
            return self.as_slice().cmp(other.as_slice());
        };
        let number = |bytes: &[u8; SHORT_MAX], at: usize| {
            bytes[at..].first_chunk().map_or(0, |eight| u64::from_be_bytes(*eight))
        };
        let at = |at| number(bytes, at).cmp(&number(other_bytes, at));
        at(0).then_with(|| at(8)).then_with(|| at(SHORT_MAX - 8)).then_with(|| len.cmp(other_len))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(&other.0)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a directory entry's name")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Name, E> {
                Name::new(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_names_are_in_one_order() {
        assert_eq!(size_of::<Name>(), 24);
        let mut names: Vec<Vec<u8>> = Vec::new();
        for len in [1, 2, 7, 8, 9, 16, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, NAME_MAX] {
            for byte in [1, b'a', 0xff] {
                let mut last = vec![b'a'; len];
                last[len - 1] = byte;
                names.extend([vec![byte; len], last]);
            }
        }
        for bytes in &names {
            let name = Name::new(bytes).unwrap();
            assert_eq!(name.as_bytes(), bytes);
            for other in &names {
                let (order, other_name) = (bytes.cmp(other), Name::new(other).unwrap());
                assert_eq!((name.cmp(&other_name), name == other_name), (order, order.is_eq()));
                assert_eq!(NameRef::new(bytes).compare(&other_name), order);
            }
        }
    }

    /// What is looked for may be no name at all.
    #[test]
    fn zeros_are_not_the_end() {
        let name = Name::new(b"a").unwrap();
        assert_eq!(NameRef::new(b"a\0").compare(&name), Ordering::Greater);
        assert_eq!(NameRef::new(b"").compare(&name), Ordering::Less);
    }
}
