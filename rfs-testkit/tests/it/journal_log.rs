//! The local log is cut, holed and loses its power; what is found then is the result of a prefix of the history, and
//! holds all that was safe (promises 1 and 2).

use rfs_core::{Lsn, Op, SegmentId};
use rfs_journal::{ChainHash, Cut, JournalError, LogEnd, WriterIdentity};
use rfs_testkit::{
    CrashPlan, CrashSide, Engine, EngineTarget, JournalEngine, Pace, Profile, Rng, SimDisk, Snapshot, Target,
    Workload, open_from_start,
};

use crate::journal_parts::{
    Kind, LOG, MARKER, NEXT, Part, as_root, disk_with, dump_local, open_at, parts, replay, shared, trim,
    written,
};

const OPS: usize = 150;

/// Runs until all is done or the disk fails. `None` when the disk failed before there was anything.
fn run(seed: u64, ops: usize, disk: &SimDisk) -> Option<JournalEngine> {
    let pace = Pace::Random { seed, close_percent: 30, sync_percent: 20 };
    let engine = JournalEngine::on_disk(&shared(disk), JournalEngine::SMALL_CUT, pace).ok()?;
    let mut target = EngineTarget::new(engine);
    for op in Workload::new(seed, Profile::rfs()).take(ops) {
        // What it answers is compared elsewhere.
        _ = target.run(&op);
        if target.engine.failure().is_some() {
            break;
        }
    }
    Some(target.engine)
}

/// A run, its log, and where the log's pieces are.
struct Log {
    engine: JournalEngine,
    marker: Vec<u8>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Log {
    fn of(seed: u64) -> Self {
        let disk = SimDisk::new(CrashPlan::never());
        let mut engine = run(seed, OPS, &disk).expect("the disk works");
        engine.flush(false).unwrap();
        let bytes = written(&disk, LOG);
        let parts = parts(&bytes);
        assert_eq!(parts.last().unwrap().with, engine.end().0, "the second reader understands the log");
        Self { engine, marker: disk.content(MARKER).unwrap(), bytes, parts }
    }

    fn disk(&self, bytes: &[u8]) -> SimDisk {
        disk_with(&[(MARKER, &self.marker), (LOG, bytes)])
    }

    /// Sees that the log with these bytes in the place of its own holds the history up to `end`.
    fn expect_prefix(&self, bytes: &[u8], end: Lsn, what: &str) -> LogEnd {
        let opened = open_from_start(&shared(&self.disk(bytes)), NEXT);
        let (_, log) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(log.tail.len() as u64, end.0, "{what}");
        assert!(replay(&Snapshot::empty(), &log) == self.engine.snapshots()[&end], "{what}");
        log.end
    }
}

#[test]
fn a_log_that_is_cut_anywhere_replays_to_what_was_there() {
    let (mut cuts, mut torn) = (0, 0);
    for seed in 0..16 {
        let log = Log::of(seed);
        let mut rng = Rng::new(seed);
        for part in &log.parts {
            let (start, end) = (part.range.start, part.range.end);
            for cut in [start + 1, start + 40, start.midpoint(end), end - 1, end] {
                let rest: Vec<u8> = match rng.below(3) {
                    0 => Vec::new(),
                    1 => vec![0; 300],
                    _ => (0..300).map(|_| rng.next() as u8).collect(),
                };
                let bytes = [&log.bytes[..cut], &rest].concat();
                let whole = bytes.get(..end) == Some(&log.bytes[..end]);
                let expected = if whole { part.with } else { part.before };
                let what = format!("seed {seed}, {part:?} cut at {cut}, then {} bytes", rest.len());
                let found = log.expect_prefix(&bytes, expected, &what);
                // Of a piece that is cut near its start, what stands there could be anything.
                let expected = if whole { LogEnd::Clean } else { LogEnd::Torn };
                if whole || cut >= start + 8 {
                    assert_eq!(found, expected, "{what}");
                }
                cuts += 1;
                torn += usize::from(found == LogEnd::Torn);
            }
        }
    }
    assert!(cuts > 1_800 && torn > 1_000, "{cuts} cuts, {torn} torn");
}

#[test]
fn a_hole_in_a_log_is_damage_if_what_was_there_is_known_to_have_been_safe() {
    let (mut refused, mut prefixes) = (0, 0);
    for seed in 0..16 {
        let log = Log::of(seed);
        for (number, part) in log.parts.iter().enumerate() {
            let mut bytes = log.bytes.clone();
            bytes[part.range.clone()].fill(0);
            let others = log.parts.iter().enumerate().filter(|(other, _)| *other != number);
            let evidence = others.map(|(_, other)| other.durable).max().unwrap_or_default();
            let what = format!("seed {seed}, {part:?}, evidence up to {evidence}");
            if evidence <= part.before {
                log.expect_prefix(&bytes, part.before, &what);
                prefixes += 1;
                continue;
            }
            let error = open_from_start(&shared(&log.disk(&bytes)), NEXT).unwrap_err();
            // Of the first piece there is no segment left that could be named as the place.
            let at = if number == 0 { 0 } else { part.range.start as u64 };
            let JournalError::Damaged { artefact, offset, what: why } = &error else {
                panic!("{what}: {error}")
            };
            // The header of a segment without records belongs to none.
            let at = if part.kind == Kind::Frame && log.parts[number - 1].kind == Kind::SegmentHeader {
                log.parts[number - 1].range.start as u64
            } else {
                at
            };
            assert_eq!((artefact.as_str(), *offset), (LOG, at), "{what}");
            let gone = format!("records {} to {evidence} were safe once and are gone", part.before.next());
            assert_eq!(*why, gone, "{what}");
            refused += 1;
        }
    }
    assert!(refused > 200 && prefixes > 30, "{refused} refused, {prefixes} prefixes");
}

/// Opens what a machine left, goes on with it, loses the power again, and opens it once more.
fn reopen(disk: &SimDisk, lived: &JournalEngine, seed: u64, what: &str) {
    trim(disk);
    let (residency, log) =
        open_from_start(&shared(disk), NEXT).unwrap_or_else(|error| panic!("{what}: {error}"));
    let end = Lsn(log.tail.len() as u64);
    assert!(end >= lived.durable(), "{what}: {end} is found of {} that were safe", lived.durable());
    let replayed = replay(&Snapshot::empty(), &log);
    assert!(replayed == lived.snapshots()[&end], "{what}: the tree at {end}");
    let dump = dump_local(&replayed, &residency);
    let lived = rfs_testkit::dump_tree(&replayed.tree, |place, len| lived.read(place, len));
    assert_eq!(dump.diff("found", &lived, "lived"), "", "{what}");

    let pace = Pace::Random { seed, close_percent: 30, sync_percent: 20 };
    let mut engine = JournalEngine::reopened(replayed, residency, log, JournalEngine::SMALL_CUT, pace);
    assert_eq!(engine.durable(), end, "{what}: opening makes certain what it found");
    engine.submit(&as_root(), &Op::NewSession { keep: Vec::new() }, &[]).unwrap();
    let mut target = EngineTarget::new(engine);
    for op in Workload::new(seed, Profile::paths()).take(25) {
        _ = target.run(&op);
    }
    let engine = target.engine;
    assert!(engine.failure().is_none(), "{what}");

    let disk = disk.after_power_loss(seed, CrashPlan::never());
    trim(&disk);
    let third = WriterIdentity { epoch: 3, ..NEXT };
    let (_, log) = open_from_start(&shared(&disk), third).unwrap_or_else(|error| panic!("{what}: {error}"));
    let end = Lsn(log.tail.len() as u64);
    assert!(end >= engine.durable(), "{what}: {end} is found of {} that were safe", engine.durable());
    assert!(replay(&Snapshot::empty(), &log) == engine.snapshots()[&end], "{what}: the tree at {end}");
}

#[test]
fn a_crash_at_any_call_of_the_disk_loses_nothing_that_was_safe() {
    let mut crashes = 0;
    for seed in 0..3 {
        let plan = CrashPlan::never();
        run(seed, 60, &SimDisk::new(plan.clone())).expect("the disk works");
        for call in 0..plan.calls() {
            for side in [CrashSide::Before, CrashSide::Partly, CrashSide::After] {
                let seed = seed * 10_000 + call;
                let disk = SimDisk::new(CrashPlan::at_call(call, side, seed));
                let engine = run(seed / 10_000, 60, &disk);
                let what = format!("seed {seed}, crash {side:?} call {call}");
                let found = if call % 4 == 0 {
                    disk.after_kill(CrashPlan::never())
                } else {
                    disk.after_power_loss(seed, CrashPlan::never())
                };
                crashes += 1;
                if let Some(engine) = engine {
                    reopen(&found, &engine, seed, &what);
                    continue;
                }
                let (_, log) = open_from_start(&shared(&found), NEXT).unwrap();
                assert_eq!((log.tail.len(), log.end), (0, LogEnd::Clean), "{what}");
            }
        }
    }
    assert!(crashes > 150, "{crashes} crashes");
}

/// The ends of the segments that were committed, and the number of the segment after.
type Commits = Vec<((Lsn, ChainHash), SegmentId)>;

/// Runs as [`run`] does, with small files that are recycled as soon as they are committed. A commit does not wait for
/// the local disk.
fn run_with_commits(seed: u64, disk: &SimDisk) -> Option<(JournalEngine, Commits)> {
    let pace = Pace::Random { seed, close_percent: 30, sync_percent: 20 };
    let cut = Cut { frame_bytes: 600, segment_bytes: 3_000 };
    let mut engine = JournalEngine::on_disk(&shared(disk), cut, pace).ok()?;
    engine.set_file_bytes(5_000);
    let mut rng = Rng::new(seed);
    let mut commits = vec![(engine.end(), engine.next_segment())];
    let mut target = EngineTarget::new(engine);
    for (number, op) in Workload::new(seed, Profile::rfs()).take(160).enumerate() {
        _ = target.run(&op);
        let engine = &mut target.engine;
        if engine.failure().is_some() {
            break;
        }
        if number % 15 == 14 {
            if engine.seal(rng.chance(50)).is_err() {
                break;
            }
            commits.push((engine.end(), engine.next_segment()));
            if engine.commit().is_err() {
                break;
            }
            engine.recycle();
        }
    }
    Some((target.engine, commits))
}

#[test]
fn a_crash_at_any_call_loses_nothing_while_files_are_filled_committed_and_recycled() {
    let (mut replayed, mut put_aside, mut recycled) = (0, 0, 0);
    for seed in 20..25 {
        let plan = CrashPlan::never();
        let (engine, commits) = run_with_commits(seed, &SimDisk::new(plan.clone())).expect("the disk works");
        assert!(engine.next_segment() > SegmentId(5) && commits.len() > 5);
        for call in 0..plan.calls() {
            let disk = SimDisk::new(CrashPlan::at_call(call, CrashSide::Partly, call));
            let Some((engine, commits)) = run_with_commits(seed, &disk) else { continue };
            let found = disk.after_power_loss(seed * 10_000 + call, CrashPlan::never());
            trim(&found);
            let what = format!("seed {seed}, crash in call {call}");
            let (head, next_segment) = *commits.last().unwrap();
            let ends: Vec<_> = commits.iter().map(|commit| commit.0).collect();
            let opened = open_at(&found, head, next_segment, &ends);
            let (_, log) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            let end = Lsn(head.0.0 + log.tail.len() as u64);
            assert!(end >= engine.durable(), "{what}: {end} is found of {} that were safe", engine.durable());
            assert!(replay(&engine.snapshots()[&head.0], &log) == engine.snapshots()[&end], "{what}");
            replayed += usize::from(!log.tail.is_empty());
            // The commit came before what it holds was safe here, and that was lost: nobody knows what is left.
            put_aside += usize::from(log.orphaned.is_some());
            recycled += usize::from(found.names().len() < engine.next_segment().0 as usize / 2);
        }
    }
    let all = format!("{replayed} replayed, {put_aside} put aside, {recycled} with recycled files");
    assert!(replayed > 60 && put_aside < replayed && recycled > 60, "{all}");
}

#[test]
fn after_a_kill_all_that_was_written_is_found() {
    for seed in 0..6 {
        let disk = SimDisk::new(CrashPlan::never());
        let mut engine = run(seed, OPS, &disk).expect("the disk works");
        engine.flush(false).unwrap();
        let (_, log) = open_from_start(&shared(&disk.after_kill(CrashPlan::never())), NEXT).unwrap();
        assert_eq!((log.tail.len() as u64, log.end), (engine.end().0.0, LogEnd::Clean));
        assert!(replay(&Snapshot::empty(), &log) == *engine.snapshots().last_key_value().unwrap().1);
    }
}

/// Every single bit of a small log: an error, or the history up to the piece that the bit is in.
#[test]
fn a_flipped_bit_in_a_log_never_changes_what_is_read() {
    let disk = SimDisk::new(CrashPlan::never());
    let mut engine = small_log(&disk);
    engine.flush(true).unwrap();
    let bytes = written(&disk, LOG);
    let parts = parts(&bytes);
    assert!(parts.len() > 9 && parts.iter().any(|part| part.durable > Lsn(0)), "{parts:?}");
    let log = Log { engine, marker: disk.content(MARKER).unwrap(), bytes, parts };

    let (mut refused, mut prefixes) = (0, 0);
    for bit in 0..log.bytes.len() * 8 {
        let part = log.parts.iter().find(|part| part.range.contains(&(bit / 8))).unwrap();
        let others = log.parts.iter().filter(|other| other.range != part.range);
        let evidence = others.map(|other| other.durable).max().unwrap_or_default();
        let disk = log.disk(&log.bytes);
        disk.flip_bit(LOG, bit as u64);
        match open_from_start(&shared(&disk), NEXT) {
            Err(JournalError::Damaged { artefact, .. }) => {
                assert_eq!(artefact, LOG);
                assert!(evidence > part.before, "bit {bit} of {part:?}: refused without a reason");
                refused += 1;
            }
            Err(error) => panic!("bit {bit} of {part:?}: {error}"),
            Ok((residency, found)) => {
                assert!(evidence <= part.before, "bit {bit} of {part:?}: what was safe is gone");
                assert_eq!(found.tail.len() as u64, part.before.0, "bit {bit} of {part:?}");
                let replayed = replay(&Snapshot::empty(), &found);
                assert!(replayed == log.engine.snapshots()[&part.before], "bit {bit} of {part:?}");
                if bit % 16 == 0 {
                    let read = |place, len| log.engine.read(place, len);
                    let lived = rfs_testkit::dump_tree(&replayed.tree, read);
                    assert!(dump_local(&replayed, &residency) == lived, "bit {bit} of {part:?}");
                }
                prefixes += 1;
            }
        }
    }
    assert!(refused > 1_000 && prefixes > 1_000, "{refused} refused, {prefixes} prefixes");

    for bit in 0..log.marker.len() * 8 {
        let disk = log.disk(&log.bytes);
        disk.flip_bit(MARKER, bit as u64);
        let error = open_from_start(&shared(&disk), NEXT).unwrap_err();
        assert!(
            matches!(&error, JournalError::Damaged { artefact, .. } if artefact == MARKER),
            "bit {bit}: {error}"
        );
    }
}

/// A few hundred bytes of everything: two segments, one of them not sealed, some frames known to be synced.
fn small_log(disk: &SimDisk) -> JournalEngine {
    let mut engine =
        JournalEngine::on_disk(&shared(disk), JournalEngine::SMALL_CUT, Pace::Full).expect("the disk works");
    for step in 0..7_u32 {
        crate::journal_table::write_a_file(&mut engine, &format!("f{step}"), 20 + step as usize);
        match step {
            3 => engine.finish().unwrap(),
            _ => engine.flush(step == 1 || step == 5).unwrap(),
        }
    }
    engine
}
