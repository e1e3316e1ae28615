//! The model against the Linux that the tests run on (requirement A2).

use std::collections::BTreeMap;
use std::io::ErrorKind;

use rfs_core::{Access, AtimePolicy, LockMode, OpenFlags};
use rfs_testkit::{
    Abilities, EngineTarget, Judge, LinuxDir, ModelFs, Path, Profile, Rules, Target, TestOp, TreeEngine,
    Workload, compare, corner_ops, corner_tree, symlink_chain,
};

pub(crate) const OPS_PER_RUN: usize = 300;

/// How many operations; `RFS_TEST_OPS` raises it for a longer search.
pub(crate) fn ops_wanted() -> usize {
    std::env::var("RFS_TEST_OPS").ok().and_then(|ops| ops.parse().ok()).unwrap_or(100_000)
}

pub(crate) fn linux_dir(judge: Judge) -> Option<LinuxDir> {
    match LinuxDir::new(judge, AtimePolicy::Never) {
        Ok(linux) => Some(linux),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("SKIPPED: comparison with Linux: may not mount, or change a thread's root: {error}");
            None
        }
        Err(error) => panic!("making a directory for the comparison: {error}"),
    }
}

/// Runs the operations on Linux and on what `new` makes, and compares.
pub(crate) fn against<T: Target>(ops: &[TestOp], name: &str, linux: &mut LinuxDir, new: impl Fn() -> T) -> T {
    let mut target = new();
    let Err(difference) = compare(ops, (name, &mut target), ("linux", linux), 50) else { return target };
    // Once more, looking after every operation: which of them was it?
    linux.clear().unwrap();
    let exact = compare(ops, (name, &mut new()), ("linux", linux), 1);
    panic!("{}", exact.err().unwrap_or(difference));
}

/// Each judge there is, with runs of their own.
pub(crate) fn for_each_run(seeds: impl Iterator<Item = u64>, mut run: impl FnMut(u64, &mut LinuxDir)) {
    let (Some(memory), Some(disk)) = (linux_dir(Judge::Memory), linux_dir(Judge::Disk)) else { return };
    let mut judges = [memory, disk];
    for seed in seeds {
        let judge = &mut judges[(seed % 2) as usize];
        judge.clear().unwrap();
        run(seed, judge);
    }
}

#[test]
fn the_model_answers_as_linux_does() {
    for_each_run(0..ops_wanted().div_ceil(OPS_PER_RUN) as u64, |seed, linux| {
        println!("seed {seed}");
        let ops: Vec<_> = Workload::new(seed, Profile::linux(linux.abilities())).take(OPS_PER_RUN).collect();
        against(&ops, "model", linux, || ModelFs::new(Rules::linux()));
    });
}

#[test]
fn the_model_answers_as_linux_does_at_every_corner() {
    let Some(mut linux) = linux_dir(Judge::Memory) else { return };
    let mut runs: Vec<_> = corner_ops().into_iter().map(|op| [corner_tree(), vec![op]].concat()).collect();
    runs.push(symlink_chain());
    for ops in runs {
        linux.clear().unwrap();
        let mut model = ModelFs::new(Rules::linux());
        if let Err(difference) = compare(&ops, ("model", &mut model), ("linux", &mut linux), ops.len()) {
            panic!("{difference}");
        }
    }
}

/// What no judge can do here would go untested.
#[test]
fn some_judge_can_do_everything() {
    let (Some(memory), Some(disk)) = (linux_dir(Judge::Memory), linux_dir(Judge::Disk)) else { return };
    println!("memory: {:?}\ndisk: {:?}", memory.abilities(), disk.abilities());
    // These two are settings of the machine.
    let all = Abilities::ALL.without(Abilities::PLAIN_STICKY | Abilities::PROTECTED_LINKS);
    let missing = all.without(memory.abilities() | disk.abilities());
    assert_eq!(missing, Abilities::NONE, "no judge of this machine can do this");
}

/// The judge is only worth something if it sees a difference.
#[test]
fn a_wrong_model_is_found_out() {
    let Some(mut linux) = linux_dir(Judge::Memory) else { return };
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
        TestOp::LockFile { slot: 0, mode: LockMode::Shared },
        TestOp::LockFile { slot: 1, mode: LockMode::Shared },
        TestOp::LockFile { slot: 1, mode: LockMode::Exclusive },
        TestOp::LockFile { slot: 0, mode: LockMode::Exclusive },
    ];
    let difference = compare(&ops, ("model", &mut model), ("linux", &mut linux), 10).unwrap_err();
    assert!(difference.contains("model: Err(11)\nlinux: Ok(done)"), "{difference}");
}

/// A generator that only makes operations which fail, or none of some kind, would let every comparison pass.
#[test]
fn the_workload_reaches_what_it_is_to_test() {
    let mut answers: BTreeMap<(String, Option<i32>), usize> = BTreeMap::new();
    for seed in 0..80 {
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
    assert!(succeeded * 100 > total * 63, "{succeeded} of {total} succeed: {answers:?}");
    for kind in [
        "Access Allocate Batch Close Copy Create GetLock GetXattr Link ListXattr LockFile LockRange Mkdir Mknod",
        "Open OpenNameless Read ReadDir ReadLink RemoveXattr Rename Rmdir SeekData SeekHole SetMode SetOwner",
        "SetTimes SetXattr Stat Symlink Truncate Unlink UnlockFile UnlockRange Write",
    ]
    .into_iter()
    .flat_map(str::split_whitespace)
    {
        assert!(done(kind) >= 40, "{kind} succeeds {} times: {answers:?}", done(kind));
    }
    // ENOENT EBADF EAGAIN EBUSY EEXIST ENOTDIR EISDIR EINVAL ENAMETOOLONG ENOTEMPTY ELOOP, EPERM, EOPNOTSUPP,
    // EFBIG, ECANCELED, ENXIO, E2BIG, ERANGE, ENODATA
    for errno in [2, 9, 11, 16, 17, 20, 21, 22, 36, 39, 40, 1, 95, 27, 125, 6, 7, 34, 61] {
        let times: usize = answers.iter().filter(|((_, is), _)| *is == Some(errno)).map(|(_, n)| n).sum();
        assert!(times >= 5, "error {errno} comes {times} times: {answers:?}");
    }
}

/// The same of the operations by several callers: they have to be let in, and to be kept out.
#[test]
fn the_callers_reach_what_they_are_to_test() {
    let mut answers: BTreeMap<(String, Option<i32>), usize> = BTreeMap::new();
    let (mut done, mut total) = (0, 0);
    for seed in 0..60 {
        let mut core = EngineTarget::new(TreeEngine::new());
        for op in Workload::new(seed, Profile::callers(Abilities::ALL)).take(OPS_PER_RUN) {
            let answer = core.run(&op).err();
            let TestOp::As { op, .. } = &op else { continue };
            (done, total) = (done + usize::from(answer.is_none()), total + 1);
            let name = match &**op {
                TestOp::SetXattr { name, .. } => String::from_utf8_lossy(&name.0).into_owned(),
                op => name(op),
            };
            *answers.entry((name, answer)).or_default() += 1;
        }
    }
    assert!(done * 100 > total * 33, "{done} of {total} succeed: {answers:?}");
    let times = |name: &str, errno: Option<i32>| answers.get(&(name.to_owned(), errno)).copied().unwrap_or(0);
    for name in ["Open", "Write", "Mkdir", "Unlink", "Rename", "Truncate", "Link", "Allocate"] {
        assert!(times(name, None) >= 20, "{name} succeeds seldom: {answers:?}");
        assert!(times(name, Some(13)) >= 5, "{name} is seldom kept out: {answers:?}");
    }
    for name in ["SetMode", "SetOwner", "SetTimes", "system.posix_acl_access", "system.posix_acl_default"] {
        assert!(times(name, None) >= 10, "{name} succeeds seldom: {answers:?}");
        assert!(times(name, Some(1)) >= 10, "{name} is seldom for owners only: {answers:?}");
    }
    assert!(times("security.capability", None) >= 1, "{answers:?}");
    for name in ["security.capability", "trusted.one"] {
        assert!(times(name, Some(1)) >= 5, "{name} is seldom for the able only: {answers:?}");
    }
}

fn name(op: &TestOp) -> String {
    let text = format!("{op:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}
