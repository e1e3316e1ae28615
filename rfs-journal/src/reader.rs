//! Reads whole sealed segments and verifies every byte.

use bytes::Bytes;
use rfs_core::{Change, Lsn};

use crate::frame::{FrameHeader, HeaderFound};
use crate::segment::{FrameInfo, SEGMENT_HEADER_LEN, SegmentFound, SegmentHash, SegmentHeader};
use crate::{FORMAT, Footer, JournalError, Record};

/// A sealed segment whose every byte was verified.
#[derive(Clone, Debug)]
pub struct VerifiedSegment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its footer.
    pub footer: Footer,
    /// Its records, in order.
    pub records: Vec<Record>,
    bytes: Bytes,
}

impl VerifiedSegment {
    /// The payload of one of its records.
    #[must_use]
    pub fn payload(&self, record: &Record) -> Bytes {
        let start = record.place.position as usize;
        self.bytes.slice(start..start + record.change.payload_len() as usize)
    }
}

/// The header of a segment, from its first bytes.
///
/// # Errors
/// `Damaged` when they are not a header, `UnknownFormat` for one that this code cannot read.
pub fn read_header(artefact: &str, bytes: &[u8]) -> Result<SegmentHeader, JournalError> {
    match SegmentHeader::find(bytes) {
        SegmentFound::Header(header) => Ok(header),
        SegmentFound::Unknown(version) => Err(unknown(artefact, version)),
        SegmentFound::Nothing => {
            Err(JournalError::damaged(artefact, 0, "it does not start with a segment's header"))
        }
    }
}

/// Verifies a whole sealed segment: header, every frame, chain hash, footer, segment index.
///
/// # Errors
/// `Damaged` names the first thing that does not fit; `UnknownFormat` for a version that this code cannot read.
pub fn verify_segment(
    artefact: &str,
    bytes: &Bytes,
    expected: Option<SegmentHash>,
) -> Result<VerifiedSegment, JournalError> {
    let header = read_header(artefact, bytes)?;
    let header_bytes = bytes.first_chunk::<SEGMENT_HEADER_LEN>().expect("the header was read");
    let footer = Footer::decode(artefact, bytes.len() as u64, header_bytes, bytes, expected)?;
    let damaged = |offset: u64, what: &str| JournalError::damaged(artefact, offset, what);
    if footer.base != header.base {
        return Err(damaged(0, "header and footer name different LSNs"));
    }
    let mut current = crate::writer::Current::new(header);
    let mut records = Vec::new();
    let mut chain = header.chain;
    for info in &footer.frames {
        let frame = &bytes[info.position as usize..];
        let found = match FrameHeader::find(frame) {
            HeaderFound::Header(found) => found,
            HeaderFound::Unknown(version) => return Err(unknown(artefact, version)),
            HeaderFound::Nothing => return Err(damaged(info.position, "a frame's header is not there")),
        };
        let Some((payload, changes)) = found.body(frame) else {
            return Err(damaged(info.position, "a frame does not have its checksum"));
        };
        chain = chain.extend(found.base, found.count, payload, changes);
        if found.tag != header.tag() || frame_info(&found, info.position) != *info || chain != found.chain {
            return Err(damaged(info.position, "a frame does not continue the history before it"));
        }
        let of_frame = info.decode(artefact, header.id, changes)?;
        current.push(*info, changes, index_of(&of_frame));
        records.extend(of_frame);
    }
    let (sealed, _) = current.seal(records.last().map_or(header.base, |last| last.lsn), chain);
    if *sealed.footer != footer {
        return Err(damaged(bytes.len() as u64 - 1, "the footer is not that of these frames"));
    }
    Ok(VerifiedSegment { header, footer, records, bytes: bytes.clone() })
}

/// Which inodes the records of a frame are about, with their numbers in the frame.
pub(crate) fn index_of(records: &[Record]) -> impl Iterator<Item = (rfs_core::Ino, u32)> {
    let numbered = records.iter().zip(0..);
    numbered
        .flat_map(|(record, number)| Change::inodes(&record.change).into_iter().map(move |ino| (ino, number)))
}

pub(crate) fn frame_info(header: &FrameHeader, position: u64) -> FrameInfo {
    FrameInfo {
        position,
        base: Lsn(header.base.0),
        count: header.count,
        payload_len: header.payload_len,
        changes_len: header.changes_len,
        payload_crc: header.payload_crc,
        changes_crc: header.changes_crc,
    }
}

pub(crate) fn unknown(artefact: &str, version: u16) -> JournalError {
    JournalError::UnknownFormat { artefact: artefact.to_owned(), version, newest: FORMAT }
}
