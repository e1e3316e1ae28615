//! The decision table of the end of the log, row by row.

use rfs_core::{Access, At, Credential, Ino, Lsn, Op, OpenFlags, Outcome, SegmentId, Target, WriteAt};
use rfs_journal::{ChainHash, Cut, JournalError, LogEnd, SEGMENT_HEADER_LEN, WriterIdentity};
use rfs_testkit::{CrashPlan, Engine, JournalEngine, Pace, SimDisk, Snapshot, loaded, open_from_start};

use crate::journal_parts::{
    Kind, LOG, MARKER, NEXT, Part, as_root, disk_with, dump_local, open_at, parts, replay, shared, written,
};

/// Makes a file in the root and writes `len` bytes to it.
pub(crate) fn write_a_file(engine: &mut JournalEngine, name: &str, len: usize) {
    let open = Op::Open {
        at: At::root(name),
        access: Access { read: true, write: true },
        flags: OpenFlags { create: true, ..OpenFlags::default() },
        mode: 0o644,
    };
    let Ok(Outcome::Opened { ino, .. }) = engine.submit(&as_root(), &open, &[]) else {
        panic!("{name} cannot be made")
    };
    write(engine, ino, len);
}

fn write(engine: &mut JournalEngine, ino: Ino, len: usize) {
    let payload: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(ino.0 as u8)).collect();
    let op = Op::Write { target: Target::Ino(ino), at: WriteAt::End, len: len as u64 };
    engine.submit(&as_root(), &op, &payload).expect("a write to an open file is done");
}

fn empty_disk() -> SimDisk {
    SimDisk::new(CrashPlan::never())
}

fn engine_on(disk: &SimDisk) -> JournalEngine {
    JournalEngine::on_disk(&shared(disk), Cut::default(), Pace::Full).unwrap()
}

/// Frames of two records each, one file in each; all of them synced one by one, if `sync`.
fn frames(engine: &mut JournalEngine, from: usize, count: usize, len: usize, sync: bool) {
    for number in from..from + count {
        write_a_file(engine, &format!("f{number}"), len);
        engine.flush(sync).unwrap();
    }
}

/// A log with five frames in one segment that is not sealed, on a disk of its own.
fn five_frames(sync: bool) -> (SimDisk, JournalEngine) {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    frames(&mut engine, 0, 5, 100, sync);
    let bytes = written(&disk, LOG);
    disk.truncate(LOG, bytes.len());
    (disk, engine)
}

fn end_of(engine: &JournalEngine) -> &Snapshot {
    engine.snapshots().last_key_value().expect("there is at least the snapshot of the start").1
}

fn expect_tail(disk: &SimDisk, engine: &JournalEngine, end: Lsn, expected: LogEnd) {
    let (residency, log) = open_from_start(&shared(disk), NEXT).unwrap();
    assert_eq!((log.tail.len() as u64, log.end), (end.0, expected));
    let replayed = replay(&Snapshot::empty(), &log);
    assert!(replayed == engine.snapshots()[&end]);
    assert!(log.orphaned.is_none());
    let lived = rfs_testkit::dump_tree(&replayed.tree, |place, len| engine.read(place, len));
    assert_eq!(dump_local(&replayed, &residency).diff("found", &lived, "lived"), "");
}

fn part(bytes: &[u8], kind: Kind, number: usize) -> Part {
    let mut of_kind = parts(bytes).into_iter().filter(|part| part.kind == kind);
    of_kind.nth(number).expect("there are so many")
}

/// Gives the header at `at` another format version, and the checksum that fits.
fn set_version(bytes: &mut [u8], at: usize, version_at: usize, header_len: usize) {
    bytes[at + version_at..at + version_at + 2].copy_from_slice(&9_u16.to_le_bytes());
    mend(&mut bytes[at..], header_len);
}

/// Makes the checksum at the end of a header fit.
fn mend(bytes: &mut [u8], header_len: usize) {
    let (header, crc) = bytes[..header_len].split_at_mut(header_len - 4);
    crc.copy_from_slice(&crc32c::crc32c(header).to_le_bytes());
}

#[test]
fn no_log_at_all_is_clean() {
    let disk = empty_disk();
    let (_, log) = open_at(&disk, (Lsn(70), ChainHash([7; 32])), SegmentId(9), &[]).unwrap();
    assert_eq!((log.tail.len(), log.end, log.next_segment), (0, LogEnd::Clean, SegmentId(9)));
    assert_eq!(log.writer.end(), (Lsn(70), ChainHash([7; 32])));
    assert_eq!(disk.names(), [MARKER]);
}

#[test]
fn zeros_behind_the_last_frame_are_clean() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    frames(&mut engine, 0, 5, 100, true);
    assert!(disk.content(LOG).unwrap().len() > 1 << 20, "the file is filled ahead");
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Clean);
}

#[test]
fn nothing_behind_the_last_frame_is_clean() {
    let (disk, engine) = five_frames(true);
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Clean);
}

#[test]
fn what_stood_in_a_recycled_file_is_clean() {
    // The lengths of the new writer's frame make the old log go on at its frames' starts, and in their middle.
    for len in [0, 1, 7, 50, 90, 99, 100, 101, 130, 160, 400] {
        let (disk, engine) = five_frames(true);
        let committed = (Lsn(40), ChainHash([4; 32]));
        let open = || open_at(&disk, committed, SegmentId(3), &[engine.end()]).unwrap();
        let (residency, log) = open();
        assert_eq!((log.tail.len(), log.end), (0, LogEnd::Clean), "the local log ends before the head");
        let state = end_of(&engine).clone();
        let mut second = JournalEngine::reopened(state.clone(), residency, log, Cut::default(), Pace::Full);
        second.submit(&as_root(), &Op::Mkdir { at: At::root("new"), mode: 0o755 }, &[]).unwrap();
        if len > 0 {
            write_a_file(&mut second, "g", len);
        }
        second.flush(true).unwrap();
        assert_eq!(disk.names(), [LOG, MARKER], "the file is used again");
        assert!(disk.content(LOG).unwrap().len() > 1_000, "the old log stands behind the new");

        let (residency, log) = open();
        assert_eq!((log.end, log.writer.end().0), (LogEnd::Clean, second.end().0), "{len} bytes");
        let replayed = replay(&state, &log);
        assert!(replayed == *end_of(&second), "{len} bytes");
        // The files before the head are not in this journal: what was written since is.
        for ino in (7..9)
            .map(Ino)
            .filter(|ino| loaded(replayed.tree.inode(*ino)).is_some_and(|inode| inode.size > 0))
        {
            for run in replayed.tree.file_ranges(ino, 0..1 << 20).unwrap() {
                let (place, len) = (run.place.unwrap(), run.range.end - run.range.start);
                assert_eq!(residency.read(place, len).unwrap().unwrap(), second.read(place, len));
            }
        }
    }
}

#[test]
fn a_torn_frame_header_is_cut_off() {
    let (disk, engine) = five_frames(false);
    let last = part(&written(&disk, LOG), Kind::Frame, 4);
    disk.truncate(LOG, last.range.start + 60);
    expect_tail(&disk, &engine, Lsn(8), LogEnd::Torn);
}

#[test]
fn a_torn_frame_body_is_cut_off() {
    let (disk, engine) = five_frames(false);
    let bytes = written(&disk, LOG);
    disk.flip_bit(LOG, (bytes.len() as u64 - 1) * 8);
    expect_tail(&disk, &engine, Lsn(8), LogEnd::Torn);
}

#[test]
fn a_torn_segment_header_is_cut_off() {
    let (disk, mut engine) = five_frames(false);
    engine.finish().unwrap();
    frames(&mut engine, 5, 1, 100, false);
    let header = part(&written(&disk, LOG), Kind::SegmentHeader, 1);
    disk.truncate(LOG, header.range.start + 100);
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Torn);
}

#[test]
fn a_segment_header_without_a_frame_is_clean_and_gives_its_number_away() {
    let (disk, mut engine) = five_frames(false);
    engine.finish().unwrap();
    frames(&mut engine, 5, 1, 100, false);
    let header = part(&written(&disk, LOG), Kind::SegmentHeader, 1);
    disk.truncate(LOG, header.range.end);
    let (_, log) = open_from_start(&shared(&disk), NEXT).unwrap();
    assert_eq!((log.tail.len(), log.end, log.next_segment), (10, LogEnd::Clean, SegmentId(1)));
}

#[test]
fn a_torn_footer_is_written_again() {
    let (disk, mut engine) = five_frames(false);
    engine.finish().unwrap();
    let sealed = written(&disk, LOG);
    let footer = part(&sealed, Kind::Footer, 0);
    disk.truncate(LOG, footer.range.start + 20);
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Torn);
    assert_eq!(written(&disk, LOG), sealed, "opening seals the segment");
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Clean);
}

#[test]
fn what_was_given_up_behind_a_torn_footer_does_not_come_back() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    frames(&mut engine, 0, 2, 100, false);
    engine.seal(false).unwrap();
    frames(&mut engine, 2, 2, 100, false);
    let bytes = written(&disk, LOG);
    assert_eq!(part(&bytes, Kind::SegmentHeader, 1).before, Lsn(4));
    let footer = part(&bytes, Kind::Footer, 0);
    disk.flip_bit(LOG, footer.range.start as u64 * 8);
    for _ in 0..2 {
        let (_, log) = open_from_start(&shared(&disk), NEXT).unwrap();
        assert_eq!(log.tail.len(), 4, "the records behind the footer are given up for good");
    }
}

/// The power was lost while a segment was begun: the first bytes of its header, which are in another sector than the rest, did
/// not reach the disk. Those of the next writer's header, at the same place, are the same, and it dies in the same way. What
/// both have on the disk is a whole segment, which the second one did not see.
#[test]
fn a_lost_segment_does_not_come_back_by_the_first_bytes_of_the_next() {
    for lost in [1, 8, 24, 40] {
        let disk = empty_disk();
        let mut engine = engine_on(&disk);
        frames(&mut engine, 0, 2, 100, false);
        engine.finish().unwrap();
        frames(&mut engine, 2, 2, 100, false);
        let place = part(&written(&disk, LOG), Kind::SegmentHeader, 1).range;
        let mut bytes = disk.content(LOG).unwrap();
        bytes[place.start..][..lost].fill(0);
        disk.set_content(LOG, &bytes);

        let (residency, log) = open_from_start(&shared(&disk), NEXT).unwrap();
        assert_eq!(log.tail.len(), 4, "{lost} bytes: the records of the second segment are lost");
        let mut bytes = disk.content(LOG).unwrap();
        let replayed = replay(&Snapshot::empty(), &log);
        let mut next = JournalEngine::reopened(replayed, residency, log, Cut::default(), Pace::Full);
        frames(&mut next, 20, 2, 50, false);
        let written = disk.content(LOG).unwrap();
        bytes[place.start..][..lost].copy_from_slice(&written[place.start..][..lost]);
        disk.set_content(LOG, &bytes);
        let third = WriterIdentity { epoch: 3, ..NEXT };
        let (_, log) = open_from_start(&shared(&disk), third).unwrap();
        assert_eq!(log.tail.len(), 4, "{lost} bytes: they come back");
    }
}

/// As above, in a file of its own, whose first sector did reach the disk, and that of the next writer did not: it writes the
/// same bytes to a file, so what was missing of the first one's frame is on the disk then.
#[test]
fn a_lost_segment_does_not_come_back_by_the_bytes_of_the_same_write() {
    let (marker, [first, second], _) = two_files(false);
    let frame = part(&second, Kind::Frame, 0);
    let missing = frame.range.start + 70..frame.range.start + 80;
    let mut cut = second.clone();
    cut[missing.clone()].fill(0);
    let disk = disk_with(&[(MARKER, &marker), (LOG, &first), (SECOND_LOG, &cut)]);
    let (_, log) = open_from_start(&shared(&disk), NEXT).unwrap();
    assert_eq!(log.tail.len(), 8, "the records of the second file are lost");
    let mut bytes = disk.content(SECOND_LOG).unwrap();
    bytes[missing.clone()].copy_from_slice(&second[missing]);
    disk.set_content(SECOND_LOG, &bytes);
    let (_, log) = open_from_start(&shared(&disk), WriterIdentity { epoch: 3, ..NEXT }).unwrap();
    assert_eq!(log.tail.len(), 8, "they come back");
}

#[test]
fn a_file_whose_number_is_too_great_is_no_log_file() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    frames(&mut engine, 0, 2, 100, true);
    disk.set_content(&format!("log-{}", u64::MAX), b"of nobody");
    expect_tail(&disk, &engine, Lsn(4), LogEnd::Clean);
}

#[test]
fn a_damaged_middle_is_an_error_when_records_behind_it_were_safe() {
    let (disk, _) = five_frames(true);
    let second = part(&written(&disk, LOG), Kind::Frame, 1);
    disk.flip_bit(LOG, second.range.end as u64 * 8 - 1);
    let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
    let expected = format!(
        "{LOG} is damaged at byte {}: records 3 to 8 were safe once and are gone; \
         restore it from a copy, or open the volume without it",
        second.range.start
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_damaged_middle_is_torn_when_nothing_behind_it_was_safe() {
    let (disk, engine) = five_frames(false);
    let second = part(&written(&disk, LOG), Kind::Frame, 1);
    disk.flip_bit(LOG, second.range.end as u64 * 8 - 1);
    expect_tail(&disk, &engine, Lsn(2), LogEnd::Torn);
}

/// Every checksum is right, but the frame is not the one that was written there.
#[test]
fn a_frame_that_does_not_continue_the_history_is_cut_off() {
    let (disk, engine) = five_frames(false);
    let mut bytes = written(&disk, LOG);
    let Part { range, .. } = part(&bytes, Kind::Frame, 2);
    let frame = &mut bytes[range.clone()];
    let payload_len = u32::from_le_bytes(frame[16..20].try_into().unwrap()) as usize;
    let payload = rfs_journal::FRAME_HEADER_LEN..rfs_journal::FRAME_HEADER_LEN + payload_len;
    frame[payload.start] ^= 1;
    let crc = crc32c::crc32c(&frame[payload]);
    frame[24..28].copy_from_slice(&crc.to_le_bytes());
    mend(frame, rfs_journal::FRAME_HEADER_LEN);
    disk.set_content(LOG, &bytes);
    expect_tail(&disk, &engine, Lsn(4), LogEnd::Torn);
}

/// A log of another volume: five frames, all of them synced one by one.
fn log_of_another_volume() -> Vec<u8> {
    let disk = empty_disk();
    let other = WriterIdentity { volume: 0xabc, ..NEXT };
    let (residency, log) = open_from_start(&shared(&disk), other).unwrap();
    let mut engine = JournalEngine::reopened(Snapshot::empty(), residency, log, Cut::default(), Pace::Full);
    frames(&mut engine, 0, 5, 100, true);
    written(&disk, LOG)
}

/// Files hold what users write, which may be a journal too.
#[test]
fn frames_of_another_volume_in_the_content_of_a_file_are_no_evidence() {
    let other = log_of_another_volume();
    assert_eq!(parts(&other).last().unwrap().durable, Lsn(8));
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    write_a_file(&mut engine, "f", 10);
    engine.flush(true).unwrap();
    let file = engine.tree().lookup(&Credential::root(), &At::root("f"), false).unwrap();
    let op = Op::Write { target: Target::Ino(file), at: WriteAt::End, len: other.len() as u64 };
    engine.submit(&as_root(), &op, &other).unwrap();
    engine.flush(false).unwrap();
    let last = written(&disk, LOG).len();
    disk.truncate(LOG, last - 1);
    expect_tail(&disk, &engine, Lsn(2), LogEnd::Torn);
}

#[test]
fn what_a_recycled_file_held_may_look_like_another_volume() {
    let (disk, mut engine) = five_frames(true);
    engine.finish().unwrap();
    disk.set_content(LOG, &[written(&disk, LOG), log_of_another_volume()].concat());
    expect_tail(&disk, &engine, Lsn(10), LogEnd::Clean);
}

#[test]
fn a_frame_of_an_unknown_version_is_an_error() {
    let (disk, _) = five_frames(true);
    let mut bytes = written(&disk, LOG);
    let frame = part(&bytes, Kind::Frame, 2);
    set_version(&mut bytes, frame.range.start, 4, rfs_journal::FRAME_HEADER_LEN);
    disk.set_content(LOG, &bytes);
    let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
    let expected = format!("{LOG} has format version 9, this rfs reads up to 3; open it with a newer rfs");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_segment_of_an_unknown_version_is_an_error() {
    let (disk, mut engine) = five_frames(true);
    engine.finish().unwrap();
    frames(&mut engine, 5, 1, 100, true);
    for number in [0, 1] {
        let mut bytes = written(&disk, LOG);
        let header = part(&bytes, Kind::SegmentHeader, number);
        set_version(&mut bytes, header.range.start, 8, SEGMENT_HEADER_LEN);
        let disk = disk_with(&[(MARKER, &disk.content(MARKER).unwrap()), (LOG, &bytes)]);
        let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
        assert!(matches!(error, JournalError::UnknownFormat { version: 9, newest: 3, .. }), "{error}");
    }
}

#[test]
fn a_directory_of_another_volume_is_refused() {
    let (disk, _) = five_frames(true);
    let before = (disk.names(), disk.content(LOG), disk.content(MARKER));
    let other = WriterIdentity { volume: 0xabc, ..NEXT };
    let error = open_from_start(&shared(&disk), other).unwrap_err();
    let expected = format!(
        "volume belongs to volume {:032x}, not to {:032x}; use another local directory",
        JournalEngine::VOLUME,
        0xabc
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(before, (disk.names(), disk.content(LOG), disk.content(MARKER)), "nothing was touched");
}

#[test]
fn a_log_file_of_another_volume_is_refused() {
    let (disk, _) = five_frames(true);
    let own = empty_disk();
    let other = WriterIdentity { volume: 0xabc, ..NEXT };
    open_from_start(&shared(&own), other).unwrap();
    own.set_content(LOG, &disk.content(LOG).unwrap());
    let error = open_from_start(&shared(&own), other).unwrap_err();
    assert!(matches!(&error, JournalError::Foreign { artefact, .. } if artefact == LOG), "{error}");
}

#[test]
fn a_torn_marker_is_written_again_while_there_is_no_log() {
    let disk = empty_disk();
    engine_on(&disk);
    let marker = disk.content(MARKER).unwrap();
    for torn in [&marker[..0], &marker[..10], &[0; 28]] {
        let disk = disk_with(&[(MARKER, torn)]);
        engine_on(&disk);
        assert_eq!(disk.content(MARKER).unwrap(), marker);
    }
}

#[test]
fn a_torn_or_missing_marker_beside_a_log_is_an_error() {
    let (disk, _) = five_frames(true);
    let log = disk.content(LOG).unwrap();
    for marker in [None, Some(10), Some(27)] {
        let marker = marker.map(|len| disk.content(MARKER).unwrap()[..len].to_vec());
        let mut files = vec![(LOG, log.as_slice())];
        files.extend(marker.as_ref().map(|marker| (MARKER, marker.as_slice())));
        let error = open_from_start(&shared(&disk_with(&files)), NEXT).unwrap_err();
        assert!(matches!(&error, JournalError::Damaged { artefact, .. } if artefact == MARKER), "{error}");
    }
}

#[test]
fn a_file_that_is_named_as_the_marker_and_is_none_stays_as_it_is() {
    let text = b"These are the notes of somebody who named the file so.";
    let disk = disk_with(&[(MARKER, text)]);
    let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { artefact, .. } if artefact == MARKER), "{error}");
    assert_eq!(disk.content(MARKER).unwrap(), text);
}

#[test]
fn a_log_that_ends_before_the_head_is_committed_and_its_files_are_free() {
    let (disk, engine) = five_frames(true);
    let head = (Lsn(40), ChainHash([4; 32]));
    let (residency, log) = open_at(&disk, head, SegmentId(6), &[engine.end()]).unwrap();
    assert_eq!((log.tail.len(), log.next_segment), (0, SegmentId(6)));
    assert_eq!((log.orphaned.is_none(), log.writer.end()), (true, head));
    assert!(residency.sealed(SegmentId(0)).is_none());
}

#[test]
fn a_log_that_parted_from_the_head_is_put_aside() {
    let (disk, engine) = five_frames(true);
    let before = disk.content(LOG).unwrap();
    // Another writer took over after record 6 and went on otherwise.
    let head = (Lsn(9), ChainHash([9; 32]));
    let (residency, log) = open_at(&disk, head, SegmentId(4), &[]).unwrap();
    let orphaned = log.orphaned.clone().unwrap();
    assert_eq!(orphaned.end, engine.end().0);
    assert_eq!(orphaned.files, ["orphaned/epoch-00000001-lsn-000000000010-log-00000000"]);
    assert_eq!(disk.content(&orphaned.files[0]).unwrap(), before, "it is kept as it was");
    assert_eq!((log.tail.len(), log.writer.end()), (0, head));
    assert_eq!(shared(&disk).list().unwrap(), [MARKER]);

    let mut second = JournalEngine::reopened(Snapshot::empty(), residency, log, Cut::default(), Pace::Full);
    frames(&mut second, 0, 2, 10, true);
    let disk = disk.after_power_loss(1, CrashPlan::never());
    let (_, log) = open_at(&disk, head, SegmentId(4), &[]).unwrap();
    assert!(replay(&Snapshot::empty(), &log) == *end_of(&second));
    assert_eq!(disk.content(&orphaned.files[0]).unwrap(), before);
}

#[test]
fn what_is_before_the_head_is_committed_and_what_is_behind_it_is_the_tail() {
    let (disk, mut engine) = five_frames(true);
    engine.finish().unwrap();
    let head = engine.end();
    frames(&mut engine, 5, 2, 100, true);
    let (residency, log) = open_at(&disk, head, SegmentId(1), &[]).unwrap();
    assert_eq!((log.tail.len(), log.next_segment), (4, SegmentId(2)));
    assert!(replay(&engine.snapshots()[&head.0], &log) == *end_of(&engine));
    assert!(residency.sealed(SegmentId(0)).is_some() && residency.sealed(SegmentId(1)).is_some());
}

#[test]
fn a_tail_that_was_not_sealed_is_sealed_and_can_be_committed_and_gone_on_from() {
    let (disk, engine) = five_frames(true);
    let (residency, log) = open_from_start(&shared(&disk), NEXT).unwrap();
    let replayed = replay(&Snapshot::empty(), &log);
    let adopted = residency.segment_bytes(SegmentId(0)).unwrap().unwrap().concat();
    assert_eq!(adopted, written(&disk, LOG), "the file holds the whole segment");
    rfs_journal::verify_segment("adopted", &adopted.into(), None).unwrap();

    let mut second = JournalEngine::reopened(replayed, residency, log, Cut::default(), Pace::Full);
    frames(&mut second, 5, 3, 70, true);
    let third = WriterIdentity { epoch: 3, ..NEXT };
    let (_, log) = open_from_start(&shared(&disk), third).unwrap();
    assert_eq!((log.tail.len(), log.end, log.next_segment), (16, LogEnd::Clean, SegmentId(2)));
    let replayed = replay(&Snapshot::empty(), &log);
    assert!(replayed == *end_of(&second) && engine.end().0 == Lsn(10));
}

/// A log in two files: two segments in the first and one in the second, of two frames each.
fn two_files(sync: bool) -> (Vec<u8>, [Vec<u8>; 2], JournalEngine) {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    for segment in 0..3 {
        frames(&mut engine, segment * 2, 2, 100, sync);
        engine.finish().unwrap();
    }
    let bytes = written(&disk, LOG);
    let second = part(&bytes, Kind::SegmentHeader, 2).range.start;
    let files = [bytes[..second].to_vec(), bytes[second..].to_vec()];
    (disk.content(MARKER).unwrap(), files, engine)
}

const SECOND_LOG: &str = "log-00000001";

#[test]
fn a_log_goes_on_from_file_to_file() {
    let (marker, [first, second], engine) = two_files(true);
    // Recycled files are not in the order of their names.
    for names in [[LOG, SECOND_LOG], [SECOND_LOG, LOG]] {
        let disk = disk_with(&[(MARKER, &marker), (names[0], &first), (names[1], &second)]);
        expect_tail(&disk, &engine, Lsn(12), LogEnd::Clean);
    }
}

/// The seal of the last segment in a file was not synced when the power was lost, but the next file was written.
#[test]
fn a_segment_whose_seal_is_gone_ends_the_log_though_another_file_goes_on() {
    let (marker, [first, second], engine) = two_files(false);
    let footer = part(&first, Kind::Footer, 1);
    let mut first = first;
    first.truncate(footer.range.start);
    let durable = part(&second, Kind::Frame, 0).durable;
    assert_eq!(durable, Lsn(8), "the second file says what was safe");
    let disk = disk_with(&[(MARKER, &marker), (LOG, &first), (SECOND_LOG, &second)]);
    let opened = open_from_start(&shared(&disk), NEXT);
    // All that was safe is there: only the seal is gone.
    let (residency, log) = opened.unwrap();
    assert_eq!(log.tail.len(), 8);
    let power_lost = disk.after_power_loss(5, CrashPlan::never());
    let again = open_from_start(&shared(&power_lost), NEXT).unwrap().1;
    assert_eq!(again.tail, log.tail, "what was given up does not come back");
    let replayed = replay(&Snapshot::empty(), &log);
    assert!(replayed == engine.snapshots()[&Lsn(8)]);
    let whole = residency.segment_bytes(SegmentId(1)).unwrap().unwrap().concat();
    rfs_journal::verify_segment("adopted", &whole.into(), None).unwrap();
    let mut next = JournalEngine::reopened(replayed, residency, log, Cut::default(), Pace::Full);
    frames(&mut next, 20, 2, 50, true);
    let (_, log) = open_from_start(&shared(&disk), WriterIdentity { epoch: 3, ..NEXT }).unwrap();
    assert!(replay(&Snapshot::empty(), &log) == *end_of(&next));

    // Had the second file's frames been safe, they would say so.
    let (marker, [_, second], _) = two_files(true);
    let disk = disk_with(&[(MARKER, &marker), (LOG, &first), (SECOND_LOG, &second)]);
    let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { .. }), "{error}");
}

#[test]
fn a_committed_segment_whose_seal_is_gone_is_let_go() {
    let (marker, [first, second], engine) = two_files(true);
    let footer = part(&first, Kind::Footer, 1);
    let disk = disk_with(&[(MARKER, &marker), (LOG, &first[..footer.range.start]), (SECOND_LOG, &second)]);
    let (residency, log) = open_at(&disk, engine.end(), SegmentId(3), &[]).unwrap();
    assert_eq!((log.tail.len(), log.writer.end()), (0, engine.end()));
    assert!(residency.sealed(SegmentId(1)).is_none() && residency.sealed(SegmentId(2)).is_some());
}

/// Fills a file of 2,000 bytes.
fn two_segments(engine: &mut JournalEngine, from: usize) {
    for number in from..from + 2 {
        frames(engine, number, 1, 1_000, true);
        engine.finish().unwrap();
    }
}

#[test]
fn a_full_file_is_recycled_when_it_is_committed() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    engine.set_file_bytes(2_000);
    two_segments(&mut engine, 0);
    two_segments(&mut engine, 2);
    assert_eq!(disk.names(), [LOG, SECOND_LOG, MARKER]);
    let head = engine.end();
    engine.commit().unwrap();
    engine.recycle();
    frames(&mut engine, 9, 3, 100, true);
    assert_eq!(disk.names(), [LOG, SECOND_LOG, MARKER], "the first file is used again");
    let first = disk.content(LOG).unwrap();
    let stale = first.windows(8).filter(|window| *window == b"RFS-SEG\0").count();
    assert_eq!(stale, 2, "the second segment stands behind the fifth, which was written over the first");

    let (residency, log) = open_at(&disk, head, SegmentId(4), &[]).unwrap();
    assert_eq!((log.end, log.next_segment, log.tail.len()), (LogEnd::Clean, SegmentId(5), 6));
    let replayed = replay(&engine.snapshots()[&head.0], &log);
    assert!(replayed == *end_of(&engine));
    let file = replayed.tree.lookup(&Credential::root(), &At::root("f10"), false).unwrap();
    let place = replayed.tree.file_ranges(file, 0..100).unwrap().remove(0).place.unwrap();
    assert_eq!(residency.read(place, 100).unwrap().unwrap(), engine.read(place, 100));
}

#[test]
fn a_file_is_not_recycled_before_all_of_it_is_committed() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    engine.set_file_bytes(2_000);
    two_segments(&mut engine, 0);
    engine.commit().unwrap();
    let head = engine.end();
    two_segments(&mut engine, 2);
    two_segments(&mut engine, 4);
    engine.recycle();
    two_segments(&mut engine, 6);
    two_segments(&mut engine, 8);
    assert_eq!(disk.names().len(), 5, "of four files the first was used again: {:?}", disk.names());

    let (_, log) = open_at(&disk, head, SegmentId(2), &[]).unwrap();
    assert!(replay(&engine.snapshots()[&head.0], &log) == *end_of(&engine));
}

#[test]
fn after_a_failed_write_or_sync_nothing_more_is_taken_until_the_log_is_opened_again() {
    for fail in [SimDisk::fail_write, SimDisk::fail_sync] {
        let (disk, mut engine) = five_frames(true);
        fail(&disk, 0);
        write_a_file(&mut engine, "lost", 10);
        let error = engine.flush(true).unwrap_err();
        assert!(matches!(&error, JournalError::Io { .. }), "{error}");
        let error = engine.flush(true).unwrap_err();
        assert!(matches!(&error, JournalError::Poisoned(_)), "{error}");
        assert_eq!(engine.durable(), Lsn(10));
        let disk = disk.after_power_loss(3, CrashPlan::never());
        let (_, log) = open_from_start(&shared(&disk), NEXT).unwrap();
        assert!(log.tail.len() >= 10);
        assert!(replay(&Snapshot::empty(), &log) == engine.snapshots()[&Lsn(log.tail.len() as u64)]);
    }
}

/// Found by the simulator: the one who wrote the marker failed before it was on the disk, and the next one believed it.
#[test]
fn a_directory_is_marked_again_by_whoever_opens_it() {
    for seed in 0..20 {
        let disk = empty_disk();
        disk.fail_sync(0);
        JournalEngine::on_disk(&shared(&disk), Cut::default(), Pace::Full).unwrap_err();
        let mut engine = engine_on(&disk);
        frames(&mut engine, 0, 2, 100, true);
        let end = *engine.snapshots().last_key_value().expect("something was written").0;
        drop(engine);
        let disk = disk.after_power_loss(seed, CrashPlan::never());
        let (_, log) =
            open_from_start(&shared(&disk), NEXT).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(log.writer.end().0, end, "seed {seed}");
    }
}

/// Found by the simulator: what the one before wrote and could not sync was read from the system's memory, and a sync
/// does not write it again. With the next loss of power it was gone, and what was acknowledged behind it with it.
#[test]
fn what_an_earlier_writer_could_not_sync_is_written_again() {
    // Whether it is committed by the next writer, so that it is no tail; and how much stands before it.
    for (is_head, files) in [(false, 3), (true, 3), (true, 40)] {
        for seed in 0..6 {
            let disk = empty_disk();
            let mut engine = engine_on(&disk);
            frames(&mut engine, 0, files, 200_000, true);
            disk.fail_sync(0);
            write_a_file(&mut engine, "unsure", 5_000);
            engine.flush(true).unwrap_err();
            let end = engine.end();
            let snapshot = end_of(&engine).clone();
            drop(engine);

            let disk = disk.after_kill(CrashPlan::never());
            let (head, segment) =
                if is_head { (end, SegmentId(1)) } else { ((Lsn(0), ChainHash::default()), SegmentId(0)) };
            let (residency, log) = open_at(&disk, head, segment, &[]).unwrap();
            let found = (log.writer.end(), log.tail.is_empty());
            assert_eq!(found, (end, is_head), "the machine lived on, so all is there");
            let mut engine = JournalEngine::reopened(snapshot, residency, log, Cut::default(), Pace::Full);
            write_a_file(&mut engine, "acknowledged", 10);
            engine.flush(true).unwrap();
            let acknowledged = engine.end();
            drop(engine);

            let disk = disk.after_power_loss(seed, CrashPlan::never());
            let (_, log) = open_at(&disk, head, segment, &[])
                .unwrap_or_else(|error| panic!("{files} files, seed {seed}: {error}"));
            assert_eq!(log.writer.end(), acknowledged, "{files} files, seed {seed}");
        }
    }
}

/// What could not be synced may be let go of by the system between the look at the log and the writing again.
#[test]
fn what_changes_after_it_was_read_is_not_written_again() {
    let disk = empty_disk();
    let mut engine = engine_on(&disk);
    frames(&mut engine, 0, 3, 100_000, true);
    drop(engine);
    let scanned = rfs_journal::scan_log(&shared(&disk), NEXT.volume).unwrap();
    disk.flip_bit(LOG, 8 * 50_000);
    let head = rfs_journal::Head {
        lsn: Lsn(0),
        chain: ChainHash::default(),
        next_segment: SegmentId(0),
        is_committed: &|_, _| false,
        is_committed_segment: &|_| false,
    };
    let error = scanned.adopt(NEXT, &std::sync::Arc::default(), &head).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { .. }), "{error}");
}
