//! Locks against tables that say of each byte, and of each file, who holds it.

use std::collections::BTreeMap;

use rfs_core::{
    Change, Errno, HeldRange, Ino, Item, LockMode, LockOwner, LockRange, Op, OwnerId, Tree, WriteAt,
};

use crate::support::{Fs, Random, items, loaded, state_hash};

/// Bytes of the table; the last stands for all that follow.
const BYTES: usize = 24;

const OWNERS: [LockOwner; 4] = [owner(0, 0), owner(0, 7), owner(1, 0), owner(u64::MAX, u64::MAX)];

const fn owner(owner: u64, key: u64) -> LockOwner {
    LockOwner { owner: OwnerId(owner), key }
}

/// What an owner holds of each byte.
type Table = BTreeMap<LockOwner, [Option<LockMode>; BYTES]>;

/// The locks of a file, as the table says them: runs of one mode, as long as can be.
fn runs(table: &Table) -> Vec<HeldRange> {
    let mut held: Vec<HeldRange> = Vec::new();
    for (&owner, bytes) in table {
        for (at, mode) in bytes.iter().enumerate() {
            let Some(mode) = *mode else { continue };
            let start = at as u64;
            let end = if at + 1 == BYTES { LockRange::END } else { start + 1 };
            match held.last_mut() {
                Some(last) if (last.owner, last.mode, last.range.end) == (owner, mode, start) => {
                    last.range.end = end;
                }
                _ => held.push(HeldRange { range: LockRange { start, end }, owner, mode }),
            }
        }
    }
    held
}

fn any_range(random: &mut Random) -> LockRange {
    let start = random.below(BYTES as u64);
    let end = if random.one_in(4) { LockRange::END } else { start + 1 + random.below(BYTES as u64 - start) };
    LockRange { start, end: if end == BYTES as u64 { LockRange::END } else { end } }
}

fn bytes_in(range: LockRange) -> std::ops::Range<usize> {
    range.start as usize..(range.end.min(BYTES as u64)) as usize
}

fn conflict(table: &Table, owner: LockOwner, range: LockRange, mode: LockMode) -> bool {
    let excludes = |held| held == LockMode::Exclusive || mode == LockMode::Exclusive;
    let others = table.iter().filter(|(holder, _)| **holder != owner);
    others.flat_map(|(_, bytes)| &bytes[bytes_in(range)]).any(|held| held.is_some_and(excludes))
}

#[test]
fn byte_range_locks_are_those_of_a_table() {
    let (mut done, mut refused, mut idle) = (0, 0, 0);
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.create("a").expect("a new file");
        fs.create("b").expect("a new file");
        let (ino, other) = (fs.ino("a"), fs.ino("b"));
        // Locks of another file, which are never touched.
        let untouched =
            Op::LockRange { ino: other, owner: OWNERS[1], range: LockRange::ALL, mode: LockMode::Exclusive };
        fs.run(&untouched).expect("free");
        let mut table: Table = OWNERS.map(|owner| (owner, [None; BYTES])).into();
        for number in 0..80 {
            let (owner, range) = (random.pick(&OWNERS), any_range(&mut random));
            let mode = random.pick(&[LockMode::Shared, LockMode::Shared, LockMode::Exclusive]);
            let lock = !random.one_in(3);
            let op = if lock {
                Op::LockRange { ino, owner, range, mode }
            } else {
                Op::UnlockRange { ino, owner, range }
            };
            let at = format!("seed {seed}, Op {number}: {op:?}");
            let conflicts = conflict(&table, owner, range, mode);
            let told = fs.tree.range_lock_conflict(ino, owner, range, mode);
            assert_eq!(told.is_some(), conflicts, "{at}");
            if let Some(told) = told {
                assert!(runs(&table).contains(&told) && told.owner != owner, "{at}: {told:?}");
                assert!(told.range.overlaps(&range), "{at}: {told:?}");
            }
            let (before, hash) = (fs.tree.clone(), state_hash(&fs.tree));
            let had = table.clone();
            let expected = if lock && conflicts { Err(Errno::WouldBlock) } else { Ok(()) };
            if expected.is_ok() {
                let bytes = table.get_mut(&owner).expect("one of them");
                bytes[bytes_in(range)].fill(lock.then_some(mode));
            }
            let changes = fs.decide(&op).map(|decision| decision.changes.len());
            assert_eq!(changes, expected.map(|()| usize::from(had != table)), "{at}");
            assert_eq!(fs.run(&op).map(|_| ()), expected, "{at}");
            match changes {
                Ok(0) => idle += 1,
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
            assert_eq!(fs.tree.range_locks(ino).collect::<Vec<_>>(), runs(&table), "{at}");
            assert_eq!(fs.tree.range_locks(other).count(), 1, "{at}");
            assert_eq!(fs.tree.check(), Ok(()), "{at}");
            assert_eq!(loaded(hash.update(&before, &fs.tree)), state_hash(&fs.tree), "{at}");
            assert_eq!(Tree::from_items(items(&fs.tree)).as_ref(), Ok(&fs.tree), "{at}");
        }
    }
    assert!(done > 2000 && refused > 2000 && idle > 500, "{done} done, {refused} refused, {idle} idle");
}

#[test]
fn whole_file_locks_are_those_of_a_table() {
    let modes = [LockMode::Shared, LockMode::Exclusive];
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut fs = Fs::new();
        fs.create("a").expect("a new file");
        let ino = fs.ino("a");
        let mut table: BTreeMap<LockOwner, LockMode> = BTreeMap::new();
        for _ in 0..60 {
            let (owner, mode) = (random.pick(&OWNERS), random.pick(&modes));
            if random.one_in(3) {
                let held = table.remove(&owner).is_some();
                let decision = fs.decide(&Op::UnlockFile { ino, owner }).expect("it can always be");
                assert_eq!(decision.changes.len(), usize::from(held));
                fs.run(&Op::UnlockFile { ino, owner }).expect("it can always be");
            } else {
                let mut others = table.iter().filter(|(holder, _)| **holder != owner);
                let conflicts =
                    others.any(|(_, held)| *held == LockMode::Exclusive || mode == LockMode::Exclusive);
                let told = fs.tree.file_lock_conflict(ino, owner, mode);
                assert_eq!(told.is_some(), conflicts);
                assert!(told.is_none_or(|told| told != owner && table.contains_key(&told)));
                let locked = fs.run(&Op::LockFile { ino, owner, mode }).map(|_| ());
                assert_eq!(locked, if conflicts { Err(Errno::WouldBlock) } else { Ok(()) });
                if !conflicts {
                    table.insert(owner, mode);
                }
            }
            let held = table.iter().map(|(owner, mode)| (*owner, *mode)).collect::<Vec<_>>();
            assert_eq!(fs.tree.file_locks(ino).collect::<Vec<_>>(), held);
            assert_eq!(fs.tree.check(), Ok(()));
        }
    }
}

#[test]
fn what_cannot_be_locked_is_refused() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    fs.mkdir("d").expect("a new directory");
    fs.symlink("a", "s").expect("a new symlink");
    let (a, dir, symlink) = (fs.ino("a"), fs.ino("d"), fs.ino("s"));
    let lock = |ino, start, end| Op::LockRange {
        ino,
        owner: OWNERS[0],
        range: LockRange { start, end },
        mode: LockMode::Shared,
    };
    let unlock = |ino, start, end| Op::UnlockRange { ino, owner: OWNERS[0], range: LockRange { start, end } };
    for (start, end) in [(3, 3), (4, 3), (0, LockRange::END + 1), (u64::MAX, u64::MAX)] {
        assert_eq!(fs.run(&lock(a, start, end)), Err(Errno::Invalid));
        assert_eq!(fs.run(&unlock(a, start, end)), Err(Errno::Invalid));
        assert_eq!(LockRange::new(start, end), None);
    }
    fs.run(&lock(dir, 0, LockRange::END)).expect("a directory can be locked");
    assert_eq!(fs.run(&lock(symlink, 0, 1)), Err(Errno::Invalid));
    let file = |ino| Op::LockFile { ino, owner: OWNERS[0], mode: LockMode::Exclusive };
    assert_eq!(fs.run(&file(symlink)), Err(Errno::Invalid));
    for ino in [Ino(99), Ino(u64::MAX)] {
        assert_eq!(fs.run(&lock(ino, 0, 1)), Err(Errno::Stale));
        assert_eq!(fs.run(&unlock(ino, 0, 1)), Err(Errno::Stale));
        assert_eq!(fs.run(&file(ino)), Err(Errno::Stale));
        assert_eq!(fs.tree.file_lock_conflict(ino, OWNERS[0], LockMode::Exclusive), None);
        let all = LockRange::ALL;
        assert_eq!(fs.tree.range_lock_conflict(ino, OWNERS[0], all, LockMode::Exclusive), None);
        assert_eq!(fs.tree.holders(ino).count(), 0);
    }
    // The two kinds do not see each other, and locks say nothing about the content.
    fs.run(&lock(a, 0, 5)).expect("free");
    fs.run(&Op::LockFile { ino: a, owner: OWNERS[1], mode: LockMode::Exclusive }).expect("free");
    fs.write("a", WriteAt::End, 9).expect("locks are advisory");
    fs.unlink("a").expect("locks are advisory");
    assert_eq!((fs.tree.range_locks(a).count(), fs.tree.file_locks(a).count()), (0, 0));
    assert_eq!(fs.tree.check(), Ok(()));
}

/// Version 1 had whole-file locks only, and one number for their holder.
#[test]
fn locks_of_version_1_are_those_of_owner_0() {
    let mut fs = Fs::new();
    fs.create("a").expect("a new file");
    let (ino, mode) = (fs.ino("a"), LockMode::Exclusive);
    let before = fs.tree.clone();
    fs.tree.apply(&Change::Lock { ino, owner: OwnerId(9), mode }, fs.place).expect("it fits");
    assert_eq!(fs.tree.file_locks(ino).collect::<Vec<_>>(), [(owner(0, 9), mode)]);
    let items = items(&before).chain([Item::Lock { ino, owner: OwnerId(9), mode }]);
    assert_eq!(Tree::from_items(items).as_ref(), Ok(&fs.tree));
    fs.run(&Op::UnlockFile { ino, owner: owner(0, 9) }).expect("it is held");
    assert_eq!(fs.tree, before);
}
