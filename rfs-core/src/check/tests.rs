//! Each invariant, broken.

use std::sync::Arc;

use super::*;
use crate::tree::RangeLock;
use crate::{
    Access, At, Context, Cookie, Entry, Limits, Node, Op, OpenFlags, OwnerId, Place, QuotaSubject, Target,
    Timestamp, WriteAt, XattrMode, XattrName, XattrValue, decide,
};

/// The owner that holds what is open.
const HOLDER: OwnerId = OwnerId(1);

const fn locker(key: u64) -> LockOwner {
    LockOwner { owner: HOLDER, key }
}

/// `d` (2) with `d/f` (3), the symlink `s` (4), locks on `d/f`, 8 bytes in it and an attribute; the directory
/// `gone` (5) and a file that never had a name (6) are open only; `p` (7) is a fifo. User 0 has a quota.
fn tree() -> Tree {
    let mut tree = Tree::new(Timestamp::default());
    let flags = OpenFlags { create: true, ..OpenFlags::default() };
    let open =
        |path| Op::Open { at: At::root(path), access: Access { read: true, write: true }, flags, mode: 0 };
    let ino = Ino(3);
    let lock = |key| Op::LockFile { ino, owner: locker(key), mode: LockMode::Shared };
    let lock_range = |key, start, end, mode| Op::LockRange {
        ino,
        owner: locker(key),
        range: LockRange { start, end },
        mode,
    };
    let ops = [
        Op::Mkdir { at: At::root("d"), mode: 0 },
        open("d/f"),
        Op::Symlink { target: b"d/f".to_vec(), at: At::root("s") },
        Op::Write { target: Target::Ino(Ino(3)), at: WriteAt::End, len: 8 },
        lock(1),
        lock(2),
        Op::Mkdir { at: At::root("gone"), mode: 0 },
        Op::Rmdir { at: At::root("gone") },
        lock_range(1, 0, 9, LockMode::Shared),
        lock_range(2, 4, 6, LockMode::Shared),
        lock_range(2, 10, 20, LockMode::Exclusive),
        Op::SetXattr {
            target: Target::Ino(ino),
            name: b"user.x".to_vec(),
            value: b"y".to_vec(),
            mode: XattrMode::Set,
        },
        Op::OpenNameless {
            dir: Target::Ino(Ino::ROOT),
            access: Access { read: true, write: true },
            linkable: true,
            mode: 0,
        },
        Op::Mknod { at: At::root("p"), node: Node::Fifo, mode: 0 },
        Op::SetQuota { subject: QuotaSubject::User(0), limits: Limits { bytes: Some(100), inodes: None } },
    ];
    let holders = |_| vec![HOLDER];
    let context = Context { holders: &holders, owner: HOLDER, ..Context::new(Timestamp::default()) };
    for op in ops {
        for change in decide(&tree, &context, &op).expect("it can be done").changes {
            tree.apply(&change, Place::default()).expect("it fits");
        }
    }
    tree
}

type Damage = fn(&mut Tree);

fn inode(tree: &mut Tree, ino: u64) -> &mut Inode {
    tree.inodes.get_mut(&Ino(ino)).expect("it is loaded").expect("it was made")
}

fn key(parent: u64, name: &str) -> EntryKey {
    EntryKey { parent: Ino(parent), name: Name::new(name.as_bytes()).expect("a name") }
}

#[test]
fn each_broken_invariant_is_named() {
    assert_eq!(tree().check(), Ok(()));
    let cases: [(&str, Damage); 51] = [
        ("the root is not", |tree| inode(tree, 1).body = Body::File),
        ("not among the numbers given out", |tree| tree.next_ino = Ino(5)),
        ("has unknown bits", |tree| inode(tree, 3).mode = 0o10_000),
        ("is over the limit", |tree| inode(tree, 3).size = FILE_SIZE_MAX + 1),
        ("a directory's size", |tree| inode(tree, 2).size = 1),
        ("its target has not", |tree| inode(tree, 4).body = Body::Symlink { target: Arc::from(*b"") }),
        ("the length of its target", |tree| inode(tree, 4).size = 9),
        ("but 1 names lead to it", |tree| inode(tree, 3).nlink = 2),
        ("but 3 links lead to it", |tree| inode(tree, 1).nlink = 4),
        ("counts 0 entries, but has 1", |tree| set_directory(tree, 2, 1, 0, 2)),
        ("says that 5 holds it", |tree| set_directory(tree, 2, 5, 1, 2)),
        ("its last parent 3", |tree| set_directory(tree, 5, 3, 0, 1)),
        ("a removed directory has", |tree| {
            tree.entries
                .insert(key(5, "x"), Entry { ino: Ino(3), kind: Kind::File, cookie: Cookie(1) })
                .expect("it is loaded");
        }),
        ("has 2 names instead of 1", |tree| {
            tree.entries
                .insert(key(1, "x"), Entry { ino: Ino(2), kind: Kind::Directory, cookie: Cookie(9) })
                .expect("it is loaded");
        }),
        ("its cookie is not among", |tree| set_directory(tree, 2, 1, 1, 1)),
        ("inode 3 is of another kind", |tree| {
            tree.entries
                .insert(key(2, "f"), Entry { ino: Ino(3), kind: Kind::Symlink, cookie: Cookie(1) })
                .expect("it is loaded");
        }),
        ("inode 9 does not exist", |tree| {
            tree.entries
                .insert(key(2, "f"), Entry { ino: Ino(9), kind: Kind::File, cookie: Cookie(1) })
                .expect("it is loaded");
        }),
        ("there is no such directory", |tree| {
            tree.inodes.remove(&Ino(2)).expect("it is loaded");
        }),
        ("is not listed at its cookie", |tree| {
            tree.listing.remove(&(Ino(2), Cookie(1))).expect("it is loaded");
        }),
        ("names that are no entries", |tree| {
            tree.listing.insert((Ino(2), Cookie(7)), key(2, "x").name).expect("it is loaded");
        }),
        ("is not found by its inode", |tree| {
            tree.links.remove(&(Ino(3), Ino(2), Cookie(1))).expect("it is loaded");
        }),
        ("by inode hold some that are no entries", |tree| {
            tree.links.insert((Ino(3), Ino(2), Cookie(7)), ()).expect("it is loaded");
        }),
        ("there is no such file", |tree| {
            tree.inodes.remove(&Ino(3)).expect("it is loaded");
        }),
        ("is not inside the file", |tree| inode(tree, 3).size = 7),
        ("counts 9 live bytes", |tree| {
            tree.segments.insert(SegmentId(0), 9).expect("it is loaded");
        }),
        ("but extents refer to 0", |tree| {
            tree.segments.insert(SegmentId(5), 0).expect("it is loaded");
        }),
        ("but it is not counted", |tree| {
            tree.segments.remove(&SegmentId(0)).expect("it is loaded");
        }),
        ("is listed as nameless", |tree| {
            tree.orphans.insert(Ino(3), ());
        }),
        ("is not listed as such", |tree| {
            tree.orphans.remove(&Ino(5));
        }),
        ("conflicts with the lock", |tree| {
            tree.file_locks.insert((Ino(3), locker(2)), LockMode::Exclusive);
        }),
        ("no such file or directory", |tree| {
            tree.file_locks.insert((Ino(4), locker(2)), LockMode::Shared);
        }),
        ("of what has no content", |tree| inode(tree, 7).size = 1),
        ("inode 3: counts 9 stored bytes", |tree| inode(tree, 3).allocated = 9),
        ("the tree: counts 7 stored bytes", |tree| tree.allocated = 7),
        ("inode 3: is held by owner 1, but is not", |tree| {
            tree.holds.insert((Ino(3), HOLDER), ());
        }),
        ("inode 9: is held by owner 1, but is not", |tree| {
            tree.holds.insert((Ino(9), HOLDER), ());
        }),
        ("inode 3: may get a first name", |tree| {
            tree.linkable.insert(Ino(3), ());
        }),
        ("inode 5: may get a first name", |tree| {
            tree.linkable.insert(Ino(5), ());
        }),
        ("has an attribute user.x, but does not exist", |tree| set_xattr(tree, 9, b"user.x")),
        ("its value of the attribute user.x", |tree| set_xattr(tree, 4, b"user.x")),
        ("its value of the attribute other.x", |tree| set_xattr(tree, 3, b"other.x")),
        ("inode 4 of owner", |tree| lock_range(tree, 4, 1, 0..5, LockMode::Shared)),
        ("is no range that can be locked", |tree| lock_range(tree, 3, 3, 7..7, LockMode::Shared)),
        ("its range at 5 overlaps", |tree| lock_range(tree, 3, 1, 5..12, LockMode::Exclusive)),
        ("its range at 9 is not merged", |tree| lock_range(tree, 3, 1, 9..10, LockMode::Shared)),
        ("its range at 10 conflicts", |tree| lock_range(tree, 3, 1, 0..11, LockMode::Shared)),
        ("limits nothing", |tree| {
            tree.quotas.insert(QuotaSubject::User(0), Limits::default());
        }),
        ("instead of Some(Usage { bytes: 8, inodes: 7 })", |tree| set_usage(tree, 0, 8, 6)),
        ("of user 1 instead of None", |tree| set_usage(tree, 1, 0, 1)),
        ("does not count Usage { bytes: 8, inodes: 7 } of user 0", |tree| {
            tree.users.remove(&0);
        }),
        ("a name has 1 to 255", |tree| {
            let checkpoint =
                crate::Checkpoint { commit: crate::CommitId::default(), time: Timestamp::default() };
            tree.checkpoints.insert(String::new(), checkpoint);
        }),
    ];
    for (text, damage) in cases {
        let mut tree = tree();
        damage(&mut tree);
        let violations = tree.check().expect_err(text);
        assert!(
            violations.iter().any(|violation| violation.to_string().contains(text)),
            "{text}: {violations:?}"
        );
    }
}

fn set_directory(tree: &mut Tree, ino: u64, parent: u64, entries: u64, next_cookie: u64) {
    inode(tree, ino).body = Body::Directory { parent: Ino(parent), entries, next_cookie };
}

fn set_xattr(tree: &mut Tree, ino: u64, name: &[u8]) {
    let name = XattrName::new(name).expect("a name");
    tree.xattrs.insert((Ino(ino), name), XattrValue::new(b"").expect("a value")).expect("it is loaded");
}

fn lock_range(tree: &mut Tree, ino: u64, key: u64, range: std::ops::Range<u64>, mode: LockMode) {
    tree.range_locks.insert((Ino(ino), locker(key), range.start), RangeLock { end: range.end, mode });
}

fn set_usage(tree: &mut Tree, uid: u32, bytes: u64, inodes: u64) {
    tree.users.insert(uid, crate::Usage { bytes, inodes });
}

/// Against each pair of locks, which is how the invariant reads.
#[test]
fn conflicts_of_ranges_are_found_as_by_pairs() {
    let mut number: u64 = 1;
    let mut next = |bound| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 33) % bound
    };
    let (mut sound, mut wrong) = (0, 0);
    for _ in 0..2000 {
        let mut tree = tree();
        tree.range_locks = crate::Resident::default();
        let mut locks: Vec<(u64, u64, u64, LockMode)> = Vec::new();
        for _ in 0..2 + next(4) {
            let (key, start) = (next(3), next(20));
            let end = start + 1 + next(6);
            let mode = if next(3) == 0 { LockMode::Exclusive } else { LockMode::Shared };
            // The locks of one owner neither meet nor overlap.
            if locks.iter().all(|(other, first, last, _)| *other != key || end < *first || *last < start) {
                locks.push((key, start, end, mode));
                lock_range(&mut tree, 3, key, start..end, mode);
            }
        }
        let conflict = locks
            .iter()
            .any(|a| locks.iter().any(|b| a.0 != b.0 && a.1 < b.2 && b.1 < a.2 && a.3.excludes(b.3)));
        assert_eq!(tree.check().is_err(), conflict, "{locks:?}");
        if conflict { wrong += 1 } else { sound += 1 }
    }
    assert!(sound > 200 && wrong > 200, "{sound} sound, {wrong} wrong");
}
