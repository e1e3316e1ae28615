//! The tree: sequences of operations against the reference model, and Changes that nobody decided.

use rfs_core::{Change, Place, SegmentId, StateHash, Tree};
use rfs_testkit::{EngineTarget, ModelFs, Profile, Rules, Target, TestOp, TreeEngine, Workload, compare};

/// Bytes of an input that make one operation.
const OP_BYTES: usize = 3;
const OPS_MAX: usize = 200;
const CHANGES_MAX: usize = 200;

/// Operations, each drawn from the seed that three bytes are: the core answers as the model does, its tree is sound, and
/// its Changes make the same tree again.
pub fn ops(input: &[u8]) {
    let mut workload = Workload::new(0, Profile::rfs());
    let ops: Vec<TestOp> = input
        .chunks_exact(OP_BYTES)
        .take(OPS_MAX)
        .filter_map(|seed| {
            workload.reseed(seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)));
            workload.next()
        })
        .collect();
    let mut core = EngineTarget::new(TreeEngine::new());
    let mut model = ModelFs::new(Rules::rfs());
    if let Err(difference) = compare(&ops, ("model", &mut model), ("core", &mut core), OPS_MAX) {
        panic!("{difference}");
    }
    let tree = rfs_testkit::Engine::tree(&core.engine);
    assert_eq!(tree.check(), Ok(()));
    assert!(tree == core.engine.replayed(), "the Changes make the same tree again");
}

/// Changes, one behind the other, on a tree with some of everything: each applies and leaves a sound tree, or is refused
/// and has changed nothing.
pub fn apply_changes(input: &[u8]) {
    thread_local! {
        static START: Tree = start();
    }
    let mut tree = START.with(Clone::clone);
    let mut place = Place { segment: SegmentId(9), position: 0 };
    let mut rest = input;
    for _ in 0..CHANGES_MAX {
        let Ok((change, after)) = postcard::take_from_bytes::<Change>(rest) else { break };
        rest = after;
        let before = tree.clone();
        if tree.apply(&change, place).is_err() {
            assert!(tree == before, "{change:?} was refused, and changed the tree");
            continue;
        }
        assert_eq!(tree.check(), Ok(()), "after {change:?}");
        let Some(end) = place.position.checked_add(change.payload_len()) else { break };
        place.position = end;
    }
    let _ = StateHash::of(&tree);
}

/// A tree that some operations made.
fn start() -> Tree {
    let mut core = EngineTarget::new(TreeEngine::new());
    for op in Workload::new(1, Profile::rfs()).take(150) {
        _ = core.run(&op);
    }
    rfs_testkit::Engine::tree(&core.engine)
}
