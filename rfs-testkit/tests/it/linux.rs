//! The model against the Linux that the tests run on (requirement A2).

use std::collections::BTreeMap;
use std::io::ErrorKind;

use rfs_core::{Access, LockMode, OpenFlags};
use rfs_testkit::{
    LinuxDir, ModelFs, Path, Profile, Rules, Target, TestOp, Workload, compare, corner_ops, corner_tree,
    symlink_chain,
};

pub(crate) const OPS_PER_RUN: usize = 300;

/// How many operations; `RFS_TEST_OPS` raises it for a longer search.
pub(crate) fn ops_wanted() -> usize {
    std::env::var("RFS_TEST_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(100_000)
}

pub(crate) fn linux_dir() -> Option<LinuxDir> {
    match LinuxDir::new() {
        Ok(linux) => Some(linux),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!(
                "SKIPPED: comparison with Linux: may not change the root directory of a thread: {error}"
            );
            None
        }
        Err(error) => panic!("making a directory for the comparison: {error}"),
    }
}

#[test]
fn the_model_answers_as_linux_does() {
    for seed in 0..ops_wanted().div_ceil(OPS_PER_RUN) as u64 {
        let Some(mut linux) = linux_dir() else { return };
        let mut model = ModelFs::new(Rules::linux());
        let ops: Vec<_> = Workload::new(seed, Profile::linux()).take(OPS_PER_RUN).collect();
        if let Err(difference) = compare(&ops, ("model", &mut model), ("linux", &mut linux), 50) {
            panic!("seed {seed}: {difference}");
        }
    }
}

#[test]
fn the_model_answers_as_linux_does_at_every_corner() {
    for op in corner_ops() {
        let Some(mut linux) = linux_dir() else { return };
        let mut model = ModelFs::new(Rules::linux());
        let ops = [corner_tree(), vec![op]].concat();
        if let Err(difference) = compare(&ops, ("model", &mut model), ("linux", &mut linux), ops.len()) {
            panic!("{difference}");
        }
    }
    let Some(mut linux) = linux_dir() else { return };
    let mut model = ModelFs::new(Rules::linux());
    compare(&symlink_chain(), ("model", &mut model), ("linux", &mut linux), 100).unwrap();
}

/// The judge is only worth something if it sees a difference.
#[test]
fn a_wrong_model_is_found_out() {
    let Some(mut linux) = linux_dir() else { return };
    let mut model = ModelFs::new(Rules { failed_lock_change_loses_lock: false, ..Rules::linux() });
    let open = |slot| TestOp::Open {
        slot,
        path: Path::new("/f"),
        access: Access { read: true, write: true },
        flags: OpenFlags { create: true, ..OpenFlags::default() },
        mode: 0o600,
    };
    let ops = [
        open(0),
        open(1),
        TestOp::Lock { slot: 0, mode: LockMode::Shared },
        TestOp::Lock { slot: 1, mode: LockMode::Shared },
        TestOp::Lock { slot: 1, mode: LockMode::Exclusive },
        TestOp::Lock { slot: 0, mode: LockMode::Exclusive },
    ];
    let difference = compare(&ops, ("model", &mut model), ("linux", &mut linux), 10).unwrap_err();
    assert!(difference.contains("model: Err(11)\nlinux: Ok(done)"), "{difference}");
}

/// A generator that only makes operations which fail, or none of some kind, would let every comparison pass.
#[test]
fn the_workload_reaches_what_it_is_to_test() {
    let mut answers: BTreeMap<(String, Option<i32>), usize> = BTreeMap::new();
    for seed in 0..60 {
        let mut model = ModelFs::new(Rules::rfs());
        for op in Workload::new(seed, Profile::rfs()).take(OPS_PER_RUN) {
            let answer = model.run(&op).err();
            *answers.entry((name(&op), answer)).or_default() += 1;
        }
    }
    let total: usize = answers.values().sum();
    let done = |kind: &str| answers.get(&(kind.to_owned(), None)).copied().unwrap_or(0);
    let kinds: Vec<String> = answers.keys().map(|(kind, _)| kind.clone()).collect();
    let succeeded: usize =
        kinds.iter().collect::<std::collections::BTreeSet<_>>().into_iter().map(|k| done(k)).sum();
    assert!(succeeded * 100 > total * 65, "{succeeded} of {total} succeed: {answers:?}");
    for kind in [
        "Open", "Close", "Read", "Write", "Truncate", "Mkdir", "Symlink", "Link", "Unlink", "Rmdir",
        "Rename", "SetMode", "SetOwner", "SetTimes", "Stat", "ReadLink", "ReadDir", "Lock", "Unlock",
        "Create", "Batch",
    ] {
        assert!(done(kind) >= 40, "{kind} succeeds {} times: {answers:?}", done(kind));
    }
    // ENOENT EBADF EAGAIN EBUSY EEXIST ENOTDIR EISDIR EINVAL ENAMETOOLONG ENOTEMPTY ELOOP, EPERM, EOPNOTSUPP,
    // EFBIG, ECANCELED
    for errno in [2, 9, 11, 16, 17, 20, 21, 22, 36, 39, 40, 1, 95, 27, 125] {
        let times: usize = answers.iter().filter(|((_, is), _)| *is == Some(errno)).map(|(_, n)| n).sum();
        assert!(times >= 5, "error {errno} comes {times} times: {answers:?}");
    }
}

fn name(op: &TestOp) -> String {
    let text = format!("{op:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}
