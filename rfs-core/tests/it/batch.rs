//! A batch is all of its Ops, or none.

use rfs_core::{
    Access, At, BatchError, Context, Credential, Errno, Op, OpenFlags, Place, Precondition, SegmentId,
    Timestamp, WriteAt, decide_batch,
};

use crate::random::any_op;
use crate::support::{Fs, OWNER, Random, path};

fn open(name: &str) -> Op {
    let flags = OpenFlags { create: true, ..OpenFlags::default() };
    Op::Open { at: At::root(name), access: Access { read: true, write: true }, flags, mode: 0o644 }
}

#[test]
fn ops_see_what_earlier_ones_of_the_batch_made() {
    let fs = Fs::new();
    let write = |len| Op::Write { target: path("a/f", true), at: WriteAt::End, len };
    let ops = [
        Op::Require(Precondition::Missing(path("a", true))),
        Op::Mkdir { at: At::root("a"), mode: 0o755 },
        open("a/f"),
        write(5),
        Op::Truncate { target: path("a/f", true), size: 9 },
        write(4),
    ];
    let place = Place { segment: SegmentId(2), position: 50 };
    let batch = decide_batch(&fs.tree, &Context::new(Timestamp::default()), &ops, place).expect("it fits");
    assert_eq!((batch.changes.len(), batch.outcomes.len()), (5, 6));
    let ino = batch.tree.lookup(&Credential::root(), &At::root("a/f"), true).expect("it was made");
    let runs = batch.tree.file_ranges(ino, 0..100).expect("a file");
    let shown: Vec<_> = runs.iter().map(|run| (run.range.clone(), run.place.map(|at| at.position))).collect();
    assert_eq!(shown, [(0..5, Some(50)), (5..9, None), (9..13, Some(55))]);
    assert_eq!(fs.tree.inode_count(), 1, "the tree that was asked is as it was");
}

#[test]
fn the_first_refusal_refuses_all() {
    let fs = Fs::new();
    let ops = [
        open("f"),
        Op::Require(Precondition::Size(path("f", true), 0)),
        Op::Require(Precondition::Exists(path("g", true))),
    ];
    let refused = decide_batch(&fs.tree, &Context::new(Timestamp::default()), &ops, Place::default());
    assert_eq!(refused.expect_err("g is missing"), BatchError { index: 2, fault: Errno::Canceled.into() });
    let end = Place { segment: SegmentId(0), position: u64::MAX - 2 };
    let ops = [open("f"), Op::Write { target: path("f", true), at: WriteAt::End, len: 3 }];
    let refused = decide_batch(&fs.tree, &Context::new(Timestamp::default()), &ops, end);
    assert_eq!(refused.expect_err("no room").fault, Errno::TooBig);
}

#[test]
fn preconditions_say_what_is_there() {
    let mut fs = Fs::new();
    fs.mkdir("d").expect("a new directory");
    fs.create("f").expect("a new file");
    fs.symlink("loop", "loop").expect("a new symlink");
    fs.write("f", WriteAt::End, 3).expect("a file");
    let now = Timestamp::from_nanos(fs.now);
    let later = Timestamp::from_nanos(fs.now + 1);
    for (condition, holds) in [
        (Precondition::Exists(path("d", true)), true),
        (Precondition::Exists(path("loop", false)), true),
        (Precondition::Exists(path("loop", true)), false),
        (Precondition::Exists(path("x", true)), false),
        (Precondition::Missing(path("x", true)), true),
        (Precondition::Missing(path("f/x", true)), true),
        (Precondition::Missing(path("d", true)), false),
        (Precondition::Missing(path("loop", true)), false),
        (Precondition::Size(path("f", true), 3), true),
        (Precondition::Size(path("f", true), 4), false),
        (Precondition::Size(path("d", true), 0), false),
        (Precondition::ChangedAt(path("f", true), now), true),
        (Precondition::ChangedAt(path("f", true), later), false),
    ] {
        let answer = fs.run(&Op::Require(condition.clone())).map(|_| ());
        assert_eq!(answer, if holds { Ok(()) } else { Err(Errno::Canceled) }, "{condition:?}");
    }
}

#[test]
fn a_batch_is_its_ops_one_after_another() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        for _ in 0..40 {
            let ops: Vec<Op> = (0..4).map(|_| any_op(&mut random, &fs)).collect();
            fs.now += 1;
            let now = fs.now;
            let context = Context { owner: OWNER, ..Context::new(Timestamp::from_nanos(now)) };
            let batch = decide_batch(&fs.tree, &context, &ops, fs.place);
            let before = (fs.tree.clone(), fs.place);
            let mut failed = None;
            for (index, op) in ops.iter().enumerate() {
                fs.now = now - 1;
                if let Err(errno) = fs.run(op) {
                    failed = Some(BatchError { index, fault: errno.into() });
                    break;
                }
            }
            match batch {
                Ok(batch) => {
                    assert_eq!(failed, None, "seed {seed}");
                    assert_eq!(batch.tree, fs.tree, "seed {seed}");
                }
                Err(error) => {
                    assert_eq!(failed, Some(error), "seed {seed}");
                    (fs.tree, fs.place) = before;
                }
            }
        }
    }
}
