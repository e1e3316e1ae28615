//! What is under the volume's lock: the tree, the front of the journal, the open handles. Nothing here waits.

use std::collections::{HashMap, VecDeque};

use rfs_core::{
    AtimePolicy, Batch, Change, CommitId, Context, Credential, Decision, Errno, Fault, Ino, LockOwner,
    LockRange, Lsn, Missing, Op, Outcome, OwnerId, Place, StateHash, Timestamp, Tree, decide,
};
use rfs_journal::{Appender, Boundary, Record};
use rfs_recovery::state::State;

use super::appending::Appending;
use super::locks::LocksChanged;
use super::watch::{Origin, Watchers};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;

/// A commit whose place in the history is fixed: it covers exactly what was before it was asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: CommitId,
    pub(crate) boundary: Boundary,
    pub(crate) tree: Tree,
    pub(crate) journaled: Journaled,
    pub(crate) checkpoint: Option<String>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) rewound: Option<Rewound>,
    pub(crate) turn: u64,
    pub(crate) done: Option<tokio::sync::oneshot::Sender<Result<super::Receipt>>>,
}

/// The volume went back, and no commit says so yet.
#[derive(Clone, Debug)]
pub(crate) struct Rewound {
    /// The commits that it went back to, one after the other.
    pub(crate) to: Vec<CommitId>,
    /// The tree and state hash of the last one.
    pub(crate) tree: Tree,
    pub(crate) state: StateHash,
    /// Bytes and commits that are replayed to rebuild them.
    pub(crate) replayed: (u64, u64),
}

/// How much was appended to a journal, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journaled {
    /// Bytes of Changes and payload.
    pub(crate) bytes: u64,
    /// Bytes of Changes.
    pub(crate) changes: u64,
}

impl Journaled {
    /// Whether it is time to commit what came since `fixed`: it is much, or the tree has much that cannot be let go of
    /// before it is committed and stored.
    pub(crate) fn is_due(self, fixed: Self, options: &Options) -> bool {
        self.bytes.saturating_sub(fixed.bytes) >= options.commit_bytes
            || self.changes.saturating_sub(fixed.changes)
                >= CHANGES_MIN.max(options.tree_bytes / TREE_PER_CHANGE)
    }
}

/// Fewer bytes of Changes than these are never much.
const CHANGES_MIN: u64 = 1 << 20;
/// So many times the bytes of the Changes that make it a tree may take, with room for what else is in memory.
const TREE_PER_CHANGE: u64 = 16;

/// The front of the journal of a volume that is open for writing.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) appender: Appender,
    /// What was ever appended.
    pub(crate) journaled: Journaled,
    /// The commit that the next job gets.
    pub(crate) next_commit: CommitId,
    pub(crate) jobs: VecDeque<Job>,
    /// Since the last commit that was fixed.
    pub(crate) rewound: Option<Rewound>,
    /// How often the volume went back.
    pub(crate) turn: u64,
}

/// The tree and what surrounds it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) tree: Tree,
    /// None when the volume is open for reading only.
    pub(crate) front: Option<Front>,
    handles: HashMap<Ino, u32>,
    session: Session,
    /// The key of the next handle's locks.
    next_key: u64,
    pub(crate) watchers: Watchers,
    /// Where locks changed since somebody looked.
    pub(crate) locks_changed: LocksChanged,
    pub(super) appending: Option<Appending>,
    pub(crate) failure: Option<Error>,
}

/// What all operations of a writer have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// For whom handles are opened and locks taken.
    pub(crate) owner: OwnerId,
    pub(crate) epoch: u64,
    pub(crate) atime: AtimePolicy,
}

/// Bytes of a file that are to be stored anew.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) ino: Ino,
    pub(crate) offset: u64,
    /// Where they were read.
    pub(crate) from: Place,
    pub(crate) payload: bytes::Bytes,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) now: Timestamp,
    pub(crate) credential: &'a Credential,
    /// Watches do not report what their own [`Inodes`](crate::Inodes) did.
    pub(crate) origin: Origin,
}

/// An operation that was refused: by POSIX's rules, or because the volume is of no use any more.
#[derive(Debug)]
pub(crate) enum Refused {
    Posix(Errno),
    /// Which Op of a batch it was.
    Batch(usize, Errno),
    /// Nothing was done: a page of the tree has to be fetched first.
    Missing(Missing),
    Volume(Error),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Posix(errno)
    }
}

impl From<Missing> for Refused {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Errno(errno) => Self::Posix(errno),
            Fault::Missing(missing) => Self::Missing(missing),
        }
    }
}

impl Refused {
    pub(crate) fn doing(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Posix(errno) => Error::posix(errno, what()),
            Self::Batch(index, errno) => Error::posix(errno, format!("{}, operation {index}", what())),
            Self::Missing(missing) => Error::new(ErrorKind::Bug, format!("{}: {missing}", what())),
            Self::Volume(error) => error.during(what()),
        }
    }
}

impl Live {
    pub(crate) fn new(tree: Tree, front: Option<Front>, session: Session) -> Self {
        // Also keys that were given out before are not given to others: their locks may be found again.
        let next_key = (session.epoch & 0xff_ffff) << 40 | 1;
        let (handles, watchers) = (HashMap::new(), Watchers::default());
        Self {
            tree,
            front,
            handles,
            session,
            next_key,
            watchers,
            locks_changed: LocksChanged::default(),
            appending: None,
            failure: None,
        }
    }

    /// Decides, applies and journals one Op. Nothing has changed when it is refused.
    pub(crate) fn run(
        &mut self,
        caller: Caller<'_>,
        op: &Op,
        payload: &[u8],
    ) -> std::result::Result<Outcome, Refused> {
        let Decision { changes, outcome } = self.decide(caller, op)?;
        if changes.is_empty() {
            return Ok(outcome);
        }
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let place = front.appender.reserve(payload.len() as u64).ok_or(Errno::TooBig)?;
        match changes.as_slice() {
            [change] => {
                apply(&mut self.tree, change, place)?;
                front.append(change, payload);
            }
            changes => {
                fits_one_frame(changes)?;
                // Not in place: when one of them does not fit, none of them has happened.
                let mut tree = self.tree.clone();
                for change in changes {
                    apply(&mut tree, change, place)?;
                }
                self.tree = tree;
                front.append_all(changes, &[payload]);
            }
        }
        self.note(caller.origin, &changes);
        Ok(outcome)
    }

    /// What an Op comes to. Nothing is changed.
    pub(crate) fn decide(&self, caller: Caller<'_>, op: &Op) -> std::result::Result<Decision, Refused> {
        self.usable()?;
        Ok(self.in_context(caller, |context| decide(&self.tree, context, op))?)
    }

    /// Decides, applies and journals several Ops as one: all of them, or none.
    pub(crate) fn run_batch(
        &mut self,
        caller: Caller<'_>,
        ops: &[Op],
        payloads: &[&[u8]],
    ) -> std::result::Result<Vec<Outcome>, Refused> {
        self.run_steps(caller, payloads, |batch, context| {
            each_step(ops, |op| batch.decide(context, op).map(drop))
        })
    }

    /// As [`Live::run_batch`], where an Op may depend on what those before it came to.
    pub(crate) fn run_steps(
        &mut self,
        caller: Caller<'_>,
        payloads: &[&[u8]],
        steps: impl FnOnce(&mut Batch, &Context<'_>) -> std::result::Result<(), Refused>,
    ) -> std::result::Result<Vec<Outcome>, Refused> {
        self.usable()?;
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        let place = front.appender.reserve(bytes).ok_or(Errno::TooBig)?;
        let mut batch = Batch::new(&self.tree, place);
        self.in_context(caller, |context| steps(&mut batch, context))?;
        let Batch { tree, changes, outcomes, .. } = batch;
        if changes.is_empty() {
            return Ok(outcomes);
        }
        fits_one_frame(&changes)?;
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        self.tree = tree;
        front.append_all(&changes, payloads);
        self.note(caller.origin, &changes);
        Ok(outcomes)
    }

    /// Applies and journals Changes that are made one on the result of the other: all of them, or none. `make` applies each
    /// to the tree that it is given.
    pub(crate) fn run_changes(
        &mut self,
        make: impl FnOnce(&mut Tree) -> std::result::Result<Vec<Change>, Refused>,
    ) -> std::result::Result<(), Refused> {
        self.usable()?;
        let mut tree = self.tree.clone();
        let changes = make(&mut tree)?;
        fits_one_frame(&changes)?;
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        front.append_all(&changes, &[]);
        self.tree = tree;
        self.note(Origin::default(), &changes);
        Ok(())
    }

    /// Goes back to the state at a commit.
    ///
    /// # Errors
    /// A page of it is missing.
    pub(crate) fn go_back(&mut self, to: CommitId, older: &Tree) -> std::result::Result<Tree, Refused> {
        self.usable()?;
        let tree = self.tree.rewound_to(older)?;
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let change = Change::Rewind { to };
        front.append(&change, &[]);
        let left = std::mem::replace(&mut self.tree, tree);
        self.note(Origin::default(), &[change]);
        Ok(left)
    }

    /// The nameless inodes of the volume's owner that no handle holds.
    pub(crate) fn left_behind(&self) -> Vec<Ino> {
        let held = self.tree.held_by(self.session.owner);
        held.filter(|ino| !self.handles.contains_key(ino)).collect()
    }

    /// Stores bytes of files anew, where they still are where they were read. Gives how many that are.
    pub(crate) fn relocate(&mut self, moves: &[Move]) -> std::result::Result<u64, Refused> {
        self.usable()?;
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let bytes = moves.iter().map(|one| one.payload.len() as u64).sum();
        let place = front.appender.reserve(bytes).ok_or(Errno::TooBig)?;
        let mut batch = Batch::new(&self.tree, place);
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(moves.len());
        each_step(moves, |Move { ino, offset, from, payload }| {
            if batch.relocate(*ino, *offset, payload.len() as u64, *from)? {
                payloads.push(payload);
            }
            Ok(())
        })?;
        if batch.changes.is_empty() {
            return Ok(0);
        }
        fits_one_frame(&batch.changes)?;
        self.tree = batch.tree;
        front.append_all(&batch.changes, &payloads);
        Ok(payloads.iter().map(|payload| payload.len() as u64).sum())
    }

    fn in_context<T>(&self, caller: Caller<'_>, then: impl FnOnce(&Context<'_>) -> T) -> T {
        let Session { owner, atime, .. } = self.session;
        let holders = |ino| if self.handles.contains_key(&ino) { vec![owner] } else { Vec::new() };
        then(&Context { now: caller.now, credential: caller.credential, owner, holders: &holders, atime })
    }

    /// Tells those who wait for it what changed.
    fn note(&mut self, origin: Origin, changes: &[Change]) {
        for change in changes {
            self.locks_changed.note(change);
        }
        self.watchers.note(origin, changes);
    }

    /// Notes that a handle holds an inode.
    pub(crate) fn hold(&mut self, ino: Ino) {
        *self.handles.entry(ino).or_default() += 1;
    }

    /// Opens an inode by its number.
    pub(crate) fn open_ino(&mut self, caller: Caller<'_>, ino: Ino) -> std::result::Result<(), Refused> {
        let attr = self.tree.attr(ino)?;
        if attr.nlink == 0 && self.front.is_some() {
            // It is kept for this owner too, from now on.
            self.run(caller, &Op::Hold { ino }, &[])?;
        }
        self.hold(ino);
        Ok(())
    }

    /// Notes that a handle let go of an inode, and tells whether it was the last: then [`Live::release`] is due.
    pub(crate) fn let_go(&mut self, ino: Ino) -> bool {
        let Some(count) = self.handles.get_mut(&ino) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.handles.remove(&ino);
        true
    }

    /// Removes an inode that has no name, unless it is held.
    ///
    /// # Errors
    /// A page is missing.
    pub(crate) fn release(&mut self, caller: Caller<'_>, ino: Ino) -> std::result::Result<(), Missing> {
        if self.tree.is_nameless(ino) {
            self.give_up(caller, &Op::Release { ino })?;
        }
        Ok(())
    }

    /// Releases all locks of a handle.
    ///
    /// # Errors
    /// A page is missing.
    pub(crate) fn unlock_all(
        &mut self,
        caller: Caller<'_>,
        ino: Ino,
        owner: LockOwner,
    ) -> std::result::Result<(), Missing> {
        if self.holds_file_lock(ino, owner) {
            self.give_up(caller, &Op::UnlockFile { ino, owner })?;
        }
        if self.tree.range_locks(ino).any(|held| held.owner == owner) {
            self.give_up(caller, &Op::UnlockRange { ino, owner, range: LockRange::ALL })?;
        }
        Ok(())
    }

    /// Runs an Op that gives something up. What a failed volume keeps is given up by the next writer.
    fn give_up(&mut self, caller: Caller<'_>, op: &Op) -> std::result::Result<(), Missing> {
        if self.front.is_none() || self.failure.is_some() {
            return Ok(());
        }
        match self.run(caller, op, &[]) {
            Err(Refused::Missing(missing)) => Err(missing),
            _ => Ok(()),
        }
    }

    /// Whether `owner` holds a lock on a whole file.
    pub(crate) fn holds_file_lock(&self, ino: Ino, owner: LockOwner) -> bool {
        self.tree.file_locks(ino).any(|(holder, _)| holder == owner)
    }

    /// What a handle's locks are held under; `key` if it chose one.
    pub(crate) fn lock_owner(&mut self, key: Option<u64>) -> LockOwner {
        let key = key.unwrap_or_else(|| {
            self.next_key = self.next_key.wrapping_add(1);
            self.next_key
        });
        LockOwner { owner: self.session.owner, key }
    }

    /// What all operations have in common.
    pub(crate) const fn session(&self) -> Session {
        self.session
    }

    /// The LSN of the last Change.
    pub(crate) fn lsn(&self, read_only: Lsn) -> Lsn {
        self.front.as_ref().map_or(read_only, |front| front.appender.lsn())
    }

    /// Fixes a commit here: seals the journal and takes a snapshot. Not where the tree may not be what the journal says.
    pub(crate) fn fix_commit(&mut self, checkpoint: Option<String>, metadata: Vec<u8>) -> Option<Job> {
        if self.failure.as_ref().is_some_and(|failure| failure.kind() == ErrorKind::Bug) {
            return None;
        }
        let front = self.front.as_mut()?;
        let boundary = front.appender.seal();
        let id = front.next_commit;
        front.next_commit.number += 1;
        let (tree, journaled, rewound) = (self.tree.clone(), front.journaled, front.rewound.take());
        let turn = front.turn;
        Some(Job { id, boundary, tree, journaled, checkpoint, metadata, rewound, turn, done: None })
    }

    pub(crate) fn usable(&self) -> std::result::Result<(), Refused> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => Err(Refused::Volume(failure.clone())),
        }
    }
}

impl Front {
    fn append(&mut self, change: &Change, payload: &[u8]) {
        let before = self.appender.lsn();
        let joined = self.appender.append(change, payload) == before;
        self.note(if joined { 0 } else { change_bytes(change) }, payload.len());
    }

    /// Appends a Write that goes on where the last one ends, as a part of it. If it can't be one, nothing was done.
    pub(super) fn go_on(&mut self, change: &Change, payload: &[u8]) -> bool {
        let joined = self.appender.join(change, payload);
        if joined {
            self.note(0, payload.len());
        }
        joined
    }

    /// Several Changes in one frame, so that they are seen together or not at all.
    fn append_all(&mut self, changes: &[Change], payloads: &[&[u8]]) {
        self.appender.append_all(changes, payloads);
        let payload: usize = payloads.iter().map(|payload| payload.len()).sum();
        self.note(changes.iter().map(change_bytes).sum(), payload);
    }

    /// Notes that the volume went back, for the next commit.
    pub(crate) fn note_rewound(&mut self, to: CommitId, older: &State) {
        let (mut before, (mut bytes, mut commits)) =
            self.rewound.take().map_or_else(Default::default, |rewound| (rewound.to, rewound.replayed));
        before.push(to);
        bytes += older.replayed_bytes;
        commits += older.boundaries.len() as u64;
        let (tree, state) = (older.tree.clone(), older.state);
        self.rewound = Some(Rewound { to: before, tree, state, replayed: (bytes, commits) });
        self.turn += 1;
    }

    /// Notes what the local log had, and no commit has.
    pub(crate) fn note_replayed(&mut self, tail: &[Record]) {
        let payload: u64 = tail.iter().map(|record| record.change.payload_len()).sum();
        self.note(tail.iter().map(|record| change_bytes(&record.change)).sum(), payload as usize);
    }

    const fn note(&mut self, changes: usize, payload: usize) {
        self.journaled.bytes += (changes + payload) as u64;
        self.journaled.changes += changes as u64;
    }

    /// Whether something was appended that no fixed commit covers.
    pub(crate) fn is_dirty(&self, fixed: Lsn) -> bool {
        self.appender.lsn() > fixed
    }
}

/// Takes the steps of a batch. When one misses pages, those that come later are tried too, without it: so that what they
/// miss is fetched at the same time.
pub(crate) fn each_step<'a, S>(
    steps: &'a [S],
    mut take: impl FnMut(&'a S) -> std::result::Result<(), Fault>,
) -> std::result::Result<(), Refused> {
    let mut all: Option<Missing> = None;
    for (index, step) in steps.iter().enumerate() {
        match (take(step), &all) {
            (Err(Fault::Missing(missing)), _) => all = Missing::of_all(all.into_iter().chain([missing])),
            (Err(Fault::Errno(errno)), None) => return Err(Refused::Batch(index, errno)),
            _ => {}
        }
        if all.as_ref().is_some_and(Missing::is_many) {
            break;
        }
    }
    all.map_or(Ok(()), |missing| Err(missing.into()))
}

pub(super) fn apply(tree: &mut Tree, change: &Change, place: Place) -> std::result::Result<(), Refused> {
    tree.apply(change, place).map_err(|error| {
        if let Some(missing) = error.missing() {
            return Refused::Missing(missing.clone());
        }
        let what = format!("applying {change:?} that was just decided: {error}");
        Refused::Volume(Error::new(ErrorKind::Bug, what))
    })
}

fn fits_one_frame(changes: &[Change]) -> std::result::Result<(), Errno> {
    if Appender::fits_one_frame(changes.iter().map(change_bytes).sum()) { Ok(()) } else { Err(Errno::TooBig) }
}

/// How many bytes a Change takes in the journal, at most.
fn change_bytes(change: &Change) -> usize {
    const NUMBERS: usize = 96;
    NUMBERS
        + match change {
            Change::Create { name, node, .. } => {
                name.as_bytes().len()
                    + match node {
                        rfs_core::Node::Symlink(target) => target.len(),
                        _ => 0,
                    }
            }
            Change::Link { name, .. } | Change::Unlink { name, .. } | Change::Rmdir { name, .. } => {
                name.as_bytes().len()
            }
            Change::Rename { from_name, to_name, .. } => {
                from_name.as_bytes().len() + to_name.as_bytes().len()
            }
            Change::Exchange { first_name, second_name, .. } => {
                first_name.as_bytes().len() + second_name.as_bytes().len()
            }
            Change::SetXattr { name, value, .. } => name.as_bytes().len() + value.as_bytes().len(),
            Change::RemoveXattr { name, .. } => name.as_bytes().len(),
            Change::AddCheckpoint { name, .. } | Change::DropCheckpoint { name } => name.len(),
            _ => 0,
        }
}
