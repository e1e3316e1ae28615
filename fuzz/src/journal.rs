//! Segments, frames, footers, Changes, and the files of the local log.

use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Change, Lsn, SegmentId};
use rfs_journal::{
    ChainHash, Disk, Footer, Head, Residency, SEGMENT_HEADER_LEN, SegmentHash, TRAILER_LEN, WriterIdentity,
    dump_segment, find_segments, read_header, salvage_segment, scan_log, verify_segment,
};
use rfs_testkit::{CrashPlan, SimDisk};

use crate::{VOLUME, choices, mend};

const NAME: &str = "fuzz";

/// Everything that reads a segment: whole, its footer alone, what is left of it, and its dump.
pub fn segment(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let mut bytes = bytes.to_vec();
    if choice & 1 != 0 {
        mend::segments(&mut bytes, None);
    }
    let bytes = Bytes::from(bytes);
    for found in find_segments(&bytes) {
        let found = verify_segment(NAME, &bytes.slice(found), None).expect("what is found as whole is whole");
        found.records.iter().for_each(|record| drop(found.payload(record)));
    }
    let _ = dump_segment(NAME, &bytes);
    let Ok(header) = read_header(NAME, &bytes) else { return };
    let header_bytes = header.encode();
    assert_eq!(read_header(NAME, &header_bytes).ok(), Some(header), "a header comes back");
    if let Ok(footer) = Footer::decode(NAME, bytes.len() as u64, &header_bytes, &bytes, None) {
        let _ = footer.records(NAME, header.id);
        let at = bytes.len() as u64 / 2;
        if let Some((number, frame)) = footer.frame_at(at) {
            assert!(
                footer.frames[number] == *frame && frame.payload_start() <= at,
                "the frame holds the byte"
            );
        }
    }
    let hash = bytes.last_chunk::<TRAILER_LEN>().and_then(|trailer| trailer[4..36].first_chunk());
    let hash = SegmentHash(hash.copied().unwrap_or_default());
    if let Ok(salvaged) = salvage_segment(NAME, &bytes, &[header], hash)
        && let Some(whole) = salvaged.whole
    {
        verify_segment(NAME, &whole, Some(hash)).expect("what is put together has its hash");
    }
    let _ = verify_segment(NAME, &bytes, None);
}

/// A directory with two log files: scanned, and adopted behind the place where the first one begins. What was adopted
/// goes on, and is read again.
pub fn local_log(input: &[u8]) {
    let (choice, bytes) = choices(input);
    let (number, bytes) = choices(bytes);
    let cut = bytes.len() - bytes.len() * usize::from(choice >> 1 & 7) / 8;
    let (first, second) = bytes.split_at(cut);
    let sim = SimDisk::new(CrashPlan::never());
    let mut marker = b"RFS-DIR\0".to_vec();
    marker.extend(VOLUME.to_be_bytes());
    marker.extend(crc32c::crc32c(&marker).to_le_bytes());
    sim.set_content("volume", &marker);
    let mut head = (Lsn(0), ChainHash::default(), SegmentId(0));
    for (file, bytes) in [(0, first), (u64::from(number), second)] {
        let mut bytes = bytes.to_vec();
        if choice & 1 != 0 && bytes.len() >= SEGMENT_HEADER_LEN {
            mend::segments(&mut bytes, Some(VOLUME));
        }
        if file == 0
            && let Ok(header) = read_header(NAME, &bytes)
        {
            head = (header.base, header.chain, header.id);
        }
        let file = if file == 255 { u64::MAX } else { file };
        sim.set_content(&format!("log-{file:08}"), &bytes);
    }
    let disk: Arc<dyn Disk> = Arc::new(sim);
    let Ok(scanned) = scan_log(&disk, VOLUME) else { return };
    assert!(scanned.segments().count() <= bytes.len() / SEGMENT_HEADER_LEN, "each segment has a header");
    let head = Head {
        lsn: head.0,
        chain: head.1,
        next_segment: head.2,
        is_committed: &|_, _| false,
        is_committed_segment: &|_| false,
    };
    let sound = scanned.check(&head).is_ok();
    let identity = WriterIdentity { volume: VOLUME, epoch: 1 << 20, writer: 7 };
    let opened = scanned.adopt(identity, &Arc::new(Residency::default()), &head);
    let Ok(opened) = opened else { return };
    assert!(sound, "what cannot be adopted is not adopted");
    let tail = opened.tail;
    drop(opened.writer);
    if opened.orphaned.is_some() {
        return;
    }
    let again = scan_log(&disk, VOLUME).expect("an adopted log can be scanned");
    let again = again.adopt(identity, &Arc::new(Residency::default()), &head);
    let again = again.expect("an adopted log can be adopted");
    assert_eq!(again.tail, tail, "the same records are there");
}

/// One Change, as a frame holds it.
pub fn change(input: &[u8]) {
    let Ok((change, rest)) = postcard::take_from_bytes::<Change>(input) else { return };
    assert!(change.inodes().len() <= 4, "a Change is about four inodes at most");
    let _ = (change.payload_len(), format!("{change:?}"));
    let bytes = postcard::to_stdvec(&change).expect("a Change can be encoded");
    assert!(postcard::from_bytes::<Change>(&bytes).ok() == Some(change), "a Change comes back");
    assert!(bytes.len() <= input.len() - rest.len(), "no encoding is shorter than the one that is written");
}
