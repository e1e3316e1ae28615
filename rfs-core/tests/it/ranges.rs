//! Ranges of files against files that are plain vectors of bytes: every Op on content, step by step.

use rfs_core::{
    Allocate, AtimePolicy, BatchError, COPY_RUNS_MAX, Capabilities, Change, Context, Credential, Errno,
    FILE_SIZE_MAX, Ino, Node, Op, Outcome, Place, SHIFT_RUNS_MAX, SegmentId, SetTime, Target, Timestamp,
    Tree, WriteAt, decide, decide_batch,
};

use crate::support::{Fs, Random, items, live_bytes, loaded, path, posix, state_hash};

/// Where a byte is; `None` in a hole.
type Byte = Option<(u64, u64)>;

const LEN: u64 = 40;

fn bytes_of(tree: &Tree, ino: Ino) -> Vec<Byte> {
    let runs = tree.file_ranges(ino, 0..u64::MAX).expect("a file");
    let byte = |place: Option<rfs_core::Place>, skip| place.map(|at| (at.segment.0, at.position + skip));
    runs.into_iter()
        .flat_map(|run| (0..run.range.end - run.range.start).map(move |skip| byte(run.place, skip)))
        .collect()
}

fn allocate(ino: Ino, mode: Allocate, offset: u64, len: u64) -> Op {
    Op::Allocate { target: Target::Ino(ino), mode, offset, len }
}

const MODES: [Allocate; 7] = [
    Allocate::Extend,
    Allocate::KeepSize,
    Allocate::PunchHole,
    Allocate::ZeroRange { keep_size: false },
    Allocate::ZeroRange { keep_size: true },
    Allocate::Collapse,
    Allocate::Insert,
];

/// What the Op does to plain bytes, or why not; every range is small.
fn model(files: &mut [Vec<Byte>; 2], inos: [Ino; 2], op: &Op, place: rfs_core::Place) -> Result<(), Errno> {
    let number = |target: &Target| usize::from(*target == Target::Ino(inos[1]));
    let hole = |bytes: &mut Vec<Byte>, start: usize, end: usize| {
        let end = end.min(bytes.len());
        bytes[start.min(end)..end].fill(None);
    };
    match op {
        Op::Write { target, at, len } => {
            let bytes = &mut files[number(target)];
            let offset = match at {
                WriteAt::Offset(offset) => *offset as usize,
                WriteAt::End => bytes.len(),
            };
            if *len > 0 {
                bytes.resize(bytes.len().max(offset + *len as usize), None);
            }
            for skip in 0..*len {
                bytes[offset + skip as usize] = Some((place.segment.0, place.position + skip));
            }
        }
        Op::Truncate { target, size } => files[number(target)].resize(*size as usize, None),
        Op::Allocate { len: 0, .. } => return Err(Errno::Invalid),
        Op::Allocate { target, mode, offset, len } => {
            let bytes = &mut files[number(target)];
            let (start, end) = (*offset as usize, (*offset + *len) as usize);
            let grown = bytes.len().max(end);
            match mode {
                Allocate::Extend => bytes.resize(grown, None),
                Allocate::KeepSize => {}
                Allocate::PunchHole | Allocate::ZeroRange { keep_size: true } => hole(bytes, start, end),
                Allocate::ZeroRange { keep_size: false } => {
                    bytes.resize(grown, None);
                    hole(bytes, start, end);
                }
                Allocate::Collapse if end < bytes.len() => drop(bytes.drain(start..end)),
                Allocate::Insert if start < bytes.len() => {
                    bytes.splice(start..start, vec![None; end - start]);
                }
                Allocate::Collapse | Allocate::Insert => return Err(Errno::Invalid),
            }
        }
        Op::Copy { from, from_offset, to, to_offset, len } => {
            let source = &files[number(from)];
            let start = (*from_offset as usize).min(source.len());
            let end = start + (*len as usize).min(source.len() - start);
            let (len, at) = (end - start, *to_offset as usize);
            if from == to && (*from_offset as usize) < at + len && at < *from_offset as usize + len {
                return Err(Errno::Invalid);
            }
            let copied = source[start..end].to_vec();
            let bytes = &mut files[number(to)];
            if len > 0 {
                bytes.resize(bytes.len().max(at + len), None);
                bytes[at..at + len].copy_from_slice(&copied);
            }
        }
        _ => unreachable!("only Ops on content"),
    }
    Ok(())
}

fn any_op(random: &mut Random, inos: [Ino; 2]) -> Op {
    let (ino, other) = (random.pick(&inos), random.pick(&inos));
    let (offset, len) = (random.below(LEN), random.below(20));
    let target = Target::Ino(ino);
    match random.below(12) {
        0..4 => {
            let at = if random.one_in(4) { WriteAt::End } else { WriteAt::Offset(offset) };
            Op::Write { target, at, len }
        }
        4 => Op::Truncate { target, size: offset },
        5..9 => allocate(ino, random.pick(&MODES), offset, len),
        _ => {
            let to_offset = random.below(LEN);
            Op::Copy { from: target, from_offset: offset, to: Target::Ino(other), to_offset, len }
        }
    }
}

fn two_files() -> (Fs, [Ino; 2]) {
    let mut fs = Fs::new();
    for name in ["a", "b"] {
        fs.create(name).expect("a new file");
    }
    let inos = [fs.ino("a"), fs.ino("b")];
    (fs, inos)
}

#[test]
fn ranges_are_those_of_plain_bytes() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..120 {
        let mut random = Random(seed);
        let (mut fs, inos) = two_files();
        let mut files = [Vec::new(), Vec::new()];
        for number in 0..100 {
            let op = any_op(&mut random, inos);
            let at = format!("seed {seed}, Op {number}: {op:?}");
            let (before, hash) = (fs.tree.clone(), state_hash(&fs.tree));
            let expected = model(&mut files, inos, &op, fs.place);
            let got = fs.run(&op);
            assert_eq!(got.map(|_| ()), expected, "{at}");
            if expected.is_ok() {
                done += 1;
            } else {
                refused += 1;
            }
            for (ino, bytes) in inos.iter().zip(&files) {
                assert_eq!(&bytes_of(&fs.tree, *ino), bytes, "{at}");
                let stored = bytes.iter().flatten().count() as u64;
                assert_eq!(fs.tree.attr(*ino).expect("a file").allocated, stored, "{at}");
                for from in 0..bytes.len() as u64 + 2 {
                    let find = |data| {
                        (from as usize..bytes.len())
                            .find(|at| bytes[*at].is_some() == data)
                            .map(|at| at as u64)
                    };
                    let data = find(true).ok_or(Errno::NoSuchData);
                    assert_eq!(posix(fs.tree.seek_data(*ino, from)), data, "{at}");
                    let size = bytes.len() as u64;
                    let hole =
                        if from < size { Ok(find(false).unwrap_or(size)) } else { Err(Errno::NoSuchData) };
                    assert_eq!(posix(fs.tree.seek_hole(*ino, from)), hole, "{at}");
                }
            }
            let stored = files.iter().flatten().flatten().count() as u64;
            assert_eq!(fs.tree.usage().bytes, stored, "{at}");
            assert_eq!(live_bytes(&fs.tree), stored, "{at}");
            assert_eq!(fs.tree.check(), Ok(()), "{at}");
            assert_eq!(loaded(hash.update(&before, &fs.tree)), state_hash(&fs.tree), "{at}");
            assert_eq!(Tree::from_items(items(&fs.tree)).as_ref(), Ok(&fs.tree), "{at}");
        }
    }
    assert!(done > 8000 && refused > 500, "{done} done, {refused} refused");
}

#[test]
fn what_is_put_together_again_is_one_extent() {
    let (mut fs, [a, b]) = two_files();
    fs.write("a", WriteAt::Offset(0), 30).expect("a file");
    let extents =
        |fs: &Fs| items(&fs.tree).filter(|item| matches!(item, rfs_core::Item::Extent { .. })).count();
    let written = bytes_of(&fs.tree, a);
    // A hole put in and taken out again, and a copy in parts.
    fs.run(&allocate(a, Allocate::Insert, 10, 7)).expect("a file");
    assert_eq!(extents(&fs), 2);
    fs.run(&allocate(a, Allocate::Collapse, 10, 7)).expect("a file");
    assert_eq!((extents(&fs), bytes_of(&fs.tree, a)), (1, written.clone()));
    for (offset, len) in [(20, 100), (0, 10), (10, 10)] {
        let (from, to) = (Target::Ino(a), Target::Ino(b));
        let copy = Op::Copy { from, from_offset: offset, to, to_offset: offset, len };
        assert_eq!(fs.run(&copy), Ok(Outcome::Copied { len: 10 }));
    }
    assert_eq!((extents(&fs), bytes_of(&fs.tree, b)), (2, written));
}

#[test]
fn a_copy_outlives_what_it_was_made_of() {
    let (mut fs, [a, b]) = two_files();
    fs.write("a", WriteAt::Offset(0), 30).expect("a file");
    let copy = Op::Copy {
        from: Target::Ino(a),
        from_offset: 5,
        to: Target::Ino(b),
        to_offset: 0,
        len: u64::MAX >> 1,
    };
    assert_eq!(fs.run(&copy), Ok(Outcome::Copied { len: 25 }));
    let bytes = bytes_of(&fs.tree, b);
    assert_eq!(fs.tree.usage().bytes, 55);
    fs.unlink("a").expect("it is there");
    assert_eq!((fs.tree.usage().bytes, bytes_of(&fs.tree, b)), (25, bytes));
    fs.unlink("b").expect("it is there");
    assert!(fs.tree.segments().is_empty());
}

#[test]
fn limits_and_kinds_answer_as_in_linux() {
    let (mut fs, [a, _]) = two_files();
    fs.mkdir("d").expect("a new directory");
    for (name, node) in [("p", Node::Fifo), ("s", Node::Socket)] {
        fs.run(&Op::Mknod { at: rfs_core::At::root(name), node, mode: 0o644 }).expect("a new node");
    }
    fs.truncate("a", 10).expect("a file");
    let (dir, fifo, socket) = (fs.ino("d"), fs.ino("p"), fs.ino("s"));
    let cases = [
        (allocate(dir, Allocate::Extend, 0, 0), Errno::Invalid),
        (allocate(dir, Allocate::Extend, u64::MAX, 1), Errno::IsADirectory),
        (allocate(fifo, Allocate::Extend, 0, 1), Errno::IllegalSeek),
        (allocate(socket, Allocate::Extend, 0, 1), Errno::NoDevice),
        (allocate(a, Allocate::Extend, FILE_SIZE_MAX, 1), Errno::TooBig),
        (allocate(a, Allocate::PunchHole, u64::MAX, u64::MAX), Errno::TooBig),
        (allocate(a, Allocate::Collapse, 5, 5), Errno::Invalid),
        (allocate(a, Allocate::Insert, 10, 1), Errno::Invalid),
        (allocate(a, Allocate::Insert, 5, FILE_SIZE_MAX - 9), Errno::TooBig),
        (allocate(Ino(99), Allocate::Extend, 0, 1), Errno::Stale),
    ];
    for (op, errno) in cases {
        assert_eq!(fs.run(&op), Err(errno), "{op:?}");
    }
    fs.run(&allocate(a, Allocate::Insert, 5, FILE_SIZE_MAX - 10)).expect("up to the limit");
    assert_eq!(fs.stat("a").expect("a file").size, FILE_SIZE_MAX);
    fs.run(&allocate(a, Allocate::Collapse, 5, FILE_SIZE_MAX - 10)).expect("and back");
    let copy = |from: Ino, from_offset, to: Ino, to_offset, len| Op::Copy {
        from: Target::Ino(from),
        from_offset,
        to: Target::Ino(to),
        to_offset,
        len,
    };
    let cases = [
        (copy(dir, 0, a, 0, 1), Errno::IsADirectory),
        (copy(a, 0, dir, 0, 1), Errno::IsADirectory),
        (copy(fifo, 0, a, 0, 1), Errno::Invalid),
        (copy(a, 0, socket, 0, 1), Errno::Invalid),
        (copy(a, 1 << 63, a, 0, 1), Errno::Invalid),
        (copy(a, 1, a, 0, u64::MAX), Errno::Overflow),
        (copy(a, 0, a, FILE_SIZE_MAX, 1), Errno::TooBig),
        (copy(a, 0, a, 9, 10), Errno::Invalid),
    ];
    for (op, errno) in cases {
        assert_eq!(fs.run(&op), Err(errno), "{op:?}");
    }
    assert_eq!(fs.run(&copy(a, 10, a, 0, 5)), Ok(Outcome::Copied { len: 0 }));
    assert_eq!(fs.run(&copy(a, 0, a, FILE_SIZE_MAX - 3, 5)), Ok(Outcome::Copied { len: 3 }));
    assert_eq!(fs.tree.seek_hole(dir, 0), Err(Errno::IsADirectory.into()));
    assert_eq!(fs.tree.seek_data(fifo, 0), Err(Errno::Invalid.into()));
}

#[test]
fn who_names_a_file_needs_its_permissions() {
    let (mut fs, _) = two_files();
    fs.write("a", WriteAt::Offset(0), 30).expect("a file");
    fs.chmod("a", 0o600).expect("it is there");
    fs.chmod("b", 0o644).expect("it is there");
    let user = Credential::user(5, 6, &[]);
    let copy = |from: &str, to: &str| Op::Copy {
        from: path(from, true),
        from_offset: 0,
        to: path(to, true),
        to_offset: 0,
        len: 1,
    };
    let write = Op::Write { target: path("b", true), at: WriteAt::End, len: 1 };
    let punch = Op::Allocate { target: path("b", true), mode: Allocate::PunchHole, offset: 0, len: 1 };
    let truncate = Op::Truncate { target: path("b", true), size: 9 };
    for op in [copy("a", "b"), copy("b", "a"), write, punch, truncate] {
        assert_eq!(fs.run_as(&user, &op), Err(Errno::AccessDenied), "{op:?}");
    }
    fs.chmod("a", 0o606).expect("it is there");
    fs.run_as(&user, &copy("b", "a")).expect("b may be read, a written");
}

/// A file that others wrote to does not run with the rights that it was given before.
#[test]
fn set_id_bits_and_capabilities_go_with_a_change() {
    let (_, [a, b]) = two_files();
    let target = Target::Ino(a);
    let ops = [
        Op::Write { target: target.clone(), at: WriteAt::End, len: 1 },
        Op::Truncate { target: target.clone(), size: 5 },
        allocate(a, Allocate::KeepSize, 0, 1),
        allocate(a, Allocate::Extend, 0, 100),
        allocate(a, Allocate::PunchHole, 0, 1),
        allocate(a, Allocate::ZeroRange { keep_size: false }, 0, 1),
        allocate(a, Allocate::Collapse, 0, 1),
        allocate(a, Allocate::Insert, 0, 1),
        Op::Copy { from: Target::Ino(b), from_offset: 0, to: target, to_offset: 0, len: 3 },
    ];
    for op in ops {
        for (capabilities, mode) in [(Capabilities::NONE, 0o755), (Capabilities::FSETID, 0o6755)] {
            let (mut fs, _) = two_files();
            for name in ["a", "b"] {
                fs.write(name, WriteAt::End, 10).expect("a file");
            }
            fs.chmod("a", 0o6755).expect("it is there");
            let capability = [&[0, 0, 0, 2][..], &[0; 16]].concat();
            fs.set_xattr("a", "security.capability", &capability).expect("root may");
            let writer = Credential { capabilities, ..Credential::user(0, 0, &[]) };
            let before = fs.stat("a").expect("it is there").times;
            fs.run_as(&writer, &op).expect("it is open");
            let attr = fs.stat("a").expect("it is there");
            assert_eq!(attr.mode, mode, "{op:?}");
            assert_eq!(fs.xattr("a", "security.capability"), Err(Errno::NoAttribute), "{op:?}");
            assert!(attr.times.modified > before.modified && attr.times.changed > before.changed, "{op:?}");
            assert_eq!(fs.tree.check(), Ok(()));
        }
    }
}

#[test]
fn the_time_of_last_access_follows_the_policy() {
    let day: i64 = 24 * 60 * 60 * 1_000_000_000;
    let (mut fs, [a, _]) = two_files();
    let at = |nanos| SetTime::At(Timestamp::from_nanos(nanos));
    let mut accessed = |policy, atime: i64, mtime: i64, now: i64| {
        fs.now = 10;
        fs.set_times("a", at(atime), at(mtime)).expect("it is there");
        (fs.now, fs.atime) = (now - 1, policy);
        fs.run(&Op::Accessed { ino: a }).expect("it is there");
        let got = fs.stat("a").expect("it is there").times;
        assert_eq!((got.modified, got.changed.as_nanos()), (Timestamp::from_nanos(mtime), 11));
        got.accessed.as_nanos()
    };
    assert_eq!(accessed(AtimePolicy::Never, 0, 5, 90), 0);
    assert_eq!(accessed(AtimePolicy::Always, 50, 5, 90), 90);
    assert_eq!(accessed(AtimePolicy::Relative, 50, 5, 90), 50, "read after the change");
    assert_eq!(accessed(AtimePolicy::Relative, 50, 50, 90), 90, "not read since it was written");
    assert_eq!(accessed(AtimePolicy::Relative, 11, 5, 90), 90, "not read since it was changed");
    assert_eq!(accessed(AtimePolicy::Relative, 50, 5, 49 + day), 50, "read today");
    assert_eq!(accessed(AtimePolicy::Relative, 50, 5, 50 + day), 50 + day, "read yesterday");
    assert_eq!(accessed(AtimePolicy::Relative, i64::MIN, i64::MIN, i64::MAX), i64::MAX);
    fs.now = 0;
    assert_eq!(fs.run(&Op::Accessed { ino: Ino(99) }), Err(Errno::Stale));
}

/// A file of so many runs of one byte, none of which continues the one before.
fn in_runs(runs: usize) -> (Tree, Ino) {
    let mut fs = Fs::new();
    fs.create("f").expect("a new file");
    let (ino, mut tree) = (fs.ino("f"), fs.tree);
    let time = Timestamp::default();
    for offset in 0..runs as u64 {
        let place = Place { segment: SegmentId(1), position: 64 + (runs as u64 - offset) * 2 };
        tree.apply(&Change::Write { ino, offset, len: 1, time }, place).expect("it fits");
    }
    (tree, ino)
}

fn copy(ino: Ino, from_offset: u64, to_offset: u64, len: u64) -> Op {
    Op::Copy { from: Target::Ino(ino), from_offset, to: Target::Ino(ino), to_offset, len }
}

/// Else each copy of a file to its own end would double its runs.
#[test]
fn a_copy_stops_after_so_many_runs() {
    const MOST: u64 = COPY_RUNS_MAX as u64;
    let (tree, ino) = in_runs(COPY_RUNS_MAX + 10);
    let context = Context::new(Timestamp::default());
    let end = MOST + 10;
    // Offset and length that are asked for, and what is copied.
    for (from, len, copied) in [
        (0, MOST, MOST),
        (0, MOST + 1, MOST),
        (0, end, MOST),
        (0, u64::MAX / 2, MOST),
        (5, end, MOST),
        (10, MOST, MOST),
        (11, end, MOST - 1),
    ] {
        let asked = copy(ino, from, 2 * end, len);
        let there = len.min(end - from);
        assert_eq!(tree.copy_len(ino, from, there), Ok(copied));
        let decision = decide(&tree, &context, &asked).expect("a part is copied");
        assert_eq!(decision.outcome, Outcome::Copied { len: copied }, "{asked:?}");
        let [Change::Share { len: shared, .. }] = decision.changes[..] else { panic!("one Change") };
        assert_eq!(shared, copied);
        let batch = decide_batch(&tree, &context, &[asked], Place::default());
        let expected =
            if there == copied { Ok(1) } else { Err(BatchError { index: 0, fault: Errno::TooBig.into() }) };
        assert_eq!(batch.map(|batch| batch.changes.len()), expected, "a batch copies all, or nothing");
    }
    // A hole counts for nothing, and what is copied may be longer than there are runs.
    let (mut sparse, ino) = in_runs(COPY_RUNS_MAX);
    let time = Timestamp::default();
    sparse.apply(&Change::Truncate { ino, size: 1 << 40, time }, Place::default()).expect("it fits");
    assert_eq!(sparse.copy_len(ino, 0, 1 << 40), Ok(1 << 40));
    // A made-up journal does no more either.
    let (from, to) = (ino, ino);
    let (mut tree, _) = in_runs(COPY_RUNS_MAX + 10);
    let share = |len| Change::Share { from, from_offset: 0, to, to_offset: 2 * end, len, time };
    assert!(tree.apply(&share(MOST + 1), Place::default()).is_err());
    tree.apply(&share(MOST), Place::default()).expect("it fits");
    assert_eq!(tree.check(), Ok(()));
}

/// What is behind the range is moved run by run, while all others wait.
#[test]
fn collapse_and_insert_move_only_so_many_runs() {
    let (mut tree, ino) = in_runs(SHIFT_RUNS_MAX + 1);
    let context = Context::new(Timestamp::default());
    for mode in [Allocate::Collapse, Allocate::Insert] {
        assert_eq!(
            decide(&tree, &context, &allocate(ino, mode, 0, 1)),
            Err(Errno::TooBig.into()),
            "{mode:?}"
        );
        decide(&tree, &context, &allocate(ino, mode, 1, 1)).expect("what is before it counts for nothing");
    }
    for mode in [Allocate::PunchHole, Allocate::ZeroRange { keep_size: true }] {
        decide(&tree, &context, &allocate(ino, mode, 0, 1)).expect("it moves nothing");
    }
    let time = Timestamp::default();
    tree.apply(&Change::Punch { ino, offset: 9, len: 1, time }, Place::default()).expect("it fits");
    for mode in [Allocate::Collapse, Allocate::Insert] {
        decide(&tree, &context, &allocate(ino, mode, 0, 1)).expect("it moves as many as may be");
    }
}
