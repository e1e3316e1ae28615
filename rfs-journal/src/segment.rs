//! Segments: a run of frames with a header and, once sealed, a footer.
//!
//! ```text
//! header | frame | frame | ... | footer body | trailer
//! ```
//!
//! The footer body holds the frame table and the segment index, and repeats the Changes where the payload outweighs
//! them, so that recovery reads footers and not content. The trailer holds the **segment hash**: BLAKE3 over
//! header and footer body. The footer body names the chain hash at the segment's end, which covers every frame, so
//! the segment hash is the identity of all that the segment says. (How far the log was synced when a frame was
//! written, [`crate::FrameHeader::durable`], is no part of the history; it has the checksum of the frame's header only.)

use std::collections::BTreeMap;

use bytes::Bytes;
use rfs_core::{Ino, Lsn, Place, SegmentId};
use serde::{Deserialize, Serialize};

use crate::bytes::Fields;
use crate::frame::decode_records;
use crate::{ChainHash, FRAME_HEADER_LEN, JournalError, NUMBER_END, Record, is_known};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_LEN: usize = 128;
/// Bytes of a sealed segment's trailer.
pub const TRAILER_LEN: usize = 48;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"RFS-SEG\0";
const TRAILER_MAGIC: [u8; 8] = *b"RFS-FTR\0";

/// Which volume a segment belongs to.
pub type VolumeId = u128;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The format version that it was written with.
    pub version: u16,
    /// The volume.
    pub volume: VolumeId,
    /// Number of the segment in the volume's history.
    pub id: SegmentId,
    /// Epoch of the writer that began it.
    pub epoch: u64,
    /// That writer.
    pub writer: u128,
    /// The LSN before the segment's first record.
    pub base: Lsn,
    /// The chain hash at that LSN.
    pub chain: ChainHash,
}

/// What stands where a segment's header is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentFound {
    Header(SegmentHeader),
    Unknown(u16),
    Nothing,
}

impl SegmentHeader {
    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_LEN);
        out.extend(SEGMENT_MAGIC);
        out.extend(self.version.to_le_bytes());
        out.extend([0; 6]); // reserved
        out.extend(self.volume.to_be_bytes());
        out.extend(self.id.0.to_le_bytes());
        out.extend(self.epoch.to_le_bytes());
        out.extend(self.writer.to_be_bytes());
        out.extend(self.base.0.to_le_bytes());
        out.extend(self.chain.0);
        out.resize(SEGMENT_HEADER_LEN - 4, 0);
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out.try_into().expect("the fields add up to the header's length")
    }

    /// Looks for a header at the start of `bytes`.
    pub(crate) fn find(bytes: &[u8]) -> SegmentFound {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_LEN) else { return SegmentFound::Nothing };
        let (body, crc) = bytes.split_at(SEGMENT_HEADER_LEN - 4);
        if body[..8] != SEGMENT_MAGIC || crc32c::crc32c(body).to_le_bytes() != crc {
            return SegmentFound::Nothing;
        }
        let mut fields = Fields(&body[8..]);
        let version = fields.u16();
        if !is_known(version) {
            return SegmentFound::Unknown(version);
        }
        let _reserved: [u8; 6] = fields.take();
        let volume = u128::from_be_bytes(fields.take());
        let (id, epoch) = (SegmentId(fields.u64()), fields.u64());
        let writer = u128::from_be_bytes(fields.take());
        let (base, chain) = (Lsn(fields.u64()), ChainHash(fields.take()));
        if id.0.max(epoch).max(base.0) >= NUMBER_END {
            return SegmentFound::Nothing;
        }
        SegmentFound::Header(Self { version, volume, id, epoch, writer, base, chain })
    }

    /// What the frames of this segment are marked with.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let bytes = self.encode();
        u32::from_le_bytes(*bytes.last_chunk().expect("the header is longer than its checksum"))
    }
}

/// One line of a frame table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// Offset of the frame's header in the segment.
    pub position: u64,
    /// The LSN before its first record.
    pub base: Lsn,
    /// How many records it has.
    pub count: u32,
    /// Bytes of payload, which follow the header.
    pub payload_len: u32,
    /// Bytes of Changes, which follow the payload.
    pub changes_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// CRC32C of the Changes.
    pub changes_crc: u32,
}

impl FrameInfo {
    /// Offset of the first payload byte in the segment.
    #[must_use]
    pub const fn payload_start(&self) -> u64 {
        self.position + FRAME_HEADER_LEN as u64
    }

    /// Offset of the first byte of the Changes in the segment.
    #[must_use]
    pub const fn changes_start(&self) -> u64 {
        self.payload_start() + self.payload_len as u64
    }

    /// Where the frame ends in the segment, unless that is past all numbers.
    fn end(&self) -> Option<u64> {
        let body = u64::from(self.payload_len) + u64::from(self.changes_len);
        self.position.checked_add(FRAME_HEADER_LEN as u64 + body)
    }
}

/// Where a record is in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordPosition {
    /// Which frame of the segment, from 0.
    pub frame: u32,
    /// Which record of the frame, from 0.
    pub record: u32,
}

/// The footer of a sealed segment. The order of the fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// The LSN before the segment's first record.
    pub base: Lsn,
    /// The LSN of its last record.
    pub end: Lsn,
    /// The chain hash at `end`.
    pub chain: ChainHash,
    /// The frame table.
    pub frames: Vec<FrameInfo>,
    /// The segment index: for each inode, where its records are.
    pub index: BTreeMap<Ino, Vec<RecordPosition>>,
    /// The Changes of all frames in order, where the payload outweighs them.
    pub changes: Option<ByteSection>,
}

/// A run of bytes inside a footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteSection(pub Vec<u8>);

impl Serialize for ByteSection {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSection {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteSection;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ByteSection, E> {
                Ok(ByteSection(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// The identity of a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentHash(pub [u8; 32]);

impl std::fmt::Display for SegmentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl Footer {
    /// The footer's bytes, trailer included, and the segment hash they give.
    #[must_use]
    pub fn encode(&self, header: &[u8; SEGMENT_HEADER_LEN]) -> (Bytes, SegmentHash) {
        let mut out = postcard::to_stdvec(self).expect("a footer has no field that cannot be encoded");
        let body_len = u32::try_from(out.len()).expect("a footer is bounded by the segment's size");
        let hash = segment_hash(header, &out);
        let mut trailer = Vec::with_capacity(TRAILER_LEN);
        trailer.extend(body_len.to_le_bytes());
        trailer.extend(hash.0);
        trailer.extend(TRAILER_MAGIC);
        trailer.extend(crc32c::crc32c(&trailer).to_le_bytes());
        out.extend(trailer);
        (Bytes::from(out), hash)
    }

    /// Decodes a footer from `tail`, the last bytes of a segment of `segment_len` bytes, whose header is `header`.
    ///
    /// # Errors
    /// `Damaged` when anything does not fit, also when the segment hash is not `expected`.
    pub fn decode(
        artefact: &str,
        segment_len: u64,
        header: &[u8; SEGMENT_HEADER_LEN],
        tail: &[u8],
        expected: Option<SegmentHash>,
    ) -> Result<Self, JournalError> {
        let damaged = |what: &str| JournalError::damaged(artefact, segment_len - tail.len() as u64, what);
        if tail.len() as u64 > segment_len {
            return Err(JournalError::damaged(artefact, 0, "it is shorter than its footer"));
        }
        let (body_len, hash) =
            trailer(tail).ok_or_else(|| damaged("it does not end with a segment's trailer"))?;
        let body_end = tail.len() - TRAILER_LEN;
        let body_start = body_end.checked_sub(body_len).ok_or_else(|| damaged("its footer is cut"))?;
        let body = &tail[body_start..body_end];
        if segment_hash(header, body) != hash || expected.is_some_and(|expected| expected != hash) {
            return Err(damaged("the segment hash is not that of its header and footer"));
        }
        let (footer, rest) = postcard::take_from_bytes::<Self>(body)
            .map_err(|error| damaged(&format!("its footer cannot be decoded: {error}")))?;
        let frames_end = segment_len - (tail.len() - body_start) as u64;
        if !rest.is_empty() || !footer.fits(frames_end) {
            return Err(damaged("its footer does not fit its frames"));
        }
        Ok(footer)
    }

    /// The records of the segment, from the footer alone, if it repeats the Changes.
    ///
    /// # Errors
    /// `Damaged` when the section does not fit the frame table.
    pub fn records(&self, artefact: &str, segment: SegmentId) -> Option<Result<Vec<Record>, JournalError>> {
        let changes = &self.changes.as_ref()?.0;
        let mut rest = changes.as_slice();
        let mut records = Vec::new();
        for frame in &self.frames {
            let Some((section, after)) = rest.split_at_checked(frame.changes_len as usize) else {
                return Some(Err(JournalError::damaged(
                    artefact,
                    frame.position,
                    "the footer's Changes are cut",
                )));
            };
            rest = after;
            match frame.decode(artefact, segment, section) {
                Ok(of_frame) => records.extend(of_frame),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(records))
    }

    /// Whether the frames follow each other from the header to `frames_end`, in position and in LSN, and the index
    /// names only records that exist.
    fn fits(&self, frames_end: u64) -> bool {
        let mut at = (SEGMENT_HEADER_LEN as u64, self.base);
        for frame in &self.frames {
            let end = frame.end().zip(frame.base.0.checked_add(u64::from(frame.count)));
            let Some((position, lsn)) = end.filter(|(position, _)| *position <= frames_end) else {
                return false;
            };
            if (frame.position, frame.base) != at {
                return false;
            }
            at = (position, Lsn(lsn));
        }
        let named = self.index.values().flatten().all(|named| {
            self.frames.get(named.frame as usize).is_some_and(|frame| named.record < frame.count)
        });
        at == (frames_end, self.end) && named
    }

    /// The frame whose payload holds the byte at `position`, and its number.
    #[must_use]
    pub fn frame_at(&self, position: u64) -> Option<(usize, &FrameInfo)> {
        let number = self.frames.partition_point(|frame| frame.position <= position).checked_sub(1)?;
        let frame = &self.frames[number];
        (frame.payload_start()..frame.changes_start()).contains(&position).then_some((number, frame))
    }
}

impl FrameInfo {
    /// The records of this frame, from its verified Changes section.
    ///
    /// # Errors
    /// `Damaged` when the section does not fit.
    pub fn decode(
        &self,
        artefact: &str,
        segment: SegmentId,
        changes: &[u8],
    ) -> Result<Vec<Record>, JournalError> {
        let place = Place { segment, position: self.payload_start() };
        let payload = (place, u64::from(self.payload_len));
        decode_records(artefact, self.position, self.base, self.count, payload, changes)
    }

    /// Whether `payload` is this frame's.
    #[must_use]
    pub fn has_payload(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_len as usize && crc32c::crc32c(payload) == self.payload_crc
    }

    /// Whether `changes` is this frame's Changes section.
    #[must_use]
    pub fn has_changes(&self, changes: &[u8]) -> bool {
        changes.len() == self.changes_len as usize && crc32c::crc32c(changes) == self.changes_crc
    }
}

fn segment_hash(header: &[u8; SEGMENT_HEADER_LEN], footer_body: &[u8]) -> SegmentHash {
    SegmentHash(*blake3::Hasher::new().update(header).update(footer_body).finalize().as_bytes())
}

/// The length of the footer's body and the segment hash, from the trailer that ends `tail`.
fn trailer(tail: &[u8]) -> Option<(usize, SegmentHash)> {
    let trailer = tail.last_chunk::<TRAILER_LEN>()?;
    let (body, crc) = trailer.split_at(TRAILER_LEN - 4);
    let mut fields = Fields(body);
    let (body_len, hash, magic) = (fields.u32(), SegmentHash(fields.take()), fields.take::<8>());
    let right = magic == TRAILER_MAGIC && crc32c::crc32c(body).to_le_bytes() == crc;
    right.then_some((body_len as usize, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FORMAT;

    #[test]
    fn numbers_that_no_history_reaches_are_no_header() {
        let least = SegmentHeader {
            version: FORMAT,
            volume: 1,
            id: SegmentId(0),
            epoch: 0,
            writer: 1,
            base: Lsn(0),
            chain: ChainHash::default(),
        };
        for great in [
            SegmentHeader { id: SegmentId(u64::MAX), ..least },
            SegmentHeader { epoch: NUMBER_END, ..least },
            SegmentHeader { base: Lsn(NUMBER_END), ..least },
        ] {
            assert_eq!(SegmentHeader::find(&great.encode()), SegmentFound::Nothing, "{great:?}");
        }
    }

    #[test]
    fn headers_come_back_and_flips_are_seen() {
        let header = SegmentHeader {
            version: FORMAT,
            volume: 1 << 100,
            id: SegmentId(4),
            epoch: 3,
            writer: 77,
            base: Lsn(12),
            chain: ChainHash([5; 32]),
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::find(&bytes), SegmentFound::Header(header));
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::find(&flipped), SegmentFound::Nothing, "bit {bit}");
        }
    }
}
