//! The form of every object that is not a segment: a header, a body, and perhaps an attachment that the body
//! describes with a hash of its own.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::RecoveryError;

/// The version of all object formats that this crate writes. It reads this one and every one before.
pub const FORMAT: u16 = 5;
/// Bytes of an envelope's header.
pub(crate) const ENVELOPE_HEADER_LEN: usize = 48;
/// Largest body of an envelope, in bytes.
const BODY_MAX: usize = 64 << 20;
const MAGIC: [u8; 8] = *b"RFS-OBJ\0";

/// What an object is. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ObjectKind {
    /// Tells the volume id.
    Superblock = 1,
    /// A commit.
    Commit = 2,
    /// A fence in a commit's place.
    Fence = 3,
    /// The whole tree at a commit, before format version 3.
    Image = 4,
    /// Keeps a commit.
    Pin = 5,
    /// What the newest collection keeps.
    Kept = 6,
}

/// BLAKE3 over an envelope's header (without this hash) and body: the identity of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
pub struct ObjectHash(pub [u8; 32]);

impl std::fmt::Display for ObjectHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// The bytes of an envelope without its attachment, and the hash that they give.
pub(crate) fn seal<T: Serialize>(kind: ObjectKind, body: &T) -> (Vec<u8>, ObjectHash) {
    let body = postcard::to_stdvec(body).expect("the body has no field that cannot be encoded");
    let mut out = Vec::with_capacity(ENVELOPE_HEADER_LEN + body.len());
    out.extend(MAGIC);
    out.extend(FORMAT.to_le_bytes());
    out.extend((kind as u16).to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    let hash = hash(&out, &body);
    out.extend(hash.0);
    out.extend(body);
    (out, hash)
}

/// Where the attachment of an object starts, by its first bytes; `None` when that cannot be.
pub(crate) fn attachment_start(header: &[u8]) -> Option<u64> {
    let len = header.get(12..16)?.first_chunk().map(|len| u32::from_le_bytes(*len))?;
    (len as usize <= BODY_MAX).then_some(ENVELOPE_HEADER_LEN as u64 + u64::from(len))
}

/// An object that came from the store, verified and not yet decoded.
pub(crate) struct Opened {
    pub(crate) version: u16,
    pub(crate) kind: u16,
    pub(crate) hash: ObjectHash,
    body: Bytes,
    pub(crate) attachment: Bytes,
    /// Where the attachment starts in the object.
    pub(crate) attachment_start: u64,
}

/// Verifies the envelope of an object.
pub(crate) fn open(store: &str, key: &str, object: &Bytes) -> Result<Opened, RecoveryError> {
    let damaged = |what: &str| damaged(store, key, what);
    let header = object.get(..ENVELOPE_HEADER_LEN).ok_or_else(|| damaged("it is shorter than its header"))?;
    if header[..8] != MAGIC {
        return Err(damaged("it does not start as an rfs object does"));
    }
    let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let version = u16_at(8);
    let body_len = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
    let attachment_start = ENVELOPE_HEADER_LEN + body_len;
    if body_len > BODY_MAX || object.len() < attachment_start {
        return Err(damaged("it is cut, or its length is wrong"));
    }
    let body = object.slice(ENVELOPE_HEADER_LEN..attachment_start);
    let hash = hash(&header[..16], &body);
    if hash.0 != header[16..] {
        return Err(damaged("it does not have its checksum"));
    }
    if version == 0 || version > FORMAT {
        return Err(RecoveryError::UnknownFormat { key: key.to_owned(), version, newest: FORMAT });
    }
    let attachment = object.slice(attachment_start..);
    Ok(Opened {
        version,
        kind: u16_at(10),
        hash,
        body,
        attachment,
        attachment_start: attachment_start as u64,
    })
}

impl Opened {
    pub(crate) fn is(&self, kind: ObjectKind) -> bool {
        self.kind == kind as u16
    }

    /// Decodes the body, which must be of `kind`.
    pub(crate) fn body<T: DeserializeOwned>(
        &self,
        store: &str,
        key: &str,
        kind: ObjectKind,
    ) -> Result<T, RecoveryError> {
        if !self.is(kind) {
            return Err(damaged(store, key, &format!("it is of kind {}, not a {kind:?}", self.kind)));
        }
        let (body, rest) = postcard::take_from_bytes(&self.body)
            .map_err(|error| damaged(store, key, &format!("it cannot be decoded: {error}")))?;
        if rest.is_empty() {
            Ok(body)
        } else {
            Err(damaged(store, key, "it has bytes that belong to no field"))
        }
    }
}

pub(crate) fn damaged(store: &str, key: &str, what: &str) -> RecoveryError {
    RecoveryError::Damaged { store: store.to_owned(), key: key.to_owned(), what: what.to_owned() }
}

fn hash(header: &[u8], body: &[u8]) -> ObjectHash {
    ObjectHash(*blake3::Hasher::new().update(header).update(body).finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let (bytes, sealed) = seal(ObjectKind::Commit, &(7_u32, "text"));
        let object = Bytes::from(bytes.clone());
        let opened = open("s", "k", &object).unwrap();
        assert_eq!(opened.hash, sealed);
        assert_eq!(
            opened.body::<(u32, String)>("s", "k", ObjectKind::Commit).unwrap(),
            (7, "text".to_owned())
        );
        opened.body::<(u32, String)>("s", "k", ObjectKind::Fence).unwrap_err();
        opened.body::<u32>("s", "k", ObjectKind::Commit).unwrap_err();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open("s", "k", &flipped.into()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(open("s", "k", &object.slice(..len)).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_later_version_says_so() {
        let (mut bytes, _) = seal(ObjectKind::Fence, &1_u8);
        bytes[8] = FORMAT as u8 + 1;
        let (header, body) = (bytes[..16].to_vec(), bytes[ENVELOPE_HEADER_LEN..].to_vec());
        bytes[16..48].copy_from_slice(&hash(&header, &body).0);
        let error = open("s", "k", &bytes.into()).err().unwrap();
        assert!(matches!(error, RecoveryError::UnknownFormat { version: 6, newest: 5, .. }), "{error}");
    }
}
