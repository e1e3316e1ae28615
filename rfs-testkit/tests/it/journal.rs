//! The core over the journal, against the model and against Linux, and its replay at every frame boundary
//! (requirements A2, A3, A10).

use rfs_core::StateHash;
use rfs_journal::VerifiedSegment;
use rfs_testkit::{
    Dump, EngineTarget, JournalEngine, ModelFs, Pace, Profile, Rules, Snapshot, Target, Workload, compare,
    dump_tree,
};

use crate::linux::{OPS_PER_RUN, against, for_each_run, ops_wanted};

/// The runs are shared out to tests that run side by side.
const PARTS: u64 = 3;

fn seeds(part: u64) -> impl Iterator<Item = u64> {
    (0..ops_wanted().div_ceil(OPS_PER_RUN) as u64).filter(move |seed| seed % PARTS == part)
}

fn journal(seed: u64) -> EngineTarget<JournalEngine> {
    let random = Pace::Random { seed, close_percent: 30, sync_percent: 0 };
    let pace = if seed.is_multiple_of(2) { Pace::Full } else { random };
    EngineTarget::new(JournalEngine::in_memory(JournalEngine::SMALL_CUT, pace))
}

/// Replays the finished journal of a run and compares it with the run at the end of every frame. Says how many
/// there were.
fn replay_at_every_frame(engine: &JournalEngine) -> (Snapshot, usize) {
    let mut replayed = Snapshot::empty();
    let mut frames = 0;
    for segment in engine.segments().unwrap() {
        if let Some(repeated) = segment.footer.records("segment", segment.header.id) {
            assert_eq!(repeated.unwrap(), segment.records, "the footer repeats the Changes");
        }
        for records in frames_of(&segment) {
            replayed.replay(records).unwrap();
            frames += 1;
            let end = records.last().expect("no frame is empty").lsn;
            let lived = engine.snapshots().get(&end);
            let lived = lived.unwrap_or_else(|| panic!("LSN {end} ends a frame in the middle of an Op"));
            assert!(replayed.tree == lived.tree, "the trees at LSN {end} differ");
            assert_eq!(replayed.state, lived.state, "state hash at LSN {end}");
            if frames % 40 == 1 {
                assert_eq!(replayed.tree.check(), Ok(()), "LSN {end}");
            }
        }
    }
    assert_eq!(replayed.tree.check(), Ok(()));
    assert_eq!(Ok(replayed.state), StateHash::of(&replayed.tree));
    (replayed, frames)
}

fn frames_of(segment: &VerifiedSegment) -> impl Iterator<Item = &[rfs_journal::Record]> {
    let mut rest = segment.records.as_slice();
    segment.footer.frames.iter().map(move |frame| {
        let (records, after) = rest.split_at(frame.count as usize);
        rest = after;
        records
    })
}

/// What the journal alone says: the replayed tree, with content from the segments' bytes.
fn dump_of_replay(engine: &JournalEngine, replayed: &Snapshot) -> Dump {
    let segments = engine.segment_bytes().unwrap();
    dump_tree(&replayed.tree, |place, len| {
        let start = place.position as usize;
        segments[place.segment.0 as usize][start..start + len as usize].to_vec()
    })
}

fn against_the_model(part: u64) {
    let (mut runs, mut frames, mut segments) = (0, 0, 0);
    for seed in seeds(part) {
        let mut journal = journal(seed);
        let mut model = ModelFs::new(Rules::rfs());
        let ops: Vec<_> = Workload::new(seed, Profile::rfs()).take(OPS_PER_RUN).collect();
        if let Err(difference) = compare(&ops, ("model", &mut model), ("journal", &mut journal), 50) {
            panic!("seed {seed}: {difference}");
        }
        journal.engine.finish().unwrap();
        let (replayed, boundaries) = replay_at_every_frame(&journal.engine);
        assert!(replayed.tree == rfs_testkit::Engine::tree(&journal.engine), "seed {seed}");
        let dump = dump_of_replay(&journal.engine, &replayed);
        let model = Dump { handles: dump.handles.clone(), ..model.dump() };
        assert_eq!(model.diff("model", &dump, "replay"), "", "seed {seed}");
        runs += 1;
        frames += boundaries;
        segments += journal.engine.segments().unwrap().len();
    }
    assert!(frames >= 30 * runs && segments >= 2 * runs, "{runs} runs, {frames} frames, {segments} segments");
}

#[test]
fn the_journal_answers_as_the_model_does_and_replays_at_every_frame_0() {
    against_the_model(0);
}

#[test]
fn the_journal_answers_as_the_model_does_and_replays_at_every_frame_1() {
    against_the_model(1);
}

#[test]
fn the_journal_answers_as_the_model_does_and_replays_at_every_frame_2() {
    against_the_model(2);
}

/// All operations by all callers, errno for errno.
fn against_linux(part: u64) {
    for_each_run(seeds(part), |seed, linux| {
        println!("seed {seed}");
        let abilities = linux.abilities();
        let ops: Vec<_> = Workload::new(seed, Profile::callers(abilities)).take(OPS_PER_RUN).collect();
        let mut journal = against(&ops, "journal", linux, || {
            let mut journal = journal(seed);
            journal.rules = Rules::linux();
            journal
        });
        assert_eq!(rfs_testkit::Engine::tree(&journal.engine).check(), Ok(()));
        journal.engine.finish().unwrap();
        let (replayed, _) = replay_at_every_frame(&journal.engine);
        let dump = dump_of_replay(&journal.engine, &replayed);
        let linux = Dump { handles: dump.handles.clone(), ..linux.dump() };
        assert_eq!(linux.diff("linux", &dump, "replay"), "", "seed {seed}");
    });
}

#[test]
fn the_journal_answers_as_linux_does_and_replays_to_the_same_0() {
    against_linux(0);
}

#[test]
fn the_journal_answers_as_linux_does_and_replays_to_the_same_1() {
    against_linux(1);
}

#[test]
fn the_journal_answers_as_linux_does_and_replays_to_the_same_2() {
    against_linux(2);
}
