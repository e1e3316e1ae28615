//! Random Ops over a small name space: after each, everything that has to hold holds.

use rfs_core::{
    Access, Allocate, At, Capabilities, CommitId, Credential, Errno, Ino, LockMode, LockRange, Node, Op,
    OpenFlags, Outcome, Precondition, RenameMode, SetTime, Target, Timestamp, Tree, WriteAt, XattrMode,
};

use crate::support::{
    Fs, GROUP_OBJ, MASK, NOBODY, OTHER, OWNER, Random, USER, USER_OBJ, acl, items, loaded, locker, path,
    state_hash,
};

/// Names that mostly are directories, files, or symlinks, since that is what is mostly made with them.
const DIRS: [&str; 6] = ["a", "a", "b", "b", "c", "f"];
const FILES: [&str; 6] = ["f", "f", "g", "g", "h", "a"];
const SYMLINKS: [&str; 4] = ["s", "s", "t", "g"];
const ALL: [&str; 10] = ["a", "b", "c", "f", "g", "h", "s", "t", ".", ".."];

fn any_path(random: &mut Random, names: &[&str]) -> Vec<u8> {
    let mut path = String::new();
    if random.one_in(4) {
        path.push('/');
    }
    for _ in 0..random.pick(&[0, 0, 0, 1, 1, 2]) {
        path.push_str(random.pick(&["a", "a", "a", "a", "b", "b", "s", ".", "..", "f"]));
        path.push_str(random.pick(&["/", "/", "/", "//"]));
    }
    path.push_str(if random.one_in(12) { random.pick(&ALL) } else { random.pick(names) });
    match random.below(80) {
        0..4 => path.push('/'),
        4 => path.clear(),
        5 => path.push('\0'),
        6 => path.push_str(&"n".repeat(256)),
        7 => path.push_str(&"/a".repeat(2048)),
        8 => path = String::from("/"),
        _ => {}
    }
    path.into_bytes()
}

fn any_at(random: &mut Random, fs: &Fs, names: &[&str]) -> At {
    let base = if random.one_in(10) { any_ino(random, fs) } else { Ino::ROOT };
    At { base, path: any_path(random, names) }
}

fn any_ino(random: &mut Random, fs: &Fs) -> Ino {
    let open: Vec<Ino> = fs.open.iter().copied().collect();
    if open.is_empty() || random.one_in(3) { Ino(random.below(16)) } else { random.pick(&open) }
}

fn any_target(random: &mut Random, fs: &Fs) -> Target {
    if random.one_in(3) {
        return Target::Ino(any_ino(random, fs));
    }
    Target::Path { at: any_at(random, fs, &FILES), follow: !random.one_in(3) }
}

fn any_time(random: &mut Random) -> SetTime {
    let time = Timestamp::from_nanos(random.next().cast_signed());
    random.pick(&[SetTime::Keep, SetTime::Now, SetTime::At(time)])
}

fn any_offset(random: &mut Random) -> u64 {
    if random.one_in(40) { random.extreme() } else { random.below(40) }
}

pub(crate) fn any_op(random: &mut Random, fs: &Fs) -> Op {
    let mode = random.next() as u32;
    if random.one_in(8) {
        return any_op_on_content_or_holds(random, fs);
    }
    match random.below(50) {
        0..8 => Op::Open {
            at: any_at(random, fs, &FILES),
            access: Access { read: !random.one_in(20), write: random.one_in(2) },
            flags: OpenFlags {
                create: !random.one_in(5),
                exclusive: random.one_in(4),
                truncate: random.one_in(5),
                directory: random.one_in(12),
                no_follow: random.one_in(8),
            },
            mode,
        },
        8..12 => Op::Mkdir { at: any_at(random, fs, &DIRS), mode },
        12..14 => Op::Symlink { target: any_path(random, &ALL), at: any_at(random, fs, &SYMLINKS) },
        14..17 => Op::Link { from: any_target(random, fs), to: any_at(random, fs, &FILES) },
        17..20 => Op::Unlink { at: any_at(random, fs, &FILES) },
        20..22 => Op::Rmdir { at: any_at(random, fs, &DIRS) },
        22..27 => {
            let names = random.pick(&[&DIRS[..], &FILES[..], &ALL[..]]);
            let modes =
                [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange, RenameMode::Whiteout];
            let mode = if random.one_in(2) { RenameMode::Replace } else { random.pick(&modes) };
            Op::Rename { from: any_at(random, fs, names), to: any_at(random, fs, names), mode }
        }
        27..31 => {
            let at = if random.one_in(3) { WriteAt::End } else { WriteAt::Offset(any_offset(random)) };
            Op::Write { target: any_target(random, fs), at, len: any_offset(random) }
        }
        31 => Op::Truncate { target: any_target(random, fs), size: any_offset(random) },
        32 => Op::SetMode { target: any_target(random, fs), mode },
        33 => Op::SetOwner {
            target: any_target(random, fs),
            uid: random.pick(&[None, Some(5), Some(0)]),
            gid: random.pick(&[None, Some(6), Some(0)]),
        },
        34 => Op::SetTimes {
            target: any_target(random, fs),
            accessed: any_time(random),
            modified: any_time(random),
        },
        35 => Op::LockFile {
            ino: any_ino(random, fs),
            owner: locker(random.below(3)),
            mode: random.pick(&[LockMode::Shared, LockMode::Exclusive]),
        },
        36 => Op::UnlockFile { ino: any_ino(random, fs), owner: locker(random.below(3)) },
        37 => Op::Release { ino: any_ino(random, fs) },
        38 if random.one_in(8) => Op::NewSession { keep: Vec::new() },
        38 => {
            let name = random.pick(&["one".to_owned(), "two".to_owned(), String::new(), "l".repeat(256)]);
            let commit = CommitId { epoch: 1, number: random.below(9) };
            if random.one_in(2) { Op::AddCheckpoint { name, commit } } else { Op::DropCheckpoint { name } }
        }
        39..41 => Op::Mknod { at: any_at(random, fs, &FILES), node: any_node(random), mode },
        41 => Op::OpenNameless {
            dir: if random.one_in(2) { path("a", true) } else { any_target(random, fs) },
            access: Access { read: random.one_in(2), write: !random.one_in(8) },
            linkable: !random.one_in(4),
            mode,
        },
        42..46 => {
            let name = any_xattr(random);
            let mode = random.pick(&[XattrMode::Set, XattrMode::Set, XattrMode::Create, XattrMode::Replace]);
            let value = if name.starts_with(b"system.") {
                any_acl(random)
            } else {
                vec![1; random.below(9) as usize]
            };
            Op::SetXattr { target: any_target(random, fs), name, value, mode }
        }
        46 => Op::RemoveXattr { target: any_target(random, fs), name: any_xattr(random) },
        47 => Op::Hold { ino: any_ino(random, fs) },
        _ => {
            let target = any_target(random, fs);
            Op::Require(match random.below(4) {
                0 => Precondition::Exists(target),
                1 => Precondition::Missing(target),
                2 => Precondition::Size(target, random.below(40)),
                _ => Precondition::ChangedAt(target, Timestamp::from_nanos(fs.now)),
            })
        }
    }
}

fn any_op_on_content_or_holds(random: &mut Random, fs: &Fs) -> Op {
    let (offset, len) = (any_offset(random), any_offset(random));
    let range = LockRange { start: offset, end: offset.saturating_add(len) };
    match random.below(12) {
        0..4 => {
            let modes = [
                Allocate::Extend,
                Allocate::KeepSize,
                Allocate::PunchHole,
                Allocate::ZeroRange { keep_size: random.one_in(2) },
                Allocate::Collapse,
                Allocate::Insert,
            ];
            Op::Allocate { target: any_target(random, fs), mode: random.pick(&modes), offset, len }
        }
        4..7 => Op::Copy {
            from: any_target(random, fs),
            from_offset: offset,
            to: any_target(random, fs),
            to_offset: any_offset(random),
            len,
        },
        7 => Op::Accessed { ino: any_ino(random, fs) },
        8..10 => Op::LockRange {
            ino: any_ino(random, fs),
            owner: locker(random.below(3)),
            range,
            mode: random.pick(&[LockMode::Shared, LockMode::Exclusive]),
        },
        10 => Op::UnlockRange { ino: any_ino(random, fs), owner: locker(random.below(3)), range },
        _ if random.one_in(3) => Op::EndOwner { owner: OWNER },
        _ => Op::NewSession { keep: vec![OWNER] },
    }
}

fn any_node(random: &mut Random) -> Node {
    random.pick(&[
        Node::File,
        Node::Fifo,
        Node::Socket,
        Node::CharDevice(0x103),
        Node::BlockDevice(7),
        Node::Directory,
        Node::Symlink(b"a"[..].into()),
    ])
}

fn any_xattr(random: &mut Random) -> Vec<u8> {
    let names = [
        "user.a",
        "user.b",
        "user.",
        "trusted.a",
        "security.a",
        "other",
        "system.posix_acl_access",
        "system.posix_acl_default",
    ];
    random.pick(&names).as_bytes().to_vec()
}

/// Mostly a POSIX ACL that can be set.
fn any_acl(random: &mut Random) -> Vec<u8> {
    let mut entries = vec![(USER_OBJ, random.below(8) as u16, NOBODY)];
    if random.one_in(2) {
        entries.push((USER, random.below(8) as u16, 5));
    }
    entries.push((GROUP_OBJ, random.below(8) as u16, NOBODY));
    if entries.len() > 2 || random.one_in(3) {
        entries.push((MASK, random.below(8) as u16, NOBODY));
    }
    entries.push((OTHER, random.below(8) as u16, NOBODY));
    if random.one_in(8) {
        entries.remove(random.below(entries.len() as u64) as usize);
    }
    acl(&entries)
}

/// Mostly root, else a user with or without some capabilities.
fn any_credential(random: &mut Random) -> Credential {
    let user = |capabilities| Credential { capabilities, ..Credential::user(5, 6, &[0]) };
    match random.below(8) {
        0 => user(Capabilities::NONE),
        1 => user(Capabilities::FOWNER | Capabilities::DAC_OVERRIDE),
        2 => Credential { umask: 0o027, ..Credential::root() },
        _ => Credential::root(),
    }
}

/// A random Op, with what a holder of handles does around it.
pub(crate) fn step(random: &mut Random, fs: &mut Fs) -> Result<Outcome, Errno> {
    let op = any_op(random, fs);
    fs.credential = any_credential(random);
    if let Op::Release { ino } = op {
        fs.open.remove(&ino);
    }
    if matches!(&op, Op::NewSession { keep } if keep.is_empty()) || matches!(op, Op::EndOwner { .. }) {
        fs.open.clear();
    }
    let outcome = fs.run(&op);
    fs.credential = Credential::root();
    if let Ok(Outcome::Opened { ino, .. }) = outcome
        && random.one_in(2)
    {
        fs.open.insert(ino);
    }
    if let Ok(Outcome::Opened { ino, kind, .. }) = outcome {
        assert_eq!(fs.tree.attr(ino).map(|attr| attr.kind), Ok(kind), "{op:?}");
    }
    outcome
}

#[test]
fn every_invariant_holds_after_every_op() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        let mut hash = state_hash(&fs.tree);
        for number in 0..300 {
            let before = fs.tree.clone();
            let kept = hash;
            match step(&mut random, &mut fs) {
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
            let at = format!("seed {seed}, Op {number}");
            assert_eq!(fs.tree.check(), Ok(()), "{at}");
            hash = loaded(hash.update(&before, &fs.tree));
            assert_eq!(hash, state_hash(&fs.tree), "{at}");
            assert_eq!(kept, state_hash(&before), "the snapshot changed: {at}");
            assert_eq!(kept == hash, before == fs.tree, "the hash and the tree differ alike: {at}");
            assert_eq!(Tree::from_items(items(&fs.tree)).as_ref(), Ok(&fs.tree), "{at}");
        }
    }
    assert!(done > 8000 && refused > 8000, "the mix of Ops is a good one: {done} done, {refused} refused");
}

#[test]
fn a_new_session_leaves_nothing_behind() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        for _ in 0..200 {
            let _ = step(&mut random, &mut fs);
        }
        fs.open.clear();
        fs.run(&Op::NewSession { keep: Vec::new() }).expect("a session can always begin");
        assert!(!fs.tree.needs_new_session());
        assert_eq!(fs.tree.check(), Ok(()));
        assert!(fs.decide(&Op::NewSession { keep: Vec::new() }).expect("again").changes.is_empty());
    }
}
