//! The bytes of the object that holds the volume's key.

use super::block::{Algorithm, Cipher};

const MAGIC: [u8; 8] = *b"RFS-KEYS";
const VERSION: u16 = 1;
const FIXED_LEN: usize = 8 + 2 + 1 + 1 + 12 + 32 + 2;
const CHECKSUM_LEN: usize = 32;
/// Longest wrapped key.
const WRAPPED_MAX: usize = 4096;

/// What the object says.
pub(super) struct Fields {
    pub(super) algorithm: Algorithm,
    pub(super) by: u8,
    pub(super) memory: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    pub(super) salt: [u8; 32],
    pub(super) wrapped: Vec<u8>,
}

pub(super) fn encode(fields: &Fields) -> Result<Vec<u8>, String> {
    let len = u16::try_from(fields.wrapped.len()).ok().filter(|len| usize::from(*len) <= WRAPPED_MAX);
    let len = len.ok_or_else(|| {
        format!("the wrapped key has {} bytes; at most {WRAPPED_MAX} are kept", fields.wrapped.len())
    })?;
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.push(match fields.algorithm {
        Algorithm::Aes256Gcm => 1,
        Algorithm::ChaCha20Poly1305 => 2,
    });
    out.push(fields.by);
    for number in [fields.memory, fields.passes, fields.lanes] {
        out.extend(number.to_le_bytes());
    }
    out.extend(fields.salt);
    out.extend(len.to_le_bytes());
    out.extend(&fields.wrapped);
    let checksum = blake3::hash(&out);
    out.extend(checksum.as_bytes());
    Ok(out)
}

pub(super) fn decode(object: &[u8]) -> Result<Fields, String> {
    let most = FIXED_LEN + WRAPPED_MAX + CHECKSUM_LEN;
    let (content, checksum) = object
        .len()
        .checked_sub(CHECKSUM_LEN)
        .filter(|at| *at >= FIXED_LEN && object.len() <= most)
        .map(|at| object.split_at(at))
        .ok_or("it is no object with a key: its length is wrong")?;
    if content[..8] != MAGIC {
        return Err("it does not start as an object with a key does".to_owned());
    }
    if blake3::hash(content).as_bytes() != checksum {
        return Err("it does not have its checksum".to_owned());
    }
    let version = u16::from_le_bytes([content[8], content[9]]);
    if version != VERSION {
        return Err(format!("it has version {version}, and this build reads {VERSION}: use a newer one"));
    }
    let algorithm = match content[10] {
        1 => Algorithm::Aes256Gcm,
        2 => Algorithm::ChaCha20Poly1305,
        other => return Err(format!("its algorithm {other} is unknown: use a newer build")),
    };
    let number =
        |at: usize| u32::from_le_bytes([content[at], content[at + 1], content[at + 2], content[at + 3]]);
    let mut salt = [0; 32];
    salt.copy_from_slice(&content[24..56]);
    let wrapped = content[FIXED_LEN..].to_vec();
    if usize::from(u16::from_le_bytes([content[56], content[57]])) != wrapped.len() {
        return Err("its length is wrong".to_owned());
    }
    Ok(Fields {
        algorithm,
        by: content[11],
        memory: number(12),
        passes: number(16),
        lanes: number(20),
        salt,
        wrapped,
    })
}

impl Cipher {
    /// Wraps a key.
    pub(super) fn seal_key(&self, key: &[u8; 32]) -> Vec<u8> {
        let sealed = self.seal(super::KEY_OBJECT, &[bytes::Bytes::copy_from_slice(key)]);
        sealed[1].to_vec()
    }

    /// The key that was wrapped; none when it was wrapped by another.
    pub(super) fn open_key(&self, wrapped: &[u8]) -> Option<[u8; 32]> {
        let opened = self.open(super::KEY_OBJECT, wrapped, 0, true).ok()?;
        <[u8; 32]>::try_from(&*opened).ok()
    }
}
