//! What owners hold, and what becomes of it when they end.

use std::collections::{BTreeMap, BTreeSet};

use rfs_core::{
    Access, At, Change, Context, Errno, Ino, LockMode, LockOwner, LockRange, Op, OpenFlags, Outcome, OwnerId,
    Place, Target, Timestamp, Tree, WriteAt, decide,
};

use crate::support::{Random, items, loaded, posix};

const OWNERS: [OwnerId; 3] = [OwnerId(1), OwnerId(2), OwnerId(1 << 63)];

/// A tree, and the handles that each owner has.
struct Owners {
    tree: Tree,
    handles: BTreeMap<Ino, Vec<OwnerId>>,
    now: i64,
}

impl Owners {
    fn new() -> Self {
        Self { tree: Tree::new(Timestamp::default()), handles: BTreeMap::new(), now: 0 }
    }

    fn run(&mut self, owner: OwnerId, op: &Op) -> Result<(Outcome, Vec<Change>), Errno> {
        self.now += 1;
        let holders = |ino| {
            let owners: BTreeSet<OwnerId> = self.handles.get(&ino).into_iter().flatten().copied().collect();
            owners.into_iter().collect()
        };
        let context = Context { owner, holders: &holders, ..Context::new(Timestamp::from_nanos(self.now)) };
        let decision = posix(decide(&self.tree, &context, op))?;
        for change in &decision.changes {
            self.tree.apply(change, Place::default()).expect("what was decided fits");
            assert_eq!(self.tree.check(), Ok(()), "{op:?}: {change:?}");
        }
        Ok((decision.outcome, decision.changes))
    }

    /// Opens, or makes, a file: the handle is counted when the Op is done.
    fn open(&mut self, owner: OwnerId, name: &str) -> Ino {
        let access = Access { read: true, write: true };
        let flags = OpenFlags { create: true, ..OpenFlags::default() };
        let open = Op::Open { at: At::root(name), access, flags, mode: 0o644 };
        let Ok((Outcome::Opened { ino, .. }, _)) = self.run(owner, &open) else { panic!("it can be opened") };
        self.handles.entry(ino).or_default().push(owner);
        ino
    }

    fn nameless(&mut self, owner: OwnerId) -> Ino {
        let access = Access { read: true, write: true };
        let op = Op::OpenNameless { dir: Target::Ino(Ino::ROOT), access, linkable: true, mode: 0o600 };
        let Ok((Outcome::Opened { ino, .. }, _)) = self.run(owner, &op) else { panic!("it can be made") };
        self.handles.entry(ino).or_default().push(owner);
        ino
    }

    /// Closes one handle, and releases the inode after the owner's last.
    fn close(&mut self, owner: OwnerId, ino: Ino) -> Vec<Change> {
        let handles = self.handles.get_mut(&ino).expect("it is open");
        handles.remove(handles.iter().position(|holder| *holder == owner).expect("it is open"));
        let last = !handles.contains(&owner);
        if last { self.run(owner, &Op::Release { ino }).expect("it can always be").1 } else { Vec::new() }
    }

    fn unlink(&mut self, name: &str) -> Vec<Change> {
        self.run(OWNERS[0], &Op::Unlink { at: At::root(name) }).expect("it is there").1
    }

    fn holders(&self, ino: Ino) -> Vec<OwnerId> {
        self.tree.holders(ino).collect()
    }
}

fn lock_file(ino: Ino, owner: OwnerId) -> Op {
    Op::LockFile { ino, owner: LockOwner { owner, key: 5 }, mode: LockMode::Shared }
}

fn lock_range(ino: Ino, owner: OwnerId) -> Op {
    let range = LockRange { start: 3, end: 9 };
    Op::LockRange { ino, owner: LockOwner { owner, key: 6 }, range, mode: LockMode::Shared }
}

#[test]
fn an_unlinked_file_lives_as_long_as_one_owner_holds_it() {
    let [one, two, _] = OWNERS;
    let mut owners = Owners::new();
    let ino = owners.open(one, "a");
    owners.open(one, "a");
    owners.open(two, "a");
    owners.run(one, &Op::Write { target: Target::Ino(ino), at: WriteAt::End, len: 10 }).expect("a file");
    owners.run(one, &lock_range(ino, one)).expect("free");
    owners.unlink("a");
    assert_eq!(owners.holders(ino), [one, two]);
    assert_eq!(owners.close(one, ino), [], "the owner has another handle");
    assert_eq!(owners.close(one, ino), [Change::LetGo { ino, owner: one }]);
    assert_eq!(owners.holders(ino), [two]);
    // A third finds it by its number.
    owners.run(OWNERS[2], &Op::Hold { ino }).expect("it is there");
    assert_eq!(owners.run(OWNERS[2], &Op::Hold { ino }).expect("it is there").1, [], "once is enough");
    assert_eq!(owners.holders(ino), [two, OWNERS[2]]);
    assert_eq!(owners.close(two, ino), [Change::LetGo { ino, owner: two }]);
    let last = owners.run(OWNERS[2], &Op::Release { ino }).expect("it can always be").1;
    assert_eq!(last, [Change::Reap { ino }]);
    assert_eq!(owners.run(one, &Op::Hold { ino }), Err(Errno::Stale));
    assert_eq!(owners.run(one, &Op::Release { ino }), Ok((Outcome::Done, Vec::new())));
    assert!(!owners.tree.needs_new_session() && owners.tree.usage().bytes == 0);
}

#[test]
fn what_has_a_name_is_not_held() {
    let [one, ..] = OWNERS;
    let mut owners = Owners::new();
    let ino = owners.open(one, "a");
    assert_eq!(owners.run(one, &Op::Hold { ino }), Ok((Outcome::Done, Vec::new())));
    assert_eq!(owners.close(one, ino), []);
    // One that gets a name is not held any more, though it is open; one that loses it again is.
    let ino = owners.nameless(one);
    assert_eq!(owners.holders(ino), [one]);
    owners.run(one, &Op::Link { from: Target::Ino(ino), to: At::root("b") }).expect("it may");
    assert_eq!(owners.holders(ino), []);
    owners.unlink("b");
    assert_eq!(owners.holders(ino), [one]);
    assert_eq!(owners.close(one, ino), [Change::Reap { ino }]);
}

#[test]
fn an_owner_takes_its_locks_and_what_only_it_held_along() {
    let [one, two, _] = OWNERS;
    let mut owners = Owners::new();
    let named = owners.open(one, "named");
    let (own, shared) = (owners.open(one, "own"), owners.open(one, "shared"));
    owners.open(two, "shared");
    let nameless = owners.nameless(one);
    for ino in [named, own, shared] {
        for owner in [one, two] {
            owners.run(owner, &lock_file(ino, owner)).expect("shared");
            owners.run(owner, &lock_range(ino, owner)).expect("shared");
        }
    }
    owners.unlink("own");
    owners.unlink("shared");
    let ended = owners.run(two, &Op::EndOwner { owner: one }).expect("it can always be").1;
    assert_eq!(ended, [Change::EndOwner { owner: one }]);
    assert!(loaded(owners.tree.inode(own)).is_none() && loaded(owners.tree.inode(nameless)).is_none());
    assert_eq!((owners.holders(shared), owners.holders(named)), (vec![two], Vec::new()));
    assert_eq!((owners.tree.locks_of(one).count(), owners.tree.locks_of(two).count()), (0, 4));
    assert_eq!(owners.tree.owners(), BTreeSet::from([two]));
    let again = owners.run(two, &Op::EndOwner { owner: one }).expect("it can always be").1;
    assert_eq!(again, [], "nothing is recorded when nothing changes");
}

#[test]
fn a_new_session_keeps_what_the_owners_that_go_on_hold() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut owners = Owners::new();
        for number in 0..30 {
            let owner = random.pick(&OWNERS);
            let ino = match random.below(6) {
                0 => owners.nameless(owner),
                _ => owners.open(owner, random.pick(&["a", "b", "c", "d"])),
            };
            if random.one_in(2) {
                owners.run(owner, &lock_file(ino, owner)).expect("shared");
            }
            if random.one_in(2) {
                owners.run(owner, &lock_range(ino, owner)).expect("shared");
            }
            if random.one_in(3) {
                let _ = owners.run(owner, &Op::Unlink { at: At::root(random.pick(&["a", "b", "c", "d"])) });
            }
            if random.one_in(8) {
                // As a history that was made before holds were.
                let time = Timestamp::from_nanos(number);
                let name = format!("old{number}");
                let ino = owners.open(owner, &name);
                let name = rfs_core::Name::new(name.as_bytes()).expect("a name");
                let unlink = Change::Unlink { parent: Ino::ROOT, name, ino, reap: false, time };
                owners.tree.apply(&unlink, Place::default()).expect("it fits");
            }
        }
        let before = owners.tree.clone();
        owners.handles.clear();
        let keep: Vec<OwnerId> = OWNERS.into_iter().filter(|_| random.one_in(2)).collect();
        let changes = owners.run(OWNERS[0], &Op::NewSession { keep: keep.clone() }).expect("always").1;
        let after = &owners.tree;
        let goes_on = before.owners().iter().any(|owner| keep.contains(owner));
        assert!(
            goes_on
                || !before.needs_new_session()
                || changes == [Change::NewSession] && !after.needs_new_session(),
            "{changes:?}"
        );
        let kept = |owner: &OwnerId| keep.contains(owner);
        for owner in OWNERS {
            let locks = |tree: &Tree| tree.locks_of(owner).collect::<Vec<_>>();
            let held = |tree: &Tree| tree.held_by(owner).collect::<BTreeSet<_>>();
            if kept(&owner) {
                // Locks on what went with its last holder went along.
                let there = |(ino, _): &(Ino, LockOwner)| loaded(after.inode(*ino)).is_some();
                let expected: Vec<_> = locks(&before).into_iter().filter(there).collect();
                assert_eq!((held(after), locks(after)), (held(&before), expected), "seed {seed}");
            } else {
                assert!(held(after).is_empty() && locks(after).is_empty(), "seed {seed}");
            }
        }
        let inodes = |tree: &Tree| -> Vec<(Ino, u32)> {
            items(tree)
                .filter_map(|item| match item {
                    rfs_core::Item::Inode(ino, inode) => Some((ino, inode.nlink)),
                    _ => None,
                })
                .collect()
        };
        for (ino, nlink) in inodes(&before) {
            let stays = nlink > 0 || before.holders(ino).any(|owner| kept(&owner));
            assert_eq!(loaded(owners.tree.inode(ino)).is_some(), stays, "seed {seed}, inode {ino}");
        }
        let again = owners.run(OWNERS[0], &Op::NewSession { keep }).expect("always").1;
        assert_eq!(again, [], "nothing is recorded when nothing changes");
    }
}

/// One step has to fit into a frame of the journal, however much was left behind.
#[test]
fn a_new_session_that_has_much_to_release_is_several_steps() {
    let [one, ..] = OWNERS;
    let mut tree = Tree::new(Timestamp::default());
    let time = Timestamp::default();
    let mut apply = |change: Change| tree.apply(&change, Place::default()).expect("it fits");
    for number in 2..22_002 {
        // As a history that was made before holds were.
        let (parent, ino, node) = (Ino::ROOT, Ino(number), rfs_core::Node::File);
        let name = || rfs_core::Name::new(b"old").expect("a name");
        apply(Change::Create { parent, name: name(), ino, node, mode: 0, uid: 0, gid: 0, time });
        apply(Change::Unlink { parent, name: name(), ino, reap: false, time });
    }
    let begin = Op::NewSession { keep: vec![one] };
    let context = Context::new(time);
    let changes = decide(&tree, &context, &begin).expect("always").changes;
    assert_eq!(changes, [Change::NewSession], "the owner held nothing");

    let ino = Ino(22_002);
    let held = Change::CreateNameless { ino, owner: one, linkable: true, mode: 0, uid: 0, gid: 0, time };
    tree.apply(&held, Place::default()).expect("it fits");
    let mut steps = Vec::new();
    loop {
        let changes = decide(&tree, &context, &begin).expect("always").changes;
        if changes.is_empty() {
            break;
        }
        for change in &changes {
            tree.apply(change, Place::default()).expect("what was decided fits");
        }
        steps.push(changes.len());
    }
    assert_eq!(steps, [10_000, 10_000, 2_000]);
    assert_eq!(tree.inode_count(), 2, "the root, and what the owner holds");
    assert_eq!(tree.held_by(one).collect::<Vec<_>>(), [ino]);
    assert_eq!(tree.check(), Ok(()));
}

#[test]
fn changes_of_holds_that_do_not_fit_are_refused() {
    let [one, two, _] = OWNERS;
    let mut owners = Owners::new();
    let named = owners.open(one, "named");
    let ino = owners.nameless(one);
    let before = owners.tree.clone();
    for change in [
        Change::Hold { ino: named, owner: one },
        Change::Hold { ino: Ino(99), owner: one },
        Change::LetGo { ino, owner: one },
        Change::LetGo { ino, owner: two },
        Change::LetGo { ino: named, owner: two },
        Change::Reap { ino: named },
        Change::CreateNameless {
            ino,
            owner: one,
            linkable: true,
            mode: 0,
            uid: 0,
            gid: 0,
            time: Timestamp::default(),
        },
    ] {
        let refused = owners.tree.apply(&change, Place::default());
        assert!(refused.is_err() && owners.tree == before, "{change:?}");
    }
}
