//! Frames: the unit of checksum and of atomicity.
//!
//! A frame is a header of [`FRAME_HEADER_LEN`] bytes, then the payload of its records one after another, then
//! their Changes one after another. Payloads stand together so that adjacent writes can become one record while
//! the frame is open, and so that recovery can read Changes without content.
//!
//! The chain hash of a frame is BLAKE3 over the chain hash of the frame before it and what this frame says. So it
//! names the whole history up to the end of the frame: equal chain hashes mean equal journals.

use bytes::Bytes;
use rfs_core::{Change, Lsn, Place, SegmentId};
use serde::{Deserialize, Serialize};

use crate::bytes::Fields;
use crate::{FORMAT, JournalError, NUMBER_END, is_known};

/// Bytes of a frame's header.
pub const FRAME_HEADER_LEN: usize = 88;
/// Largest payload of a frame, in bytes.
pub const FRAME_PAYLOAD_MAX: usize = 64 << 20;
/// Largest Changes section of a frame, in bytes.
pub const FRAME_CHANGES_MAX: usize = 4 << 20;

pub(crate) const FRAME_MAGIC: [u8; 4] = *b"RFSF";

/// Identity of the whole history up to some LSN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChainHash(pub [u8; 32]);

impl std::fmt::Display for ChainHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl ChainHash {
    /// The chain hash of a frame that follows the history `self`.
    #[must_use]
    pub fn extend(self, base: Lsn, count: u32, payload: &[u8], changes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&base.0.to_le_bytes());
        hasher.update(&count.to_le_bytes());
        hasher.update(&(payload.len() as u64).to_le_bytes());
        hasher.update(&(changes.len() as u64).to_le_bytes());
        hasher.update(payload);
        hasher.update(changes);
        Self(*hasher.finalize().as_bytes())
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Tells the segment's frames from those that stood in a recycled file before.
    pub tag: u32,
    /// The LSN before the frame's first record.
    pub base: Lsn,
    /// How many records it has.
    pub count: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Bytes of Changes.
    pub changes_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// CRC32C of the Changes.
    pub changes_crc: u32,
    /// Up to where the log was synced when this frame was written: what is missing before it was safe once.
    pub durable: Lsn,
    /// The chain hash at the frame's end.
    pub chain: ChainHash,
    /// CRC32C of the volume id: tells this volume's frames from those of another that stand in a file's content.
    pub volume: u32,
}

/// What frames of a volume are marked with.
pub(crate) fn volume_mark(volume: u128) -> u32 {
    crc32c::crc32c(&volume.to_be_bytes())
}

/// What stands where a frame's header is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFound {
    Header(FrameHeader),
    /// A header of a version or codec that this code does not know, its checksum being right.
    Unknown(u16),
    Nothing,
}

impl FrameHeader {
    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = Vec::with_capacity(FRAME_HEADER_LEN);
        out.extend(FRAME_MAGIC);
        out.extend(FORMAT.to_le_bytes());
        out.extend([0, 0]); // codec: none; flags: none
        out.extend(self.tag.to_le_bytes());
        out.extend(self.count.to_le_bytes());
        out.extend(self.payload_len.to_le_bytes());
        out.extend(self.changes_len.to_le_bytes());
        out.extend(self.payload_crc.to_le_bytes());
        out.extend(self.changes_crc.to_le_bytes());
        out.extend(self.base.0.to_le_bytes());
        out.extend(self.durable.0.to_le_bytes());
        out.extend(self.chain.0);
        out.extend(self.volume.to_le_bytes());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out.try_into().expect("the fields add up to the header's length")
    }

    /// Looks for a header at the start of `bytes`.
    pub(crate) fn find(bytes: &[u8]) -> HeaderFound {
        let Some(bytes) = bytes.get(..FRAME_HEADER_LEN) else { return HeaderFound::Nothing };
        let (body, crc) = bytes.split_at(FRAME_HEADER_LEN - 4);
        if body[..4] != FRAME_MAGIC || crc32c::crc32c(body).to_le_bytes() != crc {
            return HeaderFound::Nothing;
        }
        let mut fields = Fields(&body[4..]);
        let (version, codec_and_flags) = (fields.u16(), fields.u16());
        if !is_known(version) || codec_and_flags != 0 {
            return HeaderFound::Unknown(version);
        }
        let header = Self {
            tag: fields.u32(),
            count: fields.u32(),
            payload_len: fields.u32(),
            changes_len: fields.u32(),
            payload_crc: fields.u32(),
            changes_crc: fields.u32(),
            base: Lsn(fields.u64()),
            durable: Lsn(fields.u64()),
            chain: ChainHash(fields.take()),
            volume: fields.u32(),
        };
        let bounded = header.payload_len as usize <= FRAME_PAYLOAD_MAX
            && header.changes_len as usize <= FRAME_CHANGES_MAX
            && header.count <= header.changes_len
            && header.base.0 < NUMBER_END;
        if bounded { HeaderFound::Header(header) } else { HeaderFound::Nothing }
    }

    /// The LSN of the frame's last record.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        Lsn(self.base.0 + self.count as u64)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + self.payload_len as u64 + self.changes_len as u64
    }

    /// The frame's payload and Changes, if `frame` (which starts at the header) holds both unharmed.
    pub(crate) fn body<'a>(&self, frame: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let payload_end = FRAME_HEADER_LEN + self.payload_len as usize;
        let payload = frame.get(FRAME_HEADER_LEN..payload_end)?;
        let changes = frame.get(payload_end..payload_end + self.changes_len as usize)?;
        let whole =
            crc32c::crc32c(payload) == self.payload_crc && crc32c::crc32c(changes) == self.changes_crc;
        whole.then_some((payload, changes))
    }
}

/// One step of the history, where it stands in the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number in the history.
    pub lsn: Lsn,
    /// What changed.
    pub change: Change,
    /// Where its payload starts.
    pub place: Place,
}

/// Appends a Change's bytes to a frame's Changes section.
pub(crate) fn encode_change(change: &Change, out: &mut Vec<u8>) {
    let bytes = std::mem::take(out);
    *out = postcard::to_extend(change, bytes).expect("a Change has no field that cannot be encoded");
}

/// Decodes the records of a frame whose bytes were verified.
///
/// # Errors
/// `Damaged` when the section does not hold exactly `count` Changes whose payloads add up to `payload_len`.
pub(crate) fn decode_records(
    artefact: &str,
    offset: u64,
    base: Lsn,
    count: u32,
    payload: (Place, u64),
    changes: &[u8],
) -> Result<Vec<Record>, JournalError> {
    let damaged = |what: String| JournalError::damaged(artefact, offset, what);
    let (mut place, mut payload_left) = payload;
    let mut rest = changes;
    let mut records = Vec::with_capacity((count as usize).min(changes.len()));
    for number in 1..=u64::from(count) {
        let (change, after) = postcard::take_from_bytes::<Change>(rest)
            .map_err(|error| damaged(format!("record {number} of the frame cannot be decoded: {error}")))?;
        rest = after;
        let len = change.payload_len();
        payload_left = payload_left.checked_sub(len).ok_or_else(|| {
            damaged(format!("record {number} of the frame claims more payload than there is"))
        })?;
        records.push(Record { lsn: Lsn(base.0 + number), change, place });
        place.position += len;
    }
    if !rest.is_empty() || payload_left != 0 {
        return Err(damaged("the frame has bytes that belong to no record".to_owned()));
    }
    Ok(records)
}

/// A frame that takes no more records.
#[derive(Clone, Debug)]
pub(crate) struct ClosedFrame {
    pub(crate) segment: SegmentId,
    /// Offset of the frame's header in the segment.
    pub(crate) position: u64,
    pub(crate) base: Lsn,
    pub(crate) count: u32,
    pub(crate) payload: Bytes,
    pub(crate) changes: Bytes,
    /// Which inodes each record is about: (inode, record number in the frame).
    pub(crate) index: Vec<(rfs_core::Ino, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rfs_core::{Ino, Timestamp};

    fn header() -> FrameHeader {
        FrameHeader {
            tag: 7,
            base: Lsn(40),
            count: 2,
            payload_len: 5,
            changes_len: 9,
            payload_crc: 1,
            changes_crc: 2,
            durable: Lsn(39),
            chain: ChainHash([3; 32]),
            volume: volume_mark(9),
        }
    }

    #[test]
    fn headers_come_back() {
        assert_eq!(FrameHeader::find(&header().encode()), HeaderFound::Header(header()));
        assert_eq!(header().end(), Lsn(42));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let bytes = header().encode();
        for bit in 0..FRAME_HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::find(&flipped), HeaderFound::Nothing, "bit {bit}");
        }
    }

    #[test]
    fn numbers_that_no_history_reaches_are_no_header() {
        for (base, found) in [(NUMBER_END - 1, true), (NUMBER_END, false), (u64::MAX, false)] {
            let header = FrameHeader { base: Lsn(base), ..header() };
            assert_eq!(FrameHeader::find(&header.encode()) == HeaderFound::Header(header), found, "{base}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_garbage() {
        let mut bytes = header().encode();
        bytes[4] = 9;
        let crc = crc32c::crc32c(&bytes[..FRAME_HEADER_LEN - 4]);
        bytes[FRAME_HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FrameHeader::find(&bytes), HeaderFound::Unknown(9));
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        let write = Change::Write { ino: Ino(2), offset: 0, len: 5, time: Timestamp::from_nanos(1) };
        let mut changes = Vec::new();
        encode_change(&write, &mut changes);
        let decode = |count, payload_len, bytes: &[u8]| {
            decode_records("x", 0, Lsn(0), count, (Place::default(), payload_len), bytes)
        };
        assert_eq!(decode(1, 5, &changes).unwrap()[0].change, write);
        decode(1, 6, &changes).unwrap_err();
        decode(1, 4, &changes).unwrap_err();
        decode(2, 5, &changes).unwrap_err();
        decode(0, 0, &changes).unwrap_err();
        decode(1, 5, &changes[1..]).unwrap_err();
    }
}
