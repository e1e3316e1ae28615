//! The public API against the reference model: same answers, same tree, and again after opening anew.

use std::collections::BTreeMap;

use rfs::{Options, Volume};
use rfs_testkit::{Dump, ModelFs, Profile, Rules, SLOTS, Target, TestOp, Workload};

use crate::common::{memory_url, options};
use crate::handles::Handles;
use crate::target::{dump, expressible, perform};

/// A2: 20,000 operations in runs of 400; `RFS_TEST_OPS` asks for more or fewer.
#[test]
fn answers_and_trees_are_the_models() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let runs = std::env::var("RFS_TEST_OPS").map_or(20_000_u64, |ops| ops.parse().unwrap()).div_ceil(400);
    for seed in 0..runs {
        let small = |writer| options(seed * 2 + writer).with_cut(2_000, 30_000).with_image_every(u64::MAX, 3);
        runtime.block_on(run(&memory_url(&format!("model{seed}")), small, seed, 400));
    }
}

/// So many operations of one seed on a new volume, which is committed, closed and opened again on the way: at first with
/// the options for 0, then always with those for 1.
pub(crate) async fn run(url: &str, small: impl Fn(u64) -> Options, seed: u64, operations: usize) {
    let mut volume = Volume::create(url, small(0)).await.unwrap();
    let mut model = ModelFs::new(Rules::rfs());
    let mut handles = Handles::default();
    let profile = Profile { relative: false, max_xattr_bytes: 3_000, ..Profile::rfs() };
    for (number, op) in Workload::new(seed, profile).filter_map(expressible).take(operations).enumerate() {
        let (got, expected) = (perform(&mut handles, &volume, &op).await.unwrap(), model.run(&op));
        assert_eq!(got, expected, "seed {seed}, operation {number}: {op:?}");
        if number % 90 == 60 {
            volume.commit().await.unwrap();
        }
        if number % 180 == 179 {
            for slot in 0..SLOTS {
                let close = TestOp::Close { slot };
                let (got, expected) =
                    (perform(&mut handles, &volume, &close).await.unwrap(), model.run(&close));
                assert_eq!(got, expected, "seed {seed}, operation {number}: {close:?}");
            }
            volume.close().await.unwrap();
            volume = Volume::open(url, small(1)).await.unwrap();
        }
        if number % 50 == 49 {
            let difference = dump(&volume).await.unwrap().diff("volume", &tree_of(&mut model), "model");
            assert!(difference.is_empty(), "seed {seed}, after operation {number}:\n{difference}");
            volume.check().await.unwrap();
        }
    }
}

/// Without what the handles hold: a volume shows that to their program only.
fn tree_of(model: &mut ModelFs) -> Dump {
    Dump { handles: BTreeMap::new(), ..model.dump() }
}
