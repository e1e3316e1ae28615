//! What can still be had of a segment that is damaged.
//!
//! Most of a segment is there twice: the header is known to who names the segment, a frame's header follows from the
//! frame table, the footer from the frames, and the Changes stand in the footer too where the payload outweighs them.
//! Only payload is there once, and Changes that outweigh it. What is put together from the rest has to have the segment hash, so that it is what was
//! written, or nothing.

use std::ops::Range;

use bytes::Bytes;
use rfs_core::Lsn;

use crate::frame::{FrameHeader, HeaderFound, volume_mark};
use crate::reader::{frame_info, index_of};
use crate::segment::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SegmentFound, SegmentHash, SegmentHeader};
use crate::writer::Current;
use crate::{Footer, JournalError, Record, verify_segment};

/// What is left of a damaged segment: at least everything that it says, but for payload.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Its header.
    pub header: SegmentHeader,
    /// Its footer.
    pub footer: Footer,
    /// Bytes of the footer, trailer included.
    pub footer_len: u32,
    /// Its records, in order.
    pub records: Vec<Record>,
    /// Which of its bytes hold payload that is lost.
    pub lost: Vec<Range<u64>>,
    /// The whole segment as it was written, if nothing is lost.
    pub whole: Option<Bytes>,
}

/// Puts a segment together from what is left of it: one with this hash, and one of these headers, which differ in the
/// version only.
///
/// # Errors
/// `Damaged` when something is lost that all later segments need.
pub fn salvage_segment(
    artefact: &str,
    bytes: &Bytes,
    headers: &[SegmentHeader],
    hash: SegmentHash,
) -> Result<Salvaged, JournalError> {
    let mut failed = JournalError::damaged(artefact, 0, "nobody knows its header");
    for header in headers {
        let encoded = header.encode();
        let footer = match Footer::decode(artefact, bytes.len() as u64, &encoded, bytes, Some(hash)) {
            Ok(footer) => footer,
            Err(error) => match by_frames(header, bytes).filter(|(_, found)| *found == hash) {
                Some((footer, _)) => footer,
                None => {
                    failed = error;
                    continue;
                }
            },
        };
        return by_footer(artefact, bytes, *header, footer, hash);
    }
    Err(failed)
}

/// Where whole segments stand in `bytes`, whatever is between them.
#[must_use]
pub fn find_segments(bytes: &Bytes) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes.get(at..).and_then(find_magic) {
        let start = at + start;
        match whole_len(&bytes[start..]) {
            Some(len) => {
                found.push(start..start + len);
                at = start + len;
            }
            None => at = start + 1,
        }
    }
    found
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(SEGMENT_MAGIC.len()).position(|window| window == SEGMENT_MAGIC)
}

/// How long the whole segment is that `bytes` start with.
fn whole_len(bytes: &[u8]) -> Option<usize> {
    let SegmentFound::Header(header) = SegmentHeader::find(bytes) else { return None };
    let (footer, _) = by_frames(&header, bytes)?;
    let frames_end = footer
        .frames
        .last()
        .map_or(SEGMENT_HEADER_LEN as u64, |last| last.changes_start() + u64::from(last.changes_len))
        as usize;
    let (footer, _) = footer.encode(&header.encode());
    bytes.get(frames_end..)?.starts_with(&footer).then_some(frames_end + footer.len())
}

/// The footer of the frames that stand behind the header, with the segment hash that they have with it.
fn by_frames(header: &SegmentHeader, bytes: &[u8]) -> Option<(Footer, SegmentHash)> {
    let mut current = Current::new(*header);
    let (mut chain, mut end) = (header.chain, header.base);
    let mut at = SEGMENT_HEADER_LEN as u64;
    while let Some(frame) = bytes.get(at as usize..) {
        let HeaderFound::Header(found) = FrameHeader::find(frame) else { break };
        let Some((payload, changes)) = found.body(frame) else { break };
        let next = chain.extend(found.base, found.count, payload, changes);
        if found.tag != header.tag() || found.base != end || next != found.chain {
            break;
        }
        let info = frame_info(&found, at);
        let records = info.decode("a damaged segment", header.id, changes).ok()?;
        current.push(info, changes, index_of(&records));
        (chain, end) = (next, Lsn(end.0 + u64::from(found.count)));
        at = info.changes_start() + u64::from(info.changes_len);
    }
    let (sealed, _) = current.seal(end, chain);
    Some((Footer::clone(&sealed.footer), sealed.hash))
}

fn by_footer(
    artefact: &str,
    bytes: &Bytes,
    header: SegmentHeader,
    footer: Footer,
    hash: SegmentHash,
) -> Result<Salvaged, JournalError> {
    let (footer_bytes, _) = footer.encode(&header.encode());
    let mut copy = footer.changes.as_ref().map(|changes| changes.0.as_slice()).unwrap_or_default();
    let mut whole = header.encode().to_vec();
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    let mut chain = header.chain;
    for info in &footer.frames {
        let (start, middle) = (info.payload_start(), info.changes_start());
        let end = middle + u64::from(info.changes_len);
        let stored = |from: u64, to: u64| bytes.get(from as usize..to as usize).unwrap_or_default();
        let (of_frame, rest) = copy.split_at_checked(info.changes_len as usize).unwrap_or_default();
        copy = rest;
        let changes = [stored(middle, end), of_frame].into_iter().find(|changes| info.has_changes(changes));
        let changes = changes
            .ok_or_else(|| JournalError::damaged(artefact, middle, "the Changes of a frame are lost"))?;
        records.extend(info.decode(artefact, header.id, changes)?);
        let payload = stored(start, middle);
        if !info.has_payload(payload) {
            lost.push(start..middle);
        }
        if !lost.is_empty() {
            continue;
        }
        chain = chain.extend(info.base, info.count, payload, changes);
        let right = FrameHeader {
            tag: header.tag(),
            base: info.base,
            count: info.count,
            payload_len: info.payload_len,
            changes_len: info.changes_len,
            payload_crc: info.payload_crc,
            changes_crc: info.changes_crc,
            // Evidence for the end of a local log only, and none is better than a wrong one.
            durable: Lsn(0),
            chain,
            volume: volume_mark(header.volume),
        };
        match FrameHeader::find(stored(info.position, start)) {
            HeaderFound::Header(found) if (FrameHeader { durable: Lsn(0), ..found }) == right => {
                whole.extend(stored(info.position, start));
            }
            _ => whole.extend(right.encode()),
        }
        whole.extend(payload);
        whole.extend(changes);
    }
    let footer_len = footer_bytes.len() as u32;
    let whole = if lost.is_empty() {
        whole.extend(footer_bytes);
        let whole = Bytes::from(whole);
        verify_segment(artefact, &whole, Some(hash))?;
        Some(whole)
    } else {
        None
    };
    Ok(Salvaged { header, footer, footer_len, records, lost, whole })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rfs_core::{Change, Ino, SegmentId, Timestamp};

    use super::*;
    use crate::{Appender, ChainHash, Cut, LogWriter, Residency, Sealed, WriterIdentity};

    fn write(ino: u64, offset: u64, len: u64) -> Change {
        Change::Write { ino: Ino(ino), offset, len, time: Timestamp::from_nanos(0) }
    }

    /// Three frames; the payload outweighs the Changes, or not.
    fn segment(payload: usize) -> (Sealed, Bytes) {
        let residency = Arc::new(Residency::default());
        let identity = WriterIdentity { volume: 7, epoch: 3, writer: 9 };
        let mut appender = Appender::new(Arc::clone(&residency), Cut::default(), SegmentId(4), Lsn(10));
        let mut log = LogWriter::in_memory(identity, Arc::clone(&residency), Lsn(10), ChainHash([1; 32]));
        for frame in 0..3_u8 {
            appender.append(&write(5 + u64::from(frame), 0, payload as u64), &vec![frame + 1; payload]);
            appender.append(&Change::Reap { ino: Ino(20) }, &[]);
            appender.close_frame();
        }
        appender.seal();
        log.write(appender.take_work(), false).unwrap();
        let sealed = residency.sealed(SegmentId(4)).unwrap();
        let pieces = residency.segment_bytes(SegmentId(4)).unwrap().unwrap();
        (sealed, pieces.concat().into())
    }

    #[test]
    fn every_flipped_bit_is_mended_but_for_payload() {
        for payload in [2, 200] {
            let (sealed, bytes) = segment(payload);
            let whole = verify_segment("s", &bytes, Some(sealed.hash)).unwrap();
            let in_payload = |at: u64| {
                let frames = sealed.footer.frames.iter();
                frames
                    .map(|frame| frame.payload_start()..frame.changes_start())
                    .find(|range| range.contains(&at))
            };
            let in_changes = |at: u64| {
                let frames = sealed.footer.frames.iter();
                let ends = |from: u64, len: u32| from..from + u64::from(len);
                frames
                    .map(|frame| ends(frame.changes_start(), frame.changes_len))
                    .any(|range| range.contains(&at))
            };
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let salvaged = salvage_segment("s", &damaged.into(), &[sealed.header], sealed.hash);
                let at = bit as u64 / 8;
                if in_changes(at) && sealed.footer.changes.is_none() {
                    salvaged.unwrap_err();
                    continue;
                }
                let salvaged = salvaged.unwrap();
                assert_eq!(
                    (&salvaged.footer, &salvaged.records),
                    (&whole.footer, &whole.records),
                    "bit {bit}"
                );
                assert_eq!(salvaged.footer_len, sealed.footer_len);
                match in_payload(at) {
                    Some(range) => {
                        assert_eq!((salvaged.lost, salvaged.whole), (vec![range], None), "bit {bit}");
                    }
                    None => {
                        let mended = salvaged.whole.unwrap();
                        verify_segment("s", &mended, Some(sealed.hash)).unwrap();
                        assert_eq!(mended.len(), bytes.len());
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_cut_is_lost_and_nothing_is_made_up() {
        let (sealed, bytes) = segment(200);
        let frames_end = bytes.len() - sealed.footer_len as usize;
        for len in 0..bytes.len() {
            let salvaged = salvage_segment("s", &bytes.slice(..len), &[sealed.header], sealed.hash);
            assert_eq!(salvaged.is_ok(), len >= frames_end, "cut to {len}");
        }
        salvage_segment("s", &bytes, &[SegmentHeader { epoch: 4, ..sealed.header }], sealed.hash)
            .unwrap_err();
        salvage_segment("s", &bytes, &[], sealed.hash).unwrap_err();
    }

    #[test]
    fn whole_segments_are_found_among_other_bytes() {
        let (_, first) = segment(2);
        let (_, second) = segment(200);
        let mixed: Bytes = [b"RFS-SEG\0 no", &first[..], b"--", &second[..], &first[..60]].concat().into();
        let second_start = 11 + first.len() + 2;
        let expected = [11..11 + first.len(), second_start..second_start + second.len()];
        assert_eq!(find_segments(&mixed), expected);
        assert_eq!(find_segments(&Bytes::new()), Vec::<Range<usize>>::new());
    }
}
