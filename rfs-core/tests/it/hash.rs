//! The state hash does not change from one release to the next.

use rfs_core::{CommitId, LockMode, LockOwner, Op, OwnerId, StateHash, Timestamp, Tree, WriteAt};

use crate::support::{Fs, loaded, state_hash};

/// A small tree with an item of every kind.
fn small() -> Fs {
    let mut fs = Fs::new();
    fs.mkdir("dir").expect("a new directory");
    fs.create("dir/file").expect("a new file");
    fs.write("dir/file", WriteAt::Offset(3), 7).expect("a file");
    fs.symlink("dir/file", "link").expect("a new symlink");
    let ino = fs.ino("dir/file");
    fs.run(&Op::LockFile { ino, owner: LockOwner { owner: OwnerId(0), key: 4 }, mode: LockMode::Exclusive })
        .expect("free");
    let commit = CommitId { epoch: 2, number: 3 };
    fs.run(&Op::AddCheckpoint { name: "first".to_owned(), commit }).expect("a new name");
    fs
}

#[test]
fn the_hash_of_a_given_tree_is_fixed() {
    let empty = state_hash(&Tree::new(Timestamp::from_nanos(0)));
    assert_eq!(empty.to_string(), "c87851f40c5a06c51df9ac65b95e2326a09feea8a67b7ca11328abb458114632");
    assert_eq!(
        state_hash(&small().tree).to_string(),
        "b391d2ac5cd9994221ce74ed6733c11f04ab3286ef1dffddf76dd595afb15d3c"
    );
}

#[test]
fn the_hash_of_the_empty_tree_is_the_sum_of_two_items() {
    let next_ino = [&[1][..], &2_u64.to_le_bytes()].concat();
    let time = 0_i64.to_le_bytes();
    let root = [
        &[2][..],
        &1_u64.to_le_bytes(),
        &0o755_u32.to_le_bytes(),
        &0_u32.to_le_bytes(),
        &0_u32.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &0_u64.to_le_bytes(),
        &[time, time, time, time].concat(),
        &[1],
        &1_u64.to_le_bytes(),
        &0_u64.to_le_bytes(),
        &1_u64.to_le_bytes(),
    ]
    .concat();
    let (left, right) = (blake3::hash(&next_ino), blake3::hash(&root));
    let sum: Vec<u8> = (0..32)
        .step_by(8)
        .flat_map(|at| {
            let lane = |hash: &blake3::Hash| {
                u64::from_le_bytes(hash.as_bytes()[at..at + 8].try_into().expect("eight bytes"))
            };
            lane(&left).wrapping_add(lane(&right)).to_le_bytes()
        })
        .collect();
    assert_eq!(state_hash(&Tree::new(Timestamp::from_nanos(0))).as_bytes()[..], sum);
}

#[test]
fn every_item_counts() {
    let fs = small();
    let whole = state_hash(&fs.tree);
    let mut without = fs.tree.clone();
    let ino = fs.ino("dir/file");
    without.apply(&rfs_core::Change::Unlock { ino, owner: OwnerId(4) }, fs.place).expect("held");
    assert_ne!(state_hash(&without), whole);
    assert_eq!(loaded(state_hash(&without).update(&without, &fs.tree)), whole);
    assert_eq!(StateHash::from_bytes(*whole.as_bytes()), whole);
}
