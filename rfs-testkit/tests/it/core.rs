//! The core against the model (requirement A2).

use rfs_core::RenameMode;
use rfs_testkit::{
    Engine, EngineTarget, ModelFs, Path, Profile, Rules, Target, TestOp, TreeEngine, Workload, compare,
    corner_ops, corner_tree, symlink_chain,
};

use crate::linux::{OPS_PER_RUN, ops_wanted};

#[test]
fn the_core_answers_as_the_model_does() {
    for seed in 0..(ops_wanted() as u64).div_ceil(OPS_PER_RUN as u64) {
        let mut core = EngineTarget::new(TreeEngine::new());
        let mut model = ModelFs::new(Rules::rfs());
        let ops: Vec<_> = Workload::new(seed, Profile::rfs()).take(OPS_PER_RUN).collect();
        if let Err(difference) = compare(&ops, ("model", &mut model), ("core", &mut core), 50) {
            panic!("seed {seed}: {difference}");
        }
        let tree = core.engine.tree();
        assert_eq!(tree.check(), Ok(()), "seed {seed}");
        assert_eq!(tree, core.engine.replayed(), "seed {seed}");
    }
}

#[test]
fn the_core_answers_as_the_model_does_at_every_corner() {
    let mut runs: Vec<_> = corner_ops().into_iter().map(|op| [corner_tree(), vec![op]].concat()).collect();
    runs.push(symlink_chain());
    for ops in runs {
        let mut core = EngineTarget::new(TreeEngine::new());
        let mut model = ModelFs::new(Rules::rfs());
        if let Err(difference) = compare(&ops, ("model", &mut model), ("core", &mut core), ops.len()) {
            panic!("{difference}");
        }
    }
}

/// Linux does it on the file systems that judge; a volume is no layer of an overlay.
#[test]
fn a_whiteout_is_refused_and_changes_nothing() {
    let mut core = EngineTarget::new(TreeEngine::new());
    for op in corner_tree() {
        core.run(&op).expect("the tree is made");
    }
    let before = core.dump();
    for to in ["/new", "/other", "/empty"] {
        let (from, to) = (Path::new("/file"), Path::new(to));
        assert_eq!(core.run(&TestOp::Rename { from, to, mode: RenameMode::Whiteout }), Err(22));
    }
    assert_eq!(before.diff("before", &core.dump(), "after"), "");
}
