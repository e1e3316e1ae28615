//! The form of a sealed object: a header, and blocks.
//!
//! ```text
//! header   "RFS-SEAL", version u16 = 1, six bytes of zero
//! block    last u8, salt 32 bytes, ciphertext, tag 16 bytes      each but the last one of 65,536 bytes of content
//! ```
//! With `k` the volume's key, `place` the object's name, the block's number and `last`:
//! `salt = BLAKE3-keyed(derive(k, "salt"), place, content)`, and the block's key is `BLAKE3-keyed(derive(k, "block"),
//! place, salt)`. Under that key nothing but this block is ever encrypted, so the nonce is zero. That blocks are numbered
//! and the last one is marked is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015).

use std::ops::Range;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit};
use bytes::Bytes;
use chacha20poly1305::ChaCha20Poly1305;

const MAGIC: [u8; 8] = *b"RFS-SEAL";
const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 16;
/// Bytes of content in a block.
const CONTENT_LEN: usize = 64 << 10;
const PREFIX_LEN: usize = 33;
const TAG_LEN: usize = 16;
/// What sealing adds to each block.
pub(super) const SEALED_LEN: usize = PREFIX_LEN + TAG_LEN;
const STORED_LEN: usize = CONTENT_LEN + SEALED_LEN;

/// What blocks are encrypted with. Both authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// AES with keys of 256 bits in Galois counter mode (NIST SP 800-38D): the fast one where the processor helps.
    Aes256Gcm,
    /// ChaCha20 with Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// Seals and opens the objects of one volume.
pub(crate) struct Cipher {
    algorithm: Algorithm,
    key: [u8; 32],
    salts: [u8; 32],
    blocks: [u8; 32],
}

impl Cipher {
    pub(crate) fn new(algorithm: Algorithm, key: [u8; 32]) -> Self {
        let salts = blake3::derive_key("rfs 2026-11-30 salts of sealed blocks", &key);
        let blocks = blake3::derive_key("rfs 2026-11-30 keys of sealed blocks", &key);
        Self { algorithm, key, salts, blocks }
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The stored form of an object.
    pub(crate) fn seal(&self, name: &str, chunks: &[Bytes]) -> Vec<Bytes> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.resize(HEADER_LEN, 0);
        let total: usize = chunks.iter().map(Bytes::len).sum();
        let count = blocks(total as u64);
        let mut out = vec![Bytes::from(header)];
        let (mut chunks, mut chunk) = (chunks.iter(), Bytes::new());
        for number in 0..count {
            let mut content = Vec::with_capacity(CONTENT_LEN.min(total));
            while content.len() < CONTENT_LEN {
                if chunk.is_empty() {
                    let Some(next) = chunks.next() else { break };
                    chunk = next.clone();
                }
                let piece = chunk.split_to(chunk.len().min(CONTENT_LEN - content.len()));
                content.extend_from_slice(&piece);
            }
            out.push(self.seal_block(name, number, number + 1 == count, &content).into());
        }
        out
    }

    fn seal_block(&self, name: &str, number: u64, last: bool, content: &[u8]) -> Vec<u8> {
        let salt = place(&self.salts, name, number, last).update(content).finalize();
        let mut out = Vec::with_capacity(content.len() + SEALED_LEN);
        out.push(u8::from(last));
        out.extend(salt.as_bytes());
        let key = place(&self.blocks, name, number, last).update(salt.as_bytes()).finalize();
        let sealed = match self.algorithm {
            Algorithm::Aes256Gcm => Aes256Gcm::new(key.as_bytes().into()).encrypt(&[0; 12].into(), content),
            Algorithm::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new(key.as_bytes().into()).encrypt(&[0; 12].into(), content)
            }
        };
        out.extend(sealed.expect("a block is far below the longest message of either algorithm"));
        out
    }

    /// The content of the blocks from number `first` on; `whole`: up to and with the last one. The error says what is
    /// wrong, and where.
    pub(super) fn open(&self, name: &str, stored: &[u8], first: u64, whole: bool) -> Result<Bytes, String> {
        let mut out = Vec::with_capacity(stored.len());
        let mut ended = false;
        for (number, block) in (first..).zip(stored.chunks(STORED_LEN)) {
            let opened =
                if ended { Err("comes after the last one") } else { self.open_block(name, number, block) };
            let (last, content) = opened.map_err(|what| {
                let at = HEADER_LEN as u64 + number * STORED_LEN as u64;
                format!("block {number}, at offset {at} of the stored object, {what}")
            })?;
            ended = last;
            out.extend(content);
        }
        if whole && !ended {
            return Err("the last block is missing".to_owned());
        }
        Ok(out.into())
    }

    /// What is left of an object's content, of all its stored blocks: zeros stand for the blocks that do not open.
    pub(super) fn salvage(&self, name: &str, stored: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(stored.len());
        for (number, block) in (0..).zip(stored.chunks(STORED_LEN)) {
            match self.open_block(name, number, block) {
                Ok((_, content)) => out.extend(content),
                Err(_) => out.resize(out.len() + block.len().saturating_sub(SEALED_LEN), 0),
            }
        }
        out.into()
    }

    /// Whether a block is the last one, and its content; the error says what is wrong.
    fn open_block(&self, name: &str, number: u64, block: &[u8]) -> Result<(bool, Vec<u8>), &'static str> {
        let (prefix, sealed) = block.split_at_checked(PREFIX_LEN).ok_or("is cut")?;
        let (last, salt) = (prefix[0] == 1, &prefix[1..]);
        let key = place(&self.blocks, name, number, last).update(salt).finalize();
        let opened = match self.algorithm {
            Algorithm::Aes256Gcm => Aes256Gcm::new(key.as_bytes().into()).decrypt(&[0; 12].into(), sealed),
            Algorithm::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new(key.as_bytes().into()).decrypt(&[0; 12].into(), sealed)
            }
        };
        let content = opened.map_err(|_| "does not have its tag: it was changed, moved or cut")?;
        if prefix[0] > 1 || (!last && content.len() != CONTENT_LEN) {
            return Err("has a length that no block has");
        }
        Ok((last, content))
    }
}

/// A keyed hash that has taken in a block's place.
fn place(key: &[u8; 32], name: &str, number: u64, last: bool) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&[u8::from(last)]);
    hasher
}

pub(super) fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(&MAGIC) && stored.get(8..10) == Some(&VERSION.to_le_bytes())
}

/// How many blocks an object has: one at least.
pub(super) const fn blocks(len: u64) -> u64 {
    let blocks = len.div_ceil(CONTENT_LEN as u64);
    if blocks == 0 { 1 } else { blocks }
}

pub(super) const fn block_of(offset: u64) -> u64 {
    offset / CONTENT_LEN as u64
}

pub(super) const fn start_of(block: u64) -> u64 {
    block * CONTENT_LEN as u64
}

/// Where the blocks are that a range that is not empty touches. The last one may end earlier.
pub(super) fn stored_range(range: &Range<u64>) -> Range<u64> {
    let at = |block: u64| (HEADER_LEN as u64).saturating_add(block.saturating_mul(STORED_LEN as u64));
    at(block_of(range.start))..at(block_of(range.end - 1).saturating_add(1))
}

/// Bytes of content of an object whose stored form has so many.
pub(super) const fn content_len(stored: u64) -> u64 {
    let blocks_len = stored.saturating_sub(HEADER_LEN as u64);
    blocks_len.saturating_sub(blocks_len.div_ceil(STORED_LEN as u64).saturating_mul(SEALED_LEN as u64))
}
