//! What is under the volume's lock: the tree, the front of the journal, the open handles. Nothing here waits.

use std::collections::{HashMap, VecDeque};

use rfs_core::{
    Batch, Change, CommitId, Context, Errno, Ino, Lsn, Op, Outcome, OwnerId, Timestamp, Tree, decide,
    decide_batch,
};
use rfs_journal::{Appender, Boundary};

use crate::error::{Error, ErrorKind, Result};

/// A commit whose place in the history is fixed: it covers exactly what was before it was asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: CommitId,
    pub(crate) boundary: Boundary,
    pub(crate) tree: Tree,
    pub(crate) journaled_bytes: u64,
    pub(crate) checkpoint: Option<String>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) done: Option<tokio::sync::oneshot::Sender<Result<super::Receipt>>>,
}

/// The front of the journal of a volume that is open for writing.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) appender: Appender,
    /// Bytes of payload and Changes that were ever appended, about.
    pub(crate) journaled_bytes: u64,
    /// The commit that the next job gets.
    pub(crate) next_commit: CommitId,
    pub(crate) jobs: VecDeque<Job>,
}

/// The tree and what surrounds it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) tree: Tree,
    /// None when the volume is open for reading only.
    pub(crate) front: Option<Front>,
    handles: HashMap<Ino, u32>,
    next_owner: u64,
    pub(crate) failure: Option<Error>,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) now: Timestamp,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// An operation that was refused: by POSIX's rules, or because the volume is of no use any more.
#[derive(Debug)]
pub(crate) enum Refused {
    Posix(Errno),
    /// Which Op of a batch it was.
    Batch(usize, Errno),
    Volume(Error),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Posix(errno)
    }
}

impl Refused {
    pub(crate) fn doing(self, what: impl FnOnce() -> String) -> Error {
        match self {
            Self::Posix(errno) => Error::posix(errno, what()),
            Self::Batch(index, errno) => Error::posix(errno, format!("{}, operation {index}", what())),
            Self::Volume(error) => error.during(what()),
        }
    }
}

impl Live {
    pub(crate) fn new(tree: Tree, front: Option<Front>) -> Self {
        Self { tree, front, handles: HashMap::new(), next_owner: 1, failure: None }
    }

    /// Decides, applies and journals one Op. Nothing has changed when it is refused.
    pub(crate) fn run(
        &mut self,
        caller: Caller,
        op: &Op,
        payload: &[u8],
    ) -> std::result::Result<Outcome, Refused> {
        self.usable()?;
        let handles = &self.handles;
        let is_open = |ino| handles.contains_key(&ino);
        let context = Context { now: caller.now, uid: caller.uid, gid: caller.gid, is_open: &is_open };
        let decision = decide(&self.tree, &context, op)?;
        if decision.changes.is_empty() {
            return Ok(decision.outcome);
        }
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let place = front.appender.reserve(payload.len() as u64).ok_or(Errno::TooBig)?;
        for change in &decision.changes {
            self.tree.apply(change, place).map_err(|error| {
                let what = format!("applying {change:?} that was just decided: {error}");
                Refused::Volume(Error::new(ErrorKind::Bug, what))
            })?;
            front.append(change, payload);
        }
        Ok(decision.outcome)
    }

    /// Decides, applies and journals several Ops as one: all of them, or none.
    pub(crate) fn run_batch(
        &mut self,
        caller: Caller,
        ops: &[Op],
        payloads: &[&[u8]],
    ) -> std::result::Result<Vec<Outcome>, Refused> {
        self.usable()?;
        let handles = &self.handles;
        let is_open = |ino| handles.contains_key(&ino);
        let context = Context { now: caller.now, uid: caller.uid, gid: caller.gid, is_open: &is_open };
        let Some(front) = &mut self.front else { return Err(Errno::ReadOnly.into()) };
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        let place = front.appender.reserve(bytes).ok_or(Errno::TooBig)?;
        let Batch { tree, changes, outcomes } = decide_batch(&self.tree, &context, ops, place)
            .map_err(|error| Refused::Batch(error.index, error.errno))?;
        if !Appender::fits_one_frame(changes.iter().map(change_bytes).sum()) {
            return Err(Errno::TooBig.into());
        }
        self.tree = tree;
        front.appender.append_all(&changes, payloads);
        front.journaled_bytes +=
            bytes + changes.iter().map(|change| change_bytes(change) as u64).sum::<u64>();
        Ok(outcomes)
    }

    /// Notes that a handle holds an inode.
    pub(crate) fn hold(&mut self, ino: Ino) {
        *self.handles.entry(ino).or_default() += 1;
    }

    /// Notes that a handle let go of an inode, and removes the inode if it was the last and it has no name.
    pub(crate) fn let_go(&mut self, caller: Caller, ino: Ino) {
        let Some(count) = self.handles.get_mut(&ino) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.handles.remove(&ino);
        if self.front.is_some()
            && self.failure.is_none()
            && self.tree.attr(ino).is_ok_and(|attr| attr.nlink == 0)
        {
            // What a failed volume keeps is removed by the next writer.
            let _ = self.run(caller, &Op::Release { ino }, &[]);
        }
    }

    /// Whether `owner` holds a lock on an inode.
    pub(crate) fn holds_lock(&self, ino: Ino, owner: OwnerId) -> bool {
        self.tree.locks(ino).any(|(holder, _)| holder == owner)
    }

    /// A number for a handle that may hold locks.
    pub(crate) fn new_owner(&mut self) -> OwnerId {
        self.next_owner += 1;
        OwnerId(self.next_owner)
    }

    /// The LSN of the last Change.
    pub(crate) fn lsn(&self, read_only: Lsn) -> Lsn {
        self.front.as_ref().map_or(read_only, |front| front.appender.lsn())
    }

    /// Fixes a commit here: seals the journal and takes a snapshot.
    pub(crate) fn fix_commit(&mut self, checkpoint: Option<String>, metadata: Vec<u8>) -> Option<Job> {
        let front = self.front.as_mut()?;
        let boundary = front.appender.seal();
        let id = front.next_commit;
        front.next_commit.number += 1;
        let (tree, journaled_bytes) = (self.tree.clone(), front.journaled_bytes);
        Some(Job { id, boundary, tree, journaled_bytes, checkpoint, metadata, done: None })
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
        self.appender.append(change, payload);
        self.journaled_bytes += (change_bytes(change) + payload.len()) as u64;
    }

    /// Whether something was appended that no fixed commit covers.
    pub(crate) fn is_dirty(&self, fixed: Lsn) -> bool {
        self.appender.lsn() > fixed
    }
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
            Change::AddCheckpoint { name, .. } | Change::DropCheckpoint { name } => name.len(),
            _ => 0,
        }
}

/// The job, with someone who waits for it.
pub(crate) fn with_done(mut job: Job, done: tokio::sync::oneshot::Sender<Result<super::Receipt>>) -> Job {
    job.done = Some(done);
    job
}
