//! What comes from a damaged or foreign journal or image: refused, without a trace, or a sound tree.

use std::sync::Arc;

use rfs_core::{
    Body, Change, CommitId, Cookie, Extent, Ino, Item, Limits, LockMode, LockOwner, LockRange, Name, Node,
    OwnerId, Place, QuotaSubject, Replaced, SegmentId, Timestamp, Tree, XattrName, XattrValue,
};

use crate::random::step;
use crate::support::{Fs, GROUP_OBJ, NOBODY, OTHER, Random, USER_OBJ, acl, items, state_hash};

fn any_ino(random: &mut Random) -> Ino {
    Ino(if random.one_in(12) { random.extreme() } else { random.below(14) })
}

fn any_name(random: &mut Random) -> Name {
    Name::new(random.pick(&["a", "b", "c", "d"]).as_bytes()).expect("a name")
}

/// A Change of arbitrary numbers; mostly they are taken from the tree, so that it nearly fits.
fn any_change(random: &mut Random, tree: &Tree) -> Change {
    let time = Timestamp::from_nanos(random.next().cast_signed());
    let (mut ino, mut parent, mut name) = (any_ino(random), any_ino(random), any_name(random));
    let reap = random.one_in(2);
    let entries: Vec<_> = items(tree)
        .filter_map(|item| if let Item::Entry(key, entry) = item { Some((key, entry)) } else { None })
        .collect();
    let (mut to_parent, mut to_name, mut replaced) = (any_ino(random), any_name(random), None);
    if !entries.is_empty() && !random.one_in(5) {
        let (key, entry) = random.pick(&entries);
        (ino, parent, name) = (entry.ino, key.parent, key.name);
        let (key, entry) = random.pick(&entries);
        if random.one_in(2) {
            (to_parent, to_name) = (key.parent, key.name);
            replaced = Some(Replaced { ino: entry.ino, reap });
        }
    }
    let owner = OwnerId(random.below(3));
    if random.one_in(3) {
        return any_change_of_content_or_holds(random, ino, replaced.map_or(ino, |replaced| replaced.ino));
    }
    match random.below(24) {
        0..3 => {
            let next =
                items(tree).find_map(|item| if let Item::NextIno(ino) = item { Some(ino) } else { None });
            let ino = if random.one_in(4) { ino } else { next.expect("a tree has one") };
            let target = |bytes: &[u8]| Node::Symlink(Arc::from(bytes));
            let long = vec![b'l'; 4095 + random.below(2) as usize];
            let node = random.pick(&[
                Node::File,
                Node::File,
                Node::Directory,
                Node::Directory,
                Node::Fifo,
                Node::CharDevice(u64::MAX),
                target(b"a"),
                target(b""),
                target(b"a\0"),
                target(&long),
            ]);
            let mode = random.pick(&[0o644, 0o644, 0o644, 0o10_000, u32::MAX]);
            let parent = if random.one_in(2) { parent } else { Ino::ROOT };
            Change::Create { parent, name: any_name(random), ino, node, mode, uid: 1, gid: 2, time }
        }
        3 => Change::Link { parent, name: any_name(random), ino, time },
        4 => Change::Unlink { parent, name, ino, reap, time },
        5 => Change::Rmdir { parent, name, ino, reap, time },
        6..9 => {
            Change::Rename { from_parent: parent, from_name: name, to_parent, to_name, ino, replaced, time }
        }
        9 => Change::Write { ino, offset: random.extreme(), len: random.extreme(), time },
        10 => Change::Truncate { ino, size: random.extreme(), time },
        11 => Change::SetAttr {
            ino,
            mode: random.pick(&[None, Some(0o600), Some(u32::MAX)]),
            uid: Some(4),
            gid: None,
            accessed: Some(time),
            modified: None,
            time,
        },
        12 => Change::Lock { ino, owner, mode: random.pick(&[LockMode::Shared, LockMode::Exclusive]) },
        13 => Change::Unlock { ino, owner },
        14 if random.one_in(6) => Change::NewSession,
        14 => Change::Reap { ino },
        15..18 => Change::Exchange {
            first_parent: parent,
            first_name: name,
            first: ino,
            second_parent: to_parent,
            second_name: to_name,
            second: replaced.map_or(ino, |replaced| replaced.ino),
            time,
        },
        18 => {
            let next =
                items(tree).find_map(|item| if let Item::NextIno(ino) = item { Some(ino) } else { None });
            let ino = if random.one_in(4) { ino } else { next.expect("a tree has one") };
            let mode = random.pick(&[0o600, 0o600, 0o10_000]);
            Change::CreateNameless { ino, owner, linkable: reap, mode, uid: 1, gid: 2, time }
        }
        19..21 => {
            let value = random.pick(&[b"".to_vec(), acl(&[]), list(), [list(), vec![0; 8]].concat()]);
            let value = XattrValue::new(&value).expect("a value");
            Change::SetXattr { ino, name: any_xattr(random), value, time }
        }
        21 => Change::RemoveXattr { ino, name: any_xattr(random), time },
        22 => Change::Access { ino, time },
        _ => {
            let name = random.pick(&["x".to_owned(), String::new(), "l".repeat(300)]);
            let commit = CommitId { epoch: random.extreme(), number: random.extreme() };
            if reap { Change::AddCheckpoint { name, commit, time } } else { Change::DropCheckpoint { name } }
        }
    }
}

fn any_change_of_content_or_holds(random: &mut Random, ino: Ino, other: Ino) -> Change {
    let time = Timestamp::from_nanos(random.next().cast_signed());
    let (offset, len) = (random.extreme(), random.extreme());
    let owner = OwnerId(random.below(3));
    let locker = LockOwner { owner, key: random.below(2) };
    let range = LockRange { start: offset, end: if random.one_in(4) { LockRange::END } else { len } };
    let mode = random.pick(&[LockMode::Shared, LockMode::Exclusive]);
    match random.below(15) {
        14 => {
            let from = Place { segment: SegmentId(random.below(3)), position: random.extreme() };
            Change::Relocate { ino, offset: random.below(9), len: 1 + random.below(3), from }
        }
        0 => Change::Punch { ino, offset, len, time },
        1 => Change::Collapse { ino, offset, len, time },
        2 => Change::Insert { ino, offset, len, time },
        3 => Change::Write { ino, offset: random.below(9), len: 1 + random.below(9), time },
        4..6 => {
            let to_offset = random.extreme();
            Change::Share { from: ino, from_offset: offset, to: other, to_offset, len, time }
        }
        6 => Change::LockFile { ino, owner: locker, mode },
        7 => Change::UnlockFile { ino, owner: locker },
        8 => Change::LockRange { ino, owner: locker, range, mode },
        9 => Change::UnlockRange { ino, owner: locker, range },
        10 => Change::Hold { ino, owner },
        11 => Change::LetGo { ino, owner },
        12 if random.one_in(3) => Change::EndOwner { owner },
        _ => {
            let subject =
                random.pick(&[QuotaSubject::Volume, QuotaSubject::User(1), QuotaSubject::User(u32::MAX)]);
            let limit = |random: &mut Random| (!random.one_in(3)).then(|| random.extreme());
            let limits = Limits { bytes: limit(random), inodes: limit(random) };
            Change::SetQuota { subject, limits }
        }
    }
}

fn any_xattr(random: &mut Random) -> XattrName {
    let names = ["user.a", "trusted.", "system.a", "system.posix_acl_access", "system.posix_acl_default"];
    XattrName::new(random.pick(&names).as_bytes()).expect("a name")
}

/// A POSIX ACL.
fn list() -> Vec<u8> {
    acl(&[(USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 0, NOBODY)])
}

#[test]
fn any_change_leaves_a_sound_tree() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        for number in 0..400 {
            let change = any_change(&mut random, &fs.tree);
            let place = Place { segment: SegmentId(random.extreme()), position: random.extreme() };
            let before = fs.tree.clone();
            if let Err(error) = fs.tree.apply(&change, place) {
                assert_eq!(fs.tree, before, "seed {seed}, Change {number}: {error}");
                refused += 1;
            } else {
                assert_eq!(fs.tree.check(), Ok(()), "seed {seed}, Change {number}: {change:?}");
                done += 1;
            }
        }
        let rebuilt = Tree::from_items(items(&fs.tree));
        assert_eq!(rebuilt.as_ref(), Ok(&fs.tree), "seed {seed}");
    }
    assert!(done > 2000 && refused > 2000, "{done} done, {refused} refused");
}

fn damaged(random: &mut Random, item: &mut Item) {
    let number = random.extreme();
    match item {
        Item::NextIno(ino) | Item::Linkable(ino) => ino.0 = number,
        Item::FileLock { ino, owner, mode } => match random.below(4) {
            0 => ino.0 = number,
            1 => owner.owner.0 = number,
            2 => owner.key = number,
            _ => *mode = LockMode::Exclusive,
        },
        Item::RangeLock { ino, owner, range, mode } => match random.below(6) {
            0 => ino.0 = number,
            1 => owner.owner.0 = number,
            2 => owner.key = number,
            3 => range.start = number,
            4 => range.end = number,
            _ => *mode = LockMode::Exclusive,
        },
        Item::Quota { subject, limits } => match random.below(3) {
            0 => *subject = QuotaSubject::User(number as u32),
            1 => limits.bytes = Some(number),
            _ => *limits = Limits::default(),
        },
        Item::Inode(ino, inode) => match random.below(8) {
            0 => ino.0 = number,
            1 => inode.nlink = number as u32,
            2 => inode.size = number,
            3 => inode.mode = number as u32,
            4 => inode.body = Body::Directory { parent: Ino(number), entries: number, next_cookie: number },
            5 => inode.body = Body::Symlink { target: Arc::from([b'x'; 3]) },
            _ => match &mut inode.body {
                Body::Directory { parent, entries, next_cookie } => match random.below(3) {
                    0 => parent.0 = number,
                    1 => *entries = number,
                    _ => *next_cookie = number,
                },
                _ => inode.body = Body::File,
            },
        },
        Item::Entry(key, entry) => match random.below(5) {
            0 => key.parent.0 = number,
            1 => entry.ino.0 = number,
            2 => entry.cookie = Cookie(number),
            3 => entry.kind = rfs_core::Kind::Symlink,
            _ => key.name = any_name(random),
        },
        Item::Extent { ino, offset, extent } => match random.below(5) {
            0 => ino.0 = number,
            1 => *offset = number,
            2 => extent.len = number,
            3 => extent.place.position = number,
            _ => extent.place.segment.0 = number,
        },
        Item::Lock { ino, owner, .. } | Item::Hold { ino, owner } => {
            if random.one_in(2) {
                ino.0 = number;
            } else {
                owner.0 = number;
            }
        }
        Item::Xattr { ino, name, value } => match random.below(3) {
            0 => ino.0 = number,
            1 => *name = any_xattr(random),
            _ => *value = XattrValue::new(&list()[random.below(20) as usize..]).expect("a value"),
        },
        _ => *item = Item::Lock { ino: Ino(number), owner: OwnerId(number), mode: LockMode::Exclusive },
    }
}

#[test]
fn damaged_items_are_refused_or_make_a_sound_tree() {
    let (mut sound, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        for _ in 0..120 {
            let _ = step(&mut random, &mut fs);
        }
        let items: Vec<Item> = items(&fs.tree).collect();
        for _ in 0..20 {
            let mut items = items.clone();
            for _ in 0..=random.below(2) {
                let at = random.below(items.len() as u64) as usize;
                match random.below(8) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => damaged(&mut random, &mut items[at]),
                }
            }
            match Tree::from_items(items) {
                Err(violations) => {
                    assert!(!violations.is_empty() && violations.len() <= 100);
                    refused += 1;
                }
                Ok(tree) => {
                    // Whatever numbers it holds, it can be worked on.
                    sound += 1;
                    let mut other = Fs { tree, ..Fs::new() };
                    for _ in 0..20 {
                        if let Ok(decision) = other.decide(&crate::random::any_op(&mut random, &fs)) {
                            for change in &decision.changes {
                                let _ = other.tree.apply(change, Place::default());
                            }
                        }
                        assert_eq!(other.tree.check(), Ok(()), "seed {seed}");
                    }
                }
            }
        }
    }
    assert!(sound > 50 && refused > 500, "{sound} sound, {refused} refused");
}

#[test]
fn numbers_at_their_end_are_refused() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    let ino = fs.ino("a");
    let last = Item::NextIno(Ino(u64::MAX));
    let exhausted =
        items(&fs.tree).map(|item| if matches!(item, Item::NextIno(_)) { last.clone() } else { item });
    fs.tree = Tree::from_items(exhausted).expect("sound");
    assert_eq!(fs.create("b"), Err(rfs_core::Errno::NoSpace));

    let write = Change::Write { ino, offset: 0, len: 2, time: Timestamp::default() };
    let place = Place { segment: SegmentId(0), position: u64::MAX - 1 };
    let error = fs.tree.apply(&write, place).expect_err("past the end of a segment").to_string();
    assert!(error.contains("Write") && error.contains("inodes [2]"), "{error}");

    let mut fs = Fs::new();
    for name in ["a", "b", "c"] {
        fs.create(name).expect("a new file");
        let (len, time) = (rfs_core::FILE_SIZE_MAX, Timestamp::default());
        let change = Change::Write { ino: fs.ino(name), offset: 0, len, time };
        assert_eq!(fs.tree.apply(&change, Place::default()).is_ok(), name != "c", "2^64 live bytes");
    }
    assert_eq!(fs.tree.check(), Ok(()));
    let exhausted = items(&fs.tree).map(|item| match item {
        Item::Inode(Ino::ROOT, mut root) => {
            root.body = Body::Directory { parent: Ino::ROOT, entries: 3, next_cookie: u64::MAX };
            Item::Inode(Ino::ROOT, root)
        }
        other => other,
    });
    fs.tree = Tree::from_items(exhausted).expect("sound");
    assert_eq!(fs.create("d"), Err(rfs_core::Errno::NoSpace));
    assert_eq!(fs.link("a", "d"), Err(rfs_core::Errno::NoSpace));
    assert_eq!(fs.rename("a", "d"), Err(rfs_core::Errno::NoSpace));
    fs.rename("a", "b").expect("b's cookie is kept");
}

#[test]
fn two_entries_with_one_cookie_are_found() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    fs.create("b").expect("a new file");
    let items = items(&fs.tree).map(|item| match item {
        Item::Entry(key, entry) => Item::Entry(key, rfs_core::Entry { cookie: Cookie(1), ..entry }),
        other => other,
    });
    let violations = Tree::from_items(items).expect_err("one cookie");
    assert!(violations[0].to_string().contains("has its cookie"), "{violations:?}");
}

#[test]
fn directories_in_a_circle_are_found() {
    let mut fs = Fs::new();
    for path in ["a", "a/b", "a/b/c"] {
        fs.mkdir(path).expect("a new directory");
    }
    let (a, c) = (fs.ino("a"), fs.ino("a/b/c"));
    // The entry of `a` moves from the root into `c`; every count is adjusted.
    let items = items(&fs.tree).map(|item| match item {
        Item::Inode(Ino::ROOT, mut root) => {
            root.nlink = 2;
            root.body = Body::Directory { parent: Ino::ROOT, entries: 0, next_cookie: 2 };
            Item::Inode(Ino::ROOT, root)
        }
        Item::Inode(ino, mut inode) if ino == a => {
            inode.body = Body::Directory { parent: c, entries: 1, next_cookie: 2 };
            Item::Inode(ino, inode)
        }
        Item::Inode(ino, mut inode) if ino == c => {
            inode.nlink = 3;
            inode.body = Body::Directory { parent: fs.ino("a/b"), entries: 1, next_cookie: 2 };
            Item::Inode(ino, inode)
        }
        Item::Entry(mut key, entry) if entry.ino == a => {
            key.parent = c;
            Item::Entry(key, entry)
        }
        other => other,
    });
    let violations = Tree::from_items(items).expect_err("a circle");
    assert!(
        violations.iter().all(|violation| violation.to_string().contains("hold one another")),
        "{violations:?}"
    );
}

#[test]
fn extents_that_could_be_one_are_found() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    let ino = fs.ino("a");
    fs.truncate("a", 20).expect("a file");
    let extent = |offset, position, len| Item::Extent {
        ino,
        offset,
        extent: Extent { place: Place { segment: SegmentId(1), position }, len },
    };
    let with = |extra: [Item; 2]| Tree::from_items(items(&fs.tree).chain(extra));
    let sound = with([extent(0, 0, 5), extent(5, 6, 5)]).expect("two places");
    assert_ne!(state_hash(&sound), state_hash(&fs.tree));
    for wrong in [
        [extent(0, 0, 5), extent(5, 5, 5)],
        [extent(0, 0, 6), extent(5, 9, 5)],
        [extent(0, 0, 5), extent(18, 9, 3)],
        [extent(0, 0, 5), extent(7, 9, 0)],
        [extent(0, u64::MAX, 5), extent(7, 9, 1)],
    ] {
        let violations = with(wrong).expect_err("wrong");
        assert!(violations[0].to_string().starts_with("extent of inode 2 at"), "{violations:?}");
    }
}
