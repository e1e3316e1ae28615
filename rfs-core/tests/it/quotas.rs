//! Quotas: what they count is what is there, and what would pass them is refused whole.

use std::collections::BTreeMap;

use rfs_core::{
    Access, Allocate, At, Capabilities, Context, Credential, Errno, Item, Limits, Op, OpenFlags, Place,
    QuotaSubject, Target, Timestamp, Tree, Usage, WriteAt, decide_batch,
};

use crate::random::step;
use crate::support::{Fs, Random, items, loaded, path, state_hash};

const VOLUME: QuotaSubject = QuotaSubject::Volume;

const fn limits(bytes: Option<u64>, inodes: Option<u64>) -> Limits {
    Limits { bytes, inodes }
}

fn set(fs: &mut Fs, subject: QuotaSubject, limits: Limits) {
    fs.run(&Op::SetQuota { subject, limits }).expect("root may");
}

/// What each subject uses, counted from the items alone.
fn counted(tree: &Tree) -> BTreeMap<QuotaSubject, Usage> {
    let mut bytes: BTreeMap<_, u64> = BTreeMap::new();
    for item in items(tree) {
        if let Item::Extent { ino, extent, .. } = item {
            *bytes.entry(ino).or_default() += extent.len;
        }
    }
    let mut used: BTreeMap<QuotaSubject, Usage> = BTreeMap::new();
    for item in items(tree) {
        if let Item::Inode(ino, inode) = item {
            for subject in [VOLUME, QuotaSubject::User(inode.uid)] {
                let used = used.entry(subject).or_default();
                used.inodes += 1;
                used.bytes += bytes.get(&ino).copied().unwrap_or(0);
            }
        }
    }
    used
}

fn open(name: &str) -> Op {
    let flags = OpenFlags { create: true, ..OpenFlags::default() };
    Op::Open { at: At::root(name), access: Access { read: true, write: true }, flags, mode: 0o666 }
}

/// Every Op with quotas gives what it gives without, or the error of a quota that it would pass; what is counted is
/// what is there.
#[test]
fn a_quota_refuses_what_passes_it_and_nothing_else() {
    let (mut done, mut full) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.chmod("/", 0o777).expect("it is there");
        let limit = |random: &mut Random| {
            let bytes = (!random.one_in(3)).then(|| random.below(200));
            let inodes = (!random.one_in(3)).then(|| random.below(12));
            limits(bytes, inodes)
        };
        for subject in [VOLUME, QuotaSubject::User(0), QuotaSubject::User(5)] {
            if random.one_in(2) {
                let limits = limit(&mut random);
                set(&mut fs, subject, limits);
            }
        }
        for number in 0..200 {
            if random.one_in(20) {
                let subject = random.pick(&[VOLUME, QuotaSubject::User(0), QuotaSubject::User(5)]);
                let limits = limit(&mut random);
                set(&mut fs, subject, limits);
            }
            let at = format!("seed {seed}, Op {number}");
            let before = fs.tree.clone();
            // The same step on a tree without quotas.
            let mut free = Fs { tree: unlimited(&before), ..Fs::new() };
            (free.open, free.now, free.place) = (fs.open.clone(), fs.now, fs.place);
            let seed_of_step = random.next();
            let answer = step(&mut Random(seed_of_step), &mut fs);
            let other = step(&mut Random(seed_of_step), &mut free);
            let (old, new) = (counted(&before), counted(&free.tree));
            let passed = |subject: &QuotaSubject| {
                let limits = before.quotas().find(|(of, _)| of == subject).map(|(_, quota)| quota.limits);
                let limits = limits.unwrap_or_default();
                let old = old.get(subject).copied().unwrap_or_default();
                let new = new.get(subject).copied().unwrap_or_default();
                let over = |limit: Option<u64>, old, new| new > old && limit.is_some_and(|limit| new > limit);
                over(limits.bytes, old.bytes, new.bytes) || over(limits.inodes, old.inodes, new.inodes)
            };
            match answer {
                Err(Errno::NoSpace) => {
                    assert!(other.is_ok() && passed(&VOLUME), "{at}: {other:?}");
                    full += 1;
                }
                Err(Errno::QuotaExceeded) => {
                    assert!(other.is_ok() && new.keys().any(passed), "{at}: {other:?}");
                    full += 1;
                }
                answer => {
                    assert_eq!(answer, other, "{at}");
                    assert_eq!(unlimited(&fs.tree), free.tree, "{at}");
                    assert!(answer.is_err() || !passed(&VOLUME), "{at}: {answer:?}");
                    done += 1;
                }
            }
            if answer.is_err() {
                assert_eq!(fs.tree, before, "{at}");
            }
            let counted = counted(&fs.tree);
            for (subject, quota) in fs.tree.quotas() {
                assert_eq!(quota.used, counted.get(&subject).copied().unwrap_or_default(), "{at}");
            }
            assert_eq!(fs.tree.usage(), counted[&VOLUME], "{at}");
            assert_eq!(fs.tree.check(), Ok(()), "{at}");
            assert_eq!(loaded(state_hash(&before).update(&before, &fs.tree)), state_hash(&fs.tree), "{at}");
        }
    }
    assert!(done > 4000 && full > 200, "{done} done, {full} were full");
}

fn unlimited(tree: &Tree) -> Tree {
    let items = items(tree).filter(|item| !matches!(item, Item::Quota { .. }));
    Tree::from_items(items).expect("it is sound without quotas too")
}

#[test]
fn a_full_volume_says_so_to_everybody_and_a_full_user_to_that_one() {
    let mut fs = Fs::new();
    fs.chmod("/", 0o777).expect("it is there");
    let user = Credential::user(5, 6, &[]);
    let strong = Credential { capabilities: Capabilities::SYS_RESOURCE, ..user.clone() };
    set(&mut fs, QuotaSubject::User(5), limits(Some(10), Some(2)));
    fs.run_as(&user, &open("a")).expect("the first of two");
    let write = |at, len| Op::Write { target: path("a", true), at, len };
    fs.run_as(&user, &write(WriteAt::Offset(0), 10)).expect("all ten");
    assert_eq!(fs.run_as(&user, &write(WriteAt::End, 1)), Err(Errno::QuotaExceeded));
    fs.run_as(&user, &write(WriteAt::Offset(2), 8)).expect("what is written over counts once");
    assert_eq!(fs.run_as(&user, &write(WriteAt::Offset(2), 9)), Err(Errno::QuotaExceeded));
    // Space that holds nothing is free, however much of it.
    let extend = Op::Allocate { target: path("a", true), mode: Allocate::Extend, offset: 0, len: 1 << 62 };
    fs.run_as(&user, &extend).expect("a hole");
    fs.run_as(&user, &Op::Truncate { target: path("a", true), size: 10 }).expect("and back");
    fs.run_as(&user, &open("b")).expect("the second of two");
    assert_eq!(fs.run_as(&user, &open("c")), Err(Errno::QuotaExceeded));
    fs.run_as(&strong, &open("c")).expect("SYS_RESOURCE passes it");
    let copy = |from: &str, to: &str, len| Op::Copy {
        from: path(from, true),
        from_offset: 0,
        to: path(to, true),
        to_offset: 0,
        len,
    };
    assert_eq!(fs.run_as(&user, &copy("a", "b", 10)), Err(Errno::QuotaExceeded), "copies count in full");
    // Who owns the file counts, not who writes to it.
    fs.chmod("b", 0o666).expect("it is there");
    let other = Credential::user(7, 6, &[]);
    assert_eq!(
        fs.run_as(&other, &Op::Write { target: path("b", true), at: WriteAt::End, len: 1 }),
        Err(Errno::QuotaExceeded)
    );
    // The volume has one too.
    fs.create("root").expect("root's");
    fs.write("root", WriteAt::End, 5).expect("root's");
    set(&mut fs, VOLUME, limits(Some(16), Some(6)));
    fs.write("root", WriteAt::End, 1).expect("the sixteenth byte");
    assert_eq!(fs.write("root", WriteAt::End, 1), Err(Errno::NoSpace));
    assert_eq!(fs.run_as(&strong, &write(WriteAt::End, 1)), Err(Errno::NoSpace));
    fs.create("last").expect("the sixth");
    assert_eq!(fs.mkdir("d"), Err(Errno::NoSpace));
    assert_eq!(fs.symlink("a", "s"), Err(Errno::NoSpace));
    let free = fs.tree.stat_fs();
    assert_eq!((free.bytes, free.bytes_free, free.inodes, free.inodes_free), (16, 0, 6, 0));
    // Less than there is: nothing more, but what is there can be used and removed.
    set(&mut fs, VOLUME, limits(Some(1), Some(1)));
    assert_eq!(fs.tree.stat_fs().bytes_free, 0);
    fs.write("root", WriteAt::Offset(0), 6).expect("it needs no more");
    fs.link("root", "again").expect("a name is no inode");
    fs.unlink("a").expect("it is there");
    assert_eq!(fs.write("root", WriteAt::End, 1), Err(Errno::NoSpace));
    set(&mut fs, VOLUME, Limits::default());
    set(&mut fs, QuotaSubject::User(5), Limits::default());
    assert_eq!(fs.tree.quotas().count(), 0);
    assert_eq!(fs.tree.check(), Ok(()));
}

#[test]
fn a_file_that_is_given_away_moves_what_it_uses() {
    let mut fs = Fs::new();
    for name in ["a", "b"] {
        fs.create(name).expect("a new file");
        fs.write(name, WriteAt::End, 10).expect("a file");
    }
    set(&mut fs, QuotaSubject::User(5), limits(Some(15), None));
    set(&mut fs, QuotaSubject::User(0), limits(None, Some(100)));
    let chown = |name: &str| Op::SetOwner { target: path(name, false), uid: Some(5), gid: None };
    let weak = Credential { capabilities: Capabilities::CHOWN, ..Credential::root() };
    fs.run_as(&weak, &chown("a")).expect("ten of fifteen");
    assert_eq!(fs.run_as(&weak, &chown("b")), Err(Errno::QuotaExceeded));
    fs.run_as(&weak, &chown("a")).expect("it has it already");
    let used: BTreeMap<_, _> = fs.tree.quotas().map(|(subject, quota)| (subject, quota.used)).collect();
    assert_eq!(used[&QuotaSubject::User(5)], Usage { bytes: 10, inodes: 1 });
    assert_eq!(used[&QuotaSubject::User(0)], Usage { bytes: 10, inodes: 2 });
    fs.run(&chown("b")).expect("root has SYS_RESOURCE");
    // What was unlinked and is open still counts.
    fs.open.insert(fs.ino("b"));
    fs.unlink("b").expect("it is there");
    assert_eq!(fs.tree.quotas().map(|(_, quota)| quota.used.bytes).collect::<Vec<_>>(), [0, 20]);
}

#[test]
fn only_some_may_set_quotas() {
    let mut fs = Fs::new();
    let op = Op::SetQuota { subject: VOLUME, limits: limits(Some(1), None) };
    assert_eq!(fs.run_as(&Credential::user(5, 6, &[]), &op), Err(Errno::NotPermitted));
    fs.run(&op).expect("root may");
    assert!(fs.decide(&op).expect("root may").changes.is_empty(), "nothing is recorded when nothing changes");
    let none = Op::SetQuota { subject: QuotaSubject::User(9), limits: Limits::default() };
    assert!(fs.decide(&none).expect("root may").changes.is_empty());
}

#[test]
fn the_ops_of_a_batch_share_what_is_left() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    set(&mut fs, VOLUME, limits(Some(10), None));
    let ino = fs.ino("a");
    let write = |offset, len| Op::Write { target: Target::Ino(ino), at: WriteAt::Offset(offset), len };
    let context = Context::new(Timestamp::from_nanos(9));
    let batch =
        |ops: &[Op]| decide_batch(&fs.tree, &context, ops, Place::default()).map(|batch| batch.changes.len());
    let shorten = Op::Truncate { target: Target::Ino(ino), size: 0 };
    assert_eq!(batch(&[write(0, 6), write(2, 8)]), Ok(2));
    let refused = batch(&[write(0, 6), write(6, 4), write(10, 1)]).expect_err("eleven bytes");
    assert_eq!((refused.index, refused.fault), (2, Errno::NoSpace.into()));
    assert_eq!(batch(&[write(0, 10), shorten, write(0, 10)]), Ok(3));
}
