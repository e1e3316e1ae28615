//! Bytes from outside, in every public decoder: no panic, and no memory beyond what the bytes are worth.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rfs_core::{Lsn, SegmentId};
use rfs_journal::{
    ChainHash, Disk, FRAME_HEADER_LEN, Footer, FrameInfo, Head, JournalError, RealDisk, Residency,
    SEGMENT_HEADER_LEN, TRAILER_LEN, VerifiedSegment, dump_segment, open_log, read_header, verify_segment,
};

use crate::sample::{self, IDENTITY};

/// Puts bytes into everything that decodes; says whether anything took them for a whole segment.
fn decode_all(bytes: &Bytes) -> bool {
    _ = read_header("x", bytes);
    _ = dump_segment("x", bytes);
    let info = FrameInfo {
        position: 0,
        base: Lsn(u64::MAX - 3),
        count: 3,
        payload_len: 9,
        changes_len: bytes.len() as u32,
        payload_crc: 0,
        changes_crc: 0,
    };
    for count in [0, 1, 3] {
        _ = FrameInfo { count, ..info }.decode("x", SegmentId(0), bytes);
    }
    let header = [0; SEGMENT_HEADER_LEN];
    let header = bytes.first_chunk::<SEGMENT_HEADER_LEN>().unwrap_or(&header);
    for segment_len in [0, bytes.len() as u64, u64::MAX] {
        if let Ok(footer) = Footer::decode("x", segment_len, header, bytes, None) {
            _ = footer.records("x", SegmentId(0));
            _ = footer.frame_at(u64::MAX);
        }
    }
    verify_segment("x", bytes, None).is_ok()
}

fn whole(bytes: &Bytes) -> VerifiedSegment {
    verify_segment("x", bytes, None).unwrap()
}

fn open(files: &[(&str, &[u8])]) -> Result<usize, JournalError> {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let chain = ChainHash([0xc5; 32]);
    let head = Head {
        lsn: Lsn(1_000),
        chain,
        next_segment: SegmentId(5),
        is_committed: &|_, _| false,
        is_committed_segment: &|_| false,
    };
    open_log(&disk, IDENTITY, &Arc::new(Residency::default()), &head).map(|log| log.tail.len())
}

fn marker() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    let chain = ChainHash::default();
    let head = Head {
        lsn: Lsn(0),
        chain,
        next_segment: SegmentId(0),
        is_committed: &|_, _| true,
        is_committed_segment: &|_| false,
    };
    open_log(&disk, IDENTITY, &Arc::new(Residency::default()), &head).unwrap();
    std::fs::read(dir.path().join("volume")).unwrap()
}

/// One change of a run of bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index, prop::sample::Index),
    Double(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => (index(), index()).prop_map(|(from, to)| Edit::Cut(from, to)),
        1 => (index(), index()).prop_map(|(from, to)| Edit::Double(from, to)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let range = |from: &prop::sample::Index, to: &prop::sample::Index| {
            let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Set(..) => {}
            Self::Cut(from, to) => _ = bytes.drain(range(from, to)),
            Self::Double(from, to) => {
                let range = range(from, to);
                let copy = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copy);
            }
            Self::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
}

/// Makes the checksum of a frame's header fit again, so that what is behind it is reached.
fn mend_headers(bytes: &mut [u8]) {
    for at in 0..bytes.len().saturating_sub(FRAME_HEADER_LEN) {
        if bytes[at..].starts_with(b"RFSF") {
            mend(&mut bytes[at..at + FRAME_HEADER_LEN]);
        }
    }
    if bytes.len() >= SEGMENT_HEADER_LEN {
        mend(&mut bytes[..SEGMENT_HEADER_LEN]);
    }
}

fn mend(header: &mut [u8]) {
    let (body, crc) = header.split_at_mut(header.len() - 4);
    crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// A segment without frames whose footer has this body, with all hashes and checksums right.
fn with_footer(body: &[u8]) -> Vec<u8> {
    let mut bytes = sample::segment()[..SEGMENT_HEADER_LEN].to_vec();
    let hash = blake3::Hasher::new().update(&bytes).update(body).finalize();
    let mut trailer = (body.len() as u32).to_le_bytes().to_vec();
    trailer.extend(hash.as_bytes());
    trailer.extend(b"RFS-FTR\0");
    trailer.extend(crc32c::crc32c(&trailer).to_le_bytes());
    assert_eq!(trailer.len(), TRAILER_LEN);
    bytes.extend(body);
    bytes.extend(trailer);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(2),
        cases: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_are_no_segment(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        prop_assert!(!decode_all(&bytes.into()));
    }

    #[test]
    fn edited_segments_are_refused(edits in prop::collection::vec(edit(), 1..6), mended in any::<bool>()) {
        let mut bytes = sample::segment().to_vec();
        for edit in &edits {
            edit.apply(&mut bytes);
        }
        if mended {
            mend_headers(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        if decode_all(&bytes) {
            // Only what is no part of the history can differ: how far the log was synced when a frame was written.
            let (found, sample) = (whole(&bytes), whole(&sample::segment()));
            prop_assert_eq!((found.header, &found.footer), (sample.header, &sample.footer));
            prop_assert_eq!(&found.records, &sample.records);
            for record in &found.records {
                prop_assert_eq!(found.payload(record), sample.payload(record));
            }
        }
    }

    #[test]
    fn footers_with_right_hashes_and_wrong_content_are_refused(
        body in prop::collection::vec(any::<u8>(), 0..300),
        start in any::<bool>(),
    ) {
        // With the right start the decoder comes as far as the frame table.
        let start: &[u8] = if start { &[0xe8, 0x07, 0xe8, 0x07] } else { &[] };
        let bytes = with_footer(&[start, &body].concat());
        prop_assert!(!decode_all(&bytes.into()));
    }

    #[test]
    fn edited_logs_are_refused_or_give_a_prefix(
        edits in prop::collection::vec(edit(), 1..4),
        mended in any::<bool>(),
    ) {
        let sealed = sample::segment();
        let mut bytes = sealed.to_vec();
        for edit in &edits {
            edit.apply(&mut bytes);
        }
        if mended {
            mend_headers(&mut bytes);
        }
        let lens: Vec<usize> = sample::frames().iter().map(Vec::len).collect();
        let prefixes: Vec<usize> = (0..=lens.len()).map(|frames| lens[..frames].iter().sum()).collect();
        match open(&[("volume", &marker()), ("log-00000000", &bytes)]) {
            Ok(records) => prop_assert!(prefixes.contains(&records), "{records} records"),
            Err(error) => prop_assert!(!matches!(error, JournalError::Io { .. }), "{error}"),
        }
    }

    #[test]
    fn random_bytes_are_no_marker(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        let log = sample::segment();
        open(&[("volume", &bytes), ("log-00000000", &log)]).unwrap_err();
    }
}

/// Lengths that say more than there is must not be believed: were memory taken for them, this would abort.
#[test]
fn absurd_lengths_take_no_memory() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let start = [&[0xe8, 0x07, 0xe8, 0x07][..], &[0; 32]].concat();
    let footer = |tail: &[&[u8]]| Bytes::from(with_footer(&[&start, &tail.concat()[..]].concat()));
    // The frame table, the index, the positions of one inode, the Changes.
    for bytes in
        [footer(&[&huge]), footer(&[&[0], &huge]), footer(&[&[0, 1, 2], &huge]), footer(&[&[0, 0, 1], &huge])]
    {
        assert!(matches!(verify_segment("x", &bytes, None), Err(JournalError::Damaged { .. })));
        assert!(!decode_all(&bytes));
    }

    let info = FrameInfo {
        position: u64::MAX - 1_000,
        base: Lsn(0),
        count: u32::MAX,
        payload_len: 0,
        changes_len: 3,
        payload_crc: 0,
        changes_crc: 0,
    };
    info.decode("x", SegmentId(0), &[0, 0, 0]).unwrap_err();
    // A symlink's target and a name that claim to be endless.
    for changes in [[&[0, 1, 1, b'n', 2, 2][..], &huge].concat(), [&[0, 1][..], &huge].concat()] {
        FrameInfo { count: 1, ..info }.decode("x", SegmentId(0), &changes).unwrap_err();
    }
    // A frame that claims the largest sizes, with a header that is right.
    let mut bytes = sample::segment().to_vec();
    let frame = &mut bytes[SEGMENT_HEADER_LEN..SEGMENT_HEADER_LEN + FRAME_HEADER_LEN];
    frame[16..24].fill(0);
    frame[18..20].copy_from_slice(&[0, 4]);
    frame[22..24].copy_from_slice(&[0, 4]);
    mend(frame);
    assert!(!decode_all(&bytes.clone().into()));
    assert_eq!(open(&[("volume", &marker()), ("log-00000000", &bytes)]).unwrap(), 0);
}

/// A table whose frame lies at the end of all numbers.
#[test]
fn positions_at_the_end_of_all_numbers_are_refused() {
    let header = sample::segment().first_chunk::<SEGMENT_HEADER_LEN>().copied().unwrap();
    let frame = FrameInfo {
        position: 128,
        base: Lsn(u64::MAX - 1),
        count: 1,
        payload_len: u32::MAX,
        changes_len: u32::MAX,
        payload_crc: 0,
        changes_crc: 0,
    };
    for (position, count) in [(128, 1), (u64::MAX - 300, 1), (u64::MAX, 1), (128, 9)] {
        let footer = Footer {
            base: Lsn(u64::MAX - 1),
            end: Lsn(u64::MAX),
            chain: ChainHash::default(),
            frames: vec![FrameInfo { position, count, ..frame }],
            index: std::collections::BTreeMap::new(),
            changes: None,
        };
        let (tail, _) = footer.encode(&header);
        for segment_len in [tail.len() as u64, tail.len() as u64 + 128, u64::MAX - 100, u64::MAX] {
            Footer::decode("x", segment_len, &header, &tail, None).unwrap_err();
        }
    }
}
