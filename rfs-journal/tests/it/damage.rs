//! Every single bit and every length of a small segment (promise 4).

use bytes::Bytes;
use rfs_journal::{
    Footer, JournalError, SEGMENT_HEADER_LEN, SegmentHash, VerifiedSegment, dump_segment, verify_segment,
};

use crate::sample;

fn refused(what: impl Fn() -> String, bytes: &Bytes, expected: Option<SegmentHash>) {
    match verify_segment("seg-5", bytes, expected) {
        Err(JournalError::Damaged { artefact, offset, .. }) => {
            assert!(artefact == "seg-5" && offset <= bytes.len() as u64, "{}: offset {offset}", what());
        }
        Err(error) => panic!("{}: {error}", what()),
        Ok(_) => panic!("{} is not seen", what()),
    }
}

fn footer_of(bytes: &[u8], tail: &[u8]) -> Result<Footer, JournalError> {
    let header = bytes.first_chunk::<SEGMENT_HEADER_LEN>().unwrap();
    Footer::decode("seg-5", bytes.len() as u64, header, tail, None)
}

/// Where the footer starts.
fn frames_end(segment: &VerifiedSegment) -> usize {
    let last = segment.footer.frames.last().unwrap();
    last.changes_start() as usize + last.changes_len as usize
}

#[test]
fn every_flipped_bit_of_a_segment_is_refused() {
    for bytes in [sample::segment(), sample::lean_segment()] {
        let whole = verify_segment("seg-5", &bytes, None).unwrap();
        let footer_start = frames_end(&whole);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Bytes::from(flipped);
            refused(|| format!("bit {bit}"), &flipped, None);
            let in_footer = bit / 8 >= footer_start;
            if in_footer {
                assert!(footer_of(&flipped, &flipped[footer_start..]).is_err(), "footer, bit {bit}");
            }
            if in_footer || bit / 8 < SEGMENT_HEADER_LEN {
                assert!(footer_of(&flipped, &flipped).is_err(), "footer, bit {bit}");
            }
            if bit % 8 == 3 {
                // It prints what it can, or says why it cannot.
                let shown = dump_segment("seg-5", &flipped).unwrap_or_else(|error| error.to_string());
                assert!(shown.contains("damaged") || shown.contains("checksum"), "bit {bit}: {shown}");
            }
        }
    }
}

#[test]
fn every_truncated_segment_is_refused() {
    for bytes in [sample::segment(), sample::lean_segment()] {
        let footer_start = frames_end(&verify_segment("seg-5", &bytes, None).unwrap());
        for len in 0..bytes.len() {
            refused(|| format!("length {len}"), &bytes.slice(..len), None);
            if len >= SEGMENT_HEADER_LEN {
                assert!(footer_of(&bytes, &bytes[..len]).is_err(), "footer of the first {len} bytes");
            }
            // From its other end: a tail is enough if it holds all of the footer.
            let tail = footer_of(&bytes, &bytes[len..]);
            assert_eq!(tail.is_ok(), len <= footer_start, "footer from byte {len} on");
        }
        for more in [1, 4, 500] {
            refused(|| format!("{more} bytes more"), &[&bytes[..], &vec![0; more]].concat().into(), None);
        }
    }
}

#[test]
fn a_segment_that_is_not_the_one_expected_is_refused() {
    let (one, other) = (sample::segment(), sample::lean_segment());
    refused(|| "another hash".to_owned(), &one, Some(SegmentHash([1; 32])));
    let footer_start = frames_end(&verify_segment("other", &other, None).unwrap());
    let spliced = [&one[..frames_end(&verify_segment("one", &one, None).unwrap())], &other[footer_start..]];
    refused(|| "another's footer".to_owned(), &spliced.concat().into(), None);
}

/// Two frames of one length swapped, each of them whole.
#[test]
fn frames_in_another_order_are_refused() {
    let frame = |seed: u64| {
        let write = rfs_core::Change::Write {
            ino: rfs_core::Ino(2),
            offset: seed * 100,
            len: 30,
            time: rfs_core::Timestamp::from_nanos(7),
        };
        vec![(write, vec![seed as u8; 30])]
    };
    let bytes = sample::seal(
        &[frame(1), frame(1)],
        rfs_core::SegmentId(0),
        rfs_core::Lsn(0),
        rfs_journal::ChainHash::default(),
    );
    let segment = verify_segment("seg-5", &bytes, None).unwrap();
    let [one, other] = segment.footer.frames.as_slice() else { panic!("two frames are written") };
    let (one, other, end) = (one.position as usize, other.position as usize, frames_end(&segment));
    assert_eq!(other - one, end - other);
    let swapped = [&bytes[..one], &bytes[other..end], &bytes[one..other], &bytes[end..]].concat();
    refused(|| "swapped frames".to_owned(), &swapped.into(), None);
}
