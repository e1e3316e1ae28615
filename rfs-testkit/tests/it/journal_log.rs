//! The local log is cut, holed and loses its power; what is found then is the result of a prefix of the history, as
//! long as what was safe (promises 1 and 2).

use rfs_core::{Lsn, Op};
use rfs_journal::{JournalError, LogEnd};
use rfs_testkit::{
    CrashPlan, CrashSide, Engine, EngineTarget, JournalEngine, Pace, Profile, Rng, SimDisk, Snapshot, Target,
    Workload, open_from_start,
};

use crate::journal_parts::{
    Kind, LOG, MARKER, NEXT, Part, disk_with, dump_local, parts, replay, shared, trim, written,
};

const PACE: Pace = Pace::Random { seed: 0, close_percent: 30, sync_percent: 20 };

fn pace(seed: u64) -> Pace {
    let Pace::Random { close_percent, sync_percent, .. } = PACE else { unreachable!() };
    Pace::Random { seed, close_percent, sync_percent }
}

/// Runs until all is done or the disk fails. `None` when there is no engine because the disk failed at once.
fn run(seed: u64, ops: usize, disk: &SimDisk) -> Option<JournalEngine> {
    let engine = JournalEngine::on_disk(&shared(disk), JournalEngine::SMALL_CUT, pace(seed)).ok()?;
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

/// A log of a run, and where its pieces are.
struct Log {
    engine: JournalEngine,
    marker: Vec<u8>,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

fn log(seed: u64, ops: usize) -> Log {
    let disk = SimDisk::new(CrashPlan::never());
    let mut engine = run(seed, ops, &disk).expect("the disk works");
    engine.flush(false).unwrap();
    let bytes = written(&disk, LOG);
    let parts = parts(&bytes);
    assert_eq!(parts.last().unwrap().with, engine.end().0, "the second reader understands all of the log");
    Log { engine, marker: disk.content(MARKER).unwrap(), bytes, parts }
}

impl Log {
    fn disk(&self, bytes: &[u8]) -> SimDisk {
        disk_with(&[(MARKER, &self.marker), (LOG, bytes)])
    }

    /// Opens the log with other bytes and sees that it holds the history up to `end`.
    fn expect_prefix(&self, bytes: &[u8], end: Lsn, what: &str) -> LogEnd {
        let (_, log) = open_from_start(&self.disk(bytes), what).unwrap();
        assert_eq!(log.tail.len() as u64, end.0, "{what}");
        assert!(replay(&Snapshot::empty(), &log) == self.engine.snapshots()[&end], "{what}");
        log.end
    }
}
