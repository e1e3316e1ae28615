//! The formats as they were shipped stay readable, and are written the same.
//!
//! `RFS_GOLDEN=write` makes the missing files. A shipped one is never made anew.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rfs_core::{Lsn, SegmentId};
use rfs_journal::{
    Appender, ChainHash, Cut, Disk, Head, LogEnd, RealDisk, Residency, VerifiedSegment, dump_segment,
    open_log, verify_segment,
};

use crate::sample::{self, IDENTITY, Step};

fn golden(name: &str, made: impl FnOnce() -> Vec<u8>) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var("RFS_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, made()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

fn steps(segment: &VerifiedSegment) -> Vec<Vec<Step>> {
    let mut rest = segment.records.as_slice();
    let frames = segment.footer.frames.iter().map(|frame| {
        let (records, after) = rest.split_at(frame.count as usize);
        rest = after;
        records.iter().map(|record| (record.change.clone(), segment.payload(record).to_vec())).collect()
    });
    frames.collect()
}

/// Reads a golden segment; `made` makes one of the version that is written now.
fn is_read_as_ever(
    name: &str,
    made: Option<fn() -> Bytes>,
    frames: &[Vec<Step>],
) -> (VerifiedSegment, Bytes) {
    let made = || made.expect("what was shipped is never made anew")();
    let bytes = golden(&format!("{name}.bin"), || made().to_vec());
    let text = golden(&format!("{name}.txt"), || dump_segment(name, &made()).unwrap().into_bytes());
    let segment = verify_segment(name, &bytes, None).unwrap();
    assert_eq!(steps(&segment), frames, "the file says what it always said");
    assert_eq!(dump_segment(name, &bytes).unwrap().as_bytes(), text, "it is shown as ever");
    let header = segment.header;
    assert_eq!(
        (header.volume, header.epoch, header.writer),
        (IDENTITY.volume, IDENTITY.epoch, IDENTITY.writer)
    );
    (segment, bytes)
}

fn is_read_and_written_as_ever(name: &str, made: fn() -> Bytes, frames: &[Vec<Step>]) {
    let (segment, bytes) = is_read_as_ever(name, Some(made), frames);
    let header = segment.header;
    let again = sample::seal(&steps(&segment), header.id, header.base, header.chain);
    assert!(again == bytes, "the same records are written as the same bytes");
}

#[test]
fn segment_v1() {
    is_read_as_ever("segment-v1", None, &sample::version_1());
}

#[test]
fn segment_v1_without_changes_in_its_footer() {
    is_read_as_ever("segment-lean-v1", None, &sample::version_1()[2..]);
}

#[test]
fn segment_v2() {
    is_read_as_ever("segment-v2", None, &up_to_version_2());
}

#[test]
fn segment_v2_without_changes_in_its_footer() {
    is_read_as_ever("segment-lean-v2", None, &up_to_version_2()[2..]);
}

#[test]
fn segment_v3() {
    is_read_and_written_as_ever("segment-v3", sample::segment, &sample::frames());
}

#[test]
fn segment_v3_without_changes_in_its_footer() {
    is_read_and_written_as_ever("segment-lean-v3", sample::lean_segment, &sample::frames()[2..]);
}

fn up_to_version_2() -> Vec<Vec<Step>> {
    [sample::version_1(), sample::version_2()].concat()
}

#[test]
fn every_kind_of_change_is_in_the_sample() {
    let name = |step: &Step| format!("{:?}", step.0).split([' ', '{']).next().unwrap_or_default().to_owned();
    let kinds: BTreeSet<String> = sample::frames().iter().flatten().map(name).collect();
    let expected = [
        "Access",
        "AddCheckpoint",
        "Collapse",
        "Create",
        "CreateNameless",
        "DropCheckpoint",
        "EndOwner",
        "Exchange",
        "Hold",
        "Insert",
        "LetGo",
        "Link",
        "Lock",
        "LockFile",
        "LockRange",
        "NewSession",
        "Punch",
        "Reap",
        "Refer",
        "Relocate",
        "RemoveXattr",
        "Rename",
        "Rewind",
        "Rmdir",
        "SetAttr",
        "SetQuota",
        "SetXattr",
        "Share",
        "Truncate",
        "Unlink",
        "Unlock",
        "UnlockFile",
        "UnlockRange",
        "Write",
    ];
    assert!(kinds.iter().map(String::as_str).eq(expected), "{kinds:?}");
}

const LOG: &str = "log-00000000";
const MARKER: &str = "volume";

fn head(is_committed: &dyn Fn(Lsn, ChainHash) -> bool) -> Head<'_> {
    Head {
        lsn: Lsn(1_000),
        chain: ChainHash([0xc5; 32]),
        next_segment: SegmentId(5),
        is_committed,
        is_committed_segment: &|_| false,
    }
}

/// Writes the sample to a local log: one sealed segment, and one that is not.
fn write_log(disk: &Arc<dyn Disk>) {
    let residency = Arc::new(Residency::default());
    let mut log = open_log(disk, IDENTITY, &residency, &head(&|_, _| true)).unwrap();
    let mut appender = Appender::new(residency, Cut::default(), log.next_segment, Lsn(1_000));
    for (number, frame) in sample::frames().iter().enumerate() {
        sample::append(&mut appender, frame);
        if number == 1 {
            appender.seal();
        }
        log.writer.write(appender.take_work(), number != 2).unwrap();
    }
}

/// Opens a local log of golden files: it holds these frames, and what is written next continues it.
fn opens_as_ever(log: &Bytes, marker: &Bytes, frames: &[Vec<Step>]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(LOG), log).unwrap();
    std::fs::write(dir.path().join(MARKER), marker).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    let mut expected = frames.concat();
    // The second time after more was written behind it.
    for next_segment in [SegmentId(7), SegmentId(8)] {
        let residency = Arc::new(Residency::default());
        let opened = open_log(&disk, IDENTITY, &residency, &head(&|_, _| false)).unwrap();
        assert_eq!((opened.end, opened.next_segment), (LogEnd::Clean, next_segment));
        assert_eq!(opened.tail.len(), expected.len());
        for (record, (change, payload)) in opened.tail.iter().zip(&expected) {
            assert_eq!(record.change, *change);
            if !payload.is_empty() {
                assert_eq!(residency.read(record.place, payload.len() as u64).unwrap().unwrap(), payload);
            }
        }
        let mut log = opened.writer;
        let mut appender = Appender::new(residency, Cut::default(), opened.next_segment, log.end().0);
        let more = &frames[0];
        sample::append(&mut appender, more);
        log.write(appender.take_work(), true).unwrap();
        expected.extend(more.iter().cloned());
    }
}

#[test]
fn local_log_v1() {
    let shipped = |name| golden(name, || unreachable!("what was shipped is never made anew"));
    opens_as_ever(&shipped("local-log-v1.bin"), &shipped("local-marker-v1.bin"), &sample::version_1());
}

#[test]
fn local_log_v2() {
    let shipped = |name| golden(name, || unreachable!("what was shipped is never made anew"));
    opens_as_ever(&shipped("local-log-v2.bin"), &shipped("local-marker-v1.bin"), &up_to_version_2());
}

#[test]
fn local_log_v3() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    write_log(&disk);
    let mut log = std::fs::read(dir.path().join(LOG)).unwrap();
    log.truncate(log.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    let marker = std::fs::read(dir.path().join(MARKER)).unwrap();
    let golden_log = golden("local-log-v3.bin", || log.clone());
    let golden_marker = golden("local-marker-v1.bin", || marker.clone());
    assert!((log, marker) == (golden_log.to_vec(), golden_marker.to_vec()), "it is written as ever");
    opens_as_ever(&golden_log, &golden_marker, &sample::frames());
}
