//! The content of files against a table that says of each byte where it is.

use std::collections::BTreeMap;

use rfs_core::{
    Allocate, At, Batch, Change, Context, Credential, Errno, Ino, Node, Op, Place, SegmentId, Target,
    Timestamp, Tree, WriteAt, decide,
};

use crate::support::{Fs, Random, live_bytes, state_hash};

/// Where a byte is.
type Byte = Option<(u64, u64)>;

fn bytes_of(tree: &Tree, ino: Ino) -> Vec<Byte> {
    let mut bytes = Vec::new();
    for run in tree.file_ranges(ino, 0..u64::MAX).expect("a file") {
        assert_eq!(run.range.start, bytes.len() as u64, "runs follow each other");
        bytes.extend(
            (0..run.range.end - run.range.start)
                .map(|skip| run.place.map(|place| (place.segment.0, place.position + skip))),
        );
    }
    bytes
}

fn any_content_change(random: &mut Random, ino: Ino) -> (Change, Place) {
    let time = Timestamp::from_nanos(1);
    let change = if random.one_in(6) {
        Change::Truncate { ino, size: random.below(50), time }
    } else {
        Change::Write { ino, offset: random.below(40), len: 1 + random.below(12), time }
    };
    (change, Place { segment: SegmentId(random.below(3)), position: random.below(20) })
}

#[test]
fn extents_say_of_each_byte_where_it_is() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.create("a").expect("a new file");
        fs.create("b").expect("a new file");
        let inos = [fs.ino("a"), fs.ino("b")];
        let mut table: BTreeMap<Ino, Vec<Byte>> = inos.map(|ino| (ino, Vec::new())).into();
        for _ in 0..120 {
            let ino = random.pick(&inos);
            let (change, place) = any_content_change(&mut random, ino);
            fs.tree.apply(&change, place).expect("it fits");
            let bytes = table.get_mut(&ino).expect("one of the two");
            match change {
                Change::Truncate { size, .. } => bytes.resize(size as usize, None),
                Change::Write { offset, len, .. } => {
                    bytes.resize(bytes.len().max((offset + len) as usize), None);
                    for skip in 0..len {
                        bytes[(offset + skip) as usize] = Some((place.segment.0, place.position + skip));
                    }
                }
                _ => unreachable!("only content changes"),
            }
            for (ino, bytes) in &table {
                assert_eq!(&bytes_of(&fs.tree, *ino), bytes, "seed {seed}");
            }
            assert_eq!(fs.tree.check(), Ok(()), "seed {seed}");
            let live = live_bytes(&fs.tree);
            let written = table.values().flatten().flatten().count() as u64;
            assert_eq!(live, written, "seed {seed}");
        }
        for name in ["a", "b"] {
            fs.unlink(name).expect("it is there");
        }
        assert!(fs.tree.segments().is_empty());
    }
}

/// Bytes that are stored anew read the same, whatever is between; where they are not as they were read, nothing happens.
#[test]
fn relocated_bytes_are_the_same() {
    let (mut moved, mut raced) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.create("a").expect("a new file");
        fs.create("b").expect("a new file");
        let inos = [fs.ino("a"), fs.ino("b")];
        // What each place of the journal holds, and each file.
        let mut journal: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut contents: BTreeMap<Ino, Vec<u64>> = inos.map(|ino| (ino, Vec::new())).into();
        let mut end = 0;
        let mut looked = Vec::new();
        for step in 1..=150 {
            let ino = random.pick(&inos);
            let time = Timestamp::from_nanos(step);
            let place = Place { segment: SegmentId(end / 40), position: end % 40 };
            if random.one_in(2) {
                let (offset, len) = (random.below(40), 1 + random.below(12));
                fs.tree.apply(&Change::Write { ino, offset, len, time }, place).expect("it fits");
                let bytes = contents.get_mut(&ino).expect("one of the two");
                bytes.resize(bytes.len().max((offset + len) as usize), 0);
                for skip in 0..len {
                    let byte = step.cast_unsigned() * 100 + skip;
                    bytes[(offset + skip) as usize] = byte;
                    journal.insert((place.segment.0, place.position + skip), byte);
                }
                end += len;
            } else if random.one_in(5) {
                let (from, to) = (inos[0], inos[1]);
                let len = contents[&from].len() as u64;
                if len > 0 {
                    let share = Change::Share { from, from_offset: 0, to, to_offset: 3, len, time };
                    fs.tree.apply(&share, place).expect("it fits");
                    let bytes = contents[&from].clone();
                    let shared = contents.get_mut(&to).expect("one of the two");
                    shared.resize(shared.len().max(bytes.len() + 3), 0);
                    shared[3..3 + bytes.len()].copy_from_slice(&bytes);
                }
            } else {
                for run in fs.tree.file_ranges(ino, 0..u64::MAX).expect("a file") {
                    looked.extend(run.place.map(|place| (ino, run.range, place)));
                }
            }
            if random.one_in(2) && !looked.is_empty() {
                // It may be long ago that somebody looked.
                let (ino, range, from) = looked.swap_remove(random.below(looked.len() as u64) as usize);
                let skip = random.below(range.end - range.start);
                let len = 1 + random.below(range.end - range.start - skip);
                let (offset, from) = (range.start + skip, Place { position: from.position + skip, ..from });
                let place = Place { segment: SegmentId(end / 40), position: end % 40 };
                let before = fs.tree.clone();
                let mut batch = Batch::new(&fs.tree, place);
                let is_there = batch.relocate(ino, offset, len, from).expect("nothing is missing");
                let relocate = Change::Relocate { ino, offset, len, from };
                assert_eq!(fs.tree.apply(&relocate, place).is_ok(), is_there);
                assert_eq!(fs.tree, batch.tree);
                assert_eq!(batch.changes, if is_there { vec![relocate] } else { Vec::new() });
                assert_eq!(live_bytes(&fs.tree), live_bytes(&before));
                assert_eq!(fs.tree.attr(ino), before.attr(ino));
                if is_there {
                    moved += 1;
                    for skip in 0..len {
                        let byte = journal[&(from.segment.0, from.position + skip)];
                        journal.insert((place.segment.0, place.position + skip), byte);
                    }
                    end += len;
                } else {
                    raced += 1;
                    assert_eq!(fs.tree, before);
                }
            }
            for (ino, bytes) in &contents {
                let places = bytes_of(&fs.tree, *ino);
                let read: Vec<u64> = places.iter().map(|at| at.map_or(0, |at| journal[&at])).collect();
                assert_eq!(&read, bytes, "seed {seed}");
            }
            assert_eq!(fs.tree.check(), Ok(()), "seed {seed}");
        }
    }
    assert!(moved > 100 && raced > 100, "{moved} moved, {raced} refused");
}

#[test]
fn adjacent_writes_are_one_write() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.create("a").expect("a new file");
        let ino = fs.ino("a");
        for _ in 0..random.below(12) {
            let (change, place) = any_content_change(&mut random, ino);
            fs.tree.apply(&change, place).expect("it fits");
        }
        let mut merged = fs.tree.clone();
        let (start, time) = (random.below(40), Timestamp::from_nanos(9));
        let place = Place { segment: SegmentId(random.below(4)), position: random.below(20) };
        let mut len = 0;
        for _ in 0..2 + random.below(4) {
            let part = 1 + random.below(10);
            let change = Change::Write { ino, offset: start + len, len: part, time };
            let at = Place { position: place.position + len, ..place };
            fs.tree.apply(&change, at).expect("it fits");
            len += part;
        }
        merged.apply(&Change::Write { ino, offset: start, len, time }, place).expect("it fits");
        assert_eq!(fs.tree, merged, "seed {seed}");
        assert_eq!(state_hash(&fs.tree), state_hash(&merged), "seed {seed}");
        assert_eq!(merged.check(), Ok(()), "seed {seed}");
    }
}

#[test]
fn ranges_are_clipped_and_holes_are_told() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    let ino = fs.ino("a");
    let place = Place { segment: SegmentId(7), position: 100 };
    fs.tree
        .apply(&Change::Write { ino, offset: 10, len: 10, time: Timestamp::default() }, place)
        .expect("it fits");
    fs.truncate("a", 30).expect("a file");
    let runs = fs.tree.file_ranges(ino, 5..25).expect("a file");
    let shown: Vec<_> = runs.iter().map(|run| (run.range.clone(), run.place.map(|at| at.position))).collect();
    assert_eq!(shown, [(5..10, None), (10..20, Some(100)), (20..25, None)]);
    assert!(fs.tree.file_ranges(ino, 30..u64::MAX).expect("a file").is_empty());
    let inside = fs.tree.file_ranges(ino, 12..14).expect("a file");
    assert_eq!(inside[0].place, Some(Place { position: 102, ..place }));
    assert_eq!(fs.tree.lookup(&Credential::root(), &At::root("a"), true), Ok(ino));
}

/// Content by a path is opened for it, as it were: what a volume does not open has none.
#[test]
fn content_by_path_is_refused_as_an_open_would_be() {
    let mut fs = Fs::new();
    let context = Context::new(Timestamp::from_nanos(9));
    for op in [
        Op::Mknod { at: At::root("fifo"), node: Node::Fifo, mode: 0o666 },
        Op::Symlink { target: b"fifo".to_vec(), at: At::root("link") },
        Op::Mkdir { at: At::root("dir"), mode: 0o777 },
    ] {
        for change in decide(&fs.tree, &context, &op).expect("a free name").changes {
            fs.tree.apply(&change, Place::default()).expect("it fits");
        }
    }
    let target = |path: &str| Target::Path { at: At::root(path), follow: false };
    for (path, errno) in
        [("fifo", Errno::NoSuchData), ("link", Errno::TooManySymlinks), ("dir", Errno::IsADirectory)]
    {
        let target = target(path);
        let write = Op::Write { target: target.clone(), at: WriteAt::End, len: 3 };
        let allocate = Op::Allocate { target: target.clone(), mode: Allocate::Extend, offset: 0, len: 9 };
        let copy = Op::Copy { from: target.clone(), from_offset: 0, to: target, to_offset: 0, len: 1 };
        for op in [write, allocate, copy] {
            assert_eq!(decide(&fs.tree, &context, &op), Err(errno.into()), "{op:?}");
        }
    }
}
